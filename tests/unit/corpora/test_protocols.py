"""protocols: no fold breaks what its protocol promises, and the leak check sees what the leaky one does."""

import datasets
import pytest

from meco_hub.corpora.leaks import leak_check
from meco_hub.corpora.splits import PROTOCOLS, Protocol, by_stimulus, by_trial, folds, number_folds, subject_folds
from meco_hub.errors import ConfigurationError, CorpusError, LeakError, UnknownNameError

PEOPLE, FILMS, PIECES = 8, 6, 3


def table() -> datasets.Dataset:
    """Everybody sees every film; of each trial there are three overlapping pieces."""
    made = [(f"p{p}", f"film {f}", n) for p in range(PEOPLE) for f in range(FILMS) for n in range(PIECES)]
    return datasets.Dataset.from_dict(
        {
            "sample_id": [f"{p}/{f}/{n}" for p, f, n in made],
            "identity": [p for p, _, _ in made],
            "trial": [f for _, f, _ in made],
            "stimulus": [f for _, f, _ in made],
            "site": ["a" if p in ("p0", "p1") else "b" for p, _, _ in made],
            "source": [f"{p}/{f}" for p, f, _ in made],
            "start_s": [10.0 * n for _, _, n in made],
            "end_s": [10.0 * n + 15 for _, _, n in made],
            "content_sha256": [f"{p}/{f}/{n}" for p, f, n in made],
        }
    )


DATA = table()


@pytest.mark.parametrize(("protocol", "number"), [("P1", 3), ("P2", 8), ("P3", 3), ("P4", 24)])
def test_sides_share_what_the_protocol_says_and_nothing_else(protocol: str, number: int) -> None:
    made = folds(DATA, protocol, n_folds=3)
    assert len(made) == number
    for fold in made:
        train, test = fold.take(DATA)
        report = leak_check(train, test, allow=PROTOCOLS[protocol].shares)
        assert {note.kind for note in report.notes} == set(PROTOCOLS[protocol].shares)
        assert len(train) + len(test) == len(DATA) or protocol == "P4"
    tested = sorted(row for fold in made for row in fold.test.tolist())
    assert tested == list(range(len(DATA)))  # every row once, whatever the protocol


def test_random_rows_leak_and_say_so() -> None:
    assert PROTOCOLS["P0"].leaky
    assert "LEAKY" in str(PROTOCOLS["P0"])
    (first, *_) = folds(DATA, "P0")
    report = leak_check(*first.take(DATA), raises=False, allow=PROTOCOLS["P0"].shares)
    assert {overlap.kind for overlap in report.overlaps} == {"identity", "trial", "time"}
    with pytest.raises(LeakError):
        leak_check(*first.take(DATA))


def test_unseen_stimuli_leave_both_out() -> None:
    for fold in folds(DATA, "P4", n_folds=3):
        train, test = fold.take(DATA)
        assert len(set(test["identity"])) == 1
        assert len(test) == FILMS // 3 * PIECES
        assert len(train) == (PEOPLE - 1) * (FILMS - FILMS // 3) * PIECES


def test_folds_of_trials_are_no_folds_of_films() -> None:
    for fold in folds(DATA, "P1", n_folds=3):
        test = fold.take(DATA)[1]
        assert len({(row["identity"], row["trial"]) for row in test}) == PEOPLE * FILMS // 3
        assert len(set(test["stimulus"])) > FILMS // 3


def test_seed_and_names_decide_and_the_order_of_rows_does_not() -> None:
    shuffled = DATA.shuffle(seed=3)
    for protocol in PROTOCOLS:
        sides = [
            [sorted(fold.take(data)[1]["sample_id"]) for fold in folds(data, protocol, n_folds=3, seed=seed)]
            for data, seed in ((DATA, 0), (shuffled, 0), (DATA, 1))
        ]
        assert sides[0] == sides[1]
        assert (sides[0] != sides[2]) == (protocol != "P2")
    # a change of the ranks would change everybody's published folds
    assert [sorted(set(fold.take(DATA)[1]["identity"])) for fold in folds(DATA, "P3", n_folds=3)] == [
        ["p2", "p6", "p7"],
        ["p0", "p4", "p5"],
        ["p1", "p3"],
    ]


def test_sites_are_spread() -> None:
    for fold in subject_folds(DATA, 2, 0, stratify_by="site"):
        assert len({row["identity"] for row in fold.take(DATA)[1] if row["site"] == "a"}) == 1


def test_a_column_of_folds() -> None:
    numbered = number_folds(DATA, "P2")
    assert set(zip(numbered["identity"], numbered["fold"], strict=True)) == {(f"p{n}", n) for n in range(PEOPLE)}
    spread = number_folds(DATA, "P3", n_folds=2, stratify_by="site")
    assert {row["fold"] for row in spread if row["site"] == "a"} == {0, 1}
    with pytest.raises(ConfigurationError, match="P4 leaves rows out"):
        number_folds(DATA, "P4")
    with pytest.raises(ConfigurationError, match="Only P3"):
        number_folds(DATA, "P1", stratify_by="site")


def test_what_cannot_be_cut() -> None:
    with pytest.raises(UnknownNameError, match="protocol named 'P5'"):
        folds(DATA, "P5")
    with pytest.raises(ConfigurationError, match="n_folds is 1"):
        folds(DATA, "P3", n_folds=1)
    with pytest.raises(CorpusError, match="8 people for 9 folds"):
        folds(DATA, "P3", n_folds=9)
    with pytest.raises(CorpusError, match="6 trials of p0 for 7 folds"):
        folds(DATA, "P1", n_folds=7)
    with pytest.raises(CorpusError, match="6 stimuli for 7 folds"):
        folds(DATA, "P4", n_folds=7)
    with pytest.raises(CorpusError, match="no column trial"):
        folds(DATA.remove_columns("trial"), "P1")
    with pytest.raises(CorpusError, match="of 1 person"):
        folds(DATA.select(range(3)), "P2")
    blank = DATA.map(lambda row: {"identity": "" if row["identity"] == "p1" else row["identity"]}, keep_in_memory=True)
    with pytest.raises(CorpusError, match="18 of 144 rows have no identity, row 18 among them"):
        folds(blank, "P2")


def test_a_protocol_says_what_it_is() -> None:
    see = Protocol("official", "sequence", True, "volunteers occur on both sides", ("identity", "stimulus"))
    assert str(see) == "official (sequence, LEAKY): volunteers occur on both sides"


def test_holding_out_trials_and_stimuli() -> None:
    rest, part = by_trial(DATA, 1 / 3, seed=0)
    assert len(part) == len(DATA) / 3
    assert {note.kind for note in leak_check(rest, part, allow=("identity", "stimulus")).notes} == {
        "identity",
        "stimulus",
    }
    rest, part = by_stimulus(DATA, 0.2, seed=0)
    assert len(set(part["stimulus"])) == 1
    assert {note.kind for note in leak_check(rest, part, allow=("identity",)).notes} == {"identity"}
    assert by_stimulus(DATA.shuffle(seed=1), 0.2, seed=0)[1]["stimulus"][0] == part["stimulus"][0]
    with pytest.raises(CorpusError, match="leaves one side empty"):
        by_trial(DATA, 0.01, seed=0)
