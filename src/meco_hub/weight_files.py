"""Files of weights: which ones a checkpoint has, and whether each is what it says it is.

Opening a safetensors file reads its header alone (name → dtype, shape, place), which tells a file that was cut off, that lies about
itself, or that is none, before any number is used.
"""

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import HfApi, constants, try_to_load_from_cache
from huggingface_hub.errors import HfHubHTTPError
from safetensors import safe_open

from .durable import hash_file
from .errors import CheckpointError, MecoError, quote
from .reading import read_json, reading

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"

_PICKLED = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")

_LONGEST_NAME = 255
"""Bytes of a file's name; systems raise errors of their own for a longer one."""

_LFS_POINTER = b"version https://git-lfs"


@dataclass(frozen=True)
class TensorEntry:
    """What a header says of one tensor.

    Attributes:
        dtype: in the format's words: "F32", "BF16", "I64" …
        shape: of the tensor.
        floating: its values are floating-point numbers.
    """

    dtype: str
    shape: tuple[int, ...]
    floating: bool


def read_header(file: Path) -> dict[str, TensorEntry]:
    """What a safetensors file holds, read from its header, which the library checks against the file's size; no number is read.

    Raises:
        CheckpointError: no such file, cut off, a header that is none or that contradicts itself or the file.
    """
    if not file.is_file():
        raise CheckpointError(f"{file} is missing; expected a file of weights. Copy the whole folder.")
    with file.open("rb") as stream:
        if stream.read(64).startswith(_LFS_POINTER):
            raise CheckpointError(
                f"{file} is a Git LFS pointer of {file.stat().st_size} bytes, not the weights it stands for. Run `git lfs pull` "
                "there, or download the file."
            )
    problem = f"{file} cannot be read: it has {file.stat().st_size} bytes, and safetensors says"
    remedy = "Expected a whole file of weights. Copy or download it again."
    with reading(problem, CheckpointError, remedy), safe_open(file, framework="np") as tensors:
        entries = {}
        for name in tensors.keys():  # noqa: SIM118 — no mapping
            part = tensors.get_slice(name)
            dtype = part.get_dtype()
            entries[name] = TensorEntry(dtype, tuple(part.get_shape()), dtype.startswith(("F", "BF")))
        return entries


def read_index(file: Path) -> dict[str, list[str]]:
    """The shards that an index names: file name → names of the tensors in it.

    Raises:
        CheckpointError: it is no index, or names a file outside its folder.
    """
    expected = "Expected weight_map: tensor → file. Copy or download it again."
    with reading(f"{file} cannot be read as an index of weights", CheckpointError, expected):
        places = read_json(file, CheckpointError, expected)["weight_map"]
        shards: dict[str, list[str]] = {}
        for name, shard in places.items():
            shards.setdefault(shard, []).append(name)
    for shard in shards:
        beside = isinstance(shard, str) and Path(shard).name == shard and shard.endswith(".safetensors")
        if not beside or len(shard.encode(errors="surrogatepass")) > _LONGEST_NAME or "\0" in shard:
            raise CheckpointError(
                f"{file} names {quote(repr(shard), 80)}; expected safetensors files beside it. Ask for a sound version."
            )
    return shards


def _check_shards(index: Path) -> dict[str, TensorEntry]:
    entries: dict[str, TensorEntry] = {}
    for shard, names in sorted(read_index(index).items()):
        file = index.parent / shard
        if not file.is_file():
            raise CheckpointError(
                f"{file} is missing: {index.name} says that {len(names)} tensors are in it ({names[0]}, …). Copy or download "
                "the whole folder."
            )
        found = read_header(file)
        if set(found) != set(names):
            odd = sorted(set(found) ^ set(names))
            raise CheckpointError(
                f"{file} and {index.name} do not agree on {', '.join(odd[:3])}{', …' if len(odd) > 3 else ''}; expected the "
                "shards that were saved with this index. Copy or download the whole folder again."
            )
        entries |= found
    return entries


def read_weights(folder: Path, variant: str | None = None) -> dict[str, TensorEntry] | None:
    """What the weights of a folder are, by their headers, every file checked; None when they have other names than usual.

    Args:
        folder: where `save_pretrained` wrote.
        variant: as of `from_pretrained`: `model.<variant>.safetensors`.

    Raises:
        CheckpointError: see `read_header` and `read_index`; a shard that is missing or belongs to another index.
    """
    single, index = (
        folder / (name if variant is None else f"{Path(name).stem}.{variant}{Path(name).suffix}")
        for name in (WEIGHTS, INDEX)
    )
    if single.is_file():
        return read_header(single)
    return _check_shards(index) if index.is_file() else None


def same_shape(one: Sequence[int], other: Sequence[int]) -> bool:
    """Whether weights of one shape load as those of the other: a single number may be a scalar in a file and (1,) in a network."""
    return tuple(one) == tuple(other) or {tuple(one), tuple(other)} == {(), (1,)}


def hash_weights(folder: Path) -> str | None:
    """SHA-256 (hex) of a folder's file of weights; None where there is none of the usual name."""
    file = folder / WEIGHTS
    return hash_file(file) if file.is_file() else None


def check_hash(folder: Path) -> None:
    """Refuse weights that are not those that the records beside them are about.

    Raises:
        CheckpointError: run.json or report.json names another SHA-256, or cannot be read.
    """
    own = None
    for name, path in (("run.json", ("weights_sha256",)), ("report.json", ("checkpoint", "weights_sha256"))):
        file = folder / name
        if not file.is_file():
            continue
        stated = read_json(
            file,
            CheckpointError,
            "Expected the record that was written with the weights. Copy it again, or take it away.",
        )
        for key in path:
            stated = stated.get(key) if isinstance(stated, dict) else None
        own = own or hash_weights(folder)
        if isinstance(stated, str) and own is not None and own != stated:
            raise CheckpointError(
                f"{folder / WEIGHTS} has SHA-256 {own[:12]}…, and {file} is about weights with {stated[:12]}…. Expected those: "
                f"copy the folder again. Where the weights were changed on purpose, take {name} away, which is about others."
            )


def require_finite_weights(
    weights: Iterable[tuple[str, torch.Tensor]], whose: str, kind: type[MecoError] = CheckpointError
) -> None:
    """Refuse weights that are no numbers, because no answer by them would be one.

    Args:
        weights: names and tensors.
        whose: the beginning of a sentence.

    Raises:
        MecoError: of that kind: one holds NaN or infinity, or in float64 what is infinite in float32.
    """
    for name, values in weights:
        if values.is_meta or not (values.is_floating_point() or values.is_complex()):
            continue
        with reading(f"{whose}: {quote(name)} cannot be looked at", kind, "Expected them in float32."):
            values = values.detach()
            values = torch.view_as_real(values) if values.is_complex() else values
            if values.element_size() == 1:  # of which torch asks nothing
                values = values.float()
            # a sum is finite only if all its parts are; where it overflowed, each part is looked at, as networks compute with it
            finite = math.isfinite(values.sum(dtype=torch.float32)) or bool(values.float().isfinite().all())
        if not finite:
            raise kind(
                f"{whose}: {quote(name)} holds NaN or infinity; expected weights that are numbers. The training diverged, the file "
                "is damaged, or the dtype is too small for them: take earlier weights, copy the file again, or load it in float32."
            )


def check_numbers(folder: Path) -> None:
    """Refuse a folder whose weights are not those of its records, or are no numbers; every one is read.

    Raises:
        CheckpointError: see `check_hash` and `require_finite_weights`.
    """
    check_hash(folder)
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            names: list[str] = tensors.keys()
            require_finite_weights(((name, tensors.get_tensor(name)) for name in names), str(file))


def check_folder(folder: Path, variant: str | None = None) -> dict[str, TensorEntry] | None:
    """Refuse a local model folder that lacks its config or sound safetensors weights, before anything in it is used.

    Args:
        folder: what `save_pretrained` wrote.
        variant: as of `from_pretrained`.

    Returns:
        Name → dtype and shape of all its tensors; None when its safetensors have other names than usual.

    Raises:
        CheckpointError: says which files were seen, which were expected, and how to get them; or which file is cut off or
            contradicts itself, and where.
    """
    if not os.access(folder, os.R_OK | os.X_OK):
        raise CheckpointError(f"{folder} is a folder that may not be read. Ask its owner, or name another.")
    present = sorted(path.name for path in folder.iterdir() if path.is_file())
    listing = ", ".join(present[:12]) + (", …" if len(present) > 12 else "") or "no files"
    if "config.json" not in present:
        raise CheckpointError(
            f"{folder} is no checkpoint: it holds {listing}, expected config.json. Pass a folder that `save_pretrained` wrote."
        )
    if any(name.endswith((".safetensors", ".safetensors.index.json")) for name in present):
        return read_weights(folder, variant)
    pickled = [name for name in present if name.endswith(_PICKLED)]
    if pickled:
        raise CheckpointError(
            f"{folder} holds weights only as {', '.join(pickled)}, which can run code when read; expected "
            f"{WEIGHTS} or {INDEX}. Ask for a safetensors version, or, if you trust its author, "
            "load the file with torch.load(weights_only=True) and save it again with safetensors."
        )
    raise CheckpointError(
        f"{folder} holds no weights: it holds {listing}, expected {WEIGHTS}. Copy the whole folder, Git LFS files included."
    )


def list_some(names: Mapping[str, Any] | set[str] | list[str]) -> str:
    """A few of many names, and how many more there are."""
    ordered = sorted(names)
    return ", ".join(ordered[:4]) + (f" and {len(ordered) - 4} more" if len(ordered) > 4 else "")


# --- Hub files --------------------------------------------------------------------------------------------------------
# Which file of which repository is missing, and why: transformers answers that it "couldn't connect", whatever it was.

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
        try:
            shards = read_index(present) if present.name == INDEX else {}
        except CheckpointError:
            shards = {}  # damaged, which is for others to say
        missing = [shard for shard in sorted(shards) if not (present.parent / shard).is_file()]
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
