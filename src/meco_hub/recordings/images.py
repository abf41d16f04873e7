"""Reading images: whatever holds a picture becomes one RGB uint8 PIL image, upright, or an `ImageError` that says why not.

What is done on the way, and on purpose:
- The EXIF orientation is applied.
- Transparent pixels are laid on white, as transformers does; dropping alpha would bring hidden colours to light.
- Values of more than 8 bits are scaled by the range of their type (0…65535 → 0…255), not clipped; 16-bit colour gives its
  high byte. Cameras of 10, 12 or 14 bits leave the upper ones of 16 empty; `_to_bytes` tells these, and says so in `info`.
- CMYK goes through Pillow's conversion, which knows Adobe's inverted files; embedded colour profiles are not applied.
- Of an animation, the first frame is read and a warning is logged.
- The size is judged by the header, before a pixel is decoded, so that a decompression bomb costs nothing.
- Only the raster formats of `FORMATS` are tried: Pillow would hand an EPS file to Ghostscript.

No global state of Pillow is touched, and all functions may be called from several threads.
"""

import base64
import functools
import io
import logging
import os
import queue
import re
import sys
import threading
import time
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np
from PIL import Image, ImageOps, TiffImagePlugin

from ..errors import ImageError, quote, suggest
from ..reading import find_member, read_member, reading, reason, refuse_special
from .picture_tables import SCHEME, read_picture_row

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

ImageSource: TypeAlias = (
    "str | os.PathLike[str] | bytes | IO[bytes] | Mapping[str, Any] | Image.Image | np.ndarray | torch.Tensor"
)

MAX_PIXELS = 89_478_485  # where Pillow, too, begins to warn of a decompression bomb: a quarter GiB of RGB
MAX_BYTES = 2**29  # of a file, a zip member or a download
TIMEOUT_S = 60.0  # for a whole download
MIN_SIDE = 8  # pixels; fewer cannot hold a face, and make every array layout unambiguous (channels are 1, 3 or 4)
FORMATS = ("AVIF", "BMP", "GIF", "HEIF", "ICO", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TGA", "TIFF", "WEBP")

_ENDINGS = "avif bmp gif heic heif hif ico j2k jfif jp2 jpe jpeg jpg mpo pbm pgm png pnm ppm tga tif tiff webp"
PICTURE_SUFFIXES = frozenset(f".{ending}" for ending in _ENDINGS.split())
"""Endings, in lower case, by which a file of a folder counts as a picture; how it is read is decided by its bytes."""

OTHER_CHECKPOINT = "A recording of signals or of an eye needs a checkpoint that reads such (--model, see `meco list`)."
"""What errors about pictures add, where it may be no picture that was meant."""

CLUTTER = frozenset({"__MACOSX", "Thumbs.db", "desktop.ini"})
"""What operating systems leave in folders and archives, beside what is hidden by a dot."""

_HEIF = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")  # brands of ISO 23008-12

_LONGEST_PATH = 1024  # characters: no path is longer that is only letters, digits, "+" and "/"
_BASE64 = re.compile(r"[A-Za-z0-9+/\s]+|[A-Za-z0-9_\-\s]+")  # the second is that of addresses
_BASE64_BYTES = re.compile(_BASE64.pattern.encode())
_ROUNDING = 1e-3  # by which floating-point values may lie outside [0, 1]: resampling and half precision overshoot
SEVERAL = "meco_frames"  # in the `info` of a picture that was read: how many its file holds, where these are several
RANGE = "meco_range"  # likewise: for what range its values were taken, where the type does not say so
_BITS = (8, 10, 12, 14, 16)  # what cameras write into a type that holds more
_AT_ONCE = 2**22  # pixels that are laid on white
_ORIENTATION, _PHOTOMETRIC = 0x0112, 262  # tags of EXIF and of TIFF
_BITS_A_SAMPLE, _SAMPLES, _SAMPLE_FORMAT = 258, 277, 339  # likewise
_SAMPLE_KINDS = {1: "whole numbers", 2: "whole numbers with a sign", 3: "floating point"}
_AGAIN = "Copy or download it again."


def read_image(source: ImageSource) -> Image.Image:
    """Read one picture.

    Args:
        source: a path; `zip://inner/name.jpg::/path/outer.zip`, as the `datasets` library writes it; a row of a Parquet file,
            `parquet://17::/path/shard.parquet`; an http(s) or file address;
            the bytes of an image file, also in base64 or as a data URL; an open file or BytesIO; a mapping with "bytes" or
            "path", as `datasets.Image(decode=False)` gives; a PIL image; a numpy array or torch tensor (H, W), (H, W, C) or
            (C, H, W) with C = 1, 3 or 4: uint8 or floating point in [0, 1], or other numbers that fit 0…255 or 8 to 16 bits.

    Returns:
        A PIL image of mode RGB, 8 bits per channel, upright. It may be `source` itself when nothing had to be done.

    Raises:
        ImageError: the source cannot be used; the message names the file, or the array's shape and dtype.
    """
    with reading(f"A {type(source).__name__} cannot be read", ImageError, "Expected one that is open."):
        name = describe_source(source)
    with reading(f"{name} cannot be read", ImageError, _AGAIN):
        return _read(source, name)


def _read(source: ImageSource, name: str) -> Image.Image:
    if isinstance(source, Image.Image):
        return _to_rgb(source, name)
    if isinstance(source, np.ndarray) or _is_tensor(source):
        # before a value is copied: one number can stand for any size
        _check_shape(cast("np.ndarray", source).shape, name)
        values = source if isinstance(source, np.ndarray) else _tensor_values(source)
        return _to_rgb(_from_array(values, name), name)
    if isinstance(source, Mapping):
        data, path = source.get("bytes"), source.get("path")
        if data is None and path is None:
            raise ImageError(
                f'{name} has no picture; expected "bytes" or "path" to be filled, as datasets.Image gives them.'
            )
        source = cast("str | bytes", path if data is None else data)
    if isinstance(source, bytes | bytearray | memoryview):
        data = bytes(source)
        if not _is_text(data):
            return _decode(data, name)
        source = data.decode("ascii", "replace")
    if isinstance(source, str | os.PathLike):
        path = os.fspath(source)
        data = _inline(path, name) if isinstance(path, str) else None
        return _decode(read_bytes(path) if data is None else data, name)
    if hasattr(source, "read"):
        return _decode(_read_stream(source, name), name)
    raise ImageError(
        f"{name} is no picture. Expected a path, an address, bytes, a PIL image, a numpy array or a torch tensor; "
        "pass the pictures of a list one at a time, or the list to a processor."
    )


def _is_text(data: bytes) -> bool:
    """Whether bytes are a data URL, or base64, as files and requests hold them; plain PPM has letters of base64, too."""
    head = data[:_LONGEST_PATH]
    written = len(data) > len(head) and _BASE64_BYTES.fullmatch(head) and head[:2] not in (b"P1", b"P2", b"P3")
    return bool(written) or data[:5].lower() == b"data:"


def _inline(text: str, name: str) -> bytes | None:
    """The bytes of a data URL, or of a picture's file in base64; None for a path or address."""
    if text[:5].lower() == "data:":
        head, _, body = text.partition(",")
        if not head.lower().endswith(";base64"):
            return urllib.parse.unquote_to_bytes(body)
    elif len(text) > _LONGEST_PATH and _BASE64.fullmatch(text[:_LONGEST_PATH]):
        body = text
    else:
        return None
    with reading(f"{name} holds base64 that cannot be decoded", ImageError, "Copy it again, whole."):
        letters = "".join(body.split()).rstrip("=").translate(str.maketrans("-_", "+/"))
        return base64.b64decode(letters + "=" * (-len(letters) % 4), validate=True)


def _read_stream(stream: Any, name: str) -> bytes:
    """What an open file or a BytesIO holds from where it stands."""
    with reading(f"{name} cannot be read", ImageError, "Open it anew, in binary mode."):
        data = stream.read(MAX_BYTES + 1)
    if not isinstance(data, bytes | bytearray):
        raise ImageError(f'{name} gives {type(data).__name__}; expected bytes. Open it in binary mode, "rb".')
    _check_bytes(len(data), name)
    return bytes(data)


def _is_tensor(source: Any) -> bool:
    torch = sys.modules.get("torch")  # whoever holds a tensor has imported torch; nobody else shall pay for it
    return torch is not None and isinstance(source, torch.Tensor)


def _tensor_values(tensor: Any) -> np.ndarray:
    short = tensor.is_floating_point() and tensor.element_size() < 4  # bfloat16, which numpy lacks, and float16
    problem = f"{describe_source(tensor)} on {tensor.device} holds no values that can be read"
    with reading(problem, ImageError, "Expected a dense tensor."):  # on no device, sparse, quantised …
        return (tensor.float() if short else tensor).detach().cpu().numpy()


def describe_source(source: Any) -> str:
    """How error messages call a source: its path, or what it is where it has none."""
    if isinstance(source, str | os.PathLike):
        return shorten(str(source))
    if isinstance(source, bytes | bytearray | memoryview):
        return f"image data of {len(source)} bytes"
    if isinstance(source, Image.Image):
        file = getattr(source, "filename", "")
        return (
            shorten(str(file)) if file else f"PIL image of mode {source.mode} and size {source.width}×{source.height}"
        )
    if isinstance(source, Mapping):
        return describe_source(source["path"]) if source.get("path") else f"mapping with keys {quote(list(source))}"
    if hasattr(source, "shape") and hasattr(source, "dtype"):
        kind = "array" if isinstance(source, np.ndarray) else "tensor"
        return f"{kind} of shape {tuple(source.shape)}, dtype {str(source.dtype).removeprefix('torch.')}"
    if hasattr(source, "read"):
        return shorten(str(getattr(source, "name", "") or f"{type(source).__name__} object"))
    if isinstance(source, list | tuple):
        return f"{type(source).__name__} of {len(source)} items"
    return f"object of type {type(source).__name__}"


def _formats() -> list[str]:
    Image.init()  # loads all plugins once; Pillow may be built without some, and others may register one later
    return [name for name in FORMATS if name in Image.OPEN]


def _open_heif(data: bytes, name: str) -> Image.Image:
    """A HEIC file, as telephones write them, by pillow-heif, which need not be registered with Pillow."""
    try:
        import pillow_heif  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ImageError(
            f"{name} is a HEIC picture, which Pillow alone does not read. Run pip install pillow-heif, or convert it."
        ) from error
    file = pillow_heif.open_heif(io.BytesIO(data), convert_hdr_to_8bit=True)
    width, height = file.size
    _check_size(width, height, name)  # of its header: the next line decodes
    image = file.to_pillow()
    if len(file) > 1:
        image.info[SEVERAL] = len(file)
    return image


def _decode(data: bytes, name: str) -> Image.Image:
    if not data:
        raise ImageError(f"{name} is empty (0 bytes); expected an image file. Copy or download it again.")
    with reading(f"{name} is a damaged image", ImageError, _AGAIN):
        try:
            heif = data[4:8] == b"ftyp" and data[8:12] in _HEIF and "HEIF" not in _formats()
            image = _open_heif(data, name) if heif else Image.open(io.BytesIO(data), formats=_formats())
        except Image.UnidentifiedImageError as error:
            if kind := _kind_of_tiff(data):
                raise ImageError(
                    f"{name} is a TIFF of {kind}, which Pillow does not read; expected 8 or 16 bits without a sign, or one channel "
                    "of 32-bit floating point. Convert it, or pass its values as an array."
                ) from error
            # whoever names a recording, and no checkpoint, comes here: the default one looks at pictures
            ending = Path(name).suffix.lower()
            other = f" {OTHER_CHECKPOINT}" if ending and ending not in PICTURE_SUFFIXES else ""
            raise ImageError(
                f"{name} is not an image that can be read: {len(data)} bytes that begin with {data[:12]!r}. Expected one of "
                f"{', '.join(_formats())}; convert it, or copy it again if it was one.{other}"
            ) from error
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise ImageError(
                f"{name} is too large: {error} Make it smaller; beyond this, Pillow itself refuses."
            ) from error
    with image:
        return _to_rgb(image, name)


def _kind_of_tiff(data: bytes) -> str:
    """What the values of a TIFF file are, which has not been identified; empty where it is none, or does not say so."""
    if data[:4] not in (b"II*\0", b"MM\0*"):
        return ""
    try:
        tags, stream = TiffImagePlugin.ImageFileDirectory_v2(data[:8]), io.BytesIO(data)
        stream.seek(tags.next)
        tags.load(stream)
        bits, form = tags[_BITS_A_SAMPLE], tags.get(_SAMPLE_FORMAT, (1,))
        kind = _SAMPLE_KINDS.get(form[0], "another kind")
        return f"{int(tags.get(_SAMPLES, 1))} × {int(bits[0])} bits a pixel, {kind}"
    except Exception:  # noqa: BLE001 — whatever Pillow raises: then it is damaged, which is what is said
        return ""


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    """Decode, turn upright and convert; `image` may still be lazy."""
    _check_size(*image.size, name)
    with reading(f"{name} cannot be decoded, it is truncated or damaged", ImageError, _AGAIN):
        # An MPO is one photograph with its previews, as many phones write it: nothing that moves.
        several = image.info.get(SEVERAL, 0)
        if getattr(image, "is_animated", False) and image.format != "MPO" and image.tell() == 0:
            several = getattr(image, "n_frames", 2)
            logger.warning("%s holds several frames; the first one is read.", name)
        layout = " ".join(str(tile[3]) for tile in getattr(image, "tile", ()))  # Pillow forgets it when it decodes
        tags = getattr(image, "tag_v2", {})
        inverted, signed = tags.get(_PHOTOMETRIC) == 0, 2 in tags.get(_SAMPLE_FORMAT, ())
        image.load()
        upright = _turn_upright(image, name)
        deep = _from_deep(upright, layout, name, inverted=inverted, signed=signed)
        converted = _convert(deep)
        found = {SEVERAL: several, RANGE: deep.info.get(RANGE)}
        if found[RANGE]:
            logger.warning(
                "%s: %s", name, found[RANGE]
            )  # for who reads pictures without a pipeline, whose answers say it
        if any(found.values()):
            if converted is image:
                converted = converted.copy()  # which no longer knows of the others
            converted.info.update({key: value for key, value in found.items() if value})
        return converted


def _check_size(width: int, height: int, name: str) -> None:
    """Refuse what is too large to be decoded, or too small to hold a face."""
    if width * height > MAX_PIXELS:
        raise ImageError(
            f"{name} has {width}×{height} = {width * height / 1e6:.0f} million pixels; at most {MAX_PIXELS / 1e6:.0f} million "
            "are read. Make it smaller."
        )
    if min(width, height) < MIN_SIDE:
        raise ImageError(
            f"{name} is {width}×{height} pixels; expected at least {MIN_SIDE} on each side, enough to hold a face."
        )


def _turn_upright(image: Image.Image, name: str) -> Image.Image:
    try:
        if image.getexif().get(_ORIENTATION, 1) == 1:
            return image
        return ImageOps.exif_transpose(image)
    except Exception as error:  # noqa: BLE001 — whatever Pillow raises: the pixels are whole, only their description is not
        logger.warning("%s has damaged EXIF data (%s); its orientation is taken as stored.", name, reason(error))
        return image


def _convert(image: Image.Image) -> Image.Image:
    """To mode RGB, from every mode of 8 bits that Pillow decodes to."""
    if image.mode == "RGB" and not image.has_transparency_data:
        return image
    if image.has_transparency_data:
        image = image.convert("LA") if image.mode == "La" else image
        whole, rows = Image.new("RGB", image.size), max(1, _AT_ONCE // image.width)
        for top in range(0, image.height, rows):  # on the way a pixel takes sixteen bytes
            box = (0, top, image.width, min(top + rows, image.height))
            layered = image.crop(box).convert("RGBA")
            ground = Image.new("RGBA", layered.size, "white")
            whole.paste(Image.alpha_composite(ground, layered).convert("RGB"), box)
        return whole
    return image.convert("RGB")


def _from_deep(image: Image.Image, layout: str, name: str, *, inverted: bool, signed: bool) -> Image.Image:
    """In 8 bits without a sign; `layout` is Pillow's word for the file's, `inverted` a TIFF whose white is 0, which Pillow knows in
    8 bits, `signed` one whose numbers have a sign, of which Pillow forgets how many bits they have, and in 8 bits the sign."""
    if signed and image.mode == "L":
        return _from_array(np.asarray(image).view(np.int8), name)
    if image.mode == "F" or image.mode.startswith("I"):
        values = np.asarray(image)
        grey = _from_array(values.astype(np.int16) if signed and "16" in layout else values, name)
        if not inverted:
            return grey
        opposite = ImageOps.invert(grey)
        opposite.info.update(grey.info)
        return opposite
    return _brightened(image) if ";16" in layout else image


def _check_shape(shape: tuple[int, ...], name: str) -> None:
    """Refuse an array that has none of the layouts that `read_image` names, or that is too large or too small."""
    if len(shape) == 4:
        raise ImageError(
            f"{name} has 4 dimensions, a batch; expected one picture. Pass array[i], or the batch to a processor."
        )
    if len(shape) not in (2, 3) or 0 in shape:
        raise ImageError(
            f"{name} is no picture; expected (H, W), (H, W, C) or (C, H, W) with C = 1, 3 or 4, not empty."
        )
    last = len(shape) == 2 or shape[-1] in (1, 3, 4)
    if not last and shape[0] not in (1, 3, 4):
        raise ImageError(f"{name} is no picture; expected 1, 3 or 4 channels in the first or last dimension.")
    first = 0 if last else 1
    _check_size(shape[first + 1], shape[first], name)


def _from_array(array: np.ndarray, name: str) -> Image.Image:
    """A PIL image of mode L, RGB or RGBA from an array whose shape was checked."""
    if array.ndim == 3 and array.shape[-1] not in (1, 3, 4):
        array = np.moveaxis(array, 0, -1)
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    values, doubt = _to_bytes(array, name)
    image = Image.fromarray(np.ascontiguousarray(values))
    if doubt:
        image.info[RANGE] = doubt
    return image


def _to_bytes(values: np.ndarray, name: str) -> tuple[np.ndarray, str]:
    """Values of any type as uint8, and what is in doubt about their range: one rule for files and arrays.

    A type has a range: bool 0…1, floats 0…1, int16 0…32767, others 0…65535. Where the largest value is below a quarter of it (of
    floats: is 16 or more), the smallest of `_BITS` that holds it is taken, in doubt; unless all values are multiples of the
    256th part of the range, as where 8 bits were widened: then it is a dark picture.
    """
    if values.dtype == np.uint8:
        return values, ""
    if values.dtype.kind not in "fbiu":
        raise ImageError(f"{name} holds no numbers; expected uint8 (0…255) or floating point in [0, 1].")
    floating = values.dtype.kind == "f"
    if floating and not np.isfinite(values).all():
        raise ImageError(f"{name} holds NaN or infinity; expected finite values in [0, 1].")
    low, high = float(values.min()), float(values.max())
    own = 1 if values.dtype.kind in "fb" else min(np.iinfo(values.dtype).max, 65535)
    tops = [2**bits - 1 for bits in _BITS if round(high) < 2**bits <= own or (floating and 16 <= high < 2**bits - 0.5)]
    widened = bool(tops) and not floating and int(np.gcd.reduce(values, axis=None)) > own // 256
    top = own if widened or not tops else tops[0]
    slack = _ROUNDING * top if floating else 0
    if low < -slack or high > top + slack:
        raise ImageError(
            f"{name} holds values from {low:.6g} to {high:.6g}; expected uint8 (0…255), floating point in [0, 1], or whole numbers "
            "of 8 to 16 bits. Undo a normalisation, or scale it and convert it to uint8."
        )
    scaled = np.multiply(np.clip(values, 0, top), 255 / top, dtype=np.float32).round().astype(np.uint8)
    return scaled, _doubt(high, top) if top != own and high > 0 else ""


def _brightened(image: Image.Image) -> Image.Image:
    """16-bit colour, of which Pillow gives the upper eight, by the same rule; only what is left of 10 to 14 bits can be shown."""
    bands = image.getbands()
    extremes: Any = image.getextrema()
    high = max(top for band, (_, top) in zip(bands, extremes, strict=True) if band != "A")
    top = next((2**bits for bits in _BITS[:-1] if 0 < high < 2 ** (bits - 8)), 0)
    if not top:
        return image
    same, scaled = list(range(256)), [min(255, round(value * 255 / max(1, top // 256 - 1))) for value in range(256)]
    image = image.point([value for band in bands for value in (same if band == "A" else scaled)])
    image.info[RANGE] = _doubt(high * 256, top - 1) + " Of these, the upper 8 of 16 bits were looked at."
    return image


def _doubt(high: float, top: int) -> str:
    return (
        f"The largest value is {high:.5g}, in a type that holds more or other ones, so that 0…{top} was taken for its range. "
        "Convert the picture to 8 bits."
    )


# where the bytes come from: a file, a member of a zip file, an http(s) address


def shorten(text: str) -> str:
    """A path as messages show it: whole, unless somebody passed a picture's text as its path."""
    limit = 40 if text[:5].lower() == "data:" else 120
    return text if len(text) <= 300 else f"{text[:limit]}… ({len(text)} characters)"


def read_bytes(path: str) -> bytes:
    """The bytes behind a path, a `zip://inner::outer.zip` path, a row `parquet://17::shard.parquet` or an http(s) address.

    Raises:
        ImageError: they cannot be had; the message names the file, and the nearest one where there is none of that name.
    """
    if path.startswith(("http://", "https://")):
        return _download(path)
    if path.startswith("file://"):
        path = urllib.request.url2pathname(urllib.parse.urlsplit(path).path)
    if path.startswith("zip://"):
        return _read_from_zip(path)
    if path.startswith(SCHEME):
        return read_picture_row(path)
    if not path.strip():
        raise ImageError("The path of the image is empty; expected the path of an image file.")
    # no permission, a name too long, a null byte in it …
    with reading(f"{shorten(path)} cannot be opened", ImageError, "Check the path, and whether you may read it."):
        try:
            file = Path(path)
            size = file.stat().st_size
        except FileNotFoundError as error:
            raise ImageError(f"There is no file {path}.{nearest_file(Path(path))}") from error
        if file.is_dir():
            if not os.access(file, os.R_OK | os.X_OK):
                raise ImageError(f"{path} is a folder that may not be read. Ask its owner, or leave it out.")
            raise ImageError(f"{path} is a folder; expected one image file. Pass its files one by one or as a list.")
        refuse_special(file, ImageError, "an image file. Read it and pass the bytes")
        _check_bytes(size, path)
        return file.read_bytes()


def _check_bytes(size: int, name: str) -> None:
    if size > MAX_BYTES:
        raise ImageError(
            f"{name} has {size >> 20} MiB; at most {MAX_BYTES >> 20} MiB are read. Make the picture smaller."
        )


def nearest_file(path: Path) -> str:
    """What stands where a file was looked for, as a sentence."""
    if not path.parent.is_dir():
        return f" Its folder {path.parent} does not exist either."
    if not os.access(path.parent, os.R_OK):
        return ""
    return _offer(path.name, (entry.name for entry in path.parent.iterdir()), f" in {path.parent}")


def _offer(name: str, names: Iterable[str], where: str) -> str:
    names = sorted(names)
    near = suggest(name, names[:20_000], count=1)
    return f"{near[:-1]}{where}?" if near else f" Nothing{where} has a name like it ({len(names)} entries)."


def _read_from_zip(path: str) -> bytes:
    inner, separator, outer = path.removeprefix("zip://").rpartition("::")
    if not separator or not inner or not outer:
        raise ImageError(f"{path} is no path into a zip file; expected zip://inner/name.jpg::/path/outer.zip.")
    problem = f"{inner} cannot be read from {outer}"
    with reading(problem, ImageError, "The zip file is damaged or encrypted. Copy it again."):
        try:
            archive = open_zip(outer)
        except FileNotFoundError as error:
            raise ImageError(f"There is no zip file {outer} for {inner}.{nearest_file(Path(outer))}") from error
        try:
            member = find_member(archive, inner)
        except KeyError as error:
            offer = _offer(inner, archive.namelist(), f" in {outer}")
            raise ImageError(f"There is no {inner} in {outer}.{offer}") from error
        _check_bytes(member.file_size, path)
        return read_member(archive, member, path, ImageError, MAX_BYTES)


def open_zip(path: str) -> zipfile.ZipFile:
    """An archive, opened once: reading the table of a large one costs more than reading a picture. Nobody closes it."""
    stat = Path(path).stat()
    refuse_special(Path(path), ImageError, "a zip file")
    return _open_zip(path, stat.st_mtime_ns, stat.st_size, os.getpid())


@functools.lru_cache(maxsize=8)
def _open_zip(path: str, mtime_ns: int, size: int, process: int) -> zipfile.ZipFile:
    # the key holds time and size, for an archive that was rewritten, and the process, because forks would share one file offset
    return zipfile.ZipFile(path)


def _download(url: str) -> bytes:
    """The bytes behind an address, all within `TIMEOUT_S`: a server that sends a byte now and then would keep us for ever."""
    found: queue.SimpleQueue[bytes | BaseException] = queue.SimpleQueue()
    end = time.monotonic() + TIMEOUT_S

    def fetch() -> None:
        try:
            with urllib.request.urlopen(url, timeout=TIMEOUT_S) as response:
                data = bytearray()
                while (part := response.read1(2**16)) and len(data) <= MAX_BYTES:
                    data += part
                    if time.monotonic() > end:
                        return  # nobody waits any more
            found.put(bytes(data))
        except BaseException as error:  # noqa: BLE001 — raised by the one who waits
            found.put(error)

    with reading(f"{url} cannot be fetched", ImageError, "Check the address, or download the file first."):
        threading.Thread(target=fetch, daemon=True).start()
        try:
            data = found.get(timeout=TIMEOUT_S)
        except queue.Empty:
            raise TimeoutError(f"not whole after {TIMEOUT_S:g} s") from None
        if isinstance(data, BaseException):
            raise data
        _check_bytes(len(data), url)
        return data
