"""transformers' ModelTesterMixin and ConfigTester, as far as the same holds for all our models."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar
from unittest import mock

import pytest
import torch
from replacing import replaces
from transformers import PreTrainedConfig
from transformers.models.auto import modeling_auto
from transformers_suite import module

from meco_hub.errors import CheckpointError
from meco_hub.modeling import EmotionPreTrainedModel

modeling = module("test_modeling_common")
configuration = module("test_configuration_common")

Batch = dict[str, Any]


class Sizes:
    """What the suite asks of a model's test: sizes, a config, and inputs to it."""

    batch_size, seq_length, is_training = 3, 4, True
    hidden_size, num_hidden_layers, num_attention_heads = 16, 2, 2

    def get_config(self) -> PreTrainedConfig:
        raise NotImplementedError

    def get_inputs(self, config: Any, draw: torch.Generator) -> Batch:
        raise NotImplementedError

    def prepare_config_and_inputs_for_common(self) -> tuple[PreTrainedConfig, Batch]:
        config = self.get_config()
        return config, self.get_inputs(config, torch.Generator().manual_seed(0))


def take_labels(base: type, head: type) -> None:
    """Let the suite know which class is a base model and which takes class labels: it goes by names, and knows its own only."""
    kind = base.config_class.model_type  # pyright: ignore[reportAttributeAccessIssue]
    modeling_auto.MODEL_MAPPING_NAMES[kind] = base.__name__
    modeling_auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES[kind] = head.__name__


@contextmanager
def incomplete_checkpoints_allowed() -> Iterator[None]:
    """The suite loads from checkpoints that lack weights; ours refuse them, which their own tests check."""
    with mock.patch.object(EmotionPreTrainedModel, "_refuse_misfits"):
        yield


class CommonModelTests(modeling.ModelTesterMixin):
    """The suite's tests of a base model and its head. A subclass names both, and the vectors that it gives as hidden states."""

    sizes: ClassVar[type[Sizes]] = Sizes
    hidden_shapes: ClassVar[list[tuple[int, ...]]] = []
    suite = "model"

    test_resize_embeddings = False  # nothing here reads words
    has_attentions = False  # no model gives attention maps
    test_all_params_have_gradient = False  # experts that nobody chose have none

    def setUp(self) -> None:
        self.model_tester = self.sizes()

    @replaces("no embeddings of words: there are none to get, and setting some is refused")
    def test_model_get_set_embeddings(self) -> None:
        config, _ = self.model_tester.prepare_config_and_inputs_for_common()
        for model_class in self.all_model_classes:
            model = model_class(copy.deepcopy(config))
            assert model.get_input_embeddings() is None
            with pytest.raises(NotImplementedError):
                model.set_input_embeddings(torch.nn.Embedding(2, 2))

    @replaces(
        "hidden states are the tensors between unlike blocks, not one per layer of one width: their shapes are compared"
    )
    def test_hidden_states_output(self) -> None:
        config, inputs = self.model_tester.prepare_config_and_inputs_for_common()
        for model_class in self.all_model_classes:
            for by_config in (False, True):
                own = copy.deepcopy(config)
                own.output_hidden_states = by_config
                model = model_class(own).eval()
                with torch.no_grad():
                    found = model(**inputs, **({} if by_config else {"output_hidden_states": True})).hidden_states
                    silent = model(**inputs, output_hidden_states=False).hidden_states
                assert [tuple(one.shape) for one in found] == self.hidden_shapes
                assert silent is None

    @replaces("a checkpoint that lacks weights is refused; the suite's test runs with that rule off")
    def test_can_init_all_missing_weights(self) -> None:
        with incomplete_checkpoints_allowed():
            super().test_can_init_all_missing_weights()

    @replaces("a checkpoint that lacks weights is refused; the suite's test runs with that rule off")
    def test_model_weights_reload_no_missing_tied_weights(self) -> None:
        with incomplete_checkpoints_allowed():
            super().test_model_weights_reload_no_missing_tied_weights()

    @replaces(
        "weights of another shape raise our CheckpointError: the suite's test runs with that in place of RuntimeError"
    )
    def test_can_load_ignoring_mismatched_shapes(self) -> None:
        with mock.patch.object(modeling, "RuntimeError", CheckpointError, create=True):
            super().test_can_load_ignoring_mismatched_shapes()


class CommonConfigTests:
    """The suite's tests of a config. A subclass names its class and fields that differ from the default."""

    config_class: ClassVar[type[PreTrainedConfig]]
    fields: ClassVar[dict[str, Any]]
    common_properties: ClassVar[list[str]] = ["hidden_size"]
    suite = "config"

    def test_config(self) -> None:
        tester = configuration.ConfigTester(
            self,
            config_class=self.config_class,
            has_text_modality=False,
            common_properties=list(self.common_properties),
            **self.fields,
        )
        tester.run_common_tests()
