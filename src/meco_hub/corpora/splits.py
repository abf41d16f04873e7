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
`leaks.py`) before training on it; whole protocols, leave-one-subject-out among them, are in `protocols.py`.
"""

import hashlib
import logging
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import ConfigurationError, CorpusError
from .file_tree import content_hashes, first_few
from .tables import column, with_column

if TYPE_CHECKING:
    import datasets


logger = logging.getLogger(__name__)


def by_identity(
    dataset: "datasets.Dataset", fraction: float, *, seed: int, stratify: bool = True, unknown: str = "error"
) -> "tuple[datasets.Dataset, datasets.Dataset]":
    """Hold out whole people.

    Args:
        dataset: with the columns identity and sample_id, and label where there are classes.
        fraction: share of the rows to hold out, 0 < fraction < 1.
        seed: another seed, other people.
        stratify: keep each label's share, rarest labels first; else, and where rows have no label, only the number of rows.
        unknown: what to do with rows of unknown identity: "error", or "separate" to count each as a person of its own,
            which is right only if none of them shows the same person as another.

    Returns:
        (the rest, the held-out part).

    Raises:
        CorpusError: identities are unknown, or too few to cut.
        ConfigurationError: `fraction` or `unknown` makes no sense.
    """
    _check_fraction(fraction)
    assignment = _assign(dataset, [1 - fraction, fraction], seed, stratify, unknown)
    return _cut(dataset, lambda row: assignment[row] == 1, f"a share of {fraction:g}")


def assign_folds(
    dataset: "datasets.Dataset", n_folds: int, *, seed: int, stratify: bool = True, unknown: str = "error"
) -> "datasets.Dataset":
    """Give every row a fold 0 … n_folds − 1 such that no person is in two; replaces the column `fold`.

    Arguments and errors as for `by_identity`.
    """
    if n_folds < 2:
        raise ConfigurationError(f"n_folds is {n_folds}. Expected 2 or more.")
    assignment = _assign(dataset, [1 / n_folds] * n_folds, seed, stratify, unknown)
    empty = sorted(set(range(n_folds)).difference(assignment))
    if empty:
        raise CorpusError(
            f"{len(set(column(dataset, 'identity')))} people leave the folds {first_few(empty)} of {n_folds} empty. "
            "Ask for fewer folds."
        )
    return with_column(dataset, "fold", assignment, "int32")


def by_fold(dataset: "datasets.Dataset", folds: Iterable[int]) -> "tuple[datasets.Dataset, datasets.Dataset]":
    """Hold out the rows of some folds.

    Returns:
        (the rest, the rows of `folds`); the rest may be empty, when all folds are asked for.

    Raises:
        CorpusError: rows without a fold.
        ConfigurationError: a fold that the data set does not have.
    """
    wanted = sorted(set(folds))
    present = Counter(column(dataset, "fold"))
    if -1 in present:
        raise CorpusError(
            f"{present[-1]} of {len(dataset)} rows have no fold. Expected one for every row: give the index a column "
            "fold, or make folds with assign_folds."
        )
    absent = [fold for fold in wanted if fold not in present]
    if absent or not wanted:
        raise ConfigurationError(
            f"Folds {wanted} were asked for; the data set has {sorted(present)}. Ask for some of these."
        )
    numbers = column(dataset, "fold")
    return _cut(dataset, lambda row: numbers[row] in wanted, f"folds {wanted}", rest_may_be_empty=True)


def stratified(
    dataset: "datasets.Dataset", fraction: float, *, seed: int
) -> "tuple[datasets.Dataset, datasets.Dataset]":
    """Hold out single pictures, the same share of every label (±1 row; `round(fraction · n)` in all).

    People may end up on both sides: use it only where identities are not published, and say so beside the figure.

    Returns:
        (the rest, the held-out part).

    Raises:
        CorpusError: too few rows to cut, or people that are known, whom only `by_identity` keeps together.
        ConfigurationError: `fraction` makes no sense.
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


def by_content(
    dataset: "datasets.Dataset", fraction: float, *, seed: int
) -> "tuple[datasets.Dataset, datasets.Dataset]":
    """Hold out pictures such that no two that are the same (`contents.py`) are on two sides, whatever their labels say.

    For corpora that do not say who is shown and hold pictures more than once. People may end up on both sides: say so.

    Returns:
        (the rest, the held-out part); the share of each label is kept as far as the groups of equal pictures allow.

    Raises:
        CorpusError: people are known, whom only `by_identity` keeps together, or there are too few rows to cut.
        ConfigurationError: `fraction` makes no sense.
    """
    import datasets

    _check_fraction(fraction)
    _refuse_known_people(dataset)
    grouped = with_column(dataset, "identity", content_hashes(dataset), datasets.Value("string"))
    assignment = _assign(grouped, [1 - fraction, fraction], seed, stratify=True, unknown="error")
    return _cut(dataset, lambda row: assignment[row] == 1, f"a share of {fraction:g}")


def without_content_of(dataset: "datasets.Dataset", *others: "datasets.Dataset") -> "datasets.Dataset":
    """The rows whose content stands in none of the others; what is left out is said in the log."""
    known = {one for other in others for one in content_hashes(other)}
    keep = [row for row, one in enumerate(content_hashes(dataset)) if one not in known]
    if len(keep) == len(dataset):
        return dataset
    logger.info("%d of %d rows are left out, whose content stands elsewhere.", len(dataset) - len(keep), len(dataset))
    return dataset.select(keep)


def by_trial(dataset: "datasets.Dataset", fraction: float, *, seed: int) -> "tuple[datasets.Dataset, datasets.Dataset]":
    """Hold out whole trials: of everybody, `round(fraction · n)` of their n trials.

    People stand on both sides, which is what a subject-dependent protocol means; say so beside the figure.

    Args:
        dataset: with the columns identity and trial.
        fraction: share of the trials to hold out, 0 < fraction < 1.
        seed: another seed, other trials.

    Returns:
        (the rest, the held-out part).

    Raises:
        CorpusError: rows without a trial, or too few trials to cut.
        ConfigurationError: `fraction` makes no sense.
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


def by_stimulus(
    dataset: "datasets.Dataset", fraction: float, *, seed: int
) -> "tuple[datasets.Dataset, datasets.Dataset]":
    """Hold out whole stimuli, `round(fraction · n)` of n and at least one; people stand on both sides.

    Arguments, result and errors as for `by_trial`, with the column stimulus.
    """
    _check_fraction(fraction)
    stimuli = _known(dataset, "stimulus")
    ranked = sorted(set(stimuli), key=lambda one: _rank(seed, one))
    held = set(ranked[: max(1, round(fraction * len(ranked)))])
    return _cut(dataset, lambda row: stimuli[row] in held, f"a share of {fraction:g} of the stimuli")


def _known(dataset: "datasets.Dataset", name: str) -> list[str]:
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


def _assign(dataset: "datasets.Dataset", shares: Sequence[float], seed: int, stratify: bool, unknown: str) -> list[int]:
    """The bin of every row: people go, one by one, where they bring the labels nearest to their shares.

    People who hold much of a rare label come first, because they are the hardest to place; the many who hold one picture
    of a frequent label come last and even things out. Distance is the squared relative error per label and bin.
    """
    if unknown not in ("error", "separate"):
        raise ConfigurationError(f'unknown is {unknown!r}. Expected "error" or "separate".')
    identities, names = column(dataset, "identity"), column(dataset, "sample_id")
    stratify = stratify and "label" in dataset.column_names
    labels = column(dataset, "label") if stratify else [0] * len(identities)
    nameless = [names[row] for row, identity in enumerate(identities) if not identity]
    if nameless and unknown == "error":
        raise CorpusError(
            f"Nobody says who is shown in {first_few(nameless)}. Expected an identity for every row. Add identities; "
            "or, if every such picture shows another person, say unknown='separate'; or use `stratified` and say so."
        )
    # an identity and a sample_id may be the same string, hence the kind beside the name
    people = [("person", who) if who else ("picture", names[row]) for row, who in enumerate(identities)]
    holdings: dict[tuple[str, str], Counter[Any]] = defaultdict(Counter)
    for who, label in zip(people, labels, strict=True):
        holdings[who][label] += 1
    totals = Counter(labels)
    order = sorted(
        holdings,
        key=lambda who: (
            -max(n / totals[label] for label, n in holdings[who].items()),
            _rank(seed, "/".join(who)),
            who,
        ),
    )
    filled = [Counter[Any]() for _ in shares]
    place: dict[tuple[str, str], int] = {}
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


def _cut(
    dataset: "datasets.Dataset", in_part: Callable[[int], bool], what: str, rest_may_be_empty: bool = False
) -> "tuple[datasets.Dataset, datasets.Dataset]":
    sides: tuple[list[int], list[int]] = ([], [])
    for row in range(len(dataset)):
        sides[in_part(row)].append(row)
    if not sides[1] or not (sides[0] or rest_may_be_empty):
        raise CorpusError(
            f"Holding out {what} of {len(dataset)} rows leaves one side empty. Expected rows on both. Use more data, or "
            "another share."
        )
    return dataset.select(sides[0]), dataset.select(sides[1])


def _refuse_known_people(dataset: "datasets.Dataset") -> None:
    if any(column(dataset, "identity")):
        raise CorpusError(
            "The data set says who is shown, and single pictures of one person would fall on both sides. "
            "Use by_identity. If that is what you want, blank the identity column first."
        )


def _check_fraction(fraction: float) -> None:
    if not 0 < fraction < 1:
        raise ConfigurationError(f"The fraction to hold out is {fraction!r}. Expected a number between 0 and 1.")
