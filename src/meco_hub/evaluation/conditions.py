"""The conditions under which a model is tried, by what it takes and by name.

    chosen = conditions_for("face", ["low_light", "occlusion", "blur/2"])
    chosen = conditions_for("signals", ["missing", "delay-unknown"], streams=["eeg", "ecg"])
    applied = AppliedCondition(chosen[0], dataset="raf_db", protocol="", seed=0, subjects={}, streams=())
    predict_rows(model, processor, rows, **applied.hooks)

A name is a family ("blur"), the first part of some ("occlusion": eyes, mouth and random), one condition ("blur/2"), or, of faces,
"steadiness": what hardly changes a face to a person's eye, and where it does, by how much.
What conditions do is in `image_conditions.py` and `stream_conditions.py`.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from ..errors import ConfigurationError, unknown_name
from .image_conditions import Change, Condition, image_conditions
from .stream_conditions import clip_conditions, signal_conditions

ALL = "all"
KINDS = ("face", "eye", "signals")
STEADINESS = (
    *("slight_noise", "slight_jpeg", "blur", "shift", "rotation", "mirror", "border", "brightness", "size"),
    *("occlusion/eyes", "occlusion/mouth"),
)
"""Families that are tried for every checkpoint of faces, under one name."""


def _grid(kind: str, streams: Sequence[str], corpus_streams: Sequence[str] = ()) -> dict[str, Condition]:
    if kind == "face":
        return image_conditions()
    if kind == "eye":
        return clip_conditions()
    if kind == "signals":
        return signal_conditions(streams or ("stream",), corpus_streams)
    raise unknown_name("kind of recording", kind, KINDS)


def _families(kind: str) -> list[str]:
    """Names of the families that recordings of this kind are tried under, without what follows a stroke."""
    return list(dict.fromkeys(one.family.partition("/")[0] for one in _grid(kind, ()).values()))


def conditions_for(
    kind: str, names: Sequence[str], *, streams: Sequence[str] = (), corpus_streams: Sequence[str] = ()
) -> list[Condition]:
    """The conditions that were named, family by family, each once.

    Args:
        names: families, first parts of families, or single conditions; "all" is every family.
        streams: of signals, the modalities in the processor's order.
        corpus_streams: of signals, all streams of the corpus, over which faults are drawn; none: those of the processor.
    """
    if kind == "signals" and not streams:
        raise ConfigurationError(
            "Conditions of signals were asked for and no stream was named; expected the processor's modalities, as its "
            "`modality_names` gives them."
        )
    grid = _grid(kind, streams, corpus_streams)
    wanted: set[str] = set()
    if kind == "face" and "steadiness" in names:
        names = [*(name for name in names if name != "steadiness"), *STEADINESS]
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
    own = _families(kind)
    others = [other for other in KINDS if other != kind and first in _families(other)]
    if others and first not in own:
        return ConfigurationError(
            f"The condition {name!r} is one of recordings of kind {' and '.join(others)}; these are of kind {kind!r}, which has "
            f"{', '.join(own)}. Name some of them, or {ALL!r}."
        )
    known = own if first not in own else [one for one in grid if one.partition("/")[0] == first]
    return unknown_name("condition", name, [*known, ALL])


class AppliedCondition:
    """A condition with all that its random numbers depend on; `hooks` are what `predict_rows` takes.

    Args:
        protocol: how it was divided, "" when it was not.
        subjects: sample_id → subject, where known.
        streams: of signals, the modalities of which some may be missing; empty counts nothing.
        unread: of signals, streams of the corpus that its rows were loaded without: they are there all the same.

    Attributes:
        present, possible: streams that were there in all that this object was applied to, and that could have been; in clips, where
            the condition changes clips.
        lags: sample_id → stream name → seconds by which its content was made late without the model knowing.
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
        unread: Collection[str] = (),
    ) -> None:
        self.name = condition.name
        self._condition, self._dataset, self._protocol, self._seed = condition, dataset, protocol, seed
        self._subjects, self._streams = subjects, tuple(streams)
        self._unread, self._there = frozenset(unread), dict[str, frozenset[str]]()
        self._counts: list[int] = []  # list.append is safe from several threads, a sum is not
        self.lags: dict[str, Mapping[str, float]] = {}
        self.notes: dict[str, Any] = {}

    def __call__(self, recording: Any, sample_id: str) -> Any:
        """The whole recording under the condition, before it is cut."""
        counts = self._condition.apply_to_clip is None
        self._there[sample_id] = self._unread.union(getattr(recording, "streams", ()))
        changed = self._change(self._condition.apply, recording, sample_id, 0, counts)
        if getattr(changed, "known_lags", None):
            self.lags[sample_id] = changed.known_lags
        return changed

    def on_clip(self, clip: Any, sample_id: str, window: int) -> Any:
        """The clip of that number under the condition."""
        change = self._condition.apply_to_clip
        there = self._there.get(sample_id)
        bound = None if change is None else lambda one, generator: change(one, generator, there)
        return self._change(bound, clip, sample_id, window, True)

    @property
    def delays(self) -> bool:
        """The condition makes streams late and knows by how much."""
        return self._condition.delays

    @property
    def hooks(self) -> dict[str, Callable[..., Any]]:
        """Arguments of `predict_rows`: what is done before the cut, and after it, where the condition does anything there."""
        # the first in any case: it sees which streams the whole recording has
        hooks: dict[str, Callable[..., Any]] = {"condition": self}
        return hooks | ({"clip_condition": self.on_clip} if self._condition.apply_to_clip else {})

    def _change(self, change: Change | None, recording: Any, sample_id: str, window: int, counts: bool) -> Any:
        generator = self._condition.generator(
            dataset=self._dataset,
            protocol=self._protocol,
            seed=self._seed,
            subject=self._subjects.get(sample_id, ""),
            trial=sample_id,  # unique in its corpus, unlike a trial's number
            window=window,
        )
        changed = recording if change is None else change(recording, generator)
        if self._streams and counts:
            self._counts.append(sum(name in changed.streams for name in self._streams))
        return changed

    @property
    def present(self) -> int:
        return sum(self._counts)

    @property
    def possible(self) -> int:
        return len(self._counts) * len(self._streams)
