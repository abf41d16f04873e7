"""The model card: a plugin's `card.md`, the run's record, the report and `card.yaml` through one template.

Every figure comes out of a file that a command wrote, or stands in `card.yaml` beside the command that prints it. What
nobody stated is called "not stated"; what a card must not lack (limits) is an error.

A plugin's hand-written `card.md`: what holds for every checkpoint of an architecture, whoever trained it.

It is Markdown with one `##` heading a section. Users of a model must know what it is not for and where it fails, so a card
without limits is an error, not a gap.
"""

import json
import re
from collections import defaultdict
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard
from huggingface_hub.repocard import REGEX_YAML_BLOCK
from jinja2 import Environment, StrictUndefined

from .. import plugins
from ..errors import CardError, import_optional
from ..evaluation.report_file import control_of, describe_control, read_report
from ..plugins import CORE, licence_of
from ..reading import parse_yaml, read_json, reading
from ..weight_files import WEIGHTS, hash_weights
from . import card_tables
from .card_notes import FILE, CardNotes, Picture, list_gaps, read_notes

REQUIRED = ("What it is", "Intended use", "Not for", "Limits", "Training data", "Legal note")
"""Sections that every plugin's card has, none of them empty."""

KNOWN = (*REQUIRED, "What it guarantees", "Licences", "How to load")


_CALLS = {"face": 'recognise("portrait.jpg")', "eye": 'recognise({"frames": "clip.mp4", "events": "clip.aedat4"})'}


def _template(name: str) -> str:
    return files(str(__package__)).joinpath("templates", name).read_text(encoding="utf-8")


def _render(name: str, **values: Any) -> str:
    environment = Environment(
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, undefined=StrictUndefined, autoescape=False
    )
    environment.filters |= {
        "number": card_tables.number,
        "item": card_tables.one_item,
        "figures": card_tables.notes_table,
        "source": card_tables.describe_source,
    }
    return environment.from_string(_template(name)).render(**values)


def _read_json(file: Path, needed: bool = False) -> dict[str, Any] | None:
    if not file.is_file():
        if needed:
            raise CardError(f"{file} is missing; expected a folder that `save_pretrained` or `meco train` wrote.")
        return None
    content = read_json(file, CardError, "Expected what `meco train` or `save_pretrained` wrote.")
    if not isinstance(content, dict):
        raise CardError(f"{file} holds {type(content).__name__}; expected a mapping. Copy the folder again.")
    return content


def _read_report(folder: Path) -> dict[str, Any] | None:
    """The report beside the weights, if it is about these weights."""
    file = folder / "report.json"
    if not file.is_file():
        return None
    report = read_report(file)
    stated, own = report["checkpoint"].get("weights_sha256"), hash_weights(folder)
    if stated and own and own != stated:
        raise CardError(
            f"{file} is about other weights: it names SHA-256 {stated[:12]}…, {WEIGHTS} has {own[:12]}…. Evaluate these, or take "
            "the report away."
        )
    return report


def _sections(entry: plugins.Architecture, notes: CardNotes, where: str) -> dict[str, str]:
    if entry.card is None:
        if not notes.limits:
            raise CardError(
                f"{where} would get a card without limits: the plugin of {entry.model_type!r} has no card.md, and {FILE} states "
                f"none. Write where this checkpoint fails into {FILE}."
            )
        return {}
    file = plugins.resource_folder(entry.card)
    if not file.is_file():
        raise CardError(f"{file}, the hand-written card of {entry.model_type!r}, is missing. Install the plugin again.")
    return read_sections(file.read_text(encoding="utf-8"), str(file))


def _answers(entry: plugins.Architecture, config: Mapping[str, Any]) -> tuple[list[str], str]:
    """Names of what the head answers with, and for values their ranges in words."""
    if entry.base_model.rpartition(":")[2] in (config.get("architectures") or []):
        return [], ""  # it describes, and names nothing
    names = [name for _, name in sorted((config.get("id2label") or {}).items(), key=lambda item: int(item[0]))]
    center, half = config.get("target_center") or [], config.get("target_halfrange") or []
    if config.get("problem_type") != "regression" or not len(names) == len(center) == len(half):
        return names, ""
    return names, "; ".join(
        f"{name} from {middle - width:g} to {middle + width:g}"
        for name, middle, width in zip(names, center, half, strict=True)
    )


def _model_expression(folder: Path, name: str, repo_id: str | None) -> str:
    if repo_id is not None:
        return json.dumps(repo_id)
    bundled = plugins.checkpoints().get(name)
    own = bundled == folder.resolve()
    return f"meco_hub.checkpoint({json.dumps(name)})" if own else json.dumps(f"path/to/{name}")


def _weights_licence(notes: CardNotes) -> str:
    if not notes.licence:
        return "not stated: without a licence nobody but their author may use or pass them on"
    named = f"[{notes.licence_name}]({notes.licence_link})" if notes.licence == "other" else notes.licence
    return f"{named}. {notes.licence_note}" if notes.licence_note else named


def render_card(folder: Path, *, repo_id: str | None = None) -> str:
    """The card of a checkpoint's folder.

    Args:
        folder: config.json beside weights; run.json, report.json and card.yaml where there are any.
        repo_id: where it will lie on the Hub; the card then says how to load it from there.
    """
    folder = folder.resolve()
    remedy = "Its config.json, run.json or report.json is not as it was written. Copy the folder again."
    with reading(f"The card of {folder} cannot be rendered", CardError, remedy):
        return _render_card(folder, repo_id)


def _render_card(folder: Path, repo_id: str | None) -> str:
    config: Mapping[str, Any] = _read_json(folder / "config.json", needed=True) or {}
    entry = plugins.architecture(str(config.get("model_type")))
    notes, run, report = read_notes(folder), _read_json(folder / "run.json"), _read_report(folder)
    sections = _sections(entry, notes, str(folder))
    origin, recorded = str(config.get("training_data") or "").lower(), (run or {}).get("data") or {}
    drawn = "synthetic" in origin or bool(recorded.get("synthetic"))
    if drawn and notes.training_data.synthetic is False:
        raise CardError(
            f"{folder / FILE} says `synthetic: false`, and the weights were trained on synthetic data, as config.json or run.json "
            "says. Expected true. Correct it."
        )
    synthetic = notes.training_data.synthetic or drawn
    control = control_of(config, run)
    name = notes.name or (repo_id.rpartition("/")[2] if repo_id else folder.name)
    labels, ranges = _answers(entry, config)
    metadata = card_tables.build_metadata(entry, notes, name, config, bool(synthetic), control, report, run)
    dataset = (
        notes.evaluation.dataset if notes.evaluation else ""
    ) or f"Corpus `{(report or {}).get('data', {}).get('corpus')}`"
    distribution = plugins.architectures().distributions[entry.model_type]
    body = _render(
        "card.md.jinja",
        title=f"{name}{', trained on synthetic data' * bool(synthetic)}{', a control that learnt nothing' * bool(control)}",
        synthetic=synthetic,
        control=describe_control(control),
        notes=notes,
        description=((run or {}).get("recipe") or {}).get("description") or "",
        model_type=entry.model_type,
        entry_description=entry.description or entry.kind,
        report=report is not None,
        parameters=(run or {}).get("parameters") or ((report or {}).get("checkpoint") or {}).get("parameters"),
        labels=labels,
        ranges=ranges,
        distribution=distribution,
        model_expression=_model_expression(folder, name, repo_id),
        call=notes.call or _CALLS.get(entry.kind, 'recognise("recording.npz")'),
        repo_id=repo_id,
        tested=card_tables.tested_sentence(report, dataset) if report else "",
        headline=(report or {}).get("headline"),
        report_pictures=_report_pictures(folder, notes) if report else [],
        adjustments=card_tables.adjustment_sentences(report) if report else [],
        figures_table=card_tables.figures_table(report) if report else "",
        class_table=card_tables.class_table(report) if report else "",
        report_tables=card_tables.report_tables(report) if report else [],
        validation=card_tables.validation_sentence(run),
        sections=defaultdict(str, sections),
        data_lines=card_tables.data_lines(run),
        training=card_tables.training_lines(run),
        core_licence=licence_of(CORE),
        plugin_licence=licence_of(distribution),
        weights_licence=_weights_licence(notes),
    )
    card = f"---\n{metadata.to_yaml(line_break=chr(10))}\n---\n\n{_tidy(body)}"
    check_card(card, str(folder))
    return card


_SHOWS = {
    "people": "a dot for every person, best first, beside the figure over all and chance",
    "confusion": "confusion matrix: share of every true class by predicted class",
    "reliability": "reliability: how often right, over how sure, with the number of samples",
    "scatter": "answers over ratings",
    "over_time": "ratings and answers over time, of the recording with the median error",
    "degradation": "the figure over the strength of a condition",
}
"""Beginning of a picture's name, as `meco evaluate --pictures` writes it → what it shows, for those who do not see it."""


def _report_pictures(folder: Path, notes: CardNotes) -> list[Picture]:
    """The report's pictures that lie beside it, but those that `card.yaml` shows already."""
    shown = {Path(picture.file).stem for picture in notes.pictures}
    found = []
    for start, text in _SHOWS.items():
        for file in sorted(path for ending in ("png", "svg") for path in folder.glob(f"{start}*.{ending}")):
            match = re.fullmatch(rf"{start}(?:_(\w+))?", file.stem)
            if match and file.stem not in shown:
                shown.add(file.stem)  # as PNG or as SVG, not both
                found.append(Picture(file.name, f"{match[1]}: {text}" if match[1] else text.capitalize()))
    return found


def _tidy(body: str) -> str:
    """One empty line where the template left several, outside code."""
    lines: list[str] = []
    fenced = False
    for line in body.splitlines():
        fenced ^= line.lstrip().startswith("```")
        if fenced or line.strip() or (lines and lines[-1]):
            lines.append(line.rstrip())
    return "\n".join(lines).strip() + "\n"


def check_card(text: str, where: str) -> None:
    """Refuse a card that must not be published.

    Raises:
        CardError: metadata that do not parse or lack what loading needs, no or empty limits, a placeholder left in.
    """
    with reading(f"The card of {where} has metadata that do not parse", CardError, "`meco card` renders sound ones."):
        if (head := REGEX_YAML_BLOCK.search(text)) is not None:
            parse_yaml(head[2])  # which is bounded, as what `ModelCard` does next is not
        data: Any = ModelCard(text, ignore_metadata_errors=False).data
    if data.library_name != "transformers":
        raise CardError(
            f"The card of {where} has library_name {data.library_name!r}; expected transformers, without which pipelines "
            "refuse the repository. `meco card` renders sound metadata."
        )
    if not says_something(split_sections(text).get("Limits", "")):
        raise CardError(
            f"The card of {where} says nothing below ## Limits. Nobody can use a model well without being told where it fails: "
            "write it, or let `meco card` render the card."
        )
    _refuse_placeholder(text, f"The card of {where}")


def _refuse_placeholder(text: str, which: str) -> None:
    if "More Information Needed" in text:
        raise CardError(
            f"{which} holds the placeholder [More Information Needed]. Write what is known, or leave it out."
        )


def split_sections(text: str) -> dict[str, str]:
    """Heading → text, of the `##` headings outside code blocks; empty text where nothing stands below."""
    sections: dict[str, list[str]] = {}
    current: list[str] | None = None
    fenced = False
    for line in text.splitlines():
        fenced ^= line.lstrip().startswith("```")
        heading = None if fenced else re.fullmatch(r"##\s+(.+?)\s*#*", line)
        if heading is not None:
            current = sections.setdefault(heading[1], [])
        elif current is not None:
            current.append(line)
    return {name: "\n".join(lines).strip() for name, lines in sections.items()}


def says_something(text: str) -> bool:
    """There are words in it, not only bullets, rules, comments or headings."""
    bare = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    bare = "\n".join(line for line in bare.splitlines() if not line.lstrip().startswith("#"))
    return re.search(r"\w{3,}", bare) is not None and re.fullmatch(r"\W*(todo|none|n/?a|tbd)\W*", bare, re.I) is None


def read_sections(text: str, where: str) -> dict[str, str]:
    """The sections of a plugin's card.

    Raises:
        CardError: a required section is missing or says nothing, above all the limits; or a placeholder was left in.
    """
    sections = split_sections(text)
    empty = [name for name in REQUIRED if not says_something(sections.get(name, ""))]
    if empty:
        raise CardError(
            f"{where} says nothing below {', '.join(f'## {name}' for name in empty)}; expected a sentence at least. Nobody can "
            "use a model well without being told what it is for and where it fails: write them."
        )
    _refuse_placeholder(text, where)
    return sections


def card_gaps(folder: Path) -> dict[str, str]:
    """What `card.yaml` leaves open and a reader needs to know: key → what to write."""
    return list_gaps(read_notes(folder), has_report=(folder / "report.json").is_file())


def write_form(folder: Path) -> Path:
    """Put an empty `card.yaml`, with what belongs into it, where there is none; gives its path."""
    file = folder / FILE
    with file.open("x", encoding="utf-8") as stream:
        stream.write(_template(FILE))
    return file


def render_html(card: str) -> str:
    """The page of a card; HTML inside the Markdown is shown as text, never run."""
    markdown_it = import_optional("markdown_it", "A card as HTML", "cards", "markdown-it-py")
    parsed = ModelCard(card)
    data = parsed.data.to_dict()
    title = re.search(r"^# (.+)$", parsed.text, re.MULTILINE)
    labels = [str(data[key]) for key in ("library_name", "pipeline_tag", "license") if data.get(key)] + list(
        data.get("tags") or []
    )
    body = markdown_it.MarkdownIt("commonmark", {"html": False}).enable("table").render(parsed.text)
    return _render("card.html.jinja", title=title[1] if title else "Model card", labels=labels, body=body)
