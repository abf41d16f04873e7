"""Annotated pictures: what is drawn where, for each form of answer."""

import numpy as np
from PIL import Image

from meco_hub.prediction import annotate_image

BOX = {"xmin": 20.0, "ymin": 10.0, "xmax": 60.0, "ymax": 50.0}
SCORES = [{"label": "happiness", "score": 0.9}, {"label": "neutral", "score": 0.1}]


def _changed(image: Image.Image, answer: list) -> np.ndarray:
    drawn = annotate_image(image, answer)
    assert drawn.mode == "RGB"
    assert drawn.size == image.size
    return np.any(np.asarray(drawn) != np.asarray(image.convert("RGB")), axis=-1)


def test_the_box_is_drawn_where_the_face_is() -> None:
    changed = _changed(Image.new("L", (200, 160), 128), [{**entry, "box": BOX} for entry in SCORES])
    assert changed[10, 20:61].all()
    assert changed[10:51, 20].all()
    assert not changed[:9].any()
    assert not changed[12:45, 25:55].any()


def test_every_face_gets_its_own_box() -> None:
    other = {"xmin": 120.0, "ymin": 10.0, "xmax": 160.0, "ymax": 50.0}
    answer = [{"box": BOX, "expressions": SCORES}, {"box": other, "expressions": SCORES}]
    changed = _changed(Image.new("RGB", (200, 160)), answer)
    assert changed[10, 20:61].all()
    assert changed[10, 120:161].all()


def test_a_cropped_face_gets_text_only_and_text_stays_inside() -> None:
    assert _changed(Image.new("RGB", (112, 112), (9, 9, 9)), SCORES)[:40].any()
    low = [{**entry, "box": {**BOX, "ymax": 158.0}} for entry in SCORES]
    assert _changed(Image.new("RGB", (200, 160), (9, 9, 9)), low)[120:150].any()


def test_the_original_is_left_alone() -> None:
    image = Image.new("RGB", (64, 64))
    annotate_image(image, SCORES)
    assert not np.asarray(image).any()
