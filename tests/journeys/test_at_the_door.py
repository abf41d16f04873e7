"""Whatever a picture comes in, and whatever is passed beside it: it is read, or refused by an error of ours before the work."""

import base64
import io
import subprocess
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import pipeline

from meco_hub.errors import ConfigurationError, ImageError, InputError, MecoError
from meco_hub.pipeline import EmotionRecognitionPipeline

OPTIONS: dict[str, Any] = {"faces": "cropped", "top_k": 1}


@pytest.fixture(scope="module")
def recognise(tiny_checkpoint: Path) -> EmotionRecognitionPipeline:
    return pipeline("emotion-recognition", model=str(tiny_checkpoint))


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pictures") / "face.png"
    pixels = np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def as_data_url(file: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(file.read_bytes()).decode()


@pytest.mark.parametrize(
    "wrap",
    [
        as_data_url,
        lambda file: as_data_url(file).partition(",")[2],
        lambda file: base64.encodebytes(file.read_bytes()).decode(),
        lambda file: base64.encodebytes(file.read_bytes()),
        lambda file: base64.urlsafe_b64encode(file.read_bytes()).decode().rstrip("="),
        lambda file: as_data_url(file).replace("data:", "DATA:").replace("base64", "BASE64"),
        lambda file: "data:image/png," + urllib.parse.quote(file.read_bytes()),
        lambda file: as_data_url(file).encode(),
        Path.as_uri,
        lambda file: io.BytesIO(file.read_bytes()),
        lambda file: file.open("rb"),
        lambda file: torch.from_numpy(np.asarray(Image.open(file)).copy()),
    ],
)
def test_one_picture_in_any_wrapping(recognise, file: Path, wrap: Callable[[Path], Any]) -> None:
    assert recognise(wrap(file), **OPTIONS) == recognise(str(file), **OPTIONS)
    assert recognise([wrap(file)], **OPTIONS) == [recognise(str(file), **OPTIONS)]


@pytest.mark.parametrize("kind", ["tuple", "values", "array", "series", "index", "column"])
def test_several_pictures_in_anything_with_a_length(recognise, file: Path, kind: str) -> None:
    paths = [str(file)] * 3
    if kind == "series":
        several = pytest.importorskip("pandas").Series(paths, index=[7, 8, 9])
    elif kind == "index":
        several = pytest.importorskip("pandas").Index(paths)
    elif kind == "values":
        several = dict(enumerate(paths)).values()
    elif kind == "array":
        several = np.array(paths)
    elif kind == "column":
        several = pytest.importorskip("datasets").Dataset.from_dict({"image": paths})["image"]
    else:
        several = tuple(paths)
    assert recognise(several, batch_size=2, **OPTIONS) == recognise(paths, batch_size=2, **OPTIONS)
    empty = several[:0] if kind not in ("column", "values") else {}.values()
    with pytest.raises(InputError, match="empty list"):
        recognise(empty)


@pytest.mark.parametrize("make", [lambda paths: map(str, paths), iter, lambda paths: (one for one in paths)])
def test_several_pictures_in_anything_without_a_length_stay_lazy(recognise, file: Path, make: Any) -> None:
    answers = recognise(make([str(file)] * 2), **OPTIONS)
    assert next(answers) == recognise(str(file), **OPTIONS)
    assert len(list(answers)) == 1


@pytest.mark.parametrize(
    "bad",
    [
        torch.empty(3, 16, 16, device="meta"),
        torch.eye(16).to_sparse(),
        "data:image/png,plain",
        "data:image/png;base64,###",
        io.StringIO("text"),
        object(),
    ],
)
def test_a_bad_input_is_our_error_and_costs_the_others_nothing(recognise, file: Path, bad: Any) -> None:
    with pytest.raises(ImageError):
        recognise(bad, **OPTIONS)
    with pytest.raises(ImageError, match="input 1 of the list"):
        recognise([str(file), bad], **OPTIONS)
    good, told, again = recognise([str(file), bad, str(file)], errors="return", batch_size=2, **OPTIONS)
    assert good[0]["label"] == again[0]["label"]
    assert "input 1 of the list" in told["error"]


@pytest.mark.parametrize(
    "options",
    [
        {"top_k": "2"},
        {"top_k": 1.5},
        {"top_k": True},
        {"batch_size": 0},
        {"batch_size": "8"},
        {"min_face": "30"},
        {"on_warning": "no"},
    ],
)
def test_what_has_no_meaning_is_refused_before_the_work(recognise, options: dict[str, Any]) -> None:
    class Untouched:
        def read(self) -> bytes:
            raise AssertionError("the input was read before the options were looked at")

    with pytest.raises(ConfigurationError, match=next(iter(options))):
        recognise(Untouched(), **options)


def test_numpy_numbers_are_numbers(recognise, file: Path) -> None:
    assert len(recognise(str(file), top_k=np.int64(2), faces="cropped")) == 2


def test_a_processor_that_is_replaced_is_the_one_that_answers(tiny_checkpoint: Path, file: Path) -> None:
    recognise = pipeline("emotion-recognition", model=str(tiny_checkpoint))
    before = recognise(str(file), faces="cropped")
    other = type(recognise.image_processor)(size={"height": 64, "width": 64}, rescale_factor=1 / 1000)
    recognise.image_processor = other
    after = recognise(str(file), faces="cropped")
    assert [one["score"] for one in after] != [one["score"] for one in before]
    with pytest.raises(MecoError, match="image_processor was set to None"):
        recognise.image_processor = None


@pytest.mark.processes
def test_names_of_bundled_checkpoints_ask_no_network_and_answers_may_be_abandoned(
    run_python: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    done = run_python(
        """
import os, socket
os.environ["HF_HUB_OFFLINE"] = "0"
def refuse(*given, **options):
    raise AssertionError("the network was asked")
socket.getaddrinfo = socket.socket.connect = refuse
import numpy as np
import meco_hub
from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoProcessor, pipeline
recognise = pipeline(model="meco-expressnet-lfw5")
for auto in (AutoConfig, AutoModel, AutoProcessor, AutoImageProcessor, meco_hub.AutoModelForEmotionRecognition):
    print(type(auto.from_pretrained("meco-expressnet-lfw5")).__name__)
answers = recognise((np.full((64, 64, 3), level, np.uint8) for level in range(9)), faces="cropped")
print(next(answers)[0]["label"])
"""
    )
    assert "ExpressNetMoEModel" in done.stdout
    assert "Exception ignored" not in done.stderr


def test_doubtful_scores_abstain(recognise, file: Path) -> None:
    (entry,) = recognise(str(file), abstain_below=0.999, **OPTIONS)
    assert entry["abstained"]
    assert not recognise(str(file), abstain_below=0.0, **OPTIONS)[0]["abstained"]
    assert "abstained" not in recognise(str(file), **OPTIONS)[0]
    with pytest.raises(ConfigurationError, match=r"risk 0\.05.*This one keeps no risk"):
        recognise(str(file), abstain_below="risk 0.05")
    stored = {"method": "temperature", "temperature": 1.0, "least_scores": {"0.05": 0.999}}
    recognise.model.config.calibration = stored
    try:
        again = pipeline("emotion-recognition", model=recognise.model, image_processor=recognise.image_processor)
        assert again(str(file), abstain_below="risk 0.05", **OPTIONS)[0]["abstained"]
        with pytest.raises(ConfigurationError, match=r'keeps "risk 0\.05"'):
            again(str(file), abstain_below="risk 0.5")
    finally:
        recognise.model.config.calibration = None
