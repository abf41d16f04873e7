"""Files as people have them, which were once read wrongly or not at all; each with its right answer."""

from pathlib import Path

import numpy as np
import pytest

from meco_hub.errors import DependencyError, RecordingError
from meco_hub.recordings.events import read_events

CASES = Path(__file__).parents[4].parent / "shared" / "cases" / "events"
pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason="../shared/cases/events is not here")


@pytest.mark.parametrize(
    ("name", "events", "first", "last"),
    [
        ("evt3_one_step_back.raw", 10_001, 0, 999_900),
        ("evt3_padded_0x9.raw", 300, 0, 299_000),
        ("savetxt_microseconds.txt", 500, 2_251, 255_838),
        ("txyp_table_slow_edge.npy", 300, 0, 14_950),
        ("dataframe_bool.csv", 300, 2_251, 162_680),
        ("excel_bom.csv", 300, 2_251, 162_680),
    ],
)
def test_read(name: str, events: int, first: int, last: int) -> None:
    recording = read_events(CASES / name)
    assert (len(recording), recording.t[0], recording.t[-1]) == (events, first, last)
    if name.startswith("txyp"):
        assert recording.x.max() < 64
    if name == "dataframe_bool.csv":  # which has the events of the other, and True and False for polarity
        np.testing.assert_array_equal(recording.p, read_events(CASES / "excel_bom.csv").p)


@pytest.mark.parametrize(
    ("name", "unit", "last"),
    [("milliseconds_float.txt", "ms", 255_838), ("nanoseconds_from_0.npz", "ns", 999_180)],
)
def test_what_cannot_be_in_its_unit_asks(name: str, unit: str, last: int) -> None:
    for sensor in ({}, {"width": 346, "height": 260}):
        with pytest.raises(RecordingError, match=rf"which no event camera .* time_unit=, perhaps {unit}"):
            read_events(CASES / name, **sensor)
        assert read_events(CASES / name, time_unit=unit, **sensor).t[-1] == last


def test_two_hours_on_a_counter_of_32_bits() -> None:
    recording = read_events(CASES / "time_wraps_u32.npz")
    np.testing.assert_array_equal(recording.t, np.load(CASES / "time_wraps_truth.npz")["t"])
    assert "reordered" not in recording.notes


def test_frames_of_two_cameras_stay_with_their_events() -> None:
    for stream, grey in (("0", 10), ("4", 200)):
        frames = read_events(CASES / "stereo_davis.aedat4", stream=stream).frames
        assert frames is not None
        assert frames[0, 0, 0] == grey


def test_the_packets_that_are_there() -> None:
    with pytest.raises(RecordingError, match=r'cut short or damaged.*damaged="keep"'):
        read_events(CASES / "davis_half_copied.aedat4")
    recording = read_events(CASES / "davis_half_copied.aedat4", damaged="keep")
    assert len(recording) == 10_000
    assert [warning.code for warning in recording.warnings] == ["damaged_file"]


@pytest.mark.processes
def test_ecf_is_read_or_its_plugin_is_named() -> None:
    pytest.importorskip("h5py")
    try:
        recording = read_events(CASES / "ecf_metavision.hdf5")
    except DependencyError as error:
        assert "hdf5_ecf" in str(error)  # noqa: PT017 — whether the plugin is there is not for us to say
    else:
        assert (len(recording), recording.width, recording.height) == (20_000, 346, 260)
