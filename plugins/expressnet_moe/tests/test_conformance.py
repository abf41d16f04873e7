"""What every architecture of the zoo must do."""

from meco_hub.testing import Check, parametrize_with_checks

TINY = {
    "image_size": 32,
    "fe1_channels": [4, 8, 8],
    "fe1_kernel_sizes": [7, 6, 3],
    "fe1_hidden_size": 16,
    "fe2_channels": [4, 8],
    "fe2_kernel_sizes": [5, 3],
    "backbone_depths": [1, 1],
    "backbone_widths": [4, 8],
    "fusion_hidden_size": 16,
}


@parametrize_with_checks("meco_expressnet_moe", config=TINY)
def test_conformance(check: Check) -> None:
    check()
