"""What is pushed, prepared in a folder of its own: links to the weights, copies of the rest, and what the folder lacked.

Among the latter is a stub, for people who load the repository without importing us.

    config.json                auto_map: AutoConfig, AutoModel, AutoProcessor and native heads → meco_stub.…
    preprocessor_config.json   auto_map: AutoImageProcessor → meco_stub.…
    processor_config.json      auto_map: AutoProcessor → meco_stub.…
    meco_stub.py               imports these classes from the installed packages, or says which packages to install

transformers reads it only with `trust_remote_code=True` and only when meco_hub is not imported: where it is, its registered classes
are taken, and nobody is asked. A feature extractor has no entry of its own: transformers' pipelines would take it for a remote
image processor, and ask whether it may run; AutoProcessor gives it. The stub is written when a folder is pushed, and never when
one is saved (`configuration.NoRemoteCode` says why).
"""

import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

from .. import plugins
from ..errors import PublishingError
from .contents import CARD, Contents, read_json

STUB = "meco_stub.py"
_MODULE = Path(STUB).stem
_UNFILLED = "[More Information Needed]"


@contextmanager
def stage(
    folder: Path, contents: Contents, *, repo_id: str, tags: Sequence[str] = ()
) -> Iterator[tuple[Path, Contents]]:
    """A temporary folder that holds what is pushed, and its contents; gone when the block is left.

    Args:
        folder: where it comes from; its name is what an unnamed card is called by.
        contents: what of it goes.
        repo_id: for the lines in the card that load it.
        tags: more tags for the card.

    Raises:
        PublishingError: the card is not fit to be read.
        MecoError: the card cannot be made, for what it lacks.
    """
    from .card import check_card, render_card  # which brings jinja2

    with tempfile.TemporaryDirectory(prefix="meco-push-") as temporary:
        place = Path(temporary) / (folder.resolve().name or "model")
        place.mkdir()
        for name, path in contents.files.items():
            target = place / name
            target.parent.mkdir(parents=True, exist_ok=True)
            _bring(path.resolve(), target)
        added = write_stub(place)
        if CARD not in contents.files:
            (place / CARD).write_text(render_card(place, repo_id=repo_id), encoding="utf-8")
            added.append(CARD)
        if tags:
            _add_tags(place / CARD, tags)
        text = (place / CARD).read_text(encoding="utf-8")
        if _UNFILLED in text:
            raise PublishingError(
                f"{CARD} still says {_UNFILLED!r}; expected a card that was filled in. Nothing was sent. Fill it in, or remove it: "
                "`meco card` renders one."
            )
        check_card(text, CARD)
        names = sorted({*contents.files, *added})
        yield place, Contents({name: place / name for name in names}, contents.left_out)


def _bring(source: Path, target: Path) -> None:
    if source.suffix != ".safetensors":
        shutil.copyfile(source, target)
        return
    try:
        target.symlink_to(source)
    except OSError:  # Windows wants a privilege for links
        shutil.copyfile(source, target)


def _add_tags(file: Path, tags: Sequence[str]) -> None:
    from huggingface_hub import ModelCard

    card = ModelCard(file.read_text(encoding="utf-8"))
    data: Any = card.data
    data.tags = list(dict.fromkeys([*(data.tags or []), *tags]))
    file.write_text(str(card), encoding="utf-8")


def _doors(entry: plugins.Architecture, folder: Path) -> dict[str, dict[str, str]]:
    """File → Auto class → dotted path of the class that it shall give."""
    doors = {
        "config.json": {
            "AutoConfig": entry.config,
            "AutoModel": entry.base_model,
            **dict.fromkeys(entry.native_heads, entry.head),
        }
    }
    if entry.processor is None and (part := entry.feature_extractor or entry.image_processor):
        doors["config.json"]["AutoProcessor"] = part
    single = folder / "preprocessor_config.json"
    if single.is_file() and entry.image_processor and "feature_extractor_type" not in read_json(single):
        doors[single.name] = {"AutoImageProcessor": entry.image_processor}
    if (folder / "processor_config.json").is_file() and entry.processor:
        doors["processor_config.json"] = {"AutoProcessor": entry.processor}
    return doors


def _imports(paths: set[str]) -> str:
    modules: dict[str, list[str]] = {}
    for path in sorted(paths):
        module, _, name = path.partition(":")
        modules.setdefault(module, []).append(name)
    return "\n".join(
        f"    from {module} import {', '.join(sorted(names))}  # noqa: F401" for module, names in modules.items()
    )


def write_stub(folder: Path) -> list[str]:
    """Make a folder loadable by those who have not imported us; the folder is the one that is pushed, not the one worked in.

    Args:
        folder: config, weights and processor, as `save_pretrained` left them.

    Returns:
        Names of the files written or changed; none when no healthy plugin provides the architecture.

    Raises:
        PublishingError: a JSON file of it cannot be read.
    """
    entry = plugins.architectures().healthy.get(read_json(folder / "config.json").get("model_type", ""))
    if entry is None:
        return []
    doors = _doors(entry, folder)
    for name, classes in doors.items():
        content = read_json(folder / name)
        content["auto_map"] = {auto: f"{_MODULE}.{path.partition(':')[2]}" for auto, path in classes.items()}
        text = json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False)
        (folder / name).write_text(text + "\n", encoding="utf-8")
    template = files(str(__package__)).joinpath("templates", f"{STUB}.txt").read_text(encoding="utf-8")
    packages = f"meco-hub {plugins.architectures().distributions[entry.model_type]}"
    paths = {path for classes in doors.values() for path in classes.values()}
    stub = template.replace("@IMPORTS@", _imports(paths)).replace("@PACKAGES@", packages)
    (folder / STUB).write_text(stub, encoding="utf-8")
    return [*doors, STUB]
