"""transformers' common tests on MCO-E Net: base model, head, config, processors."""

import unittest
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from model_case import Batch, CommonConfigTests, CommonModelTests, Sizes, take_labels
from processor_case import CommonFeatureExtractorTests, CommonImageProcessorTests, CommonProcessorTests
from replacing import replaces
from transformers_suite import RELEASE

from meco_hub.processing.event_voxelizer import EventVoxelizer
from meco_hub.recordings.eye_clips import EyeClip
from meco_mcoenet.configuration_mcoenet import MCOENetConfig
from meco_mcoenet.modeling_mcoenet import MCOENetForEmotionRecognition, MCOENetModel
from meco_mcoenet.processing_mcoenet import MCOENetImageProcessor, MCOENetProcessor

TINY: dict[str, Any] = {
    "image_size": 16,
    "num_frames": 2,
    "backbone_depths": [1, 1],
    "backbone_widths": [4, 8],
    "backbone_num_features": 20,
    "fusion_dim": 16,
    "num_experts": 3,
    "router_hidden": 8,
    "focal_hidden": 6,
    "deep_layers": 2,
    "deep_mult": 2,
}

take_labels(MCOENetModel, MCOENetForEmotionRecognition)


class Tiny(Sizes):
    def get_config(self) -> MCOENetConfig:
        return MCOENetConfig(**TINY)

    def get_inputs(self, config: MCOENetConfig, draw: torch.Generator) -> Batch:
        shape = (self.batch_size, config.num_frames, config.num_channels, config.image_size, config.image_size)
        return {name: torch.randn(shape, generator=draw) for name in ("pixel_values", "event_values")}


class TestModel(CommonModelTests, unittest.TestCase):
    subject = "MCO-E Net"
    all_model_classes = (MCOENetModel, MCOENetForEmotionRecognition)
    sizes = Tiny
    hidden_shapes = [*[(3, 10, 4)] * 5, (3, 16)]  # noqa: RUF012

    @replaces("the experts stand in the head: the suite's test runs on the head alone")
    def test_output_router_logits_from_config(self) -> None:
        self.all_model_classes = (MCOENetForEmotionRecognition,)
        super().test_output_router_logits_from_config()

    if RELEASE < (5, 23):

        @replaces(
            "before 5.23 the suite expects half precision of BatchNorm's whole numbers too: they are left out here"
        )
        def test_keep_in_fp32_modules(self) -> None:
            for model_class in self.all_model_classes:
                model = model_class(self.model_tester.get_config())
                with TemporaryDirectory() as folder:
                    model.save_pretrained(folder)
                    for dtype in (torch.float16, torch.bfloat16):
                        loaded = model_class.from_pretrained(folder, dtype=dtype)
                        kept = tuple(loaded._keep_in_fp32_modules_strict)
                        for name, value in loaded.state_dict().items():
                            if value.is_floating_point():
                                assert value.dtype == (torch.float32 if name.endswith(kept) else dtype), name


class TestConfig(CommonConfigTests, unittest.TestCase):
    subject = "MCO-E Net"
    config_class = MCOENetConfig
    fields = TINY


class TestImageProcessor(CommonImageProcessorTests, unittest.TestCase):
    subject = "MCO-E Net"
    processor_class = MCOENetImageProcessor
    fields = {"size": {"shortest_edge": 20}, "do_grayscale": False, "image_mean": [0.4, 0.5, 0.6]}  # noqa: RUF012
    picture_shape = (3, 20, 20)


class TestEventVoxelizer(CommonFeatureExtractorTests, unittest.TestCase):
    subject = "MCO-E Net"
    feature_extraction_class = EventVoxelizer
    feat_extract_dict = {"representation": "voxel_grid", "bins": 3}  # noqa: RUF012


class TestProcessor(CommonProcessorTests, unittest.TestCase):
    subject = "MCO-E Net"
    processor_class = MCOENetProcessor

    @classmethod
    def _setup_feature_extractor(cls) -> EventVoxelizer:
        return EventVoxelizer(representation="event_frame")

    @classmethod
    def _setup_image_processor(cls) -> MCOENetImageProcessor:
        return MCOENetImageProcessor(size={"shortest_edge": 20})

    def recording(self) -> EyeClip:
        return EyeClip(frames=np.zeros((16, 24, 24), np.uint8), events=np.zeros((16, 24, 24), np.uint8))

    @replaces(
        "num_frames is a field of this processor and saved with it; the suite takes the name for an option of videos"
    )
    def test_init_arguments_not_in_processor_kwargs(self) -> None:
        own = self._get_explicit_arguments(self.processor_class.__init__)
        assert own & self._get_valid_processor_kwargs_names() == {"num_frames"}
