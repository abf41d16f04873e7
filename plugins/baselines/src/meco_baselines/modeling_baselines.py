"""The two baselines: a GRU with attention over the steps of a window, and EEGNet.

inputs {name: (B, samples, channels)} → zeros where nothing was measured
  GRU      streams side by side, with a mark of what was measured, a row a step (B, S, n) → GRU in two directions (B, S, 2d)
           → attention's mean over the steps (B, 2d), beside each step where every step is answered → logits
  EEGNet   (B, 1, C, T) → F1 filters in time → D spatial filters for each (B, F1·D, T / 4) → separable filters (B, F2, T / 32)
           → logits (B, K)
"""

from collections.abc import Mapping

import torch
from torch import nn
from torch.nn import functional as F
from transformers import initialization as init

from meco_hub.errors import InputError
from meco_hub.modeling import EmotionPreTrainedModel
from meco_hub.nn.losses import masked_mean
from meco_hub.outputs import EmotionFeaturesOutput, EmotionRecognitionOutput

from .configuration_baselines import EEGNetConfig, GRUConfig, SignalBaselineConfig

Streams = Mapping[str, torch.Tensor]

ADVICE = "Let the checkpoint's processor prepare the recording."


# --- Inputs -----------------------------------------------------------------------------------------------------------


def check(config: SignalBaselineConfig, inputs: Streams, step_mask: Streams, presence: torch.Tensor | None) -> None:
    """Refuse what does not fit the config.

    Raises:
        InputError: no modality, one that the model does not know, or another shape.
    """
    names = list(config.modalities)
    unknown = sorted({*inputs, *step_mask} - set(names))
    if unknown or not inputs:
        raise InputError(
            f"inputs has {', '.join(inputs) or 'no modality'}{' and there is ' + ', '.join(unknown) if unknown else ''}; "
            f"expected some of {', '.join(names)}. {ADVICE}"
        )
    batch = next(iter(inputs.values())).shape[0]  # len() would fix the batch of an exported graph
    for name, given in inputs.items():
        shape = (batch, config.window_samples(name), config.modalities[name]["channels"])
        if tuple(given.shape) != shape or not given.is_floating_point():
            raise InputError(
                f"inputs[{name!r}] has shape {tuple(given.shape)} and dtype {given.dtype}; expected floating point {shape}. "
                f"{ADVICE}"
            )
        if name in step_mask and tuple(step_mask[name].shape) != shape[:2]:
            raise InputError(
                f"step_mask[{name!r}] has shape {tuple(step_mask[name].shape)}; expected {shape[:2]}. {ADVICE}"
            )
    if presence is not None and tuple(presence.shape) != (batch, len(names)):
        raise InputError(
            f"modality_presence has shape {tuple(presence.shape)}; expected ({batch}, {len(names)}). {ADVICE}"
        )


def hide(
    config: SignalBaselineConfig, inputs: Streams, step_mask: Streams, presence: torch.Tensor | None
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """(B, samples, channels) with zeros where nothing was measured, and (B, samples) masks, a pair for each modality of the config.

    Raises:
        InputError: NaN or infinity outside the masks.
    """
    like = next(iter(inputs.values()))
    values, masks = [], []
    for place, (name, one) in enumerate(config.modalities.items()):
        samples = config.window_samples(name)
        if name not in inputs:
            values.append(like.new_zeros((like.shape[0], samples, one["channels"])))
            masks.append(torch.zeros_like(values[-1][..., 0], dtype=torch.bool))
            continue
        given = inputs[name]
        mask = step_mask[name].bool() if name in step_mask else torch.ones_like(given[..., 0], dtype=torch.bool)
        masks.append(mask if presence is None else mask & presence[:, place, None].bool())
        values.append(torch.where(masks[-1].unsqueeze(-1), given, 0.0))
        if not is_graph(given) and not torch.isfinite(values[-1]).all():
            raise InputError(f"inputs[{name!r}] holds NaN or infinity; expected finite numbers. {ADVICE}")
    return values, masks


def is_graph(tensor: torch.Tensor) -> bool:
    """Whether a graph is being made, or there are no values to look at: looking at them would break the graph."""
    traced = torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]
    return torch.compiler.is_compiling() or torch.compiler.is_exporting() or traced or tensor.is_meta


def bounded(weight: torch.Tensor, largest: float) -> torch.Tensor:
    """A weight whose rows, flattened, have a norm of `largest` at most; what is below stays as it is.

    The paper's implementation cuts the weights back after each step of the optimiser; here they are cut where they are used, so
    that what is averaged, saved or quantised is bounded too.
    """
    norm = torch.linalg.vector_norm(weight.flatten(1), dim=1).clamp(min=1e-7)
    return weight * (largest / norm).clamp(max=1.0).view(-1, *[1] * (weight.ndim - 1))


class BoundedLinear(nn.Linear):
    """A linear layer whose rows have a bounded norm."""

    largest: float = float("inf")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, bounded(self.weight, self.largest), self.bias)


class BidirectionalGRU(nn.Module):
    """(B, S, width) → (B, S, 2 · width), as torch's nn.GRU computes it, whose module torch.compile refuses."""

    def __init__(self, width: int) -> None:
        super().__init__()
        for way in ("", "_reverse"):
            for name in ("ih", "hh"):
                self.register_parameter(f"weight_{name}{way}", nn.Parameter(torch.empty(3 * width, width)))
            for name in ("ih", "hh"):
                self.register_parameter(f"bias_{name}{way}", nn.Parameter(torch.empty(3 * width)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weights = [
            getattr(self, f"{kind}_{name}{way}")
            for way in ("", "_reverse")
            for kind in ("weight", "bias")
            for name in ("ih", "hh")
        ]
        start = x.new_zeros(2, x.shape[0], x.shape[2])
        return torch.gru(x, start, weights, True, 1, 0.0, self.training, True, True)[0]  # one layer, two directions


# --- Networks ---------------------------------------------------------------------------------------------------------


class SignalBaselinePreTrainedModel(EmotionPreTrainedModel):
    """What base models and heads share."""

    config: SignalBaselineConfig
    base_model_prefix = "model"  # the head's attribute that holds the base model
    main_input_name = "inputs"
    input_modalities = ["time"]  # noqa: RUF012 (transformers' convention)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear):
            init.xavier_uniform_(module.weight)  # Glorot's, as Keras has it and the paper leaves it
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, BidirectionalGRU):
            for name, weight in module.named_parameters():
                if name.startswith("bias"):
                    init.zeros_(weight)
                else:
                    fill = init.orthogonal_ if name.startswith("weight_hh") else init.xavier_uniform_
                    fill(weight)


class GRUPreTrainedModel(SignalBaselinePreTrainedModel):
    """The GRU's share of it."""

    config: GRUConfig
    config_class = GRUConfig
    _no_split_modules = ["GRUModel"]  # noqa: RUF012 (transformers' convention)


class GRUModel(GRUPreTrainedModel):
    """The GRU without its head."""

    def __init__(self, config: GRUConfig) -> None:
        super().__init__(config)
        width = sum(
            config.window_samples(name) // config.steps * (one["channels"] + 1)
            for name, one in config.modalities.items()
        )
        self.project = nn.Linear(width, config.d_model)
        self.dropout = nn.Dropout(float(config.dropout))
        self.gru = BidirectionalGRU(config.d_model)
        self.score = nn.Linear(2 * config.d_model, 1)
        self.post_init()

    def forward(
        self,
        inputs: Streams | None = None,
        step_mask: Streams | None = None,
        modality_presence: torch.Tensor | None = None,
        return_dict: bool | None = None,
    ) -> EmotionFeaturesOutput | tuple[torch.Tensor, ...]:
        """Compute the features: (B, 2d) of the window, or (B, S, 4d) with `prediction_mode="sequence"`.

        Args:
            inputs: modality → (B, samples, channels); a modality that is missing is left out.
            step_mask: modality → (B, samples) bool: False where nothing was measured; what stands there is not looked at.
            modality_presence: (B, M) bool, in the order of the config's modalities, which is the windower's.
            return_dict: False gives a tuple; default `config.return_dict`.

        Raises:
            InputError: no modality, one that the model does not know, another shape, or NaN or infinity outside the masks.
        """
        config, streams, known = self.config, inputs or {}, step_mask or {}
        check(config, streams, known, modality_presence)
        values, masks = hide(config, streams, known, modality_presence)
        rows = [
            torch.cat([value, mask.unsqueeze(-1).to(value.dtype)], dim=-1).unflatten(1, (config.steps, -1)).flatten(2)
            for value, mask in zip(values, masks, strict=True)
        ]
        steps = self.dropout(F.gelu(self.project(torch.cat(rows, dim=-1).to(self.dtype))))  # (B, S, d)
        hidden = self.gru(steps)  # (B, S, 2d)
        pooled = (self.score(hidden).softmax(dim=1) * hidden).sum(dim=1)  # (B, 2d)
        features = pooled
        if config.prediction_mode == "sequence":
            features = torch.cat([hidden, pooled.unsqueeze(1).expand_as(hidden)], dim=-1)
        output = EmotionFeaturesOutput(pooler_output=features)
        return output if (config.return_dict if return_dict is None else return_dict) else output.to_tuple()


class EEGNetPreTrainedModel(SignalBaselinePreTrainedModel):
    """EEGNet's share of it."""

    config: EEGNetConfig
    config_class = EEGNetConfig
    _no_split_modules = ["EEGNetModel"]  # noqa: RUF012 (transformers' convention)


class EEGNetModel(EEGNetPreTrainedModel):
    """EEGNet without its last layer: the two blocks of table 2 of the paper."""

    def __init__(self, config: EEGNetConfig) -> None:
        super().__init__(config)
        ((_, stream),) = config.modalities.items()
        first, second, last = config.temporal_filters, config.temporal_filters * config.depth, config.separable_filters
        # eps and momentum of BatchNorm are Keras's, by which the paper was made
        self.temporal = nn.Conv2d(1, first, (1, config.kernel), padding="same", bias=False)
        self.temporal_norm = nn.BatchNorm2d(first, eps=1e-3, momentum=0.01)
        self.spatial = nn.Conv2d(first, second, (int(stream["channels"]), 1), groups=first, bias=False)
        self.spatial_norm = nn.BatchNorm2d(second, eps=1e-3, momentum=0.01)
        self.depthwise = nn.Conv2d(second, second, (1, 16), padding="same", groups=second, bias=False)
        self.pointwise = nn.Conv2d(second, last, 1, bias=False)
        self.separable_norm = nn.BatchNorm2d(last, eps=1e-3, momentum=0.01)
        self.dropout = nn.Dropout(float(config.dropout))
        self.post_init()

    def forward(
        self,
        inputs: Streams | None = None,
        step_mask: Streams | None = None,
        modality_presence: torch.Tensor | None = None,
        return_dict: bool | None = None,
    ) -> EmotionFeaturesOutput | tuple[torch.Tensor, ...]:
        """Compute the features, (B, F2 · T / 32); arguments and errors as of `GRUModel.forward`."""
        config, streams, known = self.config, inputs or {}, step_mask or {}
        check(config, streams, known, modality_presence)
        (values,), _ = hide(config, streams, known, modality_presence)
        x = values.to(self.dtype).transpose(1, 2).unsqueeze(1)  # (B, 1, C, T)
        x = self.temporal_norm(self.temporal(x))  # (B, F1, C, T)
        weight = bounded(self.spatial.weight, float(config.spatial_max_norm))
        x = F.elu(self.spatial_norm(F.conv2d(x, weight, groups=config.temporal_filters)))  # (B, F1 · D, 1, T)
        x = self.dropout(F.avg_pool2d(x, (1, 4)))  # (B, F1 · D, 1, T / 4)
        x = F.elu(self.separable_norm(self.pointwise(self.depthwise(x))))  # (B, F2, 1, T / 4)
        x = self.dropout(F.avg_pool2d(x, (1, 8)))  # (B, F2, 1, T / 32)
        output = EmotionFeaturesOutput(pooler_output=x.flatten(1))
        return output if (config.return_dict if return_dict is None else return_dict) else output.to_tuple()


# --- Heads ------------------------------------------------------------------------------------------------------------


def answer(
    config: SignalBaselineConfig,
    logits: torch.Tensor,
    labels: torch.Tensor | None,
    label_mask: torch.Tensor | None,
    return_dict: bool | None,
) -> EmotionRecognitionOutput | tuple[torch.Tensor, ...]:
    """Logits, and the loss where labels are given.

    Args:
        labels: scaled values in the shape of the logits, NaN being unknown; for classes their indices, −100 being unknown.
        label_mask: bool, the shape of `labels`: False is unknown.

    Raises:
        InputError: labels of another shape or type.
    """
    loss = None
    if labels is not None:
        values = config.problem_type == "regression" or (config.problem_type is None and labels.is_floating_point())
        shape = tuple(logits.shape if values else logits.shape[:-1])
        if tuple(labels.shape) != shape or labels.is_floating_point() != values:
            raise InputError(
                f"labels have shape {tuple(labels.shape)} and dtype {labels.dtype}; expected {shape}, "
                f"{'a value' if values else 'a class index'} for each answer."
            )
        wanted = labels.to(logits.device)
        known = torch.isfinite(wanted) if values else wanted != -100
        if label_mask is not None:
            known = known & label_mask.to(logits.device).bool()
        if values:
            loss = masked_mean((logits - torch.where(known, wanted.to(logits.dtype), 0.0)).square(), known)
        else:
            loss = F.cross_entropy(logits.flatten(0, -2), wanted.masked_fill(~known, -100).flatten())
    output = EmotionRecognitionOutput(loss=loss, logits=logits)
    return output if (config.return_dict if return_dict is None else return_dict) else output.to_tuple()


class GRUForEmotionRecognition(GRUPreTrainedModel):
    """The GRU with a head: values over `target_names` when `problem_type` is "regression", else classes."""

    def __init__(self, config: GRUConfig) -> None:
        super().__init__(config)
        self.num_labels = config.num_labels or 0
        self.model = GRUModel(config)
        self.dropout = nn.Dropout(float(config.dropout))
        self.classifier = nn.Linear(config.hidden_size, self.num_labels)
        self.post_init()

    def forward(
        self,
        inputs: Streams | None = None,
        step_mask: Streams | None = None,
        modality_presence: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        label_mask: torch.Tensor | None = None,
        return_dict: bool | None = None,
    ) -> EmotionRecognitionOutput | tuple[torch.Tensor, ...]:
        """Compute logits, (B, K) or (B, S, K) with `prediction_mode="sequence"`, and the loss when `labels` are given.

        Args:
            inputs, step_mask, modality_presence, return_dict: as for the base model.
            labels, label_mask: as for `answer`.

        Raises:
            InputError: inputs or labels cannot be used.
        """
        features = self.model(inputs, step_mask, modality_presence, return_dict=True).pooler_output
        return answer(self.config, self.classifier(self.dropout(features)), labels, label_mask, return_dict)


class EEGNetForEmotionRecognition(EEGNetPreTrainedModel):
    """EEGNet with its last layer: values over `target_names` when `problem_type` is "regression", else classes."""

    def __init__(self, config: EEGNetConfig) -> None:
        super().__init__(config)
        self.num_labels = config.num_labels or 0
        self.model = EEGNetModel(config)
        self.classifier = BoundedLinear(config.hidden_size, self.num_labels)
        self.classifier.largest = float(config.dense_max_norm)
        self.post_init()

    def forward(
        self,
        inputs: Streams | None = None,
        step_mask: Streams | None = None,
        modality_presence: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        label_mask: torch.Tensor | None = None,
        return_dict: bool | None = None,
    ) -> EmotionRecognitionOutput | tuple[torch.Tensor, ...]:
        """Compute logits (B, K), and the loss when `labels` are given; arguments and errors as of `GRUForEmotionRecognition`."""
        features = self.model(inputs, step_mask, modality_presence, return_dict=True).pooler_output
        return answer(self.config, self.classifier(features), labels, label_mask, return_dict)
