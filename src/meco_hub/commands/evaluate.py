"""`meco evaluate`: a checkpoint on a corpus.

This file knows the flags of evaluating and which figures are printed.
"""

import argparse
from pathlib import Path

from .. import plugins
from . import Commands, is_main_process, print_json


def add(commands: Commands) -> None:
    """Declare the command and its flags."""
    parser = commands.add("evaluate", _run, "Evaluate a checkpoint on a corpus and write report.json.")
    parser.add_argument("model", help="bundled checkpoint, folder or Hub id")
    parser.add_argument("--dataset", required=True, help="name of a corpus; see `meco list`")
    parser.add_argument("--data_dir", required=True, type=Path, help="the corpus's folder or zip file")
    parser.add_argument("--output_dir", required=True, type=Path)
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
        help='try the model under these too: "all", families such as low_light or missing, or single ones such as blur/2; a '
        "name that is none gets the list of those that are",
    )  # fmt: skip
    parser.add_argument(
        "--options", nargs="+", default=(), metavar="KEY=VALUE",
        help="options of the corpus, values in YAML (default: those that the checkpoint was trained with)",
    )  # fmt: skip
    parser.add_argument("--runs", type=int, default=1, help="so many times, each with other clips of the recordings")
    parser.add_argument("--routing", action="store_true", help="tell which expert serves whom")
    parser.add_argument("--pictures", action="store_true", help="draw what the report has, beside it")


def _run(arguments: argparse.Namespace) -> int:
    from ..assignments import parse_assignments
    from ..evaluation.run import EvaluationSettings, evaluate_checkpoint

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
    print(f"Wrote {arguments.output_dir / 'report.json'}")
    return 0
