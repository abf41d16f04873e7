"""`EmotionPreTrainedModel`: what every model of the zoo is, beyond transformers' `PreTrainedModel`.

Weights are safetensors, always: a pickle can run code, so a folder that has nothing else is refused rather than read. And they fit
the model or are refused: transformers warns of weights that are missing or left over, and answers with random ones.

On purpose, and therefore allowed: a base model's weights under a new head, when the checkpoint does not claim to have one; a
base model out of a checkpoint with a head; other sizes with `ignore_mismatched_sizes=True`.
"""

import inspect
import math
import os
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, Unpack

import torch
from huggingface_hub import CommitInfo, try_to_load_from_cache
from safetensors import SafetensorError
from torch import nn
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_parameter_registration_hook,
)
from transformers import PreTrainedModel

from . import plugins
from .configuration import NoCopiedSources
from .errors import CheckpointError, ConfigurationError, MecoError, naming_extras
from .exported import is_exported, load_exported
from .publishing import ModelPushOptions
from .weight_files import (
    CONFIG,
    INDEX,
    WEIGHT_FILES,
    WEIGHTS,
    TensorEntry,
    check_folder,
    check_hash,
    explain_absence,
    list_some,
    read_weights,
    require_finite_weights,
)


def _cached_folder(name: str, options: Mapping[str, Any]) -> Path | None:
    """Where a Hub id's weights lie on this machine, once they are downloaded."""
    for file in (WEIGHTS, INDEX):
        found = try_to_load_from_cache(
            name,
            f"{options['subfolder']}/{file}" if options.get("subfolder") else file,
            cache_dir=options.get("cache_dir"),
            revision=options.get("revision"),
        )
        if isinstance(found, str):
            return Path(found).parent
    return None


@contextmanager
def _held_to(entries: Mapping[str, TensorEntry] | None) -> Iterator[None]:
    """Refuse a network that grows far beyond the weights that it is made for, while it is made: before it has any memory.

    Args:
        entries: of the weights' headers; without them some 30 GB are allowed.
    """
    sizes = [math.prod(one.shape) for one in (entries or {}).values()]
    tensors, numbers = (4 * len(sizes) + 4096, 4 * sum(sizes) + (1 << 26)) if sizes else (1 << 20, 1 << 33)
    made, thread = [0, 0], threading.get_ident()

    def count(_: Any, __: str, value: Any) -> None:
        # transformers makes networks of tensors without memory first
        if value is None or value.device.type != "meta" or threading.get_ident() != thread:
            return
        made[0] += 1
        made[1] += value.numel()
        if made[0] > tensors or made[1] > numbers:
            raise CheckpointError(
                f"config.json describes a network of more than {made[0]} tensors and {made[1]:,} numbers, and the weights have "
                f"{len(sizes)} and {sum(sizes):,}. Expected a config that fits its weights; copy the checkpoint again."
            )

    handles = [register_module_parameter_registration_hook(count), register_module_buffer_registration_hook(count)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class EmotionPreTrainedModel(NoCopiedSources, PreTrainedModel):
    """Base class of every model in the zoo: safetensors only, weights that fit, and errors that say what to do."""

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str] | None,
        *model_args: Any,
        use_safetensors: bool | None = None,
        output_loading_info: bool = False,
        **kwargs: Any,
    ) -> Self:
        """As transformers' `from_pretrained`, but reads nothing except safetensors, and only weights that fit the model.

        Raises:
            CheckpointError: no config, no weights, weights only as a pickle, a damaged safetensors file or index, weights of
                another shape or type, weights that are missing or left over other than those of a head (see the module).
            ConfigurationError: `use_safetensors=False` was asked for.
        """
        if use_safetensors is False:
            raise ConfigurationError(
                "use_safetensors=False was passed; pickled weights can run code when read, so only safetensors are "
                "loaded here. Leave the argument out."
            )
        name = pretrained_model_name_or_path
        local = name is not None and Path(name).is_dir()
        if name is not None and is_exported(name):
            config = kwargs.get("config") or cls.config_class.from_pretrained(name)  # pyright: ignore[reportOptionalMemberAccess]
            return load_exported(name, config)  # pyright: ignore[reportReturnType] it takes and answers what this class does
        entries = None
        if local:
            folder = Path(str(name)) / (kwargs.get("subfolder") or "")
            entries = check_folder(folder, kwargs.get("variant"))
            check_hash(folder)
        try:
            with _held_to(entries):
                loaded: Any = super().from_pretrained(
                    name, *model_args, use_safetensors=True, output_loading_info=True, **kwargs
                )
        except SafetensorError as error:
            if name is not None and not local and (folder := _cached_folder(str(name), kwargs)) is not None:
                read_weights(folder, kwargs.get("variant"))  # names the file and what is wrong with it
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
            if isinstance(error, MecoError):
                raise
            found = {key: kwargs.get(key) for key in ("revision", "cache_dir", "subfolder")}
            absence = explain_absence(str(name), CONFIG, **found) or explain_absence(str(name), WEIGHT_FILES, **found)
            if absence is not None:
                raise absence from error
            if "safetensors" not in str(error):
                raise
            raise CheckpointError(
                f"{name} offers no safetensors weights, and pickled ones can run code when read. "
                f"Ask its author for {WEIGHTS}."
            ) from error
        except Exception as error:  # whatever transformers and torch raise of values that nobody thought of
            if isinstance(error, MecoError):
                raise
            raise CheckpointError(
                f"No network can be made by the config of {name} ({type(error).__name__}: {str(error)[:200]}). Expected what was "
                "saved with the weights; copy the checkpoint again."
            ) from error
        model, info = loaded
        if name is not None and not local and (folder := _cached_folder(str(name), kwargs)) is not None:
            entries = read_weights(folder, kwargs.get("variant"))
        model._refuse_misfits(str(name or "state_dict"), info, entries)
        return (model, info) if output_loading_info else model  # pyright: ignore[reportReturnType] as transformers' own

    def _refuse_misfits(self, source: str, info: Mapping[str, Any], entries: Mapping[str, TensorEntry] | None) -> None:
        missing, left_over = set(info["missing_keys"]), set(info["unexpected_keys"])
        prefix = f"{self.base_model_prefix}."
        saved_as = list(self.config.architectures or [])
        if hasattr(self, self.base_model_prefix):  # a head
            own_head = {key for key in self.state_dict() if not key.startswith(prefix)}
            if missing == own_head and not left_over and type(self).__name__ not in saved_as:
                missing = set()  # a base model's checkpoint; transformers warns that the head is new
        elif left_over:
            left_over -= self._head_keys()
        if missing:
            raise CheckpointError(
                f"The weights of {source} lack {len(missing)} of the {len(self.state_dict())} that {type(self).__name__} has: "
                f"{list_some(missing)}. Expected all of them: answers from random weights would mean nothing. Copy the whole "
                "checkpoint, or load the class that it was saved with"
                + (f" ({', '.join(saved_as)})." if saved_as else ".")
            )
        if left_over:
            raise CheckpointError(
                f"The weights of {source} hold {len(left_over)} that {type(self).__name__} has no place for: "
                f"{list_some(left_over)}. Expected the weights of this model alone, but for those of its head. Is it the "
                "checkpoint of another model, or does its config.json belong to another?"
            )
        if getattr(self, "hf_quantizer", None) is None:
            self._refuse_other_types(source, entries or {})
            require_finite_weights(self.state_dict().items(), f"The weights of {source}")

    def _head_keys(self) -> set[str]:
        """Names of the weights that this base model's head has beside it."""
        entry = plugins.architectures().healthy.get(self.config.model_type)
        if entry is None:
            return set()
        head = plugins.load_dotted(entry.head)
        with torch.device("meta"):
            keys = head(self.config).state_dict()
        return {key for key in keys if not key.startswith(f"{self.base_model_prefix}.")}

    def _refuse_other_types(self, source: str, entries: Mapping[str, TensorEntry]) -> None:
        """A file may call floating-point numbers whole ones of the same width: transformers would convert them silently."""
        prefix = f"{self.base_model_prefix}."
        for name, value in self.state_dict().items():
            entry = entries.get(name) or entries.get(prefix + name) or entries.get(name.removeprefix(prefix))
            if entry is not None and entry.floating != value.is_floating_point():
                raise CheckpointError(
                    f"The weights of {source} give {name} the dtype {entry.dtype}; {type(self).__name__} has "
                    f"{str(value.dtype).removeprefix('torch.')} there. Expected the file that was saved with this model; copy "
                    "or download it again."
                )

    def get_input_embeddings(self) -> nn.Module:
        """None: nothing here reads words. Whoever shards a model asks for its embeddings, and transformers would raise."""
        return None  # pyright: ignore[reportReturnType] — what Accelerate takes for "none"

    def export_inputs(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """What an exported graph of this model takes, of what its processor makes of recordings.

        Everything that the forward takes, by default. An architecture that needs more, or less, in a graph overrides this; what it
        leaves out is fixed as it is when the input is absent.

        Args:
            batch: the processor's tensors for two recordings, perhaps in mappings of streams.
        """
        takes = inspect.signature(type(self).forward).parameters
        return {name: value for name, value in batch.items() if name in takes}

    def prepare_export(self, dtype: str) -> None:
        """Switch what a graph cannot hold to another way of computing the same. Called once, on a copy that is then traced.

        Nothing, by default: layers may also ask `torch.compiler.is_exporting()`, which is true while the graph is made.

        Args:
            dtype: "fp32", "fp16", or "int8" where the traced graph will be quantised: of pictures its convolutions, nothing else.
        """

    def save_pretrained(
        self, save_directory: str | os.PathLike[str], *args: Any, push_to_hub: bool = False, **kwargs: Any
    ) -> None:
        """As transformers' `save_pretrained`: config and safetensors, and neither sources nor `auto_map`.

        A model that came through `trust_remote_code=True` is saved like any other: the stub that makes a repository loadable
        without importing us is written by `push_to_hub`.

        Raises:
            ConfigurationError: `push_to_hub=True`, which would push weights without their processor and card.
            OSError: they cannot be written, for want of room for one.
        """
        if push_to_hub:
            raise ConfigurationError(
                "save_pretrained(push_to_hub=True) was called, which would push weights without processor and card. Call "
                "push_to_hub(…) of the model; it pushes all of them in one commit."
            )
        # of a config class of somebody else, that does not mix NoRemoteCode in
        vars(self.config).pop("auto_map", None)
        type(self.config)._auto_class = None
        try:
            super().save_pretrained(save_directory, *args, **kwargs)
        except SafetensorError as error:  # which is no OSError, whatever the system said
            number = re.search(r"\(os error (\d+)\)", str(error))
            if number is None:
                raise
            raise OSError(int(number[1]), os.strerror(int(number[1])), str(save_directory)) from error

    @naming_extras()
    def push_to_hub(self, repo_id: str, *, processor: Any = None, **options: Unpack[ModelPushOptions]) -> CommitInfo:
        """Push weights, config, processor and card to the Hub, as one commit that strangers can load.

        The processor is the one beside the weights that this model was loaded from, unless another is passed. Records of those
        weights (run.json, report.json, card.yaml, pictures) go along while the weights are unchanged.

        Args:
            repo_id: "owner/name"; made when it does not exist.
            processor: of a model that was made in memory.
            private: make the repository private; one that is public already is refused.
            revision: the branch, made when it does not exist.
            create_pr: open a pull request instead of committing.
            commit_message: of the commit.
            token: as everywhere in huggingface_hub; by default the one that is logged in.
            max_shard_size: weights beyond it are cut into shards.
            tags: more tags for the card.

        Raises:
            PublishingError: no processor is known, something must not be published, or the Hub did not take it; says whether the
                remote changed, and what to do.
        """
        from .publishing.objects import push_model  # above this module; needed by few

        return push_model(self, repo_id, processor=processor, **options)
