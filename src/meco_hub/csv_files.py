"""The one place that writes csv: whatever stands in a cell, a spreadsheet shows it and computes nothing.

Names of files, people and classes are strangers' words, and a cell that begins like a formula may run a program where the table is
opened (OWASP: CSV Injection). Numbers stay numbers, a minus in front of them or not. Where a comma is the decimal point,
spreadsheets part cells at semicolons: what follows one begins a cell, too, unless a quote stands at the very beginning of the row.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

from .errors import visible

_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_LATER_FORMULA = re.compile(r"""(?<=;)(?=["']*[=+\-@])""")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
FILE = "file"
"""The column of names that still name their file, the first: these get `./` in front, other texts an apostrophe."""


def write_rows(stream: TextIO, head: Sequence[str], rows: Iterable[Sequence[Any]], *, line_end: str = "\n") -> None:
    """Write a head and rows as csv, each as it comes; None is an empty cell.

    Args:
        stream: a text that was opened with `newline=""`.
    """
    assert FILE not in head[1:]
    stream.write(line_of([shown(name) for name in head]) + line_end)
    for row in rows:
        stream.write(line_of([shown(cell, column) for column, cell in zip(head, row, strict=True)]) + line_end)


def line_of(cells: Sequence[Any], delimiter: str = ",", *, quoted: str = ",;") -> str:
    """Cells as a line of csv, without its end; quoted are those that hold a quote or one of `quoted`, and an only empty one."""
    texts = ["" if cell is None else str(cell) for cell in cells]
    if texts == [""]:
        return '""'
    return delimiter.join(
        '"' + text.replace('"', '""') + '"' if any(one in text for one in ('"', *quoted)) else text for text in texts
    )


def shown(cell: Any, column: str = "") -> Any:
    """A text as one line that begins no formula, and two that differ still do; anything else as it is."""
    if not isinstance(cell, str):
        return cell
    if _FORMULA.match(cell) and not _NUMBER.fullmatch(cell):
        cell = f"'{cell}" if column != FILE else cell if cell.startswith("'") else f"./{cell}"
    return visible(cell if column == FILE else _LATER_FORMULA.sub("'", cell))
