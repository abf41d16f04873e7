"""Per-sequence prediction files: figures against scikit-learn, many spellings read, ambiguous ones refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn import metrics as sk

from meco_hub.corpora.see_scores import score_sequence_files, score_sequence_sets, table
from meco_hub.errors import InputError
from meco_hub.evaluation.predict import write_sequence_file

TOKENS = ("angry", "disgust", "fear", "happiness", "neutral", "sadness", "surprise")
LIGHTS = ("normal", "Overexposed", "Low", "HDR")


def names(n: int = 140, seed: int = 0) -> list[str]:
    generator = np.random.default_rng(seed)
    return [
        f"{index}_{generator.integers(1, 112):03d}_man_24_Master_{generator.choice(LIGHTS)}_{generator.choice(TOKENS)}_45_take000"
        for index in range(n)
    ]


def scores(sequences: list[str], seed: int) -> np.ndarray:
    """(n, 7) probabilities that lean to the truth."""
    generator = np.random.default_rng(seed)
    truth = np.array([TOKENS.index(one.split("_")[6]) for one in sequences])
    raw = np.exp(generator.normal(size=(len(sequences), 7)) + 1.5 * np.eye(7)[truth])
    return raw / raw.sum(axis=1, keepdims=True)


def put(file: Path, results: Any, **beside: Any) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"results": results, **beside}), encoding="utf-8")
    return file


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    sequences = names()
    for run in range(20):
        write_sequence_file(tmp_path / "E4_S3" / f"val_{run}.json", sequences, TOKENS, scores(sequences, run))
    return tmp_path / "E4_S3"


def test_figures_are_those_of_scikit_learn_in_every_run(runs: Path) -> None:
    found = score_sequence_files(runs)
    sequences = names()
    truth = np.array([TOKENS.index(one.split("_")[6]) for one in sequences])
    light = np.array([one.split("_")[5] for one in sequences])
    assert (len(found.runs), found.sequences) == (20, 140)
    order = {name: index for index, name in enumerate(found.runs)}
    for run in range(20):
        predicted, place = scores(sequences, run).argmax(axis=1), order[f"val_{run}.json"]
        assert found.war[place] == pytest.approx(sk.accuracy_score(truth, predicted))
        assert found.uar[place] == pytest.approx(sk.balanced_accuracy_score(truth, predicted))
        recall = sk.recall_score(truth, predicted, average=None, labels=range(7))
        assert found.recall["anger"][place] == pytest.approx(recall[0])  # pyright: ignore[reportIndexIssue]
        for name in LIGHTS:
            own = light == name
            assert found.lighting[name][place] == pytest.approx(sk.accuracy_score(truth[own], predicted[own]))
            each = sk.recall_score(truth[own], predicted[own], average="macro", labels=np.unique(truth[own]))
            assert found.lighting_uar[name][place] == pytest.approx(each)
    told = found.to_dict()
    assert told["war"]["mean"] == pytest.approx(np.mean(told["war"]["runs"]))
    assert told["war"]["sd"] == pytest.approx(np.std(told["war"]["runs"], ddof=1))
    assert found.confusion.sum() == 20 * 140
    assert (found.confusion.sum(axis=1) == 20 * np.array([found.support[name] for name in found.recall])).all()


def test_the_row_is_printed_as_the_tables_print_it(runs: Path) -> None:
    found = score_sequence_files(str(runs))
    heading, mean, sd, last = str(found).splitlines()
    assert heading.split() == [
        "Ha",
        "Sa",
        "An",
        "Di",
        "Su",
        "Fe",
        "Ne",
        "|",
        "Nor",
        "Over",
        "Low",
        "HDR",
        "|",
        "WAR",
        "UAR",
    ]
    cells = mean.split()
    assert cells[0] == "mean"
    assert [place for place, cell in enumerate(cells) if cell == "|"] == [8, 13]
    numbers = [cell for cell in cells[1:] if cell != "|"]
    assert numbers[0] == f"{100 * found.recall['happiness'].mean():.1f}"
    assert numbers[-2:] == [f"{100 * found.war.mean():.1f}", f"{100 * found.uar.mean():.1f}"]
    assert sd.split()[-1] == f"{100 * found.uar.std(ddof=1):.1f}"
    low = 100 * found.lighting_uar["Low"].mean()
    assert last.startswith("20 runs of 140 sequences; UAR by light: Nor ")
    assert f", Low {low:.1f}, HDR" in last
    assert len({len(heading), len(mean), len(sd)}) == 1


def test_order_spelling_and_length_of_the_lists_do_not_matter(tmp_path: Path) -> None:
    sequences = names(60)
    told = scores(sequences, 0)
    generator = np.random.default_rng(9)
    results = {}
    for name, row in zip(sequences, told, strict=True):
        entries = [{"label": token.upper() if index % 2 else token.title(), "score": float(row[index])} for index, token in
                   enumerate(TOKENS)]  # fmt: skip
        generator.shuffle(entries)  # pyright: ignore[reportArgumentType]
        best = max(entries, key=lambda entry: entry["score"])
        results[name] = entries if generator.random() < 0.5 else [best]
    free = score_sequence_files(put(tmp_path / "free.json", results, model="E4-S3"))
    write_sequence_file(tmp_path / "plain.json", sequences, TOKENS, told)
    plain = score_sequence_files(tmp_path / "plain.json")
    assert free.war == pytest.approx(plain.war)
    assert {name: values.tolist() for name, values in free.lighting.items()} == {
        name: values.tolist() for name, values in plain.lighting.items()
    }
    assert np.isnan(free.to_dict()["war"]["sd"])  # one run
    assert "sd" not in str(free)


def test_names_say_the_truth_whatever_its_spelling(tmp_path: Path) -> None:
    results = {
        "1_001_man_24_Master_LOW_neutraL_45_take000": [
            {"label": "Neutral", "score": 0.9},
            {"label": "sad", "score": 0.1},
        ],
        "2_002_woman_22_Doctor_hdr_happy_50_take001": [
            {"label": "happiness", "score": -1.5},
            {"label": "fear", "score": -3},
        ],
    }
    found = score_sequence_files(put(tmp_path / "a.json", results))
    assert found.war.tolist() == [1.0]
    assert found.support["Low"] == found.support["HDR"] == 1
    # a class and a light that no sequence has are undefined, and no term of UAR
    assert np.isnan(found.recall["anger"]).all()
    assert np.isnan(found.lighting["normal"]).all()
    assert found.uar.tolist() == [1.0]
    assert "–" in str(found)


def test_equal_scores_go_to_the_first_listed(tmp_path: Path) -> None:
    sequence = "1_001_man_24_Master_normal_angry_45_take000"
    tie = [{"label": "fear", "score": 0.4}, {"label": "angry", "score": 0.4}, {"label": "neutral", "score": 0.2}]
    assert score_sequence_files(put(tmp_path / "a.json", {sequence: tie})).war.tolist() == [0.0]
    assert score_sequence_files(put(tmp_path / "b.json", {sequence: tie[::-1]})).war.tolist() == [1.0]


def test_files_folders_and_patterns(runs: Path, caplog: pytest.LogCaptureFixture) -> None:
    files = sorted(runs.glob("*.json"))
    whole = score_sequence_files(runs)
    assert score_sequence_files(files).war.tolist() == whole.war.tolist()
    assert score_sequence_files(str(runs / "val_*.json")).war.tolist() == whole.war.tolist()
    assert len(score_sequence_files([files[0], str(runs / "val_1?.json")]).runs) == 11
    (runs / "opts.json").write_text('{"lr": 0.015}', encoding="utf-8")
    again = score_sequence_files(runs)
    assert again.war.tolist() == whole.war.tolist()
    assert again.ignored == ("opts.json",)
    assert "opts.json" in caplog.text
    with pytest.raises(InputError, match="'lr'"):
        score_sequence_files(runs / "opts.json")  # named by itself it must be one
    with pytest.raises(InputError, match="named twice"):
        score_sequence_files([runs, files[0]])
    with pytest.raises(InputError, match="E4_S3"):
        score_sequence_files(runs.parent)
    with pytest.raises(InputError, match=r"names no \.json file"):
        score_sequence_files(runs / "none_*.json")


GOOD = "1_001_man_24_Master_normal_angry_45_take000"
FINE = [{"label": "angry", "score": 1.0}]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "JSON"),
        ("[1, 2]", "results"),
        ('{"predictions": {}}', "'predictions'"),
        ('{"results": {}}', "results"),
        ('{"results": [1]}', "results"),
        (json.dumps({"results": {GOOD: []}}), "list of"),
        (json.dumps({"results": {GOOD: {"angry": 1.0}}}), "list of"),
        (json.dumps({"results": {GOOD: [{"label": "angry"}]}}), "entry"),
        (json.dumps({"results": {GOOD: [{"label": "angry", "score": "0.9"}]}}), "finite number"),
        (json.dumps({"results": {GOOD: [{"label": "angry", "score": True}]}}), "finite number"),
        (json.dumps({"results": {GOOD: [{"label": "angry", "score": float("nan")}]}}), "finite number"),
        (json.dumps({"results": {GOOD: [{"label": "angry", "score": None}]}}), "finite number"),
        (json.dumps({"results": {GOOD: [{"label": "boredom", "score": 1.0}]}}), "boredom"),
        (json.dumps({"results": {GOOD: [{"label": 3, "score": 1.0}]}}), "label is 3"),
        (json.dumps({"results": {GOOD: [*FINE, {"label": "Anger", "score": 0.0}]}}), "anger twice"),
        (json.dumps({"results": {"1_001_man_normal_angry": FINE}}), "5 fields"),
        (json.dumps({"results": {"1_001_man_24_Master_dusk_angry_45_take000": FINE}}), "dusk"),
        (json.dumps({"results": {"1_001_man_24_Master_Low_bored_45_take000": FINE}}), "bored"),
        (f'{{"results": {{"{GOOD}": [], "{GOOD}": []}}}}', "twice"),
    ],
)
def test_what_cannot_be_scored_is_refused_by_name(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "run.json"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=says):
        score_sequence_files(file)


def test_runs_must_answer_the_same_sequences(tmp_path: Path) -> None:
    sequences = names(10)
    write_sequence_file(tmp_path / "0.json", sequences, TOKENS, scores(sequences, 0))
    write_sequence_file(tmp_path / "1.json", sequences[:9], TOKENS, scores(sequences[:9], 0))
    with pytest.raises(InputError, match=r"different sequences: 1 stand in one only"):
        score_sequence_files(tmp_path)


def test_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    file = tmp_path / "bom.json"
    file.write_text(json.dumps({"results": {GOOD: FINE}}), encoding="utf-8-sig")
    assert score_sequence_files(file).war.tolist() == [1.0]


def test_several_folders_are_several_rows(runs: Path) -> None:
    other = runs.parent / "E7_S0"
    sequences = names()
    for run in range(2):
        write_sequence_file(other / f"{run}.json", sequences, TOKENS, scores(sequences, 100 + run))
    with pytest.raises(InputError, match="2 folders"):
        score_sequence_files([runs, other])
    loose = runs / "val_3.json"
    sets = score_sequence_sets([runs, other, loose])
    assert list(sets) == ["E4_S3", "E7_S0", ""]
    assert sets["E4_S3"].war.tolist() == score_sequence_files(runs).war.tolist()
    lines = table(sets).splitlines()
    assert [line.split()[0] for line in lines[1:6]] == ["E4_S3", "E4_S3", "E7_S0", "E7_S0", "mean"]
    assert len({len(line) for line in lines[:6]}) == 1
    assert lines[2].split()[-1] == f"{100 * sets['E4_S3'].uar.std(ddof=1):.1f}"
    assert lines[-1].startswith("1 run of 140 sequences; UAR by light")
    with pytest.raises(InputError, match="No file"):
        score_sequence_sets([])
