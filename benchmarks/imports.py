"""What `import meco_hub` costs over `python -c pass`, beside its neighbours; the limit is 0.1 s.

    python benchmarks/imports.py

Every round starts one fresh interpreter per statement, interleaved, so that other work on the machine weighs on all alike.
"""

import argparse
import statistics
import subprocess
import sys
import time

STATEMENTS = ("pass", "import meco_hub", "import numpy", "import transformers")


def measure(rounds: int) -> dict[str, list[float]]:
    """Wall time in seconds of `python -c statement`, `rounds` times each."""
    seconds: dict[str, list[float]] = {statement: [] for statement in STATEMENTS}
    for _ in range(rounds):
        for statement in STATEMENTS:
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", statement], check=True)
            seconds[statement].append(time.perf_counter() - start)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=11)
    seconds = measure(parser.parse_args().rounds)
    bare = statistics.median(seconds["pass"])
    print(f"{'statement':22} {'median s':>9} {'over pass':>10}")
    for statement, times in seconds.items():
        median = statistics.median(times)
        print(f"{statement:22} {median:9.3f} {median - bare:10.3f}")


if __name__ == "__main__":
    main()
