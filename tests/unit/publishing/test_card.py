"""The card of a folder: every figure from its files, nothing invented, sound metadata, and readable as a page."""

import http.server
import json
import random
import re
import shutil
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import ModelCard

import meco_hub
from meco_hub import plugins
from meco_hub.cli import main
from meco_hub.errors import CardError, InputError, MecoError
from meco_hub.publishing.card import card_gaps, check_card, render_card, render_html

NAME = "meco-expressnet-lfw5"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A user's own checkpoint, as far as its card is concerned: no card.yaml, no report."""
    source, target = meco_hub.checkpoint(NAME), tmp_path / "mine"
    target.mkdir()
    for name in ("config.json", "run.json"):
        shutil.copy(source / name, target)
    (target / "model.safetensors").symlink_to(source / "model.safetensors")
    return target


def _report(folder: Path, **more: Any) -> dict[str, Any]:
    report = json.loads((meco_hub.checkpoint(NAME) / "report.json").read_text(encoding="utf-8"))
    report |= {"schema_version": 2, **more}
    report["data"] |= {
        "protocol": None,
        "leak_check": None,
        "seen": {"people": 1127, "trained_on": 0, "selected_by": 0},
    }
    (folder / "report.json").write_text(json.dumps(report), encoding="utf-8")
    return report


def test_a_folder_without_notes_says_what_is_not_stated(folder: Path) -> None:
    card = render_card(folder)
    data = ModelCard(card, ignore_metadata_errors=False).data
    assert data.license is None
    assert "| these weights | not stated" in card
    assert "Where the data come from is not stated." in card
    assert "5,088 samples of 2,226 people" in card  # of run.json
    assert 'model="path/to/mine"' in card
    assert set(card_gaps(folder)) >= {"licence", "limits", "training_data.text"}
    check_card(card, "mine")


def test_a_base_model_claims_no_answers(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8")) | {
        "architectures": ["ExpressNetMoEModel"]
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    card = render_card(folder)
    assert "base model without a head" in card
    assert "It answers with" not in card


def test_the_repository_stands_in_the_lines_that_load_it(folder: Path) -> None:
    card = render_card(folder, repo_id="me/my-model")
    assert 'model="me/my-model")' in card
    assert card.splitlines().count("# my-model") == 1
    assert "trust_remote_code=True" in card


def test_every_figure_of_a_report_is_in_model_index(folder: Path) -> None:
    row = {"n": 10, "uar": 0.5, "war": 0.25, "classes": 4, "recall": {"anger": 0.5}}
    report = _report(
        folder,
        groups={
            "light": {"values": {"dark": row, "": row}, "gaps": {"uar": {"gap": 0.1, "highest": "dark", "lowest": ""}}}
        },
        conditions=[
            {
                "condition": "blur/2",
                "family": "blur",
                "value": 2,
                "metrics": {"n": 10, "uar": 0.125},
                "relative_drop": 0.5,
                "same_label": 0.875,
            }
        ],
        references={"constant": {"n": 10, "uar": 0.2}},
        runs={"count": 20, "mean": {"uar": 0.4375}, "sd": {"uar": 0.01}},
        calibration={"method": "temperature", "fitted_on": "fold 2"},
    )
    card = render_card(folder)
    results = ModelCard(card, ignore_metadata_errors=False).data.eval_results
    assert results is not None
    told = {(one.metric_type, one.dataset_config): one.metric_value for one in results}
    for key, value in report["metrics"].items():
        assert told[key, None] == value
    for label, figures in report["per_class"].items():
        assert {key: told[key, f"class: {label}"] for key in figures} == figures
    assert told["uar", "light = dark"] == told["uar", "light = unknown"] == 0.5
    assert told["uar", "condition: blur/2"] == 0.125
    assert told["uar", "mean of 20 runs with other clips"] == 0.4375
    assert ("classes", "light = dark") not in told
    assert 0.2 not in told.values()  # a reference is another predictor
    low, high = report["confidence_intervals"]["uar"]
    for figure in (
        f"{report['metrics']['uar']:.3f} [{low:.3f}, {high:.3f}]",
        "| constant |",
        "| blur/2 |",
        "same label |",
        "| 0.875 |",
        "By light.",
        "calibrated (temperature",
        "0 of these people",
    ):
        assert figure in card, figure


def test_model_index_comes_back_as_it_went_in(folder: Path) -> None:
    _report(folder)
    card = ModelCard(render_card(folder), ignore_metadata_errors=False)
    again = ModelCard(str(card), ignore_metadata_errors=False)
    assert again.data.eval_results == card.data.eval_results
    assert again.data.to_dict() == card.data.to_dict()


def test_a_report_of_other_weights_is_refused(folder: Path) -> None:
    report = _report(folder)
    report["checkpoint"]["weights_sha256"] = "0" * 64
    (folder / "report.json").write_text(json.dumps(report), encoding="utf-8")
    with pytest.raises(CardError, match="about other weights"):
        render_card(folder)


@pytest.mark.parametrize("where", ["notes", "config"])
def test_synthetic_is_said_in_title_tags_and_first_paragraph(folder: Path, where: str) -> None:
    if where == "notes":
        (folder / "card.yaml").write_text("training_data: {synthetic: true}", encoding="utf-8")
    else:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8")) | {"training_data": "synthetic"}
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    card = ModelCard(render_card(folder))
    lines = card.text.strip().splitlines()
    assert "synthetic" in lines[0]
    assert lines[2].startswith("**Trained on synthetic data.**")
    assert "synthetic" in (card.data.tags or [])
    assert "synthetic" not in (ModelCard(render_card(meco_hub.checkpoint(NAME))).data.tags or [])


def test_empty_limits_are_refused(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = plugins.architecture("meco_expressnet_moe")
    assert entry.card is not None
    text = plugins.resource_folder(entry.card).read_text(encoding="utf-8")
    (tmp_path / "card.md").write_text(
        re.sub(r"(## Limits\n).*?(\n## )", r"\1\2", text, flags=re.DOTALL), encoding="utf-8"
    )
    monkeypatch.setattr("meco_hub.publishing.card.plugins.resource_folder", lambda _: tmp_path / "card.md")
    with pytest.raises(CardError, match="nothing below ## Limits"):
        render_card(folder)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (r"## Limits\n.*?\n## Training", "## Limits\n\n-\n\n## Training", "## Limits"),
        (r"library_name: transformers", "library_name: other", "library_name 'other'"),
        (r"tags:", "tags: [", "do not parse"),
        (r"## Legal note", "[More Information Needed]\n## Legal note", "placeholder"),
    ],
)
def test_a_card_that_must_not_be_published_is_refused(folder: Path, old: str, new: str, message: str) -> None:
    card = re.sub(old, new, render_card(folder), count=1, flags=re.DOTALL)
    with pytest.raises(CardError) as caught:
        check_card(card, "mine")
    assert message in str(caught.value)


@pytest.mark.parametrize("name", ["config.json", "run.json", "report.json", "card.yaml"])
def test_broken_files_are_named(folder: Path, name: str) -> None:
    (folder / name).write_text("{", encoding="utf-8")
    with pytest.raises((CardError, InputError)) as caught:
        render_card(folder)
    assert name in str(caught.value)


def test_the_page_shows_the_card_and_runs_nothing(folder: Path) -> None:
    (folder / "card.yaml").write_text("summary: <script>alert(1)</script> & more", encoding="utf-8")
    page = render_html(render_card(folder))
    assert page.startswith("<!doctype html>")
    assert "<h1>mine</h1>" in page
    assert "<table>" in page
    assert "<script>" not in page
    assert "model-index" not in page


def test_the_command_tells_gaps_and_writes_a_form(
    folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert (
        main(["card", str(folder), "--output", str(tmp_path / "README.md"), "--html", str(tmp_path / "card.html")]) == 0
    )
    said = capsys.readouterr()
    assert "licence: licence of these weights" in said.err
    assert (folder / "card.yaml").is_file()
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == render_card(folder)
    assert (tmp_path / "card.html").is_file()
    assert main(["card", str(folder), "--json"]) == 0
    assert "licence" in json.loads(capsys.readouterr().out)["gaps"]


@pytest.mark.skipif(
    int(huggingface_hub.__version__.partition(".")[0]) < 2,
    reason="validate() of hub 1.x asks a fixed address, whatever is set",
)
def test_the_hubs_own_validation_is_asked_and_answers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append((self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    try:
        ModelCard(render_card(folder)).validate()
    finally:
        server.shutdown()
        server.server_close()
    ((path, body),) = asked
    assert path == "/api/validate-yaml"
    assert "library_name: transformers" in body["content"]


@pytest.mark.parametrize("name", ["config.json", "run.json", "report.json"])
def test_any_value_in_any_record_is_written_of_or_refused(tmp_path: Path, name: str) -> None:
    generator = random.Random(name)
    bundled = meco_hub.checkpoint("meco-expressnet-lfw5")
    sound = json.loads((bundled / name).read_text(encoding="utf-8"))
    for file in bundled.iterdir():
        (tmp_path / file.name).symlink_to(file)
    for _ in range(10):
        content = json.loads(json.dumps(sound))
        place, key = content, generator.choice(list(content))
        while isinstance(place[key], dict) and place[key] and generator.random() < 0.8:
            place, key = place[key], generator.choice(list(place[key]))
        place[key] = generator.choice(
            [None, 0, -1, 10**30, float("nan"), "", "x", "\ud800", [], [0], {}, {"a": 1}, [[]]]
        )
        (tmp_path / name).unlink()
        (tmp_path / name).write_text(json.dumps(content), encoding="utf-8")
        with suppress(MecoError):
            render_card(tmp_path)


def test_a_card_carries_the_pictures_of_its_report(folder: Path) -> None:
    for name in (
        "people.svg",
        "confusion.png",
        "confusion.svg",
        "scatter_valence.png",
        "people (2).png",
        "holiday.png",
    ):
        (folder / name).write_bytes(b"")
    assert "![" not in render_card(folder)  # of no report there are no pictures
    _report(folder)
    card = render_card(folder)
    shown = re.findall(r"!\[(.*?)\]\((.*?)\)", card)
    assert [file for _, file in shown] == ["people.svg", "confusion.png", "scatter_valence.png"]
    assert all(text for text, _ in shown)
    (folder / "card.yaml").write_text("pictures: [{file: confusion.png, text: Mine.}]\n", encoding="utf-8")
    assert render_card(folder).count("(confusion.png)") == 1
