"""The synthetic benchmark of alignment: does the network find delays, and does finding them help?

Three smooth processes a, b, c. Modality m1 shows (a, c), m2 shows (b, c) late by up to a second with time stamps that do not say
so, m3 shows c. Targets: the mean of a·b, which needs m1 and m2 in step; the mean of c; the mean of a.

`python test_synthetic_benchmark.py [steps] [option=value …]` trains once and prints the figures.
"""

import json
import math
import sys
from typing import Any

import pytest
import torch

from meco_himoe.configuration_himoe import HiMoEConfig
from meco_himoe.modeling_himoe import HiMoEForEmotionRecognition
from meco_hub.nn.losses import concordance

RATE, WINDOW, REACH = 16, 8.0, 1.0
MODALITIES = {name: {"channels": 4, "sampling_rate": RATE} for name in ("m1", "m2", "m3")}
Batch = dict[str, Any]


class Generator:
    """Windows of the three modalities, drawn from a seed; mixtures are fixed by the generator, not by the seed."""

    def __init__(self, seed: int) -> None:
        self.random = torch.Generator().manual_seed(seed)
        fixed = torch.Generator().manual_seed(1234)
        self.mixes = [torch.randn(sources, 4, generator=fixed) for sources in (2, 2, 1)]
        ticks = torch.arange(-3 * RATE, 3 * RATE + 1) / RATE
        kernel = torch.exp(-0.5 * (ticks / 0.6) ** 2)
        self.kernel = kernel / kernel.square().sum().sqrt()  # unit variance

    def batch(self, size: int, dropout: bool) -> Batch:
        margin = round(REACH * RATE)
        length = round(WINDOW * RATE)
        noise = torch.randn(size * 3, 1, length + 2 * margin + len(self.kernel) - 1, generator=self.random)
        series = torch.nn.functional.conv1d(noise, self.kernel[None, None]).view(size, 3, -1)
        late = torch.rand(size, generator=self.random) * 2 * REACH - REACH
        late = (late * RATE).round() / RATE  # whole samples, so that delaying needs no interpolation
        now = torch.arange(length) + margin
        then = now[None] - (late * RATE).long()[:, None]  # what m2 shows at t happened at t − δ
        a, b, c = (series[:, index, now] for index in range(3))
        delayed = [series[:, index].gather(1, then) for index in (1, 2)]
        sources = [torch.stack([a, c], -1), torch.stack(delayed, -1), c.unsqueeze(-1)]
        inputs = {
            name: source @ mix + 0.3 * torch.randn(size, length, 4, generator=self.random)
            for name, source, mix in zip(MODALITIES, sources, self.mixes, strict=True)
        }
        lags = torch.zeros(size, 3)
        lags[:, 1] = late
        labels = torch.stack([1.2 * (a * b).mean(1), 0.8 * c.mean(1), 0.8 * a.mean(1)], -1)
        presence = torch.ones(size, 3, dtype=torch.bool)
        if dropout:
            rate = torch.rand(size, 1, generator=self.random) * 0.7
            rate = rate * (torch.rand(size, 1, generator=self.random) > 0.3)
            presence = torch.rand(size, 3, generator=self.random) >= rate
            none = ~presence.any(dim=1)
            presence[none, torch.randint(3, (int(none.sum()),), generator=self.random)] = True
        return {"inputs": inputs, "modality_presence": presence, "labels": labels, "lag_targets": lags}


def train(steps: int, seed: int = 0, schedule_steps: int = 1500, **changes: Any) -> HiMoEForEmotionRecognition:
    torch.manual_seed(seed)
    options = {"d_model": 48, "encoder_layers": 1, "eeb_layers": 1, "dropout": 0.0, "window_s": WINDOW}
    model = HiMoEForEmotionRecognition(HiMoEConfig(modalities=MODALITIES, **{**options, **changes})).train()
    free = model.no_weight_decay()
    named = list(model.named_parameters())
    groups = [
        {"params": [p for n, p in named if n not in free], "weight_decay": 0.05},
        {"params": [p for n, p in named if n in free], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda s: 0.5 * (1 + math.cos(math.pi * s / schedule_steps))
    )
    generator = Generator(seed)
    for step in range(steps):
        output = model(**generator.batch(32, dropout=True))
        optimizer.zero_grad()
        output.loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if __name__ == "__main__" and step % 25 == 0:
            print(step, {name: round(value.item(), 3) for name, value in output.losses.items()}, flush=True)
    return model.eval()


@torch.no_grad()
def measure(model: HiMoEForEmotionRecognition) -> dict[str, Any]:
    """On 512 fresh windows with everything present: CCC of each target, and how well the delay of m2 is found."""
    batch = Generator(10_000).batch(512, dropout=False)
    output = model(**batch, output_routing=True)
    found = output.lags[:, 1] - (output.lags[:, 0] + output.lags[:, 2]) / 2
    applied = batch["lag_targets"][:, 1]
    together = torch.corrcoef(torch.stack([found, applied]))[0, 1]
    figures = {"ccc": [round(value, 3) for value in concordance(output.logits, batch["labels"]).tolist()]}
    return {**figures, "lag_mae": round((found - applied).abs().mean().item(), 3), "lag_r": round(together.item(), 3)}


@pytest.fixture(scope="module")
def trained() -> dict[str, Any]:
    figures = {"aligned": measure(train(300)), "not aligned": measure(train(300, use_alignment=False))}
    print(json.dumps(figures, indent=1))
    return figures


@pytest.mark.slow
@pytest.mark.xdist_group("alignment")  # two workers would train both networks twice
@pytest.mark.timeout(1800)  # whichever comes first waits for both trainings
def test_delays_are_found(trained: dict[str, Any]) -> None:
    assert trained["aligned"]["lag_r"] > 0.9
    assert trained["aligned"]["lag_mae"] < 0.15


@pytest.mark.slow
@pytest.mark.xdist_group("alignment")
@pytest.mark.timeout(1800)
def test_what_needs_no_alignment_is_learnt(trained: dict[str, Any]) -> None:
    assert trained["aligned"]["ccc"][1] > 0.9


@pytest.mark.slow
@pytest.mark.xdist_group("alignment")
@pytest.mark.timeout(1800)
def test_what_needs_alignment_is_learnt_better_with_it(trained: dict[str, Any]) -> None:
    assert trained["aligned"]["ccc"][0] > trained["not aligned"]["ccc"][0]


def test_a_delay_of_the_generator_is_late() -> None:
    batch = Generator(0).batch(64, dropout=False)
    late = batch["lag_targets"][:, 1]
    chosen = late.abs() > 0.5
    # correlate m3 and m2, which share c, at the delay and at its opposite: only the sign decides
    m2, m3 = batch["inputs"]["m2"][..., :].sum(-1), batch["inputs"]["m3"].sum(-1)
    shift = (late * RATE).long()
    score = []
    for sign in (1, -1):
        rolled = torch.stack([torch.roll(row, int(-sign * s)) for row, s in zip(m2, shift, strict=True)])
        score.append((rolled * m3)[:, 20:-20].mean(1)[chosen].abs().mean())
    assert score[0] > score[1]


if __name__ == "__main__":
    torch.set_num_threads(1)
    given = dict(argument.split("=") for argument in sys.argv[2:])
    print(measure(train(int(sys.argv[1]), **{key: json.loads(value) for key, value in given.items()})))
