"""Loading in any order of imports, by every Auto class, from a folder, by name, or with no model named."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]

DOORS = "from transformers import AutoModel, pipeline"
ORDERS = {
    "ours first": ["import meco_hub", DOORS],
    "transformers first": ["import transformers", "import meco_hub", DOORS],
    "auto classes first": ["from transformers import AutoProcessor", DOORS, "import meco_hub"],
    "torch first": ["import torch, accelerate", "import meco_hub", DOORS],
    "our pipeline first": ["from meco_hub import EmotionRecognitionPipeline", DOORS],
    "our auto class first": ["from meco_hub import AutoModelForEmotionRecognition", DOORS],
    "modeling_utils first": ["from transformers import PreTrainedModel", "import meco_hub", DOORS],
    "plugin first": ["import meco_expressnet_moe.modeling_expressnet_moe", DOORS, "import meco_hub"],
    "transformers, then the plugin": [DOORS, "import meco_expressnet_moe", "import meco_hub"],
    "image processors first": ["import transformers.models.auto.image_processing_auto", "import meco_hub", DOORS],
}

FAST = ("ours first", "our pipeline first", "transformers, then the plugin")

BY_ALL_DOORS = """
import sys, json
from transformers import AutoConfig, AutoModelForImageClassification, AutoProcessor, AutoImageProcessor
from meco_hub import AutoModelForEmotionRecognition
folder = {folder!r}
names = [type(door.from_pretrained(folder)).__name__ for door in
    (AutoConfig, AutoModel, AutoModelForImageClassification, AutoModelForEmotionRecognition, AutoProcessor, AutoImageProcessor)]
names.append(type(pipeline("emotion-recognition", model=folder)).__name__)
names.append(type(pipeline("image-classification", model=folder)).__name__)
print(json.dumps(names))
"""

EXPECTED = [
    "ExpressNetMoEConfig",
    "ExpressNetMoEModel",
    "ExpressNetMoEForEmotionRecognition",
    "ExpressNetMoEForEmotionRecognition",
    "ExpressNetMoEImageProcessor",
    "ExpressNetMoEImageProcessor",
    "EmotionRecognitionPipeline",
    "ImageClassificationPipeline",
]


def _doors(run_python: Run, order: str, folder: Path) -> None:
    done = run_python("\n".join(ORDERS[order]) + f"\n{BY_ALL_DOORS.format(folder=str(folder))}")
    assert json.loads(done.stdout.splitlines()[-1]) == EXPECTED
    for complaint in ("Traceback", "Warning", "not available", "left out", "not initialized", "slow image processor"):
        assert complaint not in done.stderr


@pytest.mark.parametrize("order", FAST)
def test_every_door_opens(run_python: Run, tiny_checkpoint: Path, order: str) -> None:
    _doors(run_python, order, tiny_checkpoint)


@pytest.mark.slow
@pytest.mark.parametrize("order", [order for order in ORDERS if order not in FAST])
def test_every_door_opens_in_any_order(run_python: Run, tiny_checkpoint: Path, order: str) -> None:
    _doors(run_python, order, tiny_checkpoint)


def test_our_auto_class_needs_no_company(run_python: Run, tiny_checkpoint: Path) -> None:
    code = "from meco_hub import AutoModelForEmotionRecognition as A; print(type(A.from_pretrained({!r})).__name__)"
    assert run_python(code.format(str(tiny_checkpoint))).stdout.strip() == "ExpressNetMoEForEmotionRecognition"


def test_a_plugin_that_raises_breaks_nothing_but_itself(
    run_python: Run, plant: Callable[..., Path], tiny_checkpoint: Path
) -> None:
    early = plant("meco-early", {"early.py": "1/0"}, {"meco_hub.architectures": {"meco_early": "early:architecture"}})
    # The entry point is sound, the classes behind it are not
    declaration = (
        "from meco_hub.plugins import Architecture\n"
        'architecture = Architecture(model_type="meco_late", kind="face", config="late_classes:C", '
        'base_model="late_classes:M", head="late_classes:H")'
    )
    late = plant(
        "meco-late",
        {"late.py": declaration, "late_classes.py": "raise RuntimeError('no such luck')"},
        {"meco_hub.architectures": {"meco_late": "late:architecture"}},
    )
    code = "\n".join(ORDERS["ours first"]) + f"\n{BY_ALL_DOORS.format(folder=str(tiny_checkpoint))}"
    done = run_python(code, path=(early, late))
    assert json.loads(done.stdout.splitlines()[-1]) == EXPECTED
    doctor = run_python(
        "from meco_hub.cli import main; raise SystemExit(main(['doctor']))", path=(early, late), check=False
    )
    assert doctor.returncode == 1
    assert "ZeroDivisionError: division by zero" in doctor.stdout
    assert "RuntimeError: no such luck" in doctor.stdout
    assert "ok  meco_expressnet_moe" in doctor.stdout
