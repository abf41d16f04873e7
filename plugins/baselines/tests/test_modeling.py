"""EEGNet is the paper's, layer by layer; the GRU looks at what its card says; bounds hold wherever weights come from."""

from typing import Any

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from torch.nn import functional as F

from meco_baselines.configuration_baselines import EEGNetConfig, GRUConfig
from meco_baselines.modeling_baselines import EEGNetForEmotionRecognition, GRUForEmotionRecognition, bounded
from meco_baselines.processing_baselines import BaselineSignalWindower


def eegnet(channels: int, seconds: float, classes: int = 2, **changes: Any) -> EEGNetForEmotionRecognition:
    torch.manual_seed(0)
    names = {index: f"class {index}" for index in range(classes)}
    streams = {"eeg": {"channels": channels, "sampling_rate": 128}}
    given = {"problem_type": "single_label_classification", "id2label": names, **changes}
    return EEGNetForEmotionRecognition(EEGNetConfig(modalities=streams, window_s=seconds, **given)).eval()


@pytest.mark.parametrize(
    ("channels", "seconds", "classes", "changes", "parameters"),
    [  # table 2 of the paper, by hand: C · D · F1 + K · F1 + 16 · D · F1 + D · F1 · F2 + N · F2 · T / 32, norms and bias beside
        (64, 1.0, 2, {}, 512 + 16 + 1024 + 32 + 256 + 256 + 32 + 130),
        (64, 1.5, 2, {}, 512 + 16 + 1024 + 32 + 256 + 256 + 32 + 194),
        (22, 2.0, 4, {"kernel_length": 32}, 256 + 16 + 352 + 32 + 256 + 256 + 32 + 516),
        (64, 1.0, 2, {"temporal_filters": 4, "separable_filters": 8}, 256 + 8 + 512 + 16 + 128 + 64 + 16 + 66),
    ],
)
def test_eegnet_has_the_parameters_of_the_paper(
    channels: int, seconds: float, classes: int, changes: dict[str, Any], parameters: int
) -> None:
    model = eegnet(channels, seconds, classes, **changes)
    assert sum(one.numel() for one in model.parameters()) == parameters


def test_eegnet_computes_what_its_table_says() -> None:
    model, x = eegnet(6, 2.0, dropout=0.0), torch.randn(3, 256, 6)
    net = model.model
    with torch.no_grad():
        for module in (net.temporal_norm, net.spatial_norm, net.separable_norm):
            assert module.running_mean is not None
            module.running_mean.normal_()
        y = F.pad(x.transpose(1, 2)[:, None], (31, 32))  # 64 samples, "same" as Keras has it
        y = net.temporal_norm(F.conv2d(y, net.temporal.weight))
        groups = []
        for filter_ in range(8):  # two spatial filters for each, of norm 1 at most
            rows = net.spatial.weight[2 * filter_ : 2 * filter_ + 2, 0, :, 0]
            rows = rows / rows.norm(dim=1, keepdim=True).clamp(min=1)
            groups.append(torch.einsum("bct,dc->bdt", y[:, filter_], rows))
        y = F.elu(net.spatial_norm(torch.cat(groups, dim=1).unsqueeze(2)))
        y = y.unflatten(3, (64, 4)).mean(dim=4)
        y = torch.stack([
            F.conv1d(F.pad(y[:, row, 0], (7, 8))[:, None], net.depthwise.weight[row, :, 0][None])[:, 0] for row in range(16)
        ], dim=1)  # fmt: skip
        y = torch.einsum("bct,oc->bot", y, net.pointwise.weight[:, :, 0, 0]).unsqueeze(2)
        y = F.elu(net.separable_norm(y)).unflatten(3, (8, 8)).mean(dim=4)
        rows = model.classifier.weight
        rows = rows * (0.25 / rows.norm(dim=1, keepdim=True)).clamp(max=1)
        expected = y.flatten(1) @ rows.T + model.classifier.bias
        torch.testing.assert_close(model(inputs={"eeg": x}).logits, expected, rtol=1e-4, atol=1e-5)


def test_norms_are_bounded_and_smaller_ones_left_alone() -> None:
    weight = torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]])
    assert bounded(weight, 1.0).tolist() == [pytest.approx([0.6, 0.8]), pytest.approx([0.3, 0.4]), [0.0, 0.0]]
    model = eegnet(4, 1.0)
    with torch.no_grad():
        model.classifier.weight.mul_(1000)
    features = torch.randn(5, model.config.hidden_size)
    logits = model.classifier(features) - model.classifier.bias
    assert (logits.abs() <= 0.25 * features.norm(dim=1, keepdim=True) + 1e-5).all()


def gru(**changes: Any) -> GRUForEmotionRecognition:
    torch.manual_seed(0)
    streams = {"temp": {"channels": 1, "sampling_rate": 4}, "eda": {"channels": 2, "sampling_rate": 8}}
    return GRUForEmotionRecognition(GRUConfig(modalities=streams, window_s=10, d_model=8, **changes)).eval()


def test_the_gru_weighs_steps_by_attention() -> None:
    model, net = gru(target_names=["valence"], problem_type="regression"), gru().model
    x = {"eda": torch.randn(2, 80, 2), "temp": torch.randn(2, 40, 1)}
    with torch.no_grad():
        rows = [
            torch.cat([x[name], torch.ones_like(x[name][..., :1])], -1).reshape(2, 10, -1) for name in ("eda", "temp")
        ]
        theirs = torch.nn.GRU(8, 8, batch_first=True, bidirectional=True)
        theirs.load_state_dict({
            name.replace("_reverse", "") + "_l0" + ("_reverse" if "reverse" in name else ""): value
            for name, value in net.gru.state_dict().items()
        })  # fmt: skip
        hidden = theirs(F.gelu(net.project(torch.cat(rows, dim=-1))))[0]
        share = torch.exp(net.score(hidden))
        expected = (share * hidden).sum(dim=1) / share.sum(dim=1)
        torch.testing.assert_close(model.model(inputs=x).pooler_output, expected)
        assert model(inputs=x).logits.shape == (2, 1)


def test_over_time_each_step_is_answered() -> None:
    model = gru(target_names=["valence", "arousal"], problem_type="regression", prediction_mode="sequence")
    logits = model(inputs={"eda": torch.randn(3, 80, 2)}).logits  # no temperature today
    assert logits.shape == (3, 10, 2)
    assert (logits[:, 0] != logits[:, 5]).any()
    windower = BaselineSignalWindower.for_config(model.config)
    assert (windower.modality_names, windower.window_s, windower.grid_step_s) == (["eda", "temp"], 10.0, 1.0)


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        (GRUConfig, {"step_s": 3.0}),
        (GRUConfig, {"step_s": 0.125}),
        (GRUConfig, {"modalities": {}}),
        (GRUConfig, {"modalities": {"eda": {"channels": 2}}}),
        (GRUConfig, {"dropout": 1.0}),
        (GRUConfig, {"target_names": ["a"], "target_center": [1.0, 2.0]}),
        (
            EEGNetConfig,
            {"modalities": {"a": {"channels": 1, "sampling_rate": 8}, "b": {"channels": 1, "sampling_rate": 8}}},
        ),
        (EEGNetConfig, {"window_s": 0.125}),
        (EEGNetConfig, {"dense_max_norm": 0}),
    ],
)
def test_what_makes_no_sense_is_refused(kind: Any, changes: dict[str, Any]) -> None:
    with pytest.raises(StrictDataclassError):
        kind(**changes)
