"""deap: the original BDF files, made here channel by channel: where videos begin, which they were, what must not be."""

from pathlib import Path

import numpy as np
import pytest

from meco_hub.corpora.deap import CHANNELS, EEG, corpus
from meco_hub.errors import CorpusError, MecoError

pyedflib = pytest.importorskip("pyedflib", reason="BDF is read by an extra")

RATE, SECONDS, BEGINS = 512, 150, (10, 85)
NAMES = (
    *EEG[::-1],
    *(f"EXG{i}" for i in range(1, 9)),
    "GSR1",
    "GSR2",
    "Erg1",
    "Erg2",
    "Resp",
    "Plet",
    "Temp",
    "Status",
)


def write(
    path: Path, *, names: tuple[str, ...] = NAMES, begins: tuple[int, ...] = BEGINS, rate: int = RATE
) -> np.ndarray:
    """A BDF file; gives (samples, channels) in digital units, one of which is one physical."""
    random = np.random.default_rng(0)
    data = random.integers(-2000, 2000, (SECONDS * rate, len(names)), dtype=np.int32)
    if "Status" in names:
        status = np.full(len(data), 0x1A0000, np.int32)  # the upper bits are the amplifier's own
        for number, second in enumerate(begins):
            status[(second - 5) * rate : second * rate] |= 3
            status[second * rate : second * rate + 100] |= 4
            status[(second + 60) * rate : (second + 60) * rate + 10] |= 5 if number else 0
        data[:, names.index("Status")] = status
    limit = 8388607
    header = [
        {
            "label": name, "dimension": "uV", "sample_frequency": rate, "physical_min": -limit - 1, "physical_max": limit,
            "digital_min": -limit - 1, "digital_max": limit, "prefilter": "", "transducer": "",
        }
        for name in names
    ]  # fmt: skip
    with pyedflib.EdfWriter(str(path), len(names), file_type=pyedflib.FILETYPE_BDF) as file:
        file.setSignalHeaders(header)
        file.writeSamples([np.ascontiguousarray(column) for column in data.T], digital=True)
    return data


RATINGS = """Participant_id,Trial,Experiment_id,Start_time,Valence,Arousal,Dominance,Liking,Familiarity
1,1,7,1695918,7.71,7.60,6.90,7.83,5.0
1,2,3,2714905,8.10,7.31,7.28,8.47,4.0
"""


@pytest.fixture(scope="module")
def deap(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    folder = tmp_path_factory.mktemp("deap_bdf")
    (folder / "metadata_csv").mkdir()
    (folder / "metadata_csv" / "participant_ratings.csv").write_text(RATINGS, encoding="utf-8")
    return folder, write(folder / "s01.bdf")


def test_videos_are_found_named_and_rated(deap: tuple[Path, np.ndarray]) -> None:
    folder, data = deap
    rows = corpus.load(folder)["all"]
    assert rows["sample_id"][:] == ["s01_03", "s01_07"]  # by video, whatever the order in which they were shown
    assert rows["stimulus"][:] == ["video_03", "video_07"]
    assert rows["targets"][0] == pytest.approx([8.10, 7.31, 7.28])
    assert rows["liking"][1] == pytest.approx(7.83)
    assert set(rows["site"]) == {"twente"}
    recording = corpus.read(rows[0])
    assert (recording.start, recording.end) == (0.0, 60.0)
    joined = np.concatenate([one.values for one in recording.streams.values()], axis=1)
    assert [c for one in recording.streams.values() for c in one.channels] == list(CHANNELS)
    assert joined.shape == (63 * RATE, 40)
    assert recording.streams["eeg"].times[3 * RATE] == 0.0
    raw = data[(85 - 3) * RATE : (85 + 60) * RATE].astype(np.float64)
    eeg = raw[:, [NAMES.index(name) for name in EEG]]
    np.testing.assert_allclose(joined[:, :32], eeg - eeg.mean(axis=1, keepdims=True), atol=0.01)
    np.testing.assert_allclose(joined[:, 32], raw[:, NAMES.index("EXG1")] - raw[:, NAMES.index("EXG2")], atol=0.01)
    np.testing.assert_allclose(joined[:, 39], raw[:, NAMES.index("Temp")], atol=0.01)
    assert recording.reference["eeg"].shape == (2, 32)


def test_what_must_not_be(deap: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    folder, _ = deap
    whole = (folder / "s01.bdf").read_bytes()
    ratings = tmp_path / "participant_ratings.csv"

    def refused(message: str) -> None:
        with pytest.raises(MecoError, match=message):
            corpus.load(tmp_path)

    (tmp_path / "s01.bdf").write_bytes(whole)
    refused("0 files participant_ratings")
    ratings.write_text(RATINGS.rsplit("\n", 2)[0] + "\n", encoding="utf-8")
    refused(r"s01\.bdf, stream Status: 2 videos begin.*has the trials 1\.")
    ratings.write_text(RATINGS.replace("8.10", "9.7"), encoding="utf-8")
    refused(r"s01\.bdf, ratings of trial 2: a rating is 9\.7")
    ratings.write_text(RATINGS, encoding="utf-8")
    (tmp_path / "s01.bdf").write_bytes(whole[: len(whole) // 2])
    refused(r"s01\.bdf: the header promises")
    write(tmp_path / "s01.bdf", names=tuple(one for one in NAMES if one != "Fz"))
    refused(r"s01\.bdf lacks the channels Fz")
    write(tmp_path / "s01.bdf", begins=())
    refused(r"stream Status: 0 videos begin")
    write(tmp_path / "s01.bdf", rate=256)
    refused(r"stream Fp1: the rate is 256 Hz. Expected 512")


def test_archives_of_bdf_are_to_be_unpacked(tmp_path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(tmp_path / "deap.zip", "w") as archive:
        archive.writestr("s01.bdf", b"")
    with pytest.raises(CorpusError, match="Unpack it"):
        corpus.load(tmp_path / "deap.zip")
