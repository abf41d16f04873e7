"""The tree of errors: what catches what, and how messages read."""

import inspect

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


def test_unknown_name_offers_the_nearest() -> None:
    message = str(errors.unknown_name("corpus", "fer2031", ["raf_db", "fer2013"], "See the list."))
    assert (
        message == "There is no corpus named 'fer2031'. Did you mean 'fer2013'? Known: fer2013, raf_db. See the list."
    )


def test_unknown_name_with_nothing_known() -> None:
    assert str(errors.unknown_name("corpus", "x", [])) == "There is no corpus named 'x'. No corpus is registered."
