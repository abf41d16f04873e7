"""Computed bodies: smooth valence and arousal, and signals that follow them.

    feeling = Feeling.over(times, "scary-1", key="0/3/7")
    series = body(feeling, person="0/3", key="0/3/7")          # {"IHR": …, "EDATon": …, …}, named as CASE names them

A body is nothing like a person's; what matters is that each sensor carries something of valence or arousal, with an offset of the
person's own and noise. Keys are text: the same key draws the same numbers.

This file knows what moves which signal; it does not know any file's layout.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Series = NDArray[np.float64]

_TENDENCY = {"amusing": (0.6, 0.2), "boring": (-0.2, -0.5), "relaxing": (0.4, -0.6), "scary": (-0.6, 0.6)}
"""(valence, arousal) that a kind of film leads to."""


@dataclass(frozen=True)
class DrawnRecording:
    """One recording of a look-alike: the truth that a reader must find.

    Attributes:
        sample_id: the name under which the reader gives it.
        identity: the person.
        label: canonical class, where classes are predicted; else "".
        targets: ratings in native units, where a recording has one each; else empty.
    """

    sample_id: str
    identity: str
    label: str = ""
    targets: tuple[float, ...] = ()


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
    """Signals on the feeling's own times: heart rate (beats per minute), skin conductance (µS), and so on.

    Args:
        feeling: what moves them.
        person: whose offsets they have.
        key: of the noise.
    """
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
