"""The config: presets, layouts, targets and classes, round trips, and errors that say what to do."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub.errors import StrictDataclassError

from meco_himoe.configuration_himoe import HiMoEConfig
from meco_himoe.modalities import MODALITY_LAYOUTS, modality_layout
from meco_hub.errors import ConfigurationError


def test_the_default_is_small_on_four_groups_of_deap() -> None:
    config = HiMoEConfig()
    assert config.to_dict() == HiMoEConfig.small("deap_4").to_dict()
    assert config.modality_names == ["eeg", "eye", "emg", "ans"]
    assert [config.modalities[name]["channels"] for name in config.modality_names] == [32, 2, 2, 4]
    assert (config.d_model, config.num_heads, config.ffn_ratio, config.stem_channels) == (64, 4, 2, 32)
    assert (config.encoder_layers, config.context_layers, config.fusion_layers, config.eeb_layers) == (2, 1, 1, 2)
    assert (config.num_steps, config.max_lag_steps, config.num_modality_experts) == (16, 8, 6)
    assert (config.n_emotion_experts, config.router_type, config.expert_mask) == (8, "softmax", "token")
    assert config.target_names == ["valence", "arousal", "dominance"]
    weights = [config.mse_loss_coef, config.ccc_loss_coef, config.unimodal_loss_coef, config.contrastive_loss_coef]
    weights += [config.lag_loss_coef, config.prototype_loss_coef, config.separation_loss_coef, config.balance_loss_coef]
    assert [*weights, config.consistency_loss_coef] == [0.5, 0.5, 0.1, 0.1, 0.2, 0.05, 0.1, 0.01, 0.0]
    assert HiMoEConfig.base().d_model == 128


@pytest.mark.parametrize("name", MODALITY_LAYOUTS)
def test_layouts(name: str) -> None:
    config = HiMoEConfig.base(name, window_s=2.0)
    assert config.modality_names == list(MODALITY_LAYOUTS[name])
    assert sum(entry["channels"] for entry in modality_layout(name).values()) == {"dreamer_2": 16}.get(name, 40)


def test_patches_and_windows_in_samples() -> None:
    config = HiMoEConfig(
        modalities={
            "ecg": {"channels": 1, "sampling_rate": 256, "patch_s": 0.5},
            "power": {"channels": 5, "sampling_rate": 2, "stem": "linear"},
        },
        context_margin_s=1.0,
    )
    assert (config.patch_samples("ecg"), config.patch_samples("power")) == (128, 1)
    assert (config.window_samples("ecg"), config.window_samples("power")) == (6 * 256, 12)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"target_names": ["valence"], "target_center": [5], "target_halfrange": [4.5]},
        {"num_labels": 2},
        {"problem_type": "single_label_classification", "id2label": {0: "calm", 1: "stress"}},
        {"modalities": {"z": {"channels": 1, "sampling_rate": 4}, "a": {"channels": 2, "sampling_rate": 8}}},
        {"modalities": modality_layout("dreamer_2"), "lag_gauge": "anchor:ecg", "eeb_layers": 0},
    ],
)
def test_round_trip(options: dict[str, Any], tmp_path: Path) -> None:
    config = HiMoEConfig(**options)
    config.save_pretrained(tmp_path)
    again = HiMoEConfig.from_pretrained(tmp_path)
    assert again.to_dict() == config.to_dict()
    assert again.modality_names == config.modality_names, "JSON sorts keys; the order of modalities must survive"
    assert len(json.loads((tmp_path / "config.json").read_text())["id2label"]) == config.num_labels


def test_targets_and_classes() -> None:
    values = HiMoEConfig(target_names=["valence", "arousal"], target_center=[5, 5], target_halfrange=[4.5, 4.5])
    assert values.problem_type == "regression"
    assert values.id2label == {0: "valence", 1: "arousal"}
    assert HiMoEConfig(id2label={0: "v", 1: "a"}).target_names == ["v", "a"]
    assert HiMoEConfig(num_labels=1).target_names == ["valence"]
    classes = HiMoEConfig(problem_type="single_label_classification")
    assert classes.id2label == {0: "LABEL_0", 1: "LABEL_1"}
    assert not classes.target_names


ECG = {"ecg": {"channels": 1, "sampling_rate": 64}}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"d_model": 60}, "d_model 60 does not divide by twice num_heads 4"),
        ({"window_s": 4.1}, "window_s 4.1 is 16.4 grid steps of 0.25 s; expected a whole number"),
        ({"max_lag_s": 0.3}, "max_lag_s 0.3 is 1.2 grid steps"),
        ({"grid_step_s": 2.0**-13}, "expected a whole number from 1 to 16384"),
        ({"modalities": ECG, "modality_names": ["eeg"]}, "expected the same names"),
        ({"modalities": ECG, "window_s": 0.25, "grid_step_s": 0.25, "max_lag_s": 0.25}, None),
        ({"modalities": {"ecg": {"channels": 1, "sampling_rate": 1}}}, "a patch has 0 samples"),
        ({"lag_gauge": "anchor:gsr"}, "lag_gauge is 'anchor:gsr'"),
        ({"lag_gauge": "median"}, "expected 'mean' or 'anchor:<name>'"),
        ({"dropout": 1.0}, "dropout is 1.0; expected 0 or more and less than 1"),
        ({"lag_loss_coef": -1}, "lag_loss_coef is -1"),
        ({"target_names": ["v", "a"], "target_center": [5.0]}, "target_center is [5.0]; expected a number for each"),
        ({"target_names": ["v"], "target_halfrange": [0.0]}, "expected numbers above 0"),
        ({"target_names": ["v"], "id2label": {0: "a"}}, "disagree"),
        ({"problem_type": "multi_label_classification"}, "expected 'regression' or 'single_label_classification'"),
        ({"problem_type": "single_label_classification", "target_names": ["v", "a"]}, "and no targets"),
        ({"time_max_period_s": 0.05}, "expected more than time_min_period_s"),
        ({"min_coverage": 0}, "min_coverage is 0"),
        ({"eeb_layers": -1}, "eeb_layers is -1"),
    ],
)
def test_senseless_values_say_what_was_expected(options: dict[str, Any], message: str | None) -> None:
    if message is None:
        HiMoEConfig(**options)
        return
    with pytest.raises(StrictDataclassError) as caught:
        HiMoEConfig(**options)
    assert message in str(caught.value)
    assert isinstance(caught.value.__cause__, ConfigurationError)


@pytest.mark.parametrize(
    ("modalities", "message"),
    [
        ({"ecg": {"channels": 1, "sampling_rat": 64}}, "Did you mean 'sampling_rate'"),
        ({"ecg": {"sampling_rate": 64}}, "has channels None; expected a number above 0"),
        ({"ecg": {"channels": 1.5, "sampling_rate": 64}}, "expected a whole number"),
        ({"ecg": {"channels": 1, "sampling_rate": 64, "stem": "lstm"}}, "expected 'conv', 'statistics' or 'linear'"),
    ],
)
def test_modalities_are_checked_key_by_key(modalities: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        HiMoEConfig(modalities=modalities)


def test_misspelt_fields_and_contradictions() -> None:
    with pytest.raises(ConfigurationError, match=r"'grid_steps_s'\. Did you mean 'grid_step_s'"):
        HiMoEConfig(grid_steps_s=0.5)
    with pytest.raises(ConfigurationError, match="num_labels=3, but 2 are named"):
        HiMoEConfig(num_labels=3, target_names=["v", "a"])
    with pytest.raises(ConfigurationError, match="no modality layout 'deap_5'"):
        HiMoEConfig.small("deap_5")
    with pytest.raises(ValueError, match="num_labels > 1"):  # transformers' own words
        HiMoEConfig(problem_type="single_label_classification", id2label={0: "a"})
    with pytest.raises(StrictDataclassError, match="meb"):
        HiMoEConfig(meb="none")


@pytest.mark.processes
def test_a_config_names_its_plugin_without_torch() -> None:
    code = "import sys, meco_himoe; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
