"""How often the clock of events asks for a unit, doubts it, or takes a wrong one in silence.

    python benchmarks/event_warnings.py

Recordings are drawn: events at random moments on a sensor of 34×34 to 1280×720 pixels, 0.1 to 30 a second and pixel for 0.1 to
100 s, both evenly on a scale of logarithms, 200 events at least. That is not the distribution that `event_clock.py` weighs
units by. Good ones are written in seconds or whole microseconds; bad ones in a unit that nobody writes without saying so, with
every digit that it has, or in a type that does not hold the digits.
"""

import argparse
import collections
import json
from typing import Any

import numpy as np

from meco_hub.errors import RecordingError
from meco_hub.recordings.event_clock import MICROSECONDS, SAMPLE, EventClock

SENSORS = ((34, 34), (64, 48), (128, 128), (240, 180), (346, 260), (640, 480), (1280, 720))
KINDS: dict[str, tuple[tuple[str, ...], str]] = {
    "good": (("s", "us"), ""),
    "whole milliseconds": (("ms",), "i8"),
    "fractions of milliseconds": (("ms",), "f8"),
    "whole nanoseconds": (("ns",), "i8"),
    "float32, beyond 17 s": (("s", "us"), "f4"),
}


def judge(kind: str, generator: np.random.Generator) -> str:
    """What the clock makes of one drawn recording: "asks", the code of a warning, "right", or "wrong, in silence"."""
    units, dtype = KINDS[kind]
    unit = units[int(generator.integers(len(units)))]
    dtype = dtype or {"s": "f8", "us": "i8"}[unit]
    sensor, rate, seconds = SENSORS[0], 0.0, 0.0
    while rate * seconds < 200:
        sensor = SENSORS[int(generator.integers(len(SENSORS)))]
        rate = 10 ** generator.uniform(-1, 1.5) * sensor[0] * sensor[1]
        seconds = 10 ** generator.uniform(-1, 2)
    events = round(rate * seconds)
    seen = min(events, SAMPLE)
    true = np.sort(generator.random(seen)) * seen / rate * 1e6 + (generator.uniform(17e6, 1e9) if dtype == "f4" else 0)
    x, y = (generator.integers(0, side, seen) for side in sensor)
    clock = EventClock("the recording")
    try:
        clock.settle(x, y, (true / MICROSECONDS[unit]).astype(dtype), pixels=sensor[0] * sensor[1], events=events)
        clock((true / MICROSECONDS[unit]).astype(dtype))
    except RecordingError:
        return "asks"
    return clock.warnings[0].code if clock.warnings else "right" if clock.unit == unit else "wrong, in silence"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--good", type=int, default=500)
    parser.add_argument("--bad", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    generator = np.random.default_rng(arguments.seed)
    found: dict[str, Any] = {}
    for kind in KINDS:
        count = arguments.good if kind == "good" else arguments.bad
        answers = collections.Counter(judge(kind, generator) for _ in range(count))
        found[kind] = {answer: number / count for answer, number in answers.most_common()}
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
