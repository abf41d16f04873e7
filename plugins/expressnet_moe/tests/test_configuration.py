"""The config: published defaults, round trips, and errors that say what to do."""

import json
import subprocess
import sys

import pytest
from huggingface_hub.errors import StrictDataclassError

from meco_expressnet_moe.configuration_expressnet_moe import ExpressNetMoEConfig
from meco_hub.errors import ConfigurationError


def test_default_is_the_published_network():
    config = ExpressNetMoEConfig()
    assert config.image_size == 224
    assert config.fe1_kernel_sizes == [75, 50, 25, 15, 9, 3]
    assert config.fe1_channels == [8, 16, 32, 64, 128, 256]
    assert config.fe2_kernel_sizes == [15, 7, 5, 3, 3]
    assert config.fe2_channels == [16, 32, 64, 128, 256]
    assert (config.num_experts, config.top_k, config.norm_topk_prob) == (4, 2, False)
    assert (config.router_aux_loss_coef, config.router_z_loss_coef, config.router_jitter) == (0, 0, 0)
    assert (config.backbone, config.backbone_input_norm, config.channel_order) == ("resnet50_vggface", "none", "bgr")
    assert (config.backbone_maxpool, config.backbone_stem_padding) == ("valid_floor", "tf_same")
    assert (config.batch_norm_eps, config.batch_norm_momentum, config.label_smoothing) == (1e-3, 0.01, 0.1)
    assert config.stage_order == "relu_dropout_norm"
    assert config.feature_size == config.hidden_size == 1024


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, ["anger", "disgust", "sadness", "happiness", "fear", "neutral", "surprise"]),
        ({"num_labels": 8}, ["anger", "contempt", "disgust", "sadness", "happiness", "fear", "neutral", "surprise"]),
        ({"num_labels": 3}, ["LABEL_0", "LABEL_1", "LABEL_2"]),
        ({"id2label": {0: "yes", 1: "no"}}, ["yes", "no"]),
        ({"label2id": {"no": 1, "yes": 0}}, ["yes", "no"]),
    ],
)
def test_label_names(options, names):
    config = ExpressNetMoEConfig(**options)
    assert config.id2label == dict(enumerate(names))
    assert config.label2id == {name: index for index, name in enumerate(names)}
    assert config.num_labels == len(names)


@pytest.mark.parametrize(
    "options", [{}, {"num_labels": 2}, {"num_labels": 5}, {"backbone": "timm/resnet18", "top_k": 1}]
)
def test_round_trip(options, tmp_path):
    config = ExpressNetMoEConfig(**options)
    config.save_pretrained(tmp_path)
    again = ExpressNetMoEConfig.from_pretrained(tmp_path)
    assert again.to_dict() == config.to_dict()
    assert again.num_labels == config.num_labels
    # other tools read class names from the file itself
    assert len(json.loads((tmp_path / "config.json").read_text())["id2label"]) == config.num_labels


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fe1_channels": [4, 8]}, "fe1_channels has 2 entries and fe1_kernel_sizes 6"),
        ({"fe2_channels": [], "fe2_kernel_sizes": []}, "at least one stage"),
        ({"fe2_channels": [1, 2, 0, 4, 5]}, "fe2_channels holds 0; expected more than 0"),
        ({"image_size": 16}, "halved 5 times by the 6 stages of fe1"),
        ({"top_k": 5}, "top_k is 5 of num_experts 4; expected 1 to 4"),
        ({"top_k": 0}, "top_k is 0"),
        ({"conv_dropout": 1.0}, "conv_dropout is 1.0; expected 0 or more and less than 1"),
        ({"label_smoothing": -0.1}, "label_smoothing is -0.1"),
        ({"router_aux_loss_coef": -1}, "router_aux_loss_coef is -1; expected 0"),
        ({"num_channels": 4}, "num_channels is 4; expected 3"),
        ({"num_channels": 1, "input_norm": "imagenet"}, "defined for three channels"),
        ({"backbone": "timm/"}, "expected 'resnet50_vggface' or a timm model's name"),
        ({"backbone": "resnet18", "backbone_options": {"checkpoint_path": "evil.pth"}}, "where weights come from"),
        ({"backbone": "resnet18", "backbone_options": {"pretrained_cfg": {"file": "evil.pth"}}}, "where weights come"),
        ({"backbone_options": {"drop_rate": 0.1}}, "Use the backbone_… fields instead"),
        ({"backbone_depths": [1, 1]}, "backbone_depths has 2 entries and backbone_widths 4"),
        ({"id2label": {0: "a", 2: "b"}}, "without gaps"),
        ({"id2label": {0: "a", 1: "b"}, "label2id": {"a": 1, "b": 0}}, "not the inverse"),
    ],
)
def test_senseless_values_say_what_was_expected(options, message):
    with pytest.raises(StrictDataclassError) as caught:
        ExpressNetMoEConfig(**options)
    assert message in str(caught.value)
    assert isinstance(caught.value.__cause__, ConfigurationError)


@pytest.mark.parametrize(
    "options", [{"image_size": "224"}, {"channel_order": "grb"}, {"backbone_maxpool": "same"}, {"conv_impl": "magic"}]
)
def test_wrong_types_and_words_are_refused(options):
    with pytest.raises(StrictDataclassError, match=next(iter(options))):
        ExpressNetMoEConfig(**options)


def test_misspelt_field_offers_the_nearest():
    with pytest.raises(ConfigurationError, match=r"'fe1_chanels'\. Did you mean 'fe1_channels'"):
        ExpressNetMoEConfig(fe1_chanels=[1])
    with pytest.raises(ConfigurationError, match="no field 'some_note'"):
        ExpressNetMoEConfig(some_note="what nobody declares")
    saved = ExpressNetMoEConfig().to_dict() | {"some_note": "of a later version"}
    assert ExpressNetMoEConfig.from_dict(saved).some_note == "of a later version"


def test_contradicting_label_counts():
    with pytest.raises(ConfigurationError, match="num_labels=5, but 2 are named"):
        ExpressNetMoEConfig(num_labels=5, id2label={0: "a", 1: "b"})


def test_the_timm_prefix_is_optional():
    assert ExpressNetMoEConfig(backbone="timm/resnet18").timm_name == ExpressNetMoEConfig(backbone="resnet18").timm_name
    assert ExpressNetMoEConfig().timm_name is None


@pytest.mark.processes
def test_a_config_needs_no_timm():
    code = (
        "import sys; from meco_expressnet_moe.configuration_expressnet_moe import ExpressNetMoEConfig as C;"
        "C(backbone='resnet18'); sys.exit('timm' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
