"""Pushing what is in memory: a model with its processor, a processor alone.

    push_model(model, "me/my-model")                    its processor is the one beside the weights it was loaded from
    push_model(model, "me/my-model", processor=mine)

A model in memory brings along the records of the folder that it was loaded from (card.yaml, run.json, report.json, pictures, the
card) only while its weights are still those: the report of other weights would be a lie. Otherwise a card is rendered from what
is known, and says what is not stated.
"""

import logging
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Unpack

from huggingface_hub import CommitInfo, snapshot_download
from huggingface_hub.errors import LocalEntryNotFoundError
from transformers import PreTrainedModel

from ..errors import MecoError, PublishingError
from ..loading import load_processor
from ..weight_files import WEIGHTS, list_some, same_shape
from . import PushOptions
from .contents import Secret, is_record, read_contents
from .hub import blame_disk, push_files, push_folder

logger = logging.getLogger(__name__)


def push_model(
    model: PreTrainedModel,
    repo_id: str,
    *,
    processor: Any = None,
    max_shard_size: int | str = "5GB",
    tags: Sequence[str] = (),
    **options: Unpack[PushOptions],
) -> CommitInfo:
    """Push a model with its processor and a card, as one commit.

    Args:
        processor: by default the one beside the weights that the model was loaded from.
        max_shard_size: weights beyond it are cut into shards.
        **options: see `PushOptions`.

    Returns:
        The commit; its `pr_url` when it is a pull request.

    Raises:
        PublishingError: no processor is known, or see `push_folder`.
    """
    _hide_token(options)
    source = _source(model)
    processor = processor if processor is not None else _processor_of(model, source)
    with blame_disk(), tempfile.TemporaryDirectory(prefix="meco-save-") as temporary:
        folder = Path(temporary) / repo_id.rpartition("/")[2]
        model.save_pretrained(folder, max_shard_size=max_shard_size)
        processor.save_pretrained(folder)
        if source is not None:
            _bring_records(source, folder, model)
        commit = push_folder(folder, repo_id, tags=tags, **options).commit
    assert commit is not None
    return commit


def push_processor(processor: Any, repo_id: str, **options: Unpack[PushOptions]) -> CommitInfo:
    """Push a processor's config alone, as one commit; the rest of the repository stays as it is.

    Arguments, result and errors are those of `push_model`.
    """
    _hide_token(options)
    with blame_disk(), tempfile.TemporaryDirectory(prefix="meco-save-") as temporary:
        processor.save_pretrained(temporary)
        commit = push_files(Path(temporary), repo_id, **options).commit
    assert commit is not None
    return commit


def _hide_token(options: PushOptions) -> None:
    token = options.get("token")
    if isinstance(token, str):
        options["token"] = Secret(token)


def _source(model: PreTrainedModel) -> Path | None:
    """The folder that the model was loaded from, its place in the cache for a Hub id; None when it is not on this machine."""
    name = str(getattr(model, "name_or_path", "") or "")
    if not name:
        return None
    if Path(name).is_dir():
        return Path(name)
    if name.count("/") != 1:
        return None
    try:
        return Path(snapshot_download(name, local_files_only=True))
    except (LocalEntryNotFoundError, ValueError):
        return None


def _processor_of(model: PreTrainedModel, source: Path | None) -> Any:
    name = str(getattr(model, "name_or_path", "") or "")
    if source is None and not name:
        raise PublishingError(
            "The model was made in memory and came without its processor; expected one, since nobody can use the weights without "
            "it. Nothing was sent. Pass it: model.push_to_hub(repo_id, processor=…)."
        )
    try:
        return load_processor(name)
    except MecoError as error:
        raise PublishingError(
            f"The processor of the model could not be found: {error} Nothing was sent. Pass it: model.push_to_hub(repo_id, "
            "processor=…)."
        ) from error


def _bring_records(source: Path, folder: Path, model: PreTrainedModel) -> None:
    """Copy the records of the source beside weights that are still its own."""
    records = {name: path for name, path in read_contents(source).files.items() if is_record(name)}
    if not records:
        return
    if not _has_weights_of(model, source):
        logger.warning(
            "The weights are no longer those of %s, so its records (%s) are not pushed with them; the card says what is not "
            "stated. Save the model to a folder, write a card.yaml there (`meco card FOLDER`), and `meco push` it to say more.",
            source,
            list_some(list(records)),
        )
        return
    if (source / WEIGHTS).is_file() and (folder / WEIGHTS).is_file():
        # the report names the file that it was made from by its hash, and saving again may order its header otherwise
        (folder / WEIGHTS).unlink()
        shutil.copyfile((source / WEIGHTS).resolve(), folder / WEIGHTS)
    for name, path in records.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path.resolve(), target)


def _has_weights_of(model: PreTrainedModel, source: Path) -> bool:
    from safetensors import safe_open

    state = model.state_dict()
    seen: set[str] = set()
    for file in sorted(source.glob("model*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 — no mapping
                value = state.get(name)
                stored = tensors.get_tensor(name)
                if value is None or value.dtype != stored.dtype or not same_shape(stored.shape, value.shape):
                    return False
                if not stored.equal(value.detach().cpu().reshape(stored.shape)):
                    return False
                seen.add(name)
    return seen == set(state) - set(getattr(model, "all_tied_weights_keys", None) or {})
