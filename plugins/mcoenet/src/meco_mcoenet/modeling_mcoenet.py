# Copyright 2026 The meco_hub authors. Licensed under the Apache License, Version 2.0.
"""MCO-E Net: the expression of one eye from frames and events, by a state space model and a mixture of heterogeneous experts.

Han, Liu, Yi, Zhang, Tan, "Multi-modal Collaborative Optimization and Expansion Network for Event-assisted Single-eye Expression
Recognition", arXiv 2505.12007. Written from a description of the published network, not from its authors' code.

    frames, events (B, T, 3, 100, 100), of which the first and the last time step are used
     └─ a ResNet-18 each, with its 1000 scores      → X_F, X_E (B, 500, 4)      tokens of four features
         └─ MCO-Mamba: two scans in each direction  → Y_F, Y_E;  R = Y_F + X_F, E = Y_E + X_E
             └─ MCIB: attention both ways, gated    → H_0 (B, 500, 4)
                 └─ dense, GELU, dropout            → h (B, 1024)
                     └─ HCE-MoE: two of 8 experts   → logits (B, 7)

Letters: B batch, M = 2 streams (frames, events), S scan directions, L tokens, d = d_model, I = d_inner, N = d_state.

Notable:
- In the scans the streams share only what is added to B and C: a projection of both streams' parameters, Δ's included. Its
  gradients are autograd's. The authors' hand-written ones are wrong (they return the projection's weights), so training here is
  what their text says and not what their code did.
- Both streams and directions are one stack: every step is one operation on (B, M, S, …), the scan included.
- The backward scan takes the forward one's step-size bias, as published, unless `share_reverse_dt_bias=False`.
- The sequence that the scans run over is no time: it is the order of ImageNet classes, of the first picture and then of the last.
- A, D and the step-size biases stay in float32 when the rest is loaded in half precision.
- Each clip is answered by itself: nothing in evaluation looks across the batch.
- No gradient checkpointing: computing a BatchNorm twice would update its statistics twice.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn import functional as F
from transformers import initialization as init
from transformers.utils import logging

from meco_hub.errors import InputError
from meco_hub.modeling import EmotionPreTrainedModel
from meco_hub.nn.losses import label_loss, load_balancing_loss
from meco_hub.nn.sharding import is_sharded
from meco_hub.outputs import EmotionFeaturesOutput, EmotionRecognitionOutput

from .backbone_weights import load_backbone_weights
from .backbones import ResNet
from .configuration_mcoenet import MCOENetConfig
from .experts import DeepExpert, HeterogeneousExperts, PackedAttention, is_graph
from .selective_scan import selective_scan

logger = logging.get_logger(__name__)

STREAMS = ("pixel_values", "event_values")
"""The two inputs, in the order of every stack of streams."""


@dataclass
class MCOENetOutput(EmotionRecognitionOutput):
    """Output of `MCOENetForEmotionRecognition`.

    Attributes:
        expert_indices: (batch, top_k) the experts that answered, heaviest first; there together with `router_logits`.
    """

    expert_indices: torch.Tensor | None = None


class JointScan(nn.Module):
    """The joint state space model ("MCO-Mamba"): both streams scanned in both directions, with B and C partly in common.

    Shape:
        (batch, 2, tokens, d_model) → the same.
    """

    def __init__(self, config: MCOENetConfig) -> None:
        super().__init__()
        self.config = config
        streams, directions = 2, 2 if config.bidirectional else 1
        width, inner, state, rank = config.d_model, config.d_inner, config.d_state, config.time_rank
        own = 1 if config.share_reverse_dt_bias else directions
        self.splits = [rank, state, state]  # step sizes, B, C

        def parameter(*shape: int, dtype: torch.dtype | None = None) -> nn.Parameter:
            return nn.Parameter(torch.empty(*shape, dtype=dtype))

        self.in_proj = parameter(streams, 2 * inner, width)
        self.conv_weight = parameter(streams, directions, inner, config.d_conv)
        self.conv_bias = parameter(streams, directions, inner)
        self.x_proj = parameter(streams, directions, sum(self.splits), inner)
        self.joint_B = parameter(directions, state, streams * sum(self.splits)) if config.joint_bc else None
        self.joint_C = parameter(directions, state, streams * sum(self.splits)) if config.joint_bc else None
        self.dt_weight = parameter(streams, directions, inner, rank)
        # the recurrence is sensitive to these three, so they are float32 whatever the default is, as in Mamba
        self.dt_bias = parameter(streams, own, inner, dtype=torch.float32)
        self.A_log = parameter(streams, directions, inner, state, dtype=torch.float32)
        self.D = parameter(streams, directions, inner, dtype=torch.float32)
        self.out_proj = parameter(streams, width, inner)

    @torch.no_grad()
    def initialise(self) -> None:
        """Linear and convolution as torch does, the rest as Mamba: Δ log-uniform in [dt_min, dt_max], A = −1 … −N, D = 1."""
        config = self.config
        for weight in (self.in_proj, self.x_proj, self.joint_B, self.joint_C, self.out_proj):
            if weight is not None:
                _uniform(weight, weight.shape[-1] ** -0.5)
        _uniform(self.conv_weight, config.d_conv**-0.5)
        _uniform(self.conv_bias, config.d_conv**-0.5)
        _uniform(self.dt_weight, config.time_rank**-0.5 * float(config.dt_scale))
        low, high = math.log(config.dt_min), math.log(config.dt_max)
        steps = torch.empty_like(self.dt_bias[:1]).uniform_(low, high).exp().clamp(min=config.dt_init_floor)
        init.copy_(self.dt_bias, (steps + torch.log(-torch.expm1(-steps))).expand_as(self.dt_bias))  # softplus⁻¹
        numbers = torch.arange(1, config.d_state + 1, dtype=self.A_log.dtype, device=self.A_log.device)
        init.copy_(self.A_log, numbers.log().expand_as(self.A_log))
        init.ones_(self.D)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        length = tokens.shape[2]
        both = torch.matmul(self.in_proj, tokens.transpose(-1, -2))  # (B, M, 2I, L)
        both = both.unsqueeze(2) if not self.config.bidirectional else torch.stack([both, both.flip(-1)], dim=2)
        inputs, gate = both.chunk(2, dim=-2)  # (B, M, S, I, L) each

        padded = F.pad(inputs.flatten(1, 3), (self.config.d_conv - 1, 0))
        kernels = self.conv_weight.flatten(0, 2).unsqueeze(1)
        u = F.conv1d(padded, kernels, self.conv_bias.flatten(), groups=len(kernels)).view_as(inputs)
        u = F.silu(u)

        own = torch.matmul(self.x_proj, u)  # (B, M, S, r + 2N, L)
        steps, B, C = own.split(self.splits, dim=-2)
        if self.joint_B is not None and self.joint_C is not None:
            together = own.transpose(1, 2).flatten(2, 3)  # (B, S, M · (r + 2N), L), frames first
            if self.config.joint_activation == "gelu":
                together = F.gelu(together)
            B = B + torch.matmul(self.joint_B, together).unsqueeze(1)
            C = C + torch.matmul(self.joint_C, together).unsqueeze(1)
            if self.config.joint_norm == "layer_norm":
                B, C = (F.layer_norm(one.transpose(-1, -2), one.shape[-2:-1]).transpose(-1, -2) for one in (B, C))
        scanned = selective_scan(
            u,
            torch.matmul(self.dt_weight, steps),
            -torch.exp(self.A_log.to(torch.promote_types(self.A_log.dtype, torch.float32))),
            B,
            C,
            D=self.D if self.config.train_D else self.D.detach(),
            z=gate,
            delta_bias=self.dt_bias,
            delta_softplus=True,
        )  # (B, M, S, I, L)
        if self.config.bidirectional:
            forwards, backwards = scanned.unbind(dim=2)
            scanned = 0.5 * (forwards + backwards.flip(-1))
        else:
            scanned = scanned.squeeze(2)
        return torch.matmul(self.out_proj, scanned).transpose(-1, -2).reshape(-1, 2, length, self.config.d_model)


class GatedCrossAttention(nn.Module):
    """The fusion ("MCIB"): each stream attends to the other, by one and the same attention, and a gate per token mixes the two.

    Shape:
        two streams (batch, tokens, d_model) → (batch, tokens, d_model).
    """

    def __init__(self, config: MCOENetConfig) -> None:
        super().__init__()
        self.frame_proj = nn.Linear(config.d_model, config.d_model)
        self.event_proj = nn.Linear(config.d_model, config.d_model)
        self.attention = PackedAttention(config.d_model, config.mcib_num_heads)

    def forward(self, frames: torch.Tensor, events: torch.Tensor) -> torch.Tensor:
        r, e = self.frame_proj(frames), self.event_proj(events)
        queries, memory = torch.stack([r, e], dim=1), torch.stack([e, r], dim=1)  # (B, 2, L, d): both ways at once
        attended = self.attention(queries.flatten(0, 1), memory.flatten(0, 1))
        from_events, from_frames = attended.unflatten(0, (-1, 2)).unbind(dim=1)
        gate = (r * e).sum(dim=-1, keepdim=True).sigmoid()  # (B, L, 1)
        return gate * from_events + (1 - gate) * from_frames + 0.5 * (r + e)


class MCOENetPreTrainedModel(EmotionPreTrainedModel):
    """What the base model and the head share: the config, and how weights are initialised."""

    config: MCOENetConfig
    base_model_prefix = "mcoenet"
    main_input_name = "pixel_values"
    input_modalities = ("video",)  # pyright: ignore[reportAssignmentType]
    supports_gradient_checkpointing = False
    _no_split_modules: ClassVar[list[str]] = ["ResNet", "JointScan", "GatedCrossAttention", "Router", "DeepExpert"]
    _keep_in_fp32_modules_strict: ClassVar[list[str]] = ["joint_scan.A_log", "joint_scan.D", "joint_scan.dt_bias"]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Conv2d):
            init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear | nn.Conv1d):
            bound = math.prod(module.weight.shape[1:]) ** -0.5
            _uniform(module.weight, bound)
            if module.bias is not None:
                _uniform(module.bias, bound)
        elif isinstance(module, PackedAttention):  # after its out_proj, which is a Linear
            init.xavier_uniform_(module.in_proj_weight)
            init.zeros_(module.in_proj_bias)
            init.zeros_(module.out_proj.bias)
        elif isinstance(module, JointScan):
            module.initialise()
        elif isinstance(module, DeepExpert):
            init.constant_(module.residual_scale, module.residual_init)
        else:
            super()._init_weights(module)


class MCOENetModel(MCOENetPreTrainedModel):
    """MCO-E Net up to the fused vector that the experts read."""

    def __init__(self, config: MCOENetConfig) -> None:
        super().__init__(config)
        count = 1 if config.share_backbones else len(config.frame_positions)
        self.frame_backbones = nn.ModuleList(ResNet(config) for _ in range(count))
        self.event_backbones = nn.ModuleList(ResNet(config) for _ in range(count))
        self.joint_scan = JointScan(config)
        self.cross_attention = GatedCrossAttention(config)
        self.fusion = nn.Linear(config.num_tokens * config.d_model, config.fusion_dim)
        self.dropout = nn.Dropout(float(config.fusion_dropout))
        self.post_init()

    def load_backbone_weights(self, source: str | Path | None = None, pretrained: bool = False) -> None:
        """Start training from pretrained ResNets, as published. Called once, before training; afterwards our checkpoint holds them.

        Arguments and errors are those of `backbone_weights.load_backbone_weights`.

        Example:
            >>> model = MCOENetModel(MCOENetConfig())  # doctest: +SKIP
            >>> model.load_backbone_weights("resnet18.pth")  # doctest: +SKIP
        """
        backbones = [one for one in (*self.frame_backbones, *self.event_backbones) if isinstance(one, ResNet)]
        load_backbone_weights(backbones, source, pretrained=pretrained)

    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        event_values: torch.Tensor | None = None,
        modality_presence: torch.Tensor | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> EmotionFeaturesOutput | tuple[torch.Tensor, ...]:
        """Compute the fused vector.

        Args:
            pixel_values: (batch, time, channels, height, width) frames, normalised by the processor, floating point.
            event_values: the same of the event pictures.
            modality_presence: (batch, 2) bool, frames and events: False where a clip lacks the stream; whatever stands in its place
                is not looked at. Only with `config.missing_modality="zeros"`, and so is leaving out one of the two arguments.
            output_hidden_states: also give (X_F, X_E, R, E, H_0, h) of the drawing at the top of this file.
            return_dict: False gives a tuple; default `config.return_dict`.

        Raises:
            InputError: a stream is missing, has the wrong shape, is not floating point, or holds NaN or infinity.
        """
        config = self.config
        frames, events = self._validate_inputs(pixel_values, event_values, modality_presence)
        dtype = self.fusion.weight.dtype
        x_frames = self._tokens(self.frame_backbones, frames.to(dtype))  # (B, L, d)
        x_events = self._tokens(self.event_backbones, events.to(dtype))
        x = torch.stack([x_frames, x_events], dim=1)
        r, e = (self.joint_scan(x) + x).unbind(dim=1)
        fused = self.cross_attention(r, e)
        h = self.dropout(F.gelu(self.fusion(fused.flatten(1))))  # (B, 1024)

        wants_hidden = config.output_hidden_states if output_hidden_states is None else output_hidden_states
        output = EmotionFeaturesOutput(
            pooler_output=h, hidden_states=(x_frames, x_events, r, e, fused, h) if wants_hidden else None
        )
        return output if (config.return_dict if return_dict is None else return_dict) else output.to_tuple()

    def _tokens(self, backbones: nn.ModuleList, pictures: torch.Tensor) -> torch.Tensor:
        """(B, P, C, H, W) → (B, L, d): the features of all pictures one after another, cut into tokens."""
        if pictures.device.type == "cpu":
            pictures = pictures.contiguous()
        if len(backbones) == 1:
            features = backbones[0](pictures.flatten(0, 1)).unflatten(0, pictures.shape[:2]).flatten(1)
        else:
            features = torch.cat(
                [backbone(one) for backbone, one in zip(backbones, pictures.unbind(1), strict=True)], dim=-1
            )
        return features.unflatten(-1, (-1, self.config.d_model))

    def _validate_inputs(
        self,
        pixel_values: torch.Tensor | None,
        event_values: torch.Tensor | None,
        presence: torch.Tensor | None,
    ) -> list[torch.Tensor]:
        """Both streams, checked, only the time steps that are looked at, and zeros where a stream is missing."""
        config = self.config
        given = dict(zip(STREAMS, (pixel_values, event_values), strict=True))
        missing = [name for name, values in given.items() if values is None]
        if len(missing) == 2:
            raise InputError(
                "Neither pixel_values nor event_values was given; expected both. Pass what the processor returns."
            )
        self._refuse_missing([f"{name} is missing" for name in missing])
        checked = {name: self._check_stream(name, values) for name, values in given.items() if values is not None}
        if len(checked) == 2 and checked[STREAMS[0]].shape != checked[STREAMS[1]].shape:
            shapes = " and ".join(f"{name} {tuple(values.shape)}" for name, values in checked.items())
            raise InputError(
                f"The streams differ in shape: {shapes}; expected the same clips at the same times and size in both. "
                "Let the checkpoint's processor prepare them together."
            )
        like = next(iter(checked.values()))
        streams = [checked[name] if name in checked else torch.zeros_like(like) for name in STREAMS]
        streams = [torch.stack([one[:, place] for place in config.frame_positions], dim=1) for one in streams]
        if presence is not None:
            streams = self._blank_missing(streams, presence)
        self._check_values(streams)
        return streams

    def _check_stream(self, name: str, values: torch.Tensor) -> torch.Tensor:
        channels, positions = self.config.num_channels, self.config.frame_positions
        expected = f"expected a floating-point tensor of shape (batch, time, {channels}, height, width)"
        advice = "Let the checkpoint's processor prepare the clip."
        if not isinstance(values, torch.Tensor):
            raise InputError(f"{name} is a {type(values).__name__}; {expected}. {advice}")
        if values.ndim != 5 or values.shape[2] != channels:
            raise InputError(f"{name} has shape {tuple(values.shape)}; {expected}. {advice}")
        if not values.is_floating_point():
            raise InputError(f"{name} has dtype {values.dtype}; {expected}. {advice}")
        steps = values.shape[1]
        if not all(-steps <= place < steps for place in positions):
            raise InputError(
                f"{name} has {steps} time step(s); expected enough for frame_positions {positions}. Pass a longer clip."
            )
        return values

    def _refuse_missing(self, problems: list[str]) -> None:
        if problems and self.config.missing_modality == "error":
            raise InputError(
                f"{'; '.join(problems)}; expected both streams, frames in pixel_values and events in event_values. This network "
                'was not made for one alone; config.missing_modality="zeros" lets it take the mean picture instead.'
            )

    def _blank_missing(self, streams: list[torch.Tensor], presence: torch.Tensor) -> list[torch.Tensor]:
        batch = streams[0].shape[0]
        if tuple(presence.shape) != (batch, 2):
            raise InputError(
                f"modality_presence has shape {tuple(presence.shape)}; expected ({batch}, 2): frames and events of every clip."
            )
        presence = presence.to(device=streams[0].device, dtype=torch.bool)
        if not is_graph(presence):
            rows = [(name, (~presence[:, place]).nonzero().flatten().tolist()) for place, name in enumerate(STREAMS)]
            self._refuse_missing([f"{name} is marked as missing in clip(s) {where}" for name, where in rows if where])
        return [
            torch.where(presence[:, place].view(-1, 1, 1, 1, 1), one, 0.0).to(one.dtype)
            for place, one in enumerate(streams)
        ]

    @staticmethod
    def _check_values(streams: list[torch.Tensor]) -> None:
        if is_graph(streams[0]):
            return  # looking at values would break the graph
        for name, values in zip(STREAMS, streams, strict=True):
            finite = torch.isfinite(values).flatten(1).all(dim=1)
            if not finite.all():
                rows = (~finite).nonzero().flatten().tolist()
                raise InputError(
                    f"{name} holds NaN or infinity in clip(s) {rows} of the batch; expected finite numbers. "
                    "Let the checkpoint's processor prepare the clip."
                )


class MCOENetForEmotionRecognition(MCOENetPreTrainedModel):
    """MCO-E Net with its experts: classes, or values when `problem_type` is "regression"."""

    def __init__(self, config: MCOENetConfig) -> None:
        super().__init__(config)
        self.num_labels = len(config.id2label or {})
        self.mcoenet = MCOENetModel(config)
        self.moe = HeterogeneousExperts(config)
        self.post_init()

    def load_backbone_weights(self, source: str | Path | None = None, pretrained: bool = False) -> None:
        """As `MCOENetModel.load_backbone_weights`."""
        self.mcoenet.load_backbone_weights(source, pretrained=pretrained)

    def output_layers(self) -> list[nn.Linear | nn.Conv1d]:
        """The last layer of every expert: rows are classes, and answers a mean of theirs, with weights that sum to one.

        Empty without `norm_topk_prob`, where they do not.
        """
        layers: list[Any] = [expert.output_layer for expert in self.moe.experts]
        return layers if self.config.norm_topk_prob else []

    def _runs_all_experts(self) -> bool:
        """Whether every expert runs on every clip although the config says "sparse"; said once."""
        if self.config.expert_dispatch == "dense" or torch.compiler.is_compiling() or not is_sharded(self):
            return False
        logger.warning_once(
            'FSDP or ZeRO-3 holds the model in parts, so every expert runs on every clip, as with expert_dispatch="dense". Those '
            "that a clip did not choose count for nothing in its answer, and get gradients of zero instead of none."
        )
        return True

    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        event_values: torch.Tensor | None = None,
        modality_presence: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        output_router_logits: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> MCOENetOutput | tuple[torch.Tensor, ...]:
        """Compute logits, and the loss when `labels` are given.

        Args:
            pixel_values, event_values, modality_presence: as for `MCOENetModel`.
            labels: (batch,) class indices, −100 being ignored, or (batch, K) class probabilities, for a single label;
                (batch, K) zeros and ones for "multi_label_classification"; (batch,) or (batch, K) values for "regression".
            output_router_logits: also give the router's logits and the experts that answered; default
                `config.output_router_logits`.
            output_hidden_states: also give the tensors between the blocks, see `MCOENetModel.forward`.
            return_dict: False gives a tuple; default `config.return_dict`.

        Raises:
            InputError: inputs or labels cannot be used.
        """
        config = self.config
        features = self.mcoenet(
            pixel_values, event_values, modality_presence, output_hidden_states=output_hidden_states, return_dict=True
        )
        logits, router_logits = self.moe(features.pooler_output, self._runs_all_experts())  # (B, K), (B, E)

        loss = aux_loss = None
        if labels is not None:
            loss = label_loss(config, logits, labels.to(logits.device), float(config.label_smoothing))
            if config.router_aux_loss_coef > 0:
                aux_loss = config.router_aux_loss_coef * load_balancing_loss(router_logits, config.top_k)
                loss = loss + aux_loss.to(loss.device)
        wants_router = config.output_router_logits if output_router_logits is None else output_router_logits
        output = MCOENetOutput(
            loss=loss,
            logits=logits,
            router_logits=(router_logits,) if wants_router else None,
            aux_loss=aux_loss,
            hidden_states=features.hidden_states,
            expert_indices=self.moe.choose(router_logits)[0].topk(config.top_k).indices if wants_router else None,
        )
        return output if (config.return_dict if return_dict is None else return_dict) else output.to_tuple()


def _uniform(parameter: torch.Tensor, bound: float) -> None:
    init.uniform_(parameter, -bound, bound)
