"""transformers' common tests on Hi-MoE: base model, head, config, processors."""

import copy
import inspect
import unittest
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import pytest
import torch
from model_case import Batch, CommonConfigTests, CommonModelTests, Sizes, modeling, take_labels
from processor_case import CommonFeatureExtractorTests
from replacing import replaces
from transformers_suite import RELEASE

from meco_himoe.configuration_himoe import HiMoEConfig
from meco_himoe.modeling_himoe import HiMoEForEmotionRecognition, HiMoEModel
from meco_himoe.processing_himoe import HiMoESignalWindower
from meco_hub.errors import CheckpointError
from meco_hub.nn.checkpointed_layer import CheckpointedLayer

TINY: dict[str, Any] = {
    "modalities": {
        "eeg": {"channels": 3, "sampling_rate": 32, "patch_s": 0.25, "stem": "conv"},
        "ecg": {"channels": 1, "sampling_rate": 20, "patch_s": 0.25, "stem": "conv"},
        "power": {"channels": 4, "sampling_rate": 4, "patch_s": 0.25, "stem": "linear"},
    },
    "window_s": 2.0,
    "grid_step_s": 0.5,
    "max_lag_s": 1.0,
    "d_model": 16,
    "num_heads": 2,
    "stem_channels": 8,
    "encoder_layers": 1,
    "lag_dim": 8,
    "contrastive_dim": 8,
    "dropout": 0.0,
    "initializer_range": 0.2,
    "problem_type": "single_label_classification",
}

COUNTED = (
    "before 5.23 the suite counts calls of the layer's forward, around which checkpointing is: "
    "gradients are compared, and calls counted further in"
)

take_labels(HiMoEModel, HiMoEForEmotionRecognition)


class Tiny(Sizes):
    def get_config(self) -> HiMoEConfig:
        return HiMoEConfig(**TINY)

    def get_inputs(self, config: HiMoEConfig, draw: torch.Generator) -> Batch:
        shapes = {
            name: (self.batch_size, config.window_samples(name), entry["channels"])
            for name, entry in (config.modalities or {}).items()
        }
        return {
            "inputs": {name: torch.randn(shape, generator=draw) for name, shape in shapes.items()},
            "modality_presence": torch.ones(self.batch_size, config.num_modalities, dtype=torch.bool),
        }


class TestModel(CommonModelTests, unittest.TestCase):
    subject = "Hi-MoE"
    all_model_classes = (HiMoEModel, HiMoEForEmotionRecognition)
    sizes = Tiny
    hidden_shapes = [(3, 4, 16)] * 4

    def test_gradient_checkpointing_enable_disable(self) -> None:
        with _protocol_without_base_class():
            super().test_gradient_checkpointing_enable_disable()

    def check_training_gradient_checkpointing(self, *args: Any, **kwargs: Any) -> None:
        with _protocol_without_base_class():
            super().check_training_gradient_checkpointing(*args, **kwargs)

    @replaces(
        "inputs are one tensor per modality, in a dict, whose rows the suite does not part: parted here, likewise compared"
    )
    def test_batching_equivalence(self) -> None:
        config, batch = self.model_tester.prepare_config_and_inputs_for_common()
        for model_class in self.all_model_classes:
            torch.manual_seed(0)
            model = model_class(copy.deepcopy(config)).eval()
            options = {"output_hidden_states": True, "output_router_logits": True}
            with torch.no_grad():
                whole = model(**batch, **options)
                for row in range(self.model_tester.batch_size):
                    streams = {name: values[row : row + 1] for name, values in batch["inputs"].items()}
                    presence = batch["modality_presence"][row : row + 1]
                    alone = model(inputs=streams, modality_presence=presence, **options)
                    assert alone.keys() == whole.keys()
                    for key in ("hidden_states", "router_logits"):
                        for one, several in zip(alone[key], whole[key], strict=True):
                            torch.testing.assert_close(one, several[row : row + 1], atol=1e-5, rtol=1e-5)
                    answer = "logits" if "logits" in whole else "pooler_output"
                    torch.testing.assert_close(alone[answer], whole[answer][row : row + 1], atol=1e-5, rtol=1e-5)

    @replaces(
        "`inputs` is a dict, and Trainer counts the elements of the main input: the tensor beside it is the main one"
    )
    def test_model_main_input_name(self) -> None:
        _, batch = self.model_tester.prepare_config_and_inputs_for_common()
        for model_class in self.all_model_classes:
            assert model_class.main_input_name in inspect.signature(model_class.forward).parameters
            assert isinstance(batch[model_class.main_input_name], torch.Tensor)

    @replaces("the suite subtracts outputs for its message, and some of these are masks, which torch does not subtract")
    def test_model_outputs_equivalence(self) -> None:
        config, batch = self.model_tester.prepare_config_and_inputs_for_common()
        labels = torch.zeros(self.model_tester.batch_size, dtype=torch.long)
        for model_class in self.all_model_classes:
            model = model_class(copy.deepcopy(config)).eval()
            more = [{}, {"labels": labels}] if model_class is HiMoEForEmotionRecognition else [{}]
            for given in more:
                for options in ({}, {"output_hidden_states": True, "output_router_logits": True}):
                    with torch.no_grad():
                        named = model(**batch, **given, **options, return_dict=True).to_tuple()
                        bare = model(**batch, **given, **options, return_dict=False)
                    torch.testing.assert_close(bare, named)

    @replaces(
        "what is converted keeps its name and changes its shape, and one of the three stands in the head: the suite's test runs so"
    )
    def test_reverse_loading_mapping(self) -> None:
        super().test_reverse_loading_mapping(check_keys_were_modified=False, skip_base_model=True)

    @replaces("classes or values, never several classes at once: the suite's two other kinds of problem are tried")
    def test_problem_types(self) -> None:
        _, batch = self.model_tester.prepare_config_and_inputs_for_common()
        for fields, labels in (
            ({"num_labels": 2}, torch.tensor([0, 1, 0])),
            ({"num_labels": 1, "problem_type": "regression"}, torch.tensor([0.1, -0.2, 0.3])),
        ):
            model = HiMoEForEmotionRecognition(HiMoEConfig(**{**TINY, **fields})).train()
            loss = model(**batch, labels=labels).loss
            loss.backward()
            assert bool(loss.isfinite())

    if RELEASE < (5, 23):

        @replaces(
            "inputs are one tensor per modality, in a dict, whose rows the suite does not part: all rows are given"
        )
        def test_model_forward_default_config_values(self) -> None:
            config, batch = self.model_tester.prepare_config_and_inputs_for_common()
            absent = ("pad_token_id", "eos_token_id", "bos_token_id", "sep_token_id", "tie_word_embeddings")
            fields = {name: value for name, value in config.to_diff_dict().items() if name not in absent}
            for model_class in self.all_model_classes:
                with torch.no_grad():
                    assert model_class(HiMoEConfig(**fields)).eval()(**batch)[0].isfinite().all()

        @replaces(COUNTED)
        def test_training_gradient_checkpointing(self) -> None:
            self._compare_gradients(None)

        @replaces(COUNTED)
        def test_training_gradient_checkpointing_use_reentrant_false(self) -> None:
            self._compare_gradients({"use_reentrant": False})

        @replaces(COUNTED)
        def test_training_gradient_checkpointing_use_reentrant_true(self) -> None:
            self._compare_gradients({"use_reentrant": True})

    def _compare_gradients(self, options: dict[str, Any] | None) -> None:
        config, batch = self.model_tester.prepare_config_and_inputs_for_common()
        torch.manual_seed(0)
        model = HiMoEForEmotionRecognition(config).train()
        labels = torch.zeros(self.model_tester.batch_size, dtype=torch.long)
        gradients: list[dict[str, torch.Tensor]] = []
        calls: list[int] = []
        model.himoe.fusion_layers[0].attention_in.register_forward_pre_hook(lambda *_: calls.append(len(gradients)))
        for again in (False, True):
            if again:
                model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=options)
            model.zero_grad()
            model(**batch, labels=labels).loss.backward()
            gradients.append({name: one.grad for name, one in model.named_parameters() if one.grad is not None})
        assert calls == [0, 1, 1]  # computed again in the backward pass
        torch.testing.assert_close(gradients[1], gradients[0])

    @replaces(
        "prototypes stand among the classes and each modality has a head, so more than one Linear layer counts classes"
    )
    def test_can_load_ignoring_mismatched_shapes(self) -> None:
        old = HiMoEForEmotionRecognition(self.model_tester.get_config())
        with TemporaryDirectory() as folder:
            old.save_pretrained(folder)
            with pytest.raises(CheckpointError):
                HiMoEForEmotionRecognition.from_pretrained(folder, num_labels=42)
            new = HiMoEForEmotionRecognition.from_pretrained(folder, num_labels=42, ignore_mismatched_sizes=True)
        changed = {name for name, value in new.state_dict().items() if value.shape != old.state_dict()[name].shape}
        assert changed == {
            "anchors.points",
            "head.3.bias",
            "head.3.weight",
            "unimodal_heads.bias",
            "unimodal_heads.weight",
        }
        for name, value in new.state_dict().items():
            torch.testing.assert_close(value, value.nan_to_num() if name in changed else old.state_dict()[name])


def _protocol_without_base_class() -> Any:
    """The suite asks for layers of transformers' base class; ours follow its protocol without importing all Auto classes."""
    return mock.patch.object(modeling, "GradientCheckpointingLayer", CheckpointedLayer)


class TestConfig(CommonConfigTests, unittest.TestCase):
    subject = "Hi-MoE"
    config_class = HiMoEConfig
    fields = TINY
    common_properties = ["hidden_size", "num_attention_heads"]  # noqa: RUF012


class TestSignalWindower(CommonFeatureExtractorTests, unittest.TestCase):
    subject = "Hi-MoE"
    feature_extraction_class = HiMoESignalWindower
    feat_extract_dict = {  # noqa: RUF012
        "modalities": {"eeg": {"channels": 3, "sampling_rate": 32.0}},
        "window_s": 2.0,
        "normalization": "recording",
    }
