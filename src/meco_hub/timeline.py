"""Answers of all kinds in one form: a row for every time, person and label. As a table, a data frame, a plot.

    to_frame(recognise("talk.mp4"))            a data frame of pandas
    to_frame({"a.jpg": recognise("a.jpg"), …}) several, with the name of each under `file`
    to_frame(recognise.stream("talk.mp4"))     every step of it

The columns, of which a table has those that mean something for it:

    file, person, time      whose; `person` counts from 0, `time` is in seconds; None where there is one or no time
    label, score            the class and its probability, or the target and its value
    is_label                of films, whether this is the person's label at that time, after smoothing
    xmin … ymax             where the face is
    looked_at, face_score, face_side, tilt, start, end, frames, events, abstained      as answers hold them
    training_data           of checkpoints that learnt from drawn data
    streams, warnings, error   in the first row of a file and person; `streams` is JSON
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from .csv_files import write_rows
from .durable import whole_file
from .errors import InputError, import_optional

if TYPE_CHECKING:
    import pandas

COLUMNS = (
    *("file", "person", "time", "label", "score", "is_label", "xmin", "ymin", "xmax", "ymax", "looked_at"),
    *("face_score", "face_side", "tilt", "start", "end", "frames", "events", "training_data", "abstained"),
    *("streams", "warnings", "error"),
)
_BOX = ("xmin", "ymin", "xmax", "ymax")
_WHOLE = ("looked_at", "face_score", "face_side", "tilt", "start", "end", "frames", "events", "training_data")
_ALWAYS = ("file", "person", "time", "label", "score")

Row = dict[str, Any]


def timeline(answer: Any, file: str = "") -> Iterator[Row]:
    """An answer as rows, in the order of persons, times, and labels as the answer has them.

    Args:
        answer: what the pipeline, or one step of its `stream`, gave for one input; or {"error": message}.
        file: its name.
    """
    if isinstance(answer, Mapping):
        yield {"file": file, "error": answer["error"]}
        return
    several = bool(answer) and "expressions" in answer[0]
    for place, one in enumerate(answer if several else [{"expressions": answer}] if answer else []):
        entries = one["expressions"]
        whole = {**entries[0], **one}
        row: Row = {"file": file, "person": one.get("id", place) if several else None}
        row |= {key: whole[key] for key in _WHOLE if whole.get(key) is not None}
        doubts = {"streams": json.dumps(whole["streams"], ensure_ascii=False)} if "streams" in whole else {}
        doubts |= {"warnings": " ".join(f"{said['message']} [{said['code']}]" for said in whole.get("warnings") or ())}
        for step, time in enumerate(_times(whole)):
            box = one["boxes"][step] if "boxes" in one else list((whole.get("box") or {}).values())
            here = dict(zip(_BOX, box, strict=True)) if len(box) else {}
            label = one["labels"][step] if "labels" in one else one.get("label")
            for entry in entries:
                score = entry["scores"][step] if "scores" in entry else entry["score"]
                own = {} if label is None else {"is_label": entry["label"] == label}
                own |= {"abstained": entry["abstained"]} if "abstained" in entry else {}
                yield {**row, "time": time, "label": entry["label"], "score": score, **own, **here, **doubts}
                doubts = {}


def _times(whole: Mapping[str, Any]) -> list[float | None]:
    """When scores hold; of one clip, in its middle."""
    if "times" in whole:
        return whole["times"]
    if whole.get("time") is not None:
        return [whole["time"]]
    start, end = whole.get("start"), whole.get("end")
    return [None if start is None or end is None else (start + end) / 2]


def _all_rows(answers: Any) -> Iterator[Row]:
    named: Iterable[tuple[str, Any]] = [("", answers)]
    if isinstance(answers, Mapping) and "error" not in answers:
        named = answers.items()
    elif isinstance(answers, Iterator):
        named = (("", answer) for answer in answers)
    elif isinstance(answers, list) and any(isinstance(one, list) or set(one) == {"error"} for one in answers):
        named = ((str(place), answer) for place, answer in enumerate(answers))
    for name, answer in named:
        yield from timeline(answer, name)


def to_frame(answers: Any) -> "pandas.DataFrame":
    """Answers as a data frame of pandas: a row for every time, person and label.

    Args:
        answers: what the pipeline gave for one input, or for several, a list or a mapping from a name to each; or a stream, of
            which every step is taken.

    Returns:
        The columns of the module's docstring that mean something here; `file` is the name, the place in a list, or empty.

    Raises:
        DependencyError: pandas is not installed.
    """
    pandas: Any = import_optional("pandas", "A data frame", "signals")
    rows = list(_all_rows(answers))
    return pandas.DataFrame(rows, columns=[key for key in COLUMNS if key in _ALWAYS or any(key in row for row in rows)])


def write_csv(answers: Iterable[tuple[str, Any]], stream: TextIO) -> None:
    """Write (name, answer) as a table of `COLUMNS`, which stay the same whatever is answered; row by row."""
    rows = (row for name, answer in answers for row in timeline(answer, name))
    write_rows(stream, COLUMNS, ([row.get(key) for key in COLUMNS] for row in rows), line_end="\r\n")


_PANELS = 40
"""Persons and files that a plot shows, one below the other: of more, those with the longest answers."""


_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000", "#F0E442")
"""Of lines: told apart by the colour-blind too (Okabe, Ito: Color universal design, 2008)."""

_LINES = ("-", "--", ":")  # what tells labels beyond the colours apart

_PLANE = ("valence", "arousal")
"""Targets that span a plane: drawn beside their curves, the one to the right, the other upwards."""


def plot(answers: Iterable[tuple[str, Any]], path: Path) -> None:
    """Draw (name, answer) over time: a panel for each file and person, a line for each label.

    Beside the curves of valence and arousal stands their plane, in which the colour says when.

    Args:
        answers: those that do not run over time are left out.
        path: of the picture; its ending says which kind.

    Raises:
        InputError: none of them runs over time, or the picture cannot be written.
        DependencyError: matplotlib is not installed.
    """
    figure = draw_timeline([row for name, answer in answers for row in timeline(answer, name)])
    try:
        with whole_file(path) as partial:
            figure.savefig(partial, dpi=120)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} cannot be written: {error}. Expected a path that ends in .png, .svg or .pdf."
        ) from error


def draw_timeline(rows: Iterable[Row]) -> Any:
    """The figure that `plot` writes, of rows of `timeline`.

    Raises:
        InputError: none of them runs over time.
        DependencyError: matplotlib is not installed.
    """
    figure_of: Any = import_optional("matplotlib.figure", "A plot", "report", "matplotlib")
    timed = [row for row in rows if row.get("time") is not None]
    panels = [(whose, list(own)) for whose, own in groupby(timed, key=lambda row: (row["file"], row["person"]))]
    if not panels:
        raise InputError("0 files and persons run over time; expected some. Name films, eye clips or recordings.")
    found = len(panels)
    if found > _PANELS:
        longest = sorted(range(found), key=lambda place: len(panels[place][1]), reverse=True)[:_PANELS]
        panels = [panels[place] for place in sorted(longest)]
    labels = sorted({row["label"] for row in timed})
    plane = set(_PLANE) <= set(labels)
    figure = figure_of.Figure(figsize=(12.5 if plane else 9, 0.6 + 2.2 * len(panels)), layout="constrained")
    if found > _PANELS:
        figure.suptitle(f"{_PANELS} of {found} files and persons: those with the longest answers")
    ratios = {"width_ratios": (3, 1)} if plane else None
    grid = figure.subplots(len(panels), 2 if plane else 1, squeeze=False, gridspec_kw=ratios)
    one_clock = len({file for (file, _), _ in panels}) == 1
    shares = all(0 <= row["score"] <= 1 for row in timed if row["score"] is not None)
    looks = {label: (_COLOURS[place % 8], _LINES[place // 8 % 3]) for place, label in enumerate(labels)}
    for axes, ((file, person), own) in zip(grid, panels, strict=True):
        axis = axes[0]
        if one_clock and axis is not grid[0, 0]:
            axis.sharex(grid[0, 0])
        courses = {label: _course(own, label) for label in dict.fromkeys(row["label"] for row in own)}
        for label, (times, scores) in courses.items():
            colour, line = looks[label]
            marker = "o" if len(times) == 1 else None
            axis.plot(times, scores, label=label, color=colour, linestyle=line, linewidth=1.2, marker=marker)
        axis.set_title(Path(file).name + ("" if person is None else f", person {person}"), fontsize=9, loc="left")
        axis.set_ylabel("probability" if shares else "value")
        if shares:
            axis.set_ylim(-0.02, 1.02)
        axis.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
        if plane and set(_PLANE) <= courses.keys():
            _draw_plane(figure, axes[1], *(courses[name] for name in _PLANE))
    grid[-1, 0].set_xlabel("seconds")
    return figure


def _course(rows: list[Row], label: str) -> tuple[list[float], list[float]]:
    """Times, and the scores of one label at them; NaN where there is none."""
    own = [row for row in rows if row["label"] == label]
    return [row["time"] for row in own], [float("nan") if row["score"] is None else row["score"] for row in own]


def _draw_plane(
    figure: Any, axis: Any, across: tuple[list[float], list[float]], up: tuple[list[float], list[float]]
) -> None:
    """Where one person is in the plane, and when: dark at first, light in the end, told apart without colour too."""
    axis.plot(across[1], up[1], color="0.75", linewidth=0.8, zorder=1)
    dots = axis.scatter(across[1], up[1], c=across[0], cmap="cividis", s=14, zorder=2)
    axis.set_xlabel(_PLANE[0], fontsize=8)
    axis.set_ylabel(_PLANE[1], fontsize=8)
    axis.tick_params(labelsize=7)
    figure.colorbar(dots, ax=axis, label="seconds")
