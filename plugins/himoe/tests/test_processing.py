"""The windower and the model: they agree on shapes, survive a round trip, and a recording of any kind gets through both."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from meco_himoe.processing_himoe import HiMoESignalWindower
from meco_hub.recordings.signal_recording import SignalRecording, Stream

Make = Callable[..., Any]


@pytest.fixture
def recording() -> SignalRecording:
    """Ten seconds: an EEG faster than the model's, an ECG with a gap, no band powers at all."""
    random = np.random.default_rng(0)
    times = np.arange(200) / 20
    times = np.delete(times, slice(80, 120))
    return SignalRecording(
        {
            "eeg": Stream.regular(random.normal(size=(640, 3)), rate=64.0),
            "ecg": Stream(random.normal(size=(160, 1)), times, rate=20.0),
        },
        start=0.0,
        end=10.0,
        name="somebody",
    )


def test_a_recording_gets_through_windower_and_model(make_model: Make, recording: SignalRecording) -> None:
    model = make_model(prediction_mode="sequence")
    windower = HiMoESignalWindower.for_config(model.config, normalization="recording")
    clips = windower.cut(recording)
    batch = windower(clips, return_tensors="pt")
    with torch.no_grad():
        output = model(**batch, output_routing=True)
    assert output.logits.shape == (3, windower.num_steps, 2)
    assert output.logits.isfinite().all()
    assert batch["modality_presence"].tolist() == [[True, True, False]] * 3
    assert not output.availability[:, 2].any(), "nobody measured band powers"
    assert not output.availability[2, :, 6:].any(), "the recording ends in the middle of the last window"


def test_round_trip_through_the_auto_class(make_config: Make, tmp_path: Path) -> None:
    from transformers import AutoFeatureExtractor

    import meco_hub  # noqa: F401 (registers the plugin)

    config = make_config()
    windower = HiMoESignalWindower.for_config(
        config, normalization="recording", modalities={"ecg": {"lowpass_hz": 8.0}}
    )
    windower.save_pretrained(tmp_path)
    again = AutoFeatureExtractor.from_pretrained(tmp_path)
    assert isinstance(again, HiMoESignalWindower)
    assert again.to_dict() == windower.to_dict()
    assert again.modality_names == config.modality_names
    assert again.modalities["ecg"]["lowpass_hz"] == 8.0
    assert (again.window_s, again.grid_step_s) == (4.0, 0.5)


def test_a_delay_that_is_known_reaches_the_loss(make_model: Make, recording: SignalRecording) -> None:
    model = make_model()
    windower = HiMoESignalWindower.for_config(model.config, normalization="recording")
    clip = windower.cut(recording)[0].shift({"ecg": 0.4}, known=True)
    batch = windower(clip, return_tensors="pt")
    assert batch["lag_targets"][0, 1].item() == pytest.approx(0.4)
    output = model(**batch, labels=torch.zeros(1, 2))
    assert output.losses["lag"] > 0
