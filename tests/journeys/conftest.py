"""A tiny face checkpoint, as `save_pretrained` leaves it, portraits to show it, and trainings that can be killed."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with config, weights and processor of a face model of a few thousand parameters, untrained."""
    import torch

    from meco_expressnet_moe.configuration_expressnet_moe import ExpressNetMoEConfig
    from meco_expressnet_moe.modeling_expressnet_moe import ExpressNetMoEForEmotionRecognition
    from meco_expressnet_moe.processing_expressnet_moe import ExpressNetMoEImageProcessor

    folder = tmp_path_factory.mktemp("checkpoints") / "tiny"
    torch.manual_seed(0)
    config = ExpressNetMoEConfig(
        image_size=64,
        fe1_channels=[4, 8],
        fe1_kernel_sizes=[7, 3],
        fe1_hidden_size=16,
        fe2_channels=[4, 8],
        fe2_kernel_sizes=[5, 3],
        fusion_hidden_size=16,
        backbone_depths=[1, 1],
        backbone_widths=[4, 8],
    )
    ExpressNetMoEForEmotionRecognition(config).save_pretrained(folder)
    ExpressNetMoEImageProcessor(size={"height": 64, "width": 64}).save_pretrained(folder)
    return folder


def _packaged(package: str, inside: str) -> Path:
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        pytest.skip(f"{package}, which carries the portrait, is not installed")
    return Path(spec.origin).parent / inside


@pytest.fixture(scope="session")
def astronaut() -> Path:
    """Eileen Collins, NASA, public domain; a smile."""
    return _packaged("skimage", "data/astronaut.png")


@pytest.fixture(scope="session")
def hopper() -> Path:
    """Rear Admiral Grace Hopper, US Navy, public domain; no smile."""
    return _packaged("matplotlib", "mpl-data/sample_data/grace_hopper.jpg")


class TrainingServer:
    """The other end of `training_server.py`: trains in processes that can be killed, without starting Python for each."""

    def __init__(self, folder: Path, **environment_changes: str) -> None:
        program = Path(__file__).with_name("training_server.py")
        environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "ACCELERATE_USE_CPU": "true"}
        environment |= environment_changes
        self._process = subprocess.Popen(
            [sys.executable, str(program), str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        assert self._read() == "ready\n"

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def train(self, recipe: Mapping[str, Any], data_dir: Path, output_dir: Path, **job: Any) -> dict[str, Any]:
        """Train, be it killed or not; `job` as in `training_server.py`, and `flags` for the command line.

        Returns:
            codes (one per rank; -9 after SIGKILL), seconds, doing, saved, resumed, changes, logs.
        """
        flags = {"data_dir": str(data_dir), "output_dir": str(output_dir), **job.pop("flags", {})}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"recipe": dict(recipe), "options": flags, "ranks": 1, **job}) + "\n")
        self._process.stdin.flush()
        return json.loads(self._read())

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)


@pytest.fixture(scope="session")
def training_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrainingServer]:
    """One server for all tests that kill trainings."""
    server = TrainingServer(tmp_path_factory.mktemp("training"))
    yield server
    server.close()


@pytest.fixture
def start_training_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., TrainingServer]]:
    """Start a server with variables of its own: `start_training_server(ACCELERATE_USE_FSDP="true")`."""
    servers: list[TrainingServer] = []

    def start(**environment_changes: str) -> TrainingServer:
        servers.append(TrainingServer(tmp_path_factory.mktemp("training"), **environment_changes))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture(scope="session")
def look_alike(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """96 drawn faces of three expressions in a folder per class."""
    from meco_hub.corpora.synthetic.faces import write_image_folder

    folder = tmp_path_factory.mktemp("look-alike") / "faces"
    write_image_folder(folder, seed=1, labels=("neutral", "happiness", "surprise"), people=16, takes=2, size=32)
    return folder
