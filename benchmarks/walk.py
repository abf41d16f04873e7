"""Which files of ours a call walks through: each in the order of being first entered, and how often the walk changes file.

    python benchmarks/walk.py                      # the three walks that CONTRIBUTING.md draws
    python benchmarks/walk.py wristband            # one of them: face, wristband or evaluate
    python benchmarks/walk.py --write              # draws them anew in CONTRIBUTING.md
    PYTHONPATH=OLD/src:… python benchmarks/walk.py # the same walks through another copy of the sources

A change of file is a call that enters a file of the core or of a plugin from another one of them; frames of torch, transformers and
the standard library in between do not count. What happens while modules are imported does not count either: each walk runs once
before it is traced. The input is made here: one picture, 400 s of an Empatica E4 wristband, a folder of pictures, all of noise.
"""

import argparse
import contextlib
import io
import json
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import numpy as np

SECONDS = 400
DRAWING = "python benchmarks/walk.py --write\n```\n```text\n"
"""What stands before the drawing in CONTRIBUTING.md."""


@dataclass
class Walk:
    """What one call went through."""

    depths: dict[str, int] = field(default_factory=dict)
    """file → one more than that of the file from which it was first entered; in the order of being entered."""
    entered: Counter[str] = field(default_factory=Counter)
    """file → how often it was entered from another file."""

    @property
    def changes(self) -> int:
        return self.entered.total()


def room(filename: str, known: dict[str, str | None]) -> str | None:
    """`pipeline.py` for the core, `meco_himoe/modeling_himoe.py` for a plugin, None for everybody else's code."""
    if filename not in known:
        parts = Path(filename).parts
        ours = [place for place, part in enumerate(parts) if part.startswith("meco_") and parts[place - 1] == "src"]
        known[filename] = "/".join(parts[ours[0] :]).removeprefix("meco_hub/") if ours else None
    return known[filename]


def trace(call: Callable[[], object]) -> Walk:
    """Carry out the call and follow it."""
    walk = Walk()
    known: dict[str, str | None] = {}
    inside = [""]
    """The files of our frames on the stack, innermost last."""
    frames: list[FrameType] = []

    def follow(frame: FrameType, event: str, _: object) -> None:
        if event == "return":
            if frames and frames[-1] is frame:
                frames.pop()
                inside.pop()
            return
        if event != "call":
            return
        here = room(frame.f_code.co_filename, known)
        if here is None or frame.f_code.co_name == "<module>":
            return
        before = inside[-1]
        if here != before:
            walk.entered[here] += 1
            walk.depths.setdefault(here, walk.depths.get(before, 0) + 1)
        frames.append(frame)
        inside.append(here)

    sys.setprofile(follow)
    try:
        call()
    finally:
        sys.setprofile(None)
    return walk


def face(folder: Path) -> Callable[[], object]:
    """`recognise("face.jpg")` with the bundled face checkpoint."""
    from PIL import Image
    from transformers import pipeline

    drawn = np.random.default_rng(0).integers(0, 255, (112, 112, 3), dtype=np.uint8)
    Image.fromarray(drawn).save(folder / "face.jpg")
    recognise = pipeline("emotion-recognition")
    return lambda: recognise(str(folder / "face.jpg"))


def wristband(folder: Path) -> Callable[[], object]:
    """`recognise("S01/")` with the bundled checkpoint for stress."""
    from transformers import pipeline

    import meco_hub

    watch = folder / "S01"
    watch.mkdir()
    draw = np.random.default_rng(0)
    streams = {"BVP": (64, 0.0, 50.0), "EDA": (4, 1.5, 0.1), "TEMP": (4, 33.0, 0.1), "HR": (1, 72.0, 2.0)}
    for name, (rate, level, spread) in streams.items():
        values = draw.normal(level, spread, SECONDS * rate)
        (watch / f"{name}.csv").write_text(f"1600000000.0\n{rate:.6f}\n" + "\n".join(f"{one:.4f}" for one in values))
    motion = draw.integers(-60, 60, (SECONDS * 32, 3))
    head = "1600000000.0, 1600000000.0, 1600000000.0\n32.000000, 32.000000, 32.000000\n"
    (watch / "ACC.csv").write_text(head + "\n".join(",".join(map(str, row)) for row in motion))
    beats = np.cumsum(draw.normal(0.83, 0.03, int(SECONDS / 0.9)))
    (watch / "IBI.csv").write_text("1600000000.0, IBI\n" + "\n".join(f"{one:.6f},0.830000" for one in beats))
    recognise = pipeline("emotion-recognition", model=str(meco_hub.checkpoint("meco-himoe-stress")))
    return lambda: recognise(str(watch))


def evaluate(folder: Path) -> Callable[[], object]:
    """`meco evaluate meco-expressnet-lfw5 --dataset image_folder`."""
    from PIL import Image

    from meco_hub.cli import main

    draw = np.random.default_rng(0)
    for label in ("neutral", "happiness", "surprise", "sadness", "anger"):
        (folder / "faces" / label).mkdir(parents=True)
        for person in range(4):
            drawn = draw.integers(0, 255, (112, 112, 3), dtype=np.uint8)
            Image.fromarray(drawn).save(folder / "faces" / label / f"person{person}_{person}.jpg")
    arguments = ["evaluate", "meco-expressnet-lfw5", "--dataset", "image_folder", "--data_dir", str(folder / "faces")]

    def run() -> None:
        with contextlib.redirect_stdout(io.StringIO()), tempfile.TemporaryDirectory() as out:
            if main([*arguments, "--output_dir", f"{out}/report"]):
                raise SystemExit("meco evaluate failed")

    return run


WALKS = {"face": face, "wristband": wristband, "evaluate": evaluate}


def show(name: str, walk: Walk) -> str:
    """The walk as text: a file below the one from which it was first entered, and how often it was entered in all."""
    lines = [f"{name}: {len(walk.depths)} files, {walk.changes} changes of file"]
    for file, depth in walk.depths.items():
        times = walk.entered[file]
        lines.append(f"{'  ' * depth}{'→ ' if depth > 1 else ''}{file}" + (f"  ×{times}" if times > 1 else ""))
    return "\n".join(lines)


def run(name: str) -> Walk:
    """Make the input, go once without looking, then trace."""
    with tempfile.TemporaryDirectory() as folder:
        call = WALKS[name](Path(folder))
        call()
        return trace(call)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("walks", nargs="*", metavar="WALK", help=f"{', '.join(WALKS)} (default: all)")
    parser.add_argument("--write", action="store_true", help="put the drawing into CONTRIBUTING.md")
    parser.add_argument("--json", action="store_true", help="print one line for programs instead")
    arguments = parser.parse_args()
    chosen = arguments.walks or list(WALKS)
    if unknown := set(chosen) - set(WALKS):
        parser.error(f"no walk is called {', '.join(sorted(unknown))}; there are {', '.join(WALKS)}")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import meco_hub  # noqa: F401  (registers the plugins before transformers is imported)

    walks = {name: run(name) for name in chosen}
    if arguments.json:
        print(json.dumps({name: {"files": list(walk.depths), "changes": walk.changes} for name, walk in walks.items()}))
    else:
        drawing = "\n\n".join(show(name, walk) for name, walk in walks.items())
        print(drawing)
        if arguments.write:
            page = Path(__file__).parents[1] / "CONTRIBUTING.md"
            before, _, rest = page.read_text(encoding="utf-8").partition(DRAWING)
            _, _, after = rest.partition("```\n")
            page.write_text(f"{before}{DRAWING}{drawing}\n```\n{after}", encoding="utf-8")
