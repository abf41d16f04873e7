"""Words that must never be seen: tokens and keys, found in what is published and blotted out of what is said.

This file knows what secrets look like.
"""

import re
from collections.abc import Iterable

_PATTERNS = {
    "a Hugging Face token": rb"\b(?:hf|api_org)_[A-Za-z0-9]{16,}",
    "a GitHub token": rb"\b(?:gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{30,})",
    "an AWS access key": rb"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    "an API key": rb"\bsk-[A-Za-z0-9_-]{32,}",
    "a private key": rb"-----BEGIN [A-Z ]*PRIVATE KEY-----",
}
_COMPILED = {name: re.compile(pattern) for name, pattern in _PATTERNS.items()}
_IN_URL = re.compile(r"(?<=://)[^/\s@'\"]+@|(?<=[\w/=-])\?[^\s'\"<>)]+")
"""User and password of a URL, and its query: that of a signed upload address is a key to it."""

_SHORTEST = 8
"""Characters; a shorter word of the user's would be found everywhere."""

HIDDEN = "***"


class Secret(str):
    """A token that does not show itself where local variables are printed."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(HIDDEN)


def find_secret(content: bytes, known: Iterable[str] = ()) -> str | None:
    """What kind of secret a file holds, in words, or None."""
    for name, pattern in _COMPILED.items():
        if pattern.search(content):
            return name
    if any(len(word) >= _SHORTEST and word.encode() in content for word in known):
        return "the token of this push"
    return None


def blot_out(text: str, known: Iterable[str] = ()) -> str:
    """A text without secrets: a server may repeat what it was sent."""
    for word in known:
        if len(word) >= _SHORTEST:
            text = text.replace(word, HIDDEN)
    text = _IN_URL.sub("", text)
    for pattern in _COMPILED.values():
        text = re.sub(pattern.pattern.decode(), HIDDEN, text)
    return text
