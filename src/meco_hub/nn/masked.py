"""Softmax and mean over the valid part of a tensor, where what is not valid can never be seen in the result.

Notable:
- Both are computed in float32 or wider, whatever comes in, and come back in float32 or wider.
- Where nothing is valid, both answer zero: not NaN, and still connected to the graph.
- Values under the mask are replaced, not multiplied by zero, because NaN · 0 is NaN.

This file knows masks; it does not know what is missing, nor why.
"""

import torch


def widen(values: torch.Tensor) -> torch.Tensor:
    """Half precision to float32; anything wider stays as it is."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def masked_softmax(logits: torch.Tensor, mask: torch.Tensor, dim: int = -1) -> torch.Tensor:
    """Softmax over the entries whose mask is True; the others get exactly zero, and so does a row that has none.

    Args:
        logits: any shape, any floating dtype; masked entries may hold anything that is not NaN after they are replaced.
        mask: bool, broadcastable to `logits`.
        dim: what is normalised.

    Returns:
        The shape of `logits`, float32 or wider.
    """
    wide = widen(logits)
    # exp(lowest − largest) is exactly zero in floating point, so valid rows need no second normalisation
    weights = wide.masked_fill(~mask, torch.finfo(wide.dtype).min).softmax(dim=dim)
    return weights.masked_fill(~mask.any(dim=dim, keepdim=True), 0.0)


def masked_mean(values: torch.Tensor, mask: torch.Tensor, dim: int | tuple[int, ...] | None = None) -> torch.Tensor:
    """Mean over the entries whose mask is True; zero where there are none.

    Args:
        values: any shape, any floating dtype.
        mask: bool, broadcastable to `values`.
        dim: what is averaged; None: everything, giving a scalar.

    Returns:
        `values` without `dim`, float32 or wider.
    """
    wide = widen(values)
    mask = mask.expand_as(wide)
    dims = tuple(range(wide.ndim)) if dim is None else dim
    total = wide.masked_fill(~mask, 0.0).sum(dim=dims)
    return total / mask.sum(dim=dims).clamp(min=1)
