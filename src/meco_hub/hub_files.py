"""Which file of which repository is missing, and why: transformers answers that it "couldn't connect", whatever it was.

This file knows the cache of huggingface_hub and three reasons for a file not to be there; it knows no model.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import HfApi, constants, try_to_load_from_cache
from huggingface_hub.errors import HfHubHTTPError

from .errors import CheckpointError
from .weight_files import INDEX, WEIGHTS

TRANSPORT_ERROR: type[Exception] = next(base for base in HfHubHTTPError.__mro__ if base.__name__ == "HTTPError")
"""Root of the HTTP library's errors, which is httpx below huggingface_hub 2 and httpx2 from there on."""

CONFIG = ("config.json",)
WEIGHT_FILES = (WEIGHTS, INDEX)


def explain_absence(
    name: str,
    alternatives: Sequence[str],
    *,
    revision: str | None = None,
    cache_dir: str | None = None,
    subfolder: str | None = None,
) -> CheckpointError | None:
    """Why a file of a repository on the Hub could not be had, or None when that was not the trouble.

    Args:
        name: "owner/name"; a local folder gives None.
        alternatives: files of which one is enough, the usual one first.
        revision, cache_dir, subfolder: as of `from_pretrained`.
    """
    if Path(name).is_dir() or name.count("/") != 1:
        return None
    paths = [f"{subfolder}/{file}" if subfolder else file for file in alternatives]

    def cached(path: str) -> Path | None:
        found = try_to_load_from_cache(name, path, cache_dir=cache_dir, revision=revision)
        return Path(found) if isinstance(found, str) else None

    present = next(filter(None, map(cached, paths)), None)
    wanted = paths[0]
    if present is not None:
        missing = [shard for shard in _shards(present) if not (present.parent / shard).is_file()]
        if not missing:
            return None
        wanted = f"{subfolder}/{missing[0]}" if subfolder else missing[0]
        paths = [wanted]
    where = cache_dir or constants.HF_HUB_CACHE
    if constants.is_offline_mode():
        return CheckpointError(
            f"{wanted} of {name} is not in the cache ({where}), and HF_HUB_OFFLINE is set, which forbids asking for it. Fetch it "
            f"once where there is a network (`hf download {name}`), or unset HF_HUB_OFFLINE."
        )
    return _ask(name, wanted, paths, revision, str(where))


def _shards(file: Path) -> list[str]:
    """The files that an index of weights names; none for any other file."""
    if file.name != INDEX:
        return []
    try:
        return sorted(set(json.loads(file.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, AttributeError):
        return []  # damaged, which is for others to say


def _ask(name: str, wanted: str, paths: Sequence[str], revision: str | None, where: str) -> CheckpointError | None:
    api, problem = HfApi(), ""
    try:
        if any(api.file_exists(name, path, revision=revision) for path in paths):
            return None
        seen = api.repo_exists(name)
    except (OSError, TRANSPORT_ERROR) as error:
        seen, problem = False, f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    if problem:
        return CheckpointError(
            f"{wanted} of {name} is not in the cache ({where}), and {constants.ENDPOINT} cannot be asked for it ({problem}). "
            "Check the network; what was fetched before also loads without one, by HF_HUB_OFFLINE=1."
        )
    if not seen:
        return CheckpointError(
            f"There is no {name} on {constants.ENDPOINT} that you may see; expected a repository with {wanted}. Check the name; if "
            "it is private, log in with `hf auth login` or set HF_TOKEN."
        )
    at = f" (revision {revision})" if revision else ""
    return CheckpointError(
        f"{name}{at} on {constants.ENDPOINT} holds no {wanted}; expected it there, beside its other files. Ask its author for it, "
        "or pass a revision that has it."
    )
