"""The mixture of heterogeneous experts ("HCE-MoE"): focal, attention and deep ones, of which a router chooses two per clip.

Notable:
- Every expert maps the fused vector to class scores; the answer is their weighted mean, and nothing comes after it.
- Attention here looks at tokens that one clip's vector is cut into, never across the batch. In the published network there is
  one token, so attention is exactly x ↦ W_o (W_v x + b_v) + b_o. It is computed so; queries and keys then get zero gradients.
- Experts run only on the samples that chose them (`expert_dispatch="sparse"`), so those that nobody chose get no gradient at
  all, not a zero one: the optimiser passes them by. In a graph all run on all, and so they do where FSDP or ZeRO-3 holds the
  weights in parts: there processes that call different experts would wait for each other.
- A deep expert without activation, as published, is linear where nothing is dropped out: one small matrix. Evaluation on a CPU
  makes it once and keeps it, instead of reading 168 MB for every clip.
"""

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from meco_hub.nn.losses import select_top_k, widen

from .configuration_mcoenet import MCOENetConfig


def is_graph(tensor: torch.Tensor) -> bool:
    """Whether a graph is being made, or there are no values to look at."""
    traced = torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]
    return torch.compiler.is_compiling() or torch.compiler.is_exporting() or traced or tensor.is_meta


class PackedAttention(nn.Module):
    """Multi-head attention with torch's parameters (`nn.MultiheadAttention`, batch first), without mask and dropout.

    Shape:
        query (batch, length, width), memory (batch, other length, width) → (batch, length, width).
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * width))
        self.out_proj = nn.Linear(width, width)

    def extra_repr(self) -> str:
        return f"width={self.in_proj_weight.shape[1]}, heads={self.heads}"

    def forward(self, query: torch.Tensor, memory: torch.Tensor) -> torch.Tensor:
        (weight_q, weight_k, weight_v), (bias_q, bias_k, bias_v) = (
            self.in_proj_weight.chunk(3),
            self.in_proj_bias.chunk(3),
        )
        values = F.linear(memory, weight_v, bias_v)
        if memory.shape[1] == 1:  # one key has all the weight, whatever the query
            return self.out_proj(values.expand(-1, query.shape[1], -1))
        queries, keys = F.linear(query, weight_q, bias_q), F.linear(memory, weight_k, bias_k)
        q, k, v = (tensor.unflatten(-1, (self.heads, -1)).transpose(1, 2) for tensor in (queries, keys, values))
        attended = F.scaled_dot_product_attention(q, k, v)  # (B, heads, length, width / heads)
        return self.out_proj(attended.transpose(1, 2).flatten(2))


class TokenMixer(nn.Module):
    """`LayerNorm(h + attention(h))`, the vector h being cut into tokens for the attention.

    Shape:
        (batch, fusion_dim) → the same.
    """

    def __init__(self, config: MCOENetConfig, heads: int) -> None:
        super().__init__()
        self.tokens = config.attention_tokens
        self.attention = PackedAttention(config.fusion_dim // self.tokens, heads)
        self.norm = nn.LayerNorm(config.fusion_dim, eps=config.layer_norm_eps)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        tokens = hidden.unflatten(-1, (self.tokens, -1))  # (B, T, 1024 / T)
        return self.norm(hidden + self.attention(tokens, tokens).flatten(1))


class Router(nn.Module):
    """The scores by which experts are chosen.

    Shape:
        (batch, fusion_dim) → (batch, num_experts).
    """

    def __init__(self, config: MCOENetConfig) -> None:
        super().__init__()
        self.mixer = TokenMixer(config, config.router_num_heads)
        self.up = nn.Linear(config.fusion_dim, config.router_hidden)
        self.down = nn.Linear(config.router_hidden, config.num_experts)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.down(F.gelu(self.up(self.mixer(hidden))))


class FocalExpert(nn.Module):
    """Two convolutions over the tokens that the vector is cut into; with one token, a perceptron.

    Shape:
        (batch, fusion_dim) → (batch, num_labels), as of every expert.
    """

    def __init__(self, config: MCOENetConfig) -> None:
        super().__init__()
        self.tokens = config.focal_tokens
        kernel = config.focal_kernel
        self.conv1 = nn.Conv1d(config.fusion_dim // self.tokens, config.focal_hidden, kernel, padding=kernel // 2)
        self.conv2 = nn.Conv1d(config.focal_hidden, len(config.id2label or {}), kernel_size=1)

    @property
    def output_layer(self) -> nn.Conv1d:
        """Where the classes are; every expert has one."""
        return self.conv2

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        tokens = hidden.unflatten(-1, (self.tokens, -1)).transpose(1, 2)  # (B, 1024 / T, T)
        return self.conv2(F.gelu(self.conv1(tokens))).mean(dim=-1)


class AttentionExpert(nn.Module):
    """Attention over the tokens, then a dense layer."""

    def __init__(self, config: MCOENetConfig) -> None:
        super().__init__()
        self.mixer = TokenMixer(config, config.attention_expert_heads)
        self.classifier = nn.Linear(config.fusion_dim, len(config.id2label or {}))

    @property
    def output_layer(self) -> nn.Linear:
        return self.classifier

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.mixer(hidden))


class DeepExpert(nn.Module):
    """Widening and narrowing layers, each added to c times its input; c is one learnt number for all of them."""

    def __init__(self, config: MCOENetConfig) -> None:
        super().__init__()
        width, wide = config.fusion_dim, config.fusion_dim * config.deep_mult
        self.activation = {None: None, "gelu": F.gelu, "relu": F.relu}[config.deep_expert_activation]
        self.residual_init = float(config.deep_residual_init)
        self.up = nn.ModuleList(nn.Linear(width, wide) for _ in range(config.deep_layers))
        self.down = nn.ModuleList(nn.Linear(wide, width) for _ in range(config.deep_layers))
        self.dropout = nn.Dropout(float(config.deep_dropout))
        self.residual_scale = nn.Parameter(torch.empty(1))
        self.classifier = nn.Linear(width, len(config.id2label or {}))
        self._kept: tuple[list[tuple[int, int]], torch.Tensor, torch.Tensor, torch.Tensor] | None = None

    @property
    def output_layer(self) -> nn.Linear:
        return self.classifier

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": None}  # copies and pickles make their own

    def _is_one_matrix(self, hidden: torch.Tensor) -> bool:
        """Whether nothing between the input and the scores is more than a matrix: no activation, no hook, no layer of others."""
        if self.activation is not None or self.training or self.dropout.training or is_graph(hidden):
            return False
        layers = [*self.up, *self.down, self.classifier]
        plain = all(type(one) is nn.Linear for one in layers) and type(self.dropout) is nn.Dropout
        plain = plain and not any(
            one._forward_hooks or one._forward_pre_hooks or "forward" in one.__dict__ for one in (*layers, self.dropout)
        )
        return plain and all(
            one.device.type == "cpu" and one.dtype == hidden.dtype == torch.float32 and not one.is_inference()
            for one in self.parameters()
        )

    def _one_matrix(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Weight (num_labels, fusion_dim) and bias of the one layer that answers as all of them do.

        Made each time where gradients are recorded. Else kept until a weight is another or has changed: by torch's counter of
        changes, and by some of its values, since what writes into `.data` is not counted.
        """
        if torch.is_grad_enabled():
            return self._multiply_out()
        weights = list(self.parameters())
        marks = [(one.data_ptr(), one._version) for one in weights]
        values = torch.cat([one.flatten()[:: max(1, one.numel() // 16)] for one in weights])
        if self._kept is None or self._kept[0] != marks or not torch.equal(self._kept[1], values):
            self._kept = (marks, values, *self._multiply_out())
        return self._kept[2:]

    def _multiply_out(self) -> tuple[torch.Tensor, torch.Tensor]:
        # in float64, whose rounding shows in no answer: in float32 the same weights elsewhere in memory give other last digits
        weight, bias = self.classifier.weight.double(), self.classifier.bias.double()
        pairs: list[Any] = list(zip(self.up, self.down, strict=True))
        for up, down in reversed(pairs):
            through = weight @ down.weight.double()
            bias = bias + weight @ down.bias.double() + through @ up.bias.double()
            weight = through @ up.weight.double() + self.residual_scale.double() * weight
        return weight.float(), bias.float()

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        if self._is_one_matrix(hidden):
            return F.linear(hidden, *self._one_matrix())
        self._kept = None
        for up, down in zip(self.up, self.down, strict=True):
            wide = up(hidden) if self.activation is None else self.activation(up(hidden))
            hidden = down(self.dropout(wide)) + self.residual_scale * hidden
        return self.classifier(hidden)


_KINDS = {"focal": FocalExpert, "attention": AttentionExpert, "deep": DeepExpert}


class HeterogeneousExperts(nn.Module):
    """`Σ_{i ∈ top-k} w_i · expert_i(h)` with w the router's softmax over the chosen ones.

    Shape:
        (batch, fusion_dim) → class scores (batch, num_labels), router logits (batch, num_experts). With `all_experts`, all run on
        all, whatever `expert_dispatch` says.
    """

    def __init__(self, config: MCOENetConfig) -> None:
        super().__init__()
        self.top_k = config.top_k
        self.norm_topk_prob = config.norm_topk_prob
        self.dispatch = config.expert_dispatch
        self.router = Router(config)
        self.experts = nn.ModuleList(_KINDS[kind](config) for kind in config.expert_types)

    def choose(self, router_logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Router logits (batch, num_experts) → weights, in float32 or wider and zero where not chosen; and who was chosen, bool."""
        probabilities = widen(router_logits).softmax(dim=-1)
        chosen = select_top_k(probabilities, self.top_k)
        weights = probabilities * chosen
        return (weights / (weights.sum(dim=-1, keepdim=True) + 1e-8) if self.norm_topk_prob else weights), chosen

    def forward(self, hidden: torch.Tensor, all_experts: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
        router_logits = self.router(hidden)  # (B, E)
        weights, chosen = self.choose(router_logits)
        if all_experts or self.dispatch == "dense" or is_graph(hidden) or len(hidden) == 0:
            answers = torch.stack([expert(hidden) for expert in self.experts], dim=1)  # (B, E, K)
            return (weights.unsqueeze(-1) * answers).sum(dim=1).to(answers.dtype), router_logits
        return self._sparse(hidden, weights, chosen), router_logits

    def _sparse(self, hidden: torch.Tensor, weights: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
        chosen = chosen.cpu()  # one wait for the device instead of one per expert
        answers: list[torch.Tensor] = []
        shares: list[torch.Tensor] = []
        places: list[torch.Tensor] = []
        for index, expert in enumerate(self.experts):
            rows = chosen[:, index].nonzero().flatten().to(hidden.device)
            if len(rows):
                answers.append(expert(hidden[rows]))  # (rows, K)
                shares.append(weights[rows, index].unsqueeze(-1))
                places.append(rows)
        weighted = torch.cat(shares) * torch.cat(answers)  # (B · top_k, K)
        logits = weighted.new_zeros(len(hidden), weighted.shape[-1]).index_add(0, torch.cat(places), weighted)
        return logits.to(answers[0].dtype)
