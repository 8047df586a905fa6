"""Send one host all paths that it lacks, without waiting in between, after one question what it lacks.

If a plan has just asked that, the paths follow the question at once, and the answer only confirms the plan.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fleet.store import wire
from fleet.store.supply import BLOCK, Supply, length
from fleet.store.wire import PathInfo, ProtocolError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Iterable, Sequence

    from fleet.machine import Stream

PIECE = 1 << 18
"""The most bytes handed to the connection at once. What waits there counts for each host."""
AHEAD = 1 << 20
"""Bytes that are read before the connection asks for them."""


class OutdatedError(Exception):
    """The host has lost something since the plan was made: ask what it lacks before sending anything."""


@dataclass
class Progress:
    """How far one host is. `total` is exact once the host has said what it lacks."""

    paths: int = 0
    nar_bytes: int = 0
    total: int = 0
    sent: int = 0
    """Bytes sent to the host, with questions."""
    arrived: int = 0
    """Sent paths that the host has confirmed."""
    arrived_bytes: int = 0
    """The NAR size of those, in bytes."""
    last_moved: float = field(default_factory=time.monotonic)
    _stream: Stream | None = None
    _crossed: int = 0

    def expect(self, infos: Collection[PathInfo]) -> None:
        """Set what is to be sent: first all that is known to be missing, later the rest."""
        self.paths = max(self.paths, self.arrived + len(infos))
        self.nar_bytes = max(self.nar_bytes, self.arrived_bytes + sum(info.nar_size for info in infos))
        self.total = self.sent + sum(map(length, infos))

    def over(self, stream: Stream) -> None:
        """Note which stream the bytes go over from now on."""
        self._stream = stream

    @property
    def crossed(self) -> int:
        """How many of the sent bytes have reached the host. Never becomes less."""
        waiting = self._stream.waiting if self._stream is not None else 0
        self._crossed = max(self._crossed, self.sent - waiting)
        return self._crossed

    def took(self, info: PathInfo) -> None:
        """Count a path that the host has confirmed."""
        self.arrived += 1
        self.arrived_bytes += info.nar_size
        self.moved()

    def moved(self, count: int = 0) -> None:
        """Note that bytes went over the connection."""
        self.sent += count
        self.last_moved = time.monotonic()


class Sender:
    """Talks to one `nix-store --serve --write`.

    While that runs, everything it was asked about is rooted on the host.
    """

    def __init__(self, stream: Stream, supply: Supply, progress: Progress) -> None:
        self._stream = stream
        self._supply = supply
        self._progress = progress
        progress.over(stream)
        self._decoder = wire.Decoder(stream.read)
        self._asked: set[str] = set()
        self._greeted = False

    async def lacking(self, wanted: Sequence[str]) -> list[PathInfo]:
        """Ask what the host lacks of the wanted paths and all that they refer to. Return it in the order to send it.

        This takes one round trip if `wanted` has all that the host lacks: the references of those are asked about along
        with them. Everything that was asked about is rooted.
        """
        missing: dict[str, PathInfo] = {}
        unvisited = list(wanted)
        while unvisited:
            known = await self._supply.infos(unvisited)
            references = {path for info in known for path in info.references} - self._asked - set(unvisited)
            question = [*unvisited, *sorted(references)]
            valid = await self._valid(question)
            self._asked.update(question)
            for info in await self._supply.infos(path for path in question if path not in valid):
                missing[info.path] = info
            unvisited = sorted({path for info in missing.values() for path in info.references} - self._asked)
        self._progress.expect(missing.values())
        return wire.in_order(missing.values())

    async def send(self, infos: Sequence[PathInfo], *, then: Sequence[str]) -> None:
        """Send the paths, and wait until the host confirms them and says that those in `then` are valid."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._feed(infos, self._check(then)))
            valid = await self._await_confirmations(infos, then)
        _require(then, valid)

    async def send_planned(self, infos: Sequence[PathInfo], *, wanted: Sequence[str], then: Sequence[str]) -> None:
        """Do the same for paths that a plan found missing, without waiting for the answer to any question first.

        The question roots what the host has. What it lacks of `wanted` besides is sent afterwards. A planned path that
        the host got meanwhile costs its bytes: the server reads them, and confirms the path. Raise `OutdatedError` if
        the host lacks something that a planned path refers to.
        """
        planned = {info.path for info in infos}
        references = {path for info in infos for path in info.references} - planned
        question = sorted(planned.union(references, wanted))
        self._progress.expect(infos)
        infos = wire.in_order(infos)
        async with asyncio.TaskGroup() as group:  # the server answers while it reads: neither may wait for the other
            group.create_task(self._ask_and_feed(question, infos, self._check(then)))
            absent = set(question) - await self._answer(question) - planned
            self._asked.update(question)
            if lost := absent & references:
                raise OutdatedError(f"the host has lost {min(lost)}")
            valid = await self._await_confirmations(infos, then)
        if absent:
            await self.send(await self.lacking(sorted(absent)), then=then)
        else:
            _require(then, valid)

    def _check(self, tops: Sequence[str]) -> bytes:
        question = wire.query_valid_paths(tops, lock=True, substitute=False)
        self._progress.total += len(question)
        return question

    async def _await_confirmations(self, infos: Iterable[PathInfo], then: Collection[str]) -> set[str]:
        """Wait until the host confirms these paths. Return which paths of the question `then` behind them are valid."""
        for info in infos:
            answer = await self._decoder.number()
            if answer != 1:
                raise ProtocolError(f"the answer to adding {info.path} was {answer}")
            self._progress.took(info)
        return await self._decoder.subset(then)

    async def _valid(self, paths: Sequence[str]) -> set[str]:
        await self._say(self._question(paths))
        return await self._answer(paths)

    def _question(self, paths: Sequence[str]) -> bytes:
        question = wire.query_valid_paths(paths, lock=True, substitute=False)
        # The server reads on after its greeting, so there is no need to wait for that.
        return question if self._greeted else wire.hello() + question

    async def _answer(self, question: Collection[str]) -> set[str]:
        if not self._greeted:
            await self._decoder.version()
            self._greeted = True
        valid = await self._decoder.subset(question)
        self._progress.moved()
        return valid

    async def _say(self, data: bytes) -> None:
        """Send data that the server can act on without anything that comes after it."""
        await self._hand_over(data)

    async def _ask_and_feed(self, paths: Sequence[str], infos: Sequence[PathInfo], last: bytes) -> None:
        question = self._question(paths)
        self._progress.total += len(question)
        await self._say(question)
        await self._feed(infos, last)

    async def _feed(self, infos: Sequence[PathInfo], last: bytes) -> None:
        gathered = bytearray()  # small paths are sent together: each piece costs at least one SSH packet
        try:
            async for block in self._blocks(infos):
                if gathered and len(gathered) + len(block) > PIECE:
                    await self._hand_over(gathered)
                    gathered = bytearray()
                if len(block) < PIECE:
                    gathered += block
                else:
                    await self._hand_over(block)
            await self._hand_over(gathered + last)
        except BrokenPipeError:
            return  # the server's exit status and last lines explain it

    async def _blocks(self, infos: Iterable[PathInfo]) -> AsyncIterator[bytearray]:
        """Yield the blocks of all paths; later ones are read while earlier ones are sent."""
        ahead: deque[tuple[int, asyncio.Task[bytearray]]] = deque()
        waiting = 0
        for info in infos:
            whole = length(info)
            for index, start in enumerate(range(0, whole, BLOCK)):
                size = min(BLOCK, whole - start)
                ahead.append((size, self._supply.block(info, index)))
                waiting += size
                while waiting > AHEAD and len(ahead) > 1:
                    size, block = ahead.popleft()
                    waiting -= size
                    yield await asyncio.shield(block)
        for _, block in ahead:
            yield await asyncio.shield(block)

    async def _hand_over(self, data: bytes | bytearray | memoryview) -> None:
        view = memoryview(data)
        for start in range(0, len(view), PIECE):
            piece = view[start : start + PIECE]
            await self._stream.write(piece)
            self._progress.moved(len(piece))


def _require(tops: Iterable[str], valid: set[str]) -> None:
    if lost := set(tops) - valid:
        raise ProtocolError(f"the host said that it has all, but lacks {min(lost)}")
