"""`card.yaml`: what no run knows of a checkpoint, written by hand beside its weights.

    summary: Five expressions of one face.
    licence: apache-2.0                       # of the weights, as the Hub spells it
    training_data:
      synthetic: false
      text: Where the data come from and how they were divided.
      sources: [{name: …, role: pictures, licence: …}]
    who_is_missing: …
    limits: [ … ]

What is left out or null is *not stated*: a card says so in these words, and invents nothing. Keys that nobody knows are errors,
for a misspelt `limits` would be no limits.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ..errors import CardError
from ..reading import read_yaml
from ..typed_yaml import FieldReader

FILE = "card.yaml"


@dataclass(frozen=True)
class Source:
    """One thing that went into the weights: a data set, its labels, a teacher, initial weights.

    Attributes:
        role: what it was used as: "pictures", "labels", "signals", "teacher", "initial weights" …
        hub_id: its id on the Hub ("owner/name"), where it has one.
    """

    name: str
    role: str
    licence: str
    citation: str = ""
    url: str = ""
    hub_id: str = ""


@dataclass(frozen=True)
class TrainingData:
    """What the weights were trained on. `synthetic`: drawn or generated, of nobody; None: not stated."""

    synthetic: bool | None = None
    text: str = ""
    sources: tuple[Source, ...] = ()


@dataclass(frozen=True)
class Evaluation:
    """How `report.json` came about: the command that prints it again, on what data in words, and what to know of it."""

    command: str
    dataset: str = ""
    text: str = ""


@dataclass(frozen=True)
class Figures:
    """A table of figures that `report.json` does not hold.

    Attributes:
        of: "checkpoint" (these weights) or "recipe" (other weights that the same recipe trained).
        command: prints every value.
        rows: name → one value a column; None where it was not measured.
    """

    title: str
    of: Literal["checkpoint", "recipe"]
    command: str
    dataset: str
    columns: tuple[str, ...]
    rows: dict[str, list[float | int | None]]
    text: str = ""


@dataclass(frozen=True)
class Picture:
    """A picture beside the weights, and what it shows, for those who do not see it."""

    file: str
    text: str


@dataclass(frozen=True)
class CardNotes:
    """What `card.yaml` says; see the module and `templates/card.yaml`. Empty where nothing is stated."""

    name: str = ""
    summary: str = ""
    licence: str = ""
    licence_name: str = ""
    licence_link: str = ""
    licence_note: str = ""
    training_data: TrainingData = field(default_factory=TrainingData)
    who_is_missing: str = ""
    limits: tuple[str, ...] = ()
    intended_use: tuple[str, ...] = ()
    not_for: tuple[str, ...] = ()
    call: str = ""
    call_note: str = ""
    evaluation: Evaluation | None = None
    figures: tuple[Figures, ...] = ()
    pictures: tuple[Picture, ...] = ()
    base_model: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    more: str = ""


def read_notes(folder: Path) -> CardNotes:
    """What a checkpoint's `card.yaml` says; nothing stated when there is none.

    Raises:
        CardError: it is no YAML, has unknown keys or wrong types, or says that there are no limits.
    """
    file = folder / FILE
    if not file.is_file():
        return CardNotes()
    content = read_yaml(file, CardError, "Expected YAML; `meco card` writes a form to fill in.")

    def refuse(path: str, problem: str) -> CardError:
        return CardError(f"{file}{': ' if path else ''}{path} {problem}. Correct it.")

    # null is: not stated
    notes = FieldReader(refuse, skip_null=True).read(CardNotes, {} if content is None else content)
    if content and content.get("limits") is not None and not any(one.strip() for one in notes.limits):
        raise CardError(
            f"{file} states empty limits. Every model has some: write where this one fails, or leave the key out."
        )
    for figures in notes.figures:
        for name, row in figures.rows.items():
            if len(row) != len(figures.columns):
                raise CardError(
                    f"{file}: row {name!r} of {figures.title!r} has {len(row)} values for {len(figures.columns)} columns. "
                    "Write null where nothing was measured."
                )
    if notes.licence == "other" and not (notes.licence_name and notes.licence_link):
        raise CardError(
            f"{file} has the licence 'other' without licence_name and licence_link. Say which one it is, and where."
        )
    for picture in notes.pictures:
        if not (folder / picture.file).is_file():
            raise CardError(
                f"{file} names the picture {picture.file!r}, which is not in {folder}. Add it, or take it out."
            )
    return notes


def list_gaps(notes: CardNotes, *, has_report: bool) -> dict[str, str]:
    """What `card.yaml` leaves open and a reader needs to know: key → what to write."""
    data = notes.training_data
    needed = [
        ("summary", notes.summary, "one sentence: what goes in, what comes out"),
        (
            "licence",
            notes.licence,
            "licence of these weights, as the Hub spells it (apache-2.0, cc-by-nc-4.0, other …)",
        ),
        ("training_data.synthetic", data.synthetic is not None, "true or false"),
        ("training_data.text", data.text, "what the data are, how many, how they were divided"),
        ("training_data.sources", data.sources, "name, role and licence of each"),
        ("who_is_missing", notes.who_is_missing, "people who are few or absent in these data"),
        ("limits", notes.limits, "where this checkpoint fails, one item each"),
        ("evaluation.command", notes.evaluation or not has_report, "the command that wrote report.json"),
    ]
    return {key: what for key, stated, what in needed if not stated}
