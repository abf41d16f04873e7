"""Pictures of a report: confusion, reliability, people, truth against answer, degradation and routing.

Colours are of Okabe and Ito's palette and of cividis, which people who see colours differently, and grey printers, tell apart;
lines differ in marker and dash too. `report.write_pictures` draws whatever a report has. Everywhere `file` is what to write, a PNG,
SVG or PDF by its ending (texts stay texts in the latter two), `title` stands over the picture, and `note`, below it, says on
what and on how many it is.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..durable import whole_file
from ..errors import InputError, import_optional

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito 2008, without the yellow, which is faint on white."""

_MARKERS, _DASHES = "osD^vPX", ("-", "--", "-.", ":")
_STYLE = {"font.size": 11, "axes.titlesize": 12, "axes.spines.top": False, "axes.spines.right": False}
# texts as texts, equal files of equal reports
_STYLE |= {"svg.fonttype": "none", "svg.hashsalt": "meco_hub", "pdf.fonttype": 42}
_WITHOUT = {".png": "Software", ".svg": "Date", ".pdf": "CreationDate"}
"""Format → what would make equal pictures differ: matplotlib's version, or the time."""
FORMATS = tuple(ending[1:] for ending in _WITHOUT)
"""What pictures can be written as."""

_MANY = 2000
"""Points from which on a scatter is drawn as pixels inside a file of shapes, which viewers could not turn otherwise."""
_DPI = 150
_MOST_NAMED = 30
"""Rows or columns up to which every cell of a heat map is labelled with its number."""


def require_matplotlib() -> Any:
    """What draws; asked for before anything is computed that pictures shall show."""
    return import_optional("matplotlib", "A picture of a report", "report")


@contextmanager
def _picture(file: str | Path, width: float, height: float, note: str = "") -> Iterator[Any]:
    """An empty figure of no window system, saved when its user has drawn."""
    ending = Path(file).suffix.lower()
    if ending not in _WITHOUT:
        raise InputError(f"{file} is to be a picture. Expected a path that ends in .{', .'.join(FORMATS)}. Rename it.")
    matplotlib = require_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    style: Any = _STYLE
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained")
        FigureCanvasAgg(figure)
        yield figure
        if note:
            figure.supxlabel(note, fontsize=9, color="#444444")
        with whole_file(Path(file)) as partial:
            figure.savefig(partial, format=ending[1:], metadata={_WITHOUT[ending]: None})


def _heat_map(
    figure: Any,
    values: NDArray[np.float64],
    rows: Sequence[str],
    columns: Sequence[str],
    texts: Any,
    bar: str,
    most: float = 1.0,
) -> Any:
    """Cells from 0 to `most` with their texts; NaN is left grey."""
    axes = figure.add_subplot()
    axes.set_facecolor("#DDDDDD")
    shown = axes.imshow(np.ma.masked_invalid(values), cmap="cividis", vmin=0, vmax=most, aspect="auto")
    axes.spines[:].set_visible(False)
    rotation, side = (40, "right") if max(map(len, columns)) > 4 else (0, "center")
    axes.set_xticks(range(len(columns)), columns, rotation=rotation, ha=side, rotation_mode="anchor")
    axes.set_yticks(range(len(rows)), rows)
    axes.set_xticks(np.arange(len(columns) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(rows) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1.5)
    axes.tick_params(which="both", length=0)
    if max(values.shape) <= _MOST_NAMED:
        for row, column in np.ndindex(*values.shape):
            dark = np.isfinite(values[row, column]) and values[row, column] < 0.55 * most
            colour = "white" if dark else "black"
            axes.text(column, row, texts[row][column], ha="center", va="center", fontsize=9, color=colour)
    figure.colorbar(shown, ax=axes, label=bar, fraction=0.046, pad=0.02).outline.set_visible(False)
    return axes


def draw_confusion(counts: Any, labels: Sequence[str], file: str | Path, *, title: str = "", note: str = "") -> Path:
    """Confusion matrix: cells coloured by the share of their row, with share and count.

    Args:
        counts: (classes, classes), rows true, columns predicted.
    """
    table = np.asarray(counts, np.float64)
    _check(table, len(labels), len(labels))
    with np.errstate(invalid="ignore"):
        shares = table / table.sum(axis=1, keepdims=True)
    texts = [
        ["" if np.isnan(share) else f"{share:.2f}\n{count:.0f}" for share, count in zip(*both, strict=True)]
        for both in zip(shares, table, strict=True)
    ]
    side = max(5.0, 0.85 * len(labels) + 2.2)
    with _picture(file, side + 0.8, side, note) as figure:
        axes = _heat_map(figure, shares, labels, labels, texts, "share of the true class (recall on the diagonal)")
        axes.set(xlabel="predicted", ylabel="true", title=title)
    return Path(file)


def draw_reliability(
    bins: Sequence[Mapping[str, Any]], file: str | Path, *, ece: float | None = None, title: str = "", note: str = ""
) -> Path:
    """Reliability diagram: accuracy over confidence, and how many samples each bin holds.

    Args:
        bins: of the report: "low", "high", "n", "confidence", "accuracy" (null without samples).
    """
    with _picture(file, 5.6, 6.4, note) as figure:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        filled = [one for one in bins if one["n"]]
        widths = [one["high"] - one["low"] for one in filled]
        upper.plot([0, 1], [0, 1], color="#666666", linestyle="--", linewidth=1.2, label="as often right as sure")
        upper.bar(
            [one["low"] for one in filled], [one["accuracy"] for one in filled], widths, align="edge",
            color=COLOURS[5], edgecolor="white", label="accuracy",
        )  # fmt: skip
        upper.plot(
            [one["confidence"] for one in filled], [one["accuracy"] for one in filled], color=COLOURS[1], marker="o",
            markersize=5, linewidth=1.5, label="at the mean confidence of the bin",
        )  # fmt: skip
        upper.legend(loc="upper left", frameon=False, fontsize=10)
        counts, lows = [one["n"] for one in filled], [one["low"] for one in filled]
        bars = lower.bar(lows, counts, widths, align="edge", color="#888888", edgecolor="white")
        lower.bar_label(bars, fontsize=8)
        lower.margins(y=0.25)  # room for the counts
        lower.set(xlim=(0, 1), xlabel="confidence: probability of the top label", ylabel="samples")
        # the bars leave no corner free for it
        said = title if ece is None else f"{title}   ECE {ece:.3f}".strip()
        upper.set(ylim=(0, 1.02), ylabel="share that is right", title=said)
    return Path(file)


def draw_people(
    values: Sequence[float | None],
    file: str | Path,
    *,
    metric: str,
    whole: float | None = None,
    interval: Sequence[float] | None = None,
    chance: float | None = None,
    title: str = "",
    note: str = "",
) -> Path:
    """A dot for every person, from the best to the worst.

    Args:
        values: of each person; None where a person's rows do not define it.
        whole: the figure over everybody, drawn as a line across, and `interval` (low, high) as a band around it.
    """
    known = np.sort(_numbers([value for value in values if value is not None]))[::-1]
    with _picture(file, 6.4, 4.4, note) as figure:
        axes = figure.add_subplot()
        if interval:
            axes.axhspan(interval[0], interval[1], color=COLOURS[0], alpha=0.12, linewidth=0)
        _line(axes, whole, "all")
        _line(axes, chance, "chance")
        axes.plot(np.arange(1, len(known) + 1), known, linestyle="none", marker="o", markersize=6, color=COLOURS[0])
        axes.set(xlabel=f"people, best first (n = {len(known)})", ylabel=metric, title=title, axisbelow=True)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(axis="y", color="#E5E5E5")
    return Path(file)


def draw_scatter(
    truth: Any,
    answers: Any,
    file: str | Path,
    *,
    target: str,
    ccc: float | None = None,
    interval: Sequence[float] | None = None,
    title: str = "",
    note: str = "",
) -> Path:
    """Answers over what people rated, with the line on which both are the same.

    Args:
        truth, answers: (n,) native values; pairs of which one is no number are left out.
    """
    pairs = np.stack([np.asarray(truth, np.float64), np.asarray(answers, np.float64)])
    pairs = pairs[:, np.isfinite(pairs).all(axis=0)]
    if not pairs.size:
        raise InputError("There is no pair of a rating and an answer to draw. Expected one or more.")
    with _picture(file, 5.4, 5.6, note) as figure:
        axes = figure.add_subplot()
        ends = [float(pairs.min()), float(pairs.max())]
        axes.plot(ends, ends, color="#666666", linestyle="--", linewidth=1.2, label="as rated")
        axes.scatter(
            *pairs, s=14, color=COLOURS[0], alpha=max(0.08, min(0.6, 60 / pairs.shape[1])), linewidths=0,
            rasterized=pairs.shape[1] > _MANY,
        )  # fmt: skip
        if ccc is not None:
            said = f" [{interval[0]:.2f}, {interval[1]:.2f}]" if interval else ""
            title = f"{title}   CCC {ccc:.3f}{said}".strip()
        axes.set(xlabel=f"{target}, rated", ylabel=f"{target}, answered", title=title)
        axes.legend(loc="upper left", frameon=False, fontsize=10)
    return Path(file)


def draw_over_time(
    times: Any,
    truth: Mapping[str, Any],
    answers: Mapping[str, Any],
    file: str | Path,
    *,
    errors: Mapping[str, tuple[float, float]],
    title: str = "",
    note: str = "",
) -> Path:
    """One recording's ratings and answers over time, a panel for each target.

    Args:
        truth, answers: target → (moments,) native values.
        errors: target → (low, high) of rating minus answer between which 95 % of all errors lie, drawn around the answer.
    """
    with _picture(file, 7.2, 2.3 * len(truth) + 1.0, note) as figure:
        panels = np.atleast_1d(figure.subplots(len(truth), 1, sharex=True))
        for axes, name in zip(panels, truth, strict=True):
            answer = np.asarray(answers[name], np.float64)
            low, high = errors[name]
            axes.fill_between(
                times, answer + low, answer + high, color=COLOURS[0], alpha=0.15, linewidth=0, label="95 % of errors"
            )
            axes.plot(times, truth[name], color="#000000", linewidth=1.6, label="rated")
            axes.plot(times, answer, color=COLOURS[0], linestyle="--", linewidth=1.8, label="answered")
            axes.set_ylabel(name)
        panels[-1].set_xlabel("seconds")
        panels[0].set_title(title)
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right upper", frameon=False, fontsize=10)
    return Path(file)


def draw_degradation(
    curves: Mapping[str, Mapping[str, Sequence[Any]]],
    file: str | Path,
    *,
    metric: str,
    level: str = "strength",
    clean: float | None = None,
    chance: float | None = None,
    title: str = "",
    note: str = "",
) -> Path:
    """Curves of a figure over the strength of a condition.

    Args:
        curves: name → "levels" and "values", of one length, and where they are known "intervals", (low, high) or None. A level
            whose value is None breaks the line.
    """
    with _picture(file, 7.2, 4.8, note) as figure:
        axes = figure.add_subplot()
        _line(axes, clean, "clean")
        _line(axes, chance, "chance")
        for index, (name, curve) in enumerate(curves.items()):
            levels, values = curve["levels"], _numbers(curve["values"])
            if len(levels) != len(values):
                raise InputError(
                    f"The curve {name!r} has {len(levels)} levels and {len(values)} values; expected as many."
                )
            colour = COLOURS[index % len(COLOURS)]
            bounds = _bounds(curve.get("intervals"), len(levels))
            axes.fill_between(levels, *bounds, color=colour, alpha=0.15, linewidth=0)
            axes.plot(
                levels, values, color=colour, marker=_MARKERS[index % len(_MARKERS)], markersize=6,
                linestyle=_DASHES[index % len(_DASHES)], linewidth=1.8, label=name,
            )  # fmt: skip
        axes.grid(axis="y", color="#E5E5E5")
        if len(curves) > 1:
            figure.legend(loc="outside right upper", frameon=False, fontsize=10)
        title = title if len(curves) != 1 else title or next(iter(curves))
        axes.set(xlabel=level, ylabel=metric, title=title, axisbelow=True)
    return Path(file)


def draw_bars(
    values: Mapping[str, float | None],
    file: str | Path,
    *,
    metric: str,
    clean: float | None = None,
    title: str = "",
    note: str = "",
) -> Path:
    """A figure under conditions that have no order, such as which sensors are there.

    Args:
        values: name → value; None leaves its place empty.
    """
    heights = _numbers(list(values.values()))
    with _picture(file, 7.2, max(2.6, 0.34 * len(values) + 1.5), note) as figure:
        axes = figure.add_subplot()
        places = np.arange(len(heights))
        axes.barh(places, np.nan_to_num(heights), color=COLOURS[0])
        for place, height in zip(places, heights, strict=True):
            text = "–" if np.isnan(height) else f"{height:.3f}"
            # beside the axes, where neither bars nor the line run through it
            axes.annotate(text, (1.02, place), xycoords=("axes fraction", "data"), va="center", fontsize=10)
        if clean is not None:
            axes.axvline(clean, color="#666666", linestyle=":", linewidth=1.2, label="clean")
            figure.legend(loc="outside right upper", frameon=False, fontsize=10)
        axes.set_yticks(places, list(values))
        axes.invert_yaxis()
        axes.set(xlabel=metric, title=title)
    return Path(file)


def draw_routing(
    shares: Any,
    rows: Sequence[str],
    experts: Sequence[str],
    file: str | Path,
    *,
    what: str = "share of the weight",
    by: str = "",
    title: str = "",
    note: str = "",
) -> Path:
    """Heat map of which expert serves what, from 0 to the largest share there is: of eight experts each has an eighth or so.

    Args:
        shares: (rows, experts) in [0, 1]; NaN where there was nothing to route.
    """
    table = np.asarray(shares, np.float64)
    _check(table, len(rows), len(experts))
    texts = [["" if np.isnan(share) else f"{share:.2f}" for share in row] for row in table]
    named = [f"expert {name}" if name.isdecimal() else name for name in experts]
    known = table[np.isfinite(table)]
    most = float(known.max()) if known.size and known.max() > 0 else 1.0
    with _picture(file, max(5.0, 0.75 * len(experts) + 3.2), max(3.2, 0.45 * len(rows) + 2.4), note) as figure:
        axes = _heat_map(figure, table, rows, named, texts, what, most)
        axes.set(xlabel="expert", ylabel=by, title=title)
    return Path(file)


def _line(axes: Any, value: float | None, name: str) -> None:
    """A line across at a value, with its name beside the axes."""
    if value is None or not np.isfinite(value):
        return
    axes.axhline(value, color="#666666", linestyle=":" if name != "chance" else (0, (1, 4)), linewidth=1.2)
    place: Any = {"xycoords": ("axes fraction", "data"), "xytext": (2, 0), "textcoords": "offset points"}
    axes.annotate(f"{name} {value:.2f}", (1, value), va="center", fontsize=10, color="#444444", **place)


def _bounds(intervals: Sequence[Sequence[float] | None] | None, count: int) -> NDArray[np.float64]:
    """(2, count) lower and upper ends; NaN where nothing is known."""
    none = (np.nan, np.nan)
    return np.asarray([none if one is None else one for one in intervals or [None] * count], np.float64).T


def _numbers(values: Sequence[float | None]) -> NDArray[np.float64]:
    return np.array([np.nan if value is None else value for value in values], np.float64)


def _check(table: NDArray[np.float64], rows: int, columns: int) -> None:
    if table.shape != (rows, columns) or not rows or not columns:
        raise InputError(
            f"A table of shape {table.shape} was passed; expected ({rows}, {columns}), one name for each side."
        )
