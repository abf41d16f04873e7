"""What every architecture of the zoo must do."""

from typing import Any

from meco_hub.testing import Check, parametrize_with_checks

TINY: dict[str, Any] = {
    "attention_tokens": 8,
    "focal_tokens": 8,
    "backbone_depths": [1, 1],
    "backbone_widths": [8, 8],
    "backbone_num_features": 20,
    "fusion_dim": 32,
    "num_experts": 4,
    "router_hidden": 8,
    "focal_hidden": 6,
    "deep_layers": 1,
    "deep_mult": 2,
    "image_size": 32,
}


@parametrize_with_checks(
    "meco_mcoenet", config=[TINY, {**TINY, "missing_modality": "zeros", "expert_dispatch": "dense"}]
)
def test_conformance(check: Check) -> None:
    check()
