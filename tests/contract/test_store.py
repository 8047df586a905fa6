"""The serve client against the `nix-store` that is installed here: the store it writes to is a folder."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.errors import LockedError, PushError, UnreachableError
from fleet.inventory import Host
from fleet.machine import Command, Output
from fleet.machine.pipe import LocalStreams
from fleet.model import HostName, RunId
from fleet.steps.deliver import Delivery, deliver
from fleet.store import nar, supply, wire
from fleet.store.nar import ChangedError, Nar
from fleet.store.send import Progress
from fleet.store.supply import BLOCK, Supply
from tests.contract.links import Cut, Linked

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Sequence

    from fleet.store.supply import Local
    from fleet.store.wire import PathInfo

HOST = Host(name=HostName("web-1"))


def nix_store(*argv: str, stdin: bytes = b"") -> str:
    done = subprocess.run(["nix-store", *argv], check=True, capture_output=True, input=stdin)
    return done.stdout.decode()


@pytest.fixture(scope="module")
def closure(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The top of a tree of paths: ten small ones, and one of five blocks that all refer to."""
    folder = tmp_path_factory.mktemp("closure")
    (folder / "big").mkdir()
    (folder / "big" / "data").write_bytes(os.urandom(5 * BLOCK))
    (folder / "big" / "run").write_text("#!/bin/sh\n")
    (folder / "big" / "run").chmod(0o755)
    (folder / "big" / "link").symlink_to("nowhere//at/./all")
    big = nix_store("--add", str(folder / "big")).strip()
    paths = [big]
    for place in range(10):
        expression = (
            f'builtins.toFile "fleet-test-{place}-{os.urandom(4).hex()}" '
            f'(builtins.concatStringsSep "\\n" [{" ".join(f"(builtins.storePath {path})" for path in paths)}])'
        )
        argv = ["nix-instantiate", "--eval", "--read-write-mode", "--json", "--expr", expression]
        made = subprocess.run(argv, check=True, capture_output=True, text=True)
        paths.append(made.stdout.strip().strip('"'))
    return paths[-1]


class Target(Linked):
    """A machine whose store is a folder; see `Linked` for `cuts`."""

    def __init__(self, root: Path, cuts: Sequence[int] = ()) -> None:
        self.root = root
        self.cuts = list(cuts)
        self.commands: list[Command] = []

    def stream(self, command: Command) -> Any:
        argv = tuple(command.argv)
        if "--write" in argv:
            argv = (*argv, "--store", str(self.root))
        return super().stream(Command(argv=argv))

    async def run(self, command: Command, **_: object) -> Output:
        self.commands.append(command)
        return Output(status=0)


class Instead(Target):
    """A host where something else answers."""

    def __init__(self, *argv: str) -> None:
        super().__init__(Path("/nowhere"))
        self.argv = argv

    def stream(self, command: Command) -> Any:
        return LocalStreams().stream(Command(argv=self.argv) if command.argv else command)


class Mistaken(Supply):
    """A local store that says something else of its paths than is true."""

    def __init__(self, local: Local, says: Callable[[PathInfo], PathInfo]) -> None:
        super().__init__(local)
        self._says = says

    async def known(self, paths: Iterable[str]) -> list[PathInfo]:
        return [self._says(info) for info in await super().known(paths)]


def delivery(*wanted: str, planned: Sequence[str] = ()) -> Delivery:
    return Delivery(host=HOST, run=RunId("20261120T000000-abcdef"), wanted=wanted, planned=planned, tops=wanted)


def invalid(root: Path, paths: Sequence[str]) -> list[str]:
    """What a plan says that the store in the folder lacks."""
    return nix_store("--store", str(root), "--check-validity", "--print-invalid", *paths).split()


async def test_an_empty_store_gets_the_whole_closure_and_then_nothing(closure: str, tmp_path: Path) -> None:
    target, first, second = Target(tmp_path), Progress(), Progress()
    async with Supply(LocalStreams()) as source:
        await deliver(target, source, delivery(closure), first)
        await deliver(target, source, delivery(closure), second)
    assert first.paths == first.arrived == 11
    assert first.sent == first.total
    assert first.nar_bytes == sum(map(int, nix_store("-q", "--size", *nix_store("-qR", closure).split()).split()))
    assert (second.paths, second.nar_bytes) == (0, 0)
    nix_store("--store", str(tmp_path), "--verify", "--check-contents")
    assert nix_store("--store", str(tmp_path), "-qR", closure) == nix_store("-qR", closure)


async def test_a_dropped_connection_loses_nothing_that_had_arrived(
    closure: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fleet.steps.deliver.PAUSE", 0.0)
    target = Target(tmp_path, [1, 300, 2 * BLOCK, 5 * BLOCK + 3000, 6000])
    progress = Progress()
    async with Supply(LocalStreams()) as source:
        await deliver(target, source, delivery(closure), progress)
    assert nix_store("--store", str(tmp_path), "-qR", closure) == nix_store("-qR", closure)
    assert progress.sent < 9 * BLOCK  # the big path in part, once in full, and never again
    assert len(target.commands) == 5  # before each new try, servers that still wait are ended


class Tapped(Target):
    """A host on a bad link: connections are lost after so many bytes, and what came through is kept."""

    def __init__(self, root: Path, cuts: Sequence[int]) -> None:
        super().__init__(root)
        self.lengths = list(cuts)
        self.arrived: list[bytearray] = []

    @contextlib.asynccontextmanager
    async def stream(self, command: Command) -> AsyncIterator[Any]:
        self.cuts = [self.lengths.pop(0)] if self.lengths else []
        self.arrived.append(bytearray())
        async with super().stream(command) as stream:
            below = stream.below if isinstance(stream, Cut) else stream
            write = below.write

            async def tap(data: bytes) -> None:
                self.arrived[-1] += data
                await write(data)

            below.write = tap
            try:
                yield stream
            finally:
                await below.ended()  # what had come through is taken: nobody ends a server that is at work


async def whole_paths(arrived: bytearray) -> list[str]:
    """The paths that came through with all of their bytes."""
    left = memoryview(arrived)

    async def read(count: int) -> bytes:
        nonlocal left
        # As few as can be, so that the decoder has none in advance: the sizes of all things are multiples of 8.
        taken, left = left[: min(8, count)], left[min(8, count) :]
        return bytes(taken)

    whole: list[str] = []
    decoder = wire.Decoder(read)
    with contextlib.suppress(wire.EndOfStreamError):
        await decoder.number(), await decoder.number()
        while True:
            match await decoder.number():
                case wire.Request.QUERY_VALID_PATHS:
                    await decoder.number(), await decoder.number(), await decoder.texts()
                case wire.Request.ADD_TO_STORE_NAR:
                    path, *_ = [await decoder.text() for _ in range(3)]
                    await decoder.texts(), await decoder.number()
                    size = await decoder.number()
                    await decoder.number(), await decoder.texts(), await decoder.text()
                    whole += [path] if size <= len(left) else []
                    left = left[size:]
                case other:
                    raise AssertionError(f"request {other}")
    return whole


@pytest.mark.parametrize("is_planned", [False, True])
async def test_a_link_that_is_lost_fifty_times_carries_no_path_twice_in_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_planned: bool
) -> None:
    monkeypatch.setattr("fleet.steps.deliver.PAUSE", 0.0)
    chance = random.Random(7)
    paths = []
    for number in range(60):
        (tmp_path / f"part-{number}").write_bytes(chance.randbytes(chance.randrange(100, 40_000)))
        paths.append(nix_store("--add", str(tmp_path / f"part-{number}")).strip())
    target = Tapped(tmp_path / "store", [chance.randrange(1, 60_000) for _ in range(50)])
    async with Supply(LocalStreams()) as source:
        while True:
            with contextlib.suppress(UnreachableError):  # five in a row without a path between them end a push
                planned = invalid(target.root, paths) if is_planned else ()
                await deliver(target, source, delivery(*paths, planned=planned), Progress())
                break
    assert len(target.arrived) == 51
    whole = [path for arrived in target.arrived for path in await whole_paths(arrived)]
    assert sorted(whole) == sorted(paths)
    nix_store("--store", str(tmp_path / "store"), "--verify-path", *paths)


async def test_a_host_that_stays_away_is_given_up(
    closure: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fleet.steps.deliver.PAUSE", 0.0)
    target = Target(tmp_path, [2 * BLOCK] * 100)
    async with Supply(LocalStreams()) as source:
        with pytest.raises(UnreachableError):
            await deliver(target, source, delivery(closure), Progress())
    assert len(target.cuts) == 95


async def test_what_the_server_says_last_is_the_error(closure: str, tmp_path: Path) -> None:
    async with Mistaken(LocalStreams(), lambda info: dataclasses.replace(info, nar_hash="0" * 64)) as source:
        with pytest.raises(PushError, match="hash mismatch"):
            await deliver(Target(tmp_path), source, delivery(closure), Progress())


async def test_the_roots_stand_before_the_server_that_holds_the_paths_may_go(closure: str, tmp_path: Path) -> None:
    all_arrived, steps = asyncio.Event(), []

    class Told(Progress):
        def moved(self, count: int = 0) -> None:
            super().moved(count)
            if self.arrived == 11:
                all_arrived.set()

    class Watched(Target):
        @contextlib.asynccontextmanager
        async def stream(self, command: Command) -> AsyncIterator[Any]:
            async with super().stream(command) as stream:
                yield stream
                steps.append("server ends")

    async def root() -> None:
        await all_arrived.wait()
        steps.append("rooted")

    async with Supply(LocalStreams()) as source:
        await deliver(Watched(tmp_path), source, dataclasses.replace(delivery(closure), root=root), Told())
    assert steps == ["rooted", "server ends"]


async def test_roots_that_are_refused_fail_the_push(closure: str, tmp_path: Path) -> None:
    async def root() -> None:
        raise LockedError(HOST.name, "a transaction is open")

    async with Supply(LocalStreams()) as source:
        with pytest.raises(LockedError):
            await deliver(Target(tmp_path), source, dataclasses.replace(delivery(closure), root=root), Progress())


async def test_a_missing_local_path_is_named(tmp_path: Path) -> None:
    async with Supply(LocalStreams()) as source:
        with pytest.raises(PushError, match="is not in the local store"):
            await deliver(Target(tmp_path), source, delivery("/nix/store/" + "0" * 32 + "-x"), Progress())


async def test_a_path_that_changed_its_size_is_not_sent(closure: str, tmp_path: Path) -> None:
    async with Mistaken(LocalStreams(), lambda info: dataclasses.replace(info, nar_size=info.nar_size + 8)) as source:
        with pytest.raises(PushError, match="the local store says"):
            await deliver(Target(tmp_path), source, delivery(closure), Progress())


async def test_a_host_without_nix_says_so(closure: str) -> None:
    bare = Instead("sh", "-c", "echo sh: no nix-store >&2; exit 127")
    async with Supply(LocalStreams()) as source:
        with pytest.raises(PushError, match="exit status 127") as raised:
            await deliver(bare, source, delivery(closure), Progress())
    assert raised.value.said == ("sh: no nix-store",)


_GREETING = "wire.number(wire.ANSWER) + wire.number(0x207) + "
_LIES = {
    "it has all": (_GREETING + "wire.texts(sys.argv[1:]) + wire.texts([])", "but lacks"),
    "it took half": (_GREETING + "wire.texts([]) + wire.number(2)", "the answer to adding"),
    "something else": ("b'x' * 4096", "is not nix-store"),
    "hello": ("b'hello' + " + _GREETING + "b''", "is not nix-store"),
    "I am old": ("wire.number(wire.ANSWER) + wire.number(0x204)", "it speaks version 2.4"),
}


@pytest.mark.parametrize("lie", _LIES)
async def test_a_host_that_lies_is_not_believed(closure: str, lie: str) -> None:
    says, meaning = _LIES[lie]
    everything = nix_store("-qR", closure).split()
    script = (
        "import sys; from fleet.store import wire; "
        f"sys.stdout.buffer.write({says}); sys.stdout.flush(); sys.stdin.buffer.read()"
    )
    async with Supply(LocalStreams()) as source:
        with pytest.raises(PushError, match=meaning) as raised:
            await deliver(Instead(sys.executable, "-c", script, *everything), source, delivery(closure), Progress())
    is_noise = "is not nix-store" in meaning  # nix copy could not talk to it either
    assert ("Silence it" in raised.value.hint, "--copy-with nix" in raised.value.hint) == (is_noise, not is_noise)


class Held(LocalStreams):
    """A local store whose first answer about paths is held back."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.go_on = asyncio.Event(), asyncio.Event()

    @contextlib.asynccontextmanager
    async def stream(self, command: Command) -> AsyncIterator[Any]:
        async with super().stream(command) as stream:
            yield HeldStream(stream, self)


class HeldStream:
    def __init__(self, stream: Any, held: Held) -> None:
        self.stream, self.held, self.writes = stream, held, 0

    waiting = 0

    async def write(self, data: bytes) -> None:
        self.writes += 1
        await self.stream.write(data)

    async def read(self, count: int) -> bytes:
        if self.writes > 1:
            self.held.asked.set()
            await self.held.go_on.wait()
        read: bytes = await self.stream.read(count)
        return read


async def test_host_that_is_given_up_while_it_asks_spoils_no_other_ones_answer(closure: str) -> None:
    other, top = nix_store("-qR", closure).split()[-2:]
    held = Held()
    async with Supply(held) as source:
        task = asyncio.create_task(source.infos([other]))
        await held.asked.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        held.go_on.set()
        assert [info.path for info in await source.infos([top])] == [top]
    assert task.cancelled()


async def test_hosts_that_follow_each_other_share_one_reading(closure: str, tmp_path: Path) -> None:
    async with Supply(LocalStreams()) as source, asyncio.TaskGroup() as group:
        for place in range(3):
            group.create_task(deliver(Target(tmp_path / str(place)), source, delivery(closure), Progress()))
    assert source.reads == 16  # five blocks and a bit, and ten small paths


async def test_a_slow_host_keeps_nobody_waiting_and_nothing_in_memory(closure: str, tmp_path: Path) -> None:
    fast_is_done = asyncio.Event()

    class Slow(Target):
        @contextlib.asynccontextmanager
        async def stream(self, command: Command) -> AsyncIterator[Any]:
            async with super().stream(command) as stream:
                write = stream.write

                async def wait(data: bytes) -> None:
                    if len(data) > BLOCK // 8:
                        await fast_is_done.wait()
                    await write(data)

                stream.write = wait
                yield stream

    async with Supply(LocalStreams(), window=2 * BLOCK) as source, asyncio.TaskGroup() as group:
        group.create_task(deliver(Slow(tmp_path / "slow"), source, delivery(closure), Progress()))
        await deliver(Target(tmp_path / "fast"), source, delivery(closure), Progress())
        assert source.kept <= 2 * BLOCK
        fast_is_done.set()
    assert source.reads > 16
    assert nix_store("--store", str(tmp_path / "slow"), "-qR", closure) == nix_store("-qR", closure)


_NAMES = st.text("abc.-_ Aé", min_size=1, max_size=3).filter(lambda name: name not in (".", ".."))
_TREES = st.recursive(
    st.one_of(st.binary(max_size=40), st.tuples(st.binary(max_size=40)), st.sampled_from(["to//x/.", "é"])),
    lambda inner: st.dictionaries(_NAMES, inner, max_size=4),
    max_leaves=12,
)


def _grow(path: Path, tree: Any) -> None:
    match tree:
        case dict():
            path.mkdir()
            for name, inner in tree.items():
                _grow(path / name, inner)
        case str():
            os.symlink(tree, path)  # noqa: PTH211  # a Path would tidy it up
        case bytes():
            path.write_bytes(tree)
        case (content,):
            path.write_bytes(content)
            path.chmod(0o755)


@settings(max_examples=30)
@given(tree=_TREES, start=st.integers(0, 500), count=st.integers(0, 500))
def test_a_nar_is_what_nix_makes_of_the_tree(
    tmp_path_factory: pytest.TempPathFactory, tree: Any, start: int, count: int
) -> None:
    path = tmp_path_factory.mktemp("tree") / "top"
    _grow(path, tree)
    theirs = subprocess.run(["nix-store", "--dump", str(path)], check=True, capture_output=True).stdout
    ours = Nar.of(str(path), b"head")
    assert bytes(ours.read(0, ours.size)) == b"head" + theirs
    start = min(start, ours.size)
    assert bytes(ours.read(start, count)) == (b"head" + theirs)[start : start + count]


def test_a_file_that_shrinks_while_it_is_read_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(bytes(100))
    ours = Nar.of(str(file))
    file.write_bytes(b"")
    with pytest.raises(ChangedError, match="shorter than it was"):
        ours.read(0, ours.size)


def test_a_socket_has_no_nar(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ChangedError, match="neither"):
        nar.Nar.of(str(tmp_path / "pipe"))


async def test_a_local_store_that_does_not_answer_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supply, "READ_ONLY", Command(argv=("true",)))
    async with Supply(LocalStreams()) as source:
        with pytest.raises(PushError, match="local nix-store --serve"):
            await deliver(Target(tmp_path), source, delivery("/nix/store/x"), Progress())
