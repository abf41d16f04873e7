"""statistics: means and SD over seeds, differences over people, Holm's correction, and models that answer one thing."""

import csv
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from meco_hub.comparison.plan import Cell, ModelChoice
from meco_hub.comparison.statistics import (
    MOST_COUNTED,
    Summary,
    _notes,
    _only_answer,
    compare_people,
    figure,
    holm,
    read_people,
    signed_rank,
    summarise_cells,
)
from meco_hub.errors import ConfigurationError
from meco_hub.evaluation.evaluate import EvaluationSettings


def test_mean_and_sd_are_over_the_seeds_means_over_folds() -> None:
    found = figure({(0, "a"): 0.6, (0, "b"): 0.8, (1, "a"): 0.7, (1, "b"): 0.9, (2, "a"): 0.6, (2, "b"): 0.6})
    assert found.by_seed == pytest.approx([0.7, 0.8, 0.6])
    assert found.mean == pytest.approx(0.7)
    assert found.sd == pytest.approx(0.1)  # n − 1, not n
    assert found.by_fold == pytest.approx({"a": 19 / 30, "b": 23 / 30})
    assert found.undefined == 0


def test_one_seed_has_no_sd_and_what_is_undefined_is_counted() -> None:
    found = figure({(3, "a"): 0.5, (3, "b"): None, (3, "c"): 0.7, (3, "d"): float("nan")})
    assert (found.mean, found.sd, found.undefined) == (pytest.approx(0.6), None, 2)
    nothing = figure({(0, "a"): None})
    assert (nothing.mean, nothing.sd, nothing.by_seed, nothing.undefined) == (None, None, [], 1)


def test_a_difference_is_that_of_the_paired_t_interval_and_of_the_signed_rank_test() -> None:
    draw = np.random.default_rng(0)
    people = [f"p{who}" for who in range(12)]
    other = dict(zip(people, draw.uniform(0.4, 0.9, 12), strict=True))
    gains = draw.normal(0.05, 0.04, 12)
    own = {who: other[who] + gain for who, gain in zip(people, gains, strict=True)} | {"alone": 0.9}
    found = compare_people("uar", own, other)
    assert found.people == 12  # who has one figure only is no pair
    assert found.mean == pytest.approx(gains.mean())
    # the jackknife counts the whole spread of few people: the paired t interval, wider by sqrt(n / (n − 1))
    half = stats.t.ppf(0.975, 11) * gains.std(ddof=1) / np.sqrt(12) * np.sqrt(12 / 11)
    assert (found.low, found.high) == (pytest.approx(gains.mean() - half), pytest.approx(gains.mean() + half))
    # exact, by counting all 2^12 signs of the ranks
    ranks = stats.rankdata(np.abs(gains))
    signs = np.array(np.meshgrid(*[[0, 1]] * 12)).reshape(12, -1)
    sums, seen = ranks @ signs, min(ranks[gains > 0].sum(), ranks[gains < 0].sum())
    assert found.p == pytest.approx(min(1.0, 2 * np.mean(sums <= seen)))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(-4, 4), min_size=1, max_size=9))
def test_the_signed_rank_test_counts_all_signs_with_ties_and_zeros_too(tenths: list[int]) -> None:
    differences = np.array(tenths, np.float64) / 10
    kept = differences[differences != 0]
    ranks = stats.rankdata(np.abs(kept))
    signs = np.array(list(product([False, True], repeat=len(kept)))).reshape(2 ** len(kept), -1)
    sums = (ranks * signs).sum(axis=1)
    seen = min(ranks[kept > 0].sum(), ranks[kept < 0].sum())
    assert signed_rank(differences) == pytest.approx(min(1.0, 2 * np.mean(sums <= seen + 1e-9)))


def test_of_very_many_people_the_signed_rank_test_is_the_normal_approximation() -> None:
    draw = np.random.default_rng(3)
    for count in (MOST_COUNTED, MOST_COUNTED + 1):
        differences = draw.normal(0.1, 1.0, count)
        expected = stats.wilcoxon(differences, method="approx").pvalue
        assert signed_rank(differences) == pytest.approx(expected, rel=0.02)


def test_what_rounding_makes_of_equal_figures_is_no_difference() -> None:
    people = [f"p{who}" for who in range(20)]
    figures = np.random.default_rng(0).uniform(size=20)
    once = dict(zip(people, figures.tolist(), strict=True))
    thrice = {who: float(np.mean([value] * 3)) + 1e-15 for who, value in once.items()}
    found = compare_people("uar", thrice, once)
    assert (found.mean, found.p) == (0.0, 1.0)


def test_few_people_have_no_interval_and_equal_ones_no_difference() -> None:
    alone = compare_people("uar", {"a": 0.7}, {"a": 0.5})
    assert (alone.people, alone.mean, alone.low, alone.p) == (1, pytest.approx(0.2), None, None)
    assert compare_people("uar", {"a": 0.7}, {"b": 0.5}).mean is None
    same = compare_people("uar", {"a": 0.7, "b": 0.5}, {"a": 0.7, "b": 0.5})
    assert (same.mean, same.low, same.high, same.p) == (0.0, None, None, 1.0)
    # three who all gain a half: no interval, which would be of no width
    gain = compare_people("uar", {"a": 1.0, "b": 1.0, "c": 1.0}, {"a": 0.5, "b": 0.5, "c": 0.5})
    assert (gain.mean, gain.low, gain.high, gain.p) == (0.5, None, None, 0.25)


def test_an_interval_of_a_difference_may_lie_on_both_sides_of_nothing() -> None:
    own = {"a": 0.2, "b": 0.9, "c": 0.5, "d": 0.4}
    found = compare_people("rmse", own, dict.fromkeys(own, 0.5))
    assert found.low is not None
    assert found.high is not None
    assert found.low < -0.1 < 0 < found.high


def test_holm_by_hand() -> None:
    # sorted 0.005, 0.01, 0.03, 0.04: times 4, 3, 2, 1, and never below the one before
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, None, 0.7]) == [1.0, None, 1.0]
    assert holm([]) == []


def test_the_family_error_of_holm_is_kept() -> None:
    draw = np.random.default_rng(1)
    rejected = [min(one for one in holm(draw.uniform(size=5).tolist()) if one is not None) <= 0.05 for _ in range(4000)]
    assert 0.03 < np.mean(rejected) < 0.06


def _report(counts: list[list[int]], **more: object) -> dict:
    matrix = {"labels": ["calm", "stress"], "counts": counts}
    return {"confusion_matrix": matrix, "metrics": {}, "data": {"seen": None}, "checkpoint": {}, **more}


def test_a_model_that_answers_one_class_is_called_so() -> None:
    constant, other = _report([[8, 0], [4, 0]]), _report([[8, 1], [4, 0]])
    assert _only_answer(constant) == "calm alone"
    assert _only_answer(other) is None
    assert _notes([constant, constant]) == ["answers calm alone throughout"]
    assert _notes([constant, other, other]) == ["answers calm alone in 1 of 3 runs"]
    assert _notes([other]) == []
    flat = {"metrics": {"pcc": 0.0, "ccc": 0.0}, "data": {}, "checkpoint": {}}
    assert _notes([flat]) == ["answers one value throughout"]
    seen = _report([[1, 1], [1, 1]], data={"seen": {"people": 5, "trained_on": 4}}, checkpoint={"control": "x"})
    drawn = _report([[1, 1], [1, 1]], checkpoint={"training_data": "partly synthetic"})
    assert _notes([drawn, other]) == ["trained on partly synthetic data"]
    assert _notes([seen]) == ["was trained on 4 of 5 people of a fold", "a control: trained on permuted labels"]


def _summary(tmp_path: Path, finished: dict[tuple[str, int, int], dict[str, Any]]) -> Summary:
    """The table of cells (model, seed, fold) → metrics that are there, of two models, two folds and two seeds."""
    cells = [
        Cell(model, str(fold), seed, None, ModelChoice(), EvaluationSettings(), {})
        for seed in (0, 1)
        for fold in (0, 1)
        for model in ("a", "b")
    ]
    plan: Any = SimpleNamespace(
        comparison=SimpleNamespace(models={"a": None, "b": None}, metrics=["uar", "auroc"], compared_with="a"),
        cells=cells,
        folds=["0", "1"],
        cells_of=lambda model: [cell for cell in cells if cell.model == model],
        describe=dict,
    )
    reports: dict[Any, Any] = {}
    for cell in cells:
        metrics = finished.get((cell.model, cell.seed, int(cell.fold)))
        if metrics is None:
            continue
        folder = tmp_path / cell.folder / "test"
        folder.mkdir(parents=True)
        (folder / "people.csv").write_text(f"person,uar\np{cell.fold},{metrics['uar']}\n")
        data = {"identities": 1, "samples": 10 + int(cell.fold), "seen": None}
        reports[cell] = _report([[1, 1], [1, 1]], metrics=metrics, data=data, kind="classification", conditions=[])
    return summarise_cells(plan, reports, tmp_path)


def test_a_seed_counts_once_all_its_folds_are_there(tmp_path: Path) -> None:
    # of the second seed fold 1 is missing, and fold 0 alone would make another mean, and an SD of folds
    there = {("a", 0, 0): 0.5, ("a", 0, 1): 0.7, ("a", 1, 0): 0.1, ("b", 0, 0): 0.9}
    found = _summary(tmp_path, {key: {"uar": value, "auroc": 0.5} for key, value in there.items()})
    whole, begun = found.rows
    assert (whole.figures["uar"].mean, whole.figures["uar"].sd) == (pytest.approx(0.6), None)
    assert whole.notes == ["3 of 4 runs are finished; 2 of them, of whole seeds, count"]
    assert (begun.figures["uar"].mean, begun.cells) == (None, 0)
    assert begun.difference is not None
    assert begun.difference.mean is None
    assert begun.notes == ["1 of 4 runs are finished; 0 of them, of whole seeds, count"]
    assert (found.people, found.samples) == (2, 21)


def test_a_note_says_where_a_figure_is_of_fewer_runs(tmp_path: Path) -> None:
    there: dict[tuple[str, int, int], dict[str, Any]] = {
        (model, seed, fold): {"uar": 0.5, "auroc": None if fold and model == "b" else 0.75}
        for model in ("a", "b")
        for seed in (0, 1)
        for fold in (0, 1)
    }
    found = _summary(tmp_path, there)
    assert found.rows[0].notes == []
    assert found.rows[1].notes == ["AUROC of 2 of 4 runs, undefined in the others"]
    assert found.rows[1].figures["auroc"].mean == 0.75


def test_people_are_read_and_a_metric_that_they_lack_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "people.csv"
    with file.open("w", newline="") as stream:
        csv.writer(stream).writerows(
            [["person", "n", "uar", "auroc"], ["a,b", "4", "0.5", ""], ["c", "9", "0.25", "1.0"]]
        )
    assert read_people(file, "uar") == {"a,b": 0.5, "c": 0.25}
    assert read_people(file, "auroc") == {"c": 1.0}
    with pytest.raises(
        ConfigurationError, match="auroc_within_minute is no figure of single people; they have n, uar, auroc"
    ):
        read_people(file, "auroc_within_minute")
