"""A push at whose every request something goes wrong: the branch is the old commit or the whole new one.

The requests of a clean push are recorded; then each kind of trouble strikes at each of them, once and for good.
"""

import copy
import json
import logging
import traceback
from pathlib import Path

import pytest
import torch

from loopback_hub.faults import OTHERS, STATUSES, Fault
from loopback_hub.repository import Repository
from loopback_hub.server import WRITER, LoopbackHub
from meco_hub.errors import PublishingError
from meco_hub.publishing.hub import push_folder

KINDS = [*STATUSES, *(kind for kind in OTHERS if kind not in ("hang", "half"))]
CURABLE = ("cut", "cut after", "500", "503", "429", "500 after", "echo")
"""What a second attempt gets over."""

OWN = r"^(?!GET /api/agent-harnesses)"
"""The client asks this now and then for itself, and goes on without an answer."""


@pytest.fixture
def folder(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    """A checkpoint that changes with each push: the tiny one with other numbers in its head."""
    from transformers import AutoImageProcessor

    from meco_hub import AutoModelForEmotionRecognition

    model = AutoModelForEmotionRecognition.from_pretrained(tiny_checkpoint)
    with torch.no_grad():
        model.get_parameter("classifier.bias").add_(1)
    model.save_pretrained(tmp_path / "newer")
    AutoImageProcessor.from_pretrained(tiny_checkpoint).save_pretrained(tmp_path / "newer")
    return tmp_path / "newer"


def _begin(hub: LoopbackHub, old: Repository | None) -> None:
    """An empty Hub, or one on which the old commit stands."""
    hub.repositories.clear()
    if old is not None:
        hub.repositories["me/face"] = copy.deepcopy(old)
    hub.forget()


def _state(hub: LoopbackHub) -> dict[str, str] | None:
    repository = hub.repositories.get("me/face")
    return None if repository is None else {path: entry.blob for path, entry in repository.tree("main").items()}


def _everything(error: BaseException, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> str:
    """All that a person, a log or a crash reporter could see of an error."""
    seen: list[str] = []
    todo: list[BaseException | None] = [error]
    while todo:
        one = todo.pop()
        if one is None:
            continue
        seen += [str(one), repr(one), repr(one.args), repr(vars(one))]
        for holder in (getattr(one, "request", None), getattr(getattr(one, "response", None), "request", None)):
            seen.append(repr(dict(holder.headers)) if holder is not None else "")
        todo += [one.__cause__, one.__context__]
    lines = traceback.TracebackException.from_exception(error, capture_locals=True).format()
    output = capsys.readouterr()
    return "\n".join([*seen, *lines, caplog.text, output.out, output.err])


def _push(folder: Path) -> PublishingError | None:
    try:
        push_folder(folder, "me/face")
    except PublishingError as error:
        return error
    return None


FIRST = {path: entry.blob for path, entry in Repository("me/face").tree("main").items()}
"""Of a repository that was just made."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("times", "begun"),
    [(1, True), (-1, True), (1, False)],  # what lasts is told of a new repository as of an old one
    ids=["once-old commit", "for good-old commit", "once-new repository"],
)
@pytest.mark.parametrize("kind", KINDS)
def test_any_fault_at_any_request(
    hub: LoopbackHub,
    tiny_checkpoint: Path,
    folder: Path,
    kind: str,
    times: int,
    begun: bool,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("huggingface_hub", "meco_hub", "httpx", "httpx2"):
        caplog.set_level(logging.DEBUG, name)
    old = None
    if begun:
        push_folder(tiny_checkpoint, "me/face")
        old = hub.repositories["me/face"]
    _begin(hub, old)
    push_folder(folder, "me/face")
    requests = [request for request in hub.requests if "agent-harnesses" not in request]
    whole = _state(hub)
    assert len(requests) >= 7
    for place, request in enumerate(requests):
        _begin(hub, old)
        before = _state(hub)
        hub.faults = [Fault(kind, at=place, match=OWN, times=times)]
        struck = f"{kind} at {request}"
        caplog.clear()
        error = _push(folder)
        after = _state(hub)
        if error is None:
            assert after == whole, struck
            assert WRITER not in caplog.text + "".join(capsys.readouterr()), struck
        else:
            lost = kind.endswith("after") and "/commit/" in request  # committed, and the answer was lost
            assert lost or not (kind in CURABLE and times == 1), f"{struck}: {error}"
            assert not lost or error.remote_changed is None, struck
            message = str(error)
            assert "push again" in message or "pushing again" in message, f"{struck}: {message}"
            if error.remote_changed is False:
                assert after in (before, None, FIRST), struck
                assert "is as it was" in message or "nothing of this push is in it" in message, f"{struck}: {message}"
            else:
                assert error.remote_changed is None, struck
                assert after in (before, whole, FIRST), struck
                assert "could not be found out" in message, f"{struck}: {message}"
            assert WRITER not in _everything(error, caplog, capsys), struck
        assert all(fault.struck for fault in hub.faults), struck
        hub.forget()
        push_folder(folder, "me/face")
        assert _state(hub) == whole, struck
        titles = [commit.title for commit in hub.repositories["me/face"].history()]
        assert titles.count("Upload model") == 1 + begun, f"{struck}: a push must not be committed twice"


def test_what_one_fault_says(hub: LoopbackHub, tiny_checkpoint: Path) -> None:
    hub.faults = [Fault("403", match="POST .*/commit/")]
    with pytest.raises(PublishingError) as caught:
        push_folder(tiny_checkpoint, "me/face")
    assert str(caught.value) == (
        f"The Hub at {hub.url} answered 403 to POST /api/models/me/face/commit/main: You do not have the rights for this, while "
        "committing to me/face (main). The repository me/face was made just now, and nothing of this push is in it. Use a token "
        "that may write to me/face, or ask its owner; with --create_pr the right to read is enough. Then push again."
    )
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_a_lost_answer_is_no_lost_commit(hub: LoopbackHub, tiny_checkpoint: Path) -> None:
    hub.faults = [Fault("cut after", match="POST .*/commit/")]
    with pytest.raises(
        PublishingError, match=r"either all of this push or nothing of it, and pushing again is safe"
    ) as caught:
        push_folder(tiny_checkpoint, "me/face")
    assert caught.value.remote_changed is None
    pushed = push_folder(tiny_checkpoint, "me/face")
    assert pushed.unchanged
    (newest, first) = hub.repositories["me/face"].history()
    assert pushed.commit is not None
    assert pushed.commit.oid == newest.oid
    assert (newest.title, first.title) == ("Upload model", "initial commit")


def test_somebody_else_came_in_between(hub: LoopbackHub, tiny_checkpoint: Path) -> None:
    repository = hub.make("me/face")

    class Meddler(Fault):
        def strikes(self, request: str) -> bool:
            if super().strikes(request):
                lines = [{"key": "header", "value": {"summary": "theirs"}}]
                lines += [{"key": "file", "value": {"path": "note.md", "content": "aGk="}}]
                repository.commit("main", lines)
            return False

    hub.faults = [Meddler("", match="POST .*/commit/")]
    with pytest.raises(PublishingError, match=r"answered 412 .* somebody else has committed .* push again") as caught:
        push_folder(tiny_checkpoint, "me/face")
    assert caught.value.remote_changed is False
    assert [commit.title for commit in repository.history()] == ["theirs", "initial commit"]
    hub.forget()
    push_folder(tiny_checkpoint, "me/face")
    assert {"note.md", "model.safetensors"} <= set(repository.tree("main"))


@pytest.mark.parametrize("request_", ["GET /api/models/", "POST /api/repos/create", "POST .*/commit/"])
def test_the_wish_of_retry_after_is_heeded(hub: LoopbackHub, tiny_checkpoint: Path, request_: str) -> None:
    hub.faults = [Fault("429", match=request_, retry_after="7")]
    push_folder(tiny_checkpoint, "me/face")
    assert 7.0 in hub.pauses


def test_a_server_that_asks_for_hours_is_not_waited_for(hub: LoopbackHub, tiny_checkpoint: Path) -> None:
    hub.faults = [Fault("429", match="POST .*/commit/", retry_after="7200")]
    with pytest.raises(PublishingError, match="wait 7200 s, and push again"):
        push_folder(tiny_checkpoint, "me/face")
    assert sum(hub.pauses) < 60


@pytest.mark.parametrize("request_", ["GET /api/models/", "POST .*/preupload/", "PUT ", "POST .*/commit/"])
def test_a_server_that_hangs_is_given_up(hub: LoopbackHub, tiny_checkpoint: Path, request_: str) -> None:
    hub.faults = [Fault("hang", match=request_, times=-1)]
    with pytest.raises(PublishingError, match=r"did not answer in time .* push again later"):
        push_folder(tiny_checkpoint, "me/face", timeout=0.2)


def test_waiting_has_an_end_after_a_refused_connection_too(hub: LoopbackHub) -> None:
    # the client is thrown away then, and the next one must wait no longer
    from huggingface_hub import close_session, get_session
    from huggingface_hub.utils import _http

    from meco_hub.publishing.hub import answering_within

    factory = _http._GLOBAL_CLIENT_FACTORY
    with answering_within(0.2):
        close_session()
        hub.faults = [Fault("hang")]
        with pytest.raises(Exception, match="timed out"):
            get_session().get(hub.url, timeout=None)
    assert _http._GLOBAL_CLIENT_FACTORY is factory
    assert not [hook for hook in get_session().event_hooks["request"] if hook.__name__ == "impose"]


def test_a_full_disk_here(hub: LoopbackHub, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno
    import shutil

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "/somewhere")

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(
        PublishingError, match=r"No space left on device.*Nothing was sent\. Free some room .* push again"
    ):
        push_folder(tiny_checkpoint, "me/face")
    assert hub.requests == []


def test_a_token_in_a_folder_is_refused(hub: LoopbackHub, tiny_checkpoint: Path, tmp_path: Path) -> None:
    import shutil

    folder = Path(shutil.copytree(tiny_checkpoint, tmp_path / "leaky"))
    for name in ("config.json", "preprocessor_config.json"):
        content = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({**content, "note": "hf_" + "q" * 34}))
        with pytest.raises(PublishingError, match=rf"{name} holds what reads like a Hugging Face token"):
            push_folder(folder, "me/face")
        (folder / name).write_text(json.dumps(content))
    (folder / "recipe.yaml").write_text(f"tracker: {WRITER.removeprefix('hf_')}\n")
    push_folder(folder, "me/face", dry_run=True)  # a part of it is no token
    (folder / "recipe.yaml").write_text(f"tracker: {WRITER}\n")
    with pytest.raises(PublishingError, match=r"recipe.yaml holds what reads like"):
        push_folder(folder, "me/face")
    assert hub.requests == []
