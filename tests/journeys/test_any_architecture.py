"""Every architecture trains by a recipe and nothing else, through one loop: ours, and one that this repository does not know."""

import json
import os
import signal
import subprocess
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

import tiny_networks
from meco_hub import AutoModelForEmotionRecognition
from meco_hub.corpora.synthetic.eyes import write_see
from meco_hub.corpora.synthetic.faces import write_image_folder
from meco_hub.corpora.synthetic.signals import write_case_npz, write_dreamer, write_stress_predict

FACE = {
    "model_type": "meco_expressnet_moe",
    "model": {
        **tiny_networks.FACE,
    },
    "processor": {"size": {"height": 32, "width": 32}},
    "data": {"corpus": "image_folder", "train": {"split": "all"}, "validation": {"by_identity": 0.25}},
    "selection": "uar",
}
EYE = {
    "model_type": "meco_mcoenet",
    "model": {
        "attention_tokens": 8,
        "focal_tokens": 8,
        "backbone_depths": [1, 1, 1, 1],
        # fewer than 8 would break the heap where there is no AVX-512: docs/training.md
        "backbone_widths": [8, 8, 8, 8],
        "backbone_feature": "pooled",
        "fusion_dim": 32,
        "num_experts": 3,
        "router_hidden": 16,
        "focal_hidden": 16,
        "deep_layers": 1,
        "deep_mult": 2,
        "image_size": 32,
        "router_aux_loss_coef": 0.01,
    },
    "processor": {"image_processor": {"size": {"shortest_edge": 32}}},
    "augmentation": {"name": "clip", "num_frames": 4, "stride": 4},
    "data": {
        "corpus": "see",
        "options": {"split": "subject_disjoint"},
        "train": {"split": "train"},
        "validation": {"by_identity": 0.3},
    },
    "selection": "uar",
}
SIGNALS = {
    "model_type": "meco_himoe",
    "model": {
        "modalities": {
            "cardiac": {"channels": 2, "sampling_rate": 4.0, "patch_s": 1.0},
            "eda": {"channels": 2, "sampling_rate": 4.0, "patch_s": 1.0},
            "resp": {"channels": 1, "sampling_rate": 4.0, "patch_s": 1.0},
        },
        "window_s": 10.0,
        "grid_step_s": 1.0,
        "max_lag_s": 2.0,
        "prediction_mode": "sequence",
        "d_model": 16,
        "encoder_layers": 1,
        "eeb_layers": 1,
    },
    "processor": {"normalization": "population"},
    "augmentation": {"name": "signals"},
    "data": {"corpus": "case", "train": {"split": "all"}, "validation": {"by_identity": 0.3}},
    "calibrate": True,
    "selection": "rmse",
}
STRESS = {
    **SIGNALS,
    "model": {
        **SIGNALS["model"],
        "modalities": {
            "eda": {"channels": 1, "sampling_rate": 4.0, "patch_s": 2.0},
            "temp": {"channels": 1, "sampling_rate": 4.0, "patch_s": 2.0},
        },
        "window_s": 60.0,
        "grid_step_s": 4.0,
        "max_lag_s": 4.0,
        "prediction_mode": "window",
    },
    "data": {"corpus": "stress_predict", "train": {"split": "all"}, "validation": {"by_identity": 0.3}},
    "selection": "uar",
}
TRIALS = {
    **SIGNALS,
    "model": {
        **SIGNALS["model"],
        "modalities": {
            "eeg": {"channels": 14, "sampling_rate": 32.0},
            "ecg": {"channels": 2, "sampling_rate": 32.0},
        },
        "window_s": 8.0,
        "prediction_mode": "window",
    },
    "labels": ["valence", "arousal"],
    "clips_per_recording": 3,
    "data": {"corpus": "dreamer", "train": {"split": "all"}, "validation": {"by_trial": 0.3}},
    "selection": "ccc",
}
SHORT = {
    "learning_rate": 1e-3,
    "per_device_train_batch_size": 8,
    "per_device_eval_batch_size": 16,
    "max_train_steps": 4,
    "num_train_epochs": 1,
}

STRANGER = {
    "tiny_faces/__init__.py": """
from meco_hub.plugins import Architecture

architecture = Architecture(
    model_type="meco_tiny_faces", kind="face", config="tiny_faces.model:TinyConfig", base_model="tiny_faces.model:TinyModel",
    head="tiny_faces.model:TinyForEmotionRecognition", image_processor="tiny_faces.model:TinyProcessor",
    recipes="tiny_faces:recipes", description="A plugin that the repository does not know",
)
""",
    "tiny_faces/model.py": """
import torch
from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig
from transformers.modeling_layers import GradientCheckpointingLayer  # which imports the Auto classes while this file executes
from meco_hub.modeling import EmotionPreTrainedModel
from meco_hub.outputs import EmotionFeaturesOutput, EmotionRecognitionOutput
from meco_hub.processing.face_preprocessor import FacePreprocessor

@strict
class TinyConfig(PreTrainedConfig):
    model_type = "meco_tiny_faces"
    width: int = 4

class TinyModel(EmotionPreTrainedModel):
    config_class = TinyConfig
    base_model_prefix = "tiny"
    main_input_name = "pixel_values"
    def __init__(self, config):
        super().__init__(config)
        self.stem = torch.nn.Conv2d(3, config.width, 5, stride=4)
        self.post_init()
    def forward(self, pixel_values):
        return EmotionFeaturesOutput(pooler_output=self.stem(pixel_values).relu().mean(dim=(2, 3)))

class TinyForEmotionRecognition(EmotionPreTrainedModel):
    config_class = TinyConfig
    base_model_prefix = "tiny"
    main_input_name = "pixel_values"
    def __init__(self, config):
        super().__init__(config)
        self.tiny = TinyModel(config)
        self.classifier = torch.nn.Linear(config.width, config.num_labels)
        self.post_init()
    def forward(self, pixel_values, labels=None):
        logits = self.classifier(self.tiny(pixel_values).pooler_output)
        loss = None if labels is None else torch.nn.functional.cross_entropy(logits, labels)
        return EmotionRecognitionOutput(loss=loss, logits=logits)

class TinyProcessor(FacePreprocessor):
    size = {"height": 32, "width": 32}
""",
}


@pytest.fixture(scope="session")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The look-alike of every corpus that is trained on here."""
    root = tmp_path_factory.mktemp("corpora")
    write_image_folder(root / "faces", seed=1, people=8, takes=2, size=32)
    write_see(root / "see", seed=0, people=6, takes=1, size=32)
    write_case_npz(root / "case.npz", seed=0)
    write_stress_predict(root / "stress.zip", seed=0)
    write_dreamer(root / "DREAMER.mat", seed=0)
    return {
        "image_folder": root / "faces",
        "see": root / "see",
        "case": root / "case.npz",
        "stress_predict": root / "stress.zip",
        "dreamer": root / "DREAMER.mat",
    }


def train(recipe: dict[str, Any], data_dir: Path, folder: Path) -> dict[str, Any]:
    """One training, by the command line; gives its record."""
    from meco_hub.train import main

    file = folder / "recipe.yaml"
    file.write_text(yaml.safe_dump({**recipe, **SHORT}), encoding="utf-8")
    out = folder / "out"
    words = ["--recipe", str(file), "--data_dir", str(data_dir), "--output_dir", str(out), "--no_progress"]
    assert main(words) == 0
    return json.loads((out / "run.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("recipe", "labels"),
    [
        pytest.param(FACE, 3, id="faces"),
        pytest.param(EYE, 7, id="eyes"),
        pytest.param(SIGNALS, 2, id="signals-over-time"),
        pytest.param(STRESS, 2, id="signals-classes"),
        pytest.param(TRIALS, 2, id="signals-one-rating-a-trial"),
    ],
)
def test_ours_train_evaluate_and_answer(
    recipe: dict[str, Any], labels: int, corpora: dict[str, Path], tmp_path: Path
) -> None:
    from transformers import pipeline

    from meco_hub import plugins
    from meco_hub.evaluation.evaluate import EvaluationSettings, evaluate_checkpoint

    name = recipe["data"]["corpus"]
    data_dir = corpora[name]
    record = train(recipe, data_dir, tmp_path)
    assert record["steps"] == 4
    assert record["data"]["leak_check"]["clean"]
    out = tmp_path / "out"
    report = evaluate_checkpoint(out, name, data_dir, tmp_path / "report", EvaluationSettings(progress=False))
    figure = report["metrics"]["rmse" if "rmse" in report["metrics"] else "uar"]
    assert figure == figure  # a number, not NaN
    assert report["data"]["fingerprint"]
    # the same folder answers for a recording of the corpus, by the pipeline, on its own
    corpus = plugins.corpus(name)
    row = next(iter(corpus.load(data_dir).values()))[0]
    answer = pipeline("emotion-recognition", model=str(out))(corpus.read(row))
    assert len(answer) == labels
    assert all(isinstance(entry["score"], float) for entry in answer)


def test_a_stranger_trains_by_recipe_only(
    corpora: dict[str, Path],
    tmp_path: Path,
    plant: Callable[..., Path],
    run_python: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    recipe = {
        "model_type": "meco_tiny_faces",
        "model": {"width": 3},
        "data": {"corpus": "image_folder", "train": {"split": "all"}, "validation": {"by_identity": 0.25}},
        **SHORT,
    }
    files = {**STRANGER, "tiny_faces/recipes/quick.yaml": yaml.safe_dump(recipe)}
    site = plant("tiny-faces", files, {"meco_hub.architectures": {"meco_tiny_faces": "tiny_faces:architecture"}})
    program = f"""
import json
from meco_hub.train import main
assert main(["--recipe", "meco_tiny_faces/quick", "--data_dir", {str(corpora["image_folder"])!r}, "--output_dir", "out",
             "--no_progress"]) == 0
from transformers import AutoModel, pipeline
import meco_hub
assert type(AutoModel.from_pretrained("out")).__name__ == "TinyModel"
picture = next(iter(meco_hub.plugins.corpus("image_folder").load({str(corpora["image_folder"])!r}).values()))[0]
print(json.dumps(pipeline("emotion-recognition", model="out")(meco_hub.plugins.corpus("image_folder").read(picture))))
"""
    answer = json.loads(run_python(program, path=(site,)).stdout.splitlines()[-1])
    assert len(answer) == 3


FSDP = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_RESHARD_AFTER_FORWARD": "true",
    "FSDP_STATE_DICT_TYPE": "SHARDED_STATE_DICT",
}
"""What a file of `accelerate config` comes to."""

ZERO_3 = {
    "ACCELERATE_USE_DEEPSPEED": "true",
    "ACCELERATE_USE_CPU": "false",
    "ACCELERATE_DEEPSPEED_ZERO_STAGE": "3",
    "ACCELERATE_DEEPSPEED_ZERO3_SAVE_16BIT_MODEL": "true",
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("engine", "shares"),
    [
        pytest.param(FSDP, "pytorch_model_fsdp_0/*.distcp", id="FSDP"),
        pytest.param(
            ZERO_3,
            "pytorch_model/*_model_states.pt",
            marks=pytest.mark.skipif(find_spec("deepspeed") is None, reason="make test-deepspeed installs it"),
            id="ZeRO-3",
        ),
    ],
)
def test_every_architecture_trains_in_parts(
    engine: dict[str, str],
    shares: str,
    corpora: dict[str, Path],
    tmp_path: Path,
    plant: Callable[..., Path],
    start_training_server: Callable[..., Any],
    training_server: Any,
) -> None:
    site = plant("tiny-faces", STRANGER, {"meco_hub.architectures": {"meco_tiny_faces": "tiny_faces:architecture"}})
    server = start_training_server(**engine, PYTHONPATH=os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")]))
    stranger = {"model_type": "meco_tiny_faces", "model": {}, "data": FACE["data"]}
    changes = {**SHORT, "max_train_steps": 6, "num_train_epochs": 6, "per_device_train_batch_size": 4}
    recipes = {"faces": FACE, "eyes": EYE, "signals": SIGNALS, "stranger": stranger}
    logs = {}
    for name, recipe in recipes.items():
        data_dir, out = corpora[recipe["data"]["corpus"]], tmp_path / name
        stopped = {"signal": signal.SIGTERM, "whom": "all", "batches": 3}
        told = server.train({**recipe, **changes}, data_dir, out, ranks=2, kill=stopped)
        assert told["codes"] == [143, 143], told["logs"]
        # every process keeps its share, and nobody the whole
        assert len(list(out.glob(f"step_*/{shares}"))) == 2
        told = server.train({**recipe, **changes}, data_dir, out, ranks=2, flags={"resume_from_checkpoint": "auto"})
        assert told["codes"] == [0, 0], told["logs"]
        assert told["resumed"]
        logs[name] = told["logs"][0]
    assert "every expert runs on every clip" in logs["eyes"]
    told = training_server.train({**FACE, **changes}, corpora["image_folder"], tmp_path / "ddp", ranks=2)
    assert told["codes"] == [0, 0], told["logs"]
    # divided, stopped and gone on with, it learns as whole models do
    ddp, fsdp = (json.loads((tmp_path / name / "run.json").read_text(encoding="utf-8")) for name in ("ddp", "faces"))
    for one, other in zip(ddp["history"], fsdp["history"], strict=True):
        assert one["train_loss"] == pytest.approx(other["train_loss"], rel=1e-6)
        assert one["validation_loss"] == pytest.approx(other["validation_loss"], rel=1e-4)
    for name in ("faces", "eyes", "signals"):
        record = json.loads((tmp_path / name / "run.json").read_text(encoding="utf-8"))
        model = AutoModelForEmotionRecognition.from_pretrained(tmp_path / name)
        assert (record["steps"], record["class"]) == (6, type(model).__name__)
        assert record["parameters"] == sum(one.numel() for one in model.parameters())
        assert model.config.architectures == [type(model).__name__]


@pytest.mark.parametrize(
    "first", ["import tiny_faces.model", "import meco_hub; from transformers import PreTrainedModel"]
)
def test_config_and_model_may_share_a_file_whoever_imports_first(
    first: str, plant: Callable[..., Path], run_python: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    site = plant("tiny-faces", STRANGER, {"meco_hub.architectures": {"meco_tiny_faces": "tiny_faces:architecture"}})
    program = f"""
{first}
from transformers import AutoConfig, AutoImageProcessor, AutoModel
from meco_hub import AutoModelForEmotionRecognition
config = AutoConfig.for_model("meco_tiny_faces")
print(type(AutoModel.from_config(config)).__name__, type(AutoModelForEmotionRecognition.from_config(config)).__name__)
"""
    done = run_python(program, path=(site,))
    assert done.stdout.split() == ["TinyModel", "TinyForEmotionRecognition"]
    assert "left out" not in done.stderr
