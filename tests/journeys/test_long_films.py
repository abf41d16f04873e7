"""Films into a data set: minute by minute, each row once after a kill, with people and smoothing as of a run that nobody killed."""

import gc
import math
import weakref
from pathlib import Path
from typing import Any

import pyarrow.dataset
import pytest
from PIL import Image

from films import place_portrait, plain, write_film, write_sound
from meco_hub import long_films
from meco_hub.pipeline import EmotionRecognitionPipeline, recogniser
from meco_hub.prediction import predict_folder
from meco_hub.recordings.video import Video


@pytest.fixture(scope="module")
def talk(astronaut: Path, hopper: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six seconds at five frames a second: one face that sways, and another one in the second half."""
    smile = Image.open(astronaut).convert("RGB").crop((140, 20, 310, 190))
    serious = Image.open(hopper).convert("RGB").crop((130, 80, 410, 360))
    frames = []
    for step in range(30):
        frame = place_portrait(smile, 90 + 12 * math.sin(step / 3), 100, 120, size=(320, 200))
        frames.append(place_portrait(serious, 230, 100, 110, onto=frame) if step >= 15 else frame)
    return write_film(tmp_path_factory.mktemp("long") / "talk.mp4", frames, rate=5)


@pytest.fixture(autouse=True)
def short_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_films, "MINUTE_S", 1.0)


def rows(output: Path) -> list[dict[str, Any]]:
    return pyarrow.dataset.dataset(output / "answers.parquet").to_table().to_pylist()


def predict(inputs: list[Path], output: Path, model: Path) -> dict[str, Any]:
    return predict_folder(inputs, output, model=str(model), batch_size=4, progress=False)


def test_minutes_join_to_what_the_whole_film_is_answered_by(talk: Path, tiny_checkpoint: Path) -> None:
    recognise = recogniser(str(tiny_checkpoint))
    whole = recognise(talk, batch_size=4)
    parts = list(recognise.film_parts(Video(talk), seconds=1.0, batch_size=4))
    assert [len(answer) for answer, _ in parts] == [1, 1, 1, 2, 2, 2]
    assert [state is None for _, state in parts] == [False] * 5 + [True]
    for person in whole:
        own = [one for answer, _ in parts for one in answer if one["id"] == person["id"]]
        assert [label for one in own for label in one["labels"]] == person["labels"]
        assert [box for one in own for box in one["boxes"]] == person["boxes"]
        for entry in person["expressions"]:
            mine = [other for one in own for other in one["expressions"] if other["label"] == entry["label"]]
            assert [score for one in mine for score in one["scores"]] == pytest.approx(entry["scores"], abs=1e-6)
            assert [time for one in mine for time in one["times"]] == entry["times"]


@pytest.mark.parametrize("calls", [2, 5, 8])
def test_a_run_that_is_killed_in_a_film_goes_on_there_and_writes_each_row_once(
    calls: int, talk: Path, astronaut: Path, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = [astronaut, talk, astronaut]
    predict(inputs, tmp_path / "whole", tiny_checkpoint)
    forward, counted = EmotionRecognitionPipeline._forward, []

    def dies(self: Any, *args: Any, **kwargs: Any) -> Any:
        counted.append(1)
        if len(counted) > calls:
            raise KeyboardInterrupt
        return forward(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(EmotionRecognitionPipeline, "_forward", dies)
        with pytest.raises(KeyboardInterrupt):
            predict(inputs, tmp_path / "killed", tiny_checkpoint)
    done = len(list((tmp_path / "killed" / "films").rglob("*.json")))
    result = predict(inputs, tmp_path / "killed", tiny_checkpoint)
    assert (done > 0) == (calls > 2)
    assert result["files"] == 3
    assert result["errors"] == 0
    assert rows(tmp_path / "killed") == rows(tmp_path / "whole")
    assert len(rows(tmp_path / "whole")) == 2 + 9
    assert not (tmp_path / "killed" / "films" / "part-000000").exists()


def test_films_that_cannot_be_answered_are_one_row_each(tiny_checkpoint: Path, talk: Path, tmp_path: Path) -> None:
    empty = write_film(tmp_path / "empty.mp4", plain(12), rate=5)
    sound = write_sound(tmp_path / "sound.mp4")
    result = predict([empty, talk, sound], tmp_path / "out", tiny_checkpoint)
    assert (result["rows"], result["errors"]) == (11, 2)
    found = rows(tmp_path / "out")
    assert "No face was found" in found[0]["error"]
    assert "holds audio and no pictures" in found[-1]["error"]


def test_the_pixels_of_a_part_are_not_kept_until_its_end(
    talk: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recognise = recogniser(str(tiny_checkpoint), on_warning="ignore")
    made: list[weakref.ref[Any]] = []
    make = EmotionRecognitionPipeline._tensors

    def watched(self: Any, clip: Any) -> dict[str, Any]:
        tensors = make(self, clip)
        made.extend(weakref.ref(one) for one in tensors.values())
        return tensors

    monkeypatch.setattr(EmotionRecognitionPipeline, "_tensors", watched)
    most = 0
    for _ in recognise.film_parts(Video(talk), seconds=3.0, batch_size=4):
        gc.collect()
        most = max(most, sum(one() is not None for one in made))
    assert len(made) >= 40
    assert most <= 4
