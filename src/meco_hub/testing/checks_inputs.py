"""What is asked of models and processors that are handed rubbish: our error, saying what was seen.

This file knows ways in which inputs are wrong; what is right for an architecture it learns from its processor.
"""

import dataclasses
from typing import Any

import numpy as np
import torch

from ..errors import MecoError
from ..recordings.signal_recording import SignalRecording, Stream
from .batches import changed, values_in
from .check import NotConforming, require, rule
from .subject import Subject


@rule()
def wrong_shapes(subject: Subject) -> None:
    """A tensor with a dimension too many is refused by our error, which says the shape that was seen."""
    model, batch = subject.shared_model, subject.batch(2)
    for path, one in values_in(batch):
        wrong = changed(batch, lambda other, same, path=path: same.unsqueeze(0) if other == path else same)
        shape, name = (1, *one.shape), ".".join(path)
        mend = f"Check shapes first thing in the forward: raise InputError saying {path[-1]}, the shape seen, the one expected."
        try:
            subject.answer(model, wrong)
        except MecoError as error:
            require(
                str(shape) in str(error) and path[-1] in str(error),
                f"{name} of shape {shape} is refused with: {error}",
                f"Name {path[-1]!r} and the shape {shape} in the message.",
            )
        except Exception as error:
            raise NotConforming(
                f"{name} of shape {shape} ends in {type(error).__name__}: {str(error)[:200]}. {mend}"
            ) from error
        else:
            raise NotConforming(f"{name} of shape {shape}, expected {tuple(one.shape)}, is answered. {mend}")


@rule()
def non_finite_values(subject: Subject) -> None:
    """NaN and infinity are refused by our error, or taken for missing; they never become an answer of NaN."""
    model, batch = subject.shared_model, subject.batch(2)
    masked = any("mask" in key for key in batch)
    for path, one in values_in(batch):
        for value in (float("nan"), float("inf")):
            bad = one.clone()
            bad[1].view(-1)[0] = value
            given = changed(batch, lambda other, same, path=path, bad=bad: bad if other == path else same)
            name = ".".join(path)
            try:
                logits = subject.logits(model, given)
            except MecoError as error:
                require(
                    path[-1] in str(error),
                    f"{value} in {name} is refused with: {error}",
                    f"Name {path[-1]!r} in the message, and what was seen in it.",
                )
            else:
                require(
                    masked and bool(torch.isfinite(logits).all()),
                    f"{value} in {name} is answered by {logits[1].flatten().tolist()[:4]}.",
                    "Raise InputError naming the tensor, unless a graph is being made; where there are masks, such samples may "
                    "count as masked instead.",
                )


def _spoilt(subject: Subject) -> dict[str, Any]:
    """Recordings of this kind that cannot be used, by what is wrong with them."""
    if subject.entry.kind == "face":
        nan = np.full((8, 8, 3), np.nan, np.float32)
        return {"an array of one dimension": np.zeros(5, np.uint8), "a picture of NaN": nan}
    (recording,) = subject.recordings(1)
    if isinstance(recording, SignalRecording):
        name, stream = next(iter(recording.streams.items()))
        wide = np.concatenate([stream.values, stream.values[:, :1]], axis=1)
        backwards = Stream(stream.values, stream.times[::-1].copy(), stream.rate)
        return {
            f"{wide.shape[1]} channels of {name}": dataclasses.replace(
                recording, streams={name: Stream(wide, stream.times, stream.rate)}
            ),
            f"a clock of {name} that runs backwards": dataclasses.replace(recording, streams={name: backwards}),
        }
    return {}


@rule()
def processor_refuses(subject: Subject) -> None:
    """The processor refuses what it cannot use by our error."""
    for what, recording in {"an object": object(), **_spoilt(subject)}.items():
        mend = (
            "Raise an InputError (ImageError, RecordingError) saying what was seen, what was expected and what to do."
        )
        try:
            if hasattr(subject.processor, "read") and not isinstance(recording, SignalRecording):
                recording = subject.processor.read(recording)
            subject.processor([subject.first_clip(recording, subject.processor)], return_tensors="pt")
        except MecoError as error:
            require(len(str(error)) > 20, f"{what.capitalize()} is refused with: {error}", mend)
        except Exception as error:
            raise NotConforming(
                f"{what.capitalize()} ends in {type(error).__name__}: {str(error)[:200]}. {mend}"
            ) from error
        else:
            raise NotConforming(f"{what.capitalize()} is processed as if nothing were wrong. {mend}")
