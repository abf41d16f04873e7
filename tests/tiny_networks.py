"""Config fields, and a recipe, that make networks tiny: thousands of parameters, and every part of the architecture."""

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

SEVEN_EXPRESSIONS: dict[str, Any] = {
    "model_type": "meco_expressnet_moe",
    "labels": ["anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral"],
    "model": {**FACE, "batch_norm_momentum": 0.2, "fe1_pooling": "average"},
    "processor": {"size": {"height": 32, "width": 32}},
    "data": {"corpus": "fer2013", "train": {"without_content_of": ["test"]}, "validation": {"by_content": 0.2}},
    "learning_rate": 3e-3,
    "per_device_train_batch_size": 8,
    "num_train_epochs": 1,
    "selection": "last",
}
"""A recipe of one epoch on a drawn FER-2013."""
