"""A mixture of experts on one vector per sample: every expert a dense layer, the best `top_k` of them answering.

Notable:
- All experts are computed, as one matrix product; the unselected ones are multiplied by exactly zero, so they receive
  exactly zero gradient. For a handful of experts on a pooled vector this beats gathering, and it exports.
- Selection is by counting who beats whom, not by `torch.topk`, which leaves the order of equal gates open: here equal gates
  go to the lower index, on every device, as in TensorFlow.
- The weights of the selected experts are their raw softmax values unless `norm_topk_prob`.

Sources: Shazeer et al. 2017 (top-k gating); Zoph et al. 2022, "ST-MoE", eq. 5 (z-loss).
"""

import torch
from torch import nn
from torch.nn import functional as F

from meco_hub.nn.losses import select_top_k, widen


class TopKExperts(nn.Module):
    """`y = Σ_{i ∈ top-k} g_i · relu(W_i x + b_i)` with `g = softmax(W_g x + b_g)`.

    Args:
        in_features: width of the input.
        out_features: width of the output.
        num_experts: number of experts E.
        top_k: how many of them answer for one sample.
        norm_topk_prob: divide the selected gates by their sum, so that they sum to one.
        jitter: in training, the router's input is multiplied by U(1 − jitter, 1 + jitter); 0 is off.

    Shape:
        input (batch, in_features) → output (batch, out_features), router logits (batch, num_experts).
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        num_experts: int = 4,
        top_k: int = 2,
        norm_topk_prob: bool = False,
        jitter: float = 0.0,
    ) -> None:
        super().__init__()
        self.top_k = top_k
        self.norm_topk_prob = norm_topk_prob
        self.jitter = jitter
        self.router = nn.Linear(in_features, num_experts)
        self.weight = nn.Parameter(torch.empty(num_experts, out_features, in_features))
        self.bias = nn.Parameter(torch.empty(num_experts, out_features))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Glorot-uniform weights, each expert a layer of its own, and zero biases."""
        for expert in self.weight:  # xavier_uniform_ on all three dimensions would take E for a part of the fan
            nn.init.xavier_uniform_(expert)
        nn.init.zeros_(self.bias)
        nn.init.xavier_uniform_(self.router.weight)
        nn.init.zeros_(self.router.bias)

    def extra_repr(self) -> str:
        experts, outputs, inputs = self.weight.shape
        return (
            f"in_features={inputs}, out_features={outputs}, num_experts={experts}, top_k={self.top_k}, "
            f"norm_topk_prob={self.norm_topk_prob}, jitter={self.jitter}"
        )

    def gates(self, router_logits: torch.Tensor) -> torch.Tensor:
        """Weight of every expert, zero where it is not selected: (batch, num_experts) → the same, in float32 or wider."""
        probabilities = widen(router_logits).softmax(dim=-1)
        selected = probabilities * select_top_k(probabilities, self.top_k)
        if self.norm_topk_prob:
            selected = selected / selected.sum(dim=-1, keepdim=True)
        return selected

    def forward(self, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        routed = inputs
        if self.training and self.jitter > 0:
            routed = inputs * torch.empty_like(inputs).uniform_(1.0 - self.jitter, 1.0 + self.jitter)
        router_logits = self.router(routed)  # (B, E)
        gates = self.gates(router_logits)
        answers = F.linear(inputs, self.weight.flatten(0, 1), self.bias.flatten())  # (B, E·out), one product for all
        answers = F.relu(answers).unflatten(-1, self.bias.shape)  # (B, E, out)
        return (answers * gates.to(answers.dtype).unsqueeze(-1)).sum(dim=1), router_logits


def router_z_loss(router_logits: torch.Tensor) -> torch.Tensor:
    """ST-MoE's z-loss: the mean square of the logits' log-sum-exp, which keeps them small. Scalar."""
    return router_logits.float().logsumexp(dim=-1).square().mean()
