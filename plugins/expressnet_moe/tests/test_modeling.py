"""The network: the published counts and shapes, its formulas, checkpoints, graphs, and errors."""

import copy
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from meco_expressnet_moe import modeling_expressnet_moe as modeling
from meco_expressnet_moe.configuration_expressnet_moe import ExpressNetMoEConfig
from meco_expressnet_moe.modeling_expressnet_moe import ExpressNetMoEForEmotionRecognition, ExpressNetMoEModel
from meco_hub.errors import CheckpointError, InputError

SMALL = {
    "image_size": 32,
    "fe1_channels": [4, 6, 8],
    "fe1_kernel_sizes": [11, 6, 3],
    "fe1_hidden_size": 16,
    "fe2_channels": [4, 8],
    "fe2_kernel_sizes": [5, 3],
    "fusion_hidden_size": 12,
    "backbone_depths": [1, 2],
    "backbone_widths": [8, 16],
    "backbone_expansion": 2,
}


def small_config(**changes: object) -> ExpressNetMoEConfig:
    return ExpressNetMoEConfig(**{**SMALL, **changes})


def small_model(**changes: object) -> ExpressNetMoEForEmotionRecognition:
    return ExpressNetMoEForEmotionRecognition(small_config(**changes)).eval()


def count(module: nn.Module) -> tuple[int, int]:
    """Trainable parameters, and those with BatchNorm's running statistics."""
    trainable = sum(parameter.numel() for parameter in module.parameters())
    statistics = sum(buffer.numel() for name, buffer in module.named_buffers() if "running" in name)
    return trainable, trainable + statistics


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture
def pixels():
    return torch.rand(3, 3, 32, 32)


# --- the published network ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "head", "trainable", "total"), [(7, 7_175, 35_876_751, 35_931_871), (8, 8_200, 35_877_776, 35_932_896)]
)
def test_published_parameter_counts(labels, head, trainable, total):
    with torch.device("meta"):
        model = ExpressNetMoEForEmotionRecognition(ExpressNetMoEConfig(num_labels=labels))
    base = model.expressnet
    assert count(base.large_kernel_branch) == (8_618_816, 8_619_824)
    assert count(base.small_kernel_branch) == (457_216, 458_208)
    assert count(base.backbone) == (23_508_032, 23_561_152)
    assert count(base.fusion) == (1_180_160, 1_180_160)
    assert count(base.large_kernel_experts) == count(base.fusion_experts) == (1_052_676, 1_052_676)
    assert count(model.classifier) == (head, head)
    assert count(model) == (trainable, total)
    convolutions = [stage.conv for stage in base.large_kernel_branch.stages]
    assert [count(conv)[0] for conv in convolutions] == [135_008, 320_016, 320_032, 460_864, 663_680, 295_168]
    assert [sum(count(block)[1] for block in stage.blocks) for stage in base.backbone.stages] == [
        218_624, 1_226_752, 7_118_848, 14_987_264,
    ]  # fmt: skip
    assert base.large_kernel_branch.projection.in_features == 12_544
    assert base.fusion.in_features == 2_304


def test_published_shapes_and_one_forward_pass():
    model = ExpressNetMoEModel(ExpressNetMoEConfig()).eval()
    shapes: dict[str, tuple[int, ...]] = {}

    def keep(name: str):
        return lambda _module, _inputs, output: shapes.update({name: tuple(output.shape[1:])})

    named = dict(model.named_modules())
    watched = [f"large_kernel_branch.stages.{i}" for i in range(6)] + [
        f"small_kernel_branch.stages.{i}" for i in range(5)
    ]
    watched += ["backbone.stem.conv", "backbone.stem", *(f"backbone.stages.{i}" for i in range(4)), "backbone"]
    handles = [named[name].register_forward_hook(keep(name)) for name in watched]
    with torch.inference_mode():
        output = model(torch.rand(1, 3, 224, 224), output_router_logits=True, output_hidden_states=True)
    for handle in handles:
        handle.remove()
    sides = [224, 112, 56, 28, 14, 7]
    assert [shapes[f"large_kernel_branch.stages.{i}"] for i in range(6)] == [
        (8 << i, s, s) for i, s in enumerate(sides)
    ]
    assert [shapes[f"small_kernel_branch.stages.{i}"] for i in range(5)] == [
        (16 << i, s, s) for i, s in enumerate(sides[:5])
    ]
    assert shapes["backbone.stem.conv"] == (64, 112, 112)
    assert shapes["backbone.stem"] == (64, 55, 55)
    assert [shapes[f"backbone.stages.{i}"] for i in range(4)] == [
        (256, 55, 55),
        (512, 28, 28),
        (1024, 14, 14),
        (2048, 7, 7),
    ]
    assert shapes["backbone"] == (2048,)
    assert output.pooler_output.shape == (1, 1024)
    assert output.pooler_output.isfinite().all()
    assert [tuple(logits.shape) for logits in output.router_logits] == [(1, 4), (1, 4)]
    assert [state.shape[1] for state in output.hidden_states] == [512, 256, 2048, 512, 512, 512]


def test_glorot_uniform_weights_and_zero_biases():
    model = small_model()
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            fan_in, fan_out = nn.init._calculate_fan_in_and_fan_out(module.weight)
            limit = (6 / (fan_in + fan_out)) ** 0.5
            assert limit * 0.6 < module.weight.abs().max() <= limit * 1.0001
            assert module.bias is None or not module.bias.any()
        if isinstance(module, nn.BatchNorm2d):
            assert (module.eps, module.momentum) == (1e-3, 0.01)
            assert module.weight.eq(1).all()
            assert not module.running_mean.any()


@pytest.mark.parametrize("order", ["relu_dropout_norm", "norm_relu_dropout", "dropout_norm_relu"])
def test_order_within_a_stage(order):
    stage = modeling.ConvStage(3, 4, 5, small_config(stage_order=order)).eval()
    nn.init.normal_(stage.norm.running_mean)
    x = torch.randn(2, 3, 8, 8)
    y = stage.conv(x)
    expected = stage.norm(F.relu(y)) if order == "relu_dropout_norm" else F.relu(stage.norm(y))
    torch.testing.assert_close(stage(x), expected)
    assert (stage(x) < 0).any().item() is (order == "relu_dropout_norm")


def test_the_whole_by_hand(pixels):
    """The drawing at the top of the modeling file, step by step."""
    model = small_model()
    base = model.expressnet
    bgr = pixels.flip(1)
    with torch.no_grad():
        hidden = bgr
        for index, stage in enumerate(base.large_kernel_branch.stages):
            hidden = stage.norm(F.relu(F.conv2d(pad_same(hidden, stage.conv), stage.conv.weight, stage.conv.bias)))
            hidden = F.max_pool2d(hidden, 2) if index < 2 else hidden
        a = F.relu(base.large_kernel_branch.projection(hidden.reshape(3, -1)))
        hidden = bgr
        for index, stage in enumerate(base.small_kernel_branch.stages):
            hidden = stage.norm(F.relu(F.conv2d(pad_same(hidden, stage.conv), stage.conv.weight, stage.conv.bias)))
            hidden = F.max_pool2d(hidden, 2) if index < 1 else hidden
        d = F.relu(base.fusion(torch.cat([hidden.mean((2, 3)), base.backbone(bgr)], dim=1)))
        features = torch.cat([base.large_kernel_experts(a)[0], base.fusion_experts(d)[0]], dim=1)
        output = model(pixels)
    torch.testing.assert_close(output.logits, model.classifier(features), rtol=1e-4, atol=1e-6)


def pad_same(x: torch.Tensor, conv: nn.Conv2d) -> torch.Tensor:
    size = conv.kernel_size[0]
    return F.pad(x, ((size - 1) // 2, size // 2, (size - 1) // 2, size // 2))


# --- switches -----------------------------------------------------------------------------------------------------------


def seen_by(model: ExpressNetMoEForEmotionRecognition, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What the large-kernel branch and the backbone are given."""
    seen: list[torch.Tensor] = []
    for module in (model.expressnet.large_kernel_branch, model.expressnet.backbone):
        module.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        model(pixels)
    return seen[0], seen[1]


def test_channel_order_and_normalisations(pixels):
    bgr = pixels.flip(1)
    branch, backbone = seen_by(small_model(), pixels)
    torch.testing.assert_close(branch, bgr)
    torch.testing.assert_close(backbone, bgr)
    branch, backbone = seen_by(small_model(channel_order="rgb"), pixels)
    torch.testing.assert_close(branch, pixels)
    torch.testing.assert_close(backbone, pixels)
    mean = torch.tensor([91.4953, 103.8827, 131.0912])[:, None, None]
    branch, backbone = seen_by(small_model(channel_order="rgb", backbone_input_norm="vggface2_bgr"), pixels)
    torch.testing.assert_close(branch, pixels)
    torch.testing.assert_close(backbone, bgr * 255 - mean, rtol=1e-4, atol=1e-3)
    imagenet = (pixels - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor([0.229, 0.224, 0.225])[
        :, None, None
    ]
    branch, backbone = seen_by(small_model(input_norm="imagenet", backbone_input_norm="imagenet"), pixels)
    torch.testing.assert_close(branch, imagenet.flip(1))  # the branches keep the network's order …
    torch.testing.assert_close(backbone, imagenet)  # … and pretrained weights theirs
    branch, backbone = seen_by(small_model(input_norm="inception"), pixels)
    torch.testing.assert_close(branch, bgr * 2 - 1)
    torch.testing.assert_close(backbone, bgr)


def test_average_pooling_keeps_small_checkpoints_small(pixels):
    flat, average = small_model(), small_model(fe1_pooling="average")
    assert flat.expressnet.large_kernel_branch.projection.in_features == 8 * 8 * 8
    assert average.expressnet.large_kernel_branch.projection.in_features == 8
    assert average(pixels).logits.shape == (3, 7)


def test_a_picture_and_its_mirror_image_have_one_answer(pixels):
    plain = small_model()
    canonical = small_model(canonical_mirror=True)
    canonical.load_state_dict(plain.state_dict())
    with torch.no_grad():
        answer, mirrored = canonical(pixels).logits, canonical(pixels.flip(-1)).logits
        both = torch.stack([plain(pixels).logits, plain(pixels.flip(-1)).logits])
    assert torch.equal(answer, mirrored)
    # each is what the network says of the one of the two that has more light on the left
    for row, (own, picture) in enumerate(zip(answer, pixels, strict=True)):
        light = picture.mean(dim=(0, 1)) * torch.linspace(-1, 1, picture.shape[-1]).mul(torch.pi / 2).sin()
        torch.testing.assert_close(own, both[int(light.sum() > 0), row])
    assert not torch.allclose(both[0], both[1], atol=1e-4)


def test_grey_pictures():
    model = small_model(num_channels=1)
    assert model(torch.rand(2, 1, 32, 32)).logits.shape == (2, 7)
    with pytest.raises(InputError, match=r"\(2, 3, 32, 32\).*\(batch, 1, 32, 32\)"):
        model(torch.rand(2, 3, 32, 32))


@pytest.mark.parametrize("implementation", ["native", "fft", "auto"])
def test_conv_impl_changes_nothing_but_speed(implementation, pixels):
    reference = small_model(conv_impl="native")
    model = small_model(conv_impl=implementation)
    model.load_state_dict(reference.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(model(pixels).logits, reference(pixels).logits, rtol=1e-4, atol=1e-6)


def test_frozen_backbone_stays_frozen_through_a_checkpoint(pixels, tmp_path):
    small_model(freeze_backbone=True).save_pretrained(tmp_path)
    model = ExpressNetMoEForEmotionRecognition.from_pretrained(tmp_path).train()
    before = copy.deepcopy(model.expressnet.backbone.state_dict())
    model(pixels, labels=torch.tensor([0, 1, 2])).loss.backward()
    assert not any(parameter.requires_grad for parameter in model.expressnet.backbone.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.expressnet.backbone.state_dict().items())
    assert model.expressnet.fusion.weight.grad is not None


# --- outputs and losses -------------------------------------------------------------------------------------------------


def test_outputs_on_request(pixels):
    model = small_model()
    output = model(pixels)
    assert (output.loss, output.router_logits, output.hidden_states, output.aux_loss) == (None,) * 4
    assert isinstance(model(pixels, return_dict=False), tuple)
    assert len(model(pixels, labels=torch.tensor([0, 1, 2]), return_dict=False)) == 2
    full = model(pixels, output_router_logits=True, output_hidden_states=True)
    assert len(full.router_logits) == 2
    assert [tuple(state.shape) for state in full.hidden_states] == [(3, 16), (3, 8), (3, 32), (3, 12), (3, 16), (3, 12)]
    model.config.output_router_logits = True
    assert model(pixels).router_logits is not None


def test_label_smoothed_loss_is_the_formula(pixels):
    model = small_model()
    labels = torch.tensor([6, 0, 3])
    output = model(pixels, labels=labels)
    target = 0.9 * F.one_hot(labels, 7) + 0.1 / 7
    torch.testing.assert_close(output.loss, -(target * output.logits.log_softmax(-1)).sum(-1).mean())
    assert model.config.problem_type is None, "computing a loss must not edit the config"
    model.config.problem_type = "single_label_classification"
    torch.testing.assert_close(model(pixels, labels=F.one_hot(labels, 7).float()).loss, output.loss)
    ignored = model(pixels, labels=torch.tensor([6, -100, -100])).loss
    torch.testing.assert_close(ignored, -(target[:1] * output.logits[:1].log_softmax(-1)).sum())


def test_regression_and_several_labels(pixels):
    model = small_model(num_labels=2, problem_type="regression")
    values = torch.rand(3, 2)
    output = model(pixels, labels=values)
    torch.testing.assert_close(output.loss, (output.logits - values).square().mean())
    single = small_model(num_labels=1)
    output = single(pixels, labels=values[:, 0])
    torch.testing.assert_close(output.loss, (output.logits[:, 0] - values[:, 0]).square().mean())
    assert single.config.problem_type is None, "computing a loss must not edit the config"
    several = small_model(num_labels=4)
    wanted = torch.tensor([[1.0, 0, 0, 1]] * 3)
    output = several(pixels, labels=wanted)
    torch.testing.assert_close(output.loss, F.binary_cross_entropy_with_logits(output.logits, wanted))


def test_router_losses_are_weighted_and_included(pixels):
    labels = torch.tensor([6, 0, 3])
    plain = small_model()
    model = small_model(router_aux_loss_coef=0.5, router_z_loss_coef=0.25)
    model.load_state_dict(plain.state_dict())
    output = model(pixels, labels=labels, output_router_logits=True)
    torch.testing.assert_close(output.loss, plain(pixels, labels=labels).loss + output.aux_loss)
    expected = torch.zeros(())
    for logits in output.router_logits:
        expected += 0.5 * modeling.load_balancing_loss(logits, 2) / 2 + 0.25 * logits.logsumexp(-1).square().mean() / 2
    torch.testing.assert_close(output.aux_loss, expected)
    assert model(pixels).aux_loss is None


def test_raw_gates_have_mass_below_one_and_renormalised_gates_one(pixels):
    for norm_topk_prob in (False, True):
        model = small_model(norm_topk_prob=norm_topk_prob)
        experts = model.expressnet.fusion_experts
        logits = model(pixels, output_router_logits=True).router_logits[1]
        mass = experts.gates(logits).sum(-1)
        assert mass.lt(1 - 1e-3).all().item() is (not norm_topk_prob)
        if norm_topk_prob:
            torch.testing.assert_close(mass, torch.ones(3))


def test_unselected_experts_get_exactly_zero_gradient(pixels):
    model = small_model()
    output = model(pixels[:1], labels=torch.tensor([2]), output_router_logits=True)
    output.loss.backward()
    for logits, experts in zip(
        output.router_logits, (model.expressnet.large_kernel_experts, model.expressnet.fusion_experts), strict=True
    ):
        chosen = set(logits[0].topk(2).indices.tolist())
        zero = {index for index in range(4) if not experts.weight.grad[index].any()}
        assert zero == {0, 1, 2, 3} - chosen


# --- behaviour ----------------------------------------------------------------------------------------------------------


def test_a_picture_is_answered_by_itself(pixels):
    model = small_model()
    with torch.no_grad():
        together = model(pixels).logits
        for index in range(3):
            torch.testing.assert_close(
                model(pixels[index : index + 1]).logits, together[index : index + 1], rtol=1e-4, atol=1e-6
            )


def test_learns_a_few_pictures_by_heart():
    model = small_model(
        num_labels=3, conv_dropout=0, fe1_head_dropout=0, backbone_dropout=0, fusion_dropout=0, conv_impl="fft"
    )
    pixels, labels = torch.rand(9, 3, 32, 32), torch.arange(9) % 3
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    model.train()
    for _ in range(40):
        optimizer.zero_grad()
        model(pixels, labels=labels).loss.backward()
        optimizer.step()
    with torch.no_grad():
        assert model(pixels).logits.argmax(-1).eq(labels).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_finite_and_near(dtype, pixels):
    model = small_model(backbone_input_norm="vggface2_bgr", conv_impl="fft")
    with torch.no_grad():
        reference = model(pixels).logits
        logits = model.to(dtype)(pixels).logits
    assert logits.dtype == dtype
    assert logits.isfinite().all()
    assert (logits.float() - reference).abs().max() < 0.1 * reference.abs().max().clamp(min=0.1)


# --- checkpoints --------------------------------------------------------------------------------------------------------


def test_save_and_load_gives_identical_logits(pixels, tmp_path):
    model = small_model(num_labels=2)
    model.train()(pixels)  # moves BatchNorm's statistics
    model.eval().save_pretrained(tmp_path)
    again, info = ExpressNetMoEForEmotionRecognition.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert not again.training
    saved = model.state_dict()
    assert all(torch.equal(value, saved[name]) for name, value in again.state_dict().items())
    base = ExpressNetMoEModel.from_pretrained(tmp_path)
    with torch.no_grad():  # not to the last bit: how loaded memory happens to be aligned moves it by some 1e-8
        torch.testing.assert_close(again(pixels).logits, model(pixels).logits, rtol=0, atol=1e-6)
        torch.testing.assert_close(base(pixels)[0], model.expressnet(pixels)[0], rtol=0, atol=1e-6)
        # Copying aligns it afresh, and then the answers are identical.
        assert torch.equal(copy.deepcopy(again)(pixels).logits, copy.deepcopy(model)(pixels).logits)


def test_what_a_checkpoint_lacks_is_refused_by_us_and_initialised_by_transformers(tmp_path):
    model = small_model()
    model.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    lacking = {
        "classifier.weight",
        "expressnet.fusion_experts.weight",
        "expressnet.backbone.stem.norm.running_var",
        "expressnet.large_kernel_branch.stages.0.conv.weight",
    }
    save_file(
        {name: value for name, value in weights.items() if name not in lacking},
        tmp_path / "model.safetensors",
        {"format": "pt"},
    )
    with pytest.raises(CheckpointError, match="lack 4 of the"):
        ExpressNetMoEForEmotionRecognition.from_pretrained(tmp_path)
    plainly: Any = PreTrainedModel.from_pretrained.__func__  # as every load goes, before ours looks at what came of it
    again, info = plainly(ExpressNetMoEForEmotionRecognition, tmp_path, output_loading_info=True)
    assert set(info["missing_keys"]) == lacking
    state = again.state_dict()
    for name, value in weights.items():
        assert state[name].isfinite().all()
        assert torch.equal(state[name], value) is (name not in lacking or "running_var" in name), name
    assert state["expressnet.fusion_experts.weight"].abs().max() <= (6 / 24) ** 0.5
    assert state["expressnet.large_kernel_branch.stages.0.conv.weight"].abs().max() > 0


def test_builds_without_memory():
    with torch.device("meta"):
        model = ExpressNetMoEForEmotionRecognition(small_config())
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}


# --- graphs -------------------------------------------------------------------------------------------------------------


def test_export_agrees_also_for_another_batch_size(pixels):
    model = small_model(conv_impl="fft")
    program = torch.export.export(
        model, (pixels,), dynamic_shapes={"pixel_values": {0: torch.export.Dim("batch", min=1, max=64)}}
    )
    assert not any("fft" in str(node.target) for node in program.graph.nodes)
    with torch.no_grad():
        for batch in (pixels, torch.rand(5, 3, 32, 32)):
            torch.testing.assert_close(program.module()(batch).logits, model(batch).logits, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_compile_agrees(pixels):
    model = small_model(conv_impl="fft")
    compiled = torch.compile(model)
    with torch.no_grad():
        torch.testing.assert_close(compiled(pixels).logits, model(pixels).logits, rtol=1e-4, atol=1e-4)


# --- errors -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x[0], r"shape \(3, 32, 32\); expected .* \(batch, 3, 32, 32\)"),
        (lambda x: x[:, :1], r"shape \(3, 1, 32, 32\)"),
        (lambda x: x[..., :31], r"shape \(3, 3, 32, 31\)"),
        (lambda x: (x * 255).byte(), r"dtype torch.uint8; expected a floating-point tensor"),
        (
            lambda x: x.masked_fill(torch.arange(3).eq(1)[:, None, None, None], float("nan")),
            r"NaN or infinity in picture\(s\) \[1\]",
        ),
        (lambda x: x / 0, "NaN or infinity"),
        (lambda x: x.tolist(), "is a list"),
    ],
)
def test_unusable_pixels(change, message, pixels):
    with pytest.raises(InputError, match=message) as caught:
        small_model()(change(pixels))
    assert "processor" in str(caught.value)


@pytest.mark.parametrize("labels", [torch.tensor([1]), torch.tensor([[1], [2], [3]]), torch.rand(3, 5)])
def test_unusable_labels(labels, pixels):
    with pytest.raises(InputError, match=r"labels have shape .* expected"):
        small_model()(pixels, labels=labels)
