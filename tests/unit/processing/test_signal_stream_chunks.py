"""However samples come in, singly or minutes at once, some sensors behind others: the windows are those of the whole recording."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meco_hub.processing.signal_windower import SignalWindower
from meco_hub.recordings.signal_recording import SignalRecording, Stream

MODALITIES = {
    "eeg": {"channels": 2, "sampling_rate": 64.0},  # as it comes
    "bvp": {"channels": 1, "sampling_rate": 32.0},  # of four times the rate
    "eda": {"channels": 1, "sampling_rate": 4.0},  # of half the rate
    "ibi": {"channels": 1, "sampling_rate": 4.0, "kind": "irregular", "max_gap_s": 2.0},
}
SECONDS, TIMEOUT_S = 30.0, 2.0


@pytest.fixture(scope="module")
def recording() -> SignalRecording:
    random = np.random.default_rng(0)
    beats = np.cumsum(random.uniform(0.6, 1.1, 60))
    streams = {
        "eeg": Stream.regular(random.normal(size=(int(SECONDS * 64), 2)), 64.0),
        "bvp": Stream.regular(random.normal(size=(int(SECONDS * 128), 1)), 128.0),
        "eda": Stream.regular(random.normal(size=(int(SECONDS * 2), 1)), 2.0),
        "ibi": Stream(random.normal(size=(60, 1)), beats).between(0.0, SECONDS),
    }
    streams["eeg"].values[700:800] = np.nan
    return SignalRecording(streams, 0.0, SECONDS)


def deliver(
    recording: SignalRecording, seed: int, longest: float
) -> Iterator[dict[str, tuple[np.ndarray, np.ndarray]]]:
    """Pieces of random lengths up to `longest` seconds; each sensor's clock up to the timeout behind, and silent now and then."""
    random = np.random.default_rng(seed)
    sent = dict.fromkeys(recording.streams, -1.0)
    behind = {name: 0.9 * TIMEOUT_S - np.diff(one.times).max() for name, one in recording.streams.items()}
    now = 0.0
    while min(sent.values()) < SECONDS:
        now = now + random.uniform(0.0, longest)
        piece = {}
        for name, stream in recording.streams.items():
            if random.random() < 0.2 and now - sent[name] < behind[name]:
                continue
            until = max(sent[name], now - random.uniform(0.0, behind[name])) if now < SECONDS + TIMEOUT_S else np.inf
            part = stream.between(sent[name], until)
            if len(part) or random.random() < 0.5:  # an empty piece is a piece
                piece[name] = (part.values, part.times)
            sent[name] = until
        yield piece


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    longest=st.sampled_from([0.02, 0.3, 1.0, 1.8]),
    fields=st.sampled_from([{}, {"stride_s": 1.5, "context_margin_s": 0.5}, {"last_window": "align", "stride_s": 3.0}]),
)
def test_any_delivery_gives_the_windows_of_the_whole(
    recording: SignalRecording, seed: int, longest: float, fields: dict
) -> None:
    windower = SignalWindower(MODALITIES, window_s=4.0, normalization="none", **fields)
    stream = windower.stream(start=recording.start, timeout_s=TIMEOUT_S)
    online = [clip for piece in deliver(recording, seed, longest) for clip in stream.push(piece)]
    before_the_end = len(online)
    online += stream.flush()
    offline = list(windower.cut(recording))
    np.testing.assert_allclose(
        [(clip.start, clip.end) for clip in online], [(clip.start, clip.end) for clip in offline]
    )
    assert before_the_end > len(offline) / 2  # they come while the recording goes on
    ours, theirs = windower(online), windower(offline)
    np.testing.assert_array_equal(ours["modality_presence"], theirs["modality_presence"])
    for name in MODALITIES:
        np.testing.assert_array_equal(ours["step_mask"][name], theirs["step_mask"][name])
        np.testing.assert_allclose(ours["inputs"][name], theirs["inputs"][name], atol=1e-5)
        np.testing.assert_allclose(ours["timestamps"][name], theirs["timestamps"][name], atol=1e-6)
