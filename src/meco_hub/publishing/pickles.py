"""Is a file a pickle, whatever it is called? It is looked at, never loaded.

Pickles come bare (of any protocol), compressed as joblib writes them, inside the zip or tar of `torch.save`, and inside numpy's
arrays of objects.

This file knows how pickles look from outside.
"""

import bz2
import gzip
import lzma
import pickletools
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

_NAMES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib")
_ACTS = frozenset({"GLOBAL", "STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "REDUCE", "BUILD"})
"""What a pickle needs in order to do anything; a text that happens to parse has none of them."""

_LOOKED_AT = 1 << 20
"""Bytes of a bare pickle of the old text protocols that are parsed."""

_COMPRESSED: dict[bytes, Callable[[bytes], bytes]] = {
    b"\x1f\x8b": lambda data: gzip.GzipFile(fileobj=BytesIO(data)).read(64),
    b"BZh": lambda data: bz2.BZ2Decompressor().decompress(data, 64),
    b"\xfd7zXZ": lambda data: lzma.LZMADecompressor().decompress(data, 64),
    b"\x78": lambda data: zlib.decompressobj().decompress(data, 64),
}


def pickled_as(path: Path) -> str | None:
    """How a file is a pickle, in words, or None when it is none.

    Args:
        path: any file.
    """
    if path.suffix.lower() in _NAMES:
        return f"named as a pickle is ({path.suffix})"
    if path.suffix == ".safetensors":
        with path.open("rb") as file:
            head = file.read(2)
        return "a pickle inside" if _begins_binary(head) else None  # a header of that length would be no JSON
    with path.open("rb") as file:
        head = file.read(_LOOKED_AT)
    if _begins_binary(head) or _is_text_pickle(head):
        return "a pickle inside"
    for magic, begin in _COMPRESSED.items():
        if head.startswith(magic):
            try:
                return "a compressed pickle inside" if _begins_binary(begin(head)) else None
            except (OSError, EOFError, zlib.error, lzma.LZMAError, ValueError):
                return None  # not compressed after all
    if head.startswith(b"\x93NUMPY") and b"'|O'" in head[:256]:
        return "a numpy array of pickled objects"
    return _in_archive(path, head)


def _begins_binary(head: bytes) -> bool:
    return len(head) >= 2 and head[0] == 0x80 and head[1] <= 5


def _is_text_pickle(head: bytes) -> bool:
    seen = False
    try:
        for operation, _, _ in pickletools.genops(head):
            seen = seen or operation.name in _ACTS
    except (ValueError, IndexError, UnicodeDecodeError, OverflowError):
        return False
    return seen


def _in_archive(path: Path, head: bytes) -> str | None:
    if head.startswith(b"PK") and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if any(name.endswith(".pkl") for name in archive.namelist()):
                return "a zip with a pickle inside, as torch.save writes it"
            arrays = [name for name in archive.namelist() if name.endswith(".npy")]
            for name in arrays:
                with archive.open(name) as member:
                    if b"'|O'" in member.read(256):
                        return "numpy arrays of pickled objects"
    if head[257:262] == b"ustar":
        with tarfile.open(path) as archive:
            if any(name == "pickle" or name.endswith(".pkl") for name in archive.getnames()):
                return "a tar with a pickle inside, as torch.save once wrote it"
    return None
