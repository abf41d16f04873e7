"""Where modalities meet in time: how late each one is, and its tokens read from a common grid.

Sources: learnt delays: Khorram et al. 2019, arXiv 1907.03050; resampling by attention: Shukla and Marlin 2021 (mTAN).
"""

import math

import torch
from torch import nn

from meco_hub.nn.losses import masked_mean, masked_softmax, widen

from .configuration_himoe import HiMoEConfig
from .encoders import StackedLinear, average, full_precision
from .single_numbers import single_number


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
        self.temperature = single_number(self, "temperature")
        self.projection = StackedLinear(config.num_modalities, config.d_model, config.lag_dim, bias=False)

    def forward(
        self, tokens: torch.Tensor, times: torch.Tensor, mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens (M, B, N, d), times and mask (M, B, N) → lags and their estimated part in the mean gauge, (B, M) each."""
        projected = self.projection(tokens)
        with full_precision(projected):
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
        centred = series - average(series, keep, dim=2).unsqueeze(2)  # what is constant would drown what moves
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
        with full_precision(scores):
            away = (grid + lags.T.unsqueeze(-1)).unsqueeze(-1) - times.unsqueeze(2)  # (M, B, S, N)
            precision = 0.5 / widen(self.width_s).clamp(0.05, 8.0).square()
            scores = widen(scores) - away.square().unsqueeze(2) * precision[:, None, None]
            weights = masked_softmax(scores, mask[:, :, None, None])
            radius = torch.tensor(self.radii, device=away.device, dtype=away.dtype)[:, None, None, None]
            near = away.detach().abs() <= radius + 1e-4  # the boundary belongs to it, rounding or not
            available = (near & mask.unsqueeze(2)).any(dim=-1)
        mixed = (weights.to(value.dtype) @ value).transpose(2, 3).flatten(3)
        return self.output(mixed) * available.unsqueeze(-1).to(mixed.dtype), available
