"""deap: trials and ratings as the pickles hold them, and nothing but arrays is unpickled."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from meco_hub.corpora.deap import CHANNELS, corpus
from meco_hub.corpora.leaks import fingerprint, leak_check
from meco_hub.corpora.splits import PROTOCOLS, folds
from meco_hub.corpora.synthetic.signals import python2_pickle, write_deap
from meco_hub.errors import CorpusError, UnknownNameError


@pytest.fixture(scope="module")
def deap(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("deap") / "DEAP"
    write_deap(path, seed=0, people=5, trials=3)
    return path


def arrays(path: Path) -> dict[str, np.ndarray]:
    with path.open("rb") as stream:
        return pickle.load(stream, encoding="latin1")  # ours, so it may run


def test_rows_and_recordings(deap: Path, tmp_path: Path) -> None:
    drawn = write_deap(tmp_path / "again.zip", seed=0, people=5, trials=3)
    rows = corpus.load(deap)["all"]
    assert rows["sample_id"][:] == [one.sample_id for one in drawn]
    assert np.allclose(rows["targets"][:], [one.targets for one in drawn], atol=1e-5)
    again = corpus.load(tmp_path / "again.zip")["all"]
    assert fingerprint(again) == fingerprint(rows)
    theirs = arrays(deap / "data_preprocessed_python/s02.dat")
    for split in (rows, again):
        recording = corpus.read(split[4])
        assert split[4]["stimulus"] == "video_02"
        assert {name: one.values.shape for name, one in recording.streams.items()} == {
            "eeg": (8064, 32), "eye": (8064, 2), "emg": (8064, 2), "ans": (8064, 4),
        }  # fmt: skip
        joined = np.concatenate([one.values for one in recording.streams.values()], axis=1)
        assert np.allclose(joined.T, theirs["data"][1], rtol=1e-6)
        assert [c for one in recording.streams.values() for c in one.channels] == list(CHANNELS)
        assert (recording.start, recording.end) == (0.0, 60.0)
        assert recording.streams["eeg"].times[384] == 0.0
        assert len(recording.streams["eeg"].between(0, 60)) == 7680
        before = theirs["data"][:, 36, :384].ravel()
        assert recording.reference["ans"][0, 0] == pytest.approx(np.median(before), rel=1e-6)
    assert rows["liking"][4] == pytest.approx(theirs["labels"][1, 3])


def test_layouts_and_folds(deap: Path) -> None:
    assert list(corpus.read(corpus.load(deap, modalities="deap_7")["all"][0]).streams) == [
        "eeg", "eye", "emg", "gsr", "resp", "ppg", "temp",
    ]  # fmt: skip
    assert corpus.read(corpus.load(deap, modalities="deap_2")["all"][0]).streams["peripheral"].values.shape == (8064, 8)
    rows = corpus.load(deap)["all"]
    assert sorted(set(zip(rows["identity"], rows["fold"], strict=True)), key=lambda one: one[1])[0][1] == 0
    assert len(set(zip(rows["identity"], rows["fold"], strict=True))) == 5
    for fold in folds(rows, "P4", n_folds=3):
        assert leak_check(*fold.take(rows), allow=PROTOCOLS["P4"].shares).clean
    with pytest.raises(UnknownNameError, match="protocol named 'P9'"):
        corpus.load(deap, folds="P9")
    with pytest.raises(UnknownNameError, match="deap_5"):
        corpus.load(deap, modalities="deap_5")


class Payload:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.target,)


def test_a_pickle_that_is_not_deap_s_is_refused_without_running(deap: Path, tmp_path: Path) -> None:
    target = tmp_path / "was-run"
    one = arrays(deap / "data_preprocessed_python/s01.dat")
    (tmp_path / "s01.dat").write_bytes(pickle.dumps({"data": one["data"][:1], "labels": Payload(target)}, protocol=2))
    with pytest.raises(
        CorpusError, match=r"s01\.dat asks for \S+, which is no part of an array.*nothing of it was run"
    ):
        corpus.load(tmp_path)
    assert not target.exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda one: {"data": one["data"][:, :39], "labels": one["labels"]}, r"array data: shape \(3, 39, 8064\)"),
        (
            lambda one: {"data": one["data"][:, :, :4032], "labels": one["labels"]},
            r"array data: shape \(3, 40, 4032\).*128 Hz",
        ),
        (lambda one: {"data": one["data"], "labels": one["labels"][:, :3]}, r"array labels: shape \(3, 3\)"),
        (lambda one: {"data": one["data"], "labels": one["labels"] + 5}, r"array labels: a rating is"),
        (lambda one: {"data": one["data"]}, "labels is missing"),
        (lambda one: {"data": one["data"][:0], "labels": one["labels"][:0]}, r"array data: shape \(0, 40, 8064\)"),
        (lambda one: {"data": one["data"] * np.nan, "labels": one["labels"]}, "array data, trial 1: no sample of any"),
        (lambda one: {"data": one["data"] * 1e300, "labels": one["labels"]}, "array data, trial 1: no sample of any"),
    ],
)
def test_broken_arrays(deap: Path, tmp_path: Path, change: Any, message: str) -> None:
    one = arrays(deap / "data_preprocessed_python/s01.dat")
    (tmp_path / "s01.dat").write_bytes(python2_pickle(change(one)))
    with pytest.raises(CorpusError, match=rf"s01\.dat.*{message}"):
        corpus.load(tmp_path)


def test_truncated_and_absent(deap: Path, tmp_path: Path) -> None:
    whole = (deap / "data_preprocessed_python/s01.dat").read_bytes()
    for size in (0, 100_000, len(whole) // 2, len(whole) * 9 // 10, len(whole) - 1):
        (tmp_path / "s01.dat").write_bytes(whole[:size])
        with pytest.raises(CorpusError, match=r"s01\.dat cannot be read as a pickle of arrays"):
            corpus.load(tmp_path)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(CorpusError, match=r"0 files s<nn>\.dat"):
        corpus.load(empty)
