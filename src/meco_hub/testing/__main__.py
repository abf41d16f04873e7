"""`python -m meco_hub.testing meco_my_model`: every check of the kit, as a table."""

import argparse
import json
import sys
import time

from . import NotConforming, checks
from .check import Check


def _run(check: Check) -> tuple[str, str]:
    try:
        check()
    except NotConforming as error:
        return "FAILED", str(error)
    except Exception as error:  # noqa: BLE001 (whatever a stranger's model raises is a line of the table)
        return "ERROR", f"{type(error).__name__}: {error}"
    return "passed", ""


def main(words: list[str] | None = None) -> int:
    """Run the checks; 0 when all passed, 1 otherwise."""
    parser = argparse.ArgumentParser(
        prog="python -m meco_hub.testing", description="Run the conformance kit on an architecture."
    )
    parser.add_argument("model_type", help="as `meco list` names it")
    parser.add_argument(
        "--config", default="{}", help="fields that make the default config tiny, as JSON: '{\"hidden_size\": 16}'"
    )
    parser.add_argument("--only", nargs="*", help="names of checks; default: all")
    parser.add_argument("--fast", action="store_true", help="leave out the slow ones")
    given = parser.parse_args(words)
    listed = checks(given.model_type, config=json.loads(given.config))
    chosen = [one for one in listed if (not given.only or one.name in given.only) and not (given.fast and one.slow)]
    failures = 0
    for check in chosen:
        begin = time.monotonic()
        result, why = _run(check)
        failures += result != "passed"
        print(f"{check.name:36} {result:7} {time.monotonic() - begin:6.1f} s  {why}", flush=True)
    print(f"{len(chosen) - failures} of {len(chosen)} checks passed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
