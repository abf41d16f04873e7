"""case: the npz and the published csv, as they are and as they must not be."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from look_alikes import write_case_csv
from meco_hub.corpora.case import CHANNELS, _annotations, _physiology, corpus
from meco_hub.corpora.leaks import fingerprint, leak_check
from meco_hub.corpora.recording_rows import corpus_streams
from meco_hub.corpora.splits import by_fold, folds
from meco_hub.corpora.synthetic.signals import write_case_npz
from meco_hub.errors import ConfigurationError, CorpusError, UnknownNameError

CASE = Path(__file__).parents[3].parent / "shared" / "data" / "case" / "case_20hz.npz"


@pytest.fixture(scope="module")
def npz(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("case") / "case_20hz.npz"
    write_case_npz(path, seed=0)
    return path


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("case") / "CASE_dataset"
    write_case_csv(path, seed=0)
    return path


def changed(npz: Path, target: Path, **arrays: Any) -> Path:
    with np.load(npz) as archive:
        content = {name: archive[name] for name in archive.files} | arrays
    np.savez(target, **{name: array for name, array in content.items() if array is not None})
    return target


def test_rows_and_recordings(npz: Path) -> None:
    drawn = write_case_npz(npz.parent / "again", seed=0)
    assert (npz.parent / "again" / "case_20hz.npz").read_bytes() == npz.read_bytes()
    rows = corpus.load(npz)["all"]
    assert rows["sample_id"][:] == [one.sample_id for one in drawn]
    assert corpus.load(npz.parent / "again")["all"]["content_sha256"][:] == rows["content_sha256"][:]
    with np.load(npz) as archive:
        for number in (0, 7):
            recording = corpus.read(rows[number])
            assert (recording.start, recording.end) == (0.0, 50.0)
            joined = np.concatenate([one.values for one in recording.streams.values()], axis=1)
            assert np.array_equal(joined, archive["signals"][number])
            assert [c for one in recording.streams.values() for c in one.channels] == list(CHANNELS)
            assert {one.rate for one in recording.streams.values()} == {20.0}
            for place, target in enumerate(("valence", "arousal")):
                assert np.array_equal(recording.annotations[target].values[:, 0], archive["affect"][number, :, place])
        own = archive["signals"][archive["subject"] == 1][:, :, 5].ravel()
    assert corpus.read(rows[0]).reference["temp"][:, 0] == pytest.approx(
        [np.median(own), (np.quantile(own, 0.75) - np.quantile(own, 0.25)) / 1.349], rel=1e-5
    )


def test_folds_are_clean_and_share_films(npz: Path) -> None:
    rows = corpus.load(npz)["all"]
    train, test = by_fold(rows, [1])
    report = leak_check(train, test)
    assert [(note.kind, len(note.shared)) for note in report.notes] == [("stimulus", 4)]
    assert fingerprint(rows) == fingerprint(rows.shuffle(seed=1)) != fingerprint(train)
    assert len(folds(rows, "P4", n_folds=2)) == 12


def test_the_ratings_are_part_of_the_fingerprint(npz: Path, tmp_path: Path) -> None:
    with np.load(npz) as archive:
        affect = np.clip(archive["affect"] + 0.1, 0.5, 9.5)
    other = corpus.load(changed(npz, tmp_path / "other.npz", affect=affect))["all"]
    assert other["content_sha256"][:] == corpus.load(npz)["all"]["content_sha256"][:]
    assert fingerprint(other) != fingerprint(corpus.load(npz)["all"])


def test_another_fold_of_any_size_and_windows_of_one_film(npz: Path, tmp_path: Path) -> None:
    with np.load(npz) as archive:
        few = {name: archive[name][:3] for name in ("signals", "affect", "stimulus")}
    few |= {"subject": np.array([30, 30, 29]), "video": np.array([2, 2, 2]), "fold": np.array([4, 4, 4])}
    rows = corpus.load(changed(npz, tmp_path / "fifth.npz", **few))["all"]
    assert rows["sample_id"][:] == ["sub_30_vid_2", "sub_30_vid_2_1", "sub_29_vid_2"]
    assert set(rows["fold"][:]) == {4}
    assert corpus.read(rows[2]).streams["eda"].values.shape == (1000, 2)


def test_modalities(npz: Path) -> None:
    assert len(corpus.read(corpus.load(npz, modalities="case_9")["all"][0]).streams) == 9
    own = corpus.load(npz, modalities={"heart": ["IHR"], "skin": ["EDATon", "EDAPh"]})["all"]
    assert {name: one.channels for name, one in corpus.read(own[0]).streams.items()} == {
        "heart": ("IHR",),
        "skin": ("EDATon", "EDAPh"),
    }
    with pytest.raises(UnknownNameError, match=r"case_7.*Did you mean"):
        corpus.load(npz, modalities="case_7")
    for wrong in ({"heart": ["ECG"]}, {"a": ["IHR"], "b": ["IHR"]}, {"a": []}, {}, ["IHR"]):
        with pytest.raises(ConfigurationError, match="modalities is"):
            corpus.load(npz, modalities=wrong)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"affect": None}, "affect are missing"),
        ({"signals": np.zeros((24, 1000, 8), np.float32)}, r"array signals: shape \(24, 1000, 8\)"),
        ({"channels": np.array([*CHANNELS[:-1], "XYZ"])}, "array signals.*CEMGEnv"),
        ({"affect": np.full((24, 1000, 2), 9.6)}, r"array affect, valence: a rating is 9.6. Expected 0.5 to 9.5"),
        ({"affect": np.full((24, 999, 2), 5.0)}, r"array affect: shape \(24, 999, 2\)"),
        ({"fold": np.zeros(23, int)}, r"array fold: shape \(23,\)"),
        ({"fold": np.array(["a"] * 24)}, "array fold: <U1. Expected numbers"),
        ({"fold": np.full(24, np.nan)}, r"array fold: \[nan, .* Expected whole numbers"),
        ({"fold": np.full(24, 0.5)}, r"array fold: \[0.5, .* Expected whole numbers"),
        ({"signals": np.full((24, 1000, 9), "1.0")}, "array signals: <U3. Expected numbers"),
        ({"signals": np.full((24, 1000, 9), np.nan)}, "array signals, window 0: no sample of any sensor is a number"),
        ({"time_ms": np.append(np.arange(999) * 50.0, np.nan)}, "array time_ms: steps of nan"),
        ({"time_ms": np.arange(1000) * 40}, "array time_ms: steps of 40 to 40 ms. Expected 50"),
        ({"time_ms": np.repeat(np.arange(500), 2) * 100}, "array time_ms: the clock stands still"),
        ({"time_ms": np.arange(1000)[::-1] * 50}, "array time_ms: the clock stands still or runs backwards"),
    ],
)
def test_broken_arrays(npz: Path, tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    with pytest.raises(CorpusError, match=rf"bad\.npz.*{message}"):
        corpus.load(changed(npz, tmp_path / "bad.npz", **arrays))


def test_broken_files(npz: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.npz"
    cut.write_bytes(npz.read_bytes()[:5000])
    with pytest.raises(CorpusError, match=r"cut\.npz cannot be read as npz"):
        corpus.load(cut)
    flipped = bytearray(npz.read_bytes())
    flipped[5000:5100] = bytes(100)
    cut.write_bytes(flipped)
    with pytest.raises(CorpusError, match=r"cut\.npz cannot be read as npz"):
        corpus.load(cut)
    np.savez(cut, signals=np.array([{}], dtype=object))
    with pytest.raises(CorpusError, match=r"cut\.npz cannot be read as npz"):
        corpus.load(cut)
    (tmp_path / "empty").mkdir()
    with pytest.raises(CorpusError, match=r"no folder interpolated/physiological/"):
        corpus.load(tmp_path / "empty")


def test_published_csv(published: Path, tmp_path: Path) -> None:
    rows = corpus.load(published)["all"]
    assert sorted(rows["sample_id"][:]) == [f"sub_{p}_vid_{f}_{k}" for p in (1, 2) for f in (1, 2) for k in (0, 1)]
    row = rows[3]
    recording = corpus.read(row)
    assert (recording.start, recording.end) == (0.0, 50.0)
    assert list(recording.streams) == ["ecg", "bvp", "eda", "resp", "temp", "emg"]
    file = np.genfromtxt(row["source"], delimiter=",", names=True)
    first = int(np.flatnonzero(file["daqtime"] == round(row["start_s"] * 1000))[0])
    gsr = recording.streams["eda"].between(0, 50)
    assert np.allclose(gsr.values[:, 0], file["gsr"][first : first + 50_000], atol=1e-5)
    assert set(file["video"][first : first + 50_000]) == {float(row["trial"][-1])}
    assert recording.streams["eda"].times[0] == pytest.approx(-10.0)  # the margin
    assert len(recording.annotations["valence"]) == 1000
    train, test = by_fold(
        corpus.load(published)["all"].map(lambda one: {"fold": int(one["identity"] == "sub_2")}, keep_in_memory=True),
        [1],
    )
    assert leak_check(train, test).clean  # by the files' bytes
    write_case_csv(tmp_path / "bare.zip", seed=0, people=1, header=False)
    bare = corpus.load(tmp_path / "bare.zip")["all"]
    assert np.array_equal(corpus.read(bare[0]).streams["ecg"].values, corpus.read(rows[0]).streams["ecg"].values)


@pytest.mark.parametrize(
    ("kind", "edit", "message"),
    [
        ("annotations", lambda lines: [*lines[:40], lines[39], *lines[40:]], r"sub_1.csv, line 41, stream 'jstime'.*stands still"),
        ("annotations", lambda lines: [lines[0], *lines[:0:-1]], r"stream 'jstime': the clock stands still, runs backwards"),
        ("annotations", lambda lines: [lines[0], *lines[1::2]], r"stream 'jstime': 10 samples per second. Expected 20"),
        ("annotations", lambda lines: [*lines[:-1], lines[-1].replace(",", ",1", 1)], r"valence: a rating is 1\d"),
        ("annotations", lambda lines: [*lines[:-1], lines[-1].split(",")[0]], r"sub_1.csv: not the columns jstime"),
        ("physiological", lambda lines: [*lines[:-1], lines[-1][:20]], r"sub_1.csv: not the columns daqtime"),
        ("physiological", lambda lines: lines[:30_000], r"sub_1.csv, stream 'daqtime': samples from 0.0 to 30.0 s, and sub_1"),
        ("physiological", lambda lines: [lines[0], *lines[100_000:]], r"stream 'daqtime': samples from 100.0 to"),
        ("physiological", lambda lines: [lines[0], *lines[2::2]], r"stream 'daqtime': 500 samples per second. Expected 1000"),
        ("physiological", lambda lines: [line.rpartition(",")[0] for line in lines], r"sub_1.csv: not the columns daqtime"),
    ],
)  # fmt: skip
def test_broken_csv(published: Path, kind: str, edit: Any, message: str) -> None:
    path = published / f"data/interpolated/{kind}/sub_1.csv"
    original = path.read_text()
    _annotations.cache_clear()
    _physiology.cache_clear()
    try:
        path.write_text("\n".join(edit(original.splitlines())) + "\n")
        with pytest.raises(CorpusError, match=message):
            corpus.read(corpus.load(published)["all"][0])
    finally:
        path.write_text(original)
        _annotations.cache_clear()
        _physiology.cache_clear()


def test_a_film_without_a_number(published: Path, tmp_path: Path) -> None:
    shutil.copytree(published, tmp_path / "copy")
    path = tmp_path / "copy/data/interpolated/annotations/sub_1.csv"
    lines = path.read_text().splitlines()
    lines[300] = lines[300].rpartition(",")[0] + ","
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(CorpusError, match=r"sub_1.csv, column video, sample 300: no number"):
        corpus.load(tmp_path / "copy")


def test_only_the_interpolated_files_are_read(published: Path, tmp_path: Path) -> None:
    jittering = tmp_path / "data" / "non-interpolated"
    shutil.copytree(published / "data" / "interpolated", jittering)
    with pytest.raises(CorpusError, match="holds no folder interpolated/physiological/"):
        corpus.load(tmp_path)
    # named itself, it is taken at its word
    assert len(corpus.load(jittering)["all"]) == len(corpus.load(published)["all"])


def test_somebody_without_annotations(published: Path) -> None:
    path = published / "data/interpolated/annotations/sub_2.csv"
    hidden = path.with_suffix(".hidden")
    path.rename(hidden)
    try:
        with pytest.raises(CorpusError, match=r"annotations/sub_2.csv is missing"):
            corpus.load(published)
    finally:
        hidden.rename(path)


def test_the_real_file() -> None:
    if not CASE.is_file():
        pytest.skip(f"{CASE} is not there: the real recordings are not part of the project")
    rows = corpus.load(CASE)["all"]
    assert len(rows) == 192
    assert sorted(set(rows["fold"][:])) == [0, 1, 2, 3]
    for fold in range(4):
        assert leak_check(*by_fold(rows, [fold])).clean
    assert all(np.isfinite(one.values).all() for one in corpus.read(rows[5]).streams.values())


def test_rows_know_which_streams_of_their_corpus_they_were_loaded_without(tmp_path: Path) -> None:
    write_case_npz(tmp_path / "case.npz", seed=0, people=2, films=1, folds=1)
    declared = corpus.streams
    whole = corpus.load(tmp_path / "case.npz")["all"]
    assert corpus_streams(declared, whole, ["eda"]) == (sorted(declared), frozenset())
    skin = corpus.load(tmp_path / "case.npz", modalities={"eda": ["EDAPh"]})["all"]
    assert corpus_streams(declared, skin, ["eda"]) == (sorted(declared), frozenset(declared) - {"eda"})
    other = corpus.load(tmp_path / "case.npz", modalities="case_9")["all"]
    assert corpus_streams(declared, other, ["resp"])[1] == frozenset()
