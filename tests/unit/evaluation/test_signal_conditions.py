"""Conditions for signals: the same faults in every process, and what is masked is what was said."""

import hashlib
import pickle

import numpy as np
import pytest

from meco_hub.errors import ConfigurationError
from meco_hub.evaluation.image_conditions import Condition
from meco_hub.evaluation.stream_conditions import (
    BLOCK_RATES,
    DECIMATIONS,
    DELAYS_S,
    JITTERS_S,
    MISSING_RATES,
    signal_conditions,
)
from meco_hub.processing.signal_windower import SignalWindower
from meco_hub.recordings.signal_recording import SignalRecording, Stream

RATES = {"eeg": 64.0, "emg": 64.0, "ans": 16.0, "eye": 32.0}
WINDOWER = SignalWindower(
    {name: {"channels": 2, "sampling_rate": rate} for name, rate in RATES.items()}, normalization="none", spare_s=3.0
)
COMBINED = "combined/missing 0.5, blocks 0.3, delay 1"
WHERE = {"dataset": "look-alike", "protocol": "P2", "seed": 0, "subject": "s01", "trial": "7"}

PRINT_MASKS = """
import hashlib, numpy as np
from meco_hub.evaluation.stream_conditions import signal_conditions
from meco_hub.recordings.signal_recording import SignalRecording, Stream
names = ["eeg", "emg", "ans"]
recording = SignalRecording({name: Stream.regular(np.ones(80), 20.0) for name in names})
digest = hashlib.sha256()
for name, one in signal_conditions(names).items():
    for window in range(4):
        where = {"dataset": "d", "protocol": "P1", "seed": 1, "subject": "s", "trial": "t", "window": window}
        changed = recording
        for change in (one.apply, one.apply_to_clip):
            changed = changed if change is None else change(changed, one.generator(**where))
        for key in sorted(changed.streams):
            digest.update(name.encode() + key.encode() + np.isnan(changed.streams[key].values).tobytes())
            digest.update(np.round(changed.streams[key].times, 6).tobytes())
print(digest.hexdigest())
"""


@pytest.fixture(scope="module")
def recording() -> SignalRecording:
    random = np.random.default_rng(0)
    streams = {name: Stream.regular(random.normal(size=(int(400 * rate), 2)), rate) for name, rate in RATES.items()}
    truth = Stream.regular(np.linspace(1, 9, 4000), 10.0)
    return SignalRecording(streams, annotations={"valence": truth})


@pytest.fixture(scope="module")
def clips(recording: SignalRecording) -> list[SignalRecording]:
    return list(WINDOWER.cut(recording))


def under(name: str, recording: SignalRecording, streams=tuple(RATES), **where) -> SignalRecording:
    """The whole recording under a condition, before it is cut."""
    one = signal_conditions(streams)[name]
    return recording if one.apply is None else one.apply(recording, one.generator(**(WHERE | where)))


def apply(name: str, clips: list[SignalRecording], streams=tuple(RATES), **where) -> list[SignalRecording]:
    """Clips under a condition of clips."""
    one = signal_conditions(streams)[name]
    assert one.apply_to_clip is not None
    return [one.apply_to_clip(clip, one.generator(**(WHERE | where), window=index)) for index, clip in enumerate(clips)]


def test_without_is_each_stream_of_the_corpus_by_itself_for_every_model(clips: list[SignalRecording]) -> None:
    for own in (list(RATES), ["eeg"]):  # whichever the model reads
        grid = {one.value: one for one in signal_conditions(own, list(RATES)).values() if one.family == "without"}
        assert list(grid) == ["nothing", *sorted(RATES)]
        assert [value for value, one in grid.items() if one.unchanged] == ["nothing"]
        for name in RATES:
            change = grid[name].apply_to_clip
            assert change is not None
            for clip in clips[:2]:
                changed = change(clip, np.random.default_rng(0))
                assert changed.streams.keys() == RATES.keys() - {name}


def test_the_grids_are_complete():
    conditions = signal_conditions(list(RATES))
    families = {}
    for one in conditions.values():
        families.setdefault(one.family, []).append(one.value)
    assert len(families["present"]) == 15
    assert tuple(families["missing"]) == MISSING_RATES
    assert tuple(families["blocks"]) == BLOCK_RATES
    for known in ("known", "unknown"):
        for whose in ("all", *RATES):
            assert tuple(families[f"delay-{known}/{whose}"]) == DELAYS_S
    assert families["decimation"] == [1, 2, 4, 8]
    assert families["jitter"] == [0.0, 0.01, 0.05]
    assert len(families["combined"]) == 1
    assert len(pickle.dumps(conditions)) < 2**16  # for worker processes
    assert len(signal_conditions(["eeg", "ecg"])) == 3 + 3 + 9 + 5 + 2 * 3 * 5 + 4 + 3 + 1
    for wrong in ([], ["eeg", "eeg"]):
        with pytest.raises(ConfigurationError, match="each modality once"):
            signal_conditions(wrong)


def test_every_process_sees_the_same_faults(run_python):
    outputs = {run_python(PRINT_MASKS).stdout, run_python("import random; random.seed(3)\n" + PRINT_MASKS).stdout}
    assert len(outputs) == 1
    assert len(outputs.pop().strip()) == 64


def draws(*, condition, value, **names):
    return Condition("some", value, draws=condition).generator(**names).random(4)


def missing_rate(clips) -> float:
    return 1 - np.mean([len(one.streams) / len(RATES) for one in clips])


def test_faults_depend_on_every_name():
    start = {"condition": "blocks", "value": 0.3, "window": 0} | WHERE
    others = {"condition": "missing", "value": 0.5, "window": 1, "dataset": "x", "protocol": "P1", "seed": 1}
    others |= {"subject": "s02", "trial": "8"}
    first = draws(**start)
    np.testing.assert_array_equal(draws(**start), first)
    np.testing.assert_array_equal(draws(**(start | {"value": np.float64(0.3)})), first)
    seen = {tuple(draws(**(start | {name: value}))) for name, value in others.items()}
    assert len(seen | {tuple(first)}) == 9


def test_faults_do_not_depend_on_the_order_of_modalities(recording, clips):
    turned = tuple(reversed(RATES))
    pairs = []
    for name in ("missing/0.5", "blocks/0.3", COMBINED):
        pairs += zip(apply(name, clips[:9]), apply(name, clips[:9], turned), strict=True)
    for name in ("delay-unknown/all/1", "jitter/0.05", COMBINED):
        pairs.append((under(name, recording), under(name, recording, turned)))
    for one, other in pairs:
        assert set(one.streams) == set(other.streams)
        for key in one.streams:
            np.testing.assert_array_equal(one.streams[key].values, other.streams[key].values)
            np.testing.assert_array_equal(one.streams[key].times, other.streams[key].times)


def test_missing_streams(clips):
    assert [set(one.streams) for one in apply("present/eeg+ans", clips[:2])] == [{"eeg", "ans"}] * 2
    assert missing_rate(apply("missing/0", clips)) == 0
    rates = [missing_rate(apply(f"missing/{rate:g}", clips)) for rate in MISSING_RATES]
    for rate, realised in zip(MISSING_RATES, rates, strict=True):
        assert realised == pytest.approx(rate - rate**4 / 4, abs=0.07)
    assert all(len(one.streams) >= 1 for one in apply("missing/0.8", clips))
    only = [clip.without(["eeg", "emg", "ans"]) for clip in clips]  # the last one stays, whichever it is
    assert all(len(one.streams) == 1 for one in apply("missing/0.8", only))


@pytest.mark.parametrize("rate", BLOCK_RATES)
def test_lost_blocks(rate, clips):
    shares = []
    for one in apply(f"blocks/{rate:g}", clips):
        mask = WINDOWER(one)["step_mask"]["eeg"][0]
        halves = mask.reshape(8, 32)
        assert (halves.all(axis=1) | ~halves.any(axis=1)).all()
        shares.append(1 - mask.mean())
    assert np.mean(shares) == pytest.approx(rate, abs=0.08)


@pytest.mark.parametrize("seconds", [0.25, 0.5, 2.0])
def test_delays_known_and_unknown_show_the_same_samples(seconds, recording):
    """Windows that fit together make one row of the recording again, so that samples are counted from end to end."""

    def show(name: str, **where) -> tuple[np.ndarray, np.ndarray, SignalRecording]:
        changed = under(f"{name}/{seconds:g}", recording, **where)
        batch = WINDOWER(WINDOWER.cut(changed))
        return batch["inputs"]["eeg"].reshape(-1, 2), batch["step_mask"]["eeg"].reshape(-1), changed

    clean, signs = recording.streams["eeg"].values, set()
    for trial in "abcdef":
        values, mask, unknown = show("delay-unknown/eeg", trial=trial)
        right, seen, known = show("delay-known/eeg", trial=trial)
        lag = unknown.known_lags["eeg"]
        signs.add(lag)
        moved = round(lag * 64)
        # what happened at g is found at g + lag; the ends that nothing came in for are masked
        there = slice(moved, None) if moved > 0 else slice(None, moved)
        happened = slice(None, -moved) if moved > 0 else slice(-moved, None)
        np.testing.assert_array_equal(values[there], clean[happened].astype(np.float32))
        np.testing.assert_array_equal(np.flatnonzero(mask), np.arange(len(mask))[there])
        # known: where samples are, they are the undelayed ones
        np.testing.assert_array_equal(right[happened], clean[happened].astype(np.float32))
        np.testing.assert_array_equal(np.flatnonzero(seen), np.arange(len(seen))[happened])
        for changed in (unknown, known):
            assert changed.streams["emg"] is recording.streams["emg"]
            assert changed.annotations is recording.annotations
            assert (changed.start, changed.end) == (recording.start, recording.end)
        assert unknown.known_lags["ans"] == 0.0
        assert not known.known_lags
    assert signs == {-seconds, seconds}


def test_what_a_delay_does_reaches_models_that_read_no_time_stamps(recording):
    """One value every 5 s, as CASE's recipe has it: a delay moves what is averaged, not only a clock."""
    coarse = SignalWindower(
        {"eeg": {"channels": 2, "sampling_rate": 0.2}, "ans": {"channels": 2, "sampling_rate": 0.2}},
        window_s=50.0, grid_step_s=10.0, normalization="none", target_names=["valence"],
    )  # fmt: skip
    smooth = np.sin(recording.streams["ans"].times / 7.0)[:, None] * np.ones(2)
    streams = {"eeg": recording.streams["eeg"], "ans": Stream.regular(smooth, RATES["ans"])}
    clean = SignalRecording(streams, annotations=recording.annotations)

    def show(name: str):
        changed = under(name, clean, streams=("ans", "eeg"))
        cut = coarse.cut(changed)
        return coarse(cut), coarse.targets(list(cut))

    batch, (truth, known) = show("delay-unknown/all/0")
    for same in ("delay-known/all/0", "decimation/1", "jitter/0"):
        other, _ = show(same)
        for name in streams:
            np.testing.assert_array_equal(other["inputs"][name], batch["inputs"][name])
            np.testing.assert_array_equal(other["timestamps"][name], batch["timestamps"][name])
    away = []
    for seconds in DELAYS_S[1:]:
        late, (moved, still) = show(f"delay-unknown/all/{seconds:g}")
        both = late["step_mask"]["ans"] & batch["step_mask"]["ans"]
        away.append(np.abs(late["inputs"]["ans"] - batch["inputs"]["ans"])[both].max())
        np.testing.assert_array_equal(moved, truth)
        np.testing.assert_array_equal(still, known)
        assert set(np.abs(late["lag_targets"]).ravel()) == {np.float32(seconds)}
        right, _ = show(f"delay-known/all/{seconds:g}")
        both = right["step_mask"]["ans"][1:-1] & batch["step_mask"]["ans"][1:-1]
        # filters end where the recording now does; apart from its outermost windows that is not seen
        np.testing.assert_allclose(
            right["inputs"]["ans"][1:-1][both], batch["inputs"]["ans"][1:-1][both], atol=0.05 * away[-1]
        )
        assert "lag_targets" not in right
    assert away == sorted(away)
    assert away[-1] > 0.2  # of a sine: 2 s of 44


def test_slow_and_trembling_clocks(recording, clips):
    original = WINDOWER(clips)
    spreads = []
    for factor in DECIMATIONS:
        batch = WINDOWER(WINDOWER.cut(under(f"decimation/{factor}", recording)))
        assert all(mask.mean() > 0.8 for mask in batch["step_mask"].values())
        spreads.append(batch["inputs"]["eeg"].std() / original["inputs"]["eeg"].std())
    assert spreads[0] == 1
    assert spreads == sorted(spreads, reverse=True)  # white noise, of which less and less passes
    assert spreads[-1] < 8**-0.5
    still = under("jitter/0", recording)
    assert all(still.streams[name].times is recording.streams[name].times for name in RATES)
    away = []
    for deviation in JITTERS_S[1:]:
        trembling = under(f"jitter/{deviation:g}", recording)
        steps = trembling.streams["ans"].times - recording.streams["ans"].times
        assert 0.7 * deviation < np.std(steps) < 1.1 * deviation  # less, where samples would have changed places
        assert (np.diff(trembling.streams["ans"].times) > 0).all()
        batch = WINDOWER(WINDOWER.cut(trembling))
        both = batch["step_mask"]["ans"] & original["step_mask"]["ans"]
        away.append(np.abs(batch["inputs"]["ans"] - original["inputs"]["ans"])[both].mean())
    assert 0.0 < away[0] < away[1]


def test_all_at_once_draws_each_fault_by_itself(recording, clips):
    """Late streams are not just those that are missing from the first clip."""
    pairs = set()
    for trial in map(str, range(40)):
        lags = under(COMBINED, recording, trial=trial).known_lags
        assert set(map(abs, lags.values())) == {1.0}
        left = apply(COMBINED, clips[:1], trial=trial)[0].streams
        pairs |= {(lags[name] > 0, name in left) for name in RATES}
    assert len(pairs) == 4


def test_a_condition_leaves_what_it_is_given_alone(recording, clips):
    def digest() -> bytes:
        arrays = [clips[3].streams[name].values for name in RATES]
        arrays += [
            array for name in RATES for array in vars(recording.streams[name]).values() if hasattr(array, "shape")
        ]
        return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).digest()

    before = digest()
    for name, one in signal_conditions(list(RATES)).items():
        under(name, recording)
        if one.apply_to_clip is not None:
            apply(name, clips[3:4])
    assert digest() == before
