"""Prophesee's raw files: EVT 2.0, EVT 2.1 and EVT 3.0, and DAT, decoded block by block with NumPy.

A raw file is a text header (lines that begin with "% ", "% end" the last where it is there) and binary words,
little-endian. The format is named by "% format EVT3;height=720;width=1280" in newer files and by "% evt 3.0" in older
ones. The sensor's size is in the former, in "% geometry 1280x720", or follows from the sensor generation, as it does for
Prophesee's own software.

The words of EVT 3.0 change a state (row, time high and low, base column) that holds until it is changed again, and the words
between say where something happened. All of it is done at once for a block: the state at a word is the last one set at or before
it, which a running count finds. What outlives a block is carried over. Time wraps after 2²⁴ µs; a step back by more than
half of that is a wrap, and a smaller one is left as it is.

A new high part sets the low part to zero until a word gives it, as the vendor's own decoder (OpenEB) does. Some cameras'
low part steps back by some microseconds while the high part stays; such events are put in order of time afterwards.

Time of EVT 2 wraps after 2³⁴ µs; a step back by more than half of that is a wrap, and a smaller one is left as it is.

DAT is what the data sets Gen1, 1 Mpx and N-CARS come in: a header of lines that begin with "%", one byte with the type of the
events and one with their size, then eight bytes an event: 32 bits of microseconds, and 32 with x, y and polarity, packed in
another way before version 2. Its time is counted on where its 32 bits overflow.

Written from the public descriptions of the formats. Triggers and vendor words are skipped; "unknown_words" counts what is
none of the known types, and "before_first_time" the events that came before the first time and row were known.
"""

import re
from collections.abc import Callable, Iterator
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from ...answer_warnings import AnswerWarning
from ...errors import RecordingError, quote
from . import EventColumns, EventFile, ReadRequest

MAX_HEADER = 65536
_BLOCK_WORDS = 1 << 17
_KNOWN_2 = (0x0, 0x1, 0x8, 0xA, 0xE, 0xF)  # types of words of EVT 2.0 and 2.1
_DAT_EVENTS = (0, 12)
_SENSORS = {
    **dict.fromkeys(("gen41", "gen4", "imx636", "imx646", "evk4"), (1280, 720)),
    **dict.fromkeys(("gen31", "gen3"), (640, 480)),
    "genx320": (320, 320),
}


def open_prophesee(request: ReadRequest) -> EventFile:
    """Open an EVT 2.0, 2.1 or 3.0 file, or a DAT file.

    Raises:
        RecordingError: the header names another format or none, or the file ends within a word.
    """
    file = EventFile(iter(()))
    stream = request.path.open("rb")
    try:
        fields, start = _read_header(stream, request)
        if fields.get("data", "").startswith("file containing") and not {"evt", "format"} & set(fields):
            file.width, file.height = _geometry(fields, fields)
            decode, word, start = *_open_dat(fields, stream, start, request), start + 2
            file.notes["format"] = "DAT"
        else:
            version, details = _version(fields, request)
            file.width, file.height = _geometry(fields, details)
            file.notes["format"] = f"EVT {version}"
            decode, word = _decoder(version, details, stream, start, file)
    except BaseException:
        stream.close()
        raise
    file.blocks = _blocks(stream, start, word, decode, request, file)
    return file


def _read_header(stream: BinaryIO, request: ReadRequest) -> tuple[dict[str, str], int]:
    """The header's fields, and where the words begin."""
    head = stream.read(MAX_HEADER)
    fields: dict[str, str] = {}
    position = 0
    while head[position : position + 2] == b"% ":
        end = head.find(b"\n", position)
        if end < 0:
            raise RecordingError(
                f"{request.path}: the header of this raw file does not end; it is damaged or cut short."
            )
        line = head[position + 2 : end].decode("ascii", errors="replace").strip()
        position = end + 1
        keyword, _, value = line.partition(" ")
        if keyword == "end":
            break
        fields[keyword.lower()] = value.strip()
    return fields, position


def _version(fields: dict[str, str], request: ReadRequest) -> tuple[str, dict[str, str]]:
    name, *options = fields.get("format", "").split(";")
    details = {key.strip(): value.strip() for key, _, value in (option.partition("=") for option in options)}
    by_format = {"EVT2": "2.0", "EVT21": "2.1", "EVT3": "3.0"}.get(name.upper())
    version = by_format or fields.get("evt", "")
    if version not in ("2.0", "2.1", "3.0") or (name and by_format is None):
        seen = name or (f"evt {version}" if version else "none")
        raise RecordingError(
            f"{request.path}: the header's format is '{quote(seen)}'; EVT2, EVT21 and EVT3 are read. Convert it with the camera's "
            "software, or add the line that is missing."
        )
    return version, details


def _geometry(fields: dict[str, str], details: dict[str, str]) -> tuple[int | None, int | None]:
    if details.get("width", "").isdecimal() and details.get("height", "").isdecimal():
        return int(details["width"]), int(details["height"])
    match = re.fullmatch(r"(\d{1,5})\s*x\s*(\d{1,5})", fields.get("geometry", ""))
    if match:
        return int(match[1]), int(match[2])
    described = " ".join(fields.get(key, "") for key in ("plugin_name", "sensor_name", "sensor_generation")).lower()
    return next((size for name, size in _SENSORS.items() if name in described), (None, None))


Decoder = Callable[[NDArray[np.unsignedinteger]], EventColumns]


def _decoder(
    version: str, details: dict[str, str], stream: BinaryIO, start: int, file: EventFile
) -> tuple[Decoder, np.dtype]:
    if version == "3.0":
        return Evt3(file).decode, np.dtype("<u2")
    if version == "2.0":
        return Evt2(file).decode, np.dtype("<u4")
    swapped = details.get("endianness") == "legacy"
    if "endianness" not in details:
        stream.seek(start)
        swapped = _high_half_first(np.frombuffer(stream.read(1 << 16), np.uint8))
    return Evt21(file, swapped).decode, np.dtype("<u8")


def _open_dat(fields: dict[str, str], stream: BinaryIO, start: int, request: ReadRequest) -> tuple[Decoder, np.dtype]:
    stream.seek(start)
    kind, size = stream.read(2).ljust(2, b"\xff")
    if kind not in _DAT_EVENTS or size != 8:
        raise RecordingError(
            f"{request.path}: this DAT file holds events of type {kind} with {size} bytes each; expected changes of contrast (type "
            "0 or 12, 8 bytes). It holds something else, such as triggers, or is damaged."
        )
    version = fields.get("version", "2")
    return Dat(old=version in ("0", "1")).decode, np.dtype("<u8")


def _high_half_first(head: NDArray[np.uint8]) -> bool:
    """Whether EVT 2.1 words come as the IMX636 sends them: the half with the type first, each half little-endian."""
    halves = head[: len(head) // 8 * 8].view("<u4").reshape(-1, 2)
    known = np.isin(halves >> 28, _KNOWN_2)
    clock = (halves >> 28) == 0x8
    # A valid mask may look like any word; the half that is always of a known type, and is the clock more often, has the type.
    return bool((known[:, 0].sum(), clock[:, 0].sum()) > (known[:, 1].sum(), clock[:, 1].sum()))


def _blocks(
    stream: BinaryIO, start: int, word: np.dtype, decode: Decoder, request: ReadRequest, file: EventFile
) -> Iterator[EventColumns]:
    words = events = last = 0
    with stream:
        stream.seek(start)
        while data := stream.read(_BLOCK_WORDS * word.itemsize):
            whole = len(data) // word.itemsize
            if whole:
                words += whole
                block = decode(np.frombuffer(data, word, whole))
                last = int(np.frombuffer(data, word, whole)[-1])
                events += len(block[2])
                yield block
            if len(data) % word.itemsize:
                raise RecordingError(
                    f"{request.path}: the events end within a word of {word.itemsize} bytes, so the file was cut short. Copy it "
                    'again, or read what there is with damaged="keep".'
                )
    if words and file.notes["format"] == "EVT 3.0" and last >> 12 in Evt3.ANNOUNCING:
        problem = f"{request.path} ends with a word of type {last >> 12}, which events follow. It may be cut off: copy it again."
        file.warnings.append(AnswerWarning("file_ends_early", problem))
    unknown = file.notes.get("unknown_words", 0)
    # many words of one reserved type fill up a file
    if isinstance(unknown, int) and 2 * unknown > words and (len(file.unknown_types) > 1 or not events):
        raise RecordingError(
            f"{request.path}: {unknown} of {words} words are of no type that {file.notes['format']} knows. The header names the "
            "wrong format, or the file is damaged."
        )


# what the decoders share: clocks that wrap, state that holds until it is set again, and masks of bits


class Unwrapped:
    """Counts on where a clock of so many bits wraps: where it steps back by more than half of its period."""

    def __init__(self, bits: int) -> None:
        self.period, self.last, self.wraps = 1 << bits, -1, 0

    def __call__(self, values: NDArray[np.int64]) -> NDArray[np.int64]:
        before = np.concatenate([[self.last if self.last >= 0 else values[0]], values[:-1]])
        wraps = self.wraps + np.cumsum(values < before - self.period // 2)
        self.last, self.wraps = int(values[-1]), int(wraps[-1])
        return values + self.period * wraps


class LastValue:
    """A part of the decoder's state: what it is at a word is what was set last, in this block or before."""

    def __init__(self, convert: Callable[[NDArray[np.int64]], NDArray[np.int64]] | None = None) -> None:
        self.convert, self.carried, self.known = convert, 0, False

    def at(
        self, setting: NDArray[np.bool_], values: NDArray[np.integer], places: NDArray[np.intp]
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """The value at each place, and whether it had ever been set there."""
        fresh = values[setting].astype(np.int64)
        if self.convert is not None and len(fresh):
            fresh = self.convert(fresh)
        latest = np.cumsum(setting)[places]  # 0: none in this block yet
        line = np.concatenate([[self.carried], fresh])
        known = (latest > 0) | self.known
        if len(fresh):
            self.carried, self.known = int(fresh[-1]), True
        return line[latest], known


def set_bits(masks: NDArray[np.integer]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """For every set bit, lowest first: which mask it is in, and which bit."""
    bits = np.unpackbits(masks.reshape(-1, 1).view(np.uint8), axis=1, bitorder="little")
    which, bit = np.nonzero(bits)
    return which, bit


def note_unknown(file: EventFile, kind: NDArray[np.uint8], known: tuple[int, ...]) -> None:
    counts = np.bincount(kind, minlength=16)
    counts[list(known)] = 0
    file.count("unknown_words", int(counts.sum()))
    file.unknown_types.update(np.flatnonzero(counts).tolist())


class Dat:
    """DAT: 64-bit words; microseconds in the lower half, and in the upper x, y and polarity from bit 0, 14 and 28 on.

    Before version 2 these were 9, 8 and 1 bits from bit 0, 9 and 17 on.
    """

    def __init__(self, *, old: bool = False) -> None:
        self.bits = ((0, 9), (9, 8), (17, 1)) if old else ((0, 14), (14, 14), (28, 1))
        self.time = Unwrapped(32)

    def decode(self, words: NDArray[np.unsignedinteger]) -> EventColumns:
        upper = (words >> np.uint64(32)).astype("<u4")
        x, y, p = ((upper >> first) & ((1 << width) - 1) for first, width in self.bits)
        return x, y, self.time((words & np.uint64(0xFFFFFFFF)).astype(np.int64)), p


class Evt2:
    """EVT 2.0: 32-bit words; four bits of type, then six bits of time, eleven of x and eleven of y."""

    def __init__(self, file: EventFile) -> None:
        self.file = file
        self.high = LastValue(Unwrapped(28))

    def decode(self, words: NDArray[np.unsignedinteger]) -> EventColumns:
        return self.events(words)[1]

    def events(self, words: NDArray[np.unsignedinteger]) -> tuple[NDArray[np.intp], EventColumns]:
        """The events among the words, and which words they are."""
        kind = (words >> 28).astype(np.uint8)
        note_unknown(self.file, kind, _KNOWN_2)
        at = np.flatnonzero(kind <= 1)
        high, known = self.high.at(kind == 0x8, words & 0xFFFFFFF, at)
        if not known.all():
            self.file.count("before_first_time", int(np.count_nonzero(~known)))
            at, high = at[known], high[known]
        event = words[at]
        t = (high << 6) | ((event >> 22) & 0x3F).astype(np.int64)
        return at, ((event >> 11) & 0x7FF, event & 0x7FF, t, kind[at])


class Evt21(Evt2):
    """EVT 2.1: 64-bit words; as EVT 2.0 in the upper half, and a mask of 32 pixels from x on in the lower."""

    def __init__(self, file: EventFile, swapped: bool) -> None:
        super().__init__(file)
        self.swapped = swapped

    def decode(self, words: NDArray[np.unsignedinteger]) -> EventColumns:
        upper, lower = (words >> np.uint64(32)).astype("<u4"), words.astype("<u4")
        if self.swapped:
            upper, lower = lower, upper
        at, (x, y, t, p) = self.events(upper)
        which, bit = set_bits(lower[at])
        return x[which] + bit, y[which], t[which], p[which]


class Evt3:
    """EVT 3.0: 16-bit words; four bits of type, twelve of content."""

    Y, X, BASE, VECTOR_12, VECTOR_8, LOW, HIGH = 0x0, 0x2, 0x3, 0x4, 0x5, 0x6, 0x8
    ANNOUNCING = (Y, BASE, VECTOR_12, LOW)
    """What more of the same group follows: an event in this row, vectors from this base, the rest of 32 pixels."""

    KNOWN = (Y, X, BASE, VECTOR_12, VECTOR_8, LOW, 0x7, HIGH, 0xA, 0xE, 0xF)

    def __init__(self, file: EventFile) -> None:
        self.file = file
        self.row, self.base = LastValue(), LastValue()
        self.low = LastValue()
        self.high = LastValue(Unwrapped(12))
        self.advanced = 0  # columns that vectors have gone on since the base was set

    def decode(self, words: NDArray[np.unsignedinteger]) -> EventColumns:
        kind, content = (words >> 12).astype(np.uint8), words & 0xFFF
        note_unknown(self.file, kind, self.KNOWN)
        vector = (kind == self.VECTOR_12) | (kind == self.VECTOR_8)
        at = np.flatnonzero(vector | (kind == self.X))
        row, row_known = self.row.at(kind == self.Y, content & 0x7FF, at)
        high_word = kind == self.HIGH
        high, high_known = self.high.at(high_word, content, at)
        low, _ = self.low.at((kind == self.LOW) | high_word, np.where(high_word, 0, content), at)
        base, base_known = self.base.at(kind == self.BASE, content, at)
        offset = self._offsets(kind, at)
        is_vector = vector[at]
        known = row_known & high_known & (base_known | ~is_vector)
        mask = np.where(is_vector, np.where(kind[at] == self.VECTOR_8, content[at] & 0xFF, content[at]), 1)
        start = np.where(is_vector, (base & 0x7FF) + offset, content[at] & 0x7FF)
        polarity = np.where(is_vector, base, content[at]) >> 11 & 1
        which, bit = set_bits(np.where(known, mask, 0).astype("<u2"))
        lost = ~known
        if lost.any():
            self.file.count("before_first_time", len(set_bits(mask[lost].astype("<u2"))[0]))
        t = ((high << 12) + low)[which]
        return start[which] + bit, row[which], t, polarity[which]

    def _offsets(self, kind: NDArray[np.uint8], at: NDArray[np.intp]) -> NDArray[np.int64]:
        """Columns that the vectors since the last base have covered before each of the words `at`."""
        width = np.zeros(len(kind), np.int64)
        width[kind == self.VECTOR_12], width[kind == self.VECTOR_8] = 12, 8
        covered = np.cumsum(width)
        bases = np.flatnonzero(kind == self.BASE)
        # what was covered when the latest base was set; before the first of this block, less than nothing by what is carried
        at_base = np.concatenate([[-self.advanced], covered[bases]])
        latest = at_base[np.cumsum(kind == self.BASE)]
        if len(kind):
            self.advanced = int(covered[-1] - latest[-1])
        return (covered - width - latest)[at]
