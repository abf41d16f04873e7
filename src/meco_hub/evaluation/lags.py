"""How well a model finds out by how much each sensor is late, where a condition has made them late and knows.

    record = LagRecord(applied, rows.sample_ids)
    predict_rows(…, **applied.hooks, observe=record.observe, options=LAG_OPTIONS)
    record.finish()                                       # {"n": 412, "mae_s": 0.09, "correlation": 0.97}

A model that estimates lags gives them with `output_routing=True`: `lags`, (B, M) seconds, positive where a modality is late, and
`availability`, (B, M, S), which modality is there at which step. Signals show only differences between sensors, so estimates and
delays are compared relative to their means over the modalities that are there, where two or more are.

This file knows lags that were applied and lags that were found; it does not know how either came about.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from accelerate.utils import gather_object
from numpy.typing import NDArray
from transformers import PreTrainedModel

from .conditions import AppliedCondition
from .predict import accepted_inputs

LAG_OPTIONS = {"output_routing": True}
"""What a model's forward must be told."""


def estimates_lags(model: PreTrainedModel) -> bool:
    """Whether a model may say how late each modality is; its output tells whether it does."""
    return "output_routing" in accepted_inputs(model)


class LagRecord:
    """Collects lags, clip by clip.

    Args:
        applied: the condition that the recordings are under; it remembers what it did to each.
        sample_ids: names of the rows.
        streams: the modalities in the model's order.
    """

    def __init__(self, applied: AppliedCondition, sample_ids: Sequence[str], streams: Sequence[str]) -> None:
        self._applied, self._sample_ids, self._streams = applied, sample_ids, tuple(streams)
        self._pairs: list[tuple[NDArray[np.float64], NDArray[np.float64]]] = []

    def observe(self, output: Any, owners: Sequence[int]) -> None:
        """Take the lags of a batch: what `predict_rows` calls."""
        found, available = getattr(output, "lags", None), getattr(output, "availability", None)
        if found is None or available is None:
            return
        there: NDArray[np.bool_] = available.any(dim=-1).cpu().numpy()
        estimates = found.detach().double().cpu().numpy()
        for place, row in enumerate(owners):
            known = self._applied.lags.get(self._sample_ids[row], {})
            delays = np.array([known.get(name, np.nan) for name in self._streams])
            both = there[place] & np.isfinite(delays)
            if both.sum() >= 2:
                mine, theirs = estimates[place][both], delays[both]
                self._pairs.append((mine - mine.mean(), theirs - theirs.mean()))

    def finish(self) -> dict[str, Any] | None:
        """Of all processes: `n` clips, `mae_s` mean absolute error in seconds, `correlation` (None without spread in either).

        None where no lag was estimated: none was given, or nothing but zeros.
        """
        pairs = gather_object(self._pairs)
        if not pairs:
            return None
        estimates, delays = (np.concatenate(column) for column in zip(*pairs, strict=True))
        if not estimates.any():
            return None
        spread = min(estimates.std(), delays.std()) > 1e-8
        return {
            "n": len(pairs),
            "mae_s": float(np.abs(estimates - delays).mean()),
            "correlation": float(np.corrcoef(estimates, delays)[0, 1]) if spread else None,
        }
