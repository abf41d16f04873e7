"""Convolution with large kernels: `nn.Conv2d`'s weights and result, by fast Fourier transform where that is cheaper.

Notable:
- A 75×75 kernel on 224×224 pixels costs 6.8 GMAC directly, a three-hundredth of that by FFT; on CPUs torch's own backward pass of
  such a layer takes seconds to minutes.
- The FFT runs on a grid of H + k/2 rows, not H + k: what wraps around falls where nothing is read ('same' padding keeps only
  the middle). Grid sizes are products of 2, 3 and 5.
- The choice is a pure function of shapes and device, never of the batch and never of a clock, so one picture gets the same
  answer in any batch and on every run. Batches are worked through in pieces that fit a cache.
- Inference on a CPU keeps the kernel's spectrum. It is used only if the weight equals, value by value, the one it was made
  from, so it cannot be stale, whatever changed the weight; comparing costs a fraction of a millisecond. Training drops it.
- float16 and bfloat16 are computed in float32 on the FFT path, and the result is rounded once.
- An exported graph multiplies by matrices of cosines and sines in place of the FFT: in onnxruntime they are up to thirty times
  faster than the direct sum, and two to thirteen times faster than ONNX's DFT (`benchmarks/export.py --kernels`).

Memory: a kept spectrum takes about 4 · in · out · (H + k/2)² bytes, 7 MB for the layer above. Working memory on CPUs is some
tens of MB, whatever the batch; elsewhere it grows with the batch.

Source: the convolution theorem; Mathieu, Henaff, LeCun 2013, "Fast Training of Convolutional Networks through FFTs".
"""

from collections.abc import Iterator, Sequence
from functools import reduce
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

Implementation = Literal["auto", "native", "fft"]

# One unit is one multiply-accumulate of a direct convolution, about 1/40 ns on one CPU core with AVX-512. Measured there:
# a grid point of a transform takes 4 ns, a complex product 0.6 ns per frequency (half as many as points), and a kernel is
# transformed once a batch, of which eight pictures stand for the usual one.
_UNITS_PER_POINT = 200
_UNITS_PER_PRODUCT = 15
_UNITS_PER_KERNEL_POINT = 250 / 8
# onnxruntime computes sixteen output channels, or none. It spends 5 ns on a complex product, of four operators that write what
# the next one reads.
_LANES = 16
_UNITS_PER_UNFUSED_PRODUCT = 150
# In int8 it multiplies faster, and convolutions of few channels waste no lanes (meco_hub.phases). Measured: two to five times.
_INT8_SPEED = 3
# GPUs have far more arithmetic than bandwidth, so the FFT must win by more. An estimate: no GPU was at hand to measure.
_ADVANTAGE_NEEDED = {"cpu": 1.0, "cuda": 4.0}

_PIECE = {"cpu": 2**20}  # complex numbers of the result's spectrum worked on at once; elsewhere the whole batch
_WHOLE = 2**27


class Geometry(NamedTuple):
    """Padding before and the result's size, per side, and the size of the FFT's grid."""

    pad_top: int
    pad_left: int
    height: int
    width: int
    grid: tuple[int, int]


class LargeKernelConv2d(nn.Conv2d):
    """A drop-in `nn.Conv2d` that is quick with large kernels, in inference and in training.

    Arguments, state dict and result are `nn.Conv2d`'s; relative error against float64 stays below 1e-5 in float32. Even kernels
    with `padding="same"` pad one more after than before, as `nn.Conv2d` does. The FFT takes stride 1, dilation 1, one group
    and zero padding; anything else is computed natively, as are half precision in an exported graph, and TorchScript.

    Args:
        implementation: "auto" chooses by `prefers_fft`; "native" and "fft" insist (where possible).

    Attributes:
        int8: the exported graph will be quantised, so that direct convolutions are quicker than in float.

    Shape:
        (batch, in_channels, height, width) → (batch, out_channels, out_height, out_width), as in `nn.Conv2d`.

    Example:
        >>> LargeKernelConv2d(3, 8, kernel_size=75, padding="same")(torch.zeros(1, 3, 224, 224)).shape
        torch.Size([1, 8, 224, 224])
    """

    def __init__(self, *args: Any, implementation: Implementation = "auto", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.implementation = implementation
        self.int8 = False
        self._spectrum: tuple[torch.Tensor, tuple[int, int], torch.Tensor] | None = None  # weight, grid, its spectrum

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, implementation={self.implementation!r}"

    def train(self, mode: bool = True) -> "LargeKernelConv2d":
        if mode:
            self._spectrum = None  # the next step would make it stale
        return super().train(mode)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_spectrum": None}  # copies and pickles make their own

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        geometry = self._geometry(input) if self._can_use_fft(input) else None
        if torch.compiler.is_exporting():
            if geometry is None or not self._wants_matrices(input, geometry):
                return self._native(input)
            return _convolve_by_matrices(input, self.weight, self.bias, geometry)
        if geometry is None or not self._wants_fft(input, geometry):
            return self._native(input)
        with torch.autocast(device_type=input.device.type, enabled=False):
            result = self._by_fft(input, geometry)
        return result.to(_result_dtype(input, self.weight))

    def chooses_fft(self, input: torch.Tensor) -> bool:
        """Whether this layer would convolve such an input by FFT. Shapes and device decide, values do not."""
        geometry = self._geometry(input) if self._can_use_fft(input) else None
        return geometry is not None and self._wants_fft(input, geometry)

    def _can_use_fft(self, input: torch.Tensor) -> bool:
        if self.implementation == "native" or input.is_meta:
            return False
        if torch.jit.is_tracing():  # pyright: ignore[reportPrivateImportUsage]
            return False
        plain = self.stride == (1, 1) and self.dilation == (1, 1) and self.groups == 1 and self.padding_mode == "zeros"
        # Whatever else is wrong with the input, nn.Conv2d explains it.
        return plain and input.ndim == 4 and input.shape[0] > 0 and input.shape[1] == self.in_channels

    def _geometry(self, input: torch.Tensor) -> Geometry | None:
        (kh, kw), (h, w) = self.kernel_size, input.shape[-2:]
        if isinstance(self.padding, tuple):
            top, left = bottom, right = int(self.padding[0]), int(self.padding[1])
        elif self.padding == "same":
            top, bottom, left, right = (kh - 1) // 2, kh // 2, (kw - 1) // 2, kw // 2
        else:
            top = bottom = left = right = 0
        height, width = h + top + bottom - kh + 1, w + left + right - kw + 1
        if height < 1 or width < 1:
            return None
        grid = (smooth_size(max(h + max(top, bottom), kh, height)), smooth_size(max(w + max(left, right), kw, width)))
        return Geometry(top, left, height, width, grid)

    def _wants_fft(self, input: torch.Tensor, geometry: Geometry) -> bool:
        if self.implementation == "fft":
            return True
        out_channels, in_channels, kh, kw = self.weight.shape
        result = (geometry.height, geometry.width)
        return prefers_fft(in_channels, out_channels, (kh, kw), result, geometry.grid, input.device.type)

    def _wants_matrices(self, input: torch.Tensor, geometry: Geometry) -> bool:
        if input.dtype not in (torch.float32, torch.float64):
            return False
        if self.implementation == "fft":
            return True
        out_channels, in_channels, kh, kw = self.weight.shape
        size = (geometry.height, geometry.width)
        return prefers_matrices(
            in_channels, out_channels, (kh, kw), input.shape[-2:], size, geometry.grid, int8=self.int8
        )

    def _native(self, input: torch.Tensor) -> torch.Tensor:
        if input.device.type == "cpu" and max(self.kernel_size) > 9:
            # torch's kernels for large windows are up to a hundred times quicker in one memory layout than in the other:
            # channels last forwards, channels first backwards.
            learns = torch.is_grad_enabled() and not torch.compiler.is_compiling()
            input = input.contiguous(memory_format=torch.contiguous_format if learns else torch.channels_last)
        if self.padding != "same" or all(size % 2 for size in self.kernel_size) or self.padding_mode != "zeros":
            return super().forward(input)
        (kh, kw), (dh, dw) = self.kernel_size, self.dilation  # nn.Conv2d pads the same way, but warns about it
        down, across = dh * (kh - 1), dw * (kw - 1)
        padded = F.pad(input, (across // 2, across - across // 2, down // 2, down - down // 2))
        return F.conv2d(padded, self.weight, self.bias, dilation=self.dilation, groups=self.groups)

    def _by_fft(self, input: torch.Tensor, geometry: Geometry) -> torch.Tensor:
        x, weight, bias = _widen(input), _widen(self.weight), None if self.bias is None else _widen(self.bias)
        learns = any(tensor is not None and tensor.requires_grad for tensor in (x, weight, bias))
        if torch.is_grad_enabled() and learns:
            return _Convolution.apply(x, weight, bias, geometry)  # pyright: ignore[reportReturnType]
        return _convolve(x, self._kept_spectrum(weight, geometry.grid), bias, geometry)

    def _kept_spectrum(self, weight: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
        if torch.compiler.is_compiling() or weight.device.type != "cpu":
            return _kernel_spectrum(
                weight, grid
            )  # a graph cannot ask whether values are equal; elsewhere it costs a wait
        kept = self._spectrum
        if kept is not None and kept[1] == grid and _same_tensor(kept[0], weight):
            return kept[2]
        spectrum = _kernel_spectrum(weight, grid)
        if not self.training:
            self._spectrum = (weight.detach().clone(), grid, spectrum)
        return spectrum


def prefers_fft(
    in_channels: int,
    out_channels: int,
    kernel_size: tuple[int, int],
    result_size: tuple[int, int],
    grid: tuple[int, int],
    device_type: str,
) -> bool:
    """Whether the FFT is expected to be quicker than the direct sum: a function of shapes and the kind of device only."""
    if device_type not in _ADVANTAGE_NEEDED:
        return False
    channels = in_channels * out_channels
    points = grid[0] * grid[1]
    direct = channels * kernel_size[0] * kernel_size[1] * result_size[0] * result_size[1]
    by_fft = points * (
        _UNITS_PER_POINT * (in_channels + out_channels) + (_UNITS_PER_PRODUCT + _UNITS_PER_KERNEL_POINT) * channels
    )
    return direct > by_fft * _ADVANTAGE_NEEDED[device_type]


def prefers_matrices(
    in_channels: int,
    out_channels: int,
    kernel_size: tuple[int, int],
    size: Sequence[int],
    result_size: tuple[int, int],
    grid: tuple[int, int],
    *,
    int8: bool = False,
) -> bool:
    """Whether an exported graph is expected to be quicker by matrices than by the direct sum: a function of shapes only.

    Args:
        int8: the direct sum will be quantised; matrices never are.
    """
    frequencies = grid[1] // 2 + 1
    lanes = out_channels / _INT8_SPEED if int8 else -(-out_channels // _LANES) * _LANES
    direct = lanes * in_channels * kernel_size[0] * kernel_size[1] * result_size[0] * result_size[1]
    by_matrices = _UNITS_PER_UNFUSED_PRODUCT * in_channels * out_channels * grid[0] * frequencies
    for channels, (height, width) in ((in_channels, size), (out_channels, result_size)):
        by_matrices += channels * frequencies * height * (2 * width + 4 * grid[0])
    return direct > by_matrices


def smooth_size(least: int) -> int:
    """The smallest even product of 2, 3 and 5 that is at least `least`; transforms of such sizes are quick."""
    size = least + least % 2
    while True:
        rest = size
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return size
        size += 2


# Below, x is padded before by p, so that with circular indices on the grid
#     y[o] = Σ_t w[t] x[o + t]        spectra: Y = X · conj(W)
# and, that being linear in x and in w, its transposes are
#     dx[i] = Σ_t w[t] dy[i − t]      dX = W · dY
#     dw[t] = Σ_o dy[o] x[o + t]      dW = X · conj(dY)


class _Convolution(torch.autograd.Function):
    """The convolution and its gradients. Spectra are made again in the backward pass: cheap, and nothing large is kept."""

    @staticmethod
    def forward(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, geometry: Geometry) -> torch.Tensor:
        return _convolve(x, _kernel_spectrum(weight, geometry.grid), bias, geometry)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        x, weight, _, ctx.geometry = inputs
        ctx.save_for_backward(x, weight)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        geometry: Geometry = ctx.geometry
        wants_x, wants_weight, wants_bias, _ = ctx.needs_input_grad
        (gradient,) = gradients
        dbias = gradient.sum(dim=(0, 2, 3)) if wants_bias else None
        if torch.is_grad_enabled():  # somebody differentiates twice: rare, so torch's own slow rules will do
            return *_differentiable_gradients(x, weight, gradient, geometry, (wants_x, wants_weight)), dbias, None
        grid, top, left = geometry.grid, geometry.pad_top, geometry.pad_left
        spectrum = _spectrum(weight, grid) if wants_x else None  # (O, I, F)
        dx = torch.empty_like(x) if wants_x else None
        dw = None
        for piece in _pieces(x, weight, grid):
            dy = _spectrum(gradient[piece], grid)  # (B, O, F)
            if dx is not None and spectrum is not None:
                dx[piece] = _invert(_contract(dy, spectrum), grid, x.shape[-2:], (top, left))
            if wants_weight:
                of_x = _spectrum(x[piece], grid, (top, left))
                part = _contract(dy.conj().resolve_conj().transpose(0, 1), of_x)  # (O, I, F)
                dw = part if dw is None else dw.add_(part)
        if dw is not None:
            dw = _invert(dw, grid, weight.shape[-2:]).contiguous()
        return dx, dw, dbias, None


def _convolve(x: torch.Tensor, spectrum: torch.Tensor, bias: torch.Tensor | None, geometry: Geometry) -> torch.Tensor:
    """(B, I, H, W) and the kernel's spectrum (O, I, F) → (B, O, H′, W′), in the memory layout of x."""
    shape = (x.shape[0], spectrum.shape[0], geometry.height, geometry.width)
    last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    layout = torch.channels_last if last else torch.contiguous_format
    result = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=layout)
    grid, padding, size = geometry.grid, (geometry.pad_top, geometry.pad_left), (geometry.height, geometry.width)
    for piece in _pieces(x, spectrum, grid):
        product = _contract(_spectrum(x[piece], grid, padding), spectrum.transpose(0, 1))
        if bias is not None:
            # a constant is the frequency 0: one pass less over the result
            product[..., 0, 0] += bias * (grid[0] * grid[1])
        result[piece] = _invert(product, grid, size)
    return result


def _convolve_by_matrices(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, geometry: Geometry
) -> torch.Tensor:
    """What `_convolve` computes, of matrix products alone. What concerns the kernel is constant: onnxruntime computes it once."""
    grid = geometry.grid
    real, imaginary = _transform(x, (geometry.pad_top, geometry.pad_left), grid)  # (B, I, G, F)
    kernel_real, kernel_imaginary = _transform(weight, (0, 0), grid)  # (O, I, G, F)
    parts = []
    for i in range(
        weight.shape[1]
    ):  # X · conj(W); a sum over one axis of (B, O, I, G, F) would need memory for all of it
        a, b, c, d = real[:, i, None], imaginary[:, i, None], kernel_real[:, i], kernel_imaginary[:, i]
        parts.append((a * c + b * d, b * c - a * d))
    spectrum = torch.cat([reduce(torch.add, part) for part in zip(*parts, strict=True)], dim=2)  # (B, O, 2G, F)
    up, back = _inverse_matrices((geometry.height, geometry.width), grid, x.dtype)
    columns = (up.to(x.device) @ spectrum).unflatten(2, (2, geometry.height))  # (B, O, 2, H′, F)
    result = (columns @ back.to(x.device)).sum(dim=2)
    return result if bias is None else result + bias[:, None, None]


def _transform(x: torch.Tensor, before: tuple[int, int], grid: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Real and imaginary part of the spectrum of x, padded before: (P, Q, H, W) → twice (P, Q, G, F)."""
    across, down = _matrices((x.shape[-2], x.shape[-1]), before, grid, x.dtype)
    rows = (x.unsqueeze(2) @ across.to(x.device)).flatten(2, 3)  # (P, Q, 2H, F)
    real, imaginary = (down.to(x.device) @ rows).chunk(2, dim=2)
    return real, imaginary


def _waves(places: np.ndarray, frequencies: np.ndarray, period: int) -> tuple[np.ndarray, np.ndarray]:
    angles = np.outer(places, frequencies) % period * (2 * np.pi / period)
    return np.cos(angles), np.sin(angles)


@torch.compiler.assume_constant_result
def _matrices(
    size: tuple[int, int], before: tuple[int, int], grid: tuple[int, int], dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    """(2, W, F) for the rows, (2G, 2H) for the columns."""
    places = [np.arange(length) + pad for length, pad in zip(size, before, strict=True)]
    cosines, sines = _waves(places[1], np.arange(grid[1] // 2 + 1), grid[1])
    across = np.stack([cosines, -sines])
    cosines, sines = _waves(np.arange(grid[0]), places[0], grid[0])
    down = np.block([[cosines, sines], [-sines, cosines]])
    return torch.tensor(across, dtype=dtype), torch.tensor(down, dtype=dtype)


@torch.compiler.assume_constant_result
def _inverse_matrices(
    size: tuple[int, int], grid: tuple[int, int], dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    """(2H′, 2G) for the columns, (2, F, W′) for the rows. Of a real signal half of the frequencies stand for both halves."""
    frequencies = np.arange(grid[1] // 2 + 1)
    twice = np.where((frequencies == 0) | (2 * frequencies == grid[1]), 1, 2)[:, None] / (grid[0] * grid[1])
    cosines, sines = _waves(np.arange(size[0]), np.arange(grid[0]), grid[0])
    up = np.block([[cosines, -sines], [sines, cosines]])
    cosines, sines = _waves(frequencies, np.arange(size[1]), grid[1])
    back = np.stack([cosines, -sines]) * twice
    return torch.tensor(up, dtype=dtype), torch.tensor(back, dtype=dtype)


def _contract(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Matrix product of the first two dimensions at every frequency: (P, R, F), (R, Q, F) → (P, Q, F)."""
    # A sum over R of whole planes rather than a batched product of tiny matrices: no transposing, memory read in order.
    result = left[:, 0, None] * right[None, 0]
    for r in range(1, left.shape[1]):
        result.addcmul_(left[:, r, None], right[None, r])
    return result


# What rfft2 and irfft2 give, to the digit. These transform no row that is empty or that nobody reads, and one dimension after the
# other is up to four times as fast as both at once.


def _spectrum(x: torch.Tensor, grid: tuple[int, int], before: tuple[int, int] = (0, 0)) -> torch.Tensor:
    """(P, Q, H, W), that far from the upper left corner of an empty grid → (P, Q, G, F)."""
    (height, width), (top, left) = x.shape[-2:], before
    rows = torch.fft.rfft(F.pad(x.contiguous(), (left, grid[1] - left - width)))
    return torch.fft.fft(F.pad(rows, (0, 0, top, grid[0] - top - height)), dim=-2)


def _invert(
    spectrum: torch.Tensor, grid: tuple[int, int], size: Sequence[int], before: tuple[int, int] = (0, 0)
) -> torch.Tensor:
    """The reverse: (P, Q, G, F) → (P, Q, H, W)."""
    (height, width), (top, left) = size, before
    rows = torch.fft.ifft(spectrum, dim=-2)[..., top : top + height, :]
    return torch.fft.irfft(rows, n=grid[1])[..., left : left + width]


def _kernel_spectrum(weight: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    return _spectrum(weight, grid).conj().resolve_conj()


def _pieces(x: torch.Tensor, weight: torch.Tensor, grid: tuple[int, int]) -> Iterator[slice]:
    per_picture = max(weight.shape[0], weight.shape[1]) * grid[0] * (grid[1] // 2 + 1)
    step = max(1, _PIECE.get(x.device.type, _WHOLE) // per_picture)
    for start in range(0, x.shape[0], step):
        yield slice(start, start + step)


def _differentiable_gradients(
    x: torch.Tensor, weight: torch.Tensor, gradient: torch.Tensor, geometry: Geometry, wanted: tuple[bool, bool]
) -> list[torch.Tensor | None]:
    bottom = geometry.height - 1 + weight.shape[-2] - geometry.pad_top - x.shape[-2]
    right = geometry.width - 1 + weight.shape[-1] - geometry.pad_left - x.shape[-1]
    result = F.conv2d(F.pad(x, (geometry.pad_left, right, geometry.pad_top, bottom)), weight)
    inputs = [tensor for tensor, is_wanted in zip((x, weight), wanted, strict=True) if is_wanted]
    found = iter(torch.autograd.grad(result, inputs, gradient, create_graph=True))
    return [next(found) if is_wanted else None for is_wanted in wanted]


def _widen(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def _result_dtype(input: torch.Tensor, weight: torch.Tensor) -> torch.dtype:
    device = input.device.type
    if torch.is_autocast_enabled(device) and input.dtype != torch.float64:
        return torch.get_autocast_dtype(device)
    return torch.promote_types(input.dtype, weight.dtype)


def _same_tensor(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.dtype == other.dtype and one.device == other.device and torch.equal(one, other)
