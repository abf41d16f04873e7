"""Turns a state dict of the authors' code into a folder that `from_pretrained` loads.

    report = convert(Path("release.pth"), Path("converted"), labels="see")

Notable:
- Every entry must be known: those of the network are renamed and put together, those that the authors' code makes and never reads
  are dropped and named in the report, and anything else is an error. As released there are 637.
- Sizes are read off the shapes in the file. What shapes cannot show is the published network's: how many experts
  answer, and head counts, which make no difference in it.
- A file does not say what its classes are called, and the order in the authors' label file is not public. Without `labels`, seven
  classes are taken in alphabetical order, which is a guess, and the report says so.

This file knows what is asked for and what is written; the names of tensors are in `released_weights.py`.
"""

import logging
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError

from meco_hub.errors import CheckpointError, ConversionError
from meco_hub.labels import canonical

from .configuration_mcoenet import DEFAULT_LABELS, MCOENetConfig
from .modeling_mcoenet import MCOENetForEmotionRecognition
from .released_weights import DEAD, config_fields, translate
from .weight_files import read_state_dict

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


@dataclass(frozen=True)
class Report:
    """What a conversion did.

    Attributes:
        source, output_dir: from where, to where.
        entries: tensors in the file.
        dropped: those that the network never reads.
        counts: parameters in each block.
        published: the same for the published network with as many labels.
        labels: class names in the order of the outputs.
        notes: what was assumed because the file does not say it.
    """

    source: str
    output_dir: str
    entries: int
    dropped: list[str]
    counts: dict[str, int]
    published: dict[str, int]
    labels: list[str]
    notes: list[str]

    @property
    def is_published_size(self) -> bool:
        """Whether every block has as many parameters as in the published network."""
        return self.counts == self.published

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for JSON."""
        return {**asdict(self), "total": sum(self.counts.values()), "is_published_size": self.is_published_size}

    def __str__(self) -> str:
        lines = [f"{self.source} ({self.entries} entries, {len(self.dropped)} of them never read) → {self.output_dir}"]
        for block, count in self.counts.items():
            same = count == self.published[block]
            lines.append(f"  {block:<21}{count:>12,}" + ("" if same else f"  (published: {self.published[block]:,})"))
        published = " = published" if self.is_published_size else ""
        lines.append(f"  {'total':<21}{sum(self.counts.values()):>12,}{published}")
        lines.append(f"  labels: {', '.join(self.labels)}")
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes)])


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
            shape), or the folder is not empty.
    """
    source, output_dir = Path(source), Path(output_dir)
    if output_dir.exists() and not (output_dir.is_dir() and (overwrite or not any(output_dir.iterdir()))):
        raise ConversionError(
            f"{output_dir} exists and is not an empty folder; expected a new one. Choose another, or pass overwrite=True "
            "(--overwrite) to replace the model in it."
        )
    try:
        released = read_state_dict(source)
    except CheckpointError as error:
        raise ConversionError(str(error)) from error
    dropped = [name for name in released if DEAD.search(name)]
    wanted = {name: value for name, value in released.items() if name not in dropped}
    fields = config_fields(source, wanted)
    notes: list[str] = []
    names = _class_names(source, fields.pop("num_labels"), labels, notes)
    try:
        config = MCOENetConfig(**fields, id2label=dict(enumerate(names)))
    except StrictDataclassError as error:
        raise ConversionError(
            f"{source} describes a network that cannot be: {error}. Is the file undamaged?"
        ) from error
    with torch.device("meta"):
        model = MCOENetForEmotionRecognition(config)
    model.load_state_dict(translate(source, wanted, model.state_dict(), config), assign=True)
    _write(model.eval(), config, output_dir)
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


def _class_names(source: Path, count: int, labels: str | Sequence[str] | None, notes: list[str]) -> list[str]:
    if labels is None and count == len(DEFAULT_LABELS):
        notes.append(
            "The file does not say what its seven classes are called, and the order of the authors' label file is not public. "
            f"They were taken in alphabetical order, which may be wrong: {', '.join(DEFAULT_LABELS)}. Pass labels (--labels) if "
            "you know better."
        )
        return list(DEFAULT_LABELS)
    if labels is None:
        notes.append(
            f"The file does not say what its {count} classes are called, so they are named LABEL_0 … LABEL_{count - 1}. "
            "Pass labels (--labels): a list."
        )
        return [f"LABEL_{index}" for index in range(count)]
    if isinstance(labels, str):
        labels = DEFAULT_LABELS if labels == "see" else labels.split(",")
    names = [str(name).strip() for name in labels]
    if len(names) != count or len(set(names)) != count or not all(names):
        raise ConversionError(
            f"labels gives {len(names)} names ({', '.join(names)}), and {source} has {count} outputs; expected as many different "
            "names, or 'see' for seven. Correct labels (--labels)."
        )
    return [_noun(name) for name in names]


def _noun(name: str) -> str:
    """The canonical noun where there is one; other names are the caller's own."""
    try:
        return canonical(name)
    except KeyError:
        return name


def _counts(model: MCOENetForEmotionRecognition) -> dict[str, int]:
    counts = dict.fromkeys(PUBLISHED_COUNTS, 0)
    for name, parameter in model.named_parameters():
        counts[name.split(".")[1]] += parameter.numel()
    return counts


def _published_counts(num_labels: int) -> dict[str, int]:
    # per label: a row and a bias in three focal (512), three attention (1024) and two deep (1024) experts
    change = (num_labels - 7) * (3 * 513 + 3 * 1025 + 2 * 1025)
    return {**PUBLISHED_COUNTS, "experts": PUBLISHED_COUNTS["experts"] + change}


def _write(model: MCOENetForEmotionRecognition, config: MCOENetConfig, output_dir: Path) -> None:
    """Write all or nothing: into a folder beside the wanted one, which then takes its name."""
    from .processing_mcoenet import MCOENetProcessor

    processor = MCOENetProcessor(image_processor={"size": {"shortest_edge": config.image_size}})
    output_dir.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{output_dir.name}-", dir=output_dir.parent))
    try:
        model.save_pretrained(draft)
        processor.save_pretrained(draft)
        output_dir.mkdir(exist_ok=True)
        for written in sorted(draft.iterdir()):
            written.replace(output_dir / written.name)
    finally:
        shutil.rmtree(draft)
