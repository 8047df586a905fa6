"""Pushing what a plan saw missing without asking again, to a real `nix-store --serve` whose store is a folder."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from typing import TYPE_CHECKING, Any

import pytest

from fleet.errors import PushError
from fleet.machine.pipe import LocalStreams
from fleet.steps import deliver as steps
from fleet.steps.deliver import deliver
from fleet.store import wire
from fleet.store.send import Progress
from fleet.store.supply import Supply, length
from tests.contract.test_store import Instead, Target, closure, delivery, nix_store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from fleet.machine import Command

__all__ = ["closure"]  # the fixture
pytestmark = pytest.mark.timeout(60)  # two sides that wait for each other do so for ever


class Counted(Target):
    """A host that counts the servers on it; `over` is put around the stream to each."""

    def __init__(self, root: Path, over: Callable[[Any], Any] = lambda stream: stream) -> None:
        super().__init__(root)
        self.over = over
        self.servers = 0

    @contextlib.asynccontextmanager
    async def stream(self, command: Command) -> AsyncIterator[Any]:
        self.servers += 1
        async with super().stream(command) as stream:
            yield self.over(stream)


class Silent:
    """A host that says nothing before so many bytes have come."""

    def __init__(self, stream: Any, awaited: int) -> None:
        self._stream = stream
        self._awaited = awaited
        self._enough = asyncio.Event()

    async def read(self, count: int) -> bytes:
        await self._enough.wait()
        read: bytes = await self._stream.read(count)
        return read

    async def write(self, data: bytes) -> None:
        await self._stream.write(data)
        self._awaited -= len(data)
        if self._awaited <= 0:
            self._enough.set()

    waiting = 0

    async def ended(self) -> Any:
        return await self._stream.ended()


class Insistent:
    """A host that takes no more before its first answer has been read."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._writes = 0
        self._was_heard = asyncio.Event()

    async def read(self, count: int) -> bytes:
        read: bytes = await self._stream.read(count)
        self._was_heard.set()
        return read

    async def write(self, data: bytes) -> None:
        self._writes += 1
        if self._writes > 1:
            await self._was_heard.wait()
        await self._stream.write(data)

    waiting = 0

    async def ended(self) -> Any:
        return await self._stream.ended()


def paths_of(top: str) -> tuple[str, list[str]]:
    """The big path, and the small ones, each of which refers to all before it."""
    big, *small = nix_store("-qR", top).split()
    assert big.endswith("-big")
    return big, small


async def bring(target: Target, source: Supply, *paths: str) -> None:
    await deliver(target, source, delivery(*paths), Progress())


def holds(target: Target, top: str) -> bool:
    return nix_store("--store", str(target.root), "-qR", top) == nix_store("-qR", top)


async def test_nothing_is_waited_for_before_all_has_been_sent(closure: str, tmp_path: Path) -> None:
    big, small = paths_of(closure)
    progress = Progress()
    async with Supply(LocalStreams()) as source:
        await bring(Target(tmp_path), source, big)
        check = len(wire.query_valid_paths([closure], lock=True, substitute=False))
        awaited = sum(map(length, await source.infos(small))) + check
        target = Counted(tmp_path, lambda stream: Silent(stream, awaited))
        await deliver(target, source, delivery(closure, planned=small), progress)
    assert holds(target, closure)
    assert (progress.paths, progress.arrived) == (10, 10)
    assert progress.sent == progress.total
    assert progress.nar_bytes == sum(map(int, nix_store("-q", "--size", *small).split()))


async def test_a_host_that_must_be_heard_first_is(closure: str, tmp_path: Path) -> None:
    big, small = paths_of(closure)
    target = Counted(tmp_path, Insistent)
    async with Supply(LocalStreams()) as source:
        await bring(Target(tmp_path), source, big)
        await deliver(target, source, delivery(closure, planned=small), Progress())
    assert holds(target, closure)


async def test_a_planned_path_that_the_host_got_meanwhile_costs_only_its_bytes(closure: str, tmp_path: Path) -> None:
    big, small = paths_of(closure)
    target, progress = Counted(tmp_path), Progress()
    async with Supply(LocalStreams()) as source:
        await bring(Target(tmp_path), source, big, *small[:4])
        await deliver(target, source, delivery(closure, planned=small), progress)
    assert holds(target, closure)
    assert (target.servers, progress.arrived) == (1, 10)
    nix_store("--store", str(tmp_path), "--verify", "--check-contents")


async def test_a_host_that_got_much_meanwhile_is_spared_it(closure: str, tmp_path: Path) -> None:
    big, small = paths_of(closure)
    target, progress = Counted(tmp_path), Progress()
    async with Supply(LocalStreams()) as source:
        await bring(Target(tmp_path), source, closure)
        assert length((await source.infos([big]))[0]) > steps.MOST_UNASKED
        await deliver(target, source, delivery(closure, planned=[big, *small]), progress)
    assert progress.arrived == 0
    assert progress.sent < 10_000


async def test_what_was_collected_since_the_plan_comes_too(closure: str, tmp_path: Path) -> None:
    """What is sent refers to it: the server would refuse that, so the host is asked before anything is sent again."""
    big, small = paths_of(closure)
    target, progress = Counted(tmp_path), Progress()
    async with Supply(LocalStreams()) as source:
        await bring(Target(tmp_path), source, big, small[0])
        await deliver(target, source, delivery(closure, planned=small[2:]), progress)
    assert holds(target, closure)
    assert target.servers == 2
    assert progress.paths >= progress.arrived >= 9


async def test_what_is_wanted_beside_the_plan_follows_on_the_same_connection(closure: str, tmp_path: Path) -> None:
    big, small = paths_of(closure)
    (tmp_path / "program").write_text(str(tmp_path))
    program = nix_store("--add", str(tmp_path / "program")).strip()
    target, progress = Counted(tmp_path / "store"), Progress()
    async with Supply(LocalStreams()) as source:
        await bring(Target(tmp_path / "store"), source, big)
        for servers in (1, 2):  # the second time it is there
            await deliver(target, source, delivery(program, closure, planned=small), progress)
            assert target.servers == servers
            assert progress.sent == progress.total
    assert holds(target, closure)
    assert holds(target, program)
    assert (progress.paths, progress.arrived) == (21, 21)


_GREETING = "wire.number(wire.ANSWER) + wire.number(0x207) + "
_ANSWERS = {
    "something else": ("b'x' * 4096", "is not nix-store"),
    "another version": ("wire.number(wire.ANSWER) + wire.number(0x300)", "it speaks version 3.0"),
    "it took half": (_GREETING + "wire.texts(sys.argv[1:]) + wire.number(2)", "the answer to adding"),
    "it has not got it": (_GREETING + "wire.texts(sys.argv[1:]) + wire.number(1) * 10 + wire.texts([])", "but lacks"),
}


@pytest.mark.parametrize("answer", _ANSWERS)
async def test_a_host_that_answers_wrongly_is_told_from_a_good_one(closure: str, answer: str) -> None:
    says, meaning = _ANSWERS[answer]
    big, small = paths_of(closure)
    script = (
        "import sys; from fleet.store import wire; "
        f"sys.stdout.buffer.write({says}); sys.stdout.flush(); sys.stdin.buffer.read()"
    )
    host = Instead(sys.executable, "-c", script, big)
    async with Supply(LocalStreams()) as source:
        with pytest.raises(PushError, match=meaning):
            await deliver(host, source, delivery(closure, planned=small), Progress())


async def test_a_server_that_refuses_what_was_planned_says_why(closure: str) -> None:
    _, small = paths_of(closure)
    bare = Instead("sh", "-c", "echo error: no room >&2; exit 1")
    async with Supply(LocalStreams()) as source:
        with pytest.raises(PushError, match="the host's store refused: no room") as caught:
            await deliver(bare, source, delivery(closure, planned=small), Progress())
    assert "--copy-with" not in caught.value.hint
    assert not caught.value.is_not_served


@pytest.mark.parametrize(
    "said", ["Sorry, user deploy is not allowed to execute nix-store --serve --write", "error: --serve is disabled"]
)
async def test_host_that_does_not_serve_has_another_way(closure: str, said: str) -> None:
    _, small = paths_of(closure)
    bare = Instead("sh", "-c", f"echo '{said}' >&2; exit 1")
    async with Supply(LocalStreams()) as source:
        with pytest.raises(PushError) as caught:
            await deliver(bare, source, delivery(closure, planned=small), Progress())
    assert "--copy-with nix" in caught.value.hint
    assert caught.value.is_not_served
