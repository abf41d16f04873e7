"""`meco demo`: each tab answers as the pipeline does, through the API and in a browser, and keeps nothing that is uploaded."""

import json
import os
import pickle
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage
from PIL import Image

from films import write_film
from meco_hub import demo, recogniser
from meco_hub.cli import main
from meco_hub.corpora.synthetic.faces import draw_face

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ASTRONAUT = Path(skimage.__file__).parent / "data" / "astronaut.png"
SERVE = """
import sys
from meco_hub import demo
demo._CLEANING_S = (1, 30)
page = demo.serve(max_file_size="1mb")
print("SERVED", page.local_url, flush=True)
page.block_thread()
"""


def _start(place: Path) -> tuple[subprocess.Popen[str], str]:
    """A process that serves the page, with the folder that its temporary files go to."""
    environment = {**os.environ, "TMPDIR": str(place)}
    process = subprocess.Popen([sys.executable, "-c", SERVE], stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("SERVED"):
            return process, line.split()[1]
    raise AssertionError("the page did not start")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    place = tmp_path_factory.mktemp("served")
    process, address = _start(place)
    yield address, place
    process.kill()  # as in a crash: nothing of the process's own cleaning is done
    process.wait(timeout=60)
    left = list(place.glob("meco-demo-*"))
    assert left
    other, _ = _start(place)
    try:
        assert not any(folder.exists() for folder in left)  # the next page cleans up behind it
    finally:
        other.terminate()
        other.wait(timeout=60)


def _uploads(place: Path) -> list[Path]:
    return [path for path in place.glob("meco-demo-*/**/*") if path.is_file()]


def write_recording(file: Path) -> Path:
    """Noise of three sensors, for 200 seconds."""
    rng = np.random.default_rng(0)
    streams = {"eda": rng.random((4000, 2)), "resp": rng.random(4000), "cardiac": rng.random((4000, 4))}
    values: dict[str, Any] = {f"{name}_values": one for name, one in streams.items()}
    values.update({f"{name}_rate": 20.0 for name in streams})
    np.savez(file, **values)
    return file


def write_eye(folder: Path) -> tuple[Path, Path]:
    """Noise for a second: frames, and events."""
    rng = np.random.default_rng(0)
    frames = write_film(
        folder / "eye_frames.mp4", list(rng.integers(0, 256, (30, 96, 128, 3), dtype=np.uint8)), rate=30
    )
    events: dict[str, Any] = {
        "x": rng.integers(0, 128, 5000),
        "y": rng.integers(0, 96, 5000),
        "p": rng.integers(0, 2, 5000),
    }
    events |= {"t": np.sort(rng.integers(0, 10**6, 5000)), "width": 128, "height": 96}
    np.savez(folder / "eye_events.npz", **events)
    return frames, folder / "eye_events.npz"


def test_a_recording_is_answered_without_the_sensors_that_were_left_out(tmp_path: Path) -> None:
    file = write_recording(tmp_path / "session.npz")
    picture, doubts, _, answer = demo.answer_recording(str(file), "meco-himoe-case", ["resp"])
    assert {"resp"} <= set(answer[0]["streams"]["missing"])
    assert "eda" in answer[0]["streams"]["used"]
    assert {entry["label"] for entry in answer} == {"valence", "arousal"}
    assert len(np.unique(np.asarray(picture))) > 10  # something is drawn
    json.dumps(answer, allow_nan=False)
    assert doubts


def test_frames_and_events_of_an_eye_are_shown_and_answered(tmp_path: Path) -> None:
    frames, events = write_eye(tmp_path)
    name = "meco-mcoenet-synthetic-see"
    shown, scores, doubts, _, answer = demo.answer_eye(str(frames), str(events), 30.0, name)
    expected: Any = recogniser(name)({"frames": frames, "events": events, "frames_per_second": 30.0})
    assert scores == {one["label"]: pytest.approx(one["score"], abs=1e-6) for one in expected}
    assert shown.width > shown.height  # time steps beside each other, frames above events
    assert "synthetic data" in doubts
    assert answer[0]["events"] > 0


def test_a_space_is_three_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--space", str(tmp_path / "space")]) == 0
    assert {path.name for path in (tmp_path / "space").iterdir()} == {"README.md", "app.py", "requirements.txt"}
    compile((tmp_path / "space" / "app.py").read_text(encoding="utf-8"), "app.py", "exec")
    head = (tmp_path / "space" / "README.md").read_text(encoding="utf-8")
    assert head.startswith("---\n")
    assert "sdk: gradio" in head
    assert f'python_version: "{sys.version_info[0]}.{sys.version_info[1]}"' in head
    assert "not felt emotions" in head
    wanted = (tmp_path / "space" / "requirements.txt").read_text(encoding="utf-8").split()
    assert {one.partition("==")[0].partition("[")[0] for one in wanted} >= {"meco-hub", "meco-expressnet-moe"}
    capsys.readouterr()
    assert main(["demo", "--space", str(tmp_path / "space")]) == 1
    assert "not empty" in capsys.readouterr().err


@pytest.mark.slow
def test_the_api_answers_as_the_pipeline_does_and_keeps_nothing(page: tuple[str, Path], tmp_path: Path) -> None:
    from gradio_client import Client, handle_file
    from gradio_client.exceptions import AppError

    address, place = page
    client = Client(address, verbose=False, download_files=str(tmp_path / "got"))
    shown, scores, doubts, routing, answer = client.predict(
        handle_file(str(ASTRONAUT)), "meco-expressnet-lfw5", "auto", api_name="/face"
    )
    expected: Any = recogniser("meco-expressnet-lfw5")(ASTRONAUT)
    assert [(one["label"], one["score"]) for one in answer] == [
        (one["label"], pytest.approx(one["score"], abs=1e-6)) for one in expected
    ]
    assert scores["label"] == "happiness"
    assert "Nothing is in doubt" in doubts
    assert "Router 1: expert 1" in routing
    assert Image.open(shown).size == Image.open(ASTRONAUT).size
    talk = write_film(tmp_path / "talk.mp4", [np.asarray(Image.open(ASTRONAUT))] * 20, rate=10)
    frames, _, doubts, film = client.predict(handle_file(str(talk)), "meco-expressnet-lfw5", 5, api_name="/film")
    (person,) = film
    assert person["frames"] == 10
    assert [one["caption"] for one in frames] == [f"{step / 5:.1f} s" for step in range(0, 10, 2)]
    assert set(person["labels"]) == {"happiness"}
    small = tmp_path / "small.png"
    draw_face("anger", person="somebody", take=0, seed=0, size=64).save(small)
    assert (
        "no_face_found" in client.predict(handle_file(str(small)), "meco-expressnet-lfw5", "auto", api_name="/face")[2]
    )
    for name, content in (
        ("pickle.jpg", pickle.dumps({"label": "happiness"})),
        ("page.png", b"<html><script>alert(1)</script></html>"),
        ("empty.jpg", b""),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(AppError):
            client.predict(handle_file(str(tmp_path / name)), "meco-expressnet-lfw5", "auto", api_name="/face")
    (tmp_path / "text.edf").write_text("no recording", encoding="utf-8")
    with pytest.raises(AppError, match=r"^text\.edf"):
        client.predict(handle_file(str(tmp_path / "text.edf")), "meco-himoe-stress", [], api_name="/recording")
    (tmp_path / "large.jpg").write_bytes(bytes(2_000_000))
    with pytest.raises(Exception, match=r"413|size|large"):
        client.predict(handle_file(str(tmp_path / "large.jpg")), "meco-expressnet-lfw5", "auto", api_name="/face")
    for _ in range(400):
        if not _uploads(place):
            break
        time.sleep(0.2)
    assert _uploads(place) == []


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_a_browser_gets_an_answer(page: tuple[str, Path], tmp_path: Path) -> None:
    from playwright.sync_api import sync_playwright

    address, _ = page
    with sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        )
        tab = browser.new_page(viewport={"width": 1280, "height": 1000})
        asked: list[str] = []
        tab.on("request", lambda request: asked.append(request.url))
        tab.goto(address)
        tab.get_by_text("not felt emotions").first.wait_for()
        tab.locator("input[type=file]").first.set_input_files(ASTRONAUT)
        tab.get_by_role("button", name="Recognise").first.click()
        tab.get_by_text("Nothing is in doubt").first.wait_for(timeout=120_000)
        assert tab.get_by_text("happiness").first.is_visible()
        tab.screenshot(path=str(tmp_path / "page.png"))

        def upload(name: str, *files: Path) -> Any:
            tab.get_by_role("tab", name=name).click()
            panel = tab.get_by_role("tabpanel").locator("visible=true").first
            for place, file in enumerate(files):
                panel.locator("input[type=file]").nth(-1 if place else 0).set_input_files(file)
                panel.get_by_text(file.stem).first.wait_for()
            panel.get_by_role("button", name="Recognise").click()
            return panel

        # a codec that browsers do not play
        film = write_film(tmp_path / "talk.mp4", [np.asarray(Image.open(ASTRONAUT))] * 10, rate=5)
        panel = upload("Film", film)
        panel.get_by_text("Nothing is in doubt").first.wait_for(timeout=120_000)
        assert panel.locator("img").count() >= 6  # five frames and the plot
        panel = upload("Wristband", write_recording(tmp_path / "session.npz"))
        panel.locator("img").first.wait_for(timeout=120_000)
        panel = upload("Eye", *write_eye(tmp_path))
        panel.get_by_text("synthetic data").first.wait_for(timeout=120_000)
        assert tab.get_by_text("not playable").count() == 0
        browser.close()
    assert (tmp_path / "page.png").stat().st_size > 10_000
    outside = {url.split("/")[2] for url in asked if url.startswith("http") and address.split("/")[2] not in url}
    assert outside == set(), "the page asks nobody else"
