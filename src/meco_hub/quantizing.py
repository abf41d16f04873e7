"""int8 by onnxruntime's static quantisation: the graph's convolutions and matrix products, and what that costs.

Ranges are measured on recordings of some people of a corpus, the cost in UAR (of values: in CCC) on all the others'.
"""

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from . import plugins
from .errors import ConfigurationError, naming_extras
from .evaluation.evaluate import Evaluation, EvaluationSettings, choose_rows, label_rows
from .evaluation.task import corpus_options, read_run
from .exported import ONNX_FILE, graph_inputs, load_exported
from .processing.picture_processor import recording_processor

ALLOWED_LOSS = 0.01
"""A point of UAR."""
_CALIBRATION_ROWS, _BATCH = 128, 8


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
    with naming_extras():
        from onnxruntime.quantization import (
            CalibrationDataReader,
            QuantFormat,
            QuantType,
            quant_pre_process,
            quantize_static,
        )

    corpus = plugins.corpus(dataset)
    settings = EvaluationSettings(folds=folds, options=corpus_options(read_run(source), dataset), progress=False)
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

    evaluation = Evaluation(load_exported(staged, model.config), processor, corpus, subset, settings)
    metric = "ccc" if evaluation.task.regression else "uar"
    before = evaluation.headline(evaluation.predict(chosen=tested))[metric]

    reader = recording_processor(processor)

    def batches() -> Iterator[dict[str, Any]]:
        for first in range(0, len(rows), _BATCH):
            recordings = [evaluation.rows[row] for row in rows[first : first + _BATCH]]
            clips = [reader.cut(one)[0] if reader.cuts else one for one in recordings]
            flat = graph_inputs(model, reader(clips, return_tensors="pt"))
            yield {name: value.numpy() for name, value in flat.items()}

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.left = batches()

        def get_next(self) -> dict[str, Any] | None:  # pyright: ignore[reportIncompatibleMethodOverride]
            return next(self.left, None)

    whole, prepared, small = staged / ONNX_FILE, staged / "prepared.onnx", staged / "int8.onnx"
    quant_pre_process(str(whole), str(prepared), skip_symbolic_shape=True)
    quantize_static(
        str(prepared), str(small), Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, op_types_to_quantize=["Conv", "MatMul", "Gemm"],
    )  # fmt: skip
    small.replace(whole)
    prepared.unlink()
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
        "calibration_rows": len(rows),
        "test_rows": len(tested),
        "metric": metric,
        "before": before,
        "after": after,
    }
