"""What is minimised: cross-entropy, with label smoothing, logit adjustment and mixup; or squared error and 1 − CCC of values."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from .. import plugins
from ..errors import ConfigurationError
from ..nn.losses import concordance_loss, masked_mean
from .recipes import DistillationRecipe


class ClassificationLoss(nn.Module):
    """Mean cross-entropy over the batch.

    Label smoothing ε makes the target (1 − ε)·onehot + ε/K, as Keras and torch both do. Logit adjustment (Menon et al. 2021,
    arXiv 2007.07314) adds tau · log(prior) to the logits in training only, so that the network need not learn the prior:
    its plain logits then lean towards the rare classes.

    Args:
        prior: (classes,) class shares as sampled; needed when `tau` is not 0.
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
    views: int = 1,
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Mixup (Zhang et al. 2018, arXiv 1710.09412): every sample with another of its batch, in one share for all.

    Args:
        inputs: the model's inputs; every floating-point tensor is mixed along its first dimension.
        labels: (batch,) class indices, or (batch, classes) probabilities.
        views: how many samples in a row are one, augmented differently; all of them are mixed with those of one other.

    Returns:
        The mixed inputs, and (batch, classes) target probabilities.
    """
    share = float(generator.beta(alpha, alpha))
    order = generator.permutation(len(labels) // views)
    partners = torch.from_numpy((order[:, None] * views + np.arange(views)).ravel()).to(labels.device)
    mixed = {
        key: torch.lerp(value[partners], value, share) if value.is_floating_point() else value
        for key, value in inputs.items()
    }
    targets = labels if labels.ndim == 2 else F.one_hot(labels, num_classes).float()
    return mixed, torch.lerp(targets[partners], targets, share)


def disagreement_of_views(logits: torch.Tensor) -> torch.Tensor:
    """Mean Jensen–Shannon divergence, in nats, between the answers to two views of a sample (Hendrycks et al. 2020, AugMix).

    Args:
        logits: (2 · samples, classes); the views of a sample stand one behind the other.
    """
    answers = logits.float().unflatten(0, (-1, 2)).log_softmax(dim=-1)
    middle = answers.exp().mean(dim=1, keepdim=True).clamp_min(1e-7).log().expand_as(answers)
    return F.kl_div(middle, answers, reduction="sum", log_target=True) / len(logits)


# --- Distillation -----------------------------------------------------------------------------------------------------
# A second task in training: to say what a teacher says about the same picture.
#
# Two ways, each with its weight (Hinton et al. 2015, arXiv 1503.02531, is the source of both):
# - Foreseeing: one more linear layer, beside `classifier` and reading the same features, is drawn towards all of the teacher's
#   answers, which may be other classes than the student's. The layer is not kept.
# - Agreeing: the student's own answers are drawn towards the teacher's on the classes that both know. No logit adjustment is in
#   this term: where the loss of the labels has one, the student's plain logits stand for evenly frequent classes, as a teacher's
#   do that was trained on such.
#
# The teacher sees exactly what the student sees, augmentation and mixup included (Beyer et al. 2022, arXiv 2106.05237).
# What it knows about rare classes is worth most where labels are few.


def build_teacher(recipe: DistillationRecipe) -> nn.Module:
    """The teacher that a recipe names, with its weights, still."""
    kind = plugins.load_dotted(recipe.teacher)
    try:
        teacher: nn.Module = kind(**recipe.options)
    except TypeError as error:
        raise ConfigurationError(f"The teacher {recipe.teacher!r} does not take {recipe.options}: {error}.") from error
    return teacher.eval().requires_grad_(False)


class FeatureLayer(nn.Module):
    """A second layer over what a head's `classifier` reads, in training only: what it learns shapes the features.

    Args:
        student: a head whose last layer is the `nn.Linear` named `classifier`.
        outputs: how many the layer has; None: as many as the classifier.
    """

    def __init__(self, student: PreTrainedModel, outputs: int | None, key: str) -> None:
        super().__init__()
        classifier = getattr(student, "classifier", None)
        if not isinstance(classifier, nn.Linear):
            raise ConfigurationError(
                f"Recipe key {key!r} is set, but {type(student).__name__} has no `classifier` that is a Linear layer, "
                "whose input could be shaped. Leave the key out."
            )
        self.layer = nn.Linear(classifier.in_features, classifier.out_features if outputs is None else outputs)
        self._features: list[torch.Tensor] = []
        self._student = [classifier]  # in a list, so that its weights are no part of this module's state

    def watch(self) -> Any:
        """From now on, remember what `classifier` reads. Call once the student has been copied for all other purposes."""
        return self._student[0].register_forward_pre_hook(self._remember)

    def _remember(self, module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        if module.training:
            self._features[:] = [inputs[0]]


class SoftLabelHead(FeatureLayer):
    """Foresees the shares of a sample's votes, while the classifier learns its label: two tasks, one set of features."""

    def __init__(self, student: PreTrainedModel, weight: float) -> None:
        super().__init__(student, None, "soft_label_head")
        self.weight = weight

    def forward(self, shares: torch.Tensor) -> torch.Tensor:
        """Scalar loss for the batch that the student has just seen; `shares` are (batch, classes)."""
        return self.weight * F.cross_entropy(self.layer(self._features.pop()).float(), shares)


class Distillation(FeatureLayer):
    """The extra layer and both losses.

    Args:
        teacher: gives logits (batch, len(teacher.outputs)) for the student's main input; `outputs` are their names.
        recipe: weights and temperature T; each loss is weight · T² · cross-entropy(softmax(teacher / T), softmax(student / T)).
    """

    def __init__(self, student: PreTrainedModel, teacher: nn.Module, recipe: DistillationRecipe) -> None:
        theirs: list[str] = list(teacher.outputs)  # pyright: ignore[reportArgumentType]
        super().__init__(student, len(theirs), "distillation")
        names: dict[int, str] = student.config.id2label  # pyright: ignore[reportAssignmentType]
        own = [names[index] for index in range(self._student[0].out_features)]
        shared = [name for name in own if name in theirs]
        if recipe.direct_weight and len(shared) < 2:
            raise ConfigurationError(
                f"Recipe key 'distillation.direct_weight' is set, but the student's classes {own} and the teacher's {theirs} "
                f"share {shared}; expected two or more. Set it to 0."
            )
        self.recipe = recipe
        self.main_input = student.main_input_name
        self._own_index = [own.index(name) for name in shared]
        self._their_index = [theirs.index(name) for name in shared]
        self._teacher = [teacher]  # in a list, as the student

    def forward(self, inputs: Mapping[str, torch.Tensor], logits: torch.Tensor) -> torch.Tensor:
        """Scalar loss for the batch that the student has just seen and answered with `logits` (batch, classes)."""
        with torch.no_grad():
            theirs = self._teacher[0](inputs[self.main_input])
        loss = self.recipe.weight * self._disagreement(theirs, self.layer(self._features.pop()))
        if self.recipe.direct_weight:
            agreed = self._disagreement(theirs[:, self._their_index], logits[:, self._own_index])
            loss = loss + self.recipe.direct_weight * agreed
        return loss

    def _disagreement(self, theirs: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
        temperature = self.recipe.temperature
        target = torch.softmax(theirs.float() / temperature, dim=-1)
        return temperature**2 * F.cross_entropy(own.float() / temperature, target)
