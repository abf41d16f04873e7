"""What is asked of a processor: it travels with the weights, is missed where it is not there, and gives the same tensors again.

This file knows what a saved processor must keep; what it must refuse is in `checks_inputs.py`.
"""

import json
import shutil
from typing import Any

import torch

from ..errors import CheckpointError
from .batches import leaves
from .check import NotConforming, require, rule
from .subject import Subject, quiet

_FILES = ("preprocessor_config.json", "processor_config.json")


def _plain(value: Any) -> Any:
    """What JSON makes of a processor's fields."""
    return json.loads(json.dumps(value, default=lambda one: dict(one) if hasattr(one, "keys") else str(one)))


@rule()
def processor_required(subject: Subject) -> None:
    """A checkpoint without its processor is refused: settings that nobody saved are not guessed."""
    from transformers import pipeline as make_pipeline

    pipeline: Any = make_pipeline  # typed for transformers' own tasks only

    from ..loading import load_processor

    folder = subject.new_folder() / "alone"
    shutil.copytree(subject.checkpoint, folder)
    for name in _FILES:
        (folder / name).unlink(missing_ok=True)
    mend = "Do not override from_pretrained to make up settings: they are those that the weights were trained with."
    doors = {
        "load_processor": lambda: load_processor(str(folder)),
        f"{subject.processor_class.__name__}.from_pretrained": lambda: subject.processor_class.from_pretrained(folder),
        'pipeline("emotion-recognition")': lambda: pipeline("emotion-recognition", model=str(folder)),
    }
    for name, door in doors.items():
        try:
            with quiet():
                door()
        except CheckpointError:
            continue
        except (OSError, ValueError) as error:
            if name.endswith("from_pretrained"):  # transformers' own door, with transformers' own error
                continue
            raise NotConforming(
                f"{name} answers a folder without processor by {type(error).__name__}: {error}. {mend}"
            ) from error
        raise NotConforming(f"{name} accepts a folder that has no {' and no '.join(_FILES)}. {mend}")


@rule()
def processor_round_trip(subject: Subject) -> None:
    """Saved and loaded, a processor has the same fields and gives the same tensors, bit for bit."""
    from ..loading import load_processor

    again = load_processor(str(subject.checkpoint))
    require(
        type(again) is subject.processor_class,
        f"The saved processor comes back as a {type(again).__name__}, expected {subject.processor_class.__name__}.",
        "Register the class in the plugin's __init__; its name must be unlike any of transformers' own.",
    )
    before, after = _plain(subject.processor.to_dict()), _plain(again.to_dict())
    ignored = {"processor_class", "_processor_class", "auto_map"}
    lost = sorted(key for key in {*before, *after} - ignored if before.get(key) != after.get(key))
    listing = "; ".join(f"{key}: {before.get(key)!r} → {after.get(key)!r}" for key in lost)
    require(
        not lost,
        f"Saving and loading the processor changes {listing}.",
        "Every setting must be an argument of __init__, an attribute of the same name, and part of to_dict.",
    )
    given, got = dict(leaves(subject.batch())), dict(leaves(subject.process(subject.clips(processor=again), again)))
    for path, one in given.items():
        require(
            path in got and torch.equal(one, got[path]),
            f"The loaded processor gives another {'.'.join(path)} than the one that was saved.",
            "Whatever it computes with (fitted statistics too) must be among the fields that are saved.",
        )


@rule()
def processor_determinism(subject: Subject) -> None:
    """The same recording gives the same tensors, whatever was drawn at random in between."""
    clips = subject.clips()
    torch.manual_seed(1)
    first = dict(leaves(subject.process(clips)))
    torch.manual_seed(2)
    second = dict(leaves(subject.process(clips)))
    for path, one in first.items():
        require(
            torch.equal(one, second[path]),
            f"Called twice on the same recordings, the processor gives two different {'.'.join(path)}.",
            "Draw at random in a training augmentation (a recipe's `augmentation`), never in the processor.",
        )


@rule()
def processor_batches(subject: Subject) -> None:
    """A recording's tensors do not depend on what else is in the batch, and one recording may stand without a list."""
    clips = subject.clips()
    together = dict(leaves(subject.process(clips)))
    for index, clip in enumerate(clips):
        for path, one in leaves(subject.process([clip])):
            steps = one.shape[1] if one.ndim > 1 else 0  # a batch may be padded to its longest item
            there = together[path][index : index + 1]
            there = there[:, :steps] if there.ndim > 1 else there
            require(
                there.shape == one.shape and torch.equal(one, there),
                f"{'.'.join(path)} of recording {index} differs between a batch of its own and a batch of {len(clips)}.",
                "Normalise by the recording itself or by what `fit` found, never by the batch; pad at the end, behind a mask.",
            )
    alone = dict(leaves(dict(subject.processor(clips[0], return_tensors="pt"))))
    for path, one in leaves(subject.process(clips[:1])):
        require(
            path in alone and torch.equal(one, alone[path]),
            f"processor(recording) gives another {'.'.join(path)} than processor([recording]).",
            "A recording that stands alone is a batch of one.",
        )
