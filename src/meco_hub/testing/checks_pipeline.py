"""What is asked at the end: from a folder and a recording, `pipeline("emotion-recognition")` gives named scores.

This file knows what an answer must look like; how it is made is in `meco_hub.pipeline`.
"""

import math
from typing import Any

import torch

from ..evaluation.task import task_of_model
from .check import require, rule
from .subject import Subject, quiet


def _flat(entry: dict[str, Any]) -> list[float]:
    scores = entry.get("scores")
    return [float(one) for one in (scores if scores is not None else [entry["score"]])]


@rule()
def pipeline_answers(subject: Subject) -> None:
    """One answer per label, by name, finite, the same alone and in a batch, and what the model says."""
    from transformers import pipeline as make_pipeline

    pipeline: Any = make_pipeline  # typed for transformers' own tasks only
    with quiet():
        recognise: Any = pipeline("emotion-recognition", model=str(subject.checkpoint))
    recordings = subject.recordings(2)
    answer = recognise(recordings[0])
    names = [subject.shared_model.config.id2label[index] for index in range(subject.shared_model.config.num_labels)]
    require(
        isinstance(answer, list) and sorted(entry["label"] for entry in answer) == sorted(names),
        f"For labels {names} the pipeline answers {str(answer)[:300]}.",
        "The checkpoint's config must name its labels in id2label, and logits must have as many columns.",
    )
    scores = {entry["label"]: entry for entry in answer}
    require(
        all(math.isfinite(one) for entry in answer for one in _flat(entry)),
        f"The pipeline's scores are {[entry['score'] for entry in answer]}.",
        "Scores must be finite numbers.",
    )
    if not subject.is_regression:
        total = sum(entry["score"] for entry in answer)
        require(
            abs(total - 1) < 1e-3,
            f"The scores of all classes sum to {total:.4g}.",
            'Leave problem_type at None or "single_label_classification", so that scores are a softmax.',
        )
    together = recognise(recordings, batch_size=2)
    require(
        len(together) == 2 and _near(scores, together[0]),
        "In a batch of two the pipeline answers otherwise than alone.",
        "Nothing may depend on the batch: see the checks batch_of_one and processor_batches.",
    )
    _agree(subject, scores, names, recordings[0])


def _near(scores: dict[str, Any], answer: list[dict[str, Any]]) -> bool:
    return all(
        math.isclose(one, other, rel_tol=1e-3, abs_tol=1e-4)
        for entry in answer
        for one, other in zip(_flat(scores[entry["label"]]), _flat(entry), strict=True)
    )


def _agree(subject: Subject, scores: dict[str, Any], names: list[str], recording: Any) -> None:
    """The pipeline's scores are those of the model's own logits, label by label."""
    processor = subject.processor
    if hasattr(processor, "cut") and len(processor.cut(recording)) > 1:
        return  # answers over several clips are the pipeline's own business
    logits = subject.logits(subject.shared_model, subject.process([subject.first_clip(recording, processor)]))[0]
    values = logits.flatten(0, -2) if logits.ndim > 1 else logits[None]  # (steps, labels)
    if subject.is_regression:
        expected = torch.from_numpy(task_of_model(subject.shared_model).native(values.numpy()))
    else:
        expected = values.softmax(dim=-1)
    for index, name in enumerate(names):
        own = expected[:, index].tolist()
        found = _flat(scores[name])
        near = len(own) == len(found) and all(
            math.isclose(a, b, rel_tol=1e-3, abs_tol=1e-4) for a, b in zip(own, found, strict=True)
        )
        require(
            near,
            f"The pipeline says {found[:3]} for {name!r}, the model {own[:3]}.",
            "The processor must give the pipeline what it gives the loop: `read`, `cut` and `__call__` of the same settings.",
        )
