"""`meco doctor`: what would not work here, and how to mend it.

This file knows how findings are printed.
"""

import argparse

from .. import __version__
from . import Commands, print_json


def add(commands: Commands) -> None:
    """Declare the command."""
    commands.add("doctor", _run, "Look at the environment and say what would not work, and how to mend it.")


def _run(arguments: argparse.Namespace) -> int:
    from ..doctor import examine

    report = examine()
    findings = report["findings"]
    if arguments.json:
        print_json(report)
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
