"""What a model is given: checked, then completed to samples, validity and times for every modality that it knows."""

from collections.abc import Mapping

import torch

from meco_hub.errors import InputError

from .configuration_himoe import HiMoEConfig

Streams = Mapping[str, torch.Tensor]
"""Modality → tensor."""


def validate_inputs(
    config: HiMoEConfig,
    inputs: Streams | None,
    modality_presence: torch.Tensor | None,
    step_mask: Streams | None,
    timestamps: Streams | None,
    offsets: torch.Tensor | None,
) -> tuple[int, torch.device]:
    """Batch size and device, on which all arguments of `HiMoEModel.forward` must agree.

    Raises:
        InputError: unknown modalities, or tensors of the wrong shape or type.
    """
    inputs, step_mask, timestamps = inputs or {}, step_mask or {}, timestamps or {}
    names = config.modality_names or []
    advice = "Let the checkpoint's processor prepare the recording."
    for what, given in (("inputs", inputs), ("step_mask", step_mask), ("timestamps", timestamps)):
        unknown = sorted(set(given) - set(names))
        if unknown:
            raise InputError(f"{what} has {', '.join(unknown)}; this model knows {', '.join(names)}. {advice}")
    first = modality_presence if modality_presence is not None else next(iter(inputs.values()), None)
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
        # with timestamps nothing is compared with the usual length, which would fix it in a graph
        if shape[1] < patch or (name not in timestamps and shape[1] != nominal):
            raise InputError(
                f"inputs[{name!r}] has {shape[1]} samples; expected {nominal}, or timestamps and at least {patch}. {advice}"
            )
        for what, given in (("step_mask", step_mask), ("timestamps", timestamps)):
            if name in given and tuple(given[name].shape) != shape[:2]:
                raise InputError(
                    f"{what}[{name!r}] has shape {tuple(given[name].shape)}; expected {shape[:2]}, as its inputs. {advice}"
                )
    for what, tensor in (("modality_presence", modality_presence), ("offsets", offsets)):
        if tensor is not None and tuple(tensor.shape) != (batch, len(names)):
            raise InputError(
                f"{what} has shape {tuple(tensor.shape)}; expected ({batch}, {len(names)}) for {', '.join(names)}. {advice}"
            )
    return batch, first.device


def complete_inputs(
    config: HiMoEConfig,
    dtype: torch.dtype,
    inputs: Streams | None,
    modality_presence: torch.Tensor | None,
    step_mask: Streams | None,
    timestamps: Streams | None,
    offsets: torch.Tensor | None,
) -> tuple[list[torch.Tensor], list[torch.Tensor], list[torch.Tensor]]:
    """In the order of `config.modality_names`: samples (B, T, C) of `dtype`, which are valid (B, T), their times (B, T) in seconds.

    Samples and times that are not valid are zero. A modality that is not given is one without a valid sample.

    Raises:
        InputError: as of `validate_inputs`.
    """
    batch, device = validate_inputs(config, inputs, modality_presence, step_mask, timestamps, offsets)
    all_samples: list[torch.Tensor] = []
    all_valid: list[torch.Tensor] = []
    all_times: list[torch.Tensor] = []
    for index, name in enumerate(config.modality_names or []):
        entry = (config.modalities or {})[name]
        values, times = (inputs or {}).get(name), None
        if values is None:
            values = torch.zeros(batch, config.window_samples(name), entry["channels"], device=device)
            valid = torch.zeros(values.shape[:2], device=device, dtype=torch.bool)
        else:
            values = values.to(dtype)
            valid = values.isfinite().all(dim=-1)
            if modality_presence is not None:
                valid = valid & modality_presence[:, index, None].bool()
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
