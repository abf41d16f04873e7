"""`meco synthetic`: a seeded look-alike of a corpus, in its layout on disk, with nothing of its content.

This file knows which writer draws which corpus.
"""

import argparse
import inspect
from pathlib import Path
from typing import Any

from ..errors import ConfigurationError, MecoError, unknown_name
from . import Commands, print_json

_WRITERS = {
    "affectnet": "meco_hub.corpora.synthetic:write_affectnet",
    "case": "meco_hub.corpora.synthetic_signals:write_case_npz",
    "deap": "meco_hub.corpora.synthetic_signals:write_deap",
    "dreamer": "meco_hub.corpora.synthetic_signals:write_dreamer",
    "fer2013": "meco_hub.corpora.synthetic:write_fer2013_folders",
    "image_folder": "meco_hub.corpora.synthetic:write_image_folder",
    "raf_db": "meco_hub.corpora.synthetic:write_raf_db",
    "see": "meco_hub.corpora.synthetic_see:write_see",
    "stress_predict": "meco_hub.corpora.synthetic_wristband:write_stress_predict",
}


def add(commands: Commands) -> None:
    """Declare the command and its flags."""
    parser = commands.add(
        "synthetic",
        _run,
        "Write a synthetic look-alike of a corpus: its layout and file names, drawn faces, eyes or signals, no person.",
    )
    parser.add_argument("corpus", help=", ".join(_WRITERS))
    parser.add_argument("output", type=Path, help="a folder that is new or empty, or a path that ends in .zip")
    parser.add_argument("--seed", type=int, default=0, help="the same seed writes the same bytes (0)")
    parser.add_argument("--people", type=int, help="how many people are drawn, where the corpus tells them apart")


def _run(arguments: argparse.Namespace) -> int:
    from ..plugins import load_dotted

    if arguments.corpus not in _WRITERS:
        raise unknown_name("synthetic look-alike", arguments.corpus, _WRITERS)
    write: Any = load_dotted(_WRITERS[arguments.corpus])
    options: dict[str, Any] = {"seed": arguments.seed}
    if arguments.people is not None:
        if "people" not in inspect.signature(write).parameters:
            raise ConfigurationError(f"{arguments.corpus} does not tell people apart. Leave --people out.")
        options["people"] = arguments.people
    if arguments.people is not None and arguments.people < 1:
        raise ConfigurationError(f"--people is {arguments.people}; expected 1 or more.")
    try:
        drawn = write(arguments.output, **options)
    except OSError as error:
        raise MecoError(
            f"{arguments.output} cannot be written: {error}. Expected a place with room and leave to write."
        ) from error
    if arguments.json:
        print_json(
            {
                "synthetic": True,
                "corpus": arguments.corpus,
                "output": str(arguments.output),
                "seed": arguments.seed,
                "samples": len(drawn),
            }
        )
        return 0
    print(
        f"Wrote a synthetic look-alike of {arguments.corpus}, {len(drawn)} samples, seed {arguments.seed}, to {arguments.output}. "
        'It shows nobody: what is trained on it must say "synthetic" wherever its name or a figure of it appears.'
    )
    return 0
