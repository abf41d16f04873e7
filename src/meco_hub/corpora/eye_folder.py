"""Eye clips of one's own: a folder of recordings of one eye, and a csv of labels.

    DIR/labels.csv                 columns clip,label,person; optional frames, events, frames_per_second, offset_us, fold, groups
    DIR/…                          what `read_eye_clip` reads: a folder with frame/ and event/, a camera's AEDAT4 or HDF5 file

`clip` is the path of such a recording below DIR; where frames and events lie in two places, `clip` is a name, and the columns
`frames` (a video, or a folder of pictures) and `events` (an event file, or a folder of pictures) are the paths. Every clip is
opened when the corpus is loaded, so that a mistake shows then, with its line; no picture is decoded. Folds are groups of people.
"""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigurationError, CorpusError, InputError, quote
from ..labels import canonical_or_own
from ..recordings.eye_clips import EyeClip, read_eye_clip
from . import Corpus
from .file_tree import first_few
from .label_table import LabelRow, check_people, order_labels, read_labels
from .splits import with_folds
from .tables import make_split

if TYPE_CHECKING:
    import datasets

logger = logging.getLogger(__name__)

LABELS = "labels.csv"
_STREAMS = ("frames", "events")
_KEYS = ("clip", "label", "person", *_STREAMS, "frames_per_second", "offset_us", "fold")

corpus = Corpus(
    name="eye_folder",
    kind="eye",
    labels=None,
    description="A folder of clips of one eye, frames and events, with a csv of labels and people.",
    layout=f"{LABELS} with the columns clip,label,person (and frames,events where these lie apart), and the clips that it names",
    loader="meco_hub.corpora.eye_folder:read",
    reader="meco_hub.corpora.eye_folder:read_row",
    declared_by="meco_hub.corpora.eye_folder:declare",
    options={
        "labels": "list of the classes in the order of their indices; default: AffectNet's order of the expressions found, or "
        "sorted names when one is no expression",
        "groups": "list of columns of the csv that reports are broken down by, such as the light",
        "nuisances": "list of columns of the csv that the design shares between people",
        "folds": "into how many groups people are divided, unless the csv has a column fold; default 5",
    },
    citation="Whoever recorded it; it carries no citation of its own.",
    licence="Whatever holds for the clips.",
)


def declare(
    path: Path, groups: Sequence[str] = (), nuisances: Sequence[str] = (), **options: Any
) -> dict[str, tuple[str, ...]]:
    """What `Corpus` declares of this folder; the other options are about its rows."""
    _own_columns(groups, nuisances)
    return {"groups": tuple(groups), "nuisances": tuple(nuisances)}


def _own_columns(groups: Sequence[str], nuisances: Sequence[str]) -> list[str]:
    for option, value in (("groups", groups), ("nuisances", nuisances)):
        if isinstance(value, str) or not all(isinstance(name, str) and name.lower() not in _KEYS for name in value):
            raise ConfigurationError(
                f"eye_folder: {option} is {value!r}. Expected a list of columns of {LABELS} other than {', '.join(_KEYS)}."
            )
    return list(dict.fromkeys([*groups, *nuisances]))


def read(
    path: Path,
    labels: Sequence[str] | None = None,
    groups: Sequence[str] = (),
    nuisances: Sequence[str] = (),
    folds: int = 5,
) -> "datasets.DatasetDict":
    """Read a folder of clips; see the module for the layout and `Corpus.load` for the columns.

    Further columns: `root`, `clip`, `frames`, `events` (paths below it, "" where the clip is one recording), `frames_per_second`
    (0 where unknown), `offset_us`, `files`, and the groups and nuisances.
    """
    import datasets
    from tqdm.auto import tqdm

    if isinstance(labels, str) or isinstance(folds, bool) or not isinstance(folds, int) or folds < 2:
        raise ConfigurationError(
            f"eye_folder: labels is {labels!r} and folds {folds!r}. Expected a list of names, and 2 or more."
        )
    if not path.is_dir():
        raise CorpusError(f"{path} is a file. Expected a folder: {corpus.layout}. Unpack it first.")
    own = _own_columns(groups, nuisances)
    rows = read_labels(
        path / LABELS,
        required=("clip", "label", "person", *(name.lower() for name in own)),
        known=[*_KEYS, *(name.lower() for name in own)],
        remedy="Rename it, take it out, or name it in the option `groups` or `nuisances`.",
    )
    counts = Counter(row.need("clip") for row in rows)
    if twice := [name for name, count in counts.items() if count > 1]:
        raise CorpusError(f"{path / LABELS} names clips twice: {first_few(twice)}. Keep one line for each.")
    check_people(dict.fromkeys(row.need("person") for row in rows), str(path / LABELS))
    found = [_row(path, row, own) for row in tqdm(rows, desc=path.name, unit=" clips", disable=None)]
    _refuse_unlisted(path, found)
    names = order_labels(
        Counter(row["label"] for row in found),
        labels,
        str(path / LABELS),
        what="clips",
        remedy="Add them to `labels`, or correct the csv.",
    )
    features = {
        "label": datasets.ClassLabel(names=names),
        **dict.fromkeys(("sample_id", "identity", "root", "clip", *_STREAMS, *own), "string"),
        "fold": "int32",
        "frames_per_second": "float64",
        "offset_us": "int64",
        "files": datasets.List(datasets.Value("string")),
    }
    columns = {name: [row[name] for row in found] for name in features}
    columns["label"] = [names.index(row["label"]) for row in found]
    splits = datasets.DatasetDict({"all": make_split("all", features, columns)})
    return splits if "fold" in rows[0].cells else with_folds(splits, None, str(path), n_folds=folds)


def _row(path: Path, row: LabelRow, own: Sequence[str]) -> dict[str, Any]:
    """The cells of one clip, which is opened once."""
    name, sides = row["clip"], {stream: row[stream] for stream in _STREAMS}
    if len([side for side in sides.values() if side]) == 1 and not (path / name).exists():
        given = next(stream for stream, side in sides.items() if side)
        other = next(stream for stream, side in sides.items() if not side)
        raise CorpusError(
            f"{row.where}: the clip {quote(name)!r} has {given} and no {other}. Fill the cell of {other}."
        )
    paths = [side for side in sides.values() if side] or [name]
    absent = [one for one in paths if not (path / one).exists()]
    if absent:
        raise CorpusError(
            f"{row.where}: {first_few(absent)} is not in {path}. Expected a clip there. Correct the cell, or add it."
        )
    rate, offset = row.number("frames_per_second"), row.number("offset_us")
    if rate <= 0 or (offset == offset and offset != int(offset)):
        raise CorpusError(
            f"{row.where}: frames_per_second is {row['frames_per_second']!r} and offset_us {row['offset_us']!r}. Expected a "
            "positive number and whole microseconds, or nothing."
        )
    files = sorted(
        str(file)
        for one in paths
        for file in ([path / one] if (path / one).is_file() else (path / one).rglob("*"))
        if file.is_file()
    )
    found = {
        "sample_id": name,
        "identity": row["person"],
        "label": canonical_or_own(row.need("label")),
        "root": str(path),
        "clip": name,
        **sides,
        "fold": row.fold(),
        "frames_per_second": 0.0 if rate != rate else rate,
        "offset_us": 0 if offset != offset else int(offset),
        "files": files,
        **{column: row[column.lower()] for column in own},
    }
    try:
        read_row(found)
    except InputError as error:
        raise CorpusError(f"{row.where}: {error}") from error
    return found


def _refuse_unlisted(path: Path, found: Sequence[Mapping[str, Any]]) -> None:
    """A recording beside those that are listed, which somebody forgot."""
    listed = {path / place for row in found for place in (row["clip"], *(row[stream] for stream in _STREAMS)) if place}
    above = {place.parent for place in listed} - listed
    beside = [
        one.relative_to(path).as_posix()
        for folder in sorted(above)
        if folder.is_dir()
        for one in sorted(folder.iterdir())
        if one not in listed
        and one.name not in (LABELS,)
        and not one.name.startswith(".")
        and not any(place.is_relative_to(one) for place in listed)
        and (one.is_dir() or one.suffix.lower() in {place.suffix.lower() for place in listed if place.suffix})
    ]
    if beside:
        raise CorpusError(
            f"{path} holds {first_few(beside)}, which {LABELS} does not list. Expected a line for every clip. Add it, or move the "
            "clip away."
        )


def read_row(row: Mapping[str, Any]) -> EyeClip:
    """The clip of one row; no picture is decoded yet."""
    root = Path(row["root"])
    if not any(row[stream] for stream in _STREAMS) and not row["frames_per_second"] and not row["offset_us"]:
        return read_eye_clip(root / row["clip"])
    sides = {stream: str(root / (row[stream] or row["clip"])) for stream in _STREAMS}
    more = {key: row[key] for key in ("frames_per_second", "offset_us") if row[key]}
    return read_eye_clip({**sides, **more, "name": row["clip"]})
