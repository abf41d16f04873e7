"""The processor: exact against a plain computation, one path for raw events and event pictures, and errors that name the stream."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import pipeline

from meco_hub.corpora.synthetic.eyes import DrawnSequence, draw_sequence
from meco_hub.errors import ConfigurationError, InputError, RecordingError
from meco_hub.recordings.event_recording import EventRecording
from meco_hub.recordings.eye_clips import EyeClip
from meco_mcoenet.configuration_mcoenet import MCOENetConfig
from meco_mcoenet.modeling_mcoenet import MCOENetForEmotionRecognition
from meco_mcoenet.processing_mcoenet import MCOENetImageProcessor, MCOENetProcessor


@pytest.fixture(scope="module")
def processor() -> MCOENetProcessor:
    return MCOENetProcessor()


@pytest.fixture(scope="module")
def drawn() -> DrawnSequence:
    return draw_sequence("happiness", person="p", frames=20, size=64)


def write_sequence(root: Path, drawn: DrawnSequence) -> Path:
    for stream, pictures in (("frame", drawn.frames), ("event", drawn.event_pictures)):
        folder = root / stream / "happiness" / "sequence"
        folder.mkdir(parents=True)
        for place, picture in enumerate(pictures):
            Image.fromarray(picture).save(folder / f"{place:05d}.jpg", quality=92)
    return root / "frame" / "happiness" / "sequence"


def raw(drawn: DrawnSequence, **changes: object) -> EyeClip:
    events = EventRecording(drawn.x, drawn.y, drawn.t, drawn.p, 64, 64, "camera")
    return EyeClip(
        **{"frames": drawn.frames, "events": events, "frame_times": drawn.frame_times, "name": "clip", **changes}
    )


def test_pixels_are_those_of_the_published_pipeline(
    processor: MCOENetProcessor, drawn: DrawnSequence, tmp_path: Path
) -> None:
    """Resize(100), ToTensor and Normalize on PIL pictures in RGB, as the authors load them."""
    transforms = pytest.importorskip("torchvision.transforms", reason="torchvision is the reference")
    sequence = write_sequence(tmp_path, drawn)
    steps = [1, 5, 9, 13]
    ours = processor(processor.read(sequence).at(steps), return_tensors="pt")
    for key, tree, mean, std in (
        ("pixel_values", "frame", 0.22616537, 0.118931554),
        ("event_values", "event", 0.504413, 0.06928615),
    ):
        load = transforms.Compose(
            [transforms.Resize(100), transforms.ToTensor(), transforms.Normalize([mean] * 3, [std] * 3)]
        )
        folder = tmp_path / tree / "happiness" / "sequence"
        expected = torch.stack([load(Image.open(folder / f"{step:05d}.jpg").convert("RGB")) for step in steps])
        assert ours[key].shape == (1, 4, 3, 100, 100)
        assert ours[key].dtype == torch.float32
        torch.testing.assert_close(ours[key][0], expected, atol=2e-5, rtol=1e-5)


def test_raw_events_and_event_pictures_enter_alike(processor: MCOENetProcessor, drawn: DrawnSequence) -> None:
    pictures = EyeClip(drawn.frames, drawn.event_pictures)  # pyright: ignore[reportArgumentType]
    both = processor([raw(drawn).at([0, 4, 8, 12]), pictures.at([0, 4, 8, 12])], return_tensors="np")
    np.testing.assert_array_equal(both["event_values"][0], both["event_values"][1])
    np.testing.assert_array_equal(both["pixel_values"][0], both["pixel_values"][1])
    assert both["event_values"].std() > 0.3


def test_an_unchosen_clip_shows_its_middle_and_a_sampled_one_both_streams_alike(
    processor: MCOENetProcessor, drawn: DrawnSequence
) -> None:
    marked = np.arange(20, dtype=np.uint8)[:, None, None] * np.ones((1, 100, 100), np.uint8)
    clip = EyeClip(marked, marked + 100)  # pyright: ignore[reportArgumentType]
    plain = processor(clip, return_tensors="np")
    again = processor(clip.at([3, 7, 11, 15]), return_tensors="np")
    np.testing.assert_array_equal(plain["pixel_values"], again["pixel_values"])
    sampled = processor.clip_sampling(clip, np.random.default_rng(1))
    values = processor(sampled, return_tensors="np")
    frames = values["pixel_values"][0, :, 0, 0, 0] * 0.118931554 + 0.22616537
    events = values["event_values"][0, :, 0, 0, 0] * 0.06928615 + 0.504413
    np.testing.assert_allclose(frames * 255, sampled.chosen, atol=1e-3)
    np.testing.assert_allclose(events * 255 - 100, sampled.chosen, atol=1e-3)


def test_everything_a_clip_may_come_as(processor: MCOENetProcessor, drawn: DrawnSequence, tmp_path: Path) -> None:
    sequence = write_sequence(tmp_path, drawn)
    folders = {"frames": str(sequence), "events": str(tmp_path / "event" / "happiness" / "sequence")}
    np.savez(tmp_path / "events.npz", x=drawn.x, y=drawn.y, t=drawn.t, p=drawn.p)
    mixed = {"frames": drawn.frames, "events": tmp_path / "events.npz", "frame_times": drawn.frame_times}
    batch = processor([sequence, folders, raw(drawn), mixed], return_tensors="pt")
    assert batch["pixel_values"].shape == batch["event_values"].shape == (4, 4, 3, 100, 100)
    torch.testing.assert_close(batch["pixel_values"][0], batch["pixel_values"][1])
    # the sensor's size is taken from the frames where the file does not say it
    torch.testing.assert_close(batch["event_values"][2], batch["event_values"][3])
    # what JPEG lost, and no more
    assert (batch["pixel_values"][0] - batch["pixel_values"][2]).abs().max() < 1.0
    alone = processor(sequence)
    assert [one.shape for one in alone["pixel_values"]] == [(4, 3, 100, 100)]


def test_it_is_saved_in_one_file_and_read_again(drawn: DrawnSequence, tmp_path: Path) -> None:
    processor = MCOENetProcessor(
        image_processor={"size": {"shortest_edge": 48}},
        feature_extractor={"window_us": 20_000},
        sampling="uniform",
        frame_stride=2,
        event_alignment="around",
    )
    processor.save_pretrained(tmp_path)
    written = json.loads((tmp_path / "processor_config.json").read_text())
    assert written["frame_stride"] == 2
    assert written["image_processor"]["size"] == {"shortest_edge": 48}
    assert written["feature_extractor"]["window_us"] == 20_000
    again = MCOENetProcessor(
        type(processor.feature_extractor).from_pretrained(tmp_path),
        MCOENetImageProcessor.from_pretrained(tmp_path),
        **{
            key: value
            for key, value in written.items()
            if key in ("sampling", "frame_stride", "event_alignment", "streams")
        },
    )
    assert again.to_dict() == processor.to_dict()
    assert again.clip_sampling == processor.clip_sampling
    clip = raw(drawn)
    for key in ("pixel_values", "event_values"):
        np.testing.assert_array_equal(processor(clip, return_tensors="np")[key], again(clip, return_tensors="np")[key])


def test_auto_processor_finds_it(tmp_path: Path) -> None:
    pytest.importorskip("meco_mcoenet.configuration_mcoenet", reason="the plugin's config registers the processor")
    from transformers import AutoProcessor

    MCOENetProcessor(frame_stride=3, streams=["events"]).save_pretrained(tmp_path)
    again = AutoProcessor.from_pretrained(tmp_path)
    assert type(again) is MCOENetProcessor
    assert (again.frame_stride, again.streams) == (3, ["events"])
    assert type(again.image_processor) is MCOENetImageProcessor
    assert again.feature_extractor.representation == "event_frame"


def test_one_stream_alone_is_shown_beside_zeros(drawn: DrawnSequence) -> None:
    clip = EyeClip(drawn.frames, drawn.event_pictures)  # pyright: ignore[reportArgumentType]
    full = MCOENetProcessor()(clip, return_tensors="np")
    for stream, key, other in (("frames", "pixel_values", "event_values"), ("events", "event_values", "pixel_values")):
        alone = MCOENetProcessor(streams=[stream])
        for shown in (clip, clip.without([{"frames": "events", "events": "frames"}[stream]])):
            batch = alone(shown, return_tensors="np")
            np.testing.assert_array_equal(batch[key], full[key])
            assert not batch[other].any()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"events": None, "frame_times": None}, "clip has frames without events"),
        ({"frames": None}, "clip has events without frames"),
        ({"frames": np.zeros((20, 32, 32), np.uint8)}, "the events have 64×64 pixels, the frames 32×32"),
    ],
)
def test_what_is_wrong_with_one_stream_names_it(
    processor: MCOENetProcessor, drawn: DrawnSequence, changes: dict, said: str
) -> None:
    with pytest.raises(RecordingError, match=said):
        processor(raw(drawn, **changes))


def test_clips_that_cannot_be_used(processor: MCOENetProcessor, drawn: DrawnSequence) -> None:
    short = EyeClip(drawn.frames[:12], drawn.event_pictures[:12], name="short")  # pyright: ignore[reportArgumentType]
    with pytest.raises(RecordingError, match="short has 12 time steps; expected 13"):
        processor(short)
    clip = EyeClip(drawn.frames, drawn.event_pictures, name="clip")  # pyright: ignore[reportArgumentType]
    with pytest.raises(RecordingError, match="3 time steps were chosen; expected 4"):
        processor(clip.at([0, 1, 2]))
    uneven = [*drawn.frames[:8], *(one[:, :32] for one in drawn.frames[8:])]
    with pytest.raises(RecordingError, match="the frames have the sizes"):
        processor(EyeClip(uneven, drawn.event_pictures))  # pyright: ignore[reportArgumentType]
    pictures = EyeClip(drawn.frames, drawn.event_pictures[:, :48])  # pyright: ignore[reportArgumentType]
    with pytest.raises(RecordingError, match="the events have 64×48 pixels, the frames 64×64"):
        processor(pictures)
    outside = EventRecording(drawn.x + np.uint16(60), drawn.y, drawn.t, drawn.p, 64, 64, "camera")
    with pytest.raises(RecordingError, match="outside the sensor"):
        processor(EyeClip(drawn.frames, outside, drawn.frame_times))  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match="empty list"):
        processor([])
    with pytest.raises(ConfigurationError, match="no option 'padding'"):
        processor(clip, padding=True)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"streams": ["frame"]}, "streams"),
        ({"streams": []}, "streams"),
        ({"event_std": 0}, "event_std"),
        ({"sampling": "often"}, "sampling"),
        ({"event_alignment": "late"}, "event_alignment"),
        ({"num_frames": 0}, "num_frames"),
        ({"feature_extractor": {"representation": "voxel_grid"}}, "expected event_frame"),
        ({"image_processor": {"sise": 3}}, "Did you mean 'size'"),
    ],
)
def test_fields_that_make_no_sense_are_refused(fields: dict, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        MCOENetProcessor(**fields)


def test_frames_in_colour_become_grey(processor: MCOENetProcessor, drawn: DrawnSequence) -> None:
    colour = np.stack([drawn.frames, drawn.frames // 2, drawn.frames // 3], axis=-1)
    values = processor(EyeClip(colour, drawn.event_pictures), return_tensors="np")["pixel_values"]  # pyright: ignore[reportArgumentType]
    np.testing.assert_array_equal(values[:, :, 0], values[:, :, 1])
    np.testing.assert_array_equal(values[:, :, 0], values[:, :, 2])


# --- clips that lack a stream -------------------------------------------------------------------------------------------


def test_a_missing_stream_is_zeros_behind_a_mask_where_the_network_allows_it(drawn: DrawnSequence) -> None:
    config = MCOENetConfig.small(missing_modality="zeros", image_size=32)
    processor = MCOENetProcessor.for_config(config)
    assert processor.missing_modality == "zeros"
    clip = EyeClip(drawn.frames, drawn.event_pictures)
    batch = processor([clip, clip.without(["events"]), clip.without(["frames"])], return_tensors="pt")
    assert batch["modality_presence"].tolist() == [[True, True], [True, False], [False, True]]
    for name, absent, other in (("pixel_values", 2, 1), ("event_values", 1, 2)):
        assert (batch[name][absent] == 0).all()
        assert torch.equal(batch[name][other], batch[name][0])
        assert batch[name].shape == (3, 4, 3, 32, 32)
    assert set(batch) == set(processor.model_input_names)
    model = MCOENetForEmotionRecognition(config).eval()
    with torch.no_grad():
        logits = model(**batch).logits
        alone = model(**processor([clip.without(["events"])], return_tensors="pt")).logits
    torch.testing.assert_close(logits[1], alone[0], rtol=0, atol=1e-5)
    assert (logits[1] - logits[0]).abs().max() > 1e-4


def test_what_became_of_the_streams_is_told(processor: MCOENetProcessor, drawn: DrawnSequence) -> None:
    clip = EyeClip(drawn.frames, drawn.event_pictures)
    assert processor.report(clip) == {"used": {"frames": "frames", "events": "event pictures"}, "missing": []}
    assert processor.report(clip.without(["events"])) == {"used": {"frames": "frames"}, "missing": ["events"]}
    raw = {"x": drawn.x, "y": drawn.y, "t": drawn.t, "p": drawn.p}
    both = processor.read({"frames": drawn.frames, "events": raw, "frame_times": drawn.frame_times})
    assert processor.report(both)["used"]["events"] == "single events of 33000 µs each"
    with pytest.raises(RecordingError, match="has frames without events; expected both"):
        processor(clip.without(["events"]))


def test_a_blank_clip_is_one_that_can_be_batched(processor: MCOENetProcessor, drawn: DrawnSequence) -> None:
    blank = processor([processor.blank()], return_tensors="pt")
    real = processor([EyeClip(drawn.frames, drawn.event_pictures)], return_tensors="pt")
    assert {key: value.shape for key, value in blank.items()} == {key: value.shape for key, value in real.items()}
    assert all(value.isfinite().all() for value in blank.values())


def test_one_unusable_clip_costs_the_others_nothing(drawn: DrawnSequence) -> None:
    config = MCOENetConfig.small(training_data="synthetic", image_size=32)
    processor = MCOENetProcessor.for_config(config)
    recognise = pipeline("emotion-recognition", model=MCOENetForEmotionRecognition(config).eval(), processor=processor)
    clip = EyeClip(drawn.frames, drawn.event_pictures, name="clip")
    answers = recognise([clip, clip.without(["frames"]), clip], batch_size=3, errors="return")
    assert "clip has events without frames" in answers[1]["error"]
    for one, other in zip(answers[0], answers[2], strict=True):
        assert one["label"] == other["label"]
        assert one["score"] == pytest.approx(other["score"], abs=1e-5)
        assert one["training_data"] == "synthetic"
        assert one["streams"]["missing"] == []


def test_units_and_options_reach_the_answer(drawn: DrawnSequence, tmp_path: Path) -> None:
    """Seconds in arrays and files, nanoseconds by word; what is in doubt is in the answer, what cannot be asks."""
    config = MCOENetConfig.small(image_size=32)
    processor = MCOENetProcessor.for_config(config)
    recognise = pipeline("emotion-recognition", model=MCOENetForEmotionRecognition(config).eval(), processor=processor)
    columns = {"x": drawn.x, "y": drawn.y, "t": drawn.t, "p": drawn.p}
    base = {"frames": drawn.frames, "frame_times": drawn.frame_times}
    expected = recognise({**base, "events": columns})
    assert expected[0]["warnings"] == []
    np.savez(tmp_path / "clip.npz", **{**columns, "t": drawn.t / 1e6})
    named = {"a": drawn.x, "b": drawn.y, "c": drawn.t * 1000, "d": drawn.p}
    by_word = {
        "events": named,
        "time_unit": "ns",
        "columns": {"x": "a", "y": "b", "t": "c", "p": "d"},
        "width": 64,
        "height": 64,
    }
    for source in ({"events": {**columns, "t": drawn.t / 1e6}}, {"events": tmp_path / "clip.npz"}, by_word):
        assert recognise({**base, **source}) == expected
    with pytest.raises(RecordingError, match=r"which no event camera with 4096 pixels gives.*time_unit=, perhaps ns"):
        recognise({**base, "events": {**columns, "t": drawn.t * 1000}})
    outside = {**columns, "x": np.where(np.arange(len(drawn.x)) % 50, drawn.x, 70)}
    with pytest.raises(RecordingError, match="outside the sensor"):
        recognise({**base, "events": outside})
    assert recognise({**base, "events": outside, "out_of_bounds": "drop"})[0]["warnings"] == []
    csv = "x,y,t,p\n" + "".join(f"{x},{y},{t},{p}\n" for x, y, t, p in zip(*columns.values(), strict=True))
    (tmp_path / "cut.csv").write_text(csv + "3,4")
    kept = recognise({**base, "events": tmp_path / "cut.csv", "damaged": "keep"}, on_warning="ignore")
    assert [one["code"] for one in kept[0]["warnings"]] == ["damaged_file"]
    assert kept[0]["score"] == expected[0]["score"]


def test_an_answer_says_that_no_event_lay_in_what_it_looked_at(drawn: DrawnSequence) -> None:
    """Two seconds of frames, and events in the first tenth of a second only."""
    config = MCOENetConfig.small(image_size=32)
    processor = MCOENetProcessor.for_config(config)
    recognise = pipeline("emotion-recognition", model=MCOENetForEmotionRecognition(config).eval(), processor=processor)
    early = {"x": drawn.x, "y": drawn.y, "t": np.linspace(0, 99_999, len(drawn.t)).astype(np.int64), "p": drawn.p}
    clip = {"frames": np.zeros((60, 260, 346), np.uint8), "events": early, "frame_times": np.arange(60) * 33_333}
    (answer, *_) = recognise(clip, on_warning="ignore")
    assert answer["events"] == 0
    assert [one["code"] for one in answer["warnings"]] == ["no_events_in_window"]


def test_a_long_clip_is_answered_over_its_whole_length(drawn: DrawnSequence) -> None:
    config = MCOENetConfig.small(image_size=32)
    processor = MCOENetProcessor.for_config(config)
    model = MCOENetForEmotionRecognition(config).eval()
    recognise = pipeline("emotion-recognition", model=model, processor=processor)
    frames, events = (np.concatenate([one[:20]] * 19)[:365] for one in (drawn.frames, drawn.event_pictures))
    frames = np.stack([np.clip(one * (0.2 + step / 400), 0, 255).astype(np.uint8) for step, one in enumerate(frames)])
    times = np.arange(365) * 33_333
    clip = EyeClip(frames, events, times, name="long")
    assert len(processor.cut(EyeClip(frames[:300], events[:300]))) == 1  # as short as sequences are: the middle window
    assert len(processor.cut(clip.at([0, 4, 8, 12]))) == 1
    windows = processor.cut(clip)
    starts = [window.chosen[0] for window in windows if window.chosen]
    assert starts == [*range(0, 331, 30), 352]  # up to the last frame, and none is left out between
    answer = recognise(clip, batch_size=3)
    first = answer[0]
    assert first["times"] == pytest.approx([(start + 6) * 0.033333 for start in starts], abs=1e-3)
    assert (first["start"], first["end"], first["frames"]) == (0.0, pytest.approx(364 * 0.033333), 4 * len(starts))
    with torch.no_grad():
        alone = model(**processor([windows[5]], return_tensors="pt")).logits[0].softmax(-1)
    scores = {entry["label"]: entry["scores"][5] for entry in answer}
    assert scores == pytest.approx({config.id2label[place]: float(one) for place, one in enumerate(alone)}, abs=1e-5)
    untimed = recognise(EyeClip(frames, events))
    assert "times" not in untimed[0]
    assert [one["score"] for one in untimed] == pytest.approx([one["score"] for one in answer], abs=1e-5)
