"""Building blocks of Hi-MoE: precision, fast dropout, stacked linear layers and soft experts.

A small network on a CPU pays mostly for calls, random numbers and memory: hence one matrix product for many layers.
Source of the soft experts: Jacobs et al. 1991, "Adaptive Mixtures of Local Experts".
"""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn
from torch.nn import functional as F

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
