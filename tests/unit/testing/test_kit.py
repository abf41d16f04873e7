"""How checks are listed, handed to pytest, and run without it."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub.errors import StrictDataclassError
from transformers import CONFIG_MAPPING

from meco_hub.errors import ConfigurationError, UnknownNameError
from meco_hub.testing import NotConforming, checks, parametrize_with_checks
from meco_hub.testing.__main__ import main


def _marks(decorator: Any) -> dict[str, list[str]]:
    """Test id → names of its marks."""
    (_, cases) = decorator.mark.args
    return {case.id: [mark.name for mark in case.marks] for case in cases}


def test_every_check_is_a_test_of_its_own(planted: Any) -> None:
    listed = checks("meco_planted")
    found = _marks(parametrize_with_checks("meco_planted", skip={"gradients": "only to be tried"}))
    assert list(found) == [str(one) for one in listed] == [one.name for one in listed]
    assert found["gradients"] == ["skip"]
    assert found["exported"] == ["slow"]
    assert found["output"] == []


@pytest.mark.parametrize("fields", [{"backbone_freeze": True}, {"foo": 1}, {"id2label": {0: "a", 1: "a"}}])
@pytest.mark.parametrize("name", ["meco_expressnet_moe", "meco_mcoenet", "meco_himoe"])
def test_fields_that_nobody_declares_are_errors(name: str, fields: dict[str, Any]) -> None:
    kind = CONFIG_MAPPING[name]
    with pytest.raises((ConfigurationError, StrictDataclassError), match=r"has no field|one name to several"):
        kind(**fields)


def test_labels_of_a_checkpoint_keep_their_names_whatever_order_is_asked_for(tmp_path: Path) -> None:
    CONFIG_MAPPING["meco_expressnet_moe"](id2label={0: "calm", 1: "glad"}).save_pretrained(tmp_path)
    kind = CONFIG_MAPPING["meco_expressnet_moe"]
    assert kind.from_pretrained(tmp_path, id2label={0: "glad", 1: "calm"}).id2label == {0: "calm", 1: "glad"}
    assert kind.from_pretrained(tmp_path, id2label={0: "sad", 1: "calm"}).id2label == {0: "sad", 1: "calm"}


def test_variants_share_what_looks_at_the_plugin_only(planted: Any) -> None:
    names = [one.name for one in checks("meco_planted", config=[{"width": 8}, {"width": 4}])]
    assert {"card-1", "output-1", "output-2"} <= set(names)
    assert "card-2" not in names


def test_what_makes_no_sense_is_not_asked(planted: Any) -> None:
    face = {one.topic for one in checks("meco_expressnet_moe")}
    assert not face & {"subsets_of_streams", "dict_order", "clock_shift", "masked_values", "absent_streams"}
    assert "gradient_checkpointing" not in face  # it says that it supports none
    assert "masked_values" in {one.topic for one in checks("meco_planted")}


def test_misspelt_names_are_refused(planted: Any) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'gradients'"):
        parametrize_with_checks("meco_planted", skip={"gradient": "no"})
    with pytest.raises(UnknownNameError, match="meco_planted"):
        checks("meco_plantd")


def test_recordings_may_be_handed_in(planted: Any) -> None:
    from meco_hub.recordings.signal_recording import SignalRecording

    asked = []

    def empty(number: int, seed: int) -> list[SignalRecording]:
        asked.append((number, seed))
        return [SignalRecording({}, start=0.0, end=4.0) for _ in range(number)]

    listed = {one.name: one for one in checks("meco_planted", processor={"normalization": "none"}, recordings=empty)}
    listed["output"]()
    assert (4, 0) in asked


def test_the_command_prints_a_table(
    planted: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["meco_planted", "--only", "card", "config_labels"]) == 0
    assert "2 of 2 checks passed" in capsys.readouterr().out
    from planted_signals.configuration_planted import PlantedConfig

    monkeypatch.setattr(PlantedConfig, "_refuse_misspelt", lambda self, given, read: None)
    assert main(["meco_planted", "--only", "card", "config_misspelt_field", "--config", '{"width": 8}']) == 1
    shown = capsys.readouterr().out
    assert "config_misspelt_field                FAILED" in shown
    assert "silently keeps the default" in shown


def test_an_error_of_the_architecture_is_a_failure_that_says_where(
    planted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from planted_signals.modeling_planted import PlantedModel

    def fall(*given: Any) -> None:
        raise ZeroDivisionError("by accident")

    monkeypatch.setattr(PlantedModel, "route", fall)
    (check,) = [one for one in checks("meco_planted") if one.name == "determinism"]
    with pytest.raises(NotConforming, match="determinism came to no end: ZeroDivisionError: by accident"):
        check()


def test_importing_the_kit_loads_no_torch(run_python: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    code = "import sys, meco_hub.testing; print([m for m in ('torch', 'transformers', 'pytest') if m in sys.modules])"
    assert run_python(code).stdout.strip() == "[]"
