"""What leaves a folder and what stays, pickles under any name, and words that must not be seen."""

import bz2
import gzip
import json
import lzma
import pickle
import re
import shutil
import tarfile
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from meco_hub.errors import PublishingError
from meco_hub.publishing.contents import Secret, blot_out, find_secret, is_ours, read_contents

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 16
TOKEN = "hf_" + "a1B2" * 8


def _folder(tmp_path: Path, **files: bytes) -> Path:
    folder = tmp_path / "folder"
    for name, content in {"config.json": b"{}", "model.safetensors": b"\x02" + b"\0" * 7 + b"{}", **files}.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    return folder


def test_what_is_known_by_name_goes_and_the_rest_stays(tmp_path: Path) -> None:
    goes = {
        "README.md": b"card",
        "LICENSE": b"licence",
        "card.yaml": b"name: x",
        "recipe.yaml": b"a: 1",
        "run.json": b"{}",
        "report.json": b"{}",
        "report_dark.json": b"{}",
        "preprocessor_config.json": b"{}",
        "confusion.png": PNG,
        "pictures/bars.PNG": PNG,
        "model-00001-of-00002.safetensors": b"\x02" + b"\0" * 7 + b"{}",
    }
    stays = {
        "notes.txt": b"to do",
        "tool.py": b"import os",
        ".env": b"A=1",
        "other.safetensors": b"\0" * 8,
        "x.onnx": b"1",
    }
    unseen = {".git/HEAD": b"ref", "step_3/optimizer.bin": b"\x80\x04.", "best/model.safetensors": b"\0" * 8}
    contents = read_contents(_folder(tmp_path, **goes, **stays, **unseen))
    assert set(contents.files) == {*goes, "config.json", "model.safetensors"}
    assert set(contents.left_out) == {*stays, ".git/", "step_3/", "best/"}
    assert all(path.is_file() for path in contents.files.values())


def test_links_are_followed_inside_of_the_folder_and_as_a_cache_has_them(tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    (folder / "own.json").write_text("{}")
    (folder / "run.json").symlink_to(folder / "own.json")
    (folder / "elsewhere").symlink_to(tmp_path)
    contents = read_contents(folder)
    assert "run.json" in contents.files
    assert contents.left_out == ("elsewhere/", "own.json")
    cached = tmp_path / "models--me--model" / "snapshots" / "0123"
    cached.mkdir(parents=True)
    (cached.parents[1] / "blobs").mkdir()
    for path in folder.glob("*.*"):
        (cached.parents[1] / "blobs" / path.name).write_bytes(path.read_bytes())
        (cached / path.name).symlink_to(Path("..", "..", "blobs", path.name))
    assert set(read_contents(cached).files) == set(contents.files)


@pytest.mark.parametrize("name", ["LICENSE", "README.md", "report.json", "deep/picture.png", "model.safetensors"])
@pytest.mark.parametrize("chain", [False, True])
def test_no_link_leads_out_of_the_folder(tmp_path: Path, name: str, chain: bool) -> None:
    folder = _folder(tmp_path)
    (tmp_path / "private").write_bytes(b"PRIVATE")
    link = folder / name
    link.unlink(missing_ok=True)
    link.parent.mkdir(exist_ok=True)
    if chain:
        (folder / "between").symlink_to(tmp_path / "private")
    link.symlink_to(folder / "between" if chain else tmp_path / "private")
    with pytest.raises(PublishingError, match=r"is a link to .*private, outside of the folder.*Nothing was sent"):
        read_contents(folder)


class _Payload:
    def __reduce__(self) -> tuple[Callable[..., None], tuple[Any, ...]]:
        return (print, ("this must never be seen",))


def _torch(new: bool) -> bytes:
    buffer = BytesIO()
    torch.save({"a": torch.zeros(2)}, buffer, _use_new_zipfile_serialization=new)
    return buffer.getvalue()


def _arrays(save: Callable[..., None]) -> bytes:
    buffer = BytesIO()
    save(buffer, np.array([{}], dtype=object))
    return buffer.getvalue()


def _tar() -> bytes:
    buffer = BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("pickle"), BytesIO())
    return buffer.getvalue()


BARE = pickle.dumps(_Payload(), protocol=4)
PICKLES = {
    **{f"protocol {number}": pickle.dumps(_Payload(), protocol=number) for number in range(6)},
    "torch": _torch(True),
    "old torch": _torch(False),
    "tar": _tar(),
    "gzip": gzip.compress(BARE),
    "bz2": bz2.compress(BARE),
    "xz": lzma.compress(BARE),
    "zlib": zlib.compress(BARE),
    "npy": _arrays(np.save),
    "npz": _arrays(np.savez),
}


@pytest.mark.parametrize("kind", PICKLES)
@pytest.mark.parametrize("name", ["notes", "run.json", "deep/picture.png"])
def test_a_pickle_is_refused_under_any_name(tmp_path: Path, kind: str, name: str) -> None:
    folder = _folder(tmp_path, **{name: PICKLES[kind]})
    with pytest.raises(PublishingError, match=rf"{Path(name).name} is .*pickle.*Nothing was sent"):
        read_contents(folder)


@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "model.pt", "a/weights.pkl", "x.pth", "last.ckpt", "forest.joblib"]
)
def test_a_name_is_enough(tmp_path: Path, name: str) -> None:
    with pytest.raises(PublishingError, match=r"named as a pickle is"):
        read_contents(_folder(tmp_path, **{name: b"harmless"}))


def test_weights_that_are_a_pickle(tmp_path: Path) -> None:
    with pytest.raises(PublishingError, match=r"model\.safetensors is a pickle inside"):
        read_contents(_folder(tmp_path, **{"model.safetensors": BARE}))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b".",
        b"N.",
        b"I1\n.",
        b"plain words.\n",
        b"(dp0\n.",
        zlib.compress(b"text"),
        b"x\x9c, but no zlib",
        b"PK\x03\x04 no zip",
        b"BZh",
    ],
)
def test_no_false_alarm(tmp_path: Path, content: bytes) -> None:
    assert read_contents(_folder(tmp_path, notes=content)).left_out == ("notes",)


def test_our_own_sources_are_not_taken_for_pickles() -> None:
    import meco_hub
    from meco_hub.publishing.contents import pickled_as

    source = Path(meco_hub.__file__).parent
    assert not [path for path in source.rglob("*.py") if pickled_as(path)]


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("config.json", b"{", "cannot be read as JSON"),
        ("run.json", b"\xff{}", "cannot be read as JSON"),
        ("README.md", b"\xff\xfe", "is no text"),
        ("a.png", b"GIF89a", "is no png picture"),
        ("a.jpg", PNG, "is no jpg picture"),
    ],
)
def test_a_file_is_what_its_name_says(tmp_path: Path, name: str, content: bytes, match: str) -> None:
    with pytest.raises(PublishingError, match=f"{name} {match}.*Nothing was sent"):
        read_contents(_folder(tmp_path, **{name: content}))


SECRETS = [
    ("a Hugging Face token", TOKEN),
    ("a Hugging Face token", "hf_oauth_" + "a1B2" * 8),
    ("a GitHub token", "ghp_" + "x" * 36),
    ("a GitHub token", "gho_" + "x" * 36),
    ("a GitLab token", "glpat-" + "x1" * 10),
    ("an AWS access key", "AKIA" + "A" * 16),
    ("an AWS secret key", "aws_secret_access_key = " + "a1/+" * 10),
    ("a Google key", "AIza" + "a1_-b" * 7),
    ("a Google key", "ya29." + "a1_-b" * 9),
    ("a Google key", "GOCSPX-" + "a1_-b" * 6),
    ("an Azure key", "AccountKey=" + "a1/+" * 21 + "ab=="),
    ("a Slack token", "xoxb-" + "1" * 12 + "-" + "a" * 24),
    ("a Stripe key", "sk_live_" + "a1" * 12),
    ("an npm token", "npm_" + "a1" * 18),
    ("a PyPI token", "pypi-" + "Ag" * 40),
    ("a SendGrid key", "SG." + "a" * 22 + "." + "b" * 43),
    ("a Telegram token", "123456789:AA" + "b" * 33),
    ("an API key", "sk-" + "p" * 40),
    ("an API key", "gsk_" + "p" * 52),
    ("a signed token (JWT)", "eyJ" + "a" * 20 + ".eyJ" + "b" * 30 + "." + "c" * 43),
    ("an OAuth token", "refresh_token=" + "a1B2" * 8),
    ("an authorisation header", "Authorization: Bearer " + "a1B2" * 8),
    ("a private key", "-----BEGIN RSA PRIVATE KEY-----"),
    ("a private key", "-----BEGIN OPENSSH PRIVATE KEY-----"),
    ("a private key", "-----BEGIN PGP PRIVATE KEY BLOCK-----"),
]


@pytest.mark.parametrize(("kind", "secret"), SECRETS)
def test_secrets_are_found(tmp_path: Path, kind: str, secret: str) -> None:
    content = json.dumps({"x": {"y": f"see {secret}"}}).encode()
    with pytest.raises(PublishingError, match=f"run.json holds what reads like {re.escape(kind)}") as caught:
        read_contents(_folder(tmp_path, **{"run.json": content}))
    assert secret not in str(caught.value)
    assert blot_out(f"a {secret} b") == "a *** b"


def test_a_password_in_an_address_is_found_and_sources_are_none(tmp_path: Path) -> None:
    assert find_secret(b"postgres://me:correct-horse@host/db") == "a password in an address"
    root = Path(__file__).parents[3]
    texts = [
        *(root / "src").rglob("*.py"),
        *(root / "docs").glob("*.md"),
        *(root / "plugins").rglob("checkpoints/*/*.json"),
    ]
    assert [path for path in texts if find_secret(path.read_bytes()) is not None] == []


def test_secrets_in_the_head_of_weights_are_found(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    folder = _folder(tmp_path)
    save_file({"a": torch.zeros(1)}, folder / "model.safetensors", metadata={"by": TOKEN})
    with pytest.raises(PublishingError, match=r"model\.safetensors holds what reads like a Hugging Face token"):
        read_contents(folder)


def test_a_token_that_looks_like_nothing_is_known_by_heart() -> None:
    assert find_secret(b"..correct horse..", ["correct horse"]) == "the token of this push"
    assert find_secret(b"hf_hub and hf_xet are packages, hf_short no token", ["short"]) is None
    assert blot_out("said correct horse", ["correct horse"]) == "said ***"
    assert blot_out("GET https://me:word@host/a/b?X-Amz-Signature=1 'x'") == "GET https://host/a/b 'x'"
    assert blot_out("is it so? yes") == "is it so? yes"
    assert repr(Secret("correct horse")) == "'***'"
    assert Secret("correct horse") == "correct horse"


def test_what_a_later_push_may_remove() -> None:
    stale = [
        "model.safetensors",
        "model-00001-of-00002.safetensors",
        "pytorch_model.bin",
        "report.json",
        "processor_config.json",
    ]
    assert all(is_ours(path) for path in stale)
    theirs = [
        "README.md",
        "LICENSE",
        "notes.md",
        ".gitattributes",
        "config.json",
        "picture.png",
        "sub/model.safetensors",
        "x.safetensors",
    ]
    assert not any(is_ours(path) for path in theirs)


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(PublishingError, match="is no folder"):
        read_contents(tmp_path / "nothing")
    shutil.rmtree(tmp_path)
