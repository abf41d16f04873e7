"""The rules by which transformers checks the structure of its own models, on ours: transformers-mlinter, pinned.

Its rules for people in transformers' own tree are left out, each with a reason; a rule that finds nothing in ours is not left out.
"""

import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PLUGINS = sorted(path.parent / "src" for path in (REPOSITORY / "plugins").glob("*/pyproject.toml"))

ALSO = "TRF001 TRF002 TRF004 TRF005 TRF007 TRF010 TRF012 TRF013 TRF022 TRF046 TRF048 TRF049 TRF055 TRF056"
"""Rules without which loading, saving or training breaks; enabled whatever the linter's default."""

LEFT_OUT = {
    "TRF023": "widths are called as in the papers; `hidden_size` is a property beside them",
    "TRF028": "the first line names licence and holder; the licence stands in LICENSE, not over every file",
    "TRF033": "`set_label_anchors` fills a parameter from the training labels, which are no hyperparameter",
    "TRF035": "our ruff has rules that theirs has not, and a `noqa` gives its reason",
    "TRF036": "a head of four layers in a row is an nn.Sequential",
    "TRF041": "what a switch is for stands beside its field in the config",
    "TRF045": "what forward takes stands in its signature, for type checkers and readers",
    "TRF057": "docstrings are written by hand; auto_docstring fails outside transformers' tree",
}


def findings(*folders: Path) -> dict[str, list[str]]:
    """Rule → places."""
    command = [sys.executable, "-m", "mlinter", "--no-cache", "--no-progress", "--output-json", "/dev/stdout"]
    command += ["--enable-rules", ALSO.replace(" ", ","), *map(str, folders)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.stdout.lstrip().startswith("{"), done.stderr
    found: dict[str, list[str]] = defaultdict(list)
    for one in json.JSONDecoder().raw_decode(done.stdout.lstrip())[0]["findings"]:
        found[one["rule"]].append(f"{one['path']}:{one['line']}: {one['message']}")
    return found


@pytest.fixture(scope="module")
def ours() -> dict[str, list[str]]:
    return findings(*PLUGINS)


def test_our_plugins_keep_the_rules(ours: dict[str, list[str]]) -> None:
    broken = [place for rule, places in ours.items() if rule not in LEFT_OUT for place in places]
    assert not broken, "\n".join(broken)


def test_no_rule_is_left_out_without_need(ours: dict[str, list[str]]) -> None:
    assert set(LEFT_OUT) <= set(ours)
    assert not set(LEFT_OUT) & set(ALSO.split())


def test_the_linter_sees_a_fault(tmp_path: Path) -> None:
    source = next(PLUGINS[0].rglob("modeling_*.py"))
    text = source.read_text(encoding="utf-8")
    assert "        self.post_init()\n" in text
    (tmp_path / source.name).write_text(text.replace("        self.post_init()\n", ""), encoding="utf-8")
    assert "TRF013" in findings(tmp_path)
