"""What the kit asks in another way of faces and of eyes, on plugins of this repository that are broken for the moment."""

from typing import Any

import pytest

from meco_hub.testing import NotConforming, checks
from tiny_networks import FACE

EYE: dict[str, Any] = {
    "attention_tokens": 8,
    "focal_tokens": 8,
    "backbone_depths": [1, 1],
    "backbone_widths": [4, 8],
    "backbone_num_features": 20,
    "fusion_dim": 32,
    "num_experts": 4,
    "router_hidden": 8,
    "focal_hidden": 6,
    "deep_layers": 1,
    "deep_mult": 2,
    "image_size": 32,
    "missing_modality": "zeros",
}


def ask(model_type: str, config: dict[str, Any], name: str) -> str:
    """What a check complains of; "" where it passes."""
    (check,) = [one for one in checks(model_type, config=config) if one.name == name]
    try:
        check()
    except NotConforming as error:
        return str(error)
    return ""


def test_pictures_that_nobody_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    from meco_expressnet_moe.modeling_expressnet_moe import ExpressNetMoEModel

    monkeypatch.setattr(ExpressNetMoEModel, "_validate_inputs", lambda self, pixels: None)
    assert "pixel_values of shape (1, 2, 3, 32, 32) ends in" in ask("meco_expressnet_moe", FACE, "wrong_shapes")
    assert "nan in pixel_values is answered" in ask("meco_expressnet_moe", FACE, "non_finite_values")


def test_a_picture_of_nothing_that_is_processed(monkeypatch: pytest.MonkeyPatch) -> None:
    from meco_expressnet_moe.processing_expressnet_moe import ExpressNetMoEImageProcessor

    original = ExpressNetMoEImageProcessor.__call__

    def call(self: Any, pictures: Any, **more: Any) -> Any:
        from PIL import Image

        seen = [one if isinstance(one, Image.Image) else Image.new("RGB", (8, 8)) for one in pictures]
        return original(self, seen, **more)

    monkeypatch.setattr(ExpressNetMoEImageProcessor, "__call__", call)
    assert "An object is processed as if nothing were wrong" in ask("meco_expressnet_moe", FACE, "processor_refuses")


def test_an_eye_stream_that_is_absent_and_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    from meco_mcoenet.modeling_mcoenet import MCOENetModel

    assert ask("meco_mcoenet", EYE, "absent_streams") == ""
    monkeypatch.setattr(MCOENetModel, "_blank_missing", lambda self, streams, presence: streams)
    assert "pixel_values is marked as absent" in ask("meco_mcoenet", EYE, "absent_streams")


def test_an_eye_stream_that_is_missing_and_not_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from meco_hub.errors import RecordingError
    from meco_hub.recordings.eye_clips import EyeClip

    original = EyeClip.require

    def require(self: EyeClip, streams: Any) -> None:
        try:
            original(self, streams)
        except RecordingError:
            raise RecordingError("Something is not there.") from None

    monkeypatch.setattr(EyeClip, "require", require)
    both = {**EYE, "missing_modality": "error"}
    assert "Name the stream that is missing" in ask("meco_mcoenet", both, "subsets_of_streams")


def test_an_eye_clip_whose_clock_matters(monkeypatch: pytest.MonkeyPatch) -> None:
    from meco_hub.recordings.eye_clips import EyeClip

    original = EyeClip.event_spans

    def event_spans(self: EyeClip, *given: Any, **more: Any) -> Any:
        spans = original(self, *given, **more)
        return spans - 40_000 if spans.min() > 500_000_000 else spans

    monkeypatch.setattr(EyeClip, "event_spans", event_spans)
    assert "A clock that began 1000 s earlier" in ask("meco_mcoenet", EYE, "clock_shift")
