"""tables: the same cells in every form, escaped; nothing where there is nothing to say."""

import csv
import io
import re
from dataclasses import replace
from pathlib import Path

import pytest

from meco_hub.comparison.statistics import Difference, Figure, Row, Summary
from meco_hub.comparison.tables import caption, csv_text, draw_curves, escape, latex, markdown, terminal

FIGURE = Figure(0.81149, 0.01, [0.8, 0.82, 0.81], {"0": 0.8}, 0)
SUMMARY = Summary(
    division={
        "corpus": "stress_predict",
        "synthetic": False,
        "protocol": "P2",
        "claims": {"unit": "subject", "leaky": False},
        "leaks": [],
        "folds": ["S01", "S02"],
        "seeds": [0, 1, 2],
        "reference": "mean & co",
    },
    metrics=["uar", "auroc_within_session_minute"],
    compared="uar",
    rows=[
        Row("mean & co", {"uar": replace(FIGURE, mean=0.5, sd=None), "auroc_within_session_minute": FIGURE}, None, 2, 2,
            ["answers 100% calm_ alone throughout"]),
        Row("net_1|a", {"uar": FIGURE, "auroc_within_session_minute": Figure(None, None, [], {}, 6)},
            Difference("uar", 27, 0.311, -0.01, 0.5, 0.0001, 0.0002), 6, 6, []),
        Row("worse", {"uar": FIGURE, "auroc_within_session_minute": FIGURE},
            Difference("uar", 27, -0.02, -0.1, 0.06, 0.4, 0.41), 6, 6, []),
    ],
    people=27,
    samples=2749,
    curves={},
    curve_metric="uar",
    chance=0.5,
    units={"missing": "share"},
)  # fmt: skip


def test_the_terminal_has_columns_and_a_caption() -> None:
    lines = terminal(SUMMARY)
    assert lines[0].split("  ")[0] == "model"
    assert "UAR" in lines[0]
    assert "AUROC within session minute" in lines[0]
    assert "0.811 ± 0.010" in lines[2]
    assert "0.500 ±" not in lines[1]  # one seed
    assert "+0.311 [−0.010, +0.500]" in lines[2]
    assert "<0.001" in lines[2]
    assert lines[3].rstrip().endswith("−0.020 [−0.100, +0.060]  0.410")
    assert lines[1].endswith("answers 100% calm_ alone throughout")
    starts = {line.index(cell) for line, cell in zip(lines[:4], ("UAR", "0.500", "0.811", "0.811"), strict=True)}
    assert len(starts) == 1
    assert lines[-1] == caption(SUMMARY)
    for words in ("stress_predict", "P2 (subject), 2 folds", "n = 27 people, 2749 samples", "± SD over the seeds 0, 1, 2",
                  "UAR minus that of mean & co", "Wilcoxon signed-rank", "Holm"):  # fmt: skip
        assert words in lines[-1]


def test_a_single_seed_and_a_single_model_promise_no_more() -> None:
    alone = replace(SUMMARY, rows=SUMMARY.rows[:1], division={**SUMMARY.division, "seeds": [4], "folds": ["0"]})
    said = caption(alone)
    assert "1 fold:" in said
    assert "seed 4" in said
    assert "SD" not in said
    assert "Δ" not in said
    assert "Δ" not in terminal(alone)[0]
    leaky = {**SUMMARY.division, "claims": {"unit": "row", "leaky": True}}
    assert "leaky" in caption(replace(SUMMARY, division=leaky))
    assert "leak" not in said
    planted = {**SUMMARY.division, "leaks": ["1 people stand in 0 and in 1"]}
    assert "The folds leak, and figures may be too good: 1 people stand in 0 and in 1." in caption(
        replace(SUMMARY, division=planted)
    )


def test_latex_is_escaped_and_has_booktabs() -> None:
    text = latex(SUMMARY)
    assert r"mean \& co & 0.500 &" in text
    assert r"net\_1\textbar{}a & 0.811 $\pm$ 0.010 & – & +0.311 {[}$-$0.010, +0.500] & $<$0.001 &  \\" in text
    assert r"answers 100\% calm\_ alone throughout \\" in text
    for rule in (
        r"\toprule",
        r"\midrule",
        r"\bottomrule",
        r"\label{tab:stress-predict-p2}",
        r"\begin{tabular}{llllll}",
    ):
        assert text.count(rule) == 1
    body = text[text.index(r"\toprule") : text.index(r"\bottomrule")]
    assert {line.replace(r"\&", "").count("&") for line in body.splitlines() if line.endswith(r"\\")} == {5}
    assert escape("a\\b{c}~^#$") == r"a\textbackslash{}b\{c\}\textasciitilde{}\textasciicircum{}\#\$"


@pytest.mark.parametrize("name", ["[a]", "*", "a_b & 5% #1 $x$ ~^\\{}", "a|b", "a<b>c"])
def test_no_name_breaks_latex(name: str) -> None:
    text = latex(replace(SUMMARY, rows=[SUMMARY.rows[0], replace(SUMMARY.rows[1], model=name)]))
    (line,) = [line for line in text.splitlines() if "+0.311" in line]
    plain = re.sub(r"\\(text\w+\{\}|[&%$#_{}])|\$[<>\\a-z−-]+\$", "", line.removesuffix(r"\\"))
    assert not re.search(r"[%$#_~^\\|<>]", plain)
    assert plain.count("&") == 5
    assert not line.startswith(("[", "*"))  # after \\\\ these are an argument and a star


def test_what_is_of_drawn_data_says_so_in_every_form() -> None:
    drawn = replace(SUMMARY, division={**SUMMARY.division, "synthetic": True})
    for form in (lambda one: "\n".join(terminal(one)), markdown, latex, csv_text):
        assert "synthetic" in form(drawn)
        assert "synthetic" not in form(SUMMARY)
    assert drawn.to_dict()["division"]["synthetic"]


def test_markdown_has_as_many_cells_in_every_row() -> None:
    rows = [line for line in markdown(SUMMARY).splitlines() if line.startswith("|")]
    assert rows[1] == "|" + "---|" * 6
    assert {row.replace(r"\|", "").count("|") for row in rows} == {7}
    assert r"net_1\|a" in rows[3]


def test_csv_holds_the_numbers() -> None:
    rows = list(csv.DictReader(io.StringIO(csv_text(SUMMARY))))
    assert [row["model"] for row in rows] == ["mean & co", "net_1|a", "worse"]
    assert float(rows[1]["uar_mean"]) == 0.81149
    assert rows[0]["uar_sd"] == rows[0]["difference_mean"] == rows[1]["auroc_within_session_minute_mean"] == ""
    assert [float(rows[1][f"difference_{key}"]) for key in ("people", "low", "p", "p_holm")] == [27, -0.01, 1e-4, 2e-4]


def test_every_form_has_a_table_of_each_family_of_conditions() -> None:
    half = {"asked": [0.0, 0.25], "levels": [0.0, 0.21], "values": [0.8, None]}
    whole = {"asked": [0.0, 0.25, 0.5], "levels": [0.0, 0.2, 0.4], "values": [0.7, 0.6, -0.5]}
    words = {"asked": ["nothing", "e_d|a"], "levels": ["nothing", "e_d|a"], "values": [0.5, 0.6]}
    found = replace(SUMMARY, curves={"missing": {"a&b": half, "forest": whole}, "without": {"a&b": words}})
    plain = [line.split() for line in terminal(found)]
    for row in (
        ["model", "0", "0.25", "0.5"],
        ["a&b", "0.800", "–", "–"],
        ["forest", "0.700", "0.600", "−0.500"],
        ["model", "nothing", "e_d|a"],
        ["a&b", "0.500", "0.600"],
    ):
        assert row in plain
    assert "UAR under missing (share); means as above." in terminal(found)
    assert "UAR under without; means as above." in terminal(found)
    assert "| forest | 0.700 | 0.600 | −0.500 |" in markdown(found)
    assert r"| model | nothing | e_d\|a |" in markdown(found)
    text = latex(found)
    assert r"a\&b & 0.800 & – & – \\" in text
    for rule in (r"\begin{table}", r"\toprule", r"\end{tabular}", r"\end{table}"):
        assert text.count(rule) == 3
    labels = [line for line in text.splitlines() if line.startswith(r"\label")]
    assert labels == [
        r"\label{tab:stress-predict-p2}",
        r"\label{tab:stress-predict-p2-missing}",
        r"\label{tab:stress-predict-p2-without}",
    ]


def test_all_models_are_in_one_picture_per_condition(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    curve = {"asked": [0.5, 0.0, 0.2], "levels": [0.5, 0.0, 0.2], "values": [0.5, 0.8, None]}
    words = {"asked": ["eda", "acc"], "levels": ["eda", "acc"], "values": [0.5, 0.6]}
    curves = {"missing": {"net": curve, "forest": curve}, "present": {"net": words, "forest": words}}
    drawn = draw_curves(replace(SUMMARY, curves=curves), tmp_path)
    assert [file.name for file in drawn] == ["missing.png", "present_net.png", "present_forest.png"]
    assert all(file.stat().st_size > 5000 for file in drawn)
    shapes = draw_curves(replace(SUMMARY, curves=curves), tmp_path, "svg")
    assert {file.suffix for file in shapes} == {".svg"}
    assert all(
        said in shapes[0].read_text(encoding="utf-8") for said in ("stress_predict, n = 27 people", "chance 0.50")
    )
