"""The selective scan of state space models (Mamba's S6): a linear recurrence whose coefficients depend on the input.

    h_t = exp(Δ_t A) ⊙ h_{t−1} + (Δ_t u_t) B_tᵀ        h_{−1} = 0, one state of `channels` × `state` numbers a sequence
    y_t = h_t C_t + D ⊙ u_t                            and, when z is given, y_t ⊙ SiLU(z_t)

Notable:
- No loop over time: `chunked_scan.py` runs the recurrence in parallel, exactly, whatever the size of Δ and A.
- On CUDA the kernel of the package `mamba_ssm` is used if that can be imported. This is asked at every call and never of a tensor
  that lies elsewhere. float64 and more than 256 numbers a channel, which the kernel does not take, are computed here, and so
  are graphs (`torch.compile`, `torch.export`), which it would break.
- float16 and bfloat16 are widened, accumulated in float32, and rounded once. Nothing used here is what autocast narrows.
- Differentiable once; torch refuses a second time with a clear message, except in graphs.

Source: Gu and Dao 2023, "Mamba", arXiv 2312.00752, section 3 and algorithm 2.

This file knows what a selective scan is and who computes it.
"""

import logging
import math
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch.nn import functional as F

from .chunked_scan import recurrence

logger = logging.getLogger(__name__)

_KERNEL_STATE = 256
"""The largest state that mamba_ssm's kernel takes."""


def selective_scan(
    u: torch.Tensor,
    delta: torch.Tensor,
    A: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    D: torch.Tensor | None = None,
    z: torch.Tensor | None = None,
    *,
    delta_bias: torch.Tensor | None = None,
    delta_softplus: bool = False,
) -> torch.Tensor:
    """Run the recurrence over the last dimension.

    `…` is any number of batch dimensions, none included. Those of `u` count; the other arguments' are broadcast to them, so one
    call runs scans that share nothing (stack them along a batch dimension, and their A, D and bias along the same).

    Args:
        u: (…, channels, length) input.
        delta: (…, channels, length) step sizes Δ, before bias and softplus.
        A: (…, channels, state) real and not above zero, or the states grow without bound.
        B: (…, state, length) how the input enters the state.
        C: (…, state, length) how the state is read.
        D: (…, channels) weight of the input in the output; None leaves that term out.
        z: (…, channels, length) gate; None leaves it out.
        delta_bias: (…, channels) added to `delta`.
        delta_softplus: whether the step sizes are softplus(delta + bias), hence positive.

    Returns:
        (…, channels, length) in the dtype of `u`. Differentiable once in every tensor.

    Raises:
        ValueError: shapes do not fit; the message names the argument.

    Example:
        >>> u = torch.randn(2, 8, 500)
        >>> B = C = torch.randn(2, 16, 500)
        >>> selective_scan(u, torch.rand(2, 8, 500), -torch.rand(8, 16), B, C).shape
        torch.Size([2, 8, 500])
    """
    u, delta, A, B, C, D, z, delta_bias = _broadcast(u, delta, A, B, C, D, z, delta_bias)
    kernel = _mamba_kernel() if _may_use_kernel(u, A) else None
    if kernel is not None:
        return _by_kernel(kernel, u, delta, A, B, C, D, z, delta_bias, delta_softplus)
    dtype = u.dtype
    u, delta, A, B, C = (_widen(tensor) for tensor in (u, delta, A, B, C))
    if delta_bias is not None:
        delta = delta + _widen(delta_bias).unsqueeze(-1)
    if delta_softplus:
        delta = F.softplus(delta)
    y = recurrence(delta * u, delta, A, B, C)
    if D is not None:
        y = y + _widen(D).unsqueeze(-1) * u
    if z is not None:
        y = y * F.silu(_widen(z))
    return y.to(dtype)


def _broadcast(u: torch.Tensor, delta: torch.Tensor, A: torch.Tensor, *rest: torch.Tensor | None) -> list[Any]:
    """All arguments with the batch dimensions of `u`, checked."""
    if u.ndim < 2 or A.ndim < 2:
        raise ValueError(
            f"u has shape {tuple(u.shape)} and A {tuple(A.shape)}; expected (…, channels, length) and (…, channels, state)."
        )
    *batch, channels, length = u.shape
    state = A.shape[-1]
    names = ("u", "delta", "A", "B", "C", "D", "z", "delta_bias")
    widths = ((channels, length), (channels, length), (channels, state), (state, length), (state, length))
    widths = (*widths, (channels,), (channels, length), (channels,))
    result: list[torch.Tensor | None] = []
    for name, tensor, width in zip(names, (u, delta, A, *rest), widths, strict=True):
        if tensor is None:
            result.append(None)
            continue
        own, leading = tuple(tensor.shape[-len(width) :]), tuple(tensor.shape[: -len(width)])
        # `expand` alone would also stretch a single channel or step, and hide a mistake
        alike = len(leading) <= len(batch) and all(
            mine in (1, other) for mine, other in zip(leading[::-1], batch[::-1], strict=False)
        )
        if own != width or not alike:
            raise ValueError(
                f"{name} has shape {tuple(tensor.shape)}; expected {width} after batch dimensions that broadcast to {(*batch,)}, "
                f"as u has shape {tuple(u.shape)} and A {tuple(A.shape)}."
            )
        result.append(tensor.expand(*batch, *width))
    return result


def _widen(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


# --- mamba_ssm's kernel ---


def _may_use_kernel(u: torch.Tensor, A: torch.Tensor) -> bool:
    return (
        u.is_cuda
        and u.dtype != torch.float64
        and A.shape[-1] <= _KERNEL_STATE
        and u.numel() > 0
        and not torch.compiler.is_compiling()
    )


@cache
def _mamba_kernel() -> Callable[..., torch.Tensor] | None:
    """`mamba_ssm`'s scan, or None where the package is missing or broken. Looked for at the first call that could use it."""
    try:
        from mamba_ssm.ops.selective_scan_interface import selective_scan_fn  # pyright: ignore[reportMissingImports]
    except (ImportError, OSError) as error:  # missing, or built for another torch or CUDA
        if isinstance(error, ModuleNotFoundError) and error.name == "mamba_ssm":
            logger.info("mamba_ssm is not installed, so the selective scan on CUDA is plain PyTorch.")
        else:
            logger.warning("mamba_ssm cannot be imported (%s), so the selective scan on CUDA is plain PyTorch.", error)
        return None
    return selective_scan_fn


def _by_kernel(
    kernel: Callable[..., torch.Tensor],
    u: torch.Tensor,
    delta: torch.Tensor,
    A: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    D: torch.Tensor | None,
    z: torch.Tensor | None,
    delta_bias: torch.Tensor | None,
    delta_softplus: bool,
) -> torch.Tensor:
    """The kernel knows one batch dimension and parameters that it does not touch, but as many groups of channels as wanted."""
    *batch, channels, length = u.shape
    first = len(batch)  # batch dimensions from here on have parameters of their own, and become groups of channels
    for tensor, own in ((A, 2), (D, 1), (delta_bias, 1)):
        strides = () if tensor is None else tensor.stride()[: tensor.ndim - own]
        first = min([first, *(d for d, stride in enumerate(strides) if stride != 0 and batch[d] > 1)])
    groups = math.prod(batch[first:])

    def folded(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(u.dtype).reshape(-1, groups * channels, length)

    def parameter(tensor: torch.Tensor | None, own: int) -> torch.Tensor | None:
        if tensor is None:
            return None
        one = tensor[(0,) * first]  # the batch dimensions before share it
        return one.float().reshape(groups * channels, *one.shape[one.ndim - own + 1 :])

    y = kernel(
        folded(u),
        folded(delta),
        parameter(A, 2),
        B.to(u.dtype).reshape(-1, groups, *B.shape[-2:]),
        C.to(u.dtype).reshape(-1, groups, *C.shape[-2:]),
        D=parameter(D, 1),
        z=None if z is None else folded(z),
        delta_bias=parameter(delta_bias, 1),
        delta_softplus=delta_softplus,
    )
    return y.to(u.dtype).reshape(u.shape)
