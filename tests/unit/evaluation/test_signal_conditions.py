"""Conditions for signals: the same faults in every process, and what is masked is what was said.

This file knows the grids; its signals are computed.
"""

import hashlib
import pickle

import numpy as np
import pytest

from meco_hub.errors import ConfigurationError
from meco_hub.evaluation.signal_conditions import (
    BLOCK_RATES,
    DELAYS_S,
    MISSING_RATES,
    condition_generator,
    realised_missing_rate,
    signal_conditions,
)
from meco_hub.processing.signal_windower import SignalWindower
from meco_hub.recordings.signal_recording import SignalRecording, Stream

RATES = {"eeg": 64.0, "emg": 64.0, "ans": 16.0, "eye": 32.0}
WINDOWER = SignalWindower(
    {name: {"channels": 2, "sampling_rate": rate} for name, rate in RATES.items()}, normalization="none", spare_s=3.0
)
WHERE = {"dataset": "look-alike", "protocol": "P2", "seed": 0, "subject": "s01", "trial": "7"}

PRINT_MASKS = """
import hashlib, numpy as np
from meco_hub.evaluation.signal_conditions import signal_conditions
from meco_hub.recordings.signal_recording import SignalRecording, Stream
names = ["eeg", "emg", "ans"]
recording = SignalRecording({name: Stream.regular(np.ones(80), 20.0) for name in names})
digest = hashlib.sha256()
for name, one in signal_conditions(names).items():
    for window in range(4):
        generator = one.generator(dataset="d", protocol="P1", seed=1, subject="s", trial="t", window=window)
        changed = one.apply(recording, generator)
        for key in sorted(changed.streams):
            digest.update(name.encode() + key.encode() + np.isnan(changed.streams[key].values).tobytes())
            digest.update(np.round(changed.streams[key].times, 6).tobytes())
print(digest.hexdigest())
"""


@pytest.fixture(scope="module")
def clips() -> list[SignalRecording]:
    random = np.random.default_rng(0)
    streams = {name: Stream.regular(random.normal(size=(int(400 * rate), 2)), rate) for name, rate in RATES.items()}
    return WINDOWER.cut(SignalRecording(streams))


def apply(name: str, clips: list[SignalRecording], streams=tuple(RATES), **where) -> list[SignalRecording]:
    one = signal_conditions(streams)[name]
    return [one.apply(clip, one.generator(**(WHERE | where), window=index)) for index, clip in enumerate(clips)]


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
    assert len(signal_conditions(["eeg", "ecg"])) == 3 + 9 + 5 + 2 * 3 * 5 + 4 + 3 + 1
    for wrong in ([], ["eeg", "eeg"]):
        with pytest.raises(ConfigurationError, match="each modality once"):
            signal_conditions(wrong)


def test_every_process_sees_the_same_faults(run_python):
    outputs = {run_python(PRINT_MASKS).stdout, run_python("import random; random.seed(3)\n" + PRINT_MASKS).stdout}
    assert len(outputs) == 1
    assert len(outputs.pop().strip()) == 64


def test_faults_depend_on_every_name():
    start = {"condition": "blocks", "value": 0.3, "window": 0} | WHERE
    others = {"condition": "missing", "value": 0.5, "window": 1, "dataset": "x", "protocol": "P1", "seed": 1}
    others |= {"subject": "s02", "trial": "8"}
    first = condition_generator(**start).random(4)
    np.testing.assert_array_equal(condition_generator(**start).random(4), first)
    np.testing.assert_array_equal(condition_generator(**(start | {"value": np.float64(0.3)})).random(4), first)
    seen = {tuple(condition_generator(**(start | {name: value})).random(4)) for name, value in others.items()}
    assert len(seen | {tuple(first)}) == 9


def test_faults_do_not_depend_on_the_order_of_modalities(clips):
    for name in (
        "missing/0.5",
        "blocks/0.3",
        "delay-unknown/all/1",
        "jitter/0.05",
        "combined/missing 0.5, blocks 0.3, delay 1",
    ):
        for one, other in zip(apply(name, clips[:9]), apply(name, clips[:9], tuple(reversed(RATES))), strict=True):
            assert set(one.streams) == set(other.streams)
            for key in one.streams:
                np.testing.assert_array_equal(one.streams[key].values, other.streams[key].values)
                np.testing.assert_array_equal(one.streams[key].times, other.streams[key].times)


def test_missing_streams(clips):
    assert [set(one.streams) for one in apply("present/eeg+ans", clips[:2])] == [{"eeg", "ans"}] * 2
    assert realised_missing_rate(apply("missing/0", clips), list(RATES)) == 0
    rates = [realised_missing_rate(apply(f"missing/{rate:g}", clips), list(RATES)) for rate in MISSING_RATES]
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


def test_delays_known_and_unknown_show_the_same_samples(clips):
    unknown, known = apply("delay-unknown/eeg/0.5", clips), apply("delay-known/eeg/0.5", clips)
    signs = set()
    for clip, wrong, right in zip(clips[1:-1], unknown[1:-1], known[1:-1], strict=True):
        lag = wrong.known_lags["eeg"]
        signs.add(lag)
        assert wrong.known_lags["ans"] == 0.0
        late, corrected = WINDOWER(wrong), WINDOWER(right)
        original = WINDOWER(clip)
        moved = round(lag * 64)
        np.testing.assert_array_equal(late["inputs"]["emg"], original["inputs"]["emg"])
        assert late["step_mask"]["eeg"].all()
        keep = slice(None, -moved) if moved > 0 else slice(-moved, None)
        there = slice(moved, None) if moved > 0 else slice(None, moved)
        np.testing.assert_array_equal(corrected["inputs"]["eeg"][0, keep], original["inputs"]["eeg"][0, keep])
        np.testing.assert_array_equal(corrected["inputs"]["eeg"][0, keep], late["inputs"]["eeg"][0, there])
        assert corrected["step_mask"]["eeg"].sum() == 256 - abs(moved)
        assert not right.known_lags
    assert signs == {-0.5, 0.5}


def test_slow_and_trembling_clocks(clips):
    for factor in (1, 2, 4, 8):
        batch = WINDOWER(apply(f"decimation/{factor}", clips[1:5]))
        assert all(mask.mean() > 0.8 for mask in batch["step_mask"].values())
    still, trembling = WINDOWER(apply("jitter/0", clips[1:5])), WINDOWER(apply("jitter/0.01", clips[1:5]))
    np.testing.assert_array_equal(still["inputs"]["eeg"], WINDOWER(clips[1:5])["inputs"]["eeg"])
    assert np.abs(trembling["inputs"]["eeg"] - still["inputs"]["eeg"]).max() > 0.1


def test_a_condition_leaves_the_clip_alone(clips):
    before = hashlib.sha256(b"".join(clips[3].streams[name].values.tobytes() for name in RATES)).digest()
    for name in signal_conditions(list(RATES)):
        apply(name, clips[3:4])
    assert hashlib.sha256(b"".join(clips[3].streams[name].values.tobytes() for name in RATES)).digest() == before
