"""The settings of an event voxelizer: which there are, and what makes no sense.

This file knows names and ranges; what the settings do is known in `event_voxelizer.py`.
"""

import difflib
from collections.abc import Iterable
from typing import Any

from ..errors import ConfigurationError

REPRESENTATIONS = ("voxel_grid", "polarity_counts", "time_surface", "event_frame")
NORMALIZATIONS = ("none", "nonzero_std", "mean_std")
OUT_OF_BOUNDS = ("error", "drop")
SEE_WINDOW_US = 33_000
"""What the event pictures of the SEE data set accumulate, microseconds."""

_BOOKKEEPING = {"feature_extractor_type", "processor_class", "auto_map"}  # what transformers writes beside the fields
_SIDES = ("height", "width")
_CORNER = ("top", "left")


def check_names(given: Iterable[str], fields: list[str]) -> None:
    """An error for the first name that is neither a field nor transformers' own bookkeeping."""
    for name in given:
        if name not in _BOOKKEEPING:
            near = difflib.get_close_matches(name, fields, n=1)
            offer = f" Did you mean {near[0]!r}?" if near else ""
            raise ConfigurationError(f"EventVoxelizer has no field {name!r}.{offer} It has {', '.join(fields)}.")


def check_settings(settings: Any) -> None:
    """Check the fields of an `EventVoxelizer`.

    Raises:
        ConfigurationError: one has a value that makes no sense, by itself or beside another.
    """
    choices = (
        ("representation", REPRESENTATIONS),
        ("normalize", NORMALIZATIONS),
        ("out_of_bounds", OUT_OF_BOUNDS),
        ("last_event_decides", (False, True)),
    )
    for name, known in choices:
        if getattr(settings, name) not in known:
            raise ConfigurationError(
                f"{name} is {getattr(settings, name)!r}; expected one of {', '.join(map(repr, known))}."
            )
    for name in ("bins", "window_us", "window_events"):
        value = getattr(settings, name)
        optional = name != "bins"
        if not (optional and value is None) and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise ConfigurationError(f"{name} is {value!r}; expected a whole number from 1 on.")
    for name in ("decay_us", "contribution", "std"):
        if not _is_number(getattr(settings, name)) or getattr(settings, name) <= 0:
            raise ConfigurationError(f"{name} is {getattr(settings, name)!r}; expected a positive number.")
    if not _is_number(settings.mean):
        raise ConfigurationError(f"mean is {settings.mean!r}; expected a number.")
    for name, wanted in (("sensor_size", _SIDES), ("size", _SIDES), ("crop", (*_CORNER, *_SIDES))):
        value = getattr(settings, name)
        if value is not None and (
            set(value) != set(wanted)
            or not all(isinstance(part, int) and part >= (0 if key in _CORNER else 1) for key, part in value.items())
        ):
            raise ConfigurationError(f"{name} is {value}; expected whole numbers for {', '.join(wanted)}, in pixels.")
    if settings.window_us is not None and settings.window_events is not None:
        raise ConfigurationError(
            "window_us and window_events are both given; expected one: windows of time or of events."
        )
    if settings.normalize == "nonzero_std" and settings.representation == "event_frame":
        raise ConfigurationError('An event frame has no zeros to leave out; expected normalize="mean_std" or "none".')


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf")
