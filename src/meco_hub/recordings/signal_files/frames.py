"""Parquet and Feather tables, as pandas writes them, held to their sizes before Arrow makes room for what they claim.

A few thousand bytes may stand for thousands of millions of equal numbers, or for one long word in every row. Parquet says how many
values each column has; words are read as numbers of a list of words, and written out when it is known how long they become. Of
Feather (https://arrow.apache.org/docs/format/Columnar.html#ipc-file-format) every packed piece begins with its size, unpacked.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import RecordingError, quote
from ...reading import check_packed, reading
from ..flatbuffers import Table
from ..signal_recording import StreamCollector

_DICTIONARY, _BATCH = 2, 3
"""Kinds of Arrow's messages: a list of words, and rows."""

_PIECE = np.dtype([("start", "<i8"), ("length", "<i8")])
_NODE = np.dtype([("length", "<i8"), ("missing", "<i8")])
_OLD = b"FEA1"
"""Feather's first version, in which nothing is packed."""


def read_frame(path: Path, found: StreamCollector) -> tuple[list[str], list[Any]]:
    """Names and columns of a table that pandas wrote; an index that is more than row numbers is the first of them.

    Raises:
        RecordingError: no such table, damaged, or many times larger than its file.
    """
    with reading(
        f"{path} cannot be read as a table",
        RecordingError,
        "Expected what pandas' to_parquet or to_feather wrote. Write it again.",
    ):
        table = _of_parquet(path, found) if path.suffix.lower() == ".parquet" else _of_feather(path)
        frame: Any = table.to_pandas()
        if frame.index.name is not None or frame.index.dtype.kind in "Mm":
            frame = frame.reset_index(names=[frame.index.name or "time"])
    return [str(name) for name in frame.columns], [frame.iloc[:, place] for place in range(frame.shape[1])]


def _of_parquet(path: Path, found: StreamCollector) -> Any:
    from pyarrow import compute, parquet, types

    packed = path.stat().st_size
    schema = parquet.read_schema(path)
    nested = [one.name for one in schema if types.is_nested(one.type)]
    if nested:
        found.leave_out(f"{path}: {quote(', '.join(nested))} has lists in its rows. Expected a number in each.")
    wordy = (types.is_string, types.is_large_string, types.is_binary, types.is_large_binary)
    words = [one.name for one in schema if any(is_so(one.type) for is_so in wordy)]
    with parquet.ParquetFile(path, read_dictionary=words) as file:
        flat = [name for name in schema.names if name not in nested]
        # not of single columns: asking for one may end the process where its statistics are damaged
        told: Any = file.metadata
        unpacked = sum(told.row_group(group).total_byte_size for group in range(told.num_row_groups))
        check_packed(max(unpacked, 8 * told.num_rows * len(flat)), packed, str(path), RecordingError)
        table = file.read(columns=flat, use_pandas_metadata=True)
    for name in words:
        place, column = table.schema.get_field_index(name), table.column(name)
        lengths = (
            compute.take(compute.call_function("binary_length", [one.dictionary]), one.indices) for one in column.chunks
        )
        check_packed(
            sum(compute.call_function("sum", [one]).as_py() or 0 for one in lengths), packed, str(path), RecordingError
        )
        table = table.set_column(place, schema.field(name), column.cast(schema.field(name).type))
    return table


def _of_feather(path: Path) -> Any:
    import pyarrow
    from pyarrow import feather, ipc

    content = pyarrow.memory_map(str(path)).read_buffer()
    if content[:4].to_pybytes() == _OLD:
        return feather.read_table(path, memory_map=True)
    if content[:6].to_pybytes() != b"ARROW1":
        raise RecordingError(f"{path} begins with {content[:6].to_pybytes()!r}. Expected Feather. Name the right file.")
    if content[-6:].to_pybytes() != b"ARROW1":
        raise RecordingError(f"{path} does not end as Feather does. It was cut off: copy it again.")
    # as a stream: the places that stand at the end of the file may be others than those that were looked at
    rows = content[8:]
    check_packed(sum(_sizes(rows, str(path))), len(content), str(path), RecordingError)
    return ipc.open_stream(rows).read_all()


def _sizes(rows: Any, called: str) -> Iterator[int]:
    """Bytes that Arrow makes room for, of each piece of each message."""
    from pyarrow import ipc

    for message in ipc.MessageReader.open_stream(rows):
        told = Table.at_start(message.metadata.to_pybytes(), called)
        kind, head = told.scalar(1, "<B", 0), told.table(2)
        if head is None or kind not in (_DICTIONARY, _BATCH):
            continue
        batch = head.table(1) if kind == _DICTIONARY else head
        if batch is None:
            continue
        yield from (8 * int(one["length"]) for one in batch.vector(1, _NODE))
        if batch.table(3) is None:  # nothing is packed
            continue
        for one in batch.vector(2, _PIECE):
            start, length = int(one["start"]), int(one["length"])
            if length >= 8 and 0 <= start <= len(message.body) - 8:
                yield int(np.frombuffer(message.body[start : start + 8], "<i8")[0])
