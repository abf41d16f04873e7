"""From samples to tokens, each modality at its own rate, and the layers that all of Hi-MoE is built of.

First the layers: precision, fast dropout, stacked linear layers and soft experts (Jacobs et al. 1991, "Adaptive Mixtures of Local
Experts"). A small network on a CPU pays mostly for calls, random numbers and memory: hence one matrix product for many layers.
Then time encoding, Transformer layer, stems, encoders. Source of the continuous-time encoding: Shukla and Marlin 2021 (mTAN).
"""

from contextlib import AbstractContextManager, nullcontext
from functools import reduce

import torch
from torch import nn
from torch.nn import functional as F

from meco_hub.nn.checkpointed_layer import CheckpointedLayer
from meco_hub.nn.losses import masked_mean, widen

from .configuration_himoe import HiMoEConfig

_LEVELS = 2**16
_PIECE_BYTES = 2**22


def full_precision(tensor: torch.Tensor) -> AbstractContextManager[object]:
    """Switch autocast off: what follows is too fine for eight bits of mantissa."""
    return nullcontext() if tensor.is_meta else torch.autocast(device_type=tensor.device.type, enabled=False)


def average(values: torch.Tensor, keep: torch.Tensor, dim: int) -> torch.Tensor:
    """Mean where `keep` is 1 rather than 0, zero where it never is. For values that are finite everywhere."""
    return (values * keep).sum(dim=dim) / keep.sum(dim=dim).clamp(min=1)


class FastDropout(nn.Dropout):
    """A drop-in `nn.Dropout` that is three times as fast on one CPU core; elsewhere and in graphs it is `nn.Dropout`.

    On a CPU torch draws one random number per element, one after the other: a sixth of a training step of a small network. Here
    one draw of 64 bits serves four elements, so a probability is rounded to a multiple of 2⁻¹⁶.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        idle = not self.training or self.p in (0.0, 1.0) or self.inplace
        if idle or input.device.type != "cpu" or torch.compiler.is_compiling() or torch.compiler.is_exporting():
            return super().forward(input)
        count = input.numel()
        draws = torch.empty((count + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
        threshold = min(_LEVELS - 1, max(1, round(self.p * _LEVELS)))
        kept = draws.view(torch.int16)[:count].view(input.shape) >= threshold - _LEVELS // 2
        return input * kept.to(input.dtype).mul_(_LEVELS / (_LEVELS - threshold))


class StackedLinear(nn.Module):
    """`y_m = x_m W_m + b_m` for every m of a stack: layers of one size, each on its own input, in one batched product.

    Args:
        stack: number of layers.
        in_features, out_features: sizes of each layer's matrix.
        bias: whether there is a b_m.

    Shape:
        (stack, …, in_features) → (stack, …, out_features). `weight` is (stack, in_features, out_features).
    """

    def __init__(self, stack: int, in_features: int, out_features: int, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(stack, in_features, out_features))
        self.bias = nn.Parameter(torch.empty(stack, out_features)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """As `nn.Linear` begins: uniform within 1/√in_features, biases too."""
        bound = self.weight.shape[1] ** -0.5
        nn.init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            nn.init.uniform_(self.bias, -bound, bound)

    def extra_repr(self) -> str:
        stack, inputs, outputs = self.weight.shape
        return f"stack={stack}, in_features={inputs}, out_features={outputs}, bias={self.bias is not None}"

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        rows = inputs.flatten(1, -2)  # (stack, rows, in)
        bias = None if self.bias is None else self.bias.unsqueeze(1)
        outputs = torch.bmm(rows, self.weight) if bias is None else torch.baddbmm(bias, rows, self.weight)
        return outputs.unflatten(1, inputs.shape[1:-1])


class SoftExperts(nn.Module):
    """K networks `f_k(x) = V_k · dropout(gelu(U_k x + b_k)) + c_k`, all of which answer.

    All first layers are one matrix product, all second layers one batched product. Give it normalised vectors: a gain and an
    offset per expert would be absorbed by its first layer.

    Args:
        num_experts: number of experts K.
        width: size of inputs and outputs.
        hidden: size between the layers.
        dropout: share of hidden units that are dropped in training.
    """

    def __init__(self, num_experts: int, width: int, hidden: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.up_weight = nn.Parameter(torch.empty(num_experts, hidden, width))
        self.up_bias = nn.Parameter(torch.empty(num_experts, hidden))
        self.down_weight = nn.Parameter(torch.empty(num_experts, hidden, width))
        self.down_bias = nn.Parameter(torch.empty(num_experts, width))
        self.dropout = FastDropout(dropout)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """As `nn.Linear` begins: uniform within 1/√inputs, biases too."""
        _, hidden, width = self.up_weight.shape
        for parameter, inputs in (
            (self.up_weight, width),
            (self.up_bias, width),
            (self.down_weight, hidden),
            (self.down_bias, hidden),
        ):
            nn.init.uniform_(parameter, -(inputs**-0.5), inputs**-0.5)

    def extra_repr(self) -> str:
        experts, hidden, width = self.up_weight.shape
        return f"num_experts={experts}, width={width}, hidden={hidden}"

    def forward(self, inputs: torch.Tensor, gates: torch.Tensor, offsets: torch.Tensor | None = None) -> torch.Tensor:
        """Σ_k gates_k (f_k(inputs) + offsets_k); with heads, each head has gates of its own for its part of the answer.

        Shape:
            inputs (…, width), gates (…, K) or (…, heads, K), offsets (K, width) → (…, width).
        """
        rows = inputs.flatten(0, -2)
        weights = gates.reshape(rows.shape[0], -1, gates.shape[-1]).to(inputs.dtype)  # (rows, heads, K)
        piece = self._piece(rows)
        # a graph whose batch may change must not be cut by a number: that would fix the batch
        parts = [(rows, weights)] if piece is None else zip(rows.split(piece), weights.split(piece), strict=True)
        answers = [self._mixture(part, weight, offsets) for part, weight in parts]
        return (answers[0] if len(answers) == 1 else torch.cat(answers)).unflatten(0, inputs.shape[:-1])

    def _mixture(self, rows: torch.Tensor, weights: torch.Tensor, offsets: torch.Tensor | None) -> torch.Tensor:
        hidden = F.gelu(F.linear(rows, self.up_weight.flatten(0, 1), self.up_bias.flatten()))  # (rows, K · hidden)
        hidden = self.dropout(hidden).unflatten(-1, self.up_bias.shape).transpose(0, 1)  # (K, rows, hidden), a view
        bias = self.down_bias if offsets is None else self.down_bias + offsets
        answers = torch.baddbmm(bias.unsqueeze(1), hidden, self.down_weight)  # (K, rows, width)
        answers = answers.unflatten(-1, (weights.shape[1], -1))  # (K, rows, heads, width / heads)
        return (answers * weights.permute(2, 0, 1).unsqueeze(-1)).sum(dim=0).flatten(1)

    def _piece(self, rows: torch.Tensor) -> int | None:
        """How many rows are worked on at once; None: all of them."""
        if rows.device.type != "cpu" or torch.compiler.is_compiling() or torch.compiler.is_exporting():
            return None
        # The C library hands memory blocks above 32 MB back at once, and getting them anew, page by page, takes longer than
        # the arithmetic on them.
        return max(1, _PIECE_BYTES // (self.up_bias.numel() * rows.element_size()))


# --- Encoders ---------------------------------------------------------------------------------------------------------


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
        with full_precision(seconds):
            angles = widen(seconds).unsqueeze(-1) * widen(self.frequency) + widen(self.phase)
            waves = torch.cat([angles.sin(), angles.cos()], dim=-1)
            return F.linear(waves, widen(self.projection.weight), widen(self.projection.bias))


class ModalityEmbedding(nn.Module):
    """A vector per modality, (M, d)."""

    def __init__(self, config: HiMoEConfig) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(config.num_modalities, config.d_model))


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
            return self.patch_embedding(describe_patches(samples, valid, self.patch)), coverage
        if self.is_conv:
            enough = valid.unflatten(1, (-1, self.stride)).to(torch.float32).mean(dim=-1) >= 0.5
            keep = enough.unsqueeze(-1).to(samples.dtype)  # finite by now, so a product is safe
            hidden = F.gelu(self.norm_in(_convolve(self.conv_in, samples))) * keep
            samples = hidden + F.gelu(self.norm(_convolve(self.conv, hidden))) * keep
        patches = samples.unflatten(1, (-1, self.patch // self.stride)).flatten(2)  # (B, N, P/r · F)
        # what is missing from a patch is made up for, as in partial convolutions; the bias needs no making up
        vectors = F.linear(patches, self.patch_embedding.weight)
        vectors = vectors / coverage.clamp(min=0.5).unsqueeze(-1).to(vectors.dtype)
        return vectors + self.patch_embedding.bias, coverage


def describe_patches(samples: torch.Tensor, valid: torch.Tensor, patch: int) -> torch.Tensor:
    """(B, N·P, C) → (B, N, 4·C): mean, slope, and the logarithms of spread and of roughness of each channel, where valid.

    Slope is the covariance with time, which runs from −1 to 1 over a patch; roughness the root mean square of the steps between
    neighbours. Logarithms, because how much a signal moves varies by factors.
    """
    with full_precision(samples):
        x, keep = widen(samples).unflatten(1, (-1, patch)), valid.unflatten(1, (-1, patch)).unsqueeze(-1)
        there = keep.to(x.dtype)  # (B, N, P, 1)
        mean = average(x, there, dim=2)
        centred = (x - mean.unsqueeze(2)) * there
        ramp = torch.linspace(-1.0, 1.0, patch, device=x.device, dtype=x.dtype).unsqueeze(-1)
        both = there[:, :, 1:] * there[:, :, :-1]
        spread = average(centred.square(), there, dim=2)
        steps = average((x[:, :, 1:] - x[:, :, :-1]).square(), both, dim=2)
        moving = [0.5 * (power + 1e-4).log() for power in (spread, steps)]
        return torch.cat([mean, average(centred * ramp, there, dim=2), *moving], dim=-1).to(samples.dtype)


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
        # max would fix the lengths of a graph
        most: int = reduce(torch.sym_max, [part[0].shape[1] for part in parts])  # pyright: ignore[reportAssignmentType]
        tokens = torch.stack([F.pad(vectors, (0, 0, 0, most - vectors.shape[1])) for vectors, _, _ in parts])
        time = torch.stack([F.pad(time, (0, most - time.shape[1])) for _, time, _ in parts])
        mask = torch.stack([F.pad(mask, (0, most - mask.shape[1])) for _, _, mask in parts])
        tokens = tokens + time_encoding(time).to(tokens.dtype) + embedding[:, None, None]
        keep = mask.unsqueeze(-1).to(tokens.dtype)  # everything is finite by now, so products are safe, and far quicker
        tokens = tokens * keep
        for layer in self.layers:
            tokens = layer(tokens, mask) * keep
        return F.layer_norm(tokens, tokens.shape[-1:], eps=self.eps) * keep, time, mask
