"""`meco export`: the folder answers as its checkpoint does, through onnxruntime, and its file alone is enough for others."""

import ast
import gc
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image
from transformers import pipeline

import full_disk
from meco_hub import answer_warnings, exporting, plugins
from meco_hub.answers import Calibration
from meco_hub.cli import main
from meco_hub.corpora.synthetic.faces import draw_face, write_image_folder
from meco_hub.errors import (
    CheckpointError,
    ConfigurationError,
    DependencyError,
    DoubtfulInputError,
    InputError,
    PublishingError,
)
from meco_hub.exported import flatten, is_exported, unflatten
from meco_hub.exporting import export_checkpoint, write_export
from meco_hub.loading import load_model, load_processor
from meco_hub.processing.preprocessor import RecordingProcessor
from meco_hub.publishing.hub import push_folder

REPOSITORY = Path(__file__).parents[2]
DATA = REPOSITORY.parent / "shared" / "data"
EYE: dict[str, Any] = {
    "missing_modality": "zeros",
    "attention_tokens": 8,
    "focal_tokens": 8,
    "backbone_depths": [1, 1],
    "backbone_widths": [4, 8],
    "backbone_num_features": 20,
    "fusion_dim": 32,
    "num_experts": 4,
    "router_hidden": 8,
    "focal_hidden": 6,
    "deep_layers": 1,
    "image_size": 32,
}
EXAMPLE = REPOSITORY / "examples" / "onnx_face.py"


@pytest.fixture(scope="module")
def exported(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "face"
    assert main(["export", str(tiny_checkpoint), str(folder), "--json"]) == 0
    return folder


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("faces")
    files = [folder / f"{name}.png" for name in ("anger", "happiness", "neutral")]
    for file in files:
        draw_face(file.stem, person="somebody", take=0, seed=0, size=64).save(file)
    return files


def test_the_pipeline_answers_alike(exported: Path, tiny_checkpoint: Path, faces: list[Path]) -> None:
    ours = pipeline("emotion-recognition", model=str(exported))
    theirs = pipeline("emotion-recognition", model=str(tiny_checkpoint))
    assert "onnxruntime" in type(ours.model.session).__module__
    for batch_size in (1, 3):
        for one, other in zip(ours(faces, batch_size=batch_size), theirs(faces, batch_size=batch_size), strict=True):
            assert [entry["label"] for entry in one] == [entry["label"] for entry in other]
            assert [entry["score"] for entry in one] == pytest.approx([entry["score"] for entry in other], abs=1e-5)


def test_warnings_reach_answers_alike(
    exported: Path, tiny_checkpoint: Path, faces: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(answer_warnings.CODES, "tried_out", "A test put it there.")
    doubt = answer_warnings.AnswerWarning("tried_out", "It is doubted for the test.")
    monkeypatch.setattr(RecordingProcessor, "check", lambda *_: [doubt])
    for folder in (exported, tiny_checkpoint):
        recognise = pipeline("emotion-recognition", model=str(folder))
        with pytest.warns(answer_warnings.DoubtfulInputWarning, match="doubted for the test"):
            answer = recognise(str(faces[0]), faces="cropped")
        assert [entry["warnings"] for entry in answer] == [[doubt.to_dict()]] * len(answer)
        with pytest.raises(DoubtfulInputError, match="tried_out"):
            recognise(str(faces[0]), faces="cropped", on_warning="raise")


def test_a_push_is_refused_in_a_sentence(exported: Path) -> None:
    with pytest.raises(PublishingError, match=r"a graph without weights; .* `hf upload me/mine "):
        push_folder(exported, "me/mine", dry_run=True)


def test_predict_answers_alike(
    exported: Path, tiny_checkpoint: Path, faces: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    said = []
    for model in (exported, tiny_checkpoint):
        assert main(["predict", *map(str, faces), "--faces", "cropped", "--model", str(model)]) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]
    assert len(said[0].splitlines()) == 3


def test_the_file_holds_standard_operators_every_expert_and_what_others_need(
    exported: Path, tiny_checkpoint: Path
) -> None:
    proto = onnx.load(str(exported / "model.onnx"))
    assert {node.domain for node in proto.graph.node} <= {"", "ai.onnx"}
    assert not proto.functions
    assert b".py" not in (exported / "model.onnx").read_bytes()  # no Python, and no path of the machine it was made on
    assert proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    known = {prop.key: json.loads(prop.value) for prop in proto.metadata_props}
    config = json.loads((tiny_checkpoint / "config.json").read_text(encoding="utf-8"))
    assert known["labels"] == [config["id2label"][str(place)] for place in range(len(config["id2label"]))]
    assert known["processor"]["size"] == {"height": 64, "width": 64}
    assert known["meco_hub.export"]["routing"] == "dense"
    weights = load_model(str(tiny_checkpoint)).num_parameters()
    held = sum(int(np.prod(one.dims)) for one in proto.graph.initializer)
    assert held > 0.95 * weights  # BatchNorm is folded into convolutions; an expert that was left out would be seen
    assert {"model.onnx", "config.json", "preprocessor_config.json", "README.md"} == {
        path.name for path in exported.iterdir()
    }
    assert "## This export" in (exported / "README.md").read_text(encoding="utf-8")
    assert is_exported(exported)
    assert not is_exported(tiny_checkpoint)


def test_the_example_needs_neither_torch_nor_us(tiny_checkpoint: Path, faces: list[Path], tmp_path: Path) -> None:
    model = load_model(str(tiny_checkpoint))
    model.config.calibration = Calibration("temperature", "nothing", 0, temperature=3.0).to_dict()
    exported = tmp_path / "out"
    write_export(model.eval(), load_processor(str(tiny_checkpoint)), exported, source=str(tiny_checkpoint))
    tree = ast.parse(EXAMPLE.read_text(encoding="utf-8"))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert names == {"json", "sys", "numpy", "onnxruntime", "PIL"}
    done = subprocess.run(
        [sys.executable, str(EXAMPLE), str(exported / "model.onnx"), str(faces[0])],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    said = [line.split() for line in done.stdout.splitlines()]
    answer = pipeline("emotion-recognition", model=str(exported))(str(faces[0]))
    assert "temperature 3" in answer[0]["calibration"]  # which the example finds in the file's metadata
    assert {label: float(score) for label, score in said} == pytest.approx(
        {entry["label"]: entry["score"] for entry in answer}, abs=6e-4
    )


def test_what_a_graph_does_not_take_is_said(exported: Path) -> None:
    model: Any = load_model(str(exported))
    pixels = torch.rand(1, 3, 64, 64)
    with pytest.raises(ConfigurationError, match=r"was given labels; it takes pixel_values and answers logits alone"):
        model(pixel_values=pixels, labels=torch.zeros(1, dtype=torch.long))
    with pytest.raises(InputError, match="needs pixel_values"):
        model()
    with pytest.raises(InputError, match=r"cannot take pixel_values \(1, 3, 32, 32\)"):
        model(pixel_values=torch.rand(1, 3, 32, 32))
    with pytest.raises(ConfigurationError, match="graph and no weights"):
        model.save_pretrained("anywhere")


def test_arguments_that_make_no_sense_are_refused(exported: Path, tiny_checkpoint: Path, tmp_path: Path) -> None:
    for more, message in (
        ({"format": "tflite"}, "expected one of onnx, torch_export"),
        ({"dtype": "fp8"}, "expected one of fp32, fp16, int8"),
        ({"dtype": "int8"}, "without format onnx, a dataset or a data_dir"),
        ({"dataset": "fer2013", "data_dir": tmp_path}, "which needs none"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            export_checkpoint(tiny_checkpoint, tmp_path / "out", **more)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="is an export already"):
        export_checkpoint(exported, tmp_path / "out")
    (tmp_path / "mine.txt").write_text("kept")
    with pytest.raises(ConfigurationError, match="exists and is not empty"):
        export_checkpoint(tiny_checkpoint, tmp_path, overwrite=True)  # it is no export of ours, so it is not replaced
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_missing_onnxruntime_is_named(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(DependencyError, match=r"meco-hub\[onnx\]"):
        load_model(str(exported))


def test_a_graph_that_answers_otherwise_is_not_written(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(exporting.TOLERANCE, "fp32", -1.0)
    with pytest.raises(ConfigurationError, match="away from the network"):
        export_checkpoint(tiny_checkpoint, tmp_path / "out", format="torch_export")
    assert list(tmp_path.iterdir()) == []


def test_a_network_that_answers_no_numbers_is_not_written(
    tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = load_model(str(tiny_checkpoint))
    next(one for name, one in model.named_buffers() if name.endswith("running_var")).fill_(-1.0)
    model.save_pretrained(tmp_path / "spoilt")
    load_processor(str(tiny_checkpoint)).save_pretrained(tmp_path / "spoilt")
    assert main(["export", str(tmp_path / "spoilt"), str(tmp_path / "out")]) == 1
    assert "values that are no numbers" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("format", ["onnx", "torch_export"])
def test_a_disk_without_room_gets_no_graph(
    format: str, tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with full_disk.room(50_000):
        assert main(["export", str(tiny_checkpoint), str(tmp_path / "disk" / "out"), "--format", format]) == 1
    (line,) = [one for one in capsys.readouterr().err.splitlines() if one.startswith("meco:")]
    assert f"OSError: [Errno 27] File too large: '{tmp_path / 'disk' / 'out'}'" in line
    assert list(tmp_path.iterdir()) == []
    gc.collect()  # which ends the process where torch's writer of such a file is left behind


def test_a_program_of_torch_answers_alike_and_is_not_opened_unasked(tiny_checkpoint: Path, tmp_path: Path) -> None:
    made = export_checkpoint(tiny_checkpoint, tmp_path / "out", format="torch_export")
    assert made.inputs == {"pixel_values": ["batch", 3, 64, 64]}
    program = torch.export.load(tmp_path / "out" / "model.pt2").module()
    model = load_model(str(tiny_checkpoint)).eval()
    for size in (1, 16):
        pixels = torch.rand(size, 3, 64, 64)
        with torch.no_grad():
            torch.testing.assert_close(program(pixels), model(pixel_values=pixels).logits, atol=1e-5, rtol=0)
    with pytest.raises(CheckpointError, match="can run code"):
        load_model(str(tmp_path / "out"))
    (tmp_path / "out" / "own").mkdir()
    (tmp_path / "out" / "own" / "notes.txt").write_text("mine")
    export_checkpoint(tiny_checkpoint, tmp_path / "out", format="torch_export", overwrite=True)
    # what lies there and is not of the export stays
    assert (tmp_path / "out" / "own" / "notes.txt").read_text() == "mine"


def test_half_precision_takes_and_gives_whole(tiny_checkpoint: Path, tmp_path: Path) -> None:
    made = export_checkpoint(tiny_checkpoint, tmp_path / "out", dtype="fp16")
    assert made.difference < 5e-2
    model = load_model(str(tiny_checkpoint)).eval()
    exported = load_model(str(tmp_path / "out"))
    pixels = torch.rand(3, 3, 64, 64)
    with torch.no_grad():
        found = exported(pixel_values=pixels).logits
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, model(pixel_values=pixels).logits, atol=5e-2, rtol=0)
    held = onnx.load(str(tmp_path / "out" / "model.onnx")).graph.initializer
    halves = sum(int(np.prod(one.dims)) for one in held if one.data_type == onnx.TensorProto.FLOAT16)
    assert halves > 0.95 * sum(int(np.prod(one.dims)) for one in held)


def test_int8_is_measured_and_refused_where_it_costs_too_much(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_image_folder(tmp_path / "faces", seed=0, people=6)
    given = {"dtype": "int8", "dataset": "image_folder", "data_dir": tmp_path / "faces"}
    monkeypatch.setattr(exporting, "ALLOWED_LOSS", -2.0)
    with pytest.raises(ConfigurationError, match="Nothing was written"):
        export_checkpoint(tiny_checkpoint, tmp_path / "out", **given)
    assert not (tmp_path / "out").exists()
    made = export_checkpoint(tiny_checkpoint, tmp_path / "out", **given, force=True)
    assert made.quantization["metric"] == "uar"
    assert made.quantization["calibration_rows"] + made.quantization["test_rows"] == 36  # and no person in both
    assert 0 <= made.quantization["after"] <= 1
    proto = onnx.load(str(tmp_path / "out" / "model.onnx"))
    assert made.quantization["method"] == "static"
    assert "QuantizeLinear" in {node.op_type for node in proto.graph.node}
    assert len(pipeline("emotion-recognition", model=str(tmp_path / "out"))(Image.new("RGB", (64, 64)))) >= 3


@pytest.mark.parametrize(
    ("shape", "operator", "weights", "method", "operators"),
    [
        (
            [1, 8, 4, 4],
            "Conv",
            (8, 8, 1, 1),
            "static",
            {"Conv": 3, "Relu": 2},
        ),  # the last Relu is in a range, where it belongs
        ([1, 4, 8], "MatMul", (8, 8), "dynamic", {"MatMulInteger": 3, "Relu": 3}),
    ],
)
def test_pictures_are_quantised_with_measured_ranges_and_signals_without(
    shape: list[int], operator: str, weights: tuple[int, ...], method: str, operators: dict[str, int], tmp_path: Path
) -> None:
    file, draws = tmp_path / "model.onnx", np.random.default_rng(0)
    nodes: list[onnx.NodeProto] = []
    for layer in range(3):
        names = [f"x{layer}", f"w{layer}"], [f"y{layer}"]
        nodes.append(onnx.helper.make_node(operator, *names, name=f"layer{layer}"))
        nodes.append(onnx.helper.make_node("Relu", names[1], [f"x{layer + 1}"], name=f"cut{layer}"))
    sides = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name in ("x0", "x3")]
    kept = [
        onnx.numpy_helper.from_array(draws.normal(size=weights).astype(np.float32), f"w{layer}") for layer in range(3)
    ]
    graph = onnx.helper.make_graph(nodes, "three", sides[:1], sides[1:], kept)
    opset = [onnx.helper.make_opsetid("", 20)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=10), str(file))
    feeds = [{"x0": draws.normal(size=shape).astype(np.float32)} for _ in range(4)]
    expected = onnxruntime.InferenceSession(str(file)).run(None, feeds[0])[0]
    assert exporting.quantize_graph(file, feeds) == method
    found = [node.op_type for node in onnx.load(str(file)).graph.node]
    assert {name: found.count(name) for name in operators} == operators
    assert found.count("QuantizeLinear") == (2 if method == "static" else 0)  # before and behind the third convolution
    answer = onnxruntime.InferenceSession(str(file)).run(None, feeds[0])[0]
    np.testing.assert_allclose(answer, expected, atol=0.03 * expected.max())
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_few_channels_are_quantised_in_phases_and_large_dense_layers_alone(tmp_path: Path) -> None:
    file, draws, made = tmp_path / "model.onnx", np.random.default_rng(0), onnx.helper.make_node
    pool = {"kernel_shape": [2, 2], "strides": [2, 2]}
    nodes = [
        made("Conv", ["x", "near"], ["y"], name="near", pads=[3, 3, 3, 3]),
        made("Relu", ["y"], ["positive"], name="cut"),
        made("MaxPool", ["positive"], ["pooled"], name="pool", **pool),
        made("Flatten", ["pooled"], ["flat"], name="flat"),
        made("Gemm", ["flat", "large"], ["hidden"], name="large"),
        made("Gemm", ["hidden", "small"], ["z"], name="small"),
    ]
    shapes = {"near": (8, 3, 7, 7), "large": (8 * 16 * 16, 32), "small": (32, 5)}
    kept = [
        onnx.numpy_helper.from_array(draws.normal(size=shape).astype(np.float32), name)
        for name, shape in shapes.items()
    ]
    ends = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", *sides])
        for name, sides in (("x", [3, 32, 32]), ("z", [5]))
    ]
    graph = onnx.helper.make_graph(nodes, "face", ends[:1], ends[1:], kept)
    opset = [onnx.helper.make_opsetid("", 20)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=10), str(file))
    feeds = [{"x": draws.normal(size=(4, 3, 32, 32)).astype(np.float32)} for _ in range(4)]
    expected = onnxruntime.InferenceSession(str(file)).run(None, feeds[0])[0]
    assert exporting.quantize_graph(file, feeds) == "static"
    proto = onnx.load(str(file))
    assert "SpaceToDepth" in {node.op_type for node in proto.graph.node}
    eight = {one.name.removesuffix("_quantized") for one in proto.graph.initializer if one.data_type == 3}
    assert "large" in eight
    assert "small" not in eight
    assert any(one.endswith("phases_weight") for one in eight)
    answer = onnxruntime.InferenceSession(str(file)).run(None, feeds[0])[0]
    np.testing.assert_allclose(answer, expected, atol=0.03 * expected.max())


def test_a_missing_stream_of_an_eye_is_an_input_of_the_graph(tmp_path: Path) -> None:
    entry = plugins.architecture("meco_mcoenet")
    config = plugins.load_dotted(entry.config)(**EYE)
    torch.manual_seed(0)
    model = plugins.load_dotted(entry.head)(config).eval()
    assert entry.processor is not None
    processor = plugins.load_dotted(entry.processor).for_config(config)
    made = write_export(model, processor, tmp_path / "out", card=False)
    sides = ["batch", "pixel_values_1", 3, "pixel_values_3", "pixel_values_4"]  # sides that vary together share a name
    assert made.inputs == {"pixel_values": sides, "event_values": sides, "modality_presence": ["batch", 2]}
    exported = load_model(str(tmp_path / "out"))
    side = config.image_size
    for size in (1, 16):
        batch = {name: torch.randn(size, 4, 3, side, side) for name in ("pixel_values", "event_values")}
        for presence in ([True, True], [True, False], [False, True]):
            given = {**batch, "modality_presence": torch.tensor([presence] * size)}
            with torch.no_grad():
                torch.testing.assert_close(exported(**given).logits, model(**given).logits, atol=1e-4, rtol=0)


def test_mappings_become_single_inputs_and_back() -> None:
    nested = {"inputs": {"eda": torch.zeros(1), "bvp": torch.ones(1)}, "modality_presence": torch.ones(1)}
    flat = flatten(nested)
    assert list(flat) == ["inputs.eda", "inputs.bvp", "modality_presence"]
    assert unflatten(flat) == nested


@pytest.fixture(scope="module")
def benchmark_program() -> ModuleType:
    spec = importlib.util.spec_from_file_location("export_benchmark", REPOSITORY / "benchmarks" / "export.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason="the data are not beside the repository (../shared/data)")
@pytest.mark.parametrize("name", sorted(plugins.checkpoints()))
def test_200_recordings_get_the_checkpoints_scores(name: str, tmp_path: Path, benchmark_program: ModuleType) -> None:
    export_checkpoint(name, tmp_path / "out")
    seen, equal, largest = benchmark_program.compare(name, tmp_path / "out", DATA, 200)
    assert seen == equal == 200
    assert largest <= 1e-4


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("model_type", ["meco_expressnet_moe", "meco_himoe", "meco_mcoenet"])
def test_published_configurations_export(model_type: str, tmp_path: Path) -> None:
    entry = plugins.architecture(model_type)
    torch.manual_seed(0)
    config = plugins.load_dotted(entry.config)()
    model = plugins.load_dotted(entry.head)(config).eval()
    kind = plugins.load_dotted(entry.processor or entry.image_processor or entry.feature_extractor)
    processor = kind.for_config(config) if hasattr(kind, "for_config") else kind()
    made = write_export(model, processor, tmp_path / "out", card=False)
    assert made.difference <= 1e-4
    assert load_processor(str(tmp_path / "out")) is not None
    exported, example = load_model(str(tmp_path / "out")), exporting.example_batch(model, processor)
    for size in (1, 16):
        batch = exporting.random_batch(example, size, seed=7)
        if "modality_presence" in batch:
            batch["modality_presence"][::2, 0] = False
        given = unflatten(batch)
        with torch.no_grad():
            expected, found = model(**given).logits, exported(**given).logits
        assert exporting.relative_difference(expected, found) <= 1e-4
        assert torch.equal(expected.argmax(-1), found.argmax(-1))
    lengths = {shape[1] for name, shape in made.inputs.items() if name.startswith("inputs.")}
    assert all(isinstance(length, str) for length in lengths)  # of signals
