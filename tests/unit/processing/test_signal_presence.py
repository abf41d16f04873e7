"""Presence is not signal: what no worn sensor gives is masked or said, of every stream that the bundled checkpoints read."""

import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import meco_hub
from meco_hub.processing.signal_modalities import Modality
from meco_hub.processing.signal_presence import doubt_presence, mask_unmeasured
from meco_hub.processing.signal_windower import SignalWindower
from meco_hub.recordings.signal_files.empatica import read_empatica
from meco_hub.recordings.signal_recording import Stream

DATA = Path(__file__).parents[4] / "shared" / "data"
MODALITIES = [
    (name, one)
    for name in ("meco-himoe-stress", "meco-himoe-case")
    for one in SignalWindower.from_pretrained(meco_hub.checkpoint(name)).modality_list()
]
MEASURED = pytest.mark.parametrize(("checkpoint", "modality"), MODALITIES, ids=[f"{a}:{b.name}" for a, b in MODALITIES])


def drawn(modality: Modality, seed: int, seconds: int = 900) -> Stream:
    """A stream at levels of training, in steps as fine as a sensor's: a slow wave, and noise."""
    assert modality.trained_on is not None
    draw, rate = np.random.default_rng(seed), min(20.0, modality.trained_on.rate or 1.0)
    centre, scale = (np.array(pairs).mean(axis=1) for pairs in (modality.trained_on.center, modality.trained_on.scale))
    times = np.arange(seconds * rate) / rate
    waves = np.sin(times / 17)[:, None] + 0.5 * draw.normal(size=(len(times), len(centre)))
    values = np.round(np.abs(centre + 0.1 * np.minimum(scale, centre) * waves), 4)
    return Stream(values, times, rate if modality.kind == "regular" else None)


def seen(stream: Stream, modality: Modality) -> tuple[np.ndarray, set[str]]:
    """(samples,) bool: masked; and the codes of what is said."""
    masked, doubts = mask_unmeasured(stream, modality, "stream")
    said = [*doubts, *doubt_presence(masked, modality, "stream")]
    kept = ~np.isnan(masked.values).any(axis=1)
    np.testing.assert_array_equal(masked.values[kept], stream.values[kept])
    return ~kept, {one.code for one in said}


@MEASURED
@settings(max_examples=8, deadline=None)
@given(
    seed=st.integers(0, 999), share=st.floats(0.15, 0.6), at=st.floats(0, 1), level=st.sampled_from(["held", "zero"])
)
def test_a_part_that_stands_still_is_masked_wherever_it_is(
    checkpoint: str, modality: Modality, seed: int, share: float, at: float, level: str
) -> None:
    stream = drawn(modality, seed)
    assert seen(stream, modality)[1] == set()
    first = round(at * (1 - share) * len(stream))
    last = first + round(share * len(stream))
    values = stream.values.copy()
    values[first:last] = values[first] if level == "held" else 0.0
    masked, said = seen(replace(stream, values=values), modality)
    assert masked[first:last].all()
    assert masked.sum() <= last - first + 1
    assert "sensor_flat_in_part" in said


@MEASURED
@pytest.mark.parametrize("seconds", [0.0, 4.0])
def test_drops_to_zero_are_masked_or_said(checkpoint: str, modality: Modality, seconds: float) -> None:
    stream, draw = drawn(modality, 1), np.random.default_rng(2)
    count = max(1, round(seconds * (stream.rate or 1.0)))
    values = stream.values.copy()
    for first in draw.integers(0, len(stream) - count, max(5, round(0.05 * len(stream) / count))):
        values[first : first + count] = 0.0
    masked, said = seen(replace(stream, values=values), modality)
    assert said & {"sensor_flat_in_part", "sensor_saturated"}
    assert not masked[(values != 0).any(axis=1)].any()
    if modality.name not in ("bvp", "resp"):  # which may be 0
        assert masked.sum() == (values == 0).all(axis=1).sum()


@MEASURED
@pytest.mark.parametrize("end", [0.1, 0.85])
def test_a_rail_is_said(checkpoint: str, modality: Modality, end: float) -> None:
    stream = drawn(modality, 3)
    limit = np.quantile(stream.values, end, axis=0)
    values = np.maximum(stream.values, limit) if end < 0.5 else np.minimum(stream.values, limit)
    assert seen(replace(stream, values=values), modality)[1] & {"sensor_saturated", "sensor_flat_in_part"}


@MEASURED
def test_one_channel_that_stands_still_is_named(checkpoint: str, modality: Modality) -> None:
    stream = drawn(modality, 4)
    for first in (0, 2 * len(stream) // 3):
        values = stream.values.copy()
        values[first:, 0] = values[first, 0]
        masked, said = seen(replace(stream, values=values), modality)
        if values.shape[1] > 1:
            assert (said, masked.any()) == ({"channel_flat"}, False)
        elif first:
            assert "sensor_flat_in_part" in said


@pytest.mark.parametrize(("name", "value"), [("eda", 0.01), ("temp", 22.0), ("hr", 0.5)])
def test_values_that_no_worn_sensor_has_are_said(name: str, value: float) -> None:
    modality = next(one for _, one in MODALITIES if one.name == name)
    stream = drawn(modality, 5)
    values = stream.values.copy()
    third = len(values) // 3
    values[:third] = value + 0.002 * np.random.default_rng(0).normal(size=(third, 1))
    assert seen(replace(stream, values=values), modality)[1] == {"sensor_unworn"}


def test_nothing_of_real_recordings_is_masked_or_doubted() -> None:
    archive = DATA / "stress_predict" / "stress_predict.zip"
    if not archive.is_file():
        pytest.skip("../shared/data/stress_predict is not here")
    stress = {one.name: one for name, one in MODALITIES if name == "meco-himoe-stress"}
    with zipfile.ZipFile(archive) as packed:
        folders = sorted({name.rpartition("/")[0] for name in packed.namelist() if name.endswith("EDA.csv")})
    for folder in folders[::5]:
        for name, stream in read_empatica(archive, folder=folder).recording.streams.items():
            masked, said = seen(stream, stress[name])
            assert (masked.any(), said) == (False, set()), (folder, name)
    with np.load(DATA / "case" / "case_20hz.npz") as case:
        signals = case["signals"][::5]
    parts = {"cardiac": slice(0, 2), "eda": slice(2, 4), "resp": slice(4, 5), "temp": slice(5, 6), "emg": slice(6, 9)}
    for name, modality in MODALITIES:
        for window in signals if name == "meco-himoe-case" else ():
            masked, said = seen(Stream.regular(window[:, parts[modality.name]], 20.0), modality)
            assert (masked.any(), said) == (False, set()), modality.name
