"""A batch by its bits, for tests of ways that must give the very same."""

from typing import Any


def bits(batch: Any) -> dict[Any, Any]:
    """Type, shape and bytes of every array."""
    flat: dict[Any, Any] = {}
    for key, value in batch.items():
        for name, one in value.items() if isinstance(value, dict) else [("", value)]:
            flat[key, name] = one.dtype, one.shape, one.tobytes()
    return flat
