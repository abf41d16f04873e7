"""Small files that stand for very much, and a process that measures what reading each fills.

    python bombs.py FOLDER FACES SIGNALS      # makes them there; a line of JSON each: its name, what it filled, what was said

Each is read in a child of its own, forked when all that reading needs is loaded: its peak above the beginning is the file's.
"""

import io
import json
import os
import resource
import struct
import sys
import zlib
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from films import write_film
from meco_hub.errors import MecoError
from meco_hub.reading import PLENTY

HUGE = 65_500
"""Pixels; a side beyond every limit."""
LARGE = 9_400
"""Pixels; squared just below what is still decoded."""
FULL = PLENTY - 2**20
"""Bytes in packed files that are just still unpacked; others hold twice as many."""


def _saved(form: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (64, 64), "orange").save(stream, form, **options)
    return stream.getvalue()


def _patched(data: bytes, mark: bytes, skip: int, value: bytes) -> bytes:
    """The data with other bytes so far behind each mark."""
    assert mark in data
    place = -1
    changed = bytearray(data)
    while (place := data.find(mark, place + 1)) >= 0:
        changed[place + skip : place + skip + len(value)] = value
    return bytes(changed)


def _zeros(size: int, wbits: int) -> bytes:
    """So many zeros, packed; of each MiB the packing is the same, and done once."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    piece = packer.compress(bytes(2**20)) + packer.flush(zlib.Z_FULL_FLUSH)
    body = piece * (size >> 20) + zlib.compressobj(9, zlib.DEFLATED, -15).flush()
    return body if wbits < 0 else b"\x78\x9c" + body + struct.pack(">I", (size % 65521) << 16 | 1)


def _png(side: int, *more: tuple[bytes, bytes]) -> bytes:
    """A square of one bit a pixel, all black."""
    row = bytes(1 + -(-side // 8))
    packer = zlib.compressobj(9)
    rows = b"".join([*(packer.compress(row) for _ in range(side)), packer.flush()])
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)), *more, (b"IDAT", rows), (b"IEND", b"")]
    whole = (
        struct.pack(">I", len(one)) + kind + one + struct.pack(">I", zlib.crc32(kind + one)) for kind, one in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(whole)


def _tiff(side: int) -> bytes:
    """Black, 8 bits grey, in one strip that zlib packed."""
    strip = _zeros(-(-side * side >> 20) << 20, 15)
    entries = [
        (256, 4, side),
        (257, 4, side),
        (258, 3, 8),
        (259, 3, 8),
        (262, 3, 1),
        (273, 4, 8),
        (277, 3, 1),
        (278, 4, side),
    ]
    entries.append((279, 4, len(strip)))
    table = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    return b"II*\0" + struct.pack("<I", 8 + len(strip)) + strip + struct.pack("<H", len(entries)) + table + bytes(4)


def _large_gif() -> bytes:
    stream = io.BytesIO()
    Image.new("P", (LARGE, LARGE)).save(stream, "GIF")
    return stream.getvalue()


def _npz(size: int) -> bytes:
    stream, zeros = io.BytesIO(), np.zeros(size // 16)
    np.savez_compressed(stream, eda_values=zeros, ecg_values=zeros, eda_rate=128.0, ecg_rate=128.0)
    return stream.getvalue()


def _table(lines: int) -> bytes:
    """A packed text of so many short lines."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    piece = b"0,0\n" * 2**16
    parts = [packer.compress(b"time,eda\n"), *(packer.compress(piece) for _ in range(lines >> 16)), packer.flush()]
    return b"".join(parts)


def _edf(records: int, samples: int, channels: int) -> bytes:
    def row(values: list[Any], width: int) -> bytes:
        return b"".join(str(one).encode().ljust(width)[:width] for one in values)

    head = row(["0"], 8) + row(["X X X X", "Startdate 01-JAN-2020 X X X"], 80) + row(["01.01.20", "00.00.00"], 8)
    head += row([256 * (channels + 1)], 8) + row(["EDF+C"], 44) + row([records], 8) + row([1], 8) + row([channels], 4)
    for values, width in ((["EDA"], 16), ([""], 80), (["uS"], 8), ([-1], 8), ([1], 8), ([-32768], 8), ([32767], 8), ([""], 80),
                          ([samples], 8), ([""], 32)):  # fmt: skip
        head += row(values * channels, width)
    return head + bytes(4096)


def _films(folder: Path) -> dict[str, Callable[[], bytes]]:
    small = [np.full((320, 320, 3), 40 * at, np.uint8) for at in range(4)]

    def film(name: str, *frames: Any) -> bytes:
        write_film(folder / name, [*frames] * 4 or small)
        return (folder / name).read_bytes()

    def pictures(name: str) -> bytes:
        """A film whose frames are JPEG files."""
        import av

        with av.open(str(folder / name), "w") as container:
            stream: Any = container.add_stream("mjpeg", rate=25, options={"strict": "unofficial"})
            stream.width, stream.height, stream.pix_fmt = 320, 320, "yuvj420p"
            for picture in small:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode(None))
        return (folder / name).read_bytes()

    side = struct.pack(">HH", HUGE, HUGE)
    jpeg = b"\xff\xc0\x00\x11\x08"
    return {
        "header.mp4": lambda: _patched(film("a.mp4"), b"mp4v\0\0\0\0\0\0\0\1", 28, side),
        "header.mkv": lambda: _patched(
            film("b.mkv"), b"\xb0\x82\1\x40\xba\x82\1\x40", 0, b"\xb0\x82\xff\xdc\xba\x82\xff\xdc"
        ),
        "frames.mkv": lambda: _patched(pictures("c.mkv"), jpeg, 5, side),
        "frames.avi": lambda: _patched(pictures("d.avi"), jpeg, 5, side),
        "large_frames.mp4": lambda: film("e.mp4", np.zeros((4320, 8176, 3), np.uint8)),
    }


def bombs(folder: Path) -> dict[str, Callable[[], bytes]]:
    """Name → how its bytes are made; those called "large" are within what is still decoded."""
    wide = struct.pack("<HH", HUGE, HUGE)
    gif = b"GIF89a" + wide + b"\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0"
    screen = b"GIF89a" + struct.pack("<HH", 64, 64) + b"\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0"
    lzw = b"\0\2\2\x44\1\0;"
    found: dict[str, Callable[[], bytes]] = {
        "huge.png": lambda: _png(30_000),
        "text.png": lambda: _png(64, (b"zTXt", b"a\0\0" + _zeros(2**30, 15)), (b"iCCP", b"a\0\0" + _zeros(2**30, 15))),
        "large.png": lambda: _png(LARGE),
        "huge.tiff": lambda: _tiff(30_000),
        "large.tiff": lambda: _tiff(LARGE),
        "screen.gif": lambda: gif + wide + lzw,
        "frame.gif": lambda: screen + wide + lzw,
        "large.gif": _large_gif,
        "huge.jpg": lambda: _patched(_saved("JPEG"), b"\xff\xc0\x00\x11\x08", 5, struct.pack(">HH", HUGE, HUGE)),
        "large.jpg": lambda: _patched(_saved("JPEG"), b"\xff\xc0\x00\x11\x08", 5, struct.pack(">HH", LARGE, LARGE)),
        "huge.webp": lambda: _patched(_saved("WEBP"), b"\x9d\x01\x2a", 3, struct.pack("<HH", 16383, 16383)),
        "lossless.webp": lambda: _patched(_saved("WEBP", lossless=True), b"VP8L", 9, b"\xff\xff\xff\x0f"),
        "large.webp": lambda: _patched(_saved("WEBP"), b"\x9d\x01\x2a", 3, struct.pack("<HH", LARGE, LARGE)),
        "huge.avif": lambda: _patched(_saved("AVIF"), b"ispe", 8, struct.pack(">II", HUGE, HUGE)),
        "huge.jp2": lambda: _patched(_saved("JPEG2000"), b"\xff\x51", 6, struct.pack(">II", HUGE, HUGE)),
        "huge.bmp": lambda: _patched(_saved("BMP")[:54] + bytes(99), b"BM", 18, struct.pack("<ii", HUGE, HUGE)),
        "huge.tga": lambda: bytes([0, 0, 2, *bytes(9)]) + wide + bytes([24, 0]) + bytes(999),
        "huge.ppm": lambda: b"P6 65500 65500 255\n" + bytes(99),
        **_films(folder),
        "huge.edf": lambda: _edf(10**7, 10**7, 1),
        "channels.edf": lambda: _edf(-1, 99_999_999, 9999),
        "huge.npz": lambda: _npz(2 * PLENTY),
        "large.npz": lambda: _npz(FULL),
        "huge.csv.gz": lambda: _table(PLENTY // 2),
        "large.csv.gz": lambda: _table(FULL // 4),
    }
    return found


DOORS = ("pipeline", "meco predict")


def form_of(name: str) -> str:
    """The small file that goes through the same readers."""
    if name.endswith((".edf", ".npz", ".gz", ".csv")):
        return "first.csv"
    return "first.mp4" if name.endswith((".mp4", ".mkv", ".avi")) else "first.png"


def measured(read: Callable[[], Any]) -> tuple[int, str]:
    """KiB that a call fills above what this process does, children of its own included; and what came of it."""
    out, into = os.pipe()
    if not (child := os.fork()):
        os.dup2(2, 1)  # answers of the command are none of this program's
        began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            said = f"answer: {read()!s:.60}"
        except BaseException as error:  # noqa: BLE001 — which one, is what is asked
            said = f"{type(error).__name__}: {error!s:.200}"
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - began
        others = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        os.write(into, json.dumps([max(grown, others), said]).encode())
        os._exit(0)
    os.close(into)
    with os.fdopen(out) as stream:
        told = stream.read()
    _, status = os.waitpid(child, 0)
    return tuple(json.loads(told)) if told else (-1, f"ended with status {status}")


def main() -> None:
    folder = Path(sys.argv[1])
    from meco_hub import cli, recogniser

    models = {"first.png": recogniser(sys.argv[2]), "first.csv": recogniser(sys.argv[3])}
    models["first.mp4"] = models["first.png"]
    small = [np.zeros((64, 64, 3), np.uint8)] * 4
    write_film(folder / "first.mp4", small)
    Image.fromarray(small[0]).save(folder / "first.png")
    (folder / "first.csv").write_text("time,eda\n" + "".join(f"{at / 4},{at % 7}\n" for at in range(600)))
    for name, model in models.items():
        with suppress(MecoError):  # there is no face in them
            model(str(folder / name))
    made: dict[str, Callable[[], bytes]] = {name: (folder / name).read_bytes for name in models} | bombs(folder)
    words: dict[str, list[str]] = {}

    def told(name: str, door: str, size: int, call: Callable[[], Any]) -> None:
        filled, said = measured(call)
        print(json.dumps({"name": name, "door": door, "size": size, "kib": filled, "said": said}), flush=True)

    for name, make in made.items():
        path, model = folder / name, models[form_of(name)]
        told(name, DOORS[0], path.write_bytes(make()), partial(model, str(path)))
        if name in models:
            words[name] = ["predict", "--model", str(model.model.name_or_path)]
            told(name, DOORS[1], path.stat().st_size, partial(cli.main, [*words[name], str(path)]))
        if name.startswith("large"):
            path.unlink()
    for form, command in words.items():
        rest = sorted(str(path) for path in folder.iterdir() if path.name in made and form_of(path.name) == form)
        told(f"all that {form} stands for", DOORS[1], 0, partial(cli.main, [*command, *rest]))


if __name__ == "__main__":
    main()
