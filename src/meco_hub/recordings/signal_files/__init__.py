"""Formats of signal files, one a module, each with `read(path, rates) -> {stream name: Stream}`.

This file knows that they are siblings; `recordings/signals.py` knows which one to call.
"""
