"""The selective scan of state space models (Mamba's S6): a linear recurrence whose coefficients depend on the input.

    h_t = exp(Δ_t A) ⊙ h_{t−1} + (Δ_t u_t) B_tᵀ        h_{−1} = 0, one state of `channels` × `state` numbers a sequence
    y_t = h_t C_t + D ⊙ u_t                            and, when z is given, y_t ⊙ SiLU(z_t)

Notable:
- No loop over time. The length is cut into about √(2·length) chunks of equal size which advance together, so 500 steps become 16 of
  all chunks at once, twice: first from zero, to see what each chunk hands on, then from the states so found.
- Nothing but the recurrence itself is computed: no quotients of cumulated products, which overflow, so Δ and A may be as large as
  they like.
- Gradients are written out (`_ChunkedScan.backward`). One state per chunk is kept for them, not one per step; the others are
  computed again. Batch and channels are worked through in pieces, so that working memory does not grow with the batch.
- `torch.compile`, `torch.export` and tracing get the same recurrence as an associative scan of ordinary operations.
- On CUDA the kernel of the package `mamba_ssm` is used if that can be imported. float64 and more than 256 numbers a channel, which
  the kernel does not take, are computed here, and so are graphs, which it would break.
- float16 and bfloat16 are widened, accumulated in float32, and rounded once. Nothing used here is what autocast narrows.
- Differentiable once; torch refuses a second time with a clear message, except in graphs.

Sources: Gu and Dao 2023, "Mamba", arXiv 2312.00752, section 3 and algorithm 2; Blelloch 1990, "Prefix sums and their applications"
(scans by chunks, and the associative scan).
"""

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

logger = logging.getLogger(__name__)

_HELD = {True: 2**19, False: 2**26}
"""Numbers of the state held at once, on a CPU and elsewhere: three arrays of so many are the working memory."""


def recurrence(v: torch.Tensor, delta: torch.Tensor, A: torch.Tensor, B: torch.Tensor, C: torch.Tensor) -> torch.Tensor:
    """y_t = h_t C_t with h_t = exp(Δ_t A) h_{t−1} + v_t B_tᵀ, for tensors of equal batch dimensions: → (…, channels, length)."""
    graph = torch.compiler.is_compiling() or torch.compiler.is_exporting() or torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]
    if graph or v.is_meta or v.numel() == 0:
        decay = torch.exp(delta.unsqueeze(-2) * A.unsqueeze(-1))  # (…, channels, state, length)
        states = _associative_scan(decay, v.unsqueeze(-2) * B.unsqueeze(-3))
        return (states * C.unsqueeze(-3)).sum(dim=-2)
    dtype = torch.promote_types(v.dtype, torch.promote_types(A.dtype, B.dtype))
    flat = [tensor.to(dtype).reshape(-1, *tensor.shape[-2:]) for tensor in (v, delta, A, B, C)]
    return _ChunkedScan.apply(*flat).reshape(v.shape)  # pyright: ignore[reportAttributeAccessIssue]


def _associative_scan(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """All h_t = a_t h_{t−1} + b_t over the last dimension, from pairs of steps: 2·log2(length) operations deep."""
    length = a.shape[-1]
    if length < 2:
        return b
    half = length // 2
    first_a, second_a = a[..., ::2], a[..., 1::2]
    first_b, second_b = b[..., ::2], b[..., 1::2]
    second = _associative_scan(second_a * first_a[..., :half], second_a * first_b[..., :half] + second_b)
    first = torch.cat(
        [first_b[..., :1], first_a[..., 1:] * second[..., : length - half - 1] + first_b[..., 1:]], dim=-1
    )
    woven = torch.stack([first[..., :half], second], dim=-1).flatten(-2)
    return woven if length % 2 == 0 else torch.cat([woven, first[..., half:]], dim=-1)


# In what follows, time t = k·steps + j is step j of chunk k, and arrays have the shape
#     (steps, state or 1, channels or 1, batch, chunks)
# with the chunks innermost: whatever is done to one step of all chunks runs over contiguous memory, and what channels or states
# share (B and C, v and Δ) is shared by whole stretches of it. `_fold` makes the shape.


class _ChunkedScan(torch.autograd.Function):
    """The recurrence for v, Δ (batch, channels, length), A (batch, channels, state), B, C (batch, state, length)."""

    @staticmethod
    def forward(
        ctx: Any, v: torch.Tensor, delta: torch.Tensor, A: torch.Tensor, B: torch.Tensor, C: torch.Tensor
    ) -> torch.Tensor:
        y = torch.empty_like(v)
        kept: list[torch.Tensor] = []
        memory = _working_memory(v, A.shape[-1], arrays=2)
        for rows in _pieces(v, A.shape[-1]):
            folded_B, folded_C = (_fold(tensor[rows[0]]).unsqueeze(2) for tensor in (B, C))
            folded_A = A[rows].permute(2, 1, 0).unsqueeze(-1).contiguous()
            tensors = (_fold(v[rows]).unsqueeze(1), _fold(delta[rows]).unsqueeze(1), folded_A, folded_B, folded_C)
            entering, result = _Piece(tensors, memory).run()
            _unfold(result, y[rows])
            kept += [*tensors, entering]
        if any(ctx.needs_input_grad):
            ctx.save_for_backward(*kept)
            ctx.shapes = (A.shape, B.shape)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: torch.Tensor) -> tuple[torch.Tensor, ...]:
        kept, (shape_of_A, shape_of_B) = ctx.saved_tensors, ctx.shapes
        dv, ddelta, dA, dB, dC = (
            dy.new_empty(shape) for shape in (dy.shape, dy.shape, shape_of_A, shape_of_B, shape_of_B)
        )
        memory = _working_memory(dy, shape_of_A[-1], arrays=3)
        for index, rows in enumerate(_pieces(dy, shape_of_A[-1])):
            *tensors, entering = kept[6 * index : 6 * index + 6]
            piece = _Piece(tensors, memory)
            folded_dv, folded_ddelta, folded_dA, folded_dB, folded_dC = piece.differentiate(
                _fold(dy[rows]).unsqueeze(1), entering
            )
            _unfold(folded_dv, dv[rows])
            _unfold(folded_ddelta, ddelta[rows])
            dA[rows] = folded_dA.permute(2, 1, 0)
            _unfold(folded_dB, dB[rows[0]], add=rows[1].start > 0)
            _unfold(folded_dC, dC[rows[0]], add=rows[1].start > 0)
        return dv, ddelta, dA, dB, dC


class _Piece:
    """Some rows of the batch and of the channels, few enough for their states to be held at once.

    Args:
        tensors: v, Δ (steps, 1, channels, batch, chunks), A (state, channels, batch, 1), B, C (steps, state, 1, batch, chunks).
        memory: flat tensors to work in.
    """

    def __init__(self, tensors: Sequence[torch.Tensor], memory: torch.Tensor) -> None:
        self.v, self.delta, self.A, self.B, self.C = tensors
        self.chunks = self.v.shape[-1]
        shape = (len(self.v), len(self.A), *self.v.shape[2:])
        self.arrays = [flat[: math.prod(shape)].view(shape) for flat in memory]
        self.exponent = self.A * math.log2(math.e)  # exp2 takes a third of exp's time on CPUs

    def run(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The state with which every chunk begins (state, channels, batch, chunks), and y (steps, channels, batch, chunks)."""
        decay, states = self.arrays
        self._fill(decay, states)
        decays, each = decay.unbind(), states.unbind()
        leaving = each[0].clone()  # what a chunk that began with zero ends with
        for new, factor in zip(each[1:], decays[1:], strict=True):
            torch.addcmul(new, factor, leaving, out=leaving)
        entering = before = self._carry(leaving)
        for state, factor in zip(each, decays, strict=True):
            before = state.addcmul_(factor, before)
        return entering, torch.mul(states, self.C, out=decay).sum(dim=1)

    def differentiate(self, dy: torch.Tensor, entering: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Gradients of v and Δ (steps, channels, batch, chunks), A (state, channels, batch), B, C (steps, state, batch, chunks).

        With g_t the loss's whole gradient by h_t, which runs backwards in time, g_t = C_t dy_t + exp(Δ_{t+1} A) g_{t+1}:
            dC_t = Σ_channels h_t dy_t      dB_t = Σ_channels g_t v_t       dv_t = Σ_state g_t B_t
            p_t = g_t exp(Δ_t A) h_{t−1}    dΔ_t = Σ_state p_t A            dA = Σ_t p_t Δ_t
        """
        decay, states, gradient = self.arrays
        decays, each, gradients = decay.unbind(), states.unbind(), gradient.unbind()
        self._fill(decay, states)
        before = entering
        for state, factor in zip(each, decays, strict=True):
            before = state.addcmul_(factor, before)
        dC = torch.mul(states, dy, out=gradient).sum(dim=2)
        # As forwards, but what is handed on is exp(Δ A) g of a chunk's first step, to the chunk before.
        torch.mul(dy, self.C, out=gradient)
        leaving = gradients[-1].clone()
        for new, factor in zip(gradients[-2::-1], decays[:0:-1], strict=True):
            torch.addcmul(new, factor, leaving, out=leaving)
        handed = self._carry(leaving.mul_(decays[0]), backwards=True)
        for new, factor in zip(reversed(gradients), reversed(decays), strict=True):
            handed = factor.mul_(new.add_(handed))  # from here on, decay is exp(Δ A) g
        p = decay
        p[1:] *= states[:-1]
        p[0] *= entering
        scratch = states
        dB = torch.mul(gradient, self.v, out=scratch).sum(dim=2)
        dv = torch.mul(gradient, self.B, out=scratch).sum(dim=1)
        ddelta = torch.mul(p, self.A, out=scratch).sum(dim=1)
        dA = p.mul_(self.delta).sum(dim=0).sum(dim=-1)
        return dv, ddelta, dA, dB, dC

    def _fill(self, decay: torch.Tensor, inputs: torch.Tensor) -> None:
        """exp(Δ A) and v Bᵀ."""
        torch.mul(self.delta, self.exponent, out=decay).exp2_()
        torch.mul(self.v, self.B, out=inputs)

    def _carry(self, leaving: torch.Tensor, backwards: bool = False) -> torch.Tensor:
        """What enters each chunk, (state, channels, batch, chunks): e_{k+1} = (decay over chunk k) e_k + leaving_k, e_0 = 0.

        `backwards` hands from every chunk to the one before it. In log2(chunks) rounds: after the first each chunk knows what two
        together hand on, then four, and so on; what lies outside is zero, and stands beside the chunks.
        """
        chunks = self.chunks
        first = 0 if backwards else chunks  # the chunks' place in twice as many

        def beside_zeros(tensor: torch.Tensor) -> torch.Tensor:
            return F.pad(tensor, (0, chunks) if backwards else (chunks, 0))

        handed = beside_zeros(leaving)
        decay = beside_zeros(torch.mul(self.delta.sum(dim=0), self.exponent).exp2_())
        other_handed, other_decay = torch.zeros_like(handed), torch.zeros_like(decay)
        own, distance = slice(first, first + chunks), 1
        while distance < chunks:
            shift = distance if backwards else -distance
            far = slice(first + shift, first + chunks + shift)
            torch.addcmul(handed[..., own], decay[..., own], handed[..., far], out=other_handed[..., own])
            if 2 * distance < chunks:
                torch.mul(decay[..., own], decay[..., far], out=other_decay[..., own])
            handed, other_handed, decay, other_decay = other_handed, handed, other_decay, decay
            distance *= 2
        shift = 1 if backwards else -1
        return handed[..., first + shift : first + chunks + shift].contiguous()


def _working_memory(like: torch.Tensor, state: int, arrays: int) -> torch.Tensor:
    """Room for so many arrays of the first piece's size; made once a call, since fresh memory is slow to touch."""
    rows = next(_pieces(like, state))
    batch, channels, length = like[rows].shape
    return like.new_empty(arrays, batch * channels * state * math.prod(_cut(length)))


def _fold(tensor: torch.Tensor) -> torch.Tensor:
    """(batch, rows, length) → (steps, rows, batch, chunks); zeros behind the end, where Δ = v = 0 lets the state stay."""
    batch, rows, length = tensor.shape
    steps, chunks = _cut(length)
    whole, rest = divmod(length, steps)
    folded = tensor.new_empty(steps, rows, batch, chunks)
    folded[..., :whole] = tensor[..., : whole * steps].unflatten(-1, (whole, steps)).permute(3, 1, 0, 2)
    if whole < chunks:
        folded[:rest, ..., whole] = tensor[..., whole * steps :].permute(2, 1, 0)
        folded[rest:, ..., whole] = 0
        folded[..., whole + 1 :] = 0
    return folded


def _unfold(folded: torch.Tensor, into: torch.Tensor, add: bool = False) -> None:
    """(steps, rows, batch, chunks) → (batch, rows, length), into what is there or added to it."""
    whole, rest = divmod(into.shape[-1], len(folded))
    flat = into[..., : whole * len(folded)].unflatten(-1, (whole, len(folded)))
    target = [(flat, folded[..., :whole].permute(2, 1, 3, 0))]
    if rest:
        target.append((into[..., whole * len(folded) :], folded[:rest, ..., whole].permute(2, 1, 0)))
    for place, values in target:
        if add:
            place += values
        else:
            place.copy_(values)


def _cut(length: int) -> tuple[int, int]:
    """Steps per chunk and number of chunks: twice the steps and the chunks once are what runs one after another."""
    if length <= 32:
        return length, 1
    chunks = 16 * math.ceil(math.sqrt(2 * length) / 16)  # whole vectors of a CPU
    return math.ceil(length / chunks), chunks


def _pieces(v: torch.Tensor, state: int) -> Iterator[tuple[slice, slice]]:
    """Slices of the batch and of the channels of v (batch, channels, length), each with at most `_HELD` states."""
    batch, channels, length = v.shape
    rows = max(1, _HELD[v.device.type == "cpu"] // (state * length))
    some = min(channels, rows)
    many = max(1, rows // channels)
    for b in range(0, batch, many):
        for c in range(0, channels, some):
            yield slice(b, min(b + many, batch)), slice(c, min(c + some, channels))


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
