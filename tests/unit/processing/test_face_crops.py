"""face_crops: which faces are looked at, most prominent first, and what is said where there is none."""

from typing import Any

import pytest
from PIL import Image

from meco_hub.errors import FaceNotFoundError
from meco_hub.processing.face_finder import Face, FaceFinder
from meco_hub.processing.face_preprocessor import FacePreprocessor
from meco_hub.processing.picture_processor import Picture, PictureProcessor, describe_box

PICTURE = Image.new("RGB", (64, 48))


class Preprocessor:
    """Finds what it is told to, and crops to the box without a margin."""

    on_no_face = "error"

    def __init__(self, *faces: Face, do_find_face: bool = False, on_no_face: str = "error") -> None:
        self.do_find_face, self.on_no_face, self.face_margin = do_find_face, on_no_face, 0.0
        self.face_finder: Any = self
        self.threshold = 0.6
        self._faces = list(faces)

    def find(self, image: Image.Image, **options: Any) -> list[Face]:
        assert image is PICTURE
        return self._faces

    def find_half(self, image: Image.Image) -> None:
        return None

    def cut_out(self, image: Image.Image, face: Face) -> tuple[Image.Image, Face]:
        return image.crop(tuple(int(edge) for edge in face.box)), face  # type: ignore[arg-type]


LARGE, SMALL = Face((10.04, 5.0, 40.0, 41.0), 0.9), Face((1.0, 2.0, 9.0, 12.0), 0.7)


WHOLE = Picture(PICTURE, "a.jpg")


def crops(*faces: Face, **options: Any) -> PictureProcessor:
    made = PictureProcessor(None)
    made._ours = made._processor = Preprocessor(*faces, **options)  # type: ignore[assignment]
    return made


@pytest.mark.parametrize(("kind", "count"), [("GIF", 3), ("PNG", 3), ("TIFF", 3), ("PNG", 1), ("MPO", 3)])
def test_of_a_picture_that_moves_the_first_frame_is_looked_at_and_that_is_said(kind, count, tmp_path) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "lime", "blue")][:count]
    frames[0].save(tmp_path / "file", kind, save_all=True, append_images=frames[1:])
    moves = count > 1 and kind != "MPO"  # whose other pictures are previews
    picture = PictureProcessor(None).read(tmp_path / "file")
    assert [one.code for one in picture.warnings] == ["first_of_several"] * moves
    assert not moves or "holds 3 frames" in picture.warnings[0].message


def test_a_cropped_picture_is_taken_as_it_is() -> None:
    assert crops(LARGE).cut(WHOLE, faces="cropped") == [WHOLE]
    assert crops().cut(WHOLE, faces="cropped") == [WHOLE]  # nobody looks for a face


def test_the_most_prominent_face_or_all_of_them() -> None:
    (crop,) = crops(LARGE, SMALL).cut(WHOLE, faces="largest")
    assert crop.face is LARGE
    assert crop.image.size == (30, 36)
    both = crops(LARGE, SMALL).cut(WHOLE, faces="all")
    assert [one.face for one in both] == [LARGE, SMALL]
    assert both[1].image.size == (8, 10)


@pytest.mark.parametrize("mode", ["largest", "all"])
def test_no_face_is_an_error_that_says_what_to_do(mode: str) -> None:
    with pytest.raises(FaceNotFoundError, match=r"in a\.jpg \(64×48 pixels\).*score 0\.6.*faces=\"cropped\""):
        crops().cut(WHOLE, faces=mode)


def test_the_preprocessor_says_what_is_meant_by_default() -> None:
    assert crops().default_mode == "auto"
    assert crops(do_find_face=True).default_mode == "largest"
    assert PictureProcessor(None).default_mode == "auto"


def test_boxes_are_told_by_name() -> None:
    assert describe_box(None) is None
    assert describe_box(LARGE) == {"xmin": 10.0, "ymin": 5.0, "xmax": 40.0, "ymax": 41.0}


def test_what_may_be_a_face_says_why_none_was_found() -> None:
    class Finder(FaceFinder):
        possible: Face | None = None
        half: Face | None = None
        turned: Face | None = None

        def find_half(self, picture: Image.Image) -> Face | None:
            return self.half

        def find_turned(self, *_: object) -> Face | None:
            return self.turned

        def find(self, *_: object, **__: object) -> list[Face]:
            return []

        def find_possible(self, picture: Image.Image) -> list[Face]:
            return [self.possible] if self.possible else []

    processor, finder = FacePreprocessor(), Finder()
    processor.face_finder = finder
    box = (10.0, 10.0, 50.0, 50.0)
    for possible, codes in (
        (None, []),
        (Face(box, 0.4, close_score=0.0), []),
        (Face(box, 0.4, yaw=0.1, turn=0.4, room=0.2, close_score=0.4), []),
        (Face(box, 0.4, yaw=0.6, turn=0.4, room=0.2, close_score=0.4), ["face_turned"]),
        (Face(box, 0.4, yaw=0.1, turn=0.4, room=-0.1, close_score=0.4), ["face_cut_off"]),
        (Face(box, 0.4, yaw=0.1, turn=0.68, room=0.2, close_score=0.4), []),
        (Face(box, 0.4, yaw=0.1, turn=0.7, room=0.2, close_score=0.4), ["face_turned"]),
        (Face(box, 0.4, yaw=0.1, turn=0.7, room=0.2, close_score=0.9), ["face_turned"]),
        (Face(box, 0.4, yaw=0.1, turn=0.9, room=0.2, close_score=0.92), []),  # a closer look is sure of it
        (Face(box, 0.4, yaw=0.1, turn=0.93, room=0.2, close_score=0.92), ["face_turned"]),
        (Face((10.0, 10.0, 20.0, 20.0), 0.4, yaw=0.6, turn=0.4, room=0.2, close_score=0.4), []),
    ):
        finder.possible = possible
        (picture,) = PictureProcessor(processor).cut(Picture(Image.new("RGB", (64, 64))))
        assert [one.code for one in picture.warnings] == ["no_face_found", *codes]
        assert picture.looked_at == "picture"
        assert all(
            f"Of what may be a face, with a score of {possible and possible.score:.2f}" in one.message
            for one in picture.warnings[1:]
        )
    finder.half = Face((-20.0, 10.0, 30.0, 50.0), 0.3)
    for middle, codes in (
        (10, ["face_cut_off"]),
        (50, ["face_cut_off", "face_turned"]),
    ):  # half a face may look like a profile
        finder.possible = Face(
            (middle - 13, 20.0, middle + 13, 46.0), 0.4, yaw=0.6, turn=0.4, room=0.2, close_score=0.4
        )
        (picture,) = PictureProcessor(processor).cut(Picture(Image.new("RGB", (64, 64))))
        assert [one.code for one in picture.warnings] == ["no_face_found", *codes]

    finder.half = None
    for side, possible, codes in (
        (40.0, None, ["face_turned"]),
        (20.0, None, []),  # too small to say
        (40.0, Face(box, 0.4, yaw=0.6, turn=0.4, room=0.2, close_score=0.4), ["face_turned"]),  # said once
    ):
        finder.turned, finder.possible = Face((10.0, 10.0, 25.0, 10.0 + side), 0.5, close_score=0.6), possible
        (picture,) = PictureProcessor(processor).cut(Picture(Image.new("RGB", (64, 64))))
        assert [one.code for one in picture.warnings] == ["no_face_found", *codes]
    finder.turned, finder.possible = Face((2.0, 10.0, 18.0, 40.0), 0.5, close_score=0.6), None
    finder.half = Face((-20.0, 10.0, 30.0, 50.0), 0.3)
    (picture,) = PictureProcessor(processor).cut(Picture(Image.new("RGB", (64, 64))))
    assert [one.code for one in picture.warnings] == ["no_face_found", "face_cut_off"]


@pytest.mark.parametrize(
    ("box", "close_score", "looks"),
    [((0, 10, 20, 40), 0.0, 1), ((0, 10, 20, 40), 0.8, 1), ((0, 10, 20, 40), 0.9, 0), ((20, 15, 40, 40), 0.0, 0)],
)
def test_a_half_is_looked_for_only_where_a_face_at_the_border_is_not_certain(box, close_score, looks) -> None:
    class Finder(FaceFinder):
        looked = 0

        def find(self, *_: object, **__: object) -> list[Face]:
            return [Face(box, 0.8, yaw=0.0, turn=0.4, room=0.2, close_score=close_score)]

        def find_half(self, picture: Image.Image) -> Face | None:
            self.looked += 1
            return Face((-20.0, 10.0, 20.0, 40.0), 0.6)

    processor, finder = FacePreprocessor(), Finder()
    processor.face_finder = finder
    (picture,) = PictureProcessor(processor).cut(Picture(Image.new("RGB", (640, 480))))
    assert finder.looked == looks
    said = ["face_cut_off"] if looks else ["face_turned"] * (close_score == 0)
    assert [one.code for one in picture.warnings if one.code not in ("face_small", "face_blurred")] == said
