"""Stand-ins for what tests cannot have: machines, and time. `tests/contract` holds the machines to the real ones."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import selectors
import signal
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ParamSpec

from fleet.errors import AnswerError, CommandFailedError, UnreachableError
from fleet.host.program import FORMAT, HostProgram, bringing, sent_along
from fleet.machine import CONNECT_TIMEOUT, Bridge, Command, OnAnswer, OnLine, Output, Stream, TcpStream
from fleet.machine.bounds import Outputs, TooMuchError
from fleet.machine.login import Logins
from fleet.model import HostName, RunId
from fleet.text import how_it_ended

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from fleet.events import Event
    from fleet.inventory import Host
    from fleet.machine import Link
    from fleet.machine.pace import Pace

Parameters = ParamSpec("Parameters")
Fits = Callable[[Command], bool]
BY_NAME = HostProgram().call("verb").argv[:-1]
SENT_ALONG = sent_along(HostProgram().call("verb")).argv[:-1]
RunIt = Callable[..., Coroutine[Any, Any, Output]]
"""What `Machine.run` is."""


@dataclass(frozen=True, kw_only=True)
class Says:
    """What a command does, byte for byte."""

    status: int = 0
    stdout: bytes = b""
    stderr: bytes = b""
    died_of: str = ""
    """The signal, if it died of one: `SIGKILL`."""
    seconds: float = 0.0
    """How long it takes."""
    is_there: bool = True


Answer = Says | Output | Exception
Answers = Answer | Callable[[Command], Answer] | Sequence[Answer]
"""One answer for ever, one made from the command, or one after another, the last of them for ever."""


def runs(*argv: str) -> Fits:
    """Commands that begin with these words, also where the host leaves a mark before."""
    *mark, run = bringing(Command(argv=()), RunId("any")).argv

    def fits(command: Command) -> bool:
        words = list(command.argv)
        if words[: len(mark)] == mark:
            del words[: len([*mark, run])]
        return tuple(words[: len(argv)]) == argv and not call(command)

    return fits


def call(command: Command) -> tuple[str, ...]:
    """What the host program is asked, sent along or by its store path: a verb and its words. Else nothing."""
    program, *words = command.argv
    if command.argv[: len(BY_NAME)] in (BY_NAME, SENT_ALONG):
        return command.argv[len(BY_NAME) :]
    return tuple(words[1:]) if program.endswith("fleet-host") and words[:1] == [str(FORMAT)] else ()


def asks(verb: str) -> Fits:
    """Calls of the host program with this verb."""
    return lambda command: call(command)[:1] == (verb,)


def asked(verb: str, commands: Iterable[Command]) -> list[tuple[str, ...]]:
    """The arguments of each call of the host program that asks this."""
    return [call(command)[1:] for command in commands if asks(verb)(command)]


def said(**lines: object) -> Output:
    """An answer of the host program: `key=value` lines, several for a list."""
    rows = [(key, value) for key, many in lines.items() for value in (many if isinstance(many, list) else [many])]
    return Output(status=0, stdout="".join(f"{key}={value}\n" for key, value in rows))


class FakeMachine:
    """A RemoteMachine that does nothing but answer from a table. A command that is not in it fails the test."""

    def __init__(self, *table: tuple[Fits, Answers], name: str = "web-1", is_here: bool = False) -> None:
        self.name = HostName(name)
        self.is_here = is_here
        """Whether it stands for this machine, whose answers are taken as they are."""
        self.table = list(table)
        self.ran: list[Command] = []
        self.bridges: list[Bridge] = []
        self.is_lost = False
        self.listening: set[tuple[str, int]] = set()
        self.silent: set[tuple[str, int]] = set()
        self.host_key = f"SHA256:{'0' * 43}"
        self._answered: dict[int, int] = {}

    @property
    def told(self) -> list[str]:
        """The words that were left with its host program, in order."""
        return [words[-1] for words in map(call, self.ran) if words[:1] == ("word",)]

    async def run(self, command: Command, *, on_line: OnLine | None = None) -> Output:
        """See `Machine.run`."""
        self.ran.append(command)
        answer = self._answer(command)
        if isinstance(answer, Exception):
            await asyncio.sleep(0)
            raise answer
        if isinstance(answer, Output):
            answer = Says(status=answer.status, stdout=answer.stdout.encode(), stderr=answer.stderr.encode())
        return await self._played(command, answer, on_line)

    def _answer(self, command: Command) -> Answer:
        if self.is_lost:
            return UnreachableError(self.name, "connection lost")
        for number, (fits, answers) in enumerate(self.table):
            if fits(command):
                if isinstance(answers, Sequence):
                    turn = self._answered.get(number, 0)
                    self._answered[number] = turn + 1
                    return answers[min(turn, len(answers) - 1)]
                return answers(command) if callable(answers) else answers
        if command.argv == ("true",):
            return Output(status=0)
        raise AssertionError(f"nobody said what happens here: {command}")

    async def _played(self, command: Command, answer: Says, on_line: OnLine | None) -> Output:
        name = command.name or command.argv[0]
        if not answer.is_there:
            raise CommandFailedError(self.name, f"cannot run {name}: No such file or directory", ran=str(command))
        said = SimpleNamespace(stdout=_Once(answer.stdout), stderr=_Once(answer.stderr))
        outputs = Outputs(said, clean=not self.is_here)
        try:
            stdout = await outputs.answer(command)
            stderr = await outputs.errors(command.keep, on_line)
        except TooMuchError as error:
            raise AnswerError(self.name, f"{name} {error}", ran=str(command)) from error
        await asyncio.sleep(min(answer.seconds, command.timeout))
        if self.is_lost:
            raise UnreachableError(self.name, "connection lost while running a command")
        if answer.seconds > command.timeout:
            message = f"{name} did not end within {command.timeout:g} s"
            raise CommandFailedError(self.name, message, ran=str(command))
        if answer.died_of:
            ended = how_it_ended(-signal.Signals[answer.died_of])
            raise CommandFailedError(self.name, f"{name} {ended}", ran=str(command))
        return Output(status=answer.status, stdout=stdout, stderr=stderr, left_out=outputs.left_out)

    @contextlib.asynccontextmanager
    async def dial(self, host: str, port: int, *, timeout: float) -> AsyncIterator[TcpStream]:
        """See `Machine.dial`. Whoever listens in `listening` takes the connection and says nothing."""
        if self.is_lost:
            raise UnreachableError(self.name, "connection lost while dialling")
        if (host, port) in self.silent:
            await asyncio.sleep(timeout)
            raise TimeoutError
        if (host, port) not in self.listening:
            raise ConnectionRefusedError(111, "Connection refused")
        yield _Mute()

    @contextlib.asynccontextmanager
    async def bridge(self, command: Command) -> AsyncIterator[Bridge]:  # noqa: ARG002
        """See `RemoteMachine.bridge`: a socket that nobody made."""
        bridge = Bridge(Path("/run/fake/s"))
        self.bridges.append(bridge)
        yield bridge

    def stream(self, command: Command) -> contextlib.AbstractAsyncContextManager[Stream]:
        """See `RemoteMachine.stream`."""
        raise AssertionError(f"nobody said what happens here: {command}")


class _Mute:
    """A TCP connection to somebody who says nothing."""

    async def read(self, count: int) -> bytes:  # noqa: ARG002
        await asyncio.Event().wait()
        raise AssertionError("this is not reached")

    async def write(self, data: bytes) -> None:
        """See `TcpStream.write`."""


class FakeLink(FakeMachine):
    """A `Link` to a fake host: a fresh connection leads to the same machine, unless the test has another."""

    def __init__(self, host: Host, *table: tuple[Fits, Answers]) -> None:
        super().__init__(*table, name=host.name)
        self.is_here = False
        self.shortfall = ""
        self.rehearsal: Exception | None = None
        """What the login before the switch raises."""
        self.ran_before_rehearsal = -1
        """How many commands it had run when that login was tried; -1 if none was."""
        self.host = host
        self.connecting: list[Exception | None] = []
        """What each attempt to connect anew gives; afterwards they succeed, unless the machine is lost."""
        self.connected = 0
        self.closed = 0
        """How often it was closed."""
        self.answers_at = 0.0
        """The time of the loop before which nobody answers there: packets vanish."""
        self.login_takes = 0.0
        """Seconds from the answer until it has let us in."""
        self.beyond: FakeMachine = self
        """Where a fresh connection leads."""

    async def open(self, *, on_answer: OnAnswer | None = None) -> None:
        """See `Link.open`."""
        if self.is_lost:
            raise UnreachableError(self.name, "no connection")
        if on_answer is not None:
            on_answer()

    @contextlib.asynccontextmanager
    async def fresh(self) -> AsyncIterator[FakeMachine]:
        """See `Link.fresh`."""
        error = self.connecting.pop(0) if self.connecting else None
        if error is None and self.is_lost:
            error = UnreachableError(self.name, "no answer in time")
        if error is not None:
            raise error
        self.connected += 1
        yield self.beyond

    async def rehearse(self) -> None:
        """See `Link.rehearse`."""
        self.ran_before_rehearsal = len(self.ran)
        if self.rehearsal is not None:
            raise self.rehearsal

    async def close(self) -> None:
        """See `Link.close`."""
        self.closed += 1


class FakeLogins(Logins):
    """Connects to fake hosts, and counts that."""

    def __init__(self, links: Iterable[FakeLink]) -> None:
        self._links = {link.name: link for link in links}
        super().__init__({name: link.host for name, link in self._links.items()})
        self.connected = self.open = self.most_open = 0

    def link(self, host: Host, *, pace: Pace | None = None) -> Link:
        """See `Logins.link`: the fake host itself, where it is this machine."""
        link = self._links[host.name]
        return link if link.is_here else super().link(host, pace=pace)

    @contextlib.asynccontextmanager
    async def connect(  # type: ignore[override]  # it does as well
        self, host: Host, *, on_answer: OnAnswer | None = None
    ) -> AsyncIterator[FakeLink]:
        """See `Logins.connect`."""
        link, now = self._links[host.name], asyncio.get_running_loop().time()
        if link.is_lost:
            raise UnreachableError(host.name, "no connection")
        limit = host.connect_timeout or CONNECT_TIMEOUT
        await asyncio.sleep(min(max(link.answers_at - now, 0.0), limit))
        if link.answers_at > now + limit:
            error = UnreachableError(host.name, "no answer in time")
            error.is_silent = True
            raise error
        if on_answer is not None:
            on_answer()
        await asyncio.sleep(link.login_takes)
        self.connected += 1
        self.open += 1
        self.most_open = max(self.open, self.most_open)
        try:
            yield self._links[host.name]
        finally:
            self.open -= 1


class _Once:
    """Gives the data, as a pipe does."""

    def __init__(self, data: bytes) -> None:
        self._left = bytearray(data)

    async def read(self, count: int) -> bytes:
        block = bytes(self._left[:count])
        del self._left[:count]
        return block


class AtOnce:
    """How many commands of a kind are under way together."""

    def __init__(self) -> None:
        self.now = self.most = 0

    def counting(self, fits: Fits, run: RunIt) -> RunIt:
        """The same `run`, which gives others a chance to run such a command too."""

        async def counted(command: Command, **options: Any) -> Output:
            self.now += fits(command)
            self.most = max(self.now, self.most)
            await asyncio.sleep(0)
            try:
                return await run(command, **options)
            finally:
                self.now -= fits(command)

        return counted


class Events(list["Event"]):
    """An `Emit` that keeps what it was told."""

    def __call__(self, event: Event) -> None:
        self.append(event)

    def of(self, *kinds: type[Event]) -> list[Any]:
        """The events of these kinds."""
        return [event for event in self if isinstance(event, kinds)]


class FakeTime(asyncio.SelectorEventLoop):
    """An event loop whose clock does not wait: with nothing left to do, it is at once the time of what comes next."""

    def __init__(self) -> None:
        super().__init__(_NeverWaiting(self))
        self.now = 1000.0

    def time(self) -> float:
        return self.now

    def run_in_executor(self, _: object, work: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        """Do the work at once: time would not wait for a thread."""
        done = self.create_future()
        try:
            done.set_result(work(*args))
        except Exception as error:
            done.set_exception(error)
        return done


class _NeverWaiting(selectors.DefaultSelector):
    def __init__(self, loop: FakeTime) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout is None:
            raise AssertionError("everybody waits for something that will never happen")
        if not ready and timeout:
            self._loop.now += timeout
        return ready


def in_no_time(test: Callable[Parameters, Coroutine[Any, Any, None]]) -> Callable[Parameters, None]:
    """The test, run by a loop whose clock does not wait. Takes no thread and no network."""

    @functools.wraps(test)
    def run(*args: Parameters.args, **kwargs: Parameters.kwargs) -> None:
        with asyncio.Runner(loop_factory=FakeTime) as runner:
            runner.run(test(*args, **kwargs))

    return run


@contextlib.contextmanager
def nothing_left() -> Iterator[None]:
    """Whatever was begun inside has ended: no task is left, but those of a server (`tests/sshd.py`, asyncssh)."""
    before = asyncio.all_tasks()
    yield
    left = asyncio.all_tasks() - before
    ours = [task for task in left for frame in task.get_stack() if "/fleet/machine/" in frame.f_code.co_filename]
    assert ours == []
