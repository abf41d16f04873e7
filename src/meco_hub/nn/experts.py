"""Choosing experts: the best k of each row, and the loss that keeps their load even.

Source: Fedus et al. 2021, "Switch Transformers", eq. 4–6 (balance loss).
"""

import torch


def select_top_k(scores: torch.Tensor, k: int) -> torch.Tensor:
    """True for the `k` largest scores of each row; among equal scores the lower index wins.

    Shape:
        (batch, experts) → (batch, experts), bool.
    """
    mine, other = scores.unsqueeze(-1), scores.unsqueeze(-2)  # (B, E, 1), (B, 1, E)
    index = torch.arange(scores.shape[-1], device=scores.device)
    earlier = index.unsqueeze(0) < index.unsqueeze(1)  # [i, j]: j stands before i
    beaten_by = (other > mine) | ((other == mine) & earlier)
    return beaten_by.sum(dim=-1) < k


def load_balancing_loss(router_logits: torch.Tensor, top_k: int) -> torch.Tensor:
    """Switch Transformers' balance loss, `E · Σ_e f_e · p_e`: 1 when the load is even, at most E.

    `f_e` is the share of selections that went to expert e (no gradient), `p_e` its mean probability.

    Shape:
        router logits (batch, num_experts) → scalar.
    """
    probabilities = router_logits.float().softmax(dim=-1)
    selected = select_top_k(probabilities, top_k).to(probabilities.dtype)
    return probabilities.shape[-1] * (selected.mean(dim=0) / top_k * probabilities.mean(dim=0)).sum()
