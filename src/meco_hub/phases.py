"""A convolution of few channels and pooling of 2×2 behind it, as one convolution of many channels: exact, and quick in int8.

    x (C, H, W) → convolution k×k → (O, H, W) → activation → maximum over 2×2
    x in blocks of b×b (b²C, H/b, W/b) → convolution of blocks (b²O, H/b, W/b) → activation → maximum over 4 parts of the channels

Output channel (p, q, o) of the convolution of blocks is what the first one gives at row p, column q of every block ("phase").
onnxruntime's int8 convolutions work on 16 and more output channels at once and copy k·k pieces of C bytes for each place: a
25×25 of 3 → 4 channels on 112×112 pixels takes 0.54 ms as 7×7 of 48 → 64 on 28×28 and a multiple of that as it is. Pooling
needs no neighbours any more. What follows and works on blocks of b/2 takes them as they are.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

_LANES, _BLOCKS = 32, (2, 4)
"""Output channels that are wanted, and sides of blocks."""
_WASTE = 2.25
"""Most taps of the convolution of blocks, in pixels, over those of the kernel: the others are zeros that are multiplied too."""


def blocked_kernel(weight: np.ndarray, before: Sequence[int], block: int) -> tuple[np.ndarray, list[int]]:
    """The kernel of the convolution of blocks, and its padding before.

    Args:
        weight: (O, C, k, k′).
        before: pixels of padding above and left.
        block: b, even.

    Returns:
        (4 · b²/4 · O, b²C, m, m′): of the outputs the place in a window of 2×2 comes first, then the window in its block;
        of the inputs the order is that of ONNX's SpaceToDepth. And blocks of padding above and left.
    """
    outputs, inputs, *kernel = weight.shape
    pads = [-(-pixels // block) for pixels in before]
    sides = [(block + k - 2 - pixels) // block + pad + 1 for k, pixels, pad in zip(kernel, before, pads, strict=True)]
    half = range(block // 2)
    phases = []
    for row, column in [(2 * i + p, 2 * j + q) for p in (0, 1) for q in (0, 1) for i in half for j in half]:
        canvas = np.zeros((outputs, inputs, sides[0] * block, sides[1] * block), weight.dtype)
        top, left = row - before[0] + block * pads[0], column - before[1] + block * pads[1]
        canvas[:, :, top : top + kernel[0], left : left + kernel[1]] = weight
        cut = canvas.reshape(outputs, inputs, sides[0], block, sides[1], block).transpose(0, 3, 5, 1, 2, 4)
        phases.append(cut.reshape(outputs, inputs * block**2, *sides))
    return np.concatenate(phases), pads


def compute_in_phases(model: Any) -> set[str]:
    """Rewrite, in place, the convolutions of an ONNX graph that are quicker so in int8; gives their names.

    Rewritten are those of one group and stride 1 with constant weights and fewer than 32 output channels, whose result is pooled
    by 2×2 and whose sides are known and divisible, unless zeros would make the kernel more than 2.25 times as large.

    Args:
        model: an onnx.ModelProto with shapes of values, of opset 13 or later.
    """
    from onnx import helper, numpy_helper

    graph = model.graph
    values = (*graph.value_info, *graph.input, *graph.output)
    shapes = {one.name: [side.dim_value for side in one.type.tensor_type.shape.dim] for one in values}
    constants = {one.name: one for one in graph.initializer}
    given = {one.name for one in graph.output}
    readers: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)

    def only_reader(name: str, *kinds: str) -> Any:
        found = readers.get(name, [])
        return found[0] if name not in given and len(found) == 1 and found[0].op_type in kinds else None

    def constant(name: str, value: np.ndarray) -> str:
        graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    nodes: list[Any] = []
    blocks: dict[tuple[str, int], str] = {}  # value, side of its blocks → its name in blocks
    done: set[str] = set()
    moved: set[str] = set()  # results of activations and pooling that went with their convolution
    for node in graph.node:
        if node.output[0] in moved:
            continue
        nodes.append(node)
        if node.op_type != "Conv" or node.input[1] not in constants or not set(node.input[2:]) <= set(constants):
            continue
        activation = only_reader(node.output[0], "Relu", "Clip")
        pool = only_reader((activation or node).output[0], "MaxPool")
        weight = numpy_helper.to_array(constants[node.input[1]])
        block = next((side for side in _BLOCKS if len(weight) * side**2 >= _LANES), None)
        if pool is None or block is None or len(weight) >= _LANES or not _fits(node, pool, weight, shapes, block):
            continue
        size, result = shapes[node.input[0]][2:], shapes[node.output[0]][2:]
        kernel, pads = blocked_kernel(weight, _attributes(node).get("pads", [0, 0])[:2], block)
        if np.prod(kernel.shape[2:]) * block**2 > _WASTE * np.prod(weight.shape[2:]):
            continue

        nodes.pop()
        source, name, after = node.input[0], f"{node.output[0]}_phases", pool.output[0]
        if (source, block) not in blocks:
            blocks[source, block] = cut = f"{source}_blocks_{block}"
            nodes.append(helper.make_node("SpaceToDepth", [source], [cut], name=cut, blocksize=block))
        taken = [blocks[source, block], constant(f"{name}_weight", kernel)]
        if len(node.input) > 2:
            bias = numpy_helper.to_array(constants[node.input[2]])
            taken.append(constant(f"{name}_bias", np.tile(bias, block**2)))
        ends = [
            (to - of) // block - pad + side - 1
            for to, of, pad, side in zip(result, size, pads, kernel.shape[2:], strict=True)
        ]
        nodes.append(
            helper.make_node("Conv", taken, [name], name=node.name, kernel_shape=kernel.shape[2:], pads=[*pads, *ends])
        )
        done.add(node.name)
        if activation is not None:
            activation.input[0], name = name, f"{name}_activated"
            activation.output[0] = name
            moved.add(name)
            nodes.append(activation)
        moved.add(after)
        pooled = after if block == 2 else f"{name}_pooled"
        nodes.extend(
            _maximum_over_quarters(name, pooled, len(kernel) // 4, [side // block for side in result], constant)
        )
        if block > 2:
            blocks[after, block // 2] = pooled
            nodes.append(helper.make_node("DepthToSpace", [pooled], [after], name=after, blocksize=block // 2))

    read = {name for node in nodes for name in node.input} | given
    nodes = [node for node in nodes if node.op_type != "DepthToSpace" or node.output[0] in read]
    kept = [one for one in graph.initializer if one.name in read]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(kept)
    return done


def _maximum_over_quarters(
    name: str, result: str, channels: int, size: Sequence[int], constant: Callable[[str, np.ndarray], str]
) -> list[Any]:
    """Nodes for the maximum of four parts of the channels: (B, 4 · channels, h, w) → (B, channels, h, w)."""
    from onnx import helper

    # Pooling along the parts. onnxruntime holds int8 values with channels last and leaves out transpositions from there and back;
    # what is left takes half the time of a Split and a Max, which it computes in float.
    last, first = [0, 2, 3, 1], [0, 3, 1, 2]
    steps: list[tuple[str, list[str], dict[str, Any]]] = [
        ("Transpose", [], {"perm": last}),
        ("Reshape", [constant(f"{name}_parts", np.array([0, size[0] * size[1], 4, channels]))], {}),
        ("Transpose", [], {"perm": first}),
        ("MaxPool", [], {"kernel_shape": [1, 4], "strides": [1, 4]}),
        ("Transpose", [], {"perm": last}),
        ("Reshape", [constant(f"{name}_size", np.array([0, *size, channels]))], {}),
        ("Transpose", [], {"perm": first}),
    ]
    nodes = []
    for place, (kind, more, attributes) in enumerate(steps):
        to = result if place == len(steps) - 1 else f"{name}_step_{place}"
        nodes.append(helper.make_node(kind, [name, *more], [to], name=to, **attributes))
        name = to
    return nodes


def _attributes(node: Any) -> dict[str, Any]:
    from onnx import helper

    return {one.name: helper.get_attribute_value(one) for one in node.attribute}


def _fits(node: Any, pool: Any, weight: np.ndarray, shapes: dict[str, list[int]], block: int) -> bool:
    """Whether a convolution and the pooling behind it are of the plain kind, on sides that blocks divide."""
    of, pooling = _attributes(node), _attributes(pool)
    plain = (
        weight.ndim == 4
        and of.get("group", 1) == 1
        and of.get("auto_pad", b"NOTSET") == b"NOTSET"
        and {*of.get("strides", [1]), *of.get("dilations", [1])} == {1}
        and pooling["kernel_shape"] == pooling.get("strides") == [2, 2]
        and pooling.get("auto_pad", b"NOTSET") == b"NOTSET"
        and not any(pooling.get("pads", []))
        and {*pooling.get("dilations", [1])} == {1}
        and len(pool.output) == 1
    )
    sides = [*shapes.get(node.input[0], [])[2:], *shapes.get(node.output[0], [])[2:]]
    return plain and len(sides) == 4 and all(side and side % block == 0 for side in sides)
