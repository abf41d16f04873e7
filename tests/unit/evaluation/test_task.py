"""task: names in the order of the outputs, and native units on both sides of the scale."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from meco_hub.answers import Task, task_of_model
from meco_hub.corpora import Corpus, Target
from meco_hub.errors import ConfigurationError
from meco_hub.evaluation.task import task_of_corpus

RATED = Corpus(
    name="rated",
    kind="signals",
    labels=None,
    description="",
    layout="",
    loader="nowhere:read",
    targets=(Target("valence", 1.0, 9.0), Target("arousal", 0.5, 9.5)),
)


def model(**config: Any) -> Any:
    known = {"problem_type": None, "id2label": {0: "LABEL_0"}}
    return SimpleNamespace(config=SimpleNamespace(**(known | config)))


def test_scale_and_native_undo_each_other() -> None:
    task = task_of_corpus(RATED)
    assert (task.names, task.center, task.halfrange) == (("valence", "arousal"), (5.0, 5.0), (4.0, 4.5))
    ends = np.array([[1.0, 0.5], [9.0, 9.5], [5.0, 5.0], [np.nan, 7.25]])
    scaled = task.scale(ends)
    assert scaled[:3].tolist() == [[-1, -1], [1, 1], [0, 0]]
    assert np.isnan(scaled[3, 0])
    assert scaled.dtype == np.float32
    assert np.allclose(task.native(scaled), ends, equal_nan=True)
    course = np.arange(12.0).reshape(2, 3, 2)  # clips and steps before the targets
    assert np.allclose(task.native(task.scale(course)), course)


def test_targets_in_the_order_that_was_asked_for() -> None:
    task = task_of_corpus(RATED, ["arousal"])
    assert (task.names, task.halfrange) == (("arousal",), (4.5,))
    assert task_of_corpus(RATED, ["arousal", "valence"]).halfrange == (4.5, 4.0)
    with pytest.raises(ConfigurationError, match="'mood' is no target of the corpus 'rated'; it has valence, arousal"):
        task_of_corpus(RATED, ["mood"])


def test_classes_in_the_order_of_the_logits() -> None:
    task = task_of_model(model(id2label={1: "anger", 0: "neutral"}))
    assert task == Task(("neutral", "anger"))
    assert not task.regression


def test_values_as_the_config_has_them() -> None:
    names = {"problem_type": "regression", "target_names": ["a", "b"]}
    task = task_of_model(model(**names, target_center=[5.0, 0.0], target_halfrange=[4.0, 2.0]))
    assert task.native(np.array([[1.0, -1.0]])).tolist() == [[9.0, -2.0]]
    assert task_of_model(model(**names)).native(np.array([[0.25, -1.0]])).tolist() == [[0.25, -1.0]]
    with pytest.raises(ConfigurationError, match=r"no target_names; expected .*config\.json"):
        task_of_model(model(problem_type="regression"))
