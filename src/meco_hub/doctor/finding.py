"""What the doctor writes down.

This file knows what a finding consists of.
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """One thing that would not work, or not well.

    Attributes:
        subject: the package or plugin.
        problem: what was seen.
        mend: what to do; the first word is a command where there is one.
        traceback: where there is one.
        level: "error": something does not work, and `meco doctor` exits with 1; "warning": it works, less well than it could.
    """

    subject: str
    problem: str
    mend: str
    traceback: str = ""
    level: Literal["error", "warning"] = "error"
