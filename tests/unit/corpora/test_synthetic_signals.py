"""synthetic signals: what is to be predicted is in them, and nobody's look-alike overwrites somebody's data."""

from pathlib import Path

import datasets
import numpy as np
import pytest
from sklearn.linear_model import Ridge

from meco_hub.corpora import Corpus, case, deap, dreamer
from meco_hub.corpora.synthetic.signals import write_case_npz, write_deap, write_dreamer
from meco_hub.errors import CorpusError
from meco_hub.evaluation.references import scaled_within, window_statistics


def held_out_correlation(corpus: Corpus, rows: datasets.Dataset, target: int) -> float:
    """Of a ridge on every channel's standard deviation, trained on half of everybody's trials."""
    sizes = {name: one.values.shape[1] for name, one in corpus.read(rows[0]).streams.items()}
    numbers = np.log(np.stack([window_statistics(corpus.read(row), sizes)[1::3] for row in rows]))
    scaled, truth = scaled_within(numbers, rows["identity"][:]), np.array(rows["targets"][:])[:, target]
    even = np.arange(len(rows)) % 2 == 0
    answers = Ridge(alpha=3.0).fit(scaled[even], truth[even]).predict(scaled[~even])
    return float(np.corrcoef(answers, truth[~even])[0, 1])


def test_deap_can_be_learnt(tmp_path: Path) -> None:
    write_deap(tmp_path / "deap", seed=1, people=2, trials=10)
    rows = deap.corpus.load(tmp_path / "deap")["all"]
    assert min(held_out_correlation(deap.corpus, rows, target) for target in (0, 1)) > 0.8


def test_dreamer_can_be_learnt(tmp_path: Path) -> None:
    write_dreamer(tmp_path / "dreamer", seed=1, people=2, clips=10)
    rows = dreamer.corpus.load(tmp_path / "dreamer")["all"]
    # ratings are rounded to five steps, and ten trials train the ridge
    assert min(held_out_correlation(dreamer.corpus, rows, target) for target in (0, 1)) > 0.6


def test_case_can_be_learnt_over_time(tmp_path: Path) -> None:
    write_case_npz(tmp_path / "case.npz", seed=1)
    corpus = case.corpus
    recordings = [corpus.read(row) for row in corpus.load(tmp_path / "case.npz")["all"]]
    signals, truths = [], []
    for recording in recordings:
        streams = [
            (one.values - recording.reference[name][0]) / recording.reference[name][1]
            for name, one in recording.streams.items()
        ]
        signals.append(np.concatenate(streams, axis=1)[::20])
        truths.append(np.concatenate([one.values for one in recording.annotations.values()], axis=1)[::20])
    model = Ridge().fit(np.concatenate(signals[:16]), np.concatenate(truths[:16]))  # four people
    answers, expected = model.predict(np.concatenate(signals[16:])), np.concatenate(truths[16:])
    for target in (0, 1):
        assert np.corrcoef(answers[:, target], expected[:, target])[0, 1] > 0.7


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "DREAMER.mat").write_bytes(b"real")
    (tmp_path / "case.npz").write_bytes(b"real")
    for write, path in ((write_dreamer, tmp_path), (write_case_npz, tmp_path / "case.npz")):
        with pytest.raises(CorpusError, match="exists and is not empty"):
            write(path, seed=0)
    assert (tmp_path / "DREAMER.mat").read_bytes() == b"real"
