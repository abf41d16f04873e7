"""MATLAB files, versions 5 to 7: variables, or structs, as streams.

This file knows which variables make a stream; `recordings/mat_variables.py` knows the format.
"""

from pathlib import Path
from typing import Any

import numpy as np

from ..mat_variables import read_mat
from ..signal_recording import Stream
from .npz import streams_of

_PARTS = {
    "values": ("values", "data"),
    "times": ("times", "time"),
    "rate": ("rate", "fs", "sampling_rate"),
    "start": ("start",),
    "channels": ("channels", "labels"),
}


def read(path: Path, rates: dict[str, float]) -> dict[str, Stream]:
    """Streams of a MAT file."""
    flat: dict[str, Any] = {}
    for name, value in read_mat(path).items():
        if not isinstance(value, dict):
            flat[name] = _as_array(value)
            continue
        for part, spellings in _PARTS.items():
            spelling = next((one for one in spellings if one in value), None)
            if spelling:
                flat[f"{name}_{part}"] = _as_array(value[spelling])
    return streams_of(flat, str(path), rates)


def _as_array(value: Any) -> np.ndarray:
    """Without the dimensions of size one that MATLAB gives to everything."""
    if isinstance(value, list):
        return np.array([str(one) for one in value])
    return np.squeeze(np.asarray(value))
