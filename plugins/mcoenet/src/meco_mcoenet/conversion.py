"""Turns a state dict of the authors' code into a folder that `from_pretrained` loads.

    report = convert(Path("release.pth"), Path("converted"), labels="see")

Notable:
- Every entry must be known: those of the network are renamed and put together, those that the authors' code makes and never reads
  are dropped and named in the report, and anything else is an error. As released there are 637.
- Sizes are read off the shapes in the file. What shapes cannot show is the published network's: how many experts
  answer, and head counts, which make no difference in it.
- A file does not say what its classes are called, and the order in the authors' label file is not public. Without `labels`, seven
  classes are taken in alphabetical order, which is a guess, and the report says so.

The names of tensors are in `released_weights.py`.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from huggingface_hub.errors import StrictDataclassError

from meco_hub.conversion import ConversionReport, name_classes, read_state_dict, refuse_unasked, save_converted
from meco_hub.errors import CheckpointError, ConversionError
from meco_hub.reading import reading

from .configuration_mcoenet import DEFAULT_LABELS, MCOENetConfig
from .modeling_mcoenet import MCOENetForEmotionRecognition
from .processing_mcoenet import MCOENetProcessor
from .released_weights import DEAD, config_fields, translate

logger = logging.getLogger(__name__)

PUBLISHED_COUNTS = {
    "frame_backbones": 23_379_024,
    "event_backbones": 23_379_024,
    "joint_scan": 6_224,
    "cross_attention": 120,
    "fusion": 2_049_024,
    "router": 4_729_352,
    "experts": 101_305_402,
}
"""Parameters per block of the published network."""


@dataclass(frozen=True, kw_only=True)
class Report(ConversionReport):
    """What a conversion did.

    Attributes:
        entries: tensors in the file.
        dropped: those that the network never reads.
    """

    entries: int
    dropped: list[str]

    @property
    def origin(self) -> str:
        return f"{self.source} ({self.entries} entries, {len(self.dropped)} of them never read)"


@reading(
    "The file is not a state dict of this network, or is damaged",
    ConversionError,
    "Pass the file that its authors saved.",
)
def convert(
    source: str | Path,
    output_dir: str | Path,
    *,
    labels: str | Sequence[str] | None = None,
    overwrite: bool = False,
) -> Report:
    """Convert a state dict of the authors' code, as `torch.save(model.state_dict(), …)` writes it.

    It may lie under "state_dict", "model_state_dict", "model" or "net", its names may begin with "module.", its numbers may be of
    any precision, and BatchNorm's batch counters may be missing. It is read with `weights_only=True`: code in it is refused.
    Writes config.json, model.safetensors and processor_config.json, all of them or nothing.

    Args:
        source: the file.
        output_dir: the folder to write; must not hold anything, unless `overwrite`.
        labels: "see" for SEE's seven in alphabetical order, or the class names in the order of the outputs, as a list or
            separated by commas.
        overwrite: replace those files in a folder that is there; other files in it stay.

    Raises:
        ConversionError: the file is damaged or of another network (the message names what is missing, too much, or of another
            shape).
        ConfigurationError: the folder is not empty.
    """
    source, output_dir = Path(source), Path(output_dir)
    refuse_unasked(output_dir, overwrite)
    with reading(f"{source} cannot be converted", ConversionError, "Is the file undamaged?"):
        return _convert(source, output_dir, labels, overwrite)


def _convert(source: Path, output_dir: Path, labels: str | Sequence[str] | None, overwrite: bool) -> Report:
    try:
        released = read_state_dict(source)
    except CheckpointError as error:
        raise ConversionError(str(error)) from error
    dropped = [name for name in released if DEAD.search(name)]
    wanted = {name: value for name, value in released.items() if name not in dropped}
    fields = config_fields(source, wanted)
    notes: list[str] = []
    count = fields.pop("num_labels")
    if labels is None and count == len(DEFAULT_LABELS):
        labels = DEFAULT_LABELS
        notes.append(
            "The file does not say what its seven classes are called, and the order of the authors' label file is not public. "
            f"They were taken in alphabetical order, which may be wrong: {', '.join(DEFAULT_LABELS)}. Pass labels (--labels) if "
            "you know better."
        )
    names = name_classes(source, count, labels, {"see": DEFAULT_LABELS}, notes)
    try:
        config = MCOENetConfig(**fields, id2label=dict(enumerate(names)))
    except StrictDataclassError as error:
        raise ConversionError(
            f"{source} describes a network that cannot be: {error}. Is the file undamaged?"
        ) from error
    with torch.device("meta"):
        model = MCOENetForEmotionRecognition(config)
    model.load_state_dict(translate(source, wanted, model.state_dict(), config), assign=True)
    processor = MCOENetProcessor(image_processor={"size": {"shortest_edge": config.image_size}})
    save_converted(model.eval(), processor, output_dir, source, overwrite=overwrite)
    report = Report(
        source=str(source),
        output_dir=str(output_dir),
        entries=len(released),
        dropped=dropped,
        counts=_counts(model),
        published=_published_counts(len(names)),
        labels=names,
        notes=notes,
    )
    for note in report.notes:
        logger.warning("%s: %s", source, note)
    return report


def _counts(model: MCOENetForEmotionRecognition) -> dict[str, int]:
    counts = dict.fromkeys(PUBLISHED_COUNTS, 0)
    for name, parameter in model.named_parameters():
        counts[name.split(".")[1]] += parameter.numel()
    return counts


def _published_counts(num_labels: int) -> dict[str, int]:
    # per label: a row and a bias in three focal (512), three attention (1024) and two deep (1024) experts
    change = (num_labels - 7) * (3 * 513 + 3 * 1025 + 2 * 1025)
    return {**PUBLISHED_COUNTS, "experts": PUBLISHED_COUNTS["experts"] + change}
