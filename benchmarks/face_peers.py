"""Peers of a face checkpoint on the same pictures: both answer for the same folds, and their figures stand side by side.

    npm install @vladmandic/face-api@1.7.15
    python benchmarks/face_peers.py --data_dir lfw_expressions.zip --folds 3 --peer node_modules/@vladmandic/face-api/model

The peer is used as it is: of its seven answers those five count that the corpus knows, the highest one wins. The checkpoint
answers at its own operating point. The limit beside both is always saying the most frequent class.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch

from meco_expressnet_moe.teachers import FaceApiExpressions
from meco_hub import plugins
from meco_hub.corpora.splits import by_fold
from meco_hub.evaluation.evaluate import EvaluationSettings, evaluate_checkpoint
from meco_hub.evaluation.metrics import compute_metrics
from meco_hub.evaluation.task import take_split
from meco_hub.processing.face_preprocessor import FacePreprocessor


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
    parser.add_argument("--model", default=None, help="a checkpoint (default: the bundled face checkpoint)")
    arguments = parser.parse_args()
    _, dataset = by_fold(take_split(plugins.corpus("image_folder").load(arguments.data_dir), None), arguments.folds)
    names = dataset.features["label"].names
    labels = np.asarray(dataset["label"])
    peer = compute_metrics(labels, ask_peer(FaceApiExpressions(str(arguments.peer)), dataset, names), names)
    majority = compute_metrics(labels, np.tile(np.bincount(labels, minlength=len(names)), (len(labels), 1)), names)
    model = arguments.model or str(plugins.default_checkpoint())
    with tempfile.TemporaryDirectory() as folder:
        ours = evaluate_checkpoint(
            plugins.locate_checkpoint(model),
            "image_folder",
            arguments.data_dir,
            folder,
            EvaluationSettings(folds=arguments.folds),
        )["metrics"]
    print(f"{'':28} {'UAR':>6} {'WAR':>6} {'macro-F1':>9} {'macro AUROC':>12}   n = {ours['n']}")
    names_and_figures = (
        (Path(model).name, tuple(ours[key] for key in ("uar", "war", "macro_f1", "macro_auroc"))),
        ("face-api 1.7.15, as it is", (peer.uar, peer.war, peer.macro_f1, peer.macro_auroc)),
        ("the most frequent class", (majority.uar, majority.war, majority.macro_f1, majority.macro_auroc)),
    )
    for name, (uar, war, macro_f1, auroc) in names_and_figures:
        print(f"{name:28} {uar:6.3f} {war:6.3f} {macro_f1:9.3f} {auroc:12.3f}")


if __name__ == "__main__":
    main()
