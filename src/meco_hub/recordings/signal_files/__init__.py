"""Formats of signal files, one a module, each with `read(path, rates) -> {stream name: Stream}`."""
