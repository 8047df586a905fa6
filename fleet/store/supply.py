"""Read the local store once for all hosts that are pushed to at about the same time.

The last blocks stay in memory and are shared. A host that is slower than that window reads again from the file, at its
own pace: nobody waits for it, and memory stays bounded.
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
"""Bytes read at once. A hop to a thread costs 60 microseconds; with 256 KiB that was a tenth of a push."""
WINDOW = 24 << 20
"""Bytes of blocks that are kept: how far hosts may be apart and still share one reading."""
TREES = 8 << 20
"""Bytes of memory for the trees that are being read."""
AT_ONCE = 500
"""Paths in one question to the local store."""
READ_ONLY = Command(argv=("nix-store", "--serve"), root=False)

T = TypeVar("T")


class Local(Protocol):
    """The machine with the local store, which can run commands as streams."""

    def stream(self, command: Command) -> AbstractAsyncContextManager[Stream]:
        """See `RemoteMachine.stream`."""
        ...


class Shared(Generic[T]):
    """Values that threads make, each made once and kept while there is room. The least recently used ones go first."""

    def __init__(self, limit: int, weigh: Callable[[T], int]) -> None:
        self._limit = limit
        self._weigh = weigh
        self._made: OrderedDict[Any, asyncio.Task[T]] = OrderedDict()
        self.weight = 0
        """The total weight of what is kept."""

    def get(self, key: Any, make: Callable[[], Coroutine[Any, Any, T]]) -> asyncio.Task[T]:
        """Return the task that makes the value, started now if there is none.

        Others may await it too: await it shielded.
        """
        task = self._made.get(key)
        if task is None:
            task = self._made[key] = asyncio.create_task(make())
            task.add_done_callback(lambda done: self._keep(key, done))
        self._made.move_to_end(key)
        return task

    def _keep(self, key: Any, done: asyncio.Task[T]) -> None:
        if self._made.get(key) is not done:
            return  # `forget` was called meanwhile
        if done.cancelled() or done.exception() is not None:
            self._made.pop(key, None)  # the next caller tries again
            return
        self.weight += self._weigh(done.result())
        while self.weight > self._limit:
            old = next((other for other, task in self._made.items() if task.done() and other != key), None)
            if old is None:
                break
            self.weight -= self._weigh(self._made.pop(old).result())

    def forget(self, key: Any) -> None:
        """Forget the value, so that it is made anew when it is wanted again."""
        task = self._made.pop(key, None)
        if task is not None and task.done() and not task.cancelled() and task.exception() is None:
            self.weight -= self._weigh(task.result())

    async def close(self) -> None:
        """Wait for what is being made, and forget all values."""
        tasks = list(self._made.values())
        await asyncio.gather(*tasks, return_exceptions=True)
        self._made.clear()


class Supply:
    """Paths of the local store, for any number of hosts. `reads` counts the blocks that came from files."""

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

    @property
    def kept(self) -> int:
        """Bytes of the blocks in memory."""
        return self._blocks.weight

    async def infos(self, paths: Iterable[str]) -> list[PathInfo]:
        """Return what the local store knows about the paths. Raise `ChangedError` if it lacks one."""
        wanted = list(paths)
        known = await self.known(wanted)
        if len(known) < len(wanted):
            lost = next(path for path in wanted if path not in self._infos)
            raise ChangedError(f"{lost} is not in the local store")
        return known

    async def known(self, paths: Iterable[str]) -> list[PathInfo]:
        """Return the same for those of the paths that the local store has."""
        wanted = list(paths)
        async with self._asking:
            unknown = [path for path in dict.fromkeys(wanted) if path not in self._infos]
            for start in range(0, len(unknown), AT_ONCE):
                self._infos |= await self._ask(unknown[start : start + AT_ONCE])
        return [self._infos[path] for path in wanted if path in self._infos]

    async def renew(self) -> None:
        """Forget what the local store has said. It is asked anew, by another process: that one remembers too."""
        async with self._asking:
            self._infos.clear()
            self._stream = self._decoder = None
            await self._stack.aclose()

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
            # The next question must not read the rest of this answer, so it needs a new server.
            self._stream = self._decoder = None
            await self._stack.aclose()
            if isinstance(error, wire.ProtocolError | BrokenPipeError):
                raise ChangedError(f"the local nix-store --serve: {error}") from error
            raise

    def block(self, info: PathInfo, index: int) -> asyncio.Task[bytearray]:
        """Return the task that reads block `index` of what adds the path to a store: the announcement, then its NAR.

        Blocks have `BLOCK` bytes. Others may await the task too: await it shielded.
        """
        return self._blocks.get((info.path, index), lambda: self._read(info, index))

    async def _read(self, info: PathInfo, index: int) -> bytearray:
        nar = await asyncio.shield(self._trees.get(info.path, lambda: asyncio.to_thread(tree, info)))
        self.reads += 1
        return await asyncio.to_thread(nar.read, index * BLOCK, BLOCK)


def length(info: PathInfo) -> int:
    """Return how many bytes adding the path takes."""
    return info.added_size


def tree(info: PathInfo) -> Nar:
    """Return what adds the path to a store: announcement and NAR.

    Raise `ChangedError` if its size is not what the store says.
    """
    head = wire.add_to_store_nar(info)
    nar = Nar.of(info.path, head)
    if nar.size != len(head) + info.nar_size:  # with another size, all that follows could not be read
        raise ChangedError(
            f"{info.path} has {nar.size - len(head)} bytes as a NAR, the local store says {info.nar_size}"
        )
    return nar
