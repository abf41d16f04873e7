"""The losses: their formulas, their masks, and that each alone can be trained on."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from torch.nn import functional as F

from meco_himoe import losses_himoe as losses
from meco_himoe.modeling_himoe import HiMoEForEmotionRecognition
from meco_hub.errors import InputError
from meco_hub.nn.losses import concordance

Model = HiMoEForEmotionRecognition
Batch = dict[str, Any]
Make = Callable[..., Any]

COEFFICIENTS = [
    "mse", "ccc", "unimodal", "contrastive", "lag", "prototype", "separation", "balance", "consistency", "stimulus", "restraint",
]  # fmt: skip
STIMULI = torch.tensor([0, 1, -100, 2])


def only(name: str) -> dict[str, float]:
    """Every coefficient zero but one."""
    return {f"{one}_loss_coef": float(one == name) for one in COEFFICIENTS}


@pytest.fixture
def labels() -> torch.Tensor:
    return torch.rand(4, 2, generator=torch.Generator().manual_seed(3)) * 2 - 1


@pytest.mark.parametrize("mode", ["window", "sequence"])
@pytest.mark.parametrize("name", COEFFICIENTS)
def test_each_loss_alone_has_a_finite_gradient(name: str, mode: str, make_model: Make, make_batch: Make) -> None:
    model = make_model(prediction_mode=mode, proto_margin=0.0, **only(name)).train()
    batch = make_batch(model.config)
    shape = (4, 8, 2) if mode == "sequence" else (4, 2)
    if name == "restraint":
        batch["modality_presence"][0, 1] = False  # from all modalities nothing shrinks an answer
    output = model(**batch, labels=torch.rand(shape) * 2 - 1, lag_targets=torch.randn(4, 3), stimulus_ids=STIMULI)
    assert list(output.losses) == [name]
    torch.testing.assert_close(output.loss.detach(), output.losses[name])
    assert output.loss > 0
    output.loss.backward()
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert any(gradient.any() for gradient in gradients)


@pytest.mark.parametrize("name", ["mse", "ccc", "unimodal", "contrastive", "lag", "prototype", "stimulus", "restraint"])
def test_nothing_valid_is_a_zero_that_is_connected(name: str, make_model: Make, make_batch: Make) -> None:
    model = make_model(**only(name)).train()
    batch = make_batch(model.config)
    if name == "contrastive":
        batch["modality_presence"][:] = torch.eye(3, dtype=torch.bool)[[0, 1, 2, 0]]
    output = model(
        **batch,
        labels=torch.full((4, 2), float("nan")),
        lag_targets=torch.full((4, 3), float("nan")),
        stimulus_ids=torch.full((4,), losses.IGNORED),
    )
    assert output.losses[name] == 0
    output.loss.backward()
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    assert gradients
    assert not any(gradient.any() for gradient in gradients)


def test_the_total_is_the_weighted_sum(model: Model, batch: Batch, labels: torch.Tensor) -> None:
    output = model(**batch, labels=labels, lag_targets=torch.zeros(4, 3))
    config = model.config
    task = {"mse", "ccc"}
    weighted = {name: getattr(config, f"{name}_loss_coef") * value for name, value in output.losses.items()}
    usual = {*COEFFICIENTS} - {"stimulus", "restraint"}  # off unless asked for
    assert set(weighted) == usual - {"consistency"}, "the second pass is for training only"
    torch.testing.assert_close(output.task_loss, sum(weighted[name] for name in task))
    torch.testing.assert_close(output.aux_loss, sum(value for name, value in weighted.items() if name not in task))
    torch.testing.assert_close(output.loss, output.task_loss + output.aux_loss)
    assert not any(value.requires_grad for value in output.losses.values())


def test_error_and_concordance_of_what_is_known(model: Model, batch: Batch, labels: torch.Tensor) -> None:
    mask = torch.ones(4, 2, dtype=torch.bool)
    mask[1, 0] = mask[3, 1] = False
    reference = model(**batch, labels=labels, label_mask=mask)
    for unknown in (float("nan"), 1e30):
        spoilt = labels.masked_fill(~mask, unknown)
        output = model(**batch, labels=spoilt, label_mask=mask)
        assert torch.equal(output.loss, reference.loss)
    assert torch.equal(model(**batch, labels=labels.masked_fill(~mask, float("nan"))).loss, reference.loss)
    error = (reference.logits - labels).square()
    torch.testing.assert_close(reference.losses["mse"], error[mask].mean())
    each = [concordance(reference.logits[mask[:, d], d], labels[mask[:, d], d]) for d in range(2)]
    torch.testing.assert_close(reference.losses["ccc"], 1 - torch.stack(each).mean(), rtol=1e-4, atol=1e-5)


def test_lag_targets_are_taken_relative_to_those_present(make_model: Make, make_batch: Make) -> None:
    model = make_model(**only("lag"))
    batch = make_batch(model.config, size=6)
    presence = batch["modality_presence"]
    presence[1] = torch.tensor([True, False, False])
    targets = torch.randn(6, 3)
    value = model(**batch, lag_targets=targets).losses["lag"]
    shifted = model(**batch, lag_targets=targets + 5.0).losses["lag"]
    torch.testing.assert_close(value, shifted, rtol=1e-4, atol=1e-5)
    lags = model.himoe(**batch).dynamic_lags
    errors = []
    for row in range(6):
        here = presence[row]
        if here.sum() >= 2:
            wanted = targets[row, here] - targets[row, here].mean()
            errors.append(F.smooth_l1_loss(lags[row, here], wanted, beta=0.25, reduction="none"))
    torch.testing.assert_close(value, torch.cat(errors).mean(), rtol=1e-4, atol=1e-5)


def test_windows_of_one_trial_are_no_rivals(make_model: Make, make_batch: Make) -> None:
    model = make_model(**only("contrastive"))
    batch = make_batch(model.config)
    batch["modality_presence"][:] = True
    apart = model(**batch, lag_targets=torch.zeros(4, 3)).losses["contrastive"]
    together = model(**batch, lag_targets=torch.zeros(4, 3), group_ids=torch.zeros(4, dtype=torch.long))
    assert together.losses["contrastive"].abs() < 1e-6, "without rivals there is nothing to tell apart"
    assert apart > 0.5
    features = model.himoe(**batch)
    vectors, scale = model.contrastive_head(features.modality_tokens)
    assert scale.item() == pytest.approx(10.0)
    pairs = [(m, j) for m in range(3) for j in range(3) if m != j]
    expected = [F.cross_entropy(vectors[m] @ vectors[j].T * scale, torch.arange(4)) for m, j in pairs]
    torch.testing.assert_close(apart, torch.stack(expected).mean(), rtol=1e-4, atol=1e-5)


def test_prototypes_are_drawn_to_where_the_label_is(make_model: Make, make_batch: Make) -> None:
    model = make_model(**only("prototype"))
    batch = make_batch(model.config)
    labels = model.anchors.points[[0, 1, 2, 3]].detach().clone()
    output = model(**batch, labels=labels, output_routing=True)
    weights = model.himoe(**batch).pooled_prototypes
    apart = torch.cdist(labels, model.anchors.points).square()
    wanted = (-apart / (2 * 0.35**2)).softmax(-1)
    assert wanted.argmax(-1).tolist() == [0, 1, 2, 3]
    torch.testing.assert_close(output.losses["prototype"], -(wanted * weights.log()).sum(-1).mean())
    output.loss.backward()
    assert not model.anchors.points.grad.any(), "labels pull the weights, not the points"


def test_separation_and_balance_by_hand(model: Model, batch: Batch, labels: torch.Tensor) -> None:
    output = model(**batch, labels=labels, output_routing=True)
    vectors = F.normalize(model.himoe.prototypes.vectors.detach(), dim=-1)
    alike = (vectors @ vectors.T)[~torch.eye(8, dtype=torch.bool)]
    torch.testing.assert_close(output.losses["separation"], (alike - 0.2).relu().square().mean())
    importance = output.expert_gates.sum((0, 1, 2))
    torch.testing.assert_close(
        output.losses["balance"], importance.var(correction=0) / importance.mean().square(), rtol=1e-4, atol=1e-6
    )


def test_consistency_hides_modalities_but_never_all(make_model: Make, make_batch: Make) -> None:
    model = make_model(**only("consistency"), consistency_drop=0.99).train()
    seen: list[torch.Tensor] = []
    model.himoe.register_forward_pre_hook(
        lambda _module, _args, kwargs: seen.append(kwargs["modality_presence"]), with_kwargs=True
    )
    batch = make_batch(model.config, size=32)
    batch["modality_presence"][3] = False
    model(**batch, labels=torch.zeros(32, 2))
    whole, less = seen
    assert (less & ~whole).sum() == 0
    kept = less.sum(dim=1)
    assert kept[whole.any(dim=1)].min() == 1
    assert kept.float().mean() < 1.3


# --- classes ------------------------------------------------------------------------------------------------------------


def test_classes(make_model: Make, make_batch: Make) -> None:
    model = make_model(problem_type="single_label_classification", num_labels=3, label_smoothing=0.1)
    batch = make_batch(model.config)
    labels = torch.tensor([0, 2, -100, 1])
    output = model(**batch, labels=labels)
    known = torch.tensor([0, 1, 3])
    expected = F.cross_entropy(output.logits[known], labels[known], label_smoothing=0.1)
    torch.testing.assert_close(output.task_loss, expected)
    assert {"mse", "ccc"}.isdisjoint(output.losses)
    assert {"cross_entropy", "unimodal", "prototype"} <= set(output.losses)
    masked = model(**batch, labels=labels.abs().clamp(max=2), label_mask=torch.tensor([True, True, False, True]))
    torch.testing.assert_close(masked.loss, output.loss)
    # the label lies among the prototypes by what their own scores say of the class
    likelihood = model.anchors.points.softmax(-1)[:, labels[known]].T
    wanted = likelihood / likelihood.sum(-1, keepdim=True)
    weights = model.himoe(**batch).pooled_prototypes[known]
    torch.testing.assert_close(output.losses["prototype"], -(wanted * weights.log()).sum(-1).mean())


def test_classes_over_time(make_model: Make, make_batch: Make) -> None:
    model = make_model(problem_type="single_label_classification", num_labels=2, prediction_mode="sequence").train()
    batch = make_batch(model.config)
    labels = torch.randint(2, (4, 8))
    labels[0, :3] = -100
    output = model(**batch, labels=labels)
    torch.testing.assert_close(
        output.losses["cross_entropy"], F.cross_entropy(output.logits.transpose(1, 2), labels), rtol=1e-4, atol=1e-5
    )
    output.loss.backward()


def test_every_name_has_a_coefficient(model: Model) -> None:
    for name in COEFFICIENTS:
        assert isinstance(getattr(model.config, f"{name}_loss_coef"), int | float)
    total = losses.weighted_sum(model.config, {}, torch.zeros(2, requires_grad=True))
    assert total == 0
    assert total.requires_grad
    assert total.detach().isfinite()


@pytest.mark.parametrize("mode", ["window", "sequence"])
def test_each_stimulus_has_a_prototype_of_its_own(mode: str, make_model: Make, make_batch: Make) -> None:
    model = make_model(prediction_mode=mode, eeb_routing="softmax", **only("stimulus"))
    batch = make_batch(model.config)
    features = model.himoe(**batch)
    weights = features.prototype_weights if mode == "sequence" else features.pooled_prototypes.unsqueeze(1)
    each = [-weights[row, :, number].log() for row, number in enumerate(STIMULI.tolist()) if number >= 0]
    shape = (4, 8, 2) if mode == "sequence" else (4, 2)
    found = model(**batch, labels=torch.zeros(shape), stimulus_ids=STIMULI)
    torch.testing.assert_close(found.losses["stimulus"], torch.stack(each).mean())
    assert torch.equal(found.logits, model(**batch).logits), "what was shown must not reach the answer"


def test_training_on_stimuli_makes_the_prototypes_tell_them_apart(make_model: Make, make_batch: Make) -> None:
    model = make_model(dropout=0.0, **only("stimulus")).train()
    batch = make_batch(model.config)
    shown = torch.tensor([0, 1, 2, 3])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        model(**batch, labels=torch.zeros(4, 2), stimulus_ids=shown).loss.backward()
        optimizer.step()
    assert model.himoe(**batch).pooled_prototypes.argmax(dim=1).tolist() == [0, 1, 2, 3]


def test_stimuli_that_cannot_be_used_are_refused(make_model: Make, make_batch: Make) -> None:
    model = make_model(**only("stimulus")).train()
    batch = make_batch(model.config)
    labels = torch.zeros(4, 2)
    with pytest.raises(InputError, match=r"stimulus_ids have shape \(3,\)"):
        model(**batch, labels=labels, stimulus_ids=torch.zeros(3, dtype=torch.long))
    with pytest.raises(InputError, match=r"dtype torch\.float32"):
        model(**batch, labels=labels, stimulus_ids=torch.zeros(4))
    for strange in (model.config.n_emotion_experts, -1):
        with pytest.raises(InputError, match=f"stimulus_ids hold {strange}; expected 0 to"):
            model(**batch, labels=labels, stimulus_ids=torch.tensor([0, strange, 0, 0]))
    assert "stimulus" not in model(**batch, labels=labels).losses, "nobody need know what was shown"
    free = make_model(stimulus_loss_coef=0.0)
    # a corpus of a hundred films, and no such loss
    free(**batch, labels=labels, stimulus_ids=torch.tensor([0, 99, 0, 0]))
    with pytest.raises(StrictDataclassError, match="eeb_layers 0"):
        make_model(eeb_layers=0, stimulus_loss_coef=0.1)


def test_shrinkage_grows_with_what_is_missing(make_model: Make, make_batch: Make, labels: torch.Tensor) -> None:
    model = make_model(**only("restraint"))
    batch = make_batch(model.config)
    batch["modality_presence"] = torch.tensor([[1, 1, 1], [1, 0, 1], [0, 1, 0], [0, 0, 0]], dtype=torch.bool)
    mask = torch.ones(4, 2, dtype=torch.bool)
    mask[1, 0] = False
    output = model(**batch, labels=labels, label_mask=mask)
    centre = torch.stack([labels[mask[:, d], d].mean() for d in range(2)])
    missing = torch.tensor([0, 1 / 3, 2 / 3, 1.0])
    apart = (output.logits - centre).square() * missing[:, None]
    torch.testing.assert_close(output.losses["restraint"], apart[mask].mean())


def test_classes_have_no_mean_to_be_drawn_to(make_model: Make) -> None:
    with pytest.raises(StrictDataclassError, match=r"restraint_loss_coef is 0\.5"):
        make_model(problem_type="single_label_classification", num_labels=3, restraint_loss_coef=0.5)
