"""What every model of the zoo returns."""

from dataclasses import dataclass

import torch
from transformers.utils.generic import ModelOutput


@dataclass
class EmotionRecognitionOutput(ModelOutput):
    """Output of every `…ForEmotionRecognition`.

    Attributes:
        loss: scalar; there when `labels` were given.
        logits: (batch, num_labels) class scores before softmax, or values when `problem_type` is "regression".
        router_logits: one tensor (batch, num_experts) per mixture of experts, before softmax; there on request
            (`output_router_logits=True`).
        aux_loss: scalar, the routers' balance loss, already weighted and included in `loss`; there when its weight is not zero.
        hidden_states: the tensors between the blocks, in the order of the data; there on request.
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    router_logits: tuple[torch.Tensor, ...] | None = None
    aux_loss: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None


@dataclass
class EmotionFeaturesOutput(ModelOutput):
    """Output of every base model.

    Attributes:
        pooler_output: (batch, features) what the head reads.
        router_logits: as in `EmotionRecognitionOutput`.
        hidden_states: as in `EmotionRecognitionOutput`.
    """

    pooler_output: torch.Tensor | None = None
    router_logits: tuple[torch.Tensor, ...] | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
