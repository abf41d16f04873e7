"""plan: what a file or words mean, the recipe of every cell, and what is refused before anything is computed."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from meco_hub.comparison.cells import RECORD, check_cells
from meco_hub.comparison.plan import (
    Comparison,
    ModelChoice,
    Plan,
    choose,
    comparison_from_dict,
    comparison_from_words,
    read_comparison,
)
from meco_hub.corpora.synthetic.faces import write_fer2013_folders
from meco_hub.corpora.synthetic.marker import MARKER
from meco_hub.corpora.synthetic.signals import write_case_npz, write_deap, write_signal_folder, write_stress_predict
from meco_hub.durable import write_json
from meco_hub.errors import ConfigurationError, CorpusError, UnknownNameError

RECIPE: dict[str, Any] = {
    "model_type": "meco_some_model",
    "data": {"corpus": "case", "options": {"modalities": "case_5"}, "train": {"split": "all", "folds": [0]},
             "validation": {"by_identity": 0.3}},
    "num_train_epochs": 3,
}  # fmt: skip


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six drawn people in three folds."""
    file = tmp_path_factory.mktemp("case") / "case.npz"
    write_case_npz(file, seed=0, people=6, films=2, folds=3)
    return file


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    file = tmp_path / "net.yaml"
    file.write_text(yaml.safe_dump(RECIPE))
    return file


def read(**values: Any) -> Comparison:
    return comparison_from_dict({"corpus": "case", "models": {"mean": "training_mean"}, **values})


def test_official_folds_leave_out_one_and_train_on_all_others(case: Path, recipe: Path) -> None:
    models = {
        "net": {"recipe": str(recipe), "changes": {"num_train_epochs": 1}},
        "forest": "random_forest",
        "ridge": "ridge",
    }
    plan = Plan(read(models=models, seeds=[3, 5], folds=[2, "0"]), case)
    assert [str(cell) for cell in plan.cells] == [
        "net, fold 2, seed 3", "forest, fold 2, seed 3", "ridge, fold 2, seed 3",
        "net, fold 0, seed 3", "forest, fold 0, seed 3", "ridge, fold 0, seed 3",
        "net, fold 2, seed 5", "forest, fold 2, seed 5", "net, fold 0, seed 5", "forest, fold 0, seed 5",
    ]  # fmt: skip
    first, forest = plan.cells[:2]
    assert first.folder == Path("net/fold_2_seed_3")
    assert first.recipe is not None
    assert forest.recipe is not None
    assert (first.recipe.data.train.folds, first.recipe.seed, first.recipe.num_train_epochs) == ([0, 1], 3, 1)
    assert first.recipe.data.options == {"modalities": "case_5"}
    assert first.settings.folds == [2]
    assert forest.recipe.data.train == first.recipe.data.train
    assert forest.settings == first.settings


def test_what_official_folds_share_is_said(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    write_signal_folder(folder, seed=0, people=5)  # a fold for each of them
    comparison = comparison_from_dict({"corpus": "signal_folder", "models": {"prior": "training_mean"}})
    assert Plan(comparison, folder).describe()["leaks"] == []
    # the fourth person's samples are the first one's, under another name
    copied, source = (folder / "recordings" / f"drawn_0{number}" for number in (4, 1))
    for file in source.iterdir():
        (copied / file.name).write_bytes(file.read_bytes())
    (leak,) = Plan(comparison, folder).describe()["leaks"]
    assert "contents, the same byte for byte, stand in " in leak
    assert "drawn_01_000 = drawn_04_000" in leak or "drawn_04_000 = drawn_01_000" in leak
    plan = Plan(comparison, folder)
    fold = dict(zip(plan.pool["identity"], plan.pool["fold"], strict=True))
    untouched = {str(number) for who, number in fold.items() if who not in ("drawn_01", "drawn_04")}
    assert Plan(replace(comparison, folds=sorted(untouched)), folder).leaks == []  # of those who are tested
    # by other protocols every training compares its sides with the test itself
    other = comparison_from_dict({"corpus": "signal_folder", "protocol": "P2", "models": {"prior": "training_mean"}})
    assert Plan(other, folder).leaks == []


def test_a_protocol_goes_to_recipe_and_evaluation_alike(case: Path, recipe: Path) -> None:
    plan = Plan(read(models={"net": str(recipe)}, protocol="P3", n_folds=2, fold_seed=7), case)
    assert plan.folds == ["0", "1"]
    cell = plan.cells[1]
    assert cell.recipe is not None
    assert cell.recipe.data.protocol is not None
    assert (cell.recipe.data.protocol.fold, cell.recipe.data.protocol.n_folds, cell.recipe.data.protocol.seed) == (
        "1",
        2,
        7,
    )
    assert cell.recipe.data.train.folds is None
    asked = cell.settings
    assert (asked.protocol, asked.protocol_fold, asked.protocol_folds, asked.protocol_seed) == ("P3", "1", 2, 7)
    assert asked.folds is None
    alone = Plan(read(protocol="P2"), case)
    assert len(alone.folds) == 6
    assert alone.describe()["claims"]["unit"] == "subject"


def _renamed(folder: Path, *names: str) -> None:
    """The drawn study with people of these names."""
    text = (folder / "labels.csv").read_text()
    for number, name in enumerate(names, start=1):
        text = text.replace(f",drawn_0{number},", f",{name},")
    (folder / "labels.csv").write_text(text, encoding="utf-8")


def test_people_of_any_script_have_folders_of_their_own(tmp_path: Path) -> None:
    folder, names = tmp_path / "study", ("李", "王", "Анна", "Иван", "José", "Jos")
    write_signal_folder(folder, seed=0, people=6)
    _renamed(folder, *names)
    models = {"模": "training_mean", "型": "session_minute_oracle"}
    comparison = comparison_from_dict({"corpus": "signal_folder", "protocol": "P2", "models": models})
    plan = Plan(comparison, folder)
    assert plan.folds == sorted(names)
    assert len({cell.folder for cell in plan.cells}) == 12
    write_signal_folder(tmp_path / "other", seed=0, people=2)
    _renamed(tmp_path / "other", "P 1", "P_1")
    with pytest.raises(ConfigurationError, match="'P 1' and 'P_1' of signal_folder would lie in one folder, 'P_1'"):
        _ = Plan(comparison, tmp_path / "other").folds


def test_rows_without_a_fold_beside_rows_with_one_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    write_signal_folder(folder, seed=0, people=3)
    head, *lines = (folder / "labels.csv").read_text().splitlines()
    folds = [f"{line},{'' if 'drawn_02' in line else line[7]}" for line in lines]
    (folder / "labels.csv").write_text("\n".join([f"{head},fold", *folds, ""]))
    comparison = comparison_from_dict({"corpus": "signal_folder", "models": {"prior": "training_mean"}})
    with pytest.raises(CorpusError, match="rows, of 3 people, have no fold"):
        _ = Plan(comparison, folder).folds


def test_a_corpus_of_splits_is_tested_on_one(tmp_path: Path) -> None:
    write_fer2013_folders(tmp_path / "fer", seed=0)
    comparison = comparison_from_dict({"corpus": "fer2013", "models": {"prior": "training_mean"}})
    cell = Plan(comparison, tmp_path / "fer").cells[0]
    assert cell.settings.split == "test"
    assert cell.recipe is not None
    assert (cell.recipe.data.train.split, cell.recipe.data.train.folds) == ("train", None)
    assert cell.recipe.data.validation.by_content == 0.15  # nobody is known by name
    file = tmp_path / "own.yaml"
    for split in ("test", "all"):  # what is left out may not choose
        data = {"corpus": "fer2013", "validation": {"split": split}}
        file.write_text(yaml.safe_dump({"model_type": "meco_some_model", "data": data}))
        with pytest.raises(ConfigurationError, match="left out"):
            _ = Plan(replace(comparison, models={"a": ModelChoice(recipe=str(file))}), tmp_path / "fer").cells
    with pytest.raises(UnknownNameError, match="fold of fer2013"):
        _ = Plan(replace(comparison, folds=["tests"]), tmp_path / "fer").cells


def test_an_own_study_says_what_it_is_compared_by(tmp_path: Path) -> None:
    """Its folder declares ratings, nuisances and streams, where other corpora do so in code."""
    study = tmp_path / "study"
    write_signal_folder(study, seed=0, people=2, intervals=2, interval_s=4)
    models = {"minute": "session_minute_oracle", "line": "logistic_regression"}
    plan = Plan(read(corpus="signal_folder", models=models), study)
    assert plan.corpus.nuisances == ("session_minute",)
    assert plan.corpus.streams == ("eeg", "eda", "ecg")
    divided = read(corpus="signal_folder", models=models, protocol="P2")
    assert Plan(divided, study).describe()["synthetic"]
    (study / MARKER).unlink()
    assert not Plan(divided, study).describe()["synthetic"]
    rows = (study / "labels.csv").read_text().replace("label", "valence").replace(",task", ",7").replace(",rest", ",2")
    (study / "labels.csv").write_text(rows)
    text = (study / "study.yaml").read_text().replace("classes: [rest, task]", "targets: {valence: [1, 9]}")
    (study / "study.yaml").write_text(text)
    plan = Plan(read(corpus="signal_folder", models={"line": "ridge"}), study)
    assert [target.name for target in plan.corpus.targets] == ["valence"]
    with pytest.raises(ConfigurationError, match="use ridge"):
        Plan(read(corpus="signal_folder", models=models), study)


def test_words_name_models(recipe: Path, tmp_path: Path) -> None:
    assert choose("random_forest") == {"baseline": "random_forest"}
    assert choose("stimulus_oracle") == {"baseline": "stimulus_oracle"}
    assert choose(str(recipe)) == {"recipe": str(recipe)}
    assert choose("me/model") == {"checkpoint": "me/model"}
    for name, meant in (("logistic_regresion", "logistic_regression"), ("meco-himoe-stres", "meco-himoe-stress")):
        with pytest.raises(UnknownNameError, match=f"Did you mean '{meant}'"):
            choose(name)
    found = comparison_from_words(
        [str(recipe), "mean=training_mean"], {"corpus": "case", "changes": {"seed": 1, "ema_decay": None}}
    )
    assert list(found.models) == ["net", "mean"]
    assert found.models["net"].changes == {"seed": 1, "ema_decay": None}
    assert found.models["mean"].changes == {}
    file = tmp_path / "all.yaml"
    file.write_text(yaml.safe_dump({"corpus": "case", "seeds": [0, 1], "models": {"a": "ridge"}}))
    assert comparison_from_words([str(file)], {"seeds": [4]}).seeds == [4]
    with pytest.raises(ConfigurationError, match="have one name"):
        comparison_from_words(["ridge", "ridge"], {"corpus": "case"})
    with pytest.raises(ConfigurationError, match="No corpus was named; expected --dataset"):
        comparison_from_words(["ridge"], {})


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"models": {}}, "is empty"),
        ({"models": {"a": {}}}, "has none of recipe, checkpoint, baseline"),
        ({"models": {"a": {"recipe": "x", "baseline": "ridge"}}}, "recipe and baseline"),
        ({"models": {"a": {"baseline": "ridge", "changes": {"seed": 1}}}}, "stands beside baseline"),
        ({"models": {"a": {"baseline": "training_mean", "sees": "x"}}}, "for the baselines ridge"),
        ({"models": {"a b": "ridge", "a_b": "training_mean"}}, "make one folder"),
        ({"seeds": [1, 1]}, "each once"),
        ({"seed": [1]}, "Did you mean"),
    ],
)
def test_what_excludes_itself_is_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        read(**values)
    with pytest.raises(UnknownNameError, match="model of the comparison"):
        read(reference="nobody")


def test_what_does_not_fit_the_data_is_refused(case: Path, recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no --data_dir"):
        Plan(read())
    with pytest.raises(UnknownNameError, match="fold of case"):
        _ = Plan(read(folds=[9]), case).cells
    for name, words in (
        ("logistic_regression", "use ridge"),
        ("forest", "There is no baseline"),
        ("minute_oracle", "stimulus_oracle"),
    ):
        with pytest.raises((ConfigurationError, UnknownNameError), match=words):
            Plan(read(models={"a": {"baseline": name}}), case)
    file = tmp_path / "own.yaml"
    for change, words in (({"validation": {"folds": [1]}}, "by_identity"), ({"corpus": "deap"}, "a recipe for deap")):
        file.write_text(yaml.safe_dump({**RECIPE, "data": {**RECIPE["data"], **change}}))
        with pytest.raises(ConfigurationError, match=words):
            _ = Plan(read(models={"a": str(file)}), case).cells
    file.write_text(yaml.safe_dump({**RECIPE, "data": {**RECIPE["data"], "validation": {"folds": [1]}}}))
    assert Plan(read(models={"a": str(file)}, validation={"by_identity": 0.4}), case).cells


def test_folds_of_other_people_are_refused(tmp_path: Path) -> None:
    write_deap(tmp_path / "deap", seed=0, people=5, trials=2)
    file = tmp_path / "own.yaml"
    for folds, fits in (("P3", True), ("P2", False)):
        data = {"corpus": "deap", "options": {"folds": folds}, "validation": {"by_trial": 0.5}}
        file.write_text(yaml.safe_dump({"model_type": "meco_some_model", "data": data}))
        comparison = comparison_from_dict({"corpus": "deap", "models": {"a": {"recipe": str(file)}}})
        if fits:
            assert len(Plan(comparison, tmp_path / "deap").cells) == 5
            continue
        with pytest.raises(ConfigurationError, match="other people stand in the folds"):
            _ = Plan(comparison, tmp_path / "deap").cells
        assert Plan(replace(comparison, options={"folds": "P2"}), tmp_path / "deap").cells


def test_cells_of_another_recipe_or_of_other_data_are_refused(case: Path, recipe: Path, tmp_path: Path) -> None:
    models = {"net": {"recipe": str(recipe)}}
    plan, out = Plan(read(models=models), case), tmp_path / "out"
    cell = plan.cells[0]
    write_json({"cell": str(cell), "made_by": cell.made_by, "conditions": []}, out / cell.folder / RECORD)
    check_cells(plan.cells, out)
    check_cells(Plan(read(models=models, seeds=[0, 1], conditions=["missing"]), case).cells, out)  # more is no other
    changed = {"net": {"recipe": str(recipe), "changes": {"learning_rate": 0.5}}}
    with pytest.raises(ConfigurationError, match=r"recipe\.learning_rate was 0\.0001, is 0\.5"):
        check_cells(Plan(read(models=changed), case).cells, out)
    write_case_npz(tmp_path / "other.npz", seed=1, people=6, films=2, folds=3)
    with pytest.raises(ConfigurationError, match="data was"):
        check_cells(Plan(read(models=models), tmp_path / "other.npz").cells, out)


def test_an_oracle_needs_a_nuisance_of_the_corpus(tmp_path: Path) -> None:
    write_stress_predict(tmp_path / "stress", seed=0, people=5)
    comparison = comparison_from_dict({"corpus": "stress_predict", "models": {"a": "session_minute_oracle"}})
    assert len(Plan(comparison, tmp_path / "stress").cells) == 5
    wrong = comparison_from_dict({"corpus": "stress_predict", "models": {"a": "stimulus_oracle"}})
    with pytest.raises(UnknownNameError, match="session_minute_oracle"):
        Plan(wrong, tmp_path / "stress")


COMPARISONS = Path(__file__).parents[3] / "benchmarks" / "comparisons"


@pytest.mark.parametrize("file", sorted(COMPARISONS.glob("*.yaml")), ids=lambda file: file.stem)
def test_the_comparisons_that_docs_name_can_be_made(file: Path, tmp_path: Path) -> None:
    values = read_comparison(file)
    if values["corpus"] == "case":
        write_case_npz(tmp_path / "data.npz", seed=0, people=8, films=2, folds=4)
    else:
        write_stress_predict(tmp_path / "data.npz", seed=0, people=5)
    plan = Plan(comparison_from_dict(values), tmp_path / "data.npz")
    made = [name for name, one in values["models"].items() if "best_of" not in one]
    assert len(plan.cells) == len(plan.folds) * len(made)
    assert len({cell.folder for cell in plan.cells}) == len(plan.cells)
