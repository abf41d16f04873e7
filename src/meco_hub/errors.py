"""The tree of errors that meco_hub raises.

    MecoError
    ├── InputError (ValueError)          what was handed in cannot be used
    │   ├── ImageError                   … as an image: unreadable, too large, wrong type or range
    │   ├── FaceNotFoundError            … an image was read, but no face was found in it
    │   ├── DoubtfulInputError           … without doubt: it could be answered, but the caller asked for no doubtful answers
    │   └── RecordingError               … as signals or events: a file, stream or clock that cannot be read or used
    ├── CheckpointError                  a model folder that is incomplete, unsafe or not ours
    ├── UnknownNameError (KeyError)      a checkpoint, corpus, recipe, label or architecture nobody registered
    ├── PluginError (ImportError)        a plugin that fails to load, or two that claim one name
    ├── DependencyError (ImportError)    an optional package is needed and missing
    ├── ConfigurationError (ValueError)  a recipe, a flag or a config field that makes no sense
    ├── CorpusError (ValueError)         a data folder that is not laid out as its corpus is
    │   └── LeakError                    one person, trial or picture on both sides of a split
    ├── ConversionError (ValueError)     foreign weights that do not fit the architecture
    ├── CardError (ValueError)           a model card that cannot be rendered or must not be published as it is
    ├── PublishingError                  a push that was refused before it began, or that the Hub did not take
    └── TrainingInterrupted              a signal told a training to stop, and it did, after writing a checkpoint

Every message says what was seen, what was expected and what to do, in that order, and names the file where there is one.
Where a caller would expect a built-in error, the class derives from it too, so that generic handlers keep working.
"""

import difflib
import importlib
import operator
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

QUOTED, _LONGEST = 200, 2000
LARGEST = 1 << 20
"""No size, count or length in a config, a recipe or a flag is larger: nothing is allocated on the word of who wrote it."""


_COMPARED, _MOST_COMPARED = 1000, 1 << 23
"""Characters of a name that are compared with others, and pairs of them in all: a file may hold a million names that are alike."""


def quote(value: object, most: int = QUOTED) -> str:
    """A text that a stranger wrote as messages show it: its first `most` characters, with control characters escaped."""
    text = str(value)
    shown = visible(text[:most])
    return shown if len(text) <= most else f"{shown}… ({len(text)} characters)"


def limit_length(message: str) -> str:
    """A message, which never is longer than a screen: whatever it lists or quotes, a file must not choose its length."""
    if len(message) <= _LONGEST:
        return message
    return f"{message[: _LONGEST // 2]} … {message[-_LONGEST // 4 :]}"


class MecoError(Exception):
    """Root of every error that meco_hub raises on purpose."""

    def __init__(self, *arguments: object) -> None:
        # names that a stranger chose stand in it, and whoever prints a traceback would obey them; a line break is often meant
        shown = (
            "\n".join(map(visible, limit_length(one).split("\n"))) if isinstance(one, str) else one for one in arguments
        )
        super().__init__(*shown)


class InputError(MecoError, ValueError):
    """What was handed in cannot be used."""


class ImageError(InputError):
    """An image that cannot be read or has a type, size or range that cannot be used."""


class FaceNotFoundError(InputError):
    """An image was read, but the face finder found no face in it."""


class DoubtfulInputError(InputError):
    """An answer would have warnings in it, and the caller asked for none such (`on_warning="raise"`)."""


class RecordingError(InputError):
    """Signals or events that cannot be read or used; the message names file and stream."""


class CheckpointError(MecoError):
    """A model folder that is incomplete, unsafe to load, or not of a registered architecture.

    Not an OSError on purpose: transformers' pipelines catch OSError, ValueError, TypeError and RuntimeError while they load a
    model, and bury the message in a longer one.
    """


class UnknownNameError(MecoError, KeyError):
    """A name nobody registered; the message offers the nearest ones."""

    def __str__(self) -> str:  # KeyError would print the repr of its argument, quotes and escapes included
        return str(self.args[0]) if self.args else ""


class PluginError(MecoError, ImportError):
    """A plugin that fails to load, or two distributions that claim one name."""


class DependencyError(MecoError, ImportError):
    """An optional package is needed for what was asked, and missing."""


class ConfigurationError(MecoError, ValueError):
    """A recipe, a flag or a config field that makes no sense."""


def require_count(name: str, value: Any, advice: str = "Correct it.", *, least: int = 1, most: int = LARGEST) -> int:
    """A setting that counts something, held to limits before anything is made by it.

    Raises:
        ConfigurationError: it is no whole number from `least` to `most`.
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool) or not least <= number <= most:
        raise ConfigurationError(
            f"{name} is {quote(repr(value))}; expected a whole number from {least} to {most}. {advice}"
        )
    return number


def require_steps(name: str, seconds: float, step: float, *, most: int = 1 << 14) -> int:
    """How many steps of a grid a time has, held to limits before anything is made by them.

    Args:
        name: of the setting that says the time.
        seconds, step: of the time, and of a step; positive.
        most: steps; layers that compare all with all take the square of it.

    Raises:
        ConfigurationError: no whole number of them, or more than `most`.
    """
    steps = seconds / step
    if not 0.5 < steps < most + 0.5 or abs(steps - round(steps)) > 1e-6:
        raise ConfigurationError(
            f"{name} {seconds:g} is {steps:g} grid steps of {step:g} s; expected a whole number from 1 to {most}. Change either."
        )
    return round(steps)


class CorpusError(MecoError, ValueError):
    """A data folder or file that is not laid out as its corpus is."""


class LeakError(CorpusError):
    """One person, trial or picture stands on both sides of a split."""


class ConversionError(MecoError, ValueError):
    """Foreign weights that do not fit the architecture."""


class CardError(MecoError, ValueError):
    """A model card that cannot be rendered (no limits, a broken card.yaml), or must not be published as it is."""


class PublishingError(MecoError):
    """A push that was refused before it began, or that the Hub did not take.

    It is raised free of the exceptions that led to it: those hold requests, whose headers carry the user's token.

    Args:
        message: what was seen, whether the remote changed, and what to do.
        remote_changed: whether the branch pushed to holds anything of this push; None when that could not be found out.

    Attributes:
        remote_changed: as above.
    """

    def __init__(self, message: str, remote_changed: bool | None = False) -> None:
        super().__init__(message)
        self.remote_changed = remote_changed


class TrainingInterrupted(MecoError):
    """A signal told a training to stop, and it did, after writing a checkpoint.

    Args:
        message: what was written, and how to go on.
        signal_number: which signal it was.

    Attributes:
        exit_code: 128 + the signal's number, as a shell reports it.
    """

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.signal_number = signal_number
        self.exit_code = 128 + signal_number


def suggest(name: object, known: Iterable[str], count: int = 3, cutoff: float = 0.5) -> str:
    """ " Did you mean 'raf_db'?", with a space in front, for a name that is close to known ones; empty where none is.

    Args:
        name: as given.
        known: all names that would have worked.
        count: how many are offered at most.
        cutoff: how alike they must be, 0…1 (`difflib.get_close_matches`).
    """
    wanted = str(name)[:_COMPARED]
    match = difflib.SequenceMatcher(b=wanted)
    bounds: list[tuple[float, str]] = []
    for one in known:
        match.set_seq1(one[:_COMPARED])
        if match.real_quick_ratio() >= cutoff and (bound := match.quick_ratio()) >= cutoff:
            bounds.append((bound, one))
    best: list[tuple[float, str]] = []
    work = 0
    for bound, one in sorted(bounds, reverse=True):  # no name is nearer than its bound
        if work > _MOST_COMPARED or (len(best) >= count and bound < best[-1][0]):
            break
        match.set_seq1(one[:_COMPARED])
        work += len(one[:_COMPARED]) * len(wanted)
        if (ratio := match.ratio()) >= cutoff:
            best = sorted([*best, (ratio, one)], reverse=True)[:count]
    near = [one for _, one in best]
    return f" Did you mean {' or '.join(map(repr, near))}?" if near else ""


def unknown_name(kind: str, name: str, known: Iterable[str], hint: str = "") -> UnknownNameError:
    """Build the error for a name nobody registered, with the nearest known names.

    Args:
        kind: what the name should have named, in words ("checkpoint", "corpus", "recipe key").
        name: the name as given.
        known: all names that would have worked.
        hint: one more sentence on what to do.
    """
    known = sorted(known)
    listing = f" Known: {', '.join(known)}." if known else f" No {kind} is registered."
    offer = suggest(name, known)
    return UnknownNameError(f"There is no {kind} named {name!r}.{offer}{listing}{' ' + hint if hint else ''}")


_UNSEEN = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""What moves a terminal's cursor, colours, ends or turns a line, or is no character at all."""


def visible(text: object) -> str:
    """A text as one line that a terminal shows and does not obey: line breaks and escape codes as JSON writes them, \\u001b.

    Names of files, and whatever else a file says, go through here before anybody sees them.
    """
    return _UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", str(text))


_EXTRAS = {
    "accelerate": "train",
    "datasets": "train",
    "jinja2": "cards",
    "markdown_it": "cards",
    "matplotlib": "report",
    "neurokit2": "presets",
    "onnx": "onnx",
    "onnxruntime": "onnx",
    "onnxscript": "onnx",
    "pandas": "signals",
    "pyarrow": "train",
    "scipy": "signals",
    "sklearn": "train",
    "yaml": "train",
}
"""Package → the extra of ours that brings it, for packages without which whole commands do not run."""


@contextmanager
def naming_extras() -> Iterator[None]:
    """Turn the error of an import that fails for want of an extra into one that names the extra. A decorator, too.

    Raises:
        DependencyError: a package that an extra of ours brings is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _EXTRAS:
            raise
        raise DependencyError(
            f'{package} is not installed, and what was asked needs it. Run `pip install "meco-hub[{_EXTRAS[package]}]"`.'
        ) from error


def import_optional(module: str, purpose: str, extra: str, package: str = "") -> Any:
    """Import what an extra installs.

    Args:
        module: its name, "lz4.frame" for one.
        purpose: what needs it, as the beginning of a sentence: "Reading S01.edf".
        extra: of meco-hub, that brings it.
        package: what people call it, where that is not the module's first name.

    Raises:
        DependencyError: it is not installed, or does not load, as where the wheel lacks the library that it wraps.
    """
    needed = f"{purpose} needs {package or module.partition('.')[0]}, which"
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise DependencyError(f'{needed} is not installed. Run: pip install "meco-hub[{extra}]"') from error
    except (OSError, RuntimeError) as error:
        said = str(error).partition("\n")[0].rstrip(". ")
        raise DependencyError(
            f"{needed} is installed and does not load: {said}. Install what it asks for, or another version of it."
        ) from error
