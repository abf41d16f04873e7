"""The loss of a head by its config's `problem_type`, as transformers' own heads have it."""

import torch
from torch.nn import functional as F

from ..configuration import EmotionConfig
from ..errors import InputError


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
