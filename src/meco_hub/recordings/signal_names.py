"""What streams, channels and units are called, and which names mean one thing.

Names are compared here and nowhere else. Nothing is renamed because of it: a stream under another name is offered, never taken.
"""

import difflib
import itertools
import re
import shlex
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

_STREAMS: dict[str, str] = {
    "eda": "gsr sc scl scr",
    "bvp": "ppg plet pleth",
    "ecg": "ekg",
    "hr": "bpm",
    "ibi": "rr rri nn ppi interbeat",
    "temp": "skt",
    "resp": "rsp thorax",
    "acc": "accel",
    "emg": "muscle",
    "eeg": "electroencephalogram",
    "eog": "eye gaze",
    "cardiac": "ihr ptt",
}
"""Kind of signal, as checkpoints of ours call it → other words for it, as devices, LSL's types and programs have them."""

_STEMS: dict[str, str] = {
    "eda": "conductan condutan conduttan electroderm elektroderm elettroderm galvan hautleit leitwert leitfahig 皮电 皮電 "
    "皮肤电 皮膚電",
    "bvp": "bloodvolume volumepulse pulsewave pulswelle plethysmo photoplethysmo",
    "ecg": "electrocardiog elektrokardiog",
    "hr": "heartrate pulserate beatspermin herzfreq herzrate herzschlag freqcard 心率 心拍",
    "ibi": "rrinterval rrabst beattobeat",
    "temp": "temperatur thermomet hauttemp 皮温 皮膚温 体温",
    "resp": "respir breath atem atmung 呼吸",
    "acc": "acceler beschleunig aceler",
    "emg": "electromyog elektromyog",
}
"""Likewise beginnings of words in several languages, without accents; two words that stand together count as one."""

_VAGUE = {"skin": "eda", "haut": "eda", "heart": "hr", "herz": "hr", "pulse": "hr", "puls": "hr", "pouls": "hr",
          "pulso": "hr", "cardiaque": "hr", "cardiaca": "hr"}  # fmt: skip
"""Words that mean a kind only where no other word does: "Skin Temperature" is no conductance, "Pulse wave" no heart rate."""

_KINDS = {word: kind for kind, words in _STREAMS.items() for word in (kind, *words.split())}
_BY_STEM = {stem: kind for kind, stems in _STEMS.items() for stem in stems.split()}
_RESISTANCE = re.compile(r"resist|impedan|widerstand|ohm", re.IGNORECASE)
_MARKERS = re.compile(r"mark|event|trigger|stim|label|annot|tag|note|code|status", re.IGNORECASE)

_CHANNELS = {
    "phasic": "edaph scr",
    "tonic": "edaton scl",
    "ihr": "hr heartrate ecgrate ppgrate rate",
    "ptt": "pulsetransittime",
    "trap": "temgenv emgtrap trapezius",
    "zyg": "zemgenv emgzygo zygo zygomaticus",
    "corr": "cemgenv emgcoru coru corrugator",
    "x": "accx",
    "y": "accy",
    "z": "accz",
}
"""Channel → other words for it, without what is no letter."""

_CHANNEL_WORDS = {word: name for name, words in _CHANNELS.items() for word in (name, *words.split())}


def kinds_of(*names: str) -> set[str]:
    """Kinds of signal that the words in these names mean: of "Shimmer GSR", eda.

    What was computed of a sensor is none: "PPGtoHR" and "ECG RR interval" are rates and intervals. A resistance is no
    conductance: the one falls where the other rises.
    """
    found: set[str] = set()
    vague: set[str] = set()
    for name in names:
        words = _words_of(name)
        pairs = [first + second for first, second in itertools.pairwise(words)]
        found |= {_KINDS[word] for word in words if word in _KINDS}
        found |= {kind for word in (*words, *pairs) for stem, kind in _BY_STEM.items() if word.startswith(stem)}
        vague |= {_VAGUE[word] for word in words if word in _VAGUE}
    found = found or vague
    if found & {"hr", "ibi"}:
        found -= {"bvp", "ecg"}
    if any(_RESISTANCE.search(name) for name in names):
        found -= {"eda"}
    return found


def _words_of(name: str) -> list[str]:
    """The words of a name in small letters: no accents, digits or signs, apart where a capital begins one ("HeartRate")."""
    plain = "".join(letter for letter in unicodedata.normalize("NFKD", name) if not unicodedata.combining(letter))
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", plain).casefold()
    return [word for word in re.split(r"[\W\d_]+", apart) if word]


def offer(wanted: Iterable[str], given: Mapping[str, Iterable[str]]) -> tuple[list[tuple[str, str]], list[str]]:
    """Which streams may be one of those that are wanted, by their names.

    Args:
        wanted: names of the streams that are wanted.
        given: names of the others → what their files say of them besides (channels, LSL's type).

    Returns:
        pairs (given, wanted) whose words mean one kind of signal or which are spelt alike; and the given ones that say
        nothing known and are no markers: they may be anything.
    """
    wanted = list(wanted)
    pairs: list[tuple[str, str]] = []
    silent: list[str] = []
    for name, said in given.items():
        says = (name, *said)
        kinds = kinds_of(*says)
        meant = [one for one in wanted if kinds & (kinds_of(one) or {one})]
        if not kinds:
            meant = difflib.get_close_matches(name.casefold(), wanted, n=1, cutoff=0.7)
        pairs += [(name, one) for one in meant]
        text = " ".join(says)
        if not kinds and not meant and not _MARKERS.search(text) and not _RESISTANCE.search(text):
            silent.append(name)
    return pairs, silent


def how_to_name(chosen: Mapping[str, str]) -> str:
    """How these streams, wanted → given, are chosen in Python and on the command line."""
    python = ", ".join(f"{wanted!r}: [{given!r}]" for wanted, given in chosen.items())
    typed = " ".join(shlex.quote(f"{wanted}={given}") for wanted, given in chosen.items() if "," not in given)
    return f"pass streams={{{python}}}" + (f", or --streams {typed} on the command line" if typed else "")


def channel_order(given: Sequence[str], wanted: Sequence[str], stream: str) -> list[int] | None:
    """Where each of the wanted channels stands among the given ones; None where the names are not those.

    Args:
        given: names of a stream's channels, as many as are wanted.
        wanted: names of the channels in the order of a model.
        stream: name of the stream, which may stand in front of each ("EDA phasic").
    """
    mine = [_channel(one, stream) for one in wanted]
    theirs = [_channel(one, stream) for one in given]
    order = []
    for name in mine:
        exact = [place for place, other in enumerate(theirs) if other == name]
        near = exact or [
            place
            for place, other in enumerate(theirs)
            if min(len(name), len(other)) >= 3 and (other.startswith(name) or name.startswith(other))
        ]
        if len(near) != 1 or near[0] in order:
            return None
        order.append(near[0])
    return order


def are_names(given: Sequence[str], stream: str) -> bool:
    """Whether these tell channels apart, rather than count them: not "0", "1", nor the stream's name for each."""
    words = [re.sub(rf"^(ch|channel|col|column|{re.escape(stream.lower())})", "", one.lower()) for one in given]
    bare = [re.sub(r"[^a-zµ]", "", one) for one in words]
    return len(set(given)) == len(given) > 0 and any(bare)


def _channel(name: str, stream: str) -> str:
    words = [word for word in re.split(r"[^a-z0-9]+", name.lower()) if word]
    if len(words) > 1 and (
        words[0] == stream.lower() or words[0] in kinds_of(stream) or kinds_of(words[0]) & kinds_of(stream)
    ):
        words = words[1:]
    whole = "".join(words)
    return _CHANNEL_WORDS.get(whole, _CHANNEL_WORDS.get(words[0], whole) if words else whole)


# --- Units ------------------------------------------------------------------------------------------------------------

_UNITS: tuple[dict[str, tuple[float, float]], ...] = (
    # how many of the first unit of its kind one is, and what is added to that
    {"µs": (1, 0), "us": (1, 0), "microsiemens": (1, 0), "usiemens": (1, 0), "s": (1e6, 0), "siemens": (1e6, 0),
     "ms": (1e3, 0), "millisiemens": (1e3, 0), "ns": (1e-3, 0), "nanosiemens": (1e-3, 0), "umho": (1, 0), "µmho": (1, 0)},
    {"°c": (1, 0), "c": (1, 0), "degc": (1, 0), "celsius": (1, 0), "degreescelsius": (1, 0), "°f": (5 / 9, -160 / 9),
     "f": (5 / 9, -160 / 9), "degf": (5 / 9, -160 / 9), "fahrenheit": (5 / 9, -160 / 9), "k": (1, -273.15),
     "kelvin": (1, -273.15)},
    {"µv": (1, 0), "uv": (1, 0), "microvolts": (1, 0), "microvolt": (1, 0), "mv": (1e3, 0), "millivolts": (1e3, 0),
     "v": (1e6, 0), "volts": (1e6, 0), "nv": (1e-3, 0)},
    {"g": (1, 0), "mg": (1e-3, 0), "m/s²": (1 / 9.80665, 0), "m/s2": (1 / 9.80665, 0), "m/s^2": (1 / 9.80665, 0),
     "ms-2": (1 / 9.80665, 0)},
    {"seconds": (1, 0), "sec": (1, 0), "s": (1, 0), "ms": (1e-3, 0), "msec": (1e-3, 0), "milliseconds": (1e-3, 0),
     "µs": (1e-6, 0), "us": (1e-6, 0)},
    {"bpm": (1, 0), "1/min": (1, 0), "/min": (1, 0), "beats/min": (1, 0), "hz": (60, 0), "1/s": (60, 0)},
    {"%": (1, 0), "percent": (1, 0)},
)  # fmt: skip
"""Kinds of units, each: name → (factor, offset). "s" and "ms" are of two kinds, and the other unit tells which."""


USUAL_UNITS = ("V", "mV", "µV", "S", "µS", "°C", "°F", "K", "g", "m/s²", "s", "ms", "bpm", "Hz", "%")
"""Units that `convert` knows, as people write them; other spellings of these are known too."""


def is_unit(name: str) -> bool:
    """Whether `convert` knows the unit."""
    return any(_unit(name) in kind for kind in _UNITS)


def _unit(name: str) -> str:
    return re.sub(r"[\s_]", "", name.replace("μ", "µ").replace("º", "°")).lower()


def convert(values: NDArray[np.floating], unit: str, to: str) -> NDArray[np.floating] | None:
    """The values in another unit, of the same type; None where one of the units is unknown, or they are of two kinds."""
    given, wanted = _unit(unit), _unit(to)
    if given == wanted:
        return values
    for kind in _UNITS:
        if given in kind and wanted in kind:
            (factor, offset), (own, own_offset) = kind[given], kind[wanted]
            return ((values.astype(np.float64) * factor + offset - own_offset) / own).astype(values.dtype)
    return None


def other_units(unit: str) -> tuple[str, ...]:
    """Units that values may have been recorded in where that one was expected."""
    usual = {
        "µs": ("S", "mS", "nS"),
        "°c": ("°F", "K"),
        "µv": ("V", "mV"),
        "g": ("m/s²", "mg"),
        "s": ("ms",),
        "ms": ("s",),
        "bpm": ("Hz",),
    }
    return usual.get(_unit(unit), ())
