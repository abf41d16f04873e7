"""Pictures of eyes to tensors: as torchvision would, and saved as it was."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from meco_hub.errors import ConfigurationError, ImageError, InputError
from meco_hub.processing.eye_preprocessor import EyePreprocessor

RANDOM = np.random.default_rng(0)


def picture(width: int, height: int, mode: str = "L") -> Image.Image:
    shape = (height, width) if mode == "L" else (height, width, 3)
    return Image.fromarray(RANDOM.integers(0, 256, shape, dtype=np.uint8))


@pytest.mark.parametrize("size", [(180, 180), (64, 64), (100, 100), (346, 260), (101, 150), (73, 40)])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_pixels_are_those_of_torchvision(size: tuple[int, int], mode: str) -> None:
    transforms = pytest.importorskip("torchvision.transforms", reason="torchvision is the reference")
    image = picture(*size, mode)
    steps = [
        transforms.Resize(100),
        transforms.CenterCrop(100),
        transforms.ToTensor(),
        transforms.Normalize([0.3, 0.4, 0.5], [0.2, 0.3, 0.4]),
    ]
    processor = EyePreprocessor(image_mean=[0.3, 0.4, 0.5], image_std=[0.2, 0.3, 0.4], do_grayscale=False)
    ours = processor(image, return_tensors="pt")["pixel_values"][0]
    expected = transforms.Compose(steps)(image.convert("RGB"))
    np.testing.assert_allclose(ours.numpy(), expected.numpy(), atol=2e-6)


def test_grey_is_repeated_and_what_is_grey_already_is_unchanged() -> None:
    grey = picture(120, 100)
    processor = EyePreprocessor(do_normalize=False)
    ours = processor([grey, grey.convert("RGB")], return_tensors="np")["pixel_values"]
    assert ours.shape == (2, 3, 100, 100)
    assert ours.dtype == np.float32
    np.testing.assert_array_equal(ours[0], ours[1])
    np.testing.assert_array_equal(ours[0, 0], ours[0, 2])
    np.testing.assert_allclose(ours[0, 0] * 255, np.asarray(grey)[:, 10:110], atol=1e-4)


def test_fields_are_saved_and_read_again(tmp_path: Path) -> None:
    processor = EyePreprocessor(size={"shortest_edge": 48}, image_mean=0.25, image_std=[1, 2, 3])
    processor.save_pretrained(tmp_path)
    again = EyePreprocessor.from_pretrained(tmp_path)
    assert again.to_dict() == processor.to_dict()
    image = picture(60, 50)
    both = [one(image, return_tensors="np")["pixel_values"] for one in (processor, again)]
    np.testing.assert_array_equal(*both)
    assert both[0].shape == (1, 3, 48, 48)
    assert EyePreprocessor(size=48).size.shortest_edge == 48


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"size": {"height": 3, "width": 3}}, "shortest_edge"),
        ({"image_std": 0}, "positive"),
        ({"image_mean": [1, 2]}, "one number or three"),
        ({"do_greyscale": True}, "Did you mean 'do_grayscale'"),
        ({"rescale_factor": None, "do_rescale": "yes"}, "wrong value"),
    ],
)
def test_fields_that_make_no_sense_are_refused(fields: dict, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        EyePreprocessor(**fields)


def test_what_cannot_be_read_is_an_error_of_ours(tmp_path: Path) -> None:
    processor = EyePreprocessor()
    (tmp_path / "no.jpg").write_bytes(b"no picture")
    with pytest.raises(ImageError, match=r"no\.jpg"):
        processor([tmp_path / "no.jpg"], return_tensors="np")
    with pytest.raises(InputError, match="empty list"):
        processor([], return_tensors="np")
    with pytest.raises(ConfigurationError, match="do_pad"):
        processor(picture(20, 20), do_pad=True, return_tensors="np")
