"""Blocks that architectures share.

This package knows layers; it does not know which architecture uses them.
"""
