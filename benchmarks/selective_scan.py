"""How long the selective scan takes, beside loops over time, and its share of the eye network's forward pass.

    python benchmarks/selective_scan.py               # a minute or two on two cores
    python benchmarks/selective_scan.py --threads 1

Two loops stand beside it, both differentiated by autograd. The plain one writes a step as the formula stands. The careful one takes
every exponential and product that does not depend on the past out of the loop, and cuts tensors once: it is the best that I know a
loop to be. On CUDA, mamba_ssm's kernel stands beside ours where that package is installed.

What is compared takes turns within one run, and medians are printed, so that other load on the machine falls on both sides.
Ratios are medians of the ratios of neighbours. `benchmarks/README.md` says what was predicted and what came of it.
"""

import argparse
import os
import platform
import statistics
import unittest.mock
from collections.abc import Callable, Sequence

import torch
from torch.nn import functional as F
from turns import ratio, time_in_turns, verdict

from meco_mcoenet import modeling_mcoenet as modeling
from meco_mcoenet import selective_scan as module
from meco_mcoenet.configuration_mcoenet import MCOENetConfig
from meco_mcoenet.modeling_mcoenet import MCOENetForEmotionRecognition
from meco_mcoenet.selective_scan import selective_scan

SHAPES = ((1, 8, 16, 500), (32, 8, 16, 500), (1, 256, 16, 500))
"""(batch, channels, state, length)"""

GRADIENT_GOAL, SHARE_GOAL, ERROR_GOAL = 10.0, 0.10, 1e-5

Arguments = list[torch.Tensor]
Scan = Callable[..., torch.Tensor]


def plain_loop(*arguments: torch.Tensor) -> torch.Tensor:
    """The formula, step by step."""
    u, delta, A, B, C, D, z = arguments
    delta = F.softplus(delta)
    h = u.new_zeros(*u.shape[:-1], A.shape[-1])
    ys = []
    for t in range(u.shape[-1]):
        step, now = delta[..., t], u[..., t]
        h = torch.exp(step[..., None] * A) * h + (step * now)[..., None] * B[..., None, :, t]
        ys.append((h * C[..., None, :, t]).sum(-1) + D * now)
    return torch.stack(ys, dim=-1) * F.silu(z)


def careful_loop(*arguments: torch.Tensor) -> torch.Tensor:
    """One fused multiply-add a step; all else before and after the loop."""
    u, delta, A, B, C, D, z = arguments
    delta = F.softplus(delta)
    steps = delta.movedim(-1, 0)
    decays = torch.exp(steps.unsqueeze(-1) * A).unbind()
    inputs = ((steps * u.movedim(-1, 0)).unsqueeze(-1) * B.movedim(-1, 0).unsqueeze(-2)).unbind()
    h, states = torch.zeros_like(inputs[0]), []
    for decay, new in zip(decays, inputs, strict=True):
        h = torch.addcmul(new, decay, h)
        states.append(h)
    y = (torch.stack(states) * C.movedim(-1, 0).unsqueeze(-2)).sum(-1).movedim(0, -1)
    return (y + D[..., None] * u) * F.silu(z)


def ours(*arguments: torch.Tensor) -> torch.Tensor:
    return selective_scan(*arguments, delta_softplus=True)


def ours_without_kernel(*arguments: torch.Tensor) -> torch.Tensor:
    """Plain PyTorch even where the kernel could be had."""
    allowed = module._may_use_kernel
    module._may_use_kernel = lambda u, A: False
    try:
        return ours(*arguments)
    finally:
        module._may_use_kernel = allowed


def make_arguments(shape: tuple[int, int, int, int], device: str) -> Arguments:
    batch, channels, state, length = shape
    A = -torch.arange(1.0, state + 1).repeat(channels, 1)
    steps = torch.randn(batch, channels, length) - 3  # softplus of which is about 0.05
    sequence = [torch.randn(batch, width, length) for width in (channels, state, state, channels)]
    u, B, C, z = sequence
    return [one.to(device) for one in (u, steps, A, B, C, torch.ones(channels), z)]


def with_gradients(scan: Scan, arguments: Arguments) -> Callable[[], object]:
    leaves = [one.clone().requires_grad_() for one in arguments]
    return lambda: torch.autograd.grad(scan(*leaves).sum(), leaves)


def report_shape(shape: tuple[int, int, int, int], rounds: int, device: str) -> None:
    scans: list[tuple[str, Scan]] = [("ours", ours)]
    if device != "cpu" and module._mamba_kernel() is not None:
        scans = [("ours", ours_without_kernel), ("mamba_ssm", ours)]
    scans += [("careful loop", careful_loop), ("plain loop", plain_loop)]
    arguments = make_arguments(shape, device)
    exact = plain_loop(*(one.double() for one in arguments))
    error = ((scans[0][1](*arguments).double() - exact).abs().max() / exact.abs().max()).item()
    print(f"\n{shape}: relative error against float64 {error:.1e} ({verdict(error, ERROR_GOAL)})")
    with torch.no_grad():
        forward = time_in_turns([lambda scan=scan: scan(*arguments) for _, scan in scans], rounds, device)
    learning = time_in_turns([with_gradients(scan, arguments) for _, scan in scans], rounds, device)
    for kind, seconds in (("forward", forward), ("with gradients", learning)):
        for (name, _), spent in zip(scans, seconds, strict=True):
            line = f"  {kind:<15}{name:<14}{statistics.median(spent) * 1e3:9.2f} ms"
            if name != "ours":
                line += f"   {ratio(spent, seconds[0]):6.1f} times ours"
            if kind == "with gradients" and name == "plain loop":
                line += f"   ({verdict(ratio(spent, seconds[0]), GRADIENT_GOAL, at_least=True)})"
            print(line)


def report_share(model: MCOENetForEmotionRecognition, batch: int, rounds: int, device: str) -> None:
    clips = [torch.randn(batch, 4, 3, 100, 100, device=device) for _ in range(2)]
    block = model.mcoenet.joint_scan
    tokens: list[torch.Tensor] = []
    handle = block.register_forward_pre_hook(lambda _module, inputs: tokens.append(inputs[0]))
    with torch.inference_mode():
        with unittest.mock.patch.object(modeling, "selective_scan", wraps=selective_scan) as watched:
            model(*clips)
        handle.remove()
        call = watched.call_args
        programs = [
            lambda: model(*clips),
            lambda: selective_scan(*call.args, **call.kwargs),
            lambda: block(tokens[0]),
        ]
        whole, scan, around = time_in_turns(programs, rounds, device)
    share, with_rest = ratio(scan, whole), ratio(around, whole)
    print(
        f"  batch {batch:>2}: whole {statistics.median(whole) * 1e3:8.1f} ms, scan {statistics.median(scan) * 1e3:6.2f} ms: "
        f"{share:.1%} ({verdict(share, SHARE_GOAL)}); with its projections {statistics.median(around) * 1e3:6.2f} ms: "
        f"{with_rest:.1%}"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Time the selective scan beside loops over time.")
    parser.add_argument("--rounds", type=int, default=15, help="repeats of each comparison (default 15)")
    parser.add_argument("--threads", type=int, default=None, help="torch threads (default: torch's own choice)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--only", choices=("shapes", "share"), nargs="*", default=("shapes", "share"))
    options = parser.parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    print(
        f"torch {torch.__version__}, Python {platform.python_version()}; {os.cpu_count()} CPUs, {torch.get_num_threads()} torch "
        f"threads, {options.device}; load average {os.getloadavg()[0]:.1f} at the start; float32; {options.rounds} rounds"
    )
    if "shapes" in options.only:
        for shape in SHAPES:
            report_shape(shape, options.rounds, options.device)
    if "share" in options.only:
        print("\nThe published eye network, 100×100, evaluation mode: the scan's share of a forward pass")
        model = MCOENetForEmotionRecognition(MCOENetConfig()).eval().to(options.device)
        for batch in (1, 16):
            report_share(model, batch, options.rounds, options.device)


if __name__ == "__main__":
    main()
