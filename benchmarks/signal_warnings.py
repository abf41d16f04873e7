"""How often each warning of body signals fires on recordings as they are, and on ones that have just that fault.

    python benchmarks/signal_warnings.py --case case_20hz.npz --stress_predict stress_predict.zip

Good ones are random parts of real recordings of held-out people: 25 to 50 s of CASE, 10 to 50 minutes of Stress-Predict's watches.
What training had (`Modality.trained_on`) is measured anew on the other people, by folds, so nobody is compared with himself. Bad
ones are such parts with one fault. "asks" is an error that says what is wrong, which is as good an answer.
"""

import argparse
import collections
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meco_hub import plugins, recogniser
from meco_hub.errors import RecordingError
from meco_hub.processing.signal_doubts import describe_range, fit_recording
from meco_hub.processing.signal_modalities import Modality, TrainingRange
from meco_hub.recordings.signal_recording import SignalRecording, Stream
from meco_hub.recordings.signals import read_signals

FOLDS = 4
Streams = dict[str, Stream]
Fault = Callable[[Streams, np.random.Generator], Streams]


class Data:
    """People's recordings, and what training had when somebody was not in it.

    Args:
        people: name → recordings.
        windower: of the checkpoint.
        piece_s: seconds of what a training recording was; ranges are those of such pieces.
        seconds: least and most of a part that is drawn.
    """

    def __init__(
        self,
        people: Mapping[str, Sequence[SignalRecording]],
        windower: Any,
        piece_s: float,
        seconds: tuple[float, float],
    ) -> None:
        self._people, self._seconds, self._names = people, seconds, sorted(people)
        modalities = windower.modality_list()
        self._modalities = [
            self._measure(
                modalities, [name for place, name in enumerate(self._names) if place % FOLDS != fold], piece_s
            )
            for fold in range(FOLDS)
        ]

    def _measure(self, modalities: Sequence[Modality], people: Sequence[str], piece_s: float) -> list[Modality]:
        seen: dict[str, list[Stream]] = {}
        for name in people:
            for recording in self._people[name]:
                for key, stream in recording.streams.items():
                    for start in np.arange(stream.times[0], stream.times[-1] - 0.9 * piece_s, piece_s):
                        seen.setdefault(key, []).append(stream.between(start, start + piece_s))
        known = describe_range({key: [one for one in streams if len(one)] for key, streams in seen.items()})
        return [
            replace(one, trained_on=TrainingRange.parse(one.name, one.stream_channels, known[one.name]["trained_on"]))
            for one in modalities
        ]

    def draw(self, generator: np.random.Generator) -> tuple[Streams, Sequence[Modality]]:
        """A part of somebody's recording, and the modalities as others' recordings made them."""
        place = int(generator.integers(len(self._names)))
        own = self._people[self._names[place]]
        streams = own[int(generator.integers(len(own)))].streams
        low = max(stream.times[0] for stream in streams.values())
        high = min(stream.times[-1] for stream in streams.values())
        length = min(generator.uniform(*self._seconds), high - low)
        start = generator.uniform(low, high - length)
        parts = {name: one.between(start, start + length) for name, one in streams.items()}
        return {name: one for name, one in parts.items() if len(one)}, self._modalities[place % FOLDS]


def load_case(path: Path) -> Data:
    corpus, people = plugins.corpus("case"), {}
    for row in next(iter(corpus.load(path).values())):
        people.setdefault(row["identity"], []).append(corpus.read(row))
    return Data(people, recogniser("meco-himoe-case").feature_extractor, 49.0, (25.0, 49.0))


def load_watches(path: Path, folder: Path) -> Data:
    with zipfile.ZipFile(path) as archive:
        archive.extractall(folder, [one for one in archive.namelist() if "Raw_data/" in one])
    people = {one.name: [read_signals(one)] for one in folder.rglob("Raw_data/S*") if one.is_dir()}
    return Data(people, recogniser("meco-himoe-stress").feature_extractor, 790.0, (600.0, 3000.0))


# --- Faults -----------------------------------------------------------------------------------------------------------


def one_of(*names: str) -> Callable[[Streams, np.random.Generator], str]:
    return lambda streams, generator: str(generator.choice([name for name in names if name in streams]))


def changing(name: str, change: Callable[[Stream, np.random.Generator], Stream]) -> Fault:
    """The change of one stream, of the names in `name` the one that is drawn."""
    choose = one_of(*name.split())

    def fault(streams: Streams, generator: np.random.Generator) -> Streams:
        chosen = choose(streams, generator)
        return {**streams, chosen: change(streams[chosen], generator)}

    return fault


def scaled(name: str, factor: float, offset: float = 0.0) -> Fault:
    """In another unit, and without its name."""
    return changing(name, lambda one, _: replace(one, values=one.values * factor + offset, units=()))


def still(values: NDArray[np.floating], generator: np.random.Generator, share: float) -> NDArray[np.floating]:
    """The values, of which so many stand still from a random one on."""
    values, many = values.copy(), int(share * len(values))
    first = int(generator.integers(len(values) - many + 1))
    values[first : first + many] = values[first]
    return values


def one_channel(one: Stream, generator: np.random.Generator) -> Stream:
    values = one.values.copy()
    place = int(generator.integers(values.shape[1]))
    values[:, place] = still(values[:, place], generator, 0.6)
    return replace(one, values=values)


def sentinels(one: Stream, generator: np.random.Generator) -> Stream:
    """What a program or a sensor writes that has no value, here and there."""
    values = one.values.copy()
    values[generator.choice(len(one), 40, replace=False)] = generator.choice(
        [-1.0, -99.0, 999.0, 9999.0, -9999.0, 65535.0]
    )
    return replace(one, values=values)


def clipped(one: Stream, _: np.random.Generator) -> Stream:
    return replace(one, values=np.minimum(one.values, np.quantile(one.values, 0.8, axis=0)))


def resting(level: float, spread: float) -> Callable[[Stream, np.random.Generator], Stream]:
    return lambda one, generator: replace(one, values=generator.normal(level, spread, one.values.shape))


def renamed(streams: Streams, generator: np.random.Generator) -> Streams:
    chosen = "eda" if generator.random() < 0.5 else "temp"
    other = {"eda": ("GSR", "EDA_wrist", "skin conductance"), "temp": ("SKT", "Skin Temp", "temperature")}[chosen]
    return {(str(generator.choice(other)) if name == chosen else name): one for name, one in streams.items()}


def timed(change: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> Fault:
    """Every clock in another unit."""
    return lambda streams, _: {name: replace(one, times=change(one.times), rate=None) for name, one in streams.items()}


CASE: dict[str, tuple[str, Fault]] = {
    "a stream under another name": ("stream_name_unknown", renamed),
    "channels without names": (
        "channels_unnamed",
        changing("emg cardiac eda", lambda one, _: replace(one, channels=())),
    ),
    "temperature in °F or K, skin in nS, no unit": (
        "unit_unlikely",
        lambda streams, generator: (
            scaled("temp", 1.8, 32.0),
            scaled("temp", 1.0, 273.15),
            scaled("eda", 1000.0),
        )[int(generator.integers(3))](streams, generator),
    ),
    "breath or muscles thirty times as large": (
        "outside_training_range",
        scaled("resp emg", 30.0),
    ),
    "one channel still for 60 % of the time": ("channel_flat", changing("cardiac eda emg", one_channel)),
    "times in minutes": ("time_unit_unlikely", timed(lambda times: times / 60)),
    "times in milliseconds": ("time_unit_unlikely", timed(lambda times: times * 1000)),
}
WATCHES: dict[str, tuple[str, Fault]] = {
    "a stream under another name": ("stream_name_unknown", renamed),
    "temperature in lux": ("unit_unknown", changing("temp", lambda one, _: replace(one, units=("lx",)))),
    "temperature in °F or K, skin in nS, no unit": CASE["temperature in °F or K, skin in nS, no unit"],
    "a constant stream": (
        "sensor_flat",
        changing("eda temp bvp", lambda one, _: replace(one, values=0 * one.values + one.values[0])),
    ),
    "still, for a third of the time": (
        "sensor_flat_in_part",
        changing("eda temp bvp acc", lambda one, generator: replace(one, values=still(one.values, generator, 1 / 3))),
    ),
    "40 samples that stand for none": ("sensor_flat_in_part", changing("eda temp hr", sentinels)),
    "the highest fifth clipped": ("sensor_saturated", changing("bvp eda", clipped)),
    "skin at 0.01 µS": ("sensor_unworn", changing("eda", resting(0.01, 0.003))),
    "temperature of a room": ("sensor_unworn", changing("temp", resting(22.0, 0.1))),
    "times in milliseconds": ("time_unit_unlikely", timed(lambda times: times * 1000)),
}


def answer(streams: Streams, modalities: Sequence[Modality]) -> set[str]:
    """The codes that the recording has, or "asks"."""
    try:
        return {one.code for one in fit_recording(SignalRecording(streams), modalities).warnings}
    except RecordingError:
        return {"asks"}


def report(title: str, data: Data, faults: Mapping[str, tuple[str, Fault]], options: argparse.Namespace) -> None:
    generator = np.random.default_rng(options.seed)
    good = collections.Counter(code for _ in range(options.good) for code in answer(*data.draw(generator)))
    print(f"{title}, {options.good} good parts: any {sum(good.values()) / options.good:.3f}")
    print("  " + (", ".join(f"{code} {count / options.good:.3f}" for code, count in good.most_common()) or "none"))
    for name, (code, fault) in faults.items():
        seen: list[set[str]] = []
        for _ in range(options.bad):
            streams, modalities = data.draw(generator)
            seen.append(answer(fault(streams, generator), modalities))
        told, asks = (sum(one in codes for codes in seen) / options.bad for one in (code, "asks"))
        some = sum(map(bool, seen)) / options.bad
        print(f"| `{code}` | {name} | {good[code] / options.good:.3f} | {told:.3f} | {asks:.3f} | {some:.3f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", type=Path)
    parser.add_argument("--stress_predict", type=Path)
    parser.add_argument("--good", type=int, default=250, help="parts of each corpus")
    parser.add_argument("--bad", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.case:
        report("CASE", load_case(options.case), CASE, options)
    if options.stress_predict:
        with tempfile.TemporaryDirectory() as folder:
            report("Stress-Predict", load_watches(options.stress_predict, Path(folder)), WATCHES, options)


if __name__ == "__main__":
    main()
