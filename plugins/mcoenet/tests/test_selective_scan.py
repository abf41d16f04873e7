"""The selective scan against its formula step by step: values, gradients, shapes, extremes, graphs, and the choice of a kernel."""

import sys
import types
import warnings
from collections.abc import Callable

import pytest
import torch

from meco_mcoenet import selective_scan as chunked_scan
from meco_mcoenet import selective_scan as module
from meco_mcoenet.selective_scan import selective_scan

Arguments = dict[str, torch.Tensor]


def step_by_step(
    u, delta, A, B, C, D=None, z=None, *, delta_bias=None, delta_softplus=False, dtype=torch.float64
) -> torch.Tensor:
    """The formula, one step and one sequence at a time, sharing no code with what is tested."""
    batch = u.shape[:-2]
    tensors = {"u": u, "delta": delta, "B": B, "C": C, "z": z}
    wide = {name: None if t is None else t.to(dtype).expand(*batch, *t.shape[-2:]) for name, t in tensors.items()}
    A = A.to(dtype).expand(*batch, *A.shape[-2:])
    vectors = {"D": D, "delta_bias": delta_bias}
    wide |= {name: None if t is None else t.to(dtype).expand(*batch, t.shape[-1]) for name, t in vectors.items()}
    step = wide["delta"]
    if delta_bias is not None:
        step = step + wide["delta_bias"][..., None]
    if delta_softplus:
        step = torch.log1p(torch.exp(step))
    h = torch.zeros(*batch, *A.shape[-2:], dtype=dtype)
    ys = []
    for t in range(u.shape[-1]):
        decay = torch.exp(step[..., t, None] * A)
        h = decay * h + (step[..., t] * wide["u"][..., t])[..., None] * wide["B"][..., None, :, t]
        y = (h * wide["C"][..., None, :, t]).sum(-1)
        if D is not None:
            y = y + wide["D"] * wide["u"][..., t]
        if z is not None:
            gate = wide["z"][..., t]
            y = y * gate * torch.sigmoid(gate)
        ys.append(y)
    return torch.stack(ys, dim=-1)


def arguments(
    *batch: int,
    channels: int = 3,
    state: int = 4,
    length: int = 37,
    dtype: torch.dtype = torch.float64,
    own: bool = False,
) -> Arguments:
    """Random arguments; with `own`, A, D and the bias differ along the batch too."""
    several = batch if own else ()
    values = {
        "u": torch.randn(*batch, channels, length),
        "delta": torch.randn(*batch, channels, length),
        "A": -torch.rand(*several, channels, state) * 3,
        "B": torch.randn(*batch, state, length),
        "C": torch.randn(*batch, state, length),
        "D": torch.randn(*several, channels),
        "z": torch.randn(*batch, channels, length),
        "delta_bias": torch.randn(*several, channels),
    }
    return {name: value.to(dtype) for name, value in values.items()}


def with_gradients(function: Callable[..., torch.Tensor], given: Arguments, weight: torch.Tensor) -> list[torch.Tensor]:
    leaves = {name: value.detach().clone().requires_grad_() for name, value in given.items()}
    y = function(**leaves, delta_softplus=True)
    return [y, *torch.autograd.grad((y * weight).sum(), list(leaves.values()))]


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


# --- the formula --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [1, 2, 3, 32, 33, 64, 65, 500])
def test_values_and_gradients_are_the_formulas(length):
    given = arguments(2, length=length)
    weight = torch.randn(2, 3, length, dtype=torch.float64)
    for mine, reference in zip(
        with_gradients(selective_scan, given, weight), with_gradients(step_by_step, given, weight), strict=True
    ):
        torch.testing.assert_close(mine, reference, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("batch", [(), (1,), (4,), (2, 3), (2, 1, 3)])
def test_any_batch_shape(batch, own):
    given = arguments(*batch, length=70, own=own)
    weight = torch.randn(*batch, 3, 70, dtype=torch.float64)
    for mine, reference in zip(
        with_gradients(selective_scan, given, weight), with_gradients(step_by_step, given, weight), strict=True
    ):
        torch.testing.assert_close(mine, reference, rtol=1e-10, atol=1e-10)


def test_parameters_may_broadcast_over_some_batch_dimensions():
    given = arguments(5, 2, 3, length=40)
    given["A"] = -torch.rand(2, 1, 3, 4, dtype=torch.float64)  # own for the middle dimension only
    given["B"] = torch.randn(1, 2, 3, 4, 40, dtype=torch.float64)
    torch.testing.assert_close(selective_scan(**given), step_by_step(**given))


def test_every_optional_argument_may_be_missing():
    given = arguments(2, length=50)
    given["delta"] = given["delta"].abs()
    for missing in ("D", "z", "delta_bias"):
        given.pop(missing)
        torch.testing.assert_close(selective_scan(**given), step_by_step(**given))


def test_gradcheck_of_every_argument():
    given = arguments(channels=2, state=2, length=33)
    leaves = [value.requires_grad_() for value in given.values()]

    def run(*tensors: torch.Tensor) -> torch.Tensor:
        return selective_scan(*tensors[:-1], delta_bias=tensors[-1], delta_softplus=True)

    assert torch.autograd.gradcheck(run, leaves)


def test_differentiating_twice_is_refused():
    given = arguments(length=35)
    u = given.pop("u").requires_grad_()
    (gradient,) = torch.autograd.grad(selective_scan(u, **given).square().sum(), u, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_gradients_only_where_wanted():
    given = arguments(2, length=40)
    A = given["A"].requires_grad_()
    selective_scan(**given).sum().backward()
    assert A.grad is not None
    assert given["u"].grad is None


def test_a_sequence_is_scanned_by_itself_and_never_looks_ahead():
    given = arguments(3, length=90)
    y = selective_scan(**given)
    alone = {name: value[1:2] if value.ndim == 3 else value for name, value in given.items()}
    torch.testing.assert_close(selective_scan(**alone), y[1:2], rtol=1e-12, atol=1e-12)
    for name in ("u", "delta", "B", "C", "z"):
        changed = {**given, name: given[name].clone()}
        changed[name][..., 60:] += 1
        assert torch.allclose(selective_scan(**changed)[..., :60], y[..., :60], rtol=0, atol=1e-12)
        assert not torch.allclose(selective_scan(**changed)[..., 60:], y[..., 60:])


@pytest.mark.parametrize("held", [1, 300, 900, 5000])
def test_pieces_do_not_show(held, monkeypatch):
    given = arguments(3, channels=5, length=64)
    weight = torch.randn(3, 5, 64, dtype=torch.float64)
    whole = with_gradients(selective_scan, given, weight)
    monkeypatch.setattr(chunked_scan, "_HELD", {True: held})
    assert len(list(chunked_scan._pieces(given["u"], 4))) > (1 if held < 5000 else 0)
    for mine, reference in zip(with_gradients(selective_scan, given, weight), whole, strict=True):
        torch.testing.assert_close(mine, reference)


# --- extremes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e2, 1e4, 1e6])
def test_any_size_of_step_neither_overflows_nor_loses_the_past(scale):
    given = arguments(2, length=500, dtype=torch.float32)
    given["delta"] = given["delta"].abs() * scale
    given.pop("delta_bias")
    given["A"] = given["A"] * 10
    leaves = {name: value.requires_grad_() for name, value in given.items()}
    y = selective_scan(**leaves)
    exact = step_by_step(**given)
    assert y.isfinite().all()
    assert (y - exact).abs().max() < 2e-5 * exact.abs().max()
    for gradient in torch.autograd.grad(y.sum() / scale, list(leaves.values())):
        assert gradient.isfinite().all()


def test_nothing_is_forgotten_where_nothing_decays():
    given = arguments(length=500, dtype=torch.float32)
    given["A"] = torch.zeros_like(given["A"])
    exact = step_by_step(**given)
    assert (selective_scan(**given) - exact).abs().max() < 1e-5 * exact.abs().max()


def test_single_precision_error_for_the_usual_sizes():
    given = arguments(2, channels=8, state=16, length=500, dtype=torch.float32)
    exact = step_by_step(**given, delta_softplus=True)
    assert (selective_scan(**given, delta_softplus=True) - exact).abs().max() < 2e-6 * exact.abs().max()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_accumulated_in_float32_and_rounded_once(dtype):
    given = {name: value.to(dtype) for name, value in arguments(2, length=300).items()}
    wide = {name: value.float() for name, value in given.items()}
    y = selective_scan(**given, delta_softplus=True)
    assert y.dtype == dtype
    torch.testing.assert_close(y, selective_scan(**wide, delta_softplus=True).to(dtype))
    leaves = {name: value.requires_grad_() for name, value in given.items()}
    gradients = torch.autograd.grad(selective_scan(**leaves, delta_softplus=True).float().sum(), list(leaves.values()))
    assert all(g.dtype == dtype and g.isfinite().all() for g in gradients)


def test_autocast_changes_nothing():
    given = arguments(2, length=60, dtype=torch.float32)
    expected = selective_scan(**given)
    with torch.autocast("cpu", torch.bfloat16):
        y = selective_scan(**given)
    assert torch.equal(y, expected)


def test_empty_and_meta():
    assert selective_scan(**arguments(0, length=40)).shape == (0, 3, 40)
    assert selective_scan(**arguments(2, length=0)).shape == (2, 3, 0)
    on_meta = {name: value.to("meta") for name, value in arguments(2).items()}
    assert selective_scan(**on_meta).shape == (2, 3, 37)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("delta", (2, 1, 37)),
        ("A", (4, 4)),
        ("B", (2, 3, 37)),
        ("C", (2, 4, 36)),
        ("D", (1,)),
        ("z", (3, 3, 37)),
        ("u", (37,)),
    ],
)
def test_shapes_that_do_not_fit_are_named(name, shape):
    given = arguments(2)
    given[name] = torch.zeros(shape, dtype=torch.float64)
    with pytest.raises(ValueError, match=rf"{name} has shape \({', '.join(map(str, shape))},?\).*expected"):
        selective_scan(**given)


# --- graphs -------------------------------------------------------------------------------------------------------------


class Scan(torch.nn.Module):
    def forward(self, u, delta, A, B, C, D, z, delta_bias):
        return selective_scan(u, delta, A, B, C, D, z, delta_bias=delta_bias, delta_softplus=True)


@pytest.mark.parametrize("length", [1, 2, 3, 7, 8, 100])
def test_the_associative_scan_is_the_recurrence(length):
    a, b = torch.rand(2, length, dtype=torch.float64), torch.randn(2, length, dtype=torch.float64)
    h, states = torch.zeros(2, dtype=torch.float64), []
    for t in range(length):
        h = a[:, t] * h + b[:, t]
        states.append(h)
    torch.testing.assert_close(chunked_scan._associative_scan(a, b), torch.stack(states, dim=-1))


@pytest.mark.parametrize("strict", [False, True])
def test_export_agrees(strict):
    given = tuple(arguments(2, length=50, dtype=torch.float32).values())
    program = torch.export.export(Scan(), given, strict=strict)
    torch.testing.assert_close(program.module()(*given), Scan()(*given), rtol=1e-4, atol=1e-5)


def test_trace_agrees():
    given = tuple(arguments(2, length=50, dtype=torch.float32).values())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(Scan(), given)
    torch.testing.assert_close(traced(*given), Scan()(*given), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_compile_agrees_forwards_and_backwards():
    given = [value.requires_grad_() for value in arguments(2, length=50, dtype=torch.float32).values()]
    results = []
    for program in (torch.compile(Scan(), fullgraph=True), Scan()):
        y = program(*given)
        results.append([y, *torch.autograd.grad(y.square().sum(), given)])
    for mine, reference in zip(*results, strict=True):
        torch.testing.assert_close(mine, reference, rtol=1e-3, atol=1e-3)


# --- mamba_ssm's kernel -------------------------------------------------------------------------------------------------


@pytest.fixture
def fake_mamba(monkeypatch):
    """A module in mamba_ssm's place whose kernel counts its calls and computes by the formula, in the kernel's own shapes."""
    calls: list[Arguments] = []

    def selective_scan_fn(u, delta, A, B, C, D=None, z=None, delta_bias=None, delta_softplus=False):
        calls.append({"u": u, "delta": delta, "A": A, "B": B, "C": C})
        batch, channels, length = u.shape
        groups = B.shape[1]
        assert A.shape == (channels, B.shape[2])
        assert B.shape == C.shape == (batch, groups, A.shape[1], length)
        assert all(t is None or t.dtype == torch.float32 for t in (A, D, delta_bias))
        assert all(t is None or t.dtype == u.dtype for t in (delta, B, C, z))

        def grouped(t: torch.Tensor | None, first: int) -> torch.Tensor | None:
            return None if t is None else t.unflatten(first, (groups, channels // groups))

        y = step_by_step(
            grouped(u, 1), grouped(delta, 1), grouped(A, 0), B, C, grouped(D, 0), grouped(z, 1),
            delta_bias=grouped(delta_bias, 0), delta_softplus=delta_softplus,
        )  # fmt: skip
        return y.flatten(1, 2).to(u.dtype)

    names = ["mamba_ssm", "mamba_ssm.ops", "mamba_ssm.ops.selective_scan_interface"]
    for name in names:
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    sys.modules[names[-1]].selective_scan_fn = selective_scan_fn  # type: ignore[attr-defined]
    module._mamba_kernel.cache_clear()
    yield calls
    module._mamba_kernel.cache_clear()


def test_tensors_on_a_cpu_never_meet_the_kernel(fake_mamba):
    selective_scan(**arguments(2, dtype=torch.float32))
    assert fake_mamba == []


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_kernel_is_called_in_its_own_shapes(batch, own, dtype, fake_mamba, monkeypatch):
    given = arguments(*batch, length=20, dtype=dtype, own=own)
    plain = selective_scan(**given, delta_softplus=True)
    monkeypatch.setattr(module, "_may_use_kernel", lambda u, A: True)  # as if the tensors lay on a GPU
    y = selective_scan(**given, delta_softplus=True)
    assert len(fake_mamba) == 1
    assert y.dtype == dtype
    assert y.shape == plain.shape
    torch.testing.assert_close(y, plain, rtol=1e-2 if dtype == torch.bfloat16 else 1e-4, atol=1e-4)


def test_parameters_of_their_own_become_groups_and_shared_ones_stay_a_batch(fake_mamba, monkeypatch):
    given = arguments(5, 2, 3, length=20, dtype=torch.float32)
    given["A"] = -torch.rand(2, 3, 3, 4)
    plain = selective_scan(**given)
    monkeypatch.setattr(module, "_may_use_kernel", lambda u, A: True)
    torch.testing.assert_close(selective_scan(**given), plain, rtol=1e-4, atol=1e-5)
    assert fake_mamba[0]["u"].shape == (5, 2 * 3 * 3, 20)
    assert fake_mamba[0]["B"].shape == (5, 2 * 3, 4, 20)


class OnGpu:
    """As much of a tensor on a GPU as the choice looks at."""

    is_cuda = True

    def __init__(self, dtype: torch.dtype = torch.float32, state: int = 16) -> None:
        self.dtype, self.shape = dtype, (2, state)

    def numel(self) -> int:
        return 1


def test_what_the_kernel_cannot_do_stays_here():
    assert module._may_use_kernel(OnGpu(), OnGpu())  # type: ignore[arg-type]
    assert not module._may_use_kernel(OnGpu(torch.float64), OnGpu())  # type: ignore[arg-type]
    assert not module._may_use_kernel(OnGpu(), OnGpu(state=257))  # type: ignore[arg-type]
    assert not module._may_use_kernel(torch.zeros(2, 3), torch.zeros(2, 4))


@pytest.mark.parametrize(
    ("error", "level"),
    [
        (ModuleNotFoundError("No module named 'mamba_ssm'", name="mamba_ssm"), "INFO"),
        (ImportError("undefined symbol"), "WARNING"),
    ],
)
def test_a_missing_or_broken_package_is_said_once_and_done_without(error, level, fake_mamba, monkeypatch, caplog):
    class Broken:
        def find_spec(self, name: str, path: object = None, target: object = None) -> None:
            if name.startswith("mamba_ssm"):
                raise error

    for name in [name for name in sys.modules if name.startswith("mamba_ssm")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    monkeypatch.setattr(module, "_may_use_kernel", lambda u, A: True)
    given = arguments(2, dtype=torch.float32)
    with caplog.at_level("INFO", logger=module.__name__):
        selective_scan(**given)
        torch.testing.assert_close(selective_scan(**given).double(), step_by_step(**given), rtol=1e-4, atol=1e-4)
    assert [record.levelname for record in caplog.records] == [level]
    assert "plain PyTorch" in caplog.text
