"""Labels of own data: a csv as spreadsheets write it, columns that are all known, people who are each spelt in one way.

    rows = read_labels(path, required=("recording",), known=("recording", "person", "label"))
    people = check_people(rows, …)
    names = order_labels(Counter(…), wanted, …)

Commas, semicolons or tabs, byte-order marks, UTF-16 and decimal commas are read as the readers of signals read them. A column that
nobody reads is an error, because a misspelt one would silently be no label.
"""

import csv
import logging
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import ConfigurationError, CorpusError, quote, suggest
from ..labels import EXPRESSIONS, canonical_or_own
from ..reading import reading, refuse_special
from ..recordings.signal_files.tables import open_table
from .file_tree import first_few
from .leaks import plain_name

logger = logging.getLogger(__name__)

_NOTHING = frozenset({"nan", "<na>", "#n/a"})
"""What pandas and spreadsheets write where there is nothing."""

_DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+(?:[eE][+-]?\d+)?")


@dataclass(frozen=True)
class LabelRow:
    """One line of the csv.

    Attributes:
        cells: by column, in small letters; blanks around them are gone.
        comma: numbers may have a comma for the decimal point, because cells are not separated by commas.
    """

    cells: Mapping[str, str]
    where: str
    comma: bool = False

    def __getitem__(self, column: str) -> str:
        """The cell; "" where the file has no such column."""
        return self.cells.get(column, "")

    def need(self, column: str) -> str:
        """The cell, which must not be empty, nor a program's word for that."""
        if not self[column] or self[column].casefold() in _NOTHING:
            said = f"is {self[column]!r}, as for nothing" if self[column] else "is empty"
            raise CorpusError(f"{self.where}: the cell of {column!r} {said}. Fill it, or remove the line.")
        return self[column]

    def plain(self, column: str) -> str:
        """The cell with a point where it has a decimal comma."""
        cell = self[column]
        return cell.replace(",", ".") if self.comma and _DECIMAL_COMMA.fullmatch(cell) else cell

    def number(self, column: str) -> float:
        """The number; NaN where the cell is empty."""
        if not self[column]:
            return math.nan
        try:
            found = float(self.plain(column))
        except ValueError:
            found = math.inf
        if math.isinf(found):
            raise CorpusError(
                f"{self.where}: {column} is {quote(self[column], 40)!r}. Expected a number, or nothing where it is unknown. "
                "Correct the cell."
            )
        return found

    def fold(self) -> int:
        """The number of the column `fold`; −1 where there is none."""
        number = self.number("fold")
        if math.isnan(number):
            return -1
        if number != int(number) or not 0 <= number < 2**31:
            raise CorpusError(f"{self.where}: the fold is {self['fold']}. Expected 0, 1, 2, … or nothing.")
        return int(number)


def read_labels(path: Path, *, required: Sequence[str], known: Sequence[str], remedy: str) -> list[LabelRow]:
    """The lines of a csv of labels. `remedy`: what to do with a column that is not, as a sentence."""
    if not path.is_file():
        raise CorpusError(f"{path} does not exist. Expected a csv with the columns {', '.join(required)}. Add it.")
    refuse_special(path, CorpusError, "a csv")
    with reading(f"{path} cannot be read as a csv", CorpusError, "Save it again as a csv in UTF-8."):
        header, body, first, form = open_table(path)
        lines = list(csv.reader(body.split("\n") if body else [], delimiter=form["sep"]))
    columns = [cell.strip().lower() for cell in header]
    for column in columns:
        if column not in known:
            raise CorpusError(
                f"{path} has the column {quote(column)!r}, which nobody reads.{suggest(column, known)} Known: "
                f"{', '.join(known)}. {remedy}"
            )
    missing = [column for column in required if column not in columns]
    twice = sorted({column for column in columns if columns.count(column) > 1})
    if missing or twice:
        wrong = f"{', '.join(missing)} is missing" if missing else f"{', '.join(twice)} is there twice"
        raise CorpusError(
            f"{path} has the columns {', '.join(columns)}; {wrong}. Expected {', '.join(required)}, each once. Correct the header."
        )
    rows = [
        LabelRow(
            dict(zip(columns, map(str.strip, cells), strict=True)), f"{path}, line {first + place}", form["sep"] != ","
        )
        for place, cells in enumerate(lines)
    ]
    if not rows:
        raise CorpusError(f"{path} has a header and no line below it. Expected one for every label. Fill it.")
    return rows


def check_people(people: Iterable[str], where: str) -> None:
    """Make sure that nobody is spelt in two ways, who would be two people then and stand on both sides of a division."""
    _check_spelling(people, where, ("person", "people who"))


def _check_spelling(names: Iterable[str], where: str, words: tuple[str, str]) -> None:
    spelt: dict[str, str] = {}
    for name in names:
        other = spelt.setdefault(plain_name(name), name)
        if other != name:
            raise CorpusError(
                f"{where} names {quote(other)!r} and {quote(name)!r}, which are one {words[0]} in two spellings, or two {words[1]} "
                f"cannot be told apart. Expected one spelling for each {words[0]}. Write them alike, or rename one of the two."
            )


def order_labels(
    counts: Mapping[str, int], wanted: Sequence[str] | None, where: str, *, what: str, remedy: str
) -> list[str]:
    """Class names in the order of their indices.

    Args:
        counts: how often each class was found, under the names that `canonical_or_own` gives.
        wanted: the classes in order, in any usual spelling; None: AffectNet's order of the expressions, or sorted names when one
            is no expression.
    """
    _check_spelling(counts, where, ("class", "classes that"))
    if wanted is None:
        return [name for name in EXPRESSIONS if name in counts] if counts.keys() <= set(EXPRESSIONS) else sorted(counts)
    names = [canonical_or_own(name) for name in wanted]
    if len(set(names)) < len(names):
        twice = ", ".join(name for name, count in Counter(names).items() if count > 1)
        raise ConfigurationError(f"{where}: the list of classes names {twice} twice. Remove one of them.")
    strange = [f"{name} ({count} {what})" for name, count in sorted(counts.items()) if name not in names]
    if strange:
        raise CorpusError(
            f"{where} has labels that are not in the list {', '.join(names)}: {first_few(strange, 10)}. {remedy}"
        )
    if empty := [name for name in names if not counts.get(name)]:
        logger.warning("%s has no %s of %s.", where, what, ", ".join(empty))
    return names
