"""Writers of small event files in every format that is read, by hand from the formats' descriptions."""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

WIDTH, HEIGHT = 346, 260
AEDAT_CLOCK = 1_600_000_000_000_000  # DV writes microseconds since 1970


class Events(NamedTuple):
    x: np.ndarray
    y: np.ndarray
    t: np.ndarray
    p: np.ndarray


def make_events(number: int = 3000, seed: int = 0, span_us: int = 40_000, start: int = 5000) -> Events:
    rng = np.random.default_rng(seed)
    return Events(
        rng.integers(0, WIDTH, number).astype(np.uint16),
        rng.integers(0, HEIGHT, number).astype(np.uint16),
        np.sort(rng.integers(start, start + span_us, number)).astype(np.int64),
        rng.integers(0, 2, number).astype(np.uint8),
    )


def raw_header(version: str, form: str) -> bytes:
    return (
        f"% evt {version}\n% format {form};height={HEIGHT};width={WIDTH}\n% geometry {WIDTH}x{HEIGHT}\n% end\n".encode()
    )


def write_evt3(path: Path, events: Events) -> None:
    words: list[int] = []
    high = low = row = -1
    for x, y, t, p in zip(*(column.tolist() for column in events), strict=True):
        if t >> 12 != high:
            high = t >> 12
            words.append(0x8000 | high & 0xFFF)
        if t & 0xFFF != low:
            low = t & 0xFFF
            words.append(0x6000 | low)
        if y != row:
            row = y
            words.append(row)
        words.append(0x2000 | p << 11 | x)
    path.write_bytes(raw_header("3.0", "EVT3") + np.array(words, "<u2").tobytes())


def write_evt2(path: Path, events: Events) -> None:
    words: list[int] = []
    high = -1
    for x, y, t, p in zip(*(column.tolist() for column in events), strict=True):
        if t >> 6 != high:
            high = t >> 6
            words.append(0x8 << 28 | high & 0xFFFFFFF)
        words.append(p << 28 | (t & 0x3F) << 22 | x << 11 | y)
    path.write_bytes(raw_header("2.0", "EVT2") + np.array(words, "<u4").tobytes())


def write_evt21(path: Path, events: Events, swapped: bool = False, say: bool = False) -> None:
    words: list[int] = []
    high = -1
    for x, y, t, p in zip(*(column.tolist() for column in events), strict=True):
        if t >> 6 != high:
            high = t >> 6
            words.append((0x8 << 28 | high & 0xFFFFFFF) << 32)
        base = x // 32 * 32
        words.append((p << 28 | (t & 0x3F) << 22 | base << 11 | y) << 32 | 1 << (x - base))
    data = np.array(words, "<u8")
    if swapped:
        data = data.view("<u4").reshape(-1, 2)[:, ::-1].copy()
    form = "EVT21" + (";endianness=legacy" if swapped and say else "")
    path.write_bytes(raw_header("2.1", form) + data.tobytes())


def _flatbuffer(identifier: bytes, fields: dict[int, tuple[str, object]]) -> bytes:
    """One table with scalars (struct format, value) and vectors ("bytes", (count, data)) in a buffer of its own."""
    entries = max(fields, default=-1) + 1
    offsets, body, vectors = [0] * entries, b"", []
    for field, (form, value) in fields.items():
        size = 4 if form == "bytes" else struct.calcsize(form)
        body += b"\0" * (-(4 + len(body)) % size)
        offsets[field] = 4 + len(body)
        if form == "bytes":
            vectors.append((len(body), value))
            body += b"\0\0\0\0"
        else:
            body += struct.pack("<" + form, value)
    vtable = struct.pack(f"<HH{entries}H", 4 + 2 * entries, 4 + len(body), *offsets)
    vtable += b"\0" * (-(8 + len(vtable)) % 8)
    table_at = 8 + len(vtable)
    table = bytearray(struct.pack("<i", table_at - 8) + body)
    tail = b""
    for place, (count, data) in vectors:  # pyright: ignore[reportGeneralTypeIssues]
        tail += b"\0" * (-(table_at + len(table) + len(tail) + 4) % 8)
        target = table_at + len(table) + len(tail)
        struct.pack_into("<I", table, 4 + place, target - (table_at + 4 + place))
        tail += struct.pack("<I", count) + data
    return struct.pack("<I", table_at) + identifier + vtable + bytes(table) + tail


def _compress(data: bytes, compression: int) -> bytes:
    if compression in (1, 2):
        import lz4.frame

        return lz4.frame.compress(data)
    if compression in (3, 4):
        import zstandard

        return zstandard.ZstdCompressor().compress(data)
    return data


def write_aedat4(
    path: Path, events: Events, frames: np.ndarray | None = None, compression: int = 0, index: bool = True
) -> None:
    def stream(number: int, kind: str, name: str) -> str:
        return (
            f'<node name="{number}" path="/outInfo/{number}/"><attr key="originalOutputName" type="string">{name}</attr>'
            f'<attr key="typeIdentifier" type="string">{kind}</attr><node name="info" path="/outInfo/{number}/info/">'
            f'<attr key="sizeX" type="int">{WIDTH}</attr><attr key="sizeY" type="int">{HEIGHT}</attr></node></node>'
        )

    xml = '<dv version="2.0"><node name="outInfo" path="/outInfo/">' + stream(0, "EVTS", "events")
    xml += (stream(1, "FRME", "frames") if frames is not None else "") + "</node></dv>"

    def packet(number: int, buffer: bytes) -> bytes:
        data = _compress(struct.pack("<I", len(buffer)) + buffer, compression)
        return struct.pack("<ii", number, len(data)) + data

    dtype = np.dtype(
        {"names": list("txyp"), "formats": ["<i8", "<i2", "<i2", "u1"], "offsets": [0, 8, 10, 12], "itemsize": 16}
    )
    packets = b""
    for first in range(0, len(events.t), 1000):
        cut = np.s_[first : first + 1000]
        rows = np.zeros(len(events.t[cut]), dtype)
        for name in "txyp":
            rows[name] = getattr(events, name)[cut]
        packets += packet(0, _flatbuffer(b"EVTS", {0: ("bytes", (len(rows), rows.tobytes()))}))
    for number, picture in enumerate([] if frames is None else frames):
        time = int(events.t[0]) + 10_000 * number
        fields = {
            0: ("q", time),
            5: ("b", 0),
            6: ("h", picture.shape[1]),
            7: ("h", picture.shape[0]),
            10: ("bytes", (picture.size, picture.tobytes())),
        }
        packets += packet(1, _flatbuffer(b"FRME", fields))

    def header(end: int) -> bytes:
        text = xml.encode()
        fields = {0: ("i", compression), 1: ("q", end), 2: ("bytes", (len(text), text + b"\0"))}
        buffer = _flatbuffer(b"IOHE", fields)
        return b"#!AER-DAT4.0\r\n" + struct.pack("<I", len(buffer)) + buffer

    end = len(header(0)) + len(packets) if index else -1
    path.write_bytes(header(end) + packets + (b"the index of packets, which nobody reads" if index else b""))


def write_text(path: Path, events: Events) -> None:
    rows = zip(*(column.tolist() for column in events), strict=True)
    path.write_text("".join(f"{t / 1e6:.6f} {x} {y} {p}\n" for x, y, t, p in rows), encoding="ascii")


def write_csv(path: Path, events: Events) -> None:
    rows = zip(*(column.tolist() for column in events), strict=True)
    path.write_text("timestamp,x,y,polarity\n" + "".join(f"{t},{x},{y},{p}\n" for x, y, t, p in rows), encoding="ascii")


def write_npy(path: Path, events: Events) -> None:
    rows = np.zeros(len(events.t), [("t", "<i8"), ("x", "<i2"), ("y", "<i2"), ("p", "u1")])
    for name in "txyp":
        rows[name] = getattr(events, name)
    np.save(path, rows)


def write_npz(path: Path, events: Events) -> None:
    np.savez_compressed(path, xs=events.x, ys=events.y, ts=events.t, ps=events.p, width=WIDTH, height=HEIGHT)


def write_dsec(path: Path, events: Events) -> None:
    h5py = pytest.importorskip("h5py")
    packing = {"compression": "gzip", "chunks": (512,), "maxshape": (None,)}
    with h5py.File(path, "w") as file:
        for name in "xyp":
            file.create_dataset(f"events/{name}", data=getattr(events, name), **packing)
        file.create_dataset("events/t", data=(events.t - 1000).astype(np.uint32), **packing)
        file["t_offset"] = np.int64(1000)
        file["ms_to_idx"] = np.searchsorted(events.t - 1000, np.arange(0, 60) * 1000).astype(np.uint64)


WRITERS: dict[str, tuple[str, Callable[[Path, Events], None]]] = {
    "evt3": (".raw", write_evt3),
    "evt2": (".raw", write_evt2),
    "evt21": (".raw", write_evt21),
    "aedat4": (".aedat4", write_aedat4),
    "aedat4_lz4": (".aedat4", lambda path, events: write_aedat4(path, events, compression=1)),
    "aedat4_zstd": (".aedat4", lambda path, events: write_aedat4(path, events, compression=3)),
    "text": (".txt", write_text),
    "csv": (".csv", write_csv),
    "npy": (".npy", write_npy),
    "npz": (".npz", write_npz),
    "hdf5": (".h5", write_dsec),
}


class Makers:
    """What the tests of this folder write their files with."""

    events = staticmethod(make_events)
    evt2, evt21, evt3 = staticmethod(write_evt2), staticmethod(write_evt21), staticmethod(write_evt3)
    aedat4, raw_header = staticmethod(write_aedat4), staticmethod(raw_header)
    formats = tuple(WRITERS)

    @staticmethod
    def write(form: str, folder: Path, events: Events) -> Path:
        suffix, write = WRITERS[form]
        if form == "aedat4_lz4":
            pytest.importorskip("lz4.frame")
        if form == "aedat4_zstd":
            pytest.importorskip("zstandard")
        path = folder / f"{form}{suffix}"
        write(path, events)
        return path


@pytest.fixture(scope="session")
def makers() -> type[Makers]:
    return Makers
