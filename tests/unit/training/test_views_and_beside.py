"""Two views of a sample whose answers are drawn together, and a second corpus that is trained on beside the first."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

import tiny_networks
from meco_hub import plugins
from meco_hub.corpora.synthetic.faces import write_fer2013_folders
from meco_hub.corpora.synthetic.signals import write_stress_predict
from meco_hub.errors import ConfigurationError, LeakError
from meco_hub.evaluation.task import hash_person, seen_people
from meco_hub.publishing.card_tables import data_lines
from meco_hub.training.arguments import RunOptions
from meco_hub.training.data import load_training_data
from meco_hub.training.loaders import draw_classes
from meco_hub.training.loop import TrainingRun, train
from meco_hub.training.losses import disagreement_of_views, mix_batch
from meco_hub.training.recipes import Recipe, load_recipe, override, recipe_from_dict

NAMES = tiny_networks.SEVEN_EXPRESSIONS["labels"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus") / "fer"
    write_fer2013_folders(folder, seed=1, train_per_class=6, public_per_class=1, private_per_class=0)
    return folder


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve bright pictures of two classes and three people, in folders by class, with an index of people and folds."""
    folder = tmp_path_factory.mktemp("second") / "own"
    drawn = np.random.default_rng(2)
    lines = ["file,label,identity,fold"]
    for number in range(12):
        name = f"{number}.png"
        folder.mkdir(exist_ok=True)
        Image.fromarray(drawn.integers(200, 255, (40, 40), dtype=np.uint8)).save(folder / name)
        lines.append(f"{name},{('happiness', 'neutral')[number % 2]},p{number % 3},{number % 3}")
    (folder / "index.csv").write_text("\n".join(lines))
    return folder


def recipe(**changes: Any) -> Recipe:
    return recipe_from_dict(override(tiny_networks.SEVEN_EXPRESSIONS, changes))


def beside(second: Path, **changes: Any) -> dict[str, Any]:
    return {"data.beside": {"corpus": "image_folder", "data_dir": str(second), "train": {"split": "all"}, **changes}}


def test_the_disagreement_of_views_is_jensen_and_shannon_s() -> None:
    logits = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)).double()
    expected = []
    for first, other in logits.softmax(dim=-1).unflatten(0, (3, 2)):
        middle = (first + other) / 2
        expected.append(sum((one * (one / middle).log()).sum() for one in (first, other)) / 2)
    torch.testing.assert_close(disagreement_of_views(logits), torch.stack(expected).mean().float(), atol=1e-6, rtol=0)
    same = logits[:3].repeat_interleave(2, dim=0)
    assert float(disagreement_of_views(same)) == pytest.approx(0, abs=1e-6)
    sure = F.one_hot(torch.tensor([0, 1])).float() * 1000
    assert float(disagreement_of_views(sure)) == pytest.approx(np.log(2), abs=1e-4)


def test_views_of_a_sample_come_together_and_are_mixed_with_the_same_other() -> None:
    sampler = draw_classes(np.arange(20) % 3, 3, 0.0, seed=0, views=2)
    drawn = list(sampler)
    assert len(drawn) == len(sampler) == 40
    assert [one.index for one in drawn[::2]] == [one.index for one in drawn[1::2]]
    assert len({one.place for one in drawn}) == 40  # each is augmented by a draw of its own
    pixels = torch.arange(8.0).div(2, rounding_mode="floor").reshape(8, 1, 1, 1)
    mixed, targets = mix_batch({"pixel_values": pixels}, pixels.flatten().long(), 4, 0.4, np.random.default_rng(1), 2)
    assert torch.equal(mixed["pixel_values"][::2], mixed["pixel_values"][1::2])
    torch.testing.assert_close((targets @ torch.arange(4.0)), mixed["pixel_values"].flatten())


def test_answers_to_two_views_draw_together(corpus: Path, tmp_path: Path) -> None:
    """Trained with the term, the same network answers two views of training's pictures more alike than without it."""
    torch.set_num_threads(1)
    found = {}
    for weight in (1e-9, 20.0):
        changes = {"consistency_weight": weight, "num_train_epochs": 6, "augmentation": {"name": "face"}}
        run = TrainingRun(recipe(**changes), RunOptions(corpus, tmp_path / str(weight), progress=False))
        while not run.finished:
            run.train_epoch()
            run.close_epoch()
        run.bare_model.eval()
        run.loaders.sampler.set_epoch(99)
        with torch.no_grad():
            batches = [
                run.bare_model(pixel_values=one["pixel_values"]).logits
                for one in run.loaders.train
                if len(one["labels"])
            ]
        found[weight] = float(torch.stack([disagreement_of_views(one) for one in batches]).mean())
        run.accelerator.end_training()
    assert found[20.0] < 0.7 * found[1e-9]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"augmentation": None}, "an augmentation beside it"),
        ({"per_device_train_batch_size": 7}, "an even per_device_train_batch_size"),
        ({"clips_per_recording": 2}, "no clips_per_recording beside it"),
    ],
)
def test_views_that_make_no_sense_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        recipe(consistency_weight=1.0, **{"augmentation": {"name": "face"}, **changes})


def test_a_second_corpus_has_its_share_of_an_epoch_and_none_of_validation(
    corpus: Path, second: Path, tmp_path: Path
) -> None:
    torch.set_num_threads(1)
    wanted = recipe(**beside(second, train={"split": "all", "folds": [0, 1]}, share=0.25))
    run = TrainingRun(wanted, RunOptions(corpus, tmp_path / "a", progress=False))
    first = len(run.data.train.labels)
    drawn = np.asarray([one.index for one in run.loaders.sampler])
    assert (drawn < first).sum() == first
    assert (drawn >= first).sum() == round(first / 3)
    assert len(run.loaders.validation_rows) == len(run.data.validation.labels)
    for row, (name, brightness) in enumerate(zip(["0.png", "1.png"], (200, 200), strict=True)):
        assert run.loaders.train_rows.sample_ids[first + row].endswith(name)
        assert np.asarray(run.loaders.train_rows[first + row]).min() >= brightness
    run.accelerator.end_training()
    record = train(wanted, RunOptions(corpus, tmp_path / "b", progress=False))
    assert record is not None
    described = record["data"]["beside"]
    assert (described["corpus"], described["name"], described["samples"], described["identities"]) == (
        "image_folder", "own", 8, 2,
    )  # fmt: skip
    assert described["classes"] == {name: 4 if name in ("happiness", "neutral") else 0 for name in NAMES}
    assert described["leak_check"]["clean"]
    folder = plugins.corpus("image_folder")
    assert described["people"] == sorted(hash_person(folder.namespace, name) for name in ("p0", "p1"))
    seen = seen_people(record, folder, ["p1", "p2", "p3"])
    assert seen == {"people": 3, "trained_on": 1, "selected_by": 0}
    assert "Training, too: 8 samples of 2 people of corpus `image_folder` (`own`)" in data_lines(record)[1]


def test_people_of_a_second_folder_of_the_same_corpus_are_known_again() -> None:
    folder = plugins.corpus("image_folder")

    def side(*names: str) -> dict[str, Any]:
        return {"people": sorted(hash_person(folder.namespace, name) for name in names)}

    data = {"corpus": "image_folder", "train": side("a", "b"), "validation": side("c")}
    record = {"data": {**data, "beside": {"corpus": "image_folder", **side("d")}}}
    assert seen_people(record, folder, ["a", "c", "d"]) == {"people": 3, "trained_on": 2, "selected_by": 1}
    assert seen_people({"data": data}, folder, ["a", "c", "d"]) == {"people": 3, "trained_on": 1, "selected_by": 1}
    assert seen_people(record, plugins.corpus("raf_db"), ["a"]) is None


def test_a_straight_line_is_fitted_on_the_first_corpus_alone(tmp_path: Path) -> None:
    write_stress_predict(tmp_path / "drawn.zip", seed=0, people=6)
    folds = {"split": "all", "folds": [2]}
    changes = {
        "data.train": {"split": "all", "folds": [0]},
        "data.validation": {"split": "all", "folds": [1]},
        "clips_per_recording": None,
        "num_train_epochs": 1,
    }
    second = {"corpus": "stress_predict", "data_dir": str(tmp_path / "drawn.zip"), "train": folds}
    found = []
    for name, more in (("alone", {}), ("both", {"data.beside": second})):
        wanted = load_recipe("meco_himoe/stress_predict", {**changes, **more})
        run = TrainingRun(wanted, RunOptions(tmp_path / "drawn.zip", tmp_path / name, progress=False))
        found.append(run.reference)
        run.accelerator.end_training()
    assert found[0] is not None
    assert found[0] == found[1]


def test_who_has_no_votes_is_trained_on_the_label(corpus: Path, second: Path, tmp_path: Path) -> None:
    header = "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"
    names = [path.name for path in sorted(corpus.rglob("*.jpg"))]
    voted = tmp_path / "voted"
    shutil.copytree(corpus, voted)
    (voted / "fer2013new.csv").write_text(
        "\n".join([header, *(f"Training,{one},0,0,0,5,5,0,0,0,0,0" for one in names)])
    )
    wanted = recipe(soft_label_weight=1.0, **{"data.options": {"votes": True}}, **beside(second))
    data = load_training_data(wanted, voted)
    assert data.train.soft is not None
    assert data.beside is not None
    np.testing.assert_allclose(data.train.soft[:, NAMES.index("anger")], 0.5)
    assert data.beside.side.soft is not None
    np.testing.assert_allclose(data.beside.side.soft, np.eye(7)[data.beside.side.labels])


def test_a_second_corpus_that_cannot_be_trained_on_is_refused(corpus: Path, second: Path, tmp_path: Path) -> None:
    other = {"data.beside": {"corpus": "case", "data_dir": str(second)}}
    with pytest.raises(ConfigurationError, match="expected two corpora of one kind, both with classes"):
        load_training_data(recipe(**other), corpus)
    with pytest.raises(ConfigurationError, match="no protocol and no permute_labels beside it"):
        recipe(**beside(second), **{"data.permute_labels": True})
    with pytest.raises(ConfigurationError, match="no clips_per_recording beside it"):
        recipe(**beside(second), clips_per_recording=2)
    # nothing of it is left
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "a.png").write_bytes(b"no picture")
    (broken / "index.csv").write_text("file,label\na.png,happiness")
    with pytest.raises(ConfigurationError, match="of which 0 of 1 samples can be used"):
        TrainingRun(recipe(**beside(broken)), RunOptions(corpus, tmp_path / "none", progress=False))
    # a picture of validation among those of the second corpus
    held = load_training_data(recipe(), corpus)
    copied = tmp_path / "copied"
    copied.mkdir()
    held.corpus.read(held.validation.dataset[0]).save(copied / "same.png")
    (copied / "index.csv").write_text("file,label\nsame.png,happiness")
    with pytest.raises(LeakError, match="stand in beside and in validation"):
        load_training_data(recipe(**beside(copied)), corpus)
