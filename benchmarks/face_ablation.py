"""What each ingredient of a face recipe brings: the recipe shortened, then the same with one ingredient taken away at a time.

    npm install @vladmandic/face-api@1.7.15
    python benchmarks/face_ablation.py --data_dir lfw_expressions.zip --output_dir out/ablation

Every row is one training by `meco_hub.train` with one seed and the same number of pictures seen; its figures are those of the
recipe's validation part, at the operating point that its rule chooses there. Small differences are noise: a few sad faces move
UAR by several points. Rows that are finished already are not trained again.
"""

import argparse
import json
from pathlib import Path

from meco_hub.train import main as train

WITHOUT: dict[str, list[str]] = {
    "the recipe, shortened": [],
    "without the teacher": ["--set", "distillation=null"],
    "without ImageNet weights": ["--set", "backbone_weights=null", "--set", "frozen_modules=[]"],
    "without augmentation": ["--set", "augmentation=null"],
    "without balanced sampling": ["--class_balance", "0"],
    "without logit adjustment": ["--logit_adjustment", "0"],
    "without averaged weights": ["--set", "ema_decay=null"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="meco_expressnet_moe/lfw5")
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--output_dir", required=True, type=Path)
    parser.add_argument("--epochs", default="3")
    arguments = parser.parse_args()
    rows = []
    for index, (name, flags) in enumerate(WITHOUT.items()):
        folder = arguments.output_dir / f"{index}"
        if not (folder / "run.json").is_file():
            where = ["--data_dir", arguments.data_dir, "--output_dir", str(folder), "--overwrite_output_dir"]
            train(
                ["--recipe", arguments.recipe, *where, "--num_train_epochs", arguments.epochs, "--no_progress", *flags]
            )
        rows.append((name, json.loads((folder / "run.json").read_text(encoding="utf-8"))["validation"]))
    print(f"| {arguments.epochs} epochs | macro AUROC | UAR | WAR | macro-F1 |\n|---|---|---|---|---|")
    for name, one in rows:
        print(f"| {name} | {one['macro_auroc']:.3f} | {one['uar']:.3f} | {one['war']:.3f} | {one['macro_f1']:.3f} |")


if __name__ == "__main__":
    main()
