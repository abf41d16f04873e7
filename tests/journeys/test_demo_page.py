"""`meco demo`: each tab answers as the pipeline does, through the API and in a browser, and keeps nothing that is uploaded."""

import contextlib
import http.client
import json
import os
import pickle
import re
import shutil
import socket
import subprocess
import sys
import time
import types
import urllib.parse
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage
from packaging.requirements import Requirement
from PIL import Image

from films import write_film
from meco_hub import demo, recogniser
from meco_hub.cli import main
from meco_hub.corpora.synthetic.faces import draw_face

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ASTRONAUT = Path(skimage.__file__).parent / "data" / "astronaut.png"
HOSTILE = {
    "pickle.jpg": pickle.dumps({"label": "happiness"}),
    "page.jpg": b"<html><script>alert(1)</script></html>",
    "empty.jpg": b"",
}
SERVE = """
import sys
from meco_hub import demo
demo._CLEANING_S = (1, 30)
page = demo.serve(max_file_size="1mb")
print("SERVED", page.local_url, flush=True)
page.block_thread()
"""


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--port", "99999"], "The port is 99999; expected 1 to 65535"),
        (["--port", "0"], "The port is 0; expected 1 to 65535"),
        (["--max_file_size", "lots"], "max_file_size is 'lots'; expected a number and B, KB"),
        (["--host", "192.0.2.1"], "cannot listen at 192.0.2.1: "),  # RFC 5737: nobody's
        (["--port", "{taken}"], "cannot listen at 127.0.0.1, port "),
    ],
)
def test_a_place_where_nobody_can_listen_is_refused(
    flags: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        assert main(["demo", *(flag.format(taken=other.getsockname()[1]) for flag in flags)]) == 1
    assert said in capsys.readouterr().err


def test_a_request_is_read_no_further_than_it_may_be_long() -> None:
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.requests import Request
    from starlette.responses import JSONResponse
    from starlette.routing import Route
    from starlette.testclient import TestClient

    def parts(count: int) -> Iterator[bytes]:
        yield from [bytes(100)] * count

    async def length(request: Request) -> JSONResponse:
        return JSONResponse(len(await request.body()))

    bounded = Middleware(demo.BoundedBodies, most=1000)
    app = Starlette(routes=[Route("/", length, methods=["POST"])], middleware=[bounded])
    with TestClient(app) as client:
        assert client.post("/", content=parts(10)).json() == 1000
        assert client.post("/", content=parts(11)).status_code == 413


def test_the_page_bounds_what_it_reads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found: dict[str, Any] = {}
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(demo, "build_page", lambda: types.SimpleNamespace(launch=found.update))
    monkeypatch.setattr("threading.Thread", lambda **_: types.SimpleNamespace(start=lambda: None))
    monkeypatch.setenv("GRADIO_TEMP_DIR", "")
    demo.serve(max_file_size="3 kB", host="0.0.0.0")
    (bounded,) = found["app_kwargs"]["middleware"]
    assert (bounded.cls, bounded.kwargs["most"] - demo._BESIDE_FILE) == (demo.BoundedBodies, 3 * 1024)


def test_folders_of_others_are_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a killed page left behind goes; a folder with such a name, and a number that is no process's, is somebody's own."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(demo, "build_page", lambda: types.SimpleNamespace(launch=lambda **_: None))
    monkeypatch.setattr("threading.Thread", lambda **_: types.SimpleNamespace(start=lambda: None))
    monkeypatch.setenv("GRADIO_TEMP_DIR", "")
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait(timeout=60)
    theirs = [
        tmp_path / f"meco-demo-{name}" for name in ("results", f"{ended.pid}-holidays", f"{10**30}-abcd1234.uploads")
    ]
    left = tmp_path / f"meco-demo-{ended.pid}-abcd1234.uploads"
    for folder in (*theirs, left):
        folder.mkdir()
        (folder / "picture.png").touch()
    demo.serve()
    assert all((folder / "picture.png").exists() for folder in theirs)
    assert not left.exists()


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


def test_only_who_names_this_machine_is_answered(page: tuple[str, Path]) -> None:
    """A stranger's page, whose name is made to lead here, would be of one origin with ours."""
    place = urllib.parse.urlsplit(page[0])
    for host, status in (
        (f"localhost:{place.port}", 200),
        (place.netloc, 200),
        (f"elsewhere.example:{place.port}", 400),
    ):
        connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=60)
        connection.request("GET", "/config", headers={"Host": host})
        assert connection.getresponse().status == status
        connection.close()


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


def test_what_is_uploaded_or_recorded_is_handed_on_as_it_is() -> None:
    from gradio.data_classes import FileData, ImageData

    inputs = {one for fn in demo.build_page().fns.values() for one in fn.inputs}
    blocks = [one for one in inputs if type(one).__name__ in ("Image", "Video", "Audio")]
    assert len(blocks) == 2
    for block in blocks:
        payload = (ImageData if type(block).__name__ == "Image" else FileData)(path="/there/is/none.png")
        assert block.preprocess(payload) == "/there/is/none.png"
        assert block.preprocess(None) is None


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
def test_a_space_starts_by_its_own_app_and_answers_through_its_api(tmp_path: Path) -> None:
    from gradio_client import Client, handle_file

    space = tmp_path / "space"
    assert main(["demo", "--space", str(space)]) == 0
    for line in (space / "requirements.txt").read_text(encoding="utf-8").split():
        wanted = Requirement(line)
        assert wanted.specifier.contains(metadata.version(wanted.name), prereleases=True)
        assert wanted.extras <= set(metadata.metadata(wanted.name).get_all("Provides-Extra") or ())
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    places = {"GRADIO_SERVER_NAME": "127.0.0.1", "GRADIO_SERVER_PORT": str(port), "TMPDIR": str(tmp_path)}
    environment = {**os.environ, **places, "SYSTEM": "spaces", "SPACE_ID": "somebody/meco"}
    process = subprocess.Popen([sys.executable, "app.py"], cwd=space, env=environment)
    try:
        for _ in range(1800):  # more than ten times what it takes on a quiet machine
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            assert process.poll() is None
            time.sleep(0.1)
        client = Client(f"http://127.0.0.1:{port}", verbose=False, download_files=str(tmp_path / "got"))
        *_, answer = client.predict(handle_file(str(ASTRONAUT)), "meco-expressnet-lfw5", "auto", api_name="/face")
        assert answer[0]["label"] == "happiness"
    finally:
        process.terminate()
        process.wait(timeout=60)


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
    for name, content in HOSTILE.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(AppError, match=rf"(?i)^{name} .*expected") as refused:
            client.predict(handle_file(str(tmp_path / name)), "meco-expressnet-lfw5", "auto", api_name="/face")
        assert str(tmp_path.parent) not in str(refused.value)
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
    astronaut = Image.open(ASTRONAUT).convert("RGB")
    seen = Image.new("RGB", (1280, 640), "gray")  # what the camera sees: two people
    for left in (0, 640):
        seen.paste(astronaut.resize((640, 640)), (left, 0))
    seen.save(tmp_path / "seen.jpg", quality=95)
    (tmp_path / "camera.mjpeg").write_bytes((tmp_path / "seen.jpg").read_bytes() * 30)
    camera = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    camera.append(f"--use-file-for-fake-video-capture={tmp_path / 'camera.mjpeg'}")
    with sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking", *camera],
        )
        tab = browser.new_page(viewport={"width": 1280, "height": 1000})
        asked: list[str] = []
        tab.on("request", lambda request: asked.append(request.url))
        tab.goto(address)
        tab.get_by_text("not felt emotions").first.wait_for()

        (tmp_path / "large.jpg").touch()
        os.truncate(tmp_path / "large.jpg", 100 << 20)
        tab.locator("input[type=file]").first.set_input_files(tmp_path / "large.jpg")
        tab.get_by_text("exceed the maximum allowed size").first.wait_for()
        for file, content in HOSTILE.items():  # and the page lives on
            (tmp_path / file).write_bytes(content)
            tab.locator("input[type=file]").first.set_input_files(tmp_path / file)
            tab.get_by_role("button", name="Remove Image").first.wait_for()
            tab.get_by_role("button", name="Recognise").first.click()
            tab.get_by_text(re.compile(rf"^{file} .*expected", re.IGNORECASE)).first.wait_for()
            tab.get_by_role("button", name="Remove Image").first.click()
        assert tab.get_by_text("Traceback").count() == 0

        tab.get_by_role("button", name="Capture from camera").first.click()
        tab.get_by_role("button", name="Click to Access Webcam").first.click()
        tab.get_by_role("button", name="capture photo").first.click()
        tab.get_by_role("button", name="Remove Image").first.wait_for()
        tab.get_by_role("button", name="Recognise").first.click()
        tab.get_by_text("several_faces").first.wait_for(timeout=120_000)
        assert tab.get_by_text("happiness").first.is_visible()
        tab.get_by_role("button", name="Remove Image").first.click()
        tab.get_by_role("button", name="Upload file").first.click()

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
