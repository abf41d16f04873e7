"""dreamer: the struct as it is published, its last minutes, its gaps, and what must not be."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from meco_hub.corpora.dreamer import ELECTRODES, corpus
from meco_hub.corpora.leaks import fingerprint
from meco_hub.corpora.synthetic.signals import write_dreamer
from meco_hub.errors import ConfigurationError, CorpusError


@pytest.fixture(scope="module")
def mat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("dreamer")
    write_dreamer(path / "D", seed=0)
    return path / "D" / "DREAMER.mat"


def test_rows_and_recordings(mat: Path, tmp_path: Path) -> None:
    drawn = write_dreamer(tmp_path / "again", seed=0)
    assert (tmp_path / "again" / "DREAMER.mat").read_bytes() == mat.read_bytes()
    rows = corpus.load(mat)["all"]
    assert fingerprint(rows) == fingerprint(corpus.load(mat.parent)["all"])
    assert rows["sample_id"][:] == [one.sample_id for one in drawn]
    assert [tuple(one) for one in rows["targets"]] == [one.targets for one in drawn]
    theirs = loadmat(mat, squeeze_me=True, struct_as_record=False)["DREAMER"].Data[1]
    recording = corpus.read(rows[4])  # the second person's second clip
    assert (recording.start, recording.end) == (0.0, 60.0)
    for name, rate, whole in (("eeg", 128, theirs.EEG.stimuli[1]), ("ecg", 256, theirs.ECG.stimuli[1])):
        stream = recording.streams[name]
        last = stream.between(0, 60)
        assert len(last) == 60 * rate
        assert np.allclose(last.values, whole[-60 * rate :], rtol=1e-6, equal_nan=True)
        assert stream.times[0] == pytest.approx(60 - len(whole) / rate)  # 68 s: eight of them before the last minute
    assert np.isnan(recording.streams["ecg"].values).sum() == 80
    assert recording.streams["eeg"].channels == ELECTRODES
    joined = np.concatenate(list(theirs.EEG.baseline))
    assert recording.reference["eeg"][0] == pytest.approx(np.median(joined, axis=0), rel=1e-6)


def test_compressed_as_the_original(mat: Path, tmp_path: Path) -> None:
    write_dreamer(tmp_path / "small", seed=0, people=1, clips=1, compressed=True)
    small = corpus.load(tmp_path / "small")["all"]
    assert small["content_sha256"][0] == corpus.load(mat)["all"]["content_sha256"][0]
    bad = tmp_path / "small" / "DREAMER.mat"
    bad.write_bytes(bad.read_bytes()[:-5000])
    with pytest.raises(CorpusError, match=r"DREAMER\.mat cannot be read as DREAMER\.mat"):
        corpus.load(bad)


def test_a_wrong_checksum_is_no_reason_to_refuse_and_damage_ends_no_process(mat: Path, tmp_path: Path) -> None:
    write_dreamer(tmp_path / "small", seed=0, people=1, clips=1, compressed=True)
    file = tmp_path / "small" / "DREAMER.mat"
    whole = bytearray(file.read_bytes())
    whole[-1] ^= 1  # the checksum is the last four bytes
    file.write_bytes(whole)
    assert corpus.load(file)["all"]["content_sha256"][0] == corpus.load(mat)["all"]["content_sha256"][0]
    random = np.random.default_rng(0)
    refused = []
    for place in random.integers(
        200, len(whole) // 4, 10
    ):  # where a reader made of C has been seen to take the process down
        damaged = bytearray(whole)
        damaged[place : place + 64] = random.bytes(64)
        file.write_bytes(damaged)
        try:
            corpus.load(file)  # damage that leaves a whole stream of plausible numbers is found by checksums only
        except CorpusError as error:
            refused.append(str(error))
    assert refused
    assert all("DREAMER.mat" in one for one in refused)


def test_layouts(mat: Path) -> None:
    rows = corpus.load(mat, modalities={"front": ["AF3", "AF4"], "heart": ["ECG1"]}, folds="P2")["all"]
    assert corpus.read(rows[0]).streams["front"].channels == ("AF3", "AF4")
    assert set(rows["fold"]) == {0, 1}
    with pytest.raises(ConfigurationError, match="stream 'all' has AF3, ECG1, EEG and ECG"):
        corpus.load(mat, modalities={"all": ["AF3", "ECG1"]})


def edited(mat: Path, target: Path, edit: Callable[[Any], None]) -> Path:
    whole = loadmat(mat)["DREAMER"]
    edit(whole[0, 0])
    savemat(target, {"DREAMER": whole})
    return target


def person(whole: Any, number: int) -> Any:
    return whole["Data"][0, number][0, 0]


def cut(sensor: str, part: str, clip: int, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Any], None]:
    def edit(whole: Any) -> None:
        cells = person(whole, 1)[sensor][0, 0][part]
        cells[clip, 0] = change(cells[clip, 0])

    return edit


def cells(sensor: str, part: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Any], None]:
    def edit(whole: Any) -> None:
        parts = person(whole, 1)[sensor][0, 0]
        parts[part] = change(parts[part])

    return edit


def nothing(whole: Any) -> None:
    for sensor in ("EEG", "ECG"):
        cut(sensor, "stimuli", 0, lambda x: x * np.nan)(whole)


def test_one_sensor_may_be_missing_throughout_a_clip(mat: Path, tmp_path: Path) -> None:
    file = edited(mat, tmp_path / "one.mat", cut("ECG", "stimuli", 0, lambda x: x * np.nan))
    streams = corpus.read(corpus.load(file)["all"][3]).streams
    assert np.isnan(streams["ecg"].values).all()
    assert np.isfinite(streams["eeg"].values).all()


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (cut("EEG", "stimuli", 2, lambda x: x[:, :13]), r"Data\{2\}, stream EEG, stimuli\{3\}: shape \(\d+, 13\)"),
        (cut("ECG", "stimuli", 0, lambda x: x[:, :1]), r"Data\{2\}, stream ECG, stimuli\{1\}: shape \(\d+, 1\)"),
        (cut("EEG", "baseline", 1, lambda x: x[::2]), r"stream EEG, baseline\{2\}: 30.5 s. Expected 61 s at 128 Hz"),
        (cut("ECG", "stimuli", 0, lambda x: x[::2]), r"stream ECG, stimuli\{1\}: 32.5 s. Expected 60 s or more"),
        (cut("ECG", "stimuli", 1, lambda x: x[: 62 * 256]), r"stimuli\{2\}: EEG and ECG differ by 6.0 s"),
        (cut("EEG", "stimuli", 0, lambda x: x.T), r"stream EEG, stimuli\{1\}: shape \(14, \d+\)"),
        (cut("EEG", "stimuli", 0, lambda x: np.zeros((0, 0))), r"stream EEG, stimuli\{1\}: shape \(0, 0\)"),
        (cut("EEG", "stimuli", 0, lambda x: np.array("none")), r"stream EEG, stimuli\{1\}: shape \(\) of <U4"),
        (cut("EEG", "baseline", 0, lambda x: np.tile(x, (2, 1))), r"stream EEG, baseline\{1\}: 122.0 s. Expected 61 s"),
        (cells("EEG", "stimuli", lambda x: x[:2]), r"Data\{2\}, stream EEG: 2 clips in stimuli. Expected 3"),
        (nothing, r"Data\{2\}, stimuli\{1\}, streams EEG and ECG: no sample of any sensor is a number"),
        (lambda w: person(w, 0)["ScoreArousal"].__setitem__((0, 0), 6), r"Data\{1\}, ScoreArousal: a rating is 6. Expected 1 to 5"),
        (lambda w: w["EEG_SamplingRate"].__setitem__((0, 0), 64), r"stream EEG: the rate is 64 Hz. Expected 128"),
        (lambda w: w["noOfSubjects"].__setitem__((0, 0), 23), r"2 people in Data, where noOfSubjects says 23"),
        (lambda w: w["noOfVideoSequences"].__setitem__((0, 0), 18), r"3 scores, where noOfVideoSequences says 18"),
        (lambda w: w["EEG_Electrodes"].__setitem__((0, 0), np.array(["T7"])), r"the electrodes are T7"),
    ],
)  # fmt: skip
def test_broken_structs(mat: Path, tmp_path: Path, edit: Callable[[Any], None], message: str) -> None:
    with pytest.raises(CorpusError, match=rf"bad\.mat.*{message}"):
        corpus.load(edited(mat, tmp_path / "bad.mat", edit))


def test_truncated_and_foreign(mat: Path, tmp_path: Path) -> None:
    bad = tmp_path / "DREAMER.mat"
    whole = mat.read_bytes()
    for size in (
        0,
        100,
        5000,
        len(whole) // 10,
        len(whole) // 2,
        len(whole) * 9 // 10,
        len(whole) - 2000,
        len(whole) - 1,
    ):
        bad.write_bytes(whole[:size])
        with pytest.raises(CorpusError, match=r"DREAMER\.mat cannot be read as DREAMER\.mat"):
            corpus.load(bad)
    savemat(bad, {"other": 1})
    with pytest.raises(CorpusError, match="cannot be read as DREAMER"):
        corpus.load(bad)
    savemat(bad, {"DREAMER": {"Data": 1}})
    with pytest.raises(CorpusError, match="cannot be read as DREAMER"):
        corpus.load(bad)
    bad.unlink()
    with pytest.raises(CorpusError, match=r"holds no DREAMER\.mat"):
        corpus.load(tmp_path)
