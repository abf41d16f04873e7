"""The names of a new plugin: all of them follow from the one that its author chose.

    PluginNames.of("my-model").distribution      # meco-my-model; the package is meco_my_model, the config MecoMyModelConfig

This file knows how a plugin's names hang together, and which of them are taken.
"""

import importlib.util
import re
from dataclasses import dataclass

from .. import __version__, discovery, plugins
from ..errors import ConfigurationError, PluginError

_PATTERN = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_LONGEST = 40


@dataclass(frozen=True)
class PluginNames:
    """What things are called in a plugin.

    Attributes:
        words: the name as given, in small letters and hyphens, without "meco".
    """

    words: str

    @staticmethod
    def of(name: str) -> "PluginNames":
        """The names that follow from one; "My_Model", "my-model" and "meco-my-model" are the same.

        Raises:
            ConfigurationError: no distribution and no class can be called so.
        """
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
        return {
            "distribution": self.distribution,
            "package": self.package,
            "model_type": self.package,
            "module": self.module,
            "prefix": self.prefix,
            "title": self.title,
            "core_requirement": core_requirement(),
        }

    def refuse_taken(self) -> None:
        """Make sure that nothing is called so yet.

        Raises:
            PluginError: something is; the message names it.
        """
        known = plugins.architectures()
        broken = {plugin.name: plugin.distribution for plugin in known.broken}
        owner = known.distributions.get(self.package) or broken.get(self.package)
        if owner is None and discovery.installed_version(self.distribution) is not None:
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


def core_requirement(version: str = __version__) -> str:
    """What a plugin that is written today requires: this version of the core or newer ones with the same contract."""
    major, minor = (int(part) for part in version.split(".")[:2])
    following = f"{major}.{minor + 1}" if major == 0 else f"{major + 1}"
    return f"{discovery.CORE}>={version},<{following}"
