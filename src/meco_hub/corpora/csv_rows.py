"""Reading a csv row by row, with the line number in every complaint.

Files of published corpora differ in small ways that break naive readers: a byte-order mark, spaces around column names
(`icml_face_data.csv`), a missing header. Rows are streamed, so a file of any size costs one row of memory.

This file knows csv; it does not know what a column means.
"""

import csv
from collections.abc import Iterator, Sequence

from ..errors import CorpusError
from .file_tree import FileTree


class CsvRow(dict[str, str]):
    """One row: values by lower-case column name, stripped; `line` is its line in the file, `where` says so in words."""

    def __init__(self, values: dict[str, str], line: int, address: str) -> None:
        super().__init__(values)
        self.line = line
        self.where = f"{address}, line {line}"


def read_rows(
    tree: FileTree, name: str, required: Sequence[str], headerless: Sequence[str] | None = None
) -> Iterator[CsvRow]:
    """Stream the rows of a csv.

    Args:
        tree: where the file lies.
        name: its path in the tree.
        required: columns (lower case) that must be there.
        headerless: columns of a file without header, where such copies are known; told by the first row having as many
            cells and none of the required names.

    Raises:
        CorpusError: not readable, not UTF-8, a column missing or named twice, a row with more or fewer cells than columns.
    """
    address = tree.where(name)
    with tree.open_text(name) as text:
        reader = csv.reader(text, strict=True)
        try:
            first = next(reader, None)
            if first is None:
                raise CorpusError(f"{address} is empty. Expected a csv with the columns {', '.join(required)}.")
            columns = [cell.strip().lower() for cell in first]
            has_header = not headerless or len(columns) != len(headerless) or any(c in required for c in columns)
            if not has_header and headerless:
                columns = list(headerless)
                yield CsvRow(_cells(columns, first, address, 1), 1, address)
            _check_columns(columns, required, address)
            for cells in reader:
                if cells:  # a blank line at the end is no row
                    yield CsvRow(_cells(columns, cells, address, reader.line_num), reader.line_num, address)
        except csv.Error as error:
            raise CorpusError(f"{address}, line {reader.line_num}: not a csv row ({error}). Mend the line.") from error


def _check_columns(columns: list[str], required: Sequence[str], address: str) -> None:
    missing = [column for column in required if column not in columns]
    if missing:
        raise CorpusError(
            f"{address} has the columns {', '.join(columns)}; {', '.join(missing)} is missing. "
            f"Expected a header with {', '.join(required)}."
        )
    twice = {column for column in columns if column and columns.count(column) > 1}
    if twice:
        raise CorpusError(f"{address} names the columns {', '.join(sorted(twice))} twice. Remove one of each.")


def _cells(columns: list[str], cells: list[str], address: str, line: int) -> dict[str, str]:
    if len(cells) != len(columns):
        raise CorpusError(
            f"{address}, line {line}: {len(cells)} cells where the header has {len(columns)}. Mend the line."
        )
    return {column: cell.strip() for column, cell in zip(columns, cells, strict=True)}
