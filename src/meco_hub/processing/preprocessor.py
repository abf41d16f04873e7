"""`PublishedProcessor`: pushing a processor alone, as one commit and with our errors."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigurationError

if TYPE_CHECKING:
    from huggingface_hub import CommitInfo


class PublishedProcessor:
    """Mixin of processors, before transformers' own base."""

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        revision: str | None = None,
        create_pr: bool = False,
        commit_message: str | None = None,
        token: str | bool | None = None,
    ) -> "CommitInfo":
        """Push this processor's config into a repository, whose other files stay as they are; one commit.

        A model's `push_to_hub` brings its processor along: this is for changing the processor alone.

        Args:
            repo_id: "owner/name"; made when it does not exist.
            private, revision, create_pr, commit_message, token: as for a model's `push_to_hub`.

        Raises:
            PublishingError: the Hub did not take it; says whether the remote changed, and what to do.
        """
        from ..publishing.objects import push_processor  # above this module; needed by few

        return push_processor(
            self,
            repo_id,
            private=private,
            revision=revision,
            create_pr=create_pr,
            commit_message=commit_message,
            token=token,
        )


# --- Pixel tables -----------------------------------------------------------------------------------------------------
# What 8-bit pixels become: rescaled, normalised, and looked up in a table, because there are only 256 of them.


def check_pixel_fields(fields: Mapping[str, Any]) -> None:
    """Make sure that a table can be made of a processor's fields.

    Args:
        fields: do_rescale, rescale_factor, do_normalize, image_mean, image_std, perhaps among others.

    Raises:
        ConfigurationError: one of them makes no sense.
    """
    if fields["do_rescale"] and fields["rescale_factor"] is None:
        raise ConfigurationError("do_rescale is set and rescale_factor is None; expected a number, such as 1/255.")
    if fields["do_normalize"]:
        mean, std = _three(fields["image_mean"], "image_mean"), _three(fields["image_std"], "image_std")
        if not np.isfinite(mean).all() or not np.isfinite(std).all() or not (std > 0).all():
            raise ConfigurationError(f"image_mean {mean} and image_std {std} must be finite, and the latter positive.")


def pixel_tables(fields: Mapping[str, Any]) -> NDArray[np.float32]:
    """(3, 256) what each 8-bit value becomes in each channel, computed in float64; fields as of `check_pixel_fields`."""
    table = np.broadcast_to(np.arange(256, dtype=np.float64), (3, 256))
    if fields["do_rescale"]:
        table = table * fields["rescale_factor"]
    if fields["do_normalize"]:
        mean, std = _three(fields["image_mean"], "image_mean"), _three(fields["image_std"], "image_std")
        table = (table - mean[:, None]) / std[:, None]
    return np.ascontiguousarray(table, np.float32)


def _three(values: Any, name: str) -> NDArray[np.float64]:
    """One value per channel."""
    array = np.atleast_1d(np.asarray(values, np.float64))
    if array.shape not in ((1,), (3,)):
        raise ConfigurationError(f"{name} is {values}; expected one number or three, one per channel.")
    return np.broadcast_to(array, (3,))
