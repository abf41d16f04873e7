"""What the windower is compared with: a loop over windows, as one would write it with SciPy."""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from scipy import interpolate, signal

from meco_hub.recordings.signal_recording import SignalRecording


@dataclass(frozen=True)
class Layout:
    """Sensors: name → (channels, their rate in Hz or None for events, the rate of the grid)."""

    name: str
    sensors: dict[str, tuple[int, float | None, float]]
    window_s: float
    stride_s: float


def window_by_window(
    layout: Layout, recording: SignalRecording, careful: bool = False
) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """The loop that one would write: every window by itself, from the raw streams; values, masks and, if `careful`, times."""
    starts = np.arange(0.0, recording.end - layout.window_s + 1e-9, layout.stride_s)
    batch = {}
    for name, (channels, rate, grid) in layout.sensors.items():
        stream = recording.streams[name]
        steps = round(layout.window_s * grid)
        inputs = np.zeros((len(starts), steps, channels), np.float32)
        masks = np.zeros((len(starts), steps), bool)
        stamps = np.zeros((len(starts), steps if careful else 0), np.float32)
        center, scale = (np.zeros(channels, np.float32), np.ones(channels, np.float32)) if careful else (0.0, 1.0)
        if careful and not (np.diff(stream.times) > 0).all():
            raise ValueError(name)
        for row, start in enumerate(starts):
            first, last = np.searchsorted(stream.times, [start - 1.0, start + layout.window_s + 1.0])
            values, times = stream.values[first:last], stream.times[first:last]
            real: np.ndarray = np.asarray(np.isfinite(values).all(axis=1))
            points = start + (np.arange(steps) + 0.5) / grid
            if rate == grid:
                inside = slice(*np.searchsorted(times, [start - 1e-6, start + layout.window_s - 1e-6]))
                window, mask = values[inside], real[inside]
            elif rate is not None and rate > grid:
                ratio = Fraction(grid / rate).limit_denominator(1000)
                low = signal.resample_poly(np.nan_to_num(values), ratio.numerator, ratio.denominator, axis=0)
                if careful and not real.all():
                    share = signal.resample_poly(real.astype(np.float32), ratio.numerator, ratio.denominator)
                    low = np.where(share[:, None] > 0.4, low / np.maximum(share, 0.4)[:, None], np.nan)
                offset = round((start - times[0]) * grid)
                window = low[offset : offset + steps]
                mask = np.interp(points, times, real.astype(float)) >= 0.5
            else:
                if real.sum() < 2:
                    continue
                window = interpolate.interp1d(times[real], values[real], axis=0, bounds_error=False)(points)
                after = np.clip(np.searchsorted(times[real], points), 1, real.sum() - 1)
                mask = np.diff(times[real])[after - 1] <= (1.5 / rate if rate else 2.5)
            count = min(len(window), steps)
            mask = mask[:count] & np.isfinite(window[:count]).all(axis=1)
            inputs[row, :count] = np.where(mask[:, None], np.clip((window[:count] - center) / scale, -10, 10), 0)
            masks[row, :count] = mask
            if careful:
                stamps[row, :count] = np.where(mask, points[:count] - start, 0)
        batch[name] = inputs, masks, stamps
    return batch
