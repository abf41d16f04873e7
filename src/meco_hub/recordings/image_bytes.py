"""Where an image's bytes come from: a file, a member of a zip file, an http(s) address.

This file knows places and how much may be read from them; what the bytes mean is known in `images.py`.
"""

import difflib
import functools
import http.client
import os
import urllib.request
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path

from ..errors import ImageError

MAX_BYTES = 2**29  # of a file, a zip member or a download


def shorten(text: str) -> str:
    """A path as messages show it: whole, unless somebody passed a picture's text as its path."""
    return text if len(text) <= 300 else f"{text[:120]}… ({len(text)} characters)"


def read_bytes(path: str, timeout: float) -> bytes:
    """The bytes behind a path, a `zip://inner::outer.zip` path or an http(s) address.

    Raises:
        ImageError: they cannot be had; the message names the file, and the nearest one where there is none of that name.
    """
    if path.startswith(("http://", "https://")):
        return _download(path, timeout)
    if path.startswith("zip://"):
        return _read_from_zip(path)
    if not path.strip():
        raise ImageError("The path of the image is empty; expected the path of an image file.")
    try:
        file = Path(path)
        size = file.stat().st_size
        if file.is_dir():
            raise ImageError(f"{path} is a folder; expected one image file. Pass its files one by one or as a list.")
        if not file.is_file():
            raise ImageError(f"{path} is a device or pipe; expected an image file. Read it and pass the bytes.")
        _check_bytes(size, path)
        return file.read_bytes()
    except ImageError:
        raise
    except FileNotFoundError as error:
        raise ImageError(f"There is no file {path}.{_nearest_file(Path(path))}") from error
    except (OSError, ValueError) as error:  # no permission, a name too long, a null byte in it
        reason = getattr(error, "strerror", None) or error  # an OSError's own text repeats the path, however long
        raise ImageError(f"{shorten(path)} cannot be opened: {reason}.") from error


def _check_bytes(size: int, name: str) -> None:
    if size > MAX_BYTES:
        raise ImageError(
            f"{name} has {size >> 20} MiB; at most {MAX_BYTES >> 20} MiB are read. Make the picture smaller."
        )


def _nearest_file(path: Path) -> str:
    if not path.parent.is_dir():
        return f" Its folder {path.parent} does not exist either."
    if not os.access(path.parent, os.R_OK):
        return ""
    return _offer(path.name, (entry.name for entry in path.parent.iterdir()), f" in {path.parent}")


def _offer(name: str, names: Iterable[str], where: str) -> str:
    names = sorted(names)
    near = difflib.get_close_matches(name, names[:20_000], n=1, cutoff=0.6)
    return (
        f" Did you mean {near[0]!r}{where}?" if near else f" Nothing{where} has a name like it ({len(names)} entries)."
    )


def _read_from_zip(path: str) -> bytes:
    inner, separator, outer = path.removeprefix("zip://").rpartition("::")
    if not separator or not inner or not outer:
        raise ImageError(f"{path} is no path into a zip file; expected zip://inner/name.jpg::/path/outer.zip.")
    try:
        stat = Path(outer).stat()
        archive = _open_zip(outer, stat.st_mtime_ns, stat.st_size, os.getpid())
        _check_bytes(archive.getinfo(inner).file_size, path)
        return archive.read(inner)
    except FileNotFoundError as error:
        raise ImageError(f"There is no zip file {outer} for {inner}.{_nearest_file(Path(outer))}") from error
    except KeyError as error:
        offer = _offer(inner, archive.namelist(), f" in {outer}")
        raise ImageError(f"There is no {inner} in {outer}.{offer}") from error
    except (OSError, RuntimeError, NotImplementedError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ImageError(
            f"{inner} cannot be read from {outer}: {error}. The zip file is damaged or encrypted."
        ) from error


@functools.lru_cache(maxsize=8)
def _open_zip(path: str, mtime_ns: int, size: int, process: int) -> zipfile.ZipFile:
    # Reading the table of a large archive costs more than reading a picture, hence the cache. Its key holds the file's
    # time and size, for an archive that was rewritten, and the process, because forks would share one file offset.
    return zipfile.ZipFile(path)


def _download(url: str, timeout: float) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=timeout) as response:
            data = response.read(MAX_BYTES + 1)
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise ImageError(f"{url} cannot be fetched: {error}. Check the address, or download the file first.") from error
    _check_bytes(len(data), url)
    return data
