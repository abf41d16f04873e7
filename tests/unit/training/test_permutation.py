"""permutation: every trial has another one's labels, whole, the same for the same seed; and the checkpoint says so."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from transformers import AutoConfig

from meco_hub.corpora.synthetic.signals import write_case_npz
from meco_hub.errors import ConfigurationError
from meco_hub.evaluation.predict import RecordingRows
from meco_hub.evaluation.task import LabelledSubset
from meco_hub.training.arguments import RunOptions
from meco_hub.training.data import ExchangedRatings, draw_permutation, load_training_data
from meco_hub.training.loop import train
from meco_hub.training.recipes import Recipe, load_recipe


def subset(people: list[str], trials: list[str], labels: np.ndarray) -> LabelledSubset:
    table = datasets.Dataset.from_dict({"identity": people, "trial": trials})
    return LabelledSubset(table, labels, {})


def test_windows_of_a_trial_get_one_label_of_another_trial() -> None:
    people = ["a"] * 6 + ["b"] * 6
    trials = ["1", "1", "1", "2", "2", "3"] * 2  # the same names with another person are other trials
    values = np.array([0.0, 0, 0, 1, 1, 2, 3, 3, 3, 4, 4, 5])[:, None]
    side = subset(people, trials, values)
    permutation = draw_permutation(side, seed=3)
    given = values[permutation, 0]
    for unit in range(6):
        (own,) = set(given[values[:, 0] == unit])
        assert own != unit  # nobody keeps their own
    assert len({given[row] for row in (0, 3, 5, 6, 9, 11)}) == 6  # each is given once
    assert (permutation == draw_permutation(side, seed=3)).all()
    assert any((permutation != draw_permutation(side, seed=other)).any() for other in (4, 5, 6))


def test_classes_keep_their_numbers_and_rows_without_a_trial_are_their_own() -> None:
    labels = np.repeat([0, 1, 2], [50, 30, 20])
    side = subset(["a"] * 100, [""] * 100, labels)
    permutation = draw_permutation(side, seed=0)
    assert sorted(permutation) == list(range(100))
    assert Counter(labels[permutation].tolist()) == {0: 50, 1: 30, 2: 20}
    assert 0.2 < (labels[permutation] == labels).mean() < 0.6  # 0.38 by chance


def test_a_single_trial_cannot_be_permuted() -> None:
    with pytest.raises(ConfigurationError, match="a single trial of 3 rows"):
        draw_permutation(subset(["a"] * 3, ["1"] * 3, np.zeros((3, 2))), seed=0)


@pytest.fixture
def case(tmp_path: Path) -> Path:
    write_case_npz(tmp_path / "case.npz", seed=0, people=6, films=3, folds=3)
    return tmp_path / "case.npz"


def recipe(**changes: Any) -> Any:
    plain = {"data.train.folds": [0, 1], "data.validation": {"by_identity": 0.25}, "data.permute_labels": True}
    return load_recipe("meco_himoe/case", plain | changes)


def test_ratings_over_time_change_hands_as_whole_series(case: Path) -> None:
    plain = load_training_data(recipe(**{"data.permute_labels": False}), case)
    data = load_training_data(recipe(), case)
    assert plain.permutation is None
    assert data.permutation is not None
    own = RecordingRows(data.corpus, data.train.dataset)
    moved = ExchangedRatings(data.corpus, data.train.dataset, data.permutation)
    assert moved.survey(10**9, progress=False) == list(range(9))
    for row in range(9):
        before, after, giver = own[row], moved[row], own[int(data.permutation[row])]
        assert giver.name != before.name
        assert all((after.streams[name].values == one.values).all() for name, one in before.streams.items())
        for name, one in giver.annotations.items():
            assert (after.annotations[name].values == one.values).all()
            np.testing.assert_allclose(after.annotations[name].times - after.start, one.times - giver.start)
    # validation keeps its own, and what is known of films is not pretended to be known
    assert data.validation.dataset["sample_id"] == plain.validation.dataset["sample_id"]
    told, truly = data.describe()["train"], plain.describe()["train"]
    assert told["permuted_labels"] is True
    assert "permuted_labels" not in truly
    assert told["target_means"] == truly["target_means"]
    assert told["nuisances"] == {}
    assert len(truly["nuisances"]["stimulus"]["keys"]) == 3


def test_one_value_per_trial_and_classes_are_permuted_when_they_are_read(tmp_path: Path) -> None:
    from meco_hub.corpora.synthetic.faces import write_image_folder

    write_image_folder(tmp_path / "faces", seed=1, labels=("neutral", "happiness"), people=8, takes=2, size=32)
    changes = {"data": {"corpus": "image_folder", "train": {"split": "all"}, "validation": {"by_identity": 0.25}}}
    plain = load_training_data(load_recipe("meco_himoe/case", changes), tmp_path / "faces")
    changes["data"]["permute_labels"] = True
    data = load_training_data(load_recipe("meco_himoe/case", changes), tmp_path / "faces")
    assert data.permutation is not None
    assert (data.train.labels == plain.train.labels[data.permutation]).all()
    assert (data.train.labels != plain.train.labels).any()
    assert (data.validation.labels == plain.validation.labels).all()
    assert data.fingerprints == plain.fingerprints  # the samples are the same


@pytest.mark.parametrize(
    "other",
    [
        {"model_name_or_path": "x", "model": {}, "processor": {}},
        {"distillation": {"teacher": "a:b"}},
        {"soft_labels_of": "x", "soft_label_weight": 1.0},
    ],
)
def test_a_control_starts_from_nothing(other: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="a control starts from nothing"):
        recipe(**other)


def test_a_control_of_faces_says_so_and_a_model_that_starts_from_it_does_not(
    tiny_recipe: Callable[..., Recipe], tiny_faces: Path, tmp_path: Path
) -> None:
    short = {"num_train_epochs": 1, "max_train_steps": 2}
    control = tiny_recipe(**short, **{"data.permute_labels": True})
    train(control, RunOptions(tiny_faces, tmp_path / "control", progress=False))
    assert AutoConfig.from_pretrained(tmp_path / "control").training_control == "permuted_labels"
    run = json.loads((tmp_path / "control" / "run.json").read_text(encoding="utf-8"))
    assert run["control"] == "permuted_labels"
    assert "reference" not in run["data"]["train"]  # faces have no such statistics
    onward = tiny_recipe(**short, model_name_or_path=str(tmp_path / "control"), model={}, processor={})
    train(onward, RunOptions(tiny_faces, tmp_path / "onward", progress=False))
    assert AutoConfig.from_pretrained(tmp_path / "onward").training_control is None
    assert json.loads((tmp_path / "onward" / "run.json").read_text(encoding="utf-8"))["control"] is None
