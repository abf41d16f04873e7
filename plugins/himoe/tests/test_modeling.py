"""The network: sizes, what masks guarantee, the blocks' formulas, switches, checkpoints, graphs and errors."""

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from meco_himoe import alignment, experts
from meco_himoe.configuration_himoe import HiMoEConfig
from meco_himoe.modeling_himoe import HiMoEForEmotionRecognition, HiMoEModel
from meco_hub.errors import CheckpointError, ConfigurationError, InputError
from meco_hub.exported import flatten
from meco_hub.exporting import trace
from meco_hub.training.construction import relabel

Model = HiMoEForEmotionRecognition
Batch = dict[str, Any]
Make = Callable[..., Any]

SWITCHES: list[dict[str, Any]] = [
    {"meb": "mean"},
    {"eeb_layers": 0},
    {"router_type": "laplace"},
    {"expert_mask": "expert"},
    {"expert_mask": "expert", "n_shared_experts": 0},
    {"n_shared_experts": 0},
    {"eeb_routing": "relu_norm"},
    {"eeb_routing": "softmax"},
    {"lag_gauge": "anchor:ecg"},
    {"use_alignment": False},
    {"prediction_mode": "sequence"},
    {"context_layers": 0, "fusion_layers": 0, "encoder_layers": 0},
    {"context_scope": "step"},
    {"context_margin_s": 1.0},
    {"num_members": 2},
    {"problem_type": "single_label_classification", "num_labels": 3},
    {"problem_type": "single_label_classification", "prediction_mode": "sequence", "eeb_layers": 0},
    {"modalities": {"ecg": {"channels": 1, "sampling_rate": 32}}},
]


def switch_name(changes: dict[str, Any]) -> str:
    return " ".join(f"{key}={value}" for key, value in changes.items() if key != "modalities") or "one modality"


def labels_for(config: HiMoEConfig, size: int = 4) -> torch.Tensor:
    random = torch.Generator().manual_seed(7)
    steps = (config.num_steps,) if config.prediction_mode == "sequence" else ()
    if config.is_regression:
        return torch.rand(size, *steps, config.num_labels, generator=random) * 2 - 1
    return torch.randint(config.num_labels, (size, *steps), generator=random)


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


# --- sizes --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("preset", "expected", "about"), [("small", 875_805, 0.89e6), ("base", 3_217_629, 3.26e6)])
def test_parameters_on_the_four_groups_of_deap(preset: str, expected: int, about: float) -> None:
    with torch.device("meta"):
        model = Model(getattr(HiMoEConfig, preset)("deap_4"))
    assert count(model) == expected
    assert abs(expected - about) < 0.02 * about
    if preset == "small":
        assert count(model.himoe.encoders) == 352_000
        assert count(model.himoe.modality_experts) == 109_163
        assert count(model.himoe.emotion_experts) + count(model.himoe.prototypes) == 299_104


# --- what masks guarantee -----------------------------------------------------------------------------------------------


def ruin(batch: Batch, value: float) -> Batch:
    """The same batch with `value` wherever a mask says that nothing was measured."""
    ruined = copy.deepcopy(batch)
    for index, (name, values) in enumerate(ruined["inputs"].items()):
        hidden = ~(ruined["step_mask"][name] & ruined["modality_presence"][:, index, None])
        values[hidden] = value
        ruined["timestamps"][name][hidden] = value
        ruined["offsets"][~ruined["modality_presence"][:, index], index] = value
    return ruined


@pytest.mark.parametrize("changes", [{}, *SWITCHES], ids=switch_name)
@torch.no_grad()
def test_noise_infinity_and_nan_behind_masks_change_nothing(changes: dict, make_model: Make, make_batch: Make) -> None:
    model = make_model(**changes)
    batch = make_batch(model.config)
    reference = model(**batch, output_routing=True, output_router_logits=True)
    for value in (123.4, float("inf"), float("-inf"), float("nan")):
        ruined = model(**ruin(batch, value), output_routing=True, output_router_logits=True)
        for key in reference:
            pairs = zip(
                *(one if isinstance(one, tuple) else (one,) for one in (reference[key], ruined[key])), strict=True
            )
            assert all(torch.equal(one, other) for one, other in pairs), (key, value)


@torch.no_grad()
def test_a_sample_that_is_not_finite_is_a_sample_that_is_masked(model: Model, batch: Batch) -> None:
    masked, spoilt = copy.deepcopy(batch), copy.deepcopy(batch)
    masked["step_mask"]["eeg"][:, 10:30] = False
    spoilt["inputs"]["eeg"][:, 10:30, 1] = float("nan")  # one channel of three is enough
    assert torch.equal(model(**masked).logits, model(**spoilt).logits)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    presence=st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=1, max_size=4),
    gap=st.tuples(st.floats(0, 4), st.floats(0, 4)),
    noise=st.sampled_from([1e30, -7.0, float("nan"), float("inf")]),
)
def test_any_subset_with_any_gap_answers(
    model: Model, make_batch: Make, presence: list, gap: tuple, noise: float
) -> None:
    batch = make_batch(model.config, size=len(presence))
    batch["modality_presence"] = torch.tensor(presence)
    for name, clock in batch["timestamps"].items():
        batch["step_mask"][name] = (clock < min(gap)) | (clock > max(gap))
    with torch.no_grad():
        output = model(**batch, output_routing=True)
        assert output.logits.isfinite().all()
        assert torch.equal(output.logits, model(**ruin(batch, noise)).logits)
    anything = output.availability.any(dim=1)
    torch.testing.assert_close(output.modality_weights.sum(dim=1), anything.float())
    torch.testing.assert_close(output.expert_gates.sum(dim=-1), output.availability.float())
    assert not output.modality_weights[~output.availability].any()
    assert not output.availability[~batch["modality_presence"]].any()


@torch.no_grad()
def test_an_absent_key_is_an_absent_modality(model: Model, batch: Batch) -> None:
    for name in ("eeg", "power"):
        less = {key: dict(value) if isinstance(value, dict) else value for key, value in batch.items()}
        for part in ("inputs", "step_mask", "timestamps"):
            del less[part][name]
        flagged = {**batch, "modality_presence": batch["modality_presence"].clone()}
        flagged["modality_presence"][:, model.config.modality_names.index(name)] = False
        assert torch.equal(model(**less).logits, model(**flagged).logits)


@torch.no_grad()
def test_order_of_keys_is_irrelevant(model: Model, batch: Batch) -> None:
    turned = {key: dict(reversed(value.items())) if isinstance(value, dict) else value for key, value in batch.items()}
    assert torch.equal(model(**batch).logits, model(**turned).logits)


@torch.no_grad()
def test_all_missing_is_a_finite_learnt_constant(model: Model, make_batch: Make) -> None:
    constants = []
    for seed in (0, 1):
        batch = make_batch(model.config, seed=seed)
        batch["modality_presence"][:] = False
        output = model(**batch, output_routing=True)
        assert output.logits.isfinite().all()
        assert not output.availability.any()
        assert not output.modality_weights.any()
        constants.append(output.logits)
    assert torch.equal(*constants)
    assert torch.equal(model(modality_presence=torch.zeros(4, 3, dtype=torch.bool)).logits, constants[0])


@torch.no_grad()
def test_defaults_of_masks_clocks_and_presence(model: Model, make_batch: Make) -> None:
    inputs = make_batch(model.config)["inputs"]
    entries, size = model.config.modalities, len(inputs["eeg"])
    explicit = model(
        inputs=inputs,
        modality_presence=torch.ones(size, 3),
        step_mask={name: torch.ones(values.shape[:2]) for name, values in inputs.items()},
        timestamps={
            name: ((torch.arange(values.shape[1]) + 0.5) / entries[name]["sampling_rate"]).expand(size, -1)
            for name, values in inputs.items()
        },
        offsets=torch.zeros(size, 3),
    )
    assert torch.equal(model(inputs=inputs).logits, explicit.logits)


@torch.no_grad()
def test_offsets_move_clocks(model: Model, make_batch: Make) -> None:
    batch = make_batch(model.config)
    moved = {**batch, "timestamps": {n: t.clone() for n, t in batch["timestamps"].items()}}
    moved["timestamps"]["ecg"] += 0.3
    plus = {**batch, "offsets": batch["offsets"] + torch.tensor([0.0, 0.3, 0.0])}
    torch.testing.assert_close(model(**moved).logits, model(**plus).logits, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_window_is_answered_by_itself(model: Model, make_batch: Make) -> None:
    batch = make_batch(model.config, size=5)
    together = model(**batch).logits
    for index in range(5):
        row = slice(index, index + 1)
        alone = {
            key: {name: one[row] for name, one in value.items()} if isinstance(value, dict) else value[row]
            for key, value in batch.items()
        }
        torch.testing.assert_close(model(**alone).logits, together[row], rtol=1e-4, atol=1e-5)


# --- alignment ----------------------------------------------------------------------------------------------------------


def pulses(times: torch.Tensor, late: float = 0.0) -> torch.Tensor:
    """Two pulses a window, `late` seconds late."""
    return sum(torch.exp(-0.5 * ((times - centre - late) / 0.3) ** 2) for centre in (1.3, 2.9))


@pytest.mark.parametrize("late", [0.5, -0.5, 1.0])
@torch.no_grad()
def test_sign_and_size_of_a_lag(late: float, make_config: Make) -> None:
    """A modality delayed by half a second has a lag half a second above the others'."""
    estimator = alignment.LagEstimator(make_config(lag_temperature=0.05))
    estimator.static_lag.zero_()
    estimator.temperature.fill_(0.05)
    torch.nn.init.normal_(estimator.projection.weight)
    estimator.projection.weight.copy_(estimator.projection.weight[:1].expand_as(estimator.projection.weight))
    times = ((torch.arange(16) + 0.5) / 4).expand(3, 1, -1)
    direction = torch.randn(16)
    tokens = torch.stack([pulses(times[0], late if m == 1 else 0.0).unsqueeze(-1) * direction for m in range(3)])
    lags, dynamic = estimator(tokens, times, torch.ones(3, 1, 16, dtype=torch.bool))
    found = lags[0, 1] - (lags[0, 0] + lags[0, 2]) / 2
    assert abs(found - late) < 0.12
    torch.testing.assert_close(lags, dynamic)
    torch.testing.assert_close(dynamic.sum(dim=1), torch.zeros(1), atol=1e-5, rtol=0)


def delay_by_definition(
    series: torch.Tensor, seen: torch.Tensor, m: int, j: int, config: HiMoEConfig, temperature: float
) -> torch.Tensor:
    """Soft arg-max over lags of the correlation of m, shifted, with j; one lag at a time."""
    reach, steps, scores = config.max_lag_steps, config.num_steps, []
    for lag in range(-reach, reach + 1):
        here, there = slice(reach, reach + steps), slice(reach + lag, reach + lag + steps)
        x, y, x_seen, y_seen = series[m, there], series[j, here], seen[m, there], seen[j, here]
        power = (y_seen * x.square().sum(-1)).sum() * (x_seen * y.square().sum(-1)).sum()
        enough = int((x_seen & y_seen).sum()) >= config.lag_min_overlap
        scores.append((x * y).sum() / (power + 1e-6).sqrt() if enough else torch.tensor(-math.inf))
    weights = (torch.stack(scores) / temperature).softmax(0)
    return (weights * torch.arange(-reach, reach + 1) * config.grid_step_s).sum()


@torch.no_grad()
def test_delays_by_spectra_are_those_of_the_definition(model: Model) -> None:
    torch.manual_seed(0)
    estimator, config = model.himoe.lag_estimator, model.config
    count_ = config.num_steps + 2 * config.max_lag_steps
    seen = torch.rand(2, 3, count_) > 0.2
    series = torch.randn(2, 3, count_, 5) * seen.unsqueeze(-1)
    found = estimator._delays(series, seen)
    for b in range(2):
        for m in range(3):
            for j in range(3):
                one, other = (
                    delay_by_definition(series[b], seen[b], *pair, config, estimator.temperature.item())
                    for pair in ((m, j), (j, m))
                )
                torch.testing.assert_close(found[b, m, j], 0.5 * (one - other), rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_gauges(make_model: Make, make_batch: Make) -> None:
    mean, anchored = make_model(), make_model(lag_gauge="anchor:ecg")
    batch = make_batch(mean.config, size=8)
    free, held = (one(**batch, output_routing=True).lags for one in (mean, anchored))
    has_anchor = batch["modality_presence"][:, 1]
    assert has_anchor.any()
    assert not has_anchor.all()
    assert not held[has_anchor, 1].any()
    torch.testing.assert_close(held[has_anchor], (free - free[:, 1:2])[has_anchor])
    torch.testing.assert_close(held[~has_anchor], free[~has_anchor])
    assert not make_model(use_alignment=False)(**batch, output_routing=True).lags.any()


@torch.no_grad()
def test_availability_follows_tokens(make_model: Make, make_batch: Make) -> None:
    model = make_model(use_alignment=False)
    batch = make_batch(model.config, size=1)
    batch["modality_presence"][:] = True
    batch["offsets"][:] = 0
    for name, clock in batch["timestamps"].items():
        batch["step_mask"][name] = clock < 1.0  # nothing in the last three of four seconds
    available = model(**batch, output_routing=True).availability[0]
    centres = (torch.arange(8) + 0.5) * 0.5
    assert available[:, centres < 1.0].all()
    assert not available[
        :, centres > 2.3
    ].any()  # the radius is two steps of half a second, the last token at about 0.9 s


@torch.no_grad()
def test_patches_longer_than_the_radius_leave_no_holes(make_model: Make) -> None:
    slow = {"temp": {"channels": 1, "sampling_rate": 1.0, "patch_s": 2.0}}
    model = make_model(modalities=slow, grid_step_s=0.25, availability_radius_steps=1)
    output = model(inputs={"temp": torch.randn(1, 4, 1)}, output_routing=True)
    assert output.availability.all()


# --- expert banks -------------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_experts_of_absent_modalities(make_model: Make, make_batch: Make) -> None:
    tokens_only, experts_too = make_model(), make_model(expert_mask="expert")
    batch = make_batch(tokens_only.config, size=6)
    open_gates = tokens_only(**batch, output_routing=True).expert_gates
    output = experts_too(**batch, output_routing=True)
    absent = ~output.availability.any(dim=2)  # (B, M)
    assert absent.any()
    for row, modality in absent.nonzero().tolist():
        assert not output.expert_gates[row, :, :, modality].any()
        others = output.availability[row].clone()
        assert (open_gates[row][others][:, modality] > 0).all()
    torch.testing.assert_close(output.expert_gates.sum(-1), output.availability.float())


def test_modalities_begin_on_their_own_experts(make_model: Make, make_batch: Make) -> None:
    model = make_model(initializer_range=1e-4)
    batch = make_batch(model.config, size=2)
    batch["modality_presence"][:] = True
    gates = model(**batch, output_routing=True, output_router_logits=True)
    best = gates.expert_gates.argmax(dim=-1)
    for modality in range(3):
        there = gates.availability[:, modality]
        assert best[:, modality][there].eq(modality).all()
    assert gates.router_logits[0].shape == gates.expert_gates.shape


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_signed_attention_sums_to_one_minus_lambda(layer: int, make_config: Make) -> None:
    torch.manual_seed(layer)
    bank = experts.EmotionExpertLayer(make_config(), layer)
    for parameter in bank.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    torch.nn.init.normal_(bank.lambda_vectors, std=0.1)
    _, weights, signed, weight = bank(torch.randn(3, 5, 16), torch.randn(8, 16))
    torch.testing.assert_close(signed.sum(dim=-1), (1 - weight).expand(3, 5, 2))
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(3, 5))
    assert (weights >= 0).all()
    assert (signed < 0).any()
    expected = [0.2, 0.3555, 0.4707][layer]
    assert bank.lambda_init == pytest.approx(expected, abs=1e-4)
    assert abs(weight.item() - expected) < 0.15


def test_lambda_begins_near_its_start(model: Model, batch: Batch) -> None:
    lambdas = model(**batch, output_routing=True).lambda_
    assert lambdas.shape == (2,)
    assert all(
        abs(found - start) < 0.1
        for found, start in zip(lambdas.tolist(), (0.2, 0.8 - 0.6 * math.exp(-0.3)), strict=True)
    )


@torch.no_grad()
def test_one_map_is_plain_softmax_attention(make_model: Make, make_batch: Make) -> None:
    model = make_model(eeb_routing="softmax")
    output = model(**make_batch(model.config), output_routing=True)
    assert not output.lambda_.any()
    torch.testing.assert_close(output.prototype_weights.sum(-1), torch.ones(4, 8))


@pytest.mark.parametrize(("count_", "targets"), [(8, 3), (8, 2), (8, 4), (5, 1), (6, 3), (4, 2)])
def test_prototypes_are_spread(count_: int, targets: int) -> None:
    points = torch.tensor(experts.spread_points(count_, targets))
    assert points.shape == (count_, targets)
    assert torch.pdist(points).min() > 0.2
    torch.testing.assert_close(points.mean(0), torch.zeros(targets), atol=0.05, rtol=0)
    if (count_, targets) == (8, 2):
        torch.testing.assert_close(points.norm(dim=1), torch.full((8,), 0.6))
    if targets == 4:
        assert not points[:, 3].any()
        assert points[:, :3].abs().eq(0.5).all()


def test_label_anchors_can_be_set(make_model: Make) -> None:
    model = make_model()
    model.set_label_anchors(torch.arange(16.0).view(8, 2))
    assert model.anchors.points[3].tolist() == [6.0, 7.0]
    with pytest.raises(ConfigurationError, match=r"shape \(8, 3\); expected \(8, 2\)"):
        model.set_label_anchors(torch.zeros(8, 3))
    with pytest.raises(ConfigurationError, match="eeb_layers above 0"):
        make_model(eeb_layers=0).set_label_anchors(torch.zeros(8, 2))


# --- switches -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", [{}, *SWITCHES], ids=switch_name)
def test_every_parameter_learns_under_every_switch(changes: dict, make_model: Make, make_batch: Make) -> None:
    model = make_model(**{"consistency_loss_coef": 0.1, **changes}).train()
    config = model.config
    batch = make_batch(config, size=8)
    batch["modality_presence"][:] = True
    batch["modality_presence"][6:] = False  # so that the null vector is used, by two networks as well
    lags = torch.randn(8, config.num_modalities)
    output = model(**batch, labels=labels_for(config, 8), lag_targets=lags)
    output.loss.backward()
    assert output.loss.isfinite()
    silent = [
        name
        for name, parameter in model.named_parameters()
        # what is added to all scores of a softmax changes nothing: its gradient is a rounding error, or zero
        if not name.endswith("pooling.bias") and (parameter.grad is None or not parameter.grad.any())
    ]
    if config.num_modalities == 1:  # what compares modalities or weighs them against each other has nothing to learn
        apart = (
            "contrastive_head.",
            "lag_estimator.projection",
            "lag_estimator.temperature",
            "modality_prior",
            "fusion_",
        )
        silent = [name for name in silent if not any(part in name for part in apart)]
    assert not silent


@pytest.mark.parametrize("changes", SWITCHES, ids=switch_name)
@torch.no_grad()
def test_shapes_under_every_switch(changes: dict, make_model: Make, make_batch: Make) -> None:
    model = make_model(**changes)
    config = model.config
    output = model(**make_batch(config), output_routing=True)
    in_steps = (config.num_steps,) if config.prediction_mode == "sequence" else ()
    assert output.logits.shape == (4, *in_steps, config.num_labels)
    assert output.predictions is output.logits
    modalities, steps = config.num_modalities, config.num_steps
    assert output.lags.shape == (4, modalities)
    assert output.availability.shape == output.modality_weights.shape == (4, modalities, steps)
    assert output.embedding.shape == (4, 16)
    if config.meb == "mean":
        assert output.expert_gates is None
    else:
        assert output.expert_gates.shape == (4, modalities, steps, config.num_modality_experts)
    if config.eeb_layers:
        assert output.prototype_weights.shape == (4, steps, 8)
    else:
        assert output.prototype_weights is output.lambda_ is None


@torch.no_grad()
def test_outputs_on_request(model: Model, batch: Batch) -> None:
    assert list(model(**batch)) == ["logits"]
    assert len(model(**batch, return_dict=False)) == 1
    features = model.himoe(**batch)
    assert features.pooler_output.shape == (4, 16)
    assert model.himoe(**batch, return_dict=False)[0].shape == (4, 16)


@torch.no_grad()
def test_clocks_may_be_of_any_length(model: Model) -> None:
    """With time stamps a window may hold more or fewer samples than its rate says: an irregular stream."""
    times = torch.rand(2, 37).sort(dim=1).values * 4
    output = model(inputs={"ecg": torch.randn(2, 37, 1)}, timestamps={"ecg": times}, output_routing=True)
    assert output.logits.isfinite().all()
    assert output.availability[:, 1].any()


# --- training behaviour -------------------------------------------------------------------------------------------------


def test_learns_a_few_windows_by_heart(make_model: Make, make_batch: Make) -> None:
    model = make_model().train()
    batch, labels = make_batch(model.config, size=6), labels_for(model.config, 6)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        loss = model(**batch, labels=labels).task_loss
        loss.backward()
        optimizer.step()
    assert (model(**batch).logits - labels).square().mean() < 0.02


def test_no_weight_decay_names_exist_and_leave_matrices(model: Model) -> None:
    free, names = model.no_weight_decay(), {name for name, _ in model.named_parameters()}
    assert free < names
    assert {"himoe.prototypes.vectors", "anchors.points", "himoe.modality_embedding.weight"} <= free
    assert "himoe.encoders.layers.0.attention_in.bias" in free, "stacked biases have two dimensions"
    assert "himoe.encoders.layers.0.attention_in.weight" not in free


def test_gradient_checkpointing_changes_no_gradient(make_model: Make, make_batch: Make) -> None:
    gradients = []
    for enable in (False, True):
        model = make_model().train()
        if enable:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
            assert model.is_gradient_checkpointing
        model(**make_batch(model.config), labels=labels_for(model.config)).loss.backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    for plain, again in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, again)


# --- precision ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@torch.no_grad()
def test_half_precision_is_finite_and_near(dtype: torch.dtype, make_model: Make, make_batch: Make) -> None:
    model = make_model()
    batch = make_batch(model.config)
    batch["modality_presence"][3] = False
    reference = model(**batch).logits
    half = copy.deepcopy(model).to(dtype)
    logits = half(**batch).logits
    assert logits.dtype == dtype
    assert logits.isfinite().all()
    assert (logits.float() - reference).abs().max() < 0.25 * reference.abs().max()
    for value in (float("nan"), 1e38):
        assert torch.equal(half(**ruin(batch, value)).logits, logits)


def test_autocast_trains(make_model: Make, make_batch: Make) -> None:
    model = make_model(prediction_mode="sequence").train()
    batch = make_batch(model.config)
    batch["modality_presence"][3] = False
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(**batch, labels=labels_for(model.config), lag_targets=torch.zeros(4, 3), output_routing=True)
    output.loss.backward()
    assert output.lags.dtype == output.loss.dtype == torch.float32
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_hidden_states_are_given_on_request(make_model: Make, make_batch: Make) -> None:
    for eeb_layers, expected in ((2, 4), (0, 3)):
        model = make_model(eeb_layers=eeb_layers)
        batch = make_batch(model.config)
        with torch.no_grad():
            assert model(**batch).hidden_states is None
            told, base = (network(**batch, output_hidden_states=True) for network in (model, model.himoe))
        config = model.config
        for one in (told, base):
            assert [tuple(state.shape) for state in one.hidden_states] == [
                (4, config.num_steps, config.d_model)
            ] * expected
        torch.testing.assert_close(model.himoe.norm_out(base.hidden_states[-1]), base.steps)


def test_one_value_per_window_may_come_without_an_axis_of_its_own(make_model: Make, make_batch: Make) -> None:
    model = make_model(target_names=["arousal"])
    batch, labels = make_batch(model.config), torch.tensor([0.1, -0.2, 0.3, float("nan")])
    with torch.no_grad():
        torch.testing.assert_close(model(**batch, labels=labels).loss, model(**batch, labels=labels[:, None]).loss)


def test_a_checkpoint_takes_a_head_of_another_size(make_model: Make, tmp_path: Path) -> None:
    old = make_model(target_center=[5.0, 5.0], target_halfrange=[4.0, 4.0])
    old.save_pretrained(tmp_path)
    options = {"ignore_mismatched_sizes": True}
    one = HiMoEForEmotionRecognition.from_pretrained(tmp_path, num_labels=1, **options)
    assert (one.config.target_names, one.config.target_center) == (["valence"], [0.0])
    names = {0: "calm", 1: "tense", 2: "sad"}
    three = HiMoEForEmotionRecognition.from_pretrained(tmp_path, id2label=names, **options)
    assert (three.config.target_names, three.head[-1].out_features) == (["calm", "tense", "sad"], 3)
    same = HiMoEForEmotionRecognition.from_pretrained(tmp_path, num_labels=2)
    assert same.config.target_center == [5.0, 5.0]
    torch.testing.assert_close(one.himoe.state_dict(), old.himoe.state_dict())


# --- checkpoints and graphs ---------------------------------------------------------------------------------------------


@torch.no_grad()
def test_save_and_load_is_exact(make_model: Make, make_batch: Make, tmp_path: Path) -> None:
    from meco_hub import AutoModelForEmotionRecognition

    model = make_model(router_type="laplace")
    for parameter in model.parameters():
        parameter.add_(0.01 * torch.randn_like(parameter))  # away from anything that an initialisation would give
    model.save_pretrained(tmp_path)
    again, info = Model.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    batch = make_batch(model.config)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())
    # copying aligns memory afresh, without which the last bit may differ
    assert torch.equal(copy.deepcopy(again)(**batch).logits, copy.deepcopy(model)(**batch).logits)
    assert isinstance(AutoModelForEmotionRecognition.from_pretrained(tmp_path), Model)
    base = HiMoEModel.from_pretrained(tmp_path)
    torch.testing.assert_close(base(**batch).steps, model.himoe(**batch).steps)


def test_what_a_checkpoint_lacks_is_refused_by_us_and_initialised_by_transformers(
    make_model: Make, tmp_path: Path
) -> None:
    """Every parameter in turn would be slow; all at once shows the same, since each module has its own branch."""
    model = make_model(router_type="laplace")
    model.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    save_file({"anchors.points": weights["anchors.points"]}, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"lack .* of the"):
        Model.from_pretrained(tmp_path)
    plainly: Any = PreTrainedModel.from_pretrained.__func__  # as every load goes, before ours looks at what came of it
    again, info = plainly(Model, tmp_path, output_loading_info=True)
    assert len(info["missing_keys"]) == len(weights) - 1
    for name, value in again.state_dict().items():
        assert value.isfinite().all(), name
        assert value.abs().max() < 100, name
    estimator, resampler = again.himoe.lag_estimator, again.himoe.resampler
    assert not estimator.static_lag.any()
    assert estimator.temperature.item() == pytest.approx(0.1)
    assert resampler.width_s.tolist() == [0.5, 1.0]
    assert again.himoe.modality_experts.router.own_expert.item() == 1.0
    periods = 2 * math.pi / again.himoe.time_encoding.frequency
    assert periods[0].item() == pytest.approx(0.1)
    assert periods[-1].item() == pytest.approx(16.0)
    assert again.contrastive_head.log_scale.exp().item() == pytest.approx(10.0)
    assert not again.himoe.encoders.layers[0].attention_in.bias.any()


def test_half_precision_checkpoints_keep_time_whole(make_model: Make, tmp_path: Path) -> None:
    make_model().save_pretrained(tmp_path)
    model = Model.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert model.himoe.time_encoding.frequency.dtype == torch.float32
    assert model.head[0].weight.dtype == torch.bfloat16


def lengthen(batch: dict[str, Any], times: float) -> dict[str, Any]:
    """The same streams with so many times their samples, the end repeating the beginning."""

    def changed(stream: torch.Tensor) -> torch.Tensor:
        return torch.cat([stream, stream], dim=1)[:, : int(times * stream.shape[1])]

    return {
        name: {key: changed(one) for key, one in value.items()} if isinstance(value, dict) else value
        for name, value in batch.items()
    }


@pytest.mark.slow
@torch.no_grad()
def test_exports_with_a_batch_and_lengths_that_vary(make_model: Make, make_batch: Make) -> None:
    model = make_model()
    program = trace(model, flatten(make_batch(model.config))).module()
    for size, times in ((1, 1.0), (5, 0.5), (3, 1.75)):
        batch = lengthen(make_batch(model.config, size=size, seed=5), times)
        found = program(*flatten(batch).values())
        torch.testing.assert_close(found, model(**batch).logits, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@torch.no_grad()
def test_compiles_in_one_graph(make_model: Make, make_batch: Make) -> None:
    model = make_model()
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    batch = make_batch(model.config)
    torch.testing.assert_close(compiled(**batch).logits, model(**batch).logits, rtol=1e-4, atol=1e-5)


# --- errors -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inputs": {"eog": torch.zeros(4, 128, 3)}}, "inputs has eog; this model knows eeg, ecg, power"),
        ({"step_mask": {"eog": torch.zeros(4, 128)}}, "step_mask has eog"),
        (
            {"inputs": {"eeg": torch.zeros(4, 128, 2)}},
            r"shape \(4, 128, 2\).*expected floating point \(4, samples, 3\)",
        ),
        ({"inputs": {"eeg": torch.zeros(3, 128, 3)}}, r"expected floating point \(4, samples, 3\)"),
        ({"inputs": {"eeg": torch.zeros(4, 128, 3, dtype=torch.int)}}, r"torch\.int32"),
        ({"inputs": {"eeg": torch.zeros(4, 100, 3)}}, "100 samples; expected 128, or timestamps and at least 8"),
        (
            {"step_mask": {"eeg": torch.ones(4, 64)}, "inputs": {"eeg": torch.zeros(4, 128, 3)}},
            "step_mask.*as its inputs",
        ),
        ({"modality_presence": torch.ones(4, 2)}, r"modality_presence has shape \(4, 2\); expected \(4, 3\)"),
        ({"offsets": torch.ones(4)}, r"offsets has shape \(4,\); expected \(4, 3\)"),
    ],
)
def test_input_errors(change: dict, message: str, model: Model) -> None:
    good = {"inputs": {}, "modality_presence": torch.ones(4, 3)}
    with pytest.raises(InputError, match=message):
        model(**{**good, **change})


def test_no_input_at_all_and_wrong_labels(model: Model, batch: Batch) -> None:
    with pytest.raises(InputError, match="Neither inputs nor modality_presence"):
        model()
    for labels in (torch.zeros(4), torch.zeros(4, 8, 2), torch.zeros(4, 2, dtype=torch.long)):
        with pytest.raises(InputError, match=r"labels have shape .* expected \(4, 2\), scaled values"):
            model(**batch, labels=labels)
    with pytest.raises(InputError, match=r"label_mask has shape \(4,\)"):
        model(**batch, labels=torch.zeros(4, 2), label_mask=torch.ones(4))
    with pytest.raises(InputError, match=r"lag_targets have shape \(4, 2\)"):
        model(**batch, lag_targets=torch.zeros(4, 2))
    with pytest.raises(InputError, match=r"group_ids have shape \(3,\)"):
        model(**batch, labels=torch.zeros(4, 2), group_ids=torch.arange(3))


@pytest.mark.slow
def test_trainer_of_transformers_trains_and_evaluates(make_model: Make, make_batch: Make, tmp_path: Path) -> None:
    from torch.utils.data import default_collate
    from transformers import Trainer, TrainingArguments

    model = make_model()
    whole = make_batch(model.config, size=8)
    rows = [
        {
            **{k: {n: t[i] for n, t in v.items()} if isinstance(v, dict) else v[i] for k, v in whole.items()},
            "labels": torch.rand(2),
            "label_mask": torch.tensor([True, i % 2 == 0]),
        }
        for i in range(8)
    ]
    arguments = TrainingArguments(
        output_dir=str(tmp_path),
        max_steps=2,
        per_device_train_batch_size=4,
        use_cpu=True,
        remove_unused_columns=False,
        label_names=["labels"],
        report_to=[],
        save_strategy="no",
        gradient_checkpointing=True,
        gradient_checkpointing_kwargs={"use_reentrant": False},
    )
    trainer = Trainer(model, arguments, train_dataset=rows, eval_dataset=rows, data_collator=default_collate)
    assert math.isfinite(trainer.train().training_loss)
    assert math.isfinite(trainer.evaluate()["eval_loss"])
    assert trainer.predict(rows).predictions.shape == (8, 2)


def test_classes_move_with_all_that_knows_them(make_model: Make, make_batch: Make) -> None:
    classes = {"problem_type": "single_label_classification"}
    model = make_model(id2label={0: "calm", 1: "stress", 2: "joy"}, **classes)
    batch = make_batch(model.config)
    with torch.no_grad():
        before = model(**batch, output_routing=True)
        relabel(model, ["joy", "calm", "fear"])
        after = model(**batch, labels=torch.tensor([0, 1, 2, 0]))
    torch.testing.assert_close(after.logits[:, :2], before.logits[:, [2, 0]])
    assert model.config.id2label == {0: "joy", 1: "calm", 2: "fear"}
    assert after.loss.isfinite()
    assert model.unimodal_heads.weight.shape[-1] == 3
    assert not model.anchors.points[:, 2].any()
    model.output_layers()[0].bias.data += 1.0  # as a correction of the prior does
    with torch.no_grad():
        torch.testing.assert_close(model(**batch).logits, after.logits + 1.0)
