"""Reading images: every source gives the same pixels, every bad one an `ImageError` that names it."""

import http.server
import io
import logging
import pickle
import re
import struct
import subprocess
import sys
import threading
import types
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile

from meco_hub.errors import ImageError
from meco_hub.recordings import images as image_bytes
from meco_hub.recordings.images import MAX_PIXELS, RANGE, SEVERAL, describe_source, read_image
from meco_hub.recordings.pictures import as_pictures


@pytest.fixture
def pixels() -> np.ndarray:
    """A smooth 24×32 picture whose four corners differ: (H, W, 3) uint8."""
    rows, columns = np.mgrid[0:24, 0:32]
    return np.stack([rows * 10, columns * 8, 255 - rows * 5 - columns * 4], -1).astype(np.uint8)


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG whose header promises any size and which holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 2, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


# ---------------------------------------------------------------------------------------------------------------
# sources


def test_every_source_gives_the_same_pixels(pixels, tmp_path):
    torch = pytest.importorskip("torch")
    file = tmp_path / "face.png"
    Image.fromarray(pixels).save(file)
    data = file.read_bytes()
    outer = tmp_path / "faces.zip"
    with zipfile.ZipFile(outer, "w") as archive:
        archive.writestr("happiness/face.png", data)
    sources = [
        str(file),
        file,
        f"zip://happiness/face.png::{outer}",
        data,
        bytearray(data),
        {"path": str(file), "bytes": None},
        {"path": None, "bytes": data},
        {"path": "gone.png", "bytes": data},
        {"path": f"zip://happiness/face.png::{outer}", "bytes": None},
        Image.open(file),
        Image.fromarray(pixels),
        pixels,
        pixels.transpose(2, 0, 1),
        np.asfortranarray(pixels),
        pixels.astype(np.float32) / 255,
        pixels.astype(np.float64) / 255,
        (pixels / 255).astype(np.float16),
        torch.from_numpy(pixels).permute(2, 0, 1),
        torch.from_numpy(pixels),
        torch.from_numpy(pixels).permute(2, 0, 1).float().div(255).requires_grad_(),
        torch.from_numpy(pixels).permute(2, 0, 1).half().div(255),
    ]
    for source in sources:
        image = read_image(source)
        assert image.mode == "RGB"
        assert image.size == (32, 24)
        np.testing.assert_array_equal(np.asarray(image), pixels, err_msg=describe_source(source))


def test_bfloat16_tensor_is_read(pixels):
    torch = pytest.importorskip("torch")
    tensor = torch.from_numpy(pixels).permute(2, 0, 1).div(255).bfloat16()
    assert np.abs(np.asarray(read_image(tensor)).astype(int) - pixels).max() <= 1  # eight bits of mantissa


@pytest.mark.parametrize("shape", [(24, 32), (24, 32, 1), (1, 24, 32)])
def test_grey_arrays_become_three_equal_channels(pixels, shape):
    grey = pixels[..., 0].reshape(shape)
    result = np.asarray(read_image(grey))
    for channel in range(3):
        np.testing.assert_array_equal(result[..., channel], pixels[..., 0])


def test_an_address_is_fetched(pixels):
    data = encoded(Image.fromarray(pixels))

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            found = self.path == "/face.png"
            self.send_response(200 if found else 404)
            self.end_headers()
            self.wfile.write(data if found else b"nothing here")

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        np.testing.assert_array_equal(np.asarray(read_image(f"{address}/face.png")), pixels)
        with pytest.raises(ImageError, match=r"other\.png cannot be fetched \(HTTP Error 404"):
            read_image(f"{address}/other.png")
        server.shutdown()
    with pytest.raises(ImageError, match="cannot be fetched"):
        read_image(f"{address}/face.png")


@pytest.mark.processes
def test_reading_needs_no_torch():
    code = "import sys, numpy as np; from meco_hub.recordings.images import read_image; "
    code += "read_image(np.zeros((9, 9), np.uint8)); assert 'torch' not in sys.modules; assert 'transformers' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_threads_may_read_one_archive(pixels, tmp_path):
    outer = tmp_path / "many.zip"
    with zipfile.ZipFile(outer, "w") as archive:
        for index in range(40):
            archive.writestr(f"{index}.png", encoded(Image.fromarray(np.full((10, 10, 3), index, np.uint8))))
    with ThreadPoolExecutor(8) as pool:
        images = list(pool.map(lambda i: read_image(f"zip://{i % 40}.png::{outer}"), range(400)))
    assert [image.getpixel((5, 5))[0] for image in images] == [i % 40 for i in range(400)]


def test_a_rewritten_archive_is_read_anew(tmp_path):
    outer = tmp_path / "faces.zip"
    for value, extra in ((10, b""), (200, b"more")):
        with zipfile.ZipFile(outer, "w") as archive:
            archive.writestr("a.png", encoded(Image.new("L", (9, 9), value)))
            archive.writestr("b.txt", extra)
        assert read_image(f"zip://a.png::{outer}").getpixel((0, 0)) == (value,) * 3


def test_callers_picture_is_left_alone(pixels):
    image = Image.fromarray(np.dstack([pixels, np.zeros((24, 32), np.uint8)]))
    image.getexif()[0x0112] = 6
    before = image.copy()
    read_image(image)
    assert image.mode == "RGBA"
    assert image.size == before.size
    np.testing.assert_array_equal(np.asarray(image), np.asarray(before))


# ---------------------------------------------------------------------------------------------------------------
# kinds of pictures


# What a viewer must do to see a stored picture upright, for each EXIF orientation; stored = the inverse of it.
STORED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, -1),
}


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("opened", [True, False])
def test_exif_orientation_is_applied(pixels, orientation, opened):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](pixels)))
    data = encoded(stored, "PNG", exif=exif)
    source = Image.open(io.BytesIO(data)) if opened else data
    np.testing.assert_array_equal(np.asarray(read_image(source)), pixels)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_costs_only_the_orientation(pixels):
    data = encoded(Image.fromarray(pixels), "PNG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12")
    image = read_image(data)
    np.testing.assert_array_equal(np.asarray(image), pixels)


def test_cmyk_keeps_its_colours():
    red = Image.new("RGB", (16, 16), (230, 20, 30))
    for kind in ("JPEG", "TIFF"):
        image = read_image(encoded(red.convert("CMYK"), kind))
        assert np.abs(np.asarray(image).astype(int) - (230, 20, 30)).max() <= 12


def test_sixteen_bit_grey_is_scaled_not_clipped():
    values = np.linspace(0, 65535, 256).round().astype(np.uint16).reshape(16, 16)
    expected = np.arange(256).reshape(16, 16)
    image = read_image(encoded(Image.fromarray(values), "PNG"))
    np.testing.assert_array_equal(np.asarray(image)[..., 0], expected)
    wide = Image.fromarray(values.astype(np.int32))
    assert wide.mode == "I"
    np.testing.assert_array_equal(np.asarray(read_image(wide))[..., 2], expected)
    with pytest.raises(ImageError, match=r"values from 0 to 70000; expected .*whole numbers of 8 to 16 bits"):
        read_image(Image.fromarray(np.linspace(0, 70000, 100).astype(np.int32).reshape(10, 10)))


def test_sixteen_bit_colour_png():
    cv2 = pytest.importorskip("cv2", reason="Pillow writes no 16-bit colour")
    colour = np.full((12, 12, 3), (1000, 30000, 65535), np.uint16)  # BGR for OpenCV
    data = cv2.imencode(".png", colour)[1].tobytes()
    read = read_image(data)
    assert read.getpixel((3, 3)) == (255, 30000 // 256, 1000 // 256)
    assert RANGE not in read.info


def tiff(values: np.ndarray, white: int = 1, order: str = "<") -> bytes:
    """A TIFF of values (H, W) or (H, W, C) without compression; Pillow writes few kinds, and none whose white is 0."""
    height, width, channels = *values.shape[:2], values.size // (values.shape[0] * values.shape[1])
    data = values.astype(values.dtype.newbyteorder(order)).tobytes()  # type: ignore[call-overload]
    tags = {256: width, 257: height, 258: 8 * values.itemsize, 259: 1, 262: 2 if channels > 2 else white, 273: 0}
    tags |= {277: channels, 278: height, 279: len(data)}
    tags |= {338: 2} if channels in (2, 4) else {}  # the last one is alpha
    tags[339] = " uif".index(values.dtype.kind)
    tags[273] = 8 + 2 + 12 * len(tags) + 4
    rows = b"".join(struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in tags.items())
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HIH", 42, 8, len(tags))
    return head + rows + bytes(4) + data


def read_or_refused(source: bytes) -> Image.Image | str:
    """The picture, or what the error says."""
    try:
        return read_image(source)
    except ImageError as error:
        return str(error)


def deep_sources(shares: np.ndarray, top: int) -> dict[str, object]:
    """Whatever can hold values 0…`top`, as shares (H, W) of it, and does not say how many of its bits are used."""
    whole = np.rint(shares * top)
    grey = whole.astype(np.uint16)
    found: dict[str, object] = {
        "PNG": encoded(Image.fromarray(grey), "PNG"),
        "TIFF": encoded(Image.fromarray(grey), "TIFF"),
        "PGM": b"P5 %d %d 65535\n" % shares.shape[::-1] + grey.astype(">u2").tobytes(),
        "white is 0": tiff((top - whole).astype(np.uint16), white=0),
        "mode I": Image.fromarray(whole.astype(np.int32)),
        "float TIFF": encoded(Image.fromarray(whole.astype(np.float32)), "TIFF"),
        **{str(kind): whole.astype(kind) for kind in (np.uint16, np.int32, np.int64, np.float32, np.float64)},
    }
    if top < 2**15:
        found |= {"signed TIFF": tiff(whole.astype(np.int16)), "int16": whole.astype(np.int16)}
    if top < 2**11:  # which half precision holds
        found["float16"] = whole.astype(np.float16)
    return found


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize(("darkest", "brightest"), [(0, 1), (0.1, 0.6), (0.25, 0.3)])
def test_the_range_of_values_is_told_from_the_largest(
    bits: int, darkest: float, brightest: float, caplog: pytest.LogCaptureFixture
) -> None:
    """One rule for files and arrays: what a camera of fewer bits wrote into 16 is as bright as in 8 bits, and in doubt.

    Of floats that fill 16 bits nothing is in doubt but the type; a float says 0…1.
    """
    shares = np.random.default_rng(bits).permutation(np.linspace(darkest, brightest, 30 * 20)).reshape(30, 20)
    expected = np.rint(shares * 255)
    for kind, source in deep_sources(shares, 2**bits - 1).items():
        read = read_image(source)  # type: ignore[arg-type]
        values = np.asarray(read).astype(int)
        assert np.abs(values - expected[..., None]).max() <= 1, kind
        assert (RANGE in read.info) == (bits < 16 or "float" in kind), kind
        assert ("was taken for its range" in caplog.text) == (RANGE in read.info), kind  # where no answer could say it
        caplog.clear()
        assert RANGE not in read_image(values.astype(np.uint8)).info


def test_signed_numbers_of_sixteen_bits_have_fifteen() -> None:
    shares = np.linspace(0, 1, 30 * 20).reshape(30, 20)
    values = np.rint(shares * 32767).astype(np.int16)
    for source in (values, tiff(values), tiff(values, order=">")):
        read = read_image(source)
        assert np.abs(np.asarray(read)[..., 0] - 255 * shares).max() <= 1
        assert RANGE not in read.info


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", ["u1", "u2", "u4", "i1", "i2", "i4", "f2", "f4", "f8"])
def test_a_tiff_of_any_numbers_is_read_right_or_refused_by_name(kind: str, channels: int, order: str) -> None:
    """Pillow reads some kinds, takes others for what they are not, and has no word for the rest."""
    shares = np.linspace(0, 1, 30 * 20).reshape(30, 20)
    top = 1 if kind[0] == "f" else min(np.iinfo(kind).max, 65535)
    values = np.repeat((shares * top)[..., None], channels, -1).astype(kind)
    if channels in (2, 4):
        values[..., -1] = top
    refused = (
        f"is a TIFF of {channels} × {8 * int(kind[1])} bits a pixel, .*Pillow does not read; expected 8 or 16 bits"
    )
    read = read_or_refused(tiff(values, order=order))
    if isinstance(read, str):
        assert re.search(refused, read)
        assert (kind, channels) not in (("u1", 1), ("u2", 1), ("i2", 1), ("f4", 1), ("u1", 3), ("u2", 3))
    else:
        assert np.abs(np.asarray(read) - 255 * shares[..., None]).max() <= 3
        assert RANGE not in read.info
    if kind[0] in "if":  # numbers below 0 are no picture, whoever reads them
        with pytest.raises(ImageError, match=f"{refused}|holds values from -.*expected uint8"):
            read_image(tiff((values - values.dtype.type(max(1, top // 2))).astype(kind), order=order))


@pytest.mark.parametrize("widen", [256, 257])
def test_a_dark_picture_of_eight_bits_that_was_widened_stays_dark(widen: int) -> None:
    dark = np.random.default_rng(0).integers(0, 40, (20, 30))
    for source in ((dark * widen).astype(np.uint16), encoded(Image.fromarray((dark * widen).astype(np.uint16)), "PNG")):
        read = read_image(source)
        assert np.abs(np.asarray(read)[..., 0].astype(int) - dark).max() <= 1
        assert RANGE not in read.info


@pytest.mark.parametrize("bits", [10, 12, 14])
@pytest.mark.parametrize("ending", [".png", ".tiff"])
@pytest.mark.parametrize("alpha", [False, True])
def test_colour_of_fewer_bits_than_sixteen_is_no_black_picture(bits: int, ending: str, alpha: bool) -> None:
    cv2 = pytest.importorskip("cv2", reason="Pillow writes no 16-bit colour")
    shares = np.linspace(0, 1, 30 * 20 * 3).reshape(30, 20, 3)
    values = np.rint(shares * (2**bits - 1)).astype(np.uint16)
    opaque = [np.full((30, 20, 1), 65535, np.uint16)] if alpha else []
    read = read_image(cv2.imencode(ending, np.concatenate([values, *opaque], axis=-1))[1].tobytes())
    off = np.abs(np.asarray(read)[..., ::-1].astype(int) - 255 * shares).max()
    assert off <= 255 / (2 ** (bits - 8) - 1)  # one step of what Pillow shows
    assert "upper 8 of 16 bits" in read.info[RANGE]


def test_frames_of_one_film_are_not_scaled_one_by_one(tmp_path: Path) -> None:
    """Each by its own largest value, they would flicker; as they were, they are all but black."""
    frames = np.linspace(0, 4095, 3 * 20 * 30).reshape(3, 20, 30).astype(np.uint16)
    paths = [tmp_path / f"frame_{place}.png" for place in range(3)]
    for path, frame in zip(paths, frames, strict=True):
        Image.fromarray(frame).save(path)
    for source in (frames, paths):
        with pytest.raises(
            ImageError, match=r"a frame of several: The largest value is 1363, .*0…4095.*Scale all frames alike"
        ):
            as_pictures(source, "frames").read([0])


def test_floating_point_grey():
    values = np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16)
    np.testing.assert_array_equal(np.asarray(read_image(Image.fromarray(values)))[..., 0].ravel(), np.arange(256))
    read = read_image(Image.fromarray(values * 255))
    np.testing.assert_array_equal(np.asarray(read)[..., 0].ravel(), np.arange(256))
    assert "0…255 was taken for its range" in read.info[RANGE]


def test_transparent_pixels_lie_on_white():
    layered = np.zeros((10, 12, 4), np.uint8)
    layered[:, :4] = (200, 10, 10, 255)
    layered[:, 4:8] = (200, 10, 10, 0)
    layered[:, 8:] = (0, 0, 0, 128)
    for source in (layered, layered.transpose(2, 0, 1), encoded(Image.fromarray(layered)), Image.fromarray(layered)):
        image = read_image(source)
        assert image.mode == "RGB"
        assert image.getpixel((1, 1)) == (200, 10, 10)
        assert image.getpixel((5, 1)) == (255, 255, 255)
        assert image.getpixel((9, 1)) == (127, 127, 127)


def test_transparent_colour_of_a_palette_lies_on_white():
    image = Image.new("P", (10, 10), 0)
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.paste(1, (5, 0, 10, 10))
    assert read_image(encoded(image)).getpixel((1, 1)) == (10, 20, 30)
    read = read_image(encoded(image, transparency=0))
    assert read.getpixel((1, 1)) == (255, 255, 255)
    assert read.getpixel((8, 1)) == (200, 100, 50)


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "La", "P", "LAB", "CMYK", "YCbCr", "HSV", "RGBX", "PA", "RGBa", "I;16", "I", "F"]
)
def test_every_mode_becomes_rgb(mode):
    image = Image.new(mode, (10, 10))
    assert read_image(image).mode == "RGB"


@pytest.mark.parametrize(("kind", "options"), [("GIF", {}), ("WEBP", {"lossless": True}), ("PNG", {}), ("TIFF", {})])
def test_first_frame_of_an_animation(kind, options, tmp_path, caplog):
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "lime", "blue")]
    file = tmp_path / f"moving.{kind.lower()}"
    frames[0].save(file, kind, save_all=True, append_images=frames[1:], **options)
    with caplog.at_level(logging.WARNING, "meco_hub"):
        assert read_image(file).getpixel((4, 4)) == (255, 0, 0)
    assert "holds several frames" in caplog.text
    assert str(file) in caplog.text


def test_photograph_with_previews_is_no_animation(tmp_path, caplog):
    file = tmp_path / "phone.jpg"
    Image.new("RGB", (32, 32), "red").save(file, "MPO", save_all=True, append_images=[Image.new("RGB", (16, 16))])
    assert read_image(file).size == (32, 32)
    assert not caplog.records


# ---------------------------------------------------------------------------------------------------------------
# bad files


def test_not_an_image(tmp_path):
    file = tmp_path / "face.jpg"
    file.write_text("<html>404</html>")
    with pytest.raises(ImageError, match=r"face\.jpg is not an image.*16 bytes.*<html>404</h.*Expected one of .*JPEG"):
        read_image(file)


def test_postscript_is_never_run(tmp_path):
    file = tmp_path / "face.jpg"
    file.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n%%EndComments\nshowpage\n")
    with pytest.raises(ImageError, match="is not an image"):
        read_image(file)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF"])
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9])
def test_truncated(kind, kept, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), kind)
    file = tmp_path / "cut.img"
    file.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(ImageError, match=r"cut\.img"):
        read_image(file)


@pytest.mark.filterwarnings("ignore")
def test_any_damage_is_our_error(tmp_path):
    """Bytes flipped at random: a picture or an ImageError, never anything else."""
    rng = np.random.default_rng(1)
    noise = Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8))
    refused = 0
    for kind in ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "JPEG2000", "PPM", "TGA", "ICO"):
        data = np.frombuffer(encoded(noise, kind), np.uint8)
        for _ in range(40):
            hurt = data.copy()
            where = rng.integers(0, len(hurt), 6)
            hurt[where] = rng.integers(0, 256, 6)
            hurt[rng.integers(0, min(64, len(hurt)))] = rng.integers(0, 256)
            try:
                assert read_image(hurt.tobytes()).mode == "RGB"
            except ImageError:
                refused += 1
    assert refused > 50


def test_zero_bytes(tmp_path):
    file = tmp_path / "empty.jpg"
    file.touch()
    with pytest.raises(ImageError, match=r"empty\.jpg is empty \(0 bytes\)"):
        read_image(file)


@pytest.mark.parametrize("size", [(1, 1), (7, 100), (100, 7)])
def test_too_small_for_a_face(size, tmp_path):
    file = tmp_path / "dot.png"
    Image.new("RGB", size).save(file)
    with pytest.raises(ImageError, match=rf"dot\.png is {size[0]}×{size[1]} pixels; expected at least 8"):
        read_image(file)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("size", [(20_000, 15_000), (10_000, 10_000)])
def test_bomb_is_refused_by_its_header(size, tmp_path, monkeypatch):
    file = tmp_path / "bomb.png"
    file.write_bytes(png_header(*size))
    decoded = []
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: decoded.append(self))
    with pytest.raises(ImageError, match=r"bomb\.png (is too large|has 10000×10000 = 100 million pixels; at most 89)"):
        read_image(file)
    assert not decoded


def test_pictures_of_too_many_pixels_are_refused(pixels, monkeypatch):
    assert MAX_PIXELS == Image.MAX_IMAGE_PIXELS
    data = encoded(Image.fromarray(pixels))
    for source in (data, pixels, Image.fromarray(pixels)):
        monkeypatch.setattr("meco_hub.recordings.images.MAX_PIXELS", 32 * 24 - 1)
        with pytest.raises(ImageError, match="Make it smaller"):
            read_image(source)
        monkeypatch.setattr("meco_hub.recordings.images.MAX_PIXELS", 32 * 24)
        assert read_image(source).size == (32, 24)


def test_arrays_are_judged_by_their_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    """One number can stand for an array of any size, which takes memory once it is copied."""
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(image_bytes, "MAX_PIXELS", 99)
    monkeypatch.delattr(image_bytes, "_from_array")
    monkeypatch.delattr(image_bytes, "_tensor_values")
    for shape in ((10, 10), (10, 10, 3), (3, 10, 10)):
        for wide in (np.broadcast_to(np.float32(0.5), shape), torch.tensor(0.5, dtype=torch.float16).expand(shape)):
            with pytest.raises(ImageError, match=r"10×10 = 0 million pixels; at most"):
                read_image(wide)


def test_what_was_closed_is_named_by_what_it_is() -> None:
    view: Any = memoryview(b"picture")
    view.release()
    with pytest.raises(ImageError, match="A memoryview cannot be read"):
        read_image(view)


def test_missing_file_offers_the_nearest(tmp_path):
    (tmp_path / "portrait.jpg").touch()
    (tmp_path / "unrelated.txt").touch()
    with pytest.raises(ImageError, match=r"no file .*portrat\.jpg\. Did you mean 'portrait\.jpg' in "):
        read_image(tmp_path / "portrat.jpg")
    with pytest.raises(ImageError, match=r"Nothing in .* has a name like it \(2 entries\)"):
        read_image(tmp_path / "xyz")
    with pytest.raises(ImageError, match=r"Its folder .* does not exist either"):
        read_image(tmp_path / "no" / "portrait.jpg")


def test_folder(tmp_path):
    with pytest.raises(ImageError, match="is a folder; expected one image file"):
        read_image(tmp_path)


@pytest.mark.parametrize("path", ["", " ", "a\0b", "x" * 5000, "data:image/png;base64," + "A" * 5000])
def test_paths_that_are_none(path):
    with pytest.raises(ImageError) as caught:
        read_image(path)
    assert len(str(caught.value)) < 400


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no such device on this system")
def test_device_is_not_read():
    with pytest.raises(ImageError, match="device or pipe"):
        read_image("/dev/zero")


def test_oversized_file_is_not_read(tmp_path, monkeypatch):
    file = tmp_path / "huge.png"
    file.write_bytes(bytes(3 << 20))
    monkeypatch.setattr(image_bytes, "MAX_BYTES", 1 << 20)
    with pytest.raises(ImageError, match=r"huge\.png has 3 MiB; at most 1 MiB"):
        read_image(file)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(file, "huge.png")
    with pytest.raises(ImageError, match="at most 1 MiB"):
        read_image(f"zip://huge.png::{tmp_path / 'bomb.zip'}")


def test_bad_zip_paths(tmp_path):
    outer = tmp_path / "faces.zip"
    with zipfile.ZipFile(outer, "w") as archive:
        archive.writestr("happiness/a_1.jpg", b"")
    with pytest.raises(ImageError, match=r"no happiness/a_2\.jpg in .*faces\.zip\. Did you mean 'happiness/a_1\.jpg'"):
        read_image(f"zip://happiness/a_2.jpg::{outer}")
    with pytest.raises(ImageError, match="is empty"):
        read_image(f"zip://happiness/a_1.jpg::{outer}")
    with pytest.raises(ImageError, match=r"no zip file .*face\.zip for a\.jpg\. Did you mean 'faces\.zip'"):
        read_image(f"zip://a.jpg::{tmp_path / 'face.zip'}")
    with pytest.raises(ImageError, match="no path into a zip file"):
        read_image("zip://a.jpg")
    (tmp_path / "not.zip").write_bytes(b"nothing")
    with pytest.raises(ImageError, match=r"cannot be read from .*not\.zip"):
        read_image(f"zip://a.jpg::{tmp_path / 'not.zip'}")


# ---------------------------------------------------------------------------------------------------------------
# bad arrays and objects


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (
            np.zeros((9, 9, 3), np.int64) + 65536,
            r"array of shape \(9, 9, 3\), dtype int64 holds values from 65536 to 65536",
        ),
        (np.zeros((9, 9, 3), np.int16) - 1, r"dtype int16 holds values from -1 to -1; expected uint8"),
        (np.full((9, 9), "x"), "holds no numbers"),
        (np.full((9, 9), None), "holds no numbers"),
        (np.zeros((9, 9), np.complex64), "holds no numbers"),
        (np.full((9, 9, 3), 15.0), r"dtype float64 holds values from 15 to 15; expected .*floating point in \[0, 1\]"),
        (np.full((9, 9, 3), 1e6), r"dtype float64 holds values from 1e\+06 to 1e\+06; expected"),
        (np.full((9, 9, 3), -0.5, np.float32), r"holds values from -0\.5 to -0\.5"),
        (np.full((9, 9, 3), np.nan), "holds NaN or infinity"),
        (np.full((9, 9, 3), np.inf), "holds NaN or infinity"),
        (np.zeros((2, 9, 9, 3), np.uint8), "has 4 dimensions, a batch"),
        (np.zeros(9, np.uint8), r"array of shape \(9,\), dtype uint8 is no picture"),
        (np.zeros((9, 9, 2), np.uint8), "expected 1, 3 or 4 channels"),
        (np.zeros((0, 9, 3), np.uint8), "not empty"),
        (np.zeros((0,), np.uint8), "is no picture"),
        (np.zeros((1, 1, 3), np.uint8), r"is 1×1 pixels"),
    ],
)
def test_bad_arrays(array, message):
    with pytest.raises(ImageError, match=message):
        read_image(array)


def test_bad_tensors_are_named_so():
    torch = pytest.importorskip("torch")
    with pytest.raises(ImageError, match=r"tensor of shape \(3, 9, 9\), dtype int64 holds values from -1 to -1"):
        read_image(torch.full((3, 9, 9), -1, dtype=torch.int64))
    with pytest.raises(ImageError, match=r"tensor of shape \(3, 9, 9\), dtype float16 holds NaN"):
        read_image(torch.full((3, 9, 9), torch.nan, dtype=torch.float16))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ([], "list of 0 items is no picture"),
        (["a.jpg", "b.jpg"], "list of 2 items is no picture.*one at a time"),
        (None, "object of type NoneType is no picture"),
        (3, "object of type int is no picture"),
        ({}, "mapping with keys .* has no picture"),
        ({"path": None, "bytes": None}, "has no picture"),
        ({"path": 3}, "is no picture"),
        (b"", "image data of 0 bytes is empty"),
    ],
)
def test_bad_objects(source, message):
    with pytest.raises(ImageError, match=message):
        read_image(source)


def test_closed_picture(tmp_path):
    file = tmp_path / "face.png"
    Image.new("RGB", (9, 9)).save(file)
    image = Image.open(file)
    image.close()
    with pytest.raises(ImageError, match=r"face\.png cannot be decoded"):
        read_image(image)


def test_errors_survive_a_worker():
    with pytest.raises(ImageError) as caught:
        read_image("gone.jpg")
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_pillows_global_switch_is_left_alone():
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("off", [1e-7, 2e-7, 5e-4])
def test_floats_that_overshoot_by_rounding_are_clipped(dtype, off) -> None:
    values = np.full((16, 16, 3), 0.5, dtype)
    values[0, 0], values[1, 1] = 1 + off, -off
    pixels = np.asarray(read_image(values))
    assert (pixels[0, 0] == 255).all()
    assert (pixels[1, 1] == 0).all()
    values[0, 0] = 1.1
    with pytest.raises(ImageError, match=r"expected .*floating point in \[0, 1\]"):
        read_image(values)


def test_heic_is_read_where_pillow_heif_is_installed(tmp_path) -> None:
    """Registered with Pillow or not; otherwise the error names the package."""
    try:
        import pillow_heif
    except ImportError:
        with pytest.raises(ImageError, match=r"is a HEIC picture.*pip install pillow-heif"):
            read_image(b"\x00\x00\x00\x1cftypheic" + b"\x00" * 40)
        return
    picture = Image.new("RGB", (64, 48), (200, 100, 50))
    pillow_heif.from_pillow(picture).save(tmp_path / "a.heic", quality=90)
    read = read_image(tmp_path / "a.heic")
    assert read.size == (64, 48)
    assert np.abs(np.asarray(read).astype(int) - [200, 100, 50]).max() < 12
    with pytest.raises(ImageError, match=r"HEIC|damaged"):
        read_image((tmp_path / "a.heic").read_bytes()[:60])


def test_a_heic_file_is_judged_by_its_header_and_tells_how_many_it_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in, as pillow-heif is no part of ours; `test_heic_is_read_where_pillow_heif_is_installed` has the real one."""

    class File(list[str]):
        size: tuple[int, int] = (100_000, 100_000)

        def to_pillow(self) -> Image.Image:
            if self.size[0] > 100:
                pytest.fail("a file of 30 GB of pixels was decoded")
            return Image.new("RGB", self.size)

    holds = File(["one"])
    stand_in = types.SimpleNamespace(open_heif=lambda source, convert_hdr_to_8bit: holds)
    monkeypatch.setitem(sys.modules, "pillow_heif", stand_in)
    data = b"\x00\x00\x00\x1cftypheic" + b"\x00" * 40
    with pytest.raises(ImageError, match="100000×100000 = 10000 million pixels; at most 89 million are read"):
        read_image(data)
    holds.size = (64, 48)
    assert SEVERAL not in read_image(data).info
    holds += ["two", "three"]
    assert read_image(read_image(data)).info[SEVERAL] == 3


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_strips_of_a_transparent_picture_are_those_of_the_whole(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A picture that may be read filled more than a GiB, when all of it was laid on white at once."""
    values = np.random.default_rng(0).integers(0, 255, (37, 23, 4), np.uint8)
    picture = (
        Image.fromarray(values).convert("RGB").convert("P") if mode == "P" else Image.fromarray(values).convert(mode)
    )
    if mode == "P":
        picture.info["transparency"] = bytes(range(256))
    whole = np.asarray(read_image(picture))
    for pixels in (1, 100, 23 * 36):
        monkeypatch.setattr(image_bytes, "_AT_ONCE", pixels)
        assert np.array_equal(np.asarray(read_image(picture)), whole)
    assert not np.array_equal(whole, values[..., :3])
