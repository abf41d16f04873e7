"""Peers of a face checkpoint on the same pictures: both answer for the same folds, and their figures stand side by side.

    npm install @vladmandic/face-api@1.7.15
    python benchmarks/face_peers.py --data_dir lfw_expressions.zip --folds 3 --choose_on 2 \\
        --peer node_modules/@vladmandic/face-api/model

The peer is used as it is: of its seven answers those five count that the corpus knows, the highest one wins. The checkpoint
answers at its own operating point. So that both have one, the peer's answers are also moved along the classes' shares: as far as
the rule of the checkpoint's recipe likes best on other folds. The limit beside all is always saying the most frequent class.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch

from meco_expressnet_moe.teachers import FaceApiExpressions
from meco_hub import plugins
from meco_hub.corpora.splits import by_fold
from meco_hub.evaluation.calibration import choose_operating_point, correct
from meco_hub.evaluation.evaluate import EvaluationSettings, evaluate_checkpoint
from meco_hub.evaluation.metrics import compute_metrics
from meco_hub.evaluation.task import take_split
from meco_hub.processing.face_preprocessor import FacePreprocessor
from meco_hub.training.recipes import load_recipe

FIGURES = ("uar", "war", "macro_f1", "macro_auroc", "ovo_auroc")


def ask_peer(peer: FaceApiExpressions, dataset, names: list[str], batch_size: int = 64) -> np.ndarray:
    """The peer's logits (samples, classes) for the classes that the corpus knows, in the corpus's order."""
    processor = FacePreprocessor(size={"height": peer.size, "width": peer.size}, do_grayscale=True)
    columns = [peer.outputs.index(name) for name in names]
    rows = []
    with torch.inference_mode():
        for start in range(0, len(dataset), batch_size):
            pictures = list(dataset[start : start + batch_size]["image"])
            rows.append(peer(processor(pictures, return_tensors="pt")["pixel_values"])[:, columns])
    return torch.cat(rows).numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", required=True, type=Path)
    parser.add_argument("--folds", type=int, nargs="+", required=True)
    parser.add_argument("--peer", required=True, type=Path, help="face-api's model folder")
    parser.add_argument("--choose_on", type=int, nargs="+", required=True, help="folds for the peer's operating point")
    parser.add_argument(
        "--recipe", default="meco_expressnet_moe/lfw5", help="whose rule chooses it, and training folds"
    )
    parser.add_argument("--model", default=None, help="a checkpoint (default: the bundled face checkpoint)")
    arguments = parser.parse_args()
    if set(arguments.folds) & set(arguments.choose_on):
        parser.error("--choose_on names folds that are tested on")
    recipe = load_recipe(arguments.recipe)
    whole = take_split(plugins.corpus("image_folder").load(arguments.data_dir), None)
    peer = FaceApiExpressions(str(arguments.peer))
    names = whole.features["label"].names
    answers, labels = {}, {}
    for part, folds in (("chosen on", arguments.choose_on), ("tested", arguments.folds)):
        _, dataset = by_fold(whole, folds)
        answers[part], labels[part] = ask_peer(peer, dataset, names), np.asarray(dataset["label"])
    trained = np.bincount(np.asarray(by_fold(whole, recipe.data.train.folds or [])[1]["label"]), minlength=len(names))
    rule, prior = recipe.operating_point, trained / trained.sum()
    steps = np.arange(round((rule.tau_max - rule.tau_min) / rule.tau_step) + 1)
    point = choose_operating_point(
        answers["chosen on"],
        labels["chosen on"],
        prior,
        names,
        rule=rule.rule,
        taus=rule.tau_min + rule.tau_step * steps,
        war_floor=rule.war_floor,
    )
    tested, truth = answers["tested"], labels["tested"]
    rows = {
        "face-api 1.7.15, as it is": tested,
        f"…, prior corrected by {point.tau:g}": correct(tested, prior, point.tau),
        "the most frequent class": np.tile(np.bincount(truth, minlength=len(names)), (len(truth), 1)),
    }
    model = arguments.model or str(plugins.default_checkpoint())
    with tempfile.TemporaryDirectory() as folder:
        ours = evaluate_checkpoint(
            plugins.locate_checkpoint(model),
            "image_folder",
            arguments.data_dir,
            folder,
            EvaluationSettings(folds=arguments.folds),
        )["metrics"]
    print(f"{'':32}" + "".join(f"{name:>13}" for name in FIGURES) + f"   n = {ours['n']}")
    figures = {Path(model).name: ours} | {name: compute_metrics(truth, own, names).flat() for name, own in rows.items()}
    for name, own in figures.items():
        print(f"{name:32}" + "".join(f"{own[key]:13.3f}" for key in FIGURES))
    met = "" if rule.war_floor is None else f", WAR of {rule.war_floor:g} {'met' if point.floor_met else 'not met'}"
    print(f"The peer's correction, chosen by {rule.rule} on folds {arguments.choose_on}{met}:", end=" ")
    print(f"UAR {point.uar:.3f}, WAR {point.war:.3f} there.")


if __name__ == "__main__":
    main()
