"""The two layers of experts: the bank that fuses modalities, and the bank that reads emotional prototypes.

Sources: every modality through all experts: Xu et al. 2024 (MoMKE), Han et al. 2024 (FuseMoE, the Laplace router); differential
attention: Ye et al. 2024, arXiv 2410.05258.
"""

import math
from itertools import product

import torch
from torch import nn

from meco_hub.nn.checkpointed_layer import CheckpointedLayer
from meco_hub.nn.losses import masked_softmax, widen

from .configuration_himoe import HiMoEConfig
from .encoders import FastDropout, SoftExperts, average, full_precision
from .single_numbers import single_number


class ModalityRouter(nn.Module):
    """Which expert answers for a token, given the token, the others at its step, and who is there.

    Shape:
        tokens (B, M, S, d), context (B, S, d), availability (B, M, S) bool → logits (B, M, S, K).
    """

    def __init__(self, config: HiMoEConfig) -> None:
        super().__init__()
        width, experts = config.d_model, config.num_modality_experts
        self.is_laplace = config.router_type == "laplace"
        self.owned = config.num_modalities
        outputs = config.d_model // 2 if self.is_laplace else experts
        self.presence = nn.Linear(config.num_modalities, width // 4, bias=False)
        self.token = nn.Linear(width, outputs, bias=False)
        self.context = nn.Linear(width + width // 4, outputs)
        self.own_expert = single_number(self, "own_expert")  # each modality starts out on its own expert
        self.centres = nn.Parameter(torch.empty(experts, outputs)) if self.is_laplace else None

    def forward(self, tokens: torch.Tensor, context: torch.Tensor, available: torch.Tensor) -> torch.Tensor:
        presence = self.presence(available.transpose(1, 2).to(tokens.dtype))
        logits = self.token(tokens) + self.context(torch.cat([context, presence], dim=-1)).unsqueeze(1)
        logits = widen(logits)
        if self.centres is not None:
            apart = logits.unsqueeze(-2) - widen(self.centres)  # (B, M, S, K, d/2)
            logits = -(apart.square().sum(dim=-1) + 1e-12).sqrt()  # a distance of zero has no gradient otherwise
        own = torch.eye(self.owned, logits.shape[-1], device=logits.device, dtype=logits.dtype)
        return logits + widen(self.own_expert) * own[:, None]


class ModalityExpertBank(nn.Module):
    """Soft routing of every modality through all experts, then fusion of those available: (B, M, S, d) → (B, S, d)."""

    def __init__(self, config: HiMoEConfig) -> None:
        super().__init__()
        width = config.d_model
        self.mixes = config.meb == "experts"
        self.masks_experts = config.expert_mask == "expert"
        self.owned, self.shared = config.num_modalities, config.n_shared_experts
        self.temperature = config.router_temperature
        self.null = nn.Parameter(torch.empty(width))  # what a step is when nothing is there
        self.norm_out = nn.LayerNorm(width, eps=config.layer_norm_eps)
        if not self.mixes:
            return
        self.norm_token = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.norm_context = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.router = ModalityRouter(config)
        self.experts = SoftExperts(
            config.num_modality_experts, width, config.ffn_ratio * width, dropout=float(config.dropout)
        )
        self.fusion_token = nn.Linear(width, width, bias=False)
        self.fusion_context = nn.Linear(width, width)
        self.fusion_score = nn.Linear(width, 1, bias=False)
        self.modality_prior = nn.Parameter(torch.empty(config.num_modalities))

    def forward(
        self, tokens: torch.Tensor, available: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        """Give the fused steps (B, S, d), modality weights (B, M, S), gates and gate logits (B, M, S, K)."""
        there = available.unsqueeze(-1)
        mean = average(tokens, there.to(tokens.dtype), dim=1)  # (B, S, d)
        gates = logits = None
        if self.mixes:
            normed, context = self.norm_token(tokens), self.norm_context(mean)
            logits = self.router(normed, context, available)
            gates = self._gates(logits, available)
            tokens = tokens + self.experts(normed, gates)
            joint = self.fusion_token(tokens) + self.fusion_context(context).unsqueeze(1)
            scores = widen(self.fusion_score(joint.tanh()).squeeze(-1)) + widen(self.modality_prior)[:, None]
            weights = masked_softmax(scores, available, dim=1)
            fused = (tokens * weights.unsqueeze(-1).to(tokens.dtype)).sum(dim=1)
        else:
            weights = available / available.sum(dim=1, keepdim=True).clamp(min=1)
            fused = mean
        fused = torch.where(there.any(dim=1), fused, self.null.to(fused.dtype))
        return self.norm_out(fused), weights, gates, logits

    def _gates(self, logits: torch.Tensor, available: torch.Tensor) -> torch.Tensor:
        allowed = available.unsqueeze(-1)  # (B, M, S, 1)
        if self.masks_experts:
            owners = available.transpose(1, 2)  # (B, S, M): whose experts may answer at this step
            open_to_all = torch.ones_like(owners[..., :1]).expand(*owners.shape[:2], self.shared)
            allowed = allowed & torch.cat([owners, open_to_all], dim=-1).unsqueeze(1)
        return masked_softmax(logits / self.temperature, allowed)


class Prototypes(nn.Module):
    """The emotional prototypes: one vector each, shared by all emotion expert layers."""

    def __init__(self, config: HiMoEConfig) -> None:
        super().__init__()
        self.vectors = nn.Parameter(torch.empty(config.n_emotion_experts, config.d_model))


class EmotionExpertLayer(CheckpointedLayer):
    """Attention from a step to the prototypes, whose experts answer; with two maps, the second subtracted from the first.

    Shape:
        steps (B, S, d), prototypes (K, d) → steps (B, S, d), prototype weights (B, S, K), signed attention (B, S, H, K), λ ().
    """

    def __init__(self, config: HiMoEConfig, layer: int) -> None:
        super().__init__()
        width, self.num_heads, self.routing = config.d_model, config.num_heads, config.eeb_routing
        self.maps = 1 if self.routing == "softmax" else 2
        half = width // (self.num_heads * self.maps)
        given = config.lambda_init
        self.lambda_init = float(0.8 - 0.6 * math.exp(-0.3 * layer) if given is None else given)
        self.norm_steps = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.norm_prototypes = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.query, self.key = nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False)
        # (query or key, map, width): λ = exp(q₁·k₁) − exp(q₂·k₂) + λ_init
        self.lambda_vectors = nn.Parameter(torch.empty(2, 2, half)) if self.maps == 2 else None
        # the value map of attention is the second layer of the experts, which it would only multiply
        self.experts = SoftExperts(
            config.n_emotion_experts, width, config.ffn_ratio * width, dropout=float(config.dropout)
        )
        self.prototype_value = nn.Linear(width, width, bias=False)
        self.head_gain = nn.Parameter(torch.empty(width // self.num_heads))
        self.output = nn.Linear(width, width, bias=False)
        self.dropout = FastDropout(float(config.dropout))

    def forward(
        self, steps: torch.Tensor, prototypes: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        normed, known = self.norm_steps(steps), self.norm_prototypes(prototypes)
        signed, weight = self._route(normed, known)  # (B, S, H, K), float32
        positive = signed.relu().mean(dim=2)
        positive = positive / positive.sum(dim=-1, keepdim=True).clamp(min=1e-6)  # (B, S, K)
        # subtracting a map shrinks what is left; the norm below undoes that, and this constant keeps gradients alike
        scale = 1.0 - self.lambda_init if self.routing == "differential" else 1.0
        mixing = positive.unsqueeze(2).expand_as(signed) if self.routing == "relu_norm" else signed
        mixed = self.experts(normed, mixing, self.prototype_value(known))
        wide = widen(mixed).unflatten(-1, (self.num_heads, -1))  # (B, S, H, d/H)
        wide = wide * (wide.square().mean(dim=-1, keepdim=True) + 1e-5).rsqrt() * widen(self.head_gain) * scale
        answer = self.output(wide.to(mixed.dtype).flatten(2))
        return steps + self.dropout(answer), positive, signed, weight

    def _route(self, steps: torch.Tensor, prototypes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        shape = (self.num_heads, self.maps, -1)
        query = widen(self.query(steps)).unflatten(-1, shape)  # (B, S, H, maps, d_h)
        key = widen(self.key(prototypes)).unflatten(-1, shape)  # (K, H, maps, d_h)
        with full_precision(query):
            scores = torch.einsum("bshmd,khmd->bshmk", query, key) * query.shape[-1] ** -0.5
            maps = scores.softmax(dim=-1)
            if self.lambda_vectors is None:
                return maps[..., 0, :], torch.zeros((), device=maps.device, dtype=maps.dtype)
            grown = widen(self.lambda_vectors).prod(dim=0).sum(dim=-1).exp()  # one per map
            weight = grown[0] - grown[1] + self.lambda_init
            return maps[..., 0, :] - weight * maps[..., 1, :], weight


class FeedForward(nn.Module):
    """What stands in for the emotion expert bank when it has no layers."""

    def __init__(self, config: HiMoEConfig) -> None:
        super().__init__()
        width, hidden = config.d_model, config.ffn_ratio * config.d_model
        self.layers = nn.Sequential(
            nn.LayerNorm(width, eps=config.layer_norm_eps),
            nn.Linear(width, hidden),
            nn.GELU(),
            FastDropout(float(config.dropout)),
            nn.Linear(hidden, width),
            FastDropout(float(config.dropout)),
        )

    def forward(self, steps: torch.Tensor) -> torch.Tensor:
        return steps + self.layers(steps)


class LabelAnchors(nn.Module):
    """Where each prototype stands among the labels: a point for values, class scores for classes. (K, D)."""

    def __init__(self, config: HiMoEConfig) -> None:
        super().__init__()
        self.init_kind, self.is_regression = config.prototype_anchor_init, config.is_regression
        self.points = nn.Parameter(torch.empty(config.n_emotion_experts, len(config.id2label or {})))


def spread_points(count: int, targets: int) -> list[list[float]]:
    """Points spread evenly in label space, as prototypes begin.

    One target: on a line; two: on a circle of radius 0.6; three or more: the corners (±0.5, ±0.5, ±0.5) where there are eight
    points, else a spiral on a sphere of radius 0.6; targets beyond the third are zero.
    """
    if targets == 1:
        return [[-0.6 + 1.2 * k / max(1, count - 1)] for k in range(count)]
    if targets == 2:
        angles = [2 * math.pi * k / count for k in range(count)]
        return [[0.6 * math.cos(angle), 0.6 * math.sin(angle)] for angle in angles]
    if count == 8:
        points = [list(corner) for corner in product((0.5, -0.5), repeat=3)]
    else:
        golden = math.pi * (3 - math.sqrt(5))
        heights = [1 - 2 * (k + 0.5) / count for k in range(count)]
        points = [
            [
                0.6 * math.sqrt(1 - h * h) * math.cos(golden * k),
                0.6 * math.sqrt(1 - h * h) * math.sin(golden * k),
                0.6 * h,
            ]
            for k, h in enumerate(heights)
        ]
    return [[*point, *[0.0] * (targets - 3)] for point in points]
