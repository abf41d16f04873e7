"""provenance: whom the weights have seen, and what a report may say of it."""

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from meco_hub import plugins
from meco_hub.evaluation.task import corpus_options, hash_people, read_run, seen_people, summarise_run


def run(train: list[str], validation: list[str] | None, corpus: str = "case") -> dict[str, Any]:
    sides = {name: {"people": hash_people(corpus, who)} for name, who in (("train", train),)}
    sides["validation"] = {} if validation is None else {"people": hash_people(corpus, validation)}
    recipe = {"data": {"corpus": corpus, "options": {"modalities": "case_6"}}}
    return {"data": {"corpus": corpus, **sides, "leak_check": {"clean": True}}, "recipe": recipe, "history": [1, 2]}


def test_people_are_known_again_and_their_names_are_not_written() -> None:
    prints = hash_people("case", ["ann", "bob", "ann", ""])
    assert len(prints) == 2
    assert prints == sorted(prints)
    assert prints == hash_people("case", ["bob", "ann"])
    assert not set(prints) & set(hash_people("deap", ["ann", "bob"]))  # "S01" of one corpus is nobody of another
    assert "ann" not in "".join(prints)


def test_seen_people_are_counted_on_either_side() -> None:
    known = run(["ann", "bob"], ["cid"])
    assert seen_people(known, plugins.corpus("case"), ["ann", "ann", "cid", "dan", ""]) == {
        "people": 3,
        "trained_on": 1,
        "selected_by": 1,
    }
    assert seen_people(known, plugins.corpus("case"), ["dan"]) == {"people": 1, "trained_on": 0, "selected_by": 0}


def test_a_drawn_person_is_no_real_one_of_the_same_number() -> None:
    real = plugins.corpus("case")
    drawn = replace(real, synthetic=True)
    nobody = {"people": 1, "trained_on": 0, "selected_by": 0}
    assert seen_people(run(["sub_1"], ["sub_2"]), drawn, ["sub_1"]) == nobody
    learnt = run(["sub_1"], ["sub_2"])
    learnt["data"]["train"]["people"] = hash_people(drawn.namespace, ["sub_1"])
    assert seen_people(learnt, real, ["sub_1"]) == nobody
    assert seen_people(learnt, drawn, ["sub_1"]) == nobody | {"trained_on": 1}


@pytest.mark.parametrize(
    ("known", "corpus", "who"),
    [
        (None, "case", ["ann"]),
        ({}, "case", ["ann"]),
        (run(["ann"], ["bob"]), "deap", ["ann"]),
        (run(["ann"], None), "case", ["ann"]),  # written before people were noted
        (run(["ann"], ["bob"]), "case", ["", ""]),
        (run(["", ""], ["bob"]), "case", ["ann"]),  # whom it was trained on, nobody knows: that is not nobody
    ],
)
def test_what_nobody_noted_is_not_called_unseen(known: dict[str, Any] | None, corpus: str, who: list[str]) -> None:
    assert seen_people(known, plugins.corpus(corpus), who) is None


def test_options_of_the_same_corpus_only() -> None:
    assert corpus_options(run(["ann"], ["bob"]), "case") == {"modalities": "case_6"}
    assert corpus_options(run(["ann"], ["bob"]), "deap") == {}
    assert corpus_options(None, "case") == corpus_options({"recipe": None}, "case") == {}


def test_a_report_gets_no_list_of_people_and_no_history() -> None:
    assert summarise_run(None) is None
    told = summarise_run(run(["ann"], ["bob"]))
    assert told is not None
    assert told["data"] == {"corpus": "case", "train": {}, "validation": {}, "leak_check": {"clean": True}}
    assert "history" not in told
    assert told["recipe"]["data"]["corpus"] == "case"


def test_a_record_is_read_from_beside_the_weights(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert read_run(str(tmp_path)) is None
    assert read_run("some/hub-id") is None
    (tmp_path / "run.json").write_text(json.dumps({"seed": 3}))
    assert read_run(str(tmp_path)) == {"seed": 3}
    (tmp_path / "run.json").write_text('{"seed": ')
    with caplog.at_level(logging.WARNING):
        assert read_run(str(tmp_path)) is None
    assert "run.json cannot be read" in caplog.text
