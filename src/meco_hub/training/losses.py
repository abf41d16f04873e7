"""What is minimised: cross-entropy, with label smoothing, logit adjustment and mixup; or squared error and 1 − CCC of values.

This file knows logits and targets; it knows no model.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from ..errors import ConfigurationError
from ..nn.concordance import concordance_loss
from ..nn.masked import masked_mean


class ClassificationLoss(nn.Module):
    """Mean cross-entropy over the batch.

    Label smoothing ε makes the target (1 − ε)·onehot + ε/K, as Keras and torch both do. Logit adjustment (Menon et al. 2021,
    arXiv 2007.07314) adds tau · log(prior) to the logits in training only, so that the network need not learn the prior:
    its plain logits then lean towards the rare classes.

    Args:
        label_smoothing: ε.
        prior: (classes,) class shares as sampled; needed when `tau` is not 0.
        tau: strength of the logit adjustment.
    """

    def __init__(
        self, label_smoothing: float = 0.0, prior: NDArray[np.floating] | None = None, tau: float = 0.0
    ) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing
        self.offsets: torch.Tensor | None = None
        if tau and prior is not None:
            self.offsets = torch.tensor([tau * math.log(share) for share in prior])

    def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Scalar loss of (batch, classes) logits and (batch,) class indices or (batch, classes) probabilities."""
        logits = logits.float()
        if self.offsets is not None:
            logits = logits + self.offsets.to(logits)
        return F.cross_entropy(logits, targets, label_smoothing=self.label_smoothing)


class RegressionLoss(nn.Module):
    """mse_weight · MSE + ccc_weight · (1 − CCC), both over the values of the batch that are known.

    The mean squared error anchors the scale where a batch holds few distinct ratings; the concordance coefficient is what is
    reported, and rewards following the ratings up and down.

    Args:
        mse_weight, ccc_weight: see the recipe.
    """

    def __init__(self, mse_weight: float, ccc_weight: float) -> None:
        super().__init__()
        self.mse_weight, self.ccc_weight = mse_weight, ccc_weight

    def forward(self, outputs: torch.Tensor, targets: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Scalar loss of (…, targets) scaled values; `mask` is False where a value is unknown."""
        if outputs.shape != targets.shape:
            raise ConfigurationError(
                f"The model answers values of shape {tuple(outputs.shape)}, and the labels have shape {tuple(targets.shape)}. "
                "Expected the same: set the model's prediction mode to what the corpus is rated on (over time, or once)."
            )
        count = outputs.shape[-1]
        outputs, targets = outputs.float().reshape(-1, count), targets.float().reshape(-1, count)
        known = torch.ones_like(outputs, dtype=torch.bool) if mask is None else mask.reshape(-1, count)
        loss = self.mse_weight * masked_mean((outputs - targets).square(), known)
        if self.ccc_weight:
            loss = loss + self.ccc_weight * concordance_loss(outputs, targets, known)
        return loss


def mix_batch(
    inputs: dict[str, torch.Tensor],
    labels: torch.Tensor,
    num_classes: int,
    alpha: float,
    generator: np.random.Generator,
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Mixup (Zhang et al. 2018, arXiv 1710.09412): every sample with another of its batch, in one share for all.

    Args:
        inputs: the model's inputs; every floating-point tensor is mixed along its first dimension.
        labels: (batch,) class indices.
        num_classes: classes of the label space.
        alpha: the share is drawn from Beta(alpha, alpha).
        generator: draws share and partners.

    Returns:
        The mixed inputs, and (batch, classes) target probabilities.
    """
    share = float(generator.beta(alpha, alpha))
    partners = torch.from_numpy(generator.permutation(len(labels))).to(labels.device)
    mixed = {
        key: torch.lerp(value[partners], value, share) if value.is_floating_point() else value
        for key, value in inputs.items()
    }
    targets = F.one_hot(labels, num_classes).float()
    return mixed, torch.lerp(targets[partners], targets, share)
