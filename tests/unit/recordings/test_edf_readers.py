"""Drawn EDF files are read as edfio, pyedflib and MNE read them, each of those that are installed: gaps, accents, limits, rates."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meco_hub.recordings.signal_files.edf import EdfFile
from meco_hub.recordings.signals import read_signals

_NOTES = 60
"""Samples of annotations a record."""


@dataclass(frozen=True)
class Drawn:
    """One file.

    Attributes:
        rates: of each signal, whole numbers, as a record lasts a second.
        limits: (signals, 4) physical and digital smallest and largest value.
        onsets: seconds at which records begin.
        form: "EDF+D", interrupted; "EDF+C"; or "" of plain EDF, without annotations.
        accents: the header has some, in latin-1.
    """

    rates: list[int]
    limits: list[tuple[float, float, int, int]]
    onsets: list[float]
    form: str
    accents: bool
    seed: int

    def labels(self) -> list[str]:
        return [f"Odd {at}" for at in range(len(self.rates))]

    def digital(self) -> list[np.ndarray]:
        draw = np.random.default_rng(self.seed)
        return [
            draw.integers(low, high + 1, (len(self.onsets), rate)).astype("<i2")
            for rate, (_, _, low, high) in zip(self.rates, self.limits, strict=True)
        ]

    def physical(self) -> list[np.ndarray]:
        return [
            (values.reshape(-1) - low) * ((largest - smallest) / (high - low)) + smallest
            for values, (smallest, largest, low, high) in zip(self.digital(), self.limits, strict=True)
        ]

    def write(self, path: Path) -> Path:
        count = len(self.rates) + bool(self.form)
        labels = [*self.labels(), "EDF Annotations"][:count]
        limits = [*self.limits, (-1, 1, -32768, 32767)][:count]
        unit = "\N{DEGREE SIGN}C" if self.accents else "uS"

        def field(text: object, width: int) -> bytes:
            return str(text).encode("latin-1").ljust(width)

        patient = (
            "X F 01-JAN-1990 M\N{LATIN SMALL LETTER U WITH DIAERESIS}ller" if self.accents else "X F 01-JAN-1990 X"
        )
        head = [("0", 8), (patient, 80), ("Startdate 31-JAN-2023 X X X", 80), ("31.01.23", 8), ("10.00.00", 8)]
        head += [(256 * (count + 1), 8), (self.form, 44), (len(self.onsets), 8), (1, 8), (count, 4)]
        columns = [(labels, 16), ([""] * count, 80), ([*[unit] * len(self.rates), ""][:count], 8)]
        columns += [([one[at] for one in limits], 8) for at in range(4)]
        columns += [([""] * count, 80), ([*self.rates, _NOTES][:count], 8), ([""] * count, 32)]
        content = [field(text, width) for text, width in head]
        content += [field(text, width) for texts, width in columns for text in texts]
        for at, onset in enumerate(self.onsets):
            content += [values[at].tobytes() for values in self.digital()]
            if self.form:
                content.append(f"+{onset:g}\x14\x14\0+{onset:g}\x14note {at}\x14\0".encode().ljust(2 * _NOTES, b"\0"))
        path.write_bytes(b"".join(content))
        return path


@st.composite
def drawn_files(draw: st.DrawFn) -> Drawn:
    form = draw(st.sampled_from(["", "EDF+C", "EDF+D"]))
    slowest = 4 if form == "EDF+D" else 1  # of more gaps than samples no rate can be told
    rates = draw(st.lists(st.sampled_from([slowest, 32, 100]), min_size=1, max_size=3))
    limits = []
    for _ in rates:
        smallest, span = draw(st.integers(-500, 500)), draw(st.integers(1, 900))
        low, width = draw(st.integers(-32768, 0)), draw(st.integers(1, 32767))
        ends = (smallest, smallest + span)
        limits.append(
            (*(ends[::-1] if draw(st.booleans()) else ends), low, low + width)
        )  # the physical may be turned round
    steps = draw(st.lists(st.integers(0, 40), min_size=1, max_size=8))
    onsets = np.arange(len(steps)) + (np.cumsum([0, *steps[1:]]) / 4 if form == "EDF+D" else 0)
    return Drawn(rates, limits, list(map(float, onsets)), form, draw(st.booleans()), draw(st.integers(0, 99)))


def by_edfio(path: Path, drawn: Drawn) -> tuple[list[Any], list[np.ndarray], list[float] | None]:
    edfio = pytest.importorskip("edfio")
    file = edfio.read_edf(path, header_encoding="latin-1")
    told = [(one.label, one.physical_dimension, one.sampling_frequency) for one in file.signals]
    return told, [one.data for one in file.signals], [one.onset for one in file.annotations] if drawn.form else None


def by_pyedflib(path: Path, drawn: Drawn) -> tuple[list[Any], list[np.ndarray], list[float] | None] | None:
    pyedflib = pytest.importorskip("pyedflib")
    if drawn.form == "EDF+D" or drawn.accents:
        return None  # it reads neither
    with pyedflib.EdfReader(str(path)) as file:
        at = range(file.signals_in_file)
        told = [(file.getLabel(one), file.getPhysicalDimension(one), file.getSampleFrequency(one)) for one in at]
        onsets = file.readAnnotations()[0].tolist() if drawn.form else None
        return told, [file.readSignal(one) for one in at], onsets


def by_mne(path: Path, drawn: Drawn) -> tuple[list[Any], list[np.ndarray], list[float] | None] | None:
    mne = pytest.importorskip("mne")
    if drawn.form == "EDF+D" or len(set(drawn.rates)) > 1 or any(one[0] > one[1] for one in drawn.limits):
        return None  # it closes gaps, makes all rates one, and leaves no limits turned round
    raw = mne.io.read_raw_edf(path, encoding="latin1", verbose="error")
    told = [(name, None, raw.info["sfreq"]) for name in raw.ch_names]
    return told, list(raw.get_data()), raw.annotations.onset.tolist() if drawn.form else None


@pytest.mark.parametrize("read", [by_edfio, by_pyedflib, by_mne])
@settings(max_examples=25, deadline=None)
@given(drawn=drawn_files())
def test_drawn_files_are_read_as_others_read_them(
    read: Callable[..., Any], drawn: Drawn, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = drawn.write(tmp_path_factory.mktemp("drawn") / "S.edf")
    mine = EdfFile(path)
    for at, values in enumerate(drawn.physical()):
        np.testing.assert_allclose(mine.physical(at), values, rtol=1e-9, atol=1e-9)
    theirs = read(path, drawn)
    if theirs is not None:
        told, values, onsets = theirs
        assert [one[0] for one in told] == mine.labels
        assert [one[1] for one in told if one[1] is not None] == (mine.units if told[0][1] is not None else [])
        np.testing.assert_allclose([one[2] for one in told], mine.rates)
        for at, theirs_values in enumerate(values):
            np.testing.assert_allclose(mine.physical(at), theirs_values, rtol=1e-9, atol=1e-9)
        if onsets is not None:
            records = np.arange(len(drawn.onsets)) if mine.starts is None else mine.starts
            np.testing.assert_allclose(records, onsets)
    recording = read_signals(path)
    for at, label in enumerate(drawn.labels()):
        stream = recording.streams[label]
        np.testing.assert_allclose(stream.values[:, 0], drawn.physical()[at], rtol=1e-6, atol=1e-4)
        expected = np.add.outer(drawn.onsets, np.arange(drawn.rates[at]) / drawn.rates[at]).reshape(-1)
        np.testing.assert_allclose(stream.times, expected, atol=1e-9)
        assert stream.units == ("\N{DEGREE SIGN}C" if drawn.accents else "uS",)
