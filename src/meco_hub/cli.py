"""The command `meco`: parsing and printing only; every command calls one function of the library.

    meco list | predict | convert | evaluate | score | train | doctor

Exit codes: 0 all is well; 1 our error, a bad input among several, or a finding of the doctor; 2 wrong usage.

This file knows flags and how answers are printed.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import __version__, plugins
from .errors import ConfigurationError, MecoError

NOTICE = (
    "Scores are inferred expressions, not felt emotions. This is an emotion recognition system under Regulation (EU) 2024/1689 "
    "(Art. 3(39)): prohibited in workplaces and education except for medical or safety reasons (Art. 5(1)(f)); tell the people "
    "exposed (Art. 50(3))."
)


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))


def _list(arguments: argparse.Namespace) -> int:
    from .listing import inventory

    found = inventory()
    if arguments.json:
        _print_json(found)
        return 0
    for title, rows in found.items():
        print(f"{title}:")
        for row in rows:
            print("  " + "  ".join(str(value) for value in row.values() if value))
        if not rows:
            print("  none")
    return 0


def _predict(arguments: argparse.Namespace) -> int:
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
        _print_json(rows)
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
    if not _is_main_process():
        return 0
    if arguments.json:
        _print_json(report)
    else:
        print(NOTICE, file=sys.stderr)
        print(f"{report['files']} files, {report['errors']} of them could not be used. Wrote {report['answers']}")
    # a launcher takes any other code for a crash, and may begin again
    return 1 if report["errors"] and not _is_launched() else 0


def _is_launched() -> bool:
    from accelerate import PartialState

    return PartialState().num_processes > 1


def _is_main_process() -> bool:
    """Under a launcher, one process speaks for all."""
    from accelerate import PartialState

    return PartialState().is_main_process


def _scores(expressions: list[dict[str, Any]]) -> str:
    return "  ".join(f"{entry['label']} {entry['score']:.3f}" for entry in expressions)


def _line(row: dict[str, Any]) -> str:
    if "error" in row:
        return f"{row['file']}: error: {row['error']}"
    answer = row["answer"]
    if answer and "expressions" in answer[0]:
        faces = [f"  face {index}: {_scores(face['expressions'])}" for index, face in enumerate(answer, start=1)]
        return "\n".join([f"{row['file']}:", *faces])
    return f"{row['file']}: {_scores(answer)}"


def _convert(arguments: argparse.Namespace) -> int:
    entry = plugins.architecture(arguments.model_type)
    if entry.converter is None:
        raise MecoError(
            f"The plugin of {arguments.model_type!r} offers no converter. Expected one that declares `converter`; see `meco list`."
        )
    convert = plugins.load_dotted(entry.converter)
    report = convert(arguments.weights, arguments.output, labels=arguments.labels, overwrite=arguments.overwrite)
    if arguments.json:
        _print_json(report.to_dict())
    else:
        print(report)
    return 0


def _evaluate(arguments: argparse.Namespace) -> int:
    from .assignments import parse_assignments
    from .evaluation.run import EvaluationSettings, evaluate_checkpoint

    report = evaluate_checkpoint(
        plugins.locate_checkpoint(arguments.model),
        arguments.dataset,
        arguments.data_dir,
        arguments.output_dir,
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
            pictures=arguments.pictures,
            workers=arguments.workers,
            options=parse_assignments(arguments.options),
            runs=arguments.runs,
        ),
    )
    if not _is_main_process():
        return 0
    if arguments.json:
        _print_json(report)
        return 0
    metrics, intervals = report["metrics"], report["confidence_intervals"]
    print(f"n = {metrics['n']}")
    for name, value in metrics.items():
        if name in intervals and value is not None:
            low, high = intervals[name]
            print(f"{name:16} {value:.4f}  [{low:.4f}, {high:.4f}]")
    for name, row in report["references"].items():
        print(f"{name:16} " + "  ".join(f"{key} {row[key]:.4f}" for key in ("rmse", "ccc") if row.get(key) is not None))
    for name, row in report["condition_families"].items():
        if row["area"] is not None:
            print(
                f"{name:16} {row['metric']} {row['area']:.4f} on average over the strengths, {row['worst']:.4f} at worst"
            )
    print(f"Wrote {arguments.output_dir / 'report.json'}")
    return 0


def _score(arguments: argparse.Namespace) -> int:
    from .evaluation.report import plain
    from .evaluation.sequence_files import score_sequence_sets
    from .evaluation.sequence_scores import table

    found = score_sequence_sets(arguments.files)
    if arguments.json:
        _print_json(plain({name: scores.to_dict() for name, scores in found.items()}))
    else:
        print(table(found))
    return 0


def _doctor(arguments: argparse.Namespace) -> int:
    from .doctor import examine

    report = examine()
    findings = report["findings"]
    if arguments.json:
        _print_json(report)
        return 1 if findings else 0
    print(f"meco_hub {__version__}, Python {report['python']}, {report['platform']}, device {report['device']}")
    print("  " + "  ".join(f"{name} {version or 'missing'}" for name, version in report["versions"].items()))
    for name, distribution in report["plugins"].items():
        print(f"  ok  {name} ({distribution})")
    for finding in findings:
        print(f"  !!  {finding['subject']}: {finding['problem']}\n      mend: {finding['mend']}")
        if finding["traceback"]:
            print("      " + finding["traceback"].rstrip().replace("\n", "\n      "))
    print("All is well." if not findings else f"{len(findings)} finding(s).")
    return 1 if findings else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="meco", description="Emotion recognition models in the Hugging Face ecosystem."
    )
    parser.add_argument("--version", action="version", version=f"meco_hub {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")

    def command(name: str, run: Any, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(run=run)
        sub.add_argument("--json", action="store_true", help="print JSON for programs")
        return sub

    command("list", _list, "Architectures, bundled checkpoints, corpora and recipes that are installed.")

    predict = command("predict", _predict, "Answer for pictures; folders are searched for pictures.")
    predict.add_argument("inputs", nargs="+", type=Path, metavar="FILE_OR_FOLDER")
    predict.add_argument("--model", help="bundled checkpoint, folder or Hub id (default: the bundled face checkpoint)")
    predict.add_argument("--faces", choices=("cropped", "largest", "all"), help="whether faces must be found first")
    predict.add_argument("--top_k", type=int, help="answers per face (default: all)")
    predict.add_argument("--batch_size", type=int, default=8)
    predict.add_argument(
        "--output",
        type=Path,
        metavar="FOLDER",
        help="write a Parquet data set there instead, and go on with it after a kill",
    )
    predict.add_argument("--part_size", type=int, help="files in a part of that data set (default: 512)")
    predict.add_argument("--annotate", type=Path, metavar="FOLDER", help="write each picture with its answer drawn in")

    convert = command(
        "convert", _convert, "Turn the weights that an architecture's authors publish into a checkpoint folder."
    )
    convert.add_argument("model_type")
    convert.add_argument("weights", type=Path)
    convert.add_argument("output", type=Path)
    convert.add_argument(
        "--labels", help="a label space of the plugin, or names separated by commas in the order of the outputs"
    )
    convert.add_argument("--overwrite", action="store_true", help="replace what the output folder holds")

    evaluate = command("evaluate", _evaluate, "Evaluate a checkpoint on a corpus and write report.json.")
    evaluate.add_argument("model", help="bundled checkpoint, folder or Hub id")
    evaluate.add_argument("--dataset", required=True, help="name of a corpus; see `meco list`")
    evaluate.add_argument("--data_dir", required=True, type=Path, help="the corpus's folder or zip file")
    evaluate.add_argument("--output_dir", required=True, type=Path)
    evaluate.add_argument("--split", help="split to use (default: all of it)")
    evaluate.add_argument("--folds", type=int, nargs="+", help="folds to use (default: all of them)")
    evaluate.add_argument("--protocol", choices=("P0", "P1", "P2", "P3", "P4"), help="test one fold of this protocol")
    evaluate.add_argument("--protocol_fold", help="which of its folds: a number, a person, or person/part")
    evaluate.add_argument("--protocol_folds", type=int, default=5, help="into how many folds it cuts (default: 5)")
    evaluate.add_argument("--batch_size", type=int, default=32)
    evaluate.add_argument("--stride_s", type=float, help="seconds between the clips of a long recording")
    evaluate.add_argument("--workers", type=int, default=1, help="threads that read")
    evaluate.add_argument(
        "--exclude_unknown_labels", action="store_true", help="leave out, and count, classes that the checkpoint lacks"
    )

    evaluate.add_argument(
        "--conditions", nargs="+", default=(), metavar="NAME",
        help='try the model under these too: "all", families such as low_light or missing, or single ones such as blur/2; a '
        "name that is none gets the list of those that are",
    )  # fmt: skip
    evaluate.add_argument(
        "--options", nargs="+", default=(), metavar="KEY=VALUE",
        help="options of the corpus, values in YAML (default: those that the checkpoint was trained with)",
    )  # fmt: skip
    evaluate.add_argument("--runs", type=int, default=1, help="so many times, each with other clips of the recordings")
    evaluate.add_argument("--routing", action="store_true", help="tell which expert serves whom")
    evaluate.add_argument("--pictures", action="store_true", help="draw what the report has, beside it")

    score = command(
        "score", _score, "Score per-sequence prediction files: a folder of runs, or several, a row of the table each."
    )
    score.add_argument("files", nargs="+", type=Path, metavar="FILE_OR_FOLDER")

    commands.add_parser("train", help="Train by a recipe; `meco train --help` lists its flags.", add_help=False)
    command("doctor", _doctor, "Look at the environment and say what would not work, and how to mend it.")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit code; our own errors are printed to stderr as one line and give 1.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        if words[:1] == ["train"]:  # its flags are the training loop's own
            from .train import main as train

            return train(words[1:])
        arguments = _parser().parse_args(words)
        return arguments.run(arguments)
    except MecoError as error:
        print(f"meco: {type(error).__name__}: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    raise SystemExit(main())
