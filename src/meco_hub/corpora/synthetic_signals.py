"""Seeded look-alikes of the corpora of signals: each in its on-disk layout, with computed signals in place of people.

Names, shapes, rates, units and file formats are those of the originals, none of their content; the numbers of people, trials and
minutes are small unless asked for. What is to be predicted is in the signals: arousal drives heart rate, skin conductance and
the power of the EEG, valence the muscles of the face, so that training on a look-alike can succeed and a test can say so. The same
arguments write the same bytes.

Whatever was trained on a look-alike must say "synthetic" wherever its name or a figure of it appears.

This file knows the layouts from the writer's side; it does not read them.
"""

import io
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from . import case_csv, deap, dreamer
from .case import CHANNELS as CASE_CHANNELS
from .synthetic import store
from .synthetic_physiology import DrawnRecording, Feeling, body, generator, pulse, smooth, wave


def write_case_npz(
    target: str | Path, *, seed: int, people: int = 6, films: int = 4, folds: int = 3
) -> list[DrawnRecording]:
    """case_20hz.npz: 50 s at 20 Hz of every person and film. `target` names the file (.npz) or a new folder for it."""
    path = Path(target)
    drawn, signals, ratings = [], [], []
    times = np.arange(1000) / 20.0
    for person in range(1, people + 1):
        for film in range(1, films + 1):
            feeling = Feeling.over(times, case_csv.STIMULI[film - 1], f"{seed}/{person}/{film}")
            series = body(feeling, f"{seed}/{person}", f"{seed}/{person}/{film}")
            signals.append(np.stack([series[channel] for channel in CASE_CHANNELS], axis=1))
            ratings.append(feeling.ratings(5.0, 4.5))
            drawn.append(DrawnRecording(f"sub_{person}_vid_{film}", f"sub_{person}"))
    numbers = [tuple(int(part) for part in one.sample_id.split("_")[1::2]) for one in drawn]
    stream = io.BytesIO()
    np.savez(
        stream,
        signals=np.stack(signals).astype(np.float32),
        channels=np.array(CASE_CHANNELS),
        affect=np.stack(ratings).astype(np.float32),
        fold=np.array([(person - 1) % folds for person, _ in numbers]),
        subject=np.array([person for person, _ in numbers]),
        video=np.array([film for _, film in numbers]),
        stimulus=np.array([case_csv.STIMULI[film - 1] for _, film in numbers]),
        time_ms=np.arange(1000) * 50,
    )
    root, name = (path.parent, path.name) if path.suffix == ".npz" else (path, "case_20hz.npz")
    if path.suffix == ".npz" and not path.exists():
        root.mkdir(parents=True, exist_ok=True)
        path.write_bytes(stream.getvalue())
    else:
        store(path if path.suffix != ".npz" else root, [(name, stream.getvalue())])
    return drawn


def write_case_csv(
    target: str | Path, *, seed: int, people: int = 2, films: int = 2, film_s: int = 110, header: bool = True
) -> list[DrawnRecording]:
    """The published csv: for every person a session of films between blue screens (video 11), at 1000 and 20 Hz."""
    drawn: list[DrawnRecording] = []

    def files() -> Iterator[tuple[str, bytes]]:
        for person in range(1, people + 1):
            order = [(person + film) % films + 1 for film in range(films)]
            videos = [11, *(video for film in order for video in (film, 11))]
            seconds = [film_s if video <= 8 else 12 for video in videos]
            clock = np.arange(int(sum(seconds) * 1000)) / 1000.0
            shown = np.repeat(videos, np.asarray(seconds) * 1000)
            feeling = Feeling.over(clock, "relaxing-1", f"{seed}/{person}/session")
            series = body(feeling, f"{seed}/{person}", f"{seed}/{person}/session")
            beats = pulse(clock, series["IHR"])
            physiology = [
                beats,
                40 + 8 * beats,
                series["EDATon"] + series["EDAPh"],
                30 + series["RESP"],
                series["TEMP"],
            ]
            physiology += [series[name] * wave(clock, 90.0) for name in ("ZEMGEnv", "CEMGEnv", "TEMGEnv")]
            yield (
                f"data/interpolated/physiological/sub_{person}.csv",
                _csv(["daqtime", *case_csv.CHANNELS, "video"], [clock * 1000, *physiology, shown], header),
            )
            rated = feeling.ratings(5.0, 4.5)[::50]
            columns = [clock[::50] * 1000, rated[:, 0], rated[:, 1], shown[::50]]
            yield (
                f"data/interpolated/annotations/sub_{person}.csv",
                _csv(["jstime", "valence", "arousal", "video"], columns, header),
            )
            drawn.extend(
                DrawnRecording(f"sub_{person}_vid_{film}_{piece}", f"sub_{person}")
                for film in order
                for piece in range(int(film_s / case_csv.PIECE_S))
            )

    store(Path(target), files())
    return drawn


def write_deap(target: str | Path, *, seed: int, people: int = 2, trials: int = 4) -> list[DrawnRecording]:
    """data_preprocessed_python/s01.dat …, pickled as Python 2 did; 2.6 MB a trial. The original has 32 people and 40 trials."""
    drawn: list[DrawnRecording] = []

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
                drawn.append(DrawnRecording(f"{name}_{trial + 1:02d}", name, targets=ratings))
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
) -> list[DrawnRecording]:
    """DREAMER.mat, version 5; clips last 65 s and more, each another time. The original has 23 people and 18 clips.

    `compressed`, as the original is, takes ten times as long.
    """
    from scipy.io import savemat

    drawn: list[DrawnRecording] = []
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
                DrawnRecording(f"{who}_{clip + 1:02d}", who, targets=tuple(float(one) for one in scores[clip]))
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


def _csv(names: list[str], columns: list[NDArray[np.floating] | NDArray[np.integer]], header: bool) -> bytes:
    import pyarrow as pa
    from pyarrow import csv

    rounded = [np.round(column, 4) if column.dtype.kind == "f" else column for column in columns]
    stream = io.BytesIO()
    options = csv.WriteOptions(include_header=header, quoting_style="none")
    csv.write_csv(pa.table(dict(zip(names, rounded, strict=True))), stream, options)
    return stream.getvalue()
