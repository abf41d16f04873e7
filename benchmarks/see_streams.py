"""What frames and events are worth, each by itself and both, under each light: on SEE or on its synthetic look-alike.

    python -c "from meco_hub.corpora.synthetic.eyes import write_see; write_see('see_synthetic.zip', seed=0, people=40, takes=3)"
    python benchmarks/see_streams.py --data_dir see_synthetic.zip --output_dir out/see_streams

Three trainings by one recipe, which differ in the streams that the processor shows, each evaluated by twenty runs over the recipe's
test part. Then the network that was trained on both, tried without one of them: a camera that fails unnoticed (black frames, event
pictures without events), and a stream that is known to be missing (the mean picture in its place). Trainings that are finished are
not repeated.
"""

import argparse
from pathlib import Path
from typing import Any

from meco_hub import plugins
from meco_hub.answers import task_of_model
from meco_hub.corpora.see_scores import score_sequence_sets, table
from meco_hub.evaluation.conditions import AppliedCondition, conditions_for
from meco_hub.evaluation.predict import RecordingRows, predict_runs, write_runs
from meco_hub.loading import load_model, load_processor
from meco_hub.train import main as train
from meco_hub.training.recipes import load_recipe

STREAMS = {"both": ["frames", "events"], "frames": ["frames"], "events": ["events"]}
LOST = {
    "black_frames": "frames_missing/1",
    "no_events": "events_missing/1",
    "frames_missing": "missing/frames",
    "events_missing": "missing/events",
}
"""Row of the table → the condition under which the network of both streams is tried."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="meco_mcoenet/see_synthetic")
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--output_dir", required=True, type=Path)
    parser.add_argument("--runs", type=int, default=20)
    arguments = parser.parse_args()
    data = load_recipe(arguments.recipe).data
    corpus = plugins.corpus(data.corpus)
    rows = RecordingRows(corpus, corpus.load(arguments.data_dir, **data.options)["test"])
    folders = []
    for name, streams in STREAMS.items():
        folder = arguments.output_dir / name
        if not (folder / "run.json").is_file():
            where = ["--data_dir", arguments.data_dir, "--output_dir", str(folder), "--overwrite_output_dir"]
            shown = ["--set", f"processor.streams=[{','.join(streams)}]"]
            if train(["--recipe", arguments.recipe, *where, *shown, "--no_progress"]):
                raise SystemExit(f"The training for {name} did not finish; see above.")
        folders += answer(folder, rows, arguments.runs, {name: None} | (dict(LOST) if name == "both" else {}))
    print(table(score_sequence_sets(folders)))


def answer(folder: Path, rows: RecordingRows, runs: int, tried: dict[str, str | None]) -> list[Path]:
    """Write the runs of one checkpoint under every condition; the folders are named as the rows of the table."""
    model, processor = load_model(str(folder)), load_processor(str(folder))
    written = []
    for name, lost in tried.items():
        condition: Any = None
        if lost is not None:
            known: dict[str, Any] = {"dataset": "see", "protocol": "", "seed": 0, "subjects": {}, "streams": ()}
            condition = AppliedCondition(conditions_for("eye", [lost])[0], **known)
            model.config.missing_modality = processor.missing_modality = "zeros"
        found = predict_runs(model, processor, rows, runs=runs, condition=condition, progress=False)
        write_runs(folder / "runs" / name, found, task_of_model(model).names)
        written.append(folder / "runs" / name)
    return written


if __name__ == "__main__":
    main()
