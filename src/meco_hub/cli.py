"""The command `meco`: flags and printing only; each command calls one function of the library.

A command is two functions here: `_add_<name>` declares its flags, `_run_<name>` runs it and returns the exit code. `_COMMANDS`
lists them in the order of `meco --help`. What is heavy is imported where a command runs, so that `meco --help` answers at once.

Exit codes: 0 all is well; 1 our error, a bad input among several, or a finding of the doctor; 2 wrong usage.
"""

import argparse
import inspect
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from . import plugins
from .errors import CardError, ConfigurationError, MecoError, naming_extras, unknown_name
from .version import __version__

NOTICE = (
    "Scores are inferred expressions, not felt emotions. This is an emotion recognition system under Regulation (EU) 2024/1689 "
    "(Art. 3(39)): prohibited in workplaces and education except for medical or safety reasons (Art. 5(1)(f)); tell the people "
    "exposed (Art. 50(3))."
)

Run = Callable[[argparse.Namespace], int]


class Commands:
    """Where a command declares itself.

    Args:
        parsers: what `argparse` gave for the subcommands.
    """

    def __init__(self, parsers: Any) -> None:
        self._parsers = parsers

    def add(self, name: str, run: Run, text: str) -> argparse.ArgumentParser:
        """A command that `run` carries out; gives its parser, for its flags. `--json` is among them."""
        parser = self._parsers.add_parser(name, help=text, description=text)
        parser.set_defaults(run=run)
        parser.add_argument("--json", action="store_true", help="print JSON for programs")
        return parser

    def mention(self, name: str, text: str) -> None:
        """A command whose flags are parsed elsewhere."""
        self._parsers.add_parser(name, help=text, add_help=False)


def print_json(value: Any) -> None:
    """Print for programs."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def is_main_process() -> bool:
    """Under a launcher, one process speaks for all."""
    from accelerate import PartialState

    return PartialState().is_main_process


# --- List -------------------------------------------------------------------------------------------------------------
# `meco list`: what is installed.


def _add_list(commands: Commands) -> None:
    """Declare the command."""
    commands.add("list", _run_list, "Architectures, bundled checkpoints, corpora and recipes that are installed.")


def _run_list(arguments: argparse.Namespace) -> int:
    found = plugins.inventory()
    if arguments.json:
        print_json(found)
        return 0
    for title, rows in found.items():
        print(f"{title}:")
        for row in rows:
            print("  " + "  ".join(str(value) for value in row.values() if value))
        if not rows:
            print("  none")
    return 0


# --- Predict ----------------------------------------------------------------------------------------------------------
# `meco predict`: answers for files and folders.


def _add_predict(commands: Commands) -> None:
    """Declare the command and its flags."""
    parser = commands.add("predict", _run_predict, "Answer for pictures; folders are searched for pictures.")
    parser.add_argument("inputs", nargs="+", type=Path, metavar="FILE_OR_FOLDER")
    parser.add_argument("--model", help="bundled checkpoint, folder or Hub id (default: the bundled face checkpoint)")
    parser.add_argument("--faces", choices=("cropped", "largest", "all"), help="whether faces must be found first")
    parser.add_argument("--top_k", type=int, help="answers per face (default: all)")
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FOLDER",
        help="write a Parquet data set there instead, and go on with it after a kill",
    )
    parser.add_argument("--part_size", type=int, help="files in a part of that data set (default: 512)")
    parser.add_argument("--annotate", type=Path, metavar="FOLDER", help="write each picture with its answer drawn in")


def _run_predict(arguments: argparse.Namespace) -> int:
    from .prediction import predict_files

    if arguments.output is not None:
        return _predict_folder(arguments)
    rows = predict_files(
        arguments.inputs,
        model=arguments.model,
        faces=arguments.faces,
        top_k=arguments.top_k,
        batch_size=arguments.batch_size,
        annotate=arguments.annotate,
    )
    failed = sum("error" in row for row in rows)
    if arguments.json:
        print_json(rows)
    else:
        print(NOTICE, file=sys.stderr)
        for row in rows:
            print(_line(row))
        if failed:
            print(f"{failed} of {len(rows)} files could not be used.", file=sys.stderr)
    return 1 if failed else 0


def _predict_folder(arguments: argparse.Namespace) -> int:
    from .prediction import PART_SIZE, predict_folder

    if arguments.annotate is not None or arguments.top_k is not None:
        raise ConfigurationError(
            "--output was passed together with --annotate or --top_k; expected it alone: the table holds every score and no "
            "picture. Leave one of them out."
        )
    report = predict_folder(
        arguments.inputs,
        arguments.output,
        model=arguments.model,
        faces=arguments.faces,
        batch_size=arguments.batch_size,
        part_size=arguments.part_size or PART_SIZE,
    )
    if not is_main_process():
        return 0
    if arguments.json:
        print_json(report)
    else:
        print(NOTICE, file=sys.stderr)
        print(f"{report['files']} files, {report['errors']} of them could not be used. Wrote {report['answers']}")
    # a launcher takes any other code for a crash, and may begin again
    return 1 if report["errors"] and not _is_launched() else 0


def _is_launched() -> bool:
    from accelerate import PartialState

    return PartialState().num_processes > 1


def _scores(expressions: list[dict[str, Any]]) -> str:
    return "  ".join(f"{entry['label']} {entry['score']:.3f}" for entry in expressions)


def _line(row: dict[str, Any]) -> str:
    if "error" in row:
        return f"{row['file']}: error: {row['error']}"
    answer = row["answer"]
    if answer and "expressions" in answer[0]:
        faces = [f"  face {index}: {_scores(face['expressions'])}" for index, face in enumerate(answer, start=1)]
        return "\n".join([f"{row['file']}:", *faces])
    origin = answer[0].get("training_data") if answer else None
    return f"{row['file']}: {_scores(answer)}" + (f"  (trained on {origin} data)" if origin else "")


# --- Convert ----------------------------------------------------------------------------------------------------------
# `meco convert`: the authors' weights into a checkpoint folder.


def _add_convert(commands: Commands) -> None:
    """Declare the command and its flags."""
    parser = commands.add(
        "convert", _run_convert, "Turn the weights that an architecture's authors publish into a checkpoint folder."
    )
    parser.add_argument("model_type")
    parser.add_argument("weights", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument(
        "--labels", help="a label space of the plugin, or names separated by commas in the order of the outputs"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace what the output folder holds")


def _run_convert(arguments: argparse.Namespace) -> int:
    entry = plugins.architecture(arguments.model_type)
    if entry.converter is None:
        raise MecoError(
            f"The plugin of {arguments.model_type!r} offers no converter. Expected one that declares `converter`; see `meco list`."
        )
    convert = plugins.load_dotted(entry.converter)
    report = convert(arguments.weights, arguments.output, labels=arguments.labels, overwrite=arguments.overwrite)
    if arguments.json:
        print_json(report.to_dict())
    else:
        print(report)
    return 0


# --- Export -----------------------------------------------------------------------------------------------------------
# `meco export`: a checkpoint as a graph, for onnxruntime or torch.export.load.


def _add_export(commands: Commands) -> None:
    """Declare the command and its flags."""
    parser = commands.add("export", _run_export, "Write a checkpoint as a graph that runs without its Python code.")
    parser.add_argument("model", help="bundled checkpoint, folder or Hub id")
    parser.add_argument("output", type=Path, help="a folder that is new or empty")
    parser.add_argument("--format", choices=("onnx", "torch_export"), default="onnx")
    parser.add_argument("--dtype", choices=("fp32", "fp16", "int8"), default="fp32")
    parser.add_argument("--opset", type=int, help="of ONNX (default: torch's choice)")
    parser.add_argument("--dataset", help="for int8: a corpus on which ranges and the loss of UAR are measured")
    parser.add_argument("--data_dir", type=Path, help="for int8: the corpus's folder or zip file")
    parser.add_argument("--folds", type=int, nargs="+", help="for int8: folds to use (default: all of them)")
    parser.add_argument("--force", action="store_true", help="write int8 although it loses more than a point of UAR")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier export")


def _run_export(arguments: argparse.Namespace) -> int:
    from .exporting import export_checkpoint

    made = export_checkpoint(
        arguments.model,
        arguments.output,
        format=arguments.format,
        dtype=arguments.dtype,
        opset=arguments.opset,
        dataset=arguments.dataset,
        data_dir=arguments.data_dir,
        folds=arguments.folds,
        force=arguments.force,
        overwrite=arguments.overwrite,
    )
    if arguments.json:
        print_json(asdict(made))
        return 0
    print(f"Wrote {made.source} as {made.format} ({made.dtype}), {_size(made.bytes)}, to {arguments.output}.")
    print(f"On random inputs its logits are at most {made.difference:.1e} away from the checkpoint's.")
    for name, shape in made.inputs.items():
        print(f"  {name}  {' × '.join(map(str, shape))}")
    if made.quantization:
        cost = made.quantization
        print(f"{cost['metric']} {cost['after']:.4f}, in fp32 {cost['before']:.4f}, on {cost['test_rows']} recordings.")
    return 0


# --- Evaluate ---------------------------------------------------------------------------------------------------------
# `meco evaluate`: a checkpoint on a corpus.


def _add_evaluate(commands: Commands) -> None:
    """Declare the command and its flags."""
    parser = commands.add("evaluate", _run_evaluate, "Evaluate a checkpoint on a corpus and write report.json.")
    parser.add_argument("model", help="bundled checkpoint, folder or Hub id")
    parser.add_argument("--dataset", required=True, help="name of a corpus; see `meco list`")
    parser.add_argument("--data_dir", required=True, type=Path, help="the corpus's folder or zip file")
    parser.add_argument("--output_dir", type=Path, help="where report and predictions go (default: they are not kept)")
    parser.add_argument("--split", help="split to use (default: all of it)")
    parser.add_argument("--folds", type=int, nargs="+", help="folds to use (default: all of them)")
    parser.add_argument("--protocol", choices=("P0", "P1", "P2", "P3", "P4"), help="test one fold of this protocol")
    parser.add_argument("--protocol_fold", help="which of its folds: a number, a person, or person/part")
    parser.add_argument("--protocol_folds", type=int, default=5, help="into how many folds it cuts (default: 5)")
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--stride_s", type=float, help="seconds between the clips of a long recording")
    parser.add_argument("--workers", type=int, default=1, help="threads that read")
    parser.add_argument(
        "--exclude_unknown_labels", action="store_true", help="leave out, and count, classes that the checkpoint lacks"
    )

    parser.add_argument(
        "--conditions", nargs="+", default=(), metavar="NAME",
        help='try the model under these too: "all", of faces "steadiness", families such as low_light or missing, or single '
        "ones such as blur/2; a name that is none gets the list of those that are",
    )  # fmt: skip
    parser.add_argument(
        "--options", nargs="+", default=(), metavar="KEY=VALUE",
        help="options of the corpus, values in YAML (default: those that the checkpoint was trained with)",
    )  # fmt: skip
    parser.add_argument("--runs", type=int, default=1, help="so many times, each with other clips of the recordings")
    parser.add_argument("--mirror", action="store_true", help="average with the answers to mirrored pictures")
    parser.add_argument("--routing", action="store_true", help="tell which expert serves whom")
    parser.add_argument("--pictures", action="store_true", help="draw what the report has, beside it")


def _run_evaluate(arguments: argparse.Namespace) -> int:
    if arguments.output_dir is not None:
        return _evaluate(arguments, arguments.output_dir)
    if arguments.pictures:
        raise ConfigurationError("--pictures was given without --output_dir, where they would lie. Name a folder.")
    with tempfile.TemporaryDirectory() as folder:
        return _evaluate(arguments, Path(folder))


def _evaluate(arguments: argparse.Namespace, output_dir: Path) -> int:
    from .evaluation.evaluate import EvaluationSettings, evaluate_checkpoint
    from .training.arguments import parse_assignments

    report = evaluate_checkpoint(
        plugins.locate_checkpoint(arguments.model),
        arguments.dataset,
        arguments.data_dir,
        output_dir,
        EvaluationSettings(
            split=arguments.split,
            folds=arguments.folds,
            protocol=arguments.protocol,
            protocol_fold=arguments.protocol_fold,
            protocol_folds=arguments.protocol_folds,
            batch_size=arguments.batch_size,
            stride_s=arguments.stride_s,
            exclude_unknown_labels=arguments.exclude_unknown_labels,
            conditions=tuple(arguments.conditions),
            routing=arguments.routing,
            mirror=arguments.mirror,
            pictures=arguments.pictures,
            workers=arguments.workers,
            options=parse_assignments(arguments.options),
            runs=arguments.runs,
        ),
    )
    if not is_main_process():
        return 0
    if arguments.json:
        print_json(report)
        return 0
    metrics, intervals = report["metrics"], report["confidence_intervals"]
    for sentence in report["warnings"]:  # before the figures: they must not be read without
        print(f"WARNING: {sentence}")
    print(f"n = {metrics['n']}")
    for name, value in metrics.items():
        if name in intervals and value is not None:
            low, high = intervals[name]
            print(f"{name:16} {value:.4f}  [{low:.4f}, {high:.4f}]")
    for name, row in report["references"].items():
        print(
            f"{name:16} "
            + "  ".join(f"{key} {row[key]:.4f}" for key in ("rmse", "ccc", "uar", "auroc") if row.get(key) is not None)
        )
    for name, row in report["condition_families"].items():
        if row["area"] is not None:
            print(
                f"{name:16} {row['metric']} {row['area']:.4f} on average over the strengths, {row['worst']:.4f} at worst"
            )
    if arguments.output_dir is not None:
        print(f"Wrote {arguments.output_dir / 'report.json'}")
    return 0


# --- Score ------------------------------------------------------------------------------------------------------------
# `meco score`: tables from files of predictions.


def _add_score(commands: Commands) -> None:
    """Declare the command and its flags."""
    parser = commands.add(
        "score",
        _run_score,
        "Score per-sequence prediction files: a folder of runs, or several, a row of the table each.",
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE_OR_FOLDER")


def _run_score(arguments: argparse.Namespace) -> int:
    from .corpora.see_scores import score_sequence_sets, table
    from .evaluation.report import plain

    found = score_sequence_sets(arguments.files)
    if arguments.json:
        print_json(plain({name: scores.to_dict() for name, scores in found.items()}))
    else:
        print(table(found))
    return 0


# --- Train ------------------------------------------------------------------------------------------------------------
# `meco train`: its flags are the training loop's own.


def _add_train(commands: Commands) -> None:
    """Declare the command."""
    commands.mention("train", "Train by a recipe; `meco train --help` lists its flags.")


# --- Card -------------------------------------------------------------------------------------------------------------
# `meco card`: a checkpoint's model card.


def _add_card(commands: Commands) -> None:
    """Declare the command and its flags."""
    parser = commands.add("card", _run_card, "Render a checkpoint's model card, and say what nobody has stated.")
    parser.add_argument("model", help="folder or bundled checkpoint")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write it there instead of printing it")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write it as a web page too, to look at")


def _run_card(arguments: argparse.Namespace) -> int:
    from .publishing.card import card_gaps, render_card, write_form
    from .publishing.card_notes import FILE

    folder = Path(plugins.locate_checkpoint(arguments.model))
    if not folder.is_dir():
        raise CardError(
            f"{arguments.model} is no folder on this machine; expected one, or a bundled checkpoint's name. A repository's card "
            "is its README.md."
        )
    card = render_card(folder)
    gaps = card_gaps(folder)
    if gaps:
        form = folder / FILE
        made = "" if form.is_file() else f"; wrote {write_form(folder)} to fill in"
        print(f"Not stated in {form}{made}. The card says so. It needs:", file=sys.stderr)
        for key, what in gaps.items():
            print(f"  {key}: {what}", file=sys.stderr)
    if arguments.html is not None:
        from .publishing.card import render_html

        arguments.html.write_text(render_html(card), encoding="utf-8")
    if arguments.output is not None:
        arguments.output.write_text(card, encoding="utf-8")
    if arguments.json:
        print_json({"folder": str(folder), "gaps": gaps, "card": card})
    elif arguments.output is None:
        print(card, end="")
    else:
        print(f"Wrote {arguments.output}")
    return 0


# --- Push -------------------------------------------------------------------------------------------------------------
# `meco push`: a checkpoint's folder to the Hub, as one commit.


def _add_push(commands: Commands) -> None:
    """Declare the command and its flags."""
    parser = commands.add(
        "push",
        _run_push,
        "Push a checkpoint to the Hub: weights, config, processor, card, report and pictures, in one commit.",
    )
    parser.add_argument("folder", metavar="FOLDER", help="folder of a checkpoint, or the name of a bundled one")
    parser.add_argument("repo", metavar="REPO", help="owner/name; made when it does not exist")
    parser.add_argument("--private", action="store_true", default=None, help="make it private; refuses a public one")
    parser.add_argument("--revision", metavar="BRANCH", help="the branch, made when it does not exist (default: main)")
    parser.add_argument("--create_pr", action="store_true", help="open a pull request instead of committing")
    parser.add_argument("--message", help="of the commit")
    parser.add_argument("--dry_run", action="store_true", help="check and list what would go, and send nothing")
    parser.add_argument(
        "--timeout", type=_seconds, metavar="SECONDS", help="give a silent server up after this (default: 60)"
    )


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no positive number of seconds")
    return value


def _run_push(arguments: argparse.Namespace) -> int:
    from . import plugins
    from .publishing.hub import TIMEOUT, push_folder

    pushed = push_folder(
        plugins.checkpoints().get(arguments.folder) or arguments.folder,
        arguments.repo,
        private=arguments.private,
        revision=arguments.revision,
        create_pr=arguments.create_pr,
        commit_message=arguments.message,
        dry_run=arguments.dry_run,
        timeout=arguments.timeout or TIMEOUT,
    )
    if arguments.json:
        print_json(pushed.to_dict())
        return 0
    for name, size in pushed.files.items():
        print(f"{_size(size):>10}  {name}")
    for name in pushed.removed:
        print(f"{'removed':>10}  {name}")
    for name in pushed.left_out:
        print(f"{'stays':>10}  {name}")
    place = f"{pushed.repo_id} ({pushed.revision})"
    print(f"{_size(sum(pushed.files.values())):>10}  in {len(pushed.files)} files")
    if pushed.commit is None:
        print(f"Nothing was sent: this would go to {place}.")
    elif pushed.unchanged:
        print(f"{place} holds all of this already: {pushed.commit.commit_url}")
    else:
        print(pushed.commit.pr_url or pushed.commit.commit_url)
    return 0


def _size(count: int) -> str:
    """In decimal units, as the Hub shows them."""
    for unit, worth in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= worth:
            return f"{count / worth:.1f} {unit}"
    return f"{count} B"


# --- New --------------------------------------------------------------------------------------------------------------
# `meco new`: a plugin of one's own.

_KINDS = ("face", "eye", "signals")


def _add_new(commands: Commands) -> None:
    """Declare the command and its flags."""
    parser = commands.add(
        "new",
        _run_new,
        "Write a plugin: an architecture of your own that installs, trains on synthetic data and passes its tests.",
    )
    parser.add_argument("name", help="what the model shall be called, such as my-model")
    parser.add_argument("--kind", required=True, choices=_KINDS, help="what it looks at")
    parser.add_argument("--output", type=Path, help="a folder that is new or empty; default: meco-<name>, here")


def _run_new(arguments: argparse.Namespace) -> int:
    from .scaffold import KINDS, PluginNames, write_plugin

    folder = write_plugin(arguments.name, arguments.kind, arguments.output)
    names = PluginNames.of(arguments.name)
    following = [
        f"pip install -e {folder}",
        KINDS[arguments.kind].draw,
        f"meco train --recipe {names.package}/synthetic --data_dir data --output_dir out",
        f"pytest {folder / 'tests'}",
    ]
    if arguments.json:
        print_json(
            {
                "folder": str(folder),
                "distribution": names.distribution,
                "model_type": names.package,
                "files": sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()),
                "next": following,
            }
        )
        return 0
    print(f"Wrote {names.distribution} to {folder}. What follows (the data are synthetic, drawn by a program):")
    print("\n".join(f"  {line}" for line in following))
    return 0


# --- Synthetic --------------------------------------------------------------------------------------------------------
# `meco synthetic`: a seeded look-alike of a corpus, in its layout on disk, with nothing of its content.

_WRITERS = {
    "affectnet": "meco_hub.corpora.synthetic.faces:write_affectnet",
    "case": "meco_hub.corpora.synthetic.signals:write_case_npz",
    "deap": "meco_hub.corpora.synthetic.signals:write_deap",
    "dreamer": "meco_hub.corpora.synthetic.signals:write_dreamer",
    "fer2013": "meco_hub.corpora.synthetic.faces:write_fer2013_folders",
    "image_folder": "meco_hub.corpora.synthetic.faces:write_image_folder",
    "raf_db": "meco_hub.corpora.synthetic.faces:write_raf_db",
    "see": "meco_hub.corpora.synthetic.eyes:write_see",
    "stress_predict": "meco_hub.corpora.synthetic.signals:write_stress_predict",
}


def _add_synthetic(commands: Commands) -> None:
    """Declare the command and its flags."""
    parser = commands.add(
        "synthetic",
        _run_synthetic,
        "Write a synthetic look-alike of a corpus: its layout and file names, drawn faces, eyes or signals, no person.",
    )
    parser.add_argument("corpus", help=", ".join(_WRITERS))
    parser.add_argument("output", type=Path, help="a folder that is new or empty, or a path that ends in .zip")
    parser.add_argument("--seed", type=int, default=0, help="the same seed writes the same bytes (0)")
    parser.add_argument("--people", type=int, help="how many people are drawn, where the corpus tells them apart")


def _run_synthetic(arguments: argparse.Namespace) -> int:
    from .plugins import load_dotted

    if arguments.corpus not in _WRITERS:
        raise unknown_name("synthetic look-alike", arguments.corpus, _WRITERS)
    write: Any = load_dotted(_WRITERS[arguments.corpus])
    options: dict[str, Any] = {"seed": arguments.seed}
    if arguments.people is not None:
        if "people" not in inspect.signature(write).parameters:
            raise ConfigurationError(f"{arguments.corpus} does not tell people apart. Leave --people out.")
        options["people"] = arguments.people
    if arguments.people is not None and arguments.people < 1:
        raise ConfigurationError(f"--people is {arguments.people}; expected 1 or more.")
    try:
        drawn = write(arguments.output, **options)
    except OSError as error:
        raise MecoError(
            f"{arguments.output} cannot be written: {error}. Expected a place with room and leave to write."
        ) from error
    if arguments.json:
        print_json(
            {
                "synthetic": True,
                "corpus": arguments.corpus,
                "output": str(arguments.output),
                "seed": arguments.seed,
                "samples": len(drawn),
            }
        )
        return 0
    print(
        f"Wrote a synthetic look-alike of {arguments.corpus}, {len(drawn)} samples, seed {arguments.seed}, to {arguments.output}. "
        'It shows nobody: what is trained on it must say "synthetic" wherever its name or a figure of it appears.'
    )
    return 0


# --- Doctor -----------------------------------------------------------------------------------------------------------
# `meco doctor`: what would not work here, and how to fix it.
#
# Exit code 0: everything works, though there may be warnings; 1: something does not.

_MARKS = {"error": "!!", "warning": " !"}


def _add_doctor(commands: Commands) -> None:
    """Declare the command and its flags."""
    parser = commands.add(
        "doctor", _run_doctor, "Look at the environment and say what would not work, and how to fix it."
    )
    parser.add_argument(
        "--patience",
        type=float,
        default=30.0,
        metavar="SECONDS",
        help="a plugin that is still being imported after so long is said to hang (30)",
    )


def _run_doctor(arguments: argparse.Namespace) -> int:
    from .doctor import examine

    report = examine(arguments.patience)
    errors = sum(finding["level"] == "error" for finding in report["findings"])
    if arguments.json:
        print_json(report)
    else:
        _print(report, errors)
    return 1 if errors else 0


def _print(report: dict[str, Any], errors: int) -> None:
    gpu, cache = report["accelerator"], report["cache"]
    name = f" ({gpu['name']})" if gpu["name"] not in (None, report["device"]) else ""
    print(f"meco_hub {__version__}, Python {report['python']}, {report['platform']}, device {report['device']}{name}")
    print("  " + "  ".join(f"{name} {version or 'missing'}" for name, version in report["versions"].items()))
    print(f"  torch is built for {'CUDA ' + gpu['cuda'] if gpu['cuda'] else 'the CPU'}; mamba_ssm: {gpu['mamba']}")
    for extra, missing in report["extras"].items():
        print(
            f"  extra {extra}: "
            + (f'lacks {", ".join(missing)}: pip install "meco-hub[{extra}]"' if missing else "whole")
        )
    room = "" if cache["free_gb"] is None else f", {cache['free_gb']} GB free"
    print(
        f"  cache {cache['folder']}{room}" + (f"; offline by {', '.join(cache['offline'])}" if cache["offline"] else "")
    )
    for plugin, distribution in report["plugins"].items():
        print(f"  ok  {plugin} ({distribution})")
    for finding in report["findings"]:
        print(f"  {_MARKS[finding['level']]}  {finding['subject']}: {finding['problem']}\n      fix: {finding['fix']}")
        if finding["traceback"]:
            print("      " + finding["traceback"].rstrip().replace("\n", "\n      "))
    warnings = len(report["findings"]) - errors
    said = f", {warnings} warning(s)" if warnings else ""
    print(f"{errors} finding(s){said}." if errors or warnings else "All is well.")


# --- The command itself -----------------------------------------------------------------------------------------------

_COMMANDS = (
    _add_list,
    _add_predict,
    _add_convert,
    _add_export,
    _add_evaluate,
    _add_score,
    _add_train,
    _add_card,
    _add_push,
    _add_new,
    _add_synthetic,
    _add_doctor,
)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="meco", description="Emotion recognition models in the Hugging Face ecosystem."
    )
    parser.add_argument("--version", action="version", version=f"meco_hub {__version__}")
    commands = Commands(parser.add_subparsers(dest="command", required=True, metavar="command"))
    for add in _COMMANDS:
        add(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit code; our own errors are printed to stderr as one line and give 1.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["train"]:  # its flags are the training loop's own
        from .train import main as train

        return train(words[1:])
    arguments = _parser().parse_args(words)
    try:
        with naming_extras():
            return arguments.run(arguments)
    except MecoError as error:
        print(f"meco: {type(error).__name__}: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    raise SystemExit(main())
