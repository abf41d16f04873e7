"""Teachers: networks of other people, under licences that allow it, that a student may be trained to agree with.

`FaceApiExpressions` is the expression network of face-api.js (Vincent Mühler, MIT), maintained as @vladmandic/face-api (MIT):
330 kB, three hundred thousand parameters. Which pictures it was trained on is not published with it. The weights are not part of
this project. `npm install @vladmandic/face-api@1.7.15` puts them where a recipe's relative path finds them; they
are read without JavaScript, and their fingerprint is checked, because a recipe that names a teacher means that one.
"""

from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from meco_hub.errors import InputError

from .backbone_weights import read_tensorflow_js

_WEIGHTS = "face_expression_model.bin"
_MANIFEST = "face_expression_model-weights_manifest.json"
_SHA256 = "9a9840f2cf1f4c7eab95f197512569345c00d2426754d4608b92af30e0300f3d"
_PACKAGE = "@vladmandic/face-api@1.7.15"


class FaceApiExpressions(nn.Module):
    """face-api.js's expression network: four blocks of densely added, depthwise separable convolutions.

    Args:
        weights: the package's `model` folder.

    Shape:
        pixel values (batch, 3, height, width), RGB in [0, 1] → logits (batch, 7): neutral, happiness, sadness, anger, fear,
        disgust, surprise. Pictures of another size are brought to 112×112.

    Raises:
        CheckpointError: the files are not there, or are not version 1.7.15's.

    Source:
        github.com/vladmandic/face-api, src/faceExpressionNet and src/faceFeatureExtractor; nothing of it is copied.
    """

    outputs = ("neutral", "happiness", "sadness", "anger", "fear", "disgust", "surprise")
    size = 112

    def __init__(self, weights: str) -> None:
        super().__init__()
        folder = Path(weights)
        for name, tensor in read_tensorflow_js(folder / _MANIFEST, folder / _WEIGHTS, _SHA256, _PACKAGE).items():
            kind = name.rsplit("/", 1)[-1]
            # TensorFlow keeps kernels as (height, width, in, out), and depthwise ones as (height, width, channels, 1)
            order = {"filters": (3, 2, 0, 1), "pointwise_filter": (3, 2, 0, 1), "depthwise_filter": (2, 3, 0, 1)}.get(
                kind
            )
            tensor = tensor.permute(order).contiguous() if order else tensor
            self.register_buffer(name.replace("/", "_"), tensor.T.contiguous() if name == "fc/weights" else tensor)
        mean = torch.tensor([122.782, 117.001, 104.298]) / 255
        self.register_buffer("mean", mean.view(1, 3, 1, 1))

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        if pixel_values.ndim != 4 or pixel_values.shape[1] != 3:
            raise InputError(
                f"The teacher was given pixel_values of shape {tuple(pixel_values.shape)}; expected (batch, 3, height, width). "
                "Train without this teacher."
            )
        if pixel_values.shape[-2:] != (self.size, self.size):
            pixel_values = F.interpolate(pixel_values, size=(self.size, self.size), mode="bilinear", antialias=True)
        hidden = pixel_values - self.get_buffer("mean")
        for block in range(4):
            hidden = self._block(hidden, f"dense{block}", first=block == 0)  # (B, 32 · 2^block, 56 / 2^block, the same)
        return F.linear(hidden.mean(dim=(2, 3)), self.get_buffer("fc_weights"), self.get_buffer("fc_bias"))

    def _block(self, hidden: torch.Tensor, name: str, *, first: bool) -> torch.Tensor:
        if first:
            added = self._convolve(hidden, f"{name}_conv0_filters", stride=2) + self._bias(f"{name}_conv0")
        else:
            added = self._separable(hidden, f"{name}_conv0", stride=2)
        outputs = added = F.relu(added)
        for index in (1, 2, 3):
            added = added + self._separable(outputs, f"{name}_conv{index}")
            outputs = F.relu(added)
        return outputs

    def _separable(self, hidden: torch.Tensor, name: str, stride: int = 1) -> torch.Tensor:
        hidden = self._convolve(hidden, f"{name}_depthwise_filter", stride=stride, groups=hidden.shape[1])
        return F.conv2d(hidden, self.get_buffer(f"{name}_pointwise_filter")) + self._bias(name)

    def _convolve(self, hidden: torch.Tensor, name: str, stride: int, groups: int = 1) -> torch.Tensor:
        # TensorFlow's 'same' puts nothing before and one pixel after where stride 2 meets an even side
        hidden = F.pad(hidden, (0, 1, 0, 1) if stride == 2 else (1, 1, 1, 1))
        return F.conv2d(hidden, self.get_buffer(name), stride=stride, groups=groups)

    def _bias(self, name: str) -> torch.Tensor:
        return self.get_buffer(f"{name}_bias").view(1, -1, 1, 1)
