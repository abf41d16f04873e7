"""Answers given only from some score on: the curve by counting, AURC of known cases, thresholds that keep their risk."""

import numpy as np
import pytest

from meco_hub.evaluation.calibration import area_under_risk, describe_selection, least_scores, risk_coverage


def of(scores: list[float], right: list[bool]) -> tuple[np.ndarray, np.ndarray]:
    """Labels and probabilities of two classes whose first has the score, and is the true one where `right`."""
    probabilities = np.asarray([[score, 1 - score] for score in scores])
    return np.where(right, 0, 1), probabilities


def test_the_curve_counts_wrong_answers_among_the_surest() -> None:
    coverage, risk, scores = risk_coverage(*of([0.6, 0.9, 0.8, 0.7], [False, True, False, True]))
    np.testing.assert_allclose(coverage, [0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(risk, [0, 1 / 2, 1 / 3, 1 / 2])
    np.testing.assert_allclose(scores, [0.9, 0.8, 0.7, 0.6])
    assert area_under_risk(coverage, risk) == pytest.approx((0 + 1 / 2 + 1 / 3 + 1 / 2) / 4)


def test_inputs_of_one_score_are_answered_together() -> None:
    coverage, risk, _ = risk_coverage(*of([0.9, 0.7, 0.7, 0.7], [True, False, True, True]))
    np.testing.assert_allclose(coverage, [0.25, 1])
    np.testing.assert_allclose(risk, [0, 0.25])


@pytest.mark.parametrize("seed", range(5))
def test_a_stored_score_keeps_its_risk_on_other_data(seed: int) -> None:
    """Scores that are true probabilities; the bound may fail once in twenty, and then by little."""
    generator = np.random.default_rng(seed)

    def draw(count: int) -> tuple[np.ndarray, np.ndarray]:
        scores = generator.uniform(0.5, 1, count)
        return of(list(scores), list(generator.random(count) < scores))

    stored = least_scores(*draw(3000))
    assert {"0.1", "0.2"} <= stored.keys()
    assert list(stored.values()) == sorted(stored.values(), reverse=True)
    _, risk, scores = risk_coverage(*draw(50_000))
    for allowed, score in stored.items():
        reached = risk[scores >= score][-1]
        assert reached <= float(allowed) + 0.01
    report = describe_selection(*draw(1000), [None] * 1000)
    assert report["with_warnings"] is None
    assert [round(one["coverage"], 1) for one in report["curve"]] == [round(0.1 * k, 1) for k in range(1, 11)]
    # the integral of 1 - (1 - c / 4) over coverage c
    assert report["aurc"] == pytest.approx(1 / 8, abs=0.03)


def test_a_risk_that_no_score_keeps_is_left_out() -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, 500)
    assert least_scores(labels, np.stack([generator.random(500)] * 2, axis=1) / 2) == {}


def test_answers_that_are_warned_of_come_last() -> None:
    """Four answers, of which the surest is wrong and warned of."""
    scores, right = [0.9, 0.8, 0.7, 0.6], [False, True, False, True]
    report = describe_selection(*of(scores, right), [("face_small", "face_blurred"), (), (), ("face_small",)])
    known = report["with_warnings"]
    assert (known["warned"], known["warned_risk"]) == (2, 0.5)
    assert known["codes"] == {"face_blurred": 1, "face_small": 2}
    # in the order .8 .7 .9 .6: right, wrong, wrong, right
    assert known["aurc"] == pytest.approx((0 + 1 / 2 + 2 / 3 + 1 / 2) / 4)
    assert report["aurc"] == pytest.approx((1 + 1 / 2 + 2 / 3 + 1 / 2) / 4)
    assert known["curve"][-1] == {"coverage": 1.0, "risk": 0.5}


def test_without_a_warning_both_are_one() -> None:
    generator = np.random.default_rng(0)
    scores = list(generator.uniform(0.5, 1, 300))
    report = describe_selection(*of(scores, list(generator.random(300) < scores)), [()] * 300)
    known = report["with_warnings"]
    assert (known["aurc"], known["warned"], known["warned_risk"], known["codes"]) == (report["aurc"], 0, None, {})
    assert known["curve"] == [{key: one[key] for key in ("coverage", "risk")} for one in report["curve"]]
