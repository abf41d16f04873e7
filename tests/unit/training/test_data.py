"""Samples: the same picture for the same draw, cached or not, in whatever process."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from meco_hub.answers import Task
from meco_hub.corpora.synthetic.faces import write_image_folder
from meco_hub.errors import InputError
from meco_hub.evaluation.predict import RecordingRows
from meco_hub.evaluation.task import map_labels, take_folds, take_split
from meco_hub.plugins import corpus as find_corpus
from meco_hub.training.loaders import Collate, Draw, Examples, build_augmentation

NAMES = ["happiness", "neutral", "surprise"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_image_folder(tmp_path / "faces", seed=3, people=4, takes=1, size=32)
    return tmp_path / "faces"


def rows(folder: Path) -> RecordingRows:
    corpus = find_corpus("image_folder")
    return RecordingRows(corpus, take_split(corpus.load(folder), None))


def samples(folder: Path, augment: bool = False, cache: int | None = None) -> Examples:
    corpus = find_corpus("image_folder")
    subset = map_labels(take_split(corpus.load(folder), None), NAMES, purpose="the test")
    recordings = RecordingRows(corpus, subset.dataset)
    readable = recordings.survey(cache, progress=False) if cache is not None else None
    augmentation = build_augmentation({"name": "face"} if augment else None)
    return Examples(recordings, subset, augmentation=augmentation, seed=5, readable=readable)


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image)


@pytest.mark.parametrize("cache", [0, 10**9])
def test_cached_or_not_the_pictures_are_the_same(folder: Path, cache: int) -> None:
    fresh, surveyed = samples(folder), samples(folder, cache=cache)
    assert len(surveyed) == 12
    for index in range(12):
        first, second = fresh[index], surveyed[index]
        assert (first.label, first.row) == (second.label, second.row)
        assert (pixels(first.recording) == pixels(second.recording)).all()


def test_labels_follow_names(folder: Path) -> None:
    identifiers = rows(folder).sample_ids
    some = samples(folder)
    assert [NAMES[some[index].label] for index in range(12)] == [name.split("/")[0] for name in identifiers]


def test_a_draw_decides_its_augmentation(folder: Path) -> None:
    some, again = samples(folder, augment=True), samples(folder, augment=True)
    first = pixels(some[Draw(2, epoch=1, place=7)].recording)
    some[Draw(5, epoch=0, place=0)]
    assert (first == pixels(again[Draw(2, epoch=1, place=7)].recording)).all()
    assert not (first == pixels(again[Draw(2, epoch=2, place=7)].recording)).all()
    assert not (first == pixels(again[Draw(2, epoch=1, place=8)].recording)).all()
    # validation fetches by plain index, and sees pictures as they are
    assert (pixels(some[2].recording) == pixels(samples(folder)[2].recording)).all()


def test_unreadable_pictures_shift_nothing(folder: Path) -> None:
    recordings = rows(folder)
    identifiers = recordings.sample_ids
    (folder / identifiers[3]).write_bytes(b"")
    assert recordings.survey(10**9, progress=False) == [row for row in range(12) if row != 3]
    assert list(recordings.unreadable) == [identifiers[3]]
    some = samples(folder, cache=10**9)
    assert len(some) == len(some.labels) == 11
    left = [name for name in identifiers if name != identifiers[3]]
    assert [NAMES[some[index].label] for index in range(11)] == [name.split("/")[0] for name in left]
    assert (pixels(some[3].recording) == pixels(samples(folder)[4].recording)).all()


def test_nothing_readable_is_an_error(folder: Path) -> None:
    for picture in folder.rglob("*.jpg"):
        picture.write_bytes(b"x")
    with pytest.raises(InputError, match="None of 12"):
        rows(folder).survey(10**9, progress=False)


class Halves:
    def __call__(self, images: list[Image.Image], return_tensors: str) -> dict[str, torch.Tensor]:
        assert return_tensors == "pt"
        return {
            "pixel_values": torch.stack(
                [torch.from_numpy(pixels(image).copy()).permute(2, 0, 1) / 2 for image in images]
            )
        }


def test_a_batch_is_what_the_processor_makes_and_labels(folder: Path) -> None:
    some = samples(folder)
    collate = Collate(Halves(), Task(tuple(NAMES)), frozenset({"pixel_values"}), channels_last=True)
    batch = collate([some[0], some[7]])
    assert batch["pixel_values"].shape == (2, 3, 32, 32)
    assert batch["pixel_values"].is_contiguous(memory_format=torch.channels_last)
    assert batch["labels"].tolist() == [some[0].label, some[7].label]


def test_a_model_is_told_what_was_shown_if_it_asks_and_the_corpus_says(folder: Path) -> None:
    some = samples(folder)
    assert some.stimuli == [], "a folder of pictures names none"
    corpus = find_corpus("image_folder")
    subset = map_labels(take_split(corpus.load(folder), None).select(range(3)), NAMES, purpose="the test")
    subset = replace(subset, dataset=subset.dataset.add_column("stimulus", ["b", "", "a"]))
    named = Examples(RecordingRows(corpus, subset.dataset), subset)
    assert named.stimuli == ["a", "b"]
    assert [named[index].stimulus for index in range(3)] == [1, -100, 0]
    asks, does_not = frozenset({"pixel_values", "stimulus_ids"}), frozenset({"pixel_values"})
    for accepted, has, told in ((asks, True, [1, -100, 0]), (asks, False, None), (does_not, True, None)):
        batch = Collate(Halves(), Task(tuple(NAMES)), accepted, has_stimuli=has)([named[index] for index in range(3)])
        assert (batch["stimulus_ids"].tolist() if "stimulus_ids" in batch else None) == told


def test_folds_are_taken_by_number(folder: Path) -> None:
    dataset = take_split(find_corpus("image_folder").load(folder), "all")
    assert set(take_folds(dataset, [1, 3])["fold"]) == {1, 3}
    assert len(take_folds(dataset, None)) == 12
