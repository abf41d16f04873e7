"""What the first answer costs: predicting loads neither the evaluation nor what only training needs."""

import json
import subprocess
import sys

import pytest

FACE = """
import meco_hub
from PIL import Image
from transformers import pipeline
pipeline("emotion-recognition")(Image.new("RGB", (112, 112)))
"""
EYE = """
import meco_hub, numpy as np
from transformers import pipeline
recognise = pipeline("emotion-recognition", model=meco_hub.checkpoint("meco-mcoenet-synthetic-see"))
rng = np.random.default_rng(0)
events = {"x": rng.integers(0, 120, 900), "y": rng.integers(0, 90, 900), "t": np.sort(rng.integers(0, 10**6, 900)),
          "p": rng.integers(0, 2, 900), "width": 120, "height": 90}
frames = rng.integers(0, 256, (30, 90, 120), dtype=np.uint8)
recognise({"frames": frames, "frames_per_second": 30, "events": events})
"""
SIGNALS = """
import meco_hub, numpy as np
from transformers import pipeline
recognise = pipeline("emotion-recognition", model=meco_hub.checkpoint("meco-himoe-case"))
rng = np.random.default_rng(0)
recognise({"eda": (rng.random((1000, 2)), 20.0), "resp": (rng.random(1000), 20.0)})
"""
PLAIN = """
from PIL import Image
from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor, pipeline
model = ViTForImageClassification(ViTConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=1, intermediate_size=32))
pipeline("image-classification", model=model.eval(), image_processor=ViTImageProcessor())(Image.new("RGB", (112, 112)))
"""
HEAVY = {"datasets", "sklearn", "pandas", "pyarrow", "matplotlib", "scipy", "timm", "cv2"}


def modules_after(program: str) -> set[str]:
    code = program + "\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    result = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return set(json.loads(result.stdout.splitlines()[-1]))


@pytest.fixture(scope="module")
def plain() -> set[str]:
    """What transformers' own pipeline has loaded after a picture; transformers itself loads parts of SciPy."""
    return modules_after(PLAIN)


@pytest.mark.parametrize(
    ("program", "needed"), [(FACE, {"timm", "cv2"}), (EYE, set()), (SIGNALS, {"scipy"})], ids=["face", "eye", "signals"]
)
def test_predicting_loads_only_what_it_needs(plain: set[str], program: str, needed: set[str]) -> None:
    more = modules_after(program) - plain
    assert "meco_hub.pipeline" in more
    packages = {name.split(".")[0] for name in more}
    assert packages & HEAVY <= needed
    assert not {
        name for name in more if name.startswith(("meco_hub.evaluation", "meco_hub.training", "meco_hub.corpora"))
    }
