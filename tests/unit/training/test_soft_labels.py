"""Soft labels: blended by name into the target, handed to the loss, mixed by mixup; and progressive sizes around them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from PIL import ImageOps

import tiny_networks
from meco_hub.corpora.synthetic.faces import write_fer2013_folders
from meco_hub.corpora.tables import FaceRow, build_splits
from meco_hub.errors import ConfigurationError
from meco_hub.evaluation.task import map_labels
from meco_hub.loading import load_model, load_processor
from meco_hub.training.arguments import RunOptions
from meco_hub.training.data import blend, load_training_data, with_soft_labels
from meco_hub.training.loop import TrainingRun, train
from meco_hub.training.losses import mix_batch
from meco_hub.training.recipes import Recipe, override, recipe_from_dict

NAMES = tiny_networks.SEVEN_EXPRESSIONS["labels"]


def rows(soft: list[list[float]] | None) -> datasets.Dataset:
    """Three pictures of a, b, c with their shares."""
    faces = [
        FaceRow(str(n), n, content=str(n).encode(), extras={"soft_label": soft[n]} if soft else {}) for n in range(3)
    ]
    extras = {"soft_label": datasets.List(datasets.Value("float32"))} if soft else {}
    return build_splits({"all": faces}, ["anger", "fear", "contempt"], extras=extras, address="a test")["all"]


def test_targets_are_blended_by_name() -> None:
    data = rows([[0.5, 0.5, 0.0], [0.0, 0.2, 0.8], [0.0, 0.0, 1.0]])
    side = map_labels(data, ["fear", "anger"], may_drop=None, purpose="the test")
    soft = with_soft_labels(side, ["fear", "anger"]).soft
    # anger, half fear; fear, of which contempt is not trained
    np.testing.assert_allclose(soft, [[0.5, 0.5], [1.0, 0.0]], atol=1e-6)
    shares, labels = torch.from_numpy(soft), torch.from_numpy(side.labels)
    torch.testing.assert_close(blend(labels, shares, 0.4), torch.tensor([[0.2, 0.8], [1.0, 0.0]]))
    assert blend(labels, shares, 0.0) is labels
    assert blend(labels, None, 0.4) is labels


def test_who_has_no_share_keeps_the_label() -> None:
    side = map_labels(rows([[0, 0, 0], [1, 0, 0], [0, 1, 0]]), ["anger", "fear", "contempt"], purpose="the test")
    np.testing.assert_allclose(
        with_soft_labels(side, ["anger", "fear", "contempt"]).soft, [[1, 0, 0]] * 2 + [[0, 1, 0]]
    )


def test_a_corpus_without_shares_is_refused() -> None:
    names = ["anger", "fear", "contempt"]
    with pytest.raises(ConfigurationError, match="has no column soft_label"):
        with_soft_labels(map_labels(rows(None), names, purpose="the test"), names)
    with pytest.raises(ConfigurationError, match=r"rows of \[2\] shares; expected 3"):
        with_soft_labels(map_labels(rows([[0.5, 0.5]] * 3), names, purpose="the test"), names)


def test_mixup_mixes_shares_as_it_mixes_pictures() -> None:
    soft = torch.tensor([[0.7, 0.3], [0.1, 0.9], [0.5, 0.5]])
    pixels = soft[:, 1].reshape(3, 1, 1, 1).clone()
    mixed, targets = mix_batch({"pixel_values": pixels}, soft, 2, 0.4, np.random.default_rng(1))
    torch.testing.assert_close(mixed["pixel_values"].flatten(), targets[:, 1])


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus") / "fer"
    drawn = write_fer2013_folders(folder, seed=1, train_per_class=6, public_per_class=1, private_per_class=0)
    header = "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"
    lines = [f"Training,{Path(one.sample_id).name},0,10,0,0,0,0,0,0,0,0" for one in drawn]
    (folder / "fer2013new.csv").write_text("\n".join([header, *lines]))
    return folder


def recipe(**changes: Any) -> Recipe:
    return recipe_from_dict(
        override(tiny_networks.SEVEN_EXPRESSIONS, {"data.options": {"votes": True}, "num_train_epochs": 3, **changes})
    )


def test_who_is_told_that_all_are_happy_believes_it(corpus: Path, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    told = TrainingRun(recipe(soft_label_weight=1.0), RunOptions(corpus, tmp_path / "batch", progress=False))
    batch = next(iter(told.loaders.train))
    assert batch["soft_labels"].argmax(dim=1).tolist() == [NAMES.index("happiness")] * 8
    assert len(set(batch["labels"].tolist())) > 1
    record = train(
        recipe(soft_label_weight=1.0, num_train_epochs=8), RunOptions(corpus, tmp_path / "soft", progress=False)
    )
    assert record is not None
    plain = train(recipe(num_train_epochs=8), RunOptions(corpus, tmp_path / "plain", progress=False))
    assert plain is not None
    soft_loss, hard_loss = (one["history"][-1]["train_loss"] for one in (record, plain))
    assert soft_loss < 0.7 < hard_loss
    assert record["validation"]["uar"] == pytest.approx(1 / 7, abs=0.01)  # everybody is called happy


@pytest.mark.parametrize("mixup", [0.0, 0.4])
def test_a_second_layer_foresees_the_votes_and_leaves_the_answer_to_the_label(
    corpus: Path, tmp_path: Path, mixup: float
) -> None:
    torch.set_num_threads(1)
    run = TrainingRun(
        recipe(soft_label_head=1.0, num_train_epochs=8, mixup_alpha=mixup),
        RunOptions(corpus, tmp_path / "a", progress=False),
    )
    head, told = run.soft_head.layer, []
    assert head.out_features == len(NAMES)
    with torch.no_grad():
        head.weight.zero_(), head.bias.zero_()
    run.soft_head.register_forward_pre_hook(lambda _, shares: told.append(shares[0].detach().clone()))
    while not run.finished:
        run.train_epoch()
        run.close_epoch()
    run.finish()
    # everybody's votes say happy, and that is what the layer learns; the labels are seven, and are not drowned out
    torch.testing.assert_close(torch.cat(told)[:, NAMES.index("happiness")], torch.ones(sum(map(len, told))))
    assert int(head.bias.argmax()) == NAMES.index("happiness")
    assert head.bias.max() - head.bias.min() > 0.01
    assert run.progress.history[-1]["train_loss"] < run.progress.history[0]["train_loss"]
    saved = type(run.bare_model).from_pretrained(tmp_path / "a")
    assert saved.state_dict().keys() == run.bare_model.state_dict().keys()  # nothing of the layer is kept
    run.accelerator.end_training()


def test_a_checkpoint_s_answers_to_whole_pictures_stand_for_votes(corpus: Path, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    plain = recipe(num_train_epochs=1, **{"data.options": {}})
    train(plain, RunOptions(corpus, tmp_path / "teacher", progress=False))
    onward = replace(
        plain,
        model_name_or_path=str(tmp_path / "teacher"),
        model={"image_size": 40},
        processor={"size": {"height": 40, "width": 40}},
        soft_labels_of=str(tmp_path / "teacher"),
        soft_label_weight=1.0,
        augmentation={"name": "face"},
    )
    run = TrainingRun(onward, RunOptions(corpus, tmp_path / "student", progress=False))
    model, processor = load_model(str(tmp_path / "teacher")), load_processor(str(tmp_path / "teacher"))
    soft = run.data.train.soft
    assert soft is not None
    for row in (0, 5):  # what it says of the picture as it is and of its mirror image, on average, at its own size
        picture = run.loaders.train_rows[row]
        both = processor([picture, ImageOps.mirror(picture)], return_tensors="pt")
        with torch.no_grad():
            said = model.eval()(**both).logits.softmax(dim=-1).mean(dim=0)
        np.testing.assert_allclose(soft[row], said, atol=1e-5)
    # the student has the size that the recipe says, and the weights of the checkpoint
    assert next(iter(run.loaders.train))["pixel_values"].shape[-2:] == (40, 40)
    assert run.bare_model.config.image_size == 40  # pyright: ignore[reportAttributeAccessIssue]
    torch.testing.assert_close(
        run.bare_model.state_dict()["classifier.weight"], model.state_dict()["classifier.weight"]
    )
    run.accelerator.end_training()


def test_the_best_mean_of_the_start_and_what_was_trained_is_kept(corpus: Path, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    plain = recipe(num_train_epochs=1, **{"data.options": {}, "operating_point.rule": "max_mean"})
    train(plain, RunOptions(corpus, tmp_path / "start", progress=False))
    onward = replace(plain, model_name_or_path=str(tmp_path / "start"), average_with_start=[0.0, 0.3, 0.6])
    record = train(onward, RunOptions(corpus, tmp_path / "out", checkpointing_steps="epoch", progress=False))
    assert record is not None
    found = record["average_with_start"]
    assert set(found) == {"0", "0.3", "0.6", "1"}
    share = max(found, key=lambda one: (found[one], float(one)))
    assert found[share] == record["operating_point"]["objective"]
    start, trained, kept = (load_model(str(tmp_path / one)).state_dict() for one in ("start", "out/best", "out"))
    assert any(not torch.equal(start[name], trained[name]) for name in start)
    for name, weight in kept.items():
        if name != "classifier.bias":  # which the operating point moves
            mean = torch.lerp(start[name], trained[name], float(share)) if weight.is_floating_point() else trained[name]
            torch.testing.assert_close(weight, mean)


def test_a_checkpoint_of_other_classes_gives_no_targets(corpus: Path, tmp_path: Path) -> None:
    other = recipe(labels=NAMES[:3], num_train_epochs=1, **{"data.options": {}, "data.drop_labels": NAMES[3:]})
    train(other, RunOptions(corpus, tmp_path / "three", progress=False))
    learner = recipe(soft_labels_of=str(tmp_path / "three"), soft_label_weight=0.5)
    with pytest.raises(
        ConfigurationError, match=r"answers anger, disgust, fear; expected the classes that are trained"
    ):
        load_training_data(learner, corpus)


def test_training_pictures_grow_and_the_checkpoint_has_its_own_size(corpus: Path, tmp_path: Path) -> None:
    run = TrainingRun(
        recipe(image_sizes={0: 16, 1: 24}, num_train_epochs=3), RunOptions(corpus, tmp_path / "a", progress=False)
    )
    seen: list[list[int]] = []

    def watch(module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        if module.training:
            seen[-1].append(kwargs["pixel_values"].shape[-1])

    run.bare_model.register_forward_pre_hook(watch, with_kwargs=True)
    while not run.finished:
        seen.append([])
        run.train_epoch()
        run.close_epoch()
    assert [set(one) for one in seen] == [{16}, {24}, {24}]
    run.finish()
    model = type(run.bare_model).from_pretrained(tmp_path / "a")
    assert model.config.image_size == 32
    run.accelerator.end_training()


def test_sizes_that_make_no_sense_are_refused(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"'image_sizes' is .*expected sides in pixels by epoch, 0 among"):
        TrainingRun(recipe(image_sizes={1: 24}), RunOptions(corpus, tmp_path / "b", progress=False))
