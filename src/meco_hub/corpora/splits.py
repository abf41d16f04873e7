"""A vocabulary of splits, the check that nobody stands on both sides, and the fingerprint of what was used.

    train, validation = by_identity(data, 0.15, seed=0)     whole people; label proportions kept as far as people allow
    data = assign_folds(data, 5, seed=0)                    the same, as a fold column
    train, test = by_fold(data, [3])                        folds that are there
    train, validation = by_trial(data, 0.2, seed=0)         whole trials, the same share of everybody's
    train, validation = by_stimulus(data, 0.2, seed=0)      whole stimuli
    train, validation = by_content(data, 0.1, seed=0)       pictures, the same one never on both sides; people unknown
    train, validation = stratified(data, 0.1, seed=0)       single pictures, for corpora that do not say who is shown

Every function gives (the rest, the part) in the order of the rows. What falls where is decided by SHA-256 of seed and
name, with exactly rounded sums: it depends neither on the order of the rows, nor on the platform, nor on the version of a
random generator. Rows are cut before windowing, so windows stay where their row is. Check a split with `leak_check` (in
`leaks.py`) before training on it.

Whole series of folds are protocols, each named for what its figures may claim:

    P0  random_rows             rows at random                              leaky, diagnostic only
    P1  cross_trial             k-fold over everybody's own trials           people on both sides
    P2  leave_one_subject_out   a fold for every person
    P3  subject_folds           k groups of people
    P4  unseen_stimuli          a person and stimuli, neither of which training has seen

    for fold in folds(data, "P2"):
        train, test = fold.take(data)
"""

import hashlib
import logging
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigurationError, CorpusError, unknown_name
from .file_tree import content_hashes, first_few, looks
from .tables import column, with_column

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

    Sides = tuple[Dataset, Dataset]
    """The rest, and the part that is held out; or training and test."""


logger = logging.getLogger(__name__)


def by_identity(dataset: "Dataset", fraction: float, *, seed: int) -> "Sides":
    """Hold out whole people, such that each label keeps its share as far as they allow, the rarest labels first.

    Args:
        dataset: with the columns identity and sample_id, and label where there are classes.
        fraction: share of the rows to hold out, 0 < fraction < 1.
    """
    _check_fraction(fraction)
    assignment = _assign(dataset, [1 - fraction, fraction], seed)
    return _cut(dataset, lambda row: assignment[row] == 1, f"a share of {fraction:g}")


def assign_folds(dataset: "Dataset", n_folds: int, *, seed: int) -> "Dataset":
    """Give every row a fold 0 … n_folds − 1 such that no person is in two; replaces the column `fold`.

    Arguments and errors as for `by_identity`.
    """
    if n_folds < 2:
        raise ConfigurationError(f"n_folds is {n_folds}. Expected 2 or more.")
    assignment = _assign(dataset, [1 / n_folds] * n_folds, seed)
    empty = sorted(set(range(n_folds)).difference(assignment))
    if empty:
        raise CorpusError(
            f"{len(set(column(dataset, 'identity')))} people leave the folds {first_few(empty)} of {n_folds} empty. "
            "Ask for fewer folds."
        )
    return with_column(dataset, "fold", assignment, "int32")


def by_fold(dataset: "Dataset", folds: Iterable[int]) -> "Sides":
    """Hold out the rows of some folds.

    Returns:
        (the rest, the rows of `folds`); the rest may be empty, when all folds are wanted.
    """
    wanted = sorted(set(folds))
    present = Counter(column(dataset, "fold"))
    if -1 in present:
        raise CorpusError(
            f"{present[-1]} of {len(dataset)} rows, of {len(set(column(dataset, 'identity')))} people, have no fold. Expected one "
            "for every row, and as many people as folds at least. Ask for fewer folds, give the index a column fold, or make folds "
            "with assign_folds."
        )
    absent = [fold for fold in wanted if fold not in present]
    if absent or not wanted:
        raise ConfigurationError(
            f"Folds {wanted} were asked for; the data set has {sorted(present)}. Ask for some of these."
        )
    numbers = column(dataset, "fold")
    return _cut(dataset, lambda row: numbers[row] in wanted, f"folds {wanted}", rest_may_be_empty=True)


def stratified(dataset: "Dataset", fraction: float, *, seed: int) -> "Sides":
    """Hold out single pictures, the same share of every label (±1 row; `round(fraction · n)` in all).

    People may end up on both sides: use it only where identities are not published, and say so beside the figure.
    """
    _check_fraction(fraction)
    _refuse_known_people(dataset)
    labels, names = column(dataset, "label"), column(dataset, "sample_id")
    members: dict[Any, list[int]] = defaultdict(list)
    for row, label in enumerate(labels):
        members[label].append(row)
    order = sorted(members, key=str)
    quotas = apportion([fraction * len(members[label]) for label in order], round(fraction * len(labels)))
    chosen: set[int] = set()
    for label, quota in zip(order, quotas, strict=True):
        rows = sorted(members[label], key=lambda row: _rank(seed, names[row]))
        chosen.update(rows[:quota])
        if quota in (0, len(rows)):
            logger.warning("Label %s has %d rows: one side of the split gets none of them.", label, len(rows))
    return _cut(dataset, lambda row: row in chosen, f"a share of {fraction:g}")


def by_content(dataset: "Dataset", fraction: float, *, seed: int) -> "Sides":
    """Hold out pictures such that no two that are the same (`contents.py`) are on two sides, whatever their labels say.

    For corpora that do not say who is shown and hold pictures more than once. People may end up on both sides: say so.

    Returns:
        (the rest, the held-out part); the share of each label is kept as far as the groups of equal pictures allow.
    """
    import datasets

    _check_fraction(fraction)
    _refuse_known_people(dataset)
    contents, shown = content_hashes(dataset), looks(dataset)
    # a picture that was encoded anew goes with the first of those that it is the same as, pixel for pixel
    first = {
        look.pixels: content
        for content, look in sorted(zip(contents, shown, strict=True), key=itemgetter(0), reverse=True)
    }
    keys = [first[look.pixels] if look.pixels else content for content, look in zip(contents, shown, strict=True)]
    grouped = with_column(dataset, "identity", keys, datasets.Value("string"))
    assignment = _assign(grouped, [1 - fraction, fraction], seed)
    return _cut(dataset, lambda row: assignment[row] == 1, f"a share of {fraction:g}")


def without_content_of(dataset: "Dataset", *others: "Dataset") -> "Dataset":
    """The rows whose content stands in none of the others; what is left out is said in the log."""

    def keys(rows: "Dataset") -> list[set[str]]:
        return [{content, look.pixels} - {""} for content, look in zip(content_hashes(rows), looks(rows), strict=True)]

    known = {key for other in others for own in keys(other) for key in own}
    keep = [row for row, own in enumerate(keys(dataset)) if known.isdisjoint(own)]
    if len(keep) == len(dataset):
        return dataset
    logger.info("%d of %d rows are left out, whose content stands elsewhere.", len(dataset) - len(keep), len(dataset))
    return dataset.select(keep)


def by_trial(dataset: "Dataset", fraction: float, *, seed: int) -> "Sides":
    """Hold out whole trials: of everybody, `round(fraction · n)` of their n trials.

    People stand on both sides, which is what a subject-dependent protocol means; say so beside the figure.

    Args:
        fraction: share of the trials to hold out, 0 < fraction < 1.
    """
    _check_fraction(fraction)
    people, trials = column(dataset, "identity"), _known(dataset, "trial")
    theirs: dict[str, set[str]] = defaultdict(set)
    for who, trial in zip(people, trials, strict=True):
        theirs[who].add(trial)
    held = {
        (who, trial)
        for who, own in theirs.items()
        for trial in sorted(own, key=lambda one: _rank(seed, f"{who}/{one}"))[: round(fraction * len(own))]
    }
    return _cut(dataset, lambda row: (people[row], trials[row]) in held, f"a share of {fraction:g} of the trials")


def by_stimulus(dataset: "Dataset", fraction: float, *, seed: int) -> "Sides":
    """Hold out whole stimuli, `round(fraction · n)` of n and at least one; people stand on both sides.

    Arguments as for `by_trial`, with the column stimulus.
    """
    _check_fraction(fraction)
    stimuli = _known(dataset, "stimulus")
    ranked = sorted(set(stimuli), key=lambda one: _rank(seed, one))
    held = set(ranked[: max(1, round(fraction * len(ranked)))])
    return _cut(dataset, lambda row: stimuli[row] in held, f"a share of {fraction:g} of the stimuli")


def _known(dataset: "Dataset", name: str) -> list[str]:
    """A column of names, none of which is unknown."""
    if name not in dataset.column_names:
        raise CorpusError(f"The rows have no column {name}. Expected one to divide them by it. Use another split.")
    values = column(dataset, name)
    nameless = [row for row, value in enumerate(values) if not value]
    if nameless:
        raise CorpusError(
            f"{len(nameless)} of {len(values)} rows have no {name}, row {nameless[0]} among them. Expected one for every row. "
            "Use another split."
        )
    return values


def _assign(dataset: "Dataset", shares: Sequence[float], seed: int) -> list[int]:
    """The bin of every row: people go, one by one, where they bring the labels nearest to their shares.

    People who hold much of a rare label come first, because they are the hardest to place; the many who hold one picture
    of a frequent label come last and even things out. Distance is the squared relative error per label and bin. Where rows have
    no label, only their number counts.
    """
    people, names = column(dataset, "identity"), column(dataset, "sample_id")
    labels = column(dataset, "label") if "label" in dataset.column_names else [0] * len(people)
    nameless = [name for name, who in zip(names, people, strict=True) if not who]
    if nameless:
        raise CorpusError(
            f"Nobody says who is shown in {first_few(nameless)}. Expected an identity for every row. Add identities, or use "
            "`stratified` and say so."
        )
    holdings: dict[str, Counter[Any]] = defaultdict(Counter)
    for who, label in zip(people, labels, strict=True):
        holdings[who][label] += 1
    totals = Counter(labels)
    order = sorted(
        holdings,
        key=lambda who: (
            -max(n / totals[label] for label, n in holdings[who].items()),
            _rank(seed, f"person/{who}"),
            who,
        ),
    )
    filled = [Counter[Any]() for _ in shares]
    place: dict[str, int] = {}
    for who in order:
        # growth of Σ (n − share·total)² / (share·total²) when this person joins the bin; fsum is exact on any platform
        growth = [
            math.fsum(
                n * (2 * (filled[position][label] - share * totals[label]) + n) / (share * totals[label] ** 2)
                for label, n in holdings[who].items()
            )
            for position, share in enumerate(shares)
        ]
        place[who] = growth.index(min(growth))
        filled[place[who]].update(holdings[who])
    return [place[who] for who in people]


def apportion(exact: Sequence[float], total: int) -> list[int]:
    """Whole numbers that sum to `total`, as near to the exact shares as can be: the method of the largest remainder.

    Args:
        exact: shares, none negative, that sum to `total` but for less than one each.
        total: a whole number.

    Returns:
        The floors of the shares, and one more for those with the largest remainders; the first of equals comes first.
    """
    whole = [math.floor(share) for share in exact]
    by_remainder = sorted(range(len(whole)), key=lambda place: whole[place] - exact[place])  # a stable sort
    for place in by_remainder[: max(total - sum(whole), 0)]:
        whole[place] += 1
    return whole


def _rank(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed}/{name}".encode()).digest()


def _cut(dataset: "Dataset", in_part: Callable[[int], bool], what: str, rest_may_be_empty: bool = False) -> "Sides":
    sides: tuple[list[int], list[int]] = ([], [])
    for row in range(len(dataset)):
        sides[in_part(row)].append(row)
    if not sides[1] or not (sides[0] or rest_may_be_empty):
        raise CorpusError(
            f"Holding out {what} of {len(dataset)} rows leaves one side empty. Expected rows on both. Use more data, or "
            "another share."
        )
    return dataset.select(sides[0]), dataset.select(sides[1])


def _refuse_known_people(dataset: "Dataset") -> None:
    if any(column(dataset, "identity")):
        raise CorpusError(
            "The data set says who is shown, and single pictures of one person would fall on both sides. "
            "Use by_identity. If that is what you want, blank the identity column first."
        )


def _check_fraction(fraction: float) -> None:
    if not 0 < fraction < 1:
        raise ConfigurationError(f"The fraction to hold out is {fraction!r}. Expected a number between 0 and 1.")


# --- Protocols --------------------------------------------------------------------------------------------------------
# A figure is worth what its protocol lets it claim, so each says what its two sides share, and whether that makes the figure
# a diagnostic at best; a division that a corpus publishes is one by the name "official".


@dataclass(frozen=True)
class Protocol:
    """What a division is called, and what its figures may claim.

    Attributes:
        unit: what is kept together: "subject", "trial", "stimulus", "subject and stimulus", "row", or as a corpus has it.
        leaky: the sides share what a new user of the model would not have given it; a figure is a diagnostic only.
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
        train, test: row numbers, in the order of the rows. Rows in neither are left out (P4).
    """

    name: str
    train: NDArray[np.int64]
    test: NDArray[np.int64]

    def take(self, dataset: "Dataset") -> "Sides":
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


def folds(dataset: "Dataset", protocol: str, *, n_folds: int = 5, seed: int = 0) -> list[Fold]:
    """The folds of a protocol, by its name.

    Args:
        dataset: with the columns identity and sample_id, and what the protocol cuts by: trial, stimulus.
        n_folds: of P0, P1 and P3 how many folds; of P4 into how many parts the stimuli are cut.
    """
    if protocol not in _MAKERS:
        raise unknown_name("protocol", protocol, _MAKERS)
    if n_folds < 2:
        raise ConfigurationError(f"n_folds is {n_folds}. Expected 2 or more.")
    return _MAKERS[protocol](dataset, n_folds, seed)


def find_fold(dataset: "Dataset", protocol: str, name: str, *, n_folds: int, seed: int) -> Fold:
    """The fold of that name; other arguments as for `folds`."""
    made = {fold.name: fold for fold in folds(dataset, protocol, n_folds=n_folds, seed=seed)}
    if name not in made:
        raise unknown_name(f"fold of {protocol}", name, made)
    return made[name]


def number_folds(
    dataset: "Dataset", protocol: str, *, n_folds: int = 5, seed: int = 0, stratify_by: str | None = None
) -> "Dataset":
    """The data set with its column `fold` replaced by the folds of P0, P1, P2 or P3.

    Arguments as for `folds`; `stratify_by`, of P3 alone, as for `subject_folds`.
    """
    if protocol == "P4":
        raise ConfigurationError("P4 leaves rows out of each fold, so it is no column of folds. Use splits.folds.")
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
    splits: "DatasetDict", protocol: str | None, address: str, *, n_folds: int = 5, stratify_by: str | None = None
) -> "DatasetDict":
    """A corpus of one split "all" with its folds numbered; as it is, with a warning, where too few people make no groups.

    None for the protocol: groups of people that keep labels in proportion (`assign_folds`).
    """
    people = len(set(column(splits["all"], "identity")))
    if protocol in (None, "P3") and people < n_folds:
        logger.warning("%s: %d people make no %d folds; the column fold is −1.", address, people, n_folds)
    elif protocol is None:
        splits["all"] = assign_folds(splits["all"], n_folds, seed=0)
    else:
        splits["all"] = number_folds(splits["all"], protocol, n_folds=n_folds, stratify_by=stratify_by)
    return splits


def random_rows(dataset: "Dataset", n_folds: int, seed: int) -> list[Fold]:
    """P0: k-fold over single rows. Leaky: what lies a second apart stands on both sides."""
    return _by_bin(_assign_in_turn(column(dataset, "sample_id"), n_folds, seed, "rows"), n_folds)


def cross_trial(dataset: "Dataset", n_folds: int, seed: int) -> list[Fold]:
    """P1: everybody's trials go into k folds in turn, each person's for itself.

    Trials of a corpus may be sorted by stimulus; an order of their own for each person keeps a fold from
    being a fixed set of stimuli.
    """
    people, trials = _known(dataset, "identity"), _known(dataset, "trial")
    rows: dict[str, list[int]] = defaultdict(list)
    for row, who in enumerate(people):
        rows[who].append(row)
    bins = [0] * len(people)
    for who, own in rows.items():
        assigned = _assign_in_turn([f"{who}/{trials[row]}" for row in own], n_folds, seed, f"trials of {who}")
        for row, place in zip(own, assigned, strict=True):
            bins[row] = place
    return _by_bin(bins, n_folds)


def leave_one_subject_out(dataset: "Dataset") -> list[Fold]:
    """P2: a fold for every person, in the order of their names."""
    people = np.asarray(_known(dataset, "identity"))
    names = sorted(set(people.tolist()))
    if len(names) < 2:
        raise CorpusError(f"The rows are of {len(names)} person. Expected two or more to leave one out.")
    return [Fold(who, np.flatnonzero(people != who), np.flatnonzero(people == who)) for who in names]


def subject_folds(dataset: "Dataset", n_folds: int, seed: int, *, stratify_by: str | None = None) -> list[Fold]:
    """P3: people go into k folds in turn.

    Args:
        stratify_by: column of something that people have one of (the site where they were recorded), spread over the folds.
    """
    people = _known(dataset, "identity")
    strata = column(dataset, stratify_by) if stratify_by else [""] * len(people)
    return _by_bin(_assign_in_turn(people, n_folds, seed, "people", strata), n_folds)


def unseen_stimuli(dataset: "Dataset", n_folds: int, seed: int) -> list[Fold]:
    """P4: for every person and every of k parts of the stimuli, test that person on that part; training sees neither."""
    people = np.asarray(_known(dataset, "identity"))
    parts = np.asarray(_assign_in_turn(_known(dataset, "stimulus"), n_folds, seed, "stimuli"))
    made = []
    for whole in leave_one_subject_out(dataset):
        for part in range(n_folds):
            theirs, shown = people == whole.name, parts == part
            if (theirs & shown).any():  # not everybody need have seen every part
                name = f"{whole.name}/{part}"
                made.append(Fold(name, np.flatnonzero(~theirs & ~shown), np.flatnonzero(theirs & shown)))
    return made


_MAKERS: dict[str, Callable[["Dataset", int, int], list[Fold]]] = {
    "P0": random_rows,
    "P1": cross_trial,
    "P2": lambda dataset, n_folds, seed: leave_one_subject_out(dataset),
    "P3": subject_folds,
    "P4": unseen_stimuli,
}


def _assign_in_turn(
    units: Sequence[str], n_folds: int, seed: int, what: str, strata: Sequence[str] | None = None
) -> list[int]:
    """The bin of every row: its unit's place in the order of ranks, modulo the number of folds, one stratum after the other."""
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
