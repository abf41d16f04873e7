"""`meco new`: a plugin of one's own, written from templates; it installs, trains on synthetic data and passes the conformance kit.

    folder = write_plugin("my-model", "face")            # ./meco-my-model, a distribution of that name

    folder = write_plugin("my-corpus", "corpus")         # a reader of a data set, with its entry point and a test

The templates are the files of a plugin as they lie in `templates/`: those below `shared` go into every plugin of an architecture,
those below the kind beside them. `{{word}}` is filled in, PACKAGE and MODULE in paths likewise; `.inc` files are parts that several
templates share.
"""

import importlib.util
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from .. import plugins
from ..durable import files_together
from ..errors import ConfigurationError, PluginError
from ..version import __version__

__all__ = ["CORPUS", "KINDS", "Kind", "PluginNames", "write_plugin"]

_PATTERN = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_LONGEST = 40


@dataclass(frozen=True)
class PluginNames:
    """What things are called in a plugin; all names follow from the one that its author chose.

    Attributes:
        words: the name as given, in small letters and hyphens, without "meco".
    """

    words: str

    @staticmethod
    def of(name: str) -> "PluginNames":
        """The names that follow from one; "My_Model", "my-model" and "meco-my-model" are the same."""
        words = re.sub(r"[\s_.]+", "-", name.strip()).lower().removeprefix("meco-")
        if not _PATTERN.fullmatch(words) or len(words) > _LONGEST or words == "hub":
            raise ConfigurationError(
                f"A plugin cannot be called {name!r}; expected small letters, digits and single hyphens, a letter first, at most "
                f"{_LONGEST} of them: 'my-model'. Choose such a name."
            )
        return PluginNames(words)

    @property
    def distribution(self) -> str:
        """As pip knows it."""
        return f"meco-{self.words}"

    @property
    def package(self) -> str:
        """As Python imports it; the model type is the same."""
        return f"meco_{self.module}"

    @property
    def module(self) -> str:
        """Ending of the modules' names."""
        return self.words.replace("-", "_")

    @property
    def prefix(self) -> str:
        """Beginning of the classes' names. "Meco" is part of it, because transformers looks some classes up by name alone."""
        return "Meco" + "".join(word[:1].upper() + word[1:] for word in self.words.split("-"))

    @property
    def title(self) -> str:
        """For people."""
        return " ".join(word[:1].upper() + word[1:] for word in self.words.split("-"))

    def slots(self) -> dict[str, str]:
        """What templates call them."""
        own = {name: getattr(self, name) for name in ("distribution", "package", "module", "prefix", "title")}
        return own | {"model_type": self.package, "api_version": str(plugins.API_VERSION)}

    def refuse_taken(self) -> None:
        """Make sure that nothing is called so yet."""
        owner = None
        for known, name in ((plugins.architectures(), self.package), (plugins.corpora(), self.module)):
            broken = {plugin.name: plugin.distribution for plugin in known.broken}
            owner = owner or known.distributions.get(name) or broken.get(name)
        if owner is None and plugins.installed_version(self.distribution) is not None:
            owner = self.distribution
        if owner is not None:
            raise PluginError(
                f"The name {self.words!r} is taken: {owner} is installed and provides {self.package!r}. Choose another name, or "
                f"`pip uninstall {owner}` first."
            )
        if importlib.util.find_spec(self.package) is not None:
            raise PluginError(
                f"The name {self.words!r} is taken: there is a package {self.package!r} on the import path. Choose another name."
            )


@dataclass(frozen=True)
class Kind:
    """What differs between plugins for faces, eyes and signals, in words; what differs in code is in the templates.

    Attributes:
        looks_at: after "looks at …".
        corpus: whose look-alike the recipe trains on.
        processors: lines of the `Architecture`.
        tiny: config overrides that make the default network tiny, as Python source.
        who_else: what else people differ by that matters here.
        extras: of the core that its processor needs.
    """

    looks_at: str
    answers: str
    answered: str
    corpus: str
    people: int
    processors: str
    tiny: str
    who_else: str
    example: str
    extras: str = ""

    def slots(self) -> dict[str, str]:
        """What templates call them."""
        return {name: str(value) for name, value in asdict(self).items()} | {
            "draw": self.draw,
            "core": f"{plugins.CORE}{self.extras}>={__version__}",
        }

    @property
    def draw(self) -> str:
        """The command that writes the look-alike."""
        return f"meco synthetic {self.corpus} data --seed 0 --people {self.people}"


_MODULE = "{_PACKAGE}.processing_{{module}}:{{prefix}}"

KINDS = {
    "face": Kind(
        looks_at="the picture of a face",
        answers="expressions",
        answered="neutral, happiness, surprise",
        corpus="image_folder",
        people=40,
        processors=f'    image_processor=f"{_MODULE}ImageProcessor",\n    native_heads=("AutoModelForImageClassification",),',
        tiny='{"image_size": 32, "widths": [4, 8]}',
        who_else="skin, glasses, beards, headwear",
        example='"portrait.jpg"',
    ),
    "eye": Kind(
        looks_at="frames and events of one eye",
        answers="expressions",
        answered="happiness, sadness, anger, disgust, surprise, fear, neutral",
        corpus="see",
        people=12,
        processors=(
            f'    image_processor=f"{_MODULE}ImageProcessor",\n'
            '    feature_extractor="meco_hub.processing.event_voxelizer:EventVoxelizer",\n'
            f'    processor=f"{_MODULE}Processor",\n'
            '    native_heads=("AutoModelForVideoClassification",),'
        ),
        tiny='{"image_size": 32, "widths": [4, 8], "num_frames": 2}',
        who_else="glasses, squint, make-up, light",
        example='{"frames": "clip.mp4", "events": "clip.raw"}',
    ),
    "signals": Kind(
        looks_at="signals of heart, skin and breath",
        answers="values over time",
        answered="valence, arousal",
        corpus="case",
        people=6,
        processors=f'    feature_extractor=f"{_MODULE}SignalWindower",',
        tiny='{"window_s": 4.0, "d_model": 8, "num_layers": 1}',
        who_else="medicines, fitness, skin under the electrodes",
        example='"session.edf"',
        extras="[signals]",
    ),
}
"""What a model can look at."""

CORPUS = "corpus"
"""The kind of a plugin that reads a data set, and has no model."""


_TEMPLATES = Path(__file__).parent / "templates"
_SLOT = re.compile(r"\{\{(\w+)\}\}")


def write_plugin(name: str, kind: str, output: str | Path | None = None) -> Path:
    """Write a plugin.

    Args:
        name: what the model shall be called, in small letters, digits and hyphens: "my-model".
        kind: what it looks at: "face", "eye" or "signals"; or "corpus", for one that reads a data set.
        output: folder that is new or empty; default: named after the distribution, here.
    """
    if kind not in (*KINDS, CORPUS):
        raise ConfigurationError(
            f"kind is {kind!r}; expected {', '.join(KINDS)}, or {CORPUS}. Say what the model shall look at."
        )
    names = PluginNames.of(name)
    names.refuse_taken()
    folder = Path(output) if output is not None else Path(names.distribution)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise PluginError(
            f"{folder} exists and is not empty; expected a place for a new plugin. Name another one with --output, or remove it."
        )
    own = KINDS[kind].slots() if kind in KINDS else {"core": f"{plugins.CORE}[signals,train]>={__version__}"}
    slots = names.slots() | own | {"kind": kind}
    for part in sorted((_TEMPLATES / "shared").glob("*.inc")):
        slots[part.stem] = part.read_text(encoding="utf-8").rstrip("\n")
    with files_together(folder, "pyproject.toml") as staged:
        for side in ("shared", kind) if kind in KINDS else (kind,):
            for template in sorted((_TEMPLATES / side).rglob("*.tmpl")):
                relative = template.relative_to(_TEMPLATES / side).as_posix().removesuffix(".tmpl")
                target = staged / relative.replace("PACKAGE", names.package).replace("MODULE", names.module)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(_fill(template.read_text(encoding="utf-8"), slots), encoding="utf-8")
    return folder


def _fill(text: str, slots: dict[str, str]) -> str:
    """The text with its slots filled, those inside what was filled in too."""
    while _SLOT.search(text):
        text = _SLOT.sub(lambda match: slots[match.group(1)], text)
    return text
