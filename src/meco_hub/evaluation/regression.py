"""Figures for values, from true and predicted ones, all in native units.

Definitions (population moments, that is, divided by n):
- RMSE = √mean(p − y)², MAE = mean |p − y|, bias = mean(p − y).
- PCC = cov(p, y) / (SD p · SD y); 0 where either SD is below 1e-8, and such cases are counted.
- CCC = 2 cov(p, y) / (var p + var y + (mean p − mean y)²) (Lin 1989); 0 in the same cases.
- A figure over several targets is the mean of theirs. A true value that is NaN is unknown, and left out for its target alone.

Pooled figures reward knowing each person's mean rating; those per person, then averaged, do not. The two differ a lot, which is why
both are given and each is called by its name.

This file knows arithmetic on values; it knows no data set and no model.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError

NAMES = ("rmse", "mae", "pcc", "ccc")
"""Figures that every target has."""

SMALLEST_SD = 1e-8
"""Below this standard deviation values count as constant."""


@dataclass(frozen=True)
class TargetFigures:
    """Figures of one target.

    Attributes:
        n: values compared.
        rmse, mae, bias: in the target's units; NaN without values.
        pcc, ccc: in [−1, 1]; 0 where `constant`; NaN without values.
        constant: truth or predictions have no spread, so that pcc and ccc say nothing.
        truth_sd: spread of the true values, which is the RMSE of knowing their mean.
    """

    n: int
    rmse: float
    mae: float
    pcc: float
    ccc: float
    bias: float
    constant: bool
    truth_sd: float


@dataclass(frozen=True)
class RegressionFigures:
    """Figures of one set of predictions.

    Attributes:
        n: items with at least one true value.
        per_target: name → figures.
    """

    n: int
    per_target: dict[str, TargetFigures]

    def mean(self, figure: str) -> float:
        """Mean of a figure over the targets that have values; NaN when none has."""
        values = [getattr(one, figure) for one in self.per_target.values() if one.n]
        return float(np.mean(values)) if values else float("nan")

    @property
    def constant(self) -> int:
        """Targets whose truth or predictions have no spread."""
        return sum(one.constant for one in self.per_target.values() if one.n)

    def flat(self) -> dict[str, float]:
        """ "rmse", "rmse_<target>", …: means first, then each target."""
        flat = {}
        for figure in NAMES:
            flat[figure] = self.mean(figure)
            flat |= {f"{figure}_{name}": getattr(one, figure) for name, one in self.per_target.items()}
        return flat

    def to_dict(self) -> dict[str, Any]:
        """As report.json holds it."""
        bias = {f"bias_{name}": one.bias for name, one in self.per_target.items()}
        spread = {f"truth_sd_{name}": one.truth_sd for name, one in self.per_target.items()}
        return {"n": self.n, **self.flat(), **bias, **spread, "constant": self.constant}


def correlation(truth: NDArray[np.floating], predictions: NDArray[np.floating]) -> tuple[float, float, bool]:
    """PCC, CCC and whether they are undefined (and 0) for want of spread; two (n,) arrays, n ≥ 1."""
    centred_truth, centred = truth - truth.mean(), predictions - predictions.mean()
    variance_truth, variance = float(np.mean(centred_truth**2)), float(np.mean(centred**2))
    if min(variance_truth, variance) < SMALLEST_SD**2:
        return 0.0, 0.0, True
    covariance = float(np.mean(centred_truth * centred))
    distance = float(predictions.mean() - truth.mean()) ** 2
    # rounding may take a perfect line a hair beyond 1
    pcc = float(np.clip(covariance / np.sqrt(variance_truth * variance), -1, 1))
    return pcc, 2 * covariance / (variance_truth + variance + distance), False


def _target_figures(truth: NDArray[np.floating], predictions: NDArray[np.floating]) -> TargetFigures:
    known = ~np.isnan(truth)
    truth, predictions = truth[known], predictions[known]
    if not len(truth):
        nan = float("nan")
        return TargetFigures(0, nan, nan, nan, nan, nan, False, nan)
    error = predictions - truth
    pcc, ccc, constant = correlation(truth, predictions)
    return TargetFigures(
        n=len(truth),
        rmse=float(np.sqrt(np.mean(error**2))),
        mae=float(np.mean(np.abs(error))),
        pcc=pcc,
        ccc=ccc,
        bias=float(error.mean()),
        constant=constant,
        truth_sd=float(truth.std()),
    )


def checked_values(
    truth: NDArray[np.floating], predictions: NDArray[np.floating], names: Sequence[str]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Truth and predictions as (n, targets) of float64.

    Raises:
        InputError: shapes that do not fit, or predictions that are not finite.
    """
    truth, predictions = np.asarray(truth, np.float64), np.asarray(predictions, np.float64)
    if truth.ndim != 2 or truth.shape[1] != len(names) or predictions.shape != truth.shape:
        raise InputError(
            f"True values have shape {truth.shape} and predictions {predictions.shape}; expected both "
            f"(items, {len(names)}), one column each for {', '.join(names)}."
        )
    broken = ~np.isfinite(predictions).all(axis=1)
    if broken.any():
        raise InputError(f"{int(broken.sum())} of {len(truth)} predictions are not finite.")
    if np.isinf(truth).any():
        raise InputError("Some true values are infinite; expected numbers, or NaN where a value is unknown.")
    return truth, predictions


def regression_figures(
    truth: NDArray[np.floating], predictions: NDArray[np.floating], names: Sequence[str]
) -> RegressionFigures:
    """All figures of one set of predictions.

    Args:
        truth: (n, targets) native values, NaN where unknown; n may be 0, and every figure is NaN then.
        predictions: (n, targets) native values.
        names: target names in order.

    Raises:
        InputError: shapes that do not fit, or values that are not finite.
    """
    truth, predictions = checked_values(truth, predictions, names)
    per_target = {name: _target_figures(truth[:, i], predictions[:, i]) for i, name in enumerate(names)}
    return RegressionFigures(int((~np.isnan(truth)).any(axis=1).sum()), per_target)


@dataclass(frozen=True)
class Averages:
    """Figures of each person (or recording), averaged.

    Attributes:
        unit: what was averaged over: "identity" or "recording".
        units: how many had values.
        mean, sd: figure → mean and standard deviation (n − 1) over the units; NaN without units, or with one for the SD.
        constant: cases, one per unit and target, where truth or predictions had no spread, so that pcc and ccc entered as 0.
    """

    unit: str
    units: int
    mean: dict[str, float]
    sd: dict[str, float]
    constant: int

    def to_dict(self) -> dict[str, Any]:
        """As report.json holds it."""
        return {
            "unit": self.unit,
            "units": self.units,
            **self.mean,
            "sd": self.sd,
            "constant": self.constant,
        }


def average(parts: Sequence[RegressionFigures], names: Sequence[str], unit: str) -> Averages:
    """Mean and SD over figures of units; units without any true value are left out."""
    used = [one for one in parts if one.n]
    rows = [one.flat() for one in used]
    keys = [key for figure in NAMES for key in (figure, *(f"{figure}_{name}" for name in names))]
    mean, sd = {}, {}
    for key in keys:
        values = np.array([row[key] for row in rows if not np.isnan(row[key])])
        mean[key] = float(values.mean()) if len(values) else float("nan")
        sd[key] = float(values.std(ddof=1)) if len(values) > 1 else float("nan")
    return Averages(unit, len(used), mean, sd, sum(one.constant for one in used))


def figures_by(
    keys: Sequence[Hashable], truth: NDArray[np.floating], predictions: NDArray[np.floating], names: Sequence[str]
) -> dict[Hashable, RegressionFigures]:
    """Figures of the items of each key, in the order in which keys first occur; (n,) keys, (n, targets) values."""
    rows: dict[Hashable, list[int]] = {}
    for index, key in enumerate(keys):
        rows.setdefault(key, []).append(index)
    return {key: regression_figures(truth[chosen], predictions[chosen], names) for key, chosen in rows.items()}


def per_subject(
    subjects: Sequence[str], truth: NDArray[np.floating], predictions: NDArray[np.floating], names: Sequence[str]
) -> Averages | None:
    """Figures of every person, then averaged; items of unknown persons ("") take no part. None when nobody is named."""
    by_person: Mapping[Hashable, RegressionFigures] = figures_by(subjects, truth, predictions, names)
    known = [one for person, one in by_person.items() if person]
    return average(known, names, "identity") if known else None
