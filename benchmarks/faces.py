"""How long ExpressNet-MoE takes, beside timm's ResNet-50 and beside the same convolutions computed directly.

    python benchmarks/faces.py            # some minutes on two cores
    OMP_WAIT_POLICY=PASSIVE python benchmarks/faces.py    # in seconds of the processor, on a machine that others use
    python benchmarks/faces.py --quick    # a third of the repeats

What is compared takes turns within one run, and medians are printed, so that other load on the machine falls on both sides.
Ratios are medians of the ratios of neighbours. Forward passes are those of the network as `recogniser` holds what it loads.
`benchmarks/README.md` says what was predicted and what came of it.
"""

import argparse
import os
import platform
import statistics
from collections.abc import Callable, Sequence

import timm
import torch
import transformers
from torch import nn
from torch.nn import functional as F
from turns import ratio, time_in_turns, verdict

from meco_expressnet_moe.configuration_expressnet_moe import ExpressNetMoEConfig
from meco_expressnet_moe.large_kernel_conv import LargeKernelConv2d, smooth_size
from meco_expressnet_moe.modeling_expressnet_moe import ExpressNetMoEForEmotionRecognition
from meco_expressnet_moe.processing_expressnet_moe import ExpressNetMoEImageProcessor
from meco_hub import plugins
from meco_hub.loading import read_config
from meco_hub.pipeline import lay_out, recogniser

PEER = "resnet50"
AUTHORS_RATIO = {1: 3.8, 8: 5.5}
"""The authors' TensorFlow network over ResNet-50, by batch size: what this program's goals are set against, not measured here."""

FORWARD_GOAL, BUNDLED_GOAL, STEP_GOAL, ERROR_GOAL = 1.3, 1.5, 3.0, 1e-5

LAYERS = (
    # in, out, kernel, side: the large-kernel branch's first five stages, then the small-kernel branch's first two
    (3, 8, 75, 224),
    (8, 16, 50, 112),
    (16, 32, 25, 56),
    (32, 64, 15, 28),
    (64, 128, 9, 14),
    (3, 16, 15, 224),
    (16, 32, 7, 112),
)


def milliseconds(seconds: Sequence[float]) -> str:
    return f"{statistics.median(seconds) * 1e3:8.1f} ms"


def direct_gmac(layers: Sequence[tuple[int, int, int, int]]) -> float:
    return sum(i * o * k * k * s * s for i, o, k, s in layers) / 1e9


def fft_gmac(layers: Sequence[tuple[int, int, int, int]]) -> float:
    """Multiply-accumulates of the FFT path with the kernel's spectrum at hand: 2.5 n² log₂ n² flops a real transform of
    n × n points, four multiply-accumulates a complex product, two flops counted as one multiply-accumulate."""
    total = 0.0
    for i, o, k, s in layers:
        n = smooth_size(s + k // 2)
        total += 1.25 * (i + o) * n * n * 2 * torch.log2(torch.tensor(float(n))).item() + 4 * i * o * n * (n // 2 + 1)
    return total / 1e9


def report_forward(rounds: int, batches: Sequence[int]) -> None:
    print(f"\nForward pass, published configuration over timm {PEER}, evaluation mode")
    made = ExpressNetMoEForEmotionRecognition(ExpressNetMoEConfig()).eval()
    lay_out(made)
    model = recogniser(made, image_processor=ExpressNetMoEImageProcessor()).model
    peer = timm.create_model(PEER).eval()
    peer_last = timm.create_model(PEER).eval().to(memory_format=torch.channels_last)
    with torch.inference_mode():
        for batch in batches:
            pixels = torch.rand(batch, 3, 224, 224)
            pixels_last = pixels.contiguous(memory_format=torch.channels_last)
            ours, theirs, theirs_last = time_in_turns(
                [lambda p=pixels: model(p), lambda p=pixels: peer(p), lambda p=pixels_last: peer_last(p)],
                rounds if batch == 1 else max(5, rounds // 2),
            )
            value = ratio(ours, theirs)
            print(
                f"  batch {batch}: ours {milliseconds(ours)}   {PEER} {milliseconds(theirs)}   ratio {value:.2f}"
                f"   ({verdict(value, FORWARD_GOAL)}; the authors' in TensorFlow: {AUTHORS_RATIO[batch]})"
            )
            print(
                f"           {PEER} in channels_last {milliseconds(theirs_last)}   ratio {ratio(ours, theirs_last):.2f}"
            )
    by_fft = [layer for layer in LAYERS if layer[2] >= 15]
    rest = 17.27 - direct_gmac(by_fft)
    print(
        f"  limit beside us, if every multiply-accumulate took the same time ({PEER}: 4.09 GMAC): all direct "
        f"{17.27 / 4.09:.2f} (17.27 GMAC), with FFT {(rest + fft_gmac(by_fft)) / 4.09:.2f} ({rest + fft_gmac(by_fft):.2f} GMAC)"
    )


def report_bundled(rounds: int) -> None:
    """Every bundled checkpoint over its own backbone from timm, at the size of its pictures."""
    print("\nForward pass of one picture, bundled checkpoints over their backbone as timm has it")
    for name, folder in plugins.checkpoints().items():
        if read_config(str(folder)).model_type != ExpressNetMoEConfig.model_type:
            continue
        model = recogniser(folder).model
        peer = timm.create_model(model.config.backbone).eval()
        pixels = torch.rand(1, 3, model.config.image_size, model.config.image_size)
        with torch.inference_mode():
            ours, theirs = time_in_turns([lambda m=model: m(pixels), lambda m=peer: m(pixels)], 4 * rounds)  # noqa: B023
        print(
            f"  {name}, {model.config.image_size} pixels: ours {milliseconds(ours)}   {model.config.backbone} "
            f"{milliseconds(theirs)}   ratio {ratio(ours, theirs):.2f}   ({verdict(ratio(ours, theirs), BUNDLED_GOAL)})"
        )


def report_step(model: nn.Module, rounds: int, batch: int = 2) -> None:
    print(f"\nTraining step, batch {batch}: forward, backward, Adam")
    pixels, labels = torch.rand(batch, 3, 224, 224), torch.arange(batch)
    peer = timm.create_model(PEER, num_classes=7)
    steps = []
    for network, loss_of in (
        (model, lambda: model(pixels, labels=labels).loss),
        (peer, lambda: F.cross_entropy(peer(pixels), labels, label_smoothing=0.1)),
    ):
        network.train()
        optimizer = torch.optim.Adam(network.parameters(), lr=1e-4, eps=1e-7)

        def step(optimizer: torch.optim.Optimizer = optimizer, loss_of: Callable[[], torch.Tensor] = loss_of) -> None:
            optimizer.zero_grad()
            loss_of().backward()
            optimizer.step()

        steps.append(step)
    ours, theirs = time_in_turns(steps, rounds)
    value = ratio(ours, theirs)
    print(
        f"  ours {milliseconds(ours)}   {PEER} {milliseconds(theirs)}   ratio {value:.2f}   ({verdict(value, STEP_GOAL)})"
    )


def relative_error(result: torch.Tensor, exact: torch.Tensor) -> float:
    """Largest deviation over the largest magnitude."""
    return ((result.double() - exact).abs().max() / exact.abs().max()).item()


def report_layers(rounds: int, quick: bool) -> None:
    print(
        "\nOne layer, batch 1: FFT against direct convolution (channels_last), and the relative error against float64"
    )
    print("  kernel  channels  side     auto      FFT      direct   direct / FFT   error of FFT   of direct")
    for in_channels, out_channels, kernel, side in LAYERS:
        report_layer(in_channels, out_channels, kernel, side, max(3, rounds // 3) if quick and kernel >= 50 else rounds)


def report_layer(in_channels: int, out_channels: int, kernel: int, side: int, rounds: int) -> None:
    auto, fft, native = (
        LargeKernelConv2d(in_channels, out_channels, kernel, padding="same", implementation=implementation).eval()
        for implementation in ("auto", "fft", "native")
    )
    native.load_state_dict(fft.state_dict())
    pixels = torch.randn(1, in_channels, side, side)
    # By definition in float64, which takes long: of the largest kernels' results one row is enough.
    rows = slice(None) if kernel < 50 else slice(side // 2, side // 2 + 1)
    with torch.inference_mode():
        exact = exact_rows(native, pixels, rows)
        error = relative_error(fft(pixels)[:, :, rows], exact)
        direct_error = relative_error(native(pixels)[:, :, rows], exact)
        fft_seconds, direct_seconds = time_in_turns([lambda: fft(pixels), lambda: native(pixels)], rounds)
        choice = "FFT" if auto.chooses_fft(pixels) else "direct"
    print(
        f"  {kernel:>3}×{kernel:<3} {in_channels:>4}→{out_channels:<4} {side:>4}   {choice:>6} {milliseconds(fft_seconds)} "
        f"{milliseconds(direct_seconds)}   {ratio(direct_seconds, fft_seconds):10.2f}   {error:12.1e}   {direct_error:9.1e}"
        f"   ({verdict(error, ERROR_GOAL)})"
    )


def exact_rows(layer: nn.Conv2d, pixels: torch.Tensor, rows: slice) -> torch.Tensor:
    """Some rows of a 'same' convolution's result, in float64, by unfolding: no method shared with what is tested."""
    kernel, side = layer.kernel_size[0], pixels.shape[-1]
    before, after = (kernel - 1) // 2, kernel // 2
    padded = F.pad(pixels.double(), (before, after, before, after))
    weight, result = layer.weight.double(), []
    for row in range(*rows.indices(side)):
        windows = padded[0, :, row : row + kernel].unfold(2, kernel, 1)  # (I, k, side, k)
        result.append(torch.einsum("irsc,oirc->os", windows, weight))
    bias = torch.zeros(layer.out_channels) if layer.bias is None else layer.bias
    return torch.stack(result, dim=1).unsqueeze(0) + bias.double()[:, None, None]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Time ExpressNet-MoE beside timm's ResNet-50.")
    parser.add_argument("--quick", action="store_true", help="a third of the repeats")
    parser.add_argument("--rounds", type=int, default=15, help="repeats of each comparison (default 15)")
    parser.add_argument("--threads", type=int, default=None, help="torch threads (default: torch's own choice)")
    parser.add_argument(
        "--batch", type=int, nargs="*", choices=(1, 8), default=(1, 8), help="pictures at once, forwards"
    )
    parser.add_argument(
        "--only",
        choices=("forward", "bundled", "step", "layers"),
        nargs="*",
        default=("forward", "bundled", "step", "layers"),
        help="parts to run",
    )
    options = parser.parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    rounds = max(3, options.rounds // 3) if options.quick else options.rounds
    torch.manual_seed(0)
    print(
        f"torch {torch.__version__}, transformers {transformers.__version__}, timm {timm.__version__}, "
        f"Python {platform.python_version()}; {os.cpu_count()} CPUs, {torch.get_num_threads()} torch threads, "
        f"load average {os.getloadavg()[0]:.1f} at the start; float32; {rounds} rounds"
    )
    if "forward" in options.only:
        report_forward(rounds, options.batch)
    if "bundled" in options.only:
        report_bundled(rounds)
    if "step" in options.only:
        report_step(ExpressNetMoEForEmotionRecognition(ExpressNetMoEConfig()), max(3, rounds // 2))
    if "layers" in options.only:
        report_layers(rounds, options.quick)


if __name__ == "__main__":
    main()
