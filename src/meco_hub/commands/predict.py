"""`meco predict`: answers for files and folders.

This file knows the flags of predicting and how answers are printed.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from ..errors import ConfigurationError
from . import NOTICE, Commands, is_main_process, print_json


def add(commands: Commands) -> None:
    """Declare the command and its flags."""
    parser = commands.add("predict", _run, "Answer for pictures; folders are searched for pictures.")
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


def _run(arguments: argparse.Namespace) -> int:
    from ..prediction import predict_files

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
    from ..prediction import PART_SIZE, predict_folder

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
