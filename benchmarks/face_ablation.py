"""What each ingredient of a face recipe brings: the recipe shortened, then the same with one ingredient taken away at a time.

    npm install @vladmandic/face-api@1.7.15
    python benchmarks/face_ablation.py --data_dir lfw_expressions.zip --output_dir out/ablation
    python benchmarks/face_ablation.py --recipe meco_expressnet_moe/fer2013_small --data_dir fer2013.zip --output_dir out/fer

Every row is one training by `meco_hub.train` with one seed and the same number of pictures seen; its figures are those of the
recipe's validation part, at the operating point that its rule chooses there. Small differences are noise: a few sad faces move
UAR by several points. Ingredients that a recipe does not have are left out, and rows that are finished already are not trained
again; interrupted ones go on.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from meco_hub.train import main as train
from meco_hub.training.recipes import Recipe, override, read_recipe_file, recipe_from_dict

WITHOUT: dict[str, dict[str, Any]] = {
    "the recipe, shortened": {},
    "without the teacher": {"distillation": None},
    "without the votes": {"soft_label_weight": 0.0},
    "without label smoothing": {"label_smoothing": 0.0},
    "without ImageNet weights": {"backbone_weights": None, "frozen_modules": []},
    "without augmentation": {"augmentation": None},
    "without noise, JPEG and few pixels": {f"augmentation.{name}": 0.0 for name in ("noise", "jpeg", "coarse")},
    "without small pictures first": {"image_sizes": {}},
    "without balanced sampling": {"class_balance": 0.0},
    "without logit adjustment": {"logit_adjustment": 0.0},
    "without averaged weights": {"ema_decay": None},
}


def ablations(values: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Name → changes, of those ingredients that the recipe has; the recipe itself first."""
    whole = recipe_from_dict(values)
    found: dict[str, dict[str, Any]] = {}
    for name, changes in WITHOUT.items():
        known = {key: value for key, value in changes.items() if _holds(values, key)}
        if not changes or (known and recipe_from_dict(override(values, known)) != whole):
            found[name] = known
    return found


def _holds(values: dict[str, Any], key: str) -> bool:
    for part in key.split("."):
        if not isinstance(values, dict) or part not in values:
            return False
        values = values[part]
    return True


def shorten(recipe: Recipe, epochs: int) -> dict[str, Any]:
    """Changes that make the recipe last so many epochs; pictures grow at the same share of them."""
    sizes = {round(start * epochs / recipe.num_train_epochs): side for start, side in recipe.image_sizes.items()}
    return {"num_train_epochs": epochs, **({"image_sizes": sizes} if sizes else {})}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="meco_expressnet_moe/lfw5")
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--output_dir", required=True, type=Path)
    parser.add_argument("--epochs", type=int, default=3)
    arguments = parser.parse_args()
    values = read_recipe_file(arguments.recipe)
    rows = []
    for name, changes in ablations(values).items():
        folder = arguments.output_dir / name.replace(" ", "_").replace(",", "")
        if not (folder / "run.json").is_file():
            flags = ["--data_dir", arguments.data_dir, "--output_dir", str(folder), "--no_progress"]
            begun = sorted(folder.glob("step_*/checkpoint.json"))
            flags += ["--resume_from_checkpoint", "auto"] if begun else ["--overwrite_output_dir"]
            settings = {**shorten(recipe_from_dict(values), arguments.epochs), **changes}
            assigned = [f"{key}={json.dumps(value)}" for key, value in settings.items()]
            code = train(["--recipe", arguments.recipe, *flags, "--checkpointing_steps", "200", "--set", *assigned])
            if code:
                raise SystemExit(code)
        rows.append((name, json.loads((folder / "run.json").read_text(encoding="utf-8"))["validation"]))
    print(f"| {arguments.epochs} epochs | macro AUROC | UAR | WAR | macro-F1 |\n|---|---|---|---|---|")
    for name, one in rows:
        print(f"| {name} | {one['macro_auroc']:.3f} | {one['uar']:.3f} | {one['war']:.3f} | {one['macro_f1']:.3f} |")


if __name__ == "__main__":
    main()
