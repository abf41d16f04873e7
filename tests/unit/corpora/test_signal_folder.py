"""signal_folder: own recordings, labels per recording, interval and sample; every plausible mistake is an error that names it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from meco_hub.corpora.leaks import fingerprint, leak_check
from meco_hub.corpora.signal_folder import corpus
from meco_hub.corpora.splits import by_fold
from meco_hub.corpora.synthetic.signals import write_signal_folder
from meco_hub.errors import ConfigurationError, CorpusError, LeakError, MecoError, RecordingError

RATE, SECONDS = 8.0, 120
STREAMS = {"eda": {"unit": "µS"}, "ecg": {"channels": ["lead"], "unit": "mV"}}

Write = Callable[..., Path]


def recording(person: int, *, header: str = "time,eda (µS),lead (µV)", start: float = 0.0) -> str:
    """A csv of two streams, in which everybody's numbers are their own."""
    times = np.arange(int(SECONDS * RATE)) / RATE
    rows = (f"{start + time:.3f},{5 + person + time / 100:.3f},{1000 * person + time:.3f}" for time in times)
    return "\n".join([header, *rows]) + "\n"


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def make(csv: str | bytes, people: int = 4, header: str = "time,eda (µS),lead (µV)", **study: Any) -> Path:
        folder = tmp_path / "study"
        (folder / "recordings").mkdir(parents=True)
        for person in range(1, people + 1):
            (folder / "recordings" / f"S{person}.csv").write_text(recording(person, header=header), encoding="utf-8")
        content = csv if isinstance(csv, bytes) else csv.encode()
        (folder / "labels.csv").write_bytes(content)
        whole = {"streams": STREAMS, "folds": 2, **study}
        (folder / "study.yaml").write_text(yaml.safe_dump(whole, allow_unicode=True, sort_keys=False), encoding="utf-8")
        return folder

    return make


WHOLE = "recording,person,label\n" + "".join(f"S{n}.csv,P{n},{('calm', 'tense')[n % 2]}\n" for n in range(1, 5))
INTERVALS = "recording,person,start,end,label\n" + "".join(
    f"S{n},P{n},0,50,calm\nS{n},P{n},60,120,tense\n" for n in range(1, 5)
)


def test_a_label_for_every_recording(write: Write) -> None:
    folder = write(WHOLE)
    rows = corpus.load(folder)["all"]
    assert rows["sample_id"][:] == [f"S{n}.csv" for n in range(1, 5)]
    assert rows["identity"][:] == ["P1", "P2", "P3", "P4"]
    assert rows.features["label"].names == ["calm", "tense"]
    assert [(row["start_s"], row["end_s"]) for row in rows] == [(0.0, 120.0)] * 4
    assert set(rows["fold"]) == {0, 1}
    assert corpus.declared_in(folder).nuisances == ()
    one = corpus.read(rows[0])
    assert one.streams["ecg"].units == ("mV",)
    np.testing.assert_allclose(one.streams["ecg"].values[:2, 0], [1.0, 1.000125])  # 1000 µV in the YAML's mV
    np.testing.assert_allclose(one.reference["ecg"][0], 1.06, atol=1e-3)


@pytest.mark.parametrize(("factor", "unit"), [(1000, "nS"), (1e6, "pS"), (1e-3, "mS"), (1, "")])
def test_one_recording_in_another_unit_is_said(
    factor: float, unit: str, write: Write, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write(WHOLE)
    rows = "".join(f"{t / RATE},{factor * (7 + t / 800)},{t}\n" for t in range(int(SECONDS * RATE)))
    (folder / "recordings" / "S2.csv").write_text(f"time,eda,lead (µV)\n{rows}", encoding="utf-8")
    corpus.load(folder)
    known = unit in ("nS", "mS")
    said = [one for one in caplog.messages if "in S2.csv stream 'eda' reaches" in one]
    assert len(said) == len([one for one in caplog.messages if "reaches" in one]) == known
    assert all(f"In {unit} it would be" in one for one in said)


@pytest.mark.parametrize(("scale", "doubted"), [(1, False), (1 / 60, True), (1 / 600, False)])
def test_minutes_for_seconds_are_said_where_every_recording_would_fit(
    scale: float, doubted: bool, write: Write, caplog: pytest.LogCaptureFixture
) -> None:
    rows = "".join(f"S{n},P{n},0,{50 * scale},calm\nS{n},P{n},{60 * scale},{120 * scale},tense\n" for n in range(1, 5))
    corpus.load(write("recording,person,start,end,label\n" + rows))
    assert any("Write seconds, where these are minutes" in one for one in caplog.messages) == doubted


def test_a_label_for_every_interval(write: Write) -> None:
    folder = write(INTERVALS)
    rows = corpus.load(folder, margin_s=5.0)["all"]
    assert rows["sample_id"][:2] == ["S1.csv_000", "S1.csv_001"]
    assert [row["trial"] for row in rows][:2] == ["S1.csv_000", "S1.csv_001"]
    assert corpus.declared_in(folder).nuisances == ("session_minute",)
    assert rows["session_minute"][:2] == [0.0, 1.0]  # whole, so that everybody's second task shares it
    one = corpus.read(rows[1])
    assert (one.start, one.end) == (0.0, 60.0)
    assert one.streams["eda"].times[0] == -5.0
    np.testing.assert_allclose(one.streams["eda"].values[0], 6 + 0.55)


@pytest.mark.parametrize("began", [0.0, 1_700_000_003.1])
def test_each_minute_of_a_session_is_another_one_whatever_the_clock(write: Write, began: float) -> None:
    lines = "".join(
        f"S{n},P{n},{began + start:.1f},{began + start + 20:.1f},{('calm', 'tense')[start // 20 % 2]}\n"
        for n in range(1, 5)
        for start in range(0, 120, 20)
    )
    folder = write("recording,person,start,end,label\n" + lines)
    for person in range(1, 5):
        (folder / "recordings" / f"S{person}.csv").write_text(recording(person, start=began), encoding="utf-8")
    rows = corpus.load(folder)["all"]
    assert rows["session_minute"][:] == [0, 0, 0, 1, 1, 1] * 4


def test_ratings_of_intervals(write: Write) -> None:
    labels = INTERVALS.replace("label", "valence,arousal").replace("calm", "2,").replace("tense", "8,7.5")
    folder = write(labels, targets={"valence": [1, 9], "arousal": [1, 9]})
    declared, rows = corpus.declared_in(folder), corpus.load(folder)["all"]
    assert [(one.name, one.low, one.high) for one in declared.targets] == [("valence", 1, 9), ("arousal", 1, 9)]
    assert not declared.time_continuous
    assert rows[1]["targets"] == [8.0, 7.5]
    assert np.isnan(rows[0]["targets"][1])
    with pytest.raises(CorpusError, match=r"labels\.csv, line 3, valence: a rating is 8\. Expected 1 to 7"):
        corpus.load(_with(folder, targets={"valence": [1, 7], "arousal": [1, 9]}))


def test_ratings_over_time(write: Write) -> None:
    lines = "".join(f"S{n},P{n},{t},{n + t / 100}\n" for n in range(1, 5) for t in range(10, 100))
    folder = write("recording,person,time,arousal\n" + lines, targets={"arousal": [0, 9]})
    assert corpus.declared_in(folder).time_continuous
    rows = corpus.load(folder)["all"]
    assert [(row["start_s"], row["end_s"]) for row in rows] == [(10.0, 99.0)] * 4
    truth = corpus.read(rows[1]).annotations["arousal"]
    np.testing.assert_allclose(truth.times[:2], [0, 1])
    np.testing.assert_allclose(truth.values[:2, 0], [2.1, 2.11])
    before = fingerprint(rows)
    (folder / "labels.csv").write_text((folder / "labels.csv").read_text().replace("S1,P1,10,1.1\n", "S1,P1,10,1.2\n"))
    assert fingerprint(corpus.load(folder)["all"]) != before


def test_classes_over_time_become_windows(write: Write) -> None:
    lines = "".join(f"S{n},P{n},{t},{'calm' if t < 60 else 'tense'}\n" for n in range(1, 5) for t in range(120))
    rows = corpus.load(write("recording,person,time,label\n" + lines), window_s=20, stride_s=10)["all"]
    one = [row for row in rows if row["identity"] == "P1"]
    # windows from 50 s on are half calm, half tense
    assert [row["start_s"] for row in one] == [0.0, 10.0, 20.0, 30.0, 40.0, 60.0, 70.0, 80.0, 90.0, 100.0]
    assert [row["label"] for row in one] == [0] * 5 + [1] * 5
    assert len({row["trial"] for row in one}) == 2


def test_what_a_spreadsheet_writes(write: Write) -> None:
    text = "recording;person;start;end;valence\r\n" + "".join(f"S{n};P{n};0,5;60,25;{n},5\r\n" for n in range(1, 5))
    rows = corpus.load(write(b"\xef\xbb\xbf" + text.encode(), targets={"valence": [1, 9]}))["all"]
    assert (rows[0]["start_s"], rows[0]["end_s"], rows[0]["targets"]) == (0.5, 60.25, [1.5])


def test_dates_and_clocks(write: Write) -> None:
    folder = write("recording,person,start,end,label\n" + "".join(f"S{n},P{n},10,60,calm\n" for n in range(1, 5)))
    for number in range(1, 5):
        content = recording(number, start=1.6e9)
        (folder / "recordings" / f"S{number}.csv").write_text(content, encoding="utf-8")
    with pytest.raises(
        CorpusError, match=r"line 2: 10 to 60 s, and S1\.csv lasts from 1\.6e\+09 .* say `clock: start`"
    ):
        corpus.load(folder)
    rows = corpus.load(_with(folder, clock="start"))["all"]
    np.testing.assert_allclose(corpus.read(rows[0]).streams["eda"].values[0], 6.0, atol=1e-3)
    dates = "recording,person,start,end,label\n" + "".join(
        f"S{n},P{n},2020-09-13T12:26:50,2020-09-13T12:27:40,calm\n" for n in range(1, 5)
    )
    (folder / "labels.csv").write_text(dates)
    assert corpus.load(_with(folder, clock="recording"))["all"][0]["start_s"] == 1.6e9 + 10


def test_people_by_folder(write: Write, tmp_path: Path) -> None:
    folder = write(
        WHOLE.replace("S2.csv,P2", "P2/S2,P2").replace("S", "x/S"), person="folder", recordings="people/*/*.csv"
    )
    lines = ["recording,label"]
    for number in range(1, 5):
        place = folder / "people" / f"P{(number + 1) // 2}"
        place.mkdir(parents=True, exist_ok=True)
        (folder / "recordings" / f"S{number}.csv").rename(place / f"S{number}.csv")
        lines.append(f"{place.name}/S{number},{('calm', 'tense')[number % 2]}")
    (folder / "labels.csv").write_text("\n".join(lines))
    rows = corpus.load(folder)["all"]
    assert rows["identity"][:] == ["P1", "P1", "P2", "P2"]
    with pytest.raises(LeakError, match=r"[12] people"):
        leak_check(rows.select([0, 2]), rows.select([1, 3]))
    (folder / "labels.csv").write_text(
        "recording,person,label\nP1/S1,P2,calm\nP1/S2,P1,calm\nP2/S3,P2,calm\nP2/S4,P2,calm\n"
    )
    with pytest.raises(
        CorpusError, match=r"line 2: the recording P1/S1.csv is of 'P2', and by `person: folder` of 'P1'"
    ):
        corpus.load(folder)


def test_the_same_samples_in_another_format_are_a_leak(write: Write) -> None:
    folder = write(WHOLE)
    first = corpus.load(folder)["all"]
    text = (folder / "recordings" / "S1.csv").read_text(encoding="utf-8")
    (folder / "recordings" / "S2.csv").write_text(text.replace(",", ";"), encoding="utf-8")
    again = corpus.load(folder)["all"]
    assert fingerprint(first) != fingerprint(again)
    with pytest.raises(LeakError, match=r"contents, the same byte for byte.*S1\.csv = S2\.csv"):
        leak_check(again.select([0]), again.select([1]))


def test_a_stream_that_may_be_missing(write: Write) -> None:
    folder = write(WHOLE)
    (folder / "recordings" / "S2.csv").write_text(recording(2, header="time,eda (µS),other"), encoding="utf-8")
    with pytest.raises(
        RecordingError, match=r"S2\.csv lacks lead, of which stream 'ecg' .* It has eda, other\. .*optional: true"
    ):
        corpus.load(folder)
    loose = {**STREAMS, "ecg": {**STREAMS["ecg"], "optional": True}}
    rows = corpus.load(_with(folder, streams=loose))["all"]
    assert set(corpus.read(rows[1]).streams) == {"eda"}


def test_a_stream_has_the_same_channels_in_every_recording(write: Write) -> None:
    folder = write(WHOLE, streams={"eda": {}})
    (folder / "recordings" / "S3.csv").write_text(recording(3, header="time,eda.left,eda.right"), encoding="utf-8")
    with pytest.raises(
        CorpusError, match=r"S3\.csv: stream 'eda' has 2 channels, and in S1\.csv 1\. .*streams\.eda\.channels"
    ):
        corpus.load(folder)


def test_folds_of_the_csv(write: Write) -> None:
    lines = WHOLE.splitlines()
    folder = write("\n".join([f"{lines[0]},fold", *(f"{line},{n % 2}" for n, line in enumerate(lines[1:]))]))
    rows = corpus.load(folder)["all"]
    assert rows["fold"][:] == [0, 1, 0, 1]
    assert len(by_fold(rows, [1])[1]) == 2


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (("label\n", "lable\n"), r"column 'lable', which nobody reads\. Did you mean 'label'"),
        (("person,label", "person,label,light"), r"line 2 has 3 cells\. Expected 4"),
        (("S2.csv", "S9.csv"), r"line 3: 'S9\.csv' names no recording\. Did you mean 'S"),
        (("S3.csv,P3,tense\n", ""), r"has no line for S3\.csv\. Expected one for every recording"),
        (("S2.csv,P2", "S1.csv,P1"), r"line 3: 'S1\.csv' is labelled a second time"),
        (("P4", "p3"), r"names 'P3' and 'p3', which are one person in two spellings"),
        (("P4", "P03"), r"names 'P3' and 'P03', which are one person"),
        (("P2,calm", "P2,"), r"line 3: the cell of 'label' is empty"),
        (("P2,calm", "P2,NaN"), r"line 3: the cell of 'label' is 'NaN', as for nothing"),
        (("S2.csv,P2", "S2.csv,<NA>"), r"line 3: the cell of 'person' is '<NA>', as for nothing"),
        (
            ("P2,calm", "P2,Calm"),
            r"names 'Calm' and 'calm'|names 'calm' and 'Calm', which are one class in two spellings",
        ),
        (("S2.csv,P2", "S2.csv,"), r"line 3: the cell of 'person' is empty"),
        (("person,label", "label,label"), r"label is there twice|person is missing"),
        (("recording,person", "file,person"), r"column 'file', which nobody reads"),
    ],
)
def test_mistakes_in_a_csv_of_recordings(write: Write, change: tuple[str, str], complaint: str) -> None:
    assert change[0] in WHOLE
    with pytest.raises(MecoError, match=complaint):
        corpus.load(write(WHOLE.replace(*change)))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (
            ("S1,P1,60,120", "S1,P1,40,120"),
            r"line 3: the interval from 40 to 120 s overlaps the one from 0 to 50 s \(.*line 2\)",
        ),
        (("S1,P1,60,120", "S1,P1,60,140"), r"line 3: 60 to 140 s, and S1\.csv lasts from 0 to 120 s"),
        (("S1,P1,60,120", "S1,P1,60000,120000"), r"write seconds, where these are milliseconds"),
        (("S1,P1,60,120", "S1,P1,60,60"), r"line 3: the interval begins at 60 s and ends at 60 s"),
        (("S1,P1,60,120", "S1,P1,,120"), r"line 3: the cell of 'start' is empty"),
        (("S1,P1,60,120", "S1,P2,60,120"), r"the recording S1\.csv is of P1, P2\. Expected one person"),
        (("start,end", "start,time"), r"has the columns start, time\. Expected start and end"),
        (("S1,P1,60,120", "S1,P1,soon,120"), r"line 3: start is 'soon'\. Expected seconds"),
    ],
)
def test_mistakes_in_a_csv_of_intervals(write: Write, change: tuple[str, str], complaint: str) -> None:
    assert change[0] in INTERVALS
    with pytest.raises(MecoError, match=complaint):
        corpus.load(write(INTERVALS.replace(*change)))


@pytest.mark.parametrize(
    ("study", "complaint"),
    [
        ({"streams": {}}, r"streams is empty"),
        (
            {"streams": {"eda": {"unit": "uSv"}}},
            r"streams\.eda\.unit is 'uSv', a unit that is not known\. Did you mean .* Known are V, mV, µV",
        ),
        ({"streams": {"eda": {"unit": "°C"}}}, r"the file says 'µS' and the YAML '°C'"),
        (
            {"streams": {"eda": {"chanels": ["eda"]}}},
            r"has the key 'chanels', which nobody reads\. Did you mean 'channels'",
        ),
        ({"streams": {"resp": {}}}, r"S1\.csv lacks resp, of which stream 'resp' is to be made"),
        ({"recordings": "nowhere/*"}, r"holds nothing that matches 'nowhere/\*'"),
        ({"recordings": "../*"}, r"leads out of the folder"),
        ({"ignore": ["S9"]}, r"`ignore` names S9"),
        ({"classes": ["calm"]}, r"labels that are not in the list calm: tense \(2 rows\)"),
        ({"classes": ["calm", "tense", "calm"]}, r"names calm twice"),
        ({"classes": ["calm", "tense"], "targets": {"valence": [1, 9]}}, r"both classes and targets"),
        ({"targets": {"valence": [9, 1]}}, r"targets\.valence is \[9\.0, 1\.0\]"),
        ({"groups": ["site"]}, r"has no column 'site'|site is missing"),
        ({"groups": ["label"]}, r"groups names the column 'label', which has a meaning already"),
        ({"person": "folder"}, r"lies in no folder of a person"),
        ({"person": "recording"}, r"is of 'P1', and by `person: recording` of 'S1'"),
        ({"person": "nobody"}, r"person is 'nobody'; expected 'column' or 'folder' or 'recording'"),
        ({"folds": 1}, r"folds is 1; expected 2 or more"),
        ({"labels": "tags.csv"}, r"tags\.csv does not exist"),
    ],
)
def test_mistakes_in_the_yaml(write: Write, study: dict[str, Any], complaint: str) -> None:
    with pytest.raises((CorpusError, RecordingError, ConfigurationError), match=complaint):
        corpus.load(write(WHOLE, **study))


def test_recordings_may_be_left_out_on_purpose(write: Write) -> None:
    folder = write(WHOLE.replace("S4.csv,P4,calm\n", ""), ignore=["S4"])
    assert corpus.load(folder)["all"]["identity"][:] == ["P1", "P2", "P3"]


def test_a_drawn_study_is_read_as_it_was_drawn(tmp_path: Path) -> None:
    drawn = write_signal_folder(tmp_path / "study", seed=1, people=2, intervals=4, interval_s=10)
    rows = corpus.load(tmp_path / "study")["all"]
    names = rows.features["label"].names
    found = [(row["sample_id"], row["identity"], names[row["label"]]) for row in rows]
    assert found == [(one.sample_id, one.identity, one.label) for one in drawn]
    one = corpus.read(rows[0])
    assert {name: (stream.values.shape[1], stream.rate) for name, stream in one.streams.items()} == {
        "eeg": (4, 64.0),
        "eda": (1, 4.0),
        "ecg": (1, 64.0),
    }


def _with(folder: Path, **study: Any) -> Path:
    """The same folder with other keys in its YAML."""
    file = folder / "study.yaml"
    whole = {**yaml.safe_load(file.read_text(encoding="utf-8")), **study}
    file.write_text(yaml.safe_dump(whole, allow_unicode=True, sort_keys=False), encoding="utf-8")
    return folder
