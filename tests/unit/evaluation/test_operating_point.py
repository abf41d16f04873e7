"""The class-prior correction: what the rule takes, and what it writes into a head."""

import numpy as np
import pytest
import torch
from torch import nn

from meco_hub.errors import ConfigurationError
from meco_hub.evaluation.calibration import choose_operating_point, class_prior, correct, write_operating_point
from meco_hub.evaluation.metrics import compute_metrics

NAMES = ["neutral", "happiness", "anger"]
TAUS = np.arange(-1, 2.01, 0.1)


def skewed(n: int = 900, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores of an ideal classifier that has learnt a skewed prior: uncorrected it neglects the rare class."""
    generator = np.random.default_rng(seed)
    prior = np.array([0.7, 0.25, 0.05])
    labels = generator.choice(3, n, p=prior)
    evidence = generator.normal(size=(n, 3)) + 1.2 * np.eye(3)[labels]
    return evidence * 1.2 + np.log(prior), labels, prior


def test_prior_counts_every_class() -> None:
    assert class_prior(np.array([0, 0, 0, 1]), 3).tolist() == pytest.approx([4 / 7, 2 / 7, 1 / 7])


def test_the_best_tau_by_the_rule_is_taken() -> None:
    logits, labels, prior = skewed()
    for rule, score in (("max_uar", "uar"), ("max_war", "war"), ("max_macro_f1", "macro_f1")):
        point = choose_operating_point(logits, labels, prior, NAMES, rule=rule, taus=TAUS)
        tried = [getattr(compute_metrics(labels, correct(logits, prior, tau), NAMES), score) for tau in TAUS]
        assert point.objective == pytest.approx(max(tried))
        at_point = compute_metrics(labels, correct(logits, prior, point.tau), NAMES)
        assert (point.uar, point.war, point.macro_f1) == pytest.approx((at_point.uar, at_point.war, at_point.macro_f1))
    balanced = choose_operating_point(logits, labels, prior, NAMES, rule="max_uar", taus=TAUS)
    plain = choose_operating_point(logits, labels, prior, NAMES, rule="max_war", taus=TAUS)
    assert balanced.tau > 0.5 > abs(plain.tau)
    assert balanced.uar > plain.uar
    assert balanced.war < plain.war


def test_the_floor_is_kept() -> None:
    logits, labels, prior = skewed()
    free = choose_operating_point(logits, labels, prior, NAMES, rule="max_uar", taus=TAUS)
    top = choose_operating_point(logits, labels, prior, NAMES, rule="max_war", taus=TAUS)
    floor = (free.war + top.war) / 2
    bound = choose_operating_point(logits, labels, prior, NAMES, rule="max_uar", taus=TAUS, war_floor=floor)
    assert bound.floor_met
    assert bound.war >= floor > free.war
    assert bound.uar < free.uar


def test_a_tau_whose_war_is_exactly_the_floor_is_allowed() -> None:
    # two rows of the rare class sit where only tau 1 finds them; it loses two of the frequent one: WAR stays 6/8
    prior, names = np.array([0.75, 0.25]), NAMES[:2]
    labels = np.array([0, 0, 0, 0, 0, 0, 1, 1])
    advantage = np.array([2.0, 2.0, 2.0, 2.0, 0.5, 0.5, 0.5, 0.5])  # of the frequent class; log(3) = 1.1 is taken off
    logits = np.stack([advantage, np.zeros(8)], axis=1)
    taus = [0.0, 1.0]
    floor = 0.75
    point = choose_operating_point(logits, labels, prior, names, rule="max_uar", taus=taus, war_floor=floor)
    assert (point.tau, point.war, point.floor_met) == (1.0, floor, True)
    above = np.nextafter(floor, 1)
    point = choose_operating_point(logits, labels, prior, names, rule="max_uar", taus=taus, war_floor=above)
    assert not point.floor_met


def test_a_floor_out_of_reach_is_said() -> None:
    logits, labels, prior = skewed()
    point = choose_operating_point(logits, labels, prior, NAMES, rule="max_uar", taus=TAUS, war_floor=0.999)
    top = choose_operating_point(logits, labels, prior, NAMES, rule="max_war", taus=TAUS)
    assert not point.floor_met
    assert point.war == top.war


def test_ties_go_to_the_gentlest_correction() -> None:
    logits = np.array([[9.0, 0, 0], [0, 9.0, 0], [0, 0, 9.0]])
    point = choose_operating_point(logits, np.arange(3), np.full(3, 1 / 3), NAMES, rule="max_uar", taus=TAUS)
    assert point.tau == 0.0


def test_unknown_rule_is_refused() -> None:
    logits, labels, prior = skewed(30)
    with pytest.raises(ConfigurationError, match="max_uar"):
        choose_operating_point(logits, labels, prior, NAMES, rule="best", taus=TAUS)


class Config:
    def __init__(self) -> None:
        self.id2label = dict(enumerate(NAMES))


class Head(nn.Module):
    def __init__(self, bias: bool = True) -> None:
        super().__init__()
        self.classifier = nn.Linear(4, 3, bias=bias)
        self.config = Config()


def test_the_written_head_gives_the_corrected_scores() -> None:
    torch.manual_seed(0)
    head, features = Head(), torch.randn(50, 4)
    before = head.classifier(features).detach().numpy()
    labels = np.random.default_rng(0).integers(0, 3, 50)
    prior = np.array([0.6, 0.3, 0.1])
    point = choose_operating_point(before, labels, prior, NAMES, rule="max_uar", taus=[0.8])
    write_operating_point(head, point)  # pyright: ignore[reportArgumentType]
    after = head.classifier(features).detach().numpy()
    assert np.allclose(after, correct(before, prior, 0.8), atol=1e-5)
    assert head.config.operating_point["tau"] == 0.8
    assert head.config.operating_point["rule"] == "max_uar"
    with pytest.raises(ConfigurationError, match="already"):
        write_operating_point(head, point)  # pyright: ignore[reportArgumentType]


def test_a_head_without_a_place_for_it_is_refused() -> None:
    logits, labels, prior = skewed(30)
    point = choose_operating_point(logits, labels, prior, NAMES, rule="max_uar", taus=[0.5])
    with pytest.raises(ConfigurationError, match="classifier"):
        write_operating_point(Head(bias=False), point)  # pyright: ignore[reportArgumentType]
    other = Head()
    other.config.id2label = {0: "a", 1: "b", 2: "c"}
    with pytest.raises(ConfigurationError, match="classes"):
        write_operating_point(other, point)  # pyright: ignore[reportArgumentType]
