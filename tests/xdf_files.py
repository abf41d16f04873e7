"""Chunks of XDF files, as the lab streaming layer's recorder writes them."""

import struct

import numpy as np


def xdf_chunk(kind: int, content: bytes, stream: int | None = None) -> bytes:
    body = struct.pack("<H", kind) + (b"" if stream is None else struct.pack("<I", stream)) + content
    return struct.pack("<BI", 4, len(body)) + body


def xdf_stream(
    number: int, name: str, kind: str, rate: float, values: np.ndarray, times: np.ndarray, units: tuple[str, ...] = ()
) -> list[bytes]:
    described = [f"<unit>{unit}</unit>" for unit in units] or [""] * values.shape[1]
    labels = "".join(f"<channel><label>{name}{at}</label>{unit}</channel>" for at, unit in enumerate(described))
    header = (
        f"<?xml version='1.0'?><info><name>{name}</name><type>{name}</type><channel_count>{values.shape[1]}</channel_count>"
        f"<nominal_srate>{rate}</nominal_srate><channel_format>{kind}</channel_format><created_at>1</created_at>"
        f"<desc><channels>{labels}</channels></desc></info>"
    )
    codes = {"float32": "<f4", "double64": "<f8"}
    samples = struct.pack("<BI", 4, len(values))
    for moment, row in zip(times, values, strict=True):
        content = struct.pack("<BI", 4, len(row[0])) + row[0] if kind == "string" else row.astype(codes[kind]).tobytes()
        samples += struct.pack("<Bd", 8, moment) + content
    footer = f"<?xml version='1.0'?><info><sample_count>{len(values)}</sample_count></info>"
    offsets = [xdf_chunk(4, struct.pack("<dd", at, 0.25), number) for at in (times[0], times[-1])]
    return [
        xdf_chunk(2, header.encode(), number),
        xdf_chunk(3, samples, number),
        *offsets,
        xdf_chunk(6, footer.encode(), number),
    ]
