"""Tests of the face augmentation: same size, same seed same picture, each change within its range."""

from dataclasses import fields

import numpy as np
import pytest
from PIL import Image

from meco_hub.errors import ConfigurationError, InputError
from meco_hub.processing.face_preprocessor import FaceAugmentation

OFF: dict[str, float] = {one.name: 0 for one in fields(FaceAugmentation)}


def smooth_picture(width: int = 112, height: int = 112) -> Image.Image:
    """Grey in the middle range, brighter to the right and darker to the bottom, with a bright disc left of the centre."""
    y, x = np.mgrid[0:height, 0:width]
    grey = 90 + 60 * x / width - 30 * y / height
    grey = grey + 70 * np.exp(-(((x - 0.35 * width) ** 2 + (y - 0.4 * height) ** 2) / (0.08 * width) ** 2))
    return Image.fromarray(np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2))


def values(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(float)


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("size", [(112, 112), (48, 64), (1, 1)])
def test_size_and_mode_stay(mode: str, size: tuple[int, int]) -> None:
    image = smooth_picture(*size).convert(mode)
    result = FaceAugmentation(erase=1, blur=1)(image, np.random.default_rng(0))
    assert result.size == size
    assert result.mode == mode


def test_the_picture_given_is_left_alone() -> None:
    image = smooth_picture()
    before = values(image)
    for options in ({}, {**OFF, "erase": 1, "erase_side": 1}):
        FaceAugmentation(**options)(image, np.random.default_rng(1))
        np.testing.assert_array_equal(values(image), before)


def test_all_off_changes_nothing() -> None:
    image = smooth_picture()
    np.testing.assert_array_equal(values(FaceAugmentation(**OFF)(image, np.random.default_rng(3))), values(image))


def test_same_seed_same_picture_and_another_seed_another() -> None:
    image, augmentation = smooth_picture(), FaceAugmentation()
    first, again, other = (values(augmentation(image, np.random.default_rng(seed))) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).mean() > 1


def test_as_many_numbers_are_drawn_whatever_is_switched_on() -> None:
    after = []
    for options in ({}, OFF, {"erase": 1, "blur": 1}):
        generator = np.random.default_rng(8)
        FaceAugmentation(**options)(smooth_picture(), generator)
        after.append(generator.random())
    assert len(set(after)) == 1


def test_mirror_alone_is_a_mirror() -> None:
    image = smooth_picture()
    result = FaceAugmentation(**{**OFF, "mirror": 1})(image, np.random.default_rng(0))
    np.testing.assert_array_equal(values(result), values(image)[:, ::-1])


def test_mirror_within_the_affine_map_is_the_same_mirror() -> None:
    image = smooth_picture()
    result = FaceAugmentation(**{**OFF, "mirror": 1, "rotation": 1e-6})(image, np.random.default_rng(0))
    assert np.abs(values(result) - values(image)[:, ::-1]).max() <= 1


@pytest.mark.parametrize(("option", "amount"), [("rotation", 10), ("zoom", 0.2), ("stretch", 0.2), ("shift", 0.1)])
def test_geometry_moves_the_disc_no_further_than_it_may(option: str, amount: float) -> None:
    image = smooth_picture()
    start = np.array([0.35, 0.40]) * 112
    from_centre = np.linalg.norm(start - 56)
    bound = {
        "rotation": from_centre * np.radians(10),
        "zoom": from_centre * (np.exp(0.2) - 1),
        "stretch": from_centre * (np.exp(0.1) - 1),
        "shift": np.sqrt(2) * 11.2,
    }[option]
    moves = []
    for seed in range(12):
        result = values(FaceAugmentation(**{**OFF, option: amount})(image, np.random.default_rng(seed)))[..., 0]
        row, column = np.unravel_index(result.argmax(), result.shape)
        moves.append(np.linalg.norm(np.array([column, row]) - start))
    assert max(moves) <= bound + 2
    assert max(moves) > 0.4 * bound


def test_nothing_foreign_comes_in_from_outside() -> None:
    image = Image.new("RGB", (112, 112), (200, 200, 200))
    options = {**OFF, "rotation": 15, "zoom": 0.15, "shift": 0.1, "stretch": 0.06}
    for seed in range(20):
        assert (values(FaceAugmentation(**options)(image, np.random.default_rng(seed))) == 200).all()


@pytest.mark.parametrize(
    ("option", "amount", "bound"), [("brightness", 0.1, 26), ("contrast", 0.5, 64), ("gamma", 0.3, 30)]
)
def test_grey_values_change_within_their_range_and_keep_their_order(option: str, amount: float, bound: float) -> None:
    ramp = Image.fromarray(np.tile(np.arange(256, dtype=np.uint8), (4, 1)))
    changes = []
    for seed in range(12):
        result = values(FaceAugmentation(**{**OFF, option: amount})(ramp, np.random.default_rng(seed)))
        assert (np.diff(result[0]) >= 0).all()
        changes.append(np.abs(result - values(ramp)).max())
    assert max(changes) <= bound
    assert max(changes) > bound / 4


def test_blur_takes_edges_away() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (112, 112), dtype=np.uint8))
    result = FaceAugmentation(**{**OFF, "blur": 1, "blur_radius": 2})(noise, np.random.default_rng(1))
    assert values(result).std() < 0.8 * values(noise).std()


def test_erase_covers_one_rectangle_of_one_grey() -> None:
    image = smooth_picture()
    sides = []
    for seed in range(10):
        result = FaceAugmentation(**{**OFF, "erase": 1, "erase_side": 0.3})(image, np.random.default_rng(seed))
        rows, columns = np.nonzero((values(result) != values(image)).any(axis=2))
        patch = values(result)[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        sides += [*patch.shape[:2]]
        # a pixel that had the patch's grey already is no part of the difference, so ask for nearly all
        assert (patch == np.median(patch)).mean() > 0.98
    assert max(sides) <= round(0.3 * 112)
    assert min(sides) >= round(0.1 * 112) - 1


@pytest.mark.parametrize(
    "options", [{"mirror": 1.5}, {"rotation": -1}, {"shift": 0.6}, {"blur": "often"}, {"zoom": True}]
)
def test_values_outside_their_range_are_refused(options: dict) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        FaceAugmentation(**options)


def test_other_modes_are_refused() -> None:
    with pytest.raises(InputError, match="RGBA"):
        FaceAugmentation()(Image.new("RGBA", (8, 8)), np.random.default_rng(0))


def test_noise_has_its_spread_and_is_the_same_on_all_channels() -> None:
    flat = Image.new("RGB", (112, 112), (128, 128, 128))
    spreads = []
    for seed in range(40):
        changed = (
            values(FaceAugmentation(**{**OFF, "noise": 1, "noise_sigma": 20})(flat, np.random.default_rng(seed))) - 128
        )
        assert np.ptp(changed, axis=2).max() == 0
        spreads.append(changed.std())
    assert 0 <= min(spreads) < 4
    assert 16 < max(spreads) < 21


def test_a_coarse_picture_keeps_its_mean_and_loses_its_detail() -> None:
    stripes = Image.fromarray(np.tile(np.array([60, 180], np.uint8), (96, 48)))
    coarse = FaceAugmentation(**{**OFF, "coarse": 1, "coarse_side": 0.25})
    results = [values(coarse(stripes, np.random.default_rng(seed))) for seed in range(8)]
    assert all(abs(one.mean() - 120) < 3 for one in results)
    assert min(one.std() for one in results) < 20


def test_jpeg_is_worse_with_chance_and_off_at_0() -> None:
    image = smooth_picture()
    jpeg = FaceAugmentation(**{**OFF, "jpeg": 1, "jpeg_quality": 1})
    away = [np.abs(values(jpeg(image, np.random.default_rng(seed))) - values(image)).mean() for seed in range(30)]
    assert min(away) < 1.5 < max(away)
    with pytest.raises(ConfigurationError, match="jpeg_quality 0"):
        FaceAugmentation(**{**OFF, "jpeg": 1})
