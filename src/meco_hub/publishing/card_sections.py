"""A plugin's hand-written `card.md`: what holds for every checkpoint of an architecture, whoever trained it.

It is Markdown with one `##` heading a section. Who uses a model must be told what it is not for and where it fails, so a card
without limits is an error, not a gap.

This file knows which sections a hand-written card has; it renders none.
"""

import re

from ..errors import CardError

REQUIRED = ("What it is", "Intended use", "Not for", "Limits", "Training data", "Legal note")
"""Sections that every plugin's card has, none of them empty."""

KNOWN = (*REQUIRED, "What it guarantees", "Licences", "How to load")


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

    Args:
        text: the whole `card.md`.
        where: its path, for messages.

    Returns:
        Heading → Markdown.

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
    if "More Information Needed" in text:
        raise CardError(
            f"{where} holds the placeholder [More Information Needed]. Write what is known, or leave it out."
        )
    return sections
