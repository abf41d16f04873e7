"""`EmotionPreTrainedModel`: what every model of the zoo is, beyond transformers' `PreTrainedModel`.

Weights are safetensors, always: a pickle can run code, so a folder that has nothing else is refused rather than read.

This file knows how checkpoints are loaded and saved; it knows no architecture.
"""

import os
from pathlib import Path
from typing import Any, Self

from safetensors import SafetensorError
from transformers import PreTrainedModel
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME

from .errors import CheckpointError, ConfigurationError

_PICKLED = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")


def check_folder(folder: Path) -> None:
    """Refuse a local model folder that lacks its config or safetensors weights, before anything in it is read.

    Raises:
        CheckpointError: says which files were seen, which were expected, and how to get them.
    """
    present = sorted(path.name for path in folder.iterdir() if path.is_file())
    listing = ", ".join(present[:12]) + (", …" if len(present) > 12 else "") or "no files"
    if "config.json" not in present:
        raise CheckpointError(
            f"{folder} is no checkpoint: it holds {listing}, expected config.json. Pass a folder that `save_pretrained` wrote."
        )
    if any(name.endswith((".safetensors", ".safetensors.index.json")) for name in present):
        return
    pickled = [name for name in present if name.endswith(_PICKLED)]
    if pickled:
        raise CheckpointError(
            f"{folder} holds weights only as {', '.join(pickled)}, which can run code when read; expected "
            f"{SAFE_WEIGHTS_NAME} or {SAFE_WEIGHTS_INDEX_NAME}. Ask for a safetensors version, or, if you trust its author, "
            "load the file with torch.load(weights_only=True) and save it again with safetensors."
        )
    raise CheckpointError(
        f"{folder} holds no weights: it holds {listing}, expected {SAFE_WEIGHTS_NAME}. Copy the whole folder, "
        "Git LFS files included."
    )


class EmotionPreTrainedModel(PreTrainedModel):
    """Base class of every model in the zoo: safetensors only, and errors that say what to do."""

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str] | None,
        *model_args: Any,
        use_safetensors: bool | None = None,
        **kwargs: Any,
    ) -> Self:
        """As transformers' `from_pretrained`, but reads nothing except safetensors.

        Raises:
            CheckpointError: no config, no weights, weights only as a pickle, a damaged safetensors file,
                or weights of another shape.
            ConfigurationError: `use_safetensors=False` was asked for.
        """
        if use_safetensors is False:
            raise ConfigurationError(
                "use_safetensors=False was passed; pickled weights can run code when read, so only safetensors are "
                "loaded here. Leave the argument out."
            )
        name = pretrained_model_name_or_path
        folder = Path(name) if name is not None else None
        if folder is not None and folder.is_dir():
            check_folder(folder / (kwargs.get("subfolder") or ""))
        try:
            return super().from_pretrained(name, *model_args, use_safetensors=True, **kwargs)
        except SafetensorError as error:
            raise CheckpointError(
                f"The safetensors weights of {name} cannot be read: {error}. Expected a whole file; copy or download it again."
            ) from error
        except RuntimeError as error:
            if "ignore_mismatched_sizes" not in str(error):  # transformers names the way out wherever shapes differ
                raise
            raise CheckpointError(
                f"The weights of {name} do not fit its config: {error}. Expected the weights saved with this config; to replace "
                "the head on purpose, pass ignore_mismatched_sizes=True."
            ) from error
        except OSError as error:
            if "safetensors" in str(error):
                raise CheckpointError(
                    f"{name} offers no safetensors weights, and pickled ones can run code when read. "
                    f"Ask its author for {SAFE_WEIGHTS_NAME}."
                ) from error
            raise
