"""What converters of the authors' weights share: reading files of others, fitting tensors, naming classes, writing a folder.

Files are read as safetensors, or by `torch.load(weights_only=True)`, which refuses code. All or nothing: names and shapes are
compared before a model is filled, and its files appear together.
"""

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from .durable import files_together, refuse_filled, refuse_unwritable
from .errors import CheckpointError, ConversionError, quote
from .labels import canonical_or_own
from .reading import check_size, reading
from .weight_files import require_finite_weights

State = dict[str, torch.Tensor]

_WRAPPERS = ("state_dict", "model_state_dict", "model", "net")
"""Keys under which training programs keep the state dict beside other things."""


@dataclass(frozen=True, kw_only=True)
class ConversionReport:
    """What a conversion did.

    Attributes:
        source, output_dir: from where, to where.
        counts: numbers in each block.
        published: the same for the published network with as many labels.
        labels: class names in the order of the outputs.
        notes: what was assumed because the file does not say it.
    """

    source: str
    output_dir: str
    counts: dict[str, int]
    published: dict[str, int]
    labels: list[str]
    notes: list[str]

    @property
    def origin(self) -> str:
        """What was converted, in words."""
        return self.source

    @property
    def is_published_size(self) -> bool:
        """Whether every block has as many numbers as in the published network."""
        return self.counts == self.published

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for JSON."""
        return {**asdict(self), "total": sum(self.counts.values()), "is_published_size": self.is_published_size}

    def __str__(self) -> str:
        lines = [f"{self.origin} → {self.output_dir}"]
        for block, count in self.counts.items():
            same = count == self.published[block]
            lines.append(f"  {block:<21}{count:>12,}" + ("" if same else f"  (published: {self.published[block]:,})"))
        published = " = published" if self.is_published_size else ""
        lines.append(f"  {'total':<21}{sum(self.counts.values()):>12,}{published}")
        lines.append(f"  labels: {', '.join(self.labels)}")
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes)])


def refuse_unasked(output_dir: Path, overwrite: bool) -> None:
    """Refuse a folder that holds something, unless what a conversion writes may replace it.

    Raises:
        ConfigurationError: it does, or nothing can be written there.
    """
    if overwrite and output_dir.is_dir():
        refuse_unwritable(output_dir, inside=True)
    else:
        refuse_filled(output_dir, "Choose another, or pass overwrite=True (--overwrite) to replace the model in it.")


def save_converted(model: Any, processor: Any, output_dir: Path, source: Path, *, overwrite: bool = False) -> None:
    """Save both, or nothing; other files in the folder stay.

    Raises:
        ConfigurationError: see `refuse_unasked`; or `source`, the file that was converted, would be written over.
        ConversionError: weights are no numbers, as where those of the file are too large for the model's dtype.
    """
    weights: State = getattr(model, "state_dict", dict)()
    require_finite_weights(weights.items(), f"The model of {source}", ConversionError)
    with files_together(
        output_dir, "config.json", lambda: refuse_unasked(output_dir, overwrite), read=[source]
    ) as draft:
        model.save_pretrained(draft)
        processor.save_pretrained(draft)


def name_classes(
    source: Path, count: int, labels: str | Sequence[str] | None, spaces: Mapping[str, Sequence[str]], notes: list[str]
) -> list[str]:
    """Names of a file's outputs, canonical where there is a canonical one.

    Args:
        source: the file.
        count: how many outputs it has.
        labels: a name of `spaces`, or class names in the order of the outputs, as a list or separated by commas; None: LABEL_0 …,
            which `notes` then says.
        spaces: orders that the authors used.
        notes: added to.

    Raises:
        ConversionError: as many different names as outputs are needed.
    """
    fitting = [name for name, names in spaces.items() if len(names) == count]
    if labels is None:
        advice = f"a name ({', '.join(fitting)}) or a list" if fitting else "a list"
        notes.append(
            f"The file does not say what its {count} classes are called, so they are named LABEL_0 … LABEL_{count - 1}. "
            f"Pass labels (--labels): {advice}."
        )
        return [f"LABEL_{index}" for index in range(count)]
    if isinstance(labels, str):
        labels = spaces.get(labels) or labels.split(",")
    names = [str(name).strip() for name in labels]
    if len(names) != count or len(set(names)) != count or not all(names):
        raise ConversionError(
            f"labels gives {len(names)} names ({', '.join(names)}), and {source} has {count} outputs; expected "
            f"as many different names, or one of {', '.join(fitting) or 'no known label space'}. Correct labels (--labels)."
        )
    return [canonical_or_own(name) for name in names]


def read_state_dict(path: Path) -> State:
    """The tensors of a .safetensors file, or of what `torch.save` wrote, by name.

    A state dict may lie under one of `_WRAPPERS`, and its names may all begin with "module." (DataParallel).

    Raises:
        CheckpointError: no such file, damaged, would run code when read, or holds something else.
    """
    if not path.is_file():
        raise CheckpointError(f"There is no weights file {path}. Pass a .safetensors, .pth or .pt file.")
    expected = (
        "a safetensors file, or a state dict saved by torch.save; anything else is not read, since it could run code."
    )
    with reading(f"{path} cannot be read as weights", CheckpointError, f"Expected {expected}"):
        if path.suffix != ".safetensors" and zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:  # which torch.save never compresses
                declared = sum(one.file_size for one in archive.infolist())
                check_size(declared, str(path), CheckpointError, path.stat().st_size)
        content = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
        return _state_of(content, path)


def _state_of(content: Any, path: Path) -> State:
    """The state dict among what a file holds."""
    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping) or not content:
        held = f"an empty {type(content).__name__}" if isinstance(content, Mapping) else f"a {type(content).__name__}"
        raise CheckpointError(f"{path} holds {held}; expected a state dict: names and tensors.")
    other = [
        name for name, value in content.items() if not isinstance(value, torch.Tensor) or not isinstance(name, str)
    ]
    if other:
        raise CheckpointError(
            f"{path} holds something else than tensors under {', '.join(map(str, other[:4]))}; expected a state dict."
        )
    for name, value in content.items():
        held = value.untyped_storage().nbytes()
        if value.numel() * value.element_size() > held:
            raise CheckpointError(
                f"{path}: '{quote(name)}' declares the shape {tuple(value.shape)} and has {held} bytes. Expected all of its "
                "numbers. Save the state dict again."
            )
    if all(name.startswith("module.") for name in content):
        return {name.removeprefix("module."): value for name, value in content.items()}
    return dict(content)


def fit_backbone(weights: State, expected: State, origin: str, advice: str) -> State:
    """A backbone's weights, complete and without more.

    Args:
        weights: under the backbone's names.
        expected: the backbone's own state dict, in whose order they come back.
        origin, advice: for the error: where they are from, what to check.

    Raises:
        ConversionError: names or shapes do not fit; the message lists them. Or they are no numbers.
    """
    # Files older than torch 0.4.1 do not count BatchNorm's batches, and nothing here reads the count.
    missing = [name for name in expected if name not in weights and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in weights if name not in expected]
    shapes = [
        f"{name} {tuple(weights[name].shape)} instead of {tuple(value.shape)}"
        for name, value in expected.items()
        if name in weights and weights[name].shape != value.shape
    ]
    if listing := list_misfits(missing, unexpected, shapes, 4):
        raise ConversionError(
            f"The weights of {origin} do not fit the backbone: {listing}. Nothing was loaded. {advice}"
        )
    require_finite_weights(weights.items(), origin, ConversionError)
    return {**expected, **weights}


def list_misfits(missing: Sequence[str], unexpected: Sequence[str], shapes: Sequence[str], most: int) -> str:
    """Tensors that do not fit, `most` of each kind by name; empty where all fit."""
    parts = (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes))
    return "; ".join(
        f"{len(names)} {what}: {', '.join(names[:most])}{', …' if len(names) > most else ''}"
        for what, names in parts
        if names
    )
