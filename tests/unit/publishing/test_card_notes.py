"""card.yaml: what is stated is read, what is misspelt is refused, what is missing is told."""

from pathlib import Path

import pytest

from meco_hub.errors import CardError
from meco_hub.publishing.card import write_form
from meco_hub.publishing.card_notes import CardNotes, list_gaps, read_notes

WHOLE = """
summary: One sentence.
licence: cc-by-4.0
training_data:
  synthetic: true
  text: Drawn.
  sources: [{name: A, role: pictures, licence: MIT}]
who_is_missing: Everybody.
limits: [Some.]
evaluation: {command: meco evaluate x}
figures:
  - {title: T, of: recipe, command: c, dataset: d, columns: [RMSE], rows: {ours: [1.5], theirs: [null]}}
"""


def _write(folder: Path, text: str) -> Path:
    (folder / "card.yaml").write_text(text, encoding="utf-8")
    return folder


def test_what_is_stated_is_read(tmp_path: Path) -> None:
    notes = read_notes(_write(tmp_path, WHOLE))
    assert notes.training_data.synthetic is True
    assert notes.training_data.sources[0].role == "pictures"
    assert notes.figures[0].rows == {"ours": [1.5], "theirs": [None]}
    assert list_gaps(notes, has_report=True) == {}


def test_without_a_file_nothing_is_stated(tmp_path: Path) -> None:
    notes = read_notes(tmp_path)
    assert notes == CardNotes()
    gaps = list_gaps(notes, has_report=True)
    assert {"summary", "licence", "training_data.synthetic", "limits", "who_is_missing", "evaluation.command"} <= set(
        gaps
    )
    assert "evaluation.command" not in list_gaps(notes, has_report=False)


def test_the_form_invents_nothing(tmp_path: Path) -> None:
    file = write_form(tmp_path)
    assert read_notes(tmp_path) == CardNotes()
    with pytest.raises(FileExistsError):
        write_form(tmp_path)
    assert "null" in file.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("limit: [x]", "'limit', which nobody reads. Did you mean 'limits'"),
        ("limits: []", "empty limits"),
        ("limits: ['']", "empty limits"),
        ("limits: one", "limits is 'one'; expected a list"),
        ("summary: [x]", "expected text"),
        ("training_data: {synthetic: perhaps}", "expected true or false"),
        ("training_data: {sources: [{name: A, role: pictures}]}", "lacks licence"),
        ("licence: other", "without licence_name"),
        ("pictures: [{file: no.png, text: t}]", "'no.png', which is not in"),
        ("figures: [{title: T, of: us, command: c, dataset: d, columns: [], rows: {}}]", "expected 'checkpoint' or 'recipe'"),
        ("figures: [{title: T, of: recipe, command: c, dataset: d, columns: [a, b], rows: {x: [1]}}]", "1 values for 2 columns"),
        ("figures: [{title: T, of: recipe, command: c, dataset: d, columns: [a], rows: {x: [best]}}]", "expected float or int"),
        ("a: [", "cannot be read"),
        ("- x", "expected a mapping"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(CardError) as caught:
        read_notes(_write(tmp_path, text))
    assert message in str(caught.value)
    assert "card.yaml" in str(caught.value)
