"""Evaluation: from a checkpoint and a corpus to figures with intervals, in a report that programs can read.

    subset.py           which samples of a corpus                 predict.py   samples → logits, bad ones reported
    metrics.py          figures from labels and logits            bootstrap.py intervals over persons or samples
    operating_point.py  class-prior correction, chosen and saved  report.py    the written report
    run.py              all of it for one checkpoint

This file knows the table above and imports nothing.
"""
