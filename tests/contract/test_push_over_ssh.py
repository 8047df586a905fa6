"""Pushes over real SSH, to the `nix-store` that is installed here: with our patches of asyncssh, and without."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from fleet.machine.link import SshLink
from fleet.machine.login import Logins
from fleet.machine.patched import PLAIN
from fleet.machine.pipe import LocalStreams
from fleet.steps.deliver import deliver
from fleet.store.send import Progress
from fleet.store.supply import BLOCK, Supply
from tests.contract import test_store
from tests.contract.links import host_of, over_ssh
from tests.contract.test_store import closure, nix_store
from tests.sshd import Server, listening

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from fleet.machine import Command, Stream

__all__ = ["closure"]  # the fixture
pytestmark = pytest.mark.usefixtures("home", "asyncssh_is")


@pytest.fixture(params=["patched", "plain"])
def asyncssh_is(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PLAIN, "1" if request.param == "plain" else "0")


async def test_a_closure_arrives_as_it_is(closure: str, tmp_path: Path) -> None:
    target, progress = test_store.Target(tmp_path), Progress()
    async with Supply(LocalStreams()) as source, over_ssh() as target.below:
        await deliver(target, source, test_store.delivery(closure), progress)
    assert has_all(tmp_path, closure)


async def test_a_connection_that_is_lost_again_and_again_brings_all(
    closure: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fleet.steps.deliver.PAUSE", 0.0)
    target, progress = test_store.Target(tmp_path), Progress()
    async with Supply(LocalStreams()) as source, listening(Server()) as server:
        link = SshLink(Logins({}), host_of(server))
        target.below = Dropping(link, server, [100, 300, 2 * BLOCK, 4 * BLOCK])
        await deliver(target, source, test_store.delivery(closure), progress)
        await link.close()
    assert len(server.connections) == 5
    assert has_all(tmp_path, closure)


class Dropping:
    """A link whose host drops the connection when so many bytes have gone to a command, once for each number."""

    def __init__(self, link: SshLink, server: Server, after: list[int]) -> None:
        self._link = link
        self._server = server
        self._after = after

    @contextlib.asynccontextmanager
    async def stream(self, command: Command) -> AsyncIterator[Stream]:
        """See `RemoteMachine.stream`."""
        async with self._link.stream(command) as stream:
            yield _Counting(stream, self._server, self._after.pop(0)) if self._after else stream


class _Counting:
    waiting = 0

    def __init__(self, stream: Stream, server: Server, left: int) -> None:
        self._stream = stream
        self._server = server
        self._left = left
        self.read, self.ended = stream.read, stream.ended

    async def write(self, data: bytes | memoryview) -> None:
        await self._stream.write(data)
        self._left -= len(data)
        if self._left <= 0:
            self._server.drop()


def has_all(root: Path, top: str) -> bool:
    """Whether the store in the folder has the closure, every byte as it should be."""
    nix_store("--store", str(root), "--verify", "--check-contents")
    return nix_store("--store", str(root), "-qR", top) == nix_store("-qR", top)
