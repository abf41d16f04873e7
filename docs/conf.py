"""The documentation site: `make docs` builds it, strictly, from this folder and without a network.

The pages are the Markdown files that one reads in the repository as well, so their links are the repository's. Here a link to a
page outside this folder (CONTRIBUTING.md, a model card) leads to a copy of that page below `generated/`, and a link to source code
becomes its name. The API reference is made of `meco_hub.__all__`.
"""

import inspect
import os
import re
import shutil
from pathlib import Path

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

import meco_hub

DOCS = Path(__file__).parent.resolve()
REPOSITORY = DOCS.parent
GENERATED = DOCS / "generated"
OUTSIDE = [
    REPOSITORY / "CONTRIBUTING.md",
    REPOSITORY / "CHANGELOG.md",
    REPOSITORY / "SECURITY.md",
    REPOSITORY / "benchmarks" / "README.md",
    *sorted((REPOSITORY / "model_cards").glob("*.md")),
]
"""Pages of the repository that are part of the site too."""

project = "meco_hub"
author = "The meco_hub authors"
copyright = f"2026, {author}. Apache-2.0"
version = release = meco_hub.__version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"meco_hub {release}"
html_show_sphinx = False
nb_execution_mode = "off"  # the slow tests run the tutorials; what they printed is in them
nb_ipywidgets_js = {}  # its default is loaded from a server
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4
suppress_warnings = ["myst.header"]  # the cards begin sections at the second level
default_role = "code"  # a name between single backticks in a docstring
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False
napoleon_google_docstring = True
napoleon_use_rtype = False

_LINK = re.compile(r"(?<!!)\[(?P<text>[^\]\n]*)\]\((?P<target>[^)\s]+)\)")


def copy_of(page: Path) -> Path:
    """Where the copy of an outside page stands."""
    name = page.name if page.name != "README.md" else f"{page.parent.name}.md"
    return GENERATED / name


def relink(text: str, origin: Path, place: Path) -> str:
    """The links of a page that stands at `origin` in the repository and at `place` on the site."""

    def change(match: re.Match[str]) -> str:
        target, _, anchor = match["target"].partition("#")
        if "://" in target or target.startswith("mailto:") or not target:
            return match[0]
        wanted = (origin.parent / target).resolve()
        here = copy_of(wanted) if wanted in OUTSIDE else wanted
        if wanted == REPOSITORY / "README.md":
            here = DOCS / "index.md"
        elif wanted == REPOSITORY / "model_cards":
            here = DOCS / "models.md"
        if not here.is_relative_to(DOCS):
            return f"`{match['text'].strip('`')}`"
        return f"[{match['text']}]({os.path.relpath(here, place.parent)}{'#' + anchor if anchor else ''})"

    return _LINK.sub(change, text)


def copy_outside_pages(app: Sphinx) -> None:
    """CONTRIBUTING.md, the cards and the like, without the metadata that the Hub reads."""
    shutil.rmtree(GENERATED, ignore_errors=True)
    GENERATED.mkdir()
    for page in OUTSIDE:
        text = re.sub(r"\A---\n.*?\n---\n", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        copy_of(page).write_text(relink(text, page, copy_of(page)), encoding="utf-8")


def relink_page(app: Sphinx, name: str, source: list[str]) -> None:
    """Links of our own pages."""
    for page in (DOCS / f"{name}.md", DOCS / f"{name}.ipynb"):
        if page.is_file() and not page.is_relative_to(GENERATED):
            source[0] = relink(source[0], page, page)


class PublicNames(SphinxDirective):
    """Every name of `meco_hub.__all__`, documented by its docstring: functions first, then classes."""

    def run(self) -> list[nodes.Node]:
        lines: list[str] = []
        names = [name for name in meco_hub.__all__ if not name.startswith("__")]
        for name in sorted(names, key=lambda name: (inspect.isclass(getattr(meco_hub, name)), name.lower())):
            value = getattr(meco_hub, name)
            kind = "class" if inspect.isclass(value) else "function" if callable(value) else "data"
            lines += [name, "-" * len(name), "", f".. auto{kind}:: meco_hub.{name}", ""]
            if kind == "class":
                own = [
                    key
                    for key, member in vars(value).items()
                    if not key.startswith("_")
                    and inspect.isfunction(inspect.unwrap(getattr(member, "__func__", member)))
                ]
                lines[-1:] = [f"   :members: {', '.join(own)}", ""] if own else [""]
        section = nodes.section()
        section.document = self.state.document
        self.state.nested_parse(StringList(lines, source="meco_hub.__all__"), 0, section, match_titles=True)
        return section.children


def escape_docstring(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Docstrings are prose with names between backticks: an asterisk or a trailing underscore elsewhere is not markup."""
    for place, line in enumerate(lines):
        parts = re.sub(r"^(\s*)Args \(.*\):$", r"\1Args:", line).split("`")
        parts[::2] = [re.sub(r"\*|(?<=\w)_(?!\w)", r"\\\g<0>", part) for part in parts[::2]]
        lines[place] = "`".join(parts)


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", escape_docstring, priority=400)  # before napoleon reads it
    app.connect("builder-inited", copy_outside_pages)
    app.connect("source-read", relink_page)
    app.add_directive("public-names", PublicNames)
