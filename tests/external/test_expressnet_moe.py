"""transformers' common tests on ExpressNet-MoE: base model, head, config, processors."""

import unittest
from typing import Any

import torch
from model_case import Batch, CommonConfigTests, CommonModelTests, Sizes, take_labels
from processor_case import CommonImageProcessorTests

from meco_expressnet_moe.configuration_expressnet_moe import ExpressNetMoEConfig
from meco_expressnet_moe.modeling_expressnet_moe import ExpressNetMoEForEmotionRecognition, ExpressNetMoEModel
from meco_expressnet_moe.processing_expressnet_moe import ExpressNetMoEImageProcessor

TINY: dict[str, Any] = {
    "image_size": 16,
    "fe1_channels": [4, 6],
    "fe1_kernel_sizes": [5, 3],
    "fe1_hidden_size": 16,
    "fe2_channels": [4, 8],
    "fe2_kernel_sizes": [5, 3],
    "fusion_hidden_size": 12,
    "backbone_depths": [1, 1],
    "backbone_widths": [4, 8],
    "backbone_expansion": 2,
}

take_labels(ExpressNetMoEModel, ExpressNetMoEForEmotionRecognition)


class Tiny(Sizes):
    def get_config(self) -> ExpressNetMoEConfig:
        return ExpressNetMoEConfig(**TINY)

    def get_inputs(self, config: ExpressNetMoEConfig, draw: torch.Generator) -> Batch:
        shape = (self.batch_size, config.num_channels, config.image_size, config.image_size)
        return {"pixel_values": torch.rand(shape, generator=draw)}


class TestModel(CommonModelTests, unittest.TestCase):
    subject = "ExpressNet-MoE"
    all_model_classes = (ExpressNetMoEModel, ExpressNetMoEForEmotionRecognition)
    sizes = Tiny
    hidden_shapes = [(3, 16), (3, 8), (3, 16), (3, 12), (3, 16), (3, 12)]  # noqa: RUF012


class TestConfig(CommonConfigTests, unittest.TestCase):
    subject = "ExpressNet-MoE"
    config_class = ExpressNetMoEConfig
    fields = TINY


class TestImageProcessor(CommonImageProcessorTests, unittest.TestCase):
    subject = "ExpressNet-MoE"
    processor_class = ExpressNetMoEImageProcessor
    fields = {"size": {"height": 20, "width": 18}, "do_normalize": True, "image_mean": [0.4, 0.5, 0.6]}  # noqa: RUF012
    picture_shape = (3, 20, 18)
