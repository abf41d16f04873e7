"""The clips that a recording is cut into: a sequence that makes each when it is asked for."""

import pickle
from dataclasses import replace

import numpy as np
import pytest

from batch_bits import bits
from meco_hub.errors import ConfigurationError, RecordingError
from meco_hub.processing.signal_preparation import SignalClips
from meco_hub.processing.signal_windower import SignalWindower
from meco_hub.recordings.signal_recording import SignalRecording, Stream


def make_case(seconds: float = 20.0) -> tuple[SignalWindower, SignalRecording]:
    random = np.random.default_rng(0)
    streams = {
        "a": Stream.regular(random.normal(size=(int(seconds * 32), 2)), 32.0),
        "b": Stream.regular(random.normal(size=(int(seconds * 16), 1)).astype(np.float32), 16.0),
    }
    truth = {"valence": Stream.regular(np.arange(int(seconds)), 1.0)}
    modalities = {"a": {"channels": 2, "sampling_rate": 32.0}, "b": {"channels": 1, "sampling_rate": 8.0}}
    windower = SignalWindower(modalities, window_s=4.0, stride_s=2.0, normalization="recording")
    return windower, SignalRecording(streams, 0.0, seconds, "S01", annotations=truth)


def test_clips_are_a_sequence_of_what_clip_gives() -> None:
    windower, recording = make_case()
    clips = windower.cut(recording)
    assert isinstance(clips, SignalClips)
    assert len(clips) == 9
    assert [clip.start for clip in clips] == [0.0, 2.0, 4.0, 6.0, 8.0, 10.0, 12.0, 14.0, 16.0]
    assert (clips[-1].start, clips[-1].end, clips[-1].name) == (16.0, 20.0, "S01")
    assert type(clips[0].start) is type(clips[0].end) is float
    assert "valence" in clips[3].annotations
    assert [clip.start for clip in clips[2:8:3]] == [4.0, 10.0]
    assert [clip.start for clip in reversed(clips)][:2] == [16.0, 14.0]
    with pytest.raises(IndexError):
        clips[9]
    both: list[SignalRecording] = [clips[0].shift({"a": 0.1})]
    both += clips
    assert len(both) == len([clips[0]] + clips) == len(clips + [clips[0]]) == 10  # noqa: RUF005 (what is tested)
    assert not windower.cut(recording)[:0]
    assert "9 clips of S01" in repr(clips)


def test_clips_survive_the_way_to_another_process() -> None:
    windower, recording = make_case()
    clips = windower.cut(recording)[3:7]
    assert bits(windower(pickle.loads(pickle.dumps(clips)))) == bits(windower(clips))


def test_clips_refuse_what_single_ones_refuse() -> None:
    windower, recording = make_case()
    clips = windower.cut(recording)
    shorter = SignalWindower(windower.modalities, window_s=2.0, normalization="none")
    with pytest.raises(RecordingError, match=r"S01 lasts 4\.000 s"):
        shorter(clips)
    other = SignalWindower({"a": windower.modalities["a"]}, window_s=4.0, normalization="none")
    with pytest.raises(RecordingError, match="other modalities"):
        other(clips)
    unfitted = SignalWindower(windower.modalities, window_s=4.0)
    with pytest.raises(ConfigurationError, match=r"S01, stream 'a': .*Call fit"):
        unfitted(clips)
    plain = SignalWindower(windower.modalities, window_s=4.0, normalization="reference")
    bare = replace(clips.recording, reference={})
    with pytest.raises(RecordingError, match="no reference"):
        plain(SignalClips(bare, clips.starts, clips.ends, clips.margin))
