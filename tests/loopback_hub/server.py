"""A Hub on the loopback interface, of the standard library alone: what pushing and pulling ask of one, and faults on demand.

    with LoopbackHub() as hub:
        os.environ["HF_ENDPOINT"] = hub.url                       # HF_HUB_DISABLE_XET=1: it knows Git LFS only
        hub.faults = [Fault("500", match="POST .*/commit/")]
        hub.repositories["me/x"].history()

Tokens are `hub.tokens`: word → "read" or "write". Without one, public repositories can be read.
"""

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from loopback_hub.answers import ROUTES, Asked
from loopback_hub.faults import STATUSES, WORDS, Fault
from loopback_hub.repository import Refused, Repository

WRITER = "hf_" + "WriterTokenOfTheLoopbackHub" + "0000"
READER = "hf_" + "ReaderTokenOfTheLoopbackHub" + "0000"


class LoopbackHub:
    """The server; a context manager.

    Attributes:
        repositories: by name.
        tokens: word → "read" or "write".
        requests: "METHOD path" of each, in order of arrival.
        statuses: what each was answered; None where the connection was cut.
        faults: what shall go wrong.
        begun: whether new repositories have a first commit.
        pauses: seconds that the client would have slept, where a test puts them.
    """

    def __init__(self, *, begun: bool = True) -> None:
        self.repositories: dict[str, Repository] = {}
        self.tokens = {WRITER: "write", READER: "read"}
        self.requests: list[str] = []
        self.statuses: list[int | None] = []
        self.faults: list[Fault] = []
        self.begun = begun
        self.pauses: list[float] = []
        self.lock = threading.Lock()
        self.closing = threading.Event()
        hub = self

        class Handler(_Handler):
            owner = hub

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> "LoopbackHub":
        threading.Thread(target=self._server.serve_forever, daemon=True, kwargs={"poll_interval": 0.05}).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()

    def make(self, name: str, *, private: bool = False) -> Repository:
        """A repository, as if made earlier."""
        self.repositories[name] = Repository(name, private, self.begun)
        return self.repositories[name]

    def forget(self) -> None:
        """Requests and faults so far."""
        self.requests, self.statuses, self.faults = [], [], []


class _Handler(BaseHTTPRequestHandler):
    owner: LoopbackHub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing on stderr."""

    def _handle(self) -> None:
        hub = self.owner
        target = urlsplit(self.path)
        words = f"{self.command} {unquote(target.path)}"
        body = self._body()
        with hub.lock:
            place = len(hub.requests)
            hub.requests.append(words)
            hub.statuses.append(None)
            fault = next((one for one in hub.faults if one.strikes(words)), None)
        kind = fault.kind if fault else ""
        if kind == "hang":
            hub.closing.wait(60)
        if kind in ("hang", "cut"):
            self._cut()
            return
        if fault and kind in STATUSES:
            status = STATUSES[kind]
            extra = {"Retry-After": fault.retry_after} if fault.retry_after else {}
            self._answer(place, status, {"error": WORDS[status]}, {"X-Error-Message": WORDS[status], **extra})
            return
        if kind == "echo":
            self._answer(place, 500, {"error": f"cannot serve {dict(self.headers)}"}, {})
            return
        status, said, headers = self._serve(target.path, parse_qs(target.query), body)
        if kind == "cut after":
            self._cut()
        elif kind == "500 after":
            self._answer(place, 500, {"error": "lost track"}, {})
        else:
            self._answer(place, status, said, headers, half=kind == "half")

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _handle

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _serve(self, path: str, query: dict[str, list[str]], body: bytes) -> tuple[int, Any, dict[str, str]]:
        hub = self.owner
        try:
            for method, pattern, answer in ROUTES:
                found = re.fullmatch(pattern, path)
                if found and self.command in method.split("|"):
                    words = {key: unquote(value or "") for key, value in found.groupdict().items()}
                    with hub.lock:
                        return answer(Asked(hub, self._role(), words, query, body, self.headers.get("Range")))
            raise Refused(404, f"no route for {self.command} {path}")
        except Refused as no:
            codes = {"X-Error-Code": no.code} if no.code else {}
            return no.status, {"error": str(no)}, {**codes, "X-Error-Message": str(no)}

    def _role(self) -> str:
        word = (self.headers.get("Authorization") or "").removeprefix("Bearer ").strip()
        if not word:
            return ""
        if word not in self.owner.tokens:
            raise Refused(401, WORDS[401])
        return self.owner.tokens[word]

    def _cut(self) -> None:
        self.close_connection = True
        self.connection.close()

    def _answer(self, place: int, status: int, said: Any, headers: dict[str, str], *, half: bool = False) -> None:
        data = said if isinstance(said, bytes) else json.dumps(said).encode()
        headers = {
            "Content-Type": "application/octet-stream" if isinstance(said, bytes) else "application/json",
            **headers,
        }
        self.owner.statuses[place] = status
        try:
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data[: len(data) // 2] if half else data)
            if half:
                self._cut()
        except (BrokenPipeError, ConnectionResetError):  # the client gave up
            self.close_connection = True
