"""Lin's concordance correlation coefficient, differentiable and with missing values.

    CCC(p, y) = 2 · cov(p, y) / (var p + var y + (mean p − mean y)²)        with population moments

It is 1 only where p equals y: other than Pearson's it also falls with a wrong scale and a wrong offset. A constant prediction
has CCC 0 and, because of the small number in the denominator, a finite gradient.

Source: Lin 1989, "A concordance correlation coefficient to evaluate reproducibility", Biometrics 45(1).

This file knows one measure of agreement; it does not know what is predicted.
"""

import torch

from .masked import masked_mean, widen


def _moments(
    predictions: torch.Tensor, targets: torch.Tensor, mask: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Over the first dimension: var p, var y, cov(p, y), mean p − mean y."""
    p, y = widen(predictions), widen(targets)
    valid = torch.ones_like(p, dtype=torch.bool) if mask is None else mask.expand_as(p)
    p, y = p.masked_fill(~valid, 0.0), y.masked_fill(~valid, 0.0)  # NaN may stand where nothing is known
    mean_p, mean_y = masked_mean(p, valid, 0), masked_mean(y, valid, 0)
    dp, dy = p - mean_p, y - mean_y  # centred first: E[p²] − E[p]² would lose what a large offset leaves
    variances = masked_mean(dp.square(), valid, 0), masked_mean(dy.square(), valid, 0)
    return *variances, masked_mean(dp * dy, valid, 0), mean_p - mean_y


def concordance(
    predictions: torch.Tensor, targets: torch.Tensor, mask: torch.Tensor | None = None, eps: float = 1e-8
) -> torch.Tensor:
    """CCC of every column over the rows.

    Args:
        predictions, targets: (rows, …), floating point. Targets may hold anything, NaN too, where the mask is False.
        mask: bool, (rows, …): which entries count; None: all.
        eps: added to the denominator.

    Returns:
        (…), float32 or wider; 0 where nothing counts.
    """
    var_p, var_y, covariance, offset = _moments(predictions, targets, mask)
    return 2 * covariance / (var_p + var_y + offset.square() + eps)


def concordance_loss(
    predictions: torch.Tensor,
    targets: torch.Tensor,
    mask: torch.Tensor | None = None,
    *,
    min_variance: float = 1e-4,
    eps: float = 1e-8,
) -> torch.Tensor:
    """Mean of 1 − CCC over the columns whose targets vary; zero, connected to the graph, where none does.

    A column of equal targets has CCC 0 whatever is predicted, and a gradient that only pulls predictions together; with few
    distinct targets in a batch that happens, so such columns are left out.

    Args:
        predictions, targets, mask, eps: as for `concordance`.
        min_variance: columns whose targets vary less are left out.
    """
    var_p, var_y, covariance, offset = _moments(predictions, targets, mask)
    loss = 1 - 2 * covariance / (var_p + var_y + offset.square() + eps)
    return masked_mean(loss, var_y >= min_variance)
