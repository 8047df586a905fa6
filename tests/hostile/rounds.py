"""Rounds of the game: one host says anything, and fleet fails it alone, by a kind that has a name, and in time."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import selectors
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fleet import nix
from fleet.checks.gpu import ask_gpu
from fleet.checks.http import ask_http
from fleet.diff import compare, diff_json, diff_lines, needed_texts
from fleet.diff.read import parse_system
from fleet.errors import BugError, FleetError, HostError
from fleet.events import HostFinished, RunFinished
from fleet.host import answers, history, obstacles, secrets
from fleet.host.facts import host_facts
from fleet.host.program import refused_turn
from fleet.inventory import Check, SecretPlace
from fleet.library import documents
from fleet.machine import Output
from fleet.machine.bounds import MOST
from fleet.model import Closure, HostName, Outcome
from fleet.steps import evidence, preflight
from fleet.steps.deliver import Delivery, WholePaths, deliver
from fleet.steps.slow_link import DeltaTransport
from fleet.store.deltas.bases import Bases
from fleet.store.deltas.cache import Cache
from fleet.store.deltas.frames import Frames
from fleet.store.nar import ChangedError, Nar
from fleet.store.send import Progress
from fleet.store.supply import Supply
from fleet.store.wire import PathInfo
from tests.fakes import FakeMachine, FakeTime, Says, runs
from tests.hostile.sayings import Sayings
from tests.unit.builders import NEW, OLD, RUN, host
from tests.unit.world import World

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterable

    from fleet.machine import Command

SLOW = 5.0
"""Seconds of this machine's time that no answer may take to be understood."""
EVIL = HostName("evil")
PLACES = (SecretPlace.parse("x /run/x root root 400 tmpfs before x.service"),)


class SlowError(AssertionError):
    """Something that a host says takes too long to be understood."""


class PatientTime(FakeTime):
    """A clock that does not wait, but for threads: the recorder of a run has one."""

    def __init__(self) -> None:
        super().__init__()
        self._selector = _Patient(self)


class _Patient(selectors.DefaultSelector):
    def __init__(self, loop: PatientTime) -> None:
        super().__init__()
        self._loop = loop
        for key in loop._selector.get_map().values():
            self.register(key.fileobj, key.events, key.data)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(10 if timeout is None else min(timeout, 0.001))
        if not ready and timeout is None:
            raise AssertionError("everybody waits for something that will never happen")
        if not ready and timeout:
            self._loop.now += timeout
        return ready


def in_no_time(work: Coroutine[Any, Any, None]) -> None:
    """Do the work with a clock that does not wait."""
    with asyncio.Runner(loop_factory=PatientTime) as runner:
        runner.run(work)


@contextlib.contextmanager
def quickly() -> Any:
    """Raise `SlowError` if what is inside takes too long."""
    begun = time.process_time()
    yield
    if (took := time.process_time() - begun) > SLOW:
        raise SlowError(f"it took {took:.1f} s")


# --- everything that parses -----------------------------------------------------------------------


def parsing(seed: int) -> None:
    """Answers are understood or not; nothing else happens."""
    says = Sayings(seed)
    with quickly():
        lines = answers.parse(says.lines()[:MOST])
        facts = host_facts(lines)
        documents.status({EVIL: facts}), documents.who({EVIL: facts}), refused_turn(host(), lines)
        preflight.notes(facts), preflight.errors(host(), facts), facts.reboot_pending, facts.stands_on(NEW)
        answers.view(lines), answers.generations(lines), history.entries(lines)
        secrets.compared(lines, PLACES), secrets.states(lines, PLACES, "key", {"x": b"x"}), secrets.left(lines, PLACES)
        for text in (says.mess(), says.journal(), (says.value() * 2000)[: 1 << 20]):
            obstacles.inhibitors(text), obstacles.nvidia_version([text])
            nix.read_substitutable(text), nix.failed_derivations(text)
            evidence.units_in(text), evidence.read(text), answers.as_written(text)
            with contextlib.suppress(ValueError):
                nix.read_evaluation(text)
    with quickly():
        _compare(says)


def _compare(says: Sayings) -> None:
    """Two systems as a host may describe them."""
    paths = [f"/nix/store/{'a' * 32}-{says.value()[:200]}".replace("\n", "") for _ in range(says.random.randrange(500))]
    files = [f"etc/{says.random.choice(('', 'systemd/system/'))}{says.value()[:200]}" for _ in range(300)]
    sections = [
        "%paths", *paths, "%sizes", *(says.random.choice(("12", says.value()[:99])) for _ in paths),
        "%sums", *(f"{says.random.random()}  {file}" for file in files), "%wants",
        *(f"etc/systemd/system/x.target.wants/{says.value()[:200]}" for _ in range(says.random.choice((9, 9, 30_000)))),
    ]  # fmt: skip
    if says.random.random() < 0.3:
        sections.insert(says.random.randrange(len(sections)), says.value())
    with contextlib.suppress(ValueError):
        old, new = (parse_system(Closure(OLD), "\n".join(sections)) for _ in range(2))
        texts = {path: (says.value() + "\n") * says.random.choice((1, 100, 9_000)) for path in needed_texts(old, new)}
        other = {path: (says.value() + "\n") * says.random.choice((1, 100, 9_000)) for path in texts}
        new = dataclasses.replace(new, files=dict.fromkeys(new.files, "other"), texts=other)
        diff = compare(dataclasses.replace(old, texts=texts), new)
        diff_lines(EVIL, diff), diff_json({EVIL: diff})


# --- checks ----------------------------------------------------------------------------------------


class _Stream:
    """A connection to a server that says these bytes, in blocks of any size, and then nothing."""

    def __init__(self, says: Sayings, data: bytes) -> None:
        self._says, self._left = says, bytearray(data)

    async def read(self, count: int) -> bytes:
        size = self._says.random.choice((1, 100, count))
        block = bytes(self._left[: min(size, count)])
        del self._left[: len(block)]
        return block

    async def write(self, data: bytes | memoryview) -> None:
        """Take everything."""

    async def ended(self) -> Output:
        """See `Stream.ended`."""
        stderr = self._says.mess()
        return Output(status=self._says.random.choice((0, 1, 75, 74, 69)), stderr=f"fleet-delta: {stderr}")


class _Server(FakeMachine):
    """A host with a server that says anything."""

    def __init__(self, says: Sayings, data: bytes) -> None:
        super().__init__((lambda _: True, lambda _: says.says()))
        self._says, self._data = says, data

    @contextlib.asynccontextmanager
    async def dial(self, host: str, port: int, *, timeout: float) -> AsyncIterator[Any]:  # noqa: ARG002
        yield _Stream(self._says, self._data)

    @contextlib.asynccontextmanager
    async def stream(self, command: Command) -> AsyncIterator[Any]:  # noqa: ARG002
        yield _Stream(self._says, self._data)


def checking(seed: int) -> None:
    """A check has an answer, whatever its server says."""
    says = Sayings(seed)
    head = says.random.choice(
        (b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 100 Continue\r\n\r\n", b"", says.mess().encode()[:2_000])
    )
    headers = (
        b"Transfer-Encoding: chunked\r\n",
        b"Content-Length: 99999999999999999999\r\n",
        b"X: " + b"y" * 9_000 + b"\r\n",
    )
    data = head * says.random.choice((1, 1, 20_000 if len(head) < 100 else 9)) + b"".join(
        says.random.sample(headers, says.random.randrange(4))
    )
    data += b"\r\n" * says.random.randrange(3) + (says.mess().encode()[:2_000] + b"\n1\r\na\r\n") * says.random.choice(
        (1, 1_000, 50_000)
    )
    check = Check.model_validate(
        {"name": "web", "http": "http://127.0.0.1/", "body": says.random.choice(("(a+)+$", "ok"))}
    )

    async def ask() -> None:
        machine = _Server(says, data[: 4 << 20])
        with contextlib.suppress(OSError):
            await ask_http(check, machine)
        with contextlib.suppress(HostError):
            await ask_gpu(Check.model_validate({"name": "gpu", "gpu": True, "min_driver": "1.2"}), machine)

    with quickly():
        in_no_time(ask())


# --- pushes ----------------------------------------------------------------------------------------


class _Store(Supply):
    """A local store of some files."""

    def __init__(self, infos: Iterable[PathInfo]) -> None:
        super().__init__(FakeMachine())
        self.of = {info.path: info for info in infos}

    async def known(self, paths: Iterable[str]) -> list[PathInfo]:
        return [self.of[path] for path in paths if path in self.of]

    async def infos(self, paths: Iterable[str]) -> list[PathInfo]:
        wanted = list(paths)
        if lost := [path for path in wanted if path not in self.of]:
            raise ChangedError(lost[0])
        return await self.known(wanted)


def pushing(seed: int) -> None:
    """A push arrives, or fails by a name, over whole paths and over differences."""
    says = Sayings(seed)
    folder = Path(tempfile.mkdtemp(prefix="fleet-hostile-"))
    try:
        infos = []
        for number in range(4):
            file = folder / f"{chr(97 + number) * 32}-x-{number}"
            file.write_bytes(says.random.randbytes(says.random.choice((10, 5_000, 50_000))))
            infos.append(PathInfo(path=str(file), nar_hash="0" * 64, nar_size=Nar.of(str(file)).size))
        with quickly():
            in_no_time(_push(says, infos, folder))
    finally:
        shutil.rmtree(folder)


async def _push(says: Sayings, infos: list[PathInfo], folder: Path) -> None:
    paths = [info.path for info in infos]
    machine = _Server(says, says.served(paths[1:]))
    frames = Frames(Cache(folder / "cache"))
    deltas = DeltaTransport(host(), frames, Bases(infos[:1]), lambda _: None)
    planned = paths[1:] if says.random.random() < 0.5 else []
    delivery = Delivery(
        host=host(), run=RUN, wanted=paths[1:], planned=planned, tops=paths[-1:],
        transport=WholePaths() if planned or says.random.random() < 0.5 else deltas,
    )  # fmt: skip
    async with _Store(infos) as supply:
        try:
            with contextlib.suppress(HostError):
                await deliver(machine, supply, delivery, Progress())
        finally:
            await frames.close()


# --- whole runs ------------------------------------------------------------------------------------


def running(seed: int) -> None:
    """Nine hosts end as they would without the tenth, which says anything at each call."""
    says = Sayings(seed)
    with tempfile.TemporaryDirectory(prefix="fleet-hostile-") as folder, quickly():
        names = (*(f"good-{number}" for number in range(9)), EVIL)
        world = World(Path(folder), *names, wait=says.random.choice((0.0, 40.0)))
        link = world.links[EVIL]
        known = [row for row in link.table if says.random.random() < 0.6]

        def answer(command: Command) -> Says:
            return says.says()

        link.table = [*known, (lambda _: True, answer)]
        world.here_too((runs("sh"), Output(status=0, stdout="%paths\n%sizes\n")))
        in_no_time(_run(world))


async def _run(world: World) -> None:
    await world.execute()
    ended = {one.host: one for one in world.end.hosts}
    assert {name: one.outcome for name, one in ended.items() if name != EVIL} == dict.fromkeys(
        (name for name in world.links if name != EVIL), Outcome.KEPT
    )
    failure = ended[EVIL].failure
    assert failure is None or failure.kind != "bug", failure
    assert isinstance(world.events[-1], RunFinished)
    assert sum(len(repr(event)) for event in world.events) < 16 << 20
    told = [event for event in world.events if isinstance(event, HostFinished)]
    assert len(told) == len(world.links)
    async with world.fleet() as fleet:
        for found in (
            await fleet.status(),
            await fleet.generations(),
            await fleet.health(),
            await _diff(fleet),
            await fleet.drift(),
        ):
            bugs = [line for error in found.values() if isinstance(error, BugError) for line in error.said]
            assert not bugs, "\n".join(bugs)


async def _diff(fleet: Any) -> dict[HostName, Any]:
    with contextlib.suppress(FleetError):
        found: dict[HostName, Any] = await fleet.diff(EVIL, closure=NEW)
        return found
    return {}


ROUNDS: dict[str, Callable[[int], None]] = {
    "parsing": parsing, "checking": checking, "pushing": pushing, "running": running,
}  # fmt: skip
