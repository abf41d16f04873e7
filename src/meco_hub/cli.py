"""The command `meco`: flags and printing only; each command calls one function of the library.

A command is one function here. Its flags stand above it and are its arguments; it gives what it found, for programs and for people
(`Said`), and `main` prints the one or the other. Commands stand in the order of `meco --help`. What is heavy is imported where a
command runs, so that `meco --help` answers at once.

Exit codes: 0 all is well; 1 our error, a bad input among several, or a finding of the doctor; 2 wrong usage.
"""

import argparse
import inspect
import io
import json
import logging
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from . import plugins
from .durable import plain, refuse_overwriting, whole_file
from .errors import (
    CardError,
    ConfigurationError,
    MecoError,
    TrainingInterrupted,
    naming_extras,
    require_count,
    unknown_name,
    visible,
)
from .train import TERMINATED, VisibleRecord, explain
from .version import __version__

NOTICE = (
    "Scores are inferred expressions, not felt emotions. This is an emotion recognition system under Regulation (EU) 2024/1689 "
    "(Art. 3(39)): prohibited in workplaces and education except for medical or safety reasons (Art. 5(1)(f)); tell the people "
    "exposed (Art. 50(3))."
)


@dataclass(frozen=True)
class Said:
    """What a command says.

    Attributes:
        data: for programs (`--json`).
        lines: for people; computed only when they are printed, and made visible then: a line break inside of one is none.
        code: the exit code.
        stopped: what ended the command early; said after the rest, and decides the exit code.
    """

    data: Any
    lines: Iterable[str]
    code: int = 0
    stopped: BaseException | None = None


Flag = tuple[tuple[str, ...], dict[str, Any]]
Run = Callable[..., Said | None]
"""A command: its flags as keyword arguments → what it says; None where another process of a launcher speaks for all."""

_COMMANDS: dict[str, tuple[str, tuple[Flag, ...], Run]] = {}


def _flag(*names: str, **settings: Any) -> Flag:
    """A flag, as `ArgumentParser.add_argument` takes it."""
    return names, settings


def _pictures(what: str) -> Flag:
    formats: Any = {"nargs": "?", "const": "png", "default": False, "choices": ("png", "svg", "pdf")}
    return _flag("--pictures", **formats, help=f"{what} (png, unless svg or pdf is said)")


def _command(name: str, text: str, *flags: Flag) -> Callable[[Run], Run]:
    """Decorator that makes a function a command."""

    def declare(run: Run) -> Run:
        _COMMANDS[name] = text, flags, run
        return run

    return declare


def _aside(text: str) -> None:
    """Print for people what is no part of the answer."""
    if sys.stderr is not None:  # closed by a shell; print would take the other stream
        print(visible(text), file=sys.stderr)


def _is_main_process() -> bool:
    """Under a launcher, one process speaks for all."""
    from accelerate import PartialState

    return PartialState().is_main_process


_MODEL = _flag("model", help="bundled checkpoint, folder or Hub id")
_PROTOCOLS = (
    "P0 random rows, which leak; P1 everybody, on trials of their own; P2 one person left out; P3 a group of people; P4 a "
    "person, on stimuli that are new too"
)


@_command("list", "Architectures, bundled checkpoints, corpora and recipes that are installed.")
def _list() -> Said:
    found = plugins.inventory()

    def lines() -> Iterator[str]:
        for title, rows in found.items():
            yield f"{title}:"
            for row in rows:
                words = (f"{value} MB" if key == "megabytes" else str(value) for key, value in row.items() if value)
                yield "  " + "  ".join(words)
            if not rows:
                yield "  none"

    return Said(found, lines())


def _stream_choice(text: str) -> tuple[str, list[str]]:
    name, _, channels = text.partition("=")
    if not name or not channels:
        raise argparse.ArgumentTypeError(f"{text!r} is no NAME=CHANNEL[,CHANNEL…]")
    return name, channels.split(",")


def _score_or_risk(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


@_command(
    "predict",
    "Answer for pictures, films and recordings; folders are searched for pictures.",
    _flag("inputs", nargs="+", metavar="FILE_OR_FOLDER"),
    _flag("--model", help="bundled checkpoint, folder or Hub id (default: the bundled face checkpoint)"),
    _flag("--faces", choices=("auto", "cropped", "largest", "all"), help="which faces are looked at"),
    _flag("--min_face", type=float, metavar="PIXELS", help="side of the smallest face to be found"),
    _flag("--top_k", type=int, help="answers per face (default: all)"),
    _flag("--batch_size", type=int, default=8),
    _flag(
        "--streams",
        nargs="+",
        type=_stream_choice,
        metavar="NAME=CHANNEL[,CHANNEL…]",
        help="which stream or channels of a recording a stream of the model is: eda=GSR.phasic,GSR.tonic",
    ),
    _flag(
        "--output",
        type=Path,
        metavar="FOLDER",
        help="write a Parquet data set there instead, and go on with it after a kill",
    ),
    _flag("--part_size", type=int, help="files in a part of that data set (default: 512)"),
    _flag("--annotate", type=Path, metavar="FOLDER", help="write each picture with its answer drawn in"),
    _flag("--every", type=float, metavar="SECONDS", help="of films: time between two frames that are looked at"),
    _flag("--fps", type=float, metavar="N", help="of films: frames a second that are looked at (default: all)"),
    _flag("--smooth", type=float, metavar="SECONDS", help="of films: time constant of smoothing, 0 for none (0.5)"),
    _flag("--csv", metavar="FILE", help="write a table: a row for every time, person and label; - prints it"),
    _flag("--plot", type=Path, metavar="FILE", help="draw the answers over time, a panel for each person"),
    _flag("--overwrite", action="store_true", help="replace what lies where pictures, table or plot go"),
    _flag(
        "--abstain_below",
        type=_score_or_risk,
        metavar="SCORE",
        help='no label below this score, or below that for "risk 0.05"',
    ),
    _flag("--strict", action="store_true", help="no doubtful answers: what has warnings is an error"),
)
def _predict(
    inputs: list[str],
    output: Path | None,
    part_size: int | None,
    top_k: int | None,
    annotate: Path | None,
    csv: str | None,
    plot: Path | None,
    overwrite: bool,
    streams: list[tuple[str, list[str]]] | None,
    **options: Any,
) -> Said | None:
    from .prediction import PART_SIZE, predict_files, predict_folder
    from .timeline import plot as draw_plot

    if output is None:
        chosen = dict(streams) if streams else None
        written = [Path(one) for one in (csv, plot) if one not in (None, "-")]
        # of what a folder holds, `predict_files` knows what is read; this needs no model
        refuse_overwriting(written, overwrite=overwrite, read=(Path(one) for one in inputs if not Path(one).is_dir()))
        rows: list[dict[str, Any]] = []
        stopped: BaseException | None = None
        try:
            predict_files(
                inputs,
                top_k=top_k,
                annotate=annotate,
                overwrite=overwrite,
                written=written,
                streams=chosen,
                rows=rows,
                **options,
            )
        except (KeyboardInterrupt, OSError, MecoError) as error:
            if not rows:
                raise
            stopped = error  # what was answered is said first
        failed = sum("error" in row for row in rows)
        named = [(row["file"], row.get("answer", row)) for row in rows]
        table, made = None, []
        try:  # the table first: what takes hours to answer is not lost for want of a plot
            if csv is not None:
                table = _table(named, csv)
                made.append(csv)
            if plot is not None:
                draw_plot(named, plot)
                made.append(plot)
        except (OSError, MecoError) as error:
            stopped = stopped or error

        def lines() -> Iterator[str]:
            if table is not None:
                yield from table.split("\r\n")
                return
            _aside(NOTICE)
            for row in rows:
                yield from _lines(row)
            for one in made:
                _aside(f"Wrote {one}")
            if failed:
                _aside(f"{failed} of {len(rows)} files could not be used.")

        return Said(rows, lines(), 1 if failed else 0, stopped)
    if overwrite or streams or any(one is not None for one in (annotate, top_k, csv, plot)):
        raise ConfigurationError(
            "--output was passed with --annotate, --csv, --plot, --top_k, --streams or --overwrite; expected it alone: its "
            "table holds every score and no picture, of streams as they are named, and goes on where it ended. Leave one out."
        )
    report = predict_folder(inputs, output, part_size=PART_SIZE if part_size is None else part_size, **options)

    def summary() -> Iterator[str]:
        _aside(NOTICE)
        yield f"{report['files']} files, {report['errors']} of them could not be used. Wrote {report['answers']}"

    from accelerate import PartialState

    # a launcher takes any other code for a crash, and may begin again
    code = 1 if report["errors"] and PartialState().num_processes == 1 else 0
    return Said(report, summary(), code) if _is_main_process() else None


def _table(named: list[tuple[str, Any]], path: str) -> str | None:
    """Write the table; itself where it is to be printed."""
    from .durable import whole_file
    from .timeline import write_csv

    if path == "-":
        text = io.StringIO(newline="")
        write_csv(named, text)
        return text.getvalue().removesuffix("\r\n")
    with whole_file(Path(path)) as partial, partial.open("w", encoding="utf-8", newline="") as stream:
        write_csv(named, stream)
    return None


def _lines(row: dict[str, Any]) -> list[str]:
    if "error" in row:
        return [f"{row['file']}: error: {row['error']}"]
    answer = row["answer"]
    if answer and "expressions" in answer[0]:
        lines = [f"{row['file']}:"]
        for index, face in enumerate(answer, start=1):
            span = (
                f"person {face['id']}, {face['start']:.1f} to {face['end']:.1f} s" if "id" in face else f"face {index}"
            )
            lines += [f"  {span}: {_scores(face['expressions'])}", *_doubts(face)]
        return lines
    origin = answer[0].get("training_data") if answer else None
    line = f"{row['file']}: {_scores(answer)}" + (f"  (trained on {origin} data)" if origin else "")
    streams = answer[0].get("streams") or {}
    if streams.get("missing"):
        line += f"  (from {', '.join(streams['used'])}; without {', '.join(streams['missing'])})"
    if (
        "recording" in (streams.get("level") or {}).values()
    ):  # of a person whose level nobody knows, "high" means so here
        line += "  (relative to this recording's own level)"
    return [line, *_doubts(answer[0])]


def _doubts(entry: dict[str, Any]) -> list[str]:
    return [f"  warning: {one['message']} [{one['code']}]" for one in entry["warnings"]]


def _scores(expressions: list[dict[str, Any]]) -> str:
    if expressions[0].get("abstained"):
        return f"abstains, {expressions[0]['label']} has only {expressions[0]['score']:.3f}"
    return "  ".join(f"{entry['label']} {entry['score']:.3f}" for entry in expressions)


@_command(
    "convert",
    "Turn the weights that an architecture's authors publish into a checkpoint folder.",
    _flag("model_type"),
    _flag("weights", type=Path),
    _flag("output", type=Path),
    _flag("--labels", help="a label space of the plugin, or names separated by commas in the order of the outputs"),
    _flag("--overwrite", action="store_true", help="replace what the output folder holds"),
)
def _convert(model_type: str, weights: Path, output: Path, **options: Any) -> Said:
    entry = plugins.architecture(model_type)
    if entry.converter is None:
        raise MecoError(
            f"The plugin of {model_type!r} offers no converter. Expected one that declares `converter`; see `meco list`."
        )
    report = plugins.load_dotted(entry.converter)(weights, output, **options)
    return Said(report.to_dict(), str(report).split("\n"))


@_command(
    "export",
    "Write a checkpoint as a graph that runs without its Python code.",
    _MODEL,
    _flag("output", type=Path, help="a folder that is new or empty"),
    _flag("--format", choices=("onnx", "torch_export"), default="onnx"),
    _flag("--dtype", choices=("fp32", "fp16", "int8"), default="fp32"),
    _flag("--opset", type=int, help="of ONNX (default: torch's choice)"),
    _flag("--dataset", help="for int8: a corpus on which ranges and the loss of UAR are measured"),
    _flag("--data_dir", type=Path, help="for int8: the corpus's folder or zip file"),
    _flag("--folds", type=int, nargs="+", help="for int8: folds to use (default: all of them)"),
    _flag("--force", action="store_true", help="write int8 although it loses more than a point of UAR"),
    _flag("--overwrite", action="store_true", help="replace an earlier export"),
)
def _export(model: str, output: Path, **options: Any) -> Said:
    from .exporting import export_checkpoint

    made = export_checkpoint(model, output, **options)
    lines = [
        f"Wrote {made.source} as {made.format} ({made.dtype}), {_size(made.bytes)}, to {output}.",
        f"On random inputs its logits are at most {made.difference:.1e} away from the checkpoint's.",
        *(f"  {name}  {' × '.join(map(str, shape))}" for name, shape in made.inputs.items()),
    ]
    if cost := made.quantization:
        figures = f"{cost['metric']} {cost['after']:.4f}, in fp32 {cost['before']:.4f}"
        lines.append(f"{figures}, on {cost['test_rows']} recordings.")
    return Said(asdict(made), lines)


_ROWS = (
    _flag("--dataset", required=True, help="name of a corpus; see `meco list`"),
    _flag("--data_dir", required=True, type=Path, help="the corpus's folder or zip file"),
    _flag("--split", help="split to use (default: all of it)"),
    _flag("--folds", type=int, nargs="+", help="folds to use (default: all of them)"),
    _flag("--protocol", choices=("P0", "P1", "P2", "P3", "P4"), help=f"test one fold of this protocol: {_PROTOCOLS}"),
    _flag("--protocol_fold", help="which of its folds: a number, a person, or person/part"),
    _flag("--protocol_folds", type=int, default=5, help="into how many folds it cuts (default: 5)"),
    _flag("--batch_size", type=int, default=32),
    _flag("--stride_s", type=float, help="seconds between the clips of a long recording"),
    _flag("--workers", type=int, default=1, help="threads that read"),
    _flag(
        "--exclude_unknown_labels", action="store_true", help="leave out, and count, classes that the checkpoint lacks"
    ),
    _flag(
        "--options",
        nargs="+",
        default=(),
        metavar="KEY=VALUE",
        help="options of the corpus, values in YAML (default: those that the checkpoint was trained with)",
    ),
)
"""Which rows of a corpus, and how they are read."""


@_command(
    "calibrate",
    "Write a copy of a checkpoint whose scores are calibrated on rows of a corpus.",
    _MODEL,
    _flag("output", type=Path, help="a folder that is new or empty"),
    *_ROWS,
)
def _calibrate(model: str, output: Path, dataset: str, data_dir: Path, options: Sequence[str], **settings: Any) -> Said:
    from .evaluation.evaluate import EvaluationSettings, calibrate_checkpoint
    from .training.arguments import parse_assignments

    chosen = EvaluationSettings(options=parse_assignments(options), **settings)
    made = calibrate_checkpoint(model, output, dataset, data_dir, chosen)
    lines = [f"Wrote {output}: {made}."]
    lines += [f"  {key} {made.before[key]:.4f} → {made.after[key]:.4f}, of these rows" for key in made.before]
    lines += [f"  --abstain_below 'risk {risk}': scores from {least:.3f}" for risk, least in made.least_scores.items()]
    return Said(made.to_dict(), lines)


@_command(
    "evaluate",
    "Evaluate a checkpoint on a corpus and write report.json.",
    _MODEL,
    *_ROWS,
    _flag("--output_dir", type=Path, help="where report and predictions go (default: they are not kept)"),
    _flag(
        "--conditions",
        nargs="+",
        default=(),
        metavar="NAME",
        help='try the model under these too: "all", of faces "steadiness", families such as low_light or missing, or single '
        "ones such as blur/2; a name that is none gets the list of those that are",
    ),
    _flag("--runs", type=int, default=1, help="so many times, each with other clips of the recordings"),
    _flag("--mirror", action="store_true", help="average with the answers to mirrored pictures"),
    _flag("--routing", action="store_true", help="report which expert serves whom"),
    _pictures("draw what the report has, beside it"),
    _flag("--overwrite", action="store_true", help="replace an earlier report in the output folder"),
)
def _evaluate(
    model: str, dataset: str, data_dir: Path, output_dir: Path | None, options: Sequence[str], **settings: Any
) -> Said | None:
    from .evaluation.evaluate import EvaluationSettings, evaluate_checkpoint
    from .training.arguments import parse_assignments

    if output_dir is None and settings["pictures"]:
        raise ConfigurationError("--pictures was given without --output_dir, where they would lie. Name a folder.")
    chosen = EvaluationSettings(options=parse_assignments(options), **settings)
    with tempfile.TemporaryDirectory() if output_dir is None else nullcontext(output_dir) as folder:
        report = evaluate_checkpoint(plugins.locate_checkpoint(model), dataset, data_dir, folder, chosen)
    return Said(report, _figures(report, output_dir)) if _is_main_process() else None


def _figures(report: dict[str, Any], output_dir: Path | None) -> Iterator[str]:
    metrics, intervals = report["metrics"], report["confidence_intervals"]
    yield from (f"WARNING: {sentence}" for sentence in report["warnings"])  # figures must not be read without them
    origin = report["checkpoint"].get("training_data")
    drawn = ["synthetic rows"] * bool(report["data"].get("synthetic"))
    drawn += [f"weights trained on {origin} data"] * bool(origin)
    yield f"n = {metrics['n']}" + (f" ({'; '.join(drawn)})" if drawn else "")
    for name, value in metrics.items():
        if name in intervals and value is not None:
            between = intervals[name]
            yield f"{name:16} {value:.4f}" + (f"  [{between[0]:.4f}, {between[1]:.4f}]" if between else "")
    for name, row in report["references"].items():
        keys = ("rmse", "ccc", "uar", "auroc", *(key for key in row if "_within_" in key and key in metrics))
        known = (f"{key} {row[key]:.4f}" for key in keys if row.get(key) is not None)
        yield f"{name:16} {'  '.join(known)}"
    for name, row in report["condition_families"].items():
        if row["area"] is not None:
            mean, worst = row["area"], row["worst"]
            yield f"{name:16} {row['metric']} {mean:.4f} on average over the strengths, {worst:.4f} at worst"
    if output_dir is not None:
        yield f"Wrote {output_dir / 'report.json'}"


@_command(
    "compare",
    "Compare recipes, checkpoints and baselines over folds and seeds, in one table.",
    _flag(
        "models", nargs="+", metavar="MODEL", help="the YAML file of a comparison; or recipes, checkpoints, baselines"
    ),
    _flag("--data_dir", type=Path, help="the corpus's folder or zip file"),
    _flag("--output_dir", type=Path, required=True, help="where the cells go; the same folder goes on where it ended"),
    _flag("--dataset", dest="corpus", help="name of a corpus; see `meco list`"),
    _flag("--options", nargs="+", metavar="KEY=VALUE", help="options of the corpus, values in YAML"),
    _flag(
        "--protocol",
        choices=("official", "P0", "P1", "P2", "P3", "P4"),
        help=f"how it is divided: official (default), the corpus's own folds or its split test; {_PROTOCOLS}",
    ),
    _flag("--folds", nargs="+", help="folds that are left out in turn (default: all of them)"),
    _flag("--n_folds", type=int, help="into how many folds P0, P1, P3 and P4 cut (5)"),
    _flag("--fold_seed", type=int, help="seed of those folds (0)"),
    _flag("--seeds", type=int, nargs="+", help="every cell is made with each of them (0)"),
    _flag(
        "--validation", nargs="+", metavar="KEY=VALUE", help="what is held out of every training side: by_identity=0.15"
    ),
    _flag("--set", dest="changes", nargs="+", metavar="KEY=VALUE", help="keys of every recipe, dotted, values in YAML"),
    _flag("--conditions", nargs="+", metavar="NAME", help="try every model under these too; as of `meco evaluate`"),
    _flag("--metrics", nargs="+", metavar="NAME", help="columns of the table; differences are of the first"),
    _flag("--reference", metavar="MODEL", help="whom the others are compared with (default: the first)"),
    _flag("--csv", type=Path, metavar="FILE", help="write the numbers"),
    _flag("--markdown", type=Path, metavar="FILE", help="write the table in Markdown"),
    _flag("--latex", type=Path, metavar="FILE", help="write the table in LaTeX, with booktabs"),
    _pictures("draw the curves of all models, a picture a condition"),
    _flag("--finished_only", action="store_true", help="make no cell: the table of those that are finished"),
    _flag("--overwrite", action="store_true", help="replace these tables"),
    _flag("--trust_recipe_code", action="store_true", help="as of `meco train`"),
)
def _compare(
    models: list[str],
    csv: Path | None,
    markdown: Path | None,
    latex: Path | None,
    **given: Any,
) -> Said | None:
    from .comparison.compare import compare
    from .comparison.plan import comparison_from_words
    from .comparison.tables import terminal
    from .training.arguments import parse_assignments

    how = ("data_dir", "output_dir", "pictures", "finished_only", "overwrite", "trust_recipe_code")
    options = {name: given.pop(name) for name in how}
    keys = {name: value for name, value in given.items() if value is not None}
    keys |= {name: parse_assignments(keys[name]) for name in ("options", "validation", "changes") if name in keys}
    files = {"csv": csv, "markdown": markdown, "latex": latex}
    written = {form: file for form, file in files.items() if file is not None}
    refuse_overwriting(written.values(), overwrite=options["overwrite"], read=map(Path, models))
    summary = compare(comparison_from_words(models, keys), written=written, **options)

    def lines() -> Iterator[str]:
        yield from terminal(summary)
        for file in (*written.values(), options["output_dir"] / "comparison.json"):
            _aside(f"Wrote {file}")

    return Said(summary.to_dict(), lines()) if _is_main_process() else None


@_command(
    "score",
    "Score per-sequence prediction files: a folder of runs, or several, a row of the table each.",
    _flag("files", nargs="+", type=Path, metavar="FILE_OR_FOLDER"),
)
def _score(files: list[Path]) -> Said:
    from .corpora.see_scores import score_sequence_sets, table

    found = score_sequence_sets(files)
    return Said({name: scores.to_dict() for name, scores in found.items()}, table(found).split("\n"))


# its flags are the training loop's own, so `main` hands the words on as they are
_command("train", "Train by a recipe; `meco train --help` lists its flags.")(lambda: None)


@_command(
    "card",
    "Render a checkpoint's model card, and say what nobody has stated.",
    _flag("model", help="folder or bundled checkpoint"),
    _flag("--output", type=Path, metavar="FILE", help="write it there instead of printing it"),
    _flag("--html", type=Path, metavar="FILE", help="write it as a web page too, to look at"),
    _flag("--overwrite", action="store_true", help="replace these files"),
)
def _card(model: str, output: Path | None, html: Path | None, overwrite: bool) -> Said:
    from .publishing.card import card_gaps, render_card, render_html, write_form
    from .publishing.card_notes import FILE

    folder = Path(plugins.locate_checkpoint(model))
    if not folder.is_dir():
        raise CardError(
            f"{model} is no folder on this machine; expected one, or a bundled checkpoint's name. A repository's card "
            "is its README.md."
        )
    wanted = [place for place in (output, html) if place is not None]
    refuse_overwriting(
        wanted, overwrite=overwrite, read=(path for path in folder.iterdir() if path.name != "README.md")
    )
    card = render_card(folder)
    gaps = card_gaps(folder)
    if gaps:
        form = folder / FILE
        made = "" if form.is_file() else f"; wrote {write_form(folder)} to fill in"
        _aside(f"Not stated in {form}{made}. The card says so. It needs:")
        for key, what in gaps.items():
            _aside(f"  {key}: {what}")
    if html is not None:
        with whole_file(html, overwrite=overwrite) as partial:
            partial.write_text(render_html(card), encoding="utf-8")
    if output is not None:
        with whole_file(output, overwrite=overwrite) as partial:
            partial.write_text(card, encoding="utf-8")
    lines = card.removesuffix("\n").split("\n") if output is None else [f"Wrote {output}"]
    return Said({"folder": str(folder), "gaps": gaps, "card": card}, lines)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no positive number of seconds")
    return value


@_command(
    "push",
    "Push a checkpoint to the Hub: weights, config, processor, card, report and pictures, in one commit.",
    _flag("folder", metavar="FOLDER", help="folder of a checkpoint, or the name of a bundled one"),
    _flag("repo", metavar="REPO", help="owner/name; made when it does not exist"),
    _flag("--private", action="store_true", default=None, help="make it private; refuses a public one"),
    _flag("--revision", metavar="BRANCH", help="the branch, made when it does not exist (default: main)"),
    _flag("--create_pr", action="store_true", help="open a pull request instead of committing"),
    _flag("--message", dest="commit_message", metavar="MESSAGE", help="of the commit"),
    _flag("--dry_run", action="store_true", help="check and list what would go, and send nothing"),
    _flag("--timeout", type=_seconds, metavar="SECONDS", help="give a silent server up after this (default: 60)"),
)
def _push(folder: str, repo: str, timeout: float | None, **options: Any) -> Said:
    from .publishing.hub import TIMEOUT, push_folder

    pushed = push_folder(plugins.checkpoints().get(folder) or folder, repo, timeout=timeout or TIMEOUT, **options)
    place = f"{pushed.repo_id} ({pushed.revision})"
    if pushed.commit is None:
        result = f"Nothing was sent: this would go to {place}."
    elif pushed.unchanged:
        result = f"{place} holds all of this already: {pushed.commit.commit_url}"
    else:
        result = pushed.commit.pr_url or pushed.commit.commit_url
    lines = [
        *(f"{_size(size):>10}  {name}" for name, size in pushed.files.items()),
        *(f"{'removed':>10}  {name}" for name in pushed.removed),
        *(f"{'stays':>10}  {name}" for name in pushed.left_out),
        f"{_size(sum(pushed.files.values())):>10}  in {len(pushed.files)} files",
        result,
    ]
    return Said(pushed.to_dict(), lines)


def _size(count: int) -> str:
    """In decimal units, as the Hub shows them."""
    for unit, worth in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= worth:
            return f"{count / worth:.1f} {unit}"
    return f"{count} B"


@_command(
    "new",
    "Write a plugin: an architecture of your own that installs, trains on synthetic data and passes its tests; or a corpus.",
    _flag("name", help="what the model shall be called, such as my-model"),
    _flag("--kind", required=True, choices=("face", "eye", "signals", "corpus"), help="what it looks at"),
    _flag("--output", type=Path, help="a folder that is new or empty; default: meco-<name>, here"),
)
def _new(name: str, kind: str, output: Path | None) -> Said:
    from .scaffold import KINDS, PluginNames, write_plugin

    folder, names = write_plugin(name, kind, output), PluginNames.of(name)
    drawn = kind in KINDS
    trained = f"meco train --recipe {names.package}/synthetic --data_dir data --output_dir out"
    following = [
        f"pip install -e {folder}",
        *([KINDS[kind].draw, trained] if drawn else []),
        f"pytest {folder / 'tests'}",
    ]
    data = {
        "folder": str(folder),
        "distribution": names.distribution,
        **({"model_type": names.package} if drawn else {"corpus": names.module}),
        "files": sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()),
        "next": following,
    }
    note = " (the data are synthetic, drawn by a program)" if drawn else ""
    said = f"Wrote {names.distribution} to {folder}. What follows{note}:"
    return Said(data, [said, *(f"  {line}" for line in following)])


_WRITERS = {
    "affectnet": "meco_hub.corpora.synthetic.faces:write_affectnet",
    "case": "meco_hub.corpora.synthetic.signals:write_case_npz",
    "deap": "meco_hub.corpora.synthetic.signals:write_deap",
    "dreamer": "meco_hub.corpora.synthetic.signals:write_dreamer",
    "fer2013": "meco_hub.corpora.synthetic.faces:write_fer2013_folders",
    "image_folder": "meco_hub.corpora.synthetic.faces:write_image_folder",
    "raf_db": "meco_hub.corpora.synthetic.faces:write_raf_db",
    "see": "meco_hub.corpora.synthetic.eyes:write_see",
    "signal_folder": "meco_hub.corpora.synthetic.signals:write_signal_folder",
    "stress_predict": "meco_hub.corpora.synthetic.signals:write_stress_predict",
}


@_command(
    "synthetic",
    "Write a synthetic look-alike of a corpus: its layout and file names, drawn faces, eyes or signals, no person.",
    _flag("corpus", help=", ".join(_WRITERS)),
    _flag("output", type=Path, help="a folder that is new or empty, or a path that ends in .zip"),
    _flag("--seed", type=int, default=0, help="the same seed writes the same bytes (0)"),
    _flag("--people", type=int, help="how many people are drawn, where the corpus tells them apart"),
)
def _synthetic(corpus: str, output: Path, seed: int, people: int | None) -> Said:
    if corpus not in _WRITERS:
        raise unknown_name("synthetic look-alike", corpus, _WRITERS)
    write: Any = plugins.load_dotted(_WRITERS[corpus])
    options = {} if people is None else {"people": people}
    if not options.keys() <= inspect.signature(write).parameters.keys():
        raise ConfigurationError(f"{corpus} does not tell people apart. Leave --people out.")
    if people is not None:
        require_count("--people", people)
    require_count("--seed", seed, least=0, most=2**32 - 1)
    try:
        drawn = write(output, seed=seed, **options)
    except OSError as error:
        raise MecoError(
            f"{output} cannot be written: {error}. Expected a place with room and leave to write."
        ) from error
    data = {"synthetic": True, "corpus": corpus, "output": str(output), "seed": seed, "samples": len(drawn)}
    line = f"Wrote a synthetic look-alike of {corpus}, {len(drawn)} samples, seed {seed}, to {output}. It shows nobody: what is "
    return Said(data, [line + 'trained on it must say "synthetic" wherever its name or a figure of it appears.'])


@_command(
    "demo",
    "Show a page in the browser that answers for photos, films, recordings and eyes, and serve its REST API.",
    _flag("--host", default="127.0.0.1", help="where to listen (default: loopback; any other lets other machines in)"),
    _flag("--port", type=int, help="(default: the first that is free from 7860 on)"),
    _flag("--max_file_size", default="64mb", help="of one upload (default: 64mb)"),
    _flag("--space", type=Path, metavar="FOLDER", help="write the files of a Hugging Face Space there instead"),
)
def _demo(space: Path | None, **options: Any) -> Said | None:
    from .demo import serve, write_space

    if space is not None:
        written = write_space(space)
        return Said({"folder": str(space), "files": written}, [f"Wrote {', '.join(written)} to {space}."])
    page = serve(**options)
    _aside(f"The page is at {page.local_url} until Ctrl-C.")
    with suppress(KeyboardInterrupt):
        page.block_thread()
    return None


@_command(
    "doctor",
    "Look at the environment and say what would not work, and how to fix it.",
    _flag(
        "--patience",
        type=float,
        default=30.0,
        metavar="SECONDS",
        help="a plugin that is still being imported after so long is said to hang (30)",
    ),
)
def _doctor(patience: float) -> Said:
    from .doctor import examine

    report = examine(patience)
    errors = sum(finding["level"] == "error" for finding in report["findings"])
    return Said(report, _diagnosis(report, errors), 1 if errors else 0)


def _diagnosis(report: dict[str, Any], errors: int) -> Iterator[str]:
    gpu, cache = report["accelerator"], report["cache"]
    name = f" ({gpu['name']})" if gpu["name"] not in (None, report["device"]) else ""
    yield f"meco_hub {__version__}, Python {report['python']}, {report['platform']}, device {report['device']}{name}"
    yield "  " + "  ".join(f"{name} {version or 'missing'}" for name, version in report["versions"].items())
    yield f"  torch is built for {'CUDA ' + gpu['cuda'] if gpu['cuda'] else 'the CPU'}; mamba_ssm: {gpu['mamba']}"
    for extra, missing in report["extras"].items():
        state = f'lacks {", ".join(missing)}: pip install "meco-hub[{extra}]"' if missing else "whole"
        yield f"  extra {extra}: {state}"
    room = "" if cache["free_gb"] is None else f", {cache['free_gb']} GB free"
    offline = f"; offline by {', '.join(cache['offline'])}" if cache["offline"] else ""
    yield f"  cache {cache['folder']}{room}{offline}"
    yield from (f"  ok  {plugin} ({distribution})" for plugin, distribution in report["plugins"].items())
    for finding in report["findings"]:
        mark = "!!" if finding["level"] == "error" else " !"
        yield f"  {mark}  {finding['subject']}: {finding['problem']}"
        yield f"      fix: {finding['fix']}"
        if finding["traceback"]:
            yield from (f"      {line}" for line in finding["traceback"].rstrip().split("\n"))
    warnings = len(report["findings"]) - errors
    said = f", {warnings} warning(s)" if warnings else ""
    yield f"{errors} finding(s){said}." if errors or warnings else "All is well."


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="meco", description="Emotion recognition models in the Hugging Face ecosystem."
    )
    parser.add_argument("--version", action="version", version=f"meco_hub {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    for name, (text, flags, _) in _COMMANDS.items():
        one = commands.add_parser(name, help=text, description=text)
        one.add_argument("--json", action="store_true", help="print JSON for programs")
        for names, settings in flags:
            one.add_argument(*names, **settings)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit code; our own errors are printed to stderr as one line and give 1.
    """
    for stream in (sys.stdout, sys.stderr):
        # a name that the terminal cannot encode must not cost what was worked out
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    logging.setLogRecordFactory(VisibleRecord)
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["train"]:
        from .train import main as train

        return train(words[1:])
    flags = vars(_parser().parse_args(words))
    _, _, run = _COMMANDS[flags.pop("command")]
    as_json = flags.pop("json")
    try:
        try:
            with naming_extras(), _terminated_as_interrupted():
                said = run(**flags)
        except (MecoError, OSError, KeyboardInterrupt) as error:
            failure = {"error": f"{type(error).__name__}: {error}".removesuffix(": ")}
            said = Said(failure, (), stopped=error)
        if said is None:
            return 0
        _print(_json(said.data) if as_json else said.lines)
    except (MecoError, OSError, KeyboardInterrupt) as error:
        return explain(error)
    if isinstance(said.stopped, TrainingInterrupted):
        explain(said.stopped)
        return said.stopped.exit_code
    return said.code if said.stopped is None else explain(said.stopped)


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM, by which schedulers and containers end a process, ends a command as Ctrl-C does: what was finished is kept and said.

    Not under a launcher, whose processes wait for each other where no signal is heard, and not in place of a handler of others.
    """
    alone = threading.current_thread() is threading.main_thread() and os.environ.get("WORLD_SIZE", "1") == "1"
    if not alone or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def stop(*_: object) -> None:
        raise KeyboardInterrupt(TERMINATED)

    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _json(data: Any) -> Iterable[str]:
    # a terminal that cannot show a name gets an escape that JSON knows
    utf8 = (getattr(sys.stdout, "encoding", None) or "").lower().replace("-", "") == "utf8"
    return json.dumps(plain(data), indent=2, ensure_ascii=not utf8, allow_nan=False).split("\n")


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        print(visible(line))
    if sys.stdout is not None:
        sys.stdout.flush()  # while a full disk or a closed pipe can still be said


if __name__ == "__main__":
    raise SystemExit(main())
