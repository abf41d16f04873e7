"""New plugins: their names, what is refused, and what is written; that they work is shown in tests/journeys/test_new_plugin.py."""

import ast
import json
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

import meco_hub
from meco_hub import plugins, scaffold
from meco_hub.cli import main
from meco_hub.errors import ConfigurationError, PluginError
from meco_hub.scaffold import KINDS, PluginNames, write_plugin


@pytest.mark.parametrize("given", ["my-model", "My_Model", "meco-my-model", " my model "])
def test_all_names_follow_from_one(given: str) -> None:
    names = PluginNames.of(given)
    assert (names.distribution, names.package, names.module) == ("meco-my-model", "meco_my_model", "my_model")
    assert (names.prefix, names.title) == ("MecoMyModel", "My Model")


@pytest.mark.parametrize(
    "given", ["", "4eyes", "my--model", "modèle", "a/b", "../x", "-x", "x-", "hub", "meco-hub", "x" * 41]
)
def test_what_cannot_be_a_name_is_refused(given: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="A plugin cannot be called"):
        write_plugin(given, "face", tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(("given", "owner"), [("expressnet-moe", "meco-expressnet-moe"), ("himoe", "meco-himoe")])
def test_a_name_that_is_taken_is_refused(given: str, owner: str, tmp_path: Path) -> None:
    with pytest.raises(PluginError, match=f"is taken: {owner} is installed"):
        write_plugin(given, "signals", tmp_path / "new")


def test_a_name_that_a_broken_plugin_claims_is_refused(
    run_python: Callable[..., subprocess.CompletedProcess[str]], plant: Callable[..., Path]
) -> None:
    site = plant("somebodys", {"toy.py": "1/0"}, {"meco_hub.architectures": {"meco_toy": "toy:architecture"}})
    done = run_python(
        "from meco_hub.cli import main; raise SystemExit(main(['new', 'toy', '--kind', 'face']))",
        path=(site,),
        check=False,
    )
    assert done.returncode == 1
    assert "is taken: somebodys is installed and provides 'meco_toy'" in done.stderr


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "precious.txt").write_text("x")
    assert main(["new", "my-model", "--kind", "eye", "--output", str(tmp_path)]) == 1
    assert "exists and is not empty" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]
    with pytest.raises(PluginError, match="exists and is not empty"):
        write_plugin("my-model", "face", tmp_path / "precious.txt")


def test_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="kind is 'faces'; expected face, eye, signals, or corpus"):
        write_plugin("my-model", "faces", tmp_path / "new")


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_hangs_together(kind: str, tmp_path: Path) -> None:
    folder = write_plugin("my-model", kind, tmp_path / "new")
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["name"] == "meco-my-model"
    assert project["project"]["entry-points"]["meco_hub.architectures"] == {
        "meco_my_model": "meco_my_model:architecture"
    }
    assert project["project"]["dependencies"] == [
        f"meco-hub{'[signals]' if kind == 'signals' else ''}>={meco_hub.__version__}"
    ]
    assert project["project"]["license"] == "Apache-2.0"
    package = folder / "src" / "meco_my_model"
    for path in folder.rglob("*"):
        if path.is_file():
            assert "{{" not in path.read_text(encoding="utf-8"), path
            assert not any(word in path.name for word in ("PACKAGE", "MODULE", ".tmpl")), path
    for path in package.glob("*.py"):
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        assert text, path
    recipe = yaml.safe_load((package / "recipes" / "synthetic.yaml").read_text(encoding="utf-8"))
    assert recipe["model_type"] == "meco_my_model"
    assert recipe["data"]["corpus"] == KINDS[kind].corpus
    assert (
        len((folder / "tests" / "test_conformance.py").read_text(encoding="utf-8").split("\n\n\n")[1].splitlines()) == 3
    )
    card = (package / "card.md").read_text(encoding="utf-8")
    assert all(f"\n## {section}\n" in f"\n{card}" for section in ("What it is", "Not for", "Limits", "Legal note"))
    assert "synthetic" in card


def test_the_same_name_writes_the_same_files(tmp_path: Path) -> None:
    one, other = (write_plugin("my-model", "face", tmp_path / name) for name in ("one", "other"))
    contents = [
        {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}
        for root in (one, other)
    ]
    assert contents[0] == contents[1]


def test_the_command_says_what_follows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new", "my-model", "--kind", "signals", "--output", str(tmp_path / "new"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["model_type"] == "meco_my_model"
    assert "src/meco_my_model/modeling_my_model.py" in said["files"]
    assert said["next"][1] == "meco synthetic case data --seed 0 --people 6"


def test_a_corpus_is_read_by_the_test_that_comes_with_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], run_python: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    folder = tmp_path / "new"
    assert main(["new", "my-corpus", "--kind", "corpus", "--output", str(folder), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["corpus"] == "my_corpus"
    assert said["next"] == [f"pip install -e {folder}", f"pytest {folder / 'tests'}"]
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["entry-points"] == {"meco_hub.corpora": {"my_corpus": "meco_my_corpus:corpus"}}
    for path in folder.rglob("*"):
        assert not path.is_file() or "{{" not in path.read_text(encoding="utf-8"), path
    tests = str(folder / "tests")
    done = run_python(
        f"import pytest; raise SystemExit(pytest.main([{tests!r}, '-q', '-p', 'no:cacheprovider', '--rootdir', {tests!r}]))",
        path=(folder / "src",),
        check=False,
    )
    assert "3 passed" in done.stdout, done.stdout + done.stderr
    declared = "import sys, meco_my_corpus; print([m for m in ('torch', 'datasets') if m in sys.modules])"
    assert run_python(declared, path=(folder / "src",)).stdout.strip() == "[]"
    with pytest.raises(PluginError, match="is taken: meco-hub is installed"):
        write_plugin("signal-folder", "corpus", tmp_path / "other")


def test_a_plugin_states_the_contract_it_was_written_for(tmp_path: Path) -> None:
    folder = write_plugin("my-model", "face", tmp_path / "new")
    declared = (folder / "src" / "meco_my_model" / "__init__.py").read_text(encoding="utf-8")
    assert f"\n    api_version={plugins.API_VERSION},  # " in declared


def test_templates_are_data_and_no_source_of_ours() -> None:
    templates = Path(scaffold.__file__).parent / "templates"
    files = [path for path in templates.rglob("*") if path.is_file()]
    assert len(files) > 15
    assert {path.suffix for path in files} == {".tmpl", ".inc"}
    assert templates.is_relative_to(Path(meco_hub.__file__).parent)


def test_synthetic_data_say_that_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["synthetic", "image_folder", str(tmp_path / "data"), "--seed", "3", "--people", "2"]
    assert main(words) == 0
    assert 'must say "synthetic"' in capsys.readouterr().out
    assert len(list((tmp_path / "data").rglob("*.jpg"))) == 12
    assert main(words) == 1
    assert "exists and is not empty" in capsys.readouterr().err
    assert main(["synthetic", "image_foldr", str(tmp_path / "x")]) == 1
    assert "Did you mean 'image_folder'" in capsys.readouterr().err
    assert main(["synthetic", "fer2013", str(tmp_path / "x"), "--people", "3"]) == 1
    assert "does not tell people apart" in capsys.readouterr().err
