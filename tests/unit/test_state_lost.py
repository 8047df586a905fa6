"""A database that is away in the middle of a rollout: nothing is lost or done twice, and everybody is told."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from fleet.events import HostSwitched, RecordingLost, event_json
from fleet.ledger.chain import against_note, parse, read_chain
from fleet.library.judging import Plea
from fleet.model import Outcome, Verb
from fleet.state.records import NOT_KEPT
from tests.fakes import asks, said
from tests.unit.state_builders import open_state
from tests.unit.test_judging import NEVER, write
from tests.unit.world import World

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.postgres import Server

LOOK = (lambda command: "readlink" in str(command), said(platform="x86_64-linux"))
ONE_BY_ONE = "[rollout]\nat_once = 1\n"


@pytest.fixture
def server(postgres: Server, kept: str) -> Iterator[Server]:
    """The server that keeps the state. It runs again afterwards."""
    yield postgres
    if postgres.pid is None:
        postgres.start()


pytestmark = pytest.mark.parametrize("kept", ["postgresql"], indirect=True)


def rolling(tmp_path: Path) -> World:
    return World(tmp_path, "a", "b", more=ONE_BY_ONE)


def entered(world: World) -> list[tuple[str, str]]:
    """What the ledger says of hosts and of the run, in order: it is whole."""
    kept = world.state.ledger.read()
    chain = against_note(read_chain(kept.lines), kept.noted)
    assert (chain.wrong, chain.begun) == (None, {})
    bodies = [parse(line) or {} for _, line in kept.lines]
    return [(body["kind"], body.get("host", "")) for body in bodies if body["kind"] not in ("opened", "plan")]


def recorded(world: World) -> list[object]:
    """What the database has of the only run."""
    (run,) = world.state.runs()
    return [event_json(envelope.event) for envelope in world.state.events(run.id)]


def told(world: World) -> list[object]:
    """What the followers of the run were told that is kept."""
    return [event_json(event) for event in world.events if not isinstance(event, NOT_KEPT)]


def begins(world: World) -> list[int]:
    """How often each host was asked to begin."""
    return [[asks("begin")(command) for command in link.ran].count(True) for link in world.links.values()]


async def test_rollout_goes_on_when_the_database_is_back_and_nothing_is_lost_or_done_twice(
    tmp_path: Path, server: Server
) -> None:
    world = rolling(tmp_path)

    began = list[list[str]]()

    def start_again() -> None:
        began.append(world.began())
        server.start()

    world.acts |= {HostSwitched: server.stop, RecordingLost: start_again}
    assert await world.execute() == 0, world.end
    assert began == [["a"]]
    assert world.outcomes == {"a": Outcome.KEPT, "b": Outcome.KEPT}
    assert begins(world) == [1, 1]
    (lost,) = world.events.of(RecordingLost)
    assert isinstance(lost, RecordingLost)
    assert server.url in lost.why
    assert recorded(world) == told(world)
    assert entered(world) == [("begin", ""), ("commit", "a"), ("commit", "b"), ("end", "")]


def assert_b_has_not_begun(world: World, server: Server) -> None:
    """Host a was seen through, and b was not touched, since nothing could be recorded."""
    assert world.outcomes == {"a": Outcome.KEPT, "b": Outcome.FAILED}
    assert begins(world) == [1, 0]
    failure = next(one.failure for one in world.end.hosts if one.host == "b")
    assert failure is not None
    assert (failure.kind, server.url in failure.message, failure.now) == ("state", True, "nothing was changed")


async def test_database_that_stays_away_ends_the_rollout_and_hosts_that_have_begun_are_seen_through(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fleet.state.postgres.AWAY", 1.5)
    world = rolling(tmp_path)
    world.acts[HostSwitched] = server.stop
    assert await world.execute() == 1, world.end
    assert_b_has_not_begun(world, server)
    (run,) = world.state.runs_in_folders()  # what this machine knows by itself
    assert (run.exit_code, run.is_open) == (1, False)
    server.start()
    assert recorded(world) == told(world)
    for _ in range(2):
        assert entered(world) == [("begin", ""), ("commit", "a"), ("result", "b"), ("end", "")]
        (again,) = world.state.runs()
        assert (again.id, again.plan is not None) == (run.id, True)


async def test_nothing_begins_without_the_database(tmp_path: Path, server: Server) -> None:
    world = rolling(tmp_path)
    server.stop()
    assert await world.execute() == 2, world.end
    assert world.began() == []
    assert world.end.error is not None
    assert world.end.error.kind == "state"


async def test_going_back_waits_for_no_database_and_is_entered_later(tmp_path: Path, server: Server) -> None:
    world = World(tmp_path, "a", "b", verb=Verb.ROLLBACK)
    for name in ("a", "b"):
        world.on(name, LOOK)
    server.stop()
    began = time.monotonic()
    assert await world.execute() == 0, world.end
    assert time.monotonic() - began < 30
    assert set(world.outcomes.values()) == {Outcome.KEPT}
    server.start()
    assert recorded(world) == told(world)
    assert sorted(entered(world)) == [("begin", ""), ("commit", "a"), ("commit", "b"), ("end", "")]


async def test_break_glass_waits_for_no_database_and_is_entered_later(
    tmp_path: Path, home: object, server: Server
) -> None:
    write(tmp_path, f'[approval]\nbreak_glass = ["ann"]\n[[windows]]\nname = "never"\nhosts = "*"\n{NEVER}')
    world = World(tmp_path, "a")
    server.stop()
    began = time.monotonic()
    async with world.fleet() as fleet:
        plan = await fleet.plan_as(world.hosts, world.options)
        assert (await fleet.apply(plan, plea=Plea(break_glass="the shop is down"))).exit_code == 0
        assert time.monotonic() - began < 30
        assert begins(world) == [1]
        server.start()
        report = await fleet.ledger.verify()
    assert (report.is_good, report.waiting) == (True, 0)
    assert entered(world) == [("break_glass", ""), ("begin", ""), ("commit", "a"), ("end", "")]


async def test_server_that_answers_nobody_stops_no_host_that_has_begun(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It accepts connections, as on a disk that hangs."""
    monkeypatch.setattr("fleet.state.postgres.ANSWERING", 1)
    monkeypatch.setattr("fleet.state.postgres.CONNECTING", 2)
    monkeypatch.setattr("fleet.state.postgres.AWAY", 1.5)
    world = rolling(tmp_path)
    with ExitStack() as paused:
        world.acts[HostSwitched] = lambda: paused.enter_context(server.paused())
        assert await world.execute() == 1, world.end
        assert_b_has_not_begun(world, server)
    world.state = open_state(tmp_path / "state")  # another process: this one does not ask again so soon
    assert recorded(world) == told(world)
    assert entered(world) == [("begin", ""), ("commit", "a"), ("result", "b"), ("end", "")]
