"""Films that tests write: plain, noisy, or of a portrait that moves; through PyAV, by encoders that are free."""

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Picture = NDArray[np.uint8]


def write_film(
    path: Path,
    frames: Iterable[Picture],
    *,
    rate: int = 25,
    times: Sequence[float] | None = None,
    codec: str = "mpeg4",
    rotation: int = 0,
    aspect: int = 1,
    fast_start: bool = False,
) -> Path:
    """Write frames (H, W, 3) uint8; `times` in seconds, of a whole millisecond each, instead of a rate; pixels are `aspect`
    times as wide as high."""
    import av

    options = {"movflags": "faststart"} if fast_start else {}
    with av.open(str(path), "w", container_options=options) as container:
        stream: Any = container.add_stream(codec, rate=rate, bit_rate=4_000_000)
        stream.pix_fmt = "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(aspect)
        if rotation:
            stream.set_display_rotation(rotation)
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for place, picture in enumerate(frames):
            if not place:
                stream.height, stream.width = picture.shape[:2]
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = round(times[place] * 1000), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_sound(path: Path) -> Path:
    """A third of a second of silence, and no picture."""
    import av

    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("aac", rate=16000)
        for place in range(5):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.rate, frame.pts = 16000, place * 1024
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def plain(count: int, height: int = 48, width: int = 64) -> list[Picture]:
    """Grey frames, each a little lighter than the one before."""
    return [np.full((height, width, 3), 2 * place, np.uint8) for place in range(count)]


def noise(count: int, height: int = 48, width: int = 64, same: int = 1) -> list[Picture]:
    """Frames of noise, each of them `same` times."""
    drawn = [np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8) for seed in range(count)]
    return [one for one in drawn for _ in range(same)]


def place_portrait(
    portrait: Image.Image, x: float, y: float, side: float, *, size: tuple[int, int] = (480, 360), onto: Any = None
) -> Picture:
    """A portrait, its middle at (x, y) and `side` pixels large, on grey or on `onto`."""
    canvas = Image.fromarray(onto) if onto is not None else Image.new("RGB", size, (96, 96, 96))
    small = portrait.resize((round(side), round(side)), Image.Resampling.BILINEAR)
    canvas.paste(small, (round(x - side / 2), round(y - side / 2)))
    return np.asarray(canvas).copy()
