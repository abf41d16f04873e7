"""A seeded look-alike of SEE: its layout, names and annotations, with drawn eyes in place of people.

    write_see("see_synthetic.zip", seed=0)                    # 20 people, 7 expressions, 2 takes: 280 sequences
    write_see(folder, seed=0, people=3, takes=1, size=32, frames=(18, 20))

As in the original, the split of `emotion.json` has the same people on both sides, and the order of its `labels` is no alphabet's.
Whatever was trained on a look-alike must say "synthetic" wherever its name or a figure of it appears.

This file knows SEE's layout from the writer's side; it does not read it.
"""

import io
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import ConfigurationError
from .synthetic import encode, store
from .synthetic_eyes import LIGHTINGS, DrawnSequence, draw_sequence

SEE = ("happiness", "sadness", "anger", "disgust", "surprise", "fear", "neutral")
"""Canonical expressions in the order of the look-alike's `labels`."""

TOKENS = {"anger": "angry"}
"""What the original calls expressions, where it is not the canonical name."""

TEST_SHARE = 0.32


@dataclass(frozen=True)
class DrawnClip:
    """One sequence of the look-alike: the truth that a reader must find.

    Attributes:
        sample_id: the sequence's name.
        label: canonical expression.
        split: "train" or "test".
        identity: the volunteer.
        lighting, take, frames: arguments by which `draw_sequence` draws it again, with `person=identity` and the corpus's seed.
    """

    sample_id: str
    label: str
    split: str
    identity: str
    lighting: str
    take: int
    frames: int


def write_see(
    target: str | Path,
    *,
    seed: int,
    people: int = 20,
    takes: int = 2,
    size: int = 64,
    frames: tuple[int, int] = (18, 60),
    neutral_folder: str = "neutral",
    oddities: bool = False,
    raw_events: int = 0,
) -> list[DrawnClip]:
    """Write SEE/{event,frame}/<emotion>/<sequence>/00000.jpg … and SEE/emotion.json.

    Args:
        target: a folder that is new or empty, or a path that ends in .zip.
        seed: of everything.
        people: volunteers.
        takes: sequences of each volunteer and expression; the lightings take turns.
        size: width and height of the pictures.
        frames: shortest and longest sequence.
        neutral_folder: how the folder of neutral sequences is spelt; the original's instructions say "neutraL".
        oddities: two more entries in emotion.json, as the original has them: one that ends at 0, one without folders.
        raw_events: of so many sequences, the single events too: SEE/raw/<sequence>.npz with x, y, t, p, frame_times, width, height.

    Returns:
        What was drawn, in the order of emotion.json.

    Raises:
        CorpusError: the target is there and not empty.
        ConfigurationError: a number makes no sense.
    """
    if min(people, takes, frames[0]) < 1 or frames[1] < frames[0] or size < 16:
        raise ConfigurationError(
            f"people={people}, takes={takes}, frames={frames}, size={size}: expected one or more of each, frames in order, and "
            "16 pixels or more."
        )
    drawn = _plan(seed, people, takes, frames)
    store(Path(target), _files(drawn, seed, size, neutral_folder, oddities, raw_events))
    return drawn


def _plan(seed: int, people: int, takes: int, frames: tuple[int, int]) -> list[DrawnClip]:
    chance = random.Random(f"{seed}/see")
    drawn: list[DrawnClip] = []
    for who in range(people):
        sex, age = chance.choice(("man", "woman")), chance.randint(19, 28)
        degree = chance.choice(("undergraduate", "Master", "Doctor"))
        for place, label in enumerate(SEE):
            for take in range(takes):
                lighting = LIGHTINGS[(who + place + take) % len(LIGHTINGS)]
                length, test = chance.randint(*frames), chance.random() < TEST_SHARE
                person, token = f"{who + 1:03d}", TOKENS.get(label, label)
                name = f"{len(drawn) + 1}_{person}_{sex}_{age}_{degree}_{lighting}_{token}_{length}_take{take:03d}"
                drawn.append(DrawnClip(name, label, "test" if test else "train", person, lighting, take, length))
    return drawn


def _files(
    drawn: list[DrawnClip], seed: int, size: int, neutral_folder: str, oddities: bool, raw_events: int
) -> Iterator[tuple[str, bytes]]:
    from tqdm.auto import tqdm

    yield "SEE/emotion.json", _annotations(drawn, oddities)
    for number, one in enumerate(tqdm(drawn, desc="drawing eyes", unit="seq", disable=None)):
        sequence = draw_sequence(
            one.label,
            person=one.identity,
            lighting=one.lighting,
            take=one.take,
            frames=one.frames,
            seed=seed,
            size=size,
        )
        folder = neutral_folder if one.label == "neutral" else TOKENS.get(one.label, one.label)
        for stream, pictures in (("frame", sequence.frames), ("event", sequence.event_pictures)):
            for place, picture in enumerate(pictures):
                yield f"SEE/{stream}/{folder}/{one.sample_id}/{place:05d}.jpg", encode(Image.fromarray(picture), "JPEG")
        if number < raw_events:
            yield f"SEE/raw/{one.sample_id}.npz", _raw(sequence, size)


def _annotations(drawn: list[DrawnClip], oddities: bool) -> bytes:
    subsets = {"train": "training", "test": "testing"}
    database = {
        one.sample_id: {
            "subset": subsets[one.split],
            "annotations": {"label": TOKENS.get(one.label, one.label), "segment": [0, one.frames]},
        }
        for one in drawn
    }
    if oddities:
        for number, segment in ((len(drawn) + 1, [0, 0]), (len(drawn) + 2, [0, 20])):
            name = f"{number}_001_man_24_Master_normal_fear_20_take099"
            database[name] = {"subset": "training", "annotations": {"label": "fear", "segment": segment}}
    labels = [TOKENS.get(label, label) for label in SEE]
    return json.dumps({"labels": labels, "database": database}, indent=1).encode()


def _raw(sequence: DrawnSequence, size: int) -> bytes:
    stream = io.BytesIO()
    columns = {name: getattr(sequence, name) for name in ("x", "y", "t", "p", "frame_times")}
    np.savez(stream, **columns, width=np.int64(size), height=np.int64(size))
    return stream.getvalue()
