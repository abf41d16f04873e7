"""What is asked of answers: one item's does not depend on its neighbours, on chance, or on the precision more than it must."""

import inspect
from typing import Any

import torch
from torch import nn

from ..outputs import EmotionRecognitionOutput
from .check import NotConforming, require, rule
from .subject import CLOCKS, Batch, Subject, changed, is_ours, quiet, rows

TOLERANCE = 1e-5


def distance(one: torch.Tensor, other: torch.Tensor) -> float:
    """Largest difference, relative to the larger of 1 and the largest value."""
    return float((one.double() - other.double()).abs().max() / max(1.0, float(one.abs().max())))


@rule()
def output(subject: Subject) -> None:
    """The head returns our output: finite logits, one row per item, one column per label; a loss where there are labels."""
    model, batch = subject.shared_model, subject.batch()
    found = subject.answer(model, batch)
    require(
        isinstance(found, EmotionRecognitionOutput),
        f"{type(model).__name__} returns a {type(found).__name__}.",
        "Return meco_hub.outputs.EmotionRecognitionOutput, or a subclass with more fields.",
    )
    logits, count = found.logits, len(model.config.id2label)
    require(
        logits.ndim in (2, 3) and logits.shape[0] == 4 and logits.shape[-1] == count == model.config.num_labels,
        f"For 4 recordings and {count} labels the logits have the shape {tuple(logits.shape)}.",
        "Expected (batch, num_labels), or (batch, steps, num_labels) for answers over time.",
    )
    require(
        bool(torch.isfinite(logits).all()) and found.loss is None,
        f"Without labels: logits finite {bool(torch.isfinite(logits).all())}, loss {found.loss}.",
        "Logits must be finite, and there is no loss without labels.",
    )
    require(
        "labels" in inspect.signature(type(model).forward).parameters,
        f"{type(model).__name__}.forward takes no labels.",
        "Take `labels` and give `loss`, so that transformers' Trainer can train it.",
    )


@rule()
def labels_match_logits(subject: Subject) -> None:
    """Labels mean what the logits say: the loss is least for the labels that the model answers."""
    model, batch = subject.shared_model, subject.batch()
    logits = subject.logits(model, batch)
    if subject.is_regression:
        right, wrong = logits.clone(), logits + 0.5
    else:
        right, wrong = logits.argmax(dim=-1), logits.argmin(dim=-1)
    losses: list[float] = []
    for labels in (right, wrong):
        found = subject.answer(model, batch, labels=labels)
        loss = found.loss
        require(
            isinstance(loss, torch.Tensor) and loss.ndim == 0 and bool(torch.isfinite(loss)),
            f"With labels of shape {tuple(labels.shape)} the loss is {loss}.",
            "Expected a finite scalar: cross-entropy over class indices, or a distance between values of the logits' shape.",
        )
        require(
            torch.equal(found.logits, logits),
            "The logits differ when labels are given.",
            "Labels belong into the loss and nowhere else.",
        )
        losses.append(float(loss))
    require(
        losses[0] < losses[1],
        f"The loss is {losses[0]:.4g} for the labels that the model answers, and {losses[1]:.4g} for others.",
        "Index k of the logits is label k of id2label: check the order, the sign, and that the loss is of these logits.",
    )


@rule()
def batch_of_one(subject: Subject) -> None:
    """An item alone gets the answer that it gets in a batch."""
    model, batch = subject.shared_model, subject.batch(5)
    together = subject.logits(model, batch)
    alone = torch.cat([subject.logits(model, rows(batch, slice(index, index + 1))) for index in range(5)])
    require(
        distance(together, alone) <= TOLERANCE,
        f"Items answered one by one differ from the same in a batch by {distance(together, alone):.3g}; allowed: {TOLERANCE:g}.",
        "Nothing may look across the batch in evaluation: no statistics or attention over dimension 0, no capacity of experts.",
    )


@rule()
def determinism(subject: Subject) -> None:
    """The same input gets the same answer, whatever the random numbers."""
    model, batch = subject.shared_model, subject.batch()
    answers = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        with torch.no_grad():
            answers.append(model(**batch).logits)
    require(
        torch.equal(*answers),
        f"Two calls on the same batch differ by {float((answers[0] - answers[1]).abs().max()):.3g}.",
        "In evaluation nothing may be drawn: guard noise and dropout by `self.training`, and keep no state between calls.",
    )


@rule()
def half_precision(subject: Subject) -> None:
    """Loaded in bfloat16 or float16, the model takes the pipeline's inputs and gives finite logits near those in float32."""
    batch = subject.batch()
    exact = subject.logits(subject.shared_model, batch)
    for dtype in (torch.bfloat16, torch.float16):
        with quiet():
            model = subject.head_class.from_pretrained(subject.checkpoint, dtype=dtype).eval()
        given = changed(
            batch,
            lambda path, one, dtype=dtype: one if path[0] in CLOCKS or not one.is_floating_point() else one.to(dtype),
        )
        try:
            logits = subject.logits(model, given).float()
        except RuntimeError as error:
            if is_ours(error):
                raise
            if dtype == torch.float16 and "not implemented" in str(error):
                continue  # some of torch's functions have no half precision on CPUs; bfloat16 they all have
            raise NotConforming(
                f"In {dtype} the model fails: {error}. Cast what it makes itself to its input's dtype, and name what must stay "
                "float32 in _keep_in_fp32_modules_strict."
            ) from error
        require(
            bool(torch.isfinite(logits).all()),
            f"In {dtype} the logits are not finite.",
            "Compute softmaxes, logarithms and exponentials in float32, and mask with finite numbers.",
        )
        require(
            distance(exact, logits) < 0.25,
            f"In {dtype} the logits are {distance(exact, logits):.3g} away from those in float32 (relative); allowed: 0.25.",
            "Keep what is too fine for eight bits of mantissa (times, scans, norms) in float32.",
        )


def dropouts_off(model: Any) -> None:
    """Take chance out of training, so that two passes can be compared."""
    for module in model.modules():
        if "Dropout" in type(module).__name__ and hasattr(module, "p"):
            module.p = 0.0


# --- Checks learning --------------------------------------------------------------------------------------------------
# What is asked of training: every parameter learns, a tiny set is learnt by heart, recomputed activations change nothing.

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


def _experts_of(model: nn.Module) -> list[str]:
    """Names of lists of modules that look like experts."""
    return [name for name, one in model.named_modules() if isinstance(one, nn.ModuleList) and "expert" in name.lower()]


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
    experts = _experts_of(model)
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
        reached = _enable(model) if checkpointing else True
        require(
            reached,
            f"{type(model).__name__} supports gradient checkpointing, and no layer of it hears of it.",
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


def _enable(model: Any) -> bool:
    with quiet():
        model.gradient_checkpointing_enable()
    return any(getattr(module, "gradient_checkpointing", False) for module in model.modules())


# --- Checks routing ---------------------------------------------------------------------------------------------------
# What is asked of mixtures of experts: router logits are logits, shares sum to one, and no expert is dead.

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


# --- Checks graph -----------------------------------------------------------------------------------------------------
# What is asked of graphs: compiled and exported, the model answers as before, and no expert was left out.

_TOLERANCE = 1e-4
_MEND = (
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
            "What the first input chose must not be baked in: " + _MEND,
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
            f"torch.compile(fullgraph=True) fails: {type(error).__name__}: {str(error)[:400]} {_MEND}"
        ) from error
    finally:
        torch._dynamo.reset()


@rule(slow=True)
def exported(subject: Subject) -> None:
    """torch.export takes the whole of it, every expert included, and answers the same."""
    first = _batches(subject)[0]
    try:
        with quiet(), torch.no_grad():
            program = torch.export.export(_Logits(subject.shared_model), (first,), strict=False)
    except Exception as error:
        raise NotConforming(f"torch.export fails: {type(error).__name__}: {str(error)[:400]} {_MEND}") from error
    _compare(subject, program.module(), "Exported")
    left = sorted(_answering(subject) - _in_graph(program))
    require(
        not left,
        f"The exported graph does not use {', '.join(left[:8])}, on which answers depend.",
        "An expert that the example did not choose was left out: " + _MEND,
    )


def _in_graph(program: Any) -> set[str]:
    """Names of the parameters that something in the graph reads."""
    lifted = program.graph_signature.inputs_to_parameters
    used = {lifted[node.name] for node in program.graph.nodes if node.name in lifted and node.users}
    return {name.removeprefix("model.") for name in used}


def _answering(subject: Subject) -> set[str]:
    """Names of the parameters that logits depend on, for some input."""
    model, found = subject.model(), set[str]()
    for seed in range(4):
        model.zero_grad()
        model(**subject.batch(8, seed)).logits.square().sum().backward()
        found |= {name for name, one in model.named_parameters() if one.grad is not None and bool(one.grad.any())}
    return found
