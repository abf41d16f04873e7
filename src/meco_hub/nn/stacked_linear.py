"""Several linear layers of one size, each on its own input, computed at once.

One batched matrix product instead of a loop: what a small network pays on a CPU is mostly the calls.

This file knows a stack of matrices; it does not know what the members of the stack are.
"""

import torch
from torch import nn


class StackedLinear(nn.Module):
    """`y_m = x_m W_m + b_m` for every member m of a stack.

    Args:
        stack: number of members.
        in_features, out_features: sizes of each member's matrix.
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
