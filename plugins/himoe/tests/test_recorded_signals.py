"""Signals as they are recorded, answered by the bundled checkpoints: what surrounds the samples decides nothing."""

import ast
import json
import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import meco_hub
from meco_hub.errors import RecordingError
from meco_hub.recordings.signal_recording import Stream

STRESS, LIVE, CASE = "meco-himoe-stress", "meco-himoe-stress-live", "meco-himoe-case"
MINUTE = 60


@pytest.fixture(scope="module")
def stress() -> Any:
    return meco_hub.recogniser(STRESS)


@pytest.fixture(scope="module")
def case() -> Any:
    return meco_hub.recogniser(CASE)


def watch(minutes: float = 20, seed: int = 0) -> dict[str, Any]:
    """Skin and temperature of a watch."""
    draw = np.random.default_rng(seed)
    count = int(4 * MINUTE * minutes)
    eda = 3 + 0.02 * draw.normal(size=count).cumsum() + 0.05 * draw.normal(size=count)
    return {"eda": (np.abs(eda), 4.0), "temp": (33 + 0.001 * draw.normal(size=count).cumsum(), 4.0)}


def rated(answers: Any) -> dict[str, list[float | None]]:
    return {one["label"]: [one["score"], *one.get("scores", ())] for one in answers}


@pytest.mark.parametrize("seed", range(4))
def test_streams_that_the_model_does_not_read_change_nothing(seed: int, stress: Any) -> None:
    draw = np.random.default_rng(seed)
    recording = watch()
    times = np.sort(draw.uniform(-7200, 7200, draw.integers(1, 5)))
    strange = {"marker": (np.ones(len(times)), times), "hum": (draw.normal(size=50), 0.01)}
    assert rated(stress({**recording, **strange})) == rated(stress(recording))


def test_a_window_in_which_nothing_was_measured_has_no_value_and_is_in_no_mean(stress: Any) -> None:
    recording = {}
    for name, (values, rate) in watch().items():
        times = np.arange(len(values)) / rate
        there = (times < 5 * MINUTE) | (times >= 8 * MINUTE)
        recording[name] = (values[there], times[there])
    answers = {one["label"]: one for one in stress(recording)}
    for one in answers.values():
        gone = [5 * MINUTE < time < 8 * MINUTE for time in one["times"]]
        assert [score is None for score in one["scores"]] == gone
        assert sum(gone) == 3
    heard = [score for score in answers["stress"]["scores"] if score is not None]
    assert min(heard) < answers["stress"]["score"] < max(heard)


# --- while a recording goes on ------------------------------------------------------------------------------------------


def packets(recording: dict[str, Any], seconds: float, form: str) -> Any:
    """The recording in pieces, in one of the forms that chunks have."""
    longest = max(len(values) / rate for values, rate in recording.values())
    for begin in np.arange(0, longest, seconds):
        piece = {}
        for name, (values, rate) in recording.items():
            first, last = round(begin * rate), round((begin + seconds) * rate)
            part, times = values[first:last], np.arange(len(values))[first:last] / rate
            piece[name] = {
                "(n,) and times": (part, times),
                "(n, 1) and times": (part.reshape(len(part), -1), times),
                "and a rate": (part, rate),
                "streams": Stream(part.reshape(len(part), -1), times, rate),
            }[form]
        yield piece


FORMS = [(name, form) for name in (STRESS, CASE) for form in ("(n, 1) and times", "and a rate", "streams")]


@pytest.mark.parametrize(("name", "form"), [(STRESS, "(n,) and times"), (LIVE, "and a rate"), *FORMS])
def test_every_bundled_checkpoint_answers_while_a_recording_goes_on_as_for_the_whole(
    name: str, form: str, stress: Any, case: Any
) -> None:
    recognise = {STRESS: stress, CASE: case}.get(name) or meco_hub.recogniser(name)
    draw = np.random.default_rng(1)
    recording = watch(30) if name != CASE else {"eda": (draw.normal(size=(2000, 2)), 4.0)}
    level = recognise.feature_extractor.measure(recording)
    live = list(recognise.stream(packets(recording, 7.0, form), reference=level))
    read = recognise.feature_extractor.read(recording)
    whole = recognise(replace(read, reference=level))
    for entry in whole:
        mine = [other for answer in live for other in answer if other["label"] == entry["label"]]
        scores = [score for one in mine for score in one.get("scores", [one["score"]])]
        assert len(scores) == {STRESS: 30, LIVE: 30, CASE: 50}[name]
        np.testing.assert_allclose(scores, entry["scores"], atol=1e-5)


def test_a_packet_that_comes_twice_ends_nothing_and_is_named(stress: Any) -> None:
    recording = watch(30)
    level = stress.feature_extractor.measure(recording)
    pieces = list(packets(recording, 60.0, "(n,) and times"))
    once = list(stress.stream(pieces, reference=level, on_warning="ignore"))
    again = list(stress.stream([*pieces[:10], *pieces[9:]], reference=level, on_warning="ignore"))
    assert [rated(one) for one in again] == [rated(one) for one in once]
    assert [[one["code"] for one in answer[0]["warnings"]] for answer in again].count(["packet_repeated"]) == 1


def test_streams_of_other_names_are_offered_while_a_recording_goes_on_too(stress: Any) -> None:
    recording = watch()
    level = stress.feature_extractor.measure(recording)
    named = {"GSR": recording["eda"], "temp": recording["temp"]}
    found = [warned(one) for one in stress.stream([named], reference=level, on_warning="ignore")]
    assert "stream_name_unknown" in found[0]
    assert all("stream_name_unknown" not in one for one in found[1:])
    with pytest.raises(RecordingError, match="Did you mean 'GSR' for 'eda'"):
        list(stress.stream([{"GSR": recording["eda"]}], reference=level))
    thousandths = {"eda": (1000 * recording["eda"][0], 4.0)}
    with pytest.raises(RecordingError, match=r"its level is .* and that of its reference .* seems to be in"):
        list(stress.stream([thousandths], reference=level))
    values, times = recording["eda"][0], np.arange(len(recording["eda"][0])) / 4
    with pytest.raises(RecordingError, match="in milliseconds it would be 4 Hz"):  # before thousands of empty windows
        list(stress.stream([{"eda": (values, 1000 * times)}], reference=level))
    own = stress.feature_extractor.measure(thousandths)
    assert "unit_unlikely" in warned(next(iter(stress.stream([thousandths], reference=own, on_warning="ignore"))))
    chosen = [rated(one) for one in stress.stream([named], reference=level, streams={"eda": "GSR"})]
    assert chosen == [rated(one) for one in stress.stream([recording], reference=level)]


@pytest.mark.parametrize("name", [STRESS, CASE])
def test_a_level_is_measured_on_whatever_can_be_answered_for(name: str, stress: Any, case: Any, tmp_path: Path) -> None:
    recognise = {STRESS: stress, CASE: case}[name]
    recording = {"eda": (np.random.default_rng(0).normal(size=(800, 1 if name == STRESS else 2)), 4.0)}
    file = tmp_path / "earlier.npz"
    np.savez(file, eda_values=recording["eda"][0], eda_rate=4.0)
    processor = recognise.feature_extractor
    expected = processor.measure([processor.read(recording)])
    for source in (recording, [recording], file, [str(file)], processor.read(file)):
        level = processor.measure(source)
        assert level.keys() == expected.keys() == {"eda"}
        np.testing.assert_array_equal(level["eda"], expected["eda"])


# --- names, channels, units, clocks, presence ---------------------------------------------------------------------------


def warned(answers: Any) -> list[str]:
    return [one["code"] for one in answers[0]["warnings"]]


def session(seed: int = 0, seconds: int = 100, rate: float = 20.0) -> dict[str, Stream]:
    """What `meco-himoe-case` reads, at levels of its training, with every channel named."""
    draw, count = np.random.default_rng(seed), int(seconds * rate)
    levels = {
        "cardiac": {"IHR": (75, 4), "PTT": (0.27, 0.01)},
        "eda": {"phasic": (0.2, 0.1), "tonic": (8, 0.5)},
        "resp": {"resp": (20, 9)},
        "temp": {"temp": (33, 0.05)},
        "emg": {"trap": (0.5, 0.2), "zyg": (0.3, 0.2), "corr": (0.1, 0.03)},
    }
    return {
        name: Stream.regular(
            np.stack([level + spread * draw.normal(size=count) for level, spread in channels.values()], axis=1),
            rate,
            channels=tuple(channels),
        )
        for name, channels in levels.items()
    }


def turned(stream: Stream, order: list[int], names: dict[str, str] | None = None) -> Stream:
    channels = tuple((names or {}).get(stream.channels[place], stream.channels[place]) for place in order)
    return replace(stream, values=stream.values[:, order], channels=channels)


def test_the_order_of_named_channels_changes_nothing(case: Any) -> None:
    streams = session()
    expected = case(streams)
    assert warned(expected) == []
    swapped = {name: turned(one, list(range(one.values.shape[1]))[::-1]) for name, one in streams.items()}
    assert rated(case(swapped)) == rated(expected)
    others = {"phasic": "EDA_Phasic", "tonic": "EDATon", "trap": "EMG Trapezius", "zyg": "ZEMGEnv", "corr": "emg_coru"}
    spelt = {name: turned(one, list(range(one.values.shape[1]))[::-1], others) for name, one in streams.items()}
    assert rated(case(spelt)) == rated(expected)
    bare = case({**streams, "eda": replace(streams["eda"], channels=())}, on_warning="ignore")
    assert (rated(bare), warned(bare)) == (rated(expected), ["channels_unnamed"])
    with pytest.raises(RecordingError, match=r"'eda' has the channels left, right; expected phasic, tonic"):
        case({**streams, "eda": replace(streams["eda"], channels=("left", "right"))})


UNITS = [
    ("temp", "°F", lambda one: one * 9 / 5 + 32),
    ("temp", "degF", lambda one: one * 9 / 5 + 32),
    ("temp", "K", lambda one: one + 273.15),
    ("eda", "S", lambda one: one / 1e6),
    ("eda", "nS", lambda one: one * 1e3),
    ("eda", "mS", lambda one: one / 1e3),
]


@pytest.mark.parametrize(("name", "unit", "turn"), UNITS)
def test_units_travel_and_are_converted_or_doubted(name: str, unit: str, turn: Any, case: Any) -> None:
    streams = session()
    expected = case(streams)
    stream = streams[name]
    there = replace(stream, values=turn(stream.values))
    named = case({**streams, name: replace(there, units=(unit,) * stream.values.shape[1])})
    for label, scores in rated(expected).items():
        np.testing.assert_allclose(rated(named)[label], scores, atol=1e-6)
    assert warned(named) == []
    unnamed = case({**streams, name: there}, on_warning="ignore")
    assert warned(unnamed) == ["unit_unlikely"]
    assert unnamed[0]["streams"]["distance"][name] >= 0.5
    odd = case({**streams, name: replace(stream, units=("furlong",) * stream.values.shape[1])}, on_warning="ignore")
    assert warned(odd) == ["unit_unknown"]
    processor = case.feature_extractor
    level = processor.measure({name: there})
    with pytest.raises(RecordingError, match="Measure the reference on a recording in the same unit"):
        case(replace(processor.read(streams), reference=level))


def test_of_several_streams_in_doubt_each_is_said(case: Any) -> None:
    streams = session()
    turned_units = {name: replace(streams[name], units=()) for name in ("eda", "temp")}
    turned_units["eda"] = replace(turned_units["eda"], values=streams["eda"].values * 1000)
    turned_units["temp"] = replace(turned_units["temp"], values=streams["temp"].values + 273.15)
    answers = case({**streams, **turned_units}, on_warning="ignore")
    (said,) = (one["message"] for one in answers[0]["warnings"] if one["code"] == "unit_unlikely")
    assert "'eda'" in said
    assert "'temp'" in said
    read = case.feature_extractor.read({**streams, **turned_units})
    assert case(read, on_warning="ignore")[0]["warnings"] == answers[0]["warnings"]


def test_what_is_far_from_training_is_said_with_both_ranges(case: Any) -> None:
    streams = session()
    far = case({**streams, "resp": Stream.regular(9000 + streams["resp"].values, 20.0)}, on_warning="ignore")
    (doubt,) = far[0]["warnings"]
    assert doubt["code"] == "outside_training_range"
    assert "at 9.02e+03" in doubt["message"]
    assert "in training between -1.89 and 51.3" in doubt["message"]
    near = case(streams)[0]["streams"]
    assert set(near["distance"]) == set(near["clipped"]) == set(streams)
    assert max(near["distance"].values()) == 0


def test_a_constant_is_no_signal(case: Any) -> None:
    streams = session()
    without = case({name: one for name, one in streams.items() if name != "eda"})
    flat = case({**streams, "eda": replace(streams["eda"], values=np.full((2000, 2), 3.0))}, on_warning="ignore")
    assert rated(flat) == rated(without)
    assert warned(flat) == ["sensor_flat"]
    assert flat[0]["streams"]["missing"] == ["eda"]
    with pytest.raises(RecordingError, match="is 3, 3 all the time"):
        case({"eda": (np.full((2000, 2), 3.0), 20.0)})
    clipped = replace(streams["resp"], values=np.minimum(streams["resp"].values, 20))
    assert warned(case({**streams, "resp": clipped}, on_warning="ignore")) == ["sensor_saturated"]


@pytest.mark.parametrize("what", ["held", "zero", "missing"])
def test_a_part_in_which_a_sensor_was_off_counts_as_missing(what: str, stress: Any, case: Any) -> None:
    for recognise, recording, name in (
        (stress, {one: Stream.regular(values, rate) for one, (values, rate) in watch(24).items()}, "eda"),
        (case, session(seconds=300), "resp"),
    ):
        stream = recording[name]
        first, last = len(stream) // 3, 2 * len(stream) // 3
        values = stream.values.copy()
        values[first:last] = {"held": values[first], "zero": 0.0, "missing": np.nan}[what]
        answers = recognise({**recording, name: replace(stream, values=values)}, on_warning="ignore")
        assert answers[0]["streams"]["measured"][name] == pytest.approx(2 / 3, abs=0.05)
        assert warned(answers) == ([] if what == "missing" else ["sensor_flat_in_part"])
        values[first:last] = np.nan
        missing = recognise({**recording, name: replace(stream, values=values)}, on_warning="ignore")
        for label, scores in rated(missing).items():
            np.testing.assert_allclose(
                np.array(rated(answers)[label], np.float64), np.array(scores, np.float64), atol=1e-6, equal_nan=True
            )


@pytest.mark.parametrize("name", ["GSR", "EDA", "Skin Conductance", "Shimmer_1234"])
def test_a_stream_under_another_name_is_offered_and_can_be_chosen(name: str, stress: Any) -> None:
    recording = watch()
    expected = stress(recording)
    other = {name: recording["eda"], "temp": recording["temp"]}
    answers = stress(other, on_warning="ignore")
    assert warned(answers) == ["stream_name_unknown"]
    says_nothing = name == "Shimmer_1234"
    said = answers[0]["warnings"][0]["message"]
    assert (f"{name!r} may be 'eda', which is missing" in said, f"What {name!r} is, no name says" in said) == (
        not says_nothing,
        says_nothing,
    )
    chosen = stress(other, streams={"eda": name})
    assert rated(chosen) == rated(expected)
    assert warned(chosen) == []
    near = (
        "Name its streams so"
        if says_nothing
        else f"Did you mean '{name}' for 'eda'? Name its streams so, or pass streams={{'eda': "
    )
    with pytest.raises(RecordingError, match=rf"holds .*expected at least one of .*\. {re.escape(near)}"):
        stress({name: recording["eda"]})


def test_markers_are_no_offer(stress: Any) -> None:
    markers = {"marker": (np.ones(3), np.array([0.0, 9.0, 20.0])), "Trigger": (np.arange(9.0), 1.0)}
    assert warned(stress({**watch(), **markers})) == []


@pytest.mark.parametrize(("factor", "says"), [(1e3, "in milliseconds it would be"), (1 / 86400, "datenum")])
def test_a_unit_of_time_that_cannot_be_is_refused_before_anything_is_computed(
    factor: float, says: str, stress: Any, case: Any
) -> None:
    for recognise, recording in (
        (stress, watch()),
        (case, {name: (one.values, 20.0) for name, one in session().items()}),
    ):
        timed = {name: (values, factor * np.arange(len(values)) / rate) for name, (values, rate) in recording.items()}
        with pytest.raises(RecordingError, match=says):
            recognise(timed)


def test_minutes_for_seconds_are_doubted(case: Any) -> None:
    timed = {name: replace(one, times=one.times / 60, rate=None) for name, one in session().items()}
    assert "time_unit_unlikely" in warned(case(timed, on_warning="ignore"))


def test_one_window_that_would_be_normalised_by_itself_is_refused(stress: Any) -> None:
    with pytest.raises(RecordingError, match="lasts one window of 60 s and brings no reference"):
        stress(watch(1))
    processor = stress.feature_extractor
    level = processor.measure(watch(30))
    one, other = (stress(replace(processor.read(watch(1, seed)), reference=level)) for seed in (1, 2))
    assert rated(one) != rated(other)
    assert warned(stress(watch(5), on_warning="ignore")) == ["reference_needed"]
    assert warned(stress(watch(12))) == []
    with pytest.raises(RecordingError, match=r"too short: eda has 1 sample in 0.25 s, at least half of 60 s needed"):
        stress({"eda": (np.ones(1), 4.0)})


def test_the_command_line_offers_and_takes_the_choice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from meco_hub.cli import main

    recording = watch()
    np.savez(tmp_path / "S.npz", GSR_values=recording["eda"][0], GSR_rate=4.0)
    assert main(["predict", str(tmp_path / "S.npz"), "--model", STRESS]) == 1
    assert "Did you mean 'GSR' for 'eda'?" in capsys.readouterr().out
    assert main(["predict", str(tmp_path / "S.npz"), "--model", STRESS, "--streams", "eda=GSR"]) == 0
    said = capsys.readouterr().out
    assert "stress 0." in said
    assert "(from eda; without acc, bvp, temp, hr, ibi)" in said


@pytest.mark.parametrize("name", ["GSR", "Lena's EDA"])
def test_an_offer_is_followed_to_its_end(
    name: str, case: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a warning offers, typed as it stands there, gives the answer of the stream under its own name."""
    from meco_hub.cli import main

    def write(file: Path, skin: str) -> str:
        columns = {"time": np.arange(2000) / 20}
        for stream, one in session().items():
            for place, channel in enumerate(one.channels):
                columns[f"{skin if stream == 'eda' else stream}.{channel}"] = one.values[:, place]
        rows = "\n".join(",".join(f"{cell:.6f}" for cell in row) for row in zip(*columns.values(), strict=True))
        file.write_text(f"{','.join(columns)}\n{rows}\n")
        return str(file)

    named, other = write(tmp_path / "named.csv", "eda"), write(tmp_path / "other.csv", name)
    expected = case(named)
    assert warned(expected) == []
    without = case(other, on_warning="ignore")
    assert (warned(without), without[0]["streams"]["missing"]) == (["stream_name_unknown"], ["eda"])
    assert without[0]["streams"]["ignored"] == [name]
    said = without[0]["warnings"][0]["message"]
    chosen = ast.literal_eval(said.partition("pass streams=")[2].partition(", or --streams")[0])
    typed = shlex.split(said.partition(", or ")[2].partition(" on the command line")[0])
    assert typed == ["--streams", f"eda={name}"]
    followed = case(other, streams=chosen)
    assert (rated(followed), warned(followed)) == (rated(expected), [])
    assert followed[0]["streams"]["missing"] == followed[0]["streams"]["ignored"] == []

    command = ["predict", other, "--model", CASE]
    assert main(command) == 0
    plain = capsys.readouterr().out
    assert f"warning: {said} [stream_name_unknown]" in plain
    assert "without eda)" in plain
    assert main(["predict", named, "--model", CASE]) == 0
    right = capsys.readouterr().out
    assert main([*command, *typed]) == 0
    assert capsys.readouterr().out == right.replace(named, other)
    assert main([*command, "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["answer"][0]["warnings"] == without[0]["warnings"]
    assert main([*command, *typed, "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["answer"][0]["warnings"] == []
    for label, scores in rated(expected).items():
        np.testing.assert_allclose(rated(row["answer"])[label], scores, atol=1e-5)
    assert main([*command, "--strict"]) == 1
    assert "stream_name_unknown" in capsys.readouterr().out
    assert main([*command, *typed, "--strict", "--csv", str(tmp_path / "table.csv")]) == 0
    assert "stream_name_unknown" not in (tmp_path / "table.csv").read_text()


def test_a_short_reference_of_summaries_is_in_no_other_unit(stress: Any) -> None:
    """An axis at rest: its means hardly spread, its samples do."""
    draw = np.random.default_rng(0)
    acc = np.round(64 * (np.array([-0.03, 0.02, 0.97]) + draw.normal(0, 0.05, (3840, 3)))) / 64
    recording = {"acc": Stream.regular(acc, 32.0, channels=("x", "y", "z"), units=("g",) * 3)}
    level = stress.feature_extractor.measure(recording)
    assert len(list(stress.stream([recording], reference=level, on_warning="ignore"))) == 2
    other = {"acc": replace(recording["acc"], values=9.80665 * acc, units=())}
    with pytest.raises(RecordingError, match=r"one of them seems to be in m/s²"):
        list(stress.stream([other], reference=level, on_warning="ignore"))


def test_channels_and_units_are_fitted_while_a_recording_goes_on_too(case: Any) -> None:
    streams = session()
    level = case.feature_extractor.measure(streams)
    warm = replace(streams["temp"], values=streams["temp"].values * 9 / 5 + 32, units=("°F",))
    turned_skin = turned(streams["eda"], [1, 0])
    expected = [rated(one) for one in case.stream([streams], reference=level)]
    found = [rated(one) for one in case.stream([{**streams, "eda": turned_skin, "temp": warm}], reference=level)]
    assert len(found) == len(expected) == 2
    for one, other in zip(found, expected, strict=True):
        for label, scores in other.items():
            np.testing.assert_allclose(one[label], scores, atol=1e-5)


def test_a_usual_edf_is_answered_for(case: Any, stress: Any, tmp_path: Path) -> None:
    pyedflib = pytest.importorskip("pyedflib")
    path, draw = tmp_path / "session.edf", np.random.default_rng(0)
    beats = np.zeros(256 * 600)
    beats[(np.arange(0.5, 600, 0.8) * 256).astype(int)] = 1.0
    ecg = np.convolve(beats, np.exp(-0.5 * (np.arange(-12, 13) / 4) ** 2), "same")
    signals = {"ECG": (256, ecg, "mV"), "EDA": (16, 5 + draw.normal(size=9600).cumsum() / 99, "uS")}
    signals |= {
        "Resp": (32, 20 + 9 * np.sin(np.arange(19200) / 20), "%"),
        "Temp": (4, 33 + draw.normal(size=2400) / 50, "degC"),
    }
    with pyedflib.EdfWriter(str(path), len(signals), file_type=pyedflib.FILETYPE_EDFPLUS) as writer:
        for index, (label, (rate, _, unit)) in enumerate(signals.items()):
            limits = {"physical_max": 64.0, "physical_min": -64.0, "digital_max": 32767, "digital_min": -32768}
            header = {"label": label, "dimension": unit, "sample_frequency": rate, "transducer": "", "prefilter": ""}
            writer.setSignalHeader(index, {**header, **limits})
        writer.writeSamples([values for _, values, _ in signals.values()])
    try:
        import neurokit2  # noqa: F401  # pyright: ignore[reportMissingImports]

        computed = True
    except ImportError:
        computed = False
    for recognise, read, made in ((case, {"resp", "temp"}, {"eda"}), (stress, {"eda", "temp"}, {"hr", "ibi"})):
        answers = recognise(str(path), on_warning="ignore")
        assert set(answers[0]["streams"]["used"]) == (read | made if computed else read)
        assert all(np.isfinite(one["score"]) for one in answers)
        assert "stream_derived" in warned(answers)
