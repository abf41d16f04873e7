"""Processors: what stands between a recording and a model, saved with the weights.

Nothing is imported here, because a processor needs transformers and torch, and a face finder needs neither.
"""
