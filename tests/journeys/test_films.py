"""Films of faces, end to end: people with an id each, what damaged files cost, live sources, one table for all kinds."""

import csv
import gc
import math
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image, ImageEnhance
from transformers import pipeline

from films import noise, place_portrait, plain, write_film, write_sound
from meco_hub.answer_warnings import DoubtfulInputWarning
from meco_hub.cli import main
from meco_hub.errors import (
    ConfigurationError,
    DependencyError,
    DoubtfulInputError,
    FaceNotFoundError,
    InputError,
    RecordingError,
)
from meco_hub.pipeline import EmotionRecognitionPipeline

ASTRONAUT = (140, 20, 310, 190)
HOPPER = (130, 80, 410, 360)


@pytest.fixture(scope="module")
def recognise(tiny_checkpoint: Path) -> EmotionRecognitionPipeline:
    return pipeline("emotion-recognition", model=str(tiny_checkpoint))


@pytest.fixture(scope="module")
def smile(astronaut: Path) -> Image.Image:
    return Image.open(astronaut).convert("RGB").crop(ASTRONAUT)


@pytest.fixture(scope="module")
def serious(hopper: Path) -> Image.Image:
    return Image.open(hopper).convert("RGB").crop(HOPPER)


@pytest.fixture(scope="module")
def talk(smile: Image.Image, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds of a face that moves, and after a cut another second of it."""
    frames = [place_portrait(smile, 120 + 4 * step, 120, 140, size=(320, 240)) for step in range(10)]
    bright = noise(1, 15, 20)[0].repeat(16, 0).repeat(16, 1)
    frames += [place_portrait(smile, 156, 120, 140, onto=bright) for _ in range(5)]
    return write_film(tmp_path_factory.mktemp("films") / "talk.mp4", frames, rate=5)


def test_a_film_is_answered_for_each_person_and_a_cut_makes_another(recognise, talk: Path) -> None:
    first, second = recognise(str(talk), batch_size=4)
    assert [(one["id"], one["start"], one["end"], one["frames"]) for one in (first, second)] == [
        (0, 0.0, 1.8, 10),
        (1, 2.0, 2.8, 5),
    ]
    for one in (first, second):
        assert len(one["boxes"]) == len(one["labels"]) == one["frames"]
        assert one["looked_at"] == "face"
        assert one["smoothing"] == {"seconds": 0.5, "label_margin": 0.1}
        for entry in one["expressions"]:
            assert len(entry["times"]) == len(entry["scores"]) == one["frames"]
        assert sum(entry["score"] for entry in one["expressions"]) == pytest.approx(1)
    middles = [(box[0] + box[2]) / 2 for box in first["boxes"]]
    assert middles[-1] - middles[0] == pytest.approx(36, abs=6)


def test_every_fps_and_smoothing_are_chosen(recognise, talk: Path) -> None:
    (sparse, _) = recognise(talk, every=1, smooth=0, label_margin=0)
    assert sparse["expressions"][0]["times"] == [0.0, 1.0]
    assert sparse["smoothing"] == {"seconds": 0, "label_margin": 0}
    (alike, _) = recognise(talk, fps=1, smooth=0)
    assert alike["boxes"] == sparse["boxes"]
    for options in ({"every": 0}, {"every": 1, "fps": 1}, {"smooth": -1}, {"label_margin": 2}):
        with pytest.raises(ConfigurationError, match="expected"):
            recognise(talk, **options)


def test_a_single_frame_is_answered_as_the_picture_is(recognise, talk: Path) -> None:
    from meco_hub.recordings.video import Video

    person = recognise(talk, every=60)[0]
    (face,) = recognise(Image.fromarray(next(iter(Video(talk))).image), faces="all")
    assert person["boxes"][0] == list(face["box"].values())
    for one, other in zip(person["expressions"], face["expressions"], strict=True):
        assert (one["label"], one["scores"][0]) == (other["label"], pytest.approx(other["score"], abs=1e-6))


def test_frames_that_are_not_searched_all_over_are_answered_alike(
    recognise, smile: Image.Image, serious: Image.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = []
    for step in range(30):
        frame = place_portrait(smile, 100 + 3 * step, 120, 130, size=(480, 270))
        frames.append(place_portrait(serious, 380, 150, 120, onto=frame) if step >= 11 else frame)
    film = write_film(tmp_path / "film.mp4", frames)
    quick = recognise(film)
    monkeypatch.setattr("meco_hub.processing.face_tracks.SEARCH_S", 0.0)
    whole = recognise(film)
    assert [one["frames"] for one in whole] == [30, 19]
    assert quick[0]["frames"] == 30
    assert (
        15 <= quick[1]["frames"] <= 19
    )  # a fifth of a second after the last search, or as soon as the smallest scale shows it
    for one, other in zip(quick, whole, strict=True):
        begin = other["frames"] - one["frames"]
        apart = np.abs(np.subtract(one["boxes"], other["boxes"][begin:])).max(axis=1)
        assert apart.max() < 0.05 * other["face_side"]
        for mine, its in zip(one["expressions"], other["expressions"], strict=True):
            assert (mine["label"], mine["score"]) == (its["label"], pytest.approx(its["score"], abs=0.02))


def test_films_and_pictures_stand_in_one_list_and_a_bad_film_costs_the_others_nothing(
    recognise, talk: Path, astronaut: Path, tmp_path: Path
) -> None:
    empty = write_film(tmp_path / "empty.mp4", plain(5))
    sound = write_sound(tmp_path / "sound.mp4")
    inputs = [str(talk), str(astronaut), str(empty), str(sound), str(talk)]
    answers = recognise(inputs, errors="return", batch_size=3, every=1)
    assert "No face was found in" in answers[2]["error"]
    assert "holds audio and no pictures" in answers[3]["error"]
    assert "box" in answers[1][0]
    assert [one["id"] for one in answers[0]] == [one["id"] for one in answers[4]] == [0, 1]
    with pytest.raises(FaceNotFoundError, match='faces="cropped"'):
        recognise(empty)
    with pytest.raises(RecordingError, match="input 1 of the list"):
        recognise([talk, sound], every=1)
    (whole,) = recognise(empty, faces="cropped")
    assert (whole["id"], whole["frames"], whole["looked_at"], "boxes" in whole) == (0, 5, "picture", False)


@pytest.mark.parametrize("quarters", [1, 2])
def test_a_film_that_does_not_stand_upright_says_so(recognise, smile, quarters: int, tmp_path: Path) -> None:
    frames = [np.rot90(place_portrait(smile, 120 + 4 * step, 120, 140, size=(320, 240)), quarters) for step in range(4)]
    film = write_film(tmp_path / "film.mp4", frames, rate=5)
    with pytest.warns(DoubtfulInputWarning, match=f"turned by about {(4 - quarters) * 90} degrees clockwise"):
        answer = recognise(film)
    assert all("face_turned" in {one["code"] for one in person["warnings"]} for person in answer)
    upright = write_film(tmp_path / "upright.mp4", [np.rot90(one, -quarters) for one in frames], rate=5)
    assert recognise(upright, on_warning="raise")


def test_pyav_is_for_films_alone(recognise, talk: Path, astronaut: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from meco_hub.demo import build_page
    from meco_hub.recordings.pictures import read_video

    monkeypatch.setitem(sys.modules, "av", None)
    assert recognise(astronaut)[0]["label"]
    assert len(read_video(talk)) == 15  # frames of an eye, which OpenCV reads
    assert build_page()
    with pytest.raises(DependencyError, match=r"Reading films needs PyAV.*meco-hub\[video\]"):
        recognise(talk)


def test_where_nobody_is_found_the_error_says_what_is_wrong_with_the_file(recognise, tmp_path: Path) -> None:
    path = write_film(tmp_path / "film.avi", noise(60, 120, 160))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(FaceNotFoundError, match=r"No face was found .* frames cannot be decoded"):
        recognise(path, every=0.5)


def test_what_is_in_doubt_about_a_film_is_told_once_with_how_often(recognise, smile, tmp_path: Path) -> None:
    small = [place_portrait(smile, 60, 60, 34, size=(160, 120)) for _ in range(60)]
    path = write_film(tmp_path / "film.mkv", [*small, *noise(60, 120, 160)])
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.warns(DoubtfulInputWarning) as seen:
        (person,) = recognise(path, every=0.2)
    assert len(seen) == 1
    codes = {one["code"]: one["message"] for one in person["warnings"]}
    assert "breaks off" in codes["damaged_file"]
    assert f"of {person['frames']} frames" in codes["face_small"]
    with pytest.raises(DoubtfulInputError):
        recognise(path, every=0.2, on_warning="raise")


def test_a_stream_of_frames_answers_as_the_film_does(recognise, talk: Path) -> None:
    from meco_hub.recordings.video import Video

    whole = recognise(talk)
    frames = [(frame.image, frame.time) for frame in Video(talk)]
    for source in (talk, iter(frames), Video(talk)):
        answers = list(recognise.stream(source))
        assert len(answers) == 15
        faces = [face for answer in answers for face in answer]
        assert [face["id"] for face in faces] == [0] * 10 + [1] * 5
        assert [face["time"] for face in faces[:10]] == pytest.approx(whole[0]["expressions"][0]["times"])
        assert [face["label"] for face in faces[:10]] == whole[0]["labels"]
        assert {face["dropped"] for face in faces} == {0}
        scores = {entry["label"]: entry["score"] for entry in faces[9]["expressions"]}
        for entry in whole[0]["expressions"]:
            assert scores[entry["label"]] == pytest.approx(entry["scores"][-1], abs=1e-6)


def test_a_live_source_waits_for_nobody_and_what_is_dropped_is_counted(recognise, smile: Image.Image) -> None:
    picture = place_portrait(smile, 120, 120, 140, size=(320, 240))
    turn = threading.Semaphore(0)
    given = []

    def camera() -> Iterator[tuple[Any, float]]:
        for step in range(40):
            if step % 10 == 0:
                turn.acquire()
            given.append(step)
            yield picture, step / 10

    answers = recognise.stream(camera(), live=True, on_warning="ignore")
    turn.release()
    seen = [next(answers)[0]]
    for _ in range(3):
        while len(given) % 10:  # the camera goes on meanwhile
            time.sleep(0.005)
        turn.release()
    seen += [answer[0] for answer in answers]
    assert given == list(range(40))
    assert seen[-1]["time"] == pytest.approx(3.9)  # the newest, not the next
    assert seen[-1]["dropped"] == 40 - len(seen)
    assert {face["id"] for face in seen} == {0}


def test_a_live_source_that_fails_says_so(recognise) -> None:
    def camera() -> Iterator[Any]:
        yield noise(1)[0], 0.0
        raise RecordingError("unplugged")

    with pytest.raises(RecordingError, match="unplugged"):
        list(recognise.stream(camera(), live=True))
    for source in (
        [None, (noise(1)[0], 1.0)],
        [(noise(1)[0], math.nan)],
        [(noise(1)[0], 1.0), *[None] * 64],
        [],
        3.5,
        -3,
        2**40,
    ):
        with pytest.raises(InputError, match=r"[Ee]xpected"):
            list(recognise.stream(source))
    with pytest.raises(ConfigurationError, match="reference"):
        recognise.stream([], reference={})


@pytest.mark.parametrize(
    "bad",
    [
        None,
        (None, 0.15),
        (np.zeros((1, 1, 3), np.uint8), 0.15),
        (np.full((64, 64, 3), np.nan), 0.15),
        *[(noise(1)[0], when) for when in (0.1, 0.0, math.nan, "soon", None)],
        (noise(1)[0], 0.15, 1),
        "nobody.jpg",
    ],
    ids=lambda one: type(one).__name__,
)
@pytest.mark.parametrize("fps", [None, 4.0])
def test_a_frame_that_cannot_be_used_is_named_and_costs_no_other(
    recognise, smile: Image.Image, bad: Any, fps: float | None
) -> None:
    good = [(place_portrait(smile, 120, 120, 140, size=(320, 240)), step / 10) for step in range(6)]
    rest = list(recognise.stream(good, fps=fps, on_warning="ignore"))
    answers = list(recognise.stream([*good[:2], bad, *good[2:]], fps=fps, on_warning="ignore"))
    assert [face["time"] for (face,) in answers] == [face["time"] for (face,) in rest]
    codes = [[one["code"] for one in face["warnings"]] for (face,) in answers]
    assert (
        [found.count("frames_left_out") for found in codes] == [0, 1, *[0] * (len(rest) - 2)]
        if fps
        else [0, 0, 1, 0, 0, 0]
    )
    with pytest.raises(DoubtfulInputError, match="Left out: "):
        list(recognise.stream([*good[:2], bad, *good[2:]], fps=fps, on_warning="raise"))


def test_how_a_film_ends_is_said_at_the_end_of_its_stream(recognise, smile: Image.Image, tmp_path: Path) -> None:
    background = noise(30, 240, 320)
    frames = [place_portrait(smile, 120 + step, 120, 140, onto=one) for step, one in enumerate(background)]
    film = write_film(tmp_path / "film.mkv", frames, rate=5)
    film.write_bytes(film.read_bytes()[: film.stat().st_size * 6 // 10])
    answers = recognise.stream(film)
    with pytest.warns(DoubtfulInputWarning, match="breaks off"):
        found = list(answers)
    assert 1 < len(found) < 30


def test_the_command_writes_a_table_and_a_plot(
    tiny_checkpoint: Path, talk: Path, astronaut: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, picture = tmp_path / "table.csv", tmp_path / "plot.png"
    words = ["predict", str(talk), str(astronaut), "missing.jpg", "--model", str(tiny_checkpoint), "--faces", "all"]
    assert main([*words, "--fps", "1", "--csv", str(table), "--plot", str(picture), "--smooth", "1"]) == 1
    printed = capsys.readouterr()
    assert "person 0, 0.0 to 1.0 s: " in printed.out
    assert f"Wrote {table}" in printed.err
    rows = list(csv.DictReader(table.open(encoding="utf-8", newline="")))
    films = [row for row in rows if row["file"] == str(talk)]
    assert [(row["person"], row["time"]) for row in films[::7]] == [("0", "0.0"), ("0", "1.0"), ("1", "2.0")]
    assert len(films) == 21
    for step in range(3):
        labels = [row for row in films[7 * step : 7 * step + 7] if row["is_label"] == "True"]
        assert len(labels) == 1
        assert sum(float(row["score"]) for row in films[7 * step : 7 * step + 7]) == pytest.approx(1, abs=1e-4)
    picture_rows = [row for row in rows if row["file"] == str(astronaut)]
    assert {row["time"] for row in picture_rows} == {""}
    assert float(picture_rows[0]["xmin"]) < 200 < float(picture_rows[0]["xmax"])
    assert "There is no file missing.jpg" in rows[-1]["error"]
    assert Image.open(picture).size[1] > 300  # two persons
    kept = tmp_path / "kept.csv"  # what was answered is, whatever becomes of the plot
    words = ["predict", str(astronaut), "--model", str(tiny_checkpoint)]
    assert main([*words, "--csv", str(kept), "--plot", str(tmp_path / "p.png")]) == 1
    assert f"{astronaut}: " in capsys.readouterr().out
    assert len(kept.read_text(encoding="utf-8").splitlines()) == 8
    assert main([*words, "--plot", str(tmp_path / "p.png")]) == 1
    assert main(["predict", str(astronaut), "--model", str(tiny_checkpoint), "--fps", "1"]) == 1
    assert main(["predict", str(talk), "--model", str(tiny_checkpoint), "--annotate", str(tmp_path)]) == 1
    errors = capsys.readouterr().err
    assert "0 files and persons run over time" in errors
    assert "no input is a film" in errors
    assert "--annotate was passed with a film" in errors


def test_the_data_set_holds_films_and_goes_on(
    tiny_checkpoint: Path, talk: Path, astronaut: Path, tmp_path: Path
) -> None:
    from pyarrow import parquet

    words = ["predict", str(talk), str(astronaut), "--model", str(tiny_checkpoint), "--output", str(tmp_path / "out")]
    assert main([*words, "--fps", "1", "--part_size", "1"]) == 0
    rows = parquet.read_table(tmp_path / "out" / "answers.parquet").to_pylist()
    assert [row["face"] for row in rows] == [0, 1, 0]
    assert rows[0]["times"] == [0.0, 1.0]
    assert [len(rows[0][key]) for key in ("boxes", "labels", "course_anger")] == [2, 2, 2]
    assert rows[2]["labels"] is None
    assert main([*words, "--fps", "1", "--part_size", "1"]) == 0
    assert main([*words, "--fps", "2", "--part_size", "1"]) == 1


def test_answers_of_all_kinds_are_frames_of_one_form(recognise, talk: Path, astronaut: Path) -> None:
    import meco_hub

    film = recognise(talk, every=1)
    frame = meco_hub.to_frame(film)
    assert list(frame.columns[:6]) == ["file", "person", "time", "label", "score", "is_label"]
    lines = frame[frame.person == 0].pivot(index="time", columns="label", values="score")
    assert lines.shape == (2, 7)
    assert lines.sum(axis=1).tolist() == pytest.approx([1, 1])
    both = meco_hub.to_frame({"film": film, "face": recognise(astronaut), "bad": {"error": "no file"}})
    assert both.groupby("file").size().to_dict() == {"bad": 1, "face": 7, "film": 21}
    live = meco_hub.to_frame(next(recognise.stream(talk)))
    assert live.time.tolist() == [0.0] * 7
    assert live.is_label.sum() == 1
    stream = meco_hub.to_frame(recognise.stream(talk, every=1))
    assert stream.time.unique().tolist() == [0.0, 1.0, 2.0]
    several = meco_hub.to_frame(recognise([astronaut, talk, "no.jpg"], every=1, errors="return"))
    assert several.groupby("file").size().to_dict() == {"0": 7, "1": 21, "2": 1}
    signals = [{"label": "valence", "score": 6.0, "times": [1.0, 2.0], "scores": [5.0, None], "warnings": []}]
    assert meco_hub.to_frame(signals).score.isna().tolist() == [False, True]
    clip = [{"label": "anger", "score": 0.9, "start": 1.0, "end": 3.0, "warnings": []}]
    assert meco_hub.to_frame(clip).time.tolist() == [2.0]


@pytest.mark.slow
def test_a_face_that_moves_and_is_lit_keeps_its_id_and_label(smile: Image.Image, tmp_path: Path) -> None:
    import meco_hub

    def frames() -> Iterator[Any]:
        for step in range(100):
            at = step / 10
            lit = ImageEnhance.Brightness(smile).enhance(1 + 0.4 * math.sin(1.3 * at))
            x, y = 240 + 90 * math.sin(0.9 * at), 180 + 50 * math.sin(1.7 * at)
            yield place_portrait(lit, x, y, 150 * (1 + 0.4 * math.sin(1.1 * at)))

    (person,) = meco_hub.recogniser()(write_film(tmp_path / "film.mp4", frames(), rate=10), batch_size=8)
    assert person["frames"] >= 98
    assert Counter(person["labels"])["happiness"] >= 98


@pytest.mark.slow
def test_two_people_who_cross_keep_their_ids(recognise, smile, serious, tmp_path: Path) -> None:
    def frames() -> Iterator[Any]:
        for step in range(60):
            behind = place_portrait(serious, 380 - 280 * step / 59, 200, 120)
            yield place_portrait(smile, 100 + 280 * step / 59, 170, 120, onto=behind)

    people = recognise(write_film(tmp_path / "film.mp4", frames(), rate=10), batch_size=8)
    assert len(people) == 2
    ways = sorted(one["boxes"][-1][0] - one["boxes"][0][0] for one in people)
    assert ways[0] < -200
    assert ways[1] > 200


@pytest.mark.slow
def test_a_long_film_takes_the_memory_of_a_short_one(recognise, smile: Image.Image, tmp_path: Path) -> None:
    shown = [place_portrait(smile, 150 + 20 * math.sin(step / 10), 120, 140, size=(320, 240)) for step in range(63)]
    film = write_film(tmp_path / "film.mp4", (shown[step % 63] for step in range(3000)), rate=25)  # 700 MB decoded
    process, held = psutil.Process(), []
    for count, _ in enumerate(recognise.stream(film, fps=5, on_warning="ignore")):
        if count % 100 == 99:
            gc.collect()
            held.append(process.memory_info().rss / 2**20)
    assert len(held) == 6
    assert held[-1] - held[0] < 30, f"{held} MiB"
