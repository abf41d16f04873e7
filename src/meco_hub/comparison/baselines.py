"""Predictors that are no network, as rows of a comparison: fitted on a fold's training side, evaluated like any checkpoint.

    training_mean          the training part's mean rating; of classes their shares in it
    <nuisance>_oracle      told one nuisance that the corpus declares, and nothing else: session_minute_oracle, stimulus_oracle
    ridge                  of values: a straight line on mean, spread and slope of every channel (`evaluation/references.py`)
    logistic_regression    of classes: likewise
    random_forest          of either, on the same numbers

The last three are of signals. They scale the numbers within each person without labels, those under test too. With `sees` they are
given what a recipe's processor gives its network, side by side: what is left between the two is the network's. Nothing is selected
by validation here, so what a recipe would hold out for that is fitted on as well. How a corpus is divided and what the report says
come from the same functions as for a network.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from accelerate import PartialState
from tqdm import tqdm

from ..answers import Task
from ..corpora import Corpus
from ..corpora.leaks import fingerprint
from ..durable import write_json
from ..errors import ConfigurationError, InputError, unknown_name
from ..evaluation import references
from ..evaluation.degradation import LagRecord
from ..evaluation.evaluate import Evaluation, EvaluationSettings, choose_rows, write_evaluation
from ..evaluation.predict import ClipCondition, Condition, Predictions, RecordingRows, RowAnswer
from ..evaluation.report import library_versions
from ..evaluation.task import LabelledSubset, map_labels, map_targets
from ..training.construction import build
from ..training.data import TrainingData, load_training_data
from ..training.recipes import Recipe, recipe_to_dict
from ..training.result import describe_training

CONSTANT, ORACLE = "training_mean", "_oracle"
FITTED = ("ridge", "logistic_regression", "random_forest")
DRAWN = ("random_forest",)
"""Baselines that depend on a seed."""


def check_baseline(name: str, corpus: Corpus | None = None) -> None:
    """Refuse what is no baseline, or none on a corpus."""
    oracles = [f"{column}{ORACLE}" for column in (corpus.nuisances if corpus else ())]
    if name not in (CONSTANT, *FITTED, *oracles) and (corpus is not None or not name.endswith(ORACLE)):
        raise unknown_name("baseline", name, [CONSTANT, *FITTED, *(oracles or [f"<nuisance>{ORACLE}"])])
    if corpus is None:
        return
    if name in FITTED and corpus.kind != "signals":
        raise ConfigurationError(
            f"The baseline {name} looks at signals, and {corpus.name} is of kind {corpus.kind}. Use {CONSTANT}."
        )
    other = {"ridge": not corpus.targets, "logistic_regression": bool(corpus.targets)}
    if other.get(name):
        rated = "values: use ridge" if corpus.targets else "classes: use logistic_regression"
        raise ConfigurationError(f"The baseline {name} does not fit {corpus.name}, which is rated in {rated}.")


Describe = Callable[[Any], np.ndarray]
"""A recording → the numbers that a fitted baseline is given."""


def shown_by(processor: Any) -> Describe:
    """All that a processor gives its network of a recording, streams side by side; of a long one, of its first clip."""

    def describe(recording: Any) -> np.ndarray:
        batch = processor(processor.cut(recording)[:1])
        return np.concatenate([np.asarray(one, np.float64).ravel() for one in batch["inputs"].values()])

    return describe


class BaselineEvaluation(Evaluation):
    """A baseline on the rows of one corpus.

    Args:
        run: the record of its training part, as run.json holds it.
        predictor: of those that look at signals; None of those that do not, and whom no condition changes.
    """

    def __init__(
        self,
        name: str,
        run: dict[str, Any],
        predictor: references.PlainPredictor | references.Forest | None,
        describe: Describe | None,
        task: Task,
        corpus: Corpus,
        subset: LabelledSubset,
        settings: EvaluationSettings,
    ) -> None:
        self._name, self._run, self._predictor, self._of = name, run, predictor, describe
        streams = () if predictor is None else tuple(predictor.channels)
        known = settings if streams else replace(settings, conditions=())
        super().__init__(task, corpus, subset, known, streams=streams)

    def predict(
        self, name: str = "clean", *, lags: LagRecord | None = None, doubts: bool = False, **options: Any
    ) -> Predictions:
        """Answers for every row; arguments as of `Evaluation.predict`."""
        shown = options.pop("progress", self.settings.progress) and PartialState().is_main_process
        if self._predictor is None:
            answers = self._told()
            return self._as_predictions(range(len(answers)), answers, {})
        positions, described, failed = [], [], {}
        for row in tqdm(range(len(self.rows)), desc=self._name, unit="rec", delay=1, disable=not shown):
            try:
                described.append(self._describe(row, **options))
                positions.append(row)
            except InputError as error:
                failed[self.rows.sample_ids[row]] = str(error)
        if not positions:
            raise InputError(f"None of {len(self.rows)} samples can be used; the last: {[*failed.values()][-1]}")
        people = self.subset.dataset.select(positions)["identity"][:]
        return self._as_predictions(positions, self._predictor.answer(np.stack(described), people), failed)

    def _told(self) -> np.ndarray:
        """(n, outputs) of a baseline that looks at nothing."""
        dataset = self.subset.dataset
        wanted = [one for one in ("identity", *self.corpus.nuisances) if one in dataset.column_names]
        columns = {one: dataset[one][:] for one in wanted}
        known = references.nuisance_answers(self._run, columns, self.corpus, self.task.names)
        constant = "training_mean" if self.task.regression else "training_prior"
        name = constant if self._name == CONSTANT else self._name
        if name not in known:
            raise InputError(
                f"{self._name} knows nothing of these rows: the training part has no labels for some of their values, or the rows "
                "do not say them. Expected values that occur on both sides. Leave it out of the comparison."
            )
        return known[name]

    def _describe(
        self, row: int, *, condition: Condition | None = None, clip_condition: ClipCondition | None = None
    ) -> np.ndarray:
        assert self._of is not None
        recording, name = self.rows[row], self.rows.sample_ids[row]
        if condition is not None:
            recording = condition(recording, name)
        if clip_condition is not None:
            recording = clip_condition(recording, name, 0)
        return self._of(recording)

    def _as_predictions(self, positions: Sequence[int], answers: np.ndarray, failed: dict[str, str]) -> Predictions:
        """One answer a row, which over time holds throughout."""
        outputs = self.task.scale(answers) if self.task.regression else answers.astype(np.float32)
        return Predictions(
            sample_ids=[self.rows.sample_ids[row] for row in positions],
            positions=np.asarray(positions, np.int64),
            answers=[RowAnswer(one[None], np.zeros(1)) for one in outputs],
            unreadable=failed,
        )


def evaluate_baseline(
    name: str, recipe: Recipe, data_dir: Path, folder: Path, settings: EvaluationSettings, *, sees: bool = False
) -> dict[str, Any]:
    """Fit a baseline on a recipe's training part, and write the report on the rows that the settings choose.

    Args:
        recipe: whose `data` and `seed` count, and with `sees` its processor.
        sees: a fitted baseline is given what the recipe's processor gives, instead of `window_statistics`.
    """
    data = _whole(load_training_data(recipe, data_dir))
    check_baseline(name, data.corpus)
    run = {
        "data": {"corpus": data.corpus.name, "name": data_dir.name, **data.describe()},
        "seed": recipe.seed,
        "recipe": recipe_to_dict(recipe),
        "versions": library_versions(),
    }
    predictor, describe = _fit(name, data, recipe, settings.progress, sees) if name in FITTED else (None, None)
    rows = choose_rows(data.corpus.load(data_dir, **recipe.data.options), settings)
    if data.task.regression:
        subset = map_targets(rows, data.corpus, data.task)
    else:
        subset = map_labels(rows, data.task.names, purpose=f"the baseline {name}")
    evaluation = BaselineEvaluation(name, run, predictor, describe, data.task, data.corpus, subset, settings)
    described = {"name": name, "model_type": None, "class": type(predictor).__name__ if predictor else name}
    described |= {"distribution": None, "parameters": None, "weights_sha256": None, "operating_point": None}
    if PartialState().is_main_process:
        write_json(run, folder / "run.json")
    return write_evaluation(evaluation, rows, run, folder, described | {"control": None})


def _whole(data: TrainingData) -> TrainingData:
    """The same data with all that is not left out on the side that is learnt from."""
    sides = (data.train, data.validation)
    joined = LabelledSubset(
        datasets.concatenate_datasets([side.dataset for side in sides]),
        np.concatenate([side.labels for side in sides]),
        dict(sum((Counter(side.excluded) for side in sides), Counter[str]())),
    )
    prints = {**data.fingerprints, "train": fingerprint(joined.dataset)}
    return replace(data, train=joined, beside=None, fingerprints=prints)  # baselines learn from one corpus


def _fit(
    name: str, data: TrainingData, recipe: Recipe, progress: bool, sees: bool
) -> tuple[references.PlainPredictor | references.Forest, Describe]:
    show = progress and PartialState().is_main_process
    rows = RecordingRows(data.corpus, data.train.dataset)
    readable = rows.survey(int(recipe.cache_gb * 1e9), show, "training samples")
    known = describe_training(data, rows, readable, progress=show)
    statistics, describe = known.statistics, partial(references.window_statistics, channels=known.channels)
    if sees:
        describe = shown_by(build(recipe, data.task)[1])
        statistics = np.stack([describe(rows[row]) for row in tqdm(readable, desc="inputs", delay=1, disable=not show)])
    given = (statistics, *known[1:], data.task.names)
    if name == "random_forest":
        fitted = references.fit_forest(*given, regression=data.task.regression, seed=recipe.seed)
    else:
        fitted = (references.fit_ridge if data.task.regression else references.fit_logistic)(*given)
    if fitted is None:
        raise ConfigurationError(
            f"The training part has too few labels for {name}; expected rows of every class, or three ratings. Use more data."
        )
    return fitted, describe
