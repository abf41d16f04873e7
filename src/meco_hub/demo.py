"""`meco demo`: a page in the browser, and its REST API, where bundled checkpoints answer for faces, recordings and eyes.

Each tab is one function: from files to what is shown and to the pipeline's answer as JSON. Gradio makes the page and the API of it.
Uploads lie in a temporary folder of this process. They are deleted when they are five minutes old, the folder when the page ends; a
folder that a killed page left behind is deleted when the next one starts.
"""

import atexit
import contextlib
import html
import os
import platform
import re
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from . import plugins
from .answers import accepted_inputs
from .durable import files_together, plain, refuse_filled
from .errors import ConfigurationError, MecoError, naming_extras
from .loading import load_processor, read_config
from .pipeline import EmotionRecognitionPipeline, recogniser
from .prediction import annotate_image
from .processing.picture_processor import recording_processor
from .recordings.images import read_image
from .recordings.video import Video
from .timeline import plot
from .version import __version__

MAX_FILE_SIZE = "64mb"
"""Of one upload, unless the command says otherwise."""
NOTICE = (
    "**What is shown are inferred expressions, not felt emotions**: a face, a pulse or a pupil does not say what somebody feels. "
    "This is an emotion recognition system under Regulation (EU) 2024/1689 (Art. 3(39)): prohibited in workplaces and education "
    "except for medical or safety reasons (Art. 5(1)(f)); tell the people exposed (Art. 50(3)). Uploads stay on the machine that "
    "serves this page, and are deleted within minutes."
)
_FRAMES_SHOWN = 8
"""Of a film, at most."""
_CLEANING_S = (60, 300)
"""How often uploads and pictures are looked through, and at what age they are deleted."""
_SIZE = re.compile(r"([1-9][0-9]*) *([KMGT]?)B", re.IGNORECASE)
_LOOPBACK = ["127.0.0.1", "localhost"]
_BESIDE_FILE = 1 << 20
"""Bytes of a request beside the file that it uploads."""
_PREFIX, _SUFFIX = "meco-demo-", ".uploads"
_OURS = re.compile(rf"{_PREFIX}([0-9]{{1,9}})-[a-z0-9_]{{8}}{_SUFFIX}")
"""Folders of uploads, with the number of the process: what else begins like one is somebody's own."""
_SPACE_APP = '''"""A Hugging Face Space: the page of `meco demo`."""

import os

from meco_hub.demo import serve

host = os.environ.get("GRADIO_SERVER_NAME", "0.0.0.0")  # both are set on a Space
serve(host=host, port=int(os.environ.get("GRADIO_SERVER_PORT", "7860"))).block_thread()
'''
_SPACE_README = """---
title: meco_hub
emoji: 🙂
colorFrom: blue
colorTo: gray
sdk: gradio
sdk_version: {gradio}
python_version: "{python}"
app_file: app.py
license: apache-2.0
---

{notice}
"""


def _checkpoints(kind: str) -> list[str]:
    """Bundled checkpoints of a kind, the default one first."""
    kinds = {name: one.kind for name, one in plugins.architectures().healthy.items()}
    folders = plugins.checkpoints()
    found = [name for name, folder in folders.items() if kinds.get(read_config(str(folder)).model_type) == kind]
    default = plugins.default_checkpoint(kind)
    return sorted(found, key=lambda name: (folders[name] != default, name))


@cache
def _loaded(name: str) -> tuple[EmotionRecognitionPipeline, Any]:
    """A checkpoint's pipeline, and its processor of recordings."""
    return recogniser(name, on_warning="ignore"), recording_processor(load_processor(plugins.locate_checkpoint(name)))


@contextlib.contextmanager
def _answering(*files: str | None) -> Iterator[None]:
    """Our errors as the page shows them."""
    import gradio

    try:
        if None in files:
            raise ConfigurationError("Nothing was uploaded. Choose a file first.")
        yield
    except MecoError as error:
        said = str(error)
        for file in filter(None, files):  # whoever uploaded it knows its name, and need not know where it lies
            said = said.replace(f"{Path(file).parent}{os.sep}", "")
        raise gradio.Error(html.escape(said, quote=False), print_exception=False) from error


def _doubts(entries: Sequence[dict[str, Any]]) -> str:
    """What is in doubt about an answer, as Markdown."""
    found = {one["code"]: one["message"] for entry in entries for one in entry["warnings"]}
    if origin := next((entry["training_data"] for entry in entries if entry.get("training_data")), None):
        found = {"training_data": f"The checkpoint was trained on {origin} data.", **found}
    return (
        "\n".join(f"- **{code}**: {html.escape(said)}" for code, said in found.items())
        or "Nothing is in doubt about it."
    )


def _routing(recognise: EmotionRecognitionPipeline, processor: Any, clip: Any) -> str:
    """What each router gives to which expert, for one clip, as Markdown; "" for a network without routers."""
    takes = accepted_inputs(recognise.model)
    if "output_router_logits" not in takes:
        return ""
    batch = {key: value for key, value in processor([clip], return_tensors="pt").items() if key in takes}
    with torch.inference_mode():
        routers = recognise.model(**batch, output_router_logits=True).router_logits or ()
    shares = [one.float().softmax(-1).flatten(0, -2).mean(0).tolist() for one in routers]
    return "\n".join(
        f"- Router {place}: " + ", ".join(f"expert {expert} {share:.0%}" for expert, share in enumerate(own, start=1))
        for place, own in enumerate(shares, start=1)
    )


def answer_face(picture: str | None, model: str, faces: str) -> tuple[Image.Image, dict[str, float], str, str, Any]:
    """Tab and API /face: a picture file → it with boxes, scores of the most prominent face, doubts, routing, the answer."""
    with _answering(picture):
        recognise, processor = _loaded(model)
        image = read_image(picture or "")
        answer = recognise(image, faces=faces)
        first = answer[0].get("expressions", answer)
        clip = processor.cut(processor.read(image), faces=faces)[0]
        scores = {entry["label"]: float(entry["score"]) for entry in first}
        return (
            annotate_image(image, answer),
            scores,
            _doubts(answer),
            _routing(recognise, processor, clip),
            plain(answer),
        )


def answer_film(
    film: str | None, model: str, fps: float
) -> tuple[list[tuple[Image.Image, str]], Image.Image, str, Any]:
    """Tab and API /film: a video → some of its frames with boxes; scores over time, a panel a person; doubts; the answer."""
    with _answering(film):
        source = Video(film or "", fps=fps)
        answer = _loaded(model)[0](source)
        return _some_frames(source, answer), _over_time(answer), _doubts(answer), plain(answer)


def _some_frames(film: Video, answer: list[dict[str, Any]]) -> list[tuple[Image.Image, str]]:
    """Frames spread over a film, which a browser shows whatever the film is coded in: with those who were answered for in them."""
    seen: dict[float, list[dict[str, Any]]] = {}
    for person in answer:
        for step, time_s in enumerate(person["expressions"][0]["times"]):
            entries = [{"label": one["label"], "score": one["scores"][step]} for one in person["expressions"]]
            label = person["labels"][step] if "labels" in person else None
            entries = [one for one in entries if label in (None, one["label"])]
            entries[0]["label"] = f"{person['id']}: {entries[0]['label']}"
            box = dict(zip(("xmin", "ymin", "xmax", "ymax"), person["boxes"][step], strict=True))
            seen.setdefault(time_s, []).append({"box": box, "expressions": entries})
    times = sorted(seen)
    wanted = set(times[:: -(-len(times) // _FRAMES_SHOWN)])
    shown = []
    for frame in film:
        if frame.time in wanted:
            drawn = annotate_image(Image.fromarray(frame.image), seen[frame.time])
            drawn.thumbnail((640, 640))
            shown.append((drawn, f"{frame.time:.1f} s"))
        if len(shown) == len(wanted):
            break
    return shown


def answer_recording(file: str | None, model: str, left_out: list[str]) -> tuple[Image.Image, str, str, Any]:
    """Tab and API /recording: a file of signals, without some streams → scores over time, doubts, routing, the answer."""
    with _answering(file):
        recognise, processor = _loaded(model)
        recording = processor.read(file)
        recording = recording.without(name for name in left_out if name in recording.streams)
        answer = recognise(recording)
        routing = _routing(recognise, processor, processor.cut(recording)[0])
        return _over_time(answer), _doubts(answer), routing, plain(answer)


def _over_time(answer: Any) -> Image.Image:
    with tempfile.TemporaryDirectory() as place:
        plot([("", answer)], Path(place, "plot.png"))
        return Image.open(Path(place, "plot.png")).convert("RGB")


def answer_eye(
    frames: str | None, events: str | None, fps: float, model: str
) -> tuple[Image.Image, dict[str, float], str, str, Any]:
    """Tab and API /eye: a video and an event file → frames over events, scores, doubts, routing, the answer."""
    with _answering(frames, events):
        recognise, processor = _loaded(model)
        clip = processor.read({"frames": frames, "events": events, "frames_per_second": fps})
        answer = recognise(clip)
        batch = processor([clip], return_tensors="pt")
        strips = [_strip(batch[key][0]) for key in ("pixel_values", "event_values")]
        shown = Image.fromarray(np.concatenate(strips))
        scores = {entry["label"]: float(entry["score"]) for entry in answer}
        return shown, scores, _doubts(answer), _routing(recognise, processor, clip), plain(answer)


def _strip(pictures: torch.Tensor) -> np.ndarray:
    """(T, 3, H, W) of any range as one row (H, T·W, 3) of uint8."""
    low, high = float(pictures.min()), float(pictures.max())
    scaled = ((pictures.float() - low) / max(high - low, 1e-6) * 255).round().to(torch.uint8)
    return np.concatenate(list(scaled.permute(0, 2, 3, 1).numpy()), axis=1)


def build_page() -> Any:
    """The page, as Gradio's Blocks; a tab for each kind of which a checkpoint is installed.

    Raises:
        DependencyError: Gradio is not installed.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before the import, which would report it
    with naming_extras():
        import gradio
    with gradio.Blocks(title="meco_hub", analytics_enabled=False) as page:
        gradio.Markdown(f"# meco_hub {__version__}\n\n{NOTICE}")
        if names := _checkpoints("face"):
            with gradio.Tab("Face"):
                _face_tab(gradio, names)
            with gradio.Tab("Film"):
                _film_tab(gradio, names)
        if names := _checkpoints("signals"):
            with gradio.Tab("Wristband or recording"):
                _recording_tab(gradio, names)
        if names := _checkpoints("eye"):
            with gradio.Tab("Eye"):
                _eye_tab(gradio, names)
        with gradio.Tab("Model cards"):
            _cards_tab(gradio)
    return page


def _as_uploaded(upload: Any) -> Any:
    """A part of the page that hands on the file itself: Gradio would open or convert it first, and tell of what it does not know
    with paths of this machine; of films, by a program `ffmpeg` that may not be there."""
    upload.preprocess = lambda payload: None if payload is None else payload.path
    return upload


def _model_choice(gradio: Any, names: list[str]) -> Any:
    return gradio.Dropdown(names, value=names[0], label="Checkpoint", interactive=len(names) > 1)


def _explained(gradio: Any, *, routing: bool = True) -> list[Any]:
    """Doubts, routing and the answer, as every tab shows them."""
    doubts = gradio.Markdown(label="What is in doubt", show_label=True, container=True)
    with gradio.Accordion("Which experts answered", open=False, visible=routing):
        experts = gradio.Markdown()
    with gradio.Accordion("The answer as the pipeline gives it", open=False):
        answer = gradio.JSON(label="Answer")
    return [doubts, experts, answer]


def _face_tab(gradio: Any, names: list[str]) -> None:
    with gradio.Row():
        with gradio.Column():
            sources = ["upload", "webcam", "clipboard"]
            picture = _as_uploaded(gradio.Image(type="filepath", sources=sources, label="A photograph"))
            faces = gradio.Radio(["auto", "all", "cropped"], value="auto", label="Faces")
            model = _model_choice(gradio, names)
            button = gradio.Button("Recognise", variant="primary")
        with gradio.Column():
            shown = gradio.Image(label="Where it looked", interactive=False, buttons=["fullscreen", "download"])
            scores = gradio.Label(label="Calibrated scores of the most prominent face")
            rest = _explained(gradio)
    button.click(answer_face, [picture, model, faces], [shown, scores, *rest], api_name="face")


def _film_tab(gradio: Any, names: list[str]) -> None:
    with gradio.Row():
        with gradio.Column():
            # no player, which refuses what browsers do not decode: MPEG-4 part 2, AVI, ProRes …
            film = gradio.File(label="A film: mp4, mov, mkv, avi, webm …")
            with gradio.Accordion("Record one", open=False):
                recorded = _as_uploaded(gradio.Video(sources=["webcam"], include_audio=False, label="The webcam"))
            fps = gradio.Slider(1, 30, value=5, step=1, label="Frames a second that are looked at")
            model = _model_choice(gradio, names)
            button = gradio.Button("Recognise", variant="primary")
        with gradio.Column():
            frames = gradio.Gallery(label="Who was seen: number and expression", columns=4, height="auto")
            line = gradio.Image(
                label="Over time, a panel a person", interactive=False, buttons=["fullscreen", "download"]
            )
            doubts, _, answer = _explained(gradio, routing=False)
    recorded.change(lambda path: path, recorded, film, api_visibility="private")
    button.click(answer_film, [film, model, fps], [frames, line, doubts, answer], api_name="film")


def _recording_tab(gradio: Any, names: list[str]) -> None:
    def streams_of(name: str) -> Any:
        return gradio.CheckboxGroup(choices=list(_loaded(name)[1].modality_names), value=[])

    with gradio.Row():
        with gradio.Column():
            file = gradio.File(label="An E4 or EmbracePlus zip, EDF, XDF, csv, MAT or npz file")
            model = _model_choice(gradio, names)
            left_out = gradio.CheckboxGroup(
                list(_loaded(names[0])[1].modality_names), label="Answer as if these sensors had not been worn"
            )
            button = gradio.Button("Recognise", variant="primary")
        with gradio.Column():
            line = gradio.Image(label="Over time", interactive=False, buttons=["fullscreen", "download"])
            rest = _explained(gradio)
    model.change(streams_of, model, left_out, api_visibility="private")
    button.click(answer_recording, [file, model, left_out], [line, *rest], api_name="recording")


def _eye_tab(gradio: Any, names: list[str]) -> None:
    with gradio.Row():
        with gradio.Column():
            frames = gradio.File(label="Frames: a video of one eye")
            events = gradio.File(label="Events: a file of the event camera, on the frames' clock")
            fps = gradio.Number(30.0, label="Frames a second")
            model = _model_choice(gradio, names)
            button = gradio.Button("Recognise", variant="primary")
        with gradio.Column():
            shown = gradio.Image(label="Frames, and below them the events, as the network sees them", interactive=False)
            scores = gradio.Label(label="Scores")
            rest = _explained(gradio)
    button.click(answer_eye, [frames, events, fps, model], [shown, scores, *rest], api_name="eye")


def _cards_tab(gradio: Any) -> None:
    names = sorted(plugins.checkpoints())

    def card(name: str) -> str:
        from .publishing.card import render_card

        return render_card(plugins.checkpoint(name)).partition("---\n")[2].partition("---\n")[2]

    chosen = gradio.Dropdown(names, label="Checkpoint", value=None)
    shown = gradio.Markdown()
    chosen.change(card, chosen, shown, api_visibility="private")


def serve(*, host: str = "127.0.0.1", port: int | None = None, max_file_size: str = MAX_FILE_SIZE) -> Any:
    """Serve the page from a thread of its own.

    Args:
        host: the address to listen at. Any other than loopback lets other machines in.
        port: 1 to 65535; None: the first that is free from 7860 on.
        max_file_size: of one upload, a number and B, KB, MB, GB or TB.

    Returns:
        The page: `local_url` is its address, `block_thread()` waits for Ctrl-C, `close()` ends it.

    Raises:
        ConfigurationError: nobody can listen there, or the size is none.
        DependencyError: Gradio is not installed.
    """
    _check_place(host, port, max_file_size)
    for old in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        if (named := _OURS.fullmatch(old.name)) and not _is_alive(int(named[1])):
            shutil.rmtree(old, ignore_errors=True)
    uploads = tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", suffix=_SUFFIX)
    atexit.register(shutil.rmtree, uploads, ignore_errors=True)
    # not Gradio's own cleaning, which passes over what was left of an upload that it refused
    threading.Thread(target=_clean, args=(Path(uploads), *_CLEANING_S), daemon=True).start()
    os.environ["GRADIO_TEMP_DIR"] = uploads  # before the page is built: each of its parts remembers it
    page = build_page()
    from starlette.middleware import Middleware  # comes with Gradio
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    before = [Middleware(BoundedBodies, most=_bytes_of(max_file_size) + _BESIDE_FILE)]
    # otherwise a page of a stranger, whose name is made to lead to this machine, could read the answers
    if host in _LOOPBACK:
        before.append(Middleware(TrustedHostMiddleware, allowed_hosts=_LOOPBACK))
    page.launch(
        server_name=host, server_port=port, share=False, max_file_size=max_file_size, prevent_thread_lock=True, quiet=True,
        show_error=True, ssr_mode=False, run_history=False, footer_links=["api"], enable_monitoring=False,
        app_kwargs={"middleware": before},
    )  # fmt: skip
    return page


class BoundedBodies:
    """Refuses a request as soon as its body is too long: Gradio counts uploads only, and holds all others in memory.

    Args:
        app: an ASGI application.
        most: bytes of a body.
    """

    def __init__(self, app: Any, most: int) -> None:
        self.app, self.most = app, most

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """As ASGI has it."""
        from starlette.exceptions import HTTPException

        seen = 0

        async def counted() -> Any:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body") or b"")
            if seen > self.most:
                raise HTTPException(413, f"A request of more than {self.most} bytes is not read.")
            return message

        await self.app(scope, counted if scope["type"] == "http" else receive, send)


def _bytes_of(size: str) -> int:
    number, unit = _SIZE.fullmatch(size).groups()  # pyright: ignore[reportOptionalMemberAccess] — was checked
    return int(number) * 1024 ** " KMGT".index(unit.upper() or " ")


def _check_place(host: str, port: int | None, max_file_size: str) -> None:
    """Refuse where Gradio would wait for ever, or end in errors of its own."""
    if port is not None and not 1 <= port <= 65535:
        raise ConfigurationError(f"The port is {port}; expected 1 to 65535. Leave it out for the first that is free.")
    if not _SIZE.fullmatch(max_file_size):
        raise ConfigurationError(
            f"max_file_size is {max_file_size!r}; expected a number and B, KB, MB, GB or TB, as 64mb."
        )
    try:
        bare = host.removeprefix("[").removesuffix("]") or "127.0.0.1"
        family, *_, address = socket.getaddrinfo(bare, port or 0, type=socket.SOCK_STREAM)[0]
        socket.create_server(address[:2], family=family).close()
    except (OSError, UnicodeError) as error:
        place = host if port is None else f"{host}, port {port}"
        raise ConfigurationError(
            f"The page cannot listen at {place}: {error}. Name an address of this machine, and a port that is free."
        ) from error


def _clean(folder: Path, every_s: float, age_s: float) -> None:
    while folder.is_dir():
        time.sleep(every_s)
        for path in folder.rglob("*"):
            with contextlib.suppress(FileNotFoundError):
                if path.is_file() and time.time() - path.stat().st_mtime > age_s:
                    path.unlink()


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def write_space(folder: str | Path) -> list[str]:
    """Write the files of a Hugging Face Space that shows the page.

    Raises:
        ConfigurationError: the folder holds something.
        DependencyError: Gradio is not installed.
    """
    with naming_extras():
        import gradio
    place = Path(folder)
    refuse_filled(place)
    owners = sorted(
        {f"{owner}=={plugins.installed_version(owner)}" for owner in plugins.architectures().distributions.values()}
    )
    python = ".".join(platform.python_version_tuple()[:2])  # that of a Space would be older than we support
    files = {
        "app.py": _SPACE_APP,
        "requirements.txt": "\n".join([f"meco-hub[demo,faces,signals,events,video]=={__version__}", *owners, ""]),
        "README.md": _SPACE_README.format(gradio=gradio.__version__, python=python, notice=NOTICE),
    }
    with files_together(place, "app.py") as staged:
        for name, text in files.items():
            (staged / name).write_text(text, encoding="utf-8")
    return sorted(files)
