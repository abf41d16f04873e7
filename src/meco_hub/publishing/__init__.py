"""Model cards, and pushing to the Hub what a card describes."""

from collections.abc import Sequence
from typing import TypedDict

__all__ = ["ModelPushOptions", "PushOptions"]


class PushOptions(TypedDict, total=False):
    """Options of every push, whatever is pushed; `hub.push_folder` says what each does and has their defaults."""

    private: bool | None
    revision: str | None
    create_pr: bool
    commit_message: str | None
    token: str | bool | None


class ModelPushOptions(PushOptions, total=False):
    """Options of pushing a model: `max_shard_size`, beyond which weights are cut into shards ("5GB"), and `tags` for its card."""

    max_shard_size: int | str
    tags: Sequence[str]
