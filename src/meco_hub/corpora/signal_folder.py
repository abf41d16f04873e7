"""Recordings of one's own: a folder of signals in any readable format, labels in a csv, and one YAML that declares both.

    DIR/study.yaml                 streams, units, classes or ratings; the fields of `Study`
    DIR/labels.csv                 a line for every recording, interval or sample
    DIR/recordings/*               what `read_signals` reads: csv, EDF, BDF, XDF, npz, MAT, an Empatica E4's folder …

The columns of the csv say what a line is about, `recording` being the file's path, with or without its folder and ending:

    recording, …                   a whole recording
    recording, start, end, …       an interval, in seconds of the recording's clock or in ISO 8601
    recording, time, …             a moment: classes become windows, as in Stress-Predict; ratings run over time

and beside them `person` (or the YAML says who that is), `label` or a column for every rating, and where they are known `trial`,
`stimulus`, `fold`. Everything is read and checked when the corpus is loaded, so that a mistake shows then, with its line: an
interval outside its recording, a stream that a file lacks, a recording nobody labelled. Folds are groups of people.

Rows carry the level of their person's own signals, over all recordings and without labels (`normalization: reference`). What an
order of tasks, or a film that everybody saw, gives away is declared for the reports: `session_minute`, `stimulus`.
"""

import json
import logging
import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigurationError, CorpusError, RecordingError, quote, suggest
from ..labels import canonical_or_own
from ..reading import read_yaml
from ..recordings.signal_names import USUAL_UNITS, convert, is_unit, other_units
from ..recordings.signal_recording import SignalRecording, Stream, check_clock, even_rate
from ..recordings.signal_times import as_seconds
from ..recordings.signals import channel_columns, read_signals, regroup
from ..typed_yaml import FieldReader
from . import Corpus, Target
from .file_tree import first_few
from .label_table import LabelRow, check_people, order_labels, read_labels
from .recording_rows import RecordingRow, build_recordings, check_targets, hash_arrays, robust_reference
from .splits import with_folds
from .synthetic.marker import MARKER

if TYPE_CHECKING:
    import datasets

logger = logging.getLogger(__name__)

STUDY = "study.yaml"
MARGIN_S = 10.0
_SLACK_S = 0.5
"""Seconds by which an interval may reach beyond its recording: times are written by hand."""
_OF_LEVEL = 4096
"""Samples of each recording that a person's level is measured on."""
_KEYS = ("recording", "person", "trial", "stimulus", "fold")


@dataclass(frozen=True)
class StreamNote:
    """What the YAML says of one stream.

    Attributes:
        channels: as the files name them, or `stream.channel`; none: the stream that the files call so, with all of its channels.
        unit: of its channels; files that name another one are converted, files that name none are taken at this word.
        rate: samples per second, where files say neither times nor a rate.
        optional: recordings may lack it; it is then missing in their rows.
    """

    channels: list[str] = field(default_factory=list)
    unit: str = ""
    rate: float | None = None
    optional: bool = False


@dataclass(frozen=True)
class Study:
    """What study.yaml says.

    Attributes:
        recordings: a pattern that matches each recording once, a file or a folder.
        person: "column": the csv names each; "folder": the folder below the pattern's fixed part; "recording": each its own.
        classes: in the order of their indices; null: sorted.
        targets: rating → [lowest, highest] of its scale, instead of classes.
        nuisances: columns of the csv that the design shares between people (`Corpus.nuisances`).
        clock: "recording": the csv's seconds are those of the file's clock; "start": they count from its first sample.
        ignore: recordings that are left out on purpose.
        folds: into how many groups people are divided, unless the csv has a column `fold`.
    """

    streams: dict[str, StreamNote]
    recordings: str = "recordings/*"
    labels: str = "labels.csv"
    person: Literal["column", "folder", "recording"] = "column"
    classes: list[str] | None = None
    targets: dict[str, list[float]] = field(default_factory=dict)
    groups: list[str] = field(default_factory=list)
    nuisances: list[str] = field(default_factory=list)
    clock: Literal["recording", "start"] = "recording"
    ignore: list[str] = field(default_factory=list)
    folds: int = 5
    description: str = ""
    citation: str = ""
    licence: str = ""

    @property
    def own_columns(self) -> list[str]:
        """Columns of the csv beyond those that are always known."""
        return list(dict.fromkeys([*self.groups, *self.nuisances]))


corpus = Corpus(
    name="signal_folder",
    kind="signals",
    labels=None,
    description="A folder of recordings of signals, with a csv of labels and a YAML that declares streams and units.",
    layout=f"{STUDY} (streams, classes or targets), labels.csv (recording, person, label or ratings; start and end, or time) and "
    "recordings/*",
    loader="meco_hub.corpora.signal_folder:read",
    reader="meco_hub.corpora.signal_folder:read_row",
    declared_by="meco_hub.corpora.signal_folder:declare",
    options={
        "study": f"name of the YAML; default {STUDY}",
        "margin_s": "seconds of the sensors to keep before and after an interval or window; default 10",
        "window_s": "of classes per sample: length of a window in seconds; default 60",
        "stride_s": "of classes per sample: seconds from one window to the next; default 30",
        "purity": "of classes per sample: share of a window's samples that must have one class; default 0.8",
    },
    citation="Whoever recorded it; it carries no citation of its own.",
    licence="Whatever holds for the recordings.",
)


# --- The YAML ---------------------------------------------------------------------------------------------------------


def read_study(path: Path, study: str = STUDY) -> Study:
    """The YAML of a folder."""
    if not path.is_dir():
        raise CorpusError(f"{path} is a file. Expected a folder: {corpus.layout}. Unpack it first.")
    file = path / study
    if not file.is_file():
        held = ", ".join(sorted(one.name for one in path.iterdir())[:5]) or "nothing"
        raise CorpusError(f"{path} holds no {study}; it holds {held}. Expected {corpus.layout}. Write it.")

    def refuse(place: str, problem: str) -> CorpusError:
        return CorpusError(f"{file}: {place or 'the file'} {problem}. Correct it.")

    found = FieldReader(refuse, skip_null=True).read(Study, read_yaml(file, CorpusError, "Expected YAML in UTF-8."))
    if not found.streams:
        raise refuse("streams", "is empty; expected the name of at least one stream")
    for name, one in found.streams.items():
        if one.unit and not is_unit(one.unit):
            raise refuse(
                f"streams.{name}.unit",
                f"is {one.unit!r}, a unit that is not known.{suggest(one.unit, USUAL_UNITS)} Known are {', '.join(USUAL_UNITS)}; "
                "leave it out where the device has none of these",
            )
        if one.rate is not None and not 0 < one.rate < math.inf:
            raise refuse(f"streams.{name}.rate", f"is {one.rate}; expected samples per second, a positive number")
    if found.classes is not None and found.targets:
        raise refuse("", "has both classes and targets; expected one of them")
    for name, scale in found.targets.items():
        if len(scale) != 2 or not scale[0] < scale[1]:
            raise refuse(f"targets.{name}", f"is {scale}; expected [lowest, highest] of its scale")
    columns = [*_KEYS, "label", "start", "end", "time", *found.targets]
    for key in ("groups", "nuisances"):
        for name in getattr(found, key):
            if name in columns and name != "stimulus":
                raise refuse(key, f"names the column {name!r}, which has a meaning already; expected other columns")
    if found.folds < 2:
        raise refuse("folds", f"is {found.folds}; expected 2 or more")
    return found


def declare(path: Path, study: str = STUDY, **options: Any) -> dict[str, Any]:
    """What `Corpus` declares of this folder, and what its owners say of it; the other options are about its rows."""
    found = read_study(path, study)
    table = _Labels(path, found)
    nuisances = ["stimulus"] if "stimulus" in table.columns else []
    if table.kind == "interval" or (table.kind == "sample" and not found.targets):
        nuisances.append("session_minute")
    said = {key: getattr(found, key) for key in ("description", "citation", "licence") if getattr(found, key)}
    return {
        "targets": tuple(Target(name, low, high) for name, (low, high) in found.targets.items()),
        "time_continuous": bool(found.targets) and table.kind == "sample",
        "streams": tuple(found.streams),
        "groups": tuple(found.groups),
        "nuisances": tuple(dict.fromkeys([*nuisances, *found.nuisances])),
        **said,
    }


# --- The recordings ---------------------------------------------------------------------------------------------------


def _find_recordings(path: Path, study: Study) -> dict[str, Path]:
    """Name → file or folder: paths below the fixed part of the pattern, in order."""
    own = {path / study.labels, path / STUDY, path / MARKER}
    if ".." in Path(study.recordings).parts:
        raise CorpusError(
            f"{path}: recordings is {study.recordings!r}, which leads out of the folder. Expected a pattern below it."
        )
    try:
        found = sorted(one for one in path.glob(study.recordings) if not one.name.startswith(".") and one not in own)
    except (ValueError, NotImplementedError) as error:
        raise CorpusError(
            f"{path}: recordings is {study.recordings!r}, no pattern ({error}). Expected one such as recordings/*."
        ) from error
    fixed = _fixed_part(path, study)
    named = {one.relative_to(fixed).as_posix(): one for one in found if one != fixed and one.is_relative_to(fixed)}
    if not named:
        raise CorpusError(
            f"{path} holds nothing that matches {study.recordings!r}. Expected a recording for each match. Put them there, or "
            "correct `recordings`."
        )
    places = {place for name in study.ignore for place in _matches(name, named, fixed, path)}
    unknown = [name for name in study.ignore if not _matches(name, named, fixed, path)]
    if unknown:
        raise CorpusError(f"{path}: `ignore` names {first_few(unknown)}, which {study.recordings!r} does not match.")
    return {name: one for name, one in named.items() if name not in places}


def _fixed_part(path: Path, study: Study) -> Path:
    parts = []
    for part in Path(study.recordings).parts[:-1]:
        if any(mark in part for mark in "*?["):
            break
        parts.append(part)
    return path.joinpath(*parts)


def _matches(given: str, named: Mapping[str, Path], fixed: Path, path: Path) -> list[str]:
    """The recordings that a cell may mean: its path below the folder or below the pattern's fixed part, with its ending or not."""
    text = Path(given.replace("\\", "/")).as_posix()
    below = fixed.relative_to(path).as_posix()
    text = text.removeprefix(f"{below}/") if below != "." else text
    if text in named:
        return [text]
    return [name for name, one in named.items() if one.is_file() and name.removesuffix(one.suffix) == text]


def _notes(study: Study) -> str:
    """What `read_row` must know of the YAML, as JSON."""
    streams = {name: asdict(one) for name, one in study.streams.items()}
    return json.dumps({"clock": study.clock, "streams": streams, "targets": list(study.targets)})


def _read_streams(source: Path, notes: str) -> SignalRecording:
    return _cached_streams(source, notes, source.stat().st_mtime_ns)


@lru_cache(maxsize=4)
def _cached_streams(source: Path, notes: str, changed: int) -> SignalRecording:
    """The declared streams of one recording, in the declared units; `changed` makes a file written anew another one."""
    said = json.loads(notes)
    declared = {name: StreamNote(**one) for name, one in said["streams"].items()}
    rates = {label: one.rate for name, one in declared.items() if one.rate for label in (name, *one.channels)}
    whole = read_signals(source, rates=rates)
    known = channel_columns(whole)
    chosen: dict[str, list[str]] = {}
    for name, one in declared.items():
        wanted = one.channels or [name]
        absent = [label for label in wanted if label not in known and label not in whole.streams]
        if not absent:
            chosen[name] = wanted
        elif not one.optional or len(absent) < len(wanted):
            plain = [*whole.streams, *(label for label in known if "." not in label and label not in whole.streams)]
            reasons = " ".join(doubt.message for doubt in whole.warnings if doubt.code == "part_left_out")
            raise RecordingError(
                f"{source} lacks {first_few(absent)}, of which stream {name!r} is to be made.{suggest(absent[0], plain)} It has "
                f"{first_few(plain, 12)}.{' ' * bool(reasons)}{reasons} Correct {name!r} in the YAML, or say optional: true there."
            )
    if not chosen:
        raise RecordingError(
            f"{source} has none of the streams {', '.join(declared)}. Expected one of them. Add it to `ignore`."
        )
    made = regroup(whole, chosen)
    for doubt in whole.warnings:
        logger.warning("%s", doubt.message)
    streams = {
        name: _in_unit(one, declared[name].unit, f"{source}, stream {name!r}") for name, one in made.streams.items()
    }
    recording = SignalRecording(streams, name=source.name)
    if said["clock"] == "start":
        moved = recording.shift(dict.fromkeys(streams, -recording.start))
        return SignalRecording(moved.streams, name=source.name)
    return recording


def _in_unit(stream: Stream, unit: str, where: str) -> Stream:
    """The samples as 32-bit numbers in a unit; those of a file that names none are taken to be in it."""
    values = stream.values
    if unit and any(stream.units):
        columns = []
        for place, own in enumerate(stream.units):
            found = convert(values[:, place], own, unit) if own else values[:, place]
            if found is None:
                raise RecordingError(
                    f"{where}: the file says {own!r} and the YAML {unit!r}, and one cannot be made of the other. Correct the unit "
                    "in the YAML."
                )
            columns.append(found)
        values = np.stack(columns, axis=1)
    said = (unit,) * values.shape[1] if unit else stream.units
    return replace(stream, values=values.astype(np.float32), units=said)


# --- The csv ----------------------------------------------------------------------------------------------------------


class _Labels:
    """The csv, its lines checked as far as that needs no recording.

    Attributes:
        kind: what a line is about: "recording", "interval" or "sample".
    """

    def __init__(self, path: Path, study: Study) -> None:
        self.file = path / study.labels
        self.study = study
        values = [*study.targets] or ["label"]
        known = [*_KEYS, *values, "start", "end", "time", *study.own_columns]
        known = [name.lower() for name in dict.fromkeys(known)]
        self.rows = read_labels(
            self.file,
            required=["recording", *(name.lower() for name in values)],
            known=known,
            remedy="Rename it, take it out, or name it under `groups`, `nuisances` or `targets` in the YAML.",
        )
        self.columns = set(self.rows[0].cells)
        bounds = {"start", "end"} & self.columns
        if len(bounds) == 1 or (bounds and "time" in self.columns):
            raise CorpusError(
                f"{self.file} has the columns {', '.join(sorted(bounds | ({'time'} & self.columns)))}. Expected start and end "
                "(intervals), or time (samples), or none of them (whole recordings). Correct the header."
            )
        self.kind = "interval" if bounds else "sample" if "time" in self.columns else "recording"
        for name in study.own_columns:
            if name.lower() not in self.columns:
                raise CorpusError(
                    f"{self.file} has no column {name!r}, which the YAML names. Add it, or take it out there."
                )
        if study.person == "column" and "person" not in self.columns:
            raise CorpusError(
                f"{self.file} has no column person. Expected who each recording is of, because nobody may stand on both sides of a "
                "training. Add it, or say `person: folder` or `person: recording` in the YAML."
            )

    def by_recording(self, named: Mapping[str, Path], path: Path) -> dict[str, list[LabelRow]]:
        """Name of the recording → its lines, in the order of the names."""
        fixed, found, meant = _fixed_part(path, self.study), defaultdict[str, list[LabelRow]](list), dict[str, str]()
        for row in self.rows:
            cell = row.need("recording")
            if cell not in meant:
                places = _matches(cell, named, fixed, path)
                if len(places) != 1:
                    wrong = f"{len(places)} recordings: {first_few(places)}" if places else "no recording"
                    raise CorpusError(
                        f"{row.where}: {quote(cell)!r} names {wrong}.{suggest(cell, named)} Expected one of {first_few(named)}. "
                        "Correct the cell, or add the recording."
                    )
                meant[cell] = places[0]
            found[meant[cell]].append(row)
        if self.kind == "recording" and (twice := [rows[1] for rows in found.values() if len(rows) > 1]):
            raise CorpusError(
                f"{twice[0].where}: {quote(twice[0]['recording'])!r} is labelled a second time. Expected one line for each "
                "recording; parts of one need the columns start and end. Correct the file."
            )
        bare = [name for name in named if name not in found]
        if bare:
            raise CorpusError(
                f"{self.file} has no line for {first_few(bare)}. Expected one for every recording. Add them, or name them under "
                "`ignore` in the YAML."
            )
        return {name: found[name] for name in named}

    def person(self, name: str, rows: Sequence[LabelRow]) -> str:
        """Who a recording is of."""
        said = sorted({row.need("person") for row in rows}) if "person" in self.columns else []
        if len(said) > 1:
            raise CorpusError(
                f"{rows[0].where} and others: the recording {name} is of {first_few(said)}. Expected one person. Correct it."
            )
        if self.study.person == "column":
            return said[0]
        if self.study.person == "folder" and "/" not in name:
            raise CorpusError(
                f"{name} lies in no folder of a person, and the YAML says `person: folder`. Expected recordings as <person>/…; "
                "let `recordings` match those, or give the csv a column person."
            )
        own = name.split("/")[0] if self.study.person == "folder" else Path(name).with_suffix("").as_posix()
        if said and said[0] != own:
            raise CorpusError(
                f"{rows[0].where}: the recording {name} is of {quote(said[0])!r}, and by `person: {self.study.person}` of {own!r}. "
                "Expected one name for each person. Take `person` out of the YAML, or correct the column."
            )
        return own

    def seconds(self, rows: Sequence[LabelRow], column: str) -> NDArray[np.float64]:
        """(rows,) times: numbers, or dates in ISO 8601."""
        cells = np.array([(row.need(column), row.plain(column))[1] for row in rows], object)
        try:
            found = np.asarray(as_seconds(cells, f"{self.file}, column {column!r}"), np.float64)
        except RecordingError:
            import pandas

            found = np.asarray(pandas.to_numeric(cells, errors="coerce"), np.float64)
            if np.isfinite(found).all():
                raise  # numbers all, of another unit
        for row, second in zip(rows, found, strict=True):
            if not np.isfinite(second):
                raise CorpusError(
                    f"{row.where}: {column} is {quote(row[column], 40)!r}. Expected seconds, or dates in ISO 8601, as in all "
                    "lines. Correct it."
                )
        return found

    def value(self, row: LabelRow) -> dict[str, Any]:
        """`label` or `targets` of a line."""
        if not self.study.targets:
            return {"label": canonical_or_own(row.need("label"))}
        values = [row.number(name.lower()) for name in self.study.targets]
        for (name, (low, high)), value in zip(self.study.targets.items(), values, strict=True):
            check_targets([value], low, high, f"{row.where}, {name}")
        return {"targets": values}


# --- The rows ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Part:
    """A row in the making: the labels of one part of one recording, from `start` to `end` on its clock."""

    start: float
    end: float
    row: LabelRow
    value: Mapping[str, Any]
    suffix: str = ""
    trial: str = ""


_FEWEST_OTHERS = 3
"""Recordings that one is compared with, at least."""


def read(
    path: Path,
    study: str = STUDY,
    margin_s: float = MARGIN_S,
    window_s: float = 60.0,
    stride_s: float = 30.0,
    purity: float = 0.8,
) -> "datasets.DatasetDict":
    """Read a folder; see the module for the layout and `Corpus.load` for the columns.

    Further columns: `notes` and `reference` (JSON), `margin_s`, `session_minute`, the groups and nuisances of the YAML, and of
    ratings over time `rating_times` (seconds on the recording's clock), `ratings` (of each moment, by target) and
    `annotations_sha256`.
    """
    import datasets
    from tqdm.auto import tqdm

    if not (window_s > 0 and stride_s > 0 and 0.5 < purity <= 1 and margin_s >= 0):
        raise ConfigurationError(
            f"signal_folder: window_s is {window_s}, stride_s {stride_s}, purity {purity}, margin_s {margin_s}. Expected positive "
            "seconds, a share above 0.5 and up to 1, and a margin of 0 or more."
        )
    declared = read_study(path, study)
    table = _Labels(path, declared)
    named = _find_recordings(path, declared)
    lines = table.by_recording(named, path)
    people = {name: table.person(name, rows) for name, rows in lines.items()}
    check_people(dict.fromkeys(people.values()), str(table.file))
    notes = _notes(declared)
    levels: dict[str, dict[str, list[NDArray[Any]]]] = defaultdict(lambda: defaultdict(list))
    widths: dict[str, tuple[int, str]] = {}
    heights: dict[str, dict[str, float]] = defaultdict(dict)
    lasts: list[tuple[float, float]] = []
    rows: list[RecordingRow] = []
    for name, source in tqdm(named.items(), desc=path.name, unit=" recordings", disable=None):
        recording = _read_streams(source, notes)
        for stream, one in recording.streams.items():
            width, first = widths.setdefault(stream, (one.values.shape[1], name))
            if one.values.shape[1] != width:
                raise CorpusError(
                    f"{source}: stream {stream!r} has {one.values.shape[1]} channels, and in {first} {width}. Expected the same in "
                    f"every recording. Name them in the YAML: streams.{stream}.channels."
                )
            some = one.values[:: max(1, len(one) // _OF_LEVEL)]
            levels[people[name]][stream].append(some)
            if np.isfinite(some).any():
                heights[stream][name] = float(np.nanpercentile(np.abs(some), 90))
        parts = list(_parts(table, name, lines[name], recording, (float(window_s), float(stride_s), purity)))
        rows += [_row(table, name, source, people[name], recording, part, notes, margin_s) for part in parts]
        if parts:
            last = max(part.end for part in parts)
            lasts.append((last - recording.start, recording.end - recording.start))
    for doubt in (*_doubt_units(heights, declared, str(path)), *_doubt_minutes(lasts, str(table.file))):
        logger.warning("%s", doubt)
    references = {
        who: json.dumps({name: robust_reference(np.concatenate(found)).tolist() for name, found in own.items()})
        for who, own in levels.items()
    }
    rows = [replace(row, extras={**row.extras, "reference": references[row.identity]}) for row in rows]
    names: list[str] = []
    if not declared.targets:
        names = order_labels(
            Counter(str(row.extras["label"]) for row in rows),
            declared.classes,
            str(table.file),
            what="rows",
            remedy="Add them to `classes` in the YAML, or correct the csv.",
        )
        rows = [replace(row, label=names.index(row.extras["label"])) for row in rows]
    extras: dict[str, Any] = {
        "notes": "string",
        "reference": "string",
        "margin_s": "float64",
        "session_minute": "float64",
    }
    extras |= dict.fromkeys(declared.own_columns, "string")
    if declared.targets and table.kind == "sample":
        seconds = datasets.List(datasets.Value("float64"))
        extras |= {"rating_times": seconds, "ratings": datasets.List(seconds), "annotations_sha256": "string"}
    splits = build_recordings(rows, label_names=names, extras=extras, address=str(path))
    if "fold" in table.columns:
        return splits
    return with_folds(splits, None if names else "P3", str(path), n_folds=declared.folds)


def _doubt_units(heights: Mapping[str, Mapping[str, float]], study: Study, path: str) -> Iterator[str]:
    """What is to be said of recordings whose numbers are those of the others in another unit only.

    `heights`: stream → recording → what nine in ten of its samples stay below, without their signs.
    """
    for stream, of in heights.items():
        unit = study.streams[stream].unit
        for name, height in of.items():
            others = [one for other, one in of.items() if other != name]
            if not unit or len(others) < _FEWEST_OTHERS:
                continue
            low, high = min(others), max(others)
            if height >= low / 50 and abs(height - float(np.median(others))) <= 5 * (high - low):
                continue
            for other in other_units(unit):
                converted = convert(np.array([[height]]), other, unit)
                if converted is not None and 2 * low - high <= converted.item() <= 2 * high - low:
                    yield (
                        f"{path}: in {name} stream {stream!r} reaches {height:.3g} {unit}, in the other recordings {low:.3g} to "
                        f"{high:.3g}. In {other} it would be {converted.item():.3g} {unit}. Name the unit in that file's header."
                    )
                    break


def _doubt_minutes(lasts: Sequence[tuple[float, float]], file: str) -> Iterator[str]:
    """What is to be said where labels end early in every recording, as minutes taken for seconds do.

    `lasts`: of each recording, seconds from its start to the end of its last label, and to its own end.
    """
    ends, lengths = (np.array([pair[place] for pair in lasts]) for place in (0, 1))
    if len(lasts) < 2 or lengths.min() <= 0:
        return
    if (60 * ends <= lengths + _SLACK_S).all() and np.median(60 * ends / lengths) > 0.5:
        yield (
            f"{file}: every recording's labels end within its first {100 * float((ends / lengths).max()):.2g} %, at "
            f"{ends.max():g} s at the latest. Write seconds, where these are minutes."
        )


def read_row(row: Mapping[str, Any]) -> SignalRecording:
    """The recording of one row, its clock 0 where the row begins; a stream without a sample there is absent."""
    source, notes = Path(row["source"]), json.loads(row["notes"])
    if not source.exists():
        raise RecordingError(f"{source} is not there any more. Expected it where the corpus was loaded. Load it again.")
    start, end = float(row["start_s"]), float(row["end_s"])
    clip = _read_streams(source, row["notes"]).clip(start, end, row["margin_s"])
    streams = {  # copies: a view would keep the whole recording
        name: replace(one, values=one.values.copy(), times=one.times - start)
        for name, one in clip.streams.items()
        if len(one)
    }
    annotations = {}
    if "ratings" in row:
        times, values = np.asarray(row["rating_times"]) - start, np.asarray(row["ratings"], np.float32)
        annotations = {
            name: Stream(values[:, [place]], times, even_rate(times), (name,))
            for place, name in enumerate(notes["targets"])
        }
    reference = {name: np.asarray(level) for name, level in json.loads(row["reference"]).items()}
    return SignalRecording(streams, 0.0, end - start, row["sample_id"], annotations, reference)


def _parts(
    table: _Labels, name: str, rows: Sequence[LabelRow], recording: SignalRecording, cut: tuple[float, float, float]
) -> Iterator[_Part]:
    """What becomes rows of one recording; `cut`: seconds of a window, from one to the next, and share of its one class."""
    window, stride, purity = cut
    if table.kind == "recording":
        yield _Part(recording.start, recording.end, rows[0], table.value(rows[0]), trial=name)
        return
    if table.kind == "interval":
        yield from _intervals(table, name, rows, recording)
        return
    times = table.seconds(rows, "time")
    check_clock(times, f"{table.file}, {name}, column 'time'")
    _refuse_outside(recording, times[0], times[-1], rows[0].where)
    values = [table.value(row) for row in rows]
    if table.study.targets:
        ratings = np.asarray([value["targets"] for value in values])
        if not np.isfinite(ratings).any():
            raise CorpusError(f"{rows[0].where}: {name} has no rating in any of its lines. Fill them, or `ignore` it.")
        over_time = {"rating_times": times.tolist(), "ratings": ratings.tolist()}
        over_time["annotations_sha256"] = hash_arrays([times, ratings])
        yield _Part(float(times[0]), float(times[-1]), rows[0], over_time, trial=name)
        return
    if len(times) < 2:
        raise CorpusError(
            f"{rows[0].where}: {name} has one labelled moment. Expected many, or the columns start and end."
        )
    classes, step = np.asarray([value["label"] for value in values]), float(np.median(np.diff(times)))
    for number in range(max(0, math.floor((times[-1] + step - times[0] - window) / stride + 1e-6) + 1)):
        begin = float(times[0]) + number * stride
        inside = np.flatnonzero((times >= begin) & (times < begin + window - 1e-9))
        if len(inside) < 0.9 * window / step:  # labels have a gap here
            continue
        (most, count), *_ = Counter(classes[inside].tolist()).most_common(1)
        if count / len(inside) >= purity:
            changes = np.count_nonzero(classes[1 : inside[len(inside) // 2] + 1] != classes[: inside[len(inside) // 2]])
            trial = f"{name}_{most}_{changes}"
            yield _Part(begin, begin + window, rows[inside[0]], {"label": most}, f"_{begin - times[0]:07.1f}", trial)


def _intervals(table: _Labels, name: str, rows: Sequence[LabelRow], recording: SignalRecording) -> Iterator[_Part]:
    starts, ends = table.seconds(rows, "start"), table.seconds(rows, "end")
    order = np.argsort(starts, kind="stable")
    for number, place in enumerate(order):
        row, start, end = rows[place], float(starts[place]), float(ends[place])
        if not start < end:
            raise CorpusError(
                f"{row.where}: the interval begins at {start:g} s and ends at {end:g} s. Expected it to end later."
            )
        _refuse_outside(recording, start, end, row.where)
        if number and start < ends[order[number - 1]] - 1e-9:
            other = rows[order[number - 1]]
            raise CorpusError(
                f"{row.where}: the interval from {start:g} to {end:g} s overlaps the one from {starts[order[number - 1]]:g} to "
                f"{ends[order[number - 1]]:g} s ({other.where}). Expected one after the other. Correct one."
            )
        value = table.value(row)
        if table.study.targets and not np.isfinite(value["targets"]).any():
            raise CorpusError(f"{row.where}: no rating at all. Fill one, or remove the line.")
        yield _Part(start, end, row, value, f"_{number:03d}", f"{name}_{number:03d}")


def _refuse_outside(recording: SignalRecording, start: float, end: float, where: str) -> None:
    if recording.start - _SLACK_S <= start and end <= recording.end + _SLACK_S:
        return
    hint = "correct the times"
    if recording.start > 1e6 and end < 1e6:
        hint = "say `clock: start` in the YAML where times count from the first sample"
    elif end > 100 * recording.end:
        hint = "write seconds, where these are milliseconds"
    raise CorpusError(
        f"{where}: {start:g} to {end:g} s, and {recording.name} lasts from {recording.start:g} to {recording.end:g} s. Expected "
        f"times within it: {hint}."
    )


def _row(
    table: _Labels,
    name: str,
    source: Path,
    person: str,
    recording: SignalRecording,
    part: _Part,
    notes: str,
    margin: float,
) -> RecordingRow:
    inside = {stream: one.between(part.start, part.end) for stream, one in recording.streams.items()}
    held = {stream: one for stream, one in inside.items() if np.isfinite(one.values).any()}
    if not held:
        raise CorpusError(
            f"{part.row.where}: {name} has no sample of {', '.join(table.study.streams)} from {part.start:g} to {part.end:g} s. "
            "Expected some. Correct the times, or remove the line."
        )
    extras: dict[str, Any] = {"notes": notes, "margin_s": margin}
    # rows whose middles lie in the same minute share the value; a clock of many digits is off by a hair
    extras["session_minute"] = float(math.floor(((part.start + part.end) / 2 - recording.start) / 60 + 1e-6))
    extras |= {own: part.row[own.lower()] for own in table.study.own_columns}
    return RecordingRow(
        sample_id=f"{name}{part.suffix}",
        identity=person,
        source=str(source),
        content_sha256=hash_arrays(one.values for _, one in sorted(held.items())),
        fold=part.row.fold(),
        targets=part.value.get("targets"),
        trial=part.row["trial"] or part.trial,
        stimulus=part.row["stimulus"],
        start_s=part.start,
        end_s=part.end,
        extras={**extras, **part.value},
    )
