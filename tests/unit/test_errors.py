"""The tree of errors: what catches what, and how messages read."""

import difflib
import inspect
import random
import sys
from typing import Any

import pytest

from meco_hub import errors


def test_every_error_is_ours_and_drawn_in_the_tree() -> None:
    classes = [value for _, value in inspect.getmembers(errors, inspect.isclass) if value.__module__ == errors.__name__]
    assert len(classes) > 10
    for cls in classes:
        assert issubclass(cls, errors.MecoError)
        assert cls.__name__ in (errors.__doc__ or "")


def test_built_in_handlers_keep_working() -> None:
    with pytest.raises(ValueError, match="seen"):
        raise errors.ImageError("seen")
    with pytest.raises(KeyError):
        raise errors.unknown_name("corpus", "x", [])


def test_transformers_does_not_swallow_checkpoint_errors() -> None:
    # transformers.pipelines.base.load_model catches exactly these and buries the message
    assert not issubclass(errors.CheckpointError, OSError | ValueError | TypeError | RuntimeError)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("import nothing_of_this_name", 'is not installed. Run: pip install "meco-hub[live]"'),
        (
            "raise RuntimeError('the library was not found.\\nSet PATH')",
            "does not load: the library was not found. Install",
        ),
        ("raise OSError('libz.so: no such file')", "does not load: libz.so: no such file. Install"),
    ],
)
def test_an_extra_that_is_not_there_or_does_not_load_is_named(body, said, tmp_path, monkeypatch) -> None:
    (tmp_path / "planted_extra.py").write_text(body)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "planted_extra", raising=False)
    with pytest.raises(errors.DependencyError, match="Reading streams needs Planted, which ") as found:
        errors.import_optional("planted_extra", "Reading streams", "live", "Planted")
    assert said in str(found.value)


def test_unknown_name_offers_the_nearest() -> None:
    message = str(errors.unknown_name("corpus", "fer2031", ["raf_db", "fer2013"], "See the list."))
    assert (
        message == "There is no corpus named 'fer2031'. Did you mean 'fer2013'? Known: fer2013, raf_db. See the list."
    )


def test_offers_are_those_of_difflib() -> None:
    draw = random.Random(0)

    def word() -> str:
        return "".join(draw.choices("abc_", k=draw.randint(1, 12)))

    for _ in range(300):
        name, known = word(), [word() for _ in range(20)]
        near = difflib.get_close_matches(name, known, n=2, cutoff=0.6)
        offer = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
        assert errors.suggest(name, known, count=2, cutoff=0.6) == offer


def test_names_that_are_long_and_alike_are_not_all_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """A zip of twenty thousand such names cost a minute and more for every picture that it lacks."""
    compared: list[int] = []

    class Counting(difflib.SequenceMatcher):
        def ratio(self) -> float:
            mine: Any = self
            compared.append(len(mine.a) * len(mine.b))
            return 0.5

    monkeypatch.setattr(difflib, "SequenceMatcher", Counting)
    errors.suggest("ab" * 100, [f"{number:04}{'ba' * 98}" for number in range(2000)], count=1)
    assert 100 < len(compared) < 500
    compared.clear()
    errors.suggest("ab" * 4_000_000, ["ab" * 4_000_000])
    assert compared == [1000 * 1000]


def test_a_message_is_obeyed_by_no_terminal() -> None:
    name = "\x1b]0;title\x07\u202egpj.\udce9\x9b2J"
    said = str(errors.ImageError(f"{name} cannot be read.\nCopy it."))
    assert said == "\\u001b]0;title\\u0007\\u202egpj.\\udce9\\u009b2J cannot be read.\nCopy it."
    assert "\x1b" not in str(errors.unknown_name("corpus", name, [name, "fer2013"]))


def test_unknown_name_with_nothing_known() -> None:
    assert str(errors.unknown_name("corpus", "x", [])) == "There is no corpus named 'x'. No corpus is registered."
