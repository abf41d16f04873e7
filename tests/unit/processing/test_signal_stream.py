"""Windows of a recording that is still going on: the same as of a finished one, early, and in bounded memory."""

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meco_hub.answer_warnings import AnswerWarning
from meco_hub.errors import ConfigurationError, RecordingError
from meco_hub.processing.signal_windower import SignalWindower
from meco_hub.recordings.left_out import MOST_BAD
from meco_hub.recordings.signal_recording import SignalRecording, Stream

MODALITIES = {
    "eeg": {"channels": 2, "sampling_rate": 64.0},
    "bvp": {"channels": 1, "sampling_rate": 32.0},
    "hr": {"channels": 1, "sampling_rate": 4.0},
    "ibi": {"channels": 1, "sampling_rate": 4.0, "kind": "irregular", "max_gap_s": 2.0},
}


def make_recording(seconds: float = 40.0, start: float = 5.0) -> SignalRecording:
    random = np.random.default_rng(0)
    beats = start + np.cumsum(random.uniform(0.6, 1.1, int(seconds * 2)))
    beats = beats[(beats < start + seconds) & ~((beats > start + 20) & (beats < start + 24))]

    def regular(channels: int, rate: float, late: float = 0.0) -> Stream:
        return Stream.regular(random.normal(size=(int((seconds - late) * rate), channels)), rate, start=start + late)

    return SignalRecording(
        {
            "eeg": regular(2, 64.0),
            "bvp": regular(1, 128.0, 0.003),
            "hr": regular(1, 1.0, 3.0),
            "ibi": Stream(random.normal(size=(len(beats), 1)), beats),
        }
    )


def chunks(recording: SignalRecording, step: float):
    edges = np.arange(recording.start, recording.end + step, step)
    for start, end in itertools.pairwise(edges):
        parts = {name: stream.between(start, end) for name, stream in recording.streams.items()}
        yield end, {name: (part.values, part.times) for name, part in parts.items()}


def run(windower: SignalWindower, recording: SignalRecording, step: float, **options):
    stream = windower.stream(**options)
    ready = [(end, clip) for end, chunk in chunks(recording, step) for clip in stream.push(chunk)]
    return stream, ready, [*(clip for _, clip in ready), *stream.flush()]


@pytest.mark.parametrize("step", [0.05, 0.7, 100.0])
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"stride_s": 1.5, "context_margin_s": 0.5},
        {"stride_s": 1.5, "context_margin_s": 0.5, "context_after_s": 0.0},
        {"stride_s": 6.0},
        {"last_window": "align", "stride_s": 3.0},
        {"last_window": "drop", "stride_s": 3.0},
    ],
)
def test_windows_are_those_of_the_finished_recording(step, fields):
    recording = make_recording()
    windower = SignalWindower(MODALITIES, window_s=4.0, normalization="none", **fields)
    offline = windower.cut(recording)
    _, _, online = run(windower, recording, step)
    np.testing.assert_allclose(
        [(clip.start, clip.end) for clip in online], [(clip.start, clip.end) for clip in offline]
    )
    ours, theirs = windower(online), windower(offline)
    for name in MODALITIES:
        np.testing.assert_array_equal(ours["step_mask"][name], theirs["step_mask"][name])
        np.testing.assert_allclose(ours["inputs"][name], theirs["inputs"][name], atol=1e-5)
        np.testing.assert_allclose(ours["timestamps"][name], theirs["timestamps"][name], atol=1e-6)


@pytest.mark.parametrize("step", [3.0, 25.0, 500.0])
@settings(max_examples=15, deadline=None)
@given(gaps=st.lists(st.tuples(st.floats(0, 280), st.floats(1, 90)), max_size=3), seconds=st.floats(125, 300))
def test_a_window_is_silent_where_it_is_in_a_call(step: float, gaps: list[tuple[float, float]], seconds: float) -> None:
    """Of a few samples nothing may come onto the grid, and they were measured all the same."""
    whole = Stream.regular(np.random.default_rng(0).normal(size=(round(4 * seconds), 1)), 4.0)
    kept = np.all([(whole.times < first) | (whole.times >= first + length) for first, length in gaps], axis=0)
    kept = np.broadcast_to(kept, len(whole)) | (whole.times < 60)
    eda = {"channels": 4, "sampling_rate": 1 / 60, "summary_s": 60.0, "max_gap_s": 2.5}
    windower = SignalWindower({"eda": eda}, window_s=60.0, context_margin_s=120.0, normalization="none")
    # as what is pushed is: whether a sample lasts a period is told by its times, where that is how far the last window goes
    read = recording = windower.read({"eda": (whole.values[kept], whole.times[kept])})
    expected = [(clip.start, windower.is_silent(read, clip)) for clip in windower.cut(read)]
    _, _, online = run(windower, recording, step)
    found = [(clip.start, windower.is_silent(clip, clip)) for clip in online]
    assert found == expected[: len(found)]
    assert all(silent for _, silent in expected[len(found) :])  # nothing came any more


def test_with_filters_too():
    modality = {"channels": 1, "sampling_rate": 32.0, "highpass_hz": 0.5, "lowpass_hz": 10.0}
    recording = SignalRecording({"x": make_recording(60.0).streams["bvp"]})
    windower = SignalWindower({"x": modality}, normalization="none")
    _, ready, online = run(windower, recording, 0.5)
    assert ready[0][0] - ready[0][1].end > 2.5  # the wait for a high-pass at half a hertz
    np.testing.assert_allclose(
        windower(online)["inputs"]["x"], windower(windower.cut(recording))["inputs"]["x"], atol=1e-5
    )
    _, ready, early = run(windower, recording, 0.5, wait_for_filters=False)
    assert ready[0][0] - ready[0][1].end <= 0.6
    middle = windower(early[:5])["inputs"]["x"][:, :32] - windower(online[:5])["inputs"]["x"][:, :32]
    assert np.abs(middle).max() < 0.2


def test_windows_come_as_soon_as_every_clock_has_passed_their_end():
    streams = {name: stream for name, stream in make_recording().streams.items() if name in ("eeg", "hr")}
    recording = SignalRecording(streams)
    both = SignalWindower({name: MODALITIES[name] for name in streams}, normalization="none")
    _, ready, _ = run(both, recording, 0.0625)
    for end, clip in ready:
        assert -0.01 <= end - clip.end <= 1.1  # a slow stream's next sample is needed
    alone = SignalWindower({"eeg": MODALITIES["eeg"]}, normalization="none")
    _, ready, _ = run(alone, SignalRecording({"eeg": streams["eeg"]}), 1 / 64)
    assert len(ready) == 10
    for end, clip in ready:
        assert end - clip.end == pytest.approx(0, abs=0.017)


def test_a_silent_stream_is_waited_for_until_the_timeout():
    recording = make_recording()
    eeg = {"eeg": recording.streams["eeg"]}
    windower = SignalWindower(MODALITIES, normalization="none")
    for options, delay in (({}, 2.0), ({"timeout_s": 5.0}, 5.0), ({"expected": ["eeg"]}, 0.0)):
        _, ready, _ = run(windower, SignalRecording(eeg), 0.125, **options)
        assert ready[0][0] - ready[0][1].end == pytest.approx(delay, abs=0.15)
        np.testing.assert_array_equal(windower(ready[0][1])["modality_presence"], [[True, False, False, False]])


def test_memory_is_bounded():
    windower = SignalWindower({"eeg": MODALITIES["eeg"]}, normalization="none")
    stream, sizes = windower.stream(), []
    for index in range(1500):
        stream.push({"eeg": np.zeros((64, 2)), "else": np.zeros(3)} if index else np.zeros((64, 2)))
        sizes.append(stream.nbytes)
    remembered = 600 * 64 // 4 * 24  # of the last ten minutes, every fourth sample
    assert max(sizes[1000:]) <= max(sizes[700:900]) < 64 * 24 * 15 + remembered
    assert stream.clock == pytest.approx(1500, abs=0.02)


CHUNK = np.arange(64.0)
LATER = 6.0 + CHUNK / 64
BAD: dict[str, Any] = {
    "words": {"eeg": ([["a", "b"]] * 64, LATER)},
    "one word": {"eeg": (np.array([*"1234567", "x"] * 16, object).reshape(64, 2), LATER)},
    "objects": {"eeg": (np.array([[{}, None]] * 64, object), LATER)},
    "another number of channels": {"eeg": (np.zeros((64, 3)), LATER)},
    "a picture": {"eeg": (np.zeros((64, 2, 3)), LATER)},
    "fewer times": {"eeg": (np.zeros((64, 2)), LATER[:60])},
    "words for times": {"eeg": (np.zeros((64, 2)), ["soon"] * 64)},
    "times twice": {"eeg": (np.zeros((64, 2)), np.full(64, 6.5))},
    "times backwards": {"eeg": (np.zeros((64, 2)), 13.0 - LATER)},
    "times that are no numbers": {"eeg": (np.zeros((64, 2)), CHUNK * np.nan)},
    "a time far off": {"eeg": (np.zeros((64, 2)), np.append(LATER[:-1], 1.7e9))},
    "a rate of 0": {"eeg": (np.zeros((64, 2)), 0.0)},
    "a dict": {"eeg": {"values": np.zeros((64, 2))}},
    "nothing": {"eeg": None},
    "no mapping": np.zeros((64, 2)),
    "None": None,
    "text": "eeg",
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("beside", [True, False])
def test_a_part_that_cannot_be_used_is_named_and_left_out_and_the_rest_goes_on(name: str, beside: bool) -> None:
    """`beside`: another sensor's samples come in the same piece."""
    windower = SignalWindower(
        {name: MODALITIES[name] for name in ("eeg", "hr")}, window_s=4.0, normalization="none", last_window="align"
    )

    def pieces(odd: Any) -> list[Any]:
        draw, made = np.random.default_rng(0), []
        for second in range(20):
            times = second + np.arange(4) / 4
            good = {"eeg": (draw.normal(size=(64, 2)), second + CHUNK / 64), "hr": (np.full(4, 60.0 + second), times)}
            if second == 6:
                good = {**odd, **({"hr": good["hr"]} if beside else {})} if isinstance(odd, dict) else odd
            made.append(good)
        return made

    if not isinstance(BAD[name], dict) and beside:
        return
    live, other = windower.stream(), windower.stream()
    clips = [clip for piece in pieces(BAD[name]) for clip in live.push(piece)] + live.flush()
    without = [clip for piece in pieces({}) for clip in other.push(piece)] + other.flush()
    said = [one.message for clip in clips for one in clip.warnings if one.code == "part_left_out"]
    assert len(said) == 1
    assert said[0].startswith("Left out: ")
    assert not [one for clip in without for one in clip.warnings if one.code == "part_left_out"]
    for key in ("inputs", "step_mask"):
        ours, theirs = windower(clips)[key], windower(without)[key]
        for stream in ours:
            np.testing.assert_array_equal(ours[stream], theirs[stream])


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_used_from_the_first_or_for_ever_is_an_error(name: str) -> None:
    windower = SignalWindower({name: MODALITIES[name] for name in ("eeg", "hr")}, normalization="none")
    live = windower.stream()
    if name != "a time far off":  # which nobody knows before there is another
        with pytest.raises(RecordingError):
            live.push(BAD[name])
        assert live.nbytes == 0
    live.push({"eeg": (np.zeros((64, 2)), CHUNK / 64)})
    before = live.nbytes
    with pytest.raises(RecordingError):
        list(map(live.push, [BAD[name]] * MOST_BAD))
    assert live.nbytes == before


@pytest.mark.parametrize("empty", [{}, {"eeg": np.zeros((0, 2))}, {"eeg": (np.zeros((0, 2)), np.zeros(0))}])
def test_pieces_of_nothing_and_of_missing_samples_are_pieces(empty: dict[str, Any]) -> None:
    live = SignalWindower({"eeg": MODALITIES["eeg"]}, window_s=4.0, normalization="none").stream()
    clips = []
    for second in range(12):
        values = np.full((64, 2), np.nan) if 4 <= second < 8 else np.random.default_rng(second).normal(size=(64, 2))
        clips += [*live.push(empty), *live.push({"eeg": (values, second + CHUNK / 64)})]
    clips += live.flush()
    assert [clip.silent for clip in clips] == [False, True, False]
    assert not [one for clip in clips for one in clip.warnings if one.code == "part_left_out"]


def test_what_means_nothing_is_refused() -> None:
    windower = SignalWindower({name: MODALITIES[name] for name in ("eeg", "hr")}, normalization="none")
    with pytest.raises(ConfigurationError, match="expected names"):
        windower.stream(expected=["ecg"])
    with pytest.raises(ConfigurationError, match="not known before its end"):
        SignalWindower(MODALITIES, normalization="recording").stream()
    assert windower.stream().flush() == []


@pytest.mark.parametrize("late", [2 * 86_400.0, 1.7e9, 9e10])
@pytest.mark.parametrize("start", [None, 0.0])
def test_a_clock_that_jumps_makes_no_millions_of_windows(late: float, start: float | None):
    windower = SignalWindower({name: MODALITIES[name] for name in ("eeg", "hr")}, normalization="none")
    one = (np.zeros((64, 2)), np.arange(64) / 64)
    far = (np.zeros((2, 1)), np.array([late, late + 0.25]))
    for pushes in ([{"eeg": one}, {"hr": far}], [{"eeg": one, "hr": far}]):
        stream = windower.stream(start=start)
        for push in pushes:
            stream.push(push)
        assert stream.nbytes == 64 * 24
        (warning,) = [one for clip in stream.flush() for one in clip.warnings if one.code == "part_left_out"]
        assert "days without a sample of any stream" in warning.message
    if start is not None:
        with pytest.raises(RecordingError, match=r"After .* days without a sample of any stream"):
            windower.stream(start=start).push({"hr": far})
    stream = windower.stream(start=start)
    stream.push({"eeg": one})
    stream.push({"eeg": (one[0], one[1] + 60)})  # a minute is a pause
    assert stream.clock > 60


def test_a_reference_can_be_brought():
    recording = make_recording()
    windower = SignalWindower({"eeg": MODALITIES["eeg"]}, normalization="recording")
    reference = windower.measure([recording])
    _, _, online = run(windower, recording, 1.0, reference=reference)
    np.testing.assert_allclose(
        windower(online)["inputs"]["eeg"], windower(windower.cut(recording))["inputs"]["eeg"], atol=1e-5
    )


SINCE_1970 = np.datetime64("2023-01-31T23:59:50", "ns")


def dates(times: np.ndarray) -> np.ndarray:
    return SINCE_1970 + np.round(times * 1e9).astype("m8[ns]")


CLOCKS = {
    "seconds since 1970": lambda times: dates(times).astype(np.int64) / 1e9,
    "milliseconds since 1970": lambda times: dates(times).astype(np.int64) / 1e6,
    "microseconds since 1970": lambda times: dates(times).astype(np.int64) // 1000,
    "nanoseconds since 1970": lambda times: dates(times).astype(np.int64),
    "datetime64": dates,
    "dates of Python": lambda times: dates(times).astype("M8[us]").tolist(),
    "ISO 8601": lambda times: dates(times).astype(str).tolist(),
    "ISO 8601 with a zone": lambda times: [f"{one}+01:00" for one in dates(times)],
    "time of day": lambda times: [str(one).partition("T")[2] for one in dates(times)],  # past midnight
    "time differences": lambda times: np.round(times * 1e9).astype("m8[ns]"),
    "milliseconds from the start": lambda times: 1000 * times,
    "microseconds": lambda times: 1e6 * times,
    "minutes": lambda times: times / 60,
    "days (datenum)": lambda times: 738_000 + times / 86_400,
    "dates as some write them": lambda times: ["31.01.2023 10:00"] * len(times),
}


@pytest.mark.parametrize("name", CLOCKS)
@settings(max_examples=4, deadline=None)
@given(step=st.sampled_from([1, 7, 50, 4800]), other=st.booleans())
def test_a_clock_that_a_call_reads_refuses_or_doubts_is_read_refused_or_doubted_piece_by_piece(
    name: str, step: int, other: bool
) -> None:
    """`other`: the second stream counts as seconds do, where both count from 1970."""
    draw, rate = np.random.default_rng(0), 10.0
    trained = {"rate": rate, "center": [[-1, 1]], "scale": [[0.1, 2]]}
    one = {"channels": 1, "sampling_rate": rate, "trained_on": trained}
    windower = SignalWindower({"eda": one, "temp": one}, window_s=4.0, normalization="none")
    times = np.arange(480) / rate
    values = draw.normal(size=(2, 480, 1))
    clock = CLOCKS[name](times)
    beside = CLOCKS["seconds since 1970"](times) if other and "1970" in name else clock

    def part(rows: slice) -> dict[str, Any]:
        return {"eda": (values[0, rows], clock[rows]), "temp": (values[1, rows], beside[rows])}

    def whole() -> tuple[set[str], list[SignalRecording]]:
        recording = windower.read(part(slice(None)))
        return {one.code for one in recording.warnings}, [*windower.cut(recording)]

    def piecewise() -> tuple[set[str], list[SignalRecording]]:
        live = windower.stream()
        clips = [clip for at in range(0, 480, step) for clip in live.push(part(slice(at, at + step)))] + live.flush()
        return {one.code for clip in clips for one in clip.warnings}, clips

    try:
        codes, offline = whole()
    except RecordingError:
        with pytest.raises(RecordingError):
            piecewise()
        return
    found, online = piecewise()
    assert found == codes
    for key in ("inputs", "step_mask"):
        ours, theirs = windower(online)[key], windower(offline)[key]
        for stream in ours:
            np.testing.assert_allclose(ours[stream], theirs[stream], atol=1e-5)


def test_a_stream_that_comes_late_is_doubted_like_one_that_was_there_from_the_first() -> None:
    draw = np.random.default_rng(0)
    one = {"channels": 1, "sampling_rate": 4.0, "units": ["°C"]}
    trained = {"rate": 4.0, "center": [[30, 36]], "scale": [[0.01, 2]]}
    windower = SignalWindower(
        {"eda": {**one, "units": [""]}, "temp": {**one, "trained_on": trained}}, window_s=4.0, normalization="none"
    )
    live = windower.stream(expected=["eda"])
    found = []
    for second in range(40):
        times = second + np.arange(4) / 4
        piece = {"eda": (draw.normal(size=4), times)}
        if second >= 20:
            piece["temp"] = (91 + draw.normal(size=4), times)  # °F
        found += [one.code for clip in live.push(piece) for one in clip.warnings]
    assert found.count("unit_unlikely") == 1


def test_what_a_reader_of_pieces_doubts_is_said_once() -> None:
    windower = SignalWindower({"eda": {"channels": 1, "sampling_rate": 4.0}}, window_s=4.0, normalization="none")
    live, draw, clips = windower.stream(), np.random.default_rng(0), []
    for second in range(20):
        stream = Stream(draw.normal(size=(4, 1)), second + np.arange(4) / 4)
        doubt = AnswerWarning("part_left_out", f"Left out: row {second}.")
        clips += live.push(SignalRecording({"eda": stream}, warnings=(doubt,)))
    assert [one.message for clip in clips for one in clip.warnings] == ["Left out: row 0."]


def test_pieces_of_pandas_bring_their_own_times_and_names():
    pandas = pytest.importorskip("pandas")
    recording = make_recording()
    windower = SignalWindower({"eeg": {**MODALITIES["eeg"], "channel_names": ["a", "b"]}}, normalization="none")
    eeg = recording.streams["eeg"]
    frame = pandas.DataFrame(eeg.values, pandas.to_timedelta(eeg.times, unit="s"), ["b", "a"])
    live = windower.stream()
    clips = [clip for at in range(0, len(frame), 48) for clip in live.push({"eeg": frame.iloc[at : at + 48]})]
    clips += live.flush()
    assert not any(clip.warnings for clip in clips)
    named = SignalRecording({"eeg": Stream(eeg.values[:, ::-1], eeg.times, 64.0, ("a", "b"))})
    np.testing.assert_allclose(
        windower(clips)["inputs"]["eeg"], windower(windower.cut(windower.read(named)))["inputs"]["eeg"], atol=1e-5
    )
