"""Reads the HDF5 files that Keras 2 writes: `save_weights("x.h5")` and `model.save("x.h5")`.

Such a file is a group for every layer of the model. The attribute `layer_names` lists them in the model's order, and the
attribute `weight_names` of each group its tensors; both are cut into numbered pieces when they grow long. HDF5 itself lists
groups alphabetically (dense_10 before dense_9), so nothing here ever asks it for an order. A sub-model is one group, its
trainable weights first and BatchNorm's statistics after all of them, so tensors are put together by the path in their names.

`Unit` is what owns weights (one convolution, one dense layer, one norm, or a layer of the authors' own); `KerasFile` is the
list of units, with what the architecture stored beside the weights tells about them, where it is stored (`model.save`).
"""

import importlib.util
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from meco_hub.apart import Answer, read_apart
from meco_hub.errors import ConversionError, DependencyError
from meco_hub.reading import check_dataset, check_packed, reading

from .units import KerasFile, Unit

logger = logging.getLogger(__name__)

RESAVE = 'load the model in Keras 2 (TensorFlow ≤ 2.15) and write it with `model.save_weights("weights.h5")`'
_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_OWN_STATE = re.compile(r"seed|generator|statevar", re.IGNORECASE)


def read_keras_hdf5(path: Path) -> KerasFile:
    """Read a whole file into memory.

    Raises:
        DependencyError: h5py is not installed.
        ConversionError: not a Keras 2 HDF5 file, damaged, or with weights that are no finite float32 numbers.
    """
    if importlib.util.find_spec("h5py") is None:
        raise DependencyError("Reading Keras weights needs h5py, which is not installed. Run `pip install h5py`.")
    _check_signature(path)
    units: dict[tuple[str, ...], Unit] = {}
    described: dict[str, Any] = {}
    for message, tensors in read_apart(f"{__name__}:tensors_of", path, ConversionError):
        if not tensors:
            described = message
            continue
        key = tuple(message["path"])
        units.setdefault(key, Unit(key, len(units))).tensors[message["kind"]] = tensors[0]
    parents, settings = _read_architecture(path, described["model_config"])
    return KerasFile(path, list(units.values()), described["version"], parents, settings)


def tensors_of(path: Path) -> Iterator[Answer]:
    """What the process that reads HDF5 yields: every tensor with its place, and at last what the file says of itself."""
    import h5py

    remedy = "It is cut short or damaged; copy it again and compare its size with the original's."
    problem = f"{path} is an HDF5 file that cannot be read to its end"
    with reading(problem, ConversionError, remedy), h5py.File(path, "r") as file:
        root = file.get("model_weights", file)
        if not isinstance(root, h5py.Group):
            raise ConversionError(f"{path}: model_weights is no group, as Keras writes it. Save it anew: {RESAVE}.")
        yield from _read_tensors(path, root)
        version = _text(root.attrs.get("keras_version", file.attrs.get("keras_version", "unknown")))
        config = file.attrs.get("model_config")
        yield {"version": version, "model_config": None if config is None else _text(config)}, []


def _check_signature(path: Path) -> None:
    if path.is_dir():
        raise ConversionError(
            f"{path} is a folder (a SavedModel?); expected a Keras 2 HDF5 file. To get one, {RESAVE}."
        )
    if not path.is_file():
        raise ConversionError(f"There is no file {path}. Expected a Keras 2 HDF5 file; check the path.")
    with path.open("rb") as file:
        start = file.read(len(_SIGNATURE))
    if start == _SIGNATURE:
        return
    if start.startswith(b"PK"):
        raise ConversionError(
            f"{path} is a zip archive (Keras 3's .keras format?); expected HDF5. To get it, {RESAVE}."
        )
    seen = "is empty" if not start else f"starts with {start!r}"
    raise ConversionError(f"{path} {seen}; expected an HDF5 file, as Keras 2 writes it. To get one, {RESAVE}.")


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _listed(attributes: Any, name: str) -> list[str] | None:
    """A list attribute, which Keras cuts into name0, name1, … when it is long; None when there is none."""
    if name in attributes:
        return [_text(value) for value in attributes[name]]
    pieces: list[str] = []
    index = 0
    while f"{name}{index}" in attributes:
        pieces += [_text(value) for value in attributes[f"{name}{index}"]]
        index += 1
    return pieces if index else None


def _read_tensors(path: Path, root: Any) -> Iterator[Answer]:
    layers = _listed(root.attrs, "layer_names")
    if layers is None:
        inside = ", ".join(list(root)[:6]) or "nothing"
        what = (
            "looks like Keras 3's format"
            if {"layers", "_layer_checkpoint_dependencies"} & set(root)
            else "is no Keras file"
        )
        raise ConversionError(
            f"{path} {what}: it has no attribute layer_names, and holds {inside}. To convert it, {RESAVE}."
        )
    if "top_level_model_weights" in root:
        layers = [
            *layers,
            "top_level_model_weights",
        ]  # weights that the model owns itself; no layer, so not in the list
    for layer in layers:
        if layer not in root:
            raise ConversionError(
                f"{path} lists a layer {layer!r} and does not hold it. The file is damaged; save it anew."
            )
        group = root[layer]
        for name in _listed(group.attrs, "weight_names") or []:
            if name not in group:
                raise ConversionError(
                    f"{path} lists the weight {layer}/{name} and does not hold it. The file is damaged; save it anew."
                )
            value = _read_weight(f"{path}: the weight {layer}/{name}", group[name], path)
            if value is None:
                continue
            # A layer's name may itself hold a slash (conv1/7x7_s2); it stays one part of the path.
            owner, _, kind = name.split(":")[0].rpartition("/")
            inner = f"{owner}/".removeprefix(f"{layer}/").strip("/")
            key = (layer, *inner.split("/")) if inner else (layer,)
            yield {"path": key, "kind": kind}, [value]


def _read_weight(what: str, dataset: Any, path: Path) -> np.ndarray | None:
    if not hasattr(dataset, "dtype") or not hasattr(dataset, "shape"):
        raise ConversionError(f"{what} is a group; expected numbers. The file is damaged; save it anew.")
    if np.issubdtype(dataset.dtype, np.integer) and _OWN_STATE.search(what.rsplit("weight ", 1)[-1]):
        return None  # the state of a random generator
    if dataset.dtype != np.float32:
        raise ConversionError(
            f"{what} has type {dataset.dtype}; expected float32. Save the model in float32: {RESAVE}."
        )
    check_packed(check_dataset(dataset, path, ConversionError), path.stat().st_size, what, ConversionError)
    value = np.asarray(dataset[()])
    if not np.isfinite(value).all():
        bad = int(value.size - np.isfinite(value).sum())
        raise ConversionError(
            f"{what} holds {bad} NaN or infinite values of {value.size}; expected finite ones. The training diverged, or "
            "the file is damaged; use an earlier checkpoint."
        )
    if what.endswith(("moving_variance", "moving_variance:0")) and (value < 0).any():
        raise ConversionError(f"{what} is negative in places, which no variance is. The file is damaged; save it anew.")
    return value


def _read_architecture(path: Path, stored: str | None) -> tuple[dict[str, set[str]], dict[str, set[Any]]]:
    """What `model_config` tells: who reads whose output, and settings that the weights do not show."""
    settings: dict[str, set[Any]] = {"epsilon": set(), "top_k": set(), "input_shape": set()}
    if stored is None:
        return {}, settings
    try:
        architecture = json.loads(stored)
    except (ValueError, RecursionError) as error:
        logger.warning(
            "%s: its model_config is no JSON (%s) and is left aside; the weights are read without it.", path, error
        )
        return {}, settings
    for entry in _layer_entries(architecture):
        config = entry["config"]
        if entry["class_name"] == "BatchNormalization":
            settings["epsilon"].add(float(config.get("epsilon", 1e-3)))
        for key in ("top_k", "k"):
            if isinstance(config.get(key), int):
                settings["top_k"].add(config[key])
        shape = config.get("batch_input_shape") or config.get("batch_shape")
        if isinstance(shape, list) and len(shape) == 4 and all(isinstance(side, int) for side in shape[1:]):
            settings["input_shape"].add(tuple(shape[1:]))
    layers = [
        one for one in _config(architecture).get("layers") or [] if isinstance(one, dict) and "inbound_nodes" in one
    ]
    names = {str(one.get("name")) for one in layers}
    parents = {str(one.get("name")): set(_references(one["inbound_nodes"])) & names for one in layers}
    return (parents if any(parents.values()) else {}), settings


def _config(entry: Any) -> dict[str, Any]:
    config = entry.get("config") if isinstance(entry, dict) else None
    return config if isinstance(config, dict) else {}


def _layer_entries(node: Any) -> Iterator[dict[str, Any]]:
    """All {"class_name": …, "config": {…}} in a stored architecture, however deep."""
    if isinstance(node, dict):
        if "class_name" in node and isinstance(node.get("config"), dict):
            yield node
        for value in node.values():
            yield from _layer_entries(value)
    elif isinstance(node, list):
        for value in node:
            yield from _layer_entries(value)


def _references(node: Any) -> Iterator[str]:
    """Names in [name, node index, tensor index, …], which is how a stored architecture writes "the output of"."""
    if isinstance(node, list):
        if len(node) >= 3 and isinstance(node[0], str) and isinstance(node[1], int) and isinstance(node[2], int):
            yield node[0]
        for value in node:
            yield from _references(value)
    elif isinstance(node, dict):
        for value in node.values():
            yield from _references(value)
