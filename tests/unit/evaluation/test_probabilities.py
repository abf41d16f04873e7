"""Probabilities: against scikit-learn and torchmetrics on random and degenerate inputs, and known cases."""

import numpy as np
import pytest
import torch
from sklearn import metrics as sk

from meco_hub.evaluation.metrics import (
    BINS,
    brier_score,
    calibration_error,
    cross_entropy,
    log_softmax,
    maximum_calibration_error,
    reliability,
    softmax,
)


def random_case(seed: int, n: int = 400, classes: int = 5) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, classes, n)
    return labels, generator.normal(size=(n, classes)) * 2 + 1.5 * np.eye(classes)[labels]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("classes", [2, 5])
def test_calibration_errors_agree_with_torchmetrics(seed: int, classes: int) -> None:
    functional = pytest.importorskip("torchmetrics.functional.classification")
    labels, logits = random_case(seed, classes=classes)
    probabilities = softmax(logits)
    given = torch.tensor(probabilities), torch.tensor(labels)
    for norm, ours in (("l1", calibration_error), ("max", maximum_calibration_error)):
        theirs = functional.multiclass_calibration_error(*given, num_classes=classes, n_bins=BINS, norm=norm)
        # torchmetrics averages in single precision
        assert ours(labels, probabilities) == pytest.approx(float(theirs), abs=2e-6)


@pytest.mark.parametrize("seed", range(3))
def test_brier_and_cross_entropy_agree_with_scikit_learn(seed: int) -> None:
    labels, logits = random_case(seed)
    probabilities = softmax(logits)
    onehot = np.eye(5)[labels]
    per_class = [sk.brier_score_loss(onehot[:, index], probabilities[:, index]) for index in range(5)]
    assert brier_score(labels, probabilities) == pytest.approx(sum(per_class))
    assert cross_entropy(labels, logits) == pytest.approx(sk.log_loss(labels, probabilities, labels=range(5)))
    assert cross_entropy(labels, logits) == pytest.approx(
        float(torch.nn.functional.cross_entropy(torch.tensor(logits), torch.tensor(labels)))
    )


def test_brier_runs_from_0_to_2() -> None:
    sure = np.array([[1.0, 0.0, 0.0]])
    assert brier_score(np.array([0]), sure) == 0.0
    assert brier_score(np.array([1]), sure) == 2.0
    assert brier_score(np.array([1]), np.full((1, 4), 0.25)) == pytest.approx(0.75)


def test_one_sample_of_one_class() -> None:
    labels, probabilities = np.array([0]), np.array([[0.7, 0.3]])
    assert calibration_error(labels, probabilities) == pytest.approx(0.3)
    assert maximum_calibration_error(labels, probabilities) == pytest.approx(0.3)
    assert sum(one.n for one in reliability(labels, probabilities)) == 1


def test_bins_hold_everybody_once_and_say_nothing_of_nobody() -> None:
    labels, logits = random_case(1, n=50)
    bins = reliability(labels, softmax(logits))
    assert len(bins) == BINS
    assert sum(one.n for one in bins) == 50
    assert (bins[0].low, bins[-1].high) == (0.0, 1.0)
    for one in bins:
        if one.n:
            assert one.confidence is not None
            assert one.low <= one.confidence <= one.high
        else:
            assert one.confidence is one.accuracy is None
    accuracy = sum(one.n * (one.accuracy or 0) for one in bins) / 50
    assert accuracy == pytest.approx((logits.argmax(1) == labels).mean())


def test_edges_belong_to_the_bin_above_and_certainty_to_the_last() -> None:
    probabilities = np.array([[0.5, 0.5], [1.0, 0.0], [0.75, 0.25]])
    bins = reliability(np.array([0, 0, 0]), probabilities, bins=4)
    assert [one.n for one in bins] == [0, 0, 1, 2]


def test_the_largest_gap_is_the_maximum() -> None:
    # four samples of 0.9 of which one is right, six of 0.6 of which four are right
    probabilities = np.array([[0.9, 0.1]] * 4 + [[0.6, 0.4]] * 6)
    labels = np.array([0, 1, 1, 1, 0, 0, 0, 0, 1, 1])
    assert maximum_calibration_error(labels, probabilities) == pytest.approx(0.65)
    assert calibration_error(labels, probabilities) == pytest.approx(0.4 * 0.65 + 0.6 * (4 / 6 - 0.6))


def test_large_scores_neither_overflow_nor_vanish() -> None:
    logits = np.array([[1e4, 0.0], [-1e4, 0.0]])
    assert softmax(logits).tolist() == [[1.0, 0.0], [0.0, 1.0]]
    assert log_softmax(logits).tolist() == [[0.0, -1e4], [-1e4, 0.0]]
    assert cross_entropy(np.array([1, 0]), logits) == pytest.approx(1e4)
