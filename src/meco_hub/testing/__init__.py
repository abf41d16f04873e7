"""The conformance kit: what every architecture of the zoo must do, as checks that a plugin's test file runs.

    from meco_hub.testing import parametrize_with_checks

    @parametrize_with_checks("meco_my_model", config={"hidden_size": 16})     # what makes the default config tiny
    def test_conformance(check):
        check()

Each check has a test id of its own, and its message says what was seen and how to fix it. The checks look at the model
through what every plugin declares, and at recordings that are drawn to fit what its processor says it reads. Checks that
make no sense for an architecture (streams for a face, experts where there is no router) are not among its checks. Without
pytest:

    python -m meco_hub.testing meco_my_model"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .check import Check, NotConforming, Rule

if TYPE_CHECKING:
    from ..plugins import Architecture
    from .subject import Recordings

__all__ = ["Check", "NotConforming", "checks", "list_checks", "parametrize_with_checks", "rules"]


def checks(
    model_type: str,
    *,
    config: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
    processor: Mapping[str, Any] | None = None,
    recordings: "Recordings | None" = None,
) -> list[Check]:
    """The checks that apply to an architecture. Those of one variant share a model, so run them in one process.

    Args:
        model_type: of an installed architecture.
        config: fields that make its default config tiny; a list of such gives every check for every variant.
        processor: options of its processor, where `for_config(config)` of the processor's class does not say enough.
        recordings: (number, seed) → that many recordings, all different, as the processor takes them. Default: drawn by kind.

    Raises:
        UnknownNameError: no such architecture is installed.
        PluginError: it is installed, but broken.
    """
    from .. import plugins

    variants = [dict(one) for one in config] if isinstance(config, Sequence) else [dict(config or {})]
    return list_checks(plugins.architecture(model_type), variants, dict(processor or {}), recordings)


def parametrize_with_checks(
    model_type: str,
    *,
    config: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
    processor: Mapping[str, Any] | None = None,
    recordings: "Recordings | None" = None,
    skip: Mapping[str, str] | None = None,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Decorator of a test function with one parameter, `check`: one test per check of `checks`, under the check's name.

    Args:
        model_type, config, processor, recordings: as of `checks`.
        skip: check → why it is not run on this plugin; pytest reports the reason.

    Raises:
        UnknownNameError: no such architecture, or `skip` names a check that does not apply to it.
    """
    import pytest

    from ..errors import unknown_name

    listed = checks(model_type, config=config, processor=processor, recordings=recordings)
    reasons = dict(skip or {})
    for name in reasons:
        if name not in {one.topic for one in listed}:
            raise unknown_name(f"check of {model_type}", name, {one.topic for one in listed}, "Correct `skip`.")
    cases = []
    for one in listed:
        marks = [pytest.mark.slow] if one.slow else []
        if one.topic in reasons:
            marks.append(pytest.mark.skip(reason=reasons[one.topic]))
        cases.append(pytest.param(one, id=one.name, marks=marks))
    return pytest.mark.parametrize("check", cases)


def rules() -> list[Rule]:
    """All rules, in the order in which they are best read: a broken declaration explains what fails after it."""
    from . import checks_answers, checks_plugin, checks_training

    modules = (checks_plugin, checks_answers, checks_training)
    return [one for module in modules for one in vars(module).values() if isinstance(one, Rule)]


def list_checks(
    entry: "Architecture",
    variants: Sequence[Mapping[str, Any]],
    processor: Mapping[str, Any],
    recordings: "Recordings | None",
) -> list[Check]:
    """The checks that apply to an architecture, variant by variant."""
    from .subject import Subject

    found: list[Check] = []
    for number, fields in enumerate(variants, start=1):
        subject = Subject(entry, fields, processor, recordings)
        mark = f"-{number}" if len(variants) > 1 else ""
        found += [
            Check(f"{one.topic}{mark}", one.topic, one.slow, one, subject)
            for one in rules()
            if (number == 1 or not one.once) and one.applies(subject)
        ]
    return found
