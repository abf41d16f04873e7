"""Damaged files for every reader: what comes of each, and whether anything but an answer or an error of ours does.

    make fuzz                                                        # all formats, for an hour
    python benchmarks/fuzz.py --seconds 600 --formats png,edf        # some of them
    python benchmarks/fuzz.py --state out/fuzz.json                  # goes on where the last run with that file ended
    python benchmarks/fuzz.py --formats edf --seed 3 --only 1742     # one input again, with its traceback

Every format has a small valid file, made here or by the writers of the tests. Input number n of a format is that file, changed by a
generator seeded with (seed, format, n): bytes flipped, cut, doubled, moved, set to extremes; numbers and words of texts replaced;
members of zips likewise, and packed again. It is read in a process of its own, whose memory is limited, and which is ended when it
says nothing for `HANG_S`. Formats take turns of some seconds: every fourth turn goes to the one that has had the fewest inputs, so
that slow ones get their share, and the others divide the time by speed: twice the inputs a second, twice the time.

    refused    an error of ours, of a sensible length
    read       the answer of the valid file, or one with a warning
    changed    another answer without a warning: most samples can be changed without breaking any rule
    silent     of the changed ones, files that were cut short
    foreign    any other exception, memory that runs out or of which an input fills more than a GiB, a crash
    hangs      no answer in `HANG_S` of the processor, or in `BY_THE_CLOCK` times as much by the clock
"""

import argparse
import gc
import gzip
import hashlib
import io
import json
import logging
import multiprocessing
import os
import random
import re
import resource
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from meco_hub import apart
from meco_hub.errors import MecoError

sys.path.insert(0, str(Path(__file__).parent))
from fuzz_formats import GROUPS, LONGEST_MESSAGE, Format

HANG_S = 30.0
SLICE_S = 2.0
BY_THE_CLOCK = 5
MEMORY = 3 * 2**30
ROOM_KIB = 2**20
COLUMNS = ("tried", "refused", "read", "changed", "silent", "foreign", "hangs")


# --- Damage -----------------------------------------------------------------------------------------------------------

_EXTREMES = [value.to_bytes(size, order, signed=value < 0) for size in (1, 2, 4, 8) for order in ("little", "big")
             for value in (0, 1, -1, 2 ** (8 * size - 1) - 1, -(2 ** (8 * size - 1)))]  # fmt: skip
_WORDS = [
    *(
        "0",
        "-1",
        "1e400",
        "-1e400",
        "NaN",
        "nan",
        "inf",
        "null",
        "true",
        "[]",
        "{}",
        '""',
        "[1]",
        "1e9",
        "99999",
        "100000000",
    ),
    *(
        "2147483648",
        "9" * 400,
        "1970-01-01",
        "../../x",
        "a" * 5000,
        "[" * 3000,
        "\x1b[31m",
        "\n",
        ",",
        ";",
        '"',
        "é",
        "0.5",
    ),
]


_WORD = re.compile(rb"-?[\w.]+|\[[^\[\]]{,999}\]|\"[^\"]{,999}\"")


def damage(data: bytes, text: bool, draw: random.Random, other: bytes) -> tuple[bytes, bool]:
    """The data, changed once or a few times; and whether it was only cut short."""
    if draw.random() < 0.12:
        return data[: draw.randrange(len(data) + 1)], True
    changed = bytearray(data)
    for _ in range(draw.choice((1, 1, 1, 2, 4, 16))):
        at = draw.randrange(len(changed) + 1)
        size = min(draw.choice((1, 2, 4, 8, 64, 1000)), max(1, len(changed)))
        how = draw.randrange(8 if text else 6)
        if how == 0 and at < len(changed):
            changed[at] ^= 1 << draw.randrange(8)
        elif how == 1:
            changed[at : at + 1] = bytes([draw.randrange(256)])
        elif how == 2:
            del changed[at : at + size]
        elif how == 3:
            changed[at:at] = changed[at : at + size] * draw.choice((1, 2, 20))
        elif how == 4:
            piece = draw.choice(_EXTREMES)
            changed[at : at + len(piece)] = piece
        elif how == 5:
            start = draw.randrange(len(other) + 1)
            changed[at : at + size] = other[start : start + size]
        else:  # of a text: one number or word as another
            word = _WORD.search(changed, at) or _WORD.search(changed)
            if word:
                start, end = word.span()
                del word  # which holds the text as it is
                changed[start:end] = draw.choice(_WORDS).encode()
    return bytes(changed), False


def damage_zip(data: bytes, draw: random.Random) -> tuple[bytes, bool]:
    """The zip, its own bytes changed, or one member and perhaps its name, and packed again."""
    if draw.random() < 0.3:
        return damage(data, False, draw, data)
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(stream, "w", draw.choice((0, 0, 8))) as new:
        names = old.namelist()
        chosen = draw.choice(names)
        for name in names:
            content = old.read(name)
            if name == chosen:
                how = draw.random()
                if how < 0.1:
                    name = draw.choice(
                        ("./" + name, name.upper(), "a/" + name, name + "x", "../" + name, draw.choice(names))
                    )
                elif how < 0.15:
                    continue
                else:
                    text = name.endswith((".csv", ".json", ".txt"))
                    content, _ = damage(content, text, draw, old.read(draw.choice(names)))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                new.writestr(name, content)
    return stream.getvalue(), False


def damage_gzip(data: bytes, draw: random.Random) -> tuple[bytes, bool]:
    """The packed text, its own bytes changed, or what is in it."""
    if draw.random() < 0.3:
        return damage(data, False, draw, data)
    inside = gzip.decompress(data)
    changed, cut = damage(inside, True, draw, inside)
    return gzip.compress(changed, 1), cut


def damage_png(data: bytes, draw: random.Random) -> tuple[bytes, bool]:
    """The picture, its own bytes changed, or one chunk, or the rows that are packed in it, with the right checksums: behind a wrong
    one no decoder looks."""
    if draw.random() < 0.3:
        return damage(data, False, draw, data)
    chunks, at = [], 8
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + size]))
        at += 12 + size
    place = draw.randrange(len(chunks))
    kind, content = chunks[place]
    if kind == b"IDAT" and draw.random() < 0.5:
        rows = zlib.decompress(content)
        content = zlib.compress(damage(rows, False, draw, rows)[0], 1)
    elif draw.random() < 0.1:
        kind = draw.choice([one for one, _ in chunks] + [b"tRNS", b"acTL", b"fcTL", b"iCCP", b"zTXt"])
    else:
        content, _ = damage(content, False, draw, data)
    chunks[place] = kind, content
    if draw.random() < 0.1:
        draw.shuffle(chunks)
    whole = (
        len(inside).to_bytes(4, "big") + name + inside + zlib.crc32(name + inside).to_bytes(4, "big")
        for name, inside in chunks
    )
    return data[:8] + b"".join(whole), False


PACKED = {"zip": damage_zip, "gzip": damage_gzip, "png": damage_png}
"""Kinds whose checksums are set right again."""


# --- Reading ----------------------------------------------------------------------------------------------------------


def digest(answer: Any) -> str:
    """What two equal answers have in common."""
    found = hashlib.sha256()

    def add(one: Any) -> None:
        if isinstance(one, Image.Image):  # in strips, as the room that it fills is looked at
            found.update(f"{one.mode}{one.size}".encode())
            rows = max(1, 2**20 // one.width)
            for top in range(0, one.height, rows):
                found.update(one.crop((0, top, one.width, min(top + rows, one.height))).tobytes())
        elif isinstance(one, np.ndarray):
            found.update(f"{one.dtype}{one.shape}".encode() + np.ascontiguousarray(one).tobytes())
        elif isinstance(one, dict):
            for key, value in one.items():
                found.update(str(key).encode())
                add(value)
        elif isinstance(one, list | tuple):
            for value in one:
                add(value)
        elif hasattr(one, "streams"):
            add(one.streams)
        elif hasattr(one, "values") and hasattr(one, "times"):
            add([one.values, one.times, one.channels, one.units])
        elif all(hasattr(one, column) for column in "xytp"):
            add([one.x, one.y, one.t, one.p, one.width, one.height])
        elif hasattr(one, "to_dict"):
            add(one.to_dict())
        else:
            found.update(repr(one).encode())

    add(answer)
    return found.hexdigest()


def _name_of(error: BaseException) -> str:
    """Kind and place, by which failures of one cause are one."""
    place = next(reversed(traceback.extract_tb(error.__traceback__)), None)
    ours = [one for one in traceback.extract_tb(error.__traceback__) if "meco" in one.filename]
    last = ours[-1] if ours else place
    return f"{type(error).__name__} at {Path(last.filename).name}:{last.lineno}" if last else type(error).__name__


def _fault(error: BaseException) -> str | None:
    """What is wrong with an error, None where it is ours and as it should be."""
    if not isinstance(error, MecoError):
        return _name_of(error)
    cause: BaseException | None = error
    while cause is not None:
        # FFmpeg's and Arrow's own say that they were refused what a file claims, at once, and touched nothing of it
        if isinstance(cause, MemoryError) and not type(cause).__module__.startswith(("av.", "pyarrow.")):
            return f"memory: {_name_of(cause)}"
        cause = cause.__cause__
    if len(str(error)) > LONGEST_MESSAGE:
        return f"a message of {len(str(error))} characters: {_name_of(error)}"
    return None


class Worker:
    """Reads inputs of one format, one number after the other, in a process of its own."""

    def __init__(self, name: str, form: Format, folder: Path, seed: int) -> None:
        self.name, self.form, self.seed, self.folder = name, form, seed, folder
        self.counts = multiprocessing.get_context("fork").RawArray(
            "q", len(COLUMNS)
        )  # inputs before the one that is read
        # when that one was, by clock and processor; −1: none is
        self.began = multiprocessing.get_context("fork").RawArray("d", 2)
        folder.mkdir(parents=True)
        self.path = folder / form.name
        form.make(self.path)
        self.whole = self.path.read_bytes()
        self.right = digest(form.read(self.path))
        self.log = folder.with_suffix(".log")

    def input(self, number: int) -> tuple[bytes, bool]:
        """One input, the same each time."""
        draw = random.Random(f"{self.seed}/{self.name}/{number}")
        if self.form.kind in PACKED:
            return PACKED[self.form.kind](self.whole, draw)
        return damage(self.whole, self.form.kind == "text", draw, self.whole)

    def try_one(self, number: int) -> str:
        """The column that it counts in; a foreign exception is logged."""
        content, cut = self.input(number)
        self.path.write_bytes(content)
        try:
            answer = self.form.read(self.path)
            if digest(answer) == self.right or getattr(answer, "warnings", ()):
                return "read"
            return "silent" if cut else "changed"
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001 — which one it is, is the finding
            fault = _fault(error)
            if fault is None:
                return "refused"
            with self.log.open("a") as log:
                log.write(f"{number}\t{fault}\n")
            return "foreign"

    def run(self, end: float, most: int) -> None:
        logging.disable(logging.CRITICAL)
        warnings.simplefilter("ignore")
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 2)  # what libraries print about damage
        room = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (room, room))
        most_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss + ROOM_KIB
        begun = time.process_time()
        while (number := self.counts[0]) < most and time.monotonic() < end and time.process_time() - begun < SLICE_S:
            self.began[:] = [time.monotonic(), time.process_time()]
            column = self.try_one(number)
            if (grown := resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) > most_kib:
                column, most_kib = "foreign", grown + ROOM_KIB
                with self.log.open("a") as log:
                    log.write(f"{number}\tmemory: more than {ROOM_KIB >> 10} MiB filled\n")
            self.counts[COLUMNS.index(column)] += 1
            self.counts[0] += 1
        for reader in apart._idle:  # which are waited for, so that what they used counts
            reader.dismiss()
        self.began[:] = [-1.0, 0.0]

    def _hangs(self, process: Any) -> bool:
        """Whether the input that is being read has taken too long."""
        since, used_before = self.began[:]
        if since < 0:
            return False
        with suppress(OSError):  # it has ended
            used = sum(map(int, Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]))
            if used / os.sysconf("SC_CLK_TCK") - used_before > HANG_S:
                return True
        return time.monotonic() - since > BY_THE_CLOCK * HANG_S

    def fuzz(self, end: float, most: int) -> None:
        """As many more inputs, up to number `most`, as a turn or the time allows."""
        while self.counts[0] < most and time.monotonic() < end:
            self.began[:] = [time.monotonic(), 0.0]
            hung = False
            process = multiprocessing.get_context("fork").Process(target=self.run, args=(end, most))
            process.start()
            while process.is_alive():
                process.join(0.2)
                if process.is_alive() and self._hangs(process):
                    hung = True
                    process.kill()
                    process.join()
            if self.began[0] < 0:
                break
            with self.log.open("a") as log:
                log.write(f"{self.counts[0]}\t{'hang' if hung else f'crash, exit code {process.exitcode}'}\n")
            self.counts[COLUMNS.index("hangs" if hung else "foreign")] += 1
            self.counts[0] += 1

    def findings(self) -> dict[str, tuple[int, int]]:
        """What → how often, and number of the first input, of the failures."""
        found: dict[str, list[int]] = {}
        for line in self.log.read_text().splitlines() if self.log.is_file() else []:
            number, what = line.split("\t", 1)
            found.setdefault(what, []).append(int(number))
        return {what: (len(numbers), numbers[0]) for what, numbers in found.items()}


def formats(wanted: list[str] | None = None) -> dict[str, Format]:
    """All formats, or those whose names begin with one of these."""
    found = {name: form for group in GROUPS for name, form in group().items()}
    return {name: form for name, form in found.items() if not wanted or name.startswith(tuple(wanted))}


def fuzz(
    seconds: float, inputs: int, seed: int = 0, wanted: list[str] | None = None, state: Path | None = None
) -> tuple[dict[str, dict[str, int]], list[str]]:
    """Counts by format, and what was found, in lines; where a file for the state is given, it has both after each turn."""
    began = json.loads(state.read_text()) if state is not None and state.is_file() else {}
    end = time.monotonic() + seconds
    room = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir=room if os.access(room, os.W_OK) else None) as folder:
        workers = {name: Worker(name, form, Path(folder, name), seed) for name, form in formats(wanted).items()}
        spent = dict.fromkeys(workers, 0.0)
        before: dict[str, dict[str, Any]] = {}
        for name, worker in workers.items():
            before[name] = began.get(f"{seed}/{name}", {"seconds": 0.0, "findings": {}} | dict.fromkeys(COLUMNS, 0))
            spent[name] = before[name]["seconds"]
            worker.counts[:] = [before[name][column] for column in COLUMNS]

        def used() -> float:
            """Seconds of the processor; those of the clock say how busy the machine is."""
            return sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])

        def by_speed(name: str) -> float:
            return spent[name] ** 2 / max(1, workers[name].counts[0])

        def fewest(name: str) -> int:
            return workers[name].counts[0]

        gc.collect()
        gc.freeze()  # or each process would copy what its collector looks at
        turn = 0
        while time.monotonic() < end and (waiting := [name for name, one in workers.items() if one.counts[0] < inputs]):
            name, turn = min(waiting, key=fewest if turn % 4 == 3 else by_speed), turn + 1
            before_it = used()
            workers[name].fuzz(min(end, time.monotonic() + 10 * SLICE_S), inputs)
            spent[name] += used() - before_it
            if state is not None:
                counts = dict(zip(COLUMNS, workers[name].counts[:], strict=True))
                found = before[name]["findings"] | workers[name].findings()
                began[f"{seed}/{name}"] = counts | {"seconds": round(spent[name], 2), "findings": found}
                state.with_suffix(".partial").write_text(json.dumps(began, indent=1))
                state.with_suffix(".partial").replace(state)
        table: dict[str, dict[str, int]] = {
            name: {column: worker.counts[place] for place, column in enumerate(COLUMNS)}
            for name, worker in workers.items()
        }
        found = {name: before[name]["findings"] | worker.findings() for name, worker in workers.items()}
    findings = []
    for name, counts in table.items():
        print(f"{name:<30}" + "".join(f"{counts[column]:>10}" for column in COLUMNS))
        for what, (count, first) in found[name].items():
            findings.append(f"{name}: {count} × {what}; first --only {first}")
            print(f"    {findings[-1]}")
    return table, findings


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3600.0, help="for all formats together")
    parser.add_argument("--inputs", type=int, default=10**9, help="of each format at most")
    parser.add_argument("--formats", default="", help="beginnings of their names, separated by commas")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--state", type=Path, help="file of counts and findings, with which a later run goes on")
    parser.add_argument("--only", type=int, help="this input of the one format, with its traceback")
    arguments = parser.parse_args()
    wanted = [one for one in arguments.formats.split(",") if one]
    if arguments.only is not None:
        several = formats(wanted)  # "png" is one, and the beginning of others
        ((name, form),) = ({wanted[0]: several[wanted[0]]} if wanted[:1] and wanted[0] in several else several).items()
        with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
            worker = Worker(name, form, Path(folder, name), arguments.seed)
            content, _ = worker.input(arguments.only)
            worker.path.write_bytes(content)
            print(form.read(worker.path))
        return 0
    print(f"{'format':<30}" + "".join(f"{column:>10}" for column in COLUMNS))
    table, findings = fuzz(arguments.seconds, arguments.inputs, arguments.seed, wanted, arguments.state)
    total = {column: sum(one[column] for one in table.values()) for column in COLUMNS}
    print(f"{'all':<30}" + "".join(f"{total[column]:>10}" for column in COLUMNS))
    return 1 if findings else 0


if __name__ == "__main__":
    raise SystemExit(main())
