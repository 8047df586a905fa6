"""Waiting for what nobody tells of, and ports that nobody listens on."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

Found = TypeVar("Found")


class NeverError(AssertionError):
    """The condition did not come true in time."""


def until(is_so: Callable[[], Found], *, within: float = 20.0, what: str | Callable[[], str] = "condition") -> Found:
    """What `is_so` gave when it was first true. Raises NeverError after `within` seconds, with what it is then."""
    deadline = time.monotonic() + within
    while True:
        asked = time.monotonic()
        if found := is_so():
            return found
        now = time.monotonic()
        if now > deadline:
            raise NeverError(f"not within {within:g} s: {what if isinstance(what, str) else what()}")
        # A question to a host costs processes there: so it is asked a third of the time at most.
        time.sleep(min(max(0.02, 2 * (now - asked)), 0.5))


async def becomes(is_so: Callable[[], object], *, within: float = 10.0) -> None:
    """It is so. Raises TimeoutError after `within` seconds."""
    async with asyncio.timeout(within):
        while not is_so():  # noqa: ASYNC110 - what is watched sets no event
            await asyncio.sleep(0.005)


def free_port() -> int:
    """A port of this machine where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
