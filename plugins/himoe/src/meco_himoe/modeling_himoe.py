# Copyright 2026 The meco_hub authors. Licensed under the Apache License, Version 2.0.
"""Hi-MoE: emotion from physiological signals that may be missing or out of step, by two layers of experts.

After Zhu, Han, Jiang, Zhou, Wang, "Hierarchical MoE: Continuous Multimodal Emotion Recognition with Incomplete and
Asynchronous Inputs", arXiv 2508.02133. Of the paper only the names, the order and the purposes of the blocks are public; every
equation and size here is this implementation's own. It is not a reproduction of the paper's numbers.

    samples, times, mask ─► stem and encoder ─► tokens h_m, times τ_m                  (each modality by itself, own rate)
                                └► alignment: lag δ_m, resampling to the grid ─► z_m[s], availability A_m[s]
                                     └► context layer over all (m, s)
                                          └► modality expert bank ─► u[s]              (fusion; missing modalities left out)
                                               └► fusion layers over time
                                                    └► emotion expert bank ─► u[s], prototype weights π[s]
                                                         └► pooling, head ─► (B, D) or (B, S, D)

Letters: B batch, M modalities, N tokens of a modality, S steps of the grid, J largest lag in steps, d = d_model, K experts,
H heads, D targets or classes. All modalities are computed at once wherever their shapes allow, which is everywhere but in the
stems; for that, tensors carry the modality first: (M, B, …).

Notable:
- Values behind a mask are replaced before anything else happens to them, so they can never change an answer, NaN included.
- A modality whose key is absent is a modality with no valid sample: the graph is the same, and no parameter is left out.
- Nothing looks across the batch in evaluation, and time is always counted from the window's start: where in a recording a
  window lies would give away which stimulus it was.
- Time encoding, softmaxes, correlations and losses are in float32 under autocast and in half precision.
- No buffers: the grid is made from the config in every pass, so there is nothing for meta-device loading to lose.

Blocks in the order of the data: `inputs.py`, `encoders.py`, `alignment.py`, `experts.py`, each with its sources, from whose
descriptions, not from whose code, it is written; `losses_himoe.py` is what the network is trained for.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn import functional as F
from transformers import initialization as init

from meco_hub.errors import ConfigurationError
from meco_hub.modeling import EmotionPreTrainedModel
from meco_hub.nn.losses import masked_softmax, widen
from meco_hub.outputs import EmotionFeaturesOutput, EmotionRecognitionOutput

from . import losses_himoe as losses
from .alignment import GridResampler, LagEstimator
from .configuration_himoe import HiMoEConfig
from .encoders import (
    FastDropout,
    ModalityEmbedding,
    ModalityEncoders,
    SoftExperts,
    StackedLinear,
    TimeEncoding,
    TransformerLayer,
    average,
    full_precision,
)
from .experts import (
    EmotionExpertLayer,
    FeedForward,
    LabelAnchors,
    ModalityExpertBank,
    ModalityRouter,
    Prototypes,
    spread_points,
)
from .inputs import Streams, complete_inputs, validate_inputs


@dataclass
class HiMoEFeatures(EmotionFeaturesOutput):
    """Output of `HiMoEModel`.

    Attributes:
        pooler_output: (B, d) the window as a whole.
        router_logits: one tensor (B, M, S, K_m), before softmax; there on request.
        hidden_states: (B, S, d) each: the modalities joined, then after every layer over time and every emotion expert layer; there
            on request.
        steps: (B, S, d) the steps of the grid.
        step_mask: (B, S) bool: some modality was available; all True where none ever was.
        prototype_weights: (B, S, K_e), each row summing to one; None without emotion experts.
        pooled_prototypes: (B, K_e) the same for the window.
        modality_tokens: (B, M, d) mean of each modality's tokens before it has read the others.
        modality_states: (B, M, d) the same afterwards.
        modality_present: (B, M) bool: it has a valid token.
        lags: (B, M) seconds by which each modality is late, as corrected.
        dynamic_lags: (B, M) the part of it that was estimated from this window, in the mean gauge.
        availability: (B, M, S) bool.
        expert_gates: (B, M, S, K_m), summing to one where the modality is available, else zero; None for `meb="mean"`.
        modality_weights: (B, M, S), summing to one over modalities where any is available, else zero.
        lambda_: (L_e,) weight of the second attention map in each emotion expert layer; None without such.
    """

    steps: torch.Tensor | None = None
    step_mask: torch.Tensor | None = None
    prototype_weights: torch.Tensor | None = None
    pooled_prototypes: torch.Tensor | None = None
    modality_tokens: torch.Tensor | None = None
    modality_states: torch.Tensor | None = None
    modality_present: torch.Tensor | None = None
    lags: torch.Tensor | None = None
    dynamic_lags: torch.Tensor | None = None
    availability: torch.Tensor | None = None
    expert_gates: torch.Tensor | None = None
    modality_weights: torch.Tensor | None = None
    lambda_: torch.Tensor | None = None

    def weights_behind(self, config: HiMoEConfig) -> torch.Tensor | None:
        """The prototype weights that an answer rests on: of every step, (B, S, K_e), or of the window, (B, K_e)."""
        return self.prototype_weights if config.prediction_mode == "sequence" else self.pooled_prototypes


@dataclass
class HiMoEOutput(EmotionRecognitionOutput):
    """Output of `HiMoEForEmotionRecognition`.

    Attributes:
        loss: `task_loss + aux_loss`; there when `labels` or `lag_targets` were given.
        logits: (B, D), or (B, S, D) with `prediction_mode="sequence"`: scaled values, or class scores.
        aux_loss: weighted sum of all losses but those on the answer itself.
        task_loss: weighted sum of the losses on the answer: squared error and concordance, or cross-entropy.
        losses: every part before its weight, detached.
        lags, availability, expert_gates, modality_weights, prototype_weights, lambda_: as in `HiMoEFeatures`; there with
            `output_routing=True`.
        embedding: (B, d), the `pooler_output`; likewise.
    """

    task_loss: torch.Tensor | None = None
    losses: dict[str, torch.Tensor] | None = None
    lags: torch.Tensor | None = None
    availability: torch.Tensor | None = None
    expert_gates: torch.Tensor | None = None
    modality_weights: torch.Tensor | None = None
    prototype_weights: torch.Tensor | None = None
    lambda_: torch.Tensor | None = None
    embedding: torch.Tensor | None = None

    @property
    def predictions(self) -> torch.Tensor | None:
        """`logits` under the name that suits values."""
        return self.logits


class HiMoEPreTrainedModel(EmotionPreTrainedModel):
    """What the base model and the head share: the config, and how weights are initialised."""

    config: HiMoEConfig
    base_model_prefix = "himoe"
    main_input_name = "modality_presence"  # must be a tensor; Trainer counts its elements
    input_modalities = ("time",)  # pyright: ignore[reportAssignmentType]
    supports_gradient_checkpointing = True
    _no_split_modules: ClassVar[list[str]] = ["TransformerLayer", "EmotionExpertLayer", "SignalStem", "LagEstimator"]
    _keep_in_fp32_modules_strict: ClassVar[list[str]] = ["time_encoding"]

    def no_weight_decay(self) -> set[str]:
        """Names of parameters that weight decay would only harm: biases and norms, embeddings, prototypes, scalars of physics."""
        free = ("prototypes.", "anchors.", "modality_embedding", "lambda_vectors", "centres", "time_encoding.frequency")
        return {
            name
            for name, parameter in self.named_parameters()
            if parameter.ndim < 2 or name.endswith("bias") or any(part in name for part in free)
        }

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Conv1d):
            init.normal_(module.weight, std=self._deviation(module.weight[0].numel()))
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, StackedLinear):
            init.normal_(module.weight, std=self._deviation(module.weight.shape[1]))
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, SoftExperts):
            _, hidden, width = module.up_weight.shape
            init.normal_(module.up_weight, std=self._deviation(width))
            init.normal_(module.down_weight, std=self._deviation(hidden))
            init.zeros_(module.up_bias)
            init.zeros_(module.down_bias)
        elif isinstance(module, TimeEncoding):
            init.copy_(module.frequency, torch.tensor([2 * math.pi / period for period in module.initial_periods]))
            init.zeros_(module.phase)
        elif isinstance(module, LagEstimator):
            init.zeros_(module.static_lag)
            init.constant_(module.temperature, float(module.initial_temperature))
        elif isinstance(module, GridResampler):
            init.copy_(module.width_s, torch.tensor(module.initial_widths))
        elif isinstance(module, ModalityRouter):
            init.ones_(module.own_expert)
            if module.centres is not None:
                init.normal_(module.centres)
            else:  # or chance would outvote what makes each modality start on its own expert
                init.normal_(module.token.weight, std=0.02)
                init.normal_(module.context.weight, std=0.02)
        elif isinstance(module, ModalityExpertBank):
            init.normal_(module.null, std=self._deviation(len(module.null)))
            if module.mixes:
                init.zeros_(module.modality_prior)
        elif isinstance(module, Prototypes):
            init.normal_(module.vectors, std=self.config.d_model**-0.5)
        elif isinstance(module, EmotionExpertLayer):
            init.ones_(module.head_gain)
            if module.lambda_vectors is not None:
                init.normal_(module.lambda_vectors, std=0.1)
        elif isinstance(module, LabelAnchors):
            self._place_anchors(module)
        elif isinstance(module, ModalityEmbedding):
            init.normal_(module.weight, std=self._deviation(module.weight.shape[1]))
        elif isinstance(module, losses.ContrastiveHead):
            init.constant_(module.log_scale, -math.log(self.config.contrastive_temperature))
        else:
            super()._init_weights(module)

    def _deviation(self, inputs: int) -> float:
        """Standard deviation of the weights of a map with so many inputs."""
        given = self.config.initializer_range
        return inputs**-0.5 if given is None else float(given)

    def _place_anchors(self, module: LabelAnchors) -> None:
        count, targets = module.points.shape
        if module.init_kind == "normal":
            init.normal_(module.points, std=0.3)
        elif module.is_regression:
            init.copy_(module.points, torch.tensor(spread_points(count, targets)))
        else:  # each prototype stands for one class, the classes in turn
            one_hot = F.one_hot(torch.arange(count) % targets, targets).float()
            init.copy_(module.points, one_hot - 1 / targets)


class HiMoEModel(HiMoEPreTrainedModel):
    """Hi-MoE up to the steps and the window that the head reads."""

    def __init__(self, config: HiMoEConfig) -> None:
        super().__init__(config)
        width = config.d_model
        self.time_encoding = TimeEncoding(config)
        self.modality_embedding = ModalityEmbedding(config)
        self.encoders = ModalityEncoders(config)
        self.lag_estimator = LagEstimator(config) if config.use_alignment else None
        self.resampler = GridResampler(config)
        self.context_layers = nn.ModuleList(TransformerLayer(config) for _ in range(config.context_layers))
        self.modality_experts = ModalityExpertBank(config)
        self.fusion_layers = nn.ModuleList(TransformerLayer(config) for _ in range(config.fusion_layers))
        self.prototypes = Prototypes(config) if config.eeb_layers else None
        self.emotion_experts = nn.ModuleList(EmotionExpertLayer(config, i) for i in range(config.eeb_layers))
        self.feed_forward = FeedForward(config) if not config.eeb_layers else None
        # one answer per step needs no learnt weights of the steps
        self.pooling = nn.Linear(width, 1) if config.prediction_mode == "window" else None
        self.norm_out = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.post_init()

    def forward(
        self,
        inputs: Streams | None = None,
        modality_presence: torch.Tensor | None = None,
        step_mask: Streams | None = None,
        timestamps: Streams | None = None,
        offsets: torch.Tensor | None = None,
        output_router_logits: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> HiMoEFeatures | tuple[torch.Tensor, ...]:
        """Compute the features.

        Args:
            inputs: modality → (B, T, C) floating point; an absent modality is an absent key. T is the window's length at the
                modality's rate, margins included, unless `timestamps` are given.
            modality_presence: (B, M) bool in the order of `config.modality_names`; default: True where the key is there.
            step_mask: modality → (B, T) bool, True: a valid sample; default: all. NaN and infinity are never valid.
            timestamps: modality → (B, T) seconds from the window's start, may be irregular; default: (t + ½) / rate, minus the
                margin.
            offsets: (B, M) seconds added to the timestamps; default: 0.
            output_router_logits: also give the modality router's logits; default `config.output_router_logits`.
            output_hidden_states: also give the steps between the layers; default `config.output_hidden_states`.
            return_dict: False gives a tuple; default `config.return_dict`.

        Raises:
            InputError: unknown modalities, or tensors of the wrong shape.
        """
        config = self.config
        samples, valid, times = complete_inputs(
            config, self.modality_embedding.weight.dtype, inputs, modality_presence, step_mask, timestamps, offsets
        )
        steps = torch.arange(config.num_steps, device=samples[0].device, dtype=torch.float32)
        grid = (steps + 0.5) * config.grid_step_s
        grid_encoding = self.time_encoding(grid)  # (S, d)
        embedding = self.modality_embedding.weight

        tokens, times, mask = self.encoders(samples, valid, times, embedding, self.time_encoding)
        if self.lag_estimator is not None:
            lags, dynamic_lags = self.lag_estimator(tokens, times, mask)
        else:
            lags = dynamic_lags = torch.zeros(mask.shape[1], mask.shape[0], device=mask.device)
        z, available = self.resampler(tokens, times, mask, lags, grid, grid_encoding)
        z, available = z.transpose(0, 1), available.transpose(0, 1)  # (B, M, S, d), (B, M, S)
        keep = available.unsqueeze(-1).to(z.dtype)
        modality_tokens = average(z, keep, dim=2)
        if self.context_layers:
            z = z + grid_encoding.to(z.dtype) + embedding[:, None]
            z = self._mix_modalities(z, available)
        modality_states = average(z, keep, dim=2)

        u, modality_weights, gates, gate_logits = self.modality_experts(z, available)  # (B, S, d)
        hidden_states = [u]
        any_available = available.any(dim=1)
        # where nothing is there at all, every step counts, so that the sample gets a constant that was learnt
        step_valid = any_available | ~any_available.any(dim=1, keepdim=True)
        if self.fusion_layers:
            u = u + grid_encoding.to(u.dtype)
        for layer in self.fusion_layers:
            u = layer(u, step_valid)
            hidden_states.append(u)

        weights = None
        lambdas: list[torch.Tensor] = []
        if self.prototypes is not None:
            for layer in self.emotion_experts:
                u, weights, _, weight = layer(u, self.prototypes.vectors)
                lambdas.append(weight)
                hidden_states.append(u)
        elif self.feed_forward is not None:
            u = self.feed_forward(u)
            hidden_states.append(u)

        scores = torch.zeros_like(u[..., 0]) if self.pooling is None else self.pooling(u).squeeze(-1)
        shares = masked_softmax(scores, step_valid).unsqueeze(-1)  # (B, S, 1)
        wants_router = config.output_router_logits if output_router_logits is None else output_router_logits
        wants_hidden = config.output_hidden_states if output_hidden_states is None else output_hidden_states
        output = HiMoEFeatures(
            pooler_output=self.norm_out((u * shares.to(u.dtype)).sum(dim=1)),
            router_logits=(gate_logits,) if wants_router and gate_logits is not None else None,
            hidden_states=tuple(hidden_states) if wants_hidden else None,
            steps=self.norm_out(u),
            step_mask=step_valid,
            prototype_weights=weights,
            pooled_prototypes=None if weights is None else (weights * shares).sum(dim=1),
            modality_tokens=modality_tokens,
            modality_states=modality_states,
            modality_present=available.any(dim=2),
            lags=lags,
            dynamic_lags=dynamic_lags,
            availability=available,
            expert_gates=gates,
            modality_weights=modality_weights,
            lambda_=torch.stack(lambdas) if lambdas else None,
        )
        return output if (config.return_dict if return_dict is None else return_dict) else output.to_tuple()

    def _mix_modalities(self, z: torch.Tensor, available: torch.Tensor) -> torch.Tensor:
        """The context layers over (B, M, S, d): all tokens of a window together, or those of each step."""
        whole = self.config.context_scope == "window"
        tokens = z.flatten(1, 2) if whole else z.transpose(1, 2)
        mask = available.flatten(1, 2) if whole else available.transpose(1, 2)
        keep = mask.unsqueeze(-1).to(tokens.dtype)
        tokens = tokens * keep
        for layer in self.context_layers:
            tokens = layer(tokens, mask) * keep
        return tokens.unflatten(1, z.shape[1:3]) if whole else tokens.transpose(1, 2)


class HiMoENetwork:
    """One network with its heads: a model of its own, or one of those whose answers `HiMoEForEmotionRecognition` averages.

    A mixin, so that the names of the first network's weights are those of a model that has no other.
    """

    config: HiMoEConfig
    himoe: HiMoEModel
    head: nn.Sequential
    anchors: LabelAnchors | None
    unimodal_heads: StackedLinear
    contrastive_head: losses.ContrastiveHead

    def add_parts(self, config: HiMoEConfig) -> None:
        """Make the modules; called once, from the constructor."""
        width, outputs = config.d_model, len(config.id2label or {})
        self.himoe = HiMoEModel(config)
        self.head = nn.Sequential(
            nn.Linear(width, width), nn.GELU(), FastDropout(float(config.dropout)), nn.Linear(width, outputs)
        )
        self.anchors = LabelAnchors(config) if config.eeb_layers else None
        # of training only
        self.unimodal_heads = StackedLinear(config.num_modalities, width, outputs)
        self.contrastive_head = losses.ContrastiveHead(config)

    def predict(self, **streams: Any) -> tuple[HiMoEFeatures, torch.Tensor]:
        """Features and logits, (B, D) or (B, S, D); arguments as for `HiMoEModel`."""
        features: HiMoEFeatures = self.himoe(**streams, return_dict=True)
        in_steps = self.config.prediction_mode == "sequence"
        logits = self.head(features.steps if in_steps else features.pooler_output)
        weights = features.weights_behind(self.config)
        if self.anchors is not None and weights is not None:
            logits = logits + weights.to(logits.dtype) @ self.anchors.points.to(logits.dtype)
        return features, logits

    def auxiliary_losses(
        self,
        features: HiMoEFeatures,
        logits: torch.Tensor,
        labels: torch.Tensor | None,
        known: torch.Tensor | None,
        lag_targets: torch.Tensor | None,
        group_ids: torch.Tensor | None,
        stimulus_ids: torch.Tensor | None,
    ) -> dict[str, torch.Tensor]:
        """The parts of this network's auxiliary loss, before their weights; those with weight zero are left out.

        Args:
            features, logits: as `predict` gives them.
            labels, known: as `validate_labels` gives them, or None.
            lag_targets, group_ids, stimulus_ids: as in the model's forward, validated.
        """
        config, parts = self.config, dict[str, torch.Tensor]()
        present: torch.Tensor = features.modality_present  # pyright: ignore[reportAssignmentType]
        states, lags, weights = features.modality_states, features.dynamic_lags, features.weights_behind(config)
        with full_precision(present):
            if labels is not None and known is not None:
                if config.unimodal_loss_coef and states is not None:
                    values = self.unimodal_heads(states.transpose(0, 1).to(self.unimodal_heads.weight.dtype))
                    parts["unimodal"] = losses.unimodal_loss(config, widen(values), present, labels, known)
                if config.prototype_loss_coef and self.anchors is not None and weights is not None:
                    points = widen(self.anchors.points)
                    parts["prototype"] = losses.prototype_loss(config, weights, points, labels, known)
                if config.restraint_loss_coef:
                    parts["restraint"] = losses.shrinkage_loss(widen(logits), present, labels, known)
            if config.stimulus_loss_coef and stimulus_ids is not None and weights is not None:
                parts["stimulus"] = losses.stimulus_loss(weights, stimulus_ids)
            if config.contrastive_loss_coef and config.num_modalities > 1:
                vectors, scale = self.contrastive_head(features.modality_tokens)
                parts["contrastive"] = losses.contrastive_loss(vectors, scale, present, group_ids)
            if config.lag_loss_coef and config.use_alignment and lags is not None and lag_targets is not None:
                parts["lag"] = losses.lag_loss(config, lags, present, lag_targets)
            if config.separation_loss_coef and self.himoe.prototypes is not None:
                parts["separation"] = losses.separation_loss(config, widen(self.himoe.prototypes.vectors))
            if config.balance_loss_coef and features.expert_gates is not None:
                parts["balance"] = losses.balance_loss(features.expert_gates)
        return parts

    def consistency_loss(
        self, streams: Mapping[str, Any], features: HiMoEFeatures, logits: torch.Tensor
    ) -> torch.Tensor:
        """Squared difference to the logits for the same windows with modalities hidden at random.

        At least one is left where there was one; a second forward pass.
        """
        present: torch.Tensor = features.modality_present  # pyright: ignore[reportAssignmentType]
        draws = torch.rand(present.shape, device=present.device)
        # present ones have draws below 1, absent ones 2; the smallest draw of a row always stays
        draws = draws.masked_fill(~present, 2.0)
        kept = (draws >= self.config.consistency_drop) | (draws <= draws.amin(dim=1, keepdim=True))
        given = streams["modality_presence"]
        shown = kept if given is None else given.bool() & kept
        _, partial = self.predict(**{**streams, "modality_presence": shown})
        return F.mse_loss(widen(partial), widen(logits).detach())


class HiMoECompanion(HiMoENetwork, nn.Module):
    """A network beside the first one, of the same config."""

    def __init__(self, config: HiMoEConfig) -> None:
        super().__init__()
        self.config = config
        self.add_parts(config)


class HiMoEForEmotionRecognition(HiMoENetwork, HiMoEPreTrainedModel):
    """Hi-MoE with a head: values over `target_names`, or classes; per window, or per step of the grid.

    With `num_members` above one, that many networks of one shape and of other first weights, whose logits are averaged: where
    recordings are few, one network's answer depends on its first weights as much as on the recording (Lakshminarayanan,
    Pritzel, Blundell 2017, arXiv 1612.01474). In training each network gets every `num_members`-th row of a batch, so that it is
    trained by itself, on draws of its own: a batch of B costs what it costs one network, and each sees B / num_members rows. The
    first is `himoe` and `head`, which the base model reads alone; the others are `companions`. Lags, weights and gates are means
    over networks.
    """

    def __init__(self, config: HiMoEConfig) -> None:
        super().__init__(config)
        self.num_labels = len(config.id2label or {})
        self.add_parts(config)
        self.companions = nn.ModuleList(HiMoECompanion(config) for _ in range(config.num_members - 1))
        self.post_init()

    def networks(self) -> list[HiMoENetwork]:
        """All networks with their heads, the first of which is this model itself."""
        return [self, *self.companions]  # pyright: ignore[reportReturnType] — a ModuleList of HiMoECompanion

    def output_layers(self) -> list[nn.Linear]:
        """The layers whose bias is added to the answer; see `move_classes` for what else knows the classes."""
        return [network.head[-1] for network in self.networks()]  # pyright: ignore[reportReturnType] — Linear

    @torch.no_grad()
    def move_classes(self, places: Sequence[int]) -> None:
        """Let the prototypes' scores and the heads of single modalities follow classes that have moved.

        Args:
            places: for each new class where it stood before, −1 for one that is new: its scores begin at zero.
        """
        known = torch.tensor([place >= 0 for place in places], device=self.output_layers()[0].weight.device)
        index = torch.tensor([max(place, 0) for place in places], device=known.device)
        parts = [
            part
            for network in self.networks()
            for part in (
                (network.anchors, "points"),
                (network.unimodal_heads, "weight"),
                (network.unimodal_heads, "bias"),
            )
        ]
        for module, name in parts:
            if module is not None:
                old: torch.Tensor = getattr(module, name)
                setattr(module, name, nn.Parameter(old[..., index] * known.to(old.dtype)))
        self.num_labels = len(places)

    @torch.no_grad()
    def set_label_anchors(self, points: torch.Tensor) -> None:
        """Put the prototypes at these points of the scaled label space: cluster centres of the training labels, say.

        Args:
            points: (n_emotion_experts, D).

        Raises:
            ConfigurationError: the shape is another, or there are no prototypes.
        """
        expected = None if self.anchors is None else tuple(self.anchors.points.shape)
        if self.anchors is None or tuple(points.shape) != expected:
            raise ConfigurationError(
                f"points have shape {tuple(points.shape)}; expected {expected or 'eeb_layers above 0'}. Give one point per "
                "prototype, with one number per target."
            )
        for network in self.networks():
            if network.anchors is not None:
                network.anchors.points.copy_(points)

    def forward(
        self,
        inputs: Streams | None = None,
        modality_presence: torch.Tensor | None = None,
        step_mask: Streams | None = None,
        timestamps: Streams | None = None,
        offsets: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        label_mask: torch.Tensor | None = None,
        lag_targets: torch.Tensor | None = None,
        group_ids: torch.Tensor | None = None,
        stimulus_ids: torch.Tensor | None = None,
        output_routing: bool | None = None,
        output_router_logits: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> HiMoEOutput | tuple[torch.Tensor, ...]:
        """Compute logits, and the losses when `labels` or `lag_targets` are given.

        Args:
            inputs, modality_presence, step_mask, timestamps, offsets, output_router_logits, output_hidden_states, return_dict: as
                for `HiMoEModel`.
            labels: scaled values (B, D), or (B, S, D) in sequence mode, NaN being unknown, the last axis being optional for a
                single target; for classes indices (B,) or (B, S), −100 being unknown.
            label_mask: bool, the shape of `labels`: False is unknown.
            lag_targets: (B, M) seconds by which each modality was delayed on purpose, NaN being unknown.
            group_ids: (B,) whole numbers: windows of one trial, which are not told apart from each other; default: all distinct.
            stimulus_ids: (B,) whole numbers below `config.n_emotion_experts`: what was shown, −100 being unknown. For the loss of
                `stimulus_loss_coef` alone.
            output_routing: also give lags, availability, gates and weights; default `config.output_routing`.

        Raises:
            InputError: inputs or labels cannot be used.
        """
        config, networks = self.config, self.networks()
        streams = {
            "inputs": inputs,
            "modality_presence": modality_presence,
            "step_mask": step_mask,
            "timestamps": timestamps,
            "offsets": offsets,
        }
        rows = None
        if self.training and len(networks) > 1:
            rows = split_rows(validate_inputs(config, **streams)[0], len(networks))
        given = [streams] * len(networks) if rows is None else [select_rows(streams, own) for own in rows]
        wanted = {"output_router_logits": output_router_logits, "output_hidden_states": output_hidden_states}
        answers = [network.predict(**own, **wanted) for network, own in zip(networks, given, strict=True)]
        features = [each for each, _ in answers]
        logits: torch.Tensor = merge_outputs([each for _, each in answers], rows)

        task_loss = aux_loss = loss = parts = None
        if labels is not None or lag_targets is not None:
            task, known = dict[str, torch.Tensor](), None
            if labels is not None:
                labels, known = losses.validate_labels(config, logits, labels, label_mask)
                task = losses.task_losses(config, logits, labels, known)
            losses.validate_targets(config, logits, lag_targets, group_ids, stimulus_ids)
            targets = {
                "labels": labels,
                "known": known,
                "lag_targets": lag_targets,
                "group_ids": group_ids,
                "stimulus_ids": stimulus_ids,
            }
            each_aux: list[dict[str, torch.Tensor]] = []
            for place, network in enumerate(networks):
                own_targets = targets if rows is None else select_rows(targets, rows[place])
                own_aux = network.auxiliary_losses(*answers[place], **own_targets)
                if self.training and config.consistency_loss_coef > 0:
                    own_aux["consistency"] = network.consistency_loss(given[place], *answers[place])
                each_aux.append(own_aux)
            aux = {name: torch.stack([own[name] for own in each_aux]).mean(dim=0) for name in each_aux[0]}
            task_loss = losses.weighted_sum(config, task, logits)
            aux_loss = losses.weighted_sum(config, aux, logits)
            loss = task_loss + aux_loss
            parts = {name: value.detach() for name, value in {**task, **aux}.items()}
        routing: dict[str, Any] = {}
        if config.output_routing if output_routing is None else output_routing:
            names = ("lags", "availability", "expert_gates", "modality_weights", "prototype_weights")
            routing = {name: merge_outputs([getattr(each, name) for each in features], rows) for name in names}
            routing["embedding"] = merge_outputs([each.pooler_output for each in features], rows)
            routing["lambda_"] = merge_outputs([each.lambda_ for each in features], None)
        output = HiMoEOutput(
            loss=loss,
            logits=logits,
            router_logits=merge_tuples([each.router_logits for each in features], rows),
            aux_loss=aux_loss,
            hidden_states=merge_tuples([each.hidden_states for each in features], rows),
            task_loss=task_loss,
            losses=parts,
            **routing,
        )
        return output if (config.return_dict if return_dict is None else return_dict) else output.to_tuple()


def split_rows(batch: int, networks: int) -> list[slice] | None:
    """Which rows of a batch each network is trained on: every so many-th. None, all of them, where some would get none."""
    return [slice(place, None, networks) for place in range(networks)] if networks <= batch else None


def select_rows(tensors: Mapping[str, Any], rows: slice) -> dict[str, Any]:
    """Those rows of every tensor, those in mappings too; None stays None."""
    return {
        name: select_rows(each, rows) if isinstance(each, Mapping) else None if each is None else each[rows]
        for name, each in tensors.items()
    }


def merge_outputs(tensors: Sequence[torch.Tensor | None], rows: Sequence[slice] | None) -> Any:
    """The networks' tensors as one: each row from the network that saw it, or their mean (of bool: any) where all saw all.

    Of one network it is that network's to the bit. None where they have none.
    """
    given = [each for each in tensors if each is not None]
    if len(given) < 2:
        return given[0] if given else None
    if rows is not None:
        merged = given[0].new_empty(sum(map(len, given)), *given[0].shape[1:])
        for own, each in zip(rows, given, strict=True):
            merged[own] = each
        return merged
    stacked = torch.stack(given)
    return stacked.any(dim=0) if stacked.dtype == torch.bool else stacked.mean(dim=0)


def merge_tuples(
    tuples: Sequence[tuple[torch.Tensor, ...] | None], rows: Sequence[slice] | None
) -> tuple[torch.Tensor, ...] | None:
    """The networks' tuples one after the other; merged row by row where each saw rows of its own. None where they have none."""
    given = [each for each in tuples if each is not None]
    if rows is None:
        return tuple(tensor for each in given for tensor in each) or None
    return tuple(merge_outputs(same, rows) for same in zip(*given, strict=True)) or None
