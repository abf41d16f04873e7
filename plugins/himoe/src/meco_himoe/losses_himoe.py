"""What Hi-MoE is trained for: the answer itself, and what helps it along.

    name          what                                                                              needs
    mse           squared (or Huber) error of scaled values                                         labels
    ccc           1 − concordance over the batch, mean over targets                                 labels
    cross_entropy of classes, in place of the two above                                             labels
    unimodal      the error of each modality's own small head, where it is there                    labels
    contrastive   InfoNCE between any two modalities of one window, before they read each other     two modalities
    lag           Huber error of the estimated lags against delays that were applied on purpose     lag_targets
    prototype     cross-entropy between where the label lies among the prototypes and their weights labels
    separation    prototypes that look alike                                                        –
    balance       squared coefficient of variation of the modality experts' importance              –
    stimulus      cross-entropy between the prototype weights and the prototype of what was shown   stimulus_ids
    restraint     shrinkage: squared distance of the answer to the mean label, times the share      labels
                  of modalities missing
    consistency   squared difference to the answer with modalities hidden (in training)             –

Every part is a scalar in float32, zero and connected to the graph where nothing valid is there, and none needs what a missing
modality would have brought. `mse`, `ccc` and `cross_entropy` make up the task loss, the others the auxiliary loss.

A part has the name of its coefficient in the config, less `_loss_coef`.
"""

import torch
from torch import nn
from torch.nn import functional as F

from meco_hub.errors import InputError
from meco_hub.nn.losses import concordance_loss, masked_mean, widen

from .configuration_himoe import HiMoEConfig
from .encoders import StackedLinear
from .single_numbers import single_number

IGNORED = -100
"""The class index of an unknown label, as everywhere in transformers."""


class ContrastiveHead(nn.Module):
    """Summaries of modalities → unit vectors of one space, and the learnt scale of their products."""

    def __init__(self, config: HiMoEConfig) -> None:
        super().__init__()
        self.projection = StackedLinear(config.num_modalities, config.d_model, config.contrastive_dim)
        self.log_scale = single_number(self, "log_scale")

    def forward(self, summaries: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, M, d) → (M, B, c) unit vectors, scale (1,)."""
        dtype = self.projection.weight.dtype
        vectors = widen(self.projection(summaries.transpose(0, 1).to(dtype)))
        return F.normalize(vectors, dim=-1, eps=1e-6), widen(self.log_scale).exp().clamp(max=100.0)


def weighted_sum(config: HiMoEConfig, parts: dict[str, torch.Tensor], logits: torch.Tensor) -> torch.Tensor:
    """The sum of the parts times their coefficients; zero, connected to the graph, of none."""
    total = widen(logits).sum() * 0.0
    for name, value in parts.items():
        total = total + (1.0 if name == "cross_entropy" else getattr(config, f"{name}_loss_coef")) * value
    return total


def validate_labels(
    config: HiMoEConfig, logits: torch.Tensor, labels: torch.Tensor, label_mask: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Labels with zeros for what is unknown, and which are known.

    Raises:
        InputError: labels or mask have another shape than the answer asks for.
    """
    expected = tuple(logits.shape) if config.is_regression else tuple(logits.shape[:-1])
    if config.is_regression and logits.shape[-1] == 1 and tuple(labels.shape) == tuple(logits.shape[:-1]):
        labels = labels.unsqueeze(-1)  # as transformers' own heads take one value per sample
        label_mask = None if label_mask is None else label_mask.unsqueeze(-1)
    if tuple(labels.shape) != expected or labels.is_floating_point() is not config.is_regression:
        raise InputError(
            f"labels have shape {tuple(labels.shape)} and dtype {labels.dtype}; expected {expected}, "
            f"{'scaled values' if config.is_regression else 'class indices'}, for prediction_mode "
            f"{config.prediction_mode!r} with {config.problem_type}."
        )
    known = labels.isfinite() if config.is_regression else labels != IGNORED
    if label_mask is not None:
        if tuple(label_mask.shape) != expected:
            raise InputError(
                f"label_mask has shape {tuple(label_mask.shape)}; expected {expected}, as the labels have."
            )
        known = known & label_mask.bool()
    return labels.masked_fill(~known, 0), known


def validate_targets(
    config: HiMoEConfig,
    logits: torch.Tensor,
    lag_targets: torch.Tensor | None,
    group_ids: torch.Tensor | None,
    stimulus_ids: torch.Tensor | None,
) -> None:
    """Make sure that what the auxiliary losses take fits the batch; stimuli only where their loss is on.

    Raises:
        InputError: another shape than one delay per window and modality, one trial or one stimulus per window; a stimulus
            without a prototype.
    """
    batch, count = len(logits), config.n_emotion_experts
    if lag_targets is not None and tuple(lag_targets.shape) != (batch, config.num_modalities):
        raise InputError(
            f"lag_targets have shape {tuple(lag_targets.shape)}; expected {(batch, config.num_modalities)}, seconds per window and "
            "modality."
        )
    if group_ids is not None and tuple(group_ids.shape) != (batch,):
        raise InputError(
            f"group_ids have shape {tuple(group_ids.shape)}; expected ({batch},), a trial's number per window."
        )
    if stimulus_ids is None or not config.stimulus_loss_coef:
        return
    if tuple(stimulus_ids.shape) != (batch,) or stimulus_ids.is_floating_point():
        raise InputError(
            f"stimulus_ids have shape {tuple(stimulus_ids.shape)} and dtype {stimulus_ids.dtype}; expected ({batch},) whole "
            "numbers, what was shown per window."
        )
    unknown = (stimulus_ids >= count) | ((stimulus_ids < 0) & (stimulus_ids != IGNORED))
    if bool(unknown.any()):
        raise InputError(
            f"stimulus_ids hold {int(stimulus_ids[unknown][0])}; expected 0 to {count - 1}, a prototype each, or {IGNORED} for "
            "unknown. Raise n_emotion_experts to the number of stimuli, or set stimulus_loss_coef to 0."
        )


def task_losses(
    config: HiMoEConfig, logits: torch.Tensor, labels: torch.Tensor, known: torch.Tensor
) -> dict[str, torch.Tensor]:
    """The parts of the loss on the answer itself, before their weights; labels and known as `validate_labels` gives them."""
    with torch.autocast(device_type=logits.device.type, enabled=False):
        logits = widen(logits)
        if not config.is_regression:
            return {"cross_entropy": _cross_entropy(logits, labels, known, float(config.label_smoothing))}
        parts: dict[str, torch.Tensor] = {}
        labels = labels.to(logits.dtype)
        if config.mse_loss_coef:
            parts["mse"] = masked_mean(_error(config, logits, labels), known)
        if config.ccc_loss_coef:
            parts["ccc"] = concordance_loss(logits.flatten(0, -2), labels.flatten(0, -2), known.flatten(0, -2))
        return parts


def _error(config: HiMoEConfig, values: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    if config.regression_loss == "huber":
        return F.smooth_l1_loss(values, labels, beta=0.5, reduction="none")
    return (values - labels).square()


def _cross_entropy(logits: torch.Tensor, labels: torch.Tensor, known: torch.Tensor, smoothing: float) -> torch.Tensor:
    """Logits (…, C), labels and known (…) → scalar."""
    losses = F.cross_entropy(logits.flatten(0, -2), labels.flatten(), label_smoothing=smoothing, reduction="none")
    return masked_mean(losses, known.flatten())


def unimodal_loss(
    config: HiMoEConfig, values: torch.Tensor, present: torch.Tensor, labels: torch.Tensor, known: torch.Tensor
) -> torch.Tensor:
    """Mean over modalities of the error of its own head, on windows where it is there; over time, against the mean label.

    Args:
        values: (M, B, D), what each modality's own head answers.
        present: (B, M) bool.
        labels, known: as `validate_labels` gives them.
    """
    there = present.T  # (M, B)
    if config.is_regression:
        if labels.ndim == 3:
            labels, known = masked_mean(labels, known, dim=1), known.any(dim=1)
        errors = _error(config, values, labels.to(values.dtype).expand_as(values))
        counts = there.unsqueeze(-1) & known
        return masked_mean(masked_mean(errors, counts, dim=(1, 2)), counts.any(dim=2).any(dim=1))
    if labels.ndim == 2:  # classes over time: each step's, from the one vector that the modality has
        values = values.unsqueeze(2).expand(-1, -1, labels.shape[1], -1)
        there = there.unsqueeze(-1)
    targets = labels.expand(values.shape[:-1])
    errors = F.cross_entropy(values.flatten(0, -2), targets.flatten(), reduction="none").view(targets.shape)
    counts = (there & known).flatten(1)
    return masked_mean(masked_mean(errors.flatten(1), counts, dim=1), counts.any(dim=1))


def prototype_loss(
    config: HiMoEConfig, weights: torch.Tensor, anchors: torch.Tensor, labels: torch.Tensor, known: torch.Tensor
) -> torch.Tensor:
    """Cross-entropy between where the label lies among the prototypes and the prototype weights.

    A class lies where the prototypes' own class scores put it: its probability under each of them.

    Args:
        weights: (B, K), or (B, S, K) over time.
        anchors: (K, D), where prototypes stand among the labels; without gradient here.
        labels, known: as `validate_labels` gives them.
    """
    fixed = anchors.detach()  # (K, D)
    if config.is_regression:
        apart = (labels.to(fixed.dtype).unsqueeze(-2) - fixed).square()  # (…, K, D)
        # targets that are unknown say nothing about which prototype is near
        distance = apart.masked_fill(~known.unsqueeze(-2), 0.0).sum(dim=-1)
        wanted = (-distance / (2 * config.proto_sigma**2)).softmax(dim=-1)
        valid = known.any(dim=-1)
    else:
        likelihood = fixed.softmax(dim=-1).T[labels]  # (…, K)
        wanted = likelihood / likelihood.sum(dim=-1, keepdim=True)
        valid = known
    return masked_mean(-(wanted * weights.clamp(min=1e-6).log()).sum(dim=-1), valid)


def stimulus_loss(weights: torch.Tensor, stimulus_ids: torch.Tensor) -> torch.Tensor:
    """Negative logarithm of the weight, (B, K) or (B, S, K), of the stimulus's own prototype; over time, of every step's."""
    known = stimulus_ids != IGNORED
    index = stimulus_ids.masked_fill(~known, 0).view(-1, *[1] * (weights.ndim - 1)).expand(*weights.shape[:-1], 1)
    errors = -weights.gather(-1, index).squeeze(-1).clamp(min=1e-5).log()  # a weight may be zero, whose slope is none
    return masked_mean(errors, known if errors.ndim == 1 else known[:, None].expand_as(errors))


def shrinkage_loss(
    values: torch.Tensor, present: torch.Tensor, labels: torch.Tensor, known: torch.Tensor
) -> torch.Tensor:
    """Mean squared distance of values to the mean known label of each target, times the share of modalities missing.

    Beside a squared error, and c times as heavy, it leaves 1 / (1 + c · share) of a deviation from that mean. Its coefficient
    is the config's `restraint_loss_coef`.
    """
    rows = tuple(range(values.ndim - 1))
    centre = masked_mean(labels.to(values.dtype), known, dim=rows)
    missing = 1 - present.to(values.dtype).mean(dim=1)
    apart = (values - centre).square() * missing.view(-1, *[1] * (values.ndim - 1))
    return masked_mean(apart, known)


def contrastive_loss(
    vectors: torch.Tensor, scale: torch.Tensor, present: torch.Tensor, group_ids: torch.Tensor | None
) -> torch.Tensor:
    """Mean over ordered pairs of modalities: which window of the other one is this one's?

    Args:
        vectors, scale: as `ContrastiveHead` gives them.
        present: (B, M) bool.
        group_ids: (B,), windows that are not told apart from each other; None: all distinct.
    """
    groups = torch.arange(len(present), device=present.device) if group_ids is None else group_ids
    scores = torch.einsum("mbc,jec->mjbe", vectors, vectors) * scale  # (M, M, B, B)
    both = present.T.unsqueeze(1) & present.T.unsqueeze(0)  # (M, M, B)
    same = torch.eye(len(groups), dtype=torch.bool, device=groups.device)
    rivals = both.unsqueeze(2) & ((groups[:, None] != groups[None, :]) | same)  # windows of one trial are no rivals
    scores = scores.masked_fill(~rivals, torch.finfo(scores.dtype).min)
    errors = scores.logsumexp(dim=-1) - scores.diagonal(dim1=-2, dim2=-1)
    others = ~torch.eye(len(both), dtype=torch.bool, device=both.device).unsqueeze(-1)
    valid = both & others
    return masked_mean(masked_mean(errors, valid, dim=-1), valid.any(dim=-1))


def lag_loss(config: HiMoEConfig, lags: torch.Tensor, present: torch.Tensor, lag_targets: torch.Tensor) -> torch.Tensor:
    """Huber error of lags, (B, M) as the rest; lags and targets are relative to their mean over the modalities that have both."""
    valid = present & lag_targets.isfinite()
    targets = lag_targets.to(lags.dtype).masked_fill(~valid, 0.0)
    relative = lags - masked_mean(lags, valid, dim=1).unsqueeze(1)
    wanted = targets - masked_mean(targets, valid, dim=1).unsqueeze(1)
    errors = F.smooth_l1_loss(relative, wanted, beta=float(config.lag_huber_beta_s), reduction="none")
    return masked_mean(errors, valid & (valid.sum(dim=1, keepdim=True) >= 2))


def separation_loss(config: HiMoEConfig, prototypes: torch.Tensor) -> torch.Tensor:
    """Mean over pairs of prototypes, (K, d), of the square of what their cosine has above `proto_margin`."""
    count = len(prototypes)
    alike = F.normalize(prototypes, dim=-1) @ F.normalize(prototypes, dim=-1).T
    others = ~torch.eye(count, dtype=torch.bool, device=alike.device)
    return masked_mean((alike - config.proto_margin).relu().square(), others)


def balance_loss(gates: torch.Tensor) -> torch.Tensor:
    """Squared coefficient of variation of the modality experts' importance: the sums of their gates, (B, M, S, K)."""
    importance = gates.sum(dim=(0, 1, 2))
    return importance.var(correction=0) / (importance.mean().square() + 1e-8)
