"""What unit tests may ask for."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from fleet import Fleet
from fleet.cli import questions, run, session
from tests.unit.state_builders import KEPT_IN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fleet.inventory import Inventory
    from fleet.machine.login import Logins
    from tests.postgres import Server
    from tests.unit.world import World

    CommandLine = Callable[..., "Said"]


@pytest.fixture(autouse=True)
def hears_interrupts_again() -> Iterator[None]:
    """Ctrl-C ends the tests afterwards: a command that changes hosts ignores it in the end."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(autouse=True)
def knows_no_password() -> Iterator[None]:
    """A process keeps the sudo password that it was given; each test is one of its own."""
    yield
    session._taken.clear()


@pytest.fixture(params=["sqlite", "postgresql"])
def kept(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Where the states of the test are kept: in files, and once more in PostgreSQL."""
    if request.param == "sqlite":
        yield request.param
        return
    server: Server = request.getfixturevalue("postgres")
    monkeypatch.setenv(KEPT_IN, server.url)
    yield request.param
    server.clear()


@dataclass(frozen=True)
class Said:
    """What a command said, and its exit code."""

    code: int
    out: str
    err: str


@pytest.fixture
def command_line(home: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    """Runs a command about the hosts of a world."""

    def call(world: World, *arguments: str) -> Said:
        def opened(inventory: Inventory, logins: Logins) -> Fleet:
            world.given.append(logins)
            return world.fleet()

        monkeypatch.setattr(Fleet, "of", opened)
        monkeypatch.setenv("FLEET_FILE", str(world.file))
        code = run(arguments)
        said = capsys.readouterr()
        return Said(code, said.out, said.err)

    return call


class Terminal:
    """Where a person types, and commands are asked."""

    def __init__(self) -> None:
        self.person, self.theirs = os.openpty()
        self.answers: list[str] = []

    def type(self, text: str) -> None:
        """The person types this now."""
        os.write(self.person, text.encode())

    def answer(self, *lines: str) -> None:
        """The person will type one of these at each question."""
        self.answers += lines


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    """Commands have a terminal."""
    terminal, show = Terminal(), questions._show

    def shown(question: str) -> None:
        show(question)
        if terminal.answers:
            terminal.type(terminal.answers.pop(0))

    monkeypatch.setattr(questions, "_show", shown)
    with os.fdopen(terminal.theirs) as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        yield terminal
    os.close(terminal.person)
