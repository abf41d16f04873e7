"""What is compared: models × folds × seeds, as one YAML file or a few flags say it.

    corpus: stress_predict
    protocol: official              # the corpus's own folds; or P0 … P4 of `corpora/splits.py`, P2 being leave one person out
    seeds: [0, 1, 2]
    validation: {by_identity: 0.15} # of every recipe's training side
    conditions: [missing]
    reference: forest               # whom differences are taken from; else the first
    models:
      network: {recipe: meco_mymodel/myrecipe, changes: {num_train_epochs: 5}}
      ours: {checkpoint: out/mine}
      forest: {baseline: random_forest}
      informed: {baseline: random_forest, sees: meco_mymodel/myrecipe}
      chosen: {best_of: [network, longer]}      # of recipes above, in each cell the one that its own validation part prefers

Each model is tried on every fold, and with every seed where anything of it is drawn: a cell. All of them learn from the same
side of a fold, and none sees the other side before its evaluation. A cell is described by the recipe that it was made by,
resolved, and by the fingerprint of the corpus: what was made by another one is refused, and not mixed in.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from .. import plugins
from ..corpora import Corpus
from ..corpora.leaks import fingerprint, leak_check
from ..corpora.splits import PROTOCOLS, folds
from ..corpora.tables import column
from ..errors import ConfigurationError, UnknownNameError, require_count, unknown_name
from ..evaluation.evaluate import EvaluationSettings
from ..evaluation.task import EVERY_SPLIT, take_folds, take_split
from ..reading import read_yaml
from ..training import recipes
from ..training.result import flatten
from ..typed_yaml import FieldReader
from ..weight_files import hash_weights
from .baselines import CONSTANT, DRAWN, FITTED, check_baseline

OFFICIAL = "official"


@dataclass(frozen=True)
class ModelChoice:
    """One row of the table: a recipe that is trained, a checkpoint as it is, a baseline, or a choice of other rows; exactly one."""

    recipe: Annotated[str | None, "name or file of a recipe"] = None
    checkpoint: Annotated[str | None, "bundled checkpoint, folder or Hub id"] = None
    baseline: Annotated[str | None, "training_mean, ridge, logistic_regression, random_forest, <nuisance>_oracle"] = (
        None
    )
    best_of: Annotated[
        list[str] | None, "rows that are recipes: in each cell the one with the best RMSE or UAR on the validation part"
    ] = None
    changes: Annotated[dict[str, Any], "keys of the recipe that are others here, dotted where they are nested"] = field(
        default_factory=dict
    )
    sees: Annotated[
        str | None, "recipe whose processor says what a fitted baseline is given, instead of mean, spread and slope"
    ] = None


@dataclass(frozen=True)
class Comparison:
    """A comparison, completely; the keys of its file are these fields."""

    models: Annotated[dict[str, ModelChoice], "name in the table → what it is"]
    corpus: Annotated[str, "name of a registered corpus"]
    data_dir: Annotated[str | None, "folder or zip of the corpus; the flag goes before it"] = None
    options: Annotated[dict[str, Any], "options of the corpus's `load`, over those of the recipes"] = field(
        default_factory=dict
    )
    protocol: Annotated[Literal["official", "P0", "P1", "P2", "P3", "P4"], "how the corpus is divided"] = OFFICIAL
    folds: Annotated[list[int | str] | None, "folds that are left out in turn; all of them when not given"] = None
    n_folds: Annotated[int, "into how many folds P0, P1, P3 and P4 cut"] = 5
    fold_seed: Annotated[int, "seed of those folds"] = 0
    seeds: Annotated[list[int], "of weights, order and draws: each cell is made with every one"] = field(
        default_factory=lambda: [0]
    )
    validation: Annotated[dict[str, Any] | None, "what every recipe holds out of its training side; else its own"] = (
        None
    )
    conditions: Annotated[list[str], "conditions that every model is tried under too; see `meco evaluate`"] = field(
        default_factory=list
    )
    metrics: Annotated[list[str] | None, "columns of the table, as reports name them; differences are of the first"] = (
        None
    )
    reference: Annotated[str | None, "model that the others are compared with; else the first"] = None

    def __post_init__(self) -> None:
        if not self.models:
            raise _wrong("models", "is empty; expected one at least")
        for name, model in self.models.items():
            kinds = ("recipe", "checkpoint", "baseline", "best_of")
            given = [one for one in kinds if getattr(model, one) is not None]
            if len(given) != 1:
                raise _wrong(
                    f"models.{name}", f"has {' and '.join(given) or 'none'} of {', '.join(kinds)}; expected one"
                )
            for other in model.best_of or ():
                if other not in self.models or self.models[other].recipe is None:
                    raise _wrong(
                        f"models.{name}.best_of", f"names {other}; expected rows of this table that are recipes"
                    )
            if model.best_of is not None and len(set(model.best_of)) < max(2, len(model.best_of)):
                raise _wrong(f"models.{name}.best_of", "expected two rows or more, each once")
            if model.changes and not (model.recipe or model.sees):
                raise _wrong(f"models.{name}.changes", f"stands beside {given[0]}; expected a recipe, which has keys")
            if model.sees and model.baseline not in FITTED:
                raise _wrong(f"models.{name}.sees", f"is for the baselines {', '.join(FITTED)}; leave it out")
        folders = [file_name(name) for name in self.models]
        if len(set(folders)) < len(folders):
            raise _wrong("models", f"has names that make one folder: {', '.join(self.models)}; expected different ones")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise _wrong("seeds", f"is {self.seeds}; expected one or more, each once")
        require_count("Key 'n_folds' of the comparison", self.n_folds)
        for seed in (*self.seeds, self.fold_seed):
            if not recipes.SEED.holds(seed):
                raise _wrong("seeds", f"has {seed}; expected {recipes.SEED.expected}")
        if self.reference is not None and self.reference not in self.models:
            raise unknown_name("model of the comparison", self.reference, self.models)

    @property
    def compared_with(self) -> str:
        """The model that the others are compared with."""
        return self.reference or next(iter(self.models))


@dataclass(frozen=True, eq=False)
class Cell:
    """One model on one fold with one seed.

    Attributes:
        recipe: what is trained, of a baseline the data that it is fitted on; None of a checkpoint.
        made_by: what decides the cell, dotted key → value; another value of any makes it another cell.
        chosen: of a row that chooses, the row whose cell this is.
    """

    model: str
    fold: str
    seed: int
    recipe: recipes.Recipe | None
    choice: ModelChoice
    settings: EvaluationSettings
    made_by: Mapping[str, Any]
    chosen: str | None = None

    @property
    def folder(self) -> Path:
        """Where it lies below the comparison's folder."""
        return Path(file_name(self.chosen or self.model)) / f"fold_{file_name(self.fold)}_seed_{self.seed}"

    def __str__(self) -> str:
        return f"{self.model}, fold {self.fold}, seed {self.seed}"


def _wrong(key: str, problem: str) -> ConfigurationError:
    return ConfigurationError(f"Key {key!r} of the comparison {problem}. Correct it in the file or by its flag.")


def file_name(text: str) -> str:
    """A text as the name of a file or folder; letters of any script stay, or all who write another one would share theirs."""
    return re.sub(r"[^\w.-]+", "_", text).strip("_.") or "_"


# --- Reading ----------------------------------------------------------------------------------------------------------


def comparison_from_dict(values: Mapping[str, Any], where: str = "the comparison") -> Comparison:
    """Check a mapping key by key; names in `models` may stand for what they are (`forest: random_forest`)."""

    def refuse(path: str, problem: str) -> ConfigurationError:
        return _wrong(path, problem) if path else ConfigurationError(f"{where} {problem}. Correct it.")

    models = values.get("models")
    if isinstance(models, Mapping):
        meant = {name: choose(one) if isinstance(one, str) else one for name, one in models.items()}
        values = {**values, "models": meant}
    return FieldReader(refuse).read(Comparison, values)


def read_comparison(file: str | Path) -> dict[str, Any]:
    """The unchecked mapping in a comparison's file."""
    path = Path(file)
    values = read_yaml(path, ConfigurationError, "Expected a comparison in YAML. Name such a file.")
    if not isinstance(values, Mapping):
        raise ConfigurationError(f"{path} holds {type(values).__name__}; expected a mapping. Correct it.")
    return dict(values)


def choose(name: str) -> dict[str, Any]:
    """What a single word names: a baseline, a recipe, or else a checkpoint."""
    try:
        check_baseline(name)
        return {"baseline": name}
    except UnknownNameError:
        pass
    try:
        recipes.find_recipe(name)
        return {"recipe": name}
    except UnknownNameError:
        pass
    try:
        plugins.locate_checkpoint(name)
    except UnknownNameError:  # which offers checkpoints alone
        known = [CONSTANT, *FITTED, *plugins.recipes(), *plugins.checkpoints()]
        raise unknown_name("baseline, recipe, checkpoint, folder or Hub id", name, known) from None
    return {"checkpoint": name}


def comparison_from_words(words: Sequence[str], flags: Mapping[str, Any]) -> Comparison:
    """What `meco compare WORD …` means: the file of a comparison, or models, each as NAME=MODEL or MODEL.

    Args:
        flags: keys that were given by flags, laid over the file's; `changes` is laid over those of every recipe.
    """
    given = dict(flags)
    changes = given.pop("changes", None) or {}
    values: dict[str, Any] = {}
    if len(words) == 1 and words[0].endswith((".yaml", ".yml")) and "models" in (found := read_comparison(words[0])):
        values = found
    else:
        pairs = [word.partition("=") if "=" in word else (Path(word).stem, "=", word) for word in words]
        if len({name for name, _, _ in pairs}) < len(pairs):
            raise ConfigurationError(
                f"Two of {', '.join(words)} have one name; expected one each. Write NAME={words[-1]} for one of them."
            )
        values["models"] = {name: choose(model) for name, _, model in pairs}
    if "corpus" not in values | given:
        raise ConfigurationError(
            "No corpus was named; expected --dataset with one of `meco list`, or the key corpus in the comparison's file. Give one."
        )
    comparison = comparison_from_dict({**values, **given}, words[0])
    if not changes:
        return comparison
    models = {
        name: replace(one, changes=recipes.override(one.changes, changes)) if one.recipe else one
        for name, one in comparison.models.items()
    }
    return replace(comparison, models=models)


# --- Cells ------------------------------------------------------------------------------------------------------------


class Plan:
    """A comparison on data that are there: its folds, and its cells.

    Args:
        data_dir: folder or zip of the corpus; None: the comparison's own.
    """

    def __init__(
        self, comparison: Comparison, data_dir: str | Path | None = None, *, trust_recipe_code: bool = False
    ) -> None:
        place = data_dir if data_dir is not None else comparison.data_dir
        if place is None:
            raise ConfigurationError(
                "The comparison names no data_dir, and no --data_dir was given; expected the corpus's folder. Give one."
            )
        self.comparison, self.data_dir, self.trust = comparison, Path(place), trust_recipe_code
        known = plugins.corpus(comparison.corpus)
        self.splits = known.load(self.data_dir, **comparison.options)
        # an own study says its ratings and nuisances
        self.corpus: Corpus = known.declared_in(self.data_dir, **comparison.options)
        self.pool = take_split(self.splits, EVERY_SPLIT)
        self.data = fingerprint(self.pool)
        self._checked: list[Mapping[str, Any]] = []
        for model in comparison.models.values():
            if model.baseline is not None:
                check_baseline(model.baseline, self.corpus)

    @cached_property
    def numbered(self) -> list[str]:
        """Folds of the protocol, or of the corpus's own column; none where the corpus is divided into splits only."""
        one = self.comparison
        if one.protocol != OFFICIAL:
            return [fold.name for fold in folds(self.pool, one.protocol, n_folds=one.n_folds, seed=one.fold_seed)]
        numbers = sorted(set(column(self.pool, "fold")))
        if numbers[-1] < 0:
            return []
        take_folds(self.pool, numbers[-1:])  # which refuses rows without one beside rows that have one
        return [str(number) for number in numbers]

    @cached_property
    def folds(self) -> list[str]:
        """What is left out in turn: names of folds, or of splits that are tested whole."""
        one, splits = self.comparison, [] if self.numbered else [str(name) for name in self.splits]
        known = [*self.numbered, *splits]
        names = [str(name) for name in one.folds] if one.folds is not None else self.numbered
        if not names and "test" in splits:
            names = ["test"]
        if not names:
            raise ConfigurationError(
                f"{one.corpus} has neither folds of its own nor a split test; it has {', '.join(splits)}. Name a protocol (P2, "
                "P3, …), or the split that is tested (folds: [validation])."
            )
        for name in names:
            if name not in known:
                raise unknown_name(f"fold of {one.corpus} ({one.protocol})", name, known)
        places: dict[str, str] = {}
        for name in names:
            other = places.setdefault(file_name(name), name)
            if other != name:
                raise ConfigurationError(
                    f"The folds {other!r} and {name!r} of {one.corpus} would lie in one folder, {file_name(name)!r}; expected "
                    "names that differ in more than spaces and marks. Rename one of the two."
                )
        return names

    @cached_property
    def leaks(self) -> list[str]:
        """What a fold that is tested shares with the others although it should not; of P0 … P4 each training looks by itself."""
        if self.comparison.protocol != OFFICIAL:
            return []
        parts = self.splits if not self.numbered else {one: take_folds(self.pool, [int(one)]) for one in self.numbered}
        own = self.corpus.own_protocol(self.comparison.options)
        allow = own.shares if own is not None else ("stimulus",)
        found = leak_check(*parts.values(), names=[str(name) for name in parts], raises=False, allow=allow)
        return [str(one) for one in found.overlaps if {one.first, one.second} & set(self.folds)]

    @cached_property
    def cells(self) -> list[Cell]:
        """All cells: seed by seed, fold by fold, model by model, so that what is there early can be compared."""
        one = self.comparison
        cells = [
            self._cell(name, model, fold, seed)
            for place, seed in enumerate(one.seeds)
            for fold in self.folds
            for name, model in one.models.items()
            if model.best_of is None and (place == 0 or model.recipe is not None or model.baseline in DRAWN)
        ]
        for name, model in one.models.items():
            held = {
                cell.model: cell.recipe.data.validation
                for cell in cells
                if cell.recipe and cell.model in (model.best_of or ())
            }
            if len({repr(part) for part in held.values()}) > 1:
                raise _wrong(
                    f"models.{name}.best_of",
                    "names recipes that hold out different parts; expected one and the same. Write validation: {by_identity: 0.15}",
                )
        return cells

    def cells_of(self, model: str) -> list[Cell]:
        """The cells of one row; of a row that chooses, those of the first that it chooses from."""
        own = (self.comparison.models[model].best_of or [model])[0]
        return [cell for cell in self.cells if cell.model == own]

    def _cell(self, name: str, model: ModelChoice, fold: str, seed: int) -> Cell:
        recipe = None if model.checkpoint is not None else self._recipe(name, model, fold, seed)
        settings = self._settings(fold)
        made_by: dict[str, Any] = {"corpus": self.comparison.corpus, "data": self.data, "fold": fold, "seed": seed}
        made_by |= {"protocol": self.comparison.protocol} | ({"sees": model.sees} if model.sees else {})
        if recipe is not None:
            made_by |= flatten({"recipe": recipes.recipe_to_dict(recipe)})
        else:
            made_by |= {"checkpoint": self._weights(str(model.checkpoint))}
        return Cell(name, fold, seed, recipe, model, settings, made_by)

    def _weights(self, checkpoint: str) -> str:
        place = Path(plugins.locate_checkpoint(checkpoint))
        return (hash_weights(place) if place.is_dir() else None) or checkpoint  # of a Hub id, its name

    def _recipe(self, name: str, model: ModelChoice, fold: str, seed: int) -> recipes.Recipe:
        """The recipe with this fold left out and this seed; of a baseline what it is fitted on."""
        one = self.comparison
        followed = model.recipe or model.sees
        if followed is not None:
            base = recipes.override(recipes.read_recipe_file(followed), model.changes)
        else:
            base = {
                "model_type": model.baseline,
                "data": {"train": {"split": EVERY_SPLIT if self.numbered else "train"}},
            }
        data: dict[str, Any] = base.get("data") or {}
        if data.get("corpus", one.corpus) != one.corpus:
            raise _wrong(f"models.{name}", f"is a recipe for {data['corpus']}, and the comparison is on {one.corpus}")
        options = {**(data.get("options") or {}), **one.options}
        self._check_options(name, options)
        changes: dict[str, Any] = {
            "data.corpus": one.corpus,
            "data.options": options,
            "data.validation": one.validation or (data.get("validation") if model.recipe else self._held_out),
            "seed": seed,
        }
        if self.numbered:  # else a split is tested, and the recipe trains on its own
            official = one.protocol == OFFICIAL
            others = [int(other) for other in self.numbered if other != fold] if official else None
            cut = {"name": one.protocol, "fold": fold, "n_folds": one.n_folds, "seed": one.fold_seed}
            changes |= {
                "data.train.split": EVERY_SPLIT,
                "data.train.folds": others,
                "data.protocol": None if official else cut,
            }
        recipe = recipes.recipe_from_dict(recipes.override(base, changes), f"models.{name}")
        recipes.check_recipe_code(recipe, self.trust)
        held, own = recipe.data.validation, recipe.data.train.split
        if self.numbered:
            sees = held.split is not None or held.folds is not None
        else:
            sees = not {fold, EVERY_SPLIT}.isdisjoint({own, held.split})
        if sees:
            raise _wrong(
                f"models.{name}",
                "trains or validates on a fold or split of its own, which may be the one that is left out; expected a share of the "
                "training side: write validation: {by_identity: 0.15}",
            )
        return recipe

    def _check_options(self, name: str, options: Mapping[str, Any]) -> None:
        """Refuse options of a recipe by which folds hold other people than the comparison's; each options once."""
        if options == self.comparison.options or options in self._checked:
            return
        rows = take_split(self.corpus.load(self.data_dir, **options), EVERY_SPLIT)
        # a protocol cuts by people, whatever the folds are
        wanted = ("identity", "fold") if self.comparison.protocol == OFFICIAL else ("identity",)
        ours, theirs = (set(zip(*(column(one, key) for key in wanted), strict=True)) for one in (self.pool, rows))
        if ours != theirs:
            raise _wrong(
                f"models.{name}",
                f"reads the corpus with {dict(options)}, by which other people stand in the folds; expected the same for all "
                "models: write these under options, or others in the recipe",
            )
        self._checked.append(options)

    @cached_property
    def _held_out(self) -> dict[str, Any]:
        """What the data of a baseline are divided by until it is fitted, which is on both sides (`baselines.py`)."""
        if self.comparison.protocol == "P1":
            return {"by_trial": 0.15}
        return {"by_identity" if all(column(self.pool, "identity")) else "by_content": 0.15}

    def _settings(self, fold: str) -> EvaluationSettings:
        one = self.comparison
        common = EvaluationSettings(
            options=one.options, conditions=tuple(one.conditions), people=True, overwrite=True, batch_size=64
        )
        if not self.numbered:
            return replace(common, split=fold)
        if one.protocol == OFFICIAL:
            return replace(common, folds=[int(fold)])
        return replace(
            common, protocol=one.protocol, protocol_fold=fold, protocol_folds=one.n_folds, protocol_seed=one.fold_seed
        )

    def describe(self) -> dict[str, Any]:
        """How the corpus was divided, for the caption and for programs."""
        one = self.comparison
        protocol = PROTOCOLS[one.protocol].to_dict() if one.protocol in PROTOCOLS else None
        if protocol is None and (own := self.corpus.own_protocol(one.options)) is not None:
            protocol = own.to_dict()
        return {
            "corpus": one.corpus,
            "synthetic": self.corpus.synthetic,
            "data": self.data,
            "protocol": one.protocol,
            "claims": protocol,
            "leaks": self.leaks,
            "folds": self.folds,
            "seeds": one.seeds,
            "conditions": one.conditions,
            "reference": one.compared_with,
        }
