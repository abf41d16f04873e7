"""Damaged files for every reader: what comes of each, and whether anything but an answer or an error of ours does.

    make fuzz                                                        # all formats, for an hour
    python benchmarks/fuzz.py --seconds 600 --formats png,edf        # some of them
    python benchmarks/fuzz.py --formats edf --seed 3 --only 1742     # one input again, with its traceback

Every format has a small valid file, made here or by the writers of the tests. Input number n of a format is that file, changed by a
generator seeded with (seed, format, n): bytes flipped, cut, doubled, moved, set to extremes; numbers and words of texts replaced;
members of zips likewise, and packed again. It is read in a process of its own, whose memory is limited, and which is ended when it
says nothing for `HANG_S`.

    refused    an error of ours, of a sensible length
    read       the answer of the valid file, or one with a warning
    changed    another answer without a warning: most samples can be changed without breaking any rule
    silent     of the changed ones, files that were cut short
    foreign    any other exception, memory that runs out, a crash
    hangs      no answer in `HANG_S`
"""

import argparse
import hashlib
import importlib.util
import io
import json
import logging
import multiprocessing
import os
import random
import re
import resource
import shutil
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from PIL import Image

from meco_hub.errors import MecoError

HERE = Path(__file__).resolve().parents[1]
HANG_S = 60.0
MEMORY = 3 * 2**30
LONGEST_MESSAGE = 2500
COLUMNS = ("tried", "refused", "read", "changed", "silent", "foreign", "hangs")


@dataclass(frozen=True)
class Format:
    """How one kind of file is made and read.

    Attributes:
        name: of the file, with its ending; in a folder of its own.
        make: writes the valid file at that path.
        read: reads it, and whatever lies beside it.
        kind: "bytes", "text" or "zip": what is changed.
    """

    name: str
    make: Callable[[Path], Any]
    read: Callable[[Path], Any]
    kind: str = "bytes"


# --- Formats ----------------------------------------------------------------------------------------------------------


def _module(path: str) -> ModuleType:
    """A file of the tests, whose writers make the valid files."""
    sys.path[:0] = [one for one in (str(HERE / "tests"), str((HERE / path).parent)) if one not in sys.path]
    spec = importlib.util.spec_from_file_location(f"seeds_{path.replace('/', '_')[:-3]}", HERE / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _picture(form: str, mode: str = "RGB", **options: Any) -> Callable[[Path], Any]:
    def make(path: Path) -> None:
        values = np.random.default_rng(0).integers(0, 255, (24, 20, 3), np.uint8)
        picture = Image.fromarray(values).convert(mode)
        exif = Image.Exif()
        exif[0x0112] = 6
        picture.save(path, form, **({"exif": exif} if form in ("JPEG", "PNG", "TIFF", "WEBP") else {}), **options)

    return make


def pictures() -> dict[str, Format]:
    from meco_hub.recordings.images import read_image
    from meco_hub.recordings.pictures import read_video

    def rows(path: Path) -> None:
        import pyarrow
        from pyarrow import parquet

        buffer = io.BytesIO()
        Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(buffer, "PNG")
        held = [{"image": {"bytes": buffer.getvalue(), "path": f"{place}.png"}} for place in range(3)]
        parquet.write_table(pyarrow.Table.from_pylist(held), path, row_group_size=2)

    def zipped(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            buffer = io.BytesIO()
            Image.new("RGB", (16, 16), "orange").save(buffer, "PNG")
            archive.writestr("a/face.png", buffer.getvalue())

    def video(path: Path) -> None:
        import cv2

        code = cv2.VideoWriter.fourcc(*"MJPG")
        writer = cv2.VideoWriter(str(path), code, 30.0, (32, 32))
        for at in range(6):
            writer.write(np.full((32, 32, 3), 40 * at, np.uint8))
        writer.release()

    def read_frames(path: Path) -> Any:
        found = read_video(path)
        return found.times, [np.asarray(one) for one in found.read(range(min(3, len(found))))]

    forms = {
        "png": _picture("PNG"),
        "png_palette": _picture("PNG", "P", transparency=3),
        "png_grey16": lambda path: Image.fromarray(np.arange(600, dtype=np.uint16).reshape(20, 30) * 99).save(
            path, "PNG"
        ),
        "jpeg": _picture("JPEG"),
        "gif": _picture("GIF", "P"),
        "bmp": _picture("BMP"),
        "webp": _picture("WEBP"),
        "tiff": _picture("TIFF", compression="tiff_lzw"),
        "ppm": _picture("PPM"),
        "tga": _picture("TGA", compression="tga_rle"),
        "ico": _picture("ICO", sizes=[(16, 16)]),
        "jpeg2000": _picture("JPEG2000"),
        "avif": _picture("AVIF"),
    }
    Image.init()
    found = {
        name: Format(f"face.{name}", make, lambda path: read_image(path))
        for name, make in forms.items()
        if name.partition("_")[0].upper() in Image.SAVE
    }
    found["picture_parquet"] = Format(
        "p.parquet", rows, lambda path: [read_image(f"parquet://{row}::{path}") for row in (0, 2)], "bytes"
    )
    found["picture_zip"] = Format("p.zip", zipped, lambda path: read_image(f"zip://a/face.png::{path}"), "zip")
    found["video"] = Format("v.avi", video, read_frames)
    return found


def events() -> dict[str, Format]:
    from meco_hub.recordings.events import read_events

    seeds = _module("tests/unit/recordings/event_files/conftest.py")
    some = seeds.make_events(200)
    found = {}
    for name, (suffix, write) in seeds.WRITERS.items():
        kind = {"text": "text", "csv": "text", "npz": "zip"}.get(name, "bytes")
        found[f"events_{name}"] = Format(
            f"clip{suffix}", lambda path, write=write: write(path, some), read_events, kind
        )

    def dat(path: Path) -> None:
        words = some.t.astype(np.uint64) | (
            (some.x.astype(np.uint64) | some.y.astype(np.uint64) << 14 | some.p.astype(np.uint64) << 28) << 32
        )
        head = b"% Data file containing CD events.\n% Version 2\n% Height 260\n% Width 346\n" + bytes([12, 8])
        path.write_bytes(head + words.astype("<u8").tobytes())

    def table(path: Path) -> None:
        import pandas

        pandas.DataFrame(some._asdict()).to_parquet(path, row_group_size=70)

    found["events_parquet"] = Format("clip.parquet", table, read_events)
    return found | {"events_dat": Format("clip.dat", dat, read_events)}


def signals() -> dict[str, Format]:
    from scipy.io import savemat

    from meco_hub.recordings.signals import read_signals

    seeds = _module("tests/unit/recordings/test_signals.py")
    found = {}
    for name, kind in (
        ("npz", "zip"),
        ("csv", "text"),
        ("edf", "bytes"),
        ("bdf", "bytes"),
        ("mat", "bytes"),
        ("xdf", "bytes"),
    ):
        make: Callable[[Path], Any] = getattr(seeds, f"write_{'edf' if name == 'bdf' else name}")
        options = (".bdf",) if name == "bdf" else ()
        found[f"signals_{name}"] = Format(
            f"S01.{name}", lambda path, make=make, options=options: make(path.parent, *options), read_signals, kind
        )
    plain = {"ecg_values": seeds.ECG.astype(np.float64), "ecg_rate": 128.0, "cell": np.array(["a", 1.0], object)}
    found["signals_mat_plain"] = Format("p.mat", lambda path: savemat(path, plain), read_signals)
    four = {"ecg_values": seeds.ECG.astype(np.float64), "ecg_rate": 128.0}
    found["signals_mat4"] = Format("f.mat", lambda path: savemat(path, four, format="4"), read_signals)
    avro = _module("tests/unit/recordings/test_embraceplus.py")
    found["signals_avro"] = Format("S.avro", lambda path: avro.write(path, avro.session(0, 20)), read_signals)
    found["signals_e4"] = Format("S01.zip", lambda path: seeds.write_empatica(path.parent), read_signals, "zip")
    return found


def documents() -> dict[str, Format]:
    from safetensors.numpy import save_file

    from meco_hub import checkpoint
    from meco_hub.evaluation.report_file import read_report
    from meco_hub.loading import load_processor, read_config
    from meco_hub.plugins import checkpoints
    from meco_hub.publishing.card import check_card, render_card
    from meco_hub.publishing.card_notes import read_notes
    from meco_hub.weight_files import INDEX, read_header, read_weights

    def copied(name: str, file: str) -> Callable[[Path], Any]:
        return lambda path: path.write_bytes((checkpoint(name) / file).read_bytes())

    found = {}
    for name in sorted(checkpoints()):
        folder = checkpoint(name)
        kind = json.loads((folder / "config.json").read_text())["model_type"]
        if f"config_{kind}" in found:
            continue
        found[f"config_{kind}"] = Format(
            "config.json", copied(name, "config.json"), lambda path: read_config(str(path.parent)), "text"
        )
        for file in ("preprocessor_config.json", "processor_config.json"):
            if (folder / file).is_file():
                read = lambda path: load_processor(str(path.parent))  # noqa: E731
                found[f"processor_{kind}"] = Format(file, copied(name, file), read, "text")
        if (folder / "report.json").is_file():
            found["report"] = Format("report.json", copied(name, "report.json"), read_report, "text")
        if (folder / "card.yaml").is_file():
            found["card_yaml"] = Format(
                "card.yaml", copied(name, "card.yaml"), lambda path: read_notes(path.parent), "text"
            )
        for file in ("report.json", "run.json"):
            if not (folder / file).is_file():
                continue

            def beside(path: Path, folder: Path = folder) -> None:
                for one in folder.iterdir():
                    if one.is_file() and not (path.parent / one.name).exists():
                        shutil.copy(one, path.parent / one.name)

            found[f"card_of_{file.partition('.')[0]}"] = Format(
                file, lambda path, beside=beside: beside(path), lambda path: render_card(path.parent), "text"
            )
        if (folder / "README.md").is_file():
            found["card"] = Format(
                "README.md",
                copied(name, "README.md"),
                lambda path: check_card(path.read_text(encoding="utf-8", errors="replace"), str(path)),
                "text",
            )

    def weights(path: Path) -> None:
        save_file({"a.weight": np.ones((3, 4), np.float32), "b": np.zeros(2, np.float16)}, path)

    def index(path: Path) -> None:
        weights(path.parent / "model-00001-of-00001.safetensors")
        places = dict.fromkeys(("a.weight", "b"), "model-00001-of-00001.safetensors")
        path.write_text(json.dumps({"metadata": {"total_size": 52}, "weight_map": places}, indent=1))

    found["safetensors"] = Format("model.safetensors", weights, read_header)
    found["index"] = Format(INDEX, index, lambda path: read_weights(path.parent), "text")
    return found


def weights() -> dict[str, Format]:
    import torch

    from meco_mcoenet.conversion import convert

    seeds = _module("plugins/mcoenet/tests/test_conversion.py")

    def release(path: Path) -> None:
        torch.save(seeds.ReleasedNetwork(seeds.TINY).state, path)

    def read(path: Path) -> Any:
        report = convert(path, path.parent / "out", overwrite=True)
        return report.counts, report.labels

    return {"mcoenet_pt": Format("release.pt", release, read, "zip")}


def corpora() -> dict[str, Format]:
    import pickle

    from meco_hub.corpora.affectnet import corpus as affectnet
    from meco_hub.corpora.deap import load_arrays
    from meco_hub.corpora.fer2013 import corpus as fer2013
    from meco_hub.corpora.image_folder import corpus as image_folder
    from meco_hub.corpora.raf_db import corpus as raf_db
    from meco_hub.corpora.see import corpus as see

    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), "orange").save(buffer, "JPEG")
    face = buffer.getvalue()

    def npy(value: Any) -> bytes:
        stream = io.BytesIO()
        np.save(stream, np.asarray(value))
        return stream.getvalue()

    sequence = "1_001_man_24_Master_normal_angry_4_take000"
    entry = {"subset": "training", "annotations": {"label": "angry", "segment": [0, 2]}}
    annotations = {"labels": ["angry", "happy"], "database": {sequence: entry}}
    pixels = " ".join(["7"] * 48 * 48)
    parts: dict[str, tuple[Any, dict[str, bytes]]] = {
        "image_folder": (image_folder, {"happy/1.jpg": face, "sad/2.jpg": face}),
        "image_folder_index": (
            image_folder,
            {"index.csv": b"file,label,identity,fold\n1.jpg,happy,a,0\n2.jpg,sad,b,1\n", "1.jpg": face, "2.jpg": face},
        ),
        "raf_db": (
            raf_db,
            {
                "basic/EmoLabel/list_patition_label.txt": b"train_00001.jpg 5\ntest_0001.jpg 4\n",
                "basic/Image/aligned/train_00001_aligned.jpg": face,
                "basic/Image/aligned/test_0001_aligned.jpg": face,
            },
        ),
        "affectnet": (
            affectnet,
            {
                "train_set/images/1.jpg": face,
                "train_set/annotations/1_exp.npy": npy("3"),
                "train_set/annotations/1_val.npy": npy("0.25"),
                "train_set/annotations/1_aro.npy": npy(-0.5),
            },
        ),
        "fer2013": (
            fer2013,
            {"fer2013.csv": f"emotion,pixels,Usage\n0,{pixels},Training\n3,{pixels},PrivateTest\n".encode()},
        ),
        "see": (
            see,
            {"emotion.json": json.dumps(annotations).encode()}
            | {f"{side}/angry/{sequence}/0000{at}.jpg": face for side in ("frame", "event") for at in (0, 1)},
        ),
    }

    def load(path: Path, corpus: Any) -> Any:
        splits = corpus.load(path)
        rows = [row for name in splits for row in splits[name]]
        for row in rows:
            try:
                corpus.read(row)
            except MecoError as error:
                assert len(str(error)) < LONGEST_MESSAGE  # noqa: PT017 — the first of many, and the others are read
        return [{key: value for key, value in row.items() if key != "image"} for row in rows]

    def packed(path: Path, members: dict[str, bytes]) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content)

    found = {
        f"corpus_{name}": Format(
            "corpus.zip",
            lambda path, members=members: packed(path, members),
            lambda path, corpus=corpus: load(path, corpus),
            "zip",
        )
        for name, (corpus, members) in parts.items()
    }

    def dat(path: Path) -> None:
        path.write_bytes(pickle.dumps({"data": np.ones((2, 3, 4)), "labels": np.ones((2, 4))}, protocol=2))

    found["deap_pickle"] = Format("s01.dat", dat, lambda path: load_arrays(path.read_bytes(), str(path)))
    return found


GROUPS = (pictures, events, signals, documents, weights, corpora)


# --- Damage -----------------------------------------------------------------------------------------------------------

_EXTREMES = [value.to_bytes(size, order, signed=value < 0) for size in (1, 2, 4, 8) for order in ("little", "big")
             for value in (0, 1, -1, 2 ** (8 * size - 1) - 1, -(2 ** (8 * size - 1)))]  # fmt: skip
_WORDS = [
    *(
        "0",
        "-1",
        "1e400",
        "-1e400",
        "NaN",
        "nan",
        "inf",
        "null",
        "true",
        "[]",
        "{}",
        '""',
        "[1]",
        "1e9",
        "99999",
        "100000000",
    ),
    *(
        "2147483648",
        "9" * 400,
        "1970-01-01",
        "../../x",
        "a" * 5000,
        "[" * 3000,
        "\x1b[31m",
        "\n",
        ",",
        ";",
        '"',
        "é",
        "0.5",
    ),
]


def damage(data: bytes, text: bool, draw: random.Random, other: bytes) -> tuple[bytes, bool]:
    """The data, changed once or a few times; and whether it was only cut short."""
    if draw.random() < 0.12:
        return data[: draw.randrange(len(data) + 1)], True
    changed = bytearray(data)
    for _ in range(draw.choice((1, 1, 1, 2, 4, 16))):
        at = draw.randrange(len(changed) + 1)
        size = min(draw.choice((1, 2, 4, 8, 64, 1000)), max(1, len(changed)))
        how = draw.randrange(8 if text else 6)
        if how == 0 and at < len(changed):
            changed[at] ^= 1 << draw.randrange(8)
        elif how == 1:
            changed[at : at + 1] = bytes([draw.randrange(256)])
        elif how == 2:
            del changed[at : at + size]
        elif how == 3:
            changed[at:at] = changed[at : at + size] * draw.choice((1, 2, 20))
        elif how == 4:
            piece = draw.choice(_EXTREMES)
            changed[at : at + len(piece)] = piece
        elif how == 5:
            start = draw.randrange(len(other) + 1)
            changed[at : at + size] = other[start : start + size]
        else:  # of a text: one number or word as another
            found = list(re.finditer(rb"-?[\w.]+|\[[^\[\]]*\]|\"[^\"]*\"", bytes(changed[:20_000])))
            if found:
                word = draw.choice(found)
                changed[word.start() : word.end()] = draw.choice(_WORDS).encode()
    return bytes(changed), False


def damage_zip(data: bytes, draw: random.Random) -> tuple[bytes, bool]:
    """The zip, its own bytes changed, or one member and perhaps its name, and packed again."""
    if draw.random() < 0.3:
        return damage(data, False, draw, data)
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(stream, "w", draw.choice((0, 0, 8))) as new:
        names = old.namelist()
        chosen = draw.choice(names)
        for name in names:
            content = old.read(name)
            if name == chosen:
                how = draw.random()
                if how < 0.1:
                    name = draw.choice(
                        ("./" + name, name.upper(), "a/" + name, name + "x", "../" + name, draw.choice(names))
                    )
                elif how < 0.15:
                    continue
                else:
                    text = name.endswith((".csv", ".json", ".txt"))
                    content, _ = damage(content, text, draw, old.read(draw.choice(names)))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                new.writestr(name, content)
    return stream.getvalue(), False


# --- Reading ----------------------------------------------------------------------------------------------------------


def digest(answer: Any) -> str:
    """What two equal answers have in common."""
    found = hashlib.sha256()

    def add(one: Any) -> None:
        if isinstance(one, Image.Image):
            one = np.asarray(one)
        if isinstance(one, np.ndarray):
            found.update(f"{one.dtype}{one.shape}".encode() + np.ascontiguousarray(one).tobytes())
        elif isinstance(one, dict):
            for key, value in one.items():
                found.update(str(key).encode())
                add(value)
        elif isinstance(one, list | tuple):
            for value in one:
                add(value)
        elif hasattr(one, "streams"):
            add(one.streams)
        elif hasattr(one, "values") and hasattr(one, "times"):
            add([one.values, one.times, one.channels, one.units])
        elif all(hasattr(one, column) for column in "xytp"):
            add([one.x, one.y, one.t, one.p, one.width, one.height])
        elif hasattr(one, "to_dict"):
            add(one.to_dict())
        else:
            found.update(repr(one).encode())

    add(answer)
    return found.hexdigest()


def _name_of(error: BaseException) -> str:
    """Kind and place, by which failures of one cause are one."""
    place = next(reversed(traceback.extract_tb(error.__traceback__)), None)
    ours = [one for one in traceback.extract_tb(error.__traceback__) if "meco" in one.filename]
    last = ours[-1] if ours else place
    return f"{type(error).__name__} at {Path(last.filename).name}:{last.lineno}" if last else type(error).__name__


def _fault(error: BaseException) -> str | None:
    """What is wrong with an error, None where it is ours and as it should be."""
    if not isinstance(error, MecoError):
        return _name_of(error)
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MemoryError):
            return f"memory: {_name_of(cause)}"
        cause = cause.__cause__
    if len(str(error)) > LONGEST_MESSAGE:
        return f"a message of {len(str(error))} characters: {_name_of(error)}"
    return None


class Worker:
    """Reads inputs of one format in a process of its own, from a number on, until the time is over."""

    def __init__(self, name: str, form: Format, folder: Path, seed: int) -> None:
        self.name, self.form, self.seed, self.folder = name, form, seed, folder
        self.counts = multiprocessing.get_context("fork").Array("q", len(COLUMNS))
        self.now = multiprocessing.get_context("fork").Array("d", 2)  # number of the input, and when it began
        folder.mkdir(parents=True)
        self.path = folder / form.name
        form.make(self.path)
        self.whole = self.path.read_bytes()
        self.right = digest(form.read(self.path))
        self.log = folder.with_suffix(".log")

    def input(self, number: int) -> tuple[bytes, bool]:
        """One input, the same each time."""
        draw = random.Random(f"{self.seed}/{self.name}/{number}")
        if self.form.kind == "zip":
            return damage_zip(self.whole, draw)
        return damage(self.whole, self.form.kind == "text", draw, self.whole)

    def try_one(self, number: int) -> str:
        """The column that it counts in; a foreign exception is logged."""
        content, cut = self.input(number)
        self.path.write_bytes(content)
        try:
            answer = self.form.read(self.path)
            if digest(answer) == self.right or getattr(answer, "warnings", ()):
                return "read"
            return "silent" if cut else "changed"
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001 — which one it is, is the finding
            fault = _fault(error)
            if fault is None:
                return "refused"
            with self.log.open("a") as log:
                log.write(f"{number}\t{fault}\n")
            return "foreign"

    def run(self, first: int, end: float, most: int) -> None:
        logging.disable(logging.CRITICAL)
        warnings.simplefilter("ignore")
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 2)  # what libraries print about damage
        room = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (room, room))
        number = first
        while number < most and time.monotonic() < end:
            self.now[:] = [float(number), time.monotonic()]
            column = self.try_one(number)
            self.counts[0] += 1
            self.counts[COLUMNS.index(column)] += 1
            number += 1
        self.now[:] = [float(number), -1.0]

    def fuzz(self, seconds: float, most: int) -> dict[str, int]:
        """What came of as many inputs as the time allows."""
        end, first = time.monotonic() + seconds, 0
        while first < most and time.monotonic() < end:
            self.now[:] = [float(first), time.monotonic()]
            process = multiprocessing.get_context("fork").Process(target=self.run, args=(first, end, most))
            process.start()
            while process.is_alive():
                process.join(0.2)
                if process.is_alive() and time.monotonic() - max(self.now[1], 0) > HANG_S and self.now[1] > 0:
                    process.kill()
                    process.join()
            number, began = int(self.now[0]), self.now[1]
            if began < 0:
                break
            hung = process.exitcode == -9 and time.monotonic() - began > HANG_S
            self.counts[0] += 1
            self.counts[COLUMNS.index("hangs" if hung else "foreign")] += 1
            with self.log.open("a") as log:
                log.write(f"{number}\t{'hang' if hung else f'crash, exit code {process.exitcode}'}\n")
            first = number + 1
        return dict(zip(COLUMNS, self.counts[:], strict=True))

    def findings(self) -> Iterator[tuple[str, int, int]]:
        """(what, how often, number of the first input) of the failures."""
        found: dict[str, list[int]] = {}
        for line in self.log.read_text().splitlines() if self.log.is_file() else []:
            number, what = line.split("\t", 1)
            found.setdefault(what, []).append(int(number))
        for what, numbers in sorted(found.items(), key=lambda one: -len(one[1])):
            yield what, len(numbers), numbers[0]


def formats(wanted: list[str] | None = None) -> dict[str, Format]:
    """All formats, or those whose names begin with one of these."""
    found = {name: form for group in GROUPS for name, form in group().items()}
    return {name: form for name, form in found.items() if not wanted or name.startswith(tuple(wanted))}


def fuzz(
    seconds: float, inputs: int, seed: int = 0, wanted: list[str] | None = None
) -> tuple[dict[str, dict[str, int]], list[str]]:
    """Counts by format, and what was found, in lines."""
    table: dict[str, dict[str, int]] = {}
    findings: list[str] = []
    chosen = formats(wanted)
    end = time.monotonic() + seconds
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        for left, (name, form) in zip(range(len(chosen), 0, -1), chosen.items(), strict=True):
            worker = Worker(name, form, Path(folder, name), seed)
            table[name] = worker.fuzz(max(0.0, end - time.monotonic()) / left, inputs)
            print(f"{name:<24}" + "".join(f"{table[name][column]:>10}" for column in COLUMNS), flush=True)
            for what, count, first in worker.findings():
                findings.append(f"{name}: {count} × {what}; first --only {first}")
                print(f"    {findings[-1]}", flush=True)
    return table, findings


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3600.0, help="for all formats together")
    parser.add_argument("--inputs", type=int, default=10**9, help="of each format at most")
    parser.add_argument("--formats", default="", help="beginnings of their names, separated by commas")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="this input of the one format, with its traceback")
    arguments = parser.parse_args()
    wanted = [one for one in arguments.formats.split(",") if one]
    if arguments.only is not None:
        ((name, form),) = formats(wanted).items()
        with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
            worker = Worker(name, form, Path(folder, name), arguments.seed)
            content, _ = worker.input(arguments.only)
            worker.path.write_bytes(content)
            print(form.read(worker.path))
        return 0
    print(f"{'format':<24}" + "".join(f"{column:>10}" for column in COLUMNS))
    table, findings = fuzz(arguments.seconds, arguments.inputs, arguments.seed, wanted)
    total = {column: sum(one[column] for one in table.values()) for column in COLUMNS}
    print(f"{'all':<24}" + "".join(f"{total[column]:>10}" for column in COLUMNS))
    return 1 if findings else 0


if __name__ == "__main__":
    raise SystemExit(main())
