"""transformers' ImageProcessingTestMixin, FeatureExtractionSavingTestMixin and ProcessorTesterMixin, as far as the same holds for
all our processors.
"""

from importlib import import_module
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import pytest
import torch
from replacing import replaces
from transformers.processing_utils import ImagesKwargs
from transformers_suite import module

from meco_hub.errors import ConfigurationError

images = module("test_image_processing_common")
features = module("test_feature_extraction_common")
processors = module("test_processing_common")


class Pictures(images.ImageProcessingTester):
    """Pictures of the suite's making, of various sizes, and the fields that the test's processor has."""

    batch_size, num_channels, min_resolution, max_resolution = 3, 3, 30, 80

    def __init__(
        self, parent: "CommonImageProcessorTests"
    ) -> None:  # the suite's own looks the classes up by folder name
        self.parent = parent
        self.image_processing_classes = parent.image_processing_classes

    def prepare_image_processor_dict(self) -> dict[str, Any]:
        return dict(self.parent.fields)

    def expected_output_image_shape(self, pictures: list[Any]) -> tuple[int, ...]:
        return self.parent.picture_shape


class CommonImageProcessorTests(images.ImageProcessingTestMixin):
    """The suite's tests of an image processor. A subclass names its class, some fields, and what comes out."""

    processor_class: ClassVar[type]
    fields: ClassVar[dict[str, Any]]
    picture_shape: ClassVar[tuple[int, ...]]
    suite = "image processor"

    image_processor_tester_class = Pictures
    test_cast_dtype = True

    def setUp(self) -> None:
        self.image_processor_tester = Pictures(self)

    @property
    def image_processing_classes(self) -> dict[str, type]:
        """One class serves both."""
        return {"pil": self.processor_class, "torchvision": self.processor_class}

    @property
    def image_processor_dict(self) -> dict[str, Any]:
        return self.image_processor_tester.prepare_image_processor_dict()

    @replaces("what comes out is RGB; four channels, and do_convert_rgb=False, are refused")
    def test_call_numpy_4_channels(self) -> None:
        processor = self.processor_class(**self.fields)
        self.image_processor_tester.num_channels = 4
        pictures = self.image_processor_tester.prepare_image_inputs(equal_resolution=False, numpify=True)
        for refused in (
            {"do_convert_rgb": False},
            {"input_data_format": "channels_last"},
            {"image_mean": [0.0] * 4, "image_std": [1.0] * 4},
        ):
            with pytest.raises(ConfigurationError):
                processor(pictures, return_tensors="pt", **refused)

    @replaces("the class with the fields' types is the core's, in the core's module, not in the plugin's")
    def test_valid_kwargs_set(self) -> None:
        core = next(base for base in self.processor_class.__mro__ if base.__module__.startswith("meco_hub."))
        declared = getattr(import_module(core.__module__), f"{core.__name__}Kwargs")
        assert self.processor_class(**self.fields).valid_kwargs is declared
        assert set(ImagesKwargs.__annotations__) <= set(declared.__annotations__)


class CommonFeatureExtractorTests(features.FeatureExtractionSavingTestMixin):
    """The suite's tests of saving a feature extractor. A subclass names its class and fields that differ from the default."""

    feature_extraction_class: ClassVar[type]
    feat_extract_dict: ClassVar[dict[str, Any]]
    suite = "feature extractor"


class CommonProcessorTests(processors.ProcessorTesterMixin):
    """The suite's tests of a processor that holds others. A subclass names its class and gives a recording."""

    suite = "processor"

    def recording(self) -> Any:
        raise NotImplementedError

    def get_subprocessor_name(self, modality: str, attributes: list[str]) -> str:
        """A feature extractor of ours reads no sound: the suite's tests of sound then find that there is none."""
        return "no sound" if modality == "audio" else super().get_subprocessor_name(modality, attributes)

    @staticmethod
    def does_processor_return_mm_offsets(*_: Any) -> bool:
        """No text with places for pictures; the suite's own would look at the first base class, which knows no text."""
        return False

    @replaces("one recording comes in, not pictures and text each by itself")
    def test_model_input_names(self) -> None:
        processor = self.get_processor()
        assert set(processor(self.recording(), return_tensors="pt")) == set(processor.model_input_names)

    @replaces("one recording comes in, not pictures and text each by itself")
    def test_processor_with_multiple_inputs(self) -> None:
        processor = self.get_processor()
        batch = processor([self.recording(), self.recording()], return_tensors="pt")
        assert all(len(batch[name]) == 2 for name in processor.model_input_names)
        with pytest.raises(TypeError):
            processor()

    @replaces("one recording comes in, and there are no options for one modality: they are refused")
    def test_flat_kwarg_applied_when_modality_dict_lacks_it(self) -> None:
        processor = self.get_processor()
        assert all(torch.is_tensor(values) for values in processor(self.recording(), return_tensors="pt").values())
        with pytest.raises(ConfigurationError):
            processor(self.recording(), text_kwargs={}, return_tensors="pt")

    @replaces(
        "unknown fields are refused when a saved processor is read, so the one handed in is told apart by identity"
    )
    def test_args_overlap_kwargs(self) -> None:
        processor = self.get_processor()
        with TemporaryDirectory() as folder:
            processor.save_pretrained(folder)
            again = self.processor_class.from_pretrained(folder, image_processor=processor.image_processor)
        assert again.image_processor is processor.image_processor
