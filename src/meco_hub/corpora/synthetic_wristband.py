"""The seeded look-alike of Stress-Predict: an Empatica E4's own files, with computed signals in place of people.

As in `synthetic_signals.py`: the layout, rates and formats of the original and none of its content; heart rate, skin conductance,
motion and temperature follow the task, and the watch misses beats and whole minutes of them.

This file knows the watch's files from the writer's side; it does not read them.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .synthetic import store
from .synthetic_physiology import DrawnRecording, generator, pulse, smooth


def write_stress_predict(
    target: str | Path, *, seed: int, people: int = 6, task_s: int = 180, tasks: int = 2
) -> list[DrawnRecording]:
    """Raw_data/S<nn>/ and Processed_data/: everybody rests, works, rests, … for `task_s` seconds each; one more without labels.

    Returns:
        One entry per person: which windows a reader makes of them is its business.
    """
    drawn: list[DrawnRecording] = []
    lines = ["Participant,HR,respr,Time(sec),Label"]

    def files() -> Iterator[tuple[str, bytes]]:
        for person in range(1, people + 2):
            name, started = f"S{person:02d}", 1_600_000_000 + 10_000 * person
            labels = np.tile(np.repeat([0, 1], task_s), tasks)
            labels = np.concatenate([labels, np.zeros(task_s, dtype=labels.dtype)])
            yield from _watch(f"Raw_data/{name}/", started, labels, f"{seed}/{person}")
            if person > people:  # somebody whom the labels do not mention, as in the original
                continue
            drawn.append(DrawnRecording(name, name))
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


def _lines(head: tuple[str, ...], rows: Iterator[str] | list[str]) -> bytes:
    return ("\n".join([*head, *rows]) + "\n").encode()


def _one(started: float, rate: float, values: NDArray[np.float64], form: str = "{:.2f}") -> bytes:
    """A file of the watch with one column."""
    return _lines((f"{started:.6f}", f"{rate:.6f}"), [form.format(value) for value in values.tolist()])
