"""Figures against scikit-learn, against published confusion matrices, and at the edges."""

import numpy as np
import pytest
from sklearn import metrics as sk

from meco_hub.errors import InputError
from meco_hub.evaluation.intervals import weighted_auroc
from meco_hub.evaluation.metrics import (
    calibration_error,
    compute_metrics,
    count_confusion,
    macro_auroc,
    scores_of_confusion,
    softmax,
    top_k_accuracy,
)

# Rows true, columns predicted, as printed by the authors of arXiv 2510.13493 (AffectNet-7, AffectNet-8, RAF-DB, FER-2013).
AFFECTNET_7 = """569 43 15 9 37 30 19 97 363 31 98 33 38 35 25 10 464 5 13 9 83 4 4 1 843 6 0 9
    35 8 9 21 412 28 59 47 16 50 32 54 372 28 19 13 89 45 37 14 706"""
AFFECTNET_8 = """398 40 96 9 4 82 74 19 9 495 18 0 32 55 20 20 28 34 500 6 25 37 47 17 11 3 31 361 4 21 37 141
    3 63 24 1 732 11 16 17 5 56 16 1 3 415 41 35 21 13 23 6 6 64 450 16 5 13 22 19 20 72 35 737"""
RAF_DB = """269 6 3 14 11 15 11 11 46 0 3 6 6 2 4 3 96 16 14 19 8 4 5 11 1120 8 11 26 1 9 12 16 420 4 16
    1 2 9 2 3 141 4 20 0 23 55 85 3 494"""
FER_2013 = """553 9 175 38 44 136 3 32 40 26 0 5 8 0 79 2 796 36 28 303 3 31 0 35 1493 19 175 21
    132 1 311 31 299 186 64 49 0 197 49 13 925 0 33 1 42 52 52 116 535"""
PUBLISHED = {
    # matrix: accuracy, balanced accuracy, macro-F1
    "affectnet_7": (AFFECTNET_7, 0.7477, 0.7358, 0.7341),
    "affectnet_8": (AFFECTNET_8, 0.7255, 0.7183, 0.7175),
    "raf_db": (RAF_DB, 0.8429, 0.7800, 0.7734),
    "fer_2013": (FER_2013, 0.6466, 0.5862, 0.6058),
}


def matrix(text: str) -> np.ndarray:
    values = np.array([int(word) for word in text.split()])
    side = round(len(values) ** 0.5)
    return values.reshape(side, side)


def unroll(confusion: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    true, predicted = np.nonzero(confusion)
    times = confusion[true, predicted]
    return np.repeat(true, times), np.repeat(predicted, times)


def logits_of(predictions: np.ndarray, classes: int) -> np.ndarray:
    return np.eye(classes)[predictions] * 3.0


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_confusion_matrices_give_the_published_figures(name: str) -> None:
    text, accuracy, balanced, macro_f1 = PUBLISHED[name]
    confusion = matrix(text)
    scores = scores_of_confusion(confusion)
    assert round(float(scores["war"]), 4) == accuracy
    assert round(float(scores["uar"]), 4) == balanced
    assert round(float(scores["macro_f1"]), 4) == macro_f1
    true, predicted = unroll(confusion)
    computed = compute_metrics(true, logits_of(predicted, len(confusion)), [f"c{i}" for i in range(len(confusion))])
    assert (computed.confusion == confusion).all()
    assert (round(computed.war, 4), round(computed.uar, 4), round(computed.macro_f1, 4)) == (
        accuracy,
        balanced,
        macro_f1,
    )


@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_scikit_learn(seed: int) -> None:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 6, 300)
    logits = generator.normal(size=(300, 6)) + 1.5 * np.eye(6)[labels]
    predictions = logits.argmax(1)
    computed = compute_metrics(labels, logits, list("abcdef"))
    assert computed.war == pytest.approx(sk.accuracy_score(labels, predictions))
    assert computed.uar == pytest.approx(sk.balanced_accuracy_score(labels, predictions))
    assert computed.macro_f1 == pytest.approx(sk.f1_score(labels, predictions, average="macro"))
    assert computed.macro_auroc == pytest.approx(sk.roc_auc_score(labels, softmax(logits), multi_class="ovr"))
    assert computed.loss == pytest.approx(sk.log_loss(labels, softmax(logits)))
    assert computed.per_class["c"].precision == pytest.approx(
        sk.precision_score(labels, predictions, labels=[2], average="macro")
    )
    assert sum(one.support for one in computed.per_class.values()) == 300
    for name, value in scores_of_confusion(computed.confusion).items():
        assert float(value) == pytest.approx(getattr(computed, name))


def test_a_class_without_samples_is_no_term() -> None:
    # class 2 never occurs but is predicted once: it costs class 1 a hit, and is not averaged over
    labels, predictions = np.array([0, 0, 1, 1]), np.array([0, 0, 1, 2])
    computed = compute_metrics(labels, logits_of(predictions, 3), ["a", "b", "c"])
    assert computed.uar == pytest.approx(0.75)
    assert computed.uar == pytest.approx(sk.recall_score(labels, predictions, labels=[0, 1], average="macro"))
    assert computed.macro_f1 == pytest.approx(sk.f1_score(labels, predictions, labels=[0, 1], average="macro"))
    assert computed.per_class["c"].support == 0
    assert computed.per_class["c"].recall == 0.0


def test_one_class_only() -> None:
    computed = compute_metrics(np.zeros(4, int), logits_of(np.array([0, 0, 1, 0]), 3), ["a", "b", "c"])
    assert computed.uar == computed.war == pytest.approx(0.75)
    assert computed.macro_auroc is None


def test_auroc_leaves_out_classes_without_positives() -> None:
    labels = np.array([0, 1, 0, 1])
    probabilities = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.6, 0.2, 0.2], [0.3, 0.6, 0.1]])
    assert macro_auroc(labels, probabilities) == pytest.approx(1.0)


def test_calibration_error_of_known_cases() -> None:
    sure = np.array([[1.0, 0.0]] * 4)
    assert calibration_error(np.array([0, 0, 0, 0]), sure) == pytest.approx(0.0)
    assert calibration_error(np.array([1, 1, 1, 1]), sure) == pytest.approx(1.0)
    half = np.array([[0.6, 0.4]] * 10)
    assert calibration_error(np.array([0] * 6 + [1] * 4), half) == pytest.approx(0.0)


def test_probabilities_survive_large_scores() -> None:
    assert softmax(np.array([[1e4, 0.0]])).tolist() == [[1.0, 0.0]]
    assert np.isfinite(compute_metrics(np.array([1, 0]), np.array([[1e4, 0.0], [1.0, 0.0]]), ["a", "b"]).loss)


def test_stacks_of_matrices_are_scored_at_once() -> None:
    generator = np.random.default_rng(0)
    stack = np.stack([count_confusion(generator.integers(0, 4, 50), generator.integers(0, 4, 50), 4) for _ in range(7)])
    together = scores_of_confusion(stack)
    for index, one in enumerate(stack):
        for name, value in scores_of_confusion(one).items():
            assert together[name][index] == pytest.approx(float(value))


@pytest.mark.parametrize(
    ("labels", "logits", "says"),
    [
        (np.array([], int), np.zeros((0, 2)), "no sample"),
        (np.array([0, 1]), np.zeros((2, 3)), "shape"),
        (np.array([0, 2]), np.zeros((2, 2)), "Labels run from 0 to 2"),
        (np.array([0, 1]), np.array([[0.0, np.nan], [0.0, 1.0]]), "1 of 2"),
    ],
)
def test_refuses_what_has_no_figures(labels: np.ndarray, logits: np.ndarray, says: str) -> None:
    with pytest.raises(InputError, match=says):
        compute_metrics(labels, logits, ["a", "b"])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("classes", [2, 6])
def test_agrees_with_torchmetrics(seed: int, classes: int) -> None:
    torch = pytest.importorskip("torch")
    theirs = pytest.importorskip("torchmetrics.functional.classification")
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, classes, 200)
    logits = generator.normal(size=(200, classes)) + np.eye(classes)[labels]
    computed = compute_metrics(labels, logits, [f"c{index}" for index in range(classes)])
    given, options = (torch.tensor(softmax(logits)), torch.tensor(labels)), {"num_classes": classes}
    assert computed.war == pytest.approx(float(theirs.multiclass_accuracy(*given, average="micro", **options)))
    assert computed.uar == pytest.approx(float(theirs.multiclass_accuracy(*given, average="macro", **options)))
    assert computed.macro_f1 == pytest.approx(float(theirs.multiclass_f1_score(*given, average="macro", **options)))
    assert computed.macro_auroc == pytest.approx(float(theirs.multiclass_auroc(*given, **options)), abs=1e-6)
    assert (computed.confusion == theirs.multiclass_confusion_matrix(*given, **options).numpy()).all()
    for k, value in computed.top_k.items():
        told = theirs.multiclass_accuracy(*given, average="micro", top_k=k, **options)
        assert value == pytest.approx(float(told))


def test_two_classes_have_the_area_of_the_second() -> None:
    generator = np.random.default_rng(0)
    labels = (generator.random(150) < 0.3).astype(int)
    logits = generator.normal(size=(150, 2)) + np.eye(2)[labels]
    computed = compute_metrics(labels, logits, ["calm", "stress"])
    assert computed.auroc == pytest.approx(sk.roc_auc_score(labels, softmax(logits)[:, 1]))
    assert computed.auroc == pytest.approx(sk.roc_auc_score(labels == 1, logits[:, 1] - logits[:, 0]))
    flat = computed.flat()
    assert (
        flat["balanced_accuracy"] == flat["uar"] == pytest.approx(sk.balanced_accuracy_score(labels, logits.argmax(1)))
    )
    assert computed.top_k == {}
    assert compute_metrics(np.zeros(3, int), logits[:3], ["calm", "stress"]).auroc is None
    more = compute_metrics(np.arange(6) % 3, generator.normal(size=(6, 3)), list("abc"))
    assert more.auroc == more.macro_auroc


def test_top_k_agrees_with_scikit_learn_and_breaks_ties_as_the_prediction_does() -> None:
    generator = np.random.default_rng(2)
    labels, scores = generator.integers(0, 7, 300), generator.normal(size=(300, 7))
    for k in (1, 2, 3, 6):
        told = sk.top_k_accuracy_score(labels, scores, k=k, labels=range(7))
        assert top_k_accuracy(labels, scores, k) == pytest.approx(float(told))
    ties = generator.integers(0, 2, size=(300, 7)).astype(float)
    assert top_k_accuracy(labels, ties, 1) == pytest.approx((ties.argmax(1) == labels).mean())
    equal = np.zeros((4, 4))
    assert [top_k_accuracy(np.arange(4), equal, k) for k in (1, 2, 3, 4)] == [0.25, 0.5, 0.75, 1.0]


@pytest.mark.parametrize("seed", range(3))
def test_weighted_area_agrees_with_scikit_learn_ties_and_all(seed: int) -> None:
    generator = np.random.default_rng(seed)
    positive, scores = generator.random(120) < 0.4, generator.integers(0, 12, 120) / 12
    weights = generator.integers(0, 4, size=(5, 120)).astype(float)
    ours = weighted_auroc(positive, scores)(weights)
    for row, value in zip(weights, ours, strict=True):
        assert value == pytest.approx(sk.roc_auc_score(positive, scores, sample_weight=row))
    assert weighted_auroc(positive, np.zeros(120))(np.ones((1, 120)))[0] == pytest.approx(0.5)
    assert np.isnan(weighted_auroc(np.ones(120, bool), scores)(np.ones((1, 120)))[0])


def test_saturated_scores_keep_their_order() -> None:
    # both probabilities round to 1; the prediction must follow the scores all the same
    computed = compute_metrics(np.array([1]), np.array([[50.0, 60.0, -900.0]]), list("abc"))
    assert computed.war == 1.0
    assert compute_metrics(np.array([1, 1]), np.array([[800.0, 801.0], [0.0, 1.0]]), ["a", "b"]).war == 1.0


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("labels", "predictions"),
    [([1], [1]), ([1], [0]), ([2, 2, 2], [2, 2, 2]), ([2, 2, 2], [0, 1, 0]), ([0, 1, 2], [1, 1, 1]), ([0, 0, 1], [2, 2, 2])],
    ids=["one hit", "one miss", "one class, all hits", "one class, no hit", "one answer", "never true"],
)  # fmt: skip
def test_degenerate_cases_agree_with_scikit_learn(labels: list[int], predictions: list[int]) -> None:
    computed = compute_metrics(np.array(labels), logits_of(np.array(predictions), 3), list("abc"))
    present = sorted(set(labels))
    assert computed.war == pytest.approx(sk.accuracy_score(labels, predictions))
    assert computed.uar == pytest.approx(sk.balanced_accuracy_score(labels, predictions))
    assert computed.uar == pytest.approx(sk.recall_score(labels, predictions, labels=present, average="macro"))
    assert computed.macro_f1 == pytest.approx(sk.f1_score(labels, predictions, labels=present, average="macro"))
    assert (computed.macro_auroc is None) == (len(present) == 1)
    assert all(value is None or np.isfinite(value) for value in computed.flat().values())
