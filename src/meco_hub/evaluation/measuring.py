"""One checkpoint on the rows of one corpus: answers, and the figures that a report makes of them.

This file knows how answers become figures; which rows there are, and what is written in the end, `run.py` knows.
"""

from pathlib import Path
from typing import Any

import numpy as np
from accelerate import PartialState
from transformers import PreTrainedModel

from ..corpora import Corpus
from .bootstrap import bootstrap
from .calibration import Calibration, calibration_of, describe_calibration
from .clip_runs import check_runs, describe_runs, predict_runs, write_runs
from .groups import class_groups
from .metrics import figures
from .pictures import require_matplotlib
from .predict import Predictions, predict_rows
from .probabilities import softmax
from .reference_values import plain_answers, reference_values
from .report import Report, write_predictions, write_table, write_values
from .rows import RecordingRows
from .series import rate_answers, score_answers, summarise
from .settings import EvaluationSettings
from .subset import LabelledSubset
from .task import Task, task_of_model
from .trials import Trials


class Evaluation:
    """One checkpoint on the rows of one corpus.

    Args:
        model, processor: a loaded checkpoint.
        corpus: whose rows.
        subset: the rows, with what is to be predicted of them.
        settings: how they are read.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        processor: Any,
        corpus: Corpus,
        subset: LabelledSubset,
        settings: EvaluationSettings,
    ) -> None:
        self.model, self.processor, self.corpus = model, processor, corpus
        self.subset, self.settings = subset, settings
        self.task: Task = task_of_model(model)
        self.calibration: Calibration | None = calibration_of(model.config)
        self.rows = RecordingRows(corpus, subset.dataset)
        # before anything is computed: a wrong name must not cost a night
        self.trials = Trials(self)
        if settings.runs != 1:
            check_runs(processor, settings.runs)
        if settings.pictures:
            require_matplotlib()

    def predict(self, **more: Any) -> Predictions:
        """Answers for every row; more arguments as of `predict_rows`."""
        settings = self.settings
        return predict_rows(
            self.model,
            self.processor,
            self.rows,
            batch_size=settings.batch_size,
            stride_s=settings.stride_s,
            workers=settings.workers,
            **{"progress": settings.progress, **more},
        )

    def repeat(self, folder: Path) -> dict[str, Any]:
        """Other clips of the same recordings, `settings.runs` times: mean and spread of the headline, and a file per run."""
        runs = predict_runs(
            self.model,
            self.processor,
            self.rows,
            runs=self.settings.runs,
            batch_size=self.settings.batch_size,
            progress=self.settings.progress,
        )
        if is_main():
            write_runs(folder, runs, self.task.names)
        return describe_runs([self.headline(one) for one in runs])

    def headline(self, predictions: Predictions) -> dict[str, float | None]:
        """The figures of `metrics`, without intervals: what a curve over conditions is drawn of."""
        if self.task.regression:
            rated = rate_answers(predictions, self.rows, self.subset, self.corpus, self.task, self.calibration)
            found = summarise(rated, self.corpus, self.task.names)
            return {"n": found.n, "rmse": found.rmse, "mae": found.mae, "ccc": found.ccc, "pcc": found.pcc}
        return {
            "n": len(predictions.positions),
            **figures(self.labels(predictions), self._scores(predictions), self.task.names).flat(),
        }

    def labels(self, predictions: Predictions) -> Any:
        """(n,) true classes of the rows that were answered."""
        return self.subset.labels[predictions.positions]

    def columns(self, predictions: Predictions) -> dict[str, list[Any]]:
        """What is known of the rows that were answered, column by column."""
        subset = self.subset
        optional = (name for name in ("trial", "stimulus", *self.corpus.groups) if name in subset.dataset.column_names)
        whole = {name: subset.dataset[name][:] for name in ("identity", "fold", *optional)}
        return {name: [column[row] for row in predictions.positions] for name, column in whole.items()}

    def _scores(self, predictions: Predictions) -> Any:
        scores = predictions.class_scores()
        return scores if self.calibration is None else self.calibration.apply(scores)

    def report(self, predictions: Predictions, folder: Path, **parts: Any) -> Report:
        """Figures, intervals and groups; writes the predictions beside the report. `parts` are handed to `Report`."""
        columns = self.columns(predictions)
        known = {"names": self.task.names, "seconds": predictions.seconds, **parts}
        if self.task.regression:
            return self._values(predictions, columns, folder, known)
        labels, scores = self.labels(predictions), self._scores(predictions)
        computed = figures(labels, scores, self.task.names)
        groups = {name: columns[name] for name in self.corpus.groups if name in columns}
        if is_main():
            write_predictions(folder / "predictions.csv", self.task.names, predictions.sample_ids, labels, scores)
            write_table(folder / "predictions.parquet", self.task.names, predictions.sample_ids, labels, scores)
        plain = figures(labels, predictions.class_scores(), self.task.names)
        lines = self._plain_answers(predictions, columns, known["run"])
        return Report(
            figures=computed,
            intervals=bootstrap(
                labels,
                scores.argmax(axis=1),
                len(self.task.names),
                columns["identity"],
                probabilities=softmax(scores),
            ),
            references={name: figures(labels, own, self.task.names).flat() for name, own in lines.items()},
            groups=class_groups(groups, labels, scores, self.task.names, columns["identity"]) if groups else {},
            calibration=describe_calibration(self.calibration, {"ece": plain.ece, "cross_entropy": plain.loss}),
            **known,
        )

    def _plain_answers(
        self, predictions: Predictions, columns: dict[str, list[Any]], run: dict[str, Any] | None
    ) -> dict[str, Any]:
        people, show = columns["identity"], self.settings.progress and is_main()
        return plain_answers(run, self.rows, predictions.positions, people, self.corpus, self.task, progress=show)

    def _values(
        self, predictions: Predictions, columns: dict[str, list[Any]], folder: Path, known: dict[str, Any]
    ) -> Report:
        rated = rate_answers(predictions, self.rows, self.subset, self.corpus, self.task, self.calibration)
        numbers = columns["fold"] if min(columns["fold"]) >= 0 else ()
        references = reference_values(known["run"], rated, columns, self.task.names, self.corpus.scored_seconds)
        references |= {name: list(own) for name, own in self._plain_answers(predictions, columns, known["run"]).items()}
        scored = score_answers(rated, self.corpus, self.task, columns, folds=numbers, references=references)
        plain: dict[str, float] = {}
        if self.calibration is not None:
            raw = rate_answers(predictions, self.rows, self.subset, self.corpus, self.task)
            found = summarise(raw, self.corpus, self.task.names)
            plain = {"rmse": found.rmse, "ccc": found.ccc}
        if is_main():
            truth = [one.truth for one in rated.courses] or [
                np.repeat(own[None], len(windows), axis=0)
                for own, windows in zip(rated.truth, rated.windows, strict=True)
            ]
            write_values(
                folder / "predictions.csv",
                self.task.names,
                predictions.sample_ids,
                truth,
                [one.predictions for one in rated.courses] or rated.windows,
                [one.times for one in rated.courses] or None,
            )
        return Report(
            figures=scored, intervals=None, calibration=describe_calibration(self.calibration, plain), **known
        )


def is_main() -> bool:
    return PartialState().is_main_process
