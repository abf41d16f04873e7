"""Publishing: from a folder of weights to a repository that strangers can load.

This package knows cards and pushes; what is pushed was trained, converted or loaded elsewhere.
"""
