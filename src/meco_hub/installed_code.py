"""`InstalledCode`, `InstalledSettings`: what comes from an installed package, never from a file inside a checkpoint.

A pushed repository carries a stub of a few lines (`publishing/stub.py`), and `auto_map` entries that point to it, for people who
load it without importing us. transformers takes classes that came by such an entry for remote code: it would copy their source
files into whatever is saved next. And whoever loads such a repository with us imported, and saves it again, would write the entries
without the file that they point to. Both leave a folder that nobody else can load.

This file knows what transformers does with code that it takes for remote; it knows no class of ours.
"""

from typing import Any


class InstalledCode:
    """Mixin of models, first among the bases: saving copies no sources."""

    @classmethod
    def register_for_auto_class(cls, auto_class: Any = None) -> None:
        """Do nothing: what is installed is imported, and needs no copy of its source beside the weights."""


class InstalledSettings(InstalledCode):
    """Mixin of configs and processors, first among the bases: saving writes neither sources nor `auto_map`."""

    def to_dict(self) -> dict[str, Any]:
        """As the class it is mixed into, without `auto_map`: the file it would point to is not saved."""
        fields: dict[str, Any] = super().to_dict()  # pyright: ignore[reportAttributeAccessIssue] — of the other base
        fields.pop("auto_map", None)
        return fields
