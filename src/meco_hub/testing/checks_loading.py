"""What is asked of checkpoints: saved and loaded, a model is the same, in safetensors, by every door, from the meta device too.

This file knows what a checkpoint must hold; the processor's part of it is in `checks_processor.py`.
"""

from pathlib import Path
from typing import Any

import torch

from ..errors import CheckpointError, MecoError
from .check import NotConforming, require, rule
from .subject import Subject, quiet

_INTACT = ("missing_keys", "unexpected_keys", "mismatched_keys")

_NAMES = (
    "Names must be those of state_dict(): no renaming on save, no `_keys_to_ignore_on_load_…`, and base_model_prefix equal to the "
    "attribute that holds the base model."
)
_PREFIX = "Set base_model_prefix, on base model and head alike, to the attribute of the head that holds the base model."


def _load(kind: Any, folder: Any, mend: str) -> tuple[Any, dict[str, Any]]:
    try:
        with quiet():
            model, information = kind.from_pretrained(folder, output_loading_info=True)
    except MecoError as error:
        raise NotConforming(f"{kind.__name__} cannot load a checkpoint that was just saved. {error} {mend}") from error
    return model.eval(), information


@rule()
def save_and_load(subject: Subject) -> None:
    """Loading finds every weight, no other, and gives the same logits bit for bit."""
    model, information = _load(subject.head_class, subject.checkpoint, _NAMES)
    for what in _INTACT:
        keys = sorted(map(str, information[what]))
        require(
            not keys,
            f"Loading a checkpoint that was just saved reports {what}: {', '.join(keys[:8])}.",
            _NAMES,
        )
    own = dict(subject.shared_model.named_parameters())
    for name, parameter in model.named_parameters():
        require(
            torch.equal(parameter, own[name]) and parameter.dtype == own[name].dtype,
            f"{name} is another after saving and loading.",
            "`_init_weights` must use transformers.initialization, which leaves loaded weights alone; `.data.normal_()` does not.",
        )
    batch = subject.batch()
    before, after = subject.logits(subject.shared_model, batch), subject.logits(model, batch)
    require(
        torch.equal(before, after),
        f"The loaded model's logits differ by {float((before - after).abs().max()):.3g} from those of the model that was saved.",
        "Whatever the forward reads must be a parameter, a persistent buffer, or computed from the config.",
    )


@rule()
def safetensors_only(subject: Subject) -> None:
    """A saved model is config.json and safetensors, and loading refuses a pickle."""
    folder = subject.new_folder()
    subject.shared_model.save_pretrained(folder)
    files = sorted(path.name for path in folder.iterdir())
    foreign = [
        name for name in files if not name.endswith((".safetensors", ".safetensors.index.json", ".json", ".md", ".py"))
    ]
    require(
        any(name.endswith(".safetensors") for name in files) and not foreign,
        f"save_pretrained writes {', '.join(files)}.",
        "Weights belong into safetensors: do not override save_pretrained to write anything that can run code when read.",
    )
    for file in folder.glob("*.safetensors*"):
        file.unlink()
    torch.save(subject.shared_model.state_dict(), folder / "pytorch_model.bin")
    try:
        subject.head_class.from_pretrained(folder)
    except Exception as error:  # noqa: BLE001 (whatever refuses it is right; that nothing does is not)
        require(
            type(error).__name__ == "CheckpointError",
            f"A folder with pickled weights only is refused by {type(error).__name__}: {error}.",
            "Derive the models from meco_hub.modeling.EmotionPreTrainedModel, which says what to do.",
        )
        return
    raise NotConforming(
        "Weights are read from a pickle, which can run code. Derive the models from meco_hub.modeling.EmotionPreTrainedModel."
    )


def _point_to_code(folder: Path) -> list[str]:
    return [file.name for file in sorted(folder.glob("*.json")) if "auto_map" in file.read_text(encoding="utf-8")]


@rule()
def no_auto_map(subject: Subject) -> None:
    """Loaded out of a pushed repository and saved again, neither config nor processor points to code that is not saved with it."""
    entry = {"AutoConfig": "stub.Config"}
    config, processor = subject.config(), subject.make_processor()
    for what, one in (("config", config), ("processor", processor)):
        folder = subject.new_folder()
        one.auto_map = entry
        one.save_pretrained(folder)
        require(
            not _point_to_code(folder),
            f"A {what} that was loaded with an auto_map writes it into {', '.join(_point_to_code(folder))}, without the file.",
            "Mix meco_hub.installed_code.InstalledSettings in, first among the bases, or nobody else can load what is saved.",
        )


@rule()
def base_model(subject: Subject) -> None:
    """The base model loads out of the head's checkpoint, and the head out of the base model's."""
    base, information = _load(subject.base_class, subject.checkpoint, _PREFIX)
    missing = sorted(map(str, information["missing_keys"]))
    require(
        not missing,
        f"Out of the head's checkpoint, {subject.base_class.__name__} lacks {', '.join(missing[:8])}.",
        _PREFIX,
    )
    own = subject.shared_model.base_model
    require(
        isinstance(own, subject.base_class),
        f"`base_model` of the head is a {type(own).__name__}, not a {subject.base_class.__name__}.",
        _PREFIX,
    )
    kept = dict(base.named_parameters())
    other = [name for name, one in own.named_parameters() if name not in kept or not torch.equal(kept[name], one)]
    require(
        not other,
        f"Loaded as base model, {', '.join(other[:8])} differ from the head's.",
        _PREFIX,
    )
    folder = subject.new_folder()
    base.save_pretrained(folder)
    _, information = _load(subject.head_class, folder, _PREFIX)
    lacking = [
        name
        for name in map(str, information["missing_keys"])
        if name.startswith(f"{subject.head_class.base_model_prefix}.")
    ]
    require(
        not lacking,
        f"Out of the base model's checkpoint, the head lacks {', '.join(lacking[:8])}.",
        _PREFIX,
    )


@rule()
def auto_classes(subject: Subject) -> None:
    """transformers' Auto classes, ours and the native ones that the plugin declares, load the right classes from a folder."""
    import transformers

    from ..auto import AutoModelForEmotionRecognition

    entry, folder = subject.entry, str(subject.checkpoint)
    doors: list[tuple[str, Any, str]] = [
        ("AutoConfig", transformers.AutoConfig, "config"),
        ("AutoModel", transformers.AutoModel, "base_model"),
        ("AutoModelForEmotionRecognition", AutoModelForEmotionRecognition, "head"),
        *((name, getattr(transformers, name, None), "head") for name in entry.native_heads),
    ]
    processors = {
        "image_processor": ("AutoImageProcessor", transformers.AutoImageProcessor),
        "feature_extractor": ("AutoFeatureExtractor", transformers.AutoFeatureExtractor),
        "processor": ("AutoProcessor", transformers.AutoProcessor),
    }
    if subject.processor_kind is not None:
        doors.append((*processors[subject.processor_kind], subject.processor_kind))
    for name, door, what in doors:
        expected = subject.load(what)
        try:
            with quiet():
                found = type(door.from_pretrained(folder))
        except CheckpointError:
            continue  # the right class, of ours, found the weights wanting: that is for the checks above to say
        except (OSError, ValueError, KeyError, AttributeError, ImportError) as error:
            raise NotConforming(
                f"{name}.from_pretrained does not load the checkpoint: {str(error)[:300]}. Declare {what} (and native_heads) in "
                "the plugin's __init__; `meco doctor` shows what could not be registered."
            ) from error
        require(
            found is expected,
            f"{name} gives a {found.__name__}, expected {expected.__name__}.",
            f"Correct {what} or native_heads in the plugin's __init__; a class name must be unlike any of transformers' own.",
        )


@rule()
def meta_buffers(subject: Subject) -> None:
    """After `from_pretrained`, which builds on the meta device, nothing is left there and every buffer has its value."""
    model, _ = _load(subject.head_class, subject.checkpoint, _NAMES)
    fresh = dict(subject.shared_model.named_buffers())
    for name, buffer in model.named_buffers():
        if buffer.device.type == "meta" or not torch.equal(buffer.nan_to_num(), fresh[name].nan_to_num()):
            raise NotConforming(
                f"The buffer {name} has {'no' if buffer.is_meta else 'another'} value after from_pretrained. Non-persistent "
                "buffers are random memory then: recompute it in _init_weights (init.copy_), make it persistent, or compute it in "
                "the forward."
            )
    for name, module in model.named_modules():
        stray = [key for key, value in vars(module).items() if isinstance(value, torch.Tensor) and value.is_meta]
        require(
            not stray,
            f"{name or 'The model'} keeps the plain tensor {', '.join(stray)}, which is on the meta device after from_pretrained.",
            "Register it as a buffer, keep plain numbers instead, or compute it in the forward.",
        )


@rule()
def init_covers_weights(subject: Subject) -> None:
    """`_init_weights` gives every parameter a value, so that what a checkpoint lacks is not random memory."""
    with torch.device("meta"):
        try:
            model = subject.head_class(subject.config())
        except (RuntimeError, NotImplementedError) as error:
            raise NotConforming(
                f"The model cannot be built on the meta device, as from_pretrained does: {error}. Compute with Python numbers in "
                "__init__."
            ) from error
    model.to_empty(device="cpu")
    parameters = dict(model.named_parameters())
    for one in parameters.values():
        one.data.fill_(float("nan"))
    for module in model.modules():
        vars(module).pop("_is_hf_initialized", None)
    subject.seed()
    model.initialize_weights()
    left = [name for name, one in parameters.items() if not torch.isfinite(one).all()]
    require(
        not left,
        f"_init_weights leaves {', '.join(left[:8])} ({len(left)} in all) as the memory happens to be.",
        "Set them there by the functions of transformers.initialization, by the type of the module that owns them.",
    )
