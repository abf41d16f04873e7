"""Rules for training, for mixtures of experts, for graphs, and at the end for the pipeline."""

import inspect
import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard

from ..answers import task_of_model
from ..errors import ConfigurationError
from ..exporting import write_export
from ..loading import load_model
from ..processing.picture_processor import recording_processor
from .check import NotConforming, blaming, require, rule
from .checks_answers import distance, dropouts_off
from .subject import Batch, Subject, make_pipeline, quiet

# Training: every parameter learns, a tiny set is learnt by heart, recomputed activations change nothing.

_BATCHES = 6
"""Freshly initialised models and batches over which a parameter may get its gradient: a router chooses others each time."""

_STEPS, _RATES = 120, (1e-2, 3e-3)
_LEARNT = 0.2
"""Share of the first loss at which a tiny set counts as learnt."""


def _loss(subject: Subject, model: Any, batch: dict[str, Any], labels: torch.Tensor) -> torch.Tensor:
    loss: torch.Tensor | None = model(**batch, labels=labels).loss
    require(
        loss is not None and loss.requires_grad,
        f"With labels, {type(model).__name__} gives the loss {loss}, through which nothing can be learnt.",
        "Compute the loss from the logits, without detaching them.",
    )
    assert loss is not None
    return loss


@rule()
def gradients(subject: Subject) -> None:
    """Every parameter gets a gradient from the loss, sooner or later."""
    waiting: set[str] = set()
    for seed in range(_BATCHES):
        model = subject.model(seed).train()
        dropouts_off(model)
        if seed == 0:
            waiting = {name for name, one in model.named_parameters() if one.requires_grad}
        batch = subject.process(subject.varied_clips(8, seed))
        with torch.no_grad():
            like = model(**batch).logits
        torch.manual_seed(seed)
        _loss(subject, model, batch, subject.labels(like, seed)).backward()
        waiting -= {name for name, one in model.named_parameters() if one.grad is not None and bool(one.grad.any())}
        if not waiting:
            return
    # lists of modules that look like experts
    lists = [name for name, one in model.named_modules() if isinstance(one, nn.ModuleList)]
    experts = [name for name in lists if "expert" in name.lower()]
    starved = sorted(name for name in waiting if any(name.startswith(f"{one}.") for one in experts))
    others = sorted(waiting - set(starved))
    require(
        not others,
        f"Over {_BATCHES} batches and initialisations, no gradient reaches {', '.join(others[:8])} ({len(others)} in all).",
        "Remove what the forward never uses; look for detach(), no_grad(), .item() and argmax on the way; mark what must not be "
        "trained by requires_grad=False.",
    )
    require(
        not starved,
        f"Over {_BATCHES} batches and initialisations, the router chose none of the experts that own {', '.join(starved[:8])}.",
        "Let the router's choice depend on its input from the start (small weights, no bias of its own); shut no expert out.",
    )


def _learn(subject: Subject, rate: float) -> tuple[float, float]:
    """Train a tiny model on one batch; gives the first loss and the least, above what no answer could go below."""
    model = subject.model(shaken=False).train()
    dropouts_off(model)
    for name in ("label_smoothing", "router_aux_loss_coef", "router_z_loss_coef"):
        if hasattr(model.config, name):
            setattr(model.config, name, 0.0)
    batch = subject.batch(6)
    with torch.no_grad():
        labels = subject.labels(model(**batch).logits)
    optimizer = torch.optim.Adam([one for one in model.parameters() if one.requires_grad], lr=rate)
    first = least = float("inf")
    for step in range(_STEPS):
        torch.manual_seed(step)
        logits = model(**batch).logits
        if subject.is_regression:
            loss = nn.functional.mse_loss(logits, labels)
        else:
            loss = nn.functional.cross_entropy(logits.flatten(0, -2), labels.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        first = loss.item() if step == 0 else first
        least = min(least, loss.item())
        if least < _LEARNT * first:
            break
    return first, least


@rule()
def overfitting(subject: Subject) -> None:
    """Six recordings are learnt by heart in a few steps: what cannot do that cannot learn anything."""
    tried = []
    for rate in _RATES:
        first, least = _learn(subject, rate)
        if least < _LEARNT * first:
            return
        tried.append(f"from {first:.3g} to {least:.3g} at {rate:g}")
    require(
        False,
        f"On six recordings, {_STEPS} steps of Adam bring the loss {', '.join(tried)}; expected below a fifth.",
        "Look for logits that are bounded or normalised, features that are the same for every recording, and dead activations.",
    )


@rule(lambda subject: bool(getattr(subject.load("head"), "supports_gradient_checkpointing", False)))
def gradient_checkpointing(subject: Subject) -> None:
    """With activations recomputed in the backward pass, loss and gradients are the same."""
    results = []
    for checkpointing in (False, True):
        model = subject.model().train()
        dropouts_off(model)
        batch = subject.batch()
        with torch.no_grad():
            labels = subject.labels(model.eval()(**batch).logits)
        model.train()
        if checkpointing:
            with quiet():
                model.gradient_checkpointing_enable()
        require(
            not checkpointing or any(getattr(module, "gradient_checkpointing", False) for module in model.modules()),
            f"{type(model).__name__} supports gradient checkpointing, and none of its layers is switched.",
            "Derive its layers from meco_hub.nn.checkpointed_layer.CheckpointedLayer, or say that it supports none.",
        )
        torch.manual_seed(0)
        loss = _loss(subject, model, batch, labels)
        loss.backward()
        results.append((loss.detach(), {name: one.grad for name, one in model.named_parameters()}))
    (plain, gradients_plain), (recomputed, gradients_recomputed) = results
    require(
        distance(plain, recomputed) <= 1e-5,
        f"Gradient checkpointing changes the loss from {plain:.6g} to {recomputed:.6g}.",
        "A layer that is computed twice must not keep state between calls.",
    )
    for name, one in gradients_plain.items():
        other = gradients_recomputed[name]
        same = (one is None) == (other is None) and (one is None or other is None or distance(one, other) <= 1e-4)
        require(
            same,
            f"Gradient checkpointing changes the gradient of {name}.",
            "Call checkpointed layers with tensors as positional arguments, undetached; no BatchNorm and no state inside.",
        )


# Models in parts: FSDP and ZeRO-3 gather a layer's weights from all processes whenever it is called.


@rule()
def no_scalar_parameters(subject: Subject) -> None:
    """Every parameter has a dimension along which FSDP can divide it."""
    scalars = [name for name, one in subject.shared_model.named_parameters() if one.ndim == 0]
    require(
        not scalars,
        f"{', '.join(scalars[:8])} have the shape (), which fully_shard refuses.",
        "Give them the shape (1,). Files that hold scalars load through a WeightConverter of transformers.",
    )


@contextmanager
def _group_of_one(device: torch.device) -> Iterator[DeviceMesh]:
    """The processes that there are, as FSDP wants them; this one alone, unless somebody has started several."""
    started = not dist.is_initialized()
    if started:
        backend = "nccl" if device.type == "cuda" else "gloo"
        store = dist.HashStore()  # pyright: ignore[reportPrivateImportUsage]
        dist.init_process_group(backend, store=store, rank=0, world_size=1)
    try:
        yield init_device_mesh(device.type, (dist.get_world_size(),))
    finally:
        if started:
            dist.destroy_process_group()


def _shard(model: Any, mesh: DeviceMesh) -> None:
    """Divide a model as Accelerate does."""
    whole = set(model._no_split_modules or [])
    scalars = {one for one in model.parameters() if one.ndim == 0}  # of which another check speaks
    for module in reversed(list(model.modules())):
        if module is model or type(module).__name__ in whole:
            fully_shard(module, mesh=mesh, ignored_params=scalars)


@rule(lambda _: dist.is_available())
def same_layers_everywhere(subject: Subject) -> None:
    """Held in parts, it calls the same layers in the same order whatever the batch: processes would wait for each other forever."""
    model = subject.model()
    dropouts_off(model)
    called: list[str] = []
    for name, module in model.named_modules():
        if next(module.parameters(recurse=False), None) is not None:
            module.register_forward_pre_hook(lambda *_, name=name: called.append(name))
    batches = [subject.process(subject.varied_clips(4, seed)) for seed in range(3)]
    batches += [subject.batch(1, seed) for seed in range(3, 6)]
    with _group_of_one(next(model.parameters()).device) as mesh:
        _shard(model, mesh)
        for training in (True, False):
            model.train(training)
            runs = []
            for batch in batches:
                called.clear()
                with torch.set_grad_enabled(training):
                    answer = model(**batch)
                runs.append(list(called))
                if training:
                    answer.logits.sum().backward()
                    model.zero_grad()
            odd = next((one for one in runs if one != runs[0]), runs[0])
            differ = sorted(name for name in {*odd, *runs[0]} if odd.count(name) != runs[0].count(name))
            require(
                odd == runs[0],
                f"{'Training' if training else 'Evaluation'} calls {', '.join(differ[:6]) or 'its layers in an order'} for one "
                "batch as it does not for another.",
                "Where meco_hub.nn.sharding.is_sharded(model), run all experts and weigh them; choose no layer by a batch.",
            )


# Mixtures of experts: router logits are logits, shares sum to one, and no expert is dead.

_DRAWS = 4
_ALIVE = 0.2
"""Share of an even share (1 / experts) that an expert must reach for some input."""


def _has_router(subject: Subject) -> bool:
    return "output_router_logits" in inspect.signature(subject.load("head").forward).parameters


def _router_logits(subject: Subject, seed: int) -> tuple[torch.Tensor, ...]:
    model = subject.model(seed)
    found = subject.answer(model, subject.batch(8, seed), output_router_logits=True).router_logits
    require(
        isinstance(found, tuple) and len(found) > 0 and all(isinstance(one, torch.Tensor) for one in found),
        f"With output_router_logits=True, router_logits is {type(found).__name__} {found if found is None else len(found)}.",
        "Give a tuple with a tensor (batch, …, experts) for every mixture of experts.",
    )
    assert found is not None
    return found


@rule(_has_router)
def router_logits(subject: Subject) -> None:
    """Router logits are there on request and only then, before softmax, so that their softmax sums to one and means something."""
    plain = subject.answer(subject.shared_model, subject.batch(), output_router_logits=False)
    require(
        plain.router_logits is None,
        "router_logits are there although output_router_logits=False.",
        "Give them on request only.",
    )
    for index, one in enumerate(_router_logits(subject, 0)):
        require(
            one.shape[0] == 8 and one.ndim >= 2 and one.shape[-1] >= 2 and bool(torch.isfinite(one).all()),
            f"router_logits[{index}] has the shape {tuple(one.shape)}, finite: {bool(torch.isfinite(one).all())}.",
            "Expected finite (batch, …, experts), two experts or more.",
        )
        sums = one.float().sum(dim=-1)
        probabilities = bool((one >= 0).all()) and bool(((sums - 1).abs() < 1e-3).all())
        require(
            not probabilities,
            f"router_logits[{index}] are probabilities already: not negative, each row summing to one.",
            "Give what goes into the softmax; whoever balances experts takes the softmax of them again.",
        )


@rule(_has_router)
def routing_sums_to_one(subject: Subject) -> None:
    """Shares that an output reports (…_gates, …_weights) sum to one, or to nothing where there is nothing to share out."""
    wanted = {name: True for name in ("output_router_logits", "output_routing") if name in subject.inputs}
    found = subject.answer(subject.shared_model, subject.batch(), **wanted)
    shares = {
        name: one
        for name, one in found.items()
        if name.endswith(("_gates", "_weights")) and isinstance(one, torch.Tensor)
    }
    shares |= {f"softmax(router_logits[{i}])": one.float().softmax(dim=-1) for i, one in enumerate(found.router_logits)}
    for name, one in shares.items():
        good = []
        for dim in range(1, one.ndim):
            sums = one.float().sum(dim=dim)
            good.append(bool((torch.minimum((sums - 1).abs(), sums.abs()) < 1e-3).all()))
        require(
            any(good) and bool((one > -1e-6).all()),
            f"{name} of shape {tuple(one.shape)} sums to one along none of its dimensions, or is negative somewhere.",
            "Normalise shares over what they are shares of; what has none of it gets zeros.",
        )


@rule(_has_router)
def no_dead_expert(subject: Subject) -> None:
    """Every expert can be chosen: over random inputs and initialisations its share is not next to nothing."""
    best: list[torch.Tensor] = []
    for seed in range(_DRAWS):
        for index, one in enumerate(_router_logits(subject, seed)):
            share = one.float().softmax(dim=-1).flatten(0, -2).amax(dim=0)  # (experts,)
            if index == len(best):
                best.append(share)
            best[index] = torch.maximum(best[index], share)
    for index, share in enumerate(best):
        dead = (share < _ALIVE / len(share)).nonzero().flatten().tolist()
        require(
            not dead,
            f"Mixture {index}: over {_DRAWS} initialisations of 8 inputs each, expert {', '.join(map(str, dead))} of {len(share)} "
            f"never gets {_ALIVE:g} of an even share.",
            "Initialise the router evenly: no bias and no mask may shut an expert out.",
        )


# Graphs: compiled and exported, the model answers as before, and no expert was left out.

_TOLERANCE = 1e-4
_FIX = (
    "While a graph is made (torch.compiler.is_compiling(), is_exporting()), look at no values: no .item(), no `if tensor`, no "
    "nonzero(); compute all experts and weigh them."
)


class _Logits(torch.nn.Module):
    """A head as a function from tensors to logits."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: dict[str, Any]) -> torch.Tensor:
        return self.model(**batch).logits


def _batches(subject: Subject) -> list[Batch]:
    """Three batches of one shape: others than the graph was made with, so that routers choose others."""
    return [subject.batch(3, seed) for seed in range(3)]


def _compare(subject: Subject, graph: Any, what: str) -> None:
    for batch in _batches(subject):
        with torch.no_grad():
            answer = graph(batch)
        expected = subject.logits(subject.shared_model, batch)
        require(
            distance(expected, answer) <= _TOLERANCE,
            f"{what}, the logits are {distance(expected, answer):.3g} away; allowed: {_TOLERANCE:g}.",
            "What the first input chose must not be baked in: " + _FIX,
        )


@rule(slow=True)
def compiled(subject: Subject) -> None:
    """torch.compile makes one graph of it, which answers the same."""
    torch._dynamo.reset()
    # "eager" runs the captured graph as it is: a second of work, and torch 2.11's "aot_eager" fails on strides of its own making
    graph = torch.compile(_Logits(subject.shared_model), backend="eager", fullgraph=True)
    try:
        _compare(subject, graph, "Compiled")
    except NotConforming:
        raise
    except Exception as error:
        raise NotConforming(
            f"torch.compile(fullgraph=True) fails: {type(error).__name__}: {str(error)[:400]} {_FIX}"
        ) from error
    finally:
        torch._dynamo.reset()


@rule(slow=True)
def exported(subject: Subject) -> None:
    """torch.export takes the whole of it, every expert included, and answers the same."""
    first = _batches(subject)[0]
    with quiet(), torch.no_grad(), blaming("torch.export fails", _FIX, Exception):
        program = torch.export.export(_Logits(subject.shared_model), (first,), strict=False)
    _compare(subject, program.module(), "Exported")
    lifted = program.graph_signature.inputs_to_parameters
    used = {lifted[node.name] for node in program.graph.nodes if node.name in lifted and node.users}
    left = sorted(_answering(subject) - {name.removeprefix("model.") for name in used})
    require(
        not left,
        f"The exported graph does not use {', '.join(left[:8])}, on which answers depend.",
        "An expert that the example did not choose was left out: " + _FIX,
    )


@rule(slow=True)
def exported_to_onnx(subject: Subject) -> None:
    """`meco export` writes it as ONNX with a batch that may vary, and onnxruntime answers the same; or `skip` says why not."""
    folder = subject.new_folder() / "exported"
    with quiet(), blaming("It cannot be exported", _FIX, ConfigurationError):
        write_export(subject.model(), subject.processor, folder, card=False)
        exported = load_model(str(folder))
    for size in (1, 3, 16):
        batch = subject.process(subject.varied_clips(size, size))
        expected, found = subject.logits(subject.shared_model, batch), exported(**batch).logits
        require(
            distance(expected, found) <= _TOLERANCE,
            f"In onnxruntime the logits of {len(found)} recordings are {distance(expected, found):.3g} away.",
            "What the empty example chose must not be baked in: " + _FIX,
        )


def _answering(subject: Subject) -> set[str]:
    """Names of the parameters that logits depend on, for some input."""
    model, found = subject.model(), set[str]()
    for seed in range(4):
        model.zero_grad()
        model(**subject.batch(8, seed)).logits.square().sum().backward()
        found |= {name for name, one in model.named_parameters() if one.grad is not None and bool(one.grad.any())}
    return found


# At the end: from a folder and a recording, `pipeline("emotion-recognition")` gives named scores.


def _flat(entry: dict[str, Any]) -> list[float]:
    scores = entry.get("scores")
    return [float(one) for one in (scores if scores is not None else [entry["score"]])]


@rule()
def pipeline_answers(subject: Subject) -> None:
    """One answer per label, by name, finite, the same alone and in a batch, and what the model says."""
    recognise = make_pipeline(str(subject.checkpoint))
    recordings = subject.recordings(2)
    answer = recognise(recordings[0])
    names = [subject.shared_model.config.id2label[index] for index in range(subject.shared_model.config.num_labels)]
    require(
        isinstance(answer, list) and sorted(entry["label"] for entry in answer) == sorted(names),
        f"For labels {names} the pipeline answers {str(answer)[:300]}.",
        "The checkpoint's config must name its labels in id2label, and logits must have as many columns.",
    )
    scores = {entry["label"]: entry for entry in answer}
    require(
        all(math.isfinite(one) for entry in answer for one in _flat(entry)),
        f"The pipeline's scores are {[entry['score'] for entry in answer]}.",
        "Scores must be finite numbers.",
    )
    if not subject.is_regression:
        total = sum(entry["score"] for entry in answer)
        require(
            abs(total - 1) < 1e-3,
            f"The scores of all classes sum to {total:.4g}.",
            'Leave problem_type at None or "single_label_classification", so that scores are a softmax.',
        )
    together = recognise(recordings, batch_size=2)
    require(
        len(together) == 2 and all(_near(_flat(scores[one["label"]]), _flat(one)) for one in together[0]),
        "In a batch of two the pipeline answers otherwise than alone.",
        "Nothing may depend on the batch: see the checks batch_of_one and processor_batches.",
    )
    _agree(subject, scores, names, recordings[0])


def _near(ours: list[float], theirs: list[float]) -> bool:
    return len(ours) == len(theirs) and all(map(partial(math.isclose, rel_tol=1e-3, abs_tol=1e-4), ours, theirs))


def _agree(subject: Subject, scores: dict[str, Any], names: list[str], recording: Any) -> None:
    """The pipeline's scores are those of the model's own logits, label by label."""
    processor = subject.processor
    contract = recording_processor(processor)
    if contract.cuts and len(contract.cut(recording)) > 1:
        return  # answers over several clips are the pipeline's own business
    logits = subject.logits(subject.shared_model, subject.process([subject.first_clip(recording, processor)]))[0]
    values = logits.flatten(0, -2) if logits.ndim > 1 else logits[None]  # (steps, labels)
    if subject.is_regression:
        expected = torch.from_numpy(task_of_model(subject.shared_model).native(values.numpy()))
    else:
        expected = values.softmax(dim=-1)
    for index, name in enumerate(names):
        own = expected[:, index].tolist()
        found = _flat(scores[name])
        require(
            _near(own, found),
            f"The pipeline says {found[:3]} for {name!r}, the model {own[:3]}.",
            "The processor must give the pipeline what it gives the loop: `read`, `cut` and `__call__` of the same settings.",
        )
