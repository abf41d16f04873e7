"""The pipeline on real pictures: forms of answers, batches, bad inputs, incomplete checkpoints."""

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import pipeline

from meco_hub import AutoModelForEmotionRecognition
from meco_hub.errors import CheckpointError, ConfigurationError, FaceNotFoundError, ImageError, InputError
from meco_hub.pipeline import EmotionRecognitionPipeline, recogniser

LABELS = {"anger", "disgust", "sadness", "happiness", "fear", "neutral", "surprise"}


@pytest.fixture(scope="module")
def recognise(tiny_checkpoint: Path) -> EmotionRecognitionPipeline:
    return pipeline("emotion-recognition", model=str(tiny_checkpoint))


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    generator = np.random.default_rng(0)
    return [Image.fromarray(generator.integers(0, 256, (48, 48, 3), dtype=np.uint8)) for _ in range(7)]


def test_an_answer_is_sorted_named_and_sums_to_one(recognise, pictures) -> None:
    answer = recognise(pictures[0])
    scores = [entry["score"] for entry in answer]
    assert {entry["label"] for entry in answer} == LABELS
    assert scores == sorted(scores, reverse=True)
    assert sum(scores) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("batch_size", [1, 3, 7, 16])
def test_batches_change_nothing(recognise, pictures, batch_size: int) -> None:
    alone = [recognise(picture) for picture in pictures]
    together = recognise(pictures, batch_size=batch_size)
    for one, many in zip(alone, together, strict=True):
        assert [entry["label"] for entry in one] == [entry["label"] for entry in many]
        assert [e["score"] for e in one] == pytest.approx([e["score"] for e in many], abs=1e-6)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_picture_and_its_mirror_image_are_answered_alike(recognise, pictures, batch_size: int) -> None:
    mirrored = [picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for picture in pictures]

    def scores(inputs: list[Image.Image], **options: bool) -> np.ndarray:
        answers = recognise(inputs, batch_size=batch_size, **options)
        return np.asarray([[entry["score"] for entry in sorted(one, key=lambda e: e["label"])] for one in answers])

    both = scores(pictures, mirror=True)
    np.testing.assert_allclose(both, scores(mirrored, mirror=True), atol=1e-6)
    np.testing.assert_allclose(both, (scores(pictures) + scores(mirrored)) / 2, atol=1e-6)
    assert np.abs(scores(pictures) - scores(mirrored)).max() > 1e-5  # there is something to average


def test_generators_stay_lazy_and_empty_lists_are_refused(recognise, pictures) -> None:
    answers = recognise(picture for picture in pictures[:2])
    assert len(next(iter(answers))) == 7
    assert list(recognise(picture for picture in [])) == []
    with pytest.raises(InputError, match="empty list"):
        recognise([])


def test_every_source_gives_the_same_answer(recognise, pictures, tmp_path: Path) -> None:
    picture = pictures[0]
    picture.save(tmp_path / "face.png")
    encoded = io.BytesIO()
    picture.save(encoded, "PNG")
    sources = [picture, str(tmp_path / "face.png"), encoded.getvalue(), np.asarray(picture)]
    answers = [recognise(source) for source in sources]
    assert all(answer == answers[0] for answer in answers)


def test_weights_lie_as_a_cpu_convolves_and_are_saved_as_they_were(tiny_checkpoint: Path, tmp_path: Path) -> None:
    model = recogniser(tiny_checkpoint).model
    large = [one.weight for one in model.modules() if isinstance(one, torch.nn.Conv2d) and min(one.weight.shape) > 1]
    assert large
    assert all(one.is_contiguous(memory_format=torch.channels_last) for one in large)
    model.save_pretrained(tmp_path)
    saved = (tmp_path / "model.safetensors").read_bytes()
    assert saved == (tiny_checkpoint / "model.safetensors").read_bytes()


def test_a_model_that_was_just_trained_answers_without_dropout(recognise, pictures, tiny_checkpoint: Path) -> None:
    model = AutoModelForEmotionRecognition.from_pretrained(tiny_checkpoint).train()
    trained = pipeline("emotion-recognition", model=model, image_processor=recognise.image_processor)
    next(model.children()).eval()  # frozen
    modes = [one.training for one in model.modules()]
    assert trained(pictures[0]) == recognise(pictures[0])
    assert [one.training for one in model.modules()] == modes
    assert trained(pictures[0], mirror=True) == recognise(pictures[0], mirror=True)


def test_a_model_that_was_passed_keeps_its_weights_where_and_as_they_lie(recognise, tiny_checkpoint: Path) -> None:
    model = AutoModelForEmotionRecognition.from_pretrained(tiny_checkpoint)
    before = [(one.data_ptr(), one.stride()) for one in model.parameters()]
    recogniser(model, image_processor=recognise.image_processor)
    assert [(one.data_ptr(), one.stride()) for one in model.parameters()] == before
    torch.nn.utils.parameters_to_vector(model.parameters())  # plain layouts only


def test_top_k_and_function(recognise, pictures) -> None:
    assert len(recognise(pictures[0], top_k=2)) == 2
    assert len(recognise(pictures[0], top_k=99)) == 7
    raw = {e["label"]: e["score"] for e in recognise(pictures[0], function_to_apply="none")}
    soft = {e["label"]: e["score"] for e in recognise(pictures[0])}
    names = sorted(LABELS)
    expected = torch.tensor([raw[name] for name in names]).softmax(0)
    assert torch.allclose(torch.tensor([soft[name] for name in names]), expected, atol=1e-6)


@pytest.mark.parametrize(
    "arguments", [{"top_k": 0}, {"faces": "some"}, {"errors": "ignore"}, {"function_to_apply": "relu"}, {"topk": 3}]
)
def test_arguments_without_meaning_are_refused(recognise, pictures, arguments) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(arguments))):
        recognise(pictures[0], **arguments)


def test_faces_are_found_on_request(recognise, astronaut: Path, hopper: Path) -> None:
    pytest.importorskip("cv2", reason="the face finder needs the extra 'faces'")
    answer = recognise(str(astronaut), faces="largest")
    box = answer[0]["box"]
    # Eileen Collins's face lies around (222, 118) in the 512×512 picture
    assert box["xmin"] < 222 < box["xmax"]
    assert box["ymin"] < 118 < box["ymax"]
    both = Image.new("RGB", (1100, 600), (128, 128, 128))
    both.paste(Image.open(astronaut).convert("RGB"), (0, 0))
    both.paste(Image.open(hopper).convert("RGB").resize((512, 600)), (560, 0))
    faces = recognise(both, faces="all", top_k=1)
    assert len(faces) == 2
    assert sorted(face["box"]["xmin"] > 512 for face in faces) == [False, True]
    assert all(len(face["expressions"]) == 1 and 0 < face["face_score"] <= 1 for face in faces)


def test_faces_in_batches_go_back_to_their_pictures(recognise, astronaut: Path, hopper: Path) -> None:
    pytest.importorskip("cv2", reason="the face finder needs the extra 'faces'")
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 256, (200, 200, 3), dtype=np.uint8))
    inputs = [str(astronaut), noise, str(hopper), str(astronaut)]
    answers = recognise(inputs, faces="all", errors="return", batch_size=2)
    assert len(answers) == 4
    assert "No face was found" in answers[1]["error"]
    assert answers[0][0]["box"] == answers[3][0]["box"] != answers[2][0]["box"]
    with pytest.raises(FaceNotFoundError, match="200×200"):
        recognise(noise, faces="largest")


def test_bad_inputs_are_named_and_cost_the_others_nothing(recognise, pictures, tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"not a picture at all")
    pictures[0].save(tmp_path / "good.png")
    with pytest.raises(ImageError, match=r"broken\.jpg"):
        recognise(str(tmp_path / "broken.jpg"))
    paths = [str(tmp_path / name) for name in ("good.png", "broken.jpg", "missing.png", "good.png")]
    answers = recognise(paths, batch_size=3, errors="return")
    assert answers[0] == answers[3] == recognise(pictures[0]) or answers[0][0]["label"] == answers[3][0]["label"]
    assert "broken.jpg" in answers[1]["error"]
    assert "missing.png" in answers[2]["error"]


def test_a_checkpoint_without_its_processor_says_so(tiny_checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bare"
    shutil.copytree(tiny_checkpoint, folder)
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(CheckpointError, match=r"bare.*preprocessor_config\.json"):
        pipeline("emotion-recognition", model=str(folder))


def test_a_model_made_in_memory_needs_its_processor_passed(recognise) -> None:
    from meco_expressnet_moe.modeling_expressnet_moe import ExpressNetMoEForEmotionRecognition

    bare = ExpressNetMoEForEmotionRecognition(recognise.model.config)
    bare.config._name_or_path = bare.name_or_path = ""
    with pytest.raises(CheckpointError, match="image_processor="):
        pipeline("emotion-recognition", model=bare)
    assert pipeline("emotion-recognition", model=bare, image_processor=recognise.image_processor) is not None


def test_a_damaged_processor_config_says_why(tiny_checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(tiny_checkpoint, folder)
    (folder / "preprocessor_config.json").write_text('{"image_processor_type": "NoSuchProcessor"}')
    with pytest.raises(CheckpointError, match=r"damaged cannot be loaded: .*image_processor_type"):
        pipeline("emotion-recognition", model=str(folder))


def test_pickled_weights_are_refused(tiny_checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pickled"
    shutil.copytree(tiny_checkpoint, folder)
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin, which can run code"):
        pipeline("emotion-recognition", model=str(folder))


def test_truncated_weights_are_refused(tiny_checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "truncated"
    shutil.copytree(tiny_checkpoint, folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="truncated"):
        pipeline("emotion-recognition", model=str(folder))


def test_what_the_pipeline_saves_loads_again(recognise, pictures, tmp_path: Path) -> None:
    recognise.save_pretrained(tmp_path / "saved")
    assert sorted(path.name for path in (tmp_path / "saved").iterdir()) == [
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
    ]
    again = pipeline("emotion-recognition", model=str(tmp_path / "saved"))
    assert again(pictures[0]) == recognise(pictures[0])


def test_half_precision_answers_are_finite(tiny_checkpoint: Path, pictures) -> None:
    half = pipeline("emotion-recognition", model=str(tiny_checkpoint), dtype=torch.bfloat16)
    assert half.model.dtype == torch.bfloat16
    assert all(0 <= entry["score"] <= 1 for entry in half(pictures[0]))
