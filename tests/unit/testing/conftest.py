"""The planted architecture, registered for this folder's tests and taken out again."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from meco_hub import plugins, registration

PLANTED = Path(__file__).parent / "planted"


@pytest.fixture(scope="module")
def planted() -> Iterator[Any]:
    """The package of the architecture `meco_planted`, as if it were installed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(PLANTED))
        import planted_signals

        known = plugins.architectures()
        patch.setitem(known.healthy, "meco_planted", planted_signals.architecture)
        patch.setitem(known.distributions, "meco_planted", "planted-signals")
        registration._serve_imported()
        yield planted_signals
    # what a test planted beside it goes; the package itself stays, because transformers keeps the classes it was handed
    for name in [name for name in sys.modules if name.startswith("planted_")]:
        if not name.startswith("planted_signals"):
            del sys.modules[name]
