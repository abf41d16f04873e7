"""Events in Parquet: a column each for x, y, t and p, as pandas, polars and Arrow write them; read batch by batch."""

from collections.abc import Iterator

from ...errors import RecordingError, quote
from ..event_recording import chosen_columns, unit_of
from . import EventColumns, EventFile, ReadRequest, on_one_clock

MAGIC = b"PAR1"


def open_parquet(request: ReadRequest) -> EventFile:
    """Open a .parquet file.

    Raises:
        RecordingError: it is damaged, or lacks a column.
    """
    import pyarrow
    from pyarrow import parquet, types

    def _is_number(kind: pyarrow.DataType) -> bool:
        return types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind) or types.is_temporal(kind)

    try:
        opened = parquet.ParquetFile(request.path)
    except (pyarrow.ArrowException, OSError) as error:
        raise RecordingError(f"{request.path} is damaged or cut short: {error}. Copy it again.") from error
    names = opened.schema_arrow.names
    places = chosen_columns(request.columns, names, str(request.path)) or {}
    chosen = {column: names[place] for column, place in places.items()}
    odd = [
        f"{name} ({kind})" for name in chosen.values() if not _is_number(kind := opened.schema_arrow.field(name).type)
    ]
    if odd:  # words and lists may be long, and a thousand times the file
        raise RecordingError(
            f"{request.path}: {quote(', '.join(odd))} holds no numbers; expected one number per event."
        )
    file = EventFile(iter(()), time_unit=unit_of(chosen["t"]), events=opened.metadata.num_rows)

    def blocks() -> Iterator[EventColumns]:
        for batch in opened.iter_batches(request.chunk, columns=list(chosen.values())):
            x, y, t, p = (batch.column(chosen[column]).to_numpy(zero_copy_only=False) for column in "xytp")
            yield x, y, t, p

    file.blocks = on_one_clock(blocks(), request, file)
    return file
