"""An eye from a film of faces, by the bundled checkpoint for eyes: answers over time that say what they rest on."""

import csv
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import meco_hub
from films import place_portrait, plain, write_film
from meco_hub.cli import main
from meco_hub.errors import DoubtfulInputError, FaceNotFoundError, RecordingError
from meco_hub.recordings.video import Video

MODEL = "meco-mcoenet-synthetic-see"


@pytest.fixture(scope="module")
def recognise() -> Any:
    return meco_hub.recogniser(MODEL, on_warning="ignore")


@pytest.fixture(scope="module")
def portrait(astronaut: Path) -> Image.Image:
    return Image.open(astronaut).convert("RGB").crop((140, 20, 310, 190))


@pytest.fixture(scope="module")
def talk(portrait: Image.Image, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second and a half of a face that sways."""
    frames = [place_portrait(portrait, 160 + 8 * math.sin(step / 6), 120, 200, size=(320, 240)) for step in range(45)]
    return write_film(tmp_path_factory.mktemp("eyes") / "talk.mp4", frames, rate=30)


def test_a_film_of_a_face_is_answered_by_one_eye_over_time(recognise: Any, talk: Path) -> None:
    (person,) = recognise(str(talk))
    assert (person["id"], person["looked_at"], person["frames"]) == (0, "right eye", 2)
    assert len(person["labels"]) == len(person["boxes"]) == 2
    assert person["events"] > 0
    codes = {one["code"]: one["message"] for one in person["warnings"]}
    assert codes["events_simulated"].endswith("So in 2 of 2 clips, first here.")
    first = person["expressions"][0]
    assert first["times"] == pytest.approx([0.217, 1.217], abs=0.01)
    assert first["training_data"] == "synthetic"
    # the pupil is where the crop says that the eye is
    frame = next(one for one in Video(talk) if one.time >= first["times"][0])
    left, upper, right, lower = person["boxes"][0]
    eye = np.asarray(
        Image.fromarray(frame.image).convert("L").crop((round(left), round(upper), round(right), round(lower)))
    )
    dark = np.argwhere(eye <= np.percentile(eye, 4)).mean(axis=0) / eye.shape
    assert dark == pytest.approx([0.58, 0.5], abs=0.12)


def test_a_stream_of_its_frames_gives_the_same(recognise: Any, talk: Path) -> None:
    (person,) = recognise(talk)
    frames = [(frame.image, frame.time) for frame in Video(talk)]
    answers = list(recognise.stream(frames))
    assert len(answers) == 45
    eyes = [eye for answer in answers for eye in answer]
    assert [eye["time"] for eye in eyes] == pytest.approx(person["expressions"][0]["times"], abs=0.001)
    assert [eye["label"] for eye in eyes] == person["labels"]
    assert {eye["looked_at"] for eye in eyes} == {"right eye"}
    assert all("events_simulated" in {one["code"] for one in eye["warnings"]} for eye in eyes)


def test_the_command_line_writes_the_table_that_films_of_faces_have(
    talk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "eyes.csv"
    assert main(["predict", str(talk), "--model", MODEL, "--csv", str(table)]) == 0
    assert "events_simulated" in capsys.readouterr().out
    rows = list(csv.DictReader(table.open(encoding="utf-8")))
    assert len(rows) == 2 * 7
    assert {row["looked_at"] for row in rows} == {"right eye"}
    assert sum(row["is_label"] == "True" for row in rows) == 2


def test_what_cannot_be_answered_says_why(recognise: Any, portrait: Image.Image, talk: Path, tmp_path: Path) -> None:
    nobody = write_film(tmp_path / "nobody.mp4", plain(20))
    face = place_portrait(portrait, 160, 120, 200, size=(320, 240))
    once = write_film(tmp_path / "once.mkv", [face])
    with pytest.raises(FaceNotFoundError, match="No face was found in"):
        recognise(nobody)
    with pytest.raises(RecordingError, match="Record longer"):
        recognise(once)
    with pytest.raises(RecordingError, match=r"an eye every 0\.2.* seconds; expected a frame every 0\.133"):
        recognise(write_film(tmp_path / "slow.mkv", [face] * 20, rate=5))
    with pytest.raises(DoubtfulInputError, match="no event camera"):
        recognise(talk, on_warning="raise")


def test_an_eye_that_does_not_move_is_answered_and_said_to_be_still(
    recognise: Any, portrait: Image.Image, tmp_path: Path
) -> None:
    far = place_portrait(portrait, 80, 60, 70, size=(160, 120))
    still = write_film(tmp_path / "still.mkv", [far] * 16, rate=25, codec="ffv1")
    (person,) = recognise(still)
    assert {"events_simulated", "no_events_in_window", "eye_small"} <= {one["code"] for one in person["warnings"]}
    (cropped,) = recognise(still, faces="cropped")
    assert (cropped["looked_at"], "boxes" in cropped) == ("eye", False)
