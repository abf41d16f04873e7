"""Frames a second of a film of 640×480 pixels with one face, beside the network's own rate.

    python benchmarks/video.py --frames 60

The film is the astronaut's face (Eileen Collins, NASA, public domain; inside scikit-image), which sways. The stages are those of
`recognise(film)`: decoding alone; with the face found and followed; with the network's answer. The network's rate is of ready
crops, in batches of 1 and of 8. Rates are by the clock, and by the processor's seconds of this process, which other programs
disturb less.

    python benchmarks/video.py --peer

A row more: `fer` (Justin Shenk, MIT), whose wheel holds its weights, as it comes, a Haar cascade before a small network, on the
same frames. `benchmarks/README.md` says how it is installed. deepface and py-feat fetch theirs from elsewhere.

    python benchmarks/video.py --again lfw_expressions.zip

Instead: how close the faces that `find_again` sees around those of the frame before come to what a search all over the frame
finds. Crops of LFW's folds 0 to 2, of 0.12 to 0.8 of the height, move over photographs of 640×480 and 1920×1080 pixels with noise.

    python benchmarks/video.py --long 60 --every 2 --wristband 24

Instead: peak memory of `meco predict --output`, in each tenth of the time that it takes, for such a film of so many minutes at five
frames a second, of which one every so many seconds is looked at (by default each); and for a drawn recording of a wristband (acc,
bvp, eda, temp; noise) of so many hours, in an npz file.
"""

import argparse
import contextlib
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import av
import numpy as np
import psutil
import torch
from face_warnings import crops, photographs
from PIL import Image

import meco_hub
from meco_hub.processing.face_finder import Face
from meco_hub.processing.face_tracks import FaceFollower
from meco_hub.processing.picture_processor import Picture, PictureProcessor
from meco_hub.recordings.video import Video


def write(path: Path, frames: int, rate: int = 25) -> None:
    """The film, at so many frames a second."""
    spec = find_spec("skimage")
    if spec is None or spec.origin is None:
        raise SystemExit('scikit-image carries the portrait and is missing. Run: pip install "meco-hub[demo]"')
    face = Image.open(Path(spec.origin).parent / "data" / "astronaut.png").convert("RGB").crop((140, 20, 310, 190))
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("mpeg4", rate=rate, width=640, height=480, pix_fmt="yuv420p")
        for step in range(frames):
            shown = Image.new("RGB", (640, 480), (96, 96, 96))
            shown.paste(face.resize((240, 240)), (200 + round(100 * math.sin(step / 10)), 120))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.asarray(shown), format="rgb24")))
        container.mux(stream.encode(None))


def rates(count: int, run: Callable[[], Any]) -> tuple[float, float]:
    """How many a second, by the clock and by the processor, of a run of so many."""
    run()
    clock, processor = time.perf_counter(), time.process_time()
    run()
    return count / (time.perf_counter() - clock), count / (time.process_time() - processor)


def write_wristband(path: Path, hours: float) -> None:
    """Four sensors at the rates of an Empatica E4."""
    draw, seconds = np.random.default_rng(0), round(3600 * hours)
    arrays: dict[str, Any] = {}
    for name, rate, shape, level in (("acc", 32, (3,), 0), ("bvp", 64, (), 0), ("eda", 4, (), 2), ("temp", 4, (), 33)):
        arrays[f"{name}_values"] = (level + 0.1 * draw.normal(size=(seconds * rate, *shape))).astype(np.float32)
        arrays[f"{name}_rate"] = float(rate)
    np.savez(path, **arrays)


def watch_memory(words: list[str], output: Path) -> None:
    """Run `meco predict … --output`, and print its peak memory by tenths of its time."""
    began, seen = time.monotonic(), []
    command = [sys.executable, "-m", "meco_hub", "predict", *words, "--output", str(output)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        measured = psutil.Process(process.pid)
        while process.poll() is None:
            with contextlib.suppress(psutil.Error):
                seen.append((time.monotonic() - began, measured.memory_info().rss / 1e6))
            time.sleep(0.2)
        said = process.stdout.read().strip() if process.stdout else ""
    took = time.monotonic() - began
    peaks = [max((size for when, size in seen if int(10 * when / took) == tenth), default=0.0) for tenth in range(10)]
    print(f"{took:.0f} s, exit {process.returncode}: {said.splitlines()[-1] if said else ''}")
    print("peak MB by tenths: " + " ".join(f"{peak:.0f}" for peak in peaks))


def moving(archive: Path, count: int, draw: np.random.Generator) -> Iterator[list[Image.Image]]:
    """Four frames of each of so many crops, which moves by a few hundredths of its side."""
    photos = photographs()
    for place, crop in enumerate(crops(archive, "012", count, 0)[0]):
        width, height = ((640, 480), (1920, 1080))[place % 2]
        photo, side = photos[place % len(photos)].resize((width, height)), round(height * draw.uniform(0.12, 0.8))
        room = (width - side, height - side)
        corner, step = draw.uniform(0, room), draw.normal(0, 0.05 * side, 2)
        frames = []
        for moment in range(4):
            frame = photo.copy()
            x, y = np.clip(corner + moment * step, 0, room).astype(int).tolist()
            frame.paste(crop.resize((side, side), Image.Resampling.BILINEAR), (x, y))
            noisy = np.asarray(frame).astype(int) + draw.integers(-6, 7, (height, width, 1))
            frames.append(Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)))
        yield frames


def measure_again(archive: Path, count: int) -> None:
    recognise: Any = meco_hub.recogniser(on_warning="ignore", device="cpu")
    reader = PictureProcessor(recognise.image_processor)
    apart: list[float] = []
    surest, alike, same, failed = 0.0, 0, 0, 0
    for frames in moving(archive, count, np.random.default_rng(0)):
        before: list[Face] = []
        for frame in frames:
            whole = reader.face_finder.find(frame, upright=True)
            again = reader.face_finder.find_again(frame, before) if before else []
            failed += again is None
            if again and whole:
                alike += len(again) == len(whole)
                first = again[0].side
                for one in again:
                    apart.append(min(float(np.abs(np.subtract(one.box, two.box)).max()) for two in whole) / first)
                shown = [reader.show(Picture(frame), faces[0]).image for faces in (again, whole)]
                labels = [answer[0]["label"] for answer in recognise(shown, faces="cropped")]
                same += labels[0] == labels[1]
            surest = max([surest, *(face.score for face in whole)])
            before = whole
    middle, most, worst = np.quantile(apart, [0.5, 0.95, 1])
    print(
        f"{len(apart)} faces, {failed} frames besides that are searched all over; as many faces: {alike}, same label: {same}"
    )
    print(
        f"edges of boxes apart, in sides of the face: median {middle:.4f}, 95 in 100 to {most:.4f}, largest {worst:.4f}"
    )
    print(f"highest score of a face: {surest:.3f}")


def measure_long(minutes: float, hours: float, model: str | None, every: float | None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        if minutes:
            film = Path(folder, "long.mp4")
            write(film, round(minutes * 60 * 5), rate=5)
            print(f"a film of {minutes:g} minutes, {round(minutes * 300)} frames")
            words = [*(["--model", model] if model else []), *(["--every", str(every)] if every else [])]
            watch_memory([str(film), *words], Path(folder, "film"))
        if hours:
            recording = Path(folder, "wristband.npz")
            write_wristband(recording, hours)
            print(f"a recording of {hours:g} hours, {recording.stat().st_size / 1e6:.0f} MB")
            watch_memory([str(recording), "--model", "meco-himoe-stress"], Path(folder, "signals"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--model", help="bundled checkpoint, folder or Hub id")
    parser.add_argument("--peer", action="store_true", help="also the package fer")
    parser.add_argument("--again", type=Path, metavar="ARCHIVE")
    parser.add_argument("--long", type=float, default=0.0, metavar="MINUTES")
    parser.add_argument("--every", type=float, metavar="SECONDS")
    parser.add_argument("--wristband", type=float, default=0.0, metavar="HOURS")
    arguments = parser.parse_args()
    if arguments.again:
        measure_again(arguments.again, arguments.frames)
        return
    if arguments.long or arguments.wristband:
        measure_long(arguments.long, arguments.wristband, arguments.model, arguments.every)
        return
    recognise: Any = meco_hub.recogniser(arguments.model, on_warning="ignore", device="cpu")
    count = arguments.frames
    with tempfile.TemporaryDirectory() as folder:
        film = Path(folder, "film.mp4")
        write(film, count)
        reader = PictureProcessor(recognise.image_processor)

        def follow() -> None:
            follower = FaceFollower(reader)
            for frame in Video(film):
                follower(frame)

        crop = FaceFollower(reader)(next(iter(Video(film))))[0][1]
        pixels = reader([crop], return_tensors="pt")["pixel_values"]

        @torch.inference_mode()
        def answer(batch: int) -> None:
            for _ in range(max(1, 24 // batch)):
                recognise.model(pixel_values=pixels.expand(batch, -1, -1, -1))

        stages: list[tuple[str, int, Callable[[], Any]]] = [
            ("decoded", count, lambda: list(Video(film))),
            ("decoded, found and followed", count, follow),
            ("answered", count, lambda: recognise(film, batch_size=8)),
            ("network alone, batches of 1", 24, lambda: answer(1)),
            ("network alone, batches of 8", 24, lambda: answer(8)),
        ]
        if arguments.peer:
            from fer.fer import FER  # pyright: ignore[reportMissingImports]

            peer = FER()

            def ask_peer() -> None:
                for frame in Video(film):
                    peer.detect_emotions(frame.image[:, :, ::-1].copy())  # it takes OpenCV's order of colours

            stages.append(("fer, answered", count, ask_peer))
        print(f"torch {torch.__version__}, {torch.get_num_threads()} thread(s), {count} frames of 640×480, one face")
        print(f"{'':30} {'by the clock':>14} {'by the processor':>18}")
        for name, number, run in stages:
            clock, processor = rates(number, run)
            print(f"{name:30} {clock:12.1f}/s {processor:16.1f}/s")


if __name__ == "__main__":
    main()
