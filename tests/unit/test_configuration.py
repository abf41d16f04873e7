"""Configs of strangers: nothing is made by what they say before it is known to be possible, and only our errors come of them."""

import json
import os
import random
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub.errors import StrictDataclassError

import meco_hub
from meco_hub import plugins
from meco_hub.cli import main
from meco_hub.configuration import LARGEST, hold_to_limits
from meco_hub.errors import CheckpointError, ConfigurationError, MecoError
from meco_hub.loading import load_model, load_processor, read_config
from meco_hub.pipeline import recogniser

CHECKPOINTS = sorted(plugins.checkpoints())
BROKEN: list[Any] = [
    None, True, 0, -1, 1, 2**31, 2_000_000_000, 10**400, -(10**30), 1e308, float("nan"), float("inf"), 1.5, "", "x" * 99, "\ud800",
    [], [0], [None], [[]], {}, {"a": 1}, {"0": "x"}, ["x"] * 5, 2e9,
]  # fmt: skip


def _with(folder: Path, name: str, content: Any) -> str:
    """The folder of a bundled checkpoint, with another config."""
    source = meco_hub.checkpoint(name)
    for file in source.iterdir():
        link = folder / file.name
        if file.suffix == ".safetensors" or file.name.startswith(("preprocessor", "processor")):
            link.unlink(missing_ok=True)
            link.symlink_to(file)
    (folder / "config.json").write_text(json.dumps(content))
    return str(folder)


def _config(name: str) -> dict[str, Any]:
    return json.loads((meco_hub.checkpoint(name) / "config.json").read_text())


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_any_value_in_any_place_is_read_or_refused(name: str, tmp_path: Path) -> None:
    generator = random.Random(name)
    sound = _config(name)
    for _ in range(25):
        config = json.loads(json.dumps(sound))
        place, key = config, generator.choice([*sound, "num_labels"])
        while isinstance(place.get(key), dict) and place[key] and generator.random() < 0.7:
            place, key = place[key], generator.choice(list(place[key]))
        place[key] = generator.choice(BROKEN)
        try:
            read_config(_with(tmp_path, name, config))
        except MecoError:
            continue
    for content in (None, [], "x", 3, {}, {"model_type": []}, {"model_type": sound["model_type"], "id2label": "x"}):
        with pytest.raises(MecoError):
            load_model(_with(tmp_path, name, content))


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("meco-himoe-stress", {"encoder_layers": 10**6}),
        pytest.param("meco-himoe-stress", {"context_layers": 50_000}, marks=pytest.mark.slow),
        pytest.param("meco-himoe-stress", {"time_num_freqs": 10**6}, marks=pytest.mark.slow),
        pytest.param("meco-himoe-stress", {"d_model": 2**19}, marks=pytest.mark.slow),
        pytest.param("meco-himoe-stress", {"num_members": 10**5}, marks=pytest.mark.slow),
        ("meco-expressnet-lfw5", {"fe1_hidden_size": 10**6}),
        pytest.param("meco-expressnet-lfw5", {"num_experts": 10**5}, marks=pytest.mark.slow),
        pytest.param("meco-mcoenet-synthetic-see", {"fusion_dim": 2**20}, marks=pytest.mark.slow),
        ("meco-mcoenet-synthetic-see", {"deep_layers": 10**6}),
    ],
)
def test_a_network_is_no_larger_than_its_weights(name: str, changes: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"describes a network of more than|do not fit|cannot be read"):
        load_model(_with(tmp_path, name, {**_config(name), **changes}))


@pytest.mark.parametrize("count", [2_000_000_000, 2e9, -1, 0, True, "7", [7]])
def test_labels_are_counted_before_they_are_named(count: Any, tmp_path: Path) -> None:
    for name in CHECKPOINTS:
        config = {
            key: value for key, value in _config(name).items() if key not in ("id2label", "label2id", "target_names")
        }
        with pytest.raises(CheckpointError):
            read_config(_with(tmp_path, name, {**config, "num_labels": count}))
        kind = plugins.load_dotted(plugins.architecture(config["model_type"]).config)
        with pytest.raises((ConfigurationError, StrictDataclassError)):
            kind(num_labels=count)


@pytest.mark.parametrize(
    "value",
    [
        LARGEST + 1,
        -LARGEST - 1,
        float("nan"),
        1e13,
        "x" * 70_000,
        [0] * (1 << 19),
        [[0] * 1000] * 300,
        [[[]] * 3] * 90_000,
    ],
)
def test_limits(value: Any) -> None:
    hold_to_limits({"sound": [1, 2.5, None, True, "x", {"deep": [LARGEST, -LARGEST]}]})
    with pytest.raises(ConfigurationError) as caught:
        hold_to_limits({"a": {"b": value}})
    assert len(str(caught.value)) < 400
    deep: Any = []
    for _ in range(100):
        deep = [deep]
    with pytest.raises(ConfigurationError, match="levels deep"):
        hold_to_limits(deep)


def test_a_processor_is_held_to_the_same(tmp_path: Path) -> None:
    name = "meco-expressnet-lfw5"
    folder = Path(_with(tmp_path, name, _config(name)))
    file = folder / "preprocessor_config.json"
    sound = json.loads(file.read_text())
    huge = [{**sound, "size": {"height": side, "width": side}} for side in (10**8, 10**5)]
    for content in (*huge, [], None, {**sound, "size": 10**400}):
        file.unlink()
        file.write_text(json.dumps(content))
        with pytest.raises(CheckpointError):
            load_processor(str(folder))


@pytest.mark.slow
@pytest.mark.parametrize("name", CHECKPOINTS)
def test_a_processor_that_makes_nothing_is_found_when_it_is_loaded(name: str, tmp_path: Path) -> None:
    generator = random.Random(name)
    folder = Path(_with(tmp_path, name, _config(name)))
    (file,) = folder.glob("*processor_config.json")
    sound = json.loads(file.read_text())
    for _ in range(12):
        content = json.loads(json.dumps(sound))
        place, key = content, generator.choice(list(content))
        while isinstance(place[key], dict) and place[key]:
            place, key = place[key], generator.choice(list(place[key]))
        place[key] = generator.choice(BROKEN)
        file.unlink()
        file.write_text(json.dumps(content))
        with suppress(MecoError):
            recogniser(folder)


def test_nobody_is_asked_for_trust(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def asked(*_: Any) -> str:
        raise AssertionError("a prompt")

    monkeypatch.setattr("builtins.input", asked)
    name = "meco-expressnet-lfw5"
    for kind in ("somebodys", _config(name)["model_type"]):
        doors = {
            "AutoConfig": "evil.C",
            "AutoModel": "evil.M",
            "AutoProcessor": "evil.P",
            "AutoImageProcessor": "evil.P",
        }
        folder = _with(tmp_path, name, {**_config(name), "model_type": kind, "auto_map": doors})
        (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'RAN')!r}, 'w')\n")
        main(["predict", str(tmp_path / "x.png"), "--model", folder])
        assert "Traceback" not in capsys.readouterr().err
    assert not (tmp_path / "RAN").exists()


@pytest.mark.parametrize("name", CHECKPOINTS)
@pytest.mark.parametrize(
    "key", ["attn_implementation", "_attn_implementation", "_attn_implementation_internal", "experts_implementation"]
)
@pytest.mark.parametrize("value", ["evil/kernel", "paged|evil/kernel@main:f", {"": "kernels-community/flash-attn"}])
def test_a_config_names_no_code_of_the_hub(name: str, key: str, value: Any, tmp_path: Path) -> None:
    folder = _with(tmp_path, name, {**_config(name), key: value})
    for load in (read_config, load_model, recogniser):
        with pytest.raises(MecoError, match="code from the Hub"):
            load(folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"architectures": 5}, "architectures is 5"),
        ({"return_dict": False}, "return_dict is False"),
        ({"model_type": "bert"}, "no architecture named 'bert'"),
        ({"attn_implementation": "flash_attention_2"}, "No network can be made|Flash|flash"),
        ({"quantization_config": {"load_in_4bit": True}}, "No network can be made"),
        ({"quantization_config": 7}, "cannot be read"),
        ({"dtype": "no_such"}, "cannot be read|No network can be made"),
    ],
)
def test_what_transformers_itself_reads_of_a_config(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    """Keys that are none of our fields: an error of ours."""
    name = "meco-expressnet-lfw5"
    folder = _with(tmp_path, name, {**_config(name), **change})
    picture = np.zeros((64, 64, 3), np.uint8)
    with pytest.raises(MecoError, match=said):
        recogniser(folder)(picture, faces="cropped")


@pytest.mark.parametrize("file", ["config.json", "generation_config.json", "preprocessor_config.json"])
def test_a_file_of_gigabytes_is_not_read(file: str, tmp_path: Path) -> None:
    name = "meco-expressnet-lfw5"
    folder = _with(tmp_path, name, _config(name))
    place = Path(folder, file)
    content = place.read_bytes() if place.is_file() else b"{}"
    place.unlink(missing_ok=True)
    place.write_bytes(content)
    os.truncate(place, 2**33)  # of which the disk holds nothing
    with pytest.raises(CheckpointError, match=f"{file} says that it holds 8589934592 bytes"):
        read_config(folder)


def test_transformers_own_pipeline_asks_nobody_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the architecture is one of ours; of others transformers asks, as it always does."""
    import transformers

    def asked(*_: Any) -> str:
        raise AssertionError("a prompt")

    monkeypatch.setattr("builtins.input", asked)
    name = "meco-expressnet-lfw5"
    doors = {"AutoConfig": "evil.C", "AutoModelForImageClassification": "evil.M", "AutoImageProcessor": "evil.P"}
    folder = _with(tmp_path, name, {**_config(name), "auto_map": doors})
    (Path(folder) / "evil.py").write_text(f"open({str(tmp_path / 'RAN')!r}, 'w')\n")
    recognise = transformers.pipeline("emotion-recognition", model=folder)
    assert type(recognise.model).__module__.startswith("meco_")
    assert not (tmp_path / "RAN").exists()
