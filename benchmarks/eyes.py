"""How long MCO-E Net takes, beside four timm ResNet-18s, which it holds.

    python benchmarks/eyes.py             # a minute or two on two cores
    OMP_WAIT_POLICY=PASSIVE python benchmarks/eyes.py     # in seconds of the processor, on a machine that others use
    python benchmarks/eyes.py --device cuda

Which two of the eight experts answer decides how many weights are read, so pairs of one kind are timed too, by a bias on the
router: two focal experts, two attention experts, two deep ones. The network is timed as `recogniser` holds what it loads. Beside
it stands what reading the weights of two deep experts takes, which is the least that they would take as layers, one after another.

What is compared takes turns within one run, and medians are printed, so that other load on the machine falls on both sides.
Ratios are medians of the ratios of neighbours. `benchmarks/README.md` says what was predicted and what came of it.
"""

import argparse
import os
import platform
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import timm
import torch
import transformers
from turns import ratio, time_in_turns, verdict

from meco_hub.pipeline import lay_out, recogniser
from meco_mcoenet.configuration_mcoenet import EXPERT_KINDS, MCOENetConfig
from meco_mcoenet.experts import DeepExpert
from meco_mcoenet.modeling_mcoenet import MCOENetForEmotionRecognition
from meco_mcoenet.processing_mcoenet import MCOENetProcessor

GOAL = 1.3


def prefer(model: MCOENetForEmotionRecognition, kind: str | None) -> None:
    """Make two experts of one kind answer whatever the router sees; None leaves the choice to it."""
    bias = model.moe.router.down.bias
    with torch.no_grad():
        bias.zero_()
        if kind is not None:
            places = [index for index, one in enumerate(model.config.expert_types) if one == kind][:2]
            bias[places] = 60.0


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Time MCO-E Net beside four timm ResNet-18s.")
    parser.add_argument("--rounds", type=int, default=15, help="repeats of each comparison (default 15)")
    parser.add_argument("--threads", type=int, default=None, help="torch threads (default: torch's own choice)")
    parser.add_argument("--batch", type=int, nargs="*", default=(1, 16), help="clips at once (default 1 and 16)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    options = parser.parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    device = options.device
    torch.manual_seed(0)
    print(
        f"torch {torch.__version__}, transformers {transformers.__version__}, timm {timm.__version__}, Python "
        f"{platform.python_version()}; {os.cpu_count()} CPUs, {torch.get_num_threads()} torch threads, {device}; load average "
        f"{os.getloadavg()[0]:.1f} at the start; float32; {options.rounds} rounds; pictures of 100×100"
    )
    made: Any = MCOENetForEmotionRecognition(MCOENetConfig()).eval()
    lay_out(made)
    model: Any = recogniser(made, processor=MCOENetProcessor(), device=device).model
    deep = [expert for expert in model.moe.experts if isinstance(expert, DeepExpert)][:2]
    weights = [layer.weight for expert in deep for layer in (*expert.up, *expert.down)]
    peers = [timm.create_model("resnet18").eval().to(device) for _ in range(4)]
    last = [timm.create_model("resnet18").eval().to(device, memory_format=torch.channels_last) for _ in range(4)]

    with torch.inference_mode():
        for batch in options.batch:
            clips = [torch.randn(batch, 4, 3, 100, 100, device=device) for _ in range(2)]
            picture = torch.randn(batch, 3, 100, 100, device=device)
            picture_last = picture.contiguous(memory_format=torch.channels_last)
            programs: list[Callable[[], object]] = [lambda p=picture: [peer(p) for peer in peers]]
            programs.append(lambda p=picture_last: [peer(p) for peer in last])
            for kind in (None, *EXPERT_KINDS):

                def forward(kind: str | None = kind, clips: list[torch.Tensor] = clips) -> object:
                    prefer(model, kind)
                    return model(*clips)

                programs.append(forward)
            programs.append(lambda: [one.sum() for one in weights])
            four, four_last, *own, reading = time_in_turns(programs, options.rounds, device)
            print(
                f"\nbatch {batch}: four resnet18 {statistics.median(four) * 1e3:8.1f} ms, in channels_last "
                f"{statistics.median(four_last) * 1e3:8.1f} ms"
            )
            size = sum(one.nbytes for one in weights) / 1e6
            print(
                f"  reading two deep experts' {size:.0f} MB once {statistics.median(reading) * 1e3:8.1f} ms   "
                f"{ratio(reading, four):.2f} of four resnet18"
            )
            for kind, mine in zip((None, *EXPERT_KINDS), own, strict=True):
                value, beside_last = ratio(mine, four), ratio(mine, four_last)
                who = "experts as the router chooses" if kind is None else f"two {kind} experts"
                print(
                    f"  {who:<31}{statistics.median(mine) * 1e3:8.1f} ms   ratio {value:.2f} "
                    f"({verdict(value, GOAL)}), over channels_last {beside_last:.2f}"
                )


if __name__ == "__main__":
    main()
