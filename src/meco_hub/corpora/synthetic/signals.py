"""Computed bodies: smooth valence and arousal, and signals that follow them.

    feeling = Feeling.over(times, "scary-1", key="0/3/7")
    series = body(feeling, person="0/3", key="0/3/7")          # {"IHR": …, "EDATon": …, …}, named as CASE names them

A body is nothing like a person's; what matters is that each sensor carries something of valence or arousal, with an offset of the
person's own and noise. Keys are text: the same key draws the same numbers.
"""

import hashlib
import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...durable import whole_file
from .. import case, deap, dreamer
from .faces import Drawn, store
from .marker import ARRAY, SAID

Series = NDArray[np.float64]

_TENDENCY = {"amusing": (0.6, 0.2), "boring": (-0.2, -0.5), "relaxing": (0.4, -0.6), "scary": (-0.6, 0.6)}
"""(valence, arousal) that a kind of film leads to."""


@dataclass(frozen=True)
class Feeling:
    """Valence and arousal over time, each in [−1, 1].

    Attributes:
        times: (samples,) seconds.
        valence, arousal: (samples,).
        dominance: one number; nothing in the body shows it but the chest.
    """

    times: Series
    valence: Series
    arousal: Series
    dominance: float = 0.0

    @staticmethod
    def over(times: Series, stimulus: str, key: str) -> "Feeling":
        """Slow drifts around what the stimulus leads to."""
        draw = generator(key)
        centre = _TENDENCY[stimulus.partition("-")[0]]
        drifts = [
            sum(0.35 * wave(times, draw.uniform(0.01, 0.06), draw.uniform(0, 6)) for _ in range(2)) for _ in range(2)
        ]
        valence, arousal = (np.clip(middle + drift, -1, 1) for middle, drift in zip(centre, drifts, strict=True))
        return Feeling(times, valence, arousal)

    @staticmethod
    def steady(times: Series, key: str) -> "Feeling":
        """One feeling from 0 s on, and none before."""
        valence, arousal, dominance = generator(key).uniform(-0.95, 0.95, 3)
        on = (times >= 0).astype(np.float64)
        return Feeling(times, valence * on, arousal * on, float(dominance))

    def ratings(self, center: float, halfrange: float) -> Series:
        """(samples, 2) valence and arousal on a scale."""
        return center + halfrange * np.stack([self.valence, self.arousal], axis=1)

    def steady_ratings(self, center: float, halfrange: float) -> tuple[float, float, float]:
        """Valence, arousal and dominance at the end, on a scale."""
        values = (float(self.valence[-1]), float(self.arousal[-1]), self.dominance)
        return tuple(center + halfrange * value for value in values)  # type: ignore[return-value]


def body(feeling: Feeling, person: str, key: str) -> dict[str, Series]:
    """Signals on the feeling's own times: heart rate (beats per minute), skin conductance (µS), and so on."""
    own, draw = generator(f"{person}/body"), generator(f"{key}/noise")
    times, valence, arousal = feeling.times, feeling.valence, feeling.arousal

    def noise(scale: float) -> Series:
        return draw.normal(0, scale, len(times))

    heart = own.uniform(65, 80) + 10 * arousal + noise(1)
    breath = np.cumsum(np.gradient(times) * (0.25 + 0.08 * arousal))
    return {
        "IHR": heart,
        "PTT": own.uniform(0.25, 0.3) - 0.03 * arousal + noise(0.003),
        "EDAPh": 0.4 * np.maximum(arousal, 0) + noise(0.03),
        "EDATon": own.uniform(8, 20) + 2 * arousal + noise(0.1),
        "RESP": (4 + feeling.dominance) * np.sin(2 * np.pi * breath) + noise(0.3),
        "TEMP": own.uniform(25, 33) - 0.3 * arousal + noise(0.02),
        "TEMGEnv": 0.1 + 0.05 * np.abs(arousal) + np.abs(noise(0.01)),
        "ZEMGEnv": 0.05 + 0.3 * np.maximum(valence, 0) + np.abs(noise(0.02)),
        "CEMGEnv": 0.05 + 0.2 * np.maximum(-valence, 0) + np.abs(noise(0.02)),
    }


def pulse(times: Series, beats_per_minute: Series) -> Series:
    """A train of pulses at a changing rate, peaks of height 1."""
    phase = 2 * np.pi * np.cumsum(np.gradient(times) * beats_per_minute / 60)
    return np.exp(6 * (np.cos(phase) - 1))


def wave(times: Series, frequency: float, phase: float = 0.0) -> Series:
    """A sine of height 1."""
    return np.sin(2 * np.pi * frequency * times + phase)


def smooth(values: Series, samples: int) -> Series:
    """A moving average that keeps the length."""
    return np.convolve(np.pad(values, samples, mode="edge"), np.ones(samples) / samples, mode="same")[samples:-samples]


def generator(key: str) -> np.random.Generator:
    """Random numbers that a key decides."""
    return np.random.default_rng(list(hashlib.sha256(key.encode()).digest()))


# Seeded look-alikes of the corpora of signals: each in its on-disk layout, with computed signals in place of people.
#
# Names, shapes, rates, units and file formats are those of the originals, none of their content; the numbers of people,
# trials and minutes are small by default. What is to be predicted is in the signals: arousal drives heart rate, skin
# conductance and the power of the EEG, valence the muscles of the face, so that training on a look-alike can succeed and a
# test can say so. The same arguments write the same bytes.
#
# Whatever was trained on a look-alike must say "synthetic" wherever its name or a figure of it appears.


def write_case_npz(target: str | Path, *, seed: int, people: int = 6, films: int = 4, folds: int = 3) -> list[Drawn]:
    """case_20hz.npz: 50 s at 20 Hz of every person and film. `target` names the file (.npz) or a new folder for it."""
    path = Path(target)
    drawn, signals, ratings = [], [], []
    times = np.arange(1000) / 20.0
    for person in range(1, people + 1):
        for film in range(1, films + 1):
            feeling = Feeling.over(times, case.STIMULI[film - 1], f"{seed}/{person}/{film}")
            series = body(feeling, f"{seed}/{person}", f"{seed}/{person}/{film}")
            signals.append(np.stack([series[channel] for channel in case.CHANNELS], axis=1))
            ratings.append(feeling.ratings(5.0, 4.5))
            drawn.append(Drawn(f"sub_{person}_vid_{film}", identity=f"sub_{person}"))
    numbers = [tuple(int(part) for part in one.sample_id.split("_")[1::2]) for one in drawn]
    stream = io.BytesIO()
    mark: dict[str, Any] = {ARRAY: np.array(SAID)}
    np.savez(
        stream,
        signals=np.stack(signals).astype(np.float32),
        channels=np.array(case.CHANNELS),
        affect=np.stack(ratings).astype(np.float32),
        fold=np.array([(person - 1) % folds for person, _ in numbers]),
        subject=np.array([person for person, _ in numbers]),
        video=np.array([film for _, film in numbers]),
        stimulus=np.array([case.STIMULI[film - 1] for _, film in numbers]),
        time_ms=np.arange(1000) * 50,
        **mark,
    )
    root, name = (path.parent, path.name) if path.suffix == ".npz" else (path, "case_20hz.npz")
    if path.suffix == ".npz" and not path.exists():
        with whole_file(path, overwrite=False) as partial:
            partial.write_bytes(stream.getvalue())
    else:
        store(path if path.suffix != ".npz" else root, [(name, stream.getvalue())])
    return drawn


def write_deap(target: str | Path, *, seed: int, people: int = 2, trials: int = 4) -> list[Drawn]:
    """data_preprocessed_python/s01.dat …, pickled as Python 2 did; 2.6 MB a trial. The original has 32 people and 40 trials."""
    drawn: list[Drawn] = []

    def files() -> Iterator[tuple[str, bytes]]:
        times = (np.arange(deap.SAMPLES) - deap.BASELINE) / deap.RATE
        for person in range(1, people + 1):
            data, labels = np.empty((trials, len(deap.CHANNELS), deap.SAMPLES)), np.empty((trials, 4))
            for trial in range(trials):
                feeling = Feeling.steady(times, f"{seed}/{person}/{trial}")
                data[trial] = _deap_trial(feeling, f"{seed}/{person}", f"{seed}/{person}/{trial}").T
                ratings = feeling.steady_ratings(5.0, 4.0)
                labels[trial] = *ratings, ratings[0]
                name = f"s{person:02d}"
                drawn.append(Drawn(f"{name}_{trial + 1:02d}", identity=name, targets=ratings))
            yield f"data_preprocessed_python/s{person:02d}.dat", python2_pickle({"labels": labels, "data": data})

    store(Path(target), files())
    return drawn


def _deap_trial(feeling: Feeling, person: str, trial: str) -> NDArray[np.float64]:
    """(8064, 40)."""
    series = body(feeling, person, trial)
    eeg = _brain(feeling, len(deap.EEG), f"{trial}/eeg")
    draw = generator(f"{trial}/eog")
    slow = [smooth(draw.normal(0, 60, len(feeling.times)), 30) for _ in range(2)]
    muscles = [series[name] * draw.normal(0, 1, len(feeling.times)) for name in ("ZEMGEnv", "TEMGEnv")]
    beats = pulse(feeling.times, series["IHR"])
    rest = [
        2000 - 400 * (series["EDATon"] + series["EDAPh"]),
        100 * series["RESP"],
        500 * beats,
        3000 + 10 * series["TEMP"],
    ]
    return np.concatenate([eeg, np.stack([*slow, *muscles, *rest], axis=1)], axis=1)


def write_dreamer(
    target: str | Path, *, seed: int, people: int = 2, clips: int = 3, compressed: bool = False
) -> list[Drawn]:
    """DREAMER.mat, version 5; clips last 65 s and more, each another time. The original has 23 people and 18 clips.

    `compressed`, as the original is, takes ten times as long.
    """
    from scipy.io import savemat

    drawn: list[Drawn] = []
    everybody = np.empty((1, people), dtype=object)
    for person in range(people):
        cells = {key: np.empty((clips, 1), dtype=object) for key in ("eb", "es", "cb", "cs")}
        scores = np.empty((clips, 3))
        for clip in range(clips):
            key = f"{seed}/{person}/{clip}"
            for part, seconds, calm in (("b", dreamer.BASELINE_S, True), ("s", 65.0 + 3 * clip, False)):
                eeg_times = np.arange(int(seconds * dreamer.RATES["EEG"])) / dreamer.RATES["EEG"]
                ecg_times = np.arange(int(seconds * dreamer.RATES["ECG"])) / dreamer.RATES["ECG"]
                feeling = Feeling.steady(eeg_times, key)
                if not calm:
                    scores[clip] = np.rint(feeling.steady_ratings(3.0, 2.0))
                felt = Feeling.steady(ecg_times, key)
                series = body(felt, f"{seed}/{person}", f"{key}/{part}")
                heart = 75.0 + np.zeros_like(ecg_times) if calm else series["IHR"]
                cells[f"e{part}"][clip, 0] = 4200 + _brain(feeling, 14, f"{key}/{part}", calm=calm)
                ecg = 2000 + 300 * np.stack([pulse(ecg_times, heart), -pulse(ecg_times, heart)], axis=1)
                if clip == 1 and not calm:
                    ecg[100:140] = np.nan  # as the original has here and there
                cells[f"c{part}"][clip, 0] = ecg
            who = f"subject_{person + 1:02d}"
            drawn.append(
                Drawn(f"{who}_{clip + 1:02d}", identity=who, targets=tuple(float(one) for one in scores[clip]))
            )
        ratings = {name: scores[:, place : place + 1] for place, name in enumerate(dreamer.SCORES)}
        sensors = {
            "EEG": {"baseline": cells["eb"], "stimuli": cells["es"]},
            "ECG": {"baseline": cells["cb"], "stimuli": cells["cs"]},
        }
        everybody[0, person] = {"Age": "22", "Gender": "male", **sensors, **ratings}
    electrodes = np.empty((1, 14), dtype=object)
    electrodes[0, :] = dreamer.ELECTRODES
    header = {"EEG_SamplingRate": 128, "ECG_SamplingRate": 256, "EEG_Electrodes": electrodes}
    header |= {"noOfSubjects": people, "noOfVideoSequences": clips, "Version": "1.0.2", "Provider": "synthetic"}
    stream = io.BytesIO()
    savemat(stream, {"DREAMER": {"Data": everybody, **header}}, do_compression=compressed)
    # the first 116 bytes are a text with the time of day, which the same seed must not change
    content = b"MATLAB 5.0 MAT-file, synthetic".ljust(116) + stream.getvalue()[116:]
    store(Path(target), [("DREAMER.mat", content)])
    return drawn


def _brain(feeling: Feeling, channels: int, key: str, *, calm: bool = False) -> NDArray[np.float64]:
    """(samples, channels): noise, a rhythm of 10 Hz that arousal weakens, and on the right one of 6 Hz that valence strengthens."""
    draw = generator(key)
    noise = draw.normal(0, 6, (len(feeling.times), channels))
    felt = 0.0 if calm else 1.0
    rhythms = 8 * np.exp(-0.8 * felt * feeling.arousal) * wave(feeling.times, 10.0, float(draw.uniform(0, 6)))
    right = 8 * np.exp(0.8 * felt * feeling.valence) * wave(feeling.times, 6.0, float(draw.uniform(0, 6)))
    return noise + np.where(np.arange(channels) % 2, right[:, None], rhythms[:, None])


def python2_pickle(arrays: dict[str, NDArray[np.float64]]) -> bytes:
    """A dict of arrays as Python 2's cPickle writes it (protocol 2): bytes as text, names of NumPy 1."""
    out = [b"\x80\x02}("]
    for name, array in arrays.items():
        raw = np.ascontiguousarray(array, dtype="<f8").tobytes()
        shape = b"(" + b"".join(b"J" + struct.pack("<i", side) for side in array.shape) + b"t"
        out += [b"U" + bytes([len(name)]) + name.encode()]
        out += [b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n", b"K\x00\x85U\x01b\x87R(K\x01", shape]
        out += [b"cnumpy\ndtype\nU\x02f8K\x00K\x01\x87R(K\x03U\x01<NNN", b"J\xff\xff\xff\xff" * 2, b"K\x00tb\x89"]
        out += [b"T" + struct.pack("<i", len(raw)), raw, b"tb"]
    return b"".join([*out, b"u."])


def write_stress_predict(
    target: str | Path, *, seed: int, people: int = 6, task_s: int = 180, tasks: int = 2
) -> list[Drawn]:
    """Raw_data/S<nn>/ and Processed_data/: everybody rests, works, rests, … for `task_s` seconds each; one more without labels.

    Returns:
        One entry per person: which windows a reader makes of them is its business.
    """
    drawn: list[Drawn] = []
    lines = ["Participant,HR,respr,Time(sec),Label"]

    def files() -> Iterator[tuple[str, bytes]]:
        for person in range(1, people + 2):
            name, started = f"S{person:02d}", 1_600_000_000 + 10_000 * person
            labels = np.tile(np.repeat([0, 1], task_s), tasks)
            labels = np.concatenate([labels, np.zeros(task_s, dtype=labels.dtype)])
            yield from _watch(f"Raw_data/{name}/", started, labels, f"{seed}/{person}")
            if person > people:  # somebody whom the labels do not mention, as in the original
                continue
            drawn.append(Drawn(name, identity=name))
            lines.extend(f"{person},80,14.0,{started + 9 + second},{label}" for second, label in enumerate(labels[9:]))
        yield "Processed_data/Improved_All_Combined_hr_rsp_binary.csv", ("\n".join(lines) + "\n").encode()

    store(Path(target), files())
    return drawn


def _watch(folder: str, started: int, labels: NDArray[np.integer], key: str) -> Iterator[tuple[str, bytes]]:
    """The files of one session."""
    draw = generator(key)
    seconds = len(labels)
    resting = float(draw.uniform(65, 80))

    def at(rate: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(times, how stressed) at a rate; the body follows within seconds."""
        times = np.arange(int(seconds * rate)) / rate
        return times, np.interp(times, np.arange(seconds) + 3, smooth(labels.astype(np.float64), 4))

    times, stress = at(32.0)
    motion = draw.normal(0, 2 + 6 * stress[:, None], (len(times), 3)) + np.array([-10.0, 12.0, 58.0])
    head = ", ".join([f"{started:.6f}"] * 3), ", ".join(["32.000000"] * 3)
    yield f"{folder}ACC.csv", _lines(head, (",".join(map(str, row)) for row in np.rint(motion).astype(int).tolist()))
    times, stress = at(64.0)
    rate = resting + 12 * stress
    beats = pulse(times, rate)
    yield f"{folder}BVP.csv", _one(started, 64.0, 50 * beats + draw.normal(0, 5, len(times)))
    times, stress = at(4.0)
    conductance = draw.uniform(0.5, 2) + 1.2 * stress + 0.1 * smooth(draw.normal(0, 1, len(times)), 12)
    yield f"{folder}EDA.csv", _one(started, 4.0, conductance, "{:.6f}")
    yield (
        f"{folder}TEMP.csv",
        _one(started, 4.0, draw.uniform(32, 34) - 0.4 * stress + draw.normal(0, 0.02, len(times))),
    )
    times, stress = at(1.0)
    heart = resting + 12 * stress + draw.normal(0, 1.5, len(times))
    yield f"{folder}HR.csv", _one(started + 10, 1.0, heart[10:])
    moments, now = [], 12.0
    while now < seconds - 2:
        beat = 60 / float(np.interp(now, times, heart))
        now += beat
        if draw.random() > 0.4 and (now // 60) % 5 > 1:  # the watch misses beats, and whole minutes
            moments.append(f"{now:.6f},{beat:.6f}")
    yield f"{folder}IBI.csv", _lines((f"{started:.6f}, IBI",), moments)
    yield f"{folder}tags_{folder.split('/')[1]}.csv", f"{started + 60}\r\n".encode()
    yield f"{folder}info.txt", b"Synthetic: computed, not recorded.\n"


def write_signal_folder(
    target: str | Path, *, seed: int, people: int = 12, intervals: int = 6, interval_s: int = 30
) -> list[Drawn]:
    """study.yaml, labels.csv and recordings/drawn_<nn>/: EEG, skin conductance, ECG of rest and task, orders of their own."""
    drawn: list[Drawn] = []
    lines = ["recording,person,start,end,label"]

    def files() -> Iterator[tuple[str, bytes]]:
        for person in range(1, people + 1):
            name, key = f"drawn_{person:02d}", f"{seed}/{person}"
            tasks = generator(f"{key}/order").permutation(np.arange(intervals) % 2)
            for number, task in enumerate(tasks):
                label = ("rest", "task")[task]
                drawn.append(Drawn(f"{name}_{number:03d}", label, identity=name))
                lines.append(f"{name},{name},{number * interval_s},{(number + 1) * interval_s},{label}")
            yield from _study_session(f"recordings/{name}/", tasks, interval_s, key)
        yield "labels.csv", ("\n".join(lines) + "\n").encode()
        yield "study.yaml", _STUDY.encode()

    store(Path(target), files())
    return drawn


_STUDY = """\
description: A drawn study of rest and task; synthetic, of nobody.
recordings: recordings/*
labels: labels.csv
person: column
classes: [rest, task]
streams:
  eeg: {channels: [Fz, Cz, Pz, Oz], unit: µV}
  eda: {unit: µS}
  ecg: {unit: mV}
"""


def _study_session(folder: str, tasks: NDArray[np.integer], interval_s: int, key: str) -> Iterator[tuple[str, bytes]]:
    """The files of one person's session."""
    seconds = len(tasks) * interval_s

    def felt(rate: float) -> Feeling:
        times = np.arange(seconds * rate) / rate
        at_once = np.where(tasks[np.minimum(times // interval_s, len(tasks) - 1).astype(int)] == 1, 0.7, -0.5)
        return Feeling(times, np.zeros_like(times), smooth(at_once, int(2 * rate)))  # the body follows within seconds

    def table(name: str, columns: list[str], times: Series, values: Series, form: str) -> tuple[str, bytes]:
        rows = (
            f"{time:.4f}," + ",".join(form.format(one) for one in row) for time, row in zip(times, values, strict=True)
        )
        return f"{folder}{name}.csv", _lines((",".join(["time", *columns]),), rows)

    slow, fast = felt(4.0), felt(64.0)
    heart = body(fast, key, f"{key}/heart")["IHR"]
    ecg = pulse(fast.times, heart) + generator(f"{key}/ecg").normal(0, 0.05, len(fast.times))
    eeg = ["Fz (µV)", "Cz (µV)", "Pz (µV)", "Oz (µV)"]
    yield table("eeg", eeg, fast.times, _brain(fast, 4, f"{key}/eeg"), "{:.2f}")
    yield table("eda", ["eda (µS)"], slow.times, body(slow, key, f"{key}/skin")["EDATon"][:, None], "{:.3f}")
    yield table("ecg", ["ecg (mV)"], fast.times, ecg[:, None], "{:.3f}")


def _lines(head: tuple[str, ...], rows: Iterator[str] | list[str]) -> bytes:
    return ("\n".join([*head, *rows]) + "\n").encode()


def _one(started: float, rate: float, values: NDArray[np.float64], form: str = "{:.2f}") -> bytes:
    """A file of the watch with one column."""
    return _lines((f"{started:.6f}", f"{rate:.6f}"), [form.format(value) for value in values.tolist()])
