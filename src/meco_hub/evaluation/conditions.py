"""The conditions under which a model is tried, by what it takes and by name.

    chosen = conditions_for("face", ["low_light", "occlusion", "blur/2"])
    chosen = conditions_for("signals", ["missing", "delay-unknown"], streams=["eeg", "ecg"])
    applied = AppliedCondition(chosen[0], dataset="raf_db", protocol="", seed=0, subjects={}, streams=())
    predict_rows(model, processor, rows, condition=applied)

A name is a family ("blur"), the first part of some ("occlusion": eyes, mouth and random), or one condition ("blur/2").

This file knows where conditions are listed and how names choose among them; what they do is in `image_conditions.py`,
`clip_conditions.py` and `signal_conditions.py`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import ConfigurationError, unknown_name
from .clip_conditions import clip_conditions
from .condition_draws import Condition
from .image_conditions import image_conditions
from .signal_conditions import signal_conditions

__all__ = ["ALL", "KINDS", "AppliedCondition", "Condition", "conditions_for", "families_for"]

ALL = "all"
KINDS = ("face", "eye", "signals")


def _grid(kind: str, streams: Sequence[str], margin_s: float) -> dict[str, Condition]:
    if kind == "face":
        return image_conditions()
    if kind == "eye":
        return clip_conditions()
    if kind == "signals":
        return signal_conditions(streams or ("stream",), margin_s=margin_s)
    raise unknown_name("kind of recording", kind, KINDS)


def families_for(kind: str, streams: Sequence[str] = ()) -> list[str]:
    """Names of the families that recordings of this kind are tried under, without what follows a stroke."""
    return list(dict.fromkeys(one.family.partition("/")[0] for one in _grid(kind, streams, 0.0).values()))


def conditions_for(
    kind: str, names: Sequence[str], *, streams: Sequence[str] = (), margin_s: float = 0.0
) -> list[Condition]:
    """The conditions that were named, family by family, each once.

    Args:
        kind: "face", "eye" or "signals".
        names: families, first parts of families, or single conditions; "all" is every family.
        streams: of signals, the modalities in the processor's order.
        margin_s: of signals, the processor's `context_margin_s`.

    Raises:
        UnknownNameError: no such condition, or kind.
        ConfigurationError: a condition of another kind of recording; signals without the names of their streams.
    """
    if kind == "signals" and not streams:
        raise ConfigurationError(
            "Conditions of signals were asked for and no stream was named; expected the processor's modalities, as its "
            "`modality_names` gives them."
        )
    grid = _grid(kind, streams, margin_s)
    wanted: set[str] = set()
    for name in names:
        if name == ALL:
            wanted |= grid.keys()
            continue
        fitting = {
            one.name
            for one in grid.values()
            if name in (one.name, one.family) or one.family.startswith(f"{name.rstrip('/')}/")
        }
        if not fitting:
            raise _refuse(kind, name, grid)
        wanted |= fitting
    return [one for one in grid.values() if one.name in wanted]


def _refuse(kind: str, name: str, grid: Mapping[str, Condition]) -> Exception:
    first = name.partition("/")[0]
    own = families_for(kind)
    others = [other for other in KINDS if other != kind and first in families_for(other)]
    if others and first not in own:
        return ConfigurationError(
            f"The condition {name!r} is one of recordings of kind {' and '.join(others)}; these are of kind {kind!r}, which has "
            f"{', '.join(own)}. Name some of them, or {ALL!r}."
        )
    known = own if first not in own else [one for one in grid if one.partition("/")[0] == first]
    return unknown_name("condition", name, [*known, ALL])


class AppliedCondition:
    """A condition with all that its random numbers depend on: what `predict_rows` takes.

    Args:
        condition: which.
        dataset: name of the corpus.
        protocol: how it was divided, "" when it was not.
        seed: another one draws other faults.
        subjects: sample_id → person, where known.
        streams: of signals, the modalities of which some may be missing; empty counts nothing.

    Attributes:
        name: the condition's.
        present, possible: streams that were there in all that this object was applied to, and that could have been.
    """

    def __init__(
        self,
        condition: Condition,
        *,
        dataset: str,
        protocol: str,
        seed: int,
        subjects: Mapping[str, str],
        streams: Sequence[str],
    ) -> None:
        self.name = condition.name
        self._condition, self._dataset, self._protocol, self._seed = condition, dataset, protocol, seed
        self._subjects, self._streams = subjects, tuple(streams)
        self._counts: list[int] = []  # list.append is safe from several threads, a sum is not

    def __call__(self, recording: Any, sample_id: str, window: int = 0) -> Any:
        """The recording, or the clip of that number, under the condition."""
        generator = self._condition.generator(
            dataset=self._dataset,
            protocol=self._protocol,
            seed=self._seed,
            subject=self._subjects.get(sample_id, ""),
            trial=sample_id,  # unique in its corpus, unlike a trial's number
            window=window,
        )
        changed = self._condition.apply(recording, generator)
        if self._streams:
            self._counts.append(sum(name in changed.streams for name in self._streams))
        return changed

    @property
    def present(self) -> int:
        return sum(self._counts)

    @property
    def possible(self) -> int:
        return len(self._counts) * len(self._streams)
