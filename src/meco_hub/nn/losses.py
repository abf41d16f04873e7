"""Softmax, mean and concordance over the valid part of a tensor, the choice of experts, and the loss of labels.

Notable, of the first three:
- What is not valid can never be seen in the result.
- All are computed in float32 or wider, whatever comes in, and come back in float32 or wider.
- Where nothing is valid, all answer zero: not NaN, and still connected to the graph.
- Values under the mask are replaced, not multiplied by zero, because NaN · 0 is NaN.

Lin's concordance correlation coefficient (Lin 1989, Biometrics 45(1)), with population moments:

    CCC(p, y) = 2 · cov(p, y) / (var p + var y + (mean p − mean y)²)

It is 1 only where p equals y: unlike Pearson's it also falls with a wrong scale or offset. A constant prediction has CCC 0 and,
because of the small number in the denominator, a finite gradient.
"""

import torch
from torch.nn import functional as F

from ..configuration import EmotionConfig
from ..errors import InputError


def widen(values: torch.Tensor) -> torch.Tensor:
    """Half precision to float32; anything wider stays as it is."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def masked_softmax(logits: torch.Tensor, mask: torch.Tensor, dim: int = -1) -> torch.Tensor:
    """Softmax over the entries whose mask is True; the others get exactly zero, and so does a row that has none.

    Args:
        logits: any shape, any floating dtype; masked entries may hold anything that is not NaN after they are replaced.
        mask: bool, broadcastable to `logits`.
        dim: what is normalised.

    Returns:
        The shape of `logits`, float32 or wider.
    """
    wide = widen(logits)
    # exp(lowest − largest) is exactly zero in floating point, so valid rows need no second normalisation
    weights = wide.masked_fill(~mask, torch.finfo(wide.dtype).min).softmax(dim=dim)
    return weights.masked_fill(~mask.any(dim=dim, keepdim=True), 0.0)


def masked_mean(values: torch.Tensor, mask: torch.Tensor, dim: int | tuple[int, ...] | None = None) -> torch.Tensor:
    """Mean over the entries whose mask is True; zero where there are none.

    Args:
        values: any shape, any floating dtype.
        mask: bool, broadcastable to `values`.
        dim: what is averaged; None: everything, giving a scalar.

    Returns:
        `values` without `dim`, float32 or wider.
    """
    wide = widen(values)
    mask = mask.expand_as(wide)
    dims = tuple(range(wide.ndim)) if dim is None else dim
    total = wide.masked_fill(~mask, 0.0).sum(dim=dims)
    return total / mask.sum(dim=dims).clamp(min=1)


def _concordance(
    predictions: torch.Tensor, targets: torch.Tensor, mask: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """CCC of every column over the rows, and the variance of its targets."""
    p, y = widen(predictions), widen(targets)
    valid = torch.ones_like(p, dtype=torch.bool) if mask is None else mask.expand_as(p)
    p, y = p.masked_fill(~valid, 0.0), y.masked_fill(~valid, 0.0)  # NaN may stand where nothing is known
    mean_p, mean_y = masked_mean(p, valid, 0), masked_mean(y, valid, 0)
    dp, dy = p - mean_p, y - mean_y  # centred first: E[p²] − E[p]² would lose what a large offset leaves
    var_p, var_y = masked_mean(dp.square(), valid, 0), masked_mean(dy.square(), valid, 0)
    return 2 * masked_mean(dp * dy, valid, 0) / (var_p + var_y + (mean_p - mean_y).square() + 1e-8), var_y


def concordance(predictions: torch.Tensor, targets: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    """CCC of every column over the rows.

    Args:
        predictions, targets: (rows, …), floating point. Targets may hold anything, NaN too, where the mask is False.
        mask: bool, (rows, …): which entries count; None: all.

    Returns:
        (…), float32 or wider; 0 where nothing counts.
    """
    return _concordance(predictions, targets, mask)[0]


def concordance_loss(
    predictions: torch.Tensor, targets: torch.Tensor, mask: torch.Tensor | None = None
) -> torch.Tensor:
    """Mean of 1 − CCC over the columns whose targets vary; zero, connected to the graph, where none does.

    A column of equal targets (variance below 1e-4) has CCC 0 whatever is predicted, and a gradient that only pulls predictions
    together; with few distinct targets in a batch that happens, so such columns are left out. Arguments are those of `concordance`.
    """
    found, variance = _concordance(predictions, targets, mask)
    return masked_mean(1 - found, variance >= 1e-4)


# --- Experts ----------------------------------------------------------------------------------------------------------
# Choosing the best k experts of each row, and the loss that keeps their load even (Fedus et al. 2021, "Switch Transformers").


def select_top_k(scores: torch.Tensor, k: int) -> torch.Tensor:
    """True for the `k` largest scores of each row; among equal scores the lower index wins.

    Shape:
        (batch, experts) → (batch, experts), bool.
    """
    mine, other = scores.unsqueeze(-1), scores.unsqueeze(-2)  # (B, E, 1), (B, 1, E)
    index = torch.arange(scores.shape[-1], device=scores.device)
    earlier = index.unsqueeze(0) < index.unsqueeze(1)  # [i, j]: j stands before i
    beaten_by = (other > mine) | ((other == mine) & earlier)
    return beaten_by.sum(dim=-1) < k


def load_balancing_loss(router_logits: torch.Tensor, top_k: int) -> torch.Tensor:
    """Switch Transformers' balance loss, `E · Σ_e f_e · p_e`: 1 when the load is even, at most E.

    `f_e` is the share of selections that went to expert e (no gradient), `p_e` its mean probability.

    Shape:
        router logits (batch, num_experts) → scalar.
    """
    probabilities = router_logits.float().softmax(dim=-1)
    selected = select_top_k(probabilities, top_k).to(probabilities.dtype)
    return probabilities.shape[-1] * (selected.mean(dim=0) / top_k * probabilities.mean(dim=0)).sum()


# --- Label loss -------------------------------------------------------------------------------------------------------
# The loss of a head by its config's `problem_type`, as transformers' own heads have it.


def label_loss(
    config: EmotionConfig, logits: torch.Tensor, labels: torch.Tensor, label_smoothing: float = 0.0
) -> torch.Tensor:
    """Cross-entropy, binary cross-entropy or squared error of logits (batch, K); a scalar.

    Args:
        config: where `problem_type` is None, transformers' rule decides, without its side effect of writing that into the config.
        logits: (batch, K).
        labels: (batch,) class indices, −100 being ignored, or (batch, K) class probabilities, for a single label; (batch, K) zeros
            and ones for "multi_label_classification"; (batch,) or (batch, K) values for "regression".
        label_smoothing: of the cross-entropy.

    Raises:
        InputError: labels have another shape.
    """
    kind, count = config.problem_type, logits.shape[-1]
    if kind is None:
        single = count > 1 and not labels.is_floating_point()
        several = "single_label_classification" if single else "multi_label_classification"
        kind = "regression" if count == 1 else several
    is_index = kind == "single_label_classification" and not labels.is_floating_point()
    expected = tuple(logits.shape[:1]) if is_index else tuple(logits.shape)
    if kind == "regression" and count == 1 and labels.ndim == 1:
        labels = labels.unsqueeze(-1)
    if tuple(labels.shape) != expected:
        raise InputError(
            f"labels have shape {tuple(labels.shape)} and dtype {labels.dtype}; expected {expected} for {kind} with "
            f"{count} label(s). Set config.problem_type if another kind of problem was meant."
        )
    if kind == "regression":
        return F.mse_loss(logits, labels.to(logits.dtype))
    if kind == "multi_label_classification":
        return F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype))
    return F.cross_entropy(logits, labels, label_smoothing=label_smoothing)
