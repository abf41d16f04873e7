"""Several networks in one model: their mean answers, and each is trained as it would be alone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError

from meco_himoe.modeling_himoe import HiMoEForEmotionRecognition, HiMoEModel
from meco_hub.errors import InputError
from meco_hub.evaluation.calibration import output_layers

Make = Callable[..., Any]
MODES = pytest.mark.parametrize("mode", ["window", "sequence"])


def alone(model: HiMoEForEmotionRecognition, place: int) -> HiMoEForEmotionRecognition:
    """A model of one network: the one at that place."""
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
def test_the_answer_is_the_mean_of_the_networks(mode: str, make_model: Make, make_batch: Make) -> None:
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


def rows_of(batch: Any, place: int, count: int) -> Any:
    return {
        name: rows_of(one, place, count) if isinstance(one, dict) else one[place::count] for name, one in batch.items()
    }


@MODES
def test_each_network_is_trained_as_it_would_be_alone(mode: str, make_model: Make, make_batch: Make) -> None:
    """Each network gets every third row. All losses but concordance, which is no mean over rows, are on."""
    model = make_model(
        num_members=3, prediction_mode=mode, ccc_loss_coef=0.0, stimulus_loss_coef=0.1, restraint_loss_coef=0.5
    )
    shape = (6, model.config.num_steps, 2) if mode == "sequence" else (6, 2)
    random = torch.Generator().manual_seed(5)
    given = {
        **make_batch(model.config, size=6),
        "labels": torch.rand(shape, generator=random) * 2 - 1,
        "lag_targets": torch.randn(6, 3, generator=random),
        "group_ids": torch.tensor([0, 0, 1, 0, 2, 3]),
        "stimulus_ids": torch.tensor([0, 1, 2, -100, 1, 0]),
    }
    output = model.train()(**given, output_routing=True, output_router_logits=True)
    output.loss.backward()
    for place, network in enumerate(model.networks()):
        lone = alone(model, place).train()
        own = lone(**rows_of(given, place, 3), output_routing=True, output_router_logits=True)
        own.loss.backward()
        for name in ("logits", "lags", "modality_weights", "availability", "embedding"):
            torch.testing.assert_close(getattr(output, name)[place::3], getattr(own, name))
        torch.testing.assert_close(output.router_logits[0][place::3], own.router_logits[0])
        wanted = dict(lone.named_parameters())
        for name, parameter in named(network):
            torch.testing.assert_close(
                3 * parameter.grad, wanted.pop(name).grad, rtol=1e-3, atol=1e-6, msg=f"{place}: {name}"
            )
        assert not wanted


def named(network: Any) -> list[tuple[str, torch.nn.Parameter]]:
    return [(name, one) for name, one in network.named_parameters() if not name.startswith("companions.")]


def test_uneven_batches_and_batches_too_small_to_split(make_model: Make, make_batch: Make) -> None:
    model = make_model(num_members=3).train()
    for size in (1, 2, 5):
        model.zero_grad()
        output = model(**make_batch(model.config, size=size), labels=torch.zeros(size, 2))
        output.loss.backward()
        assert output.logits.shape == (size, 2)
        heads = [network.head[-1].weight.grad for network in model.networks()]
        assert all(one is not None and one.isfinite().all() and one.any() for one in heads), size


def test_consistency_and_missing_labels_are_split_as_well(make_model: Make, make_batch: Make) -> None:
    model = make_model(num_members=2, consistency_loss_coef=0.1).train()
    labels = torch.zeros(4, 2)
    labels[0::2] = float("nan")  # the first network has none
    output = model(**make_batch(model.config), labels=labels)
    output.loss.backward()
    assert output.loss.isfinite()
    assert output.losses["consistency"] > 0
    assert all(one.grad.isfinite().all() for one in model.parameters() if one.grad is not None)


def test_wrong_shapes_are_named_before_rows_are_split(make_model: Make, make_batch: Make) -> None:
    model = make_model(num_members=2).train()
    batch = make_batch(model.config)
    for wrong in ({"lag_targets": torch.zeros(3, 3)}, {"group_ids": torch.zeros(5)}, {"labels": torch.zeros(3, 2)}):
        given = {"labels": torch.zeros(4, 2), **wrong}
        with pytest.raises(InputError, match=next(iter(wrong))):
            model(**batch, **given)


def test_classes_have_several_networks_too(make_model: Make, make_batch: Make) -> None:
    model = make_model(num_members=2, problem_type="single_label_classification", num_labels=3).train()
    output = model(**make_batch(model.config), labels=torch.tensor([0, 1, 2, -100]))
    output.loss.backward()
    assert all(one.grad is not None and one.grad.isfinite().all() for one in model.parameters() if one.requires_grad)
    model.move_classes([2, -1])
    assert all(one.anchors.points.shape[-1] == one.unimodal_heads.bias.shape[-1] == 2 for one in model.networks())


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
    assert all(torch.equal(one.anchors.points, points) for one in model.networks())


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
