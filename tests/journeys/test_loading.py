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
    "accelerate first": ["import accelerate", "import meco_hub", DOORS],
    "the plugin before torch": ["import meco_expressnet_moe", "import torch, accelerate", DOORS, "import meco_hub"],
    "everybody before us": [
        "import torch",
        "import accelerate",
        "import transformers",
        "from transformers import Trainer",
        DOORS,
    ],
    "the plugin's classes between": [
        "import transformers",
        "from meco_expressnet_moe.modeling_expressnet_moe import ExpressNetMoEModel",
        "import accelerate",
        DOORS,
    ],
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


DECLARATION = """
from meco_hub.plugins import Architecture
architecture = Architecture(model_type={name!r}, kind="face", config="{module}:C", base_model="{module}:M", head="{module}:H")
"""
CLASSES = """
from transformers import PreTrainedConfig, PreTrainedModel
class C(PreTrainedConfig):
    model_type = {name!r}
class M(PreTrainedModel):
    config_class = C
class H(PreTrainedModel):
    config_class = C
"""
GROUP = "meco_hub.architectures"


def _misbehaving(plant: Callable[..., Path], what: str) -> tuple[Path, ...]:
    """Installed distributions that do what they should not."""
    name = f"meco_{what}"
    sound = DECLARATION.format(name=name, module=f"{what}_classes")
    files = {f"{what}.py": sound, f"{what}_classes.py": CLASSES.format(name=name)}
    target = {GROUP: {name: f"{what}:architecture"}}
    if what == "twice":
        return tuple(plant(f"meco-{what}-{number}", files, target) for number in (1, 2))
    if what == "nothing":
        files = {}
    if what == "torch":
        files = {f"{what}_first.py": "import torch\n" + sound, f"{what}_classes.py": CLASSES.format(name=name)}
        target = {GROUP: {name: f"{what}_first:architecture"}}
    if what == "exits":
        files[f"{what}_classes.py"] = "raise SystemExit(3)"
    if what == "lies":  # its config is another's
        files[f"{what}_classes.py"] = CLASSES.format(name="meco_other")
    if what == "misspelt":
        files[f"{what}.py"] = sound.replace('kind="face"', 'kind="face", native_heads=("AutoModelForNothing",)')
    if what == "future":
        files[f"{what}.py"] = sound.replace('kind="face"', 'kind="face", api_version=99')
    if what == "hangs":
        files[f"{what}.py"] = "import time\ntime.sleep(3)\n" + sound
    site = plant(f"meco-{what}", files, target)
    return (site,)


MISBEHAVIOUR = {
    "twice": "claimed by meco-twice-1 and meco-twice-2",
    "nothing": "ModuleNotFoundError: No module named 'nothing'",
    "future": "it was written for version 99 of the plugin contract",
    "torch": "'meco_torch' of meco-torch imports torch",
    "hangs": "'meco_hangs' of meco-hangs is still being imported after 1 s",
    "exits": "the classes of 'meco_exits' cannot be imported, so it is left out: SystemExit",
    "lies": "the classes of 'meco_lies' cannot be registered, so it is left out: ValueError",
    "misspelt": "the classes of 'meco_misspelt' cannot be registered, so it is left out: AttributeError",
}


def _works_among(run_python: Run, plant: Callable[..., Path], folder: Path, what: tuple[str, ...]) -> None:
    sites = [site for one in what for site in _misbehaving(plant, one)]
    early = "from meco_hub import plugins; plugins.PATIENCE_S = 1.0\n"
    code = early + "\n".join(ORDERS["ours first"]) + f"\n{BY_ALL_DOORS.format(folder=str(folder))}"
    done = run_python(code, path=tuple(sites))
    assert json.loads(done.stdout.splitlines()[-1]) == EXPECTED
    for one in what:
        assert done.stderr.count(MISBEHAVIOUR[one]) == (2 if one == "twice" else 1), done.stderr


def test_auto_model_works_among_all_that_misbehave(
    run_python: Run, plant: Callable[..., Path], tiny_checkpoint: Path
) -> None:
    _works_among(run_python, plant, tiny_checkpoint, tuple(MISBEHAVIOUR))


@pytest.mark.slow
@pytest.mark.parametrize("what", MISBEHAVIOUR)
def test_auto_model_works_beside_one_that_misbehaves(
    run_python: Run, plant: Callable[..., Path], tiny_checkpoint: Path, what: str
) -> None:
    _works_among(run_python, plant, tiny_checkpoint, (what,))


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


ROWS = """
import torch

class Rows(torch.utils.data.Dataset):
    def __init__(self, parts, pictures):
        self.parts, self.pictures = parts, pictures
    def __len__(self):
        return len(self.pictures)
    def __getitem__(self, index):
        from transformers import AutoModel
        from meco_hub import AutoModelForEmotionRecognition as AutoHead
        built = [type(door.from_config(config)).__name__ for config, _ in self.parts for door in (AutoModel, AutoHead)]
        return {"picture": self.parts[0][1](self.pictures[index], return_tensors="pt")["pixel_values"][0], "built": " ".join(built)}

class Collate:
    def __init__(self, processors):
        self.processors = processors
    def __call__(self, rows):
        names = {type(one).__name__ for one in self.processors}
        return torch.stack([row["picture"] for row in rows]), [row["built"] for row in rows], sorted(names)
"""

MAKE_PARTS = """
from meco_expressnet_moe.processing_expressnet_moe import ExpressNetMoEImageProcessor
from meco_himoe.configuration_himoe import HiMoEConfig
from meco_himoe.processing_himoe import HiMoESignalWindower
from meco_mcoenet.configuration_mcoenet import MCOENetConfig
from meco_mcoenet.processing_mcoenet import MCOENetProcessor
from transformers import AutoConfig
signals = HiMoEConfig(id2label={0: "calm", 1: "stress"})
parts = [
    (AutoConfig.from_pretrained(FOLDER), ExpressNetMoEImageProcessor.from_pretrained(FOLDER)),
    (signals, HiMoESignalWindower.for_config(signals)),
    (MCOENetConfig.small(), MCOENetProcessor()),
]
"""

BUILT = (
    "ExpressNetMoEModel ExpressNetMoEForEmotionRecognition HiMoEModel HiMoEForEmotionRecognition "
    "MCOENetModel MCOENetForEmotionRecognition"
)


@pytest.mark.slow
def test_spawned_workers_know_the_plugins(run_python: Run, tiny_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "workers").mkdir()
    (tmp_path / "workers" / "rows.py").write_text(ROWS)
    program = f"""
import json, numpy as np, torch
import meco_hub
FOLDER = {str(tiny_checkpoint)!r}
{MAKE_PARTS}
from rows import Collate, Rows
pictures = [np.full((48, 48, 3), value, np.uint8) for value in (0, 80, 160, 240)]
collate = Collate([processor for _, processor in parts])
loader = torch.utils.data.DataLoader(
    Rows(parts, pictures), batch_size=2, num_workers=2, multiprocessing_context="spawn", collate_fn=collate
)
batches = list(loader)
here = parts[0][1](pictures, return_tensors="pt")["pixel_values"]
assert torch.equal(torch.cat([one for one, _, _ in batches]), here)
print(json.dumps([[name for _, built, _ in batches for name in built], batches[0][2]]))
"""
    done = run_python(program, path=(tmp_path / "workers",))
    built, processors = json.loads(done.stdout.splitlines()[-1])
    assert built == [BUILT] * 4
    assert processors == ["ExpressNetMoEImageProcessor", "HiMoESignalWindower", "MCOENetProcessor"]


@pytest.mark.slow
def test_pickled_configs_and_processors_are_known_where_nobody_imported_us(
    run_python: Run, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    file = tmp_path / "parts.pickle"
    write = f"""
import pickle
FOLDER = {str(tiny_checkpoint)!r}
import meco_hub
{MAKE_PARTS}
pickle.dump(parts, open({str(file)!r}, "wb"))
"""
    run_python(write)
    for first, last in (("", "from transformers import AutoModel"), ("from transformers import AutoModel", "")):
        read = f"""
import pickle
{first}
parts = pickle.load(open({str(file)!r}, "rb"))
{last}
from meco_hub import AutoModelForEmotionRecognition as AutoHead
print(*[type(door.from_config(config)).__name__ for config, _ in parts for door in (AutoModel, AutoHead)])
print(parts[0][1].size["height"], parts[1][1].modality_names == parts[1][0].modality_names, parts[2][1].num_frames)
"""
        done = run_python(read)
        assert done.stdout.splitlines()[-2:] == [BUILT, "64 True 4"]
        assert "left out" not in done.stderr
