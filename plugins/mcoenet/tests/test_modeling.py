"""The network: the published counts, its formulas where they can be seen from outside, checkpoints, graphs, and errors."""

import copy
import warnings
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from meco_hub.errors import CheckpointError, InputError
from meco_hub.nn.losses import load_balancing_loss
from meco_hub.training.construction import relabel
from meco_mcoenet.backbones import ResNet
from meco_mcoenet.configuration_mcoenet import DEFAULT_LABELS, MCOENetConfig
from meco_mcoenet.experts import AttentionExpert, DeepExpert, FocalExpert, PackedAttention, TokenMixer
from meco_mcoenet.modeling_mcoenet import GatedCrossAttention, JointScan, MCOENetForEmotionRecognition, MCOENetModel

TINY: dict[str, Any] = {
    "backbone_depths": [1, 1],
    "backbone_widths": [4, 8],
    "backbone_num_features": 20,
    "fusion_dim": 16,
    "router_hidden": 8,
    "focal_hidden": 6,
    "deep_layers": 2,
    "deep_mult": 2,
}


def tiny(**changes: Any) -> MCOENetForEmotionRecognition:
    """The published network's shape in every respect but size."""
    return MCOENetForEmotionRecognition(MCOENetConfig(**{**TINY, **changes})).eval()


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def spread(model: MCOENetForEmotionRecognition) -> MCOENetForEmotionRecognition:
    """Make the router choose by the clip, which it scarcely does as initialised: one pair of experts takes all."""
    draw = torch.Generator().manual_seed(3)
    given = (torch.randn(8, 2, 3, 32, 32, generator=draw) for _ in range(2))
    with torch.no_grad():
        scores = model(*given, output_router_logits=True).router_logits[0]
        last = model.moe.router.down
        last.bias.sub_(scores.mean(0)).mul_(1 / scores.std(0).mean())
        last.weight.mul_(1 / scores.std(0).mean())
    return model


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture
def clips() -> dict[str, torch.Tensor]:
    return {"pixel_values": torch.randn(5, 4, 3, 32, 32), "event_values": torch.randn(5, 4, 3, 32, 32)}


def logits(model: nn.Module, clips: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.no_grad():
        return model(**clips).logits


# --- the published network ----------------------------------------------------------------------------------------------


def test_published_parameter_counts():
    with torch.device("meta"):
        model = MCOENetForEmotionRecognition(MCOENetConfig())
    base = model.mcoenet
    assert count(model) == 154_848_170
    backbones = [*base.frame_backbones, *base.event_backbones]
    assert [count(backbone) for backbone in backbones] == [11_689_512] * 4
    assert count(base.joint_scan) == 6_224
    assert count(base.cross_attention) == 120
    assert count(base.fusion) == 2_049_024
    assert count(model.moe.router) == 4_729_352
    kinds = {FocalExpert: [1_576_967] * 3, AttentionExpert: [4_207_623] * 3, DeepExpert: [41_975_816] * 2}
    for kind, sizes in kinds.items():
        assert [count(expert) for expert in model.moe.experts if isinstance(expert, kind)] == sizes
    assert count(model.moe) == 106_034_754
    assert sum(buffer.numel() for buffer in model.buffers()) == 38_480
    assert base.config.num_tokens == 500


@pytest.mark.parametrize(("preset", "least", "most"), [("token", 133e6, 134e6), ("small", 1.0e6, 1.5e6)])
def test_preset_sizes(preset, least, most):
    with torch.device("meta"):
        model = MCOENetForEmotionRecognition(getattr(MCOENetConfig, preset)())
    assert least < count(model) <= most


def test_backbone_is_timms_resnet18():
    import timm

    ours, theirs = ResNet(MCOENetConfig()).eval(), timm.create_model("resnet18").eval()
    assert [(n, v.shape) for n, v in ours.state_dict().items()] == [
        (n, v.shape) for n, v in theirs.state_dict().items()
    ]
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
    ours.load_state_dict(theirs.state_dict())
    picture = torch.randn(2, 3, 100, 100)
    with torch.no_grad():
        torch.testing.assert_close(ours(picture), theirs(picture), rtol=1e-4, atol=1e-5)


def test_initial_values():
    model = MCOENetForEmotionRecognition(MCOENetConfig.small())
    scan = model.mcoenet.joint_scan
    torch.testing.assert_close(scan.A_log, torch.arange(1.0, 17.0).log().expand(2, 2, 8, 16))
    assert scan.D.eq(1).all()
    steps = F.softplus(scan.dt_bias)
    assert (steps >= 1e-3 * 0.99).all()
    assert (steps <= 1e-1 * 1.01).all()
    assert torch.equal(scan.dt_bias[0], scan.dt_bias[1]), "the same for frames and events"
    assert not torch.equal(scan.dt_bias[0, 0], scan.dt_bias[0, 1])
    for weight, bound in (
        (scan.dt_weight, 1.0),
        (scan.in_proj, 0.5),
        (scan.joint_B, 66**-0.5),
        (scan.conv_weight, 0.5),
    ):
        assert 0.7 * bound < weight.abs().max() <= bound
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            deviation = (2 / (module.out_channels * module.kernel_size[0] ** 2)) ** 0.5
            assert module.weight.std().item() == pytest.approx(deviation, rel=0.2)
        if isinstance(module, DeepExpert):
            assert module.residual_scale.item() == pytest.approx(0.3)
        if isinstance(module, PackedAttention):
            assert not module.in_proj_bias.any()
            assert not module.out_proj.bias.any()


def test_near_identity_as_initialised():
    """The joint scan adds a few per cent to its input, as measured on the published network."""
    x = torch.randn(4, 2, 500, 4)
    model = MCOENetForEmotionRecognition(MCOENetConfig.small())
    with torch.no_grad():
        y = model.mcoenet.joint_scan(x)
    assert 0.002 < (y.square().mean() / x.square().mean()).sqrt() < 0.2


# --- the joint scan -----------------------------------------------------------------------------------------------------


def joint_scan(**changes: Any) -> JointScan:
    model = MCOENetModel(MCOENetConfig(**{**TINY, **changes}))
    return model.joint_scan.double()


def one_stream_at_a_time(scan: JointScan, x: torch.Tensor) -> torch.Tensor:
    """The scan's formulas, a clip, a stream, a direction and a step at a time."""
    rank, state = scan.splits[0], scan.splits[1]
    ys = torch.zeros_like(x)
    for b in range(len(x)):
        for s in range(scan.A_log.shape[1]):
            order = range(x.shape[2]) if s == 0 else range(x.shape[2] - 1, -1, -1)
            inner = [[scan.in_proj[m] @ x[b, m, t] for t in order] for m in range(2)]
            u, p = [], []
            for m in range(2):
                rows = []
                for t in range(len(order)):
                    window = [inner[m][t - k][:8] if t - k >= 0 else torch.zeros(8).to(x) for k in (3, 2, 1, 0)]
                    rows.append(F.silu((torch.stack(window, 1) * scan.conv_weight[m, s]).sum(1) + scan.conv_bias[m, s]))
                u.append(rows)
                p.append([scan.x_proj[m, s] @ row for row in rows])
            for m in range(2):
                h = torch.zeros(8, state).to(x)
                for t, place in enumerate(order):
                    q = torch.cat([p[0][t], p[1][t]])
                    bias = scan.dt_bias[m, s if scan.dt_bias.shape[1] > 1 else 0]
                    step = F.softplus(scan.dt_weight[m, s] @ p[m][t][:rank] + bias)
                    in_b = p[m][t][rank : rank + state] + scan.joint_B[s] @ q
                    in_c = p[m][t][rank + state :] + scan.joint_C[s] @ q
                    h = torch.exp(-step[:, None] * scan.A_log[m, s].exp()) * h + (step * u[m][t])[:, None] * in_b[None]
                    y = (h @ in_c + scan.D[m, s] * u[m][t]) * F.silu(inner[m][t][8:])
                    ys[b, m, place] += 0.5 * scan.out_proj[m] @ y
    return ys


@pytest.mark.parametrize("share_reverse_dt_bias", [True, False])
def test_stacked_scan_is_the_naive_one_in_float64(share_reverse_dt_bias):
    scan = joint_scan(share_reverse_dt_bias=share_reverse_dt_bias)
    x = torch.randn(2, 2, 40, 4, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(scan(x), one_stream_at_a_time(scan, x), rtol=1e-10, atol=1e-12)


def test_streams_meet_only_through_the_joint_projections():
    scan = joint_scan()
    x = torch.randn(1, 2, 30, 4, dtype=torch.float64)
    other = x.clone()
    other[:, 1] = torch.randn(1, 30, 4)
    with torch.no_grad():
        assert not torch.allclose(scan(x)[:, 0], scan(other)[:, 0])
        scan.joint_B.zero_()
        scan.joint_C.zero_()
        assert torch.equal(scan(x)[:, 0], scan(other)[:, 0])
        assert not torch.allclose(scan(x)[:, 1], scan(other)[:, 1])
    without = joint_scan(joint_bc=False)
    without.load_state_dict({k: v for k, v in scan.state_dict().items() if not k.startswith("joint")})
    with torch.no_grad():
        torch.testing.assert_close(without(x), scan(x))


def test_joint_projections_get_autograds_gradient_and_not_their_own_weights():
    scan = joint_scan()
    x = torch.randn(2, 2, 12, 4, dtype=torch.float64)
    probe = torch.randn(2, 2, 12, 4, dtype=torch.float64)
    (scan(x) * probe).sum().backward()
    for name in ("joint_B", "joint_C"):
        parameter = getattr(scan, name)
        assert parameter.grad.abs().max() > 1e-6
        assert not torch.allclose(parameter.grad, parameter)
        place = (1, 3, 40)
        with torch.no_grad():
            values = []
            for change in (1e-5, -1e-5):
                parameter[place] += change
                values.append((scan(x) * probe).sum())
                parameter[place] -= change
        assert parameter.grad[place].item() == pytest.approx(((values[0] - values[1]) / 2e-5).item(), rel=1e-5)


def test_gradients_cross_between_the_streams():
    scan = joint_scan()
    x = torch.randn(1, 2, 12, 4, dtype=torch.float64, requires_grad=True)
    scan(x)[:, 0].sum().backward()
    assert x.grad[:, 1].abs().max() > 1e-9


@pytest.mark.parametrize(
    "changes", [{"bidirectional": False}, {"joint_activation": "gelu"}, {"joint_norm": "layer_norm"}, {"dt_rank": 2}]
)
def test_variants_of_the_scan_differ_from_the_published_one(changes):
    x = torch.randn(1, 2, 20, 4, dtype=torch.float64)
    varied, published = joint_scan(**changes), joint_scan()
    own = published.state_dict()
    same = {name: value for name, value in varied.state_dict().items() if value.shape == own[name].shape}
    published.load_state_dict({**own, **same})
    with torch.no_grad():
        y = varied(x)
        assert y.isfinite().all()
        assert not torch.allclose(y, published(x))


def test_train_d():
    for train_d in (True, False):
        model = tiny(train_D=train_d).train()
        model(torch.randn(2, 2, 3, 32, 32), torch.randn(2, 2, 3, 32, 32), labels=torch.tensor([0, 1])).loss.backward()
        assert (model.mcoenet.joint_scan.D.grad is not None) is train_d


# --- fusion and experts -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("queries", "keys"), [(7, 7), (7, 5), (7, 1), (1, 1)])
def test_packed_attention_is_torchs(queries, keys):
    ours, theirs = PackedAttention(8, 2), nn.MultiheadAttention(8, 2, batch_first=True)
    with torch.no_grad():
        for parameter in theirs.parameters():
            nn.init.normal_(parameter)
    ours.load_state_dict(theirs.state_dict())
    query, memory = torch.randn(3, queries, 8), torch.randn(3, keys, 8)
    torch.testing.assert_close(ours(query, memory), theirs(query, memory, memory)[0], rtol=1e-4, atol=1e-5)


def test_fusion_is_the_formula_and_not_symmetric():
    block = GatedCrossAttention(MCOENetConfig(**TINY))
    for parameter in block.parameters():
        nn.init.normal_(parameter)
    torch_attention = nn.MultiheadAttention(4, 2, batch_first=True)
    torch_attention.load_state_dict(block.attention.state_dict())
    frames, events = torch.randn(2, 9, 4), torch.randn(2, 9, 4)
    r, e = block.frame_proj(frames), block.event_proj(events)
    g = torch.sigmoid((r * e).sum(-1, keepdim=True))
    expected = g * torch_attention(r, e, e)[0] + (1 - g) * torch_attention(e, r, r)[0] + (r + e) / 2
    torch.testing.assert_close(block(frames, events), expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(block(events, frames), expected, atol=1e-2)


def test_weights_sum_to_one_over_exactly_two_experts(clips):
    model = spread(tiny())
    with torch.no_grad():
        output = model(**clips, output_router_logits=True)
    weights, chosen = model.moe.choose(output.router_logits[0])
    assert chosen.sum(-1).eq(2).all()
    assert (weights > 0).eq(chosen).all()
    torch.testing.assert_close(weights.sum(-1), torch.ones(5), rtol=0, atol=1e-6)
    assert output.expert_indices.sort(-1).values.tolist() == [row.nonzero().flatten().tolist() for row in chosen]
    assert len({tuple(row) for row in output.expert_indices.tolist()}) > 1
    heaviest = weights.gather(1, output.expert_indices)
    assert (heaviest[:, 0] >= heaviest[:, 1]).all()


def test_sparse_and_dense_agree_in_answers_and_gradients(clips):
    sparse, dense = spread(tiny()), tiny(expert_dispatch="dense")
    dense.load_state_dict(sparse.state_dict())
    for model in (sparse, dense):
        model(**clips, labels=torch.arange(5)).loss.backward()
    torch.testing.assert_close(logits(sparse, clips), logits(dense, clips), rtol=1e-4, atol=1e-6)
    unused = 0
    for (name, one), other in zip(sparse.named_parameters(), dense.parameters(), strict=True):
        if one.grad is None:
            unused += 1
            assert not other.grad.any(), name
        else:
            torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-6)
    assert unused


def test_experts_that_nobody_chose_have_no_gradient_at_all(clips):
    model = spread(tiny()).train()
    output = model(**{k: v[:2] for k, v in clips.items()}, labels=torch.tensor([0, 1]), output_router_logits=True)
    output.loss.backward()
    used = set(output.expert_indices.flatten().tolist())
    assert 2 <= len(used) < 8
    for index, expert in enumerate(model.moe.experts):
        assert all((parameter.grad is not None) is (index in used) for parameter in expert.parameters())
    rest = {name for name, p in model.named_parameters() if p.grad is None and not name.startswith("moe.experts.")}
    assert rest == set()


def test_every_parameter_learns_where_every_expert_is_asked(clips):
    # small: every part does what its name says, so that no weight is dead
    model = MCOENetForEmotionRecognition(MCOENetConfig.small(top_k=4, backbone_widths=[4, 6, 8, 8], fusion_dim=32))
    model.train()(**clips, labels=torch.arange(5)).loss.backward()
    for name, parameter in model.named_parameters():
        if name.endswith("attention.in_proj_bias"):
            assert parameter.grad is not None  # a bias of the keys moves all scores alike
            continue
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_with_one_token_attention_is_a_linear_map_and_its_queries_and_keys_learn_nothing(clips):
    mixer = TokenMixer(MCOENetConfig(**TINY), heads=4)
    for parameter in mixer.parameters():
        nn.init.normal_(parameter)
    h = torch.randn(3, 16)
    values = F.linear(h, mixer.attention.in_proj_weight[32:], mixer.attention.in_proj_bias[32:])
    torch.testing.assert_close(mixer(h), mixer.norm(h + mixer.attention.out_proj(values)))
    mixer(h).square().sum().backward()
    assert not mixer.attention.in_proj_weight.grad[:32].any()
    assert mixer.attention.in_proj_weight.grad[32:].any()


def test_tokens_cut_one_clip_and_never_look_at_another():
    config = MCOENetConfig(**{**TINY, "attention_tokens": 4, "focal_tokens": 4, "deep_expert_activation": "gelu"})
    for expert in (FocalExpert(config), AttentionExpert(config), DeepExpert(config).eval()):
        for parameter in expert.parameters():
            nn.init.normal_(parameter)
        h = torch.randn(6, 16)
        alone = torch.cat([expert(row[None]) for row in h])
        torch.testing.assert_close(expert(h), alone, rtol=1e-4, atol=1e-4)
    assert AttentionExpert(config).mixer.attention.in_proj_weight.shape == (12, 4)


def test_a_deep_expert_is_affine_only_as_published():
    for activation in (None, "gelu", "relu"):
        expert = DeepExpert(MCOENetConfig(**{**TINY, "deep_expert_activation": activation})).eval()
        for parameter in expert.parameters():
            nn.init.normal_(parameter, std=0.5)
        a, b = torch.randn(2, 3, 16).unbind(0)
        middle, mean = expert((a + b) / 2), (expert(a) + expert(b)) / 2
        assert torch.allclose(middle, mean, rtol=1e-3, atol=1e-3) is (activation is None)


def _replace(expert: DeepExpert) -> None:
    expert.up[0] = nn.Linear(expert.up[0].in_features, expert.up[0].out_features)


def _write_around_the_counter(expert: DeepExpert) -> None:
    for parameter in expert.parameters():
        parameter.data.mul_(1.5)


def _give_it_a_forward(layer: nn.Linear) -> None:
    layer.forward = lambda input: F.linear(input, layer.weight, layer.bias).tanh()


CHANGES = {
    "in place": lambda expert: nn.init.normal_(expert.down[0].weight),
    "one number": lambda expert: expert.residual_scale.fill_(0.9),
    "one number of many": lambda expert: expert.up[1].weight[3].fill_(2.0),
    "around the counter": _write_around_the_counter,
    "other memory": lambda expert: setattr(expert.up[1].weight, "data", torch.randn(expert.up[1].weight.shape)),
    "another layer": _replace,
    "loaded": lambda expert: expert.load_state_dict({k: v + 0.1 for k, v in expert.state_dict().items()}),
    "hooked": lambda expert: expert.up[0].register_forward_hook(lambda module, inputs, output: 2 * output),
    "hooked where nothing drops out": lambda expert: expert.dropout.register_forward_hook(
        lambda module, inputs, output: 2 * output
    ),
    "a forward of its own": lambda expert: _give_it_a_forward(expert.up[0]),
    "trained on": lambda expert: nn.init.normal_(expert.train().classifier.bias) is None or expert.eval(),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_deep_expert_as_one_matrix_answers_as_its_layers_whatever_becomes_of_them(change):
    expert = DeepExpert(MCOENetConfig(**TINY)).eval()
    nn.init.normal_(expert.residual_scale)
    hidden = torch.randn(5, 16)

    def both() -> tuple[torch.Tensor, torch.Tensor]:
        with torch.no_grad():
            return expert(hidden), expert(hidden)

    def layer_by_layer() -> torch.Tensor:
        result = hidden
        for up, down in zip(expert.up, expert.down, strict=True):
            result = down(expert.dropout(up(result))) + expert.residual_scale * result
        return expert.classifier(result).detach()

    before = layer_by_layer()
    for answer in both():
        torch.testing.assert_close(answer, before, rtol=1e-6, atol=1e-6)
    assert expert._kept is not None
    with torch.no_grad():
        change(expert)
    for answer in both():
        torch.testing.assert_close(answer, layer_by_layer(), rtol=1e-5, atol=1e-5)
    assert not torch.allclose(layer_by_layer(), before, atol=1e-3)


# --- behaviour ----------------------------------------------------------------------------------------------------------


def test_a_clip_is_answered_by_itself_and_in_any_order(clips):
    for model in (spread(tiny()), spread(tiny(attention_tokens=4, focal_tokens=4))):
        together = logits(model, clips)
        alone = torch.cat([logits(model, {k: v[i : i + 1] for k, v in clips.items()}) for i in range(5)])
        torch.testing.assert_close(alone, together, rtol=0, atol=1e-5)
        order = torch.tensor([3, 0, 4, 1, 2])
        shuffled = logits(model, {k: v[order] for k, v in clips.items()})
        torch.testing.assert_close(shuffled, together[order], rtol=0, atol=1e-5)
        assert together.std(0).max() > 1e-3, "equal answers would prove nothing"


def test_only_the_first_and_the_last_time_step_matter(clips):
    model = spread(tiny())
    reference = logits(model, clips)
    for key in clips:
        for step in range(4):
            changed = {k: v.clone() for k, v in clips.items()}
            changed[key][:, step] += 1.0
            assert torch.equal(logits(model, changed), reference) is (step in (1, 2))
    assert torch.equal(logits(model, {k: v[:, [0, 3]] for k, v in clips.items()}), reference)
    one = {k: v[:, :1] for k, v in clips.items()}
    twice = {k: v[:, [0, 0]] for k, v in clips.items()}
    assert torch.equal(logits(model, one), logits(model, twice))


def test_frames_and_events_are_not_interchangeable(clips):
    model = spread(tiny())
    swapped = {"pixel_values": clips["event_values"], "event_values": clips["pixel_values"]}
    assert (logits(model, swapped) - logits(model, clips)).abs().max() > 1e-3


@pytest.mark.parametrize("share_backbones", [False, True])
@pytest.mark.parametrize("positions", [[0, -1], [0, 1, 2, 3], [-1]])
def test_frame_positions_and_shared_backbones(positions, share_backbones, clips):
    model = tiny(frame_positions=positions, share_backbones=share_backbones)
    assert len(model.mcoenet.frame_backbones) == (1 if share_backbones else len(positions))
    assert logits(model, clips).shape == (5, 7)
    with torch.no_grad():
        states = model(**clips, output_hidden_states=True).hidden_states
        pictures = torch.stack([clips["pixel_values"][:, place] for place in positions], 1)
        nets = list(model.mcoenet.frame_backbones) * (len(positions) if share_backbones else 1)
        expected = torch.cat([net(pictures[:, i]) for i, net in enumerate(nets)], 1).view(5, -1, 4)
    torch.testing.assert_close(states[0], expected, rtol=1e-4, atol=1e-5)


def test_pooled_features(clips):
    model = tiny(backbone_feature="pooled")
    assert model.mcoenet.frame_backbones[0].fc is None
    assert model.config.num_tokens == 4
    assert logits(model, clips).shape == (5, 7)


def test_other_sizes_of_pictures(clips):
    model = tiny()
    assert logits(model, {k: F.pad(v, (0, 9, 3, 2)) for k, v in clips.items()}).shape == (5, 7)


def test_outputs_on_request(clips):
    model = tiny()
    output = model(**clips)
    assert (output.loss, output.router_logits, output.hidden_states, output.aux_loss, output.expert_indices) == (
        None,
    ) * 5
    assert isinstance(model(**clips, return_dict=False), tuple)
    assert len(model(**clips, labels=torch.arange(5), return_dict=False)) == 2
    full = model(**clips, output_router_logits=True, output_hidden_states=True)
    assert full.router_logits[0].shape == (5, 8)
    assert [tuple(state.shape[1:]) for state in full.hidden_states] == [(10, 4)] * 5 + [(16,)]
    base = model.mcoenet(**clips, output_hidden_states=True)
    assert torch.equal(base.pooler_output, base.hidden_states[-1])
    model.config.output_router_logits = True
    assert model(**clips).router_logits is not None


def test_losses(clips):
    model = tiny()
    labels = torch.tensor([6, 0, 3, 1, 1])
    output = model(**clips, labels=labels)
    torch.testing.assert_close(output.loss, -output.logits.log_softmax(-1)[torch.arange(5), labels].mean())
    assert output.aux_loss is None
    assert model.config.problem_type is None, "computing a loss must not edit the config"
    smooth = tiny(label_smoothing=0.2)
    smooth.load_state_dict(model.state_dict())
    target = 0.8 * F.one_hot(labels, 7) + 0.2 / 7
    torch.testing.assert_close(
        smooth(**clips, labels=labels).loss, -(target * output.logits.log_softmax(-1)).sum(-1).mean()
    )
    balanced = tiny(router_aux_loss_coef=0.5)
    balanced.load_state_dict(model.state_dict())
    result = balanced(**clips, labels=labels, output_router_logits=True)
    torch.testing.assert_close(result.aux_loss, 0.5 * load_balancing_loss(result.router_logits[0], 2))
    torch.testing.assert_close(result.loss, output.loss + result.aux_loss)
    values = torch.rand(5, 2)
    regression = tiny(num_labels=2, problem_type="regression")
    result = regression(**clips, labels=values)
    torch.testing.assert_close(result.loss, (result.logits - values).square().mean())


@pytest.mark.parametrize("preset", ["published", "small"])
def test_learns_a_few_clips_by_heart(preset):
    changes = {"num_labels": 3, "fusion_dropout": 0, "deep_dropout": 0}
    if preset == "small":
        config = MCOENetConfig.small(**changes, backbone_widths=[8, 8, 16, 16], fusion_dim=32)
    else:
        config = MCOENetConfig(**{**TINY, **changes})
    model = MCOENetForEmotionRecognition(config).train()
    clips = {key: torch.randn(9, 2, 3, 32, 32) for key in ("pixel_values", "event_values")}
    labels = torch.arange(9) % 3
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(40):
        optimizer.zero_grad()
        model(**clips, labels=labels).loss.backward()
        optimizer.step()
    with torch.no_grad():
        assert model(**clips).logits.argmax(-1).eq(labels).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_finite_and_near(dtype, clips):
    model = MCOENetForEmotionRecognition(MCOENetConfig.small(backbone_widths=[8, 8, 16, 16], fusion_dim=32)).eval()
    reference = logits(model, clips)
    half = logits(copy.deepcopy(model).to(dtype), clips)
    assert half.dtype == dtype
    assert half.isfinite().all()
    assert (half.float() - reference).abs().max() < 0.1 * reference.abs().max().clamp(min=0.5)


def test_autocast_trains(clips):
    model = spread(tiny()).train()
    with torch.autocast("cpu", torch.bfloat16):
        output = model(**clips, labels=torch.arange(5))
    output.loss.backward()
    assert output.loss.isfinite()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


# --- missing streams ----------------------------------------------------------------------------------------------------


def test_a_missing_stream_is_refused_by_name(clips):
    model = tiny()
    for missing in clips:
        with pytest.raises(InputError, match=f"{missing} is missing"):
            model(**{key: value for key, value in clips.items() if key != missing})
        presence = torch.ones(5, 2, dtype=torch.bool)
        presence[3, list(clips).index(missing)] = False
        with pytest.raises(InputError, match=rf"{missing} is marked as missing in clip\(s\) \[3\]"):
            model(**clips, modality_presence=presence)
    with pytest.raises(InputError, match="Neither pixel_values nor event_values"):
        model()
    there = {**clips, "modality_presence": torch.ones(5, 2).bool()}
    assert torch.equal(logits(model, clips), logits(model, there))


def test_zeros_take_the_place_of_a_missing_stream_if_the_config_says_so(clips):
    model = spread(tiny(missing_modality="zeros"))
    for place, missing in enumerate(clips):
        zeroed = logits(model, {**clips, missing: torch.zeros_like(clips[missing])})
        assert torch.equal(logits(model, {k: v for k, v in clips.items() if k != missing}), zeroed)
        presence = torch.ones(5, 2, dtype=torch.bool)
        presence[1, place] = False
        rubbish = {**clips, missing: clips[missing].clone()}
        rubbish[missing][1] = float("nan")
        some = logits(model, {**rubbish, "modality_presence": presence})
        torch.testing.assert_close(some[1], zeroed[1], rtol=0, atol=1e-5)
        torch.testing.assert_close(some[0], logits(model, clips)[0], rtol=0, atol=1e-5)
    with pytest.raises(InputError, match=r"modality_presence has shape \(5, 3\); expected \(5, 2\)"):
        model(**clips, modality_presence=torch.ones(5, 3))


# --- other classes ------------------------------------------------------------------------------------------------------


def test_other_classes_keep_the_rows_of_those_they_share(clips, tmp_path):
    model = spread(tiny())
    before = logits(model, clips)
    relabel(model, ["surprise", "contempt", *DEFAULT_LABELS[:6]])
    model.save_pretrained(tmp_path)
    again = MCOENetForEmotionRecognition.from_pretrained(tmp_path)
    after = logits(again, clips)
    torch.testing.assert_close(after[:, [*range(2, 8), 0]], before, rtol=0, atol=1e-6)
    assert list(again.config.id2label.values())[:2] == ["surprise", "contempt"]
    assert tiny(norm_topk_prob=False).output_layers() == []  # there, weights do not sum to one


# --- checkpoints --------------------------------------------------------------------------------------------------------


def test_save_and_load_gives_identical_logits(clips, tmp_path):
    model = tiny(num_labels=2)
    model.train()(**clips)  # moves BatchNorm's statistics
    model.eval().save_pretrained(tmp_path)
    again, info = MCOENetForEmotionRecognition.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert not again.training
    saved = model.state_dict()
    assert all(torch.equal(value, saved[name]) for name, value in again.state_dict().items())
    base = MCOENetModel.from_pretrained(tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(again(**clips).logits, model(**clips).logits, rtol=0, atol=1e-6)
        torch.testing.assert_close(base(**clips)[0], model.mcoenet(**clips)[0], rtol=0, atol=1e-6)


def test_half_precision_loading_keeps_the_scans_numbers_wide(clips, tmp_path):
    tiny().save_pretrained(tmp_path)
    model = MCOENetForEmotionRecognition.from_pretrained(tmp_path, dtype=torch.bfloat16)
    kept = {name for name, value in model.named_parameters() if value.dtype == torch.float32}
    assert kept == {f"mcoenet.joint_scan.{name}" for name in ("A_log", "D", "dt_bias")}
    assert logits(model, clips).isfinite().all()
    base = MCOENetModel.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert base.joint_scan.A_log.dtype == torch.float32


def test_what_a_checkpoint_lacks_is_refused_by_us_and_initialised_by_transformers(tmp_path):
    model = tiny()
    with torch.no_grad():
        model.mcoenet.joint_scan.A_log.add_(1)
    model.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    lacking = {
        "mcoenet.joint_scan.D",
        "mcoenet.joint_scan.dt_bias",
        "mcoenet.joint_scan.joint_B",
        "moe.experts.2.residual_scale",
        "moe.experts.1.mixer.attention.in_proj_weight",
        "mcoenet.frame_backbones.0.bn1.running_var",
    }
    save_file({k: v for k, v in weights.items() if k not in lacking}, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match="lack 6 of the"):
        MCOENetForEmotionRecognition.from_pretrained(tmp_path)
    plainly: Any = PreTrainedModel.from_pretrained.__func__  # as every load goes, before ours looks at what came of it
    again, info = plainly(MCOENetForEmotionRecognition, tmp_path, output_loading_info=True)
    assert set(info["missing_keys"]) == lacking
    state = again.state_dict()
    same = {"mcoenet.joint_scan.D", "moe.experts.2.residual_scale", "mcoenet.frame_backbones.0.bn1.running_var"}
    for name, value in weights.items():
        assert state[name].isfinite().all()
        assert torch.equal(state[name], value) is (name not in lacking or name in same), name
    steps = F.softplus(state["mcoenet.joint_scan.dt_bias"])
    assert ((steps > 9e-4) & (steps < 0.11)).all()
    assert state["mcoenet.joint_scan.joint_B"].abs().max() <= 66**-0.5


def test_builds_without_memory():
    with torch.device("meta"):
        model = MCOENetForEmotionRecognition(MCOENetConfig(**TINY))
        assert model(torch.zeros(2, 2, 3, 32, 32), torch.zeros(2, 2, 3, 32, 32)).logits.shape == (2, 7)
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}


# --- graphs -------------------------------------------------------------------------------------------------------------


def test_export_agrees_also_for_another_batch_size(clips):
    model = spread(tiny())
    batch = torch.export.Dim("batch", min=2, max=64)
    shapes = {"pixel_values": {0: batch}, "event_values": {0: batch}}
    program = torch.export.export(model, (), clips, dynamic_shapes=shapes)
    more = {key: torch.randn(3, 4, 3, 32, 32) for key in clips}
    for given in (clips, more):
        torch.testing.assert_close(program.module()(**given).logits, logits(model, given), rtol=1e-4, atol=1e-4)


def test_trace_agrees(clips):
    model = spread(tiny())
    model.config.return_dict = model.mcoenet.config.return_dict = False
    example = tuple(clips.values())
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(model, example)
        torch.testing.assert_close(traced(*example)[0], model(*example)[0], rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_compile_agrees(clips):
    model = spread(tiny())
    compiled = torch.compile(model)
    with torch.no_grad():
        torch.testing.assert_close(compiled(**clips).logits, model(**clips).logits, rtol=1e-4, atol=1e-4)


# --- errors -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["pixel_values", "event_values"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x[:, 0], r"{} has shape \(5, 3, 32, 32\); expected .* \(batch, time, 3, height, width\)"),
        (lambda x: x.transpose(1, 2), r"{} has shape \(5, 3, 4, 32, 32\)"),
        (lambda x: x.byte(), r"{} has dtype torch.uint8; expected a floating-point tensor"),
        (lambda x: x.index_fill(0, torch.tensor(3), float("nan")), r"{} holds NaN or infinity in clip\(s\) \[3\]"),
        (lambda x: x / 0, "{} holds NaN or infinity"),
        (lambda x: x.tolist(), "{} is a list"),
        (lambda x: x[:, :0], r"{} has 0 time step\(s\); expected enough for frame_positions"),
        (lambda x: x[..., :30], r"The streams differ in shape: .*{}"),
        (lambda x: x[:3], r"The streams differ in shape: .*{}"),
    ],
)  # fmt: skip
def test_unusable_clips_are_named(change, message, key, clips):
    with pytest.raises(InputError, match=message.format(key)):
        tiny()(**{**clips, key: change(clips[key])})


@pytest.mark.parametrize("labels", [torch.tensor([1]), torch.tensor([[1]] * 5), torch.rand(5, 3)])
def test_unusable_labels(labels, clips):
    with pytest.raises(InputError, match=r"labels have shape .* expected"):
        tiny()(**clips, labels=labels)


def test_broken_weights_give_nan_and_no_riddle(clips):
    model = tiny()
    nn.init.constant_(model.mcoenet.fusion.bias, float("nan"))
    assert logits(model, clips).isnan().all()
