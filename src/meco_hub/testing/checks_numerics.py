"""What is asked of answers: one item's does not depend on its neighbours, on chance, or on the precision more than it must.

This file knows how answers are compared; what streams, masks and clocks may do to them is in `checks_streams.py`.
"""

import inspect
from typing import Any

import torch

from ..outputs import EmotionRecognitionOutput
from .batches import CLOCKS, changed, rows
from .check import NotConforming, require, rule
from .subject import Subject, is_ours, quiet

TOLERANCE = 1e-5


def distance(one: torch.Tensor, other: torch.Tensor) -> float:
    """Largest difference, relative to the larger of 1 and the largest value."""
    return float((one.double() - other.double()).abs().max() / max(1.0, float(one.abs().max())))


@rule()
def output(subject: Subject) -> None:
    """The head returns our output: finite logits, one row per item, one column per label; a loss where there are labels."""
    model, batch = subject.shared_model, subject.batch()
    found = subject.answer(model, batch)
    require(
        isinstance(found, EmotionRecognitionOutput),
        f"{type(model).__name__} returns a {type(found).__name__}.",
        "Return meco_hub.outputs.EmotionRecognitionOutput, or a subclass with more fields.",
    )
    logits, count = found.logits, len(model.config.id2label)
    require(
        logits.ndim in (2, 3) and logits.shape[0] == 4 and logits.shape[-1] == count == model.config.num_labels,
        f"For 4 recordings and {count} labels the logits have the shape {tuple(logits.shape)}.",
        "Expected (batch, num_labels), or (batch, steps, num_labels) for answers over time.",
    )
    require(
        bool(torch.isfinite(logits).all()) and found.loss is None,
        f"Without labels: logits finite {bool(torch.isfinite(logits).all())}, loss {found.loss}.",
        "Logits must be finite, and there is no loss without labels.",
    )
    require(
        "labels" in inspect.signature(type(model).forward).parameters,
        f"{type(model).__name__}.forward takes no labels.",
        "Take `labels` and give `loss`, so that transformers' Trainer can train it.",
    )


@rule()
def labels_match_logits(subject: Subject) -> None:
    """Labels mean what the logits say: the loss is least for the labels that the model answers."""
    model, batch = subject.shared_model, subject.batch()
    logits = subject.logits(model, batch)
    if subject.is_regression:
        right, wrong = logits.clone(), logits + 0.5
    else:
        right, wrong = logits.argmax(dim=-1), logits.argmin(dim=-1)
    losses: list[float] = []
    for labels in (right, wrong):
        found = subject.answer(model, batch, labels=labels)
        loss = found.loss
        require(
            isinstance(loss, torch.Tensor) and loss.ndim == 0 and bool(torch.isfinite(loss)),
            f"With labels of shape {tuple(labels.shape)} the loss is {loss}.",
            "Expected a finite scalar: cross-entropy over class indices, or a distance between values of the logits' shape.",
        )
        require(
            torch.equal(found.logits, logits),
            "The logits differ when labels are given.",
            "Labels belong into the loss and nowhere else.",
        )
        losses.append(float(loss))
    require(
        losses[0] < losses[1],
        f"The loss is {losses[0]:.4g} for the labels that the model answers, and {losses[1]:.4g} for others.",
        "Index k of the logits is label k of id2label: check the order, the sign, and that the loss is of these logits.",
    )


@rule()
def batch_of_one(subject: Subject) -> None:
    """An item alone gets the answer that it gets in a batch."""
    model, batch = subject.shared_model, subject.batch(5)
    together = subject.logits(model, batch)
    alone = torch.cat([subject.logits(model, rows(batch, slice(index, index + 1))) for index in range(5)])
    require(
        distance(together, alone) <= TOLERANCE,
        f"Items answered one by one differ from the same in a batch by {distance(together, alone):.3g}; allowed: {TOLERANCE:g}.",
        "Nothing may look across the batch in evaluation: no statistics or attention over dimension 0, no capacity of experts.",
    )


@rule()
def determinism(subject: Subject) -> None:
    """The same input gets the same answer, whatever the random numbers."""
    model, batch = subject.shared_model, subject.batch()
    answers = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        with torch.no_grad():
            answers.append(model(**batch).logits)
    require(
        torch.equal(*answers),
        f"Two calls on the same batch differ by {float((answers[0] - answers[1]).abs().max()):.3g}.",
        "In evaluation nothing may be drawn: guard noise and dropout by `self.training`, and keep no state between calls.",
    )


@rule()
def half_precision(subject: Subject) -> None:
    """Loaded in bfloat16 or float16, the model takes the pipeline's inputs and gives finite logits near those in float32."""
    batch = subject.batch()
    exact = subject.logits(subject.shared_model, batch)
    for dtype in (torch.bfloat16, torch.float16):
        with quiet():
            model = subject.head_class.from_pretrained(subject.checkpoint, dtype=dtype).eval()
        given = changed(
            batch,
            lambda path, one, dtype=dtype: one if path[0] in CLOCKS or not one.is_floating_point() else one.to(dtype),
        )
        try:
            logits = subject.logits(model, given).float()
        except RuntimeError as error:
            if is_ours(error):
                raise
            if dtype == torch.float16 and "not implemented" in str(error):
                continue  # some of torch's functions have no half precision on CPUs; bfloat16 they all have
            raise NotConforming(
                f"In {dtype} the model fails: {error}. Cast what it makes itself to its input's dtype, and name what must stay "
                "float32 in _keep_in_fp32_modules_strict."
            ) from error
        require(
            bool(torch.isfinite(logits).all()),
            f"In {dtype} the logits are not finite.",
            "Compute softmaxes, logarithms and exponentials in float32, and mask with finite numbers.",
        )
        require(
            distance(exact, logits) < 0.25,
            f"In {dtype} the logits are {distance(exact, logits):.3g} away from those in float32 (relative); allowed: 0.25.",
            "Keep what is too fine for eight bits of mantissa (times, scans, norms) in float32.",
        )


def dropouts_off(model: Any) -> None:
    """Take chance out of training, so that two passes can be compared."""
    for module in model.modules():
        if "Dropout" in type(module).__name__ and hasattr(module, "p"):
            module.p = 0.0
