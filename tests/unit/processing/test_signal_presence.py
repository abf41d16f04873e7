"""Presence is not signal: what no worn sensor gives is masked or said, of every stream that the bundled checkpoints read."""

import itertools
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import meco_hub
from meco_hub.errors import RecordingError
from meco_hub.processing.signal_modalities import Modality
from meco_hub.processing.signal_presence import STILL_S, doubt_presence, mask_unmeasured
from meco_hub.processing.signal_windower import SignalWindower
from meco_hub.recordings.signal_files.empatica import read_empatica
from meco_hub.recordings.signal_names import convert, other_units
from meco_hub.recordings.signal_recording import SignalRecording, Stream

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
@settings(max_examples=8, deadline=None)
@given(
    seed=st.integers(0, 99),
    value=st.sampled_from([-99999.0, -9999.0, -999.0, 9999.0, 99999.0]),
    count=st.integers(1, 9),
)
def test_sentinels_are_masked_one_by_one(
    checkpoint: str, modality: Modality, seed: int, value: float, count: int
) -> None:
    stream, draw = drawn(modality, seed), np.random.default_rng(seed)
    spread = np.ptp(stream.values, axis=0).max()
    places = draw.choice(len(stream), count, replace=False)
    channel = int(draw.integers(stream.values.shape[1]))
    for unit in (modality.units[channel], *other_units(modality.units[channel])) if modality.units else ("",):
        written = convert(np.array([value]), unit, modality.units[channel]) if modality.units else np.array([value])
        assert written is not None
        values = stream.values.copy()
        values[places, channel] = written
        masked, said = seen(replace(stream, values=values), modality)
        if abs(written[0]) > 5 * (np.abs(stream.values).max() + spread):
            assert said == {"sensor_flat_in_part"}
            assert set(np.flatnonzero(masked)) == set(places.tolist())


@MEASURED
@pytest.mark.parametrize(
    ("value", "count"),
    [(-1.0, 9), (-99.0, 1), (999.0, 3), (4095.0, 2), (-32768.0, 1), (65535.0, 40), (2.5e7, 3), (1e30, 1)],
)
def test_what_lies_far_from_all_others_and_what_no_worn_sensor_gives_is_masked(
    checkpoint: str, modality: Modality, value: float, count: int
) -> None:
    stream, draw = drawn(modality, 7), np.random.default_rng(7)
    assert not seen(stream, modality)[0].any()
    places = np.sort(draw.choice(len(stream), count, replace=False))
    values = stream.values.copy()
    values[places, -1] = value
    masked, said = seen(replace(stream, values=values), modality)
    far = abs(value) > (2000 if count < 3 else 20) * np.ptp(stream.values[:, -1]) + np.abs(stream.values[:, -1]).max()
    if far or (modality.name in ("eda", "temp", "hr", "ibi") and modality.stream_channels == 1):
        assert set(np.flatnonzero(masked)) == set(places.tolist())
        assert said == {"sensor_flat_in_part"}


@MEASURED
@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 99),
    share=st.floats(0.05, 0.6),
    written=st.lists(st.sampled_from([-99999.0, -9999.0, 9999.0, 99999.0]), min_size=1, max_size=4, unique=True),
    length=st.sampled_from([8, 40, 900]),
)
def test_sentinels_are_masked_however_many_there_are_on_either_side_and_however_few_the_others(
    checkpoint: str, modality: Modality, seed: int, share: float, written: list[float], length: int
) -> None:
    whole, draw = drawn(modality, seed), np.random.default_rng(seed)
    stream = replace(whole, values=whole.values[:length].copy(), times=whole.times[:length])
    places = draw.choice(length, max(len(written), int(share * length)), replace=False)
    stream.values[places, -1] = np.resize(written, len(places))
    if np.abs(whole.values).max() < 500:
        assert set(np.flatnonzero(seen(stream, modality)[0])) >= set(places.tolist())


@MEASURED
@pytest.mark.parametrize("values", [[np.nan], [-9999.0], [-9999.0, 9999.0], [-9999.0, np.nan, 9999.0]])
def test_a_channel_that_nothing_measured_spoils_no_other(
    checkpoint: str, modality: Modality, values: list[float]
) -> None:
    stream = drawn(modality, 0)
    stream.values[:, -1] = np.resize(values, len(stream))
    seen(stream, modality)


def test_a_knock_on_what_lies_still_is_no_sentinel() -> None:
    modality = next(one for _, one in MODALITIES if one.name == "acc")
    draw = np.random.default_rng(0)
    values = np.array([0.0, 0.02, 1.0]) + draw.integers(0, 2, (6400, 3)) / 64
    values[3000:3004, 0] = [0.5, 0.5, 0.5, -0.3]
    assert not seen(Stream.regular(values, 32.0), modality)[0].any()
    values += draw.normal(0, 0.004, values.shape)  # of a finer sensor, which is at its limits thrice each
    values[3000:3006, 0] = [2, 2, 2, -2, -2, -2]
    assert not seen(Stream.regular(values, 32.0), modality)[0].any()


def test_a_signal_that_swings_as_far_may_have_that_value() -> None:
    modality = next(one for _, one in MODALITIES if one.name == "bvp")
    values = np.round(np.random.default_rng(0).normal(0, 400, (6400, 1)))
    values[1234] = -999.0
    assert not seen(Stream.regular(values, 64.0), modality)[0].any()


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


@pytest.mark.parametrize(
    ("checkpoint", "name", "trained", "value", "said"),
    [
        ("meco-himoe-case", "temp", (22.2, 34.5), 20.0, False),
        ("meco-himoe-case", "temp", (22.2, 34.5), 17.0, True),
        ("meco-himoe-stress", "temp", (26.0, 36.0), 24.0, True),  # training was within the limit
        ("meco-himoe-stress", "eda", (0.03, 7.7), 0.02, False),
        ("meco-himoe-stress", "eda", (0.03, 7.7), 0.01, True),
    ],
)
def test_where_training_was_beyond_a_limit_the_next_person_may_be_a_little_further(
    checkpoint: str, name: str, trained: tuple[float, float], value: float, said: bool
) -> None:
    modality = next(one for place, one in MODALITIES if (place, one.name) == (checkpoint, name))
    assert modality.trained_on is not None
    modality = replace(modality, trained_on=replace(modality.trained_on, center=(trained,)))
    values = np.random.default_rng(0).normal(value, value / 200, (400, 1))
    doubts = doubt_presence(Stream(values, np.arange(400) / 4, 4.0), modality, "stream")
    assert [one.code for one in doubts] == ["sensor_unworn"] * said


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


# --- while a recording goes on --------------------------------------------------------------------------------------


def pieces(recording: SignalRecording, seconds: float) -> Iterator[SignalRecording]:
    edges = [*np.arange(recording.start, recording.end, seconds), np.inf]
    for first, last in itertools.pairwise(edges):
        yield SignalRecording({name: one.between(first, last) for name, one in recording.streams.items()})


@pytest.mark.parametrize("checkpoint", ["meco-himoe-stress", "meco-himoe-case"])
@settings(max_examples=8, deadline=None)
@given(
    seed=st.integers(0, 999),
    which=st.integers(0, 5),
    share=st.sampled_from([0.0, 0.0, 0.3, 0.5]),
    step=st.sampled_from([3.0, 20.0, 500.0]),
    window_s=st.sampled_from([10.0, 60.0]),
)
def test_of_a_flat_sensor_stream_says_what_is_said_of_the_whole(
    checkpoint: str, seed: int, which: int, share: float, step: float, window_s: float
) -> None:
    """Flat all the time, or from some moment on, after which all is masked."""
    modalities = [one for name, one in MODALITIES if name == checkpoint]
    flat = modalities[which % len(modalities)]
    streams = {}
    for one in modalities:
        stream = drawn(one, seed, 420)
        streams[one.name] = replace(stream, channels=one.channel_names, units=one.units)
    first = round(share * len(streams[flat.name]))
    # the middle: at an end of its range the sensor would be called saturated, and rightly, until it is known to stand still
    streams[flat.name].values[first:] = np.median(streams[flat.name].values, axis=0)
    recording = SignalRecording(streams, name="drawn")
    whole = SignalWindower.from_pretrained(meco_hub.checkpoint(checkpoint))
    plain = {"summary_s": None, "sampling_rate": 4.0}
    own = {one.name: {**whole.modalities[one.name], **plain, "channels": one.stream_channels} for one in modalities}
    windower = SignalWindower(own, window_s=window_s, normalization="none")
    expected = windower.read(recording)
    expected_code = "sensor_flat_in_part" if share else "sensor_flat"
    assert {one.code for one in expected.warnings} - {"outside_training_range"} == {expected_code}
    live = windower.stream(start=recording.start)
    clips = [clip for piece in pieces(recording, step) for clip in live.push(piece)]
    assert len(clips) >= 420 / window_s - 2
    clips += live.flush()
    said = [(one.code, one.message) for clip in clips for one in clip.warnings]
    assert {code for code, _ in said} == {expected_code}
    assert all(repr(flat.name) in message for _, message in said)
    there = windower([*windower.cut(expected)])["step_mask"]
    seen = windower(clips)["step_mask"]
    since = float(streams[flat.name].times[first]) + STILL_S
    late = [place for place, clip in enumerate(clips) if clip.start > since + window_s]
    assert len(late) >= 1
    for name, mask in seen.items():
        np.testing.assert_array_equal(mask[late], there[name][late], err_msg=name)
        assert mask[late].any() == (name != flat.name)


SAID = {"channel_flat", "sensor_saturated", "sensor_unworn"}


@settings(max_examples=25, deadline=None)
@given(
    which=st.sampled_from(MODALITIES),
    seed=st.integers(0, 999),
    fault=st.sampled_from(["channel", "rail", "unworn", "none"]),
    share=st.floats(0.1, 0.7),
    at=st.floats(0, 1),
    steps=st.lists(st.floats(4.0, 200.0), min_size=1, max_size=5),
    window_s=st.sampled_from([10.0, 60.0]),
)
def test_stream_says_of_a_window_what_a_call_says_of_what_has_come(
    which: tuple[str, Modality], seed: int, fault: str, share: float, at: float, steps: list[float], window_s: float
) -> None:
    """Of a channel that stands still, a rail and a sensor that is not worn; in the windows that have such samples."""
    modality = which[1]
    stream = drawn(modality, seed, 420)
    first, last = (round((at * (1 - share) + part) * len(stream)) for part in (0, share))
    part, faulty = stream.values[first:last], stream.times[first:last]
    if fault == "channel" and part.shape[1] > 1:
        part[:, -1] = part[0, -1]
    elif fault in ("channel", "rail"):
        part[:] = np.minimum(part, np.quantile(part, 0.5, axis=0))
        faulty = faulty[(part == part.max(axis=0)).any(axis=1)]
    elif fault == "unworn":
        part[:] = 0.001 + 0.0001 * np.random.default_rng(seed).normal(size=part.shape)
    recording = SignalRecording(
        {modality.name: replace(stream, channels=modality.channel_names, units=modality.units)}, name="drawn"
    )
    whole = SignalWindower.from_pretrained(meco_hub.checkpoint(which[0]))
    settings = {"summary_s": None, "sampling_rate": 4.0, "channels": modality.stream_channels}
    windower = SignalWindower(
        {modality.name: {**whole.modalities[modality.name], **settings}}, window_s=window_s, normalization="none"
    )
    live, sent = windower.stream(), -np.inf
    edges = [*itertools.takewhile(lambda end: end < 420, np.cumsum(np.resize(steps, 1000))), np.inf]
    for edge in edges:
        piece = {name: one.between(sent, edge) for name, one in recording.streams.items()}
        clips = live.push(SignalRecording(piece)) + (live.flush() if edge == np.inf else [])
        sent = edge
        if not clips:
            continue
        so_far = {name: one.between(-np.inf, edge) for name, one in recording.streams.items()}
        expected = {one.code for one in windower.read(SignalRecording(so_far)).warnings} & SAID
        for clip in clips:
            codes = {one.code for one in clip.warnings}
            found = codes & SAID
            concerned = ((faulty > clip.start + 1) & (faulty < clip.end - 1)).any()
            concerned &= "sensor_flat_in_part" not in codes  # what is masked is not doubted, too
            assert found == expected if concerned else found <= expected, (clip.start, found, expected)


@pytest.mark.parametrize("step", [3.0, 20.0, 500.0])
@pytest.mark.parametrize("length", [1, 20, 300])
def test_stream_masks_the_sentinels_that_a_call_does(step: float, length: int) -> None:
    stream = drawn(next(one for _, one in MODALITIES if one.name == "eda"), 2, 600)
    for first in (700, 1800):
        stream.values[first : first + length] = -9999.0
    windower = SignalWindower({"eda": {"channels": 1, "sampling_rate": 4.0}}, window_s=60.0, normalization="none")
    recording = SignalRecording({"eda": stream})
    whole, live = windower.read(recording), windower.stream()
    assert [one.code for one in whole.warnings] == ["sensor_flat_in_part"]
    clips = [clip for piece in pieces(recording, step) for clip in live.push(piece)] + live.flush()
    assert {one.code for clip in clips for one in clip.warnings} == {"sensor_flat_in_part"}
    assert not any("nan" in one.message for clip in clips for one in clip.warnings)
    expected, found = windower([*windower.cut(whole)]), windower(clips)
    for key in ("inputs", "step_mask"):
        np.testing.assert_allclose(found[key]["eda"], expected[key]["eda"], atol=1e-6, err_msg=key)
    assert np.abs(found["inputs"]["eda"]).max() < 100


def test_a_sensor_that_was_put_on_late_is_read_from_then_on() -> None:
    modality = next(one for _, one in MODALITIES if one.name == "eda")
    stream = drawn(modality, 1, 600)
    first = len(stream) // 2
    stream.values[:first] = stream.values[0]
    windower = SignalWindower({"eda": {"channels": 1, "sampling_rate": 4.0}}, window_s=20.0, normalization="none")
    live = windower.stream()
    clips = [clip for piece in pieces(SignalRecording({"eda": stream}), 5.0) for clip in live.push(piece)]
    present = windower(clips)["modality_presence"][:, 0]
    np.testing.assert_array_equal(present, [clip.start < 20 or clip.end > 300 for clip in clips])
    assert [one.code for one in clips[3].warnings] == ["sensor_flat"]
    assert [one.code for one in clips[-1].warnings] == []


def test_of_a_unit_that_is_named_and_that_nobody_converts_no_other_is_guessed() -> None:
    modality = next(one for _, one in MODALITIES if one.name == "eda" and one.stream_channels == 1)
    windower = SignalWindower.from_pretrained(meco_hub.checkpoint("meco-himoe-stress"))
    stream = drawn(modality, 6)
    far = replace(stream, values=500 / stream.values, units=("",))
    codes = {one.code for one in windower.read(SignalRecording({"eda": far})).warnings}
    assert "unit_unlikely" in codes
    found = windower.read(SignalRecording({"eda": replace(far, units=("kOhm",))})).warnings
    assert {one.code for one in found} == {"unit_unknown", "outside_training_range"}


@pytest.mark.parametrize("channels", [2, 5])
def test_another_number_of_channels_is_refused_by_name(channels: int) -> None:
    windower = SignalWindower.from_pretrained(meco_hub.checkpoint("meco-himoe-stress"))
    stream = Stream.regular(np.random.default_rng(0).normal(3, 0.1, (4800, channels)), 4.0)
    with pytest.raises(RecordingError, match=rf"'eda' has {channels} channels.*expected 1"):
        [*windower.cut(windower.read(SignalRecording({"eda": stream}, name="drawn")))]
