"""`meco export`: a checkpoint as a graph that runs without its Python, with every expert in it.

    model.onnx | model.pt2         the graph; batch and, where the network allows it, sides and lengths may vary
    config.json, processor config  as they were, so that `pipeline(model=OUT)` answers from the folder
    README.md                      the checkpoint's card, and what became of it here

Notable:
- Routing stays in the graph: all experts are computed and weighed, those that were not chosen by zero ("dense").
- Masks and streams that may be missing are inputs of the graph, as the processor gives them.
- What is written is compared first with what it was made from, on random inputs; a graph that answers otherwise is refused.
"""

import copy
import io
import json
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch import nn

from . import plugins
from .answers import require_finite
from .durable import files_together, refuse_filled
from .errors import ConfigurationError, naming_extras
from .exported import METADATA, ONNX_FILE, PROGRAM_FILE, Tensors, graph_inputs, is_exported, load_exported, unflatten
from .loading import load_model, load_processor
from .processing.picture_processor import recording_processor
from .version import __version__

FORMATS = ("onnx", "torch_export")
DTYPES = ("fp32", "fp16", "int8")
TOLERANCE = {"fp32": 1e-4, "fp16": 5e-2}
"""Largest difference of logits, relative to the larger of 1 and the largest logit, at which a graph is still written."""
_CLOCKS = ("timestamps", "offsets")
"""Inputs that are seconds, which half precision would round away."""


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        format, dtype, opset: as asked for; opset is None for torch_export.
        inputs: name → shape of every input of the graph, a name standing for what may vary.
        routing: "dense": every expert is computed, and weighed by zero where it was not chosen; "none": there are no routers.
        difference: the largest between logits of the graph and of the checkpoint, relative to the larger of 1 and the largest.
        bytes: size of the graph.
        source, versions: of what, and with what, it was made.
        quantization: of int8: method (static or dynamic), rows, metric, before, after; else empty.
    """

    format: str
    dtype: str
    opset: int | None
    inputs: dict[str, list[Any]]
    routing: str
    difference: float
    bytes: int
    source: str
    versions: dict[str, str]
    quantization: dict[str, Any] = field(default_factory=dict)


class _Flat(nn.Module):
    """A head as a function from single tensors to logits, both in float32 whatever it computes in."""

    def __init__(self, model: Any, names: Sequence[str]) -> None:
        super().__init__()
        self.model, self.names = model, list(names)

    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
        given = {
            name: one.to(self.model.dtype) if one.is_floating_point() and name.split(".")[0] not in _CLOCKS else one
            for name, one in zip(self.names, tensors, strict=True)
        }
        return self.model(**unflatten(given)).logits.float()


def example_batch(model: Any, processor: Any) -> Tensors:
    """Two empty recordings as the graph's inputs: the processor's blank ones, or black pictures, name by name."""
    reader = recording_processor(processor)
    batch = reader([reader.blank(), reader.blank()], return_tensors="pt")
    return graph_inputs(model, batch)


def random_batch(example: Tensors, size: int, seed: int) -> Tensors:
    """Inputs of the shapes of an example: noise, masks that let four fifths pass, clocks that tick every tenth of a second."""
    draws = torch.Generator().manual_seed(seed)
    found: Tensors = {}
    for name, one in example.items():
        shape = (size, *one.shape[1:])
        if one.dtype == torch.bool:
            found[name] = torch.rand(shape, generator=draws) < 0.8
        elif name.startswith("timestamps"):
            found[name] = (torch.arange(shape[-1], dtype=one.dtype) / 10).expand(shape).contiguous()
        elif one.is_floating_point() and not name.startswith(_CLOCKS):
            found[name] = torch.randn(shape, generator=draws)
        else:
            found[name] = one[:1].expand(shape).contiguous()
    return found


def trace(model: Any, example: Tensors) -> Any:
    """The program of a head by torch.export: the batch varies, and so does every other side that the network does not fix.

    Raises:
        ConfigurationError: the network cannot be traced, or fixes the batch.
    """
    sizes = torch.export.Dim
    shapes = (
        tuple({dim: sizes.AUTO if dim else sizes.DYNAMIC for dim in range(one.ndim)} for one in example.values()),
    )
    try:
        with torch.no_grad():
            return torch.export.export(
                _Flat(model, list(example)).eval(), tuple(example.values()), dynamic_shapes=shapes, strict=False
            )
    except Exception as error:
        raise ConfigurationError(
            f"{type(model).__name__} cannot be exported: {type(error).__name__}: {str(error)[:500]} Expected a forward that "
            "looks at no values and fixes no batch while torch.compiler.is_exporting(); prepare_export may switch what does."
        ) from error


def _write_onnx(program: Any, names: Sequence[str], opset: int | None, file: Path) -> int:
    with naming_extras():
        import onnx
        import onnxscript  # noqa: F401  # pyright: ignore[reportUnusedImport] torch needs it, and names it badly
    try:
        made: Any = torch.onnx.export(
            program, input_names=list(names), output_names=["logits"], opset_version=opset, dynamo=True, verbose=False
        )
    except Exception as error:
        raise ConfigurationError(
            f"The graph cannot be written as ONNX{f' of opset {opset}' if opset else ''}: {type(error).__name__}: "
            f"{str(error)[:500]} Expected operators that ONNX has. Pass a higher --opset, or --format torch_export."
        ) from error
    made.save(str(file))
    proto = onnx.load(str(file))
    foreign = sorted(
        {f"{node.domain}:{node.op_type}" for node in proto.graph.node if node.domain not in ("", "ai.onnx")}
    )
    if foreign or proto.functions:
        raise ConfigurationError(
            f"The graph has operators that ONNX has not: {', '.join(foreign) or [one.name for one in proto.functions]}. Expected "
            "none; pass another --opset."
        )
    del proto.graph.value_info[:]  # shapes in torch's symbols, which the renaming below would contradict
    for part in (
        proto,
        proto.graph,
        *proto.graph.node,
        *proto.graph.initializer,
        *proto.graph.input,
        *proto.graph.output,
    ):
        del part.metadata_props[:]  # torch writes there where each came from, with the paths of this machine
        part.doc_string = ""
    sides = {one.name: one.type.tensor_type.shape.dim for one in (*proto.graph.input, *proto.graph.output)}
    named = _named_sides({name: [dim.dim_param or str(dim.dim_value) for dim in dims] for name, dims in sides.items()})
    for name, dims in sides.items():
        for dim, side in zip(dims, named[name], strict=True):
            if isinstance(side, int):
                dim.dim_value = side
            else:
                dim.dim_param = side
    onnx.save(proto, str(file))
    return next(one.version for one in proto.opset_import if one.domain in ("", "ai.onnx"))


def relative_difference(one: torch.Tensor, other: torch.Tensor) -> float:
    """Largest difference, relative to the larger of 1 and the largest value."""
    return float((one.double() - other.double()).abs().max() / max(1.0, float(one.abs().max())))


def _difference(model: Any, answer: Any, example: Tensors) -> float:
    found = 0.0
    for size in (1, 2, 5):
        batch = random_batch(example, size, seed=size)
        with torch.no_grad():
            expected, answered = _Flat(model, list(batch))(*batch.values()), answer(batch)
        name = type(model).__name__
        for whose, values in ((name, expected), (f"The graph of {name}", answered)):
            require_finite(values.double().numpy(), whose)  # no difference is larger than one that is no number
        found = max(found, relative_difference(expected, answered))
    return found


def export_checkpoint(
    checkpoint: str | Path,
    output: str | Path,
    *,
    format: str = "onnx",
    dtype: str = "fp32",
    opset: int | None = None,
    dataset: str | None = None,
    data_dir: str | Path | None = None,
    folds: Sequence[int] | None = None,
    force: bool = False,
    overwrite: bool = False,
) -> Exported:
    """Write a checkpoint as a graph.

    Args:
        checkpoint: bundled checkpoint's name, folder or Hub id.
        output: folder to write; new or empty, or an earlier export with `overwrite`.
        format: "onnx", or "torch_export" for a program that torch.export.load reads.
        dtype: "fp32"; "fp16": weights and arithmetic in half precision, inputs and logits in float32; "int8", of ONNX only.
        opset: of ONNX; None: torch's choice.
        dataset, data_dir, folds: of int8: the corpus on which ranges and UAR are measured.
        force: of int8: write it although it loses more than a point of UAR.
        overwrite: replace an earlier export.

    Raises:
        ConfigurationError: arguments that do not fit together, a network that cannot be exported, a graph that answers otherwise,
            or an int8 that costs more than a point.
        DependencyError: the extra `onnx` is not installed.
        UnknownNameError, CheckpointError: the checkpoint cannot be found or loaded.
    """
    folder = Path(output)
    _check(folder, format, dtype, dataset, data_dir, overwrite)
    source = plugins.locate_checkpoint(str(checkpoint))
    if is_exported(source):
        raise ConfigurationError(
            f"{source} is an export already; expected a checkpoint with weights. Export what it was made from."
        )
    model: Any = load_model(source, dtype=torch.float16 if dtype == "fp16" else torch.float32).eval()
    processor = load_processor(source)
    return write_export(
        model, processor, folder, source=source, format=format, dtype=dtype, opset=opset, force=force, overwrite=overwrite,
        corpus=None if dataset is None else (dataset, str(data_dir), folds),
    )  # fmt: skip


def write_export(
    model: Any,
    processor: Any,
    folder: Path,
    *,
    source: str = "",
    format: str = "onnx",
    dtype: str = "fp32",
    opset: int | None = None,
    corpus: tuple[str, str, Sequence[int] | None] | None = None,
    force: bool = False,
    overwrite: bool = False,
    card: bool = True,
) -> Exported:
    """As `export_checkpoint`, of a loaded model in evaluation mode; `corpus` is (dataset, data_dir, folds), for int8.

    Args:
        card: write README.md; for a model of no plugin's, or in memory alone, there is nothing to write one from.
    """
    graph = ONNX_FILE if format == "onnx" else PROGRAM_FILE

    def check() -> None:
        if not overwrite:
            refuse_filled(folder)  # somebody else may have written there meanwhile

    # of an earlier export its graph goes; what else lies there is not ours
    with files_together(folder, graph, check, stale=[ONNX_FILE, PROGRAM_FILE]) as staged:
        file = staged / graph
        model.config.save_pretrained(staged)
        processor.save_pretrained(staged)
        example = example_batch(model, processor)
        traced = copy.deepcopy(model)
        if hasattr(traced, "prepare_export"):  # a head of somebody else's has none
            traced.prepare_export(dtype)
        program = trace(traced, example)
        quantization: dict[str, Any] = {}
        if format == "onnx":
            opset = _write_onnx(program, list(example), opset, file)
            exported = load_exported(staged, model.config)
            difference = _difference(model, lambda batch: exported(**unflatten(batch)).logits, example)
            inputs = {one.name: list(one.shape) for one in exported.session.get_inputs()}
        else:
            run = program.module()
            difference = _difference(model, lambda batch: run(*batch.values()), example)
            inputs = _shapes(program, list(example))
            held = io.BytesIO()  # torch's own writer ends the process, some time after, where a disk has no room
            torch.export.save(program, held)
            file.write_bytes(held.getbuffer())
        if difference > TOLERANCE.get(dtype, TOLERANCE["fp32"]):
            raise ConfigurationError(
                f"The graph of {type(model).__name__} answers {difference:.2g} away from the network; allowed: "
                f"{TOLERANCE.get(dtype, TOLERANCE['fp32']):g}. Report this: something that depends on values was fixed."
            )
        if dtype == "int8":
            assert corpus is not None
            quantization = quantize(staged, model, processor, source, *corpus, force=force)
        routed = any("router" in name for name, _ in model.named_modules())
        made = Exported(
            format, dtype, opset, inputs, "dense" if routed else "none", difference, file.stat().st_size, Path(source).name,
            {"meco_hub": __version__, "torch": str(torch.__version__), "transformers": transformers.__version__}, quantization,
        )  # fmt: skip
        if format == "onnx":
            _write_metadata(file, staged, made, model)
        if card:
            (staged / "README.md").write_text(_card(source, staged, made), encoding="utf-8")
    return made


def _check(folder: Path, format: str, dtype: str, dataset: str | None, data_dir: Any, overwrite: bool) -> None:
    for name, value, allowed in (("format", format, FORMATS), ("dtype", dtype, DTYPES)):
        if value not in allowed:
            raise ConfigurationError(f"{name}={value!r} was passed; expected one of {', '.join(allowed)}.")
    if dtype == "int8" and (format != "onnx" or dataset is None or data_dir is None):
        raise ConfigurationError(
            "int8 was asked for without format onnx, a dataset or a data_dir; expected all three: ranges and the loss of UAR are "
            "measured on recordings. Pass --format onnx --dataset NAME --data_dir FOLDER."
        )
    if dtype != "int8" and dataset is not None:
        raise ConfigurationError(
            f"A dataset was passed with dtype {dtype}, which needs none. Leave it out, or ask for int8."
        )
    if not (overwrite and is_exported(folder)):
        refuse_filled(folder, "Name another, or pass --overwrite where it is an earlier export.")


def _shapes(program: Any, names: Sequence[str]) -> dict[str, list[Any]]:
    """Name → shape of a program's inputs."""
    values = {node.name: node.meta["val"] for node in program.graph.nodes if node.op == "placeholder"}
    users = zip(names, program.graph_signature.user_inputs, strict=True)
    return _named_sides({name: [str(side) for side in values[user].shape] for name, user in users})


def _named_sides(shapes: Mapping[str, Sequence[str]]) -> dict[str, list[int | str]]:
    """Shapes in which sides that vary have names: "batch", or the first input that has them and which side ("frames_3").

    Torch calls them s85 and the like, or by a number where it found that a side does not vary after all.
    """
    names: dict[str, str] = {}
    for name, sides in shapes.items():
        for place, side in enumerate(sides):
            names.setdefault(side, f"{name.rpartition('.')[2]}_{place}" if place else "batch")
    return {name: [int(side) if side.isdigit() else names[side] for side in sides] for name, sides in shapes.items()}


def _write_metadata(file: Path, folder: Path, made: Exported, model: Any) -> None:
    """Names, processor and calibration, into the ONNX file itself: whoever has the file alone can use it."""
    import onnx

    config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    processor = next(
        folder / name for name in ("processor_config.json", "preprocessor_config.json") if (folder / name).is_file()
    )
    labels = [model.config.id2label[place] for place in range(len(model.config.id2label))]
    proto = onnx.load(str(file))
    onnx.helper.set_model_props(
        proto,
        {
            METADATA: json.dumps(asdict(made)),
            "labels": json.dumps(labels),
            "config": json.dumps(config),
            "processor": processor.read_text(encoding="utf-8"),
            "calibration": json.dumps(config.get("calibration")),
            "training_data": json.dumps(config.get("training_data")),
        },
    )
    onnx.save(proto, str(file))


def _card(source: str, folder: Path, made: Exported) -> str:
    from .publishing.card import render_card

    card = render_card(Path(source) if Path(source).is_dir() else folder)
    varies = ", ".join(f"`{name}` {shape}" for name, shape in made.inputs.items())
    cost = made.quantization
    lines = [
        "",
        "## This export",
        "",
        f"`{ONNX_FILE if made.format == 'onnx' else PROGRAM_FILE}` is {made.source} as a graph ({made.format}, {made.dtype}"
        + (f", opset {made.opset}" if made.opset else "")
        + f"), {made.bytes / 1e6:.1f} MB, written by meco_hub {made.versions['meco_hub']} with torch {made.versions['torch']}.",
        "It answers logits; the figures above are those of the checkpoint that it was made from.",
        f"On random inputs its logits are at most {made.difference:.1e} away from the checkpoint's"
        + (" before quantisation" if cost else "")
        + " (relative to the larger of 1 and the largest logit).",
        f"Inputs, a name standing for a side that may vary: {varies}.",
    ]
    if made.routing == "dense":
        lines.append(
            "Every expert is in the graph and computed; those that the router does not choose are weighed by zero."
        )
    if cost:
        lines.append(
            f"int8 ({cost['method']}), ranges from {cost['calibration_rows']} recordings of {cost['dataset']}; {cost['metric']} "
            f"{cost['after']:.4f}, in fp32 {cost['before']:.4f}, on {cost['test_rows']} recordings of other people."
        )
    return card + "\n".join(lines) + "\n"


# --- Quantizing -------------------------------------------------------------------------------------------------------
# int8 by onnxruntime. In graphs that look at pictures the convolutions are quantised, with ranges that were measured before
# ("static"), each together with the Relu or Clip behind it: a range that held what these cut off would waste most of its 256
# steps (of the bundled face checkpoint it costs 0.11 of UAR). Those of few channels are computed in phases, without which int8
# makes them no faster. Of the others the two nearest to the picture stay as they are: their error is handed on the furthest, and
# nothing is won. So do dense layers of few weights, routers among them: only of many does int8 save time, that of reading them.
# In other graphs the products with weights are quantised, with ranges measured while the graph runs
# ("dynamic"): measured before, they make networks of signals slower than in fp32.
#
# Ranges are measured on recordings of some people of a corpus, the cost in UAR (of values: in CCC) on all the others'.

ALLOWED_LOSS = 0.01
"""A point of UAR."""
_CALIBRATION_ROWS, _BATCH, _FLOAT_LAYERS, _DENSE_WEIGHTS = 128, 8, 2, 2**16


def quantize(
    staged: Path,
    model: Any,
    processor: Any,
    source: str,
    dataset: str,
    data_dir: str,
    folds: Sequence[int] | None,
    *,
    force: bool,
) -> dict[str, Any]:
    """Replace the staged graph by its int8 twin; gives what that cost.

    Raises:
        ConfigurationError: it costs more than a point, and `force` is not set; or the corpus has one person only.
    """
    with naming_extras():  # what reads corpora, which other exports do without
        from .evaluation.evaluate import EvaluationSettings, ModelEvaluation, choose_rows, label_rows
        from .evaluation.task import corpus_options, read_run

    settings = EvaluationSettings(folds=folds, options=corpus_options(read_run(source), dataset), progress=False)
    corpus = plugins.corpus(dataset).declared_in(data_dir, **settings.options)
    chosen = choose_rows(corpus.load(data_dir, **settings.options), settings)
    subset = label_rows(model, corpus, chosen, source, exclude_unknown_labels=False)
    people = [str(name) for name in subset.dataset["identity"][:]]
    known = sorted(set(people))
    if len(known) < 2:
        raise ConfigurationError(
            f"{dataset} tells {len(known)} person(s) apart; int8 needs two: for ranges, and for UAR."
        )
    shuffled = random.Random(0).sample(known, len(known))
    calibrating = set(shuffled[: max(1, len(shuffled) // 5)])
    rows = [row for row, name in enumerate(people) if name in calibrating]
    rows = sorted(random.Random(0).sample(rows, min(len(rows), _CALIBRATION_ROWS)))
    tested = [row for row, name in enumerate(people) if name not in calibrating]

    evaluation = ModelEvaluation(load_exported(staged, model.config), processor, corpus, subset, settings)
    metric = "ccc" if evaluation.task.regression else "uar"
    before = evaluation.headline(evaluation.predict(chosen=tested))[metric]

    reader = recording_processor(processor)

    def batches() -> Iterator[dict[str, Any]]:
        for first in range(0, len(rows), _BATCH):
            recordings = [evaluation.rows[row] for row in rows[first : first + _BATCH]]
            clips = [reader.cut(one)[0] if reader.cuts else one for one in recordings]
            flat = graph_inputs(model, reader(clips, return_tensors="pt"))
            yield {name: value.numpy() for name, value in flat.items()}

    method = quantize_graph(staged / ONNX_FILE, batches())
    evaluation.model = load_exported(staged, model.config)
    after = evaluation.headline(evaluation.predict(chosen=tested))[metric]
    if before is None or after is None or not np.isfinite([before, after]).all():
        raise ConfigurationError(
            f"The {metric} of {len(tested)} recordings of {dataset} is {before} and {after}; expected numbers."
        )
    if before - after > ALLOWED_LOSS and not force:
        raise ConfigurationError(
            f"int8 brings the {metric} on {len(tested)} recordings of {dataset} from {before:.4f} to {after:.4f}; allowed: "
            f"a loss of {ALLOWED_LOSS:g}. Nothing was written. Use fp32 or fp16, or pass --force."
        )
    return {
        "dataset": dataset,
        "method": method,
        "calibration_rows": len(rows) if method == "static" else 0,
        "test_rows": len(tested),
        "metric": metric,
        "before": before,
        "after": after,
    }


def quantize_graph(file: Path, feeds: Iterable[dict[str, np.ndarray]]) -> str:
    """Replace a graph by its int8 twin.

    Args:
        file: the graph.
        feeds: batches of its inputs, on which ranges are measured.

    Returns:
        How: "static", with those ranges, or "dynamic".
    """
    with naming_extras():
        import onnx
        from onnxruntime.quantization import (
            CalibrationDataReader,
            QuantFormat,
            QuantType,
            quant_pre_process,
            quantize_dynamic,
            quantize_static,
        )

    from .phases import compute_in_phases

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.left = iter(feeds)

        def get_next(self) -> dict[str, np.ndarray] | None:  # pyright: ignore[reportIncompatibleMethodOverride]
            return next(self.left, None)

    prepared, small = file.with_name("prepared.onnx"), file.with_name("int8.onnx")
    quant_pre_process(str(file), str(prepared), skip_symbolic_shape=True)
    model = onnx.load(str(prepared))
    graph = model.graph
    pictures = any(len(one.type.tensor_type.shape.dim) > 3 for one in graph.input)
    if pictures:
        phased = compute_in_phases(model)
        onnx.save(model, str(prepared))
        depth: dict[str, int] = {}  # convolutions between a value and the picture
        for node in graph.node:
            behind = max((depth.get(name, 0) for name in node.input), default=0) + (node.op_type == "Conv")
            depth |= dict.fromkeys(node.output, behind)
        sizes = {one.name: np.prod(one.dims) for one in graph.initializer}
        kept = [
            node.name
            for node in graph.node
            if (node.op_type == "Conv" and depth[node.output[0]] <= _FLOAT_LAYERS and node.name not in phased)
            or (node.op_type == "Gemm" and sizes.get(node.input[1], 0) < _DENSE_WEIGHTS)
        ]
        quantize_static(
            str(prepared), str(small), Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, op_types_to_quantize=["Conv", "Gemm", "Relu", "Clip"],
            nodes_to_exclude=kept,
        )  # fmt: skip
    else:
        quantize_dynamic(prepared, small, weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul", "Gemm"])
    small.replace(file)
    prepared.unlink()
    return "static" if pictures else "dynamic"
