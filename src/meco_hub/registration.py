"""Registration: hands every installed architecture to transformers' Auto classes and pipelines, lazily.

transformers has no entry points of its own, and importing its Auto classes costs seconds and torch. So `import meco_hub` puts a
finder in front of `sys.meta_path` that waits for a few modules of transformers; when one of them has executed, the matching
part of every plugin is registered through the public `.register` calls. Modules that were imported before us are served at once.

A class cannot be registered while the module it stands in is being executed, or while transformers is half way through
`modeling_utils`, which a plugin with config and model in one file imports. Such a plugin is not broken: it gets its turn when that
module is whole.

A plugin whose classes fail to import is warned about once and left out; `from transformers import AutoModel` always works.
"""

import importlib
import importlib.machinery
import sys

TYPE_CHECKING = (
    False  # this file runs on `import meco_hub`: what only its later work or its types need is imported there
)
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import ModuleType
    from typing import Any

    from .plugins import Architecture

failures: dict[str, str] = {}
"""Model type → traceback, for architectures whose classes could not be imported; `meco doctor` shows them."""


def _load(entry: "Architecture", path: str) -> "Any | None":
    """The class a plugin promised, or None (said once) when its import fails."""
    from . import plugins

    if entry.model_type in failures:
        return None
    owner = plugins.architectures().distributions.get(entry.model_type, "its distribution")
    try:
        with plugins.watched(f"module {path.partition(':')[0]!r}", owner):
            return plugins.load_dotted(path)
    except (Exception, SystemExit) as error:  # noqa: BLE001 — a stranger's module may raise anything; transformers must still import
        if _is_executing(_MODELING) or _is_executing(path.partition(":")[0]):
            return None
        _leave_out(entry, "cannot be imported", error)
        return None


def _leave_out(entry: "Architecture", what: str, error: BaseException) -> None:
    """Remember what happened to a plugin's classes, and say it once. Called where the error is being handled."""
    import logging
    import traceback

    failures[entry.model_type] = traceback.format_exc()
    logging.getLogger(__name__).warning(
        "meco_hub: the classes of %r %s, so it is left out: %s: %s. `meco doctor` shows more.",
        entry.model_type,
        what,
        type(error).__name__,
        error,
    )


def _register(entry: "Architecture", register: "Callable[..., object]", *what: "Any", **how: "Any") -> None:
    """Call a `register` of transformers, which refuses what does not fit together; its refusal must not stop an import."""
    if entry.model_type in failures:
        return
    try:
        register(*what, exist_ok=True, **how)
    except Exception as error:  # noqa: BLE001 — as in `_load`
        _leave_out(entry, "cannot be registered", error)


_MODELING = "transformers.modeling_utils"


def _is_executing(name: str) -> bool:
    """A module is half imported, somewhere below on the stack."""
    return getattr(getattr(sys.modules.get(name), "__spec__", None), "_initializing", False)


def _configs() -> "Iterator[tuple[Architecture, Any]]":
    from . import plugins

    for entry in plugins.architectures().healthy.values():
        config = _load(entry, entry.config)
        if config is not None:
            yield entry, config


def _processors(*fields: str) -> "Iterator[tuple[Architecture, Any, Any]]":
    """Every architecture with its config and the first of its processors that stands under one of these fields."""
    for entry, config in _configs():
        path = next(filter(None, (getattr(entry, field) for field in fields)), None)
        processor = _load(entry, path) if path else None
        if processor is not None:
            yield entry, config, processor


def _resolving(function: "Any") -> "Any":
    """A method of transformers that takes a checkpoint's name, which takes that of a bundled one too and asks no network for it."""
    if getattr(function, "meco_hub_resolves", False):
        return function
    import functools

    @functools.wraps(function)
    def resolve(cls: "Any", name: "Any", *more: "Any", **options: "Any") -> "Any":
        return function(cls, _bundled(name), *more, **options)

    resolve.meco_hub_resolves = True  # pyright: ignore[reportAttributeAccessIssue]
    return resolve


def _bundled(name: "Any") -> "Any":
    """The folder of a bundled checkpoint for its name, unless a folder of that name lies here; anything else as it is."""
    if not isinstance(name, str) or "/" in name or not name.startswith("meco"):
        return name
    from pathlib import Path

    from . import plugins

    return name if Path(name).exists() else str(plugins.checkpoints().get(name, name))


def _resolve_names(auto: "Any") -> None:
    """Let `from_pretrained` of an Auto class take the names of bundled checkpoints."""
    auto.from_pretrained = classmethod(_resolving(auto.from_pretrained.__func__))


def _register_configs(module: "ModuleType") -> None:
    _resolve_names(module.AutoConfig)
    for entry, config in _configs():
        _register(entry, module.AutoConfig.register, entry.model_type, config)


def _register_late_configs(module: "ModuleType") -> None:
    """`modeling_utils` is whole now: configs that share a file with their model can be imported."""
    auto = sys.modules.get(_AUTO + "configuration_auto")
    if auto is not None and hasattr(auto, "AutoConfig"):
        _register_configs(auto)


def _register_models(module: "ModuleType") -> None:
    from .auto import AutoModelForEmotionRecognition

    # each has a copy of its own
    for auto in [*vars(module).values(), AutoModelForEmotionRecognition]:
        if isinstance(auto, type) and issubclass(auto, module._BaseAutoModelClass):
            _resolve_names(auto)
    for entry, config in _configs():
        base, head = _load(entry, entry.base_model), _load(entry, entry.head)
        if base is None or head is None:
            continue
        _register(entry, module.AutoModel.register, config, base)
        _register(entry, AutoModelForEmotionRecognition.register, config, head)
        for name in entry.native_heads:
            _register(entry, _native(module, name), config, head)


def _native(module: "ModuleType", name: str) -> "Callable[..., object]":
    """`register` of one of transformers' own Auto classes, whose name a plugin may have misspelt."""

    def register(*what: "Any", **how: "Any") -> None:
        getattr(module, name).register(*what, **how)

    return register


def _register_image_processors(module: "ModuleType") -> None:
    if hasattr(getattr(module, "AutoImageProcessor", None), "from_pretrained"):  # a dummy has none
        _resolve_names(module.AutoImageProcessor)
    for entry, config, processor in _processors("image_processor"):
        try:
            register = module.AutoImageProcessor.register
        except ImportError:
            # transformers 5.17 replaces AutoImageProcessor by a dummy when torchvision is missing; touching it raises.
            import logging

            logging.getLogger(__name__).info("Image processors are not registered because torchvision is missing.")
            return
        # One class serves both backends: announcing only "pil" makes transformers log a complaint on every load wherever
        # torchvision is installed.
        _register(entry, register, config, image_processor_classes={"pil": processor, "torchvision": processor})


def _register_feature_extractors(module: "ModuleType") -> None:
    _resolve_names(module.AutoFeatureExtractor)
    for entry, config, extractor in _processors("feature_extractor"):
        _register(entry, module.AutoFeatureExtractor.register, config, extractor)


def _register_processors(module: "ModuleType") -> None:
    _resolve_names(module.AutoProcessor)
    # Without an entry of its own, transformers would try one kind after another, and for a repository with a stub ask whether
    # remote code may run, though nothing remote is needed.
    for entry, config, processor in _processors("processor", "feature_extractor", "image_processor"):
        _register(entry, module.AutoProcessor.register, config, processor)


def _register_pipeline(module: "ModuleType") -> None:
    if not getattr(module.pipeline, "meco_hub_resolves", False):
        module.pipeline = _resolving_pipeline(module.pipeline)  # pyright: ignore[reportAttributeAccessIssue]
    name = f"{__package__}.pipeline"
    imported = sys.modules.get(name)
    if imported is None:
        importlib.import_module(name)  # which registers itself
    elif hasattr(imported, "register"):
        imported.register()
    # Otherwise it was our own module that imported transformers.pipelines; it registers itself when its class exists.


def _resolving_pipeline(build: "Any") -> "Any":
    """`transformers.pipeline`, which also takes the name of a bundled checkpoint as its model, with or without the task."""
    import functools

    @functools.wraps(build)
    def pipeline(task: "Any" = None, model: "Any" = None, *more: "Any", **options: "Any") -> "Any":
        folder = _bundled(model)
        if folder != model and task is None:
            task = "emotion-recognition"
        return build(task, folder, *more, **options)

    pipeline.meco_hub_resolves = True  # pyright: ignore[reportAttributeAccessIssue]
    return pipeline


def _watch_declarations(module: "ModuleType") -> None:
    """`plugins` is imported: be called with every architecture when it is declared."""
    module.subscribe(_declared)


def _declared(entry: "Architecture", *, late: bool) -> None:
    """Serve transformers again whenever a module of this plugin's classes has executed, since that may be what imported it."""
    classes = (entry.config, entry.base_model, entry.head)
    for path in filter(None, (*classes, entry.image_processor, entry.feature_extractor, entry.processor)):
        _WATCHED.setdefault(path.partition(":")[0], lambda _: _serve_imported())
    if late:  # nobody has registered it yet
        _serve_imported()


_AUTO = "transformers.models.auto."
_WATCHED: "dict[str, Callable[[ModuleType], None]]" = {
    _AUTO + "configuration_auto": _register_configs,
    _AUTO + "modeling_auto": _register_models,
    _AUTO + "image_processing_auto": _register_image_processors,
    _AUTO + "feature_extraction_auto": _register_feature_extractors,
    _AUTO + "processing_auto": _register_processors,
    _MODELING: _register_late_configs,
    "transformers.pipelines": _register_pipeline,
    f"{__package__}.plugins": _watch_declarations,
}


class _PostImportLoader:
    """Runs the module as its own loader would, then calls us."""

    def __init__(self, inner: "Any", then: "Callable[[ModuleType], None]") -> None:
        self.inner, self.then = inner, then

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> "ModuleType | None":
        return self.inner.create_module(spec)

    def exec_module(self, module: "ModuleType") -> None:
        self.inner.exec_module(module)
        self.then(module)

    def __getattr__(self, name: str) -> "Any":  # get_source, is_package …: the real loader's business
        return getattr(self.inner, name)


class _PostImportFinder:
    """Finds only the watched modules, as the path finder would, and wraps their loader."""

    @staticmethod
    def find_spec(
        name: str, path: "Sequence[str] | None" = None, target: "ModuleType | None" = None
    ) -> importlib.machinery.ModuleSpec | None:
        then = _WATCHED.get(name)
        if then is None:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _PostImportLoader(spec.loader, then)  # pyright: ignore[reportAttributeAccessIssue] duck-typed
        return spec


def install() -> None:
    """Start waiting for transformers, and serve what is imported already. Calling it again changes nothing."""
    if any(finder is _PostImportFinder for finder in sys.meta_path):
        return
    sys.meta_path.insert(0, _PostImportFinder)
    _serve_imported()


def _serve_imported() -> None:
    """Register with those modules of transformers that are imported already."""
    for name, then in list(_WATCHED.items()):
        module = sys.modules.get(name) if name.startswith("transformers.") else None
        if module is not None and not getattr(module.__spec__, "_initializing", False):
            then(module)
