"""data: the sides of a training are disjoint as the recipe says, and a leak on any of them stops it."""

from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest

from meco_hub import plugins
from meco_hub.corpora import Corpus, Target
from meco_hub.corpora.splits import folds
from meco_hub.errors import CorpusError, LeakError, RecordingError, UnknownNameError
from meco_hub.evaluation.task import LabelledSubset, task_of_corpus
from meco_hub.recordings.signal_recording import SignalRecording, Stream
from meco_hub.training.data import TrainingData, load_training_data
from meco_hub.training.recipes import recipe_from_dict

PEOPLE, TRIALS, PIECES = 6, 6, 2


def load(path: Path, planted: str = "") -> datasets.DatasetDict:
    """Everybody has six trials of two pieces; with `planted`, "b = a" gives row b the content of row a."""
    made = [(p, t, n) for p in range(PEOPLE) for t in range(TRIALS) for n in range(PIECES)]
    names = [f"p{p}/t{t}/{n}" for p, t, n in made]
    contents = dict(zip(names, names, strict=True))
    if planted:
        copy, _, original = planted.partition(" = ")
        contents[copy] = contents[original]
    columns = {
        "sample_id": names,
        "identity": [f"p{p}" for p, _, _ in made],
        "trial": [f"t{t}" for _, t, _ in made],
        "stimulus": [f"film {t}" for _, t, _ in made],
        "fold": [p % 3 for p, _, _ in made],
        "label": [t % 2 for _, t, _ in made],
        "content_sha256": [contents[name] for name in names],
    }
    features = datasets.Features(
        {name: datasets.Value("string") for name in columns}
        | {"fold": datasets.Value("int32"), "label": datasets.ClassLabel(names=["calm", "stress"])}
    )
    return datasets.DatasetDict({"all": datasets.Dataset.from_dict(columns, features=features)})


DECLARED = Corpus(
    name="planted",
    kind="signals",
    labels=None,
    description="",
    layout="anything",
    loader=f"{__name__}:load",
    options={"planted": "a row that is a copy of another"},
)


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "corpus", lambda name: DECLARED)


def divide(
    folder: Path, validation: dict[str, Any], protocol: dict[str, Any] | None = None, **more: Any
) -> TrainingData:
    data = {"corpus": "planted", "train": {"split": "all"}, "validation": validation, "protocol": protocol, **more}
    return load_training_data(recipe_from_dict({"model_type": "some", "data": data}), folder)


def rows(side: LabelledSubset, column: str = "sample_id") -> set[str]:
    return set(side.dataset[column][:])


def held_out(protocol: str, fold: str, **how: int) -> datasets.Dataset:
    everything = load(Path())["all"]
    (found,) = [one for one in folds(everything, protocol, **how) if one.name == fold]
    return found.take(everything)[1]


def test_leaving_one_person_out_the_person_is_on_no_side(tmp_path: Path) -> None:
    found = divide(tmp_path, {"by_identity": 0.3}, {"name": "P2", "fold": "p4"})
    train, validation, test = rows(found.train), rows(found.validation), set(held_out("P2", "p4")["sample_id"])
    assert len(train) + len(validation) + len(test) == PEOPLE * TRIALS * PIECES
    assert train.isdisjoint(validation)
    assert (train | validation).isdisjoint(test)
    people = [rows(found.train, "identity"), rows(found.validation, "identity"), {"p4"}]
    assert set.union(*people) == {f"p{p}" for p in range(PEOPLE)}
    assert sum(map(len, people)) == PEOPLE
    assert found.leaks.clean
    # everybody sees the same films, and the record says so of all three sides
    assert {(note.kind, note.first, note.second) for note in found.leaks.notes} == {
        ("stimulus", "train", "validation"),
        ("stimulus", "train", "test"),
        ("stimulus", "validation", "test"),
    }


def test_of_everybody_some_trials_and_no_trial_on_two_sides(tmp_path: Path) -> None:
    found = divide(tmp_path, {"by_trial": 0.25}, {"name": "P1", "fold": "1", "n_folds": 3})
    test = held_out("P1", "1", n_folds=3)
    sides = [found.train.dataset, found.validation.dataset, test]
    trials = [{(row["identity"], row["trial"]) for row in side} for side in sides]
    assert [len(one) for one in trials] == [PEOPLE * 3, PEOPLE * 1, PEOPLE * 2]
    assert sum(map(len, trials)) == len(set.union(*trials))
    assert all(len({who for who, _ in one}) == PEOPLE for one in trials)  # subject-dependent: everybody everywhere
    assert found.leaks.clean
    assert {note.kind for note in found.leaks.notes} == {"identity", "stimulus"}


def test_people_of_the_training_may_not_be_selected_on_unless_that_is_meant(tmp_path: Path) -> None:
    # rows at random put every person on both sides of P0, which allows nothing
    with pytest.raises(LeakError, match="people stand in train and in test"):
        divide(tmp_path, {"by_identity": 0.3}, {"name": "P0", "fold": "0"})
    with pytest.raises(LeakError, match="people stand in train and in validation"):
        divide(tmp_path, {"folds": [0, 1]}, train={"split": "all", "folds": [0]})


@pytest.mark.parametrize(
    ("validation", "protocol", "planted"),
    [
        ({"by_identity": 0.3}, {"name": "P2", "fold": "p4"}, "p4/t3/1 = p0/t0/0"),
        ({"by_trial": 0.25}, {"name": "P1", "fold": "1", "n_folds": 3}, None),
    ],
)
def test_a_leak_into_the_test_side_stops_the_training(
    tmp_path: Path, validation: dict[str, Any], protocol: dict[str, Any], planted: str | None
) -> None:
    if planted is None:  # of P1: a piece of the test fold is a copy of one that it is trained on
        test = set(held_out("P1", "1", n_folds=3)["sample_id"])
        planted = f"{min(test)} = {min(set(load(Path())['all']['sample_id']) - test)}"
    copy, _, original = planted.partition(" = ")
    divide(tmp_path, validation, protocol)
    with pytest.raises(
        LeakError, match=rf"1 contents.* and in test \(1 rows there\): {original} = {copy}\."
    ) as stopped:
        divide(tmp_path, validation, protocol, options={"planted": planted})
    assert "set data.allow_leak" in str(stopped.value)
    marked = divide(tmp_path, validation, protocol, options={"planted": planted}, allow_leak=True)
    record = marked.describe()["leak_check"]
    assert not record["clean"]
    (overlap,) = record["overlaps"]
    assert (overlap["kind"], overlap["second"], overlap["shared"]) == ("content", "test", [f"{original} = {copy}"])


def test_a_leak_between_training_and_validation_stops_it_too(tmp_path: Path) -> None:
    chosen = {"train": {"split": "all", "folds": [0, 1]}, "options": {"planted": "p2/t0/0 = p0/t0/0"}}
    with pytest.raises(LeakError, match="stand in train and in validation"):
        divide(tmp_path, {"folds": [2]}, **chosen)
    marked = divide(tmp_path, {"folds": [2]}, allow_leak=True, **chosen)
    assert [(one.kind, one.second) for one in marked.leaks.overlaps] == [("content", "validation")]


def test_both_sides_are_noted_by_fingerprint_and_nobody_by_name(tmp_path: Path) -> None:
    found = divide(tmp_path, {"by_identity": 0.3}, {"name": "P2", "fold": "p4"}).describe()
    again = divide(tmp_path, {"by_identity": 0.3}, {"name": "P2", "fold": "p4"}).describe()
    other = divide(tmp_path, {"by_identity": 0.3}, {"name": "P2", "fold": "p3"}).describe()
    assert found == again
    assert found["train"]["fingerprint"] != other["train"]["fingerprint"]
    assert len(found["train"]["people"]) == found["train"]["identities"]
    assert not set(found["train"]["people"]) & set(found["validation"]["people"])
    assert found["train"]["classes"] == {
        "calm": found["train"]["samples"] // 2,
        "stress": found["train"]["samples"] // 2,
    }


def test_folds_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="fold of P2 named 'p9'"):
        divide(tmp_path, {"by_identity": 0.3}, {"name": "P2", "fold": "p9"})
    with pytest.raises(CorpusError, match="one side empty"):
        divide(tmp_path, {"by_trial": 0.01}, {"name": "P2", "fold": "p4"})


def read_rated(row: dict[str, str]) -> SignalRecording:
    """Ratings that rest at the number in the row's name; a row named "broken" cannot be read."""
    if row["sample_id"] == "broken":
        raise RecordingError("broken: no samples")
    times = np.arange(10) / 2.0
    values = np.full((10, 1), np.nan if row["sample_id"] == "blank" else float(row["sample_id"]), np.float32)
    return SignalRecording({}, 0.0, 5.0, row["sample_id"], {"valence": Stream(values, times, 2.0, ("valence",))})


def test_what_training_knew_without_a_sensor_survives_recordings_that_cannot_be_read() -> None:
    declared = Corpus(
        name="rated",
        kind="signals",
        labels=None,
        description="",
        layout="",
        loader="nowhere:x",
        reader=f"{__name__}:read_rated",
        targets=(Target("valence", 1.0, 9.0),),
        time_continuous=True,
        nuisances=("stimulus",),
    )
    table = datasets.Dataset.from_dict(
        {
            "sample_id": ["2", "4", "broken", "9", "blank"],
            "identity": ["a", "a", "b", "b", "c"],
            "stimulus": ["x", "x", "x", "y", "z"],
        }
    )
    side = LabelledSubset(table, np.full((5, 1), np.nan), {})
    leaks: Any = type("Clean", (), {"to_dict": lambda self: {"clean": True}})()
    data = TrainingData(declared, task_of_corpus(declared), side, side, leaks, {"train": "1", "validation": "2"})
    train = data.describe()["train"]
    assert train["target_means"] == {"valence": 5.0}
    # of z nobody knows anything
    assert train["nuisances"] == {"stimulus": {"keys": ["x", "y"], "answers": [[3.0], [9.0]]}}
