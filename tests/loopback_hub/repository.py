"""A repository as the Hub keeps it: commits with parents, branches, pull requests, files by their hashes."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field


class Refused(Exception):
    """The Hub's no: a status, its own error code, and words."""

    def __init__(self, status: int, words: str, code: str = "") -> None:
        super().__init__(words)
        self.status, self.code = status, code


@dataclass(frozen=True)
class Entry:
    """A file in a commit: its content, and whether that lies in LFS."""

    content: bytes
    lfs: bool = False

    @property
    def blob(self) -> str:
        """Git's name for what git itself stores: the content, or the pointer to it."""
        data = self.content
        if self.lfs:
            text = f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {len(data)}\n"
            data = text.encode()
        return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.blob

    def describe(self, path: str) -> dict:
        """As `tree` and `paths-info` answer."""
        said: dict = {"type": "file", "path": path, "oid": self.blob, "size": len(self.content)}
        if self.lfs:
            said["lfs"] = {"oid": self.sha256, "size": len(self.content), "pointerSize": 134}
        return said


@dataclass(frozen=True)
class Commit:
    """A state of all files, and the one it came from."""

    parent: str | None
    tree: dict[str, Entry]
    title: str

    @property
    def oid(self) -> str:
        named = json.dumps([self.parent, self.title, sorted((path, entry.blob) for path, entry in self.tree.items())])
        return hashlib.sha1(named.encode()).hexdigest()


@dataclass
class Repository:
    """One repository; `begun=False` leaves it without a first commit, as some servers do."""

    name: str
    private: bool = False
    begun: bool = True
    commits: dict[str, Commit] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    large: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.begun:
            attributes = Entry(b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n")
            self._add(Commit(None, {".gitattributes": attributes}, "initial commit"), "main")

    def _add(self, commit: Commit, ref: str) -> str:
        self.commits[commit.oid] = commit
        self.refs[ref] = commit.oid
        return commit.oid

    def resolve(self, revision: str) -> str | None:
        """The commit that a branch, pull request or hash names; None for the branch of a repository without commits."""
        if revision in self.refs:
            return self.refs[revision]
        if revision in self.commits:
            return revision
        if revision == "main" and not self.commits:
            return None
        raise Refused(404, f"Invalid rev id: {revision}", "RevisionNotFound")

    def tree(self, revision: str) -> dict[str, Entry]:
        oid = self.resolve(revision)
        return self.commits[oid].tree if oid is not None else {}

    def history(self, revision: str = "main") -> list[Commit]:
        """Newest first."""
        found, oid = [], self.resolve(revision)
        while oid is not None:
            found.append(self.commits[oid])
            oid = self.commits[oid].parent
        return found

    def branch(self, name: str, start: str = "main") -> None:
        if name in self.refs:
            raise Refused(409, f"Reference {name} already exists")
        oid = self.resolve(start)
        if oid is None:
            raise Refused(404, "nothing to branch from", "RevisionNotFound")
        self.refs[name] = oid

    def commit(self, revision: str, lines: Iterable[dict], *, pull_request: bool = False) -> tuple[str, str | None]:
        """All of it or nothing; gives the commit, and the pull request's ref."""
        head = self.resolve(revision)
        header: dict = {}
        tree = dict(self.tree(revision))
        for line in lines:
            key, value = line["key"], line["value"]
            if key == "header":
                header = value
            elif key == "file":
                import base64

                tree[value["path"]] = Entry(base64.b64decode(value["content"]))
            elif key == "lfsFile":
                if value["oid"] not in self.large:
                    raise Refused(400, f"LFS object {value['oid']} of {value['path']} was not uploaded")
                tree[value["path"]] = Entry(self.large[value["oid"]], lfs=True)
            elif key == "deletedFile":
                if tree.pop(value["path"], None) is None:
                    raise Refused(404, f"A file with this name doesn't exist: {value['path']}", "EntryNotFound")
            else:
                raise Refused(400, f"unknown operation {key}")
        expected = header.get("parentCommit")
        if expected is not None and expected != head and not pull_request:
            raise Refused(412, "A commit has happened since. Please refresh and try again.")
        ref = revision
        if pull_request:
            ref = f"refs/pr/{sum(name.startswith('refs/pr/') for name in self.refs) + 1}"
        elif ref not in self.refs and ref != "main" and not ref.startswith("refs/"):
            raise Refused(400, f"{ref} is no branch")
        return self._add(Commit(head, tree, header.get("summary", "")), ref), ref if pull_request else None
