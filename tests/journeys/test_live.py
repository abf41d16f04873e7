"""Recordings that go on, end to end: bundled checkpoints answer over sockets, growing files and LSL as for the whole recording."""

import io
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import meco_hub
from meco_hub.corpora.synthetic.eyes import draw_sequence
from meco_hub.errors import ConfigurationError, RecordingError

EYE, STRESS = "meco-mcoenet-synthetic-see", "meco-himoe-stress"


@pytest.fixture(scope="module")
def eyes() -> Any:
    return meco_hub.recogniser(EYE, on_warning="ignore")


@pytest.fixture(scope="module")
def stress() -> Any:
    return meco_hub.recogniser(STRESS, on_warning="ignore")


@pytest.fixture(scope="module")
def watch() -> dict[str, Any]:
    """Five minutes of two sensors of a wristband."""
    random = np.random.default_rng(0)
    return {
        "acc": (random.normal(size=(9600, 3)), np.arange(9600) / 32),
        "eda": (2 + 0.01 * random.normal(size=1200).cumsum(), np.arange(1200) / 4),
    }


def camera_pieces(size: int = 64) -> Iterator[np.ndarray]:
    """Frames and events of a drawn eye, as a camera's program would send them: structured arrays, a tenth of a second each."""
    drawn = draw_sequence("happiness", person="somebody", frames=60, size=size)
    for begin in range(0, int(drawn.frame_times[-1]) + 1, 100_000):
        inside = (drawn.t >= begin) & (drawn.t < begin + 100_000)
        events = np.zeros(int(inside.sum()), [("t", "<i8"), ("x", "<u2"), ("y", "<u2"), ("p", "u1")])
        for name in "txyp":
            events[name] = getattr(drawn, name)[inside]
        shown = (drawn.frame_times >= begin) & (drawn.frame_times < begin + 100_000)
        frames = np.zeros(int(shown.sum()), [("t", "<i8"), ("frame", "u1", (size, size))])
        frames["t"], frames["frame"] = drawn.frame_times[shown], drawn.frames[shown]
        yield from (one for one in (frames, events) if len(one))


def test_frames_and_events_of_an_eye_come_over_a_socket_and_are_answered_once_a_second(eyes: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def send() -> None:
            connection, _ = server.accept()
            with connection:
                for piece in camera_pieces():
                    saved = io.BytesIO()
                    np.save(saved, piece)
                    connection.sendall(saved.getvalue())

        threading.Thread(target=send, daemon=True).start()
        # all of it, however slow this machine is
        answers = list(eyes.stream(f"tcp://127.0.0.1:{server.getsockname()[1]}", live=False))
    assert len(answers) == 2
    drawn = draw_sequence("happiness", person="somebody", frames=60, size=64)
    whole = {
        "frames": drawn.frames,
        "events": {name: getattr(drawn, name) for name in "xytp"},
        "frame_times": drawn.frame_times,
        "time_unit": "us",
    }
    clip = eyes._recordings.read(whole)
    for answer, start in zip(answers, (1, 31), strict=True):
        expected = {entry["label"]: entry["score"] for entry in eyes(clip.at(range(start, start + 13, 4)))}
        assert {entry["label"]: entry["score"] for entry in answer} == pytest.approx(expected, abs=1e-5)
        assert answer[0]["events"] > 0


def test_what_a_camera_lacks_is_said(eyes: Any) -> None:
    events = [{"events": piece} for piece in camera_pieces() if "x" in (piece.dtype.names or ())]
    with pytest.raises(RecordingError, match="has events without frames"):
        list(eyes.stream([*events, {"events": {"x": [1], "y": [1], "t": [9_000_000], "p": [1]}}]))
    with pytest.raises(ConfigurationError, match="reference was passed"):
        eyes.stream(events, reference={})


def test_a_wristband_is_followed_in_a_table_that_grows(stress: Any, watch: dict[str, Any], tmp_path: Path) -> None:
    path, level = tmp_path / "watch.csv", stress.feature_extractor.measure(watch)
    times, (acc, _) = watch["acc"][1], watch["acc"]
    skin = dict(zip(watch["eda"][1], watch["eda"][0], strict=True))
    path.write_text("time,acc.x,acc.y,acc.z,GSR\n")

    def record() -> None:
        for first in range(0, len(times), 1600):
            rows = [
                f"{moment!r},{','.join(map(repr, row))},{repr(float(skin[moment])) if moment in skin else ''}\n"
                for moment, row in zip(
                    times[first : first + 1600].tolist(), acc[first : first + 1600].tolist(), strict=True
                )
            ]
            with path.open("a") as file:
                file.writelines(rows)
            time.sleep(0.1)

    recorder = threading.Thread(target=record)
    recorder.start()
    live = list(stress.stream(path, reference=level, idle_s=1.5, streams={"eda": "GSR"}))
    recorder.join()
    read = stress.feature_extractor.read({name: watch[name] for name in watch})
    whole = {entry["label"]: entry["scores"] for entry in stress(replace(read, reference=level))}
    for label, scores in whole.items():
        mine = [entry["score"] for answer in live for entry in answer if entry["label"] == label]
        assert mine == pytest.approx(scores, abs=1e-4)
    assert live[0][0]["streams"]["missing"] == ["bvp", "temp", "hr", "ibi"]


def test_of_a_source_that_does_not_wait_the_newest_window_is_answered_and_the_others_are_counted(stress: Any) -> None:
    skin = 2 + 0.01 * np.random.default_rng(0).normal(size=4 * 900).cumsum()
    level, answered = stress.feature_extractor.measure({"eda": (skin, 4.0)}), threading.Event()

    def pieces() -> Iterator[dict[str, Any]]:
        for first in range(0, 900, 10):
            if first == 440:  # the checkpoint looks six minutes ahead, so the first window is complete, and no other
                assert answered.wait(60)
            yield {"eda": (skin[4 * first : 4 * first + 40], first + np.arange(40) / 4)}

    answers = []
    for answer in stress.stream(pieces(), reference=level, live=True):
        answers.append(answer[0])
        answered.set()
        time.sleep(0.5)  # whoever takes answers is slow, and the source is not
    assert (answers[0]["start"], answers[0]["dropped"]) == (0, 0)
    assert answers[-1]["end"] == pytest.approx(900, abs=0.5)
    assert len(answers) + answers[-1]["dropped"] == 15
    assert answers[-1]["dropped"] >= 8


def test_minutes_in_which_a_sensor_is_off_end_nothing(stress: Any) -> None:
    skin = 2 + 0.01 * np.random.default_rng(0).normal(size=4 * 300).cumsum()
    level = stress.feature_extractor.measure({"eda": (skin, 4.0)})
    pieces = [
        {"eda": (skin[4 * at : 4 * at + 40], at + np.arange(40) / 4)}
        for at in (*range(0, 60, 10), *range(200, 300, 10))
    ]
    scores = [answer[0]["score"] for answer in stress.stream(pieces, reference=level)]
    assert [score is None for score in scores] == [False, True, True, False, False]


def test_streams_of_lsl_are_answered_on_loopback(
    stress: Any, watch: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = tmp_path / "lsl.cfg"
    settings.write_text("[multicast]\nResolveScope = machine\n[lab]\nKnownPeers = {127.0.0.1}\n[log]\nlevel = -3\n")
    monkeypatch.setenv("LSLAPICFG", str(settings))
    lsl: Any = pytest.importorskip("pylsl")  # the extra `live`, which the tests' environment has
    outlets = {}
    for name, count, rate in (("meco acc", 3, 32.0), ("meco eda", 1, 4.0)):
        info = lsl.StreamInfo(name, "test", count, rate, lsl.cf_double64, f"meco-{name}-test")
        outlets[name] = lsl.StreamOutlet(info)
    start = lsl.local_clock()

    def send() -> None:
        for outlet in outlets.values():
            outlet.wait_for_consumers(20)
        for first in range(0, 190, 10):
            for name, outlet in outlets.items():
                values, times = watch[name.removeprefix("meco ")]
                for row, moment in zip(
                    values[(times >= first) & (times < first + 10)],
                    times[(times >= first) & (times < first + 10)],
                    strict=True,
                ):
                    outlet.push_sample(np.atleast_1d(row).tolist(), start + moment)
            time.sleep(0.05)

    threading.Thread(target=send, daemon=True).start()
    level = stress.feature_extractor.measure(watch)
    names = {"acc": "meco acc", "eda": "meco eda"}
    answers = list(stress.stream("lsl://meco acc,meco eda", reference=level, streams=names, idle_s=3.0, live=True))
    assert len(answers) + answers[-1][0]["dropped"] == 4
    assert answers[0][0]["streams"]["missing"] == ["bvp", "temp", "hr", "ibi"]
    with pytest.raises(RecordingError, match="no LSL stream named 'nobody'"):
        list(stress.stream("lsl://nobody", reference=level, idle_s=0.5))


def test_an_answer_has_one_form_whether_its_recording_has_one_window_or_several(
    stress: Any, watch: dict[str, Any]
) -> None:
    read = stress.feature_extractor.read({"eda": watch["eda"]})
    known = replace(read, reference=stress.feature_extractor.measure(watch))
    several = stress(known)
    one = stress(known.clip(0.0, 50.0))
    assert [entry.keys() for entry in one] == [entry.keys() for entry in several]
    for entry in one:
        assert entry["times"] == [25.0]
        assert entry["scores"] == [entry["score"]]
