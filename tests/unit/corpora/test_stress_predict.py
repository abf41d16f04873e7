"""stress_predict: windows where the labels say so, streams as the watch recorded them, people kept apart."""

import shutil
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from meco_hub.corpora.leaks import fingerprint, leak_check
from meco_hub.corpora.recording_rows import robust_reference
from meco_hub.corpora.splits import by_fold
from meco_hub.corpora.stress_predict import corpus
from meco_hub.corpora.synthetic.signals import write_stress_predict
from meco_hub.errors import ConfigurationError, CorpusError, RecordingError
from meco_hub.evaluation.references import scaled_within, window_statistics
from meco_hub.recordings.signal_files.empatica import E4_CHANNELS, read_empatica

REAL = Path(__file__).parents[3].parent / "shared" / "data" / "stress_predict" / "stress_predict.zip"
LABELS = "Processed_data/Improved_All_Combined_hr_rsp_binary.csv"


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stress") / "stress.zip"
    write_stress_predict(path, seed=0)
    return path


@pytest.fixture
def folder(archive: Path, tmp_path: Path) -> Path:
    with zipfile.ZipFile(archive) as whole:
        whole.extractall(tmp_path / "some-main")
    return tmp_path


def test_windows_and_their_labels(archive: Path) -> None:
    rows = corpus.load(archive)["all"]
    assert rows.features["label"].names == ["baseline", "stress"]
    assert len(set(rows["identity"])) == 6  # the seventh has no labels
    one = [row for row in rows if row["identity"] == "S01"]
    # labels run from second 9 to 900 and change every 180 s: a window may hold up to 12 s of the other
    starts = [9 + 30 * k for k in range(28)]
    seconds = np.arange(900) // 180 % 2
    shares = [seconds[start : start + 60].mean() for start in starts]
    expected = [
        (float(start), int(share > 0.5)) for start, share in zip(starts, shares, strict=True) if abs(share - 0.5) >= 0.3
    ]
    assert [(row["start_s"], row["label"]) for row in one] == expected
    assert all(row["end_s"] - row["start_s"] == 60 for row in one)
    pure = corpus.load(archive, purity=1.0, window_s=30, stride_s=15)["all"]
    assert all(len(set(seconds[int(row["start_s"]) : int(row["end_s"])])) == 1 for row in pure)


def test_the_recording_is_the_watch_s_own(archive: Path) -> None:
    rows = corpus.load(archive)["all"]
    row = rows[3]
    recording = corpus.read(row)
    whole = read_empatica(archive, folder=f"Raw_data/{row['identity']}").recording
    assert (recording.start, recording.end) == (0.0, 60.0)
    for name, stream in recording.streams.items():
        cut = whole.streams[name].between(row["start_s"] - 10, row["end_s"] + 10)
        assert np.array_equal(stream.values, cut.values)
        assert np.allclose(stream.times, cut.times - row["start_s"], atol=1e-9)
        assert recording.reference[name].shape == (2, stream.values.shape[1])
    bare = corpus.read(corpus.load(archive, margin_s=0)["all"][3])
    assert bare.streams["bvp"].times[0] == pytest.approx(0.0, abs=1 / 64)
    held = [corpus.read(one).streams for one in rows]
    assert any("ibi" not in streams for streams in held)
    assert any("ibi" in streams for streams in held)
    assert not any(len(stream) == 0 for streams in held for stream in streams.values())


def test_a_window_can_do_without_the_session_s_future(archive: Path) -> None:
    causal = {"margin_s": 120.0, "after_s": 0.0, "level_minutes": 5.0}
    rows = corpus.load(archive, **causal)["all"]
    row = rows[len(rows) // 2]
    here = corpus.read(row)
    whole = read_empatica(archive, folder=f"Raw_data/{row['identity']}").recording
    for name, stream in here.streams.items():
        cut = whole.streams[name].between(row["start_s"] - 120, row["end_s"])
        assert np.array_equal(stream.values, cut.values)
    first = whole.clip(whole.start, whole.start + 300).streams["eda"]
    assert np.allclose(here.reference["eda"], robust_reference(first.values))
    # nothing after the window, nor of the level's minutes after the fifth, can change what it says
    assert max(stream.times[-1] for stream in here.streams.values()) < 60
    assert not np.allclose(here.reference["eda"], robust_reference(whole.streams["eda"].values))
    with pytest.raises(ConfigurationError, match="after_s -1"):
        corpus.load(archive, after_s=-1)


def test_folds_keep_people_apart(archive: Path) -> None:
    rows = corpus.load(archive)["all"]
    assert sorted(set(rows["fold"])) == [0, 1, 2, 3, 4]
    for fold in range(5):
        train, test = by_fold(rows, [fold])
        assert leak_check(train, test).clean
    assert fingerprint(rows) == fingerprint(corpus.load(archive)["all"])


def test_a_folder_a_zip_and_few_people(archive: Path, folder: Path, tmp_path: Path) -> None:
    assert corpus.load(folder)["all"]["content_sha256"][:] == corpus.load(archive)["all"]["content_sha256"][:]
    write_stress_predict(tmp_path / "few.zip", seed=1, people=2)
    assert set(corpus.load(tmp_path / "few.zip")["all"]["fold"]) == {-1}


def test_a_plain_model_learns_the_look_alike(archive: Path) -> None:
    rows = corpus.load(archive)["all"]
    scores = _cross_validate(rows, lambda: LogisticRegression(max_iter=1000))
    assert scores[0] > 0.95


def _cross_validate(rows, make: Callable) -> tuple[float, float]:
    """(balanced accuracy, AUC), means over the folds."""
    sizes = {name: len(channels) for name, channels in E4_CHANNELS.items()}
    numbers = np.stack([window_statistics(corpus.read(row), sizes) for row in rows])
    scaled, labels, folds = scaled_within(numbers, rows["identity"][:]), np.array(rows["label"]), np.array(rows["fold"])
    pairs = []
    for fold in range(5):
        answers = make().fit(scaled[folds != fold], labels[folds != fold]).predict_proba(scaled[folds == fold])[:, 1]
        truth = labels[folds == fold]
        pairs.append((balanced_accuracy_score(truth, answers > 0.5), roc_auc_score(truth, answers)))
    return tuple(np.mean(pairs, axis=0))


@pytest.mark.parametrize(
    ("file", "edit", "error", "message"),
    [
        ("Raw_data/S02/ACC.csv", lambda text: text[:-4], RecordingError, r"Raw_data/S02/, stream 'acc'"),
        ("Raw_data/S02/BVP.csv", lambda text: text.replace("64.000000", "32.0"), RecordingError, r"stream 'bvp'.*rate is 32"),
        ("Raw_data/S02/IBI.csv", lambda text: text + text.splitlines()[-1] + "\n", RecordingError, r"stream 'ibi'.*is there twice"),
        (LABELS, lambda text: text.replace(",0\n", ",2\n", 1), CorpusError, r"line 2: the label is 2. Expected 0"),
        (LABELS, lambda text: text + text.splitlines()[-1] + "\n", CorpusError, r"clock of participant 6 stands still"),
        (LABELS, lambda text: text.replace("80", "80,1", 1), CorpusError, r"line 2: 6 cells"),
        (LABELS, lambda text: text.replace("Label", "Stress"), CorpusError, r"label is missing"),
        (LABELS, lambda text: text.replace(",16000", ",17000"), CorpusError, r"where the watch recorded nothing"),
    ],
)  # fmt: skip
def test_broken_files(folder: Path, file: str, edit: Callable, error: type, message: str) -> None:
    path = folder / "some-main" / file
    path.write_text(edit(path.read_text()))
    with pytest.raises(error, match=message):
        corpus.load(folder)


def test_a_second_without_a_label_has_no_window(folder: Path) -> None:
    before = Counter(corpus.load(folder)["all"]["identity"])
    path = folder / "some-main" / LABELS
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:100] + lines[101:]) + "\n")  # second 99 of the first person
    after = Counter(corpus.load(folder)["all"]["identity"])
    assert after["S01"] == before["S01"] - 2
    assert after["S02"] == before["S02"]


def test_two_files_of_labels_are_not_chosen_between(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "some-main", tmp_path / "copy")
    shutil.copy(tmp_path / "copy" / LABELS, tmp_path / "copy" / "Processed_data" / "All.csv")
    with pytest.raises(CorpusError, match=r"holds 2 csv files, .*All\.csv.* Expected one"):
        corpus.load(tmp_path / "copy")
    (tmp_path / "copy" / "Processed_data" / "All.csv").unlink()
    path = tmp_path / "copy" / LABELS
    lines = path.read_text().splitlines()
    lines[7] = "1,80,14.0,inf,0"
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(CorpusError, match="Expected numbers for participant"):
        corpus.load(tmp_path / "copy")


def test_other_layouts_and_options(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="no folder Raw_data/"):
        corpus.load(tmp_path)
    (tmp_path / "Raw_data" / "S01").mkdir(parents=True)
    (tmp_path / "Raw_data" / "S01" / "ACC.csv").write_text("")
    with pytest.raises(CorpusError, match="holds no csv"):
        corpus.load(tmp_path)
    for options in ({"purity": 0.4}, {"window_s": 0}, {"stride_s": 2.5}, {"margin_s": -1}):
        with pytest.raises(ConfigurationError, match="Expected whole seconds"):
            corpus.load(tmp_path, **options)


@pytest.fixture(scope="module")
def real() -> Path:
    if not REAL.is_file():
        pytest.skip(f"{REAL} is not there: the real recordings are not part of the project")
    return REAL


def test_the_real_windows(real: Path) -> None:
    rows = corpus.load(real)["all"]
    assert len(set(rows["identity"])) == 27
    assert Counter(rows["label"]) == {0: 1864, 1: 885}
    for fold in range(5):
        assert leak_check(*by_fold(rows, [fold])).clean


@pytest.mark.slow
def test_plain_models_on_the_real_windows(real: Path) -> None:
    """Published beside the data: logistic regression .749 / .815, random forest .753 / .835, on statistics of their own."""
    rows = corpus.load(real)["all"]
    assert _cross_validate(rows, lambda: LogisticRegression(max_iter=1000, class_weight="balanced")) == pytest.approx(
        (0.749, 0.815), abs=0.03
    )
    forest = RandomForestClassifier(300, class_weight="balanced", min_samples_leaf=5, random_state=0)
    assert _cross_validate(rows, lambda: forest) == pytest.approx((0.753, 0.835), abs=0.03)
