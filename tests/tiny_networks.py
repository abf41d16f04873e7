"""Config fields that make the architectures of this repository tiny: thousands of parameters, and every part of the network."""

from typing import Any

FACE: dict[str, Any] = {
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
"""ExpressNet-MoE on pictures of 32×32."""
