"""Each block against its formula, written down once more in the plainest way: one token, one expert, one head at a time."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from meco_himoe import alignment, encoders, experts
from meco_himoe.encoders import SoftExperts
from meco_himoe.modeling_himoe import HiMoEForEmotionRecognition, HiMoEOutput

Model = HiMoEForEmotionRecognition
Batch = dict[str, Any]
Make = Callable[..., Any]


def expert(bank: SoftExperts, k: int, inputs: torch.Tensor) -> torch.Tensor:
    """f_k: a layer, GELU, a layer."""
    hidden = F.gelu(inputs @ bank.up_weight[k].T + bank.up_bias[k])
    return hidden @ bank.down_weight[k] + bank.down_bias[k]


def shake(module: torch.nn.Module, seed: int = 0, scale: float = 0.3) -> None:
    """Every parameter somewhere, gains and biases too, which begin where they would not show."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            gain = 1.0 if "norm" in name and name.endswith("weight") else 0.0
            parameter.copy_(gain + scale * torch.randn(parameter.shape, generator=random))


# --- from samples to tokens ---------------------------------------------------------------------------------------------


@torch.no_grad()
def test_time_is_encoded_by_sines_and_cosines(make_model: Make) -> None:
    encoding = make_model().himoe.time_encoding
    periods = 2 * math.pi / encoding.frequency
    torch.testing.assert_close(periods, torch.logspace(-1, math.log10(16.0), 16))
    assert not encoding.phase.any()
    shake(encoding)
    seconds = torch.tensor([-1.0, 0.3, 3.9])
    angles = seconds[:, None] * encoding.frequency + encoding.phase
    expected = encoding.projection(torch.cat([angles.sin(), angles.cos()], dim=-1))
    torch.testing.assert_close(encoding(seconds), expected)
    assert encoding(seconds.to(torch.bfloat16)).dtype == torch.float32


@pytest.mark.parametrize(("rate", "stride"), [(32, 4), (20, 1), (16, 1), (48, 4), (40, 1)])
@torch.no_grad()
def test_the_stem_is_two_masked_convolutions_and_a_patch(rate: int, stride: int, make_config: Make) -> None:
    config = make_config(modalities={"x": {"channels": 3, "sampling_rate": rate}})
    stem, patch = encoders.SignalStem(config, "x"), round(rate / 4)
    assert (stem.patch, stem.stride) == (patch, stride)
    assert stem.conv_in.kernel_size == ((9,) if stride == 4 else (3,))
    shake(stem)
    random = torch.Generator().manual_seed(1)
    samples = torch.randn(2, 4 * patch, 3, generator=random)
    valid = torch.rand(2, 4 * patch, generator=random) > 0.4
    samples = samples.masked_fill(~valid[..., None], 0.0)
    vectors, coverage = stem(samples, valid)

    keep = (valid.float().view(2, -1, stride).mean(-1) >= 0.5).float()[:, None]  # (B, 1, n)

    def convolve(conv: torch.nn.Conv1d, x: torch.Tensor) -> torch.Tensor:
        wide, step = conv.kernel_size[0], conv.stride[0]
        before = (wide - step + 1) // 2
        return F.conv1d(F.pad(x, (before, wide - step - before)), conv.weight, conv.bias, step)

    def over_channels(norm: torch.nn.LayerNorm, x: torch.Tensor) -> torch.Tensor:
        return norm(x.transpose(1, 2)).transpose(1, 2)

    y = F.gelu(over_channels(stem.norm_in, convolve(stem.conv_in, samples.transpose(1, 2)))) * keep
    y = y + F.gelu(over_channels(stem.norm, convolve(stem.conv, y))) * keep
    share = valid.float().view(2, 4, patch).mean(-1)
    torch.testing.assert_close(coverage, share)
    for row in range(2):
        for n in range(4):
            piece = y[row, :, n * patch // stride : (n + 1) * patch // stride].T.reshape(-1)
            expected = stem.patch_embedding.weight @ piece / max(share[row, n].item(), 0.5)
            torch.testing.assert_close(vectors[row, n], expected + stem.patch_embedding.bias, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_tokens_have_the_mean_time_of_what_is_valid_and_the_tail_is_dropped(model: Model) -> None:
    himoe = model.himoe
    encoders, embedding = himoe.encoders, himoe.modality_embedding.weight
    random = torch.Generator().manual_seed(0)
    counts, patches = (131, 23, 9), (8, 5, 1)  # three samples too many for patches of eight and five
    samples = [torch.randn(1, n, c, generator=random) for n, c in zip(counts, (3, 1, 4), strict=True)]
    valid = [torch.rand(1, n, generator=random) > 0.5 for n in counts]
    times = [torch.rand(1, n, generator=random).sort().values * 4 for n in counts]
    tokens, when, mask = encoders(samples, valid, times, embedding, himoe.time_encoding)
    assert tokens.shape == (3, 1, 16, 16)
    for m, (count, patch) in enumerate(zip(counts, patches, strict=True)):
        for n in range(count // patch):
            held = slice(n * patch, (n + 1) * patch)
            own = valid[m][0, held]
            assert mask[m, 0, n] == (own.float().mean() >= 0.5)
            if own.any():
                torch.testing.assert_close(when[m, 0, n], times[m][0, held][own].mean())
        assert not mask[m, 0, count // patch :].any()
    assert not tokens[~mask].any()


# --- alignment ----------------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_resampling_is_attention_that_prefers_what_is_near(make_config: Make) -> None:
    config = make_config()
    resampler, steps = alignment.GridResampler(config), config.num_steps
    shake(resampler)
    resampler.width_s.copy_(torch.tensor([0.4, 1.7]))
    random = torch.Generator().manual_seed(2)
    tokens = torch.randn(3, 2, 6, 16, generator=random)
    times = torch.rand(3, 2, 6, generator=random) * 4
    mask = torch.rand(3, 2, 6, generator=random) > 0.3
    mask[1, 0] = False
    lags = torch.randn(2, 3, generator=random) * 0.5
    grid, encoded = (torch.arange(steps) + 0.5) * 0.5, torch.randn(steps, 16, generator=random)
    found, available = resampler(tokens, times, mask, lags, grid, encoded)
    query, key, value = resampler.query(encoded), resampler.key(tokens), resampler.value(tokens)
    for m in range(3):
        for b in range(2):
            for s in range(steps):
                away = grid[s] + lags[b, m] - times[m, b]
                near = bool((mask[m, b] & (away.abs() <= 2 * 0.5)).any())
                assert available[m, b, s] == near
                if not near:
                    assert not found[m, b, s].any()
                    continue
                heads = []
                for h in range(2):
                    part = slice(8 * h, 8 * (h + 1))
                    scores = key[m, b][:, part] @ query[s, part] / math.sqrt(8)
                    scores = scores - away.square() / (2 * resampler.width_s[h] ** 2)
                    weights = scores.masked_fill(~mask[m, b], -torch.inf).softmax(0)
                    heads.append(weights @ value[m, b][:, part])
                expected = resampler.output(torch.cat(heads))
                torch.testing.assert_close(found[m, b, s], expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_consistent_lags_come_out_relative_to_the_mean_of_those_present(make_config: Make) -> None:
    estimator = alignment.LagEstimator(make_config())
    estimator.static_lag.zero_()
    late = torch.tensor([0.4, -0.1, 0.6])
    pairwise = (late[:, None] - late[None, :]).expand(4, 3, 3)
    estimator._on_grid = lambda *_: (torch.zeros(0), torch.zeros(0))  # pyright: ignore[reportAttributeAccessIssue]
    estimator._delays = lambda *_: pairwise  # pyright: ignore[reportAttributeAccessIssue]
    mask = torch.ones(3, 4, 5, dtype=torch.bool)
    mask[2, 1] = mask[1:, 2] = mask[:, 3] = False  # all; the first two; the first alone; nobody
    lags, dynamic = estimator(torch.randn(3, 4, 5, 16), torch.rand(3, 4, 5), mask)
    torch.testing.assert_close(dynamic[0], late - late.mean())
    torch.testing.assert_close(dynamic[1, :2], late[:2] - late[:2].mean())
    assert not dynamic[2:].any()
    estimator.static_lag.copy_(torch.tensor([0.0, 3.0, -0.2]))
    again, same = estimator(torch.randn(3, 4, 5, 16), torch.rand(3, 4, 5), mask)
    torch.testing.assert_close(same, dynamic)
    torch.testing.assert_close(again - lags, estimator.static_lag.tanh().expand(4, 3) * 1.0)  # max_lag_s is 1


def test_the_task_alone_teaches_lags(make_model: Make, make_batch: Make) -> None:
    model = make_model(
        **{
            f"{name}_loss_coef": 0.0
            for name in ("unimodal", "contrastive", "lag", "prototype", "separation", "balance")
        }
    )
    batch = make_batch(model.config)
    model(**batch, labels=torch.rand(4, 2)).loss.backward()
    estimator = model.himoe.lag_estimator
    assert estimator.static_lag.grad.any()
    assert estimator.projection.weight.grad.any()


# --- modality expert bank -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("router", ["softmax", "laplace"])
@torch.no_grad()
def test_modality_experts_by_definition(router: str, make_config: Make) -> None:
    bank = experts.ModalityExpertBank(make_config(router_type=router, router_temperature=0.7))
    shake(bank)
    random = torch.Generator().manual_seed(3)
    tokens = torch.randn(2, 3, 4, 16, generator=random)
    available = torch.rand(2, 3, 4, generator=random) > 0.3
    available[0, :, 1] = False
    tokens = tokens * available[..., None]
    fused, weights, gates, logits = bank(tokens, available)
    assert gates is not None
    assert logits is not None
    one = bank.router
    for b in range(2):
        for s in range(4):
            there = [m for m in range(3) if available[b, m, s]]
            if not there:
                torch.testing.assert_close(fused[b, s], bank.norm_out(bank.null))
                assert not weights[b, :, s].any()
                assert not gates[b, :, s].any()
                continue
            context = bank.norm_context(tokens[b, there, s].mean(0))
            states, scores = {}, {}
            for m in there:
                seen = bank.norm_token(tokens[b, m, s])
                presence = one.presence(available[b, :, s].float())
                mixed = one.token(seen) + one.context(torch.cat([context, presence]))
                if router == "laplace":
                    assert one.centres is not None
                    mixed = -torch.stack([(mixed - centre).norm() for centre in one.centres])
                mixed[m] = mixed[m] + one.own_expert
                torch.testing.assert_close(logits[b, m, s], mixed, rtol=1e-4, atol=1e-5)
                gate = (mixed / 0.7).softmax(0)
                torch.testing.assert_close(gates[b, m, s], gate, rtol=1e-4, atol=1e-5)
                states[m] = tokens[b, m, s] + sum(gate[k] * expert(bank.experts, k, seen) for k in range(5))
                joint = (bank.fusion_token(states[m]) + bank.fusion_context(context)).tanh()
                scores[m] = bank.fusion_score(joint)[0] + bank.modality_prior[m]
            share = torch.stack([scores[m] for m in there]).softmax(0)
            torch.testing.assert_close(weights[b, there, s], share, rtol=1e-4, atol=1e-5)
            mixed = sum(w * states[m] for w, m in zip(share, there, strict=True))
            torch.testing.assert_close(fused[b, s], bank.norm_out(mixed), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_without_experts_it_is_the_mean_of_what_is_there(make_config: Make) -> None:
    bank = experts.ModalityExpertBank(make_config(meb="mean"))
    tokens = torch.randn(1, 3, 2, 16)
    available = torch.tensor([[[True, True], [False, True], [True, False]]])
    fused, weights, gates, logits = bank(tokens * available[..., None], available)
    assert gates is logits is None
    torch.testing.assert_close(fused[0, 0], bank.norm_out((tokens[0, 0, 0] + tokens[0, 2, 0]) / 2))
    torch.testing.assert_close(weights[0], torch.tensor([[0.5, 0.5], [0.0, 0.5], [0.5, 0.0]]))


# --- emotion expert bank ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("routing", ["differential", "relu_norm", "softmax"])
@torch.no_grad()
def test_emotion_experts_by_definition(routing: str, make_config: Make) -> None:
    layer = experts.EmotionExpertLayer(make_config(eeb_routing=routing), 1)
    shake(layer)
    if layer.lambda_vectors is not None:
        layer.lambda_vectors.mul_(0.3)
    random = torch.Generator().manual_seed(4)
    steps, prototypes = torch.randn(2, 3, 16, generator=random), torch.randn(8, 16, generator=random)
    answer, shares, signed, weight = layer(steps, prototypes)
    known = layer.norm_prototypes(prototypes)
    query, key = layer.query(layer.norm_steps(steps)), layer.key(known)
    if layer.lambda_vectors is not None:
        (q1, q2), (k1, k2) = layer.lambda_vectors
        begun = 0.8 - 0.6 * math.exp(-0.3)
        torch.testing.assert_close(weight, (q1 @ k1).exp() - (q2 @ k2).exp() + begun)
    maps, half = layer.maps, 8 // layer.maps
    for b in range(2):
        for s in range(3):
            seen = layer.norm_steps(steps[b, s])
            attention = []
            for h in range(2):
                rows = []
                for one in range(maps):
                    part = slice(8 * h + half * one, 8 * h + half * (one + 1))
                    rows.append((key[:, part] @ query[b, s, part] / math.sqrt(half)).softmax(0))
                attention.append(rows[0] if maps == 1 else rows[0] - weight * rows[1])
            torch.testing.assert_close(signed[b, s], torch.stack(attention), rtol=1e-4, atol=1e-5)
            pi = torch.stack(attention).relu().mean(0)
            pi = pi / pi.sum()
            torch.testing.assert_close(shares[b, s], pi, rtol=1e-4, atol=1e-5)
            values = torch.stack([expert(layer.experts, k, seen) + layer.prototype_value(known[k]) for k in range(8)])
            heads = []
            for h in range(2):
                mixing = pi if routing == "relu_norm" else attention[h]
                mixed = mixing @ values[:, 8 * h : 8 * (h + 1)]
                normed = mixed / (mixed.square().mean() + 1e-5).sqrt() * layer.head_gain
                heads.append(normed * (1 - layer.lambda_init if routing == "differential" else 1.0))
            expected = steps[b, s] + layer.output(torch.cat(heads))
            torch.testing.assert_close(answer[b, s], expected, rtol=1e-3, atol=1e-4)


# --- answer, losses, what transformers asks -----------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["window", "sequence"])
@torch.no_grad()
def test_the_answer_is_a_head_and_where_the_prototypes_stand(mode: str, make_model: Make, make_batch: Make) -> None:
    model = make_model(prediction_mode=mode)
    shake(model, scale=0.1)
    batch = make_batch(model.config)
    features = model.himoe(**batch, output_hidden_states=True)
    u, valid = features.hidden_states[-1], features.step_mask
    if mode == "window":
        scores = model.himoe.pooling(u).squeeze(-1).masked_fill(~valid, -torch.inf).softmax(-1)
        pooled = model.himoe.norm_out((scores[..., None] * u).sum(1))
        pi = (scores[..., None] * features.prototype_weights).sum(1)
    else:
        pooled, pi = model.himoe.norm_out(u), features.prototype_weights
    expected = model.head(pooled) + pi @ model.anchors.points
    found = model(**batch).logits
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    model.head[-1].bias.add_(7.0)
    torch.testing.assert_close(model(**batch).logits, found + 7.0, rtol=1e-4, atol=1e-4)  # nothing squashes it


@pytest.mark.parametrize("mode", ["window", "sequence"])
def test_nothing_measured_at_all_trains_without_harm(mode: str, make_model: Make, make_batch: Make) -> None:
    model = make_model(prediction_mode=mode, consistency_loss_coef=0.1).train()
    batch = make_batch(model.config)
    batch["modality_presence"][:] = False
    shape = (4, 8, 2) if mode == "sequence" else (4, 2)
    output = model(**batch, labels=torch.rand(shape), lag_targets=torch.randn(4, 3))
    output.loss.backward()
    assert output.loss.isfinite()
    gradients = {name: one.grad for name, one in model.named_parameters()}
    assert all(one is None or one.isfinite().all() for one in gradients.values())
    assert gradients["himoe.modality_experts.null"].any()


def test_huber_and_unimodal_errors_by_hand(make_model: Make, make_batch: Make) -> None:
    model = make_model(regression_loss="huber")
    batch = make_batch(model.config)
    labels = torch.rand(4, 2, generator=torch.Generator().manual_seed(5)) * 4 - 2
    output = model(**batch, labels=labels)
    apart = (output.logits - labels).abs()
    huber = torch.where(apart < 0.5, 0.5 * apart.square() / 0.5, apart - 0.25)
    torch.testing.assert_close(output.losses["mse"], huber.mean())
    model = make_model()
    output, features = model(**batch, labels=labels), model.himoe(**batch)
    means = []
    for m in range(3):
        here = features.modality_present[:, m]
        answers = features.modality_states[here, m] @ model.unimodal_heads.weight[m] + model.unimodal_heads.bias[m]
        means.append((answers - labels[here]).square().mean())
    torch.testing.assert_close(output.losses["unimodal"], torch.stack(means).mean())


def test_what_trainer_and_meta_device_stumble_over(model: Model) -> None:
    assert not list(model.buffers())  # one made in __init__ would come back as rubbish
    assert model.main_input_name == "modality_presence"  # a tensor, where "inputs" is a dict
    ignored = set(model.config.keys_to_ignore_at_inference)
    fields = set(HiMoEOutput.__dataclass_fields__)
    assert ignored >= fields - {"loss", "logits", "hidden_states", "attentions"}
    assert not any(isinstance(one, torch.nn.modules.lazy.LazyModuleMixin) for one in model.modules())
