"""What an index would give people: the five wheels in an environment that holds nothing else. Run by `make dist`.

    python tests/installed.py dist out/dist-venv       # wheels, and where the environment is made (5 GB, nearly all of it torch)

Core, faces and eyes come first, with what they require and no extra: both must answer, and what needs an extra must name it. Then
the wheel for signals, whose extra comes along.
"""

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

FACES_AND_EYES = """
import numpy as np
import sys
import meco_hub

assert "torch" not in sys.modules and "transformers" not in sys.modules
for package in ("accelerate", "datasets", "sklearn", "pyarrow", "scipy", "pandas"):
    try:
        __import__(package)
    except ModuleNotFoundError:
        continue
    raise SystemExit(f"{package} is here, so nothing would show that predicting needs it")
picture = np.random.default_rng(0).integers(0, 255, (96, 96, 3), np.uint8)
recognise = meco_hub.recogniser()
answer = recognise(picture, faces="cropped")
assert abs(sum(entry["score"] for entry in answer) - 1) < 1e-4, answer
print("a picture:", answer[0])
clip = np.random.default_rng(0).integers(0, 255, (120, 64, 64), np.uint8)
answer = meco_hub.recogniser("meco-mcoenet-synthetic-see")({"frames": clip, "events": clip})
assert answer[0]["training_data"] == "synthetic", answer
print("an eye:", answer[0])
for name in ("train_model", "evaluate_checkpoint"):
    try:
        getattr(meco_hub, name)("x", "x", "x", *(["x"] if name == "evaluate_checkpoint" else []))
    except meco_hub.MecoError as error:
        assert "meco-hub[train]" in str(error), error
        print(f"{name}:", error)
"""

NEED_AN_EXTRA = {
    "train": ["train", "--recipe", "meco_expressnet_moe/fer2013", "--data_dir", "x", "--output_dir", "y"],
    "train again": ["evaluate", "meco-expressnet-lfw5", "--dataset", "fer2013", "--data_dir", "x", "--output_dir", "y"],
    "train too": ["predict", "x", "--output", "y"],
}


def run(*command: str, cwd: Path, code: int = 0) -> str:
    """What a command prints; the program ends where its exit code is another."""
    done = subprocess.run(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode != code:
        raise SystemExit(f"{command[:3]} gave {done.returncode}, expected {code}:\n{done.stdout[-4000:]}")
    return done.stdout


def main(wheels: Path, environment: Path) -> None:
    venv.create(environment, clear=True, with_pip=True)
    python, meco = str(environment / "bin" / "python"), str(environment / "bin" / "meco")
    of = {path.name.split("-")[0]: str(path) for path in wheels.glob("*.whl")}
    signals = [of.pop("meco_himoe"), of.pop("meco_baselines")]
    with tempfile.TemporaryDirectory() as empty:
        here = Path(empty)
        run(python, "-m", "pip", "install", "--quiet", *of.values(), cwd=here)
        listed = run(meco, "list", cwd=here)
        for name in ("meco_expressnet_moe", "meco_mcoenet", "meco-expressnet-lfw5", "fer2013"):
            assert name in listed, f"meco list does not show {name}:\n{listed}"
        print(run(python, "-c", FACES_AND_EYES, cwd=here), end="")
        for extra, words in NEED_AN_EXTRA.items():
            said = run(meco, *words, cwd=here, code=1)
            assert f"meco-hub[{extra.split()[0]}]" in said, f"meco {words[0]} names no extra:\n{said}"
        run(python, "-m", "pip", "install", "--quiet", *signals, cwd=here)
        run(meco, "synthetic", "stress_predict", "wristbands", "--people", "1", cwd=here)
        folder = here / "wristbands" / "Raw_data" / "S01"
        answer = run(meco, "predict", str(folder), "--model", "meco-himoe-stress", cwd=here)
        assert "stress 0." in answer, answer
        print("a wristband:", answer.splitlines()[-1].partition(": ")[2])
        print(run(meco, "doctor", cwd=here), end="")
        run(python, "-m", "pip", "check", cwd=here)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve())  # commands are run in an empty folder
