"""The README as its page on a package index, where paths inside this repository lead nowhere: of such links the text stays."""

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

_LOCAL = r"\]\((?!https?://|#)[^)]*\)"


class ReadmeHook(MetadataHookInterface):
    """Sets `readme`, which pyproject.toml declares as dynamic."""

    def update(self, metadata: dict[str, Any]) -> None:
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        text = re.sub(rf"!\[[^]]*{_LOCAL}\n*(\*[^\n]*\*\n*)?", "", text)  # a picture, and the line below it
        text = re.sub(rf"\[([^]]*){_LOCAL}", r"\1", text)
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
