"""eye_folder: own clips with a csv of labels, people kept apart, mistakes named by line."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from meco_hub.corpora.eye_folder import corpus
from meco_hub.corpora.leaks import fingerprint, leak_check
from meco_hub.corpora.splits import by_fold
from meco_hub.corpora.synthetic.eyes import write_see
from meco_hub.errors import ConfigurationError, LeakError, MecoError

Make = Callable[..., Path]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, Path]]:
    """Folders of frames and of event pictures, clip by clip."""
    folder = tmp_path_factory.mktemp("eyes")
    write_see(folder / "see", seed=0, people=2)
    root = next((folder / "see").rglob("frame")).parent
    frames = sorted(one for one in (root / "frame").glob("*/*") if one.is_dir())[:4]
    return [(one, root / "event" / one.relative_to(root / "frame")) for one in frames]


@pytest.fixture
def make(drawn: list[tuple[Path, Path]], tmp_path: Path) -> Make:
    """Four clips as c0/frame and c0/event, with the csv that is given."""

    def write(csv: str) -> Path:
        for number, sides in enumerate(drawn):
            for side, folder in zip(("frame", "event"), sides, strict=True):
                shutil.copytree(folder, tmp_path / "mine" / "clips" / f"c{number}" / side)
        (tmp_path / "mine" / "labels.csv").write_text(csv, encoding="utf-8")
        return tmp_path / "mine"

    return write


CSV = "clip,label,person,light\n" + "".join(
    f"clips/c{n},{('happy', 'sad')[n % 2]},P{n},{('day', 'night')[n // 2]}\n" for n in range(4)
)


def test_clips_with_their_labels(make: Make) -> None:
    folder = make(CSV)
    splits = corpus.load(folder, groups=["light"], folds=2)
    rows = splits["all"]
    assert rows.features["label"].names == ["happiness", "sadness"]
    assert [(row["sample_id"], row["identity"], row["light"]) for row in rows][1] == ("clips/c1", "P1", "day")
    assert set(rows["fold"]) == {0, 1}
    assert corpus.declared_in(folder, groups=["light"]).groups == ("light",)
    clip = corpus.read(rows[0])
    assert clip.frames is not None
    assert clip.events is not None
    assert len(clip.frames) == len(clip.events) > 0
    leak_check(*by_fold(rows, [0]))
    assert len(fingerprint(rows)) == 64


def test_frames_and_events_that_lie_apart(make: Make) -> None:
    folder = make(CSV)
    lines = ["clip;label;person;frames;events;frames_per_second"]
    lines += [f"c{n};calm;P{n};clips/c{n}/frame;clips/c{n}/event;29,97" for n in range(4)]
    (folder / "labels.csv").write_bytes(b"\xef\xbb\xbf" + "\n".join(lines).encode())
    rows = corpus.load(folder)["all"]
    clip = corpus.read(rows[2])
    assert clip.name == "c2"
    assert clip.frame_times is not None
    assert clip.frame_times[1] == round(1e6 / 29.97)


def test_a_copied_clip_is_a_leak(make: Make) -> None:
    folder = make(CSV)
    shutil.rmtree(folder / "clips" / "c3")
    shutil.copytree(folder / "clips" / "c0", folder / "clips" / "c3")
    rows = corpus.load(folder, groups=["light"])["all"]
    with pytest.raises(LeakError, match="clips/c0 = clips/c3"):
        leak_check(rows.select([0, 1]), rows.select([2, 3]))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (("light", "lihgt"), r"column 'lihgt', which nobody reads\. Did you mean 'light'"),
        (("clips/c1", "clips/c9"), r"line 3: clips/c9 is not in "),
        (("clips/c1,sad,P1,day\n", ""), r"holds clips/c1, which labels\.csv does not list"),
        (("clips/c1,", "clips/c0,"), r"names clips twice: clips/c0"),
        (("P3", "p2"), r"names 'P2' and 'p2', which are one person"),
        (("sad,P1", ",P1"), r"line 3: the cell of 'label' is empty"),
        (("sad,P1", "sad,"), r"line 3: the cell of 'person' is empty"),
    ],
)
def test_mistakes_are_named(make: Make, change: tuple[str, str], complaint: str) -> None:
    assert change[0] in CSV
    with pytest.raises(MecoError, match=complaint):
        corpus.load(make(CSV.replace(*change)), groups=["light"])


def test_clips_without_a_stream_are_named(make: Make) -> None:
    folder = make(CSV)
    shutil.rmtree(folder / "clips" / "c2" / "event")
    with pytest.raises(MecoError, match=r"line 4: .*c2 is a folder without a second stream"):
        corpus.load(folder, groups=["light"])


def test_options_that_make_no_sense(make: Make) -> None:
    folder = make(CSV)
    with pytest.raises(ConfigurationError, match="groups is 'light'"):
        corpus.load(folder, groups="light")
    with pytest.raises(ConfigurationError, match="folds 1"):
        corpus.load(folder, groups=["light"], folds=1)
