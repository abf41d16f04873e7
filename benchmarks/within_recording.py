"""What the series of CASE tell of the course of a rating within a recording, apart from which film is on.

    python benchmarks/within_recording.py --data_dir case_20hz.npz

Every recording's own mean is taken from its ratings and from its signals, so that only their courses are left; then ratings are
foretold second by second from the signals of the last ten seconds, by ridge regression and by boosted trees. People of a fold are
foretold from those of the other folds, once with all films in training, and once without the film that is foretold. Beside them
stands who has no sensor, but is told the film and answers its mean course in training (of a film left out, that of all the others).
The figure is the mean CCC of the recordings in which the rating moves, with its 95 % interval over people.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import RidgeCV

from meco_hub import plugins
from meco_hub.evaluation.intervals import mean_intervals
from meco_hub.evaluation.metrics import regression_metrics

LAGS_S = (0, 1, 2, 4, 6, 8, 10)
TARGETS = ("valence", "arousal")
MOVES = 0.05
"""Of the rating's standard deviation within a recording, on a scale of nine points; below it the joystick rested."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", required=True, type=Path)
    signals, ratings, columns = _read(parser.parse_args().data_dir)
    inputs, ratings = _centred(_lagged(signals, ratings.shape[1])), _centred(ratings)
    print("| in training | predictor | valence | arousal |\n|---|---|---|---|")
    for left_out in (False, True):
        answers = _foretell(inputs, ratings, columns, left_out)
        for name, own in answers.items():
            cells = [_figure(ratings[..., at], own[..., at], columns["identity"]) for at in range(len(TARGETS))]
            print(f"| {'other films' if left_out else 'all films'} | {name} | {' | '.join(cells)} |", flush=True)


def _read(data_dir: Path) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """(recordings, seconds, channels) scaled within each person, (recordings, scored seconds, targets) ratings, and columns."""
    corpus = plugins.corpus("case")
    rows = corpus.load(data_dir)["all"]
    assert corpus.scored_seconds is not None
    start, end = map(int, corpus.scored_seconds)
    signals, ratings = [], []
    for row in rows:
        recording = corpus.read(row)
        streams = recording.streams.values()
        signals.append(np.concatenate([_by_second(one.times, one.values, 0, end) for one in streams], axis=1))
        truth = [recording.annotations[name] for name in TARGETS]
        ratings.append(np.concatenate([_by_second(one.times, one.values, start, end) for one in truth], axis=1))
    columns = {key: np.asarray(rows[key][:]) for key in ("identity", "stimulus", "fold")}
    scaled = np.stack(signals)
    for who in np.unique(columns["identity"]):
        own = scaled[columns["identity"] == who]
        low, middle, high = np.quantile(own, [0.25, 0.5, 0.75], axis=(0, 1))
        # the series hold splines' artefacts
        scaled[columns["identity"] == who] = np.clip((own - middle) / np.maximum((high - low) / 1.349, 1e-6), -4, 4)
    return scaled, np.stack(ratings), columns


def _by_second(times: np.ndarray, values: np.ndarray, start: int, end: int) -> np.ndarray:
    seconds = np.floor(times + 1e-6).astype(int)
    return np.stack([np.median(values[seconds == second], axis=0) for second in range(start, end)])


def _lagged(signals: np.ndarray, scored: int) -> np.ndarray:
    """(recordings, scored seconds, numbers): signals of each second and of some before it, and means over ten seconds and all."""
    seconds = range(signals.shape[1] - scored, signals.shape[1])
    return np.stack(
        [
            np.concatenate(
                [
                    *(signals[:, at - lag] for lag in LAGS_S),
                    signals[:, at - max(LAGS_S) : at + 1].mean(axis=1),
                    signals[:, : at + 1].mean(axis=1),
                ],
                axis=1,
            )
            for at in seconds
        ],
        axis=1,
    )


def _centred(values: np.ndarray) -> np.ndarray:
    return values - values.mean(axis=1, keepdims=True)


def _foretell(
    inputs: np.ndarray, ratings: np.ndarray, columns: dict[str, np.ndarray], left_out: bool
) -> dict[str, np.ndarray]:
    answers = {name: np.zeros_like(ratings) for name in ("told the film's course", "ridge", "boosted trees")}
    films = columns["stimulus"]
    for fold in np.unique(columns["fold"]):
        for film in np.unique(films):
            test = (columns["fold"] == fold) & (films == film)
            train = (columns["fold"] != fold) & ((films != film) if left_out else True)
            told = train if left_out else train & (films == film)
            answers["told the film's course"][test] = ratings[told].mean(axis=0)
            if not left_out and film != films[0]:
                continue  # one fit serves all films
            asked = test if left_out else columns["fold"] == fold
            for place in range(len(TARGETS)):
                for name, model in _models().items():
                    model.fit(_flat(inputs[train]), ratings[train, :, place].ravel())
                    answers[name][asked, :, place] = model.predict(_flat(inputs[asked])).reshape(asked.sum(), -1)
    return answers


def _models() -> dict[str, Any]:
    trees = HistGradientBoostingRegressor(max_iter=150, learning_rate=0.05, min_samples_leaf=60, random_state=0)
    return {"ridge": RidgeCV(np.logspace(0, 6, 13)), "boosted trees": trees}


def _flat(values: np.ndarray) -> np.ndarray:
    return values.reshape(-1, values.shape[-1])


def _figure(truth: np.ndarray, answer: np.ndarray, people: np.ndarray) -> str:
    moves = np.flatnonzero(truth.std(axis=1) > MOVES)
    rows = [
        regression_metrics(truth[row, :, None], _centred(answer[row][None])[0][:, None], ("x",)).flat() for row in moves
    ]
    low, high = mean_intervals(rows, people[moves].tolist()).bounds["ccc"] or (np.nan, np.nan)
    return f"{np.nanmean([one['ccc'] for one in rows]):.3f} [{low:.3f}, {high:.3f}], n = {len(rows)}"


if __name__ == "__main__":
    main()
