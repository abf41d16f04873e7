"""The planted architecture: means and rhythms of three streams, a layer, four experts, three classes."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import initialization as init

from meco_hub.errors import InputError
from meco_hub.modeling import EmotionPreTrainedModel
from meco_hub.nn.checkpointed_layer import CheckpointedLayer
from meco_hub.outputs import EmotionFeaturesOutput, EmotionRecognitionOutput

from .configuration_planted import PlantedConfig


@dataclass
class PlantedOutput(EmotionRecognitionOutput):
    """Beside the core's fields: the experts' shares, on request."""

    expert_gates: torch.Tensor | None = None


class Rhythms(nn.Module):
    """Frequencies that are computed, not learnt, and not saved."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("frequencies", torch.empty(2), persistent=False)

    @staticmethod
    def values() -> torch.Tensor:
        return torch.tensor([2.0, 5.0])


class PlantedLayer(CheckpointedLayer):
    """A residual layer with a gain of its own."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)
        self.gain = nn.Parameter(torch.ones(width))

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden + self.gain * torch.tanh(self.linear(hidden))


class PlantedPreTrainedModel(EmotionPreTrainedModel):
    """What base model and head share."""

    config: PlantedConfig
    base_model_prefix = "planted"
    main_input_name = "modality_presence"
    supports_gradient_checkpointing = True

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            init.normal_(module.weight, std=module.in_features**-0.5)
            init.zeros_(module.bias)
        elif isinstance(module, PlantedLayer):
            init.ones_(module.gain)
        elif isinstance(module, Rhythms):
            init.copy_(module.frequencies, module.values())


class PlantedModel(PlantedPreTrainedModel):
    """Streams → one vector."""

    def __init__(self, config: PlantedConfig) -> None:
        super().__init__(config)
        self.rhythms = Rhythms()
        self.embeddings = nn.ModuleDict(
            {name: nn.Linear(3 * config.channels[name], config.width) for name in config.modality_names}
        )
        self.layer = PlantedLayer(config.width)
        self.router = nn.Linear(config.width, config.num_experts)
        self.experts = nn.ModuleList(nn.Linear(config.width, config.width) for _ in range(config.num_experts))
        self.post_init()

    def check(self, name: str, values: torch.Tensor) -> None:
        channels = self.config.channels[name]
        if values.ndim != 3 or values.shape[-1] != channels:
            raise InputError(
                f"inputs[{name!r}] has the shape {tuple(values.shape)}; expected (batch, samples, {channels}). Let the "
                "checkpoint's processor prepare the recording."
            )

    def valid(self, name: str, values: torch.Tensor, mask: Any, presence: torch.Tensor | None) -> torch.Tensor:
        """(B, T) bool: samples that count."""
        good = values.isfinite().all(dim=-1)
        if mask is not None:
            good = good & mask[name]
        if presence is not None:
            good = good & presence[:, self.config.modality_names.index(name), None]
        return good

    def look(self, name: str, values: torch.Tensor, good: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
        """(B, T, C) → (B, d): mean and two rhythms, zero where there is nothing."""
        seconds = times.float().masked_fill(~good, 0.0).unsqueeze(-1)
        clean = values.float().masked_fill(~good.unsqueeze(-1), 0.0)
        count = good.sum(dim=1, keepdim=True).clamp(min=1)
        waves = [torch.sin(frequency * seconds) for frequency in self.rhythms.frequencies.float()]
        seen = torch.cat([(clean * wave).sum(dim=1) / count for wave in (torch.ones_like(seconds), *waves)], dim=-1)
        return self.embeddings[name](seen.to(values.dtype)) * good.any(dim=1, keepdim=True)

    def route(self, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, d) → router logits and shares (B, experts)."""
        logits = self.router(hidden)
        return logits, logits.float().softmax(dim=-1).to(hidden.dtype)

    def combine(self, hidden: torch.Tensor, gates: torch.Tensor) -> torch.Tensor:
        answers = torch.stack([expert(hidden) for expert in self.experts], dim=1)  # (B, experts, d)
        return hidden + (gates.unsqueeze(-1) * answers).sum(dim=1)

    def pool(self, tokens: list[torch.Tensor], there: list[torch.Tensor]) -> torch.Tensor:
        count = torch.stack(there).sum(dim=0).clamp(min=1).unsqueeze(-1)
        return torch.stack(tokens).sum(dim=0) / count

    def forward(
        self,
        inputs: dict[str, torch.Tensor],
        modality_presence: torch.Tensor | None = None,
        step_mask: dict[str, torch.Tensor] | None = None,
        timestamps: dict[str, torch.Tensor] | None = None,
    ) -> EmotionFeaturesOutput:
        tokens, there = [], []
        for name in self.config.modality_names:
            if name not in inputs:
                continue
            values = inputs[name]
            self.check(name, values)
            good = self.valid(name, values, step_mask, modality_presence)
            times = torch.zeros(values.shape[:2]) if timestamps is None else timestamps[name]
            tokens.append(self.look(name, values, good, times))
            there.append(good.any(dim=1))
        hidden = self.layer(self.pool(tokens, there))
        router_logits, gates = self.route(hidden)
        return EmotionFeaturesOutput(
            pooler_output=self.combine(hidden, gates), router_logits=(router_logits,), hidden_states=(gates,)
        )


class PlantedForEmotionRecognition(PlantedPreTrainedModel):
    """The head."""

    def __init__(self, config: PlantedConfig) -> None:
        super().__init__(config)
        self.planted = PlantedModel(config)
        self.classifier = nn.Linear(config.width, config.num_labels)
        self.post_init()

    def finish(self, logits: torch.Tensor) -> torch.Tensor:
        """A place for tests to spoil the answer."""
        return logits

    def compare(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(logits, labels)

    def report(self, router_logits: torch.Tensor, gates: torch.Tensor) -> dict[str, Any]:
        return {"router_logits": (router_logits,), "expert_gates": gates}

    def forward(
        self,
        inputs: dict[str, torch.Tensor],
        modality_presence: torch.Tensor | None = None,
        step_mask: dict[str, torch.Tensor] | None = None,
        timestamps: dict[str, torch.Tensor] | None = None,
        labels: torch.Tensor | None = None,
        output_router_logits: bool | None = None,
    ) -> PlantedOutput:
        features = self.planted(inputs, modality_presence, step_mask, timestamps)
        logits = self.finish(self.classifier(features.pooler_output))
        wanted = self.config.output_router_logits if output_router_logits is None else output_router_logits
        return PlantedOutput(
            loss=None if labels is None else self.compare(logits, labels),
            logits=logits,
            **(self.report(features.router_logits[0], features.hidden_states[0]) if wanted else {}),
        )
