"""Trackers by name, looked for before anything is computed.

Accelerate leaves a tracker out without a word when its package is missing; whoever asked for one would find out after the run.

This file knows names of trackers; Accelerate knows how to talk to them.
"""

from collections.abc import Sequence

from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

from ..errors import DependencyError, unknown_name


def check_trackers(names: Sequence[str]) -> None:
    """Refuse a tracker that does not exist or is not installed.

    Args:
        names: as `--report_to` was given them; "all" stands for whichever are installed.

    Raises:
        UnknownNameError: Accelerate knows no such tracker.
        DependencyError: its package is missing, or "all" was asked for and there is none.
    """
    known = [str(name) for name in LOGGER_TYPE_TO_CLASS]
    there = [str(name) for name in get_available_trackers()]
    for name in names:
        if name == "all":
            if not there:
                raise DependencyError(
                    f"All trackers were asked for, and none is installed. Install one of: {', '.join(known)}."
                )
        elif name not in known:
            raise unknown_name("tracker", name, [*known, "all"])
        elif name not in there:
            raise DependencyError(
                f"The tracker {name} is not installed; here: {', '.join(there) or 'none'}. Run: pip install {name}"
            )
