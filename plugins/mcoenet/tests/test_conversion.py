"""The converter against an independent network: the authors' names, the specification's formulas, plain loops.

`ReleasedNetwork` below shares no code with the plugin. It makes a random state dict with all 637 entries of the released code, dead
ones included, and computes the answer one clip, one step and one expert at a time.
"""

import math
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from meco_hub import AutoModelForEmotionRecognition
from meco_hub.errors import ConfigurationError, ConversionError
from meco_mcoenet.configuration_mcoenet import DEFAULT_LABELS, MCOENetConfig
from meco_mcoenet.conversion import PUBLISHED_COUNTS, convert
from meco_mcoenet.modeling_mcoenet import MCOENetForEmotionRecognition

State = dict[str, torch.Tensor]
FILES = {"config.json", "model.safetensors", "processor_config.json"}
PUBLISHED = {"widths": (64, 128, 256, 512), "classes": 1000, "fusion": 1024, "router": 512, "focal": 512}
TINY = {"widths": (4, 6, 8, 10), "classes": 22, "fusion": 16, "router": 12, "focal": 6}


class ReleasedNetwork:
    """The released network in evaluation, as formulas over its state dict."""

    def __init__(self, sizes: dict, num_labels: int = 7, seed: int = 0) -> None:
        self.draw = torch.Generator().manual_seed(seed)
        self.size = 40
        self.tokens = 2 * sizes["classes"] // 4
        self.state: State = {}
        for name in ("res00", "res01", "res10", "res11"):
            self._add_resnet(f"{name}.resnet", sizes["widths"], sizes["classes"])
        self._add_scan("MCO.cross_matrix_mamba")
        self._add_linear("MCIB.proj_rgb", 4, 4)
        self._add_linear("MCIB.proj_event", 4, 4)
        self._add_attention("MCIB.attn", 4)
        width = sizes["fusion"]
        self._add_linear("fusion_proj.0", self.tokens * 4, width)
        self._add_attention("moe.router.self_attn", width)
        self._add_norm("moe.router.norm", width)
        self._add_linear("moe.router.mlp.0", width, sizes["router"])
        self._add_linear("moe.router.mlp.2", sizes["router"], 8)
        for index in range(8):
            name = f"moe.experts.expert_{index}"
            if index % 3 == 0:
                self._add(f"{name}.0.weight", sizes["focal"], width, 3)
                self._add(f"{name}.0.bias", sizes["focal"])
                self._add(f"{name}.2.weight", num_labels, sizes["focal"], 1)
                self._add(f"{name}.2.bias", num_labels)
            elif index % 3 == 1:
                self._add_attention(f"{name}.attn", width)
                self._add_norm(f"{name}.norm", width)
                self._add_linear(f"{name}.fc", width, num_labels)
            else:
                self.state[f"{name}.res_coef"] = torch.tensor(0.3 + index / 100)
                for layer in range(5):
                    self._add_linear(f"{name}.layers.{layer}.0", width, 4 * width)
                    self._add_linear(f"{name}.layers.{layer}.2", 4 * width, width)
                self._add_linear(f"{name}.final_fc", width, num_labels)
        self._add_linear("output", 1000, num_labels)  # never used

    # --- the state dict ---

    def _add(self, name: str, *shape: int) -> None:
        fan = math.prod(shape[1:]) if len(shape) > 1 else 4
        self.state[name] = torch.randn(shape, generator=self.draw) / math.sqrt(fan)

    def _add_linear(self, name: str, inputs: int, outputs: int, bias: bool = True) -> None:
        self._add(f"{name}.weight", outputs, inputs)
        if bias:
            self._add(f"{name}.bias", outputs)

    def _add_attention(self, name: str, width: int) -> None:
        self._add(f"{name}.in_proj_weight", 3 * width, width)
        self._add(f"{name}.in_proj_bias", 3 * width)
        self._add_linear(f"{name}.out_proj", width, width)

    def _add_norm(self, name: str, width: int) -> None:
        self.state[f"{name}.weight"] = torch.rand(width, generator=self.draw) + 0.5
        self._add(f"{name}.bias", width)

    def _add_batch_norm(self, name: str, width: int) -> None:
        self._add_norm(name, width)
        self._add(f"{name}.running_mean", width)
        self.state[f"{name}.running_var"] = torch.rand(width, generator=self.draw) + 0.5
        self.state[f"{name}.num_batches_tracked"] = torch.tensor(7)

    def _add_resnet(self, name: str, widths: Iterable[int], classes: int) -> None:
        inputs = next(iter(widths))
        self._add(f"{name}.conv1.weight", inputs, 3, 7, 7)
        self._add_batch_norm(f"{name}.bn1", inputs)
        for stage, width in enumerate(widths, start=1):
            for block in range(2):
                place = f"{name}.layer{stage}.{block}"
                for part in (1, 2):
                    self._add(f"{place}.conv{part}.weight", width, inputs if part == 1 else width, 3, 3)
                    self._add_batch_norm(f"{place}.bn{part}", width)
                if stage > 1 and block == 0:
                    self._add(f"{place}.downsample.0.weight", width, inputs, 1, 1)
                    self._add_batch_norm(f"{place}.downsample.1", width)
                inputs = width
        self._add_linear(f"{name}.fc", inputs, classes)

    def _add_scan(self, name: str) -> None:
        for stream in ("rgb", "event"):
            self._add_linear(f"{name}.in_proj_{stream}", 4, 16, bias=False)
            self._add_linear(f"{name}.out_proj_{stream}", 8, 4, bias=False)
            self._add_norm(f"{name}.norm_{stream}", 8)  # never used
            for back in ("", "_b"):
                self._add(f"{name}.conv1d{back}_{stream}.weight", 8, 1, 4)
                self._add(f"{name}.conv1d{back}_{stream}.bias", 8)
                self._add_linear(f"{name}.x_proj{back}_{stream}", 8, 33, bias=False)
                self._add_linear(f"{name}.dt_proj{back}_{stream}", 1, 8)  # of the reverse one only the weight is used
                self.state[f"{name}.A{back}_log_{stream}"] = torch.rand(8, 16, generator=self.draw) * 2
                self._add(f"{name}.D{back}_{stream}", 8)
        for joint in ("x_proj_peep", "x_proj_Cpeep", "x_proj_b_peep", "x_proj_b_Cpeep"):
            self._add(f"{name}.{joint}.weight", 16, 66)
        self._add_linear(f"{name}.in_proj_extra", 4, 16, bias=False)  # never used, like the next two
        self._add_linear(f"{name}.fusion_gate.0", 8, 16)
        self._add_linear(f"{name}.fusion_gate.2", 16, 2)

    # --- the formulas ---

    def __call__(self, frames: torch.Tensor, events: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Clips (B, 3, T, H, W), as the released code takes them → logits, router logits."""
        rows = [self._answer(frame, event) for frame, event in zip(frames, events, strict=True)]
        return torch.stack([logits for logits, _ in rows]), torch.stack([scores for _, scores in rows])

    def _linear(self, name: str, x: torch.Tensor) -> torch.Tensor:
        bias = self.state.get(f"{name}.bias")
        return x @ self.state[f"{name}.weight"].T + (0 if bias is None else bias)

    def _norm(self, name: str, x: torch.Tensor) -> torch.Tensor:
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        return scaled * self.state[f"{name}.weight"] + self.state[f"{name}.bias"]

    def _attention(self, name: str, heads: int, query: torch.Tensor, memory: torch.Tensor) -> torch.Tensor:
        """(L, width) and (L′, width) of one clip."""
        weights, biases = self.state[f"{name}.in_proj_weight"].chunk(3), self.state[f"{name}.in_proj_bias"].chunk(3)
        q, k, v = (x @ w.T + b for x, w, b in zip((query, memory, memory), weights, biases, strict=True))
        size = q.shape[1] // heads
        out = []
        for head in range(heads):
            part = slice(head * size, (head + 1) * size)
            share = torch.softmax(q[:, part] @ k[:, part].T / math.sqrt(size), dim=-1)
            out.append(share @ v[:, part])
        return self._linear(f"{name}.out_proj", torch.cat(out, dim=1))

    def _resnet(self, name: str, picture: torch.Tensor) -> torch.Tensor:
        def norm(place: str, x: torch.Tensor) -> torch.Tensor:
            s = self.state
            mean, var, scale, shift = (s[f"{place}.{k}"] for k in ("running_mean", "running_var", "weight", "bias"))
            column = (slice(None), None, None)
            return (x - mean[column]) / (var[column] + 1e-5).sqrt() * scale[column] + shift[column]

        def conv(place: str, x: torch.Tensor, stride: int, padding: int) -> torch.Tensor:
            return F.conv2d(x[None], self.state[f"{place}.weight"], stride=stride, padding=padding)[0]

        x = F.relu(norm(f"{name}.bn1", conv(f"{name}.conv1", picture, 2, 3)))
        x = F.max_pool2d(x[None], 3, 2, 1)[0]
        for stage in range(1, 5):
            for block in range(2):
                place, stride = f"{name}.layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
                y = F.relu(norm(f"{place}.bn1", conv(f"{place}.conv1", x, stride, 1)))
                y = norm(f"{place}.bn2", conv(f"{place}.conv2", y, 1, 1))
                if f"{place}.downsample.0.weight" in self.state:
                    x = norm(f"{place}.downsample.1", conv(f"{place}.downsample.0", x, stride, 0))
                x = F.relu(x + y)
        return self._linear(f"{name}.fc", x.mean((1, 2)))

    def _scan(self, x: dict[str, torch.Tensor], back: str) -> dict[str, torch.Tensor]:
        """One direction over in-projected sequences (L, 16) of both streams → (L, 8) each."""
        name, s = "MCO.cross_matrix_mamba", self.state
        length = len(x["rgb"])
        u: dict[str, torch.Tensor] = {}
        p: dict[str, torch.Tensor] = {}
        for m in x:
            kernel, bias = s[f"{name}.conv1d{back}_{m}.weight"][:, 0], s[f"{name}.conv1d{back}_{m}.bias"]
            rows = []
            for t in range(length):
                total = bias.clone()
                for k in range(4):
                    if t - 3 + k >= 0:
                        total = total + kernel[:, k] * x[m][t - 3 + k, :8]
                rows.append(total * torch.sigmoid(total))
            u[m] = torch.stack(rows)
            p[m] = u[m] @ s[f"{name}.x_proj{back}_{m}.weight"].T
        q = torch.cat([p["rgb"], p["event"]], dim=1)
        joint_b = q @ s[f"{name}.x_proj{back}_peep.weight"].T
        joint_c = q @ s[f"{name}.x_proj{back}_Cpeep.weight"].T
        out: dict[str, torch.Tensor] = {}
        for m in x:
            a, d = -torch.exp(s[f"{name}.A{back}_log_{m}"]), s[f"{name}.D{back}_{m}"]
            weight, bias = s[f"{name}.dt_proj{back}_{m}.weight"][:, 0], s[f"{name}.dt_proj_{m}.bias"]  # forward bias
            h, rows = torch.zeros(8, 16, dtype=a.dtype), []
            for t in range(length):
                step = torch.log1p(torch.exp(weight * p[m][t, 0] + bias))
                b, c = p[m][t, 1:17] + joint_b[t], p[m][t, 17:33] + joint_c[t]
                h = torch.exp(step[:, None] * a) * h + (step * u[m][t])[:, None] * b[None]
                y = h @ c + d * u[m][t]
                z = x[m][t, 8:]
                rows.append(y * z * torch.sigmoid(z))
            out[m] = torch.stack(rows)
        return out

    def _answer(self, frames: torch.Tensor, events: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = {
            "rgb": torch.cat([self._resnet("res00.resnet", frames[:, 0]), self._resnet("res01.resnet", frames[:, -1])]),
            "event": torch.cat(
                [self._resnet("res10.resnet", events[:, 0]), self._resnet("res11.resnet", events[:, -1])]
            ),
        }
        x = {m: tokens.reshape(self.tokens, 4) for m, tokens in x.items()}
        name = "MCO.cross_matrix_mamba"
        inner = {m: tokens @ self.state[f"{name}.in_proj_{m}.weight"].T for m, tokens in x.items()}
        forwards = self._scan(inner, "")
        backwards = self._scan({m: tokens.flip(0) for m, tokens in inner.items()}, "_b")
        residual = {}
        for m in x:
            both = (forwards[m] + backwards[m].flip(0)) / 2
            residual[m] = both @ self.state[f"{name}.out_proj_{m}.weight"].T + x[m]
        r, e = self._linear("MCIB.proj_rgb", residual["rgb"]), self._linear("MCIB.proj_event", residual["event"])
        gate = torch.sigmoid((r * e).sum(1, keepdim=True))
        one, two = self._attention("MCIB.attn", 2, r, e), self._attention("MCIB.attn", 2, e, r)
        fused = gate * one + (1 - gate) * two + (r + e) / 2
        h = F.gelu(self._linear("fusion_proj.0", fused.reshape(-1)))[None]

        normed = self._norm("moe.router.norm", h + self._attention("moe.router.self_attn", 4, h, h))
        scores = self._linear("moe.router.mlp.2", F.gelu(self._linear("moe.router.mlp.0", normed)))[0]
        shares = torch.softmax(scores, dim=0)
        first, second = sorted(range(8), key=lambda i: -shares[i].item())[:2]
        total = shares[first] + shares[second]
        logits = sum(shares[i] / (total + 1e-8) * self._expert(i, h) for i in (first, second))
        return logits[0], scores  # type: ignore[index]

    def _expert(self, index: int, h: torch.Tensor) -> torch.Tensor:
        name = f"moe.experts.expert_{index}"
        if index % 3 == 0:
            hidden = F.gelu(h @ self.state[f"{name}.0.weight"][:, :, 1].T + self.state[f"{name}.0.bias"])
            return hidden @ self.state[f"{name}.2.weight"][:, :, 0].T + self.state[f"{name}.2.bias"]
        if index % 3 == 1:
            return self._linear(f"{name}.fc", self._norm(f"{name}.norm", h + self._attention(f"{name}.attn", 2, h, h)))
        for layer in range(5):
            wide = self._linear(f"{name}.layers.{layer}.0", h)
            h = self._linear(f"{name}.layers.{layer}.2", wide) + self.state[f"{name}.res_coef"] * h
        return self._linear(f"{name}.final_fc", h)


def prefer(network: ReleasedNetwork, *experts: int) -> None:
    """Bias the router so that these two are chosen whatever it sees."""
    bias = torch.full((8,), -60.0)
    bias[list(experts)] = torch.tensor([1.0, 0.5])
    network.state["moe.router.mlp.2.bias"] = bias


def is_buffer(name: str) -> bool:
    return name.endswith(("running_mean", "running_var", "num_batches_tracked"))


def clips(batch: int = 2, steps: int = 4, size: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    """Frames and events as the released code takes them: (B, 3, T, H, W)."""
    draw = torch.Generator().manual_seed(5)
    return torch.randn(batch, 3, steps, size, size, generator=draw), torch.randn(
        batch, 3, steps, size, size, generator=draw
    )


def assert_same_answers(
    folder: Path, network: ReleasedNetwork, chosen: set[int] | None = None, batch: int = 2, tolerance: float = 1e-5
) -> None:
    """In float32 to `tolerance` times the largest value, in float64 to the last digits."""
    frames, events = (clip.double() for clip in clips(batch, size=network.size))
    network.state = {k: v.double() if v.is_floating_point() else v for k, v in network.state.items()}
    logits, scores = network(frames, events)
    assert logits.std() > 1e-2, "the comparison would prove nothing"
    model = AutoModelForEmotionRecognition.from_pretrained(folder).eval()
    for dtype, allowed in ((torch.float32, tolerance), (torch.float64, 1e-11)):
        with torch.no_grad():
            inputs = (clip.transpose(1, 2).to(dtype) for clip in (frames, events))
            output = model.to(dtype)(*inputs, output_router_logits=True)
        for mine, reference in ((output.router_logits[0], scores), (output.logits, logits)):
            difference = (mine.double() - reference).abs().max() / reference.abs().max()
            assert difference < allowed, f"differs by {difference:.1e}"
    if chosen is not None:
        assert {frozenset(row) for row in output.expert_indices.tolist()} == {frozenset(chosen)}


@pytest.fixture
def network() -> ReleasedNetwork:
    return ReleasedNetwork(TINY)


@pytest.fixture
def source(network: ReleasedNetwork, tmp_path: Path) -> Path:
    torch.save(network.state, tmp_path / "release.pth")
    return tmp_path / "release.pth"


# --- the answers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pair", [(0, 1), (2, 5), (3, 4), (6, 7), (1, 2), (5, 6), (4, 7), (0, 3)])
def test_answers_of_every_expert_are_the_formulas(
    pair: tuple[int, int], network: ReleasedNetwork, tmp_path: Path
) -> None:
    prefer(network, *pair)
    torch.save(network.state, tmp_path / "release.pth")
    convert(tmp_path / "release.pth", tmp_path / "out", labels="see")
    assert_same_answers(tmp_path / "out", network, set(pair))


def test_each_clip_chooses_for_itself(network: ReleasedNetwork, tmp_path: Path) -> None:
    _, scores = network(*clips(batch=5, size=network.size))
    network.state["moe.router.mlp.2.bias"] -= scores.mean(0)  # so that what differs between clips decides
    network.state["moe.router.mlp.2.weight"] *= 20
    network.state["moe.router.mlp.2.bias"] *= 20
    torch.save(network.state, tmp_path / "release.pth")
    convert(tmp_path / "release.pth", tmp_path / "out", labels="see")
    _, scores = network(*clips(batch=5, size=network.size))
    assert len({frozenset(row) for row in scores.topk(2).indices.tolist()}) > 1, "one pair for all would prove less"
    assert_same_answers(tmp_path / "out", network, batch=5, tolerance=1e-3)  # twenty times the usual error


def spoil_order(state: State) -> None:
    state["res00.resnet.fc.weight"], state["res01.resnet.fc.weight"] = (
        state["res01.resnet.fc.weight"], state["res00.resnet.fc.weight"],
    )  # fmt: skip


def spoil_streams(state: State) -> None:
    name = "MCO.cross_matrix_mamba.A_log_"
    state[f"{name}rgb"], state[f"{name}event"] = state[f"{name}event"], state[f"{name}rgb"]


def spoil_directions(state: State) -> None:
    name = "MCO.cross_matrix_mamba.x_proj"
    state[f"{name}_peep.weight"], state[f"{name}_b_peep.weight"] = (
        state[f"{name}_b_peep.weight"],
        state[f"{name}_peep.weight"],
    )


def spoil_bias(state: State) -> None:
    state["MCO.cross_matrix_mamba.dt_proj_rgb.bias"] = state["MCO.cross_matrix_mamba.dt_proj_b_rgb.bias"]


def spoil_b_and_c(state: State) -> None:
    name = "MCO.cross_matrix_mamba.x_proj"
    state[f"{name}_peep.weight"], state[f"{name}_Cpeep.weight"] = (
        state[f"{name}_Cpeep.weight"],
        state[f"{name}_peep.weight"],
    )


@pytest.mark.parametrize("spoil", [spoil_order, spoil_streams, spoil_directions, spoil_bias, spoil_b_and_c])
def test_the_comparison_notices(spoil, network: ReleasedNetwork, tmp_path: Path) -> None:
    spoiled = dict(network.state)
    spoil(spoiled)
    torch.save(spoiled, tmp_path / "release.pth")
    convert(tmp_path / "release.pth", tmp_path / "out", labels="see")
    with pytest.raises(AssertionError, match="differs by"):
        assert_same_answers(tmp_path / "out", network)


@pytest.mark.slow
def test_published_size(tmp_path: Path) -> None:
    network = ReleasedNetwork(PUBLISHED)
    assert sum(network.state[name].numel() for name in network.state if not is_buffer(name)) == 154_855_467
    torch.save(network.state, tmp_path / "release.pth")
    report = convert(tmp_path / "release.pth", tmp_path / "out", labels="see")
    assert report.entries == 637
    assert report.is_published_size
    assert report.to_dict()["total"] == 154_848_170
    assert MCOENetConfig.from_pretrained(tmp_path / "out").to_dict() | {"architectures": None, "dtype": None} == (
        MCOENetConfig().to_dict() | {"architectures": None, "dtype": None, "dt_rank": 1}
    )
    network.size = 100
    assert_same_answers(tmp_path / "out", network, batch=1)


# --- the file -----------------------------------------------------------------------------------------------------------


def test_the_released_entries_and_what_is_dropped(network: ReleasedNetwork, source: Path, tmp_path: Path) -> None:
    report = convert(source, tmp_path / "out", labels="see")
    assert len(network.state) == report.entries == 637
    assert len(report.dropped) == 13
    kept = [
        name for name in report.dropped if "norm_" not in name and "extra" not in name and "fusion_gate" not in name
    ]
    name = "MCO.cross_matrix_mamba.dt_proj_b_"
    assert sorted(kept) == sorted([f"{name}rgb.bias", f"{name}event.bias", "output.weight", "output.bias"])
    model = MCOENetForEmotionRecognition.from_pretrained(tmp_path / "out")
    assert sum(report.counts.values()) == sum(p.numel() for p in model.parameters())
    dead = sum(network.state[name].numel() for name in report.dropped)
    buffers = sum(value.numel() for name, value in network.state.items() if is_buffer(name))
    assert sum(report.counts.values()) == sum(v.numel() for v in network.state.values()) - dead - buffers
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES
    assert not report.is_published_size
    assert "published: 2,049,024" in str(report)
    assert sum(PUBLISHED_COUNTS.values()) == 154_848_170


def as_views_of_one_storage(state: State) -> State:
    floating = {name: value for name, value in state.items() if value.is_floating_point()}
    storage = torch.cat([value.reshape(-1) for value in floating.values()])
    parts = storage.split([value.numel() for value in floating.values()])
    return state | {name: part.view(value.shape) for (name, value), part in zip(floating.items(), parts, strict=True)}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {f"module.{name}": value for name, value in state.items()},
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": {f"module.{name}": value for name, value in state.items()}},
        lambda state: {"net": {"module." + name: value for name, value in state.items()}, "best": 0.8, "epoch": 100},
        lambda state: {"model_state_dict": state, "optimizer": {"state": {}, "param_groups": [{"lr": 3e-4}]}},
        lambda state: {name: value.half() if value.is_floating_point() else value for name, value in state.items()},
        lambda state: {name: value.bfloat16() if value.is_floating_point() else value for name, value in state.items()},
        lambda state: {name: value.double() if value.is_floating_point() else value for name, value in state.items()},
        lambda state: {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")},
        lambda state: {name: torch.nn.Parameter(v) if v.is_floating_point() else v for name, v in state.items()},
        as_views_of_one_storage,
        lambda state: {k.removesuffix(".weight") if "peep" in k else k: v for k, v in state.items()},
        lambda state: {k: v.reshape(1) if k.endswith("res_coef") else v for k, v in state.items()},
        lambda state: dict(reversed(state.items())),
        lambda state: {k: v for k, v in state.items() if "fusion_gate" not in k and not k.startswith("output")},
    ],
    ids=[
        *(
            "parallel",
            "state_dict",
            "model",
            "net",
            "model_state_dict",
            "half",
            "bfloat16",
            "double",
            "no batch counters",
        ),
        *("trainable", "one storage", "parameters", "scalars", "order", "fewer dead ones"),
    ],
)
def test_other_ways_to_save_the_same(wrap, network: ReleasedNetwork, tmp_path: Path) -> None:
    torch.save(wrap(network.state), tmp_path / "release.pth")
    torch.save(network.state, tmp_path / "plain.pth")
    convert(tmp_path / "release.pth", tmp_path / "out", labels="see")
    convert(tmp_path / "plain.pth", tmp_path / "plain", labels="see")
    one, two = (MCOENetForEmotionRecognition.from_pretrained(tmp_path / name).state_dict() for name in ("out", "plain"))
    assert one.keys() == two.keys()
    for name, value in one.items():
        if not name.endswith("num_batches_tracked"):
            torch.testing.assert_close(value, two[name], rtol=1e-2, atol=1e-2)  # bfloat16 has eight bits
        assert value.dtype == two[name].dtype


def test_labels(source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    report = convert(source, tmp_path / "guess")
    assert report.labels == list(DEFAULT_LABELS)
    assert "alphabetical order, which may be wrong" in report.notes[0]
    assert "alphabetical" in caplog.text
    assert convert(source, tmp_path / "see", labels="see").notes == []
    own = ["surprise", "sad", "neutral", "happy", "fear", "disgust", "angry"]
    assert convert(source, tmp_path / "own", labels=",".join(own)).labels[0] == "surprise"
    assert convert(source, tmp_path / "list", labels=own).labels[-1] == "anger"
    assert MCOENetConfig.from_pretrained(tmp_path / "list").id2label[6] == "anger"
    for wrong in ("a,b,c", "a,a,b,c,d,e,f", ["x"] * 7):
        with pytest.raises(ConversionError, match="outputs"):
            convert(source, tmp_path / "wrong", labels=wrong)
    assert not (tmp_path / "wrong").exists()


def test_another_number_of_labels_is_not_guessed(tmp_path: Path) -> None:
    torch.save(ReleasedNetwork(TINY, num_labels=5).state, tmp_path / "release.pth")
    report = convert(tmp_path / "release.pth", tmp_path / "out")
    assert report.labels == [f"LABEL_{index}" for index in range(5)]
    assert "named LABEL_0" in report.notes[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("MCIB.proj_rgb.weight"), r"1 missing: MCIB\.proj_rgb\.weight"),
        (lambda s: s.pop("MCO.cross_matrix_mamba.A_b_log_event"), r"1 missing: MCO\.cross_matrix_mamba\.A_b_log_event"),
        (lambda s: s.pop("res11.resnet.layer4.1.bn2.running_var"), r"missing: res11\.resnet\.layer4\.1\.bn2\.running_var"),
        (lambda s: s.pop("moe.experts.expert_5.final_fc.bias"), r"missing: moe\.experts\.expert_5\.final_fc\.bias"),
        (lambda s: s.pop("moe.experts.expert_4.fc.bias"), r"missing: moe\.experts\.expert_4\.fc\.bias"),
        (lambda s: s.pop("moe.router.mlp.0.weight"), r"holds no moe\.router\.mlp\.0"),
        (lambda s: s.update({"head.weight": torch.ones(3)}), r"1 unexpected: head\.weight"),
        (lambda s: s.update({"moe.experts.expert_9.fc.weight": torch.ones(7, 16)}), "without gaps"),
        (lambda s: s.update({"fusion_proj.0.bias": torch.ones(3)}), r"of another shape: fusion_proj\.0\.bias \(3,\) instead"),
        (lambda s: s.update({"MCO.cross_matrix_mamba.D_rgb": torch.ones(9)}), r"D_rgb \(9,\) instead of \(8,\)"),
        (lambda s: s.update({"res00.resnet.conv1.weight": torch.ones(4, 3, 7)}), r"conv1 has shape \(4, 3, 7\); expected 4"),
        (lambda s: s["MCIB.attn.out_proj.bias"].fill_(float("nan")), r"MCIB\.attn\.out_proj\.bias holds NaN or inf"),
        (lambda s: s.update({"MCIB.attn.out_proj.bias": torch.ones(4, dtype=torch.long)}), "whole numbers in"),
        (lambda s: s.clear(), "empty dict"),
        (lambda s: s.update({"note": "trained on Monday"}), "something else than tensors under note"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(change, message: str, network: ReleasedNetwork, tmp_path: Path) -> None:
    change(network.state)
    torch.save(network.state, tmp_path / "release.pth")
    with pytest.raises(ConversionError, match=message) as caught:
        convert(tmp_path / "release.pth", tmp_path / "out")
    assert "release.pth" in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["release.pth"]


class Harmful:
    def __reduce__(self) -> tuple:
        return (print, ("this must not run",))


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04" + bytes(100)])
def test_damaged_files(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "release.pth").write_bytes(content)
    with pytest.raises(ConversionError, match=r"release\.pth cannot be read as weights"):
        convert(tmp_path / "release.pth", tmp_path / "out")


def test_code_in_a_file_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    torch.save({"state_dict": {}, "sampler": Harmful()}, tmp_path / "release.pth")
    with pytest.raises(ConversionError, match="could run code"):
        convert(tmp_path / "release.pth", tmp_path / "out")
    assert capsys.readouterr().out == ""


def test_truncated_anywhere(source: Path, tmp_path: Path) -> None:
    content = source.read_bytes()
    for share in (0.1, 0.5, 0.99):
        (tmp_path / "cut.pth").write_bytes(content[: int(len(content) * share)])
        with pytest.raises(ConversionError, match=r"cut\.pth"):
            convert(tmp_path / "cut.pth", tmp_path / "out")


def test_an_existing_folder_is_replaced_on_request_only(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    convert(source, out, labels="see")
    (out / "README.md").write_text("mine")
    with pytest.raises(ConfigurationError, match="is not empty"):
        convert(source, out)
    convert(source, out, labels=list("abcdefg"), overwrite=True)
    assert {path.name for path in out.iterdir()} == FILES | {"README.md"}
    assert MCOENetConfig.from_pretrained(out).id2label[0] == "a"
    with pytest.raises(ConversionError, match="There is no weights file"):
        convert(tmp_path / "nowhere.pth", tmp_path / "new")
