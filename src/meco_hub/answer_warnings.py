"""Warnings that stand in an answer: what was handed in could be answered, but something that the answer rests on is in doubt.

    {"label": "happiness", "score": 0.93, …, "warnings": [{"code": "face_small", "message": "The face is 31 pixels wide; …"}]}

A reader puts them on the recording it made (`warnings` of `SignalRecording`, `EventRecording`, `EyeClip`, `Picture`), a processor
finds others in `RecordingProcessor.check`; the pipeline joins both, once a code, and `on_warning` says what it then does. A code
never changes its meaning.
"""

import warnings
from collections.abc import Iterable
from dataclasses import dataclass

from .errors import ConfigurationError, DoubtfulInputError, limit_length

CODES: dict[str, str] = {
    # faces
    "no_face_found": "A whole picture in which no face was found was taken for a face.",
    "face_not_looked_for": "The face finder is not installed; the picture was taken for a face unseen.",
    "several_faces": "The answer is for one of several faces of like prominence.",
    "face_cut_off": "A good part of the face lies beyond the picture's border.",
    "face_small": "The face has fewer pixels than an expression can be told from.",
    "face_blurred": "The face is out of focus, moved or enlarged: it lacks the detail that an expression is told from.",
    "face_turned": "The face is turned away from the camera, or the picture lies on its side or stands on its head.",
    "value_range_doubtful": "A picture's numbers fill a small part of what their type holds; the range was told from the largest.",
    # eyes
    "no_events_in_window": "A window that the network looks at holds no event, though the recording has some elsewhere.",
    "one_polarity": "All events have one polarity, as where the column of polarity was lost or half of the events filtered out.",
    "events_simulated": "There was no event camera; events were simulated from the frames of a film.",
    "eye_small": "The eye of a film of faces has fewer pixels than its movements can be told from.",
    "frame_rate_low": "A film or clip has fewer frames a second, or a gap in them, than an eye's movements can be followed by.",
    "background_not_grey": "The background of the event pictures is not the middle grey that stands for no event.",
    # events
    "time_unit_doubtful": "Nobody said in what unit the times of events or frames are, and another one fits as well or better.",
    "time_digits_lost": "The times of events are written in a type that does not hold single microseconds.",
    "damaged_file": "The file is damaged, and the answer rests on what comes before the damage.",
    # films
    "first_of_several": "A file holds several pictures, or several streams of them; the first one was looked at.",
    "frames_left_out": "Frames of a film, or of one that goes on, that cannot be used were left out.",
    # signals
    "part_left_out": "A stream, file or column beside good ones cannot be used and was left out.",
    "recording_unfinished": "The recorder did not close the file, or it was cut off between two whole parts.",
    "file_ends_early": "The last line or group of a file is not complete; it may have been cut off.",
    "stream_ends_early": "A sensor stops long before the others; its file may have been cut off.",
    "samples_lost": "A recorder counts its samples, and some were lost; the times have a gap there.",
    "time_unit_recognised": "Times that no clock in seconds shows were taken for milli-, micro- or nanoseconds since 1970.",
    "summer_time_unclear": "Dates without a zone leave out an hour as where summer time begins; it was taken for a pause.",
    "time_unit_unlikely": "By its times a stream ticks much slower or faster than in training, as in another unit of time.",
    "stream_name_unknown": "A stream that is not read may be one that is missed.",
    "stream_name_twice": "Two streams of a file have one name; each is known by its name and number.",
    "stream_derived": "A stream was computed from a raw sensor, or could be.",
    "channels_unnamed": "A stream does not name its channels; they were taken in the checkpoint's order.",
    "unit_unknown": "A stream's unit cannot be converted to the checkpoint's; its numbers were taken as they are.",
    "unit_unlikely": "A stream's level fits training in another unit only.",
    "outside_training_range": "A stream's level or spread is far from everything in training.",
    "sensor_flat": "A stream is constant, as of a sensor that is off or not worn; it was left out.",
    "sensor_flat_in_part": "A stream stands still, drops to 0 or is a sentinel (-9999) for a time; that part is masked.",
    "channel_flat": "One channel of a stream stands still while the others move.",
    "sensor_unworn": "A good part of a stream's samples is where no worn sensor has them.",
    "sensor_saturated": "Many samples of a stream are at one end of its range.",
    "reference_needed": "The recording is too short to be normalised by its own level.",
    "packet_repeated": "Samples of a recording that goes on came twice; the first ones are kept.",
}
"""Code → what it means, in one sentence; one place for all kinds of recording."""

ON_WARNING = ("warn", "ignore", "raise")


class DoubtfulInputWarning(UserWarning):
    """Shown by Python for an answer with warnings in it, unless `on_warning` is "ignore"."""


@dataclass(frozen=True)
class AnswerWarning:
    """One doubt about one input.

    Attributes:
        code: one of `CODES`.
        message: what was seen, what was expected and what to do, with the numbers.
    """

    code: str
    message: str

    def __post_init__(self) -> None:
        if self.code not in CODES:
            raise ConfigurationError(f"{self.code!r} is no warning code; expected one of {', '.join(CODES)}.")
        object.__setattr__(self, "message", limit_length(self.message))

    def to_dict(self) -> dict[str, str]:
        """As answers hold it."""
        return {"code": self.code, "message": self.message}


def once_a_code(found: Iterable[AnswerWarning]) -> list[AnswerWarning]:
    """The first warning of every code, in order."""
    first: dict[str, AnswerWarning] = {}
    for one in found:
        first.setdefault(one.code, one)
    return list(first.values())


def joined_by_code(found: Iterable[AnswerWarning]) -> list[AnswerWarning]:
    """One warning a code, in order, with all that is said under it: of a recording's streams each may have its own doubt."""
    said: dict[str, str] = {}
    for one in found:
        before = said.get(one.code)
        if before is None or one.message not in before:  # a recording that is read again is doubted again
            said[one.code] = one.message if before is None else f"{before} {one.message}"
    return [AnswerWarning(code, message) for code, message in said.items()]


def act_on(found: Iterable[AnswerWarning], name: str, on_warning: str) -> None:
    """Show or raise what was found, as the caller asked.

    Args:
        found: warnings of one input.
        name: of the input, for the message.
        on_warning: one of `ON_WARNING`.

    Raises:
        DoubtfulInputError: there are warnings, and `on_warning` is "raise".
    """
    said = " ".join(f"{one.message} [{one.code}]" for one in found)
    if not said or on_warning == "ignore":
        return
    whole = f"{name}: {said}" if name else said
    if on_warning == "raise":
        raise DoubtfulInputError(f'{whole} Pass on_warning="warn" to have an answer all the same.')
    warnings.warn(whole, DoubtfulInputWarning, stacklevel=2)
