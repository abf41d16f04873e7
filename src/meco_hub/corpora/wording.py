"""How corpus errors list what they found: the first few, and how many in all.

This file knows a sentence's shape; it does not know what is listed.
"""

from collections.abc import Iterable


def first_few(items: Iterable[object], limit: int = 5) -> str:
    """ "a, b, c, d, e, … (17 in all)"."""
    texts = [str(item) for item in items]
    if len(texts) <= limit:
        return ", ".join(texts)
    return f"{', '.join(texts[:limit])}, … ({len(texts)} in all)"
