"""What a corpus is: a name, an order of labels, and a reader that turns a folder on disk into a `datasets.DatasetDict`.

Each corpus has a module of its own beside this one, which exposes `corpus`; the entry-point group `meco_hub.corpora` lists
them, and other distributions may add theirs the same way. Reading such an entry point is cheap: neither numpy nor `datasets`
is imported before `Corpus.load` is called.

    from meco_hub.corpora.fer2013 import corpus
    splits = corpus.load("~/data/fer2013")             # DatasetDict: train, validation, test
    splits["train"].features["label"].names            # the label order, always by name

No corpus is downloaded, and nothing is written: tables live in memory and point at the pictures where they lie.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ..errors import ConfigurationError, CorpusError, PluginError, RecordingError, suggest
from ..labels import LabelSpace
from ..plugins import load_dotted
from ..reading import reading, refuse_special
from .synthetic.marker import is_synthetic

if TYPE_CHECKING:
    import datasets

    from .splits import Protocol

__all__ = ["FACE_COLUMNS", "SYNTHETIC_NOTE", "Corpus", "Target"]

SYNTHETIC_NOTE = "Synthetic: drawn by a program, of nobody."
"""What descriptions of synthetic data say."""

FACE_COLUMNS = ("image", "label", "identity", "fold", "sample_id")
"""Columns that every split of a corpus of kind "face" has; see `Corpus.load`."""

_COLUMNS = ("identity", "fold", "sample_id")
"""Columns that every split of any corpus has."""


@dataclass(frozen=True)
class Target:
    """A value that is predicted: its name and the scale on which it was rated.

    Models see it as (value − centre) / half-range, which lies in [−1, 1].
    """

    name: str
    low: float
    high: float

    @property
    def center(self) -> float:
        return (self.low + self.high) / 2

    @property
    def halfrange(self) -> float:
        return (self.high - self.low) / 2


@dataclass(frozen=True)
class Corpus:
    """A data set that can be read from disk.

    Attributes:
        name: its name in recipes and on the command line ("raf_db").
        kind: what one sample is: "face", "eye" or "signals".
        labels: the classes in the corpus's own official order; None when the folder names them. A reader's options may
            drop classes, so the order that holds is the one in the loaded split's `label` feature.
        description: one paragraph: what it is and what to know before quoting a figure.
        layout: what is expected on disk, in words; error messages repeat it.
        loader: dotted path "package.module:function" of the reader, called as `function(path, **options)`.
        options: name of each option the loader takes, and what it does.
        citation: whom to cite.
        licence: under which terms its owners give it out.
        reader: dotted path of `read(row) -> recording`; a face needs none, its picture is the recording.
        targets: what is predicted when it is values and not classes, in order.
        streams: of signals, the sensors that everybody wore, as the reader names them by default; conditions are drawn over them.
        time_continuous: the targets run over time, in the `annotations` of each recording.
        scored_seconds: from when to when within each recording the official metric counts.
        groups: string columns that reports are broken down by ("lighting").
        nuisances: columns that the design of the study shares between people, or between the sides of a division, and that may tell
            what is asked for without a look at anybody: the stimulus, the minute of the session, the light, the person. Words, or
            numbers that are equal where they are shared. Reports set predictors beside the model that are told nothing else.
        protocols: dotted path of a mapping from the value of the option `split` to the `splits.Protocol` that such a division
            is, its default first; reports say what the division that a corpus publishes may claim.
        declared_by: dotted path of `declare(path, **options) -> {field: value}` of a corpus whose targets, nuisances or groups only
            its folder says; `Corpus.declared_in` asks it.
        synthetic: these data were drawn by a program; `declared_in` finds the mark that `meco synthetic` leaves in them.
        suspicious_above: concordance (CCC) beyond which a figure is a bug or a leak until it is proved otherwise; reports warn.
    """

    name: str
    kind: str
    labels: LabelSpace | None
    description: str
    layout: str
    loader: str
    options: Mapping[str, str] = field(default_factory=dict, hash=False)
    citation: str = ""
    licence: str = ""
    reader: str = ""
    targets: tuple[Target, ...] = ()
    streams: tuple[str, ...] = ()
    time_continuous: bool = False
    scored_seconds: tuple[float, float] | None = None
    groups: tuple[str, ...] = ()
    nuisances: tuple[str, ...] = ()
    protocols: str = ""
    declared_by: str = ""
    synthetic: bool = False
    suspicious_above: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", MappingProxyType(dict(self.options)))

    def declared_in(self, data_dir: str | PathLike[str], **options: Any) -> "Corpus":
        """The corpus as this folder of it is: synthetic or not, with its targets, nuisances and groups where the folder says them.

        Arguments and errors as of `load`.
        """
        self._check_options(options)
        declare = self._function(self.declared_by) if self.declared_by else None
        with self._opened(data_dir) as root:
            found = declare(root, **options) if declare is not None else {}
            return replace(self, synthetic=self.synthetic or is_synthetic(root), **found)

    def load(self, data_dir: str | PathLike[str], **options: Any) -> "datasets.DatasetDict":
        """Read the corpus.

        Args:
            data_dir: the folder of the corpus, or a zip of it.
            **options: those listed in `options`, no others.

        Returns:
            Splits with the columns `identity` (str, "" where unknown), `fold` (int32, −1 where unknown), `sample_id` (str,
            unique in the corpus and stable: the path inside it, or a row's number), what is to be predicted — `label`
            (ClassLabel with canonical names), or `targets` (floats in native units, NaN unknown), or neither when it runs over
            time — and what else the corpus carries. Faces have `image` (undecoded: {"bytes", "path"}, a zip member's path
            being `zip://inner/name.jpg::/abs/outer.zip`). Optional columns with a meaning: `trial` and `stimulus` (str, ""
            unknown); `source`, `start_s`, `end_s`, when rows are parts of one physical recording; `content_sha256`, or `files`
            whose bytes are the row's content, for the leak check.

        Raises:
            ConfigurationError: an option that the corpus does not have, or a value that it does not take.
            CorpusError: the folder is not laid out as the corpus is.
            PluginError: the corpus comes from a plugin whose reader is missing or breaks this contract.
        """
        self._check_options(options)
        load = self._function(self.loader)
        with self._opened(data_dir) as root:
            splits = load(root, **options)
        declared = self.declared_in(data_dir, **options)
        declared._check(splits)
        for split in splits.values():
            note = split.info.description
            drawn = SYNTHETIC_NOTE if declared.synthetic else ""
            split.info.description = " ".join(text for text in (declared.description, note, drawn) if text)
            split.info.citation = declared.citation
            split.info.license = declared.licence
        return splits

    def read(self, row: Mapping[str, Any]) -> Any:
        """The recording of one row, as a processor takes it: a picture, an eye clip or signals.

        Raises:
            InputError, CorpusError: it cannot be read.
            PluginError: the function that reads it is missing.
        """
        if self.reader:
            read = self._function(self.reader)
            with reading(f"{row.get('sample_id')} of {self.name} cannot be read", RecordingError):
                return read(row)
        from ..recordings.images import read_image

        return read_image(row["image"])

    def own_protocol(self, options: Mapping[str, Any]) -> "Protocol | None":
        """What the corpus's own division may claim, loaded with these options; None where it makes no claim."""
        if not self.protocols:
            return None
        known: Mapping[str, Protocol] = load_dotted(self.protocols)
        return known[options.get("split", next(iter(known)))]

    @property
    def namespace(self) -> str:
        """Whose names its people have: "S01" of one corpus is nobody of another, and a drawn one is nobody at all."""
        return f"{self.name} (synthetic)" if self.synthetic else self.name

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that every split has."""
        if self.kind == "face":
            return FACE_COLUMNS
        return _COLUMNS if self.time_continuous else ("targets" if self.targets else "label", *_COLUMNS)

    def _check_options(self, options: Mapping[str, Any]) -> None:
        for option in options:
            if option not in self.options:
                known = f"It takes: {', '.join(self.options)}." if self.options else "It takes none."
                offer = suggest(option, self.options)
                raise ConfigurationError(f"The corpus {self.name!r} has no option {option!r}.{offer} {known}")

    @contextmanager
    def _opened(self, data_dir: str | PathLike[str]) -> Iterator[Path]:
        """The folder or zip, which must be there; whatever goes wrong with it inside becomes an error of ours."""
        root = Path(data_dir).expanduser()
        with reading(f"{root} cannot be read as {self.name}", CorpusError, f"Expected {self.layout}. Copy it again."):
            if not root.exists():
                raise CorpusError(f"{self.name}: {root} does not exist. Expected {self.layout}. Check the path.")
            refuse_special(root, CorpusError, self.layout)
            yield root.absolute()

    def _function(self, path: str) -> Callable[..., Any]:
        try:
            return load_dotted(path)
        except ImportError as error:
            raise PluginError(
                f"The reader of the corpus {self.name!r}, {path!r}, cannot be imported: {error}. Fix or reinstall "
                "the distribution that provides it."
            ) from error

    def _check(self, splits: "datasets.DatasetDict") -> None:
        """Hold a reader to the contract, so that a plugin's slip shows here and not as a wrong figure later."""
        seen: set[str] = set()
        for name, split in splits.items():
            missing = [column for column in self.columns if column not in split.column_names]
            if missing:
                raise PluginError(
                    f"The reader of {self.name!r} gave a split {name!r} without the columns {', '.join(missing)}. "
                    f"Expected {', '.join(self.columns)}. Fix {self.loader}."
                )
            identifiers = split.select_columns(["sample_id"])[:]["sample_id"]
            distinct = set(identifiers)
            if len(distinct) < len(identifiers) or not seen.isdisjoint(distinct):
                raise PluginError(f"The reader of {self.name!r} gives one sample_id twice. Fix {self.loader}.")
            seen |= distinct
