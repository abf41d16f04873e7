"""Evaluation: from a checkpoint and a corpus to metrics with intervals, in a report; `evaluate.py` is where it begins."""
