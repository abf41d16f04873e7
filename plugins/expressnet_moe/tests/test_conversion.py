"""The converter against TensorFlow's own files, against files in Keras's layout written here, and against bad files.

`golden/` holds two files that TensorFlow 2.15 wrote (`make_keras_reference.py`), with pictures and Keras's softmax. The files
written here hold a network of ours under Keras's names, so that the converted state dict must be equal to the last bit.
"""

import gzip
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from meco_expressnet_moe.configuration_expressnet_moe import ExpressNetMoEConfig
from meco_expressnet_moe.conversion import LABEL_SPACES, PUBLISHED_COUNTS, backbone_from_vggface, convert
from meco_expressnet_moe.keras_weights.hdf5 import read_keras_hdf5
from meco_expressnet_moe.keras_weights.mapping import find_network
from meco_expressnet_moe.modeling_expressnet_moe import ExpressNetMoEForEmotionRecognition
from meco_hub import AutoModelForEmotionRecognition
from meco_hub.errors import ConfigurationError, ConversionError, DependencyError

GOLDEN = Path(__file__).parent / "golden"
FILES = {"config.json", "model.safetensors", "preprocessor_config.json"}
Weights = list[tuple[str, np.ndarray]]


# --- files that TensorFlow wrote ---


def unpacked(name: str, folder: Path) -> Path:
    path = folder / f"{name}.h5"
    path.write_bytes(gzip.decompress((GOLDEN / f"{name}.h5.gz").read_bytes()))
    return path


def softmax(model: torch.nn.Module, rgb: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return model(torch.from_numpy(rgb).permute(0, 3, 1, 2).float() / 255).logits.softmax(-1).numpy()


@pytest.mark.parametrize("name", ["nested", "layers.whole"])
def test_softmax_equals_keras(name: str, tmp_path: Path) -> None:
    from transformers import AutoImageProcessor

    report = convert(unpacked(name, tmp_path), tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES
    model = AutoModelForEmotionRecognition.from_pretrained(tmp_path / "out").eval()
    reference = np.load(GOLDEN / f"{name}.npz")
    np.testing.assert_allclose(softmax(model, reference["rgb"]), reference["softmax"], atol=2e-6, rtol=0)
    processor = AutoImageProcessor.from_pretrained(tmp_path / "out")
    with torch.no_grad():
        logits = model(**processor(list(reference["rgb"]), return_tensors="pt")).logits
    np.testing.assert_allclose(logits.softmax(-1).numpy(), reference["softmax"], atol=2e-6, rtol=0)
    assert report.keras_version == "2.15.0"
    assert sum(report.counts.values()) == sum(
        value.numel() for key, value in model.state_dict().items() if "num_batches_tracked" not in key
    )
    assert not report.is_published_size


def spoil_channels(model: ExpressNetMoEForEmotionRecognition) -> None:
    model.config.channel_order = "rgb"
    model.expressnet.config.channel_order = "rgb"


def spoil_flattening(model: ExpressNetMoEForEmotionRecognition) -> None:
    weight = model.expressnet.large_kernel_branch.projection.weight
    weight.copy_(weight.unflatten(1, (2, 2, -1)).permute(0, 3, 1, 2).flatten(1))


def spoil_experts(model: ExpressNetMoEForEmotionRecognition) -> None:
    model.expressnet.fusion_experts.weight.copy_(model.expressnet.fusion_experts.weight.flip(0))


def spoil_mixtures(model: ExpressNetMoEForEmotionRecognition) -> None:
    base = model.expressnet
    base.large_kernel_experts, base.fusion_experts = base.fusion_experts, base.large_kernel_experts


def spoil_eps(model: ExpressNetMoEForEmotionRecognition) -> None:
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eps = 1e-5


@pytest.mark.parametrize("spoil", [spoil_channels, spoil_flattening, spoil_experts, spoil_mixtures, spoil_eps])
def test_the_golden_files_notice(spoil: Callable[[ExpressNetMoEForEmotionRecognition], None], tmp_path: Path) -> None:
    convert(unpacked("nested", tmp_path), tmp_path / "out")
    model = ExpressNetMoEForEmotionRecognition.from_pretrained(tmp_path / "out").eval()
    with torch.no_grad():
        spoil(model)
    reference = np.load(GOLDEN / "nested.npz")
    assert np.abs(softmax(model, reference["rgb"]) - reference["softmax"]).max() > 1e-4


# --- files in Keras's layout, written here ---


@pytest.fixture(scope="module")
def model() -> ExpressNetMoEForEmotionRecognition:
    torch.manual_seed(0)
    config = ExpressNetMoEConfig(
        image_size=16,
        fe1_channels=[2, 5, 4],
        fe1_kernel_sizes=[6, 4, 3],
        fe1_hidden_size=12,
        fe2_channels=[5, 4],
        fe2_kernel_sizes=[5, 3],
        backbone_depths=[2, 1],
        backbone_widths=[3, 5],
        fusion_hidden_size=12,
        num_experts=3,
        num_labels=7,
    )
    network = ExpressNetMoEForEmotionRecognition(config)
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if "num_batches_tracked" not in name:
                value.copy_(torch.rand_like(value) + (0.5 if "running_var" in name else -0.5))
    return network


class Keras:
    """Writes a network of ours as Keras would: names, numbers, order and attributes."""

    def __init__(self, model: ExpressNetMoEForEmotionRecognition, first: int = 0, gate_first: bool = False) -> None:
        self.state = {name: value.numpy() for name, value in model.state_dict().items()}
        self.config = model.config
        self.numbers = {"conv2d": first, "batch_normalization": first, "dense": first}
        self.gate_first = gate_first

    def name(self, kind: str) -> str:
        number = self.numbers[kind]
        self.numbers[kind] += 1
        return f"{kind}_{number}" if number else kind

    def conv(self, name: str, ours: str) -> Weights:
        weights = [(f"{name}/kernel:0", self.state[f"{ours}.weight"].transpose(2, 3, 1, 0))]
        if f"{ours}.bias" in self.state:
            weights.append((f"{name}/bias:0", self.state[f"{ours}.bias"]))
        return weights

    def norm(self, name: str, ours: str) -> Weights:
        kinds = (
            ("gamma", "weight"),
            ("beta", "bias"),
            ("moving_mean", "running_mean"),
            ("moving_variance", "running_var"),
        )
        return [(f"{name}/{theirs}:0", self.state[f"{ours}.{own}"]) for theirs, own in kinds]

    def dense(self, ours: str) -> Weights:
        name = self.name("dense")
        return [(f"{name}/kernel:0", self.state[f"{ours}.weight"].T), (f"{name}/bias:0", self.state[f"{ours}.bias"])]

    def branch(self, ours: str, stages: int) -> Weights:
        weights: Weights = []
        for index in range(stages):
            weights += self.conv(self.name("conv2d"), f"{ours}.stages.{index}.conv")
            weights += self.norm(self.name("batch_normalization"), f"{ours}.stages.{index}.norm")
        return weights

    def large(self) -> Weights:
        ours = "expressnet.large_kernel_branch"
        weights = self.branch(ours, len(self.config.fe1_channels))
        (kernel_name, kernel), bias = self.dense(f"{ours}.projection")
        channels = self.config.fe1_channels[-1]
        side = round((kernel.shape[0] / channels) ** 0.5)
        kernel = kernel.reshape(channels, side, side, -1).transpose(1, 2, 0, 3).reshape(kernel.shape)
        return [*weights, (kernel_name, kernel), bias]

    def resnet(self) -> Weights:
        ours = "expressnet.backbone"
        weights = self.conv("conv1/7x7_s2", f"{ours}.stem.conv") + self.norm("conv1/7x7_s2/bn", f"{ours}.stem.norm")
        parts = {"reduce": "1x1_reduce", "spatial": "3x3", "shortcut": "1x1_proj", "expand": "1x1_increase"}
        for stage, depth in enumerate(self.config.backbone_depths):
            for block in range(depth):
                for part, theirs in parts.items():
                    place = f"{ours}.stages.{stage}.blocks.{block}.{part}"
                    name = f"conv{stage + 2}_{block + 1}_{theirs}"
                    if f"{place}.weight" in self.state:
                        weights += self.conv(name, place) + self.norm(f"{name}/bn", f"{place}_norm")
        return weights

    def mixture(self, ours: str) -> Weights:
        gate = self.dense(f"expressnet.{ours}.router") if self.gate_first else []
        weights: Weights = []
        for kernel, bias in zip(
            self.state[f"expressnet.{ours}.weight"], self.state[f"expressnet.{ours}.bias"], strict=True
        ):
            name = self.name("dense")
            weights += [(f"{name}/kernel:0", kernel.T), (f"{name}/bias:0", bias)]
        return [*gate, *weights, *([] if self.gate_first else self.dense(f"expressnet.{ours}.router"))]

    def layers(self) -> dict[str, Weights]:
        """Layer → its weights, trainable ones first, as Keras lists those of a sub-model."""
        layers = {
            "CNNFeatureExtractor_2": self.branch("expressnet.small_kernel_branch", len(self.config.fe2_channels)),
            "ResNet50": self.resnet(),
            "dropout": [],
            "fusion_dense": self.dense("expressnet.fusion"),
            "CNNFeatureExtractor_1": self.large(),
            "MoE_Expression": self.mixture("fusion_experts"),
            "MoE_CNN_Features": self.mixture("large_kernel_experts"),
            "output_dense": self.dense("classifier"),
        }
        for name in ("fusion_dense", "output_dense"):  # a layer of the top level bears its weights' name
            layers = {(w[0][0].split("/")[0] if key == name else key): w for key, w in layers.items()}
        return {key: sorted(weights, key=lambda one: "moving" in one[0]) for key, weights in layers.items()}

    def flat_layers(self) -> dict[str, Weights]:
        """Every layer by itself, in an order by depth that takes turns between the branches."""
        self.numbers = dict.fromkeys(self.numbers, self.numbers["dense"])
        blocks = [
            self.large(),
            self.branch("expressnet.small_kernel_branch", len(self.config.fe2_channels)),
            self.resnet(),
            self.dense("expressnet.fusion"),
            self.mixture("large_kernel_experts"),
            self.mixture("fusion_experts"),
            self.dense("classifier"),
        ]
        singles: list[dict[str, Weights]] = []
        for block in blocks:
            layers: dict[str, Weights] = {}
            for name, value in block:
                layers.setdefault(name.rpartition("/")[0], []).append((name, value))
            singles.append(layers)
        turns = max(len(layers) for layers in singles)
        listed = [list(layers.items()) for layers in singles]
        return dict(layers[turn] for turn in range(turns) for layers in listed if turn < len(layers))


def write(path: Path, layers: dict[str, Weights], *, whole: bool = False, pieces: int = 0) -> Path:
    def list_attribute(group: "h5py.Group", name: str, values: list[str]) -> None:
        encoded = [value.encode() for value in values]
        if not pieces:
            group.attrs[name] = encoded or np.array([])
        for index in range(pieces):
            group.attrs[f"{name}{index}"] = np.array_split(np.array(encoded, dtype="S60"), pieces)[index]

    with h5py.File(path, "w") as file:
        root = file.create_group("model_weights") if whole else file
        root.attrs["keras_version"] = b"2.12.0"
        list_attribute(root, "layer_names", list(layers))
        for layer, weights in layers.items():
            group = root.require_group(layer)
            list_attribute(group, "weight_names", [name for name, _ in weights])
            for name, value in weights:
                group.create_dataset(name, data=value)
        root.create_group("top_level_model_weights").attrs["weight_names"] = np.array([])
        if whole:
            file.create_group("optimizer_weights").create_dataset("Adam/m/dense/kernel:0", data=np.ones((3, 3)))
            file.attrs["model_config"] = "{not JSON"
    return path


def assert_equal(folder: Path, model: ExpressNetMoEForEmotionRecognition) -> None:
    converted = ExpressNetMoEForEmotionRecognition.from_pretrained(folder).state_dict()
    assert converted.keys() == model.state_dict().keys()
    different = [name for name, value in model.state_dict().items() if not torch.equal(value, converted[name])]
    assert different == []


@pytest.mark.parametrize("first", [0, 1, 5, 98])  # dense_9 and dense_10, dense_99 and dense_100 in one mixture
@pytest.mark.parametrize("gate_first", [False, True])
def test_numbers_and_gate_may_be_anywhere(
    first: int, gate_first: bool, model: ExpressNetMoEForEmotionRecognition, tmp_path: Path
) -> None:
    report = convert(write(tmp_path / "w.h5", Keras(model, first, gate_first).layers()), tmp_path / "out")
    assert_equal(tmp_path / "out", model)
    assert report.labels == [f"LABEL_{index}" for index in range(7)]
    assert any("LABEL_0" in note for note in report.notes)
    assert not any("mixtures" in note for note in report.notes)


@pytest.mark.parametrize("first", [0, 4])
def test_flat_model_of_numbered_layers(first: int, model: ExpressNetMoEForEmotionRecognition, tmp_path: Path) -> None:
    report = convert(write(tmp_path / "w.h5", Keras(model, first).flat_layers()), tmp_path / "out")
    assert_equal(tmp_path / "out", model)
    assert any("tells the two mixtures of experts apart" in note for note in report.notes)


@pytest.mark.parametrize(("whole", "pieces"), [(True, 0), (False, 3), (True, 2)])
def test_whole_models_and_attributes_in_pieces(
    whole: bool, pieces: int, model: ExpressNetMoEForEmotionRecognition, tmp_path: Path
) -> None:
    convert(write(tmp_path / "w.h5", Keras(model).layers(), whole=whole, pieces=pieces), tmp_path / "out")
    assert_equal(tmp_path / "out", model)


def test_the_authors_four_label_orders(model: ExpressNetMoEForEmotionRecognition, tmp_path: Path) -> None:
    source = write(tmp_path / "w.h5", Keras(model).layers())
    assert convert(source, tmp_path / "raf", labels="raf_db").labels[0] == "surprise"
    report = convert(source, tmp_path / "own", labels="angry,disgust,sad,happy,fear,neutral,surprise")
    assert report.labels == list(LABEL_SPACES["fer2013"].names)
    config = ExpressNetMoEConfig.from_pretrained(tmp_path / "own")
    assert config.id2label == dict(enumerate(report.labels))
    assert convert(source, tmp_path / "list", labels=list("abcdefg")).labels == list("abcdefg")
    for wrong in ("affectnet8", "a,b,c", "a,a,b,c,d,e,f"):
        with pytest.raises(ConversionError, match="outputs"):
            convert(source, tmp_path / "wrong", labels=wrong)
    assert not (tmp_path / "wrong").exists()


def test_report_names_blocks_and_serialises(model: ExpressNetMoEForEmotionRecognition, tmp_path: Path) -> None:
    report = convert(write(tmp_path / "w.h5", Keras(model).layers()), tmp_path / "out")
    assert list(report.counts) == [*PUBLISHED_COUNTS, "classifier"]
    assert report.counts["fusion"] == (4 + 20) * 12 + 12
    assert report.to_dict()["total"] == sum(report.counts.values())
    assert "published: 8,619,824" in str(report)
    assert sum(PUBLISHED_COUNTS.values()) + 1025 * 7 == 35_931_871


def test_backbone_from_vggface(model: ExpressNetMoEForEmotionRecognition, tmp_path: Path) -> None:
    layers: dict[str, Weights] = {}
    for name, value in Keras(model).resnet():
        layers.setdefault(name.rpartition("/")[0], []).append((name, value))
    layers["classifier"] = [("classifier/kernel:0", np.ones((20, 3), "f4")), ("classifier/bias:0", np.ones(3, "f4"))]
    state = backbone_from_vggface(write(tmp_path / "rcmalli_vggface_tf_resnet50.h5", layers))
    ours = {n: v for n, v in model.expressnet.backbone.state_dict().items() if "num_batches_tracked" not in n}
    assert state.keys() == ours.keys()
    assert all(torch.equal(state[name], ours[name]) for name in ours)
    with pytest.raises(ConversionError, match="use `convert`"):
        backbone_from_vggface(write(tmp_path / "whole.h5", Keras(model).layers()))


# --- bad files ---


@pytest.fixture
def nothing_written(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "converted" / "out"
    assert not (tmp_path / "converted").exists() or not any((tmp_path / "converted").iterdir())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no file"),
        (b"", "is empty"),
        (b"<!DOCTYPE html>", "starts with"),
        (b"PK\x03\x04" + bytes(100), "zip archive"),
        (b"\x89HDF\r\n\x1a\n" + bytes(64), "cut short or damaged"),
    ],
)
def test_no_hdf5(content: bytes | None, message: str, tmp_path: Path, nothing_written: Path) -> None:
    path = tmp_path / "weights.h5"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConversionError, match=message) as caught:
        convert(path, nothing_written)
    assert "weights.h5" in str(caught.value)


def test_a_folder_is_no_file(tmp_path: Path, nothing_written: Path) -> None:
    with pytest.raises(ConversionError, match="is a folder"):
        convert(tmp_path, nothing_written)


@pytest.mark.parametrize("share", [0.2, 0.6, 0.95])
def test_truncated(
    share: float, model: ExpressNetMoEForEmotionRecognition, tmp_path: Path, nothing_written: Path
) -> None:
    content = write(tmp_path / "w.h5", Keras(model).layers()).read_bytes()
    path = tmp_path / "cut.h5"
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ConversionError, match=r"cut\.h5"):
        convert(path, nothing_written)


def test_damaged_anywhere(tmp_path: Path) -> None:
    content = unpacked("nested", tmp_path).read_bytes()
    draw = np.random.default_rng(0)
    refused: list[str] = []
    for _ in range(25):
        damaged = np.frombuffer(content, np.uint8).copy()
        places = draw.integers(8, len(damaged), size=draw.choice([1, 20, 400]))
        damaged[places] = draw.integers(0, 256, size=len(places))
        (tmp_path / "damaged.h5").write_bytes(damaged.tobytes())
        try:
            find_network(read_keras_hdf5(tmp_path / "damaged.h5"))
        except ConversionError as error:
            refused.append(str(error))  # any other kind of error fails the test
    assert len(refused) > 8
    assert all("damaged.h5" in message for message in refused)


def test_hdf5_of_others(tmp_path: Path, nothing_written: Path) -> None:
    with h5py.File(tmp_path / "events.h5", "w") as file:
        file["events/x"] = np.arange(3)
    with pytest.raises(ConversionError, match="is no Keras file"):
        convert(tmp_path / "events.h5", nothing_written)
    with h5py.File(tmp_path / "model.weights.h5", "w") as file:
        file["layers/dense/vars/0"] = np.ones((2, 2), "f4")
    with pytest.raises(ConversionError, match="Keras 3"):
        convert(tmp_path / "model.weights.h5", nothing_written)


def change(layers: dict[str, Weights], name: str, value: np.ndarray | None) -> None:
    """Replace every weight whose name ends so, or remove it."""
    for layer, weights in layers.items():
        layers[layer] = [
            (known, value if known.endswith(name) and value is not None else old)
            for known, old in weights
            if not (known.endswith(name) and value is None)
        ]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("conv2_1_3x3/kernel:0", np.full((3, 3, 3, 3), np.nan, "f4"), "81 NaN or infinite values of 81"),
        ("conv2_1_3x3/kernel:0", np.ones((3, 3, 3, 3), "f2"), "type float16; expected float32"),
        (
            "conv2_1_3x3/kernel:0",
            np.ones((3, 3, 2, 3), "f4"),
            r"stages.0.blocks.0.spatial.weight \(3, 2, 3, 3\), expected",
        ),
        ("conv2_1_3x3/bn/moving_variance:0", -np.ones(3, "f4"), "negative"),
        ("conv2_1_3x3/kernel:0", None, "conv2_1_3x3 is conv2_1_3x3/bn|conv2_1_3x3 is ResNet50/conv2_1_3x3/bn"),
        ("batch_normalization_1/gamma:0", None, "cannot tell what .*batch_normalization_1|could not make them"),
        ("dense_4/kernel:0", None, "cannot tell what .*dense_4"),
        ("dense_4/kernel:0", np.ones((5, 5), "f4"), "cannot tell what .*dense_4"),
    ],
)
def test_broken_weights(
    name: str,
    value: np.ndarray | None,
    message: str,
    model: ExpressNetMoEForEmotionRecognition,
    tmp_path: Path,
    nothing_written: Path,
) -> None:
    layers = Keras(model).layers()
    change(layers, name, value)
    with pytest.raises(ConversionError, match=message):
        convert(write(tmp_path / "w.h5", layers), nothing_written)


def test_listed_but_not_there(model: ExpressNetMoEForEmotionRecognition, tmp_path: Path, nothing_written: Path) -> None:
    path = write(tmp_path / "w.h5", Keras(model).layers())
    with h5py.File(path, "a") as file:
        del file["MoE_Expression/dense_3/kernel:0"]
    with pytest.raises(ConversionError, match="lists the weight MoE_Expression/dense_3/kernel:0 and does not hold it"):
        convert(path, nothing_written)
    with h5py.File(path, "a") as file:
        del file["MoE_Expression"]
    with pytest.raises(ConversionError, match="lists a layer 'MoE_Expression' and does not hold it"):
        convert(path, nothing_written)


def test_other_networks(model: ExpressNetMoEForEmotionRecognition, tmp_path: Path, nothing_written: Path) -> None:
    vgg: dict[str, Weights] = {
        "conv1_1": [("conv1_1/kernel:0", np.ones((3, 3, 3, 4), "f4")), ("conv1_1/bias:0", np.ones(4, "f4"))]
    }
    with pytest.raises(ConversionError, match="no keras-vggface ResNet-50"):
        convert(write(tmp_path / "vgg16.h5", vgg), nothing_written)

    more = Keras(model).layers()
    more["extra"] = [("extra/kernel:0", np.ones((7, 7), "f4")), ("extra/bias:0", np.ones(7, "f4"))]
    with pytest.raises(ConversionError, match=r"0 ways to place the dense layers .*extra \(7, 7\)"):
        convert(write(tmp_path / "more.h5", more), nothing_written)

    fewer = Keras(model).layers()
    fewer["ResNet50"] = [one for one in fewer["ResNet50"] if "conv2_2_3x3" not in one[0]]
    with pytest.raises(ConversionError, match=r"lacks \['conv2_2_3x3'\]"):
        convert(write(tmp_path / "fewer.h5", fewer), nothing_written)

    without = Keras(model).layers()
    del without["CNNFeatureExtractor_2"]
    with pytest.raises(ConversionError, match="expected two chains of convolutions"):
        convert(write(tmp_path / "without.h5", without), nothing_written)


def test_image_size_that_does_not_fit(
    model: ExpressNetMoEForEmotionRecognition, tmp_path: Path, nothing_written: Path
) -> None:
    source = write(tmp_path / "w.h5", Keras(model).layers())
    with pytest.raises(ConversionError, match="16 to 19 pixels"):
        convert(source, nothing_written, image_size=20)
    assert convert(source, tmp_path / "odd", image_size=19).output_dir.endswith("odd")
    assert ExpressNetMoEConfig.from_pretrained(tmp_path / "odd").image_size == 19


def test_an_existing_folder_is_replaced_on_request_only(
    model: ExpressNetMoEForEmotionRecognition, tmp_path: Path
) -> None:
    source, out = write(tmp_path / "w.h5", Keras(model).layers()), tmp_path / "out"
    out.mkdir()
    convert(source, out)
    (out / "README.md").write_text("mine")
    with pytest.raises(ConfigurationError, match="is not empty"):
        convert(source, out)
    convert(source, out, labels="raf_db", overwrite=True)
    assert {path.name for path in out.iterdir()} == FILES | {"README.md"}
    assert ExpressNetMoEConfig.from_pretrained(out).id2label[0] == "surprise"
    with pytest.raises(ConfigurationError, match="exists"):
        convert(source, source, overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "w.h5"]


def test_without_h5py(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(DependencyError, match="pip install h5py"):
        convert(tmp_path / "w.h5", tmp_path / "out")
