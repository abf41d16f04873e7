"""Seconds and memory until the first answer, beside a plain transformers pipeline.

    python benchmarks/first_answer.py --repeats 5

Every answer is given by a process of its own, which imports everything and loads the model. The peer is transformers'
image-classification pipeline with a small vision transformer of random weights, read from a folder as ours are. Peer and kinds
take turns, so that a busy machine is busy for all of them. The ratios are medians over the turns of kind ÷ peer of the same turn:
`cpu` counts the processor's seconds, which other programs disturb less, `seconds` the clock's, `memory` the largest resident set.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time

PLAIN = """
import sys
from PIL import Image
from transformers import pipeline
pipeline("image-classification", model=sys.argv[1])(Image.new("RGB", (112, 112)))
"""
PEER = """
import sys
from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor
config = ViTConfig(hidden_size=192, num_hidden_layers=12, num_attention_heads=3, intermediate_size=768)
ViTForImageClassification(config).save_pretrained(sys.argv[1])
ViTImageProcessor().save_pretrained(sys.argv[1])
"""
KINDS = {
    "face": """
import meco_hub
from PIL import Image
from transformers import pipeline
pipeline("emotion-recognition")(Image.new("RGB", (112, 112)))
""",
    "eye": """
import meco_hub, numpy as np
from transformers import pipeline
recognise = pipeline("emotion-recognition", model=meco_hub.checkpoint("meco-mcoenet-synthetic-see"))
rng = np.random.default_rng(0)
events = {"x": rng.integers(0, 120, 5000), "y": rng.integers(0, 90, 5000), "t": np.sort(rng.integers(0, 10**6, 5000)),
          "p": rng.integers(0, 2, 5000), "width": 120, "height": 90}
frames = rng.integers(0, 256, (30, 90, 120), dtype=np.uint8)
recognise({"frames": frames, "frames_per_second": 30, "events": events})
""",
    "signals": """
import meco_hub, numpy as np
from transformers import pipeline
recognise = pipeline("emotion-recognition", model=meco_hub.checkpoint("meco-himoe-case"))
rng = np.random.default_rng(0)
recognise({"eda": (rng.random((1000, 2)), 20.0), "resp": (rng.random(1000), 20.0)})
""",
}
TAIL = "\nimport resource, sys\nprint(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, len(sys.modules))"


def measure(program: str, peer: str) -> dict[str, float]:
    """Seconds, processor seconds, MB and modules of one process that answers once; `peer` is the folder of the other model."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, "-W", "ignore", "-c", program + TAIL, peer]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1]
    seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    memory, modules = map(float, output.split())
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": seconds, "cpu": cpu, "memory": memory, "modules": modules}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="turns; one more is run before them and not counted")
    repeats = parser.parse_args().repeats
    found: dict[str, list[dict[str, float]]] = {name: [] for name in ("plain", *KINDS)}
    with tempfile.TemporaryDirectory() as peer:
        subprocess.run([sys.executable, "-c", PEER, peer], capture_output=True, check=True)
        for turn in range(repeats + 1):
            for name, program in {"plain": PLAIN, **KINDS}.items():
                one = measure(program, peer)
                if turn:  # the first turn warms the file cache
                    found[name].append(one)
    for name, own in found.items():
        keys = ("seconds", "cpu", "memory", "modules")
        middle = {key: statistics.median(one[key] for one in own) for key in keys}
        ratios = {
            key: statistics.median(one[key] / peer[key] for one, peer in zip(own, found["plain"], strict=True))
            for key in keys
        }
        print(f"{name:8} " + "  ".join(f"{key} {middle[key]:.4g} (x {ratios[key]:.2f})" for key in keys))


if __name__ == "__main__":
    main()
