"""What a checkpoint reads, computed from raw sensors: beats at known times, and the skin's parts."""

import numpy as np
import pytest

from meco_hub.processing.signal_windower import SignalWindower
from meco_hub.recordings.signal_recording import Stream

BEATS = np.cumsum(0.8 + 0.08 * np.sin(np.arange(140)))
DELAY = 0.3
WANTED = {
    "cardiac": {"channels": 2, "sampling_rate": 4.0, "channel_names": ["IHR", "PTT"]},
    "hr": {"channels": 1, "sampling_rate": 1.0},
    "ibi": {"channels": 1, "sampling_rate": 4.0, "kind": "irregular"},
    "eda": {"channels": 2, "sampling_rate": 4.0, "channel_names": ["phasic", "tonic"]},
    "resp": {"channels": 1, "sampling_rate": 4.0},
}


def waves(width: float, late: float, rate: float, seconds: int = 100) -> tuple[np.ndarray, float]:
    """A bump at every beat, and a little noise."""
    times = np.arange(seconds * rate) / rate
    bumps = sum(np.exp(-0.5 * ((times - beat - late) / width) ** 2) for beat in BEATS)
    return bumps + 0.01 * np.random.default_rng(0).normal(size=len(times)), rate


def usual() -> dict[str, tuple[np.ndarray, float]]:
    draw = np.random.default_rng(1)
    skin = 5 + 0.01 * np.arange(1600) / 16 + 0.3 * np.exp(-0.5 * ((np.arange(1600) / 16 - 50) / 1.5) ** 2)
    return {"ecg": waves(0.015, 0.0, 256.0), "eda": (skin, 16.0), "resp": (draw.normal(size=1600), 16.0)}


def codes(recording) -> list[str]:
    return [one.code for one in recording.warnings]


def test_beats_and_the_skin_s_parts_are_found() -> None:
    pytest.importorskip("neurokit2", reason='the extra "presets" is not installed')
    windower = SignalWindower(WANTED, normalization="recording")
    recording = windower.read({**usual(), "ppg": waves(0.08, DELAY, 64.0)})
    assert set(windower.modality_names) <= set(recording.streams)
    assert "stream_derived" in codes(recording)
    ibi = recording.streams["ibi"]
    inside = BEATS[1:]
    nearest = np.abs(ibi.times[:, None] - inside).argmin(axis=1)
    np.testing.assert_allclose(ibi.times, inside[nearest], atol=0.02)
    np.testing.assert_allclose(ibi.values[:, 0], np.diff(BEATS)[nearest], atol=0.03)
    assert len(ibi) > 110
    assert np.abs(recording.streams["hr"].values - 75).max() < 3
    cardiac = recording.streams["cardiac"]
    assert cardiac.channels == ("IHR", "PTT")
    assert (np.abs(np.median(cardiac.values, axis=0) - [75, DELAY]) < [2, 0.04]).all()
    phasic, tonic = recording.streams["eda"].values.T
    assert 48 < recording.streams["eda"].times[phasic.argmax()] < 52
    assert tonic.mean() == pytest.approx(5.5, abs=0.2)
    assert windower.cut(recording)


def test_what_a_recording_has_is_never_computed() -> None:
    own = {"eda": Stream.regular(np.random.default_rng(0).normal(size=(400, 2)), 4.0, channels=("phasic", "tonic"))}
    windower = SignalWindower({"eda": WANTED["eda"]}, normalization="recording")
    recording = windower.read({**own, "ecg": waves(0.015, 0.0, 256.0)})
    assert recording.streams["eda"] is own["eda"]
    assert codes(recording) == []


def test_without_the_library_it_is_said_what_could_be_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "neurokit2", None)
    windower = SignalWindower({name: WANTED[name] for name in ("hr", "resp")}, normalization="recording")
    recording = windower.read(usual())
    (doubt,) = recording.warnings
    assert doubt.code == "stream_derived"
    assert "'hr' could be computed from 'ecg'" in doubt.message
    assert "meco-hub[presets]" in doubt.message
    assert "hr" not in recording.streams


def test_what_the_library_cannot_compute_is_said_and_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys
    from types import ModuleType

    library = ModuleType("neurokit2")
    for name in ("ecg_clean", "ecg_peaks"):
        setattr(library, name, lambda *_, **__: [][0])
    monkeypatch.setitem(sys.modules, "neurokit2", library)
    windower = SignalWindower({name: WANTED[name] for name in ("hr", "ibi", "resp")}, normalization="recording")
    recording = windower.read(usual())
    (doubt,) = recording.warnings
    assert "'hr' cannot be computed from 'ecg' (list index out of range)" in doubt.message
    assert "'ibi' cannot be computed from 'ecg'" in doubt.message
    assert set(recording.streams) == set(usual())
    short = {**usual(), "ecg": waves(0.015, 0.0, 256.0, seconds=5)}
    (doubt,) = windower.read(short).warnings
    assert "'hr' cannot be computed from 'ecg': expected 10 s of it" in doubt.message
