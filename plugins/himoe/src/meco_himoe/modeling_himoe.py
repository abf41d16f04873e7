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

Sources: continuous-time encoding: Shukla and Marlin 2021 (mTAN); learnt delays: Khorram et al. 2019, arXiv 1907.03050; every
modality through all experts: Xu et al. 2024 (MoMKE), Han et al. 2024 (FuseMoE, the Laplace router); differential attention:
Ye et al. 2024, arXiv 2410.05258. Written from their descriptions, not from their code.

This file knows the network, in the order in which data runs through it; `losses_himoe.py` knows what it is trained for.
"""

import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import product
from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn import functional as F
from transformers import initialization as init

from meco_hub.errors import ConfigurationError, InputError
from meco_hub.modeling import EmotionPreTrainedModel
from meco_hub.nn.checkpointed_layer import CheckpointedLayer
from meco_hub.nn.masked import masked_mean, masked_softmax, widen
from meco_hub.outputs import EmotionFeaturesOutput, EmotionRecognitionOutput

from . import losses_himoe as losses
from .blocks import FastDropout, SoftExperts, StackedLinear
from .configuration_himoe import HiMoEConfig

Streams = Mapping[str, torch.Tensor]


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


def _full_precision(tensor: torch.Tensor) -> AbstractContextManager[object]:
    """Switch autocast off: what follows is too fine for eight bits of mantissa."""
    return nullcontext() if tensor.is_meta else torch.autocast(device_type=tensor.device.type, enabled=False)


def _average(values: torch.Tensor, keep: torch.Tensor, dim: int) -> torch.Tensor:
    """Mean where `keep` is 1 rather than 0, zero where it never is. For values that are finite everywhere."""
    return (values * keep).sum(dim=dim) / keep.sum(dim=dim).clamp(min=1)


# --- time ---------------------------------------------------------------------------------------------------------------


class TimeEncoding(nn.Module):
    """Seconds → vectors, by sines and cosines of learnt frequencies and a linear map. One instance serves all blocks.

    Shape:
        (…) seconds → (…, d), float32 or wider.
    """

    def __init__(self, config: HiMoEConfig) -> None:
        super().__init__()
        count, ratio = config.time_num_freqs, config.time_max_period_s / config.time_min_period_s
        self.initial_periods = [config.time_min_period_s * ratio ** (i / max(1, count - 1)) for i in range(count)]
        # float32 whatever the default is: half precision cannot tell seconds of a long recording apart
        self.frequency = nn.Parameter(torch.empty(count, dtype=torch.float32))  # radians per second
        self.phase = nn.Parameter(torch.empty(count, dtype=torch.float32))
        self.projection = nn.Linear(2 * count, config.d_model, dtype=torch.float32)

    def forward(self, seconds: torch.Tensor) -> torch.Tensor:
        with _full_precision(seconds):
            angles = widen(seconds).unsqueeze(-1) * widen(self.frequency) + widen(self.phase)
            waves = torch.cat([angles.sin(), angles.cos()], dim=-1)
            return F.linear(waves, widen(self.projection.weight), widen(self.projection.bias))


# --- Transformer layers -------------------------------------------------------------------------------------------------


class TransformerLayer(CheckpointedLayer):
    """A pre-norm Transformer layer; with `stack`, that many of them side by side on tokens that carry the stack first.

    Norms have no gain and offset of their own: the linear maps behind them can do that.

    Shape:
        tokens (…, n, d) and key mask (…, n) bool → (…, n, d); with a stack, the first dimension is `stack`.
    """

    def __init__(self, config: HiMoEConfig, stack: int | None = None) -> None:
        super().__init__()
        width, hidden = config.d_model, config.d_model * config.ffn_ratio

        def linear(inputs: int, outputs: int) -> nn.Module:
            return nn.Linear(inputs, outputs) if stack is None else StackedLinear(stack, inputs, outputs)

        self.num_heads, self.eps = config.num_heads, config.layer_norm_eps
        self.attention_in, self.attention_out = linear(width, 3 * width), linear(width, width)
        self.feed_in, self.feed_out = linear(width, hidden), linear(hidden, width)
        self.dropout = FastDropout(float(config.dropout))

    def forward(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        tokens = tokens + self.dropout(self.attention_out(self._attend(self._norm(tokens), mask)))
        return tokens + self.dropout(self.feed_out(self.dropout(F.gelu(self.feed_in(self._norm(tokens))))))

    def _norm(self, tokens: torch.Tensor) -> torch.Tensor:
        return F.layer_norm(tokens, tokens.shape[-1:], eps=self.eps)

    def _attend(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        n, width = tokens.shape[-2:]
        mixed = self.attention_in(tokens).reshape(-1, n, 3, self.num_heads, width // self.num_heads)
        query, key, value = mixed.permute(2, 0, 3, 1, 4).unbind(0)  # (rows, H, n, d/H) each
        # A finite bias rather than a bool mask: rows without any key attend to constants and are masked afterwards, where
        # −∞ would give NaN. Halved, so that adding it to a score cannot overflow in half precision.
        bias = torch.zeros_like(mask, dtype=query.dtype).masked_fill(~mask, torch.finfo(query.dtype).min / 2)
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=bias.reshape(-1, 1, 1, n))
        return attended.transpose(1, 2).reshape(tokens.shape)


# --- from samples to tokens ---------------------------------------------------------------------------------------------


class SignalStem(nn.Module):
    """Samples of one modality → one vector per patch. Statistics never cross time, so missing samples cannot move others.

    Shape:
        samples (B, N·P, C), zero where `valid` (B, N·P) is False → (B, N, d), coverage (B, N).
    """

    def __init__(self, config: HiMoEConfig, modality: str) -> None:
        super().__init__()
        entry = (config.modalities or {})[modality]
        self.patch = config.patch_samples(modality)
        self.is_conv, self.is_statistics = entry["stem"] == "conv", entry["stem"] == "statistics"
        channels, width = entry["channels"], config.stem_channels
        if not self.is_conv:
            self.stride = 1
            self.patch_embedding = nn.Linear(channels * (4 if self.is_statistics else 1), config.d_model)
            return
        self.stride = 4 if self.patch >= 8 and self.patch % 4 == 0 else 1
        self.conv_in = nn.Conv1d(channels, width, 3 if self.stride == 1 else 2 * self.stride + 1, stride=self.stride)
        self.norm_in = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.conv = nn.Conv1d(width, width, 5)
        self.norm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.patch_embedding = nn.Linear(self.patch // self.stride * width, config.d_model)

    def forward(self, samples: torch.Tensor, valid: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        coverage = valid.unflatten(1, (-1, self.patch)).to(torch.float32).mean(dim=-1)
        if self.is_statistics:
            return self.patch_embedding(_describe_patches(samples, valid, self.patch)), coverage
        if self.is_conv:
            enough = valid.unflatten(1, (-1, self.stride)).to(torch.float32).mean(dim=-1) >= 0.5
            keep = enough.unsqueeze(-1).to(samples.dtype)  # finite by now, so a product is safe
            hidden = F.gelu(self.norm_in(_convolve(self.conv_in, samples))) * keep
            samples = hidden + F.gelu(self.norm(_convolve(self.conv, hidden))) * keep
        patches = samples.unflatten(1, (coverage.shape[1], -1)).flatten(2)  # (B, N, P/r · F)
        # what is missing from a patch is made up for, as in partial convolutions; the bias needs no making up
        vectors = F.linear(patches, self.patch_embedding.weight)
        vectors = vectors / coverage.clamp(min=0.5).unsqueeze(-1).to(vectors.dtype)
        return vectors + self.patch_embedding.bias, coverage


def _describe_patches(samples: torch.Tensor, valid: torch.Tensor, patch: int) -> torch.Tensor:
    """(B, N·P, C) → (B, N, 4·C): mean, slope, and the logarithms of spread and of roughness of each channel, where valid.

    Slope is the covariance with time, which runs from −1 to 1 over a patch; roughness the root mean square of the steps between
    neighbours. Logarithms, because how much a signal moves varies by factors.
    """
    with _full_precision(samples):
        x, keep = widen(samples).unflatten(1, (-1, patch)), valid.unflatten(1, (-1, patch)).unsqueeze(-1)
        there = keep.to(x.dtype)  # (B, N, P, 1)
        mean = _average(x, there, dim=2)
        centred = (x - mean.unsqueeze(2)) * there
        ramp = torch.linspace(-1.0, 1.0, patch, device=x.device, dtype=x.dtype).unsqueeze(-1)
        both = there[:, :, 1:] * there[:, :, :-1]
        spread = _average(centred.square(), there, dim=2)
        steps = _average((x[:, :, 1:] - x[:, :, :-1]).square(), both, dim=2)
        moving = [0.5 * (power + 1e-4).log() for power in (spread, steps)]
        return torch.cat([mean, _average(centred * ramp, there, dim=2), *moving], dim=-1).to(samples.dtype)


def _convolve(conv: nn.Conv1d, inputs: torch.Tensor) -> torch.Tensor:
    """(B, n, C) → (B, n / stride, F), zero padded, each output centred on its stride.

    As a convolution of pictures one pixel high, whose channels-last layout is ours already: nothing is copied, and on a CPU
    that takes about half the time of `conv1d`.
    """
    kernel, stride = conv.kernel_size[0], conv.stride[0]
    before = (kernel - stride + 1) // 2
    padded = F.pad(inputs, (0, 0, before, kernel - stride - before)).unsqueeze(1).permute(0, 3, 1, 2)
    return F.conv2d(padded, conv.weight.unsqueeze(2), conv.bias, stride=(1, stride)).permute(0, 2, 3, 1).squeeze(1)


class ModalityEncoders(nn.Module):
    """A stem per modality, then encoder layers that run side by side for all modalities.

    Shape:
        per modality: samples (B, T, C), valid (B, T), times (B, T) seconds → tokens (M, B, N, d), times (M, B, N), mask
        (M, B, N), N being the most that any modality has; zeros behind the mask.
    """

    def __init__(self, config: HiMoEConfig) -> None:
        super().__init__()
        names = config.modality_names or []
        self.min_coverage = config.min_coverage
        self.stems = nn.ModuleList(SignalStem(config, name) for name in names)
        self.layers = nn.ModuleList(TransformerLayer(config, stack=len(names)) for _ in range(config.encoder_layers))
        self.eps = config.layer_norm_eps

    def forward(
        self,
        samples: list[torch.Tensor],
        valid: list[torch.Tensor],
        times: list[torch.Tensor],
        embedding: torch.Tensor,
        time_encoding: TimeEncoding,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        parts: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
        for stem, x, o, t in zip(self.stems, samples, valid, times, strict=True):
            patch: int = stem.patch  # pyright: ignore[reportAssignmentType]
            length = x.shape[1] // patch * patch  # the tail that fills no patch is dropped
            vectors, coverage = stem(x[:, :length], o[:, :length])
            held = (-1, patch)
            time = masked_mean(t[:, :length].unflatten(1, held), o[:, :length].unflatten(1, held), dim=-1)
            parts.append((vectors, time, coverage >= self.min_coverage))
        most = max(part[0].shape[1] for part in parts)
        tokens = torch.stack([F.pad(vectors, (0, 0, 0, most - vectors.shape[1])) for vectors, _, _ in parts])
        time = torch.stack([F.pad(time, (0, most - time.shape[1])) for _, time, _ in parts])
        mask = torch.stack([F.pad(mask, (0, most - mask.shape[1])) for _, _, mask in parts])
        tokens = tokens + time_encoding(time).to(tokens.dtype) + embedding[:, None, None]
        keep = mask.unsqueeze(-1).to(tokens.dtype)  # everything is finite by now, so products are safe, and far quicker
        tokens = tokens * keep
        for layer in self.layers:
            tokens = layer(tokens, mask) * keep
        return F.layer_norm(tokens, tokens.shape[-1:], eps=self.eps) * keep, time, mask


# --- alignment ----------------------------------------------------------------------------------------------------------


class LagEstimator(nn.Module):
    """How late each modality is, by correlating every two of them at every lag.

    Positive: what happened at time g is found at time g + δ. Only differences between modalities can be seen in the signals;
    the mean over those present is taken as zero. A lag that a modality always has (sweat follows the heart by seconds) is the
    learnt `static_lag`, which labels teach, not correlations.
    """

    def __init__(self, config: HiMoEConfig) -> None:
        super().__init__()
        self.step, self.num_steps, self.reach = config.grid_step_s, config.num_steps, config.max_lag_steps
        self.max_lag, self.min_overlap, self.anchor = config.max_lag_s, config.lag_min_overlap, config.anchor
        self.initial_temperature = config.lag_temperature
        self.static_lag = nn.Parameter(torch.empty(config.num_modalities))
        self.temperature = nn.Parameter(torch.empty(()))
        self.projection = StackedLinear(config.num_modalities, config.d_model, config.lag_dim, bias=False)

    def forward(
        self, tokens: torch.Tensor, times: torch.Tensor, mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens (M, B, N, d), times and mask (M, B, N) → lags and their estimated part in the mean gauge, (B, M) each."""
        projected = self.projection(tokens)
        with _full_precision(projected):
            static = self.max_lag * widen(self.static_lag).tanh()  # (M,)
            present = mask.any(dim=-1).T  # (B, M)
            series, seen = self._on_grid(widen(projected), times, mask, static)
            pairwise = self._delays(series, seen)  # (B, M, M): how much later m is than j
            both = present.unsqueeze(1) & present.unsqueeze(2)
            estimated = masked_mean(pairwise, both, dim=2)  # zero where the modality is absent or alone
            lags = estimated + static
            if self.anchor is not None:
                known = present[:, self.anchor, None]
                lags = lags - torch.where(known, lags[:, self.anchor, None], torch.zeros_like(lags[:, :1]))
            return lags, estimated

    def _on_grid(
        self, projected: torch.Tensor, times: torch.Tensor, mask: torch.Tensor, static: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """A first, coarse interpolation onto the grid and J steps more on both sides: (B, M, S + 2J, c) and where it is valid."""
        steps = torch.arange(-self.reach, self.num_steps + self.reach, device=times.device, dtype=times.dtype)
        grid = (steps + 0.5) * self.step + static[:, None, None]  # (M, 1, G)
        away = (grid.unsqueeze(-1) - times.unsqueeze(2)) / (self.step / 2)
        kernel = (-0.5 * away.square()).exp() * mask.unsqueeze(2).to(away.dtype)  # (M, B, G, N)
        mass = kernel.sum(dim=-1, keepdim=True)
        seen = mass > math.exp(-2)  # a token within one step
        keep = seen.to(mass.dtype)
        series = kernel @ projected * (keep / mass.clamp(min=1e-6))
        centred = series - _average(series, keep, dim=2).unsqueeze(2)  # what is constant would drown what moves
        return (centred * keep).transpose(0, 1), seen.squeeze(-1).transpose(0, 1)

    def _delays(self, series: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        """Soft arg-max over lags of the normalised correlation of m, shifted by the lag, with j; antisymmetric in m and j."""
        reach, steps = self.reach, self.num_steps
        inner = slice(reach, reach + steps)
        there, power = seen.to(series.dtype), series.square().sum(dim=-1)  # (B, M, G)
        here, here_power = there[:, :, inner], power[:, :, inner]  # (B, M, S)
        # Windows of S steps that begin at every lag, L = 2J + 1 of them, against j: (B, M, L, M)
        windows, power_windows = there.unfold(2, steps, 1), power.unfold(2, steps, 1)
        overlap = windows @ here.unsqueeze(1).transpose(2, 3)
        powers = power_windows @ here.unsqueeze(1).transpose(2, 3) * (windows @ here_power.unsqueeze(1).transpose(2, 3))
        # The same for the series themselves, as a product of spectra: nothing is stored once per lag, and since only lags that
        # stay within the G steps are read, nothing wraps around.
        spectrum = torch.fft.rfft(series.transpose(1, 2), dim=1)  # (B, F, M, c)
        inner_spectrum = torch.fft.rfft(series[:, :, inner].transpose(1, 2), n=series.shape[2], dim=1)
        cross = spectrum @ inner_spectrum.conj().transpose(2, 3)  # (B, F, M, M)
        products = torch.fft.irfft(cross, n=series.shape[2], dim=1)[:, : 2 * reach + 1].transpose(1, 2)
        correlation = products / (powers + 1e-6).sqrt()
        weights = masked_softmax(
            correlation / widen(self.temperature).clamp(0.01, 1.0), overlap >= max(1, self.min_overlap) - 0.5, dim=2
        )
        lags = torch.arange(-reach, reach + 1, device=series.device, dtype=series.dtype) * self.step
        delays = (weights * lags[:, None]).sum(dim=2)  # (B, M, M)
        return 0.5 * (delays - delays.transpose(1, 2))


class GridResampler(nn.Module):
    """Attention from the steps of the grid to the tokens around them, as late as the modality is late.

    Here different sampling rates meet. Each head prefers tokens near its step, within a learnt width.

    Shape:
        tokens (M, B, N, d), times, mask (M, B, N), lags (B, M) → (M, B, S, d), availability (M, B, S).
    """

    def __init__(self, config: HiMoEConfig) -> None:
        super().__init__()
        self.num_heads, self.num_steps, self.step = config.num_heads, config.num_steps, config.grid_step_s
        self.initial_widths = [min(8.0, self.step * 2.0**head) for head in range(self.num_heads)]
        # a patch longer than the radius must not leave holes between its tokens
        radius = config.availability_radius_steps * self.step
        self.radii = [
            max(radius, entry["patch_s"] / 2 if entry["stem"] != "linear" else 0.5 / entry["sampling_rate"])
            for entry in ((config.modalities or {})[name] for name in config.modality_names or [])
        ]
        width = config.d_model
        self.width_s = nn.Parameter(torch.empty(self.num_heads))
        self.query, self.key = nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False)
        self.value, self.output = nn.Linear(width, width), nn.Linear(width, width)

    def forward(
        self,
        tokens: torch.Tensor,
        times: torch.Tensor,
        mask: torch.Tensor,
        lags: torch.Tensor,
        grid: torch.Tensor,
        grid_encoding: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        heads = (self.num_heads, -1)
        query = self.query(grid_encoding.to(tokens.dtype)).unflatten(-1, heads).transpose(0, 1)  # (H, S, d/H)
        key = self.key(tokens).unflatten(-1, heads).permute(0, 1, 3, 4, 2)  # (M, B, H, d/H, N)
        value = self.value(tokens).unflatten(-1, heads).transpose(2, 3)  # (M, B, H, N, d/H)
        scores = query @ key * query.shape[-1] ** -0.5  # (M, B, H, S, N)
        with _full_precision(scores):
            away = (grid + lags.T.unsqueeze(-1)).unsqueeze(-1) - times.unsqueeze(2)  # (M, B, S, N)
            precision = 0.5 / widen(self.width_s).clamp(0.05, 8.0).square()
            scores = widen(scores) - away.square().unsqueeze(2) * precision[:, None, None]
            weights = masked_softmax(scores, mask[:, :, None, None])
            radius = torch.tensor(self.radii, device=away.device, dtype=away.dtype)[:, None, None, None]
            near = away.detach().abs() <= radius + 1e-4  # the boundary belongs to it, rounding or not
            available = (near & mask.unsqueeze(2)).any(dim=-1)
        mixed = (weights.to(value.dtype) @ value).transpose(2, 3).flatten(3)
        return self.output(mixed) * available.unsqueeze(-1).to(mixed.dtype), available


# --- modality expert bank -----------------------------------------------------------------------------------------------


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
        self.own_expert = nn.Parameter(torch.empty(()))  # each modality starts out on its own expert
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
        mean = _average(tokens, there.to(tokens.dtype), dim=1)  # (B, S, d)
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


# --- emotion expert bank ------------------------------------------------------------------------------------------------


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
        with _full_precision(query):
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


# --- the model ----------------------------------------------------------------------------------------------------------


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
        else:  # prototypes are dealt out to the classes in turn
            dealt = F.one_hot(torch.arange(count) % targets, targets).float()
            init.copy_(module.points, dealt - 1 / targets)


class ModalityEmbedding(nn.Module):
    """A vector per modality, (M, d)."""

    def __init__(self, config: HiMoEConfig) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(config.num_modalities, config.d_model))


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
        samples, valid, times = self._read(inputs or {}, modality_presence, step_mask, timestamps, offsets)
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
        modality_tokens = _average(z, keep, dim=2)
        if self.context_layers:
            z = z + grid_encoding.to(z.dtype) + embedding[:, None]
            z = self._read_each_other(z, available)
        modality_states = _average(z, keep, dim=2)

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

    def _read_each_other(self, z: torch.Tensor, available: torch.Tensor) -> torch.Tensor:
        """The context layers over (B, M, S, d): all tokens of a window together, or those of each step."""
        whole = self.config.context_scope == "window"
        tokens = z.flatten(1, 2) if whole else z.transpose(1, 2)
        mask = available.flatten(1, 2) if whole else available.transpose(1, 2)
        keep = mask.unsqueeze(-1).to(tokens.dtype)
        tokens = tokens * keep
        for layer in self.context_layers:
            tokens = layer(tokens, mask) * keep
        return tokens.unflatten(1, z.shape[1:3]) if whole else tokens.transpose(1, 2)

    def _read(
        self,
        inputs: Streams,
        presence: torch.Tensor | None,
        step_mask: Streams | None,
        timestamps: Streams | None,
        offsets: torch.Tensor | None,
    ) -> tuple[list[torch.Tensor], list[torch.Tensor], list[torch.Tensor]]:
        """Check what came in; then, per modality, samples with zeros for what is invalid, which are valid, and their times."""
        config, names = self.config, self.config.modality_names or []
        batch, device = self._check(inputs, presence, step_mask or {}, timestamps or {}, offsets)
        dtype = self.modality_embedding.weight.dtype
        all_samples: list[torch.Tensor] = []
        all_valid: list[torch.Tensor] = []
        all_times: list[torch.Tensor] = []
        for index, name in enumerate(names):
            entry = (config.modalities or {})[name]
            values = inputs.get(name)
            if values is None:
                values = torch.zeros(batch, config.window_samples(name), entry["channels"], device=device)
                valid = torch.zeros(values.shape[:2], device=device, dtype=torch.bool)
                times = None
            else:
                values = values.to(dtype)
                valid = values.isfinite().all(dim=-1)
                if presence is not None:
                    valid = valid & presence[:, index, None].bool()
                if step_mask is not None and name in step_mask:
                    valid = valid & step_mask[name].bool()
                times = None if timestamps is None else timestamps.get(name)
            if times is None:
                ticks = torch.arange(values.shape[1], device=device, dtype=torch.float32)
                times = ((ticks + 0.5) / entry["sampling_rate"] - config.context_margin_s).expand(batch, -1)
            times = times.float()
            if offsets is not None:
                times = times + offsets[:, index, None].float()
            valid = valid & times.isfinite()
            all_samples.append(values.to(dtype).masked_fill(~valid.unsqueeze(-1), 0.0))
            all_valid.append(valid)
            all_times.append(times.masked_fill(~valid, 0.0))
        return all_samples, all_valid, all_times

    def count_rows(
        self,
        inputs: Streams | None,
        modality_presence: torch.Tensor | None,
        step_mask: Streams | None,
        timestamps: Streams | None,
        offsets: torch.Tensor | None,
    ) -> int:
        """B, once all arguments have been found to agree on it; errors as of `forward`."""
        return self._check(inputs or {}, modality_presence, step_mask or {}, timestamps or {}, offsets)[0]

    def _check(
        self,
        inputs: Streams,
        presence: torch.Tensor | None,
        step_mask: Streams,
        timestamps: Streams,
        offsets: torch.Tensor | None,
    ) -> tuple[int, torch.device]:
        config, names = self.config, self.config.modality_names or []
        advice = "Let the checkpoint's processor prepare the recording."
        for what, given in (("inputs", inputs), ("step_mask", step_mask), ("timestamps", timestamps)):
            unknown = sorted(set(given) - set(names))
            if unknown:
                raise InputError(f"{what} has {', '.join(unknown)}; this model knows {', '.join(names)}. {advice}")
        first = presence if presence is not None else next(iter(inputs.values()), None)
        if first is None:
            raise InputError(
                f"Neither inputs nor modality_presence were given; expected some of {', '.join(names)}. {advice}"
            )
        batch = first.shape[0]
        for name, values in inputs.items():
            channels = (config.modalities or {})[name]["channels"]
            shape = tuple(values.shape)
            if values.ndim != 3 or shape[0] != batch or shape[2] != channels or not values.is_floating_point():
                raise InputError(
                    f"inputs[{name!r}] has shape {shape} and dtype {values.dtype}; expected floating point "
                    f"({batch}, samples, {channels}). {advice}"
                )
            nominal, patch = config.window_samples(name), config.patch_samples(name)
            if shape[1] != nominal and (name not in timestamps or shape[1] < patch):
                raise InputError(
                    f"inputs[{name!r}] has {shape[1]} samples; expected {nominal}, or timestamps and at least {patch}. {advice}"
                )
            for what, given in (("step_mask", step_mask), ("timestamps", timestamps)):
                if name in given and tuple(given[name].shape) != shape[:2]:
                    raise InputError(
                        f"{what}[{name!r}] has shape {tuple(given[name].shape)}; expected {shape[:2]}, as its inputs. {advice}"
                    )
        for what, tensor in (("modality_presence", presence), ("offsets", offsets)):
            if tensor is not None and tuple(tensor.shape) != (batch, len(names)):
                raise InputError(
                    f"{what} has shape {tuple(tensor.shape)}; expected ({batch}, {len(names)}) for {', '.join(names)}. {advice}"
                )
        return batch, first.device


class Member:
    """What one network with its head is made of, and how it answers; see `HiMoEForEmotionRecognition`."""

    config: HiMoEConfig
    himoe: HiMoEModel
    head: nn.Sequential
    anchors: LabelAnchors | None
    unimodal_heads: StackedLinear
    contrastive_head: losses.ContrastiveHead

    def build(self, config: HiMoEConfig) -> None:
        width, outputs = config.d_model, len(config.id2label or {})
        self.himoe = HiMoEModel(config)
        self.head = nn.Sequential(
            nn.Linear(width, width), nn.GELU(), FastDropout(float(config.dropout)), nn.Linear(width, outputs)
        )
        self.anchors = LabelAnchors(config) if config.eeb_layers else None
        # of training only
        self.unimodal_heads = StackedLinear(config.num_modalities, width, outputs)
        self.contrastive_head = losses.ContrastiveHead(config)

    def answer(self, features: HiMoEFeatures) -> torch.Tensor:
        """Features → logits, (B, D) or (B, S, D)."""
        in_steps = self.config.prediction_mode == "sequence"
        logits = self.head(features.steps if in_steps else features.pooler_output)
        weights = features.weights_behind(self.config)
        if self.anchors is None or weights is None:
            return logits
        return logits + weights.to(logits.dtype) @ self.anchors.points.to(logits.dtype)


class Companion(Member, nn.Module):
    """A further member: a network and a head of its own, of the same config."""

    def __init__(self, config: HiMoEConfig) -> None:
        super().__init__()
        self.config = config
        self.build(config)


class HiMoEForEmotionRecognition(Member, HiMoEPreTrainedModel):
    """Hi-MoE with a head: values over `target_names`, or classes; per window, or per step of the grid.

    With `num_members` above one, that many networks of one shape and of other first weights, whose logits are averaged: where
    recordings are few, one network's answer depends on its first weights as much as on the recording (Lakshminarayanan,
    Pritzel, Blundell 2017, arXiv 1612.01474). In training the rows of a batch are dealt out to them in turn, so that each is
    trained by itself, on draws of its own: a batch of B costs what it costs one network, and each member sees B / num_members
    rows. The first is `himoe` and `head`, which the base model reads alone; the others are `companions`. Lags, weights and gates
    are means over members.
    """

    def __init__(self, config: HiMoEConfig) -> None:
        super().__init__(config)
        self.num_labels = len(config.id2label or {})
        self.build(config)
        self.companions = nn.ModuleList(Companion(config) for _ in range(config.num_members - 1))
        self.post_init()

    def members(self) -> list[Member]:
        """All networks with their heads, this model's own first."""
        others: list[Member] = list(self.companions)  # pyright: ignore[reportAssignmentType] — they are Companions
        return [self, *others]

    def output_layers(self) -> list[nn.Linear]:
        """The layers whose bias is added to the answer; see `move_classes` for what else knows the classes."""
        return [member.head[-1] for member in self.members()]  # pyright: ignore[reportReturnType] — Linear

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
            for one in self.members()
            for part in ((one.anchors, "points"), (one.unimodal_heads, "weight"), (one.unimodal_heads, "bias"))
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
        for member in self.members():
            if member.anchors is not None:
                member.anchors.points.copy_(points)

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
        config = self.config
        asked = {
            "inputs": inputs,
            "modality_presence": modality_presence,
            "step_mask": step_mask,
            "timestamps": timestamps,
            "offsets": offsets,
        }
        members = self.members()
        shares = self.training and len(members) > 1
        dealt = _dealt(self.himoe.count_rows(**asked), len(members)) if shares else None
        found: list[HiMoEFeatures] = []
        answers: list[torch.Tensor] = []
        for place, member in enumerate(members):
            features: HiMoEFeatures = member.himoe(
                **(asked if dealt is None else _take(asked, dealt[place])),
                output_router_logits=output_router_logits,
                output_hidden_states=output_hidden_states,
                return_dict=True,
            )
            found.append(features)
            answers.append(member.answer(features))
        logits: torch.Tensor = _join(answers, dealt)
        task_loss = aux_loss = loss = parts = None
        if labels is not None or lag_targets is not None:
            known = None
            if labels is not None:
                labels, known = losses.check_labels(config, logits, labels, label_mask)
            task = {} if labels is None or known is None else losses.task(config, logits, labels, known)
            losses.check_lags(config, logits, lag_targets)
            losses.check_groups(logits, group_ids)
            losses.check_stimuli(config, logits, stimulus_ids)
            told: list[dict[str, torch.Tensor]] = []
            truth = {
                "labels": labels,
                "known": known,
                "lag_targets": lag_targets,
                "group_ids": group_ids,
                "stimulus_ids": stimulus_ids,
            }
            for place, (member, features) in enumerate(zip(members, found, strict=True)):
                own_truth = truth if dealt is None else _take(truth, dealt[place])
                own = losses.auxiliary(member, features, answers[place], **own_truth)
                if self.training and config.consistency_loss_coef > 0:
                    shown = asked if dealt is None else _take(asked, dealt[place])
                    less = self._answer_with_less(member, shown, features)
                    own["consistency"] = F.mse_loss(widen(less), widen(answers[place]).detach())
                told.append(own)
            aux = {name: torch.stack([one[name] for one in told]).mean(dim=0) for name in told[0]}
            task_loss = losses.weigh(config, task, logits)
            aux_loss = losses.weigh(config, aux, logits)
            loss = task_loss + aux_loss
            parts = {name: value.detach() for name, value in {**task, **aux}.items()}
        wants_routing = config.output_routing if output_routing is None else output_routing
        routing: dict[str, Any] = {}
        if wants_routing:
            names = ("lags", "availability", "expert_gates", "modality_weights", "prototype_weights")
            routing = {name: _join([getattr(one, name) for one in found], dealt) for name in names}
            routing["embedding"] = _join([one.pooler_output for one in found], dealt)
            routing["lambda_"] = _join([one.lambda_ for one in found], None)
        output = HiMoEOutput(
            loss=loss,
            logits=logits,
            router_logits=_chain([one.router_logits for one in found], dealt),
            aux_loss=aux_loss,
            hidden_states=_chain([one.hidden_states for one in found], dealt),
            task_loss=task_loss,
            losses=parts,
            **routing,
        )
        return output if (config.return_dict if return_dict is None else return_dict) else output.to_tuple()

    def _answer_with_less(self, member: Member, asked: dict[str, Any], features: HiMoEFeatures) -> torch.Tensor:
        """The answer to the same windows with modalities hidden at random, one at least being left where there was one."""
        present: torch.Tensor = features.modality_present  # pyright: ignore[reportAssignmentType]
        draws = torch.rand(present.shape, device=present.device)
        # present ones have draws below 1, absent ones 2; the smallest draw of a row always stays
        draws = draws.masked_fill(~present, 2.0)
        kept = (draws >= self.config.consistency_drop) | (draws <= draws.amin(dim=1, keepdim=True))
        given = asked["modality_presence"]
        known = torch.ones_like(kept) if given is None else given.bool()
        return member.answer(member.himoe(**{**asked, "modality_presence": known & kept}, return_dict=True))


def _dealt(rows: int, members: int) -> list[slice] | None:
    """Which rows of a batch each member is trained on: every so many-th. None, all of them, where some would get none."""
    return [slice(place, None, members) for place in range(members)] if members <= rows else None


def _take(tensors: Mapping[str, Any], rows: slice) -> dict[str, Any]:
    """Those rows of every tensor, those in mappings too; None stays None."""
    taken: dict[str, Any] = {}
    for name, one in tensors.items():
        taken[name] = _take(one, rows) if isinstance(one, Mapping) else None if one is None else one[rows]
    return taken


def _join(tensors: Sequence[torch.Tensor | None], dealt: Sequence[slice] | None) -> Any:
    """The members' tensors as one: each row from the member that saw it, or their mean (of bool: any) where all saw all.

    Of one member it is that member's to the bit. None where they have none.
    """
    given = [one for one in tensors if one is not None]
    if len(given) < 2:
        return given[0] if given else None
    if dealt is not None:
        joined = given[0].new_empty(sum(len(one) for one in given), *given[0].shape[1:])
        for rows, one in zip(dealt, given, strict=True):
            joined[rows] = one
        return joined
    stacked = torch.stack(given)
    return stacked.any(dim=0) if stacked.dtype == torch.bool else stacked.mean(dim=0)


def _chain(
    per_member: Sequence[tuple[torch.Tensor, ...] | None], dealt: Sequence[slice] | None
) -> tuple[torch.Tensor, ...] | None:
    """The members' tuples one after the other; joined row by row where each saw rows of its own. None where they have none."""
    found = [one for one in per_member if one is not None]
    if dealt is None:
        return tuple(tensor for one in found for tensor in one) or None
    return tuple(_join(same, dealt) for same in zip(*found, strict=True)) or None
