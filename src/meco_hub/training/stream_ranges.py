"""Write into a checkpoint's processor what the streams of its training are like: names and units of channels, rate, range.

    python -m meco_hub.training.stream_ranges CHECKPOINT_FOLDER --dataset case --data_dir case_20hz.npz

A training does this by itself (`SignalWindower.fit`); this is for checkpoints that were trained before it did. Nothing that a model
answers depends on it. The people that the recipe trained on are those of its folds.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from .. import plugins
from ..errors import ConfigurationError
from ..evaluation.predict import RecordingRows
from ..loading import load_processor
from ..processing.signal_windower import SignalWindower
from .recipes import read_recipe_file

logger = logging.getLogger(__name__)


def write_ranges(folder: Path, dataset: str, data_dir: Path) -> SignalWindower:
    """Fit the processor of a checkpoint to its training data again, and save it.

    Args:
        folder: of the checkpoint, with its recipe.
        dataset: name of the corpus.
        data_dir: where it lies.

    Raises:
        ConfigurationError: the checkpoint reads no signals, or normalises by statistics of training, which must not change.
    """
    processor = load_processor(str(folder))
    if not isinstance(processor, SignalWindower) or processor.normalization == "population":
        raise ConfigurationError(
            f"{folder} is read by a {type(processor).__name__}; expected a SignalWindower that normalises by the person."
        )
    data = read_recipe_file(str(folder / "recipe.yaml"))["data"]
    corpus = plugins.corpus(dataset)
    split = corpus.load(data_dir, **data.get("options", {}))[data["train"]["split"]]
    seen = [row for row, fold in enumerate(split["fold"]) if fold in data["train"]["folds"]]
    rows = RecordingRows(corpus, split)
    processor.fit(rows[row] for row in seen)
    processor.save_pretrained(folder)
    return processor


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it for one checkpoint."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--data_dir", type=Path, required=True)
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for one in write_ranges(given.checkpoint, given.dataset, given.data_dir).modality_list():
        logger.info("%s: %s %s %s", one.name, one.channel_names, one.units, one.trained_on)
    return 0


if __name__ == "__main__":
    sys.exit(main())
