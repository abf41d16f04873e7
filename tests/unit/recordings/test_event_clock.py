"""The clock of events: units told apart by what a recording can be, counters that overflow, clocks that start anew."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from meco_hub.errors import RecordingError
from meco_hub.recordings.event_clock import MICROSECONDS, SAMPLE, EventClock, OneClock
from meco_hub.recordings.event_recording import EventRecording
from meco_hub.recordings.events import iterate_events, read_events

SENSORS = ((64, 48), (346, 260), (1280, 720))


def draw(events: int, span_us: int, seed: int = 0, sensor: tuple[int, int] = (64, 48)) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "x": rng.integers(0, sensor[0], events),
        "y": rng.integers(0, sensor[1], events),
        "t": np.sort(rng.integers(0, span_us, events)),
        "p": rng.integers(0, 2, events),
    }


def write(folder: Path, columns: dict[str, np.ndarray], form: str) -> Path:
    path = folder / f"clip.{form}"
    if form == "npz":
        np.savez(path, **columns)
    elif form == "npy":
        np.save(path, np.rec.fromarrays(list(columns.values()), names=",".join(columns)))
    else:
        rows = zip(*(columns[one].tolist() for one in "txyp"), strict=True)
        path.write_text("t,x,y,p\n" + "".join(f"{t!r},{x},{y},{p}\n" for t, x, y, p in rows))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("clips")


@settings(max_examples=40, deadline=None)
@given(
    unit=st.sampled_from(sorted(MICROSECONDS)),
    sensor=st.sampled_from(SENSORS),
    activity=st.floats(0.05, 60),
    span_us=st.sampled_from((60_000, 1_000_000, 9_000_000)),
    seed=st.integers(0, 99),
    form=st.sampled_from(("npz", "npy", "csv", "memory")),
)
def test_no_unit_is_taken_for_another_in_silence(
    folder: Path, unit: str, sensor: tuple[int, int], activity: float, span_us: int, seed: int, form: str
) -> None:
    """Right, or in doubt, or asked for; and by the caller's word always right."""
    number = int(np.clip(activity * sensor[0] * sensor[1] * span_us / 1e6, 100, 3000))
    true = draw(number, round(1e6 * number / (activity * sensor[0] * sensor[1])), seed, sensor)
    if np.ptp(true["t"]) < 20_000:  # shorter than anybody records
        return
    written = {
        **true,
        "t": true["t"] * 1000 if unit == "ns" else true["t"] if unit == "us" else true["t"] / MICROSECONDS[unit],
    }
    source = dict(written) if form == "memory" else write(folder, written, form)
    pixels = {"width": sensor[0], "height": sensor[1]}
    found, asked = None, ""
    try:
        found = read_events(source, **pixels)
    except RecordingError as error:
        asked = str(error)
    if found is None or not np.array_equal(found.t, true["t"]):
        assert unit in ("ns", "ms")  # what nobody writes without saying so
        assert "time_unit" in asked or [one.code for one in found.warnings] == ["time_unit_doubtful"]
    np.testing.assert_array_equal(read_events(source, time_unit=unit, **pixels).t, true["t"])


def settled(activity: float, seconds: float, sensor: tuple[int, int], unit: str, seed: int) -> EventClock:
    """The clock of a recording that is so busy and so long, when it is written in a unit by every digit, and nobody says which."""
    rng = np.random.default_rng(seed)
    rate = activity * sensor[0] * sensor[1]
    events = round(rate * seconds)
    assume(events >= 200)
    seen = min(events, SAMPLE)
    t = np.sort(rng.random(seen)) * seen / rate * 1e6 / MICROSECONDS[unit]
    clock = EventClock("clip")
    x, y = rng.integers(0, sensor[0], seen), rng.integers(0, sensor[1], seen)
    clock.settle(x, y, t if unit == "s" else t.astype(np.int64), pixels=sensor[0] * sensor[1], events=events)
    return clock


@settings(max_examples=60, deadline=None)
@given(
    sensor=st.sampled_from(SENSORS),
    activity=st.floats(-1, 1.5),
    seconds=st.floats(-1, 2),
    unit=st.sampled_from(("s", "us")),
    seed=st.integers(0, 99),
)
def test_good_recordings_are_never_in_doubt(
    sensor: tuple[int, int], activity: float, seconds: float, unit: str, seed: int
) -> None:
    """0.1 to 30 events a second and pixel, 0.1 to 100 s."""
    clock = settled(10**activity, 10**seconds, sensor, unit, seed)
    assert (clock.unit, clock.warnings) == (unit, [])


@settings(max_examples=60, deadline=None)
@given(
    sensor=st.sampled_from(SENSORS),
    activity=st.floats(-1, 1.5),
    seconds=st.floats(-0.3, 1.8),
    unit=st.sampled_from(("ms", "ns")),
    seed=st.integers(0, 99),
)
def test_whole_milliseconds_and_nanoseconds_are_asked_for_or_in_doubt(
    sensor: tuple[int, int], activity: float, seconds: float, unit: str, seed: int
) -> None:
    """Calm ones and busy ones, in which every digit of a nanosecond is used: 0.1 to 30 events a second and pixel, 0.5 to 60 s."""
    try:
        clock = settled(10**activity, 10**seconds, sensor, unit, seed)
    except RecordingError as error:
        assert "time_unit" in str(error)  # noqa: PT017 — one of the two right answers
    else:
        assert [one.code for one in clock.warnings] == ["time_unit_doubtful"]


@pytest.mark.parametrize("form", ["npz", "npy", "memory"])
def test_events_of_one_instant_ask_for_their_unit(tmp_path: Path, form: str) -> None:
    """Whole seconds since 1970, as a table of single precision leaves of any clock."""
    columns = draw(3000, 1_000_000)
    columns["t"] = (columns["t"] / 1e6 + 1.7e9).astype(np.float32)
    with pytest.raises(RecordingError, match=r"which no event camera .* time_unit="):
        read_events(dict(columns) if form == "memory" else write(tmp_path, columns, form))


@pytest.mark.parametrize("form", ["npz", "npy", "memory"])
@pytest.mark.parametrize(
    ("unit", "dtype", "fine", "lost"), [("us", "f4", 15, 20), ("s", "f4", 6, 20), ("us", "f2", 0.0005, 0.03)]
)
def test_digits_that_a_type_does_not_hold(
    tmp_path: Path, form: str, unit: str, dtype: str, fine: float, lost: float
) -> None:
    """2 to the power of 24 µs is where single precision holds no single microseconds any more."""
    for start, found in ((fine, []), (lost, ["time_digits_lost"])):
        columns = draw(3000, 1000 if dtype == "f2" else 900_000)
        columns["t"] += int(start * 1e6)
        times = columns["t"] / MICROSECONDS["s"] if unit == "s" else columns["t"]
        source: Any = {**columns, "t": times.astype(dtype)}
        read = read_events(source if form == "memory" else write(tmp_path, source, form), time_unit=unit)
        assert [one.code for one in read.warnings] == found
        if not found:
            np.testing.assert_array_equal(read.t, columns["t"])


def test_digits_that_are_lost_after_a_while_are_said_once() -> None:
    clock = EventClock("clip", "us")
    t = np.arange(0, 24_000_000, 1000, dtype=np.float32)
    clock.settle(t[:SAMPLE] * 0, t[:SAMPLE] * 0, t[:SAMPLE])
    codes = [[clock(block), [one.code for one in clock.warnings]][1] for block in np.split(t, 3)]
    assert codes == [[], [], ["time_digits_lost"]]
    clock(t)
    assert len(clock.warnings) == 1


@pytest.mark.parametrize(("dtype", "unit", "start"), [("f4", "s", 20_000), ("f4", "us", 1e11), ("f2", "s", 2)])
def test_times_of_which_a_type_leaves_nothing_are_refused(dtype: str, unit: str, start: float) -> None:
    columns = draw(3000, 900_000)
    times = (columns["t"] / (1e6 if unit == "s" else 1) + start).astype(dtype)
    with pytest.raises(RecordingError, match=rf"in {np.dtype(dtype)}, whose numbers are .* µs apart there"):
        read_events({**columns, "t": times}, time_unit=unit)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16"])
def test_counters_of_few_bits_are_refused_where_they_overflow(dtype: str) -> None:
    columns = draw(3000, 1_000_000)
    with pytest.raises(RecordingError, match=f"is written in {dtype}, which overflows"):
        read_events({**columns, "t": columns["t"].astype(dtype)}, time_unit="us")
    rising = {name: values[:100] for name, values in columns.items()} | {"t": np.arange(100, dtype=dtype)}
    np.testing.assert_array_equal(read_events(rising).t, np.arange(100))


@settings(max_examples=30, deadline=None)
@given(
    signed=st.booleans(),
    start=st.integers(0, 2**32 - 1),
    hours=st.floats(0.2, 9),
    seed=st.integers(0, 99),
    form=st.sampled_from(("npz", "csv", "memory")),
    chunk=st.sampled_from((7, 100, 5000)),
)
def test_counters_of_32_bits_are_unwrapped(
    folder: Path, signed: bool, start: int, hours: float, seed: int, form: str, chunk: int
) -> None:
    columns = draw(1500, round(hours * 3.6e9), seed)
    true = columns["t"]
    counted = (true + start) % 2**32
    columns["t"] = (counted - 2**32 * (counted >= 2**31)).astype(np.int32) if signed else counted.astype(np.uint32)
    unit = {"time_unit": "us"}  # so few events a second may be in another unit where no overflow shows the counter
    source = dict(columns) if form == "memory" else write(folder, columns, form)
    found = read_events(source, **unit)
    np.testing.assert_array_equal(found.t - found.t[0], true - true[0])
    assert "reordered" not in found.notes
    if form != "memory":
        parts = np.concatenate([part.t for part in iterate_events(source, chunk, **unit)])
        np.testing.assert_array_equal(parts, found.t)


def test_an_overflow_shows_that_the_clock_counts_microseconds(tmp_path: Path) -> None:
    columns = draw(2000, 7_200_000_000)
    path = write(tmp_path, {**columns, "t": (columns["t"] % 2**32).astype(np.uint32)}, "npz")
    recording = read_events(path)
    np.testing.assert_array_equal(recording.t, columns["t"])
    np.testing.assert_array_equal(
        read_events(path, start_us=5_000_000_000).t, columns["t"][columns["t"] >= 5_000_000_000]
    )


@settings(max_examples=30, deadline=None)
@given(
    first_us=st.integers(2_000, 3_000_000_000),
    ratio=st.floats(0.05, 9),  # a much longer one would pass where the first ended within a few events
    number=st.integers(200, 800),
    seed=st.integers(0, 99),
    form=st.sampled_from(("npz", "csv", "memory")),
    chunk=st.sampled_from((7, 100, 5000)),
)
def test_a_clock_that_starts_anew_is_refused(
    folder: Path, first_us: int, ratio: float, number: int, seed: int, form: str, chunk: int
) -> None:
    one, other = draw(number, first_us, seed), draw(number, round(first_us * ratio), seed + 1)
    other["t"] = other["t"] - other["t"][0] + one["t"][0]
    columns = {name: np.concatenate([one[name], other[name]]) for name in one}
    source = dict(columns) if form == "memory" else write(folder, columns, form)
    with pytest.raises(RecordingError, match=rf"time goes back from .* at event {number} "):
        read_events(source, time_unit="us")
    if form != "memory":
        with pytest.raises(RecordingError, match="the clock was set anew"):
            list(iterate_events(source, chunk, time_unit="us"))
        kept = read_events(source, time_unit="us", damaged="keep")
        np.testing.assert_array_equal(kept.t, one["t"])
        assert [warning.code for warning in kept.warnings] == ["damaged_file"]


@settings(max_examples=30, deadline=None)
@given(order=st.sampled_from(("shuffled", "by p", "by x", "late", "reversed")), seed=st.integers(0, 99))
def test_events_out_of_order_are_sorted(order: str, seed: int) -> None:
    columns = draw(2000, 1_000_000, seed)
    rng = np.random.default_rng(seed)
    places = {
        "shuffled": rng.permutation(2000),
        "by p": np.lexsort((columns["t"], columns["p"])),
        "by x": np.lexsort((columns["t"], columns["x"])),
        "late": np.argsort(columns["t"] + 5000 * (rng.random(2000) < 0.004), kind="stable"),
        "reversed": np.arange(2000)[::-1],
    }[order]
    mixed = EventRecording.from_any({name: values[places] for name, values in columns.items()})
    np.testing.assert_array_equal(mixed.t, columns["t"])


def test_a_pause_over_an_overflow_is_no_longer_than_other_pauses() -> None:
    """Half an hour without events, and then the clock is at its beginning: it was set anew."""
    rising = np.arange(0, 2_500_000_000, 1_000_000, dtype=np.uint32)
    clock = EventClock("clip", "us")
    twice = np.concatenate([rising, rising])
    clock.settle(twice, twice, twice)
    np.testing.assert_array_equal(clock(twice), twice)
    watch = OneClock("clip")
    ones = np.ones(len(twice), np.uint8)
    with pytest.raises(RecordingError, match="at event 2500 "):
        watch.see(ones, ones, twice.astype(np.int64), ones)


def test_an_unknown_unit_is_named() -> None:
    with pytest.raises(RecordingError, match="'min' is no unit of time; expected one of s, ms, us, ns"):
        EventClock("clip", "min")
