"""Events in Parquet: a column each for x, y, t and p, as pandas, polars and Arrow write them; read batch by batch."""

from collections.abc import Iterator

from ...errors import RecordingError
from ..event_recording import chosen_columns, unit_of
from . import EventColumns, EventFile, ReadRequest, on_one_clock

MAGIC = b"PAR1"


def open_parquet(request: ReadRequest) -> EventFile:
    """Open a .parquet file.

    Raises:
        RecordingError: it is damaged, or lacks a column.
    """
    import pyarrow
    from pyarrow import parquet

    try:
        opened = parquet.ParquetFile(request.path)
    except (pyarrow.ArrowException, OSError) as error:
        raise RecordingError(f"{request.path} is damaged or cut short: {error}. Copy it again.") from error
    names = opened.schema_arrow.names
    places = chosen_columns(request.columns, names, str(request.path)) or {}
    chosen = {column: names[place] for column, place in places.items()}
    file = EventFile(iter(()), time_unit=unit_of(chosen["t"]), events=opened.metadata.num_rows)

    def blocks() -> Iterator[EventColumns]:
        for batch in opened.iter_batches(request.chunk, columns=list(chosen.values())):
            x, y, t, p = (batch.column(chosen[column]).to_numpy(zero_copy_only=False) for column in "xytp")
            yield x, y, t, p

    file.blocks = on_one_clock(blocks(), request, file)
    return file
