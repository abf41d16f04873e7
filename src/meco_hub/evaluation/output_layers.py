"""The layers whose rows are a head's classes.

Most heads have one: the `nn.Linear` named `classifier`. A head whose answer is a mean of several layers' answers, as of experts,
says so by a method `output_layers() -> list[nn.Linear | nn.Conv1d]`; the weights of that mean must sum to one, so that what is
added to all their biases is added to the answer.

This file knows the convention; it knows no architecture, and not what is done with the rows.
"""

from typing import Any

from torch import nn
from transformers import PreTrainedModel

OutputLayer = nn.Linear | nn.Conv1d


def output_layers(model: PreTrainedModel) -> list[OutputLayer]:
    """Layers that give one value per class, or target, each; empty where the head does not say which they are."""
    head: Any = model  # torch declares every unknown attribute a tensor or a module
    layers: list[Any] = head.output_layers() if hasattr(head, "output_layers") else [getattr(head, "classifier", None)]
    return layers if all(isinstance(layer, OutputLayer) for layer in layers) else []
