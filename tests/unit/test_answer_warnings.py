import re
import warnings
from pathlib import Path

import pytest

from meco_hub import answer_warnings
from meco_hub.answer_warnings import AnswerWarning, DoubtfulInputWarning, act_on, once_a_code
from meco_hub.errors import ConfigurationError, DoubtfulInputError


@pytest.fixture
def two_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer_warnings, "CODES", {"small": "It is small.", "dark": "It is dark."})


def test_the_table_of_the_docs_is_that_of_the_codes() -> None:
    text = (Path(__file__).parents[2] / "docs" / "warnings.md").read_text(encoding="utf-8").split("## How often")[0]
    listed = dict(re.findall(r"^\| `(\w+)` \| ([^|]+?) \|", text, re.MULTILINE))
    assert listed == answer_warnings.CODES


@pytest.mark.usefixtures("two_codes")
def test_a_code_that_nobody_documented_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="'large' is no warning code; expected one of small, dark"):
        AnswerWarning("large", "It is large.")


@pytest.mark.usefixtures("two_codes")
def test_the_first_warning_of_a_code_is_kept() -> None:
    found = [AnswerWarning("dark", "1"), AnswerWarning("small", "2"), AnswerWarning("dark", "3")]
    assert [one.message for one in once_a_code(found)] == ["1", "2"]


@pytest.mark.usefixtures("two_codes")
def test_the_caller_says_what_becomes_of_warnings() -> None:
    found = [AnswerWarning("dark", "It has 3 of 255.")]
    with pytest.warns(DoubtfulInputWarning, match=r"face.jpg: It has 3 of 255. \[dark\]"):
        act_on(found, "face.jpg", "warn")
    with pytest.raises(DoubtfulInputError, match=r'face.jpg: It has 3 of 255. \[dark\] Pass on_warning="warn"'):
        act_on(found, "face.jpg", "raise")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        act_on(found, "face.jpg", "ignore")
        act_on([], "face.jpg", "raise")
