"""Recipes: everything that decides what a training computes.

The keys of a recipe file are the fields of `Recipe`, the meaning beside each. `data`, `data.train`, `data.validation` and
`operating_point` are mappings of their own; `model`, `processor`, `data.options` and `augmentation` are handed on to what
they configure, which checks them again. Where a run reads and writes (data folder, output folder, trackers) is no part of
a recipe: those are flags only (`arguments.py`), but for what a training adds to its corpus: weights to begin from, a teacher, and
a second corpus are named here.
"""

import dataclasses
import math
import os
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import yaml

from .. import plugins
from ..durable import whole_file
from ..errors import LARGEST, ConfigurationError, UnknownNameError, unknown_name
from ..reading import read_yaml
from ..typed_yaml import FieldReader

Criterion = Literal[
    "uar", "war", "macro_f1", "macro_auroc", "balanced_score", "operating_point", "loss", "rmse", "mae", "ccc", "pcc",
    "within_nuisances", "last",
]  # fmt: skip
_HELD_OUT = ("by_identity", "by_trial", "by_stimulus", "by_content", "stratified")
"""Ways of holding validation out of the training set."""
REGRESSION_CRITERIA = ("rmse", "mae", "ccc", "pcc")
"""Criteria for values; the others are for classes, but for those of both."""
CRITERIA_OF_BOTH = ("within_nuisances", "last")
Rule = Literal["none", "max_uar", "max_war", "max_macro_f1", "max_mean"]
Schedule = Literal["linear", "cosine", "constant", "constant_with_warmup", "exponential_per_epoch", "step_per_epoch"]
Precision = Literal["no", "fp16", "bf16"]


class Bound(NamedTuple):
    """What a number of a recipe must be: a test, the same in words, and the largest one where it counts something."""

    holds: Callable[[float], bool]
    expected: str
    most: int = LARGEST


POSITIVE = Bound(lambda number: number > 0, "a positive number")
NOT_NEGATIVE = Bound(lambda number: number >= 0, "zero or a positive number")
SHARE = Bound(lambda number: 0 <= number <= 1, "a share from 0 to 1")
BELOW_ONE = Bound(lambda number: 0 <= number < 1, "a share from 0 to below 1")
SEED = Bound(
    lambda number: 0 <= number < 2**32, "a whole number from 0 to 4294967295, which all generators take", 2**32
)
PROCESSES = Bound(lambda number: 0 <= number <= 256, "from 0 to 256 processes, of which each fills memory of its own")
STEPS = POSITIVE._replace(most=10**9)
HELD_OUT = Bound(lambda number: 0 < number < 1, "a share between 0 and 1")


@dataclass(frozen=True)
class SubsetRecipe:
    """Which samples of the corpus are trained on."""

    split: Annotated[str, "split of the corpus; 'all' joins every split"] = "train"
    folds: Annotated[list[int] | None, "keep only samples whose `fold` is one of these"] = None
    without_content_of: Annotated[
        list[str], "splits whose pictures are not trained on, or validated on, where they stand here as well: [test]"
    ] = field(default_factory=list)


@dataclass(frozen=True)
class ValidationRecipe:
    """Where the samples for selection come from: a set of their own, or a part held out of training; exactly one."""

    split: Annotated[str | None, "split of the corpus that is validated on; 'all' joins every split"] = None
    folds: Annotated[list[int] | None, "folds that are validated on, of `split` or, without it, the training split"] = (
        None
    )
    by_identity: Annotated[float | None, "share of the training set's subjects, held out whole (0.15)", HELD_OUT] = None
    by_trial: Annotated[
        float | None,
        "share of everybody's trials in the training set, held out whole; people are then on both sides on purpose",
        HELD_OUT,
    ] = None
    by_stimulus: Annotated[float | None, "share of the training set's stimuli, held out whole", HELD_OUT] = None
    by_content: Annotated[
        float | None,
        "share of the training set, held out class by class, equal pictures together; for want of identities, where pictures recur",
        HELD_OUT,
    ] = None
    stratified: Annotated[
        float | None, "share of the training set, held out class by class; for want of identities", HELD_OUT
    ] = None
    seed: Annotated[int, "seed of the part held out", SEED] = 0


@dataclass(frozen=True)
class ProtocolRecipe:
    """One fold of a protocol of `corpora/splits.py`: trained on its one side, and never looked at the other."""

    name: Annotated[
        Literal["P0", "P1", "P2", "P3", "P4"], "P0 random rows (leaky), P1 trials, P2 one subject, P3 subjects, P4"
    ]
    fold: Annotated[str, "which fold is left out for testing: a number, a subject, or subject/part"]
    n_folds: Annotated[int, "into how many folds P0, P1 and P3 cut, and P4 its stimuli"] = 5
    seed: Annotated[int, "seed of the folds", SEED] = 0


@dataclass(frozen=True)
class BesideRecipe:
    """A second corpus of the same kind that is trained on, too; validation and the reports know the first one alone."""

    corpus: Annotated[str, "name of a registered corpus, whose classes are among those that are trained"]
    data_dir: Annotated[str, "its folder or file"]
    options: Annotated[dict[str, Any], "options of the corpus's `load`"] = field(default_factory=dict)
    train: Annotated[SubsetRecipe, "which of its samples"] = field(default_factory=SubsetRecipe)
    share: Annotated[
        float, "share of an epoch's samples that come from it, on top of those of the first corpus", HELD_OUT
    ] = 0.5


@dataclass(frozen=True)
class DataRecipe:
    """The corpus and how it is divided."""

    corpus: Annotated[str, "name of a registered corpus (image_folder, fer2013, raf_db, affectnet, …)"] = "image_folder"
    options: Annotated[dict[str, Any], "options of the corpus's `load`"] = field(default_factory=dict)
    train: Annotated[SubsetRecipe, "what is trained on"] = field(default_factory=SubsetRecipe)
    protocol: Annotated[ProtocolRecipe | None, "leave out one fold of a protocol: {name: P2, fold: S01}"] = None
    validation: Annotated[ValidationRecipe, "what is validated on"] = field(default_factory=ValidationRecipe)
    beside: Annotated[
        BesideRecipe | None, "a second corpus to train on: {corpus: …, data_dir: …, train: …, share: …}"
    ] = None
    drop_labels: Annotated[list[str], "classes left out on purpose (contempt, in AffectNet-7)"] = field(
        default_factory=list
    )
    permute_labels: Annotated[
        bool,
        "train a control that can learn nothing: every training trial gets the labels of another one, drawn by `seed`; the "
        "checkpoint says so",
    ] = False
    allow_leak: Annotated[bool, "go on although a subject or picture is on both sides; the run is marked"] = False


@dataclass(frozen=True)
class OperatingPointRecipe:
    """How the class-prior correction is chosen on validation: logits − tau · log(prior of the training set).

    Among the taus whose WAR is at least `war_floor`, the one with the best objective is taken, the smallest |tau| on
    ties. If none reaches the floor, the one with the highest WAR is taken, and the record says that the floor was missed.
    The correction is written into the bias of the model's `classifier`, so that every user of the checkpoint has it.
    """

    rule: Annotated[Rule, "objective on validation; max_mean is of UAR and WAR"] = "none"
    war_floor: Annotated[float | None, "smallest WAR that the objective may cost"] = None
    tau_min: Annotated[float, "smallest tau tried"] = -1.0
    tau_max: Annotated[float, "largest tau tried"] = 2.0
    tau_step: Annotated[float, "distance between the taus tried", POSITIVE] = 0.05


@dataclass(frozen=True)
class DistillationRecipe:
    """A teacher whose answers the student learns to foresee, in training only; see `losses.py`."""

    teacher: Annotated[str, "the teacher, 'package.module:Class', one that a plugin declares; see --trust_recipe_code"]
    options: Annotated[dict[str, Any], "options of the teacher, such as where its weights are"] = field(
        default_factory=dict
    )
    weight: Annotated[
        float, "weight of foreseeing all the teacher's answers from the features; the labels' is 1", NOT_NEGATIVE
    ] = 1.0
    direct_weight: Annotated[
        float, "weight of agreeing with the teacher on the classes that both know", NOT_NEGATIVE
    ] = 0.0
    temperature: Annotated[float, "softens the teacher's answers; 1: as they are", POSITIVE] = 1.0


@dataclass(frozen=True)
class Recipe:
    """One training, completely. Scalar fields are also flags of the same name (`--learning_rate 3e-4`)."""

    # --- what is trained
    model_type: Annotated[str, "architecture, as `meco list` names it"]
    description: Annotated[str, "one line: what the recipe is for, and where its values come from"] = ""
    model: Annotated[dict[str, Any], "fields of the architecture's config that depart from its defaults"] = field(
        default_factory=dict
    )
    model_name_or_path: Annotated[
        str | None,
        "start from this checkpoint; `model` and `processor` then say what changes of its own (image_size and size, for instance)",
    ] = None
    backbone_weights: Annotated[
        str | None,
        "pretrained weights of the backbone, loaded once before training: a file, or 'package:<distribution>'; "
        "handed to the model's `load_backbone_weights`",
    ] = None
    processor: Annotated[dict[str, Any], "options of the architecture's processor that depart from its defaults"] = (
        field(default_factory=dict)
    )

    # --- on what
    data: Annotated[DataRecipe, "corpus, training part, validation part"] = field(default_factory=DataRecipe)
    labels: Annotated[
        list[str] | None, "classes, or names of values, in the order of the logits; without it, the corpus's order"
    ] = None

    # --- optimiser
    optimizer: Annotated[Literal["adam", "adamw"], "adam (weight decay is L2) or adamw (decoupled)"] = "adamw"
    learning_rate: Annotated[float, "peak learning rate", POSITIVE] = 1e-4
    backbone_learning_rate: Annotated[
        float | None, "peak rate of the model's `backbone`; else learning_rate", POSITIVE
    ] = None
    learning_rate_factors: Annotated[
        dict[str, Any],
        "module of the model → factor on its rate, the longest name that fits counting: {encoder: 0.1, encoder.norm: 1}; 0 stands "
        "still",
    ] = field(default_factory=dict)
    weight_decay: Annotated[float, "of matrices and kernels; see decay_everything", NOT_NEGATIVE] = 0.0
    decay_everything: Annotated[bool, "decay biases, norms and what the model exempts too, as plain AdamW does"] = False
    adam_beta1: Annotated[float, "decay of the first moment", BELOW_ONE] = 0.9
    adam_beta2: Annotated[float, "decay of the second moment", BELOW_ONE] = 0.999
    adam_epsilon: Annotated[float, "epsilon of Adam (Keras: 1e-7)", POSITIVE] = 1e-8
    max_grad_norm: Annotated[float | None, "clip the norm of the gradient to this; else no clipping", POSITIVE] = None

    # --- length and schedule
    per_device_train_batch_size: Annotated[int, "samples per process and step", POSITIVE] = 32
    per_device_eval_batch_size: Annotated[int, "samples per process and validation step", POSITIVE] = 64
    gradient_accumulation_steps: Annotated[int, "batches per process and optimiser step", POSITIVE] = 1
    dataloader_drop_last: Annotated[
        bool, "leave out, in each epoch others, the last samples that fill no batch on every process"
    ] = True
    num_train_epochs: Annotated[int, "epochs, at most", POSITIVE] = 10
    max_train_steps: Annotated[int | None, "optimiser steps, at most; overrides num_train_epochs", STEPS] = None
    lr_scheduler_type: Annotated[
        Schedule,
        "exponential_per_epoch is learning_rate · lr_decay^epoch with epochs counted from 1, so that the first epoch "
        "is decayed already; step_per_epoch the same counted from 0",
    ] = "cosine"
    lr_decay: Annotated[float, "factor per epoch of exponential_per_epoch and step_per_epoch", POSITIVE] = 0.95
    num_warmup_steps: Annotated[int, "optimiser steps of linear warm-up", NOT_NEGATIVE._replace(most=STEPS.most)] = 0
    warmup_ratio: Annotated[float | None, "the same as a share of all steps; overrides num_warmup_steps", BELOW_ONE] = (
        None
    )
    freeze_backbone_epochs: Annotated[
        int, "epochs in which the `backbone`, its BatchNorm too, stands still", NOT_NEGATIVE
    ] = 0
    frozen_modules: Annotated[
        list[str], "modules that stand still throughout, BatchNorm too, by their names in the model (encoder.stem)"
    ] = field(default_factory=list)
    early_stopping_patience: Annotated[
        int | None, "stop after so many epochs without a better `selection`", POSITIVE
    ] = None
    selection: Annotated[
        Criterion,
        "the one validation criterion, for the kept checkpoint and for early stopping; balanced_score is the mean of "
        "UAR and WAR, operating_point the objective of that rule at its best tau; loss, rmse and mae are minimised; rmse, mae, "
        "ccc and pcc are for values, the others for classes; within_nuisances is what the design of the corpus cannot give (AUROC "
        "between people at the same minute, correlation within a film); last chooses nothing and keeps the final weights, where "
        "validation is too small to choose by",
    ] = "uar"

    # --- loss, sampling, regularisation
    label_smoothing: Annotated[float, "share of the target that is spread over all classes", BELOW_ONE] = 0.0
    soft_label_weight: Annotated[
        float,
        "share of a training target that is the corpus's `soft_label` (the votes of several people), the rest being its label",
        SHARE,
    ] = 0.0
    soft_labels_of: Annotated[
        str | None,
        "a checkpoint whose answers to the samples, before they are augmented, stand for `soft_label`; of a picture the mean with "
        "its answer to the mirrored one",
    ] = None
    soft_label_head: Annotated[
        float,
        "weight of a second layer over the classifier's features that foresees `soft_label`, in training only; 0: none",
        NOT_NEGATIVE,
    ] = 0.0
    class_balance: Annotated[
        float, "0: classes as frequent as they are; 1: all alike; 0.5: by the square root", SHARE
    ] = 0.0
    mse_weight: Annotated[float, "weight of the mean squared error of values, on the scale [−1, 1]", NOT_NEGATIVE] = 0.5
    ccc_weight: Annotated[float, "weight of 1 − CCC of values, over the batch", NOT_NEGATIVE] = 0.5
    clips_per_recording: Annotated[
        int | None,
        "draw so many clips of every recording and epoch, so that long ones weigh no more; else all clips",
        POSITIVE,
    ] = None
    logit_adjustment: Annotated[
        float, "tau of the logit-adjusted loss: logits + tau · log(prior as sampled), in training (Menon et al. 2021)"
    ] = 0.0
    mixup_alpha: Annotated[float, "mix pairs of samples by a share from Beta(alpha, alpha); 0: never", NOT_NEGATIVE] = (
        0.0
    )
    consistency_weight: Annotated[
        float,
        "weight of the Jensen–Shannon divergence between the answers to two views of a sample, augmented differently (Hendrycks et "
        "al. 2020); an epoch then shows every sample twice, and a batch holds half as many; of classes only",
        NOT_NEGATIVE,
    ] = 0.0
    augmentation: Annotated[
        dict[str, Any] | None,
        "what happens to a recording before the processor: {name: face | clip | signals, …its options} or "
        "{name: 'package.module:Class', …}, one that a plugin declares (see --trust_recipe_code); else nothing",
    ] = None
    image_sizes: Annotated[
        dict[int, int],
        "progressive resizing: epoch from 0 → side of the training pictures from then on, {0: 64, 12: 96}; validation keeps one",
    ] = field(default_factory=dict)
    distillation: Annotated[
        DistillationRecipe | None, "a teacher beside the labels: {teacher: …, options: …, weight: …, temperature: …}"
    ] = None
    ema_decay: Annotated[
        float | None, "validate and keep a moving average of the weights; else the weights", BELOW_ONE
    ] = None

    # --- after training
    average_with_start: Annotated[
        list[float],
        "shares of the trained weights in their mean with those of model_name_or_path; of the means and the trained weights alone "
        "validation keeps the best, by the operating point's objective (Wortsman et al. 2022)",
        SHARE,
    ] = field(default_factory=list)
    operating_point: Annotated[OperatingPointRecipe, "class-prior correction chosen on validation"] = field(
        default_factory=OperatingPointRecipe
    )

    calibrate: Annotated[
        bool,
        "fit a temperature (classes), or a slope and an intercept (values), on validation and save it with the checkpoint",
    ] = False

    fit_reference: Annotated[
        bool,
        "of signals: also fit a ridge (values) or a logistic regression (classes) on mean, spread and slope of the training part's "
        "channels, and keep it in run.json, for evaluations to compare with",
    ] = True

    # --- execution
    seed: Annotated[int, "seed of weights, order, augmentation and dropout", SEED] = 0
    torch_compile: Annotated[bool, "compile the model by torch.compile, for training and validation"] = False
    torch_compile_backend: Annotated[str, "what compiles it, as torch.compile names it"] = "inductor"
    dataloader_num_workers: Annotated[
        int, "processes that prepare batches; 0: the training process itself", PROCESSES
    ] = 0
    mixed_precision: Annotated[Precision, "Accelerate's mixed precision"] = "no"
    channels_last: Annotated[bool, "lay images out channels_last: several times faster convolutions on CPU"] = True
    cache_gb: Annotated[
        float, "keep recordings in memory, decoded, if all fit in so many GB per process", NOT_NEGATIVE
    ] = 4.0

    def __post_init__(self) -> None:
        _check_numbers(self)
        for module, factor in self.learning_rate_factors.items():
            number = isinstance(factor, int | float) and not isinstance(factor, bool)
            _demand(number and 0 <= factor < math.inf, f"learning_rate_factors.{module}", factor, NOT_NEGATIVE.expected)
        _check_combinations(self)

    @property
    def views(self) -> int:
        """How often a batch holds each of its samples, one time behind the other and augmented anew."""
        return 2 if self.consistency_weight else 1


def _wrong(key: str, problem: str) -> ConfigurationError:
    return ConfigurationError(f"Recipe key {key!r} {problem}. Correct it in the recipe or by its flag.")


def _demand(condition: bool, key: str, seen: Any, expected: str) -> None:
    if not condition:
        raise _wrong(key, f"is {seen!r}; expected {expected}")


def _check_numbers(part: Any, prefix: str = "") -> None:
    """Hold the numbers of a recipe, or of a part of one, to the bounds in their annotations."""
    hints = typing.get_type_hints(type(part), include_extras=True)
    for one in dataclasses.fields(part):
        value = getattr(part, one.name)
        if dataclasses.is_dataclass(value):
            _check_numbers(value, f"{prefix}{one.name}.")
        finite = not isinstance(value, float) or math.isfinite(value)
        _demand(finite, f"{prefix}{one.name}", value, "a finite number")
        bounds = hints[one.name].__metadata__[1:]
        for bound in bounds:
            held = all(map(bound.holds, value)) if isinstance(value, list) else value is None or bound.holds(value)
            _demand(held, f"{prefix}{one.name}", value, bound.expected)
        if one.name == "options":  # a corpus's or a teacher's, which may be seeds, and are checked there
            continue
        most = bounds[0].most if bounds else LARGEST
        for number in value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]:
            held = not isinstance(number, int) or abs(number) <= most
            _demand(held, f"{prefix}{one.name}", value, f"whole numbers up to {most}, which nobody exceeds on purpose")


def _check_combinations(recipe: Recipe) -> None:
    point = recipe.operating_point
    _demand(point.tau_min <= point.tau_max, "operating_point.tau_min", point.tau_min, "no more than tau_max")
    _demand(
        recipe.model_name_or_path is None or recipe.backbone_weights is None,
        "model_name_or_path",
        recipe.model_name_or_path,
        "no backbone_weights beside it, because the checkpoint brings its own",
    )
    _demand(
        not recipe.average_with_start or recipe.model_name_or_path is not None,
        "average_with_start",
        recipe.average_with_start,
        "a checkpoint to start from beside it, model_name_or_path",
    )
    _demand(
        recipe.soft_labels_of is None or bool(recipe.soft_label_weight or recipe.soft_label_head),
        "soft_labels_of",
        recipe.soft_labels_of,
        "soft_label_weight or soft_label_head beside it, which say what the answers are used for",
    )
    labels = recipe.labels
    _demand(labels is None or len(set(labels)) == len(labels) > 0, "labels", labels, "names, each once")
    chosen = recipe.data.validation
    ways = (chosen.split is not None or chosen.folds is not None, *(getattr(chosen, key) for key in _HELD_OUT))
    _demand(
        sum(bool(way) for way in ways) == 1,
        "data.validation",
        {key: value for key, value in dataclasses.asdict(chosen).items() if key != "seed" and value is not None},
        f"exactly one of: split and/or folds (a set of its own), {', '.join(_HELD_OUT)} (a share of the training set)",
    )
    _demand(
        recipe.data.protocol is None
        or (recipe.data.train.folds is None and chosen.split is None and chosen.folds is None),
        "data.protocol",
        recipe.data.protocol,
        "no folds beside it, and validation held out of its training side",
    )
    _demand(
        recipe.data.beside is None or (recipe.data.protocol is None and not recipe.data.permute_labels),
        "data.beside",
        recipe.data.beside and recipe.data.beside.corpus,
        "no protocol and no permute_labels beside it, which divide one corpus",
    )
    _demand(
        recipe.data.beside is None or recipe.clips_per_recording is None,
        "data.beside",
        recipe.data.beside and recipe.data.beside.corpus,
        "no clips_per_recording beside it, which shows every recording alike, whatever the share",
    )
    knows = [
        key for key in ("model_name_or_path", "distillation", "soft_labels_of") if getattr(recipe, key) is not None
    ]
    _demand(
        not recipe.data.permute_labels or not knows,
        "data.permute_labels",
        recipe.data.permute_labels,
        f"no {' and no '.join(knows)} beside it, which may know the labels: a control starts from nothing",
    )
    _demand(
        recipe.clips_per_recording is None or not recipe.class_balance,
        "clips_per_recording",
        recipe.clips_per_recording,
        "no class_balance beside it: an epoch is evened out by recording or by class",
    )
    _demand(
        not recipe.consistency_weight
        or (recipe.per_device_train_batch_size % 2 == 0 and recipe.clips_per_recording is None),
        "consistency_weight",
        recipe.consistency_weight,
        "an even per_device_train_batch_size and no clips_per_recording beside it, because a batch holds pairs of views",
    )
    _demand(
        not recipe.consistency_weight or recipe.augmentation is not None,
        "consistency_weight",
        recipe.consistency_weight,
        "an augmentation beside it, without which both views are the same",
    )
    _demand(
        recipe.selection != "operating_point" or recipe.operating_point.rule != "none",
        "selection",
        recipe.selection,
        "an operating_point.rule beside it",
    )


# --- Recipe files -----------------------------------------------------------------------------------------------------
# Found by name, read from YAML, overridden by flags, checked key by key, written with the run.


def recipe_from_dict(values: Mapping[str, Any], where: str = "the recipe") -> Recipe:
    """Check `values` key by key and build the recipe."""

    def refuse(path: str, problem: str) -> ConfigurationError:
        return _wrong(path, problem) if path else ConfigurationError(f"{where} {problem}. Correct it.")

    return FieldReader(refuse).read(Recipe, values)


def recipe_to_dict(recipe: Recipe) -> dict[str, Any]:
    """The recipe as plain mappings, lists and scalars; `recipe_from_dict` gives the same recipe back."""
    return dataclasses.asdict(recipe)


def override(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of `values` with `changes` laid over it. Keys of `changes` may be dotted: "data.validation.seed"."""
    result = dict(values)
    for dotted, change in changes.items():
        *parents, last = dotted.split(".")
        place = result
        for parent in parents:
            inner = place.get(parent)
            if inner is not None and not isinstance(inner, Mapping):
                raise ConfigurationError(f"{dotted!r} cannot be set: {parent!r} is {inner!r}, expected a mapping.")
            place[parent] = dict(inner or {})
            place = place[parent]
        place[last] = change
    return result


def find_recipe(name_or_file: str) -> Path:
    """The file of a recipe, given as a path or as "<model_type>/<recipe>"."""
    if os.path.isfile(name_or_file):  # noqa: PTH113 — a Path raises the system's errors where a name is too long
        return Path(name_or_file)
    found = plugins.recipes()
    if name_or_file in found:
        return found[name_or_file]
    if name_or_file.endswith((".yaml", ".yml")):
        raise UnknownNameError(f"There is no file {name_or_file}. Check the path, or name a recipe of `meco list`.")
    raise unknown_name("recipe", name_or_file, found, "A path to a .yaml file works too.")


def read_recipe_file(name_or_file: str) -> dict[str, Any]:
    """The unchecked mapping in a recipe file."""
    path = find_recipe(name_or_file)
    values = read_yaml(path, ConfigurationError, "Expected a recipe in YAML. Correct the file.")
    if not isinstance(values, Mapping):
        raise ConfigurationError(f"{path} holds {type(values).__name__}; expected a mapping of recipe keys to values.")
    return dict(values)


def load_recipe(name_or_file: str, changes: Mapping[str, Any] | None = None) -> Recipe:
    """Read a recipe, lay `changes` over it (dotted keys allowed) and check it."""
    values = override(read_recipe_file(name_or_file), changes or {})
    return recipe_from_dict(values, f"recipe {name_or_file}")


AUGMENTATIONS = {
    "face": "meco_hub.processing.face_preprocessor:FaceAugmentation",
    "signals": "meco_hub.processing.signal_augmentation:SignalAugmentation",
    "clip": "meco_hub.processing.eye_preprocessor:ClipSampling",
}
"""Short names for `augmentation.name`; any other is a dotted path "package.module:Class"."""


def check_recipe_code(recipe: Recipe, trusted: bool = False) -> None:
    """Refuse a recipe that names code which nobody installed for recipes: a path like `subprocess:Popen` is a program to run."""
    named = {
        "augmentation.name": (recipe.augmentation or {}).get("name"),
        "distillation.teacher": None if recipe.distillation is None else recipe.distillation.teacher,
    }
    declared = {path for entry in plugins.architectures().healthy.values() for path in entry.recipe_classes}
    for key, path in named.items():
        if trusted or not isinstance(path, str) or path in {*AUGMENTATIONS, *AUGMENTATIONS.values(), *declared}:
            continue
        known = ", ".join([*AUGMENTATIONS, *sorted(declared)])
        raise ConfigurationError(
            f"Recipe key {key!r} is {str(path)[:200]!r}, code that no installed plugin declares; expected one of {known}. "
            "Nothing of it was run. If you have read that code and trust it, pass --trust_recipe_code (trust_recipe_code=True)."
        )


def write_recipe(recipe: Recipe, file: Path, *, synthetic: bool = False) -> None:
    """Write the resolved recipe; reading it again gives an equal one. `synthetic`: of data that are, which its first line says."""
    text = "# Trained on synthetic data, drawn by a program.\n" if synthetic else ""
    text += yaml.safe_dump(recipe_to_dict(recipe), sort_keys=False, allow_unicode=True, width=110)
    with whole_file(file) as partial:
        partial.write_text(text, encoding="utf-8")
