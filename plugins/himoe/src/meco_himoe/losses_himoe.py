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
    restraint     squared distance of the answer to the mean label, times the share missing         labels
    consistency   squared difference to the answer with modalities hidden (in training, if asked)   –

Every part is a scalar in float32, zero and connected to the graph where nothing valid is there, and none needs what a missing
modality would have brought. `mse`, `ccc` and `cross_entropy` make up the task loss, the others the auxiliary loss.

Classes: `prototype` takes, for where the label lies, the probability that each prototype's own class scores give to the class.

This file knows labels and losses; `modeling_himoe.py` knows where their ingredients come from.
"""

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional as F

from meco_hub.errors import InputError
from meco_hub.nn.masked import concordance_loss, masked_mean, widen

from .blocks import StackedLinear
from .configuration_himoe import HiMoEConfig

if TYPE_CHECKING:
    from .modeling_himoe import HiMoEFeatures, Member

IGNORED = -100
"""The class index of an unknown label, as everywhere in transformers."""


class ContrastiveHead(nn.Module):
    """Summaries of modalities → unit vectors of one space, and the learnt scale of their products."""

    def __init__(self, config: HiMoEConfig) -> None:
        super().__init__()
        self.projection = StackedLinear(config.num_modalities, config.d_model, config.contrastive_dim)
        self.log_scale = nn.Parameter(torch.empty(()))

    def forward(self, summaries: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, M, d) → (M, B, c) unit vectors, scale ()."""
        dtype = self.projection.weight.dtype
        vectors = widen(self.projection(summaries.transpose(0, 1).to(dtype)))
        return F.normalize(vectors, dim=-1, eps=1e-6), widen(self.log_scale).exp().clamp(max=100.0)


def weigh(config: HiMoEConfig, parts: dict[str, torch.Tensor], logits: torch.Tensor) -> torch.Tensor:
    """The weighted sum of losses; zero, connected to the graph, of none."""
    total = widen(logits).sum() * 0.0
    for name, value in parts.items():
        total = total + (1.0 if name == "cross_entropy" else getattr(config, f"{name}_loss_coef")) * value
    return total


def auxiliary(
    member: "Member",
    features: "HiMoEFeatures",
    logits: torch.Tensor,
    labels: torch.Tensor | None,
    known: torch.Tensor | None,
    lag_targets: torch.Tensor | None,
    group_ids: torch.Tensor | None,
    stimulus_ids: torch.Tensor | None,
) -> dict[str, torch.Tensor]:
    """The parts of the auxiliary loss of one network, before their weights. Parts with weight zero are left out.

    Args:
        member: the network with its heads.
        features: what it made of the batch.
        logits: what it answered.
        labels, known: as `check_labels` gives them, or None.
        lag_targets, group_ids, stimulus_ids: as in the model's forward, checked.
    """
    config = member.config
    present = features.modality_present
    assert present is not None
    with torch.autocast(device_type=present.device.type, enabled=False):
        parts: dict[str, torch.Tensor] = {}
        if labels is not None and known is not None:
            if config.unimodal_loss_coef:
                parts["unimodal"] = _unimodal(member, features, labels, known)
            if config.prototype_loss_coef and member.anchors is not None:
                parts["prototype"] = _prototype(config, features, widen(member.anchors.points), labels, known)
            if config.restraint_loss_coef:
                parts["restraint"] = _restraint(features, widen(logits), labels, known)
        if config.stimulus_loss_coef and stimulus_ids is not None:
            parts["stimulus"] = _stimulus(config, features, stimulus_ids)
        if config.contrastive_loss_coef and config.num_modalities > 1:
            groups = torch.arange(len(present), device=present.device) if group_ids is None else group_ids
            parts["contrastive"] = _contrastive(member.contrastive_head, features, groups)
        if config.lag_loss_coef and config.use_alignment and lag_targets is not None:
            parts["lag"] = _lag(config, features, lag_targets)
        if config.separation_loss_coef and member.himoe.prototypes is not None:
            parts["separation"] = _separation(config, widen(member.himoe.prototypes.vectors))
        if config.balance_loss_coef and features.expert_gates is not None:
            importance = features.expert_gates.sum(dim=(0, 1, 2))
            parts["balance"] = importance.var(correction=0) / (importance.mean().square() + 1e-8)
    return parts


def check_labels(
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


def check_groups(logits: torch.Tensor, group_ids: torch.Tensor | None) -> None:
    """Make sure that there is a trial's number per window.

    Raises:
        InputError: there is not.
    """
    if group_ids is not None and tuple(group_ids.shape) != (len(logits),):
        raise InputError(
            f"group_ids have shape {tuple(group_ids.shape)}; expected ({len(logits)},), a trial's number per window."
        )


def check_stimuli(config: HiMoEConfig, logits: torch.Tensor, stimulus_ids: torch.Tensor | None) -> None:
    """Make sure that there is a stimulus's number per window, which has a prototype. Where the loss is off, anything will do.

    Raises:
        InputError: there is not.
    """
    if stimulus_ids is None or not config.stimulus_loss_coef:
        return
    if tuple(stimulus_ids.shape) != (len(logits),) or stimulus_ids.is_floating_point():
        raise InputError(
            f"stimulus_ids have shape {tuple(stimulus_ids.shape)} and dtype {stimulus_ids.dtype}; expected ({len(logits)},) whole "
            "numbers, what was shown per window."
        )
    count = config.n_emotion_experts
    strange = (stimulus_ids >= count) | ((stimulus_ids < 0) & (stimulus_ids != IGNORED))
    if bool(strange.any()):
        raise InputError(
            f"stimulus_ids hold {int(stimulus_ids[strange][0])}; expected 0 to {count - 1}, a prototype each, or {IGNORED} for "
            "unknown. Raise n_emotion_experts to the number of stimuli, or set stimulus_loss_coef to 0."
        )


def check_lags(config: HiMoEConfig, logits: torch.Tensor, lag_targets: torch.Tensor | None) -> None:
    """Make sure that there is a delay per window and modality.

    Raises:
        InputError: there is not.
    """
    expected = (len(logits), config.num_modalities)
    if lag_targets is not None and tuple(lag_targets.shape) != expected:
        raise InputError(
            f"lag_targets have shape {tuple(lag_targets.shape)}; expected {expected}, seconds per window and modality."
        )


def task(
    config: HiMoEConfig, logits: torch.Tensor, labels: torch.Tensor, known: torch.Tensor
) -> dict[str, torch.Tensor]:
    """The parts of the loss on the answer itself, before their weights; labels and known as `check_labels` gives them."""
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


def _unimodal(member: "Member", features: "HiMoEFeatures", labels: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Mean over modalities of the error of its own head, on windows where it is there; over time, against the mean label."""
    config = member.config
    states, present = features.modality_states, features.modality_present
    assert states is not None
    assert present is not None
    values = widen(member.unimodal_heads(states.transpose(0, 1).to(member.unimodal_heads.weight.dtype)))  # (M, B, D)
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


def _prototype(
    config: HiMoEConfig,
    features: "HiMoEFeatures",
    anchors: torch.Tensor,
    labels: torch.Tensor,
    known: torch.Tensor,
) -> torch.Tensor:
    """Cross-entropy between where the label lies among the prototypes (no gradient to them) and the prototype weights."""
    weights = features.weights_behind(config)
    assert weights is not None
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


def _stimulus(config: HiMoEConfig, features: "HiMoEFeatures", stimulus_ids: torch.Tensor) -> torch.Tensor:
    """Negative logarithm of the weight of the stimulus's own prototype; over time, of every step's."""
    weights = features.weights_behind(config)
    assert weights is not None
    known = stimulus_ids != IGNORED
    index = stimulus_ids.masked_fill(~known, 0).view(-1, *[1] * (weights.ndim - 1)).expand(*weights.shape[:-1], 1)
    errors = -weights.gather(-1, index).squeeze(-1).clamp(min=1e-5).log()  # a weight may be zero, whose slope is none
    return masked_mean(errors, known if errors.ndim == 1 else known[:, None].expand_as(errors))


def _restraint(
    features: "HiMoEFeatures", values: torch.Tensor, labels: torch.Tensor, known: torch.Tensor
) -> torch.Tensor:
    """Mean squared distance of values to the mean known label of each target, times the share of modalities missing.

    Beside a squared error, and c times as heavy, it leaves 1 / (1 + c · share) of a deviation from that mean.
    """
    present = features.modality_present
    assert present is not None
    rows = tuple(range(values.ndim - 1))
    centre = masked_mean(labels.to(values.dtype), known, dim=rows)
    missing = 1 - present.to(values.dtype).mean(dim=1)
    apart = (values - centre).square() * missing.view(-1, *[1] * (values.ndim - 1))
    return masked_mean(apart, known)


def _contrastive(head: ContrastiveHead, features: "HiMoEFeatures", groups: torch.Tensor) -> torch.Tensor:
    """Mean over ordered pairs of modalities: which window of the other one is this one's?"""
    tokens, present = features.modality_tokens, features.modality_present
    assert tokens is not None
    assert present is not None
    vectors, scale = head(tokens)
    scores = torch.einsum("mbc,jec->mjbe", vectors, vectors) * scale  # (M, M, B, B)
    both = present.T.unsqueeze(1) & present.T.unsqueeze(0)  # (M, M, B)
    same = torch.eye(len(groups), dtype=torch.bool, device=groups.device)
    rivals = both.unsqueeze(2) & ((groups[:, None] != groups[None, :]) | same)  # windows of one trial are no rivals
    scores = scores.masked_fill(~rivals, torch.finfo(scores.dtype).min)
    errors = scores.logsumexp(dim=-1) - scores.diagonal(dim1=-2, dim2=-1)
    others = ~torch.eye(len(both), dtype=torch.bool, device=both.device).unsqueeze(-1)
    valid = both & others
    return masked_mean(masked_mean(errors, valid, dim=-1), valid.any(dim=-1))


def _lag(config: HiMoEConfig, features: "HiMoEFeatures", lag_targets: torch.Tensor) -> torch.Tensor:
    """Both lags and targets are taken relative to their mean over the modalities that have both."""
    lags, present = features.dynamic_lags, features.modality_present
    assert lags is not None
    assert present is not None
    valid = present & lag_targets.isfinite()
    targets = lag_targets.to(lags.dtype).masked_fill(~valid, 0.0)
    relative = lags - masked_mean(lags, valid, dim=1).unsqueeze(1)
    wanted = targets - masked_mean(targets, valid, dim=1).unsqueeze(1)
    errors = F.smooth_l1_loss(relative, wanted, beta=float(config.lag_huber_beta_s), reduction="none")
    return masked_mean(errors, valid & (valid.sum(dim=1, keepdim=True) >= 2))


def _separation(config: HiMoEConfig, prototypes: torch.Tensor) -> torch.Tensor:
    count = len(prototypes)
    alike = F.normalize(prototypes, dim=-1) @ F.normalize(prototypes, dim=-1).T
    others = ~torch.eye(count, dtype=torch.bool, device=alike.device)
    return masked_mean((alike - config.proto_margin).relu().square(), others)
