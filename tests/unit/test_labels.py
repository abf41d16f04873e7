"""Label spaces: spellings, orders and maps between them."""

import pytest

from meco_hub.errors import ConfigurationError, UnknownNameError
from meco_hub.labels import EXPRESSIONS, LabelSpace, canonical, for_another_head, index_map


@pytest.mark.parametrize(("spelling", "name"), [("Happy", "happiness"), (" ANGRY ", "anger"), ("neutral", "neutral")])
def test_canonical(spelling: str, name: str) -> None:
    assert canonical(spelling) == name


def test_canonical_refuses_what_it_does_not_know() -> None:
    with pytest.raises(UnknownNameError, match="happy"):
        canonical("hapy")


def test_expressions_stand_in_affectnets_official_order() -> None:
    assert EXPRESSIONS.index("contempt") == 7
    assert EXPRESSIONS[:4] == ("neutral", "happiness", "sadness", "surprise")


def test_space_maps_both_ways() -> None:
    space = LabelSpace("two", ("sadness", "anger"), "made up here")
    assert space.id2label == {0: "sadness", 1: "anger"}
    assert {space.label2id[name]: name for name in space.names} == space.id2label


def test_space_refuses_a_class_named_twice() -> None:
    with pytest.raises(ConfigurationError, match="twice"):
        LabelSpace("bad", ("anger", "anger"), "made up here")


def test_index_map_goes_by_name_not_by_position() -> None:
    assert index_map(["Happy", "angry", "contempt"], ["anger", "happiness"]) == [1, 0, -1]


def test_index_map_leaves_names_it_does_not_know_alone() -> None:
    assert index_map(["Stress", "rest"], ["rest", "stress"]) == [1, 0]


SAVED = {"id2label": {0: "a", 1: "b"}, "label2id": {"a": 0, "b": 1}, "target_center": [1.0, 2.0], "hidden_size": 4}


@pytest.mark.parametrize("wanted", [{}, {"num_labels": 2}, {"num_labels": None}, {"id2label": {0: "c", 1: "d"}}])
def test_a_head_of_the_same_size_keeps_its_labels(wanted):
    assert for_another_head(SAVED, wanted) == SAVED


def test_a_head_of_another_size_has_other_labels():
    assert for_another_head(SAVED, {"num_labels": 3}) == {"hidden_size": 4}
    names = {0: "c", 1: "d", 2: "e"}
    assert for_another_head(SAVED, {"id2label": names, "dropout": 0.1}) == {"hidden_size": 4, "id2label": names}
    assert "id2label" in SAVED
