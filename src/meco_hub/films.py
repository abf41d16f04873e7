"""Films: the clips of each person in them, frame by frame, and one answer for each person.

A film is answered in one of three ways: whole (`clips`, then `answer`), part by part, so that one of any length can be gone on with
after a kill (`parts`), and frame by frame while it goes on (`live`). People, doubts and smoothing are the same in all three.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .answer_warnings import AnswerWarning, act_on, joined_by_code, once_a_code
from .answers import Answers, Entry, abstain
from .errors import InputError
from .processing.face_tracks import PATIENCE_S, Smoothing
from .processing.preprocessor import FilmFollower
from .recordings.live import Newest
from .recordings.video import Frame, Video

Item = dict[str, Any]
"""The tensors of a clip under "tensors", and what is known of it: "place", "warnings" and the rest."""

FORGET_S = 10 * PATIENCE_S
"""A person whom nobody has seen for so many seconds has another id when they come back, so their smoothing can go."""


class _FilmDoubts:
    """Warnings about the people of a film: each is told once a person and code, and how often it fired is counted.

    Args:
        name: of the film; "" for one that goes on, whose warnings are shown at once.
        on_warning: "warn", "ignore" or "raise".
    """

    def __init__(self, name: str, on_warning: str) -> None:
        self.counts: dict[tuple[int, str], int] = {}
        self.name, self._on_warning = name, on_warning
        self._first: dict[str, AnswerWarning] = {}

    def add(self, person: int, found: Iterable[AnswerWarning]) -> list[AnswerWarning]:
        """Those of them that are new for this person."""
        new = []
        for one in found:
            key = person, one.code
            if key not in self.counts:
                new.append(one)
            self.counts[key] = self.counts.get(key, 0) + 1
            if one.code not in self._first:
                self._first[one.code] = one
                if self._on_warning == "raise" or not self.name:  # live, where there is no end to wait for
                    act_on([one], self.name, self._on_warning)
        return new

    def forget(self, person: int) -> None:
        """Nobody will ask for this person's again."""
        self.counts = {key: count for key, count in self.counts.items() if key[0] != person}

    def finish(self, film: Video) -> None:
        """Show what was found in all of the film."""
        act_on(once_a_code([*film.warnings, *self._first.values()]), film.name, self._on_warning)


@dataclass(frozen=True)
class FilmAnswers:
    """Answers to films by one checkpoint, as one call asks for them.

    Attributes:
        processor: whose clips the people of a film are.
        answers: gives names and scores.
        prepare: a clip → its item.
        forward: items → (items, outputs) what the network says of them.
        follow: makes what follows the people of a film.
        on_warning: "warn", "ignore" or "raise".
        smoothing: of each person's outputs and label.
        top_k, function: as of a call of the pipeline.
        least: score under which the first label's answers abstain; None for none.
    """

    processor: Any
    answers: Answers
    prepare: Callable[[Any], Item]
    forward: Callable[[list[Item]], NDArray[np.floating]]
    follow: Callable[[], FilmFollower]
    on_warning: str = "warn"
    smoothing: Smoothing = field(default_factory=Smoothing)
    top_k: int | None = None
    function: str | None = None
    least: float | None = None

    def _people(self, frame: Frame, follower: FilmFollower, doubts: _FilmDoubts) -> Iterator[Item]:
        """The clips that are complete with this frame: faces, or eyes of the last frames; live, each with all its warnings."""
        for person, clip in follower(frame, doubts.name):
            (found,) = self.processor.doubts(clip, [clip])
            new = doubts.add(person, found)
            item = self.prepare(clip)
            start, end = item["place"].get("start"), item["place"].get("end")
            # a clip's answer holds in its middle, a face's at its frame
            time = frame.time if start is None or end is None else (start + end) / 2
            place = {"person": person, "time": time, **item["place"]}
            yield {**item, "is_last": False, "place": place, "warnings": _as_dicts(new if doubts.name else found)}

    def clips(self, film: Video) -> Iterator[Item]:
        """The clips of a film's people as its frames are decoded; the last one knows what is in doubt about all.

        Raises:
            InputError: the film cannot be read, or nobody is in it.
        """
        doubts, follower = _FilmDoubts(film.name, self.on_warning), self.follow()
        waiting: Item | None = None
        for frame in film:
            for item in self._people(frame, follower, doubts):
                if waiting is not None:
                    yield waiting
                waiting = item
        if waiting is None:
            raise _nobody(follower, film)
        doubts.finish(film)
        whole = _whole(doubts, follower, film.warnings)
        yield {**waiting, "is_last": True, "place": {**waiting["place"], **whole}}

    def answer(self, outputs: list[Item], before: dict[int, Smoothing] | None = None) -> list[Entry]:
        """One answer for each person, in the order of appearance.

        Args:
            outputs: items with their (1, outputs) "logits"; the place of the last one has what is known of all.
            before: the smoothing of each person until here, which goes on.
        """
        known = {} if before is None else before
        persons: dict[int, list[Item]] = {}
        for output in outputs:
            persons.setdefault(output["place"]["person"], []).append(output)
        whole = outputs[-1]["place"]
        answers: list[Entry] = []
        for person, own in persons.items():
            places, smooth = [output["place"] for output in own], known.setdefault(person, self.smoothing.anew())
            times = np.array([place["time"] for place in places])
            rows = [output["logits"][0] for output in own]
            logits = np.stack([smooth.push(time, row) for time, row in zip(times, rows, strict=True)])
            answer: Entry = {"id": person, "start": float(times[0]), "end": float(times[-1]), "frames": len(times)}
            answer["looked_at"] = places[0]["looked_at"]
            if "events" in places[0]:
                answer["events"] = sum(place["events"] for place in places)
            if places[0]["box"] is not None:
                answer["boxes"] = [list(place["box"].values()) for place in places]
                for key in ("face_score", "face_side", "tilt"):
                    answer[key] = round(float(np.median([place[key] for place in places])), 3)
            if not self.answers.regression:
                names = self.answers.names
                answer["labels"] = [names[smooth.choose(row)] for row in self.answers.scores(logits, self.function)]
            answer["smoothing"] = {"seconds": self.smoothing.seconds, "label_margin": self.smoothing.margin}
            found = {one["code"]: one["message"] for output in own for one in output["warnings"]}
            answer["warnings"] = whole["film"] + [
                {
                    "code": code,
                    "message": f"{text} So in {whole['counts'][person, code]} of {len(own)} {whole['counted']}, first here.",
                }
                for code, text in found.items()
            ]
            answer["expressions"] = self.answers.over_time(logits[:, None], times[:, None], self.top_k, self.function)
            answers.append(answer)
        abstain(answers, self.least)
        return answers

    def parts(
        self, film: Video, *, seconds: float, state: Mapping[str, Any] | None, batch_size: int
    ) -> Iterator[tuple[list[Entry], dict[str, Any] | None]]:
        """As `EmotionRecognitionPipeline.film_parts`."""
        persons: dict[int, Smoothing] = {}
        seen, place = False, 0
        follower = self.follow()
        if state is not None:
            follower.restore(state["follower"])
            persons = {person: self.smoothing.restore(one) for person, one in state["persons"]}
            film.after, seen, place = state["time"], state["seen"], state["part"]
        doubts, outputs, waiting = _FilmDoubts(film.name, self.on_warning), [], []

        def forward_all() -> None:
            for first in range(0, len(waiting), batch_size):
                some = waiting[first : first + batch_size]
                # without their pixels, items of a whole part are small
                slim = [{key: item[key] for key in ("place", "warnings")} for item in some]
                outputs.extend(
                    {**item, "logits": row[None]} for item, row in zip(slim, self.forward(some), strict=True)
                )
            waiting.clear()

        def answer(warnings: Iterable[AnswerWarning] = ()) -> list[Entry]:
            forward_all()
            if not outputs:
                return []
            outputs[-1]["place"] |= _whole(doubts, follower, warnings)
            return self.answer(outputs, persons)

        time = 0.0
        for frame in film:
            if math.floor(frame.time / seconds) > place:
                found = answer()
                persons = {one: own for one, own in persons.items() if frame.time - own.time <= FORGET_S}
                state = {
                    "time": time,
                    "part": math.floor(frame.time / seconds),
                    "seen": seen,
                    "follower": follower.state(),
                    "persons": [[person, one.state()] for person, one in persons.items()],
                }
                yield found, state
                # what is restored after a kill is restored here too, so that both give the same
                follower, place = self.follow(), state["part"]
                follower.restore(state["follower"])
                doubts, outputs = _FilmDoubts(film.name, self.on_warning), []
            for item in self._people(frame, follower, doubts):
                waiting.append(item)
                seen = True
            if len(waiting) >= batch_size:
                forward_all()
            time = frame.time
        if not seen:
            raise _nobody(follower, film)
        doubts.finish(film)
        yield answer(film.warnings), None

    def live(self, frames: Iterable[Frame] | Newest) -> Iterator[list[Entry]]:
        """The people of each frame as it comes, as `EmotionRecognitionPipeline.stream` says."""
        follower, doubts = self.follow(), _FilmDoubts("", self.on_warning)
        persons: dict[int, Smoothing] = {}
        left_out: list[AnswerWarning] = []  # until somebody is seen, whose answers name it
        for frame in frames:
            act_on(frame.warnings, "", self.on_warning)
            left_out = joined_by_code([*left_out, *frame.warnings])
            items = list(self._people(frame, follower, doubts))
            answers: list[Entry] = []
            for item, row in zip(items, self.forward(items) if items else (), strict=True):
                person, place = item["place"].pop("person"), item["place"]
                smooth = persons.setdefault(person, self.smoothing.anew())
                scores = self.answers.scores(smooth.push(place["time"], row), self.function)
                answer = {"id": person, **place}
                if not self.answers.regression:
                    answer["label"] = self.answers.names[smooth.choose(scores)]
                answer["dropped"] = frames.dropped if isinstance(frames, Newest) else 0
                answer["warnings"] = [*item["warnings"], *_as_dicts(left_out)]
                answers.append(answer | {"expressions": self.answers.entries(scores, self.top_k, self.function)})
            yield answers
            left_out = [] if answers else left_out
            gone = [person for person, one in persons.items() if frame.time - one.time > FORGET_S]
            for person in gone:
                del persons[person]
                doubts.forget(person)


def _nobody(follower: FilmFollower, film: Video) -> InputError:
    """Why a film gave no answer, with what was in doubt about its file: that may be why."""
    error = follower.nothing(film.name, film.read_until)
    return type(error)(" ".join([str(error), *(one.message for one in film.warnings)]))


def _as_dicts(warnings: Iterable[AnswerWarning]) -> list[dict[str, Any]]:
    return [one.to_dict() for one in warnings]


def _whole(doubts: _FilmDoubts, follower: FilmFollower, warnings: Iterable[AnswerWarning]) -> dict[str, Any]:
    """What is known of a film, or a part of one, at its end."""
    return {"counts": doubts.counts, "counted": follower.counted, "film": _as_dicts(warnings)}
