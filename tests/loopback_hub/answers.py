"""What the Hub answers to each request, once it is known to be allowed."""

import base64
import fnmatch
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

import yaml

from loopback_hub.repository import Entry, Refused, Repository

Answer = tuple[int, Any, dict[str, str]]


@dataclass(frozen=True)
class Asked:
    """One request: whose it is (role "", "read" or "write"), what its address holds, its query and its body."""

    hub: Any
    role: str
    words: dict[str, str]
    query: dict[str, list[str]]
    body: bytes
    range: str | None

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def repository(self) -> Repository:
        """The one that is named, if the caller may see it."""
        found = self.hub.repositories.get(self.words["repo"])
        if found is None or (found.private and not self.role):
            # the same answer for both, as the Hub has it: who may not see it must not learn that it is there
            raise Refused(401 if not self.role else 404, "Repository not found", "RepoNotFound")
        return found

    def must_write(self) -> None:
        self.repository  # noqa: B018 — refuses what is not there first
        if not self.role:
            raise Refused(401, "Invalid username or password.")
        if self.role != "write":
            raise Refused(403, "Forbidden: you must use a write token")

    @property
    def pull_request(self) -> bool:
        return self.query.get("create_pr") == ["1"]


def create(asked: Asked) -> Answer:
    if asked.role != "write":
        raise Refused(403 if asked.role else 401, "You may not create a repository")
    wish = asked.json()
    name = f"{wish['organization'] or 'me'}/{wish['name']}"
    said = {"url": f"{asked.hub.url}/{name}", "name": name, "id": "1"}
    if name in asked.hub.repositories:
        return 409, {**said, "error": "You already created this model repo"}, {}
    asked.hub.make(name, private=wish.get("visibility") == "private" or bool(wish.get("private")))
    return 200, said, {}


def validate(asked: Asked) -> Answer:
    content = asked.json()["content"]
    try:
        head = yaml.safe_load(content.split("---")[1]) if content.startswith("---") else {}
        if not isinstance(head, dict):
            raise yaml.YAMLError("metadata is no mapping")
    except yaml.YAMLError as error:
        return 400, {"errors": [{"message": str(error)}], "warnings": []}, {}
    return 200, {"errors": [], "warnings": []}, {}


def info(asked: Asked) -> Answer:
    repository = asked.repository
    revision = asked.words.get("rev") or "main"
    oid, tree = repository.resolve(revision), repository.tree(revision)
    said: dict[str, Any] = {
        "_id": "1",
        "id": repository.name,
        "modelId": repository.name,
        "private": repository.private,
    }
    said |= {"sha": oid, "siblings": [{"rfilename": path} for path in sorted(tree)], "tags": [], "downloads": 0}
    card = tree.get("README.md")
    if card and card.content.startswith(b"---"):
        data = yaml.safe_load(card.content.decode().split("---")[1]) or {}
        said |= {"cardData": data} | {key: data[key] for key in ("pipeline_tag", "library_name") if key in data}
    return 200, said, {}


def preupload(asked: Asked) -> Answer:
    if asked.pull_request:
        if not asked.role:
            raise Refused(401, "Invalid username or password.")
    else:
        asked.must_write()
    tree = asked.repository.tree(asked.words["rev"])
    wish = asked.json()
    ignored = wish.get("gitIgnore")
    if ignored is None:
        ignored = tree[".gitignore"].content.decode() if ".gitignore" in tree else ""
    answered = []
    for one in wish["files"]:
        path, present = one["path"], tree.get(one["path"])
        binary = b"\0" in base64.b64decode(one["sample"])
        large = path.endswith(".safetensors") or binary or one["size"] > 10_000_000
        said = {"path": path, "uploadMode": "lfs" if large else "regular"}
        said["shouldIgnore"] = any(fnmatch.fnmatch(path, line.strip()) for line in ignored.splitlines() if line.strip())
        answered.append(said | ({"oid": present.etag} if present else {}))
    return 200, {"files": answered}, {}


def batch(asked: Asked) -> Answer:
    repository, wish, objects = asked.repository, asked.json(), []
    if not asked.role:
        raise Refused(401, "Invalid username or password.")
    for one in wish["objects"]:
        said = {"oid": one["oid"], "size": one["size"]}
        if one["oid"] not in repository.large:
            base = f"{asked.hub.url}/lfs/{repository.name}/{one['oid']}"
            upload = {"href": f"{base}?X-Amz-Signature=signed-and-secret", "header": {}}
            said["actions"] = {"upload": upload, "verify": {"href": f"{base}/verify"}}
        objects.append(said)
    return 200, {"transfer": "basic", "objects": objects}, {}


def put_large(asked: Asked) -> Answer:
    # as storage has it: whoever holds the signed address may write there
    if hashlib.sha256(asked.body).hexdigest() != asked.words["oid"]:
        raise Refused(400, "the content does not have the announced hash")
    asked.hub.repositories[asked.words["repo"]].large[asked.words["oid"]] = asked.body
    return 200, b"", {"ETag": f'"{asked.words["oid"]}"'}


def verify(asked: Asked) -> Answer:
    wish = asked.json()
    held = asked.repository.large.get(wish["oid"])
    if held is None or len(held) != wish["size"]:
        raise Refused(422, "the object is not there in that size")
    return 200, {}, {}


def commit(asked: Asked) -> Answer:
    repository = asked.repository
    if not asked.pull_request:
        asked.must_write()
    elif not asked.role:
        raise Refused(401, "Invalid username or password.")
    lines = [json.loads(line) for line in asked.body.splitlines() if line.strip()]
    oid, ref = repository.commit(asked.words["rev"], lines, pull_request=asked.pull_request)
    said = {"success": True, "commitOid": oid, "hookOutput": ""}
    said["commitUrl"] = f"{asked.hub.url}/{repository.name}/commit/{oid}"
    if ref:
        said["pullRequestUrl"] = f"{asked.hub.url}/{repository.name}/discussions/{ref.rpartition('/')[2]}"
    return 200, said, {}


def branch(asked: Asked) -> Answer:
    asked.must_write()
    asked.repository.branch(asked.words["rev"], (asked.json() if asked.body else {}).get("startingPoint") or "main")
    return 200, {}, {}


def resolve(asked: Asked) -> Answer:
    repository, path = asked.repository, asked.words["path"]
    oid, tree = repository.resolve(asked.words["rev"]), repository.tree(asked.words["rev"])
    seen = {"X-Repo-Commit": oid or ""}
    entry: Entry | None = tree.get(path)
    if entry is None:
        return (
            404,
            {"error": "Entry not found"},
            {**seen, "X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found"},
        )
    size = len(entry.content)
    headers = {**seen, "ETag": f'"{entry.etag}"', "Accept-Ranges": "bytes"}
    if entry.lfs:
        headers |= {"X-Linked-Etag": f'"{entry.sha256}"', "X-Linked-Size": str(size)}
    if asked.range is None:
        return 200, entry.content, headers
    first, _, last = asked.range.removeprefix("bytes=").partition("-")
    begin, end = int(first), min(int(last) if last else size - 1, size - 1)
    if begin > end:
        return 416, b"", {**headers, "Content-Range": f"bytes */{size}"}
    return 206, entry.content[begin : end + 1], {**headers, "Content-Range": f"bytes {begin}-{end}/{size}"}


def tree(asked: Asked) -> Answer:
    below = asked.words.get("path") or ""
    entries = asked.repository.tree(asked.words["rev"])
    inside = {path: one for path, one in entries.items() if not below or path.startswith(f"{below}/")}
    if below and not inside:
        raise Refused(404, f"{below} does not exist", "EntryNotFound")
    return 200, [one.describe(path) for path, one in sorted(inside.items())], {}


def paths_info(asked: Asked) -> Answer:
    entries = asked.repository.tree(asked.words["rev"])
    paths = parse_qs(asked.body.decode())["paths"]  # a form, unlike all others
    return 200, [entries[path].describe(path) for path in paths if path in entries], {}


def refs(asked: Asked) -> Answer:
    known = asked.repository.refs.items()
    branches = [
        {"name": name, "ref": f"refs/heads/{name}", "targetCommit": oid} for name, oid in known if "/" not in name
    ]
    return 200, {"branches": branches, "tags": [], "converts": []}, {}


def commits(asked: Asked) -> Answer:
    date = "2026-01-01T00:00:00.000Z"
    history = asked.repository.history(asked.words["rev"])
    return 200, [{"id": one.oid, "title": one.title, "message": "", "authors": [], "date": date} for one in history], {}


def discussions(asked: Asked) -> Answer:
    asked.repository  # noqa: B018 — refuses what is not there
    return 200, {"discussions": [], "count": 0, "start": 0}, {}


def whoami(asked: Asked) -> Answer:
    if not asked.role:
        raise Refused(401, "Invalid username or password.")
    return 200, {"name": "me", "type": "user", "auth": {"accessToken": {"role": asked.role}}, "orgs": []}, {}


_REPO = r"(?P<repo>[^/]+/[^/]+)"
_MODEL = f"/api/models/{_REPO}"
ROUTES: list[tuple[str, str, Callable[[Asked], Answer]]] = [
    ("POST", "/api/repos/create", create),
    ("POST", "/api/validate-yaml", validate),
    ("GET", "/api/whoami-v2", whoami),
    ("GET", _MODEL, info),
    ("GET", f"{_MODEL}/revision/(?P<rev>[^/]+)", info),
    ("POST", f"{_MODEL}/preupload/(?P<rev>[^/]+)", preupload),
    ("POST", f"{_MODEL}/commit/(?P<rev>[^/]+)", commit),
    ("POST", f"{_MODEL}/branch/(?P<rev>[^/]+)", branch),
    ("GET", f"{_MODEL}/tree/(?P<rev>[^/]+)(/(?P<path>.+))?", tree),
    ("POST", f"{_MODEL}/paths-info/(?P<rev>[^/]+)", paths_info),
    ("GET", f"{_MODEL}/refs", refs),
    ("GET", f"{_MODEL}/commits/(?P<rev>[^/]+)", commits),
    ("GET", f"{_MODEL}/discussions", discussions),
    ("POST", rf"/{_REPO}\.git/info/lfs/objects/batch", batch),
    ("PUT", f"/lfs/{_REPO}/(?P<oid>[0-9a-f]+)", put_large),
    ("POST", f"/lfs/{_REPO}/(?P<oid>[0-9a-f]+)/verify", verify),
    ("GET|HEAD", f"/{_REPO}/resolve/(?P<rev>[^/]+)/(?P<path>.+)", resolve),
]
