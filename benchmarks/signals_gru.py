"""An attention-GRU for values over time: what a model of signals that runs its streams side by side is to be compared with.

It reads what Hi-MoE reads, from the same processor, in the same batches, with the same augmentation (missing streams among it), and
is trained as long with the same loss: all streams joined step by step with a mark of what is there, two directions, attention
over time beside the state of the step. Streams must share one rate. As many of them are averaged as the recipe's model has members,
each trained by itself; with `members=1`, one alone.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from meco_hub.evaluation.evaluate import EvaluationSettings, evaluate_model
from meco_hub.outputs import EmotionRecognitionOutput
from meco_hub.training.construction import build
from meco_hub.training.data import load_training_data
from meco_hub.training.loaders import build_loaders
from meco_hub.training.losses import RegressionLoss
from meco_hub.training.recipes import Recipe

WIDTH, DROPOUT, LEARNING_RATE, WEIGHT_DECAY = 32, 0.3, 3e-3, 0.05


class AttentionGRUConfig(PreTrainedConfig):
    """Streams and targets; what it is not told here is fixed."""

    model_type = "attention_gru_baseline"

    def __init__(
        self, channels: dict[str, int] | None = None, num_steps: int = 1, num_members: int = 1, **kwargs: Any
    ) -> None:
        self.channels, self.num_steps, self.num_members = channels or {}, num_steps, num_members
        super().__init__(**kwargs)


class _Network(nn.Module):
    def __init__(self, inputs: int, num_steps: int, outputs: int) -> None:
        super().__init__()
        self.num_steps = num_steps
        self.project = nn.Sequential(nn.Linear(inputs, WIDTH), nn.GELU(), nn.Dropout(DROPOUT))
        self.gru = nn.GRU(WIDTH, WIDTH, batch_first=True, bidirectional=True)
        self.score = nn.Linear(2 * WIDTH, 1)
        self.head = nn.Sequential(nn.Dropout(DROPOUT), nn.Linear(4 * WIDTH, outputs))

    def forward(self, joined: torch.Tensor) -> torch.Tensor:
        hidden, _ = self.gru(self.project(joined))
        pooled = (self.score(hidden).softmax(dim=1) * hidden).sum(dim=1, keepdim=True)
        steps = nn.functional.adaptive_avg_pool1d(hidden.transpose(1, 2), self.num_steps).transpose(1, 2)
        return self.head(torch.cat([steps, pooled.expand_as(steps)], dim=-1))


class AttentionGRU(PreTrainedModel):
    """(B, T, C) of every stream → (B, S, D) scaled values, the mean of the members'."""

    config_class = AttentionGRUConfig
    main_input_name = "modality_presence"

    def __init__(self, config: AttentionGRUConfig) -> None:
        super().__init__(config)
        self.names = sorted(config.channels)
        inputs = sum(config.channels.values()) + len(self.names)
        self.members = nn.ModuleList(
            _Network(inputs, config.num_steps, len(config.id2label or {})) for _ in range(config.num_members)
        )
        self.post_init()

    def forward(
        self,
        inputs: dict[str, torch.Tensor],
        step_mask: dict[str, torch.Tensor],
        modality_presence: torch.Tensor | None = None,
    ) -> EmotionRecognitionOutput:
        return EmotionRecognitionOutput(logits=torch.stack(self.answers(inputs, step_mask)).mean(dim=0))

    def answers(
        self, inputs: dict[str, torch.Tensor], step_mask: dict[str, torch.Tensor], dealt: bool = False
    ) -> list[torch.Tensor]:
        """The members' own logits; `dealt`: of every so many-th row each, as Hi-MoE's members are trained."""
        columns = [inputs[name] for name in self.names]
        there = [step_mask[name].unsqueeze(-1).to(columns[0].dtype) for name in self.names]
        joined = torch.cat([*columns, *there], dim=-1)
        count = len(self.members)
        return [member(joined[place::count] if dealt else joined) for place, member in enumerate(self.members)]


@dataclass
class _Schedule:
    total: int

    def __call__(self, step: int) -> float:
        rising = min(1.0, (step + 1) / max(1, self.total // 10))
        return rising * 0.5 * (1 + math.cos(math.pi * min(1.0, step / self.total)))


def train_and_try(
    recipe: Recipe, data_dir: Path, output_dir: Path, fold: int, conditions: tuple[str, ...], members: int | None = None
) -> dict[str, Any]:
    """Train by a recipe's data, processor, augmentation and length; evaluate on a fold, and give the report.

    Args:
        members: how many are averaged; None: as many as the recipe's model has.
    """
    data = load_training_data(recipe, data_dir)
    set_seed(recipe.seed)
    reference, processor = build(recipe, data.task)
    wanted: Any = reference.config
    config = AttentionGRUConfig(
        {name: wanted.modalities[name]["channels"] for name in wanted.modality_names},
        wanted.num_steps,
        wanted.num_members if members is None else members,
        id2label=dict(enumerate(data.task.names)),
        problem_type="regression",
    )
    config.target_names, config.target_center = list(data.task.names), list(data.task.center)
    config.target_halfrange = list(data.task.halfrange)
    model = AttentionGRU(config)
    accelerator = Accelerator()
    loaders = build_loaders(recipe, data, model, processor, accelerator, progress=False)
    train = accelerator.prepare(loaders.train)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    total = recipe.num_train_epochs * len(train)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, _Schedule(total))
    criterion = RegressionLoss(recipe.mse_weight, recipe.ccc_weight)
    model.train()
    for epoch in range(recipe.num_train_epochs):
        loaders.sampler.set_epoch(epoch)
        train.set_epoch(epoch)
        for batch in train:
            answers = model.answers(batch["inputs"], batch["step_mask"], dealt=True)
            parts = [
                criterion(answer, batch["labels"][place :: len(answers)], batch["label_mask"][place :: len(answers)])
                for place, answer in enumerate(answers)
            ]
            loss = torch.stack(parts).sum()  # nothing is shared, so each is trained by itself
            optimizer.zero_grad()
            loss.backward()
            for member in model.members:
                nn.utils.clip_grad_norm_(member.parameters(), 1.0)
            optimizer.step()
            schedule.step()
    model.eval()
    settings = EvaluationSettings(folds=[fold], batch_size=128, conditions=conditions, progress=False)
    return evaluate_model(
        model, processor, recipe.data.corpus, data_dir, output_dir, settings, checkpoint="attention-GRU"
    )
