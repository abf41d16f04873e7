"""Checkpoints that were exported: a folder with a graph in place of weights, run by onnxruntime.

    OUT/model.onnx                 the graph, every expert in it; names, processor and calibration in its metadata
    OUT/config.json …              as beside weights, so that AutoConfig, AutoProcessor and pipelines read it

An exported model takes what the head takes and answers `logits`; nothing else of the head's outputs is in the graph. It computes on
CPUs and cannot be trained. Streams that lie in mappings ({"inputs": {"eda": …}}) are single inputs of the graph ("inputs.eda").
"""

import inspect
import json
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedConfig, PreTrainedModel

from . import plugins
from .errors import CheckpointError, ConfigurationError, InputError, naming_extras
from .outputs import EmotionRecognitionOutput
from .reading import reading

ONNX_FILE = "model.onnx"
"""As Optimum names it."""
PROGRAM_FILE = "model.pt2"
METADATA = "meco_hub.export"
"""Key of an ONNX file's metadata under which stands how it was made."""

Tensors = dict[str, torch.Tensor]


def flatten(batch: Mapping[str, Any], before: str = "") -> Tensors:
    """Nested mappings of tensors as one: {"inputs": {"eda": x}} → {"inputs.eda": x}."""
    flat: Tensors = {}
    for key, value in batch.items():
        flat |= flatten(value, f"{before}{key}.") if isinstance(value, Mapping) else {f"{before}{key}": value}
    return flat


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The reverse of `flatten`."""
    batch: dict[str, Any] = {}
    for name, value in flat.items():
        *path, last = name.split(".")
        place = batch
        for key in path:
            place = place.setdefault(key, {})
        place[last] = value
    return batch


def graph_inputs(model: Any, batch: Mapping[str, Any]) -> Tensors:
    """What the graph takes of a processor's batch."""
    if hasattr(model, "export_inputs"):
        return flatten(model.export_inputs(batch))
    takes = inspect.signature(type(model).forward).parameters
    return flatten({name: value for name, value in batch.items() if name in takes})


def is_exported(folder: str | os.PathLike[str] | None) -> bool:
    """Whether a folder holds a graph and no weights."""
    path = Path(folder or "")
    graph = any(os.path.isfile(path / name) for name in (ONNX_FILE, PROGRAM_FILE))  # noqa: PTH113 — a Path raises the system's
    return folder is not None and graph and not any(path.glob("*.safetensors"))


def _open(file: Path, threads: int | None) -> Any:
    with naming_extras():
        import onnxruntime
    options = onnxruntime.SessionOptions()
    if threads is not None:
        options.intra_op_num_threads = threads
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise CheckpointError(
            f"{file} cannot be opened by onnxruntime {onnxruntime.__version__}: {str(error)[:300]}. Expected a graph that "
            "`meco export` wrote; export it again, with a lower --opset where this onnxruntime is old."
        ) from error


class ExportedModel(PreTrainedModel):
    """A head whose forward is a graph that onnxruntime runs. Made by `load_exported`.

    Args:
        config: of the checkpoint.
        folder: where model.onnx lies.
        threads: of onnxruntime; None: one per core.

    Attributes:
        export: how the graph was made: format, dtype, opset, which inputs vary in size, versions.
    """

    main_input_name = "pixel_values"

    def __init__(self, config: PreTrainedConfig, folder: Path, threads: int | None = None) -> None:
        super().__init__(config)
        self.session = _open(folder / ONNX_FILE, threads)
        self._inputs = {one.name: one for one in self.session.get_inputs()}
        metadata = self.session.get_modelmeta().custom_metadata_map
        with reading(f"{folder / ONNX_FILE}: its metadata cannot be read", CheckpointError, "Export it again."):
            self.export: dict[str, Any] = dict(json.loads(metadata.get(METADATA, "{}")))
        self.name_or_path = str(folder)
        self.num_labels = len(config.id2label or {})

    @property
    def device(self) -> torch.device:
        """Where it computes: always the CPU."""
        return torch.device("cpu")

    @property
    def dtype(self) -> torch.dtype:  # pyright: ignore[reportIncompatibleMethodOverride]
        """What it takes: float32, whatever it computes in."""
        return torch.float32

    def forward(self, **batch: Any) -> EmotionRecognitionOutput:
        """Compute logits.

        Raises:
            InputError: an input of the graph is missing or has another shape.
            ConfigurationError: more than logits was asked for.
        """
        asked = {name: value for name, value in batch.items() if value is not None and value is not False}
        asked.pop("return_dict", None)
        given = flatten(asked)
        extra = sorted(set(given) - set(self.export.get("inputs", self._inputs)))
        if extra:
            raise ConfigurationError(
                f"An exported graph was given {', '.join(extra)}; it takes {', '.join(self._inputs)} and answers logits alone. "
                "Use the checkpoint that it was exported from."
            )
        absent = sorted(set(self._inputs) - set(given))
        if absent:
            raise InputError(
                f"The exported graph needs {', '.join(absent)}; expected every stream, zeros behind a mask where one is missing. "
                "Let the folder's processor prepare the recording."
            )
        feed = {name: given[name].detach().cpu().contiguous().numpy() for name in self._inputs}
        try:
            (logits,) = self.session.run(["logits"], feed)
        except Exception as error:
            shapes = ", ".join(f"{name} {one.shape}" for name, one in feed.items())
            raise InputError(
                f"The exported graph cannot take {shapes}: {str(error)[:300]}. Expected "
                f"{', '.join(f'{name} {one.shape}' for name, one in self._inputs.items())}."
            ) from error
        return EmotionRecognitionOutput(logits=torch.from_numpy(logits))

    def save_pretrained(self, save_directory: str | os.PathLike[str], *args: Any, **kwargs: Any) -> None:
        """Refused: there are no weights to save.

        Raises:
            ConfigurationError: always.
        """
        raise ConfigurationError(
            f"An exported model was to be saved in {save_directory}; it has a graph and no weights. Copy {self.name_or_path}."
        )


@cache
def _class_for(head: type[PreTrainedModel], config: type[PreTrainedConfig]) -> type[ExportedModel]:
    """An `ExportedModel` whose forward names what the head's takes, which pipelines and evaluation ask for."""

    def forward(self: ExportedModel, **batch: Any) -> EmotionRecognitionOutput:
        return ExportedModel.forward(self, **batch)

    forward.__signature__ = inspect.signature(head.forward)  # pyright: ignore[reportFunctionMemberAccess]
    fields = {"forward": forward, "config_class": config, "main_input_name": head.main_input_name}
    return type(f"Exported{head.__name__}", (ExportedModel,), fields)


def load_exported(
    folder: str | os.PathLike[str], config: PreTrainedConfig, threads: int | None = None
) -> ExportedModel:
    """The exported model of a folder.

    Args:
        folder: what `meco export` wrote.
        config: its config, read already.
        threads: of onnxruntime; None: one per core.

    Raises:
        CheckpointError: it holds a program of torch.export only, or a graph that onnxruntime does not take.
        DependencyError: onnxruntime is not installed.
        UnknownNameError: no plugin provides its architecture.
    """
    place = Path(folder)
    if not (place / ONNX_FILE).is_file():
        raise CheckpointError(
            f"{place} holds {PROGRAM_FILE}, which only torch.export.load reads, and no {ONNX_FILE}. Opening such a program can run "
            "code, so it is not done here; export the checkpoint with --format onnx."
        )
    head = plugins.load_dotted(plugins.architecture(config.model_type).head)
    return _class_for(head, type(config))(config, place, threads).eval()
