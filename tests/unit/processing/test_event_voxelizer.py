"""The event voxelizer: shapes, windows, sensors, pictures as SEE has them, and saving."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from meco_hub.errors import ConfigurationError, InputError, RecordingError
from meco_hub.processing.event_voxelizer import MAX_WINDOWS, REPRESENTATIONS, EventVoxelizer
from meco_hub.recordings.event_recording import EventRecording

HEIGHT, WIDTH = 26, 34


def make(number: int = 2000, span_us: int = 100_000, seed: int = 0, **changes) -> EventRecording:
    rng = np.random.default_rng(seed)
    columns = {
        "x": rng.integers(0, WIDTH, number),
        "y": rng.integers(0, HEIGHT, number),
        "t": np.sort(rng.integers(0, span_us, number)),
        "p": rng.integers(0, 2, number),
        **changes,
    }
    return EventRecording.from_arrays(**columns, width=WIDTH, height=HEIGHT, name="clip")


def test_shapes() -> None:
    recording = make()
    shapes = {name: EventVoxelizer(name)(recording)["event_values"].shape for name in REPRESENTATIONS}
    assert shapes == {
        "voxel_grid": (1, 5, HEIGHT, WIDTH),
        "polarity_counts": (1, 2, HEIGHT, WIDTH),
        "time_surface": (1, 2, HEIGHT, WIDTH),
        "event_frame": (1, 4, HEIGHT, WIDTH),  # 100 ms in windows of 33 ms
    }
    batch = EventVoxelizer(bins=3)([recording, make(seed=1)], return_tensors="pt")
    assert tuple(batch["event_values"].shape) == (2, 3, HEIGHT, WIDTH)
    assert str(batch["event_values"].dtype) == "torch.float32"
    assert batch["dropped_events"].tolist() == [0, 0]


def test_every_form_of_events_gives_the_same(tmp_path: Path) -> None:
    recording = make()
    x, y, t, p = recording.x, recording.y, recording.t, recording.p
    voxelizer = EventVoxelizer(sensor_size={"height": HEIGHT, "width": WIDTH})
    expected = voxelizer(recording)["event_values"]
    np.savez(tmp_path / "clip.npz", x=x, y=y, t=t, p=p)
    signed = 2 * p.astype(np.int8) - 1
    for source in (
        {"x": x, "y": y, "t": t, "p": signed},
        np.rec.fromarrays([x, y, t, p], names="x,y,t,p"),
        np.stack([x, y, t, signed], axis=1),
        tmp_path / "clip.npz",
        str(tmp_path / "clip.npz"),
    ):
        np.testing.assert_array_equal(voxelizer(source)["event_values"], expected)


def test_unsorted_time_changes_nothing() -> None:
    recording = make()
    order = np.random.default_rng(1).permutation(len(recording))
    columns = {column: getattr(recording, column)[order] for column in "xytp"}
    mixed = EventRecording.from_arrays(**columns, width=WIDTH, height=HEIGHT)
    for name in ("voxel_grid", "polarity_counts", "event_frame"):
        voxelizer = EventVoxelizer(name)
        np.testing.assert_array_equal(voxelizer(mixed)["event_values"], voxelizer(recording)["event_values"])


def test_windows_by_time_by_number_and_by_hand() -> None:
    recording = make()
    by_time = EventVoxelizer("polarity_counts", window_us=30_000)(recording)
    assert by_time["event_values"].shape == (1, 4, 2, HEIGHT, WIDTH)
    assert by_time["event_values"].sum() == len(recording)
    first = recording.between(int(recording.t[0]), int(recording.t[0]) + 30_000)
    assert by_time["event_values"][0, 0].sum() == len(first)
    by_number = EventVoxelizer("polarity_counts", window_events=600)(recording)
    assert by_number["event_values"].sum(axis=(0, 2, 3, 4)).tolist() == [600, 600, 600, 200]
    windows = np.array([[0, 10_000], [50_000, 60_000], [200_000, 210_000]])
    by_hand = EventVoxelizer("polarity_counts")(recording, windows=windows)
    assert by_hand["event_values"].sum(axis=(0, 2, 3, 4)).tolist() == [
        *(len(recording.between(*pair)) for pair in windows[:2].tolist()),
        0,
    ]
    both = EventVoxelizer("event_frame")([recording, recording], windows=[windows, windows[:1]])
    assert both["event_values"].shape == (2, 3, HEIGHT, WIDTH)
    assert both["window_mask"].tolist() == [[True, True, True], [True, False, False]]
    with pytest.raises(InputError, match=r"expected \(W, 2\)"):
        EventVoxelizer()(recording, windows=np.array([[5, 3]]))
    with pytest.raises(InputError, match="1 sets of windows were given for 2"):
        EventVoxelizer()([recording, recording], windows=[windows])


def test_a_voxel_grid_in_a_window_of_time_runs_over_the_window() -> None:
    recording = EventRecording.from_arrays([0, 1], [0, 0], [0, 50], [1, 1], width=2, height=1)
    values = EventVoxelizer(bins=3, window_us=100)(recording)["event_values"]
    assert values[0, 0, :, 0].tolist() == [[1, 0], [0, 1], [0, 0]]


def test_empty_windows_and_recordings() -> None:
    nothing = EventRecording.from_arrays([], [], [], [], width=WIDTH, height=HEIGHT)
    for name in REPRESENTATIONS:
        values = EventVoxelizer(name)(nothing)["event_values"]
        assert (values == (np.float32(128) / np.float32(255) if name == "event_frame" else 0)).all()
        assert values.shape[:1] == (1,)
    assert EventVoxelizer("event_frame")(nothing)["event_values"].shape == (1, 1, HEIGHT, WIDTH)
    gap = make(2, t=[0, 99_999])
    frames = EventVoxelizer("event_frame")(gap)["event_values"]
    assert (frames[0, 1] == np.float32(128) / np.float32(255)).all()


def test_shorter_recordings_are_filled_behind_a_mask() -> None:
    voxelizer = EventVoxelizer("event_frame", normalize="mean_std", mean=0.5, std=0.25)
    batch = voxelizer([make(), make(span_us=40_000)], return_tensors="pt")
    assert batch["window_mask"].tolist() == [[True] * 4, [True, True, False, False]]
    assert batch["event_values"][1, 2:].unique().tolist() == pytest.approx([voxelizer.padding_value])
    assert voxelizer.padding_value == pytest.approx((128 / 255 - 0.5) / 0.25, abs=1e-6)


def test_events_outside_the_sensor() -> None:
    recording = make(100, x=np.r_[np.full(97, 3), [WIDTH, WIDTH + 5, 3]])
    with pytest.raises(
        RecordingError, match=rf"clip: 2 of 100 events lie outside the sensor of {WIDTH}×{HEIGHT} pixels"
    ):
        EventVoxelizer()(recording)
    batch = EventVoxelizer("polarity_counts", out_of_bounds="drop")([recording, make()], return_tensors="pt")
    assert batch["dropped_events"].tolist() == [2, 0]
    assert batch["event_values"][0].sum() == 98


def test_a_recording_says_itself_what_becomes_of_events_outside() -> None:
    columns = {name: getattr(make(100), name) for name in "xytp"}
    columns["x"] = np.where(np.arange(100) < 7, WIDTH + 1, columns["x"])
    sized = {**columns, "width": WIDTH, "height": HEIGHT}
    with pytest.raises(RecordingError, match="7 of 100 events lie outside"):
        EventVoxelizer()(sized)
    assert EventVoxelizer()({**sized, "out_of_bounds": "drop"})["dropped_events"].tolist() == [7]
    with pytest.raises(RecordingError, match="7 of 100 events lie outside"):
        EventVoxelizer(out_of_bounds="drop")({**sized, "out_of_bounds": "error"})


def test_seconds_in_memory_are_seconds() -> None:
    recording = make()
    columns = {name: getattr(recording, name) for name in "xytp"}
    voxelizer = EventVoxelizer(bins=5, sensor_size={"height": HEIGHT, "width": WIDTH})
    expected = voxelizer(columns)["event_values"]
    assert (expected[0] != 0).any(axis=(1, 2)).all()
    seconds = columns["t"] / 1e6
    for source in (
        {**columns, "t": seconds},
        np.stack([*(columns[one] for one in "xy"), seconds, columns["p"]], axis=1),
    ):
        np.testing.assert_array_equal(voxelizer(source)["event_values"], expected)
    told = {**columns, "t": columns["t"] * 1000, "time_unit": "ns"}
    np.testing.assert_array_equal(voxelizer(told)["event_values"], expected)


def test_the_sensor_must_be_known_and_the_right_one() -> None:
    unknown = EventRecording.from_arrays([1], [1], [1], [1])
    with pytest.raises(RecordingError, match="does not say how many pixels"):
        EventVoxelizer()(unknown)
    sensor = {"height": 260, "width": 346}
    assert EventVoxelizer(sensor_size=sensor)(unknown)["event_values"].shape == (1, 5, 260, 346)
    with pytest.raises(RecordingError, match=rf"clip is of a sensor with {WIDTH}×{HEIGHT} pixels; expected 346×260"):
        EventVoxelizer(sensor_size=sensor)(make())
    other = EventRecording.from_arrays([1], [1], [1], [1], width=5, height=5)
    with pytest.raises(InputError, match="which no batch can hold"):
        EventVoxelizer()([make(), other])
    sized = EventVoxelizer(size={"height": 10, "width": 12})([make(), other])
    assert sized["event_values"].shape == (2, 5, 10, 12)


def test_crop_and_size() -> None:
    recording = make()
    whole = EventVoxelizer("polarity_counts")(recording)["event_values"]
    crop = {"top": 3, "left": 5, "height": 10, "width": 20}
    cut = EventVoxelizer("polarity_counts", crop=crop)(recording)
    np.testing.assert_array_equal(cut["event_values"], whole[..., 3:13, 5:25])
    assert cut["dropped_events"].tolist() == [0]
    with pytest.raises(RecordingError, match="does not lie on the sensor"):
        EventVoxelizer(crop={**crop, "left": 15})(recording)
    small = EventVoxelizer(size={"height": 13, "width": 17})(recording)["event_values"]
    full = EventVoxelizer()(recording)["event_values"]
    assert small.mean() == pytest.approx(full.mean(), abs=0.01)  # halving averages
    frame = EventVoxelizer("event_frame", size={"height": 13, "width": 17})(recording)["event_values"]
    picture = np.rint(EventVoxelizer("event_frame")(recording)["event_values"][0, 0] * 255).astype(np.uint8)
    resized = np.asarray(Image.fromarray(picture).resize((17, 13), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(frame[0, 0], resized.astype(np.float32) / np.float32(255))


def test_normalisation() -> None:
    recording = make(300)
    values = EventVoxelizer(normalize="nonzero_std")(recording)["event_values"]
    plain = EventVoxelizer()(recording)["event_values"]
    assert (values[plain == 0] == 0).all()
    assert values[plain != 0].mean() == pytest.approx(0, abs=1e-5)
    assert values[plain != 0].std() == pytest.approx(1, abs=1e-5)
    shifted = EventVoxelizer("event_frame", normalize="mean_std", mean=0.504413, std=0.06928615)(recording)[
        "event_values"
    ]
    frames = EventVoxelizer("event_frame")(recording)["event_values"]
    np.testing.assert_allclose(shifted, (frames - 0.504413) / 0.06928615, rtol=1e-5, atol=1e-6)


def test_event_frames_equal_stored_pictures_to_jpegs_rounding() -> None:
    recording = make(600)
    frames = EventVoxelizer("event_frame")(recording)["event_values"][0]
    for frame in frames:
        picture = np.rint(frame * 255).astype(np.uint8)
        np.testing.assert_array_equal(picture.astype(np.float32) / np.float32(255), frame)  # it is an 8-bit picture
        assert set(np.unique(picture)) <= {0, 128, 255}
        # in whole blocks, as JPEG sees it, so that its bound holds for each of them
        padded = np.pad(picture, ((0, -HEIGHT % 8), (0, -WIDTH % 8)), mode="edge")
        file = io.BytesIO()
        Image.fromarray(padded).save(file, "JPEG", quality=95)
        file.seek(0)
        stored = Image.open(file)
        steps = np.array(list(stored.quantization[0]), np.float64)
        difference = np.asarray(stored, np.float64) - padded
        blocks = difference.reshape(padded.shape[0] // 8, 8, padded.shape[1] // 8, 8)
        # each of 64 coefficients is off by half a step at most, and each pixel is rounded (the transform keeps lengths)
        bound = np.sqrt(np.sum((steps / 2) ** 2)) + 8 * 1.0
        assert np.sqrt((blocks**2).sum(axis=(1, 3))).max() <= bound
        assert np.abs(difference).mean() < 2  # of 255


def test_a_damaged_time_does_not_fill_the_memory() -> None:
    recording = make(3, t=[0, 10, 2**60])
    for voxelizer in (EventVoxelizer("event_frame"), EventVoxelizer(window_us=1)):
        with pytest.raises(RecordingError, match=f"at most {MAX_WINDOWS} are made"):
            voxelizer(recording)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bin": 5}, "no field 'bin'. Did you mean 'bins'"),
        ({"representation": "voxels"}, "representation is 'voxels'"),
        ({"bins": 0}, "bins is 0"),
        ({"bins": True}, "bins is True"),
        ({"bins": None}, "bins is None"),
        ({"window_us": 2.5}, r"window_us is 2\.5"),
        ({"window_us": 1, "window_events": 1}, "both given"),
        ({"size": {"height": 3}}, "expected whole numbers for height, width"),
        ({"crop": {"top": -1, "left": 0, "height": 1, "width": 1}}, "crop is"),
        ({"std": 0}, "std is 0"),
        ({"decay_us": float("nan")}, "decay_us is nan"),
        ({"out_of_bounds": "ignore"}, "out_of_bounds is 'ignore'"),
        ({"representation": "event_frame", "normalize": "nonzero_std"}, "no zeros"),
    ],
)
def test_settings_that_make_no_sense(settings: dict, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        EventVoxelizer(**settings)


def test_nothing_is_no_recording() -> None:
    with pytest.raises(InputError, match="empty list"):
        EventVoxelizer()([])
    with pytest.raises(RecordingError, match="is no event recording"):
        EventVoxelizer()(3.5)


def test_saved_and_loaded_by_auto_classes(tmp_path: Path) -> None:
    from transformers import AutoConfig, AutoFeatureExtractor, PreTrainedConfig

    class VoxelTestConfig(PreTrainedConfig):
        model_type = "meco_voxel_test"

    AutoConfig.register("meco_voxel_test", VoxelTestConfig, exist_ok=True)
    AutoFeatureExtractor.register(VoxelTestConfig, EventVoxelizer, exist_ok=True)
    voxelizer = EventVoxelizer(
        "event_frame",
        window_us=20_000,
        sensor_size={"height": HEIGHT, "width": WIDTH},
        crop={"top": 1, "left": 2, "height": 20, "width": 20},
        size={"height": 9, "width": 8},
        normalize="mean_std",
        mean=0.504413,
        std=0.06928615,
        out_of_bounds="drop",
    )
    voxelizer.save_pretrained(tmp_path)
    for again in (AutoFeatureExtractor.from_pretrained(tmp_path), EventVoxelizer.from_pretrained(tmp_path)):
        assert type(again) is EventVoxelizer
        assert again.to_dict() == voxelizer.to_dict()
        np.testing.assert_array_equal(again(make())["event_values"], voxelizer(make())["event_values"])
    assert EventVoxelizer.from_pretrained(tmp_path, window_us=10_000).window_us == 10_000
    with pytest.raises(ConfigurationError, match="bins is 0"):
        EventVoxelizer.from_pretrained(tmp_path, bins=0)
