"""CONTRIBUTING.md's story of a plugin, carried out command by command in an empty folder and a new virtual environment.

The commands are read from the text, so that the two cannot diverge. The environment sees what is installed here (torch is not
downloaded again), except everything of ours: the core comes as a wheel, built from this tree.
"""

import json
import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
_OURS = re.compile(r"(?i)(__editable__.*|_+)?meco[_-]|_meco")


def story() -> list[str]:
    """The commands, in order."""
    text = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```bash\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


@pytest.fixture(scope="module")
def surroundings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a shell that has everything but us; pip finds us, and nothing else, in a folder of wheels."""
    root = tmp_path_factory.mktemp("surroundings")
    # of that name, because dill, by which datasets sees whether a function has changed, takes all else for the user's own
    others, wheels = root / "others" / "site-packages", root / "wheels"
    others.mkdir(parents=True)
    for item in Path(sysconfig.get_paths()["purelib"]).iterdir():
        # .pth files count only in a site folder: what they add, editable installs of ours above all, stays out
        if not _OURS.match(item.name) and item.suffix != ".pth" and item.name != "__pycache__":
            (others / item.name).symlink_to(item)
    environment = {
        **{
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("PIP_", "PYTHON", "VIRTUAL_ENV", "COV"))
        },
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": str(others),
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(wheels),
        "PIP_NO_BUILD_ISOLATION": "0",  # pip's own spelling of "build with what is installed"
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "HF_HOME": str(root / "hf"),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(wheels), str(REPOSITORY)]
    subprocess.run(pip, check=True, env=environment, cwd=root)
    return environment


def tell(commands: list[str], folder: Path, environment: Mapping[str, str]) -> str:
    """Carry out the commands in one shell; gives what they printed."""
    program = "\n".join(f"echo '$ {command}'\n{command}" for command in commands)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", program],
        cwd=folder,
        env=dict(environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=1500,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:]
    return done.stdout


def after(printed: str, command: str) -> str:
    """What a command printed, the last time it ran."""
    return printed.rpartition(f"$ {command}\n")[2].partition("\n$ ")[0]


def test_the_story_has_its_commands() -> None:
    commands = story()
    assert commands[0] == "python -m venv .venv"
    for beginning in (
        "meco new",
        "pip install -e",
        "meco list",
        "meco synthetic",
        "meco train",
        "pip wheel",
        "meco doctor",
    ):
        assert any(command.startswith(beginning) for command in commands), beginning
    assert any("pytest" in command and "tests" in command for command in commands)


@pytest.mark.slow
@pytest.mark.timeout(1600)
def test_the_story_of_contributing(surroundings: dict[str, str], tmp_path: Path) -> None:
    commands = story()
    printed = tell(commands, tmp_path, surroundings)
    assert "meco_my_model" in after(printed, "meco list")
    assert "meco_my_model/synthetic" in after(printed, "meco list")
    assert "synthetic" in after(printed, "meco synthetic image_folder data --seed 0 --people 40")
    tests = after(printed, "python -m pytest meco-my-model/tests")
    assert re.search(r"\d\d passed", tests)
    assert not re.search(r"failed|skipped|error", tests)
    parts = [part.partition("\n$ ")[0] for part in printed.split("$ meco predict data/happiness --model out\n")[1:]]
    answers = [[line for line in part.splitlines() if "Synthetic_Person" in line] for part in parts]  # no progress bars
    assert len(answers) == 2
    assert answers[0] == answers[1], "the wheel answers otherwise than the editable install"
    assert len(answers[0]) == 80
    assert "ok  meco_my_model (meco-my-model)" in after(printed, "meco doctor")
    # drawn faces, people apart: far from a third by chance, and no claim about anybody
    report = json.loads((tmp_path / "report" / "report.json").read_text(encoding="utf-8"))
    assert report["metrics"]["uar"] > 0.6
    # no trace of this repository's own plugins: the core stood alone
    assert "expressnet" not in printed


@pytest.mark.slow
@pytest.mark.timeout(1600)
@pytest.mark.parametrize(("kind", "corpus"), [("eye", "see"), ("signals", "case")])
def test_the_other_kinds_do_it_too(kind: str, corpus: str, surroundings: dict[str, str], tmp_path: Path) -> None:
    read = (
        "from meco_hub import plugins; from transformers import AutoModel, AutoProcessor, pipeline; import json; "
        f"corpus = plugins.corpus('{corpus}'); row = next(iter(corpus.load('data').values()))[0]; "
        "answer = pipeline('emotion-recognition', model='out')(corpus.read(row)); "
        "print(json.dumps([type(AutoModel.from_pretrained('out')).__name__, type(AutoProcessor.from_pretrained('out')).__name__, "
        "sorted(entry['label'] for entry in answer)]))"
    )
    printed = tell(
        [
            "python -m venv .venv",
            "source .venv/bin/activate",
            "pip install meco-hub pytest",
            f"meco new other --kind {kind}",
            "pip install ./meco-other",
            f"meco synthetic {corpus} data --people 6",
            "meco train --recipe meco_other/synthetic --data_dir data --output_dir out --max_train_steps 6",
            f'python -c "{read}"',
            "python -m pytest meco-other/tests",
        ],
        tmp_path,
        surroundings,
    )
    names = json.loads(next(line for line in printed.splitlines() if line.startswith('["Meco')))
    assert names[0] == "MecoOtherModel"
    assert names[1] == {"eye": "MecoOtherProcessor", "signals": "MecoOtherSignalWindower"}[kind]
    assert names[2] == (["arousal", "valence"] if kind == "signals" else sorted(names[2]))
    assert len(names[2]) == {"eye": 7, "signals": 2}[kind]
    tests = after(printed, "python -m pytest meco-other/tests")
    assert re.search(r"\d\d passed", tests)
    assert not re.search(r"failed|skipped|error", tests)
