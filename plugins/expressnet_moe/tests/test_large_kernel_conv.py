"""LargeKernelConv2d against torch's own convolution: values, gradients, memory of the kernel, graphs."""

import copy
import io
import warnings

import pytest
import torch
from torch import nn

from meco_expressnet_moe.large_kernel_conv import LargeKernelConv2d, prefers_fft, prefers_matrices, smooth_size

PUBLISHED = {  # in, out, kernel, side at 224 pixels → by FFT?
    (3, 8, 75, 224): True,
    (8, 16, 50, 112): True,
    (16, 32, 25, 56): True,
    (32, 64, 15, 28): True,
    (3, 16, 15, 224): True,
    (64, 128, 9, 14): False,
    (128, 256, 3, 7): False,
    (16, 32, 7, 112): False,
    (32, 64, 5, 56): False,
}


def pair(*args: object, dtype: torch.dtype = torch.float64, **kwargs: object) -> tuple[LargeKernelConv2d, nn.Conv2d]:
    """An FFT layer and torch's with the same weights."""
    ours = LargeKernelConv2d(*args, implementation="fft", **kwargs).to(dtype)  # type: ignore[arg-type]
    theirs = nn.Conv2d(*args, **kwargs).to(dtype)  # type: ignore[arg-type]
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


@pytest.fixture(autouse=True)
def _quiet_even_kernels():
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Using padding='same' with even kernel")  # torch's reference warns
        warnings.filterwarnings("ignore", message="Torchinductor does not support code generation for complex")
        yield


@pytest.mark.parametrize("kernel", [3, 9, 15, 24, 25, 50, (4, 7)])
def test_value_and_gradients_equal_conv2d(kernel):
    ours, theirs = pair(2, 3, kernel, padding="same")
    x = torch.randn(3, 2, 26, 31, dtype=torch.float64, requires_grad=True)
    gradient = torch.randn(3, 3, 26, 31, dtype=torch.float64)
    results = []
    for layer in (ours, theirs):
        y = layer(x)
        results.append((y, *torch.autograd.grad(y, [x, layer.weight, layer.bias], gradient)))
    for mine, reference in zip(*results, strict=True):
        torch.testing.assert_close(mine, reference, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("padding", [0, 2, (3, 1), 9, "valid", "same"])
def test_every_padding(padding):
    ours, theirs = pair(2, 3, (5, 4), padding=padding)
    x = torch.randn(2, 2, 13, 17, dtype=torch.float64, requires_grad=True)
    assert ours.chooses_fft(x)
    results = []
    for layer in (ours, theirs):
        y = layer(x)
        results.append((y, *torch.autograd.grad(y.square().sum(), [x, layer.weight])))
    for mine, reference in zip(*results, strict=True):
        torch.testing.assert_close(mine, reference)


def test_even_kernel_pads_one_more_after():
    layer = LargeKernelConv2d(1, 1, 50, padding="same", bias=False, implementation="fft").double()
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[0, 0, 0, 0] = 1.0  # reads the pixel that lies `padding before` away
        x = torch.arange(60.0 * 60, dtype=torch.float64).reshape(1, 1, 60, 60)
        y = layer(x)
    assert torch.allclose(y[0, 0, 24:, 24:], x[0, 0, :36, :36])
    assert torch.allclose(y[0, 0, :24], torch.zeros(1, dtype=torch.float64), atol=1e-9)


def test_gradcheck_first_and_second_order():
    layer = LargeKernelConv2d(1, 2, (4, 5), padding="same", implementation="fft").double()
    x = torch.randn(2, 1, 5, 4, dtype=torch.float64, requires_grad=True)

    def run(x, weight, bias):
        return torch.func.functional_call(layer, {"weight": weight, "bias": bias}, (x,))

    assert torch.autograd.gradcheck(run, (x, layer.weight, layer.bias))
    assert torch.autograd.gradgradcheck(run, (x, layer.weight, layer.bias))


def test_gradients_only_where_wanted():
    layer = LargeKernelConv2d(2, 3, 9, padding="same", implementation="fft")
    layer.weight.requires_grad_(False)
    layer(torch.randn(1, 2, 16, 16)).sum().backward()
    assert layer.weight.grad is None
    torch.testing.assert_close(layer.bias.grad, torch.full((3,), 256.0))


@pytest.mark.parametrize(
    ("in_channels", "out_channels", "kernel", "side"), [(3, 2, 75, 80), (4, 2, 50, 56), (8, 4, 25, 56)]
)
def test_float32_error_below_1e_5(in_channels, out_channels, kernel, side):
    layer = LargeKernelConv2d(in_channels, out_channels, kernel, padding="same", implementation="fft").eval()
    _, exact = pair(in_channels, out_channels, kernel, padding="same")
    exact.load_state_dict(layer.state_dict())
    x = torch.rand(2, in_channels, side, side)
    with torch.no_grad():
        reference = exact(x.double())
        error = (layer(x).double() - reference).abs().max() / reference.abs().max()
    assert error < 1e-5


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    layer = LargeKernelConv2d(3, 4, 25, padding="same", implementation="fft").to(dtype).eval()
    wide = copy.deepcopy(layer).float()
    x = torch.rand(2, 3, 32, 32).to(dtype)
    with torch.no_grad():
        y = layer(x)
        assert y.dtype == dtype
        torch.testing.assert_close(y, wide(x.float()).to(dtype))  # one rounding, at the end
    x.requires_grad_()
    layer(x).float().sum().backward()
    assert x.grad.dtype == layer.weight.grad.dtype == dtype


def test_autocast_gives_its_own_dtype():
    layer = LargeKernelConv2d(3, 4, 25, padding="same", implementation="fft")
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(torch.rand(1, 3, 32, 32)).dtype == torch.bfloat16


@pytest.mark.parametrize("implementation", ["fft", "native"])
def test_memory_layout_is_kept(implementation):
    layer = LargeKernelConv2d(3, 4, 9, padding="same", implementation=implementation).eval()
    x = torch.rand(2, 3, 20, 20)
    last = x.contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        assert layer(x).is_contiguous()
        assert layer(last).is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(layer(x), layer(last))


def test_large_batches_in_pieces_equal_single_pictures(monkeypatch):
    monkeypatch.setattr("meco_expressnet_moe.large_kernel_conv._PIECE", {"cpu": 1})
    ours, theirs = pair(2, 3, 9, padding="same")
    x = torch.randn(5, 2, 16, 16, dtype=torch.float64, requires_grad=True)
    for layer in (ours, theirs):
        layer(x).square().sum().backward()
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad)
    with torch.no_grad():
        assert torch.equal(ours(x)[3:4], ours(x[3:4]))


# --- when ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shape", "by_fft"), PUBLISHED.items())
def test_choice_for_the_published_layers(shape, by_fft):
    in_channels, out_channels, kernel, side = shape
    layer = LargeKernelConv2d(in_channels, out_channels, kernel, padding="same")
    for batch in (1, 7):  # the batch has no say: one picture's answer does not depend on its neighbours
        assert layer.chooses_fft(torch.empty(batch, in_channels, side, side)) is by_fft


@pytest.mark.parametrize(
    "options",
    [
        {"stride": 2, "padding": 4},
        {"dilation": 2, "padding": "same"},
        {"groups": 2},
        {"padding_mode": "reflect", "padding": 4},
    ],
)
def test_what_the_fft_cannot_do_is_native(options):
    ours, theirs = pair(2, 4, 9, **options)
    x = torch.randn(1, 2, 20, 20, dtype=torch.float64)
    assert not ours.chooses_fft(x)
    torch.testing.assert_close(ours(x), theirs(x))


def test_even_kernel_natively_without_torchs_warning():
    layer = LargeKernelConv2d(2, 3, 6, padding="same", implementation="native")
    _, theirs = pair(2, 3, 6, padding="same", dtype=torch.float32)
    theirs.load_state_dict(layer.state_dict())
    x = torch.randn(1, 2, 20, 20)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        y = layer(x)
    torch.testing.assert_close(y, theirs(x))


def test_unknown_devices_and_meta_tensors_are_native():
    assert not prefers_fft(3, 8, (75, 75), (224, 224), (270, 270), "mps")
    assert (
        LargeKernelConv2d(3, 8, 75, padding="same").to("meta")(torch.empty(1, 3, 224, 224, device="meta")).shape[1] == 8
    )


@pytest.mark.parametrize("shape", [(3, 20, 20), (0, 2, 20, 20)])
def test_unbatched_and_empty_input_as_conv2d(shape):
    ours, theirs = pair(shape[-3], 3, 9, padding="same")
    x = torch.randn(shape, dtype=torch.float64)
    torch.testing.assert_close(ours(x), theirs(x))


def test_wrong_channels_get_torchs_message():
    with pytest.raises(RuntimeError, match="channels"):
        LargeKernelConv2d(2, 3, 9, implementation="fft")(torch.randn(1, 5, 20, 20))


def test_smooth_size():
    assert [smooth_size(n) for n in (1, 7, 37, 131, 261, 300)] == [2, 8, 40, 144, 270, 300]


# --- the kept spectrum --------------------------------------------------------------------------------------------------


def optimiser_step(layer: LargeKernelConv2d) -> LargeKernelConv2d:
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    layer(torch.randn(1, 2, 16, 16)).sum().backward()
    optimizer.step()
    return layer


def loaded(layer: LargeKernelConv2d) -> LargeKernelConv2d:
    layer.load_state_dict(LargeKernelConv2d(2, 3, 9, padding="same").state_dict())
    return layer


def edited_through_data(layer: LargeKernelConv2d) -> LargeKernelConv2d:
    layer.weight.data.mul_(2)  # torch does not count this as a change
    return layer


def swapped_data(layer: LargeKernelConv2d) -> LargeKernelConv2d:
    layer.weight.data = torch.randn_like(layer.weight)
    return layer


def assigned(layer: LargeKernelConv2d) -> LargeKernelConv2d:
    layer.weight = nn.Parameter(torch.randn_like(layer.weight))
    return layer


def copied_and_edited(layer: LargeKernelConv2d) -> LargeKernelConv2d:
    twin = copy.deepcopy(layer)
    edited_through_data(twin)
    return twin


def pickled(layer: LargeKernelConv2d) -> LargeKernelConv2d:
    buffer = io.BytesIO()
    torch.save(layer, buffer)
    assert len(buffer.getvalue()) < 3 * layer.weight.numel() * 4 + 4000  # the spectrum did not travel
    buffer.seek(0)
    return edited_through_data(torch.load(buffer, weights_only=False))


def widened(layer: LargeKernelConv2d) -> LargeKernelConv2d:
    return edited_through_data(layer.double()).float()


@pytest.mark.parametrize(
    "change",
    [optimiser_step, loaded, edited_through_data, swapped_data, assigned, copied_and_edited, pickled, widened],
)
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_the_kept_spectrum_is_never_stale(change, mode):
    layer = LargeKernelConv2d(2, 3, 9, padding="same", implementation="fft").eval()
    x = torch.randn(2, 2, 16, 16)
    with mode():
        before = layer(x)
    assert layer._spectrum is not None, "the test would prove nothing"
    layer = change(layer)
    reference = nn.Conv2d(2, 3, 9, padding="same")
    reference.load_state_dict(layer.state_dict())
    with mode():
        after, expected = layer(x), reference(x)
    torch.testing.assert_close(after, expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(before, after, atol=1e-3)


def test_the_spectrum_is_reused_dropped_in_training_and_no_state():
    layer = LargeKernelConv2d(2, 3, 9, padding="same", implementation="fft").eval()
    x = torch.randn(2, 2, 16, 16)
    with torch.no_grad():
        layer(x)
        first = layer._spectrum
        layer(x)
        assert layer._spectrum is first
        layer(torch.randn(2, 2, 20, 20))  # another grid
        torch.testing.assert_close(layer(x), nn.functional.conv2d(x, layer.weight, layer.bias, padding="same"))
    assert set(layer.state_dict()) == {"weight", "bias"}
    layer.train()
    assert layer._spectrum is None
    layer(x)
    with torch.no_grad():
        layer(x)
    assert layer._spectrum is None


# --- graphs -------------------------------------------------------------------------------------------------------------


def targets(program: torch.export.ExportedProgram) -> str:
    return " ".join(str(node.target) for node in program.graph.nodes)


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("given", [{"kernel_size": 15, "padding": "same"}, {"kernel_size": (4, 7), "padding": (3, 1)}])
def test_export_multiplies_by_matrices_and_agrees(strict, given):
    layer = LargeKernelConv2d(3, 4, implementation="fft", **given).eval()
    native = LargeKernelConv2d(3, 4, implementation="native", **given).eval()
    native.load_state_dict(layer.state_dict())
    x = torch.rand(2, 3, 26, 31)
    batch = {"input": {0: torch.export.Dim.DYNAMIC}}
    program = torch.export.export(layer, (x,), dynamic_shapes=batch, strict=strict)
    assert "matmul" in targets(program)
    assert "conv2d" not in targets(program)
    assert "fft" not in targets(program)
    for size in (1, 5):
        x = torch.rand(size, 3, 26, 31)
        with torch.no_grad():
            torch.testing.assert_close(program.module()(x), native(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("change", "kind"), [("native", "float"), ("fft", "half")])
def test_export_stays_direct_where_told_and_in_half_precision(change, kind):
    layer = getattr(LargeKernelConv2d(3, 4, 15, padding="same", implementation=change).eval(), kind)()
    x = getattr(torch.rand(2, 3, 26, 26), kind)()
    assert "conv2d" in targets(torch.export.export(layer, (x,)))


@pytest.mark.parametrize(("shape", "by_fft"), PUBLISHED.items())
def test_choice_in_exported_graphs(shape, by_fft):
    inputs, outputs, kernel, side = shape
    grid = smooth_size(side + kernel // 2)
    chosen = prefers_matrices(inputs, outputs, (kernel, kernel), (side, side), (side, side), (grid, grid))
    assert chosen == (by_fft and shape != (3, 16, 15, 224))  # measured: 18 ms directly, 37 ms by matrices


@pytest.mark.parametrize(
    ("shape", "chosen"),
    [
        ((3, 8, 75, 224), True),
        ((8, 16, 50, 112), True),
        ((32, 64, 15, 28), False),
        ((3, 4, 25, 112), False),
        ((4, 8, 15, 56), False),
        ((3, 16, 15, 224), False),
    ],
)
def test_fewer_matrices_are_worth_it_in_int8(shape, chosen):
    inputs, outputs, kernel, side = shape
    grid = smooth_size(side + kernel // 2)
    sizes = ((kernel, kernel), (side, side), (side, side), (grid, grid))
    assert prefers_matrices(inputs, outputs, *sizes, int8=True) == chosen


@pytest.mark.parametrize("int8", [False, True])
def test_a_graph_for_int8_convolves_directly(int8):
    layer = LargeKernelConv2d(3, 4, 25, padding="same").eval()
    layer.int8 = int8
    program = torch.export.export(layer, (torch.rand(2, 3, 112, 112),))
    assert ("matmul" in targets(program)) != int8
    assert ("conv2d" in targets(program)) == int8


def test_trace_agrees():
    layer = LargeKernelConv2d(3, 4, 15, padding="same", implementation="fft").eval()
    x = torch.rand(2, 3, 40, 40)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.testing.assert_close(torch.jit.trace(layer, x)(x), layer(x), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_compile_agrees_forwards_and_backwards():
    layer = LargeKernelConv2d(3, 4, 15, padding="same", implementation="fft").eval()
    compiled = torch.compile(layer, fullgraph=True)
    x = torch.rand(2, 3, 40, 40)
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), layer(x), rtol=1e-4, atol=1e-4)
    gradients = []
    for program in (compiled, layer):
        gradients.append(torch.autograd.grad(program(x).square().sum(), list(layer.parameters())))
    for mine, reference in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, reference, rtol=1e-4, atol=1e-3)
