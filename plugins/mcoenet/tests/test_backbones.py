"""Pretrained backbones: loaded once, on purpose, into all of them, or not at all; and kept by a checkpoint."""

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from meco_hub.errors import CheckpointError, ConfigurationError, ConversionError, DependencyError
from meco_mcoenet import backbone_weights
from meco_mcoenet.configuration_mcoenet import MCOENetConfig
from meco_mcoenet.modeling_mcoenet import MCOENetForEmotionRecognition, MCOENetModel

REST = {"fusion_dim": 16, "num_experts": 2, "router_hidden": 4, "focal_hidden": 4}
RESNET18 = {**REST, "share_backbones": True}
SMALL = {**REST, "backbone_depths": [1, 1], "backbone_widths": [4, 6], "backbone_num_features": 8}


def weights_of(model: MCOENetModel) -> list[dict[str, torch.Tensor]]:
    return [backbone.state_dict() for backbone in (*model.frame_backbones, *model.event_backbones)]


@pytest.fixture
def donor() -> dict[str, torch.Tensor]:
    """Some backbone's weights, with statistics that are not the initial ones."""
    torch.manual_seed(1)
    state = MCOENetModel(MCOENetConfig(**SMALL)).frame_backbones[0].state_dict()
    return {k: torch.rand_like(v) + 0.5 if v.is_floating_point() else v + 3 for k, v in state.items()}


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".parallel.pth"])
def test_all_backbones_get_the_same_weights_and_keep_them(
    suffix: str, donor: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    path = tmp_path / f"weights{suffix}"
    if suffix == ".safetensors":
        save_file(donor, path)
    else:
        torch.save(
            {"state_dict": {f"module.{k}": v for k, v in donor.items()}} if "parallel" in suffix else donor, path
        )
    model = MCOENetForEmotionRecognition(MCOENetConfig(**SMALL))
    model.load_backbone_weights(path)
    model.save_pretrained(tmp_path / "out")
    for again in (model, MCOENetForEmotionRecognition.from_pretrained(tmp_path / "out")):
        states = weights_of(again.mcoenet)
        assert len(states) == 4
        for state in states:
            assert all(torch.equal(value, donor[name]) for name, value in state.items())
    first, second = model.mcoenet.frame_backbones
    with torch.no_grad():
        first.conv1.weight.zero_()
    assert second.conv1.weight.any(), "equal at first, but not shared"


def test_a_classifier_in_the_file_is_left_out_where_there_is_none(
    donor: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    save_file(donor, tmp_path / "w.safetensors")
    model = MCOENetModel(MCOENetConfig(**{**SMALL, "backbone_feature": "pooled", "d_model": 2}))
    model.load_backbone_weights(tmp_path / "w.safetensors")
    assert torch.equal(model.event_backbones[1].conv1.weight, donor["conv1.weight"])


def test_timms_weights_of_resnet18_fit(tmp_path: Path) -> None:
    theirs = timm.create_model("resnet18").state_dict()
    save_file(theirs, tmp_path / "resnet18.safetensors")
    model = MCOENetModel(MCOENetConfig(**RESNET18))
    model.load_backbone_weights(tmp_path / "resnet18.safetensors")
    assert all(torch.equal(value, theirs[name]) for state in weights_of(model) for name, value in state.items())


def test_timm_is_asked_only_when_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, bool]] = []
    weights = timm.create_model("resnet18").state_dict()

    class Model:
        def state_dict(self) -> dict[str, torch.Tensor]:
            return weights

    def create_model(name: str, pretrained: bool = False) -> Model:
        asked.append((name, pretrained))
        return Model()

    monkeypatch.setattr(timm, "create_model", create_model)
    model = MCOENetModel(MCOENetConfig(**RESNET18))
    assert asked == []
    model.load_backbone_weights(pretrained=True)
    assert asked == [("resnet18.tv_in1k", True)]
    assert torch.equal(model.frame_backbones[0].fc.bias, weights["fc.bias"])
    assert timm.is_model(asked[0][0])


def test_without_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    with pytest.raises(DependencyError, match="pip install timm"):
        MCOENetModel(MCOENetConfig(**SMALL)).load_backbone_weights(pretrained=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("layer2.0.bn1.bias"), r"1 missing: layer2\.0\.bn1\.bias"),
        (lambda s: s.update(extra=torch.ones(2)), "1 unexpected: extra"),
        (lambda s: s.update({"fc.weight": torch.ones(1000, 6)}), r"fc\.weight \(1000, 6\) instead of \(8, 6\)"),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_is_loaded(
    change, message: str, donor: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    change(donor)
    save_file(donor, tmp_path / "w.safetensors")
    model = MCOENetModel(MCOENetConfig(**SMALL))
    before = [{k: v.clone() for k, v in state.items()} for state in weights_of(model)]
    with pytest.raises(ConversionError, match=message):
        model.load_backbone_weights(tmp_path / "w.safetensors")
    assert all(
        torch.equal(v, old[k]) for state, old in zip(weights_of(model), before, strict=True) for k, v in state.items()
    )


def test_one_source_and_only_one(tmp_path: Path) -> None:
    model = MCOENetModel(MCOENetConfig(**SMALL))
    for arguments in ({}, {"source": "x.pth", "pretrained": True}):
        with pytest.raises(ConfigurationError, match="exactly one"):
            model.load_backbone_weights(**arguments)
    with pytest.raises(CheckpointError, match="There is no weights file"):
        model.load_backbone_weights(tmp_path / "nowhere.pth")
    torch.save({"epoch": 3}, tmp_path / "odd.pth")
    with pytest.raises(CheckpointError, match="something else than tensors under epoch"):
        backbone_weights.load_backbone_weights([model.frame_backbones[0]], tmp_path / "odd.pth")
