"""Protocols: whole series of folds, each named for what its figures may claim.

    P0  random_rows             rows at random                              leaky, diagnostic only
    P1  cross_trial             k-fold over everybody's own trials           people on both sides
    P2  leave_one_subject_out   a fold for every person
    P3  subject_folds           k groups of people
    P4  unseen_stimuli          a person and stimuli, neither of which training has seen

    for fold in folds(data, "P2"):
        train, test = fold.take(data)

A figure is worth what its protocol lets it claim, so each says what its two sides share, and whether that makes the figure a
diagnostic at best; `official` says the same of a division that a corpus publishes. Folds are rows, cut before windowing, and
decided by SHA-256 of seed and name, as in `splits.py`.
"""

import logging
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigurationError, CorpusError, unknown_name
from .splits import _known, _rank
from .tables import column, with_column

if TYPE_CHECKING:
    import datasets

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Protocol:
    """What a division is called, and what its figures may claim.

    Attributes:
        name: "P2", or "official".
        unit: what is kept together: "subject", "trial", "stimulus", "subject and stimulus", "row", or as a corpus has it.
        leaky: the sides share what a new user of the model would not have given it; a figure is a diagnostic only.
        why: one sentence for reports.
        shares: kinds (of `leaks.KINDS`) that stand on both sides on purpose; hand them to `leak_check(allow=…)`. What leaks
            by a mistake that the protocol makes is not among them, so that the check finds it.
    """

    name: str
    unit: str
    leaky: bool
    why: str
    shares: tuple[str, ...] = ("stimulus",)

    def to_dict(self) -> dict[str, Any]:
        """As reports hold it."""
        return {**asdict(self), "shares": list(self.shares)}

    def __str__(self) -> str:
        return f"{self.name} ({self.unit}{', LEAKY' if self.leaky else ''}): {self.why}"


@dataclass(frozen=True)
class Fold:
    """One division.

    Attributes:
        name: the person, the fold's number, or both.
        train, test: row numbers, in the order of the rows. Rows in neither are left out (P4).
    """

    name: str
    train: NDArray[np.int64]
    test: NDArray[np.int64]

    def take(self, dataset: "datasets.Dataset") -> "tuple[datasets.Dataset, datasets.Dataset]":
        """(train, test) of the data set that the fold was made from."""
        return dataset.select(self.train), dataset.select(self.test)


PROTOCOLS = {
    one.name: one
    for one in (
        Protocol("P0", "row", True, "random rows: neighbours in time stand on both sides; leaky, for diagnosis only"),
        Protocol(
            "P1",
            "trial",
            False,
            "subject-dependent: everybody is tested on trials of their own that training has not seen, and trained on others",
            ("identity", "stimulus"),
        ),
        Protocol(
            "P2", "subject", False, "leave one subject out: nobody is tested who was trained on; stimuli are shared"
        ),
        Protocol("P3", "subject", False, "groups of subjects: nobody is tested who was trained on; stimuli are shared"),
        Protocol(
            "P4",
            "subject and stimulus",
            False,
            "leave one subject out, on stimuli that training has not seen: recognising the stimulus cannot help",
            (),
        ),
    )
}
"""The protocols that every corpus can be tested by, where it has the columns."""


def official(unit: str, why: str, *, leaky: bool = False, shares: Sequence[str] = ("stimulus",)) -> Protocol:
    """The division that a corpus publishes, for what it is.

    >>> official("sequence", "volunteers occur on both sides", leaky=True, shares=("identity",)).leaky
    True
    """
    return Protocol("official", unit, leaky, why, tuple(shares))


def folds(dataset: "datasets.Dataset", protocol: str, *, n_folds: int = 5, seed: int = 0) -> list[Fold]:
    """The folds of a protocol, by its name.

    Args:
        dataset: with the columns identity and sample_id, and what the protocol cuts by: trial, stimulus.
        protocol: "P0" … "P4".
        n_folds: of P0, P1 and P3 how many folds; of P4 into how many parts the stimuli are cut.
        seed: another seed, other folds; P2 takes none.

    Raises:
        UnknownNameError: no such protocol.
        CorpusError: the columns do not say what the protocol cuts by, or there is too little of it.
        ConfigurationError: `n_folds` below 2.
    """
    if protocol not in _MAKERS:
        raise unknown_name("protocol", protocol, _MAKERS)
    if n_folds < 2:
        raise ConfigurationError(f"n_folds is {n_folds}. Expected 2 or more.")
    return _MAKERS[protocol](dataset, n_folds, seed)


def find_fold(dataset: "datasets.Dataset", protocol: str, name: str, *, n_folds: int, seed: int) -> Fold:
    """The fold of that name; other arguments and errors as for `folds`.

    Raises:
        UnknownNameError: the protocol has no such fold.
    """
    made = {fold.name: fold for fold in folds(dataset, protocol, n_folds=n_folds, seed=seed)}
    if name not in made:
        raise unknown_name(f"fold of {protocol}", name, made)
    return made[name]


def number_folds(
    dataset: "datasets.Dataset", protocol: str, *, n_folds: int = 5, seed: int = 0, stratify_by: str | None = None
) -> "datasets.Dataset":
    """The data set with its column `fold` replaced by the folds of P0, P1, P2 or P3.

    Arguments and errors as for `folds`; `stratify_by`, of P3 alone, as for `subject_folds`.

    Raises:
        ConfigurationError: P4, whose folds leave rows out and so are no column.
    """
    if protocol == "P4":
        raise ConfigurationError("P4 leaves rows out of each fold, so it is no column of folds. Use protocols.folds.")
    if stratify_by and protocol != "P3":
        raise ConfigurationError(
            f"stratify_by is {stratify_by!r}, and the protocol {protocol}. Only P3 spreads people so."
        )
    made = (
        subject_folds(dataset, n_folds, seed, stratify_by=stratify_by)
        if stratify_by
        else folds(dataset, protocol, n_folds=n_folds, seed=seed)
    )
    numbers = np.full(len(dataset), -1)
    for number, fold in enumerate(made):
        numbers[fold.test] = number
    return with_column(dataset, "fold", numbers.tolist(), "int32")


def with_folds(
    splits: "datasets.DatasetDict", protocol: str, address: str, *, n_folds: int = 5, stratify_by: str | None = None
) -> "datasets.DatasetDict":
    """A corpus of one split "all" with its folds numbered; as it is, with a warning, where too few people make no groups."""
    subjects = len(set(column(splits["all"], "identity")))
    if protocol == "P3" and subjects < n_folds:
        logger.warning("%s: %d people make no %d folds; the column fold is −1.", address, subjects, n_folds)
    else:
        splits["all"] = number_folds(splits["all"], protocol, n_folds=n_folds, stratify_by=stratify_by)
    return splits


def random_rows(dataset: "datasets.Dataset", n_folds: int, seed: int) -> list[Fold]:
    """P0: k-fold over single rows. Leaky: what lies a second apart stands on both sides."""
    return _by_bin(_deal(column(dataset, "sample_id"), n_folds, seed, "rows"), n_folds)


def cross_trial(dataset: "datasets.Dataset", n_folds: int, seed: int) -> list[Fold]:
    """P1: everybody's trials are dealt into k folds, each person's for itself.

    Trials of a corpus may be sorted by stimulus; dealing them in an order of their own for each person keeps a fold from
    being a fixed set of stimuli.
    """
    people, trials = _known(dataset, "identity"), _known(dataset, "trial")
    rows: dict[str, list[int]] = defaultdict(list)
    for row, who in enumerate(people):
        rows[who].append(row)
    bins = [0] * len(people)
    for who, own in rows.items():
        dealt = _deal([f"{who}/{trials[row]}" for row in own], n_folds, seed, f"trials of {who}")
        for row, place in zip(own, dealt, strict=True):
            bins[row] = place
    return _by_bin(bins, n_folds)


def leave_one_subject_out(dataset: "datasets.Dataset") -> list[Fold]:
    """P2: a fold for every person, in the order of their names."""
    people = np.asarray(_known(dataset, "identity"))
    names = sorted(set(people.tolist()))
    if len(names) < 2:
        raise CorpusError(f"The rows are of {len(names)} person. Expected two or more to leave one out.")
    return [Fold(who, np.flatnonzero(people != who), np.flatnonzero(people == who)) for who in names]


def subject_folds(
    dataset: "datasets.Dataset", n_folds: int, seed: int, *, stratify_by: str | None = None
) -> list[Fold]:
    """P3: people are dealt into k folds.

    Args:
        dataset, n_folds, seed: as for `folds`.
        stratify_by: column of something that people have one of (the site where they were recorded), spread over the folds.
    """
    people = _known(dataset, "identity")
    strata = column(dataset, stratify_by) if stratify_by else [""] * len(people)
    return _by_bin(_deal(people, n_folds, seed, "people", strata), n_folds)


def unseen_stimuli(dataset: "datasets.Dataset", n_folds: int, seed: int) -> list[Fold]:
    """P4: for every person and every of k parts of the stimuli, test that person on that part; training sees neither."""
    people = np.asarray(_known(dataset, "identity"))
    parts = np.asarray(_deal(_known(dataset, "stimulus"), n_folds, seed, "stimuli"))
    made = []
    for whole in leave_one_subject_out(dataset):
        for part in range(n_folds):
            theirs, shown = people == whole.name, parts == part
            if (theirs & shown).any():  # not everybody need have seen every part
                name = f"{whole.name}/{part}"
                made.append(Fold(name, np.flatnonzero(~theirs & ~shown), np.flatnonzero(theirs & shown)))
    return made


_MAKERS: dict[str, Callable[["datasets.Dataset", int, int], list[Fold]]] = {
    "P0": random_rows,
    "P1": cross_trial,
    "P2": lambda dataset, n_folds, seed: leave_one_subject_out(dataset),
    "P3": subject_folds,
    "P4": unseen_stimuli,
}


def _deal(units: Sequence[str], n_folds: int, seed: int, what: str, strata: Sequence[str] | None = None) -> list[int]:
    """The bin of every row: its unit's place in the order of ranks, dealt like cards, one stratum after the other."""
    stratum = dict(zip(units, strata or [""] * len(units), strict=True))
    if len(stratum) < n_folds:
        raise CorpusError(
            f"There are {len(stratum)} {what} for {n_folds} folds. Expected as many or more. Ask for fewer folds."
        )
    order = sorted(stratum, key=lambda unit: (stratum[unit], _rank(seed, unit), unit))
    place = {unit: number % n_folds for number, unit in enumerate(order)}
    return [place[unit] for unit in units]


def _by_bin(bins: Sequence[int], n_folds: int) -> list[Fold]:
    numbers = np.asarray(bins)
    return [Fold(str(n), np.flatnonzero(numbers != n), np.flatnonzero(numbers == n)) for n in range(n_folds)]
