"""Tables that we write are opened in spreadsheets: no word of a stranger is computed there, and no two words become one."""

import ast
import csv
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import meco_hub
from meco_hub.comparison.statistics import Figure, Row, Summary
from meco_hub.comparison.tables import csv_text
from meco_hub.csv_files import shown, write_rows
from meco_hub.evaluation.report import write_people, write_predictions, write_values
from meco_hub.evaluation.series import AlignedPredictions
from meco_hub.timeline import write_csv

BEGINS = ("=", "+", "-", "@", "\t", "\r", "\n=", "'=", "''@")
HERE = Path(__file__).parents[2]


def predictions(word: str, folder: Path) -> str:
    write_predictions(folder, [word, f"{word}2"], [word], np.array([0]), np.array([[-1.0, 2.0]]))
    return (folder / "predictions.csv").read_text(encoding="utf-8")


def values(word: str, folder: Path) -> str:
    one = np.array([[-0.5, np.nan]])
    write_values(folder / "v.csv", [word, f"{word}2"], [word], AlignedPredictions([], one, [one * 0 - 1e-7]))
    return (folder / "v.csv").read_text(encoding="utf-8")


def people(word: str, folder: Path) -> str:
    write_people(folder / "people.csv", {word: {"uar": -0.25, "auroc": None}, f"{word}2": {"uar": 0.5, "auroc": 1e-9}})
    return (folder / "people.csv").read_text(encoding="utf-8")


def comparison(word: str, folder: Path) -> str:
    row = Row(word, {"ccc": Figure(-0.1, 0.2, [], {}, 0)}, None, 1, 1, [word])
    other = replace(row, model=f"{word}2", figures={"ccc": Figure(None, None, [], {}, 0)})
    return csv_text(Summary({"synthetic": False}, ["ccc"], None, [row, other], 0, 1, {}, "ccc", {}))


def answers(word: str, folder: Path) -> str:
    stream = io.StringIO(newline="")
    write_csv([(word, [{"label": word, "score": -0.5, "warnings": []}]), (f"{word}2", {"error": word})], stream)
    return stream.getvalue()


@pytest.mark.parametrize("begin", BEGINS)
@pytest.mark.parametrize("write", [predictions, values, people, comparison, answers])
def test_no_writer_writes_a_formula(write: Any, begin: str, tmp_path: Path) -> None:
    rows = list(csv.reader(io.StringIO(write(f"{begin}cmd|' !A0", tmp_path), newline="")))
    assert len({len(row) for row in rows}) == 1
    assert sum("cmd" in cell for row in rows for cell in row) >= 2
    assert any(cell.startswith("-") for row in rows for cell in row) or write is predictions  # numbers stay numbers
    for row in rows:
        for cell in row:
            if cell[:1] in set("=+-@\t\r\n"):
                float(cell)


@pytest.mark.parametrize("begin", ["x;", "x;'", 'x;"', ";", '";', "x; y;", "=;", "x,;"])
@pytest.mark.parametrize("write", [predictions, values, people, comparison, answers])
def test_no_formula_where_semicolons_part_cells(write: Any, begin: str, tmp_path: Path) -> None:
    text = write(f"{begin}=cmd|' !A0", tmp_path)
    rows = list(csv.reader(io.StringIO(text, newline="")))
    assert len({len(row) for row in rows}) == 1
    parted = [cell for row in csv.reader(io.StringIO(text, newline=""), delimiter=";") for cell in row]
    assert sum("cmd" in cell for cell in parted) >= 2
    assert not [cell for cell in parted if cell.lstrip('"')[:1] in set("=+-@")]


def test_names_of_files_still_name_them() -> None:
    stream = io.StringIO(newline="")
    names = ["a;=b.png", '";@c.png', "=d;+e.png"]
    write_csv([(name, [{"label": "x", "score": 0.5}]) for name in names], stream)
    cells = [row[0] for row in csv.reader(io.StringIO(stream.getvalue(), newline=""))]
    assert [Path(cell) for cell in cells[1:]] == [Path(name) for name in names]


@given(st.lists(st.text(st.sampled_from("a,;\"' 1"), max_size=6), min_size=1, max_size=4))
def test_what_was_written_is_read(cells: list[str]) -> None:
    stream = io.StringIO(newline="")
    write_rows(stream, [f"c{place}" for place in range(len(cells))], [cells])
    assert list(csv.reader(io.StringIO(stream.getvalue(), newline="")))[1] == cells


@given(st.lists(st.text(st.sampled_from(";=+-@\"'\t\r\n./1e\u202ea"), max_size=6), unique=True, max_size=8))
def test_words_that_differ_still_differ(words: list[str]) -> None:
    plain = [word for word in words if word.isprintable()]  # others are shown as what could also be typed
    assert len({shown(word) for word in plain}) == len(plain)


def test_csv_is_written_in_one_place() -> None:
    """By `write_rows`, and by no writer of Python or pandas."""
    files = [
        *Path(meco_hub.__file__).parent.rglob("*.py"),
        *(HERE / "benchmarks").rglob("*.py"),
        *(HERE / "examples").rglob("*.py"),
    ]
    files += (HERE / "plugins").glob("*/src/**/*.py")
    found = {
        path.name
        for path in files
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute)
        and (node.attr == "to_csv" or (node.attr in ("writer", "DictWriter") and ast.unparse(node.value) == "csv"))
    }
    assert not found
