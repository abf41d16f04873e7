"""empatica: every stream keeps its own clock, and what is not as the watch writes it is refused by name."""

import re
import zipfile
from pathlib import Path

import numpy as np
import pytest

from meco_hub.errors import RecordingError
from meco_hub.recordings.signal_files.empatica import is_empatica, parse_empatica, read_empatica

FILES = {
    "ACC.csv": b"1000.000000, 1000.000000, 1000.000000\n32.000000, 32.000000, 32.000000\n2,10,64\n4,12,-64\n",
    "BVP.csv": b"1000.00\n64.000000\n-0.00\n1.5\n2.5\n",
    "EDA.csv": b"1000.000000\n4.000000\n0.1\n0.2\n",
    "TEMP.csv": b"1001.500000\n4\n34.79\n34.81\n",
    "HR.csv": b"1010.000000\n1.000000\n118.00\n113.50\n",
    "IBI.csv": b"1000.000000, IBI\n4.0,0.6875\n4.9375,0.9375\n",
    "tags_S02.csv": b"1005\r\n1007\r\n",
    "info.txt": b"words",
}


def test_streams_units_and_clocks() -> None:
    session = parse_empatica(FILES, name="S02")
    streams = session.recording.streams
    assert list(streams) == ["acc", "bvp", "eda", "temp", "hr", "ibi"]
    assert session.started == 1000.0
    assert session.tags.tolist() == [5.0, 7.0]
    assert streams["acc"].values.tolist() == [[2 / 64, 10 / 64, 1.0], [4 / 64, 12 / 64, -1.0]]  # g
    assert {name: one.rate for name, one in streams.items()} == {
        "acc": 32.0, "bvp": 64.0, "eda": 4.0, "temp": 4.0, "hr": 1.0, "ibi": None,
    }  # fmt: skip
    assert streams["bvp"].times.tolist() == [0.0, 1 / 64, 2 / 64]
    assert streams["temp"].times.tolist() == [1.5, 1.75]
    assert streams["hr"].times.tolist() == [10.0, 11.0]
    assert streams["ibi"].times.tolist() == [4.0, 4.9375]
    assert streams["ibi"].values[:, 0].tolist() == [0.6875, 0.9375]


def test_a_missing_file_is_an_absent_stream_and_one_without_samples_an_empty_one() -> None:
    files = {name: content for name, content in FILES.items() if name not in ("HR.csv", "tags_S02.csv")}
    session = parse_empatica(files | {"IBI.csv": b"1000.000000, IBI\n"}, name="S02")
    assert "hr" not in session.recording.streams
    assert session.recording.streams["ibi"].values.shape == (0, 1)
    assert session.tags.tolist() == []


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("BVP.csv", b"1000.00\n32.000000\n1\n2\n", r"S02, stream 'bvp' \(BVP.csv\): the rate is 32 Hz.*64 Hz"),
        ("ACC.csv", FILES["ACC.csv"] + b"1,2", r"stream 'acc' \(ACC.csv\): not 3 numbers in every line"),
        ("EDA.csv", FILES["EDA.csv"] + b"0.2x\n", r"stream 'eda' \(EDA.csv\): not 1 numbers"),
        ("EDA.csv", b"", r"stream 'eda'.*the header says ''. Expected the start"),
        ("EDA.csv", b"1000.0\n", r"stream 'eda'.*Expected the rate in Hz"),
        ("EDA.csv", b"start\n4\n1\n", r"stream 'eda'.*'start'"),
        ("EDA.csv", b"1,00E+03\n4\n1\n", r"the header says '1,00E\+03'. Expected the start"),
        ("HR.csv", b"1010.0\n1,0\n80\n", r"the header says '1,0'. Expected the rate"),
        ("IBI.csv", b"1000, IBI\n4.0,0.7\n4.0,0.7\n", r"'ibi' \(IBI.csv\): after sample 0 .* 4.000000 s, is there twice"),
        ("IBI.csv", b"1000, IBI\n4.0,0.7\n5.0,1\n3.0,0.7\n", r"'ibi'.*after sample 1 .*it runs backwards"),
        ("IBI.csv", b"1000, IBI\n4.0,0.7\n5.0", r"stream 'ibi'.*not 2 numbers"),
    ],
)  # fmt: skip
def test_what_the_watch_did_not_write_is_named_and_spoils_nothing_else(file: str, content: bytes, message: str) -> None:
    whole = parse_empatica(FILES, name="S02").recording
    found = parse_empatica(FILES | {file: content}, name="S02").recording
    (doubt,) = found.warnings
    assert doubt.code == "part_left_out"
    assert re.search(message, doubt.message)
    assert set(whole.streams) - set(found.streams) == {file[:-4].lower()}
    for name, stream in found.streams.items():
        np.testing.assert_array_equal(stream.values, whole.streams[name].values)
    with pytest.raises(RecordingError, match=message):
        parse_empatica({file: content}, name="S02")


@pytest.mark.parametrize("damaged", ["TEMP.csv", "ACC.csv", "tags_S02.csv"])
def test_a_damaged_member_of_a_zip_spoils_no_other(damaged: str, tmp_path: Path) -> None:
    path = tmp_path / "S02.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, file in FILES.items():
            archive.writestr(name, file)
    content = path.read_bytes()
    path.write_bytes(content.replace(FILES[damaged], FILES[damaged][:-2] + b"9\n", 1))
    session = read_empatica(path)
    whole = parse_empatica(FILES, name="S02").recording
    assert set(whole.streams) - set(session.recording.streams) == ({damaged[:-4].lower()} & set(whole.streams))
    (doubt,) = session.recording.warnings
    assert doubt.code == "part_left_out"
    assert f"S02.zip, {damaged}, cannot be read (Bad CRC-32" in doubt.message
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("EDA.csv", FILES["EDA.csv"])
    path.write_bytes(path.read_bytes().replace(b"0.2", b"0.3", 1))
    with pytest.raises(RecordingError, match=r"EDA.csv, cannot be read \(Bad CRC-32"):
        read_empatica(path)


def test_what_is_called_as_a_file_and_is_none_or_two_is_named(tmp_path: Path) -> None:
    for place in ("folder", "link", "twice"):
        (tmp_path / place).mkdir()
        for name, content in FILES.items():
            if name != "EDA.csv" or place == "twice":
                (tmp_path / place / name).write_bytes(content)
    (tmp_path / "folder" / "EDA.csv").mkdir()
    (tmp_path / "link" / "EDA.csv").symlink_to(tmp_path / "nowhere")
    (tmp_path / "twice" / "Eda.csv").write_bytes(FILES["EDA.csv"])
    if len(list((tmp_path / "twice").iterdir())) == len(FILES):
        pytest.skip("this file system takes both names for one")
    for place, other in (("folder.zip", "EDA.csv/"), ("twice.zip", "eda.csv"), ("again.zip", "EDA.csv")):
        with zipfile.ZipFile(tmp_path / place, "w") as archive:
            for name, content in FILES.items():
                if name != "EDA.csv" or place != "folder.zip":
                    archive.writestr(name, content)
            if place == "again.zip":
                with pytest.warns(UserWarning, match="Duplicate name"):
                    archive.writestr(other, FILES["EDA.csv"])
            else:
                archive.writestr(other, b"" if other.endswith("/") else FILES["EDA.csv"])
    for place in ("folder", "link", "twice", "folder.zip", "twice.zip", "again.zip"):
        recording = read_empatica(tmp_path / place).recording
        assert list(recording.streams) == ["acc", "bvp", "temp", "hr", "ibi"], place
        (doubt,) = recording.warnings
        assert doubt.code == "part_left_out", place
        assert "eda.csv" in doubt.message.lower(), place


@pytest.mark.parametrize("start", [99991010, 9000, 10])
def test_a_file_of_another_session_is_left_out_whether_it_is_older_or_newer(start: int) -> None:
    found = parse_empatica(FILES | {"HR.csv": f"{start}.0\n1.0\n118\n".encode()}, name="S02").recording
    whole = parse_empatica(FILES, name="S02").recording
    assert set(whole.streams) - set(found.streams) == {"hr"}
    (doubt,) = found.warnings
    assert f"stream 'hr': HR.csv lasts from {start} to {start} and other files from 1000 to 10" in doubt.message
    for name, stream in found.streams.items():
        np.testing.assert_array_equal(stream.times, whole.streams[name].times)


def test_a_zip_without_the_accelerometer_is_a_session_too(tmp_path: Path) -> None:
    path = tmp_path / "one.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("EDA.csv", "TEMP.csv"):
            archive.writestr(f"S02/{name}", FILES[name])
            archive.writestr(f"__MACOSX/S02/{name}", b"")
    assert list(read_empatica(path).recording.streams) == ["eda", "temp"]


def test_a_file_that_was_cut_off_ends_before_the_others() -> None:
    def session(**files: bytes) -> dict[str, bytes]:
        whole = {
            f"{name}.csv": b"1000.0\n%d.0\n" % rate + b"1.25\n" * rate * 120
            for name, rate in (("BVP", 64), ("EDA", 4), ("TEMP", 4))
        }
        return whole | {f"{name}.csv": content for name, content in files.items()}

    whole = session()["EDA.csv"]
    for share in (0.1, 0.4):
        cut = whole[: int(len(whole) * share)].rstrip(b"\n")
        found = parse_empatica(session(EDA=cut), name="S02").recording
        assert "eda" not in found.streams
        assert re.search(
            r"S02, stream 'eda' \(EDA.csv\): ends at .*BVP.csv at 120 s, inside a line", found.warnings[0].message
        )
    # a sensor that failed, and a newline that an editor took away, are no reason to refuse
    assert parse_empatica(session(EDA=whole.rstrip(b"\n")), name="S02").recording.streams["eda"].times[-1] > 119
    found = parse_empatica(session(EDA=b"".join(whole.splitlines(keepends=True)[:200])), name="S02")
    assert len(found.recording.streams["eda"]) == 198
    assert "stream 'eda' (EDA.csv): ends at 49 s, and BVP.csv at 120 s" in found.recording.warnings[0].message


def test_nothing_of_a_session(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match=r"there holds none of ACC.csv"):
        parse_empatica({"readme.txt": b""}, name="there")
    assert not is_empatica(tmp_path)
    (tmp_path / "eda.csv").write_text("time,eda\n0,1\n")
    (tmp_path / "temp.csv").write_text("")
    assert not is_empatica(tmp_path)
    (tmp_path / "acc.csv").write_bytes(FILES["ACC.csv"])
    assert is_empatica(tmp_path)


def test_folder_and_zip(tmp_path: Path) -> None:
    folder = tmp_path / "S02"
    folder.mkdir()
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    one, two = tmp_path / "one.zip", tmp_path / "two.zip"
    for path, folders in ((one, ["Raw/S02"]), (two, ["Raw/S02", "Raw/S03"])):
        with zipfile.ZipFile(path, "w") as archive:
            for inner in folders:
                for name, content in FILES.items():
                    archive.writestr(f"{inner}/{name}", content)
    expected = read_empatica(folder).recording.streams
    for session in (read_empatica(one), read_empatica(two, folder="Raw/S03/")):
        for name, stream in session.recording.streams.items():
            assert np.array_equal(stream.values, expected[name].values)
            assert np.array_equal(stream.times, expected[name].times)
    with pytest.raises(RecordingError, match=r"two.zip holds 2 sessions: Raw/S02, Raw/S03"):
        read_empatica(two)
    one.write_bytes(one.read_bytes()[:200])
    with pytest.raises(RecordingError, match=r"one.zip cannot be read"):
        read_empatica(one)
