"""How long a push waits for a sign of life: by default, huggingface_hub's clients wait for ever.

There is no public way to say so for all of its requests. The client of now is reached by `get_session`, those that replace it after
a failed connection only by a private name, which a test pins down on both ends of the supported range.

This file knows the clients of huggingface_hub; it knows no request.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from huggingface_hub import get_session
from huggingface_hub.utils import _http

TIMEOUT = 60.0
"""Seconds in which nothing at all comes from the server, or goes to it."""


@contextmanager
def answering_within(seconds: float) -> Iterator[None]:
    """Let no request of huggingface_hub wait longer than this for a sign of life; by default it waits for ever."""

    def impose(request: Any) -> None:
        # here and not on the client: some calls pass a timeout of their own, namely none
        given = request.extensions.get("timeout") or {}
        parts = ("connect", "read", "write", "pool")
        within = {part: min(seconds, given[part]) if given.get(part) else seconds for part in parts}
        request.extensions = {**request.extensions, "timeout": within}

    def bound(client: Any) -> Any:
        hooks = client.event_hooks
        client.event_hooks = {**hooks, "request": [*hooks["request"], impose]}
        return client

    # The client of now, and those that replace it after a failed connection.
    client, factory = bound(get_session()), _http._GLOBAL_CLIENT_FACTORY
    _http._GLOBAL_CLIENT_FACTORY = lambda: bound(factory())
    try:
        yield
    finally:
        _http._GLOBAL_CLIENT_FACTORY = factory
        for one in {id(each): each for each in (client, get_session())}.values():
            hooks = one.event_hooks
            one.event_hooks = {**hooks, "request": [hook for hook in hooks["request"] if hook is not impose]}
