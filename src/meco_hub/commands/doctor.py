"""`meco doctor`: what would not work here, and how to mend it.

Exit code 0: everything works, though there may be warnings; 1: something does not.

This file knows how findings are printed.
"""

import argparse
from typing import Any

from .. import __version__
from . import Commands, print_json

_MARKS = {"error": "!!", "warning": " !"}


def add(commands: Commands) -> None:
    """Declare the command and its flags."""
    parser = commands.add("doctor", _run, "Look at the environment and say what would not work, and how to mend it.")
    parser.add_argument(
        "--patience",
        type=float,
        default=30.0,
        metavar="SECONDS",
        help="a plugin that is still being imported after so long is said to hang (30)",
    )


def _run(arguments: argparse.Namespace) -> int:
    from ..doctor import examine

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
        print(
            f"  {_MARKS[finding['level']]}  {finding['subject']}: {finding['problem']}\n      mend: {finding['mend']}"
        )
        if finding["traceback"]:
            print("      " + finding["traceback"].rstrip().replace("\n", "\n      "))
    warnings = len(report["findings"]) - errors
    said = f", {warnings} warning(s)" if warnings else ""
    print(f"{errors} finding(s){said}." if errors or warnings else "All is well.")
