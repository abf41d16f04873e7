"""The config: published defaults, presets, round trips, and errors that say what to do."""

import json
import subprocess
import sys

import pytest
from huggingface_hub.errors import StrictDataclassError

from meco_hub.errors import ConfigurationError
from meco_mcoenet.configuration_mcoenet import DEFAULT_LABELS, SMALL, TOKEN, MCOENetConfig


def test_default_is_the_published_network():
    config = MCOENetConfig()
    assert (config.image_size, config.num_frames, config.frame_positions) == (100, 4, [0, -1])
    assert (config.backbone_depths, config.backbone_widths) == ([2, 2, 2, 2], [64, 128, 256, 512])
    assert (config.backbone_feature, config.features_per_picture, config.share_backbones) == ("logits", 1000, False)
    assert (config.d_model, config.d_state, config.d_conv, config.d_inner, config.time_rank) == (4, 16, 4, 8, 1)
    assert (config.bidirectional, config.share_reverse_dt_bias, config.joint_bc, config.train_D) == (True,) * 4
    assert (config.joint_activation, config.joint_norm, config.missing_modality) == (None, None, "error")
    assert (config.mcib_num_heads, config.fusion_dim, config.fusion_dropout) == (2, 1024, 0.5)
    assert (config.num_experts, config.top_k, config.norm_topk_prob) == (8, 2, True)
    assert config.expert_types == ["focal", "attention", "deep", "focal", "attention", "deep", "focal", "attention"]
    assert (config.attention_tokens, config.focal_tokens, config.deep_expert_activation) == (1, 1, None)
    assert (config.router_aux_loss_coef, config.label_smoothing, config.expert_dispatch) == (0, 0, "sparse")
    assert (config.num_tokens, config.hidden_size) == (500, 1024)
    assert list(config.id2label.values()) == list(DEFAULT_LABELS)


def test_presets_change_what_they_say():
    published = MCOENetConfig().to_dict()
    token = MCOENetConfig.token().to_dict()
    assert {name for name in token if token[name] != published[name]} == set(TOKEN)
    small = MCOENetConfig.small(num_labels=3, focal_tokens=4)
    assert (small.num_labels, small.focal_tokens, small.attention_tokens) == (3, 4, 8)
    assert all(getattr(small, name) == value for name, value in SMALL.items() if name != "focal_tokens")
    assert small.num_tokens == 64


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, list(DEFAULT_LABELS)),
        ({"num_labels": 3}, ["LABEL_0", "LABEL_1", "LABEL_2"]),
        ({"id2label": {0: "yes", 1: "no"}}, ["yes", "no"]),
        ({"label2id": {"no": 1, "yes": 0}}, ["yes", "no"]),
    ],
)
def test_label_names(options, names):
    config = MCOENetConfig(**options)
    assert config.id2label == dict(enumerate(names))
    assert config.label2id == {name: index for index, name in enumerate(names)}
    assert config.num_labels == len(names)


@pytest.mark.parametrize(
    "options", [{}, {"num_labels": 2}, {"num_labels": 5}, TOKEN, SMALL, {"num_experts": 3, "top_k": 1}]
)
def test_round_trip(options, tmp_path):
    config = MCOENetConfig(**options)
    config.save_pretrained(tmp_path)
    again = MCOENetConfig.from_pretrained(tmp_path)
    assert again.to_dict() == config.to_dict()
    assert again.num_labels == config.num_labels
    # other tools read class names from the file itself
    assert len(json.loads((tmp_path / "config.json").read_text())["id2label"]) == config.num_labels


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"d_model": 3}, "2000 features of a stream (2 pictures of 1000) do not divide into tokens of d_model 3"),
        ({"mcib_num_heads": 3}, "mcib_num_heads 3 does not divide d_model 4"),
        ({"attention_tokens": 3}, "attention_tokens 3 does not divide fusion_dim 1024"),
        ({"focal_tokens": 7}, "focal_tokens 7 does not divide"),
        ({"attention_tokens": 512}, "router_num_heads 4 does not divide the attention's width 2"),
        ({"focal_kernel": 4}, "focal_kernel is 4; expected an odd number"),
        ({"top_k": 9}, "top_k is 9 of num_experts 8; expected 1 to 8"),
        ({"top_k": 0}, "top_k is 0"),
        ({"expert_types": ["focal"]}, "expected one of focal, attention, deep for each of the 8 experts"),
        ({"expert_types": ["conv"] * 8}, "expert_types is ['conv'"),
        ({"backbone_depths": [1, 1]}, "backbone_depths has 2 entries and backbone_widths 4"),
        ({"backbone_widths": [64, 0, 3, 4]}, "must all be above 0"),
        ({"frame_positions": []}, "frame_positions is empty"),
        ({"fusion_dropout": 1.0}, "fusion_dropout is 1.0; expected 0 or more and less than 1"),
        ({"label_smoothing": -0.1}, "label_smoothing is -0.1"),
        ({"router_aux_loss_coef": -1}, "router_aux_loss_coef is -1; expected 0"),
        ({"d_state": 0}, "d_state is 0; expected more than 0"),
        ({"dt_min": 0.5}, "dt_min 0.5 is above dt_max 0.1"),
        ({"id2label": {0: "a", 2: "b"}}, "without gaps"),
        ({"id2label": {0: "a", 1: "b"}, "label2id": {"a": 1, "b": 0}}, "not the inverse"),
    ],
)
def test_senseless_values_say_what_was_expected(options, message):
    with pytest.raises(StrictDataclassError) as caught:
        MCOENetConfig(**options)
    assert message in str(caught.value)
    assert isinstance(caught.value.__cause__, ConfigurationError)


@pytest.mark.parametrize(
    "options",
    [{"image_size": "100"}, {"backbone_feature": "mean"}, {"missing_modality": "skip"}, {"expert_dispatch": 1}],
)
def test_wrong_types_and_words_are_refused(options):
    with pytest.raises(StrictDataclassError, match=next(iter(options))):
        MCOENetConfig(**options)


def test_misspelt_field_offers_the_nearest():
    with pytest.raises(ConfigurationError, match=r"'focal_token'\. Did you mean 'focal_tokens'"):
        MCOENetConfig(focal_token=4)
    with pytest.raises(ConfigurationError, match="no field 'some_note'"):
        MCOENetConfig(some_note="what nobody declares")
    saved = MCOENetConfig().to_dict() | {"some_note": "of a later version"}
    assert MCOENetConfig.from_dict(saved).some_note == "of a later version"


def test_contradicting_label_counts():
    with pytest.raises(ConfigurationError, match="num_labels=5, but 2 are named"):
        MCOENetConfig(num_labels=5, id2label={0: "a", 1: "b"})


@pytest.mark.processes
def test_neither_the_plugin_nor_its_model_needs_timm_or_mamba():
    code = (
        "import sys; import meco_mcoenet; assert 'torch' not in sys.modules;"
        "from meco_mcoenet.modeling_mcoenet import MCOENetModel;"
        "sys.exit(any(name in sys.modules for name in ('timm', 'mamba_ssm')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
