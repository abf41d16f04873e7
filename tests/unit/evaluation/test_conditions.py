"""Conditions of pictures, eye clips and signals: unchanged at 0, worse with strength, the same in every process."""

from typing import Any

import numpy as np
import pytest
from PIL import Image

from meco_hub.errors import ConfigurationError, InputError, UnknownNameError
from meco_hub.evaluation.conditions import ALL, AppliedCondition, Condition, conditions_for
from meco_hub.evaluation.image_conditions import image_conditions
from meco_hub.evaluation.stream_conditions import clip_conditions
from meco_hub.recordings.event_recording import EventRecording
from meco_hub.recordings.eye_clips import EyeClip
from meco_hub.recordings.signal_recording import SignalRecording, Stream

STEPS = 6


def picture(mode: str = "RGB", size: tuple[int, int] = (56, 64), seed: int = 0) -> Image.Image:
    """Smooth shapes with some texture: what blur, noise and blocks each have something to take from."""
    width, height = size
    x, y = np.meshgrid(np.linspace(0, 6, width), np.linspace(0, 6, height))
    base = 120 + 60 * np.sin(x) * np.cos(y) + np.random.default_rng(seed).normal(0, 8, (height, width))
    colours = np.stack([base, base + 20, base - 20], axis=-1) if mode == "RGB" else base
    return Image.fromarray(np.clip(colours, 0, 255).astype(np.uint8))


def applied(condition: Condition, seed: int = 0) -> AppliedCondition:
    return AppliedCondition(condition, dataset="d", protocol="", seed=seed, subjects={"a": "s"}, streams=())


def families(grid: dict[str, Condition]) -> dict[str, list[Condition]]:
    found: dict[str, list[Condition]] = {}
    for one in grid.values():
        found.setdefault(one.family, []).append(one)
    return found


def distance(first: Image.Image, second: Image.Image) -> float:
    return float(np.abs(np.asarray(first, np.float64) - np.asarray(second, np.float64)).mean())


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_pictures_are_unchanged_at_0_and_worse_with_strength(mode: str) -> None:
    clean = picture(mode)
    before = clean.tobytes()
    for family, curve in families(image_conditions()).items():
        results = [applied(one)(clean, "a") for one in curve]
        if family == "size":  # its curve is over the pixels that are left, and has no 0
            results = [clean, *results]
        else:
            assert curve[0].unchanged
            assert curve[0].value == 0
        assert not any(one.unchanged for one in curve[1:])
        assert results[0].tobytes() == before, family
        assert all((one.mode, one.size) == (mode, clean.size) for one in results), family
        away = [distance(one, clean) for one in results]
        assert all(later > 0 for later in away[1:]), (family, away)
        assert len(away) == 2 or away[-1] > away[1], (family, away)
    assert clean.tobytes() == before


def test_handling_moves_turns_mirrors_frames_dims_and_scales_as_the_names_say() -> None:
    grid, clean = image_conditions(), picture("L", size=(48, 48))
    pixels = np.asarray(clean, np.float64)

    def under(name: str) -> np.ndarray:
        return np.asarray(applied(grid[name])(clean, "a"), np.float64)

    moved = under("shift/4")
    inside = [
        np.abs(moved[8:-8, 8:-8] - np.roll(pixels, (4 * down, 4 * across), (0, 1))[8:-8, 8:-8]).max()
        for down in (-1, 0, 1)
        for across in (-1, 0, 1)
        if down or across
    ]
    assert min(inside) == 0
    assert np.array_equal(under("mirror/1"), pixels[:, ::-1])
    assert np.abs(under("brightness/0.6") - 0.4 * pixels).max() <= 0.5
    framed = under("border/0.2")
    assert np.ptp(framed[:9]) == np.ptp(framed[:, :9]) == 0 < np.ptp(framed[10:38, 10:38])
    assert np.array_equal(under("size/48"), pixels)  # it has no more than that
    steep = Image.fromarray(np.tile(np.arange(0, 240, 5, dtype=np.uint8), (48, 1)))
    turned = np.asarray(applied(grid["rotation/30"])(steep, "a"), np.float64)
    down, across = (array[20:28, 20:28].mean() for array in np.gradient(turned))
    assert np.degrees(np.arctan2(abs(down), across)) == pytest.approx(30, abs=1)
    assert turned[20:28, 20:28].mean() == pytest.approx(np.asarray(steep)[20:28, 20:28].mean(), abs=4)


def test_what_a_picture_suffers_follows_from_names_alone() -> None:
    clean = picture()
    for condition in image_conditions().values():
        first = applied(condition)(clean, "a").tobytes()
        assert applied(condition)(clean, "a").tobytes() == first
    for name in ("low_light/4", "noise/16", "occlusion/random/0.2", "hdr/4", "motion_blur/12"):
        condition = image_conditions()[name]
        assert applied(condition)(clean, "a").tobytes() != applied(condition)(clean, "b").tobytes(), name
        assert applied(condition)(clean, "a").tobytes() != applied(condition, seed=1)(clean, "a").tobytes(), name


def test_pictures_fail_in_the_way_that_the_names_say() -> None:
    grid, clean, flat = image_conditions(), picture(), Image.new("RGB", (64, 64), (120, 120, 120))

    def result(name: str, image: Image.Image = clean) -> Any:
        return np.asarray(applied(grid[name])(image, "a"), np.float64)

    assert result("low_light/8").mean() < result("low_light/4").mean() < np.asarray(clean).mean()
    # of a grey wall nothing is left but noise, and it grows as photons become fewer
    assert result("low_light/2", flat).std() < result("low_light/6", flat).std()
    assert (result("overexposure/4") == 255).mean() > 0.5
    sides = result("hdr/8", flat)
    assert sides.max() == 255
    assert sides.min() < 50
    assert result("noise/32", flat).std() == pytest.approx(32, rel=0.05)
    assert result("blur/4").std() < result("blur/1").std() < np.asarray(clean).std()
    assert len(np.unique(result("low_resolution/4", flat))) == 1
    for name, share in (("occlusion/eyes/0.3", 0.3), ("occlusion/mouth/0.3", 0.3), ("occlusion/random/0.3", 0.3)):
        changed = (np.asarray(clean) != result(name)).any(axis=-1).mean()
        assert changed == pytest.approx(share, abs=0.03), name
    rows = np.flatnonzero((np.asarray(clean) != result("occlusion/mouth/0.2")).any(axis=(1, 2)))
    assert rows.mean() / clean.height == pytest.approx(0.76, abs=0.02)


def test_a_picture_of_another_mode_is_refused() -> None:
    with pytest.raises(InputError, match="RGBA"):
        applied(image_conditions()["blur/2"])(Image.new("RGBA", (16, 16)), "a")


@pytest.mark.parametrize("form", ["pictures", "raw"])
def test_clips_are_unchanged_at_0(form: str) -> None:
    clip = eye_clip(form)
    for condition in clip_conditions().values():
        if condition.unchanged:
            changed = applied(condition)(clip, "a")
            assert all(
                one.tobytes() == other.tobytes() for one, other in zip(frames_of(changed), frames_of(clip), strict=True)
            ), condition.name
            assert events_of(changed) == events_of(clip), condition.name


def eye_clip(form: str) -> EyeClip:
    generator = np.random.default_rng(0)
    frames = np.stack([np.asarray(picture("L", (40, 30), seed)) for seed in range(STEPS)])
    times = np.arange(STEPS, dtype=np.int64) * 33_000
    if form == "raw":
        t = np.sort(generator.integers(-20_000, 170_000, 400))
        events: Any = EventRecording.from_arrays(
            generator.integers(40, size=400), generator.integers(30, size=400), t, generator.integers(2, size=400),
            width=40, height=30,
        )  # fmt: skip
    else:
        events = np.full((STEPS, 30, 40, 3), 128, np.uint8)
        for step in range(STEPS):
            events[step, step, :20] = (255, 0, 0)
    return EyeClip(frames, events, times, name="clip")


def frames_of(clip: EyeClip) -> list[Image.Image]:
    assert clip.frames is not None
    return clip.frames.read(range(len(clip)))


def events_of(clip: EyeClip) -> list[bytes]:
    if isinstance(clip.events, EventRecording):
        return [getattr(clip.events, column).tobytes() for column in "xytp"]
    assert clip.events is not None
    return [one.tobytes() for one in clip.events.read(range(len(clip)))]


@pytest.mark.parametrize("form", ["pictures", "raw"])
def test_light_and_focus_touch_frames_only_and_the_others_events(form: str) -> None:
    clip = eye_clip(form)
    for family, curve in families(clip_conditions()).items():
        if family == "missing":
            continue
        worst = applied(curve[-1])(clip, "a")
        same_frames = all(
            one.tobytes() == other.tobytes() for one, other in zip(frames_of(worst), frames_of(clip), strict=True)
        )
        same_events = events_of(worst) == events_of(clip)
        of_events = family in ("events_missing", "event_noise", "time_offset")
        assert (same_frames, same_events) == (of_events, not of_events), family


@pytest.mark.parametrize("form", ["pictures", "raw"])
def test_a_missing_stream_is_absent_and_the_other_is_as_it_was(form: str) -> None:
    clip = eye_clip(form).at([0, 2])
    blind = applied(clip_conditions()["missing/frames"])(clip, "a")
    assert blind.frames is None
    assert events_of(blind) == events_of(clip)
    still = applied(clip_conditions()["missing/events"])(clip, "a")
    assert still.events is None
    assert [one.tobytes() for one in frames_of(still)] == [one.tobytes() for one in frames_of(clip)]
    assert blind.chosen == still.chosen == (0, 2)
    assert [one.name for one in conditions_for("eye", ["missing"])] == ["missing/frames", "missing/events"]


def test_a_time_step_suffers_the_same_whoever_is_read_with_it() -> None:
    clip = eye_clip("pictures")
    for name in (
        "noise/32",
        "low_light/6",
        "event_noise/0.05",
        "frames_missing/0.5",
        "time_offset/2",
        "occlusion/random/0.2",
    ):
        changed = applied(clip_conditions()[name])(clip, "a")
        for stream in (changed.frames, changed.events):
            whole = stream.read(range(STEPS))
            assert [one.tobytes() for one in stream.read([4, 1])] == [whole[4].tobytes(), whole[1].tobytes()], name
    # what covers the eye stays where it is; the sensor's noise does not
    grey = EyeClip(np.full((2, 30, 40), 100, np.uint8), None, name="grey")
    first, second = frames_of(applied(clip_conditions()["occlusion/random/0.2"])(grey, "a"))
    assert first.tobytes() == second.tobytes()
    first, second = frames_of(applied(clip_conditions()["noise/16"])(grey, "a"))
    assert first.tobytes() != second.tobytes()


def test_cameras_that_fail_and_lag() -> None:
    clip, grid = eye_clip("pictures"), clip_conditions()
    black = frames_of(applied(grid["frames_missing/1"])(clip, "a"))
    assert all(not np.asarray(one).any() for one in black)
    empty = applied(grid["events_missing/1"])(clip, "a").events.read(range(STEPS))
    assert all((np.asarray(one) == 128).all() for one in empty)
    noisy = np.stack([np.asarray(one) for one in applied(grid["event_noise/0.1"])(clip, "a").events.read(range(STEPS))])
    false = (noisy != np.stack([np.asarray(one) for one in clip.events.read(range(STEPS))])).any(axis=-1)  # pyright: ignore
    assert false.mean() == pytest.approx(0.1, abs=0.02)
    late, own = events_of(applied(grid["time_offset/2"])(clip, "a")), events_of(clip)
    assert late == [own[0], own[0], *own[: STEPS - 2]]

    raw = eye_clip("raw")
    assert isinstance(raw.events, EventRecording)
    assert (applied(grid["time_offset/2"])(raw, "a").events.t - raw.events.t == 66_000).all()
    assert len(applied(grid["events_missing/1"])(raw, "a").events) == 1
    more = applied(grid["event_noise/0.05"])(raw, "a").events
    assert len(more) - len(raw.events) == round(0.05 * 40 * 30 * STEPS)
    assert (np.diff(more.t) >= 0).all()
    # so far away that the clocks would part: as far as they still meet
    far = applied(grid["time_offset/8"])(raw, "a").events
    assert far.t[0] <= 165_000


def signals() -> SignalRecording:
    times = np.arange(256) / 64.0
    values = np.random.default_rng(0).normal(size=(256, 2)).astype(np.float32)
    streams = {name: Stream(values, times, 64.0, ("a", "b")) for name in ("eeg", "ecg", "gsr")}
    return SignalRecording(streams, start=0.0, end=4.0)


def test_signals_that_are_called_unchanged_are() -> None:
    names, clean = ["eeg", "ecg", "gsr"], signals()
    for condition in conditions_for("signals", [ALL], streams=names):
        if condition.unchanged:
            under = applied(condition)
            changed = under.on_clip(under(clean, "a"), "a", 3)
            assert list(changed.streams) == names, condition.name
            for name in names:
                for column in ("values", "times"):
                    same = np.array_equal(
                        getattr(changed.streams[name], column), getattr(clean.streams[name], column), equal_nan=True
                    )
                    assert same, condition.name


def test_streams_that_are_there_are_counted() -> None:
    (condition,) = conditions_for("signals", ["missing/0.8"], streams=["eeg", "ecg", "gsr"])
    count = AppliedCondition(condition, dataset="d", protocol="P2", seed=0, subjects={}, streams=["eeg", "ecg", "gsr"])
    left = [sorted(count.on_clip(count(signals(), "a"), "a", window).streams) for window in range(50)]
    assert count.possible == 150
    assert count.present == sum(map(len, left))
    assert min(map(len, left)) == 1  # one always stays
    assert len({tuple(one) for one in left}) > 2  # windows are drawn one by one
    again = AppliedCondition(condition, dataset="d", protocol="P2", seed=0, subjects={}, streams=())
    assert [sorted(again.on_clip(signals(), "a", window).streams) for window in range(50)] == left


def lost(reads: list[str], corpus: list[str], *, unread: list[str] | None = None) -> list[set[str]]:
    """Which of its streams a model loses in each of many windows, of a corpus of three streams."""
    (condition,) = conditions_for("signals", ["missing/0.8"], streams=reads, corpus_streams=corpus)
    known: dict[str, Any] = {"dataset": "d", "protocol": "P2", "seed": 0, "subjects": {}}
    under = AppliedCondition(condition, **known, streams=reads, unread=unread or [])
    whole = under(signals().without(unread or []), "a")
    clip = whole.without(set(whole.streams) - set(reads))  # what a processor leaves of it
    return [set(reads) - set(under.on_clip(clip, "a", window).streams) for window in range(400)]


def test_every_model_loses_the_same_streams_of_a_corpus() -> None:
    everything = ["eeg", "ecg", "gsr"]
    whole, pair, alone = lost(everything, everything), lost(["gsr", "eeg"], everything), lost(["eeg"], everything)
    assert [one & {"eeg", "gsr"} for one in whole] == pair
    assert [one & {"eeg"} for one in whole] == alone
    assert sum(map(bool, alone)) / 400 == pytest.approx(0.8 - 0.8**3 / 3, abs=0.07)
    assert all(len(one) < 3 for one in whole)  # one of the corpus's streams stays
    # rows that were loaded for this model, without the others, are of people who wore them all the same
    assert lost(["eeg"], everything, unread=["ecg", "gsr"]) == alone
    assert lost(["eeg"], ["eeg"]) == [set()] * 400  # who wore one sensor only keeps it


def test_what_changes_clips_is_done_after_the_cut_and_all_else_before_it() -> None:
    def hooks(kind: str, name: str) -> set[str]:
        streams = ["eeg", "ecg"] if kind == "signals" else []
        (condition,) = conditions_for(kind, [name], streams=streams)
        return set(applied(condition).hooks)

    assert hooks("face", "blur/2") == hooks("eye", "missing/frames") == {"condition"}
    # the whole recording is looked at all the same: which streams it has decides which one stays
    both = {"condition", "clip_condition"}
    assert hooks("signals", "missing/0.5") == hooks("signals", "blocks/0.3") == hooks("signals", "present/eeg") == both
    for name in ("delay-unknown/all/2", "delay-known/ecg/1", "decimation/4", "jitter/0.05"):
        assert hooks("signals", name) == {"condition"}, name
    assert hooks("signals", "combined") == {"condition", "clip_condition"}
    (delay,) = conditions_for("signals", ["delay-unknown/all/2"], streams=["eeg"])
    count = AppliedCondition(delay, dataset="d", protocol="", seed=0, subjects={}, streams=["eeg", "ecg"])
    count(signals().without(["ecg"]), "a")
    assert (count.present, count.possible) == (1, 2)


def test_names_choose_families_parts_of_them_and_points() -> None:
    assert [one.name for one in conditions_for("face", ["blur/2", "blur/2"])] == ["blur/2"]
    assert {one.family for one in conditions_for("face", ["occlusion"])} == {
        "occlusion/eyes", "occlusion/mouth", "occlusion/random",
    }  # fmt: skip
    assert {one.family for one in conditions_for("face", ["occlusion/eyes", "noise"])} == {"occlusion/eyes", "noise"}
    assert len(conditions_for("face", [ALL])) == len(image_conditions())
    assert {one.family for one in conditions_for("signals", ["delay-known"], streams=["x"])} == {
        "delay-known/all", "delay-known/x",
    }  # fmt: skip
    assert {one.family for one in conditions_for("eye", ["occlusion"])} == {"occlusion/random"}


def test_names_that_choose_nothing_are_refused() -> None:
    with pytest.raises(UnknownNameError, match=r"Did you mean 'low_light'.*motion_blur"):
        conditions_for("face", ["lowlight"])
    with pytest.raises(UnknownNameError, match="blur/2"):
        conditions_for("face", ["blur/3"])
    with pytest.raises(ConfigurationError, match="signals"):
        conditions_for("face", ["missing"])
    with pytest.raises(ConfigurationError, match="face and eye"):
        conditions_for("signals", ["low_light"], streams=["x"])
    with pytest.raises(ConfigurationError, match="modality_names"):
        conditions_for("signals", ["missing"])
    with pytest.raises(UnknownNameError, match="kind"):
        conditions_for("faces", ["blur"])
