"""Pictures as recordings: the contract of a processor for any image processor, ours or transformers' own.

Which faces of a picture are looked at is decided here: by default the most prominent one, unless the picture is the crop of a face
already; and what is in doubt about them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image
from transformers import FeatureExtractionMixin, ProcessorMixin

from ..answer_warnings import AnswerWarning, once_a_code
from ..errors import ConfigurationError, DependencyError, FaceNotFoundError
from ..recordings.images import RANGE, SEVERAL, describe_source, read_image
from .face_finder import Face, FaceFinder, is_certain
from .face_preprocessor import FacePreprocessor
from .preprocessor import RecordingProcessor

MODES = ("auto", "cropped", "largest", "all")
"""The picture where it is the crop of a face, else as largest; the picture as it is; the most prominent face; every face."""

# Chosen on 250 crops of LFW's fold 2; `benchmarks/face_warnings.py` tells how often each fires on fold 3.
CROP_OVERLAP = 0.6
"""Of a picture and of what would be cut out of it for its face, intersection over union, from which on it is a crop already. Crops
of LFW have 0.72 and more."""

SMALL_SIDE = 24.0
"""Pixels of a face's longer side, below which expressions are told worse: accuracy falls from 0.91 at 24 to 0.74 at 16."""

BLURRED = 0.05
"""Least sharpness of a face, see `sharpness`: 1 in 100 crops of LFW is below 0.055, 9 in 10 are below 0.05 when blurred by 2 of 112
pixels."""

TURNED_YAW = 0.4
"""Of the nose beside the middle of the eyes, in distances of the eyes, from which on an eye is not seen; 1 in 100 crops of LFW is
above 0.37."""

TURNED, TURNED_CERTAIN = 0.69, 11.3
"""Of `Face.turn`, above which a face is turned away, where the score of the closer look is `TURNED_SURE` or less; and how much
more for each unit of score above it. Fitted to LFW's folds 0 and 1, as the weights in `Face.turn`; the limit to folds 0 to 2."""

TURNED_SURE = 0.9
"""See `TURNED`. A lower score says nothing more: a face that is dark or partly covered has one, too."""

NEAR_BORDER = 0.08
"""Sides of the face from its nearest landmark to the border; of 180 crops pasted whole at a border 98 in 100 have 0.15 or more."""

LYING = 60.0
"""Degrees of tilt from which on a picture lies on its side or stands on its head."""

LIKE_PROMINENT = 0.5
"""Prominence, score × area, of another face over that of the chosen one, from which on the choice is a matter of chance."""


HalfFinder = Callable[[Image.Image, Face], tuple[AnswerWarning, ...]]


@dataclass(frozen=True)
class Picture:
    """A picture, or the part of it that shows one face.

    Attributes:
        image: RGB.
        name: what errors call it.
        face: where in the whole picture it lies; None where nobody looked for it, or found it.
        warnings: what is in doubt about it.
        looked_at: "face", what was cut out around `face`; or "picture", all of it.
    """

    image: Image.Image
    name: str = ""
    face: Face | None = None
    warnings: tuple[AnswerWarning, ...] = ()
    looked_at: str = "picture"


class PictureProcessor(RecordingProcessor):
    """Makes a recording processor of an image processor: a picture is a recording, and its clips are its faces.

    Args:
        processor: ours, whose finder and margins are used; or transformers' own, which knows nothing of faces, and for which ours
            with its defaults finds them.
    """

    def __init__(self, processor: Any) -> None:
        self._processor = processor
        self._ours = processor if isinstance(processor, FacePreprocessor) else FacePreprocessor()

    @property
    def cuts(self) -> bool:
        return False  # training and evaluation take pictures as they are

    @property
    def default_mode(self) -> str:
        """What the preprocessor asks for."""
        return "largest" if self._ours.do_find_face else "auto"

    @property
    def face_finder(self) -> FaceFinder:
        """What finds the faces."""
        return self._ours.face_finder

    def __call__(self, clips: Sequence[Any], return_tensors: str | None = None) -> Any:
        images = [clip.image if isinstance(clip, Picture) else clip for clip in clips]
        # the faces of a picture were cut out of it by `cut`; ours must not look for them again
        found = bool(clips) and isinstance(clips[0], Picture) and self._ours is self._processor
        once = {"do_find_face": False} if found else {}
        return self._processor(images, return_tensors=return_tensors, **once)

    def read(self, source: Any) -> Picture:
        image = read_image(source)
        picture = Picture(image, describe_source(source))
        if several := image.info.get(SEVERAL):
            said = f"{picture.name} holds {several} frames; the first one was looked at. Export it as mp4 to have all looked at."
            picture = _doubtful(picture, "first_of_several", said)
        return _doubtful(picture, "value_range_doubtful", image.info[RANGE]) if RANGE in image.info else picture

    def blank(self) -> Picture:
        return Picture(Image.new("RGB", (64, 64)))

    def cut(
        self,
        recording: Picture,
        *,
        stride_s: float | None = None,
        faces: str | None = None,
        min_face: float | None = None,
    ) -> list[Picture]:
        """The faces of a picture, most prominent first, each with where it was; the picture itself where it is the face.

        Args:
            recording: the picture.
            stride_s: has no meaning here.
            faces: one of `MODES`; what the preprocessor asks for by default.
            min_face: side in pixels of the smallest face to be found; see `FaceFinder.find`.

        Raises:
            FaceNotFoundError: there is no face in it, and `faces` or the preprocessor's `on_no_face` does not take it as it is.
        """
        mode, image, finder = faces or self.default_mode, recording.image, self.face_finder
        if mode == "cropped":
            return [recording]
        try:
            quick = mode == "auto" and min_face is None
            found = finder.find(image, first=True) if quick else finder.find(image, min_face=min_face)
        except DependencyError as error:
            if mode != "auto":
                raise
            return [_doubtful(recording, "face_not_looked_for", f"The picture was taken for a face unseen. {error}")]
        if not found:
            return [self._whole(recording, mode, faces is not None, finder.threshold)]
        crowd = () if mode == "all" else _crowd(found)
        if mode == "auto" and self._is_crop(image, found[0]):
            face = found[0]
            upright = image.rotate(90 * round(face.tilt / 90), expand=True) if abs(face.tilt) > LYING else image
            half = self.doubt_half(image, face) if _may_be_half(image, face) else ()
            return [
                replace(recording, image=upright, face=face, warnings=(*crowd, *half, *_doubts(upright, face, half)))
            ]
        return [self.show(recording, face, crowd) for face in (found if mode == "all" else found[:1])]

    def show(
        self, recording: Picture, face: Face, doubts: Sequence[AnswerWarning] = (), half: HalfFinder | None = None
    ) -> Picture:
        """One face of a picture, cut out as the network wants to see it.

        Args:
            recording: the picture.
            face: in it.
            doubts: about the whole picture.
            half: asked instead of `doubt_half`, as for a film, which need not look at each frame.
        """
        crop, closer = self._ours.cut_out(recording.image, face)
        cut = _cut_off(closer)
        if not cut and _may_be_half(recording.image, closer):
            cut = (half or self.doubt_half)(recording.image, closer)
        found = (*doubts, *cut, *_doubts(crop, closer, cut))
        return Picture(crop, recording.name, closer, found, "face")

    def doubt_half(self, picture: Image.Image, face: Face) -> tuple[AnswerWarning, ...]:
        """The doubt whether a face is the half of one; the look costs as much as all else that is done for a picture."""
        half = self.face_finder.find_half(picture)
        return (_is_half(half),) if half is not None and _is_part(face, half) else ()

    def _takes_whole(self, mode: str, asked: bool) -> bool:
        """Whether a picture without a face is answered for; `on_no_face` says so where it is not just a default."""
        ours = self._ours
        decides = ours is self._processor and (
            ours.on_no_face != type(ours).on_no_face or (ours.do_find_face and not asked)
        )
        return ours.on_no_face == "whole_image" if decides else mode == "auto"

    def _whole(self, recording: Picture, mode: str, asked: bool, threshold: float) -> Picture:
        """A picture without a face, as it is, or the error about it."""
        size = f"{recording.image.width}×{recording.image.height} pixels"
        if mode == "all" or not self._takes_whole(mode, asked):
            raise FaceNotFoundError(
                f"No face was found in {recording.name} ({size}); expected at least one of score {threshold}. If the picture is a "
                'cropped face already, pass faces="cropped".'
            )
        recording = _doubtful(
            recording,
            "no_face_found",
            f"No face of score {threshold} was found in the picture ({size}), so all of it was taken for one. Pass "
            'faces="cropped" if it is one.',
        )
        half, possible = self.face_finder.find_half(recording.image), self.face_finder.find_possible(recording.image)
        turned = self.face_finder.find_turned(recording.image, possible)
        doubts = [] if half is None else [_is_half(half)]
        # of what is too small, landmarks say nothing; half a face looks like one that is turned away
        for one in possible:
            if one.close_score and one.side >= SMALL_SIDE and not _is_part(one, half):
                seen = f"Of what may be a face, with a score of {one.score:.2f}: "
                doubts += [
                    replace(doubt, message=seen + doubt.message) for doubt in (*_cut_off(one), *_turned_away(one))
                ]
        if turned is not None and turned.side >= SMALL_SIDE and not _is_part(turned, half):
            doubts.append(_is_turned(turned))
        return replace(recording, warnings=(*recording.warnings, *once_a_code(doubts)))

    def _is_crop(self, image: Image.Image, face: Face) -> bool:
        """Whether a picture shows about what would be cut out of it for its face."""
        (x0, y0, x1, y1), half = face.box, face.side * (0.5 + self._ours.face_margin)
        across = max(0.0, min(image.width, (x0 + x1) / 2 + half) - max(0.0, (x0 + x1) / 2 - half))
        down = max(0.0, min(image.height, (y0 + y1) / 2 + half) - max(0.0, (y0 + y1) / 2 - half))
        common = across * down
        return common >= CROP_OVERLAP * (image.width * image.height + 4 * half * half - common)

    def locate(self, clip: Picture) -> dict[str, Any]:
        """What was looked at, as every answer holds it; None for what nobody looked for or found.

        `looked_at`: "face", what was cut out around the box, or "picture", all of it; `box`: where the face is, in pixels of the
        picture; `face_score`: the finder's confidence, 0…1; `face_side`: longer side of the box in pixels; `tilt`: degrees
        clockwise by which the face leans, and was turned level when it was cut out.
        """
        face = clip.face
        return {
            "looked_at": clip.looked_at,
            "box": describe_box(face),
            "face_score": None if face is None else face.score,
            "face_side": None if face is None else round(face.side, 1),
            "tilt": None if face is None else round(face.tilt, 1),
        }


def _doubtful(recording: Picture, code: str, message: str) -> Picture:
    return replace(recording, warnings=(*recording.warnings, AnswerWarning(code, message)))


def _crowd(found: Sequence[Face]) -> tuple[AnswerWarning, ...]:
    """The doubt whether the first of several faces is the one that is meant."""
    first, *others = found
    like = [one for one in others if one.score * one.area >= LIKE_PROMINENT * first.score * first.area]
    if not like:
        return ()
    return (
        AnswerWarning(
            "several_faces",
            f"{len(like) + 1} faces are as prominent, the first two {first.side:.0f} and {like[0].side:.0f} pixels large; the "
            'answer is for one. Pass faces="all" for each.',
        ),
    )


def _cut_off(face: Face) -> tuple[AnswerWarning, ...]:
    """The doubt about a face of which the picture may show a part only."""
    if face.room is None or face.room >= NEAR_BORDER:
        return ()
    text = (
        f"An eye, the nose or a corner of the mouth lies {face.room:.2f} sides of the face from the picture's border (negative: "
        f"beyond it); expected {NEAR_BORDER:g} or more. Take a picture of all of the face."
    )
    return (AnswerWarning("face_cut_off", text),)


def _may_be_half(picture: Image.Image, face: Face) -> bool:
    """Whether a face lies beside the border, and no closer look is certain of it."""
    (x0, y0, x1, y1), near = face.box, NEAR_BORDER * face.side
    return min(x0, y0, picture.width - x1, picture.height - y1) <= near and not is_certain([face])


def _is_half(half: Face) -> AnswerWarning:
    """The doubt about what `find_half` found."""
    x0, y0, x1, y1 = (round(edge) for edge in half.box)
    text = (
        f"With the picture's mirror image beyond its border, a face is seen across the border ({x0} to {x1} pixels across, {y0} to "
        f"{y1} down; score {half.score:.2f}), as where a part of it is missing. Take a picture of all of the face."
    )
    return AnswerWarning("face_cut_off", text)


def _is_part(face: Face, half: Face | None) -> bool:
    """Whether what was taken for a face is the half of what `find_half` found."""
    if half is None:
        return False
    (a0, b0, a1, b1), (c0, d0, c1, d1) = face.box, half.box
    return half.side >= 0.7 * face.side and c0 < (a0 + a1) / 2 < c1 and d0 < (b0 + b1) / 2 < d1


def _doubts(shown: Image.Image, face: Face, cut: Sequence[AnswerWarning] = ()) -> list[AnswerWarning]:
    """What is in doubt about a face, as it is shown to the network, beside `cut`, that a part of it is missing."""
    found: list[AnswerWarning] = []
    if face.side < SMALL_SIDE:
        found.append(
            AnswerWarning(
                "face_small",
                f"The face is {face.side:.0f} pixels wide; expected {SMALL_SIDE:.0f} or more. Take a larger picture of it.",
            )
        )
    if abs(face.tilt) > LYING:
        found.append(
            AnswerWarning(
                "face_turned",
                f"The face is turned by {face.tilt:.0f} degrees clockwise in the picture, and was turned back before it was looked "
                "at. Turn the picture upright, if it lies on its side.",
            )
        )
    elif not (cut and face.close_score == 0):  # of half a face a closer look may show nothing
        found += _turned_away(face)
    sharp = sharpness(shown)
    if sharp < BLURRED and face.side >= SMALL_SIDE:
        found.append(
            AnswerWarning(
                "face_blurred",
                f"The face has a sharpness of {sharp:.3f}; expected {BLURRED:g} or more. Take a picture in focus.",
            )
        )
    return found


def _turned_away(face: Face) -> list[AnswerWarning]:
    """The doubt about a face that is not seen from the front."""
    if face.close_score == 0:  # of 600 upright crops, alone and in photographs, none
        seen = "a closer look does not show it"
    elif face.yaw is not None and abs(face.yaw) > TURNED_YAW:
        seen = f"its nose lies {abs(face.yaw):.2f} distances of the eyes beside their middle; expected {TURNED_YAW:g} or less"
    elif face.turn is not None and face.turn > (most := _most_turn(face)):
        seen = f"its eyes lie as close together, for its height, as a turned one's: {face.turn:.2f}; expected {most:.2f} or less"
    else:
        return []
    text = f"The face seems to be turned away from the camera: {seen}. Take a picture from the front."
    return [AnswerWarning("face_turned", text)]


def _most_turn(face: Face) -> float:
    """What `Face.turn` is at most, of a face that is not turned away: more of one that a closer look is sure of."""
    return TURNED + TURNED_CERTAIN * max((face.close_score or 0.0) - TURNED_SURE, 0.0)


def _is_turned(face: Face) -> AnswerWarning:
    """The doubt about what `find_turned` found."""
    x0, y0, x1, y1 = (round(edge) for edge in face.box)
    text = (
        f"With the picture drawn twice as wide, a face is seen ({x0} to {x1} pixels across, {y0} to {y1} down; score "
        f"{face.close_score or 0:.2f}), as where one is turned away from the camera. Take a picture from the front."
    )
    return AnswerWarning("face_turned", text)


def sharpness(face: Image.Image) -> float:
    """How much of the contrast of a face lies in its finest detail, at 64×64 pixels or as many as it has; small where blurred."""
    side = max(4, min(64, *face.size))
    values = np.asarray(face.convert("L").resize((side, side), Image.Resampling.BILINEAR), np.float32)
    inner = values[1:-1, 1:-1]
    around = (values[:-2, 1:-1] + values[2:, 1:-1] + values[1:-1, :-2] + values[1:-1, 2:]) / 4
    return float((inner - around).std() / max(float(values.std()), 1.0))


def recording_processor(processor: Any) -> RecordingProcessor:
    """The contract of a checkpoint's processor, whatever kind it is.

    Raises:
        ConfigurationError: it is no image processor, and does not derive from `RecordingProcessor`.
    """
    if isinstance(processor, RecordingProcessor):
        return processor
    if isinstance(processor, ProcessorMixin | FeatureExtractionMixin):
        raise ConfigurationError(
            f"{type(processor).__name__} does not say how it reads recordings; expected a class that derives from "
            "meco_hub.processing.preprocessor.RecordingProcessor. Put it in front of transformers' base."
        )
    return PictureProcessor(processor)


def describe_box(face: Face | None) -> dict[str, float] | None:
    """Where a face is, as answers give it; None without a face."""
    if face is None:
        return None
    return dict(zip(("xmin", "ymin", "xmax", "ymax"), (round(float(edge), 1) for edge in face.box), strict=True))
