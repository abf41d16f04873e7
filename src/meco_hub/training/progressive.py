"""Progressive resizing: small pictures first, when there is most to learn, and the final size at the end.

Howard's fastai course (2018) and EfficientNetV2 (Tan and Le 2021, arXiv:2104.00298) train so. A convolutional network whose
features are pooled has the same weights at any size; what it costs falls with the square of the side.
"""

from collections.abc import Mapping

from transformers import PreTrainedModel

from ..errors import ConfigurationError
from .loaders import Collate


class ImageSizes:
    """Sets the side of the training pictures, epoch by epoch.

    Args:
        model: what is trained; its config's `image_size` follows, for models that check it.
        collate: makes the training batches.
        sizes: epoch, counted from 0 → side in pixels from then on; empty leaves everything as it is.

    Raises:
        ConfigurationError: the model's config has no `image_size`, or epochs and sides make no sense.
    """

    def __init__(self, model: PreTrainedModel, collate: Collate, sizes: Mapping[int, int]) -> None:
        whole = all(isinstance(number, int) for pair in sizes.items() for number in pair)
        if sizes and (not whole or min(sizes) != 0 or min(sizes.values()) < 1):
            raise ConfigurationError(
                f"Recipe key 'image_sizes' is {dict(sizes)}; expected sides in pixels by epoch, 0 among the epochs: "
                "{0: 64, 12: 96}."
            )
        self._own = getattr(model.config, "image_size", None)
        if sizes and not isinstance(self._own, int):
            raise ConfigurationError(
                f"Recipe key 'image_sizes' is set, and the config of {type(model).__name__} has no `image_size` to change. Leave "
                "the key out."
            )
        self._model, self._collate, self._sizes = model, collate, dict(sizes)

    def start_epoch(self, epoch: int) -> None:
        """Call at the start of each epoch, counted from 0."""
        if self._sizes:
            self._set(self._sizes[max(start for start in self._sizes if start <= epoch)])

    def end(self) -> None:
        """Back to the checkpoint's own size; call before it is validated or saved."""
        if self._sizes:
            self._set(self._own)

    def _set(self, side: int | None) -> None:
        self._model.config.image_size = side
        self._collate.overrides["size"] = {"height": side, "width": side}
