"""What is asked of graphs: compiled and exported, the model answers as before, and no expert was left out.

This file knows how graphs are made and compared; what an architecture does while one is made is its own business.
"""

from typing import Any

import torch

from .batches import Batch
from .check import NotConforming, require, rule
from .checks_numerics import distance
from .subject import Subject, quiet

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
