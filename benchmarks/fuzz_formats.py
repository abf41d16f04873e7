"""The formats of the fuzzer: of each, how a small valid file is made, and the door that reads it.

Where the writers of the tests make such a file already, theirs is taken.
"""

import gzip
import importlib.util
import io
import json
import shutil
import struct
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from PIL import Image

from meco_hub.errors import MecoError

HERE = Path(__file__).resolve().parents[1]
LONGEST_MESSAGE = 2500


@dataclass(frozen=True)
class Format:
    """How one kind of file is made and read.

    Attributes:
        name: of the file, with its ending; in a folder of its own.
        make: writes the valid file at that path.
        read: reads it, and whatever lies beside it.
        kind: "bytes", "text", "zip", "gzip" or "png": what is changed.
    """

    name: str
    make: Callable[[Path], Any]
    read: Callable[[Path], Any]
    kind: str = "bytes"


class Answer(dict[int, Any]):
    """An answer in numbered parts, and its warnings."""

    warnings: tuple[Any, ...] = ()


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
    from meco_hub.recordings.video import Video

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

    def read_film(path: Path) -> Any:
        film = Video(str(path))
        answer = Answer(enumerate((frame.time, frame.image, frame.cut) for frame in film))
        answer.warnings = film.warnings
        return answer

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
        name: Format(f"face.{name}", make, lambda path: read_image(path), "png" if name.startswith("png") else "bytes")
        for name, make in forms.items()
        if name.partition("_")[0].upper() in Image.SAVE
    }
    found["picture_parquet"] = Format(
        "p.parquet", rows, lambda path: [read_image(f"parquet://{row}::{path}") for row in (0, 2)], "bytes"
    )
    found["picture_zip"] = Format("p.zip", zipped, lambda path: read_image(f"zip://a/face.png::{path}"), "zip")
    found["video"] = Format("v.avi", video, read_frames)
    films = _module("tests/films.py")
    drawn = [np.full((32, 32, 3), 40 * at, np.uint8) for at in range(6)]
    for ending in ("mp4", "mkv"):
        found[f"film_{ending}"] = Format(f"v.{ending}", lambda path: films.write_film(path, drawn), read_film)
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


def _write_mat73(path: Path, variables: dict[str, Any]) -> None:
    """As MATLAB writes 7.3: turned round, with classes, behind a block of its own."""
    import h5py

    with h5py.File(path, "w", userblock_size=512) as file:
        for name, value in variables.items():
            file.create_dataset(name, data=np.atleast_2d(value).T).attrs["MATLAB_class"] = b"double"
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + struct.pack("<HH", 0x0200, 0x4D49))


def signals() -> dict[str, Format]:
    from pandas import DataFrame
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
    if importlib.util.find_spec("h5py") is not None:
        found["signals_mat73"] = Format("h.mat", lambda path: _write_mat73(path, four), read_signals)
    found["signals_csv_gz"] = Format(
        "S01.csv.gz",
        lambda path: path.write_bytes(gzip.compress(seeds.write_csv(path.parent).read_bytes())),
        read_signals,
        "gzip",
    )
    table = {"time": np.arange(64) / 4, "eda (µS)": np.linspace(1, 2, 64), "temp": np.full(64, 33.0)}
    found["signals_parquet"] = Format("S01.parquet", lambda path: DataFrame(table).to_parquet(path), read_signals)
    found["signals_feather"] = Format("S01.feather", lambda path: DataFrame(table).to_feather(path), read_signals)

    def physio(path: Path) -> None:
        rows = "".join(f"{1 + at / 100:.2f}\t33.0\n" for at in range(64))
        (path.parent / "sub-01_physio.tsv.gz").write_bytes(gzip.compress(rows.encode()))
        beside = {"SamplingFrequency": 4, "StartTime": -2.5, "Columns": ["eda", "temp"], "eda": {"Units": "uS"}}
        path.write_text(json.dumps(beside, indent=1))

    found["signals_physio"] = Format(
        "sub-01_physio.json", physio, lambda path: read_signals(path.with_suffix(".tsv.gz")), "text"
    )
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

    found = {"mcoenet_pt": Format("release.pt", release, read, "zip")}
    if importlib.util.find_spec("h5py") is not None:
        from meco_expressnet_moe.keras_weights.hdf5 import read_keras_hdf5

        keras = _module("plugins/expressnet_moe/tests/test_conversion.py")
        layers = {
            "conv2d": [
                ("conv2d/kernel:0", np.ones((3, 3, 1, 2), np.float32)),
                ("conv2d/bias:0", np.ones(2, np.float32)),
            ],
            "dense": [("dense/kernel:0", np.ones((4, 3), np.float32))],
        }

        def units(path: Path) -> Any:
            file = read_keras_hdf5(path)
            return [(unit.path, unit.tensors) for unit in file.units]

        found["keras_h5"] = Format("w.h5", lambda path: keras.write(path, layers, whole=True), units)
    return found


def records() -> dict[str, Format]:
    """What people write, and what a run of predictions leaves behind."""
    from meco_hub import plugins
    from meco_hub.comparison.plan import comparison_from_dict, read_comparison
    from meco_hub.corpora.signal_folder import corpus as signal_folder
    from meco_hub.shards import open_run
    from meco_hub.training.recipes import load_recipe

    recipe = sorted(plugins.recipes().items())[0][1]
    found = {
        "recipe": Format(
            "recipe.yaml",
            lambda path: path.write_bytes(Path(recipe).read_bytes()),
            lambda path: repr(load_recipe(str(path))),
            "text",
        )
    }
    comparison = "corpus: image_folder\nmodels:\n  forest: random_forest\n  GRU: {recipe: meco_gru/stress_predict}\nseeds: [0, 1]\n"
    found["comparison"] = Format(
        "comparison.yaml",
        lambda path: path.write_text(comparison),
        lambda path: repr(comparison_from_dict(read_comparison(path))),
        "text",
    )

    def opened(path: Path) -> Any:
        root = path.parent if path.parent.name not in ("done", "answers.parquet") else path.parent.parent
        entries = [(f"/x/{at}.jpg", at) for at in range(5)]
        return open_run(root, entries, model={"name": "m", "fingerprint": "f"}, settings={"top_k": 3}, part_size=2)

    def finished(path: Path) -> Any:
        import pyarrow

        begun = opened(path)
        for part, files in begun.pending():
            begun.write(part, pyarrow.table({"file": files}), files=len(files), errors=0)
        counts = begun.counts()
        assert (counts["rows"], counts["parts"]) == (5, 3), counts
        return counts

    found["run_list"] = Format("files.jsonl", finished, finished, "text")
    found["run_manifest"] = Format("manifest.json", finished, finished, "text")
    found["run_record"] = Format("done/part-000000.json", finished, finished, "text")
    found["run_part"] = Format("answers.parquet/part-000000.parquet", finished, finished)

    seeds = _module("tests/unit/corpora/test_signal_folder.py")
    times = np.arange(120) / 4
    table = "time,eda (µS)\n" + "".join(f"{time},{5 + time / 100:.3f}\n" for time in times)
    study: dict[str, Any] = {"streams": {"eda": {"unit": "uS"}}, "folds": 2}

    def folder(path: Path) -> None:
        (path.parent / "recordings").mkdir(exist_ok=True)
        for person in range(1, 5):
            (path.parent / "recordings" / f"S{person}.csv").write_text(table.replace(",5.", f",{4 + person}."))
        (path.parent / "labels.csv").write_text(seeds.WHOLE)
        (path.parent / "study.yaml").write_text(json.dumps(study, indent=1))

    def load(path: Path) -> Any:
        splits = signal_folder.load(path.parent)
        return [sorted(map(str, dict(row).items())) for name in splits for row in splits[name]]

    found["study_labels"] = Format("labels.csv", folder, load, "text")
    found["study_yaml"] = Format("study.yaml", folder, load, "text")
    return found


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


GROUPS = (pictures, events, signals, documents, weights, records, corpora)
