"""What an answer for a picture rests on: which face was looked at, and what is in doubt; by the bundled checkpoint."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter

import meco_hub
from meco_hub.answer_warnings import DoubtfulInputWarning
from meco_hub.errors import ConfigurationError, DoubtfulInputError, FaceNotFoundError
from meco_hub.pipeline import EmotionRecognitionPipeline

pytest.importorskip("cv2", reason="the face finder needs the extra 'faces'")
CASES = Path(__file__).parents[3] / "shared" / "cases" / "faces"
needs_cases = pytest.mark.skipif(not CASES.is_dir(), reason="../shared/cases/faces is not here")


@pytest.fixture(scope="module")
def recognise() -> EmotionRecognitionPipeline:
    return meco_hub.recogniser()


@pytest.fixture(scope="module")
def portrait(hopper: Path) -> Image.Image:
    return Image.open(hopper).convert("RGB")


@pytest.fixture(scope="module")
def crop(portrait: Image.Image) -> Image.Image:
    """A face as a corpus of crops has it."""
    return portrait.crop((168, 120, 368, 338)).resize((112, 112), Image.Resampling.BILINEAR)


def top(recognise: Any, picture: Any, **options: Any) -> dict[str, Any]:
    return recognise(picture, top_k=1, on_warning="ignore", **options)[0]


def codes(entry: dict[str, Any]) -> list[str]:
    return [one["code"] for one in entry["warnings"]]


def centre(entry: dict[str, Any]) -> tuple[float, float]:
    box = entry["box"]
    return (box["xmin"] + box["xmax"]) / 2, (box["ymin"] + box["ymax"]) / 2


def test_the_face_of_a_photograph_is_found_without_being_asked_for(recognise, portrait) -> None:
    answer = top(recognise, portrait)
    assert (answer["label"], answer["looked_at"], codes(answer)) == ("neutral", "face", [])
    assert answer["score"] > 0.7
    assert answer["face_side"] == pytest.approx(215, abs=25)
    assert abs(answer["tilt"]) < 12
    assert answer["face_score"] > 0.9


@pytest.mark.parametrize("side", [64, 112, 400, 1080])
def test_a_crop_is_answered_as_it_is(recognise, crop, side: int) -> None:
    picture = crop.resize((side, side), Image.Resampling.BILINEAR)
    found, whole = (recognise(picture, faces=mode, on_warning="ignore") for mode in ("auto", "cropped"))
    assert [(one["label"], one["score"]) for one in found] == [(one["label"], one["score"]) for one in whole]
    assert found[0]["looked_at"] == "picture"
    assert found[0]["face_side"] == pytest.approx(side, rel=0.2)
    assert "no_face_found" not in codes(found[0])


@pytest.mark.parametrize("share", [0.15, 0.3, 0.5, 0.8])
def test_a_face_anywhere_in_a_photograph_is_what_is_looked_at(recognise, crop, share: float) -> None:
    generator = np.random.default_rng(round(100 * share))
    photo = Image.fromarray(generator.integers(90, 120, (480, 640, 3), np.uint8)).filter(ImageFilter.GaussianBlur(2))
    side = round(share * 480)
    x, y = generator.integers(0, 640 - side), generator.integers(0, 480 - side)
    photo.paste(crop.resize((side, side), Image.Resampling.BILINEAR), (int(x), int(y)))
    answer = top(recognise, photo)
    assert answer["looked_at"] == "face"
    assert answer["label"] == top(recognise, crop)["label"]
    assert centre(answer) == pytest.approx((x + side / 2, y + side / 2), abs=0.2 * side)


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_picture_on_its_side_or_head_is_turned_and_says_so(recognise, portrait, quarters: int) -> None:
    upright = top(recognise, portrait)
    answer = top(recognise, portrait.rotate(90 * quarters, expand=True))
    assert (answer["label"], codes(answer)) == (upright["label"], ["face_turned"])
    # turned counter-clockwise, it leans to the left
    assert (answer["tilt"] + 90 * quarters + 180) % 360 - 180 == pytest.approx(upright["tilt"], abs=8)


@pytest.mark.parametrize("degrees", [-30, 20, 30])
def test_a_leaning_face_is_turned_level(recognise, portrait, degrees: int) -> None:
    leaning = portrait.rotate(-degrees, Image.Resampling.BICUBIC, expand=True, fillcolor=(90, 90, 90))
    answer = top(recognise, leaning)
    assert answer["tilt"] == pytest.approx(degrees, abs=12)
    assert answer["label"] == "neutral"


def test_small_faces_of_a_large_picture_are_found_when_asked_for(recognise, portrait) -> None:
    photo = Image.new("RGB", (4000, 3000), (120, 130, 140))
    small = portrait.resize((102, 120), Image.Resampling.BOX)  # its face has 43 pixels
    photo.paste(small, (3000, 1000))
    assert codes(top(recognise, photo)) == ["no_face_found"]
    answer = top(recognise, photo, min_face=30)
    assert answer["looked_at"] == "face"
    assert centre(answer) == pytest.approx((3053, 1045), abs=15)
    with pytest.raises(ConfigurationError, match="min_face is 0; expected pixels"):
        recognise(photo, min_face=0)


def test_what_is_in_doubt_has_a_code(recognise, portrait, crop) -> None:
    wall = Image.new("RGB", (300, 200), (90, 100, 110))
    assert codes(top(recognise, wall)) == ["no_face_found"]
    both = Image.new("RGB", (1024, 600))
    both.paste(portrait, (0, 0))
    both.paste(portrait, (512, 0))
    assert codes(top(recognise, both)) == ["several_faces"]
    assert [codes(face) for face in recognise(both, faces="all", on_warning="ignore")] == [[], []]
    assert codes(top(recognise, crop.filter(ImageFilter.GaussianBlur(4)))) == ["face_blurred"]
    assert codes(top(recognise, 16 * np.asarray(crop.convert("L")).astype(np.uint16))) == ["value_range_doubtful"]
    small = top(recognise, crop.resize((16, 16), Image.Resampling.BOX))
    assert "face_small" in codes(small) or "no_face_found" in codes(small)


@pytest.mark.parametrize("side", ["left", "right", "below"])
def test_a_third_of_a_face_beyond_the_border_is_noticed_and_a_whole_one_at_it_is_not(recognise, portrait, side) -> None:
    box = top(recognise, portrait)["box"]
    x0, x1, y1 = (box[edge] for edge in ("xmin", "xmax", "ymax"))
    for beyond, expected in ((0.0, False), (0.35, True)):
        gone, whole = beyond * (x1 - x0), (0, 0, portrait.width, portrait.height)
        edges = {"left": (x0 + gone, *whole[1:]), "right": (0, 0, x1 - gone, whole[3])}
        edges["below"] = (0, 0, whole[2], y1 - gone)
        cut = portrait.crop(tuple(round(edge) for edge in edges[side]))
        assert ("face_cut_off" in codes(top(recognise, cut))) == expected, beyond


@pytest.mark.parametrize("side", ["left", "right", "below", "above"])
def test_a_face_that_is_half_out_of_the_picture_is_noticed(recognise, portrait, side: str) -> None:
    answer = top(recognise, portrait)
    (x, y), (width, height), reach = centre(answer), portrait.size, 0.6 * answer["face_side"]
    half = {
        "left": (x, 0, width, height),
        "right": (0, 0, x, height),
        "below": (0, 0, width, y),
        "above": (0, y, width, height),
    }[side]
    said = codes(top(recognise, portrait.crop(tuple(map(round, half)))))
    assert "face_cut_off" in said
    whole = (x - reach, y - reach, x + reach, y + reach)
    assert codes(top(recognise, portrait.crop(tuple(map(round, whole))))) == []


def test_a_face_that_is_turned_away_is_noticed_by_its_eyes_that_draw_together(recognise, portrait) -> None:
    """As if painted on a cylinder. A face from the front is not doubted, mirrored or not."""
    face = portrait.crop((168, 120, 368, 338))
    width = face.width
    angles = np.arcsin((np.arange(width) + 0.5) / width * 2 - 1)
    for degrees, found in ((0, []), (50, ["face_turned"]), (-50, ["face_turned"])):
        seen = angles - np.radians(degrees)
        columns = np.clip(((np.sin(seen) + 1) / 2 * width).astype(int), 0, width - 1)
        photo = Image.new("RGB", (640, 480), (110, 110, 110))
        photo.paste(Image.fromarray(np.asarray(face)[:, columns]), (200, 120))
        assert codes(top(recognise, photo)) == found, degrees
    assert codes(top(recognise, portrait.transpose(Image.Transpose.FLIP_LEFT_RIGHT))) == []


def test_warnings_are_shown_left_to_the_answer_or_raised(recognise) -> None:
    wall = Image.new("RGB", (300, 200), (90, 100, 110))
    with pytest.warns(DoubtfulInputWarning, match=r"\[no_face_found\]"):
        recognise(wall)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        recognise(wall, on_warning="ignore")
    with pytest.raises(DoubtfulInputError, match=r"\[no_face_found\]"):
        recognise(wall, on_warning="raise")
    (answer,) = recognise([wall], on_warning="raise", errors="return")
    assert "[no_face_found]" in answer["error"]


def test_settings_take_effect_after_the_first_call(portrait) -> None:
    recognise = meco_hub.recogniser()
    processor, wall = recognise.image_processor, Image.new("RGB", (300, 200), (90, 100, 110))
    assert top(recognise, portrait)["looked_at"] == "face"
    processor.detector_threshold = 0.99
    assert codes(top(recognise, portrait)) == ["no_face_found"]
    processor.detector_threshold = 0.7
    processor.on_no_face = "error"
    with pytest.raises(FaceNotFoundError, match="expected at least one"):
        recognise(wall)
    processor.on_no_face = "whole_image"
    processor.do_find_face = True
    assert codes(top(recognise, wall)) == ["no_face_found"]


@needs_cases
@pytest.mark.parametrize(
    ("name", "looked_at", "found"),
    [("portrait.jpg", "face", []), ("closeup_640.jpg", "picture", []), ("upside_down.jpg", "face", ["face_turned"])],
)
def test_cases(recognise, name: str, looked_at: str, found: list[str]) -> None:
    answer = top(recognise, CASES / name)
    assert (answer["looked_at"], codes(answer)) == (looked_at, found)
    if looked_at == "face":
        assert answer["label"] == "neutral"
    else:  # a serious face that some networks take for a smiling one: what this one says of all of the picture
        whole = top(recognise, CASES / name, faces="cropped")
        assert (answer["label"], answer["score"]) == (whole["label"], whole["score"])
    assert top(recognise, CASES / name, faces="largest")["face_score"] > 0.9
