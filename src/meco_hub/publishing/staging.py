"""What is pushed, prepared in a folder of its own: links to the weights, copies of the rest, and what the folder lacked.

This file knows what is added to a folder before it is pushed.
"""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import PublishingError
from .contents import CARD, Contents

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
    with tempfile.TemporaryDirectory(prefix="meco-push-") as temporary:
        place = Path(temporary) / (folder.resolve().name or "model")
        place.mkdir()
        for name, path in contents.files.items():
            target = place / name
            target.parent.mkdir(parents=True, exist_ok=True)
            _bring(path.resolve(), target)
        added = _write_stub(place)
        if CARD not in contents.files:
            (place / CARD).write_text(_render_card(place, repo_id), encoding="utf-8")
            added.append(CARD)
        if tags:
            _add_tags(place / CARD, tags)
        _check_card(place / CARD)
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


def _write_stub(place: Path) -> list[str]:
    from .stub import write_stub

    return list(write_stub(place))


def _render_card(place: Path, repo_id: str) -> str:
    from .card import render_card

    return render_card(place, repo_id=repo_id)


def _add_tags(file: Path, tags: Sequence[str]) -> None:
    from huggingface_hub import ModelCard

    card = ModelCard(file.read_text(encoding="utf-8"))
    data: Any = card.data
    data.tags = list(dict.fromkeys([*(data.tags or []), *tags]))
    file.write_text(str(card), encoding="utf-8")


def _check_card(file: Path) -> None:
    from .card import check_card

    text = file.read_text(encoding="utf-8")
    if _UNFILLED in text:
        raise PublishingError(
            f"{file.name} says {_UNFILLED!r}; expected a card that was filled in. Nothing was sent. Fill it in, or remove it: "
            "`meco card` renders one."
        )
    check_card(text, file.name)
