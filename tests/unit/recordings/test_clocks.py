"""Clocks: what is refused, and how fast the others tick."""

from pathlib import Path

import numpy as np
import pytest

from meco_hub import read_signals
from meco_hub.errors import RecordingError
from meco_hub.recordings.signal_recording import (
    SignalRecording,
    Stream,
    check_clock,
    check_span,
    check_stream,
    estimate_rate,
    even_rate,
)


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ([0.0, 1.0, np.nan], "the time of sample 2 is nan"),
        ([0.0, np.inf, 1.0], "sample 1 is inf"),
        ([0.0, 1.0, 1.0, 2.0], "after sample 1 .* duplicate timestamp"),
        ([0.0, 2.0, 1.0], "after sample 1 .* runs backwards"),
    ],
)
def test_a_clock_that_cannot_be_right_is_refused_and_named(times, message):
    with pytest.raises(RecordingError, match=f"S01.edf, stream 'ecg'.*{message}"):
        check_clock(np.array(times), "S01.edf, stream 'ecg'")


@pytest.mark.parametrize("rate", [4.0, 20.0, 128.0, 256.0, 512.0])
def test_rates_are_measured_even_where_the_clock_ticks_in_milliseconds(rate):
    times = np.arange(5000) / rate
    assert even_rate(times) == rate
    assert even_rate(np.delete(times, slice(100, 200))) == rate  # a gap
    assert estimate_rate(np.round(times, 3)) == pytest.approx(rate, rel=2e-3)
    assert even_rate(np.cumsum(np.random.default_rng(0).uniform(0.5, 1.2, 500))) is None


def test_a_rate_that_the_times_contradict_is_refused():
    values, times = np.zeros((100, 1)), np.arange(100) / 64
    assert check_stream(Stream(values, times, 64.0), "x") == 64.0
    assert check_stream(Stream(values, times), "x") == 64.0
    with pytest.raises(RecordingError, match=r"given as 128 Hz, but its samples lie 0.015625 s apart, which is 64 Hz"):
        check_stream(Stream(values, times, 128.0), "x")
    trembling = np.sort(times + np.random.default_rng(0).normal(0, 0.05, 100))
    assert check_stream(Stream(values, trembling, 64.0), "x") == 64.0
    with pytest.raises(RecordingError, match="Expected a positive number"):
        check_stream(Stream(values, times, -1.0), "x")


UNIX = 1_700_000_000.0
DAY = 86_400.0


def two_streams(first: float, second: float) -> SignalRecording:
    """Two streams of 10 s each that begin at these seconds."""
    times = np.arange(11.0)
    return SignalRecording({"a": Stream(times[:, None], first + times), "b": Stream(times[:, None], second + times)})


def test_clocks_that_both_count_from_1970_are_compared_with_each_other() -> None:
    check_span(two_streams(UNIX, UNIX + 3600))
    check_span(two_streams(UNIX + 3600, UNIX))
    check_span(two_streams(UNIX, UNIX + 31 * DAY - 10))  # exactly as long as may be
    for recording in (two_streams(UNIX, UNIX + 31 * DAY - 9), two_streams(UNIX + 40 * DAY, UNIX)):
        with pytest.raises(RecordingError, match=r"begins at 1\.7e\+09 s .* days later\. Expected at most 31"):
            check_span(recording)
    with pytest.raises(RecordingError, match=r"stream 'b' begins at .* and stream 'a' ends at .*, 40 days later"):
        check_span(two_streams(UNIX + 40 * DAY, UNIX))


@pytest.mark.parametrize(
    ("times", "message"),
    [
        (
            np.floor(np.arange(100) / 4),
            "75 of 100 times are those of the sample before, as of a clock in whole seconds",
        ),
        ((1.6e9 + np.arange(100) / 4).astype(np.float32).astype(np.float64), "32-bit floats"),
        (np.repeat(np.arange(20) * 0.5, 5), "one stamp a packet"),
        (np.r_[np.arange(0, 60, 0.25), np.arange(60, 90, 0.25) - 3600], "when summer time ends"),
        (np.r_[np.arange(0, 60, 0.25), np.arange(0, 60, 0.25)], "If clocks were reset, cut the recording there"),
        (np.r_[np.arange(0, 60, 0.25), np.arange(59.75, 90, 0.25)], "Keep one sample of each moment"),
    ],
)
def test_what_to_do_about_a_clock_depends_on_how_it_is_wrong(times: np.ndarray, message: str) -> None:
    with pytest.raises(RecordingError, match=message):
        check_clock(times, "S.csv, stream 'eda'")


@pytest.mark.parametrize(
    ("first", "zone", "skips", "doubted"),
    [
        ("2024-03-31T01:59:00", "", 3600, True),  # Berlin
        ("2024-03-31T00:59:00", "", 3600, True),  # London
        ("2024-03-10T01:59:00", "", 3600, True),  # New York
        ("2024-03-31T01:59:00", "+00:00", 3600, False),
        ("2024-03-31T01:59:00", "Z", 3600, False),
        ("2024-03-31T01:59:00", "", 0, False),
        ("2024-03-31T01:59:00", "", 3500, False),
        ("2024-03-31T01:50:00", "", 3600, False),  # at no full hour
        ("2024-03-31T12:59:00", "", 3600, False),  # by day
        ("2024-03-30T01:59:00", "", 3600, False),  # a Saturday
    ],
)
def test_an_hour_that_local_time_leaves_out_is_doubted(
    first: str, zone: str, skips: int, doubted: bool, tmp_path: Path
) -> None:
    begin, path = np.datetime64(first), tmp_path / "S.csv"
    times = [begin + np.timedelta64(250 * at + (1000 * skips if at >= 240 else 0), "ms") for at in range(480)]
    path.write_text("time,eda\n" + "".join(f"{time}{zone},{at}\n" for at, time in enumerate(times)))
    recording = read_signals(path)
    assert [one.code for one in recording.warnings] == ["summer_time_unclear"] * doubted
    assert recording.end - recording.start == pytest.approx(120 + skips)
