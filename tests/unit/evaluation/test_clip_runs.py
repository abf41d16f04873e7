"""Repeated runs: other clips in every run, the same ones every time, and files that score as they should."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from meco_hub.corpora.see import corpus
from meco_hub.corpora.see_scores import score_sequence_files
from meco_hub.corpora.synthetic.eyes import SEE, write_see
from meco_hub.errors import ConfigurationError
from meco_hub.evaluation.predict import RecordingRows, predict_runs, sample_clips, write_runs
from meco_hub.processing.eye_preprocessor import ClipSampling
from meco_hub.processing.preprocessor import RecordingProcessor
from meco_hub.recordings.eye_clips import EyeClip


class Steps(RecordingProcessor):
    """A processor that gives the chosen time steps and the brightness of the first frame."""

    clip_sampling = ClipSampling(sampling="uniform")

    def __init__(self) -> None:
        self.seen: list[tuple[str, tuple[int, ...] | None]] = []

    def __call__(self, clips: list[EyeClip], **kwargs: object) -> dict[str, torch.Tensor]:
        self.seen += [(clip.name, clip.chosen) for clip in clips]
        return {"pixel_values": torch.tensor([clip.chosen for clip in clips], dtype=torch.float32)}


class Knows(torch.nn.Module):
    """A model that says "surprise" where the first step is even, else "fear"."""

    device = torch.device("cpu")

    def forward(self, pixel_values: torch.Tensor) -> SimpleNamespace:
        logits = torch.zeros(len(pixel_values), len(SEE))
        even = pixel_values[:, 0] % 2 == 0
        logits[torch.arange(len(logits)), torch.where(even, SEE.index("surprise"), SEE.index("fear"))] = 3.0
        return SimpleNamespace(logits=logits)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> RecordingRows:
    place = tmp_path_factory.mktemp("see") / "see.zip"
    write_see(place, seed=0, people=3, takes=1, size=16, frames=(18, 24))
    return RecordingRows(corpus, corpus.load(place)["test"])


def test_runs_draw_other_clips_and_always_the_same(rows: RecordingRows) -> None:
    first, again = Steps(), Steps()
    model = Knows()
    runs = predict_runs(model, first, rows, runs=3, progress=False)  # pyright: ignore[reportArgumentType]
    predict_runs(model, again, rows, runs=3, batch_size=2, progress=False)  # pyright: ignore[reportArgumentType]
    assert sorted(first.seen) == sorted(again.seen)
    assert len(runs) == 3
    count = len(rows)
    by_run = [dict(first.seen[start : start + count]) for start in range(0, 3 * count, count)]
    assert by_run[0] != by_run[1] != by_run[2]
    other = Steps()
    predict_runs(model, other, rows, runs=3, seed=1, progress=False)  # pyright: ignore[reportArgumentType]
    assert sorted(first.seen) != sorted(other.seen)


def test_the_files_score_as_the_answers(rows: RecordingRows, tmp_path: Path) -> None:
    processor = Steps()
    runs = predict_runs(Knows(), processor, rows, runs=4, progress=False)  # pyright: ignore[reportArgumentType]
    (tmp_path / "run_99.json").write_text("{}")
    files = write_runs(tmp_path, runs, SEE)
    assert [file.name for file in files] == ["run_00.json", "run_01.json", "run_02.json", "run_03.json"]
    assert sorted(tmp_path.iterdir()) == files
    scores = score_sequence_files(tmp_path)
    truth = {name: name.split("_")[6] for name in rows.sample_ids}
    for run in range(4):
        chosen = dict(processor.seen[run * len(rows) : (run + 1) * len(rows)])
        said = {name: "surprise" if steps and steps[0] % 2 == 0 else "fear" for name, steps in chosen.items()}
        assert scores.war[run] == pytest.approx(np.mean([said[name] == truth[name] for name in truth]))


def test_a_condition_comes_before_the_draw(rows: RecordingRows) -> None:
    def without_events(clip: EyeClip, sample_id: str) -> EyeClip:
        assert clip.chosen is None
        assert sample_id == clip.name
        return clip.without(["events"])

    made = sample_clips(ClipSampling(), 0, before=without_events)(rows[0], rows.sample_ids[0])
    assert made.events is None
    assert len(made.chosen) == 4


def test_processors_that_draw_nothing_are_refused(rows: RecordingRows) -> None:
    with pytest.raises(ConfigurationError, match="no clip_sampling"):
        predict_runs(Knows(), object(), rows, runs=2)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ConfigurationError, match="runs is 0"):
        predict_runs(Knows(), Steps(), rows, runs=0)  # pyright: ignore[reportArgumentType]
