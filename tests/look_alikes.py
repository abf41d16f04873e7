"""Look-alikes of the forms of corpora that only tests read: seeded, and of nobody, as those of `meco_hub.corpora.synthetic`."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from meco_hub.corpora import case
from meco_hub.corpora.synthetic import faces
from meco_hub.corpora.synthetic.faces import (
    AFFECTNET,
    FER2013,
    RAF_DB,
    Drawn,
    affect_of,
    draw_face,
    encode,
    fer_pictures,
    mixed,
    store,
    text,
)
from meco_hub.corpora.synthetic.signals import Feeling, body, pulse, wave

Files = list[tuple[str, bytes]]

_IN_DERIVATIVE = {"happiness": "happy", "sadness": "sad"}

_FER_USAGES = {
    "Training": ("train", "train"),
    "PublicTest": ("public_test", "validation"),
    "PrivateTest": ("private_test", "test"),
}


def write_fer2013_csv(
    target: str | Path,
    *,
    seed: int,
    train_per_class: int = 4,
    public_per_class: int = 2,
    private_per_class: int = 2,
    spaced_header: bool = False,
) -> list[Drawn]:
    """fer2013.csv; with `spaced_header` icml_face_data.csv, whose columns are "emotion", " Usage", " pixels"."""
    drawn, lines = [], ["emotion, Usage, pixels" if spaced_header else "emotion,pixels,Usage"]
    for number, (usage, label, person) in enumerate(
        fer_pictures(seed, train_per_class, public_per_class, private_per_class)
    ):
        folder, split = _FER_USAGES[usage]
        drawn.append(Drawn(f"{folder}/{number:06d}", label, split, person))
        face = draw_face(label, person=person, seed=seed, size=48, gray=True)
        pixels = " ".join(map(str, face.tobytes()))
        emotion = FER2013.index(label)
        lines.append(f"{emotion},{usage},{pixels}" if spaced_header else f"{emotion},{pixels},{usage}")
    store(Path(target), [("icml_face_data.csv" if spaced_header else "fer2013.csv", text(lines))])
    return drawn


def write_raf_db(target: str | Path, *, seed: int, layout: str, **number: int) -> list[Drawn]:
    """RAF-DB, `layout` "official", or "kaggle": DATASET/ and *_labels.csv."""
    if layout == "official":
        return faces.write_raf_db(target, seed=seed, **number)
    drawn: list[Drawn] = []
    files: Files = []
    for split, per_class, digits in (("train", number.get("train_per_class", 4), 5), ("test", 2, 4)):
        listing = ["image,label"]
        for place, (label, person) in enumerate(mixed(RAF_DB, per_class, seed, split), start=1):
            code, stem = RAF_DB.index(label) + 1, f"{split}_{place:0{digits}d}"
            name = f"{split}/{code}/{stem}_aligned.jpg"
            listing.append(f"{stem}_aligned.jpg,{code}")
            files.append((f"DATASET/{name}", encode(draw_face(label, person=person, seed=seed, size=100), "JPEG")))
            drawn.append(Drawn(name, label, split, person))
        files.append((f"{split}_labels.csv", text(listing)))
    store(Path(target), files)
    return drawn


def write_affectnet(
    target: str | Path,
    *,
    seed: int,
    layout: str = "npy",
    train_per_class: int = 4,
    validation_per_class: int = 2,
    relabelled: int = 0,
) -> list[Drawn]:
    """AffectNet, `layout` "npy" (the release since 2021), "csv" (the first release) or "derivative" (labels.csv, 96×96).

    The first release gets three rows more, of expressions 8, 9 and 10. `relabelled` pictures of the derivative lie in another
    label's folder than the csv says; its `validation_per_class` has no meaning.
    """
    if layout == "npy":
        return faces.write_affectnet(
            target, seed=seed, train_per_class=train_per_class, validation_per_class=validation_per_class
        )
    drawn: list[Drawn] = []
    files: Files = []
    if layout == "derivative":
        drawn, files = _derivative(seed, train_per_class, relabelled)
    else:
        for split, per_class in (("train", train_per_class), ("validation", validation_per_class)):
            rows, contents = _first_release(mixed(AFFECTNET, per_class, seed, split), split, seed)
            drawn += rows
            files += contents
    store(Path(target), files)
    return drawn


def _first_release(pictures: list[tuple[str, str]], split: str, seed: int) -> tuple[list[Drawn], Files]:
    drawn: list[Drawn] = []
    files: Files = []
    lines = [
        "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,expression,valence,arousal",
        *(f"{code}/none.jpg,0,0,10,10,1;1,{code},-2,-2" for code in (8, 9, 10)),
    ]
    for number, (label, person) in enumerate(pictures):
        listed = f"{number % 7 + 1}/{split}{number:06d}.jpg"
        scene = Image.new("RGB", (160, 128), (90, 110, 130))
        scene.paste(draw_face(label, person=person, seed=seed, size=96), (40, 20))
        valence, arousal = affect_of(label)
        drawn.append(Drawn(listed, label, split, person))
        files.append((f"Manually_Annotated_Images/{listed}", encode(scene, "JPEG")))
        lines.append(f"{listed},40,20,96,96,60;70;80;70,{AFFECTNET.index(label)},{valence},{arousal}")
    name = "training.csv" if split == "train" else "validation.csv"
    files.append((f"Manually_Annotated_file_lists/{name}", text(lines)))
    return drawn, files


def _derivative(seed: int, per_class: int, relabelled: int) -> tuple[list[Drawn], Files]:
    drawn, files, lines = [], [], [",pth,label,relFCs"]
    for number, (label, person) in enumerate(mixed(AFFECTNET, per_class, seed, "derivative")):
        shown = AFFECTNET[(AFFECTNET.index(label) + 1) % len(AFFECTNET)] if number < relabelled else label
        name = f"{_IN_DERIVATIVE.get(shown, shown)}/image{number:07d}.jpg"
        drawn.append(Drawn(name, label, "all", person))
        files.append((name, encode(draw_face(label, person=person, seed=seed, size=96), "JPEG")))
        lines.append(f"{number},{name},{_IN_DERIVATIVE.get(label, label)},0.85")
    files.append(("labels.csv", text(lines)))
    return drawn, files


def write_case_csv(
    target: str | Path, *, seed: int, people: int = 2, films: int = 2, film_s: int = 110, header: bool = True
) -> list[Drawn]:
    """The published csv: for every person a session of films between blue screens (video 11), at 1000 and 20 Hz."""
    drawn: list[Drawn] = []

    def files() -> Iterator[tuple[str, bytes]]:
        for person in range(1, people + 1):
            order = [(person + film) % films + 1 for film in range(films)]
            videos = [11, *(video for film in order for video in (film, 11))]
            seconds = [film_s if video <= 8 else 12 for video in videos]
            clock = np.arange(int(sum(seconds) * 1000)) / 1000.0
            shown = np.repeat(videos, np.asarray(seconds) * 1000)
            feeling = Feeling.over(clock, "relaxing-1", f"{seed}/{person}/session")
            series = body(feeling, f"{seed}/{person}", f"{seed}/{person}/session")
            beats = pulse(clock, series["IHR"])
            physiology = [
                beats,
                40 + 8 * beats,
                series["EDATon"] + series["EDAPh"],
                30 + series["RESP"],
                series["TEMP"],
            ]
            physiology += [series[name] * wave(clock, 90.0) for name in ("ZEMGEnv", "CEMGEnv", "TEMGEnv")]
            yield (
                f"data/interpolated/physiological/sub_{person}.csv",
                _csv(["daqtime", *case.CSV_CHANNELS, "video"], [clock * 1000, *physiology, shown], header),
            )
            rated = feeling.ratings(5.0, 4.5)[::50]
            columns = [clock[::50] * 1000, rated[:, 0], rated[:, 1], shown[::50]]
            yield (
                f"data/interpolated/annotations/sub_{person}.csv",
                _csv(["jstime", "valence", "arousal", "video"], columns, header),
            )
            drawn.extend(
                Drawn(f"sub_{person}_vid_{film}_{piece}", identity=f"sub_{person}")
                for film in order
                for piece in range(int(film_s / case.PIECE_S))
            )

    store(Path(target), files())
    return drawn


def _csv(names: list[str], columns: list[NDArray[np.floating] | NDArray[np.integer]], header: bool) -> bytes:
    import pyarrow as pa
    from pyarrow import csv

    rounded = [np.round(column, 4) if column.dtype.kind == "f" else column for column in columns]
    stream = io.BytesIO()
    options = csv.WriteOptions(include_header=header, quoting_style="none")
    csv.write_csv(pa.table(dict(zip(names, rounded, strict=True))), stream, options)
    return stream.getvalue()
