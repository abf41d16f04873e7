"""Convolutions in phases: the same answers, and only where they are quicker."""

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from meco_hub.phases import blocked_kernel, compute_in_phases

POOLING = ["Transpose", "Reshape", "Transpose", "MaxPool", "Transpose", "Reshape", "Transpose"]


def network(
    layers: list[tuple[int, int, list[int]]],
    *,
    side: int | str = 24,
    activation: str | None = "Relu",
    pool: bool = True,
    **more: Any,
) -> onnx.ModelProto:
    """Layers of (output channels, kernel, padding), each with its activation and pooling of 2×2, on three channels."""
    draws, channels, name = np.random.default_rng(0), 3, "x"
    nodes: list[onnx.NodeProto] = []
    limits = {"low": 0, "high": 1} if activation == "Clip" else {}
    kept = [numpy_helper.from_array(np.array(limit, np.float32), name) for name, limit in limits.items()]
    for place, (outputs, kernel, pads) in enumerate(layers):
        weight = draws.normal(size=(outputs, channels // more.get("group", 1), kernel, kernel)).astype(np.float32)
        kept.append(numpy_helper.from_array(weight / kernel, f"w{place}"))
        kept.append(numpy_helper.from_array(draws.normal(size=outputs).astype(np.float32), f"b{place}"))
        taken = [name, f"w{place}", f"b{place}"]
        nodes.append(helper.make_node("Conv", taken, [f"conv{place}"], name=f"layer{place}", pads=pads, **more))
        name = f"conv{place}"
        if activation:
            nodes.append(helper.make_node(activation, [name, *limits], [f"cut{place}"], name=f"cut{place}"))
            name = f"cut{place}"
        if pool:
            sizes: dict[str, Any] = {"kernel_shape": [2, 2], "strides": [2, 2]}
            nodes.append(helper.make_node("MaxPool", [name], [f"pool{place}"], name=f"pool{place}", **sizes))
            name = f"pool{place}"
        channels = outputs
    nodes[-1].output[0] = "y"
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *sides])
        for name, sides in (("x", [3, side, side]), ("y", [channels, "rows", "columns"]))
    ]
    graph = helper.make_graph(nodes, "layers", ends[:1], ends[1:], kept)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return onnx.shape_inference.infer_shapes(model)


def run(model: onnx.ModelProto, side: int = 24) -> np.ndarray:
    onnx.checker.check_model(model)
    x = np.random.default_rng(1).normal(size=(2, 3, side, side)).astype(np.float32)
    return np.asarray(onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})[0])


def kinds(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


@pytest.mark.parametrize("activation", ["Relu", "Clip", None])
@pytest.mark.parametrize(
    ("outputs", "kernel", "pads"),
    [
        (4, 15, [7, 7, 7, 7]),
        (4, 9, [4, 4, 4, 4]),
        (8, 7, [3, 3, 3, 3]),
        (8, 8, [3, 3, 4, 4]),
        (16, 5, [2, 2, 2, 2]),
        (9, 9, [0, 0, 0, 0]),
        (9, 9, [3, 1, 1, 3]),
    ],
)
def test_the_same_is_computed(outputs: int, kernel: int, pads: list[int], activation: str | None) -> None:
    model = network([(outputs, kernel, pads)], activation=activation)
    expected = run(model)
    assert compute_in_phases(model) == {"layer0"}
    blocks = 4 if outputs == 4 else 2
    (weight,) = [numpy_helper.to_array(one) for one in model.graph.initializer if len(one.dims) == 4]
    assert weight.shape[:2] == (outputs * blocks**2, 3 * blocks**2)
    assert kinds(model) == [
        "SpaceToDepth",
        "Conv",
        *([activation] if activation else []),
        *POOLING,
        *(["DepthToSpace"] if blocks == 4 else []),
    ]
    np.testing.assert_allclose(run(model), expected, atol=1e-5)


def test_what_follows_takes_blocks_as_they_are() -> None:
    model = network([(4, 9, [4] * 4), (8, 5, [2] * 4)])
    expected = run(model)
    assert compute_in_phases(model) == {"layer0", "layer1"}
    assert kinds(model).count("SpaceToDepth") == 1
    assert "DepthToSpace" not in kinds(model)
    np.testing.assert_allclose(run(model), expected, atol=1e-5)


def test_blocks_of_the_picture_are_made_once() -> None:
    model = network([(8, 7, [3] * 4)])
    twin = [onnx.NodeProto.FromString(node.SerializeToString()) for node in model.graph.node]
    for node in twin:
        node.name += "_twin"
        node.input[0] += "" if node.input[0] == "x" else "_twin"
        node.output[0] += "_twin"
    model.graph.node.extend(twin)
    model.graph.output.append(helper.make_tensor_value_info("y_twin", TensorProto.FLOAT, None))
    model = onnx.shape_inference.infer_shapes(model)
    expected = run(model)
    assert compute_in_phases(model) == {"layer0", "layer0_twin"}
    assert kinds(model).count("SpaceToDepth") == 1
    np.testing.assert_allclose(run(model), expected, atol=1e-5)


@pytest.mark.parametrize(
    "model",
    [
        network([(32, 7, [3] * 4)]),  # channels enough
        network([(1, 15, [7] * 4)]),  # too few, even of 4 × 4
        network([(8, 3, [1] * 4)]),  # four times the work
        network([(8, 7, [3] * 4)], pool=False),
        network([(8, 7, [3] * 4)], activation="Sigmoid"),
        network([(8, 7, [3] * 4)], strides=[2, 2]),
        network([(8, 5, [4] * 4)], dilations=[2, 2]),
        network([(9, 7, [3] * 4)], group=3),
        network([(8, 7, [3] * 4)], side=23),
        network([(8, 7, [3] * 4)], side="any"),
        network([(8, 6, [3] * 4)]),  # 25 rows of results
    ],
)
def test_what_gains_nothing_or_is_of_another_kind_stays(model: onnx.ModelProto) -> None:
    before = model.SerializeToString()
    assert compute_in_phases(model) == set()
    assert model.SerializeToString() == before


def test_a_result_that_is_read_twice_stays() -> None:
    model = network([(8, 7, [3] * 4)])
    model.graph.output.append(helper.make_tensor_value_info("cut0", TensorProto.FLOAT, None))
    assert compute_in_phases(model) == set()


def test_weights_that_are_no_constants_stay() -> None:
    model = network([(8, 7, [3] * 4)])
    model.graph.node[0].input[1] = "computed"
    assert compute_in_phases(model) == set()


def test_every_tap_is_in_the_kernel_of_blocks_once_a_phase() -> None:
    weight = np.arange(1, 2 * 3 * 25 + 1, dtype=np.float32).reshape(2, 3, 5, 5)
    kernel, pads = blocked_kernel(weight, [2, 2], 2)
    assert kernel.shape == (8, 12, 3, 3)
    assert pads == [1, 1]
    for phase in kernel.reshape(4, 2, 12, 3, 3):
        for one, other in zip(phase, weight, strict=True):
            assert sorted(one[one != 0]) == sorted(other.ravel())
