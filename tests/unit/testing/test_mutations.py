"""Each check fails on an architecture that is broken in just that place, says why, and all other checks still pass.

The architecture of `planted/` passes everything. Every mutation below breaks one thing in it, in the test's own process.
"""

import dataclasses
import functools
import random
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from meco_hub.outputs import EmotionRecognitionOutput
from meco_hub.plugins import Architecture
from meco_hub.processing.signal_windower import SignalWindower
from meco_hub.recordings.signal_recording import SignalRecording
from meco_hub.testing import NotConforming, list_checks, rules
from meco_hub.testing.check import Check

Patch = pytest.MonkeyPatch
Change = dict[str, Any]
MUTATIONS: dict[str, tuple[Callable[..., Change | None], str]] = {}
"""Check → what breaks it (which may give fields of the architecture to change), and what its message must say."""


def breaks(check: str, message: str) -> Callable[[Callable[..., Change | None]], Callable[..., Change | None]]:
    """Declare what breaks a check."""

    def declare(mutate: Callable[..., Change | None]) -> Callable[..., Change | None]:
        assert check not in MUTATIONS
        MUTATIONS[check] = (mutate, message)
        return mutate

    return declare


class Parts:
    """The classes of the planted architecture, to be patched, and a folder for packages that are broken as files."""

    def __init__(self, patch: Patch, folder: Path) -> None:
        from planted_signals import configuration_planted, modeling_planted, processing_planted

        self.patch, self.folder = patch, folder
        self.config: Any = configuration_planted.PlantedConfig
        self.windower: Any = processing_planted.PlantedWindower
        self.layer: Any = modeling_planted.PlantedLayer
        self.shared: Any = modeling_planted.PlantedPreTrainedModel
        self.model: Any = modeling_planted.PlantedModel
        self.head: Any = modeling_planted.PlantedForEmotionRecognition

    def wrap(self, owner: Any, name: str, change: Callable[..., Any]) -> None:
        """Replace a method by `change(original, self, …)`."""
        original = getattr(owner, name)

        @functools.wraps(original)  # the kit reads signatures
        def changed(*given: Any, **more: Any) -> Any:
            return change(original, *given, **more)

        self.patch.setattr(owner, name, changed)

    def package(self, name: str, files: dict[str, str]) -> None:
        """A package beside the planted one."""
        for relative, content in files.items():
            file = self.folder / name / relative
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content, encoding="utf-8")
        self.patch.syspath_prepend(str(self.folder))


# --- the plugin ---------------------------------------------------------------------------------------------------------


@breaks("entry_point", "converter='planted_signals:nothing'.*Correct the path")
def _points_nowhere(parts: Parts) -> Change:
    return {"converter": "planted_signals:nothing"}


@breaks("init_without_torch", "imports torch.*dotted paths")
def _heavy_init(parts: Parts) -> Change:
    parts.package(
        "planted_heavy",
        {
            "__init__.py": "import torch\n",
            "configuration.py": "from planted_signals.configuration_planted import PlantedConfig\n",
        },
    )
    return {"config": "planted_heavy.configuration:PlantedConfig"}


@breaks("import_without_optional_packages", "planted_needy.modeling: ModuleNotFoundError.*timm.*DependencyError")
def _needs_timm(parts: Parts) -> Change:
    code = "import timm\nfrom planted_signals.modeling_planted import PlantedForEmotionRecognition\n"
    parts.package("planted_needy", {"__init__.py": "", "modeling.py": code})
    return {"head": "planted_needy.modeling:PlantedForEmotionRecognition"}


@breaks("card", "says nothing below ## Limits")
def _no_limits(parts: Parts) -> Change:
    text = (Path(__file__).parent / "planted" / "planted_signals" / "card.md").read_text(encoding="utf-8")
    text = re.sub(r"## Limits\n.*?\n## ", "## Limits\n\n## ", text, flags=re.DOTALL)
    parts.package("planted_card", {"__init__.py": "", "card.md": text})
    return {"card": "planted_card:card.md"}


@breaks("recipes", r"wrong\.yaml sets model\.widht.*width")
def _misspelt_recipe(parts: Parts) -> Change:
    text = (Path(__file__).parent / "planted" / "planted_signals" / "recipes" / "quick.yaml").read_text(
        encoding="utf-8"
    )
    parts.package("planted_recipes", {"__init__.py": "", "recipes/wrong.yaml": text.replace("width", "widht")})
    return {"recipes": "planted_recipes:recipes"}


# --- the config ---------------------------------------------------------------------------------------------------------


@breaks("config_round_trip", "note: '!' became '!!'")
def _changes_on_reading(parts: Parts) -> None:
    def shout(original: Any, self: Any, **given: Any) -> None:
        self.note += "!"
        original(self, **given)

    parts.wrap(parts.config, "__post_init__", shout)


@breaks("config_misspelt_field", "typing error silently keeps the default")
def _accepts_misspelt(parts: Parts) -> None:
    parts.patch.setattr(parts.config, "_refuse_misspelt", lambda self, given, read: None)


@breaks("config_unknown_key", "is lost when the config is read and saved")
def _drops_unknown(parts: Parts) -> None:
    def forget(original: Any, self: Any, **given: Any) -> None:
        original(self, **{name: value for name, value in given.items() if not name.startswith("zz_")})

    parts.wrap(parts.config, "__post_init__", forget)


@breaks("config_labels", "num_labels=2 and no names has, when saved and read")
def _loses_two_labels(parts: Parts) -> None:
    def leave_out(original: Any, self: Any) -> dict[str, Any]:  # as transformers 5.23 does with two that have no names
        names = ("id2label", "label2id") if list(self.id2label.values()) == ["LABEL_0", "LABEL_1"] else ()
        return {name: value for name, value in original(self).items() if name not in names}

    parts.wrap(parts.config, "to_diff_dict", leave_out)


@breaks("config_labels_reach_the_head", r"A head with 5 labels gives logits of shape \(2, 3\)")
def _fixed_width(parts: Parts) -> None:
    def build(original: Any, self: Any, config: Any) -> None:
        original(self, config)
        self.classifier = nn.Linear(config.width, 3)

    parts.wrap(parts.head, "__init__", build)


# --- checkpoints --------------------------------------------------------------------------------------------------------


@breaks("save_and_load", "The loaded model's logits differ")
def _keeps_state_outside(parts: Parts) -> None:
    def build(original: Any, self: Any, config: Any) -> None:
        original(self, config)
        self.level = random.random()

    parts.wrap(parts.head, "__init__", build)
    # the same for every class, so that no score changes
    parts.patch.setattr(parts.head, "finish", lambda self, logits: logits + self.level)


@breaks("safetensors_only", "save_pretrained writes .*extra.bin")
def _writes_a_pickle(parts: Parts) -> None:
    def save(original: Any, self: Any, folder: Any, **given: Any) -> None:
        original(self, folder, **given)
        torch.save({}, Path(folder) / "extra.bin")

    parts.wrap(parts.head, "save_pretrained", save)


@breaks("no_auto_map", r"A config that was loaded with an auto_map writes it into config\.json")
def _keeps_auto_map(parts: Parts) -> None:
    def write(original: Any, self: Any) -> dict[str, Any]:
        return {**original(self), **({"auto_map": self.auto_map} if hasattr(self, "auto_map") else {})}

    parts.wrap(parts.config, "to_dict", write)


@breaks("base_model", "lack.*base_model_prefix")
def _wrong_prefix(parts: Parts) -> None:
    parts.patch.setattr(parts.shared, "base_model_prefix", "trunk")


@breaks("auto_classes", "AutoModelForVideoClassification.from_pretrained does not load")
def _unregistered_door(parts: Parts) -> Change:
    return {"native_heads": ("AutoModelForVideoClassification",)}


@breaks("meta_buffers", "The buffer planted.steps has another value")
def _forgotten_buffer(parts: Parts) -> None:
    def build(original: Any, self: Any, config: Any) -> None:
        original(self, config)
        self.register_buffer("steps", torch.arange(5000) + 0.5, persistent=False)

    parts.wrap(parts.model, "__init__", build)


@breaks("init_covers_weights", "leaves planted.layer.gain")
def _forgotten_parameter(parts: Parts) -> None:
    def initialise(original: Any, self: Any, module: nn.Module) -> None:
        if not isinstance(module, parts.layer):
            original(self, module)

    parts.wrap(parts.shared, "_init_weights", initialise)


# --- the processor ------------------------------------------------------------------------------------------------------


@breaks("processor_required", "PlantedWindower.from_pretrained accepts a folder")
def _made_up_settings(parts: Parts) -> None:
    def load(cls: Any, folder: Any, **given: Any) -> Any:
        try:
            return SignalWindower.from_pretrained.__func__(cls, folder, **given)  # pyright: ignore[reportFunctionMemberAccess]
        except OSError:
            return cls()

    parts.patch.setattr(parts.windower, "from_pretrained", classmethod(load))


@breaks("processor_round_trip", "clip_at: 9.0 → 10.0")
def _saves_another_value(parts: Parts) -> None:
    def write(original: Any, self: Any) -> dict[str, Any]:
        return {**original(self), "clip_at": self.clip_at + 1}

    parts.wrap(parts.windower, "to_dict", write)


def _change_batches(parts: Parts, change: Callable[[Any, Any, Any], None]) -> None:
    def call(original: Any, self: Any, clips: Any, return_tensors: str | None = None) -> Any:
        batch = original(self, clips, return_tensors=return_tensors)
        change(self, [clips] if isinstance(clips, SignalRecording) else clips, batch)
        return batch

    parts.wrap(parts.windower, "__call__", call)


@breaks("processor_determinism", "two different inputs.pulse")
def _draws(parts: Parts) -> None:
    def shake(self: Any, clips: Any, batch: Any) -> None:
        if torch.initial_seed() == 2:
            batch["inputs"]["pulse"] = batch["inputs"]["pulse"] + 0.01

    _change_batches(parts, shake)


@breaks("processor_batches", "between a batch of its own and a batch of 4")
def _normalises_by_the_batch(parts: Parts) -> None:
    def centre(self: Any, clips: Any, batch: Any) -> None:
        if isinstance(clips, list) and len(clips) > 1:  # clips of one recording, as pipelines pass them, are left alone
            batch["inputs"]["pulse"] = batch["inputs"]["pulse"] - 0.1 * batch["inputs"]["pulse"].mean()

    _change_batches(parts, centre)


@breaks("processor_refuses", "An object is processed as if nothing were wrong")
def _reads_anything(parts: Parts) -> None:
    def read(original: Any, self: Any, source: Any) -> Any:
        return self.blank() if type(source) is object else original(self, source)

    parts.wrap(parts.windower, "read", read)


# --- answers ------------------------------------------------------------------------------------------------------------


def _spoil(parts: Parts, change: Callable[[Any, torch.Tensor], torch.Tensor]) -> None:
    parts.patch.setattr(parts.head, "finish", change)


@breaks("output", "returns a Foreign.*EmotionRecognitionOutput")
def _another_output(parts: Parts) -> None:
    kind: Any = dataclasses.make_dataclass(
        "Foreign",
        [(one.name, Any, None) for one in dataclasses.fields(EmotionRecognitionOutput)] + [("expert_gates", Any, None)],
        bases=(EmotionRecognitionOutput.__bases__[0],),
    )
    parts.wrap(parts.head, "forward", lambda original, *given, **more: kind(**original(*given, **more)))


@breaks("labels_match_logits", "The loss is .* for the labels that the model answers")
def _counts_backwards(parts: Parts) -> None:
    def compare(self: Any, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(-logits, labels)

    parts.patch.setattr(parts.head, "compare", compare)


@breaks("batch_of_one", "one by one differ")
def _sees_neighbours(parts: Parts) -> None:
    _spoil(parts, lambda self, logits: logits + 1e-4 * len(logits) * torch.eye(logits.shape[-1])[0])


@breaks("determinism", "Two calls on the same batch differ")
def _rolls_dice(parts: Parts) -> None:
    _spoil(parts, lambda self, logits: logits + 5e-5 * torch.rand(()))


@breaks("half_precision", "In torch.bfloat16 the logits are not finite")
def _too_fine(parts: Parts) -> None:
    # 1.001 is 1 in bfloat16; the same for every class, so that no score changes
    _spoil(parts, lambda self, logits: logits + 0.1 * ((torch.ones((), dtype=logits.dtype) + 1e-3) - 1).log())


# --- streams ------------------------------------------------------------------------------------------------------------


@breaks("masked_values", "behind a False mask change the logits")
def _ignores_masks(parts: Parts) -> None:
    parts.wrap(
        parts.model,
        "valid",
        lambda original, self, name, values, mask, there: original(self, name, values, None, there),
    )


@breaks("absent_streams", "inputs.pulse is marked as absent")
def _ignores_presence(parts: Parts) -> None:
    parts.wrap(
        parts.model, "valid", lambda original, self, name, values, mask, there: original(self, name, values, mask, None)
    )


@breaks("subsets_of_streams", "With pulse alone the logits are .nan")
def _needs_two(parts: Parts) -> None:
    def pool(original: Any, self: Any, tokens: Any, there: Any) -> torch.Tensor:
        alone = torch.stack(there).sum(dim=0) == 1
        return original(self, tokens, there).masked_fill(alone.unsqueeze(-1), float("nan"))

    parts.wrap(parts.model, "pool", pool)


@breaks("dict_order", "The order of the keys of a batch changes the logits")
def _counts_keys(parts: Parts) -> None:
    def forward(original: Any, self: Any, inputs: Any, *given: Any, **more: Any) -> Any:
        first = next(iter(inputs))
        return original(
            self, {name: one * (1.1 if name == first else 1) for name, one in inputs.items()}, *given, **more
        )

    parts.wrap(parts.model, "forward", forward)


@breaks("clock_shift", "A clock that began 1000 s earlier")
def _absolute_times(parts: Parts) -> None:
    def stamp(self: Any, clips: Any, batch: Any) -> None:
        start = torch.tensor([[clip.start] for clip in clips], dtype=torch.float32)
        batch["timestamps"] = {name: one + start for name, one in batch["timestamps"].items()}

    _change_batches(parts, stamp)


@breaks("live_recordings", "Following a recording that goes on ends in AttributeError")
def _measures_recordings_only(parts: Parts) -> None:
    def measure(original: Any, self: Any, recordings: Any) -> Any:
        return original(self, [one.without(()) for one in recordings])

    parts.wrap(parts.windower, "measure", measure)


# --- rubbish ------------------------------------------------------------------------------------------------------------


@breaks("wrong_shapes", "ends in .*Check shapes first thing")
def _checks_no_shape(parts: Parts) -> None:
    parts.patch.setattr(parts.model, "check", lambda self, name, values: None)


@breaks("non_finite_values", "is answered by .nan")
def _lets_nan_through(parts: Parts) -> None:
    def valid(self: Any, name: str, values: torch.Tensor, mask: Any, presence: torch.Tensor) -> torch.Tensor:
        good = torch.ones(values.shape[:2], dtype=torch.bool) if mask is None else mask[name]
        return good if presence is None else good & presence[:, self.config.modality_names.index(name), None]

    parts.patch.setattr(parts.model, "valid", valid)


# --- training -----------------------------------------------------------------------------------------------------------


@breaks("gradients", "the router chose none of the experts that own planted.experts.3")
def _starves_an_expert(parts: Parts) -> None:
    def route(original: Any, self: Any, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits, gates = original(self, hidden)
        return logits, gates * torch.tensor([1.0, 1.0, 1.0, 0.0]).to(gates.dtype)

    parts.wrap(parts.model, "route", route)
    parts.patch.setattr(parts.head, "report", lambda self, logits, gates: {"router_logits": (logits,)})


@breaks("overfitting", "On six recordings")
def _bounded_logits(parts: Parts) -> None:
    _spoil(parts, lambda self, logits: 0.2 * torch.tanh(logits))


@breaks("gradient_checkpointing", "changes the gradient of")
def _cuts_the_graph(parts: Parts) -> None:
    def call(original: Any, self: Any, hidden: torch.Tensor) -> torch.Tensor:
        return original(self, hidden.detach() if self.gradient_checkpointing and self.training else hidden)

    parts.wrap(parts.layer, "__call__", call)


# --- parts --------------------------------------------------------------------------------------------------------------


@breaks("no_scalar_parameters", "planted.layer.gain have the shape .., which fully_shard refuses.*shape .1,.")
def _one_gain(parts: Parts) -> None:
    def build(original: Any, self: Any, width: int) -> None:
        original(self, width)
        self.gain = nn.Parameter(torch.ones(()))

    parts.wrap(parts.layer, "__init__", build)


@breaks(
    "same_layers_everywhere",
    r"Training calls planted\.experts\.\d.* for one batch as it does not for another.*is_sharded",
)
def _asks_an_expert_twice(parts: Parts) -> None:
    def combine(original: Any, self: Any, hidden: torch.Tensor, gates: torch.Tensor) -> torch.Tensor:
        if not torch.compiler.is_compiling():
            self.experts[int(hidden[0].argmax()) % len(self.experts)](hidden)
        return original(self, hidden, gates)

    parts.wrap(parts.model, "combine", combine)


# --- routing ------------------------------------------------------------------------------------------------------------


@breaks("router_logits", "are probabilities already")
def _softmax_twice(parts: Parts) -> None:
    def report(original: Any, self: Any, logits: torch.Tensor, gates: torch.Tensor) -> dict[str, Any]:
        return original(self, logits.softmax(dim=-1), gates)

    parts.wrap(parts.head, "report", report)


@breaks("routing_sums_to_one", "expert_gates of shape .* sums to one along none")
def _shares_too_much(parts: Parts) -> None:
    def report(original: Any, self: Any, logits: torch.Tensor, gates: torch.Tensor) -> dict[str, Any]:
        return original(self, logits, 1.2 * gates)

    parts.wrap(parts.head, "report", report)


@breaks("no_dead_expert", "expert 2 of 4 never gets")
def _buries_an_expert(parts: Parts) -> None:
    def route(self: Any, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits = self.router(hidden) - 20 * torch.eye(4)[2].to(hidden.dtype)
        return logits, logits.float().softmax(dim=-1).to(hidden.dtype)

    parts.patch.setattr(parts.model, "route", route)


# --- graphs -------------------------------------------------------------------------------------------------------------


@breaks("compiled", "Compiled, the logits are")
def _differs_compiled(parts: Parts) -> None:
    _spoil(parts, lambda self, logits: logits * (1.5 if torch.compiler.is_dynamo_compiling() else 1.0))


@breaks("exported", "The exported graph does not use|Exported, the logits are")
def _one_expert_exported(parts: Parts) -> None:
    def combine(original: Any, self: Any, hidden: torch.Tensor, gates: torch.Tensor) -> torch.Tensor:
        return hidden + self.experts[0](hidden) if torch.compiler.is_exporting() else original(self, hidden, gates)

    parts.wrap(parts.model, "combine", combine)


@breaks("exported_to_onnx", "answers .* away from the network")
def _prepares_another_network(parts: Parts) -> None:
    def prepare(self: Any, dtype: str) -> None:
        for parameter in self.parameters():
            parameter.data.mul_(1.1)

    parts.patch.setattr(parts.shared, "prepare_export", prepare)


# --- the pipeline -------------------------------------------------------------------------------------------------------


@breaks("pipeline_answers", "The pipeline says")
def _reads_half(parts: Parts) -> None:
    def read(original: Any, self: Any, source: Any) -> SignalRecording:
        return original(self, source).without(["pulse"])

    parts.wrap(parts.windower, "read", read)


# --- the tests ----------------------------------------------------------------------------------------------------------


def _checks(planted: Any, change: Change | None = None) -> dict[str, Check]:
    entry: Architecture = dataclasses.replace(planted.architecture, **(change or {}))
    return {one.name: one for one in list_checks(entry, [{}], {}, None)}


def _failures(checks: dict[str, Check], names: list[str]) -> dict[str, str]:
    failed: dict[str, str] = {}
    for name in names:
        try:
            checks[name]()
        except NotConforming as error:
            failed[name] = str(error)
    return failed


def test_every_check_has_a_mutation(planted: Any) -> None:
    assert [one.topic for one in rules()] == list(_checks(planted))  # the planted architecture is asked everything
    assert set(MUTATIONS) == set(_checks(planted))


@pytest.mark.parametrize("slow", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["fast", "slow"])
def test_the_planted_architecture_passes_every_check(slow: bool, planted: Any) -> None:
    checks = _checks(planted)
    assert _failures(checks, [name for name, check in checks.items() if check.slow == slow]) == {}


SLOW = ("compiled", "exported", "exported_to_onnx", "init_without_torch", "import_without_optional_packages")


@pytest.mark.parametrize(
    "name", [pytest.param(one, marks=pytest.mark.slow) if one in SLOW else one for one in MUTATIONS]
)
def test_a_check_fails_on_what_breaks_it_and_the_others_pass(
    name: str, planted: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    mutate, message = MUTATIONS[name]
    random.seed(0)
    checks = _checks(planted, mutate(Parts(monkeypatch, tmp_path)))
    # graphs cost seconds each; what breaks one does not break the rest, and the rest breaks them or not
    asked = [one for one, check in checks.items() if one == name or not check.slow]
    failed = _failures(checks, asked)
    for module in [one for one in sys.modules if one.startswith("planted_") and not one.startswith("planted_signals")]:
        del sys.modules[module]
    assert list(failed) == [name]
    assert re.search(message, failed[name], re.DOTALL), failed[name]
