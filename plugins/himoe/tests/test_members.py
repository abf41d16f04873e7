"""Several networks in one model: their mean answers, and each is trained as it would be alone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError

from meco_himoe.modeling_himoe import HiMoEForEmotionRecognition, HiMoEModel
from meco_hub.evaluation.output_layers import output_layers

Make = Callable[..., Any]
MODES = pytest.mark.parametrize("mode", ["window", "sequence"])


def alone(model: HiMoEForEmotionRecognition, place: int) -> HiMoEForEmotionRecognition:
    """A model of one network: the member at that place."""
    prefix = f"companions.{place - 1}."
    everything = model.state_dict()
    own = {
        key.removeprefix(prefix): value
        for key, value in everything.items()
        if (key.startswith(prefix) if place else not key.startswith("companions."))
    }
    values = {**model.config.to_dict(), "num_members": 1}
    one = HiMoEForEmotionRecognition(type(model.config).from_dict(values)).eval()
    one.load_state_dict(own)
    return one


@MODES
def test_the_answer_is_the_mean_of_the_members(mode: str, make_model: Make, make_batch: Make) -> None:
    model = make_model(num_members=3, prediction_mode=mode)
    batch = make_batch(model.config)
    found = model(**batch, output_routing=True, output_router_logits=True)
    lone = [alone(model, place)(**batch, output_routing=True, output_router_logits=True) for place in range(3)]
    assert not torch.allclose(lone[0].logits, lone[1].logits, atol=1e-3)  # they began differently
    for name in ("logits", "lags", "modality_weights", "expert_gates", "prototype_weights", "lambda_", "embedding"):
        mean = torch.stack([getattr(one, name) for one in lone]).mean(dim=0)
        torch.testing.assert_close(getattr(found, name), mean, msg=lambda text, name=name: f"{name}: {text}")
    assert found.availability.dtype == torch.bool
    assert torch.equal(found.availability, lone[0].availability)
    assert len(found.router_logits) == 3
    for given, own in zip(found.router_logits, lone, strict=True):
        assert torch.equal(given, own.router_logits[0])


@MODES
def test_each_member_is_trained_as_it_would_be_alone(mode: str, make_model: Make, make_batch: Make) -> None:
    """Krogh and Vedelsby's identity, seen in the gradients; all losses but concordance, which is no mean over samples, are on."""
    weights = {"mse_loss_coef": 0.7, "ccc_loss_coef": 0.0, "disagreement_loss_coef": 0.7, "unimodal_loss_coef": 0.3}
    model = make_model(num_members=3, prediction_mode=mode, **weights)
    batch = make_batch(model.config)
    shape = (4, model.config.num_steps, 2) if mode == "sequence" else (4, 2)
    random = torch.Generator().manual_seed(5)
    labels = torch.rand(shape, generator=random) * 2 - 1
    labels[0, ..., 1] = float("nan")
    asked = {**batch, "labels": labels, "lag_targets": torch.randn(4, 3, generator=random)}
    output = model.train()(**asked)
    output.loss.backward()
    assert output.losses["disagreement"] > 0
    for place, member in enumerate(model.members()):
        lone = alone(model, place).train()
        lone(**asked).loss.backward()
        for (name, own), wanted in zip(named(member), dict(lone.named_parameters()).items(), strict=True):
            assert name == wanted[0]
            torch.testing.assert_close(3 * own.grad, wanted[1].grad, rtol=1e-3, atol=1e-6, msg=f"{place}: {name}")


def named(member: Any) -> list[tuple[str, torch.nn.Parameter]]:
    return [(name, one) for name, one in member.named_parameters() if not name.startswith("companions.")]


def test_without_labels_only_what_needs_none_is_trained(make_model: Make, make_batch: Make) -> None:
    model = make_model(num_members=2).train()
    output = model(**make_batch(model.config), lag_targets=torch.zeros(4, 3))
    assert {"lag", "separation", "disagreement"} <= set(output.losses)
    assert "mse" not in output.losses
    assert output.loss.isfinite()


def test_disagreement_is_counted_where_labels_are_known(make_model: Make, make_batch: Make) -> None:
    model = make_model(num_members=2).train()
    batch = make_batch(model.config)
    labels, known = torch.zeros(4, 2), torch.zeros(4, 2, dtype=torch.bool)
    known[1, 0] = True
    answers = [one(**batch).logits[1, 0] for one in (alone(model, 0), alone(model, 1))]
    wanted = ((answers[0] - answers[1]) / 2) ** 2
    found = model(**batch, labels=labels, label_mask=known).losses["disagreement"]
    torch.testing.assert_close(found, wanted.detach())
    nothing = model(**batch, labels=labels, label_mask=known & False).losses["disagreement"]
    assert nothing == 0


def test_classes_have_members_too(make_model: Make, make_batch: Make) -> None:
    model = make_model(num_members=2, problem_type="single_label_classification", num_labels=3).train()
    output = model(**make_batch(model.config), labels=torch.tensor([0, 1, 2, -100]))
    output.loss.backward()
    assert all(one.grad is not None and one.grad.isfinite().all() for one in model.parameters() if one.requires_grad)
    model.move_classes([2, -1])
    assert all(one.anchors.points.shape[-1] == one.unimodal_heads.bias.shape[-1] == 2 for one in model.members())


def test_what_is_added_to_all_output_layers_is_added_to_the_answer(make_model: Make, make_batch: Make) -> None:
    model = make_model(num_members=3)
    batch = make_batch(model.config)
    before = model(**batch).logits
    layers = output_layers(model)
    assert len(layers) == 3
    with torch.no_grad():
        for layer in layers:
            layer.bias += torch.tensor([0.5, -1.0])
    torch.testing.assert_close(model(**batch).logits, before + torch.tensor([0.5, -1.0]))


def test_label_anchors_are_set_in_every_member(make_model: Make) -> None:
    model = make_model(num_members=2)
    points = torch.rand(model.config.n_emotion_experts, 2)
    model.set_label_anchors(points)
    assert all(torch.equal(one.anchors.points, points) for one in model.members())


def test_saved_and_loaded_and_the_base_model_is_the_first_member(
    tmp_path: Path, make_model: Make, make_batch: Make
) -> None:
    model = make_model(num_members=2)
    batch = make_batch(model.config)
    model.save_pretrained(tmp_path)
    again = HiMoEForEmotionRecognition.from_pretrained(tmp_path)
    assert torch.equal(again(**batch).logits, model(**batch).logits)
    base = HiMoEModel.from_pretrained(tmp_path)
    assert torch.equal(base(**batch).pooler_output, model.himoe(**batch).pooler_output)


def test_one_member_has_the_weights_it_always_had(make_model: Make) -> None:
    assert not [key for key in make_model().state_dict() if "companion" in key]


def test_no_members_are_refused(make_config: Make) -> None:
    with pytest.raises(StrictDataclassError, match="num_members is 0"):
        make_config(num_members=0)
