"""The local store as a source: every path is read once for all hosts that follow each other closely.

The last blocks stay in memory, and whoever comes for one of them shares it. A host that is slower than that window
reads again from the file, at its own pace: nobody waits for it, and memory stays bounded.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from fleet.machine import Command
from fleet.store import wire
from fleet.store.nar import ChangedError, Nar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable
    from contextlib import AbstractAsyncContextManager

    from fleet.machine import Stream
    from fleet.store.wire import PathInfo

BLOCK = 1 << 20
"""Bytes read at once. A hop to a thread costs 60 microseconds; 256 KiB made that a tenth of a push."""
WINDOW = 24 << 20
"""Bytes of blocks that are kept: by how much hosts may be apart and still share one reading."""
TREES = 8 << 20
"""Bytes of memory for the shapes of the trees being read."""
AT_ONCE = 500
"""Paths in one question to the local store."""
READ_ONLY = Command(argv=("nix-store", "--serve"), root=False)

T = TypeVar("T")


class Local(Protocol):
    """Where the local store is: a machine that streams."""

    def stream(self, command: Command) -> AbstractAsyncContextManager[Stream]:
        """See `RemoteMachine.stream`."""
        ...


class Shared(Generic[T]):
    """What threads make, made once and kept while it fits. The oldest use goes first."""

    def __init__(self, limit: int, weigh: Callable[[T], int]) -> None:
        self._limit = limit
        self._weigh = weigh
        self._made: OrderedDict[Any, asyncio.Task[T]] = OrderedDict()
        self._weight = 0

    def get(self, key: Any, make: Callable[[], Coroutine[Any, Any, T]]) -> asyncio.Task[T]:
        """The thing, made now if nobody has. Others may wait for it too: await it shielded."""
        task = self._made.get(key)
        if task is None:
            task = self._made[key] = asyncio.create_task(make())
            task.add_done_callback(lambda done: self._keep(key, done))
        self._made.move_to_end(key)
        return task

    def _keep(self, key: Any, done: asyncio.Task[T]) -> None:
        if self._made.get(key) is not done:
            return  # forgotten
        if done.cancelled() or done.exception() is not None:
            self._made.pop(key, None)  # the next one tries again
            return
        self._weight += self._weigh(done.result())
        while self._weight > self._limit:
            old = next((other for other, task in self._made.items() if task.done() and other != key), None)
            if old is None:
                break
            self._weight -= self._weigh(self._made.pop(old).result())

    def forget(self, key: Any) -> None:
        """The next one who wants the thing has it made anew."""
        task = self._made.pop(key, None)
        if task is not None and task.done() and not task.cancelled() and task.exception() is None:
            self._weight -= self._weigh(task.result())

    async def close(self) -> None:
        """Nothing is kept, nothing is under way."""
        tasks = list(self._made.values())
        await asyncio.gather(*tasks, return_exceptions=True)
        self._made.clear()


class Supply:
    """Paths of the local store, for as many hosts as want them. `reads` counts the blocks that came from files."""

    def __init__(self, local: Local, *, window: int = WINDOW) -> None:
        self.reads = 0
        self._local = local
        self._blocks: Shared[bytearray] = Shared(window, len)
        self._trees: Shared[Nar] = Shared(TREES, lambda nar: nar.cost)
        self._infos: dict[str, PathInfo] = {}
        self._asking = asyncio.Lock()
        self._stack = contextlib.AsyncExitStack()
        self._stream: Stream | None = None
        self._decoder: wire.Decoder | None = None

    async def __aenter__(self) -> Supply:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._blocks.close()
        await self._trees.close()
        await self._stack.aclose()

    async def infos(self, paths: Iterable[str]) -> list[PathInfo]:
        """What the local store knows about the paths. Raises `ChangedError` when it lacks one."""
        wanted = list(paths)
        known = await self.known(wanted)
        if len(known) < len(wanted):
            lost = next(path for path in wanted if path not in self._infos)
            raise ChangedError(f"{lost} is not in the local store")
        return known

    async def known(self, paths: Iterable[str]) -> list[PathInfo]:
        """The same, of those that the local store has."""
        wanted = list(paths)
        async with self._asking:
            unknown = [path for path in dict.fromkeys(wanted) if path not in self._infos]
            for start in range(0, len(unknown), AT_ONCE):
                self._infos |= await self._ask(unknown[start : start + AT_ONCE])
        return [self._infos[path] for path in wanted if path in self._infos]

    async def _ask(self, paths: list[str]) -> dict[str, PathInfo]:
        try:
            if self._stream is None or self._decoder is None:
                self._stream = await self._stack.enter_async_context(self._local.stream(READ_ONLY))
                self._decoder = wire.Decoder(self._stream.read)
                await self._stream.write(wire.hello())
                await self._decoder.version()
            await self._stream.write(wire.query_path_infos(paths))
            return await self._decoder.path_infos()
        except BaseException as error:
            # Whoever asks next must not read what is left of this answer: it would be taken for the next one's.
            self._stream = self._decoder = None
            await self._stack.aclose()
            if isinstance(error, wire.ProtocolError | BrokenPipeError):
                raise ChangedError(f"the local nix-store --serve: {error}") from error
            raise

    def block(self, info: PathInfo, index: int) -> asyncio.Task[bytearray]:
        """Block `index` of what adds the path to a store: the announcement and then its NAR, `BLOCK` bytes each.

        Others may wait for it too: await it shielded.
        """
        return self._blocks.get((info.path, index), lambda: self._read(info, index))

    async def _read(self, info: PathInfo, index: int) -> bytearray:
        nar = await asyncio.shield(self._trees.get(info.path, lambda: asyncio.to_thread(tree, info)))
        self.reads += 1
        return await asyncio.to_thread(nar.read, index * BLOCK, BLOCK)


def length(info: PathInfo) -> int:
    """Bytes that adding the path takes."""
    return info.added_size


def tree(info: PathInfo) -> Nar:
    """What adds the path to a store, announcement and NAR. Raises `ChangedError` where it is not as its store says."""
    head = wire.add_to_store_nar(info)
    nar = Nar.of(info.path, head)
    if nar.size != len(head) + info.nar_size:  # one byte too many or too few, and all that follows is noise
        raise ChangedError(
            f"{info.path} has {nar.size - len(head)} bytes as a NAR, the local store says {info.nar_size}"
        )
    return nar
