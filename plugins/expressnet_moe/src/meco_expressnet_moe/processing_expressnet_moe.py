"""The image processor of ExpressNet-MoE: pictures as its authors prepared them.

The settings are those of all four published notebooks: 224×224 pixels, bilinear, divided by 255, not normalised. Pixels leave
it as RGB; the authors' BGR is made inside the model (`channel_order`).

The authors also cut every face out with a margin of a tenth of its box on each side, did not keep its proportions, and took
the whole picture where no face was found. `do_find_face=True` does the same, with these differences: the detector is YuNet
(theirs was MediaPipe's full-range BlazeFace), the most prominent face is taken instead of the first, and at the picture's
border the box is clipped where theirs drifted. It is off unless asked for, because RAF-DB, AffectNet and FER-2013 come
cropped already, and cropping them again costs accuracy.
"""

from typing import Any, Self

from meco_hub.processing.face_preprocessor import FacePreprocessor

from .configuration_expressnet_moe import ExpressNetMoEConfig


class ExpressNetMoEImageProcessor(FacePreprocessor):
    """`FacePreprocessor` with the published settings as defaults."""

    size = {"height": 224, "width": 224}  # noqa: RUF012 (transformers' convention for a processor's fields)
    do_rescale = True
    rescale_factor = 1 / 255
    do_normalize = False
    do_grayscale = False
    face_margin = 0.1
    face_square = False
    on_no_face = "whole_image"

    @classmethod
    def for_config(cls, config: ExpressNetMoEConfig, **settings: Any) -> Self:
        """A processor of pictures as large as a model takes them; `settings` are any of its fields.

        Example:
            >>> ExpressNetMoEImageProcessor.for_config(ExpressNetMoEConfig(image_size=64)).size.height
            64
        """
        fields: dict[str, Any] = {"size": {"height": config.image_size, "width": config.image_size}, **settings}
        return cls(**fields)
