"""Evaluation: from a checkpoint and a corpus to figures with intervals, in a report that programs can read.

    subset.py           which samples of a corpus                 predict.py       recordings → answers, bad ones reported
    rows.py  task.py    rows as recordings; what is predicted     series.py        answers in values beside their ratings
    metrics.py          figures of classes                        regression.py    figures of values
    probabilities.py    calibration error, Brier, reliability     levels.py        windows, trials, recordings over time, persons
    bootstrap.py        intervals over persons or samples         groups.py        the same per lighting, sex, fold …
    timeline.py         overlapping windows on one line of time   calibration.py   temperature, slope and intercept
    operating_point.py  class-prior correction                    references.py    plain predictors on plain statistics
    reference_values.py predictors that are no model              list_warnings.py      what must be said beside figures
    sequence_files.py   runs in files, and their scores in        report.py        the written report
    sequence_scores.py                                            pictures.py, report_pictures.py
    clip_runs.py        the same test set many times              shards.py        long lists, part by part
    processes.py        who shares the work                       trials.py        clean pass, conditions, routing
    conditions.py       conditions by name                        degradation.py   figures under conditions
    image_conditions.py, clip_conditions.py, signal_conditions.py, condition_draws.py      what they are
    routing.py          which expert serves whom                  provenance.py    what the weights have seen
    lags.py             how late each sensor is found to be
    settings.py         the choices of an evaluation              measuring.py     one checkpoint on the rows of one corpus
    run.py              all of it, and what is written

This file knows the table above and imports nothing.
"""
