"""What must be said beside the figures of a report, or they mislead: controls, people seen in training, figures too good.

This file knows what a report and a corpus say; it computes no figure.
"""

from collections.abc import Mapping
from typing import Any

from ..corpora import Corpus

PERMUTED = "permuted_labels"
"""`training_control` in the config, and `control` in run.json and report, of a checkpoint whose training labels were permuted."""

_CONTROLS = {
    PERMUTED: "This checkpoint is a control, trained on permuted labels: it could learn nothing of what it is asked for. Its "
    "figures say what this evaluation finds where there is nothing to find, and nothing of its architecture."
}


def control_of(config: Any, run: Mapping[str, Any] | None) -> str | None:
    """Which control a checkpoint is, by its config (a mapping or a config) or else its run.json; None for a model."""
    told = config.get if isinstance(config, Mapping) else lambda key: getattr(config, key, None)
    return told("training_control") or (run or {}).get("control")


def describe_control(control: str | None) -> str:
    """In a sentence what a control is; empty for a model."""
    if control is None:
        return ""
    return _CONTROLS.get(control, f"This checkpoint is a control ({control}), and no model.")


def cautions(report: Mapping[str, Any], corpus: Corpus) -> list[str]:
    """Sentences without which the figures of a report must not be quoted; none is good news.

    Args:
        report: as `Report.to_dict` gives it.
        corpus: what was evaluated on, which may know when a figure is too good.
    """
    found = [describe_control(report["checkpoint"].get("control"))]
    seen = report["data"].get("seen")
    if seen and seen["trained_on"]:
        found.append(
            f"{seen['trained_on']} of {seen['people']} people were trained on: the figures do not hold for strangers."
        )
    limit = corpus.suspicious_above
    high = {
        key: value
        for key, value in report["metrics"].items()
        if limit is not None and key.split("_")[0] == "ccc" and value is not None and value > limit
    }
    if high:
        told = ", ".join(f"{key} {value:.2f}" for key, value in high.items())
        found.append(
            f"{told} on {corpus.name}: above {limit:g} this is a bug or a leak until it is proved otherwise. Look at "
            "data.protocol, data.seen, data.leak_check and the references, and train a control (data.permute_labels)."
        )
    return [sentence for sentence in found if sentence]
