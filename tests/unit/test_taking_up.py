"""A run that is taken up again: each host's truth, whatever becomes of the others and of us."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import pytest

from fleet import Fleet
from fleet.deploy.stop import Stop
from fleet.errors import ConfigError, UnreachableError
from fleet.events import Event, HostFinished, PhaseStarted, RunFinished, RunInterrupted, RunStarted
from fleet.library.tools import Tools
from fleet.machine import CONTACTS, Output
from fleet.model import HostName, HostResult, Outcome, Verb
from fleet.state import HostRecord, Hosts, RunRecord
from tests.fakes import Answers, AtOnce, Events, FakeLink, FakeLogins, Says, asked, asks, in_no_time, runs, said
from tests.unit import builders
from tests.unit.builders import NEW, OLD, RUN, FakeSupply
from tests.unit.state_builders import open_state

if TYPE_CHECKING:
    from pathlib import Path

    from fleet.inventory import Host

KEPT, HUMAN, SKIPPED = Outcome.KEPT, Outcome.NEEDS_HUMAN, Outcome.SKIPPED
pytestmark = pytest.mark.usefixtures("kept")
OPEN = {"running": NEW, "open_run": RUN, "open_state": "switched", "open_new": NEW, "open_old": OLD}
SWITCHED, COMMITTED = said(state="switched", running=NEW, status=0), said(state="committed", running=NEW)


class World:
    """Hosts that an earlier process had begun to switch, and this one takes up."""

    def __init__(self, tmp_path: Path, *names: str, more: str = "", verb: str = Verb.DEPLOY, **keys: Any) -> None:
        self.inventory = builders.inventory(*names, more=f"[defaults]\nsettle = '0s'\n{more}")
        self.links = {host.name: self._link(host) for host in self.inventory.hosts.values()}
        hosts = [HostRecord(name=name, closure=NEW, previous=OLD, pushed=True, begun=True) for name in self.links]
        self.past = RunRecord(id=RUN, verb=verb, hosts=Hosts(hosts), **keys)
        self.events = Events()
        self.state = open_state(tmp_path)
        self.stops: dict[type[Event], int] = {}
        """How often somebody asks for the end when events of a kind are seen."""

    def _link(self, host: Host) -> FakeLink:
        return FakeLink(
            host,
            (asks("facts"), said(**OPEN)),
            (asks("unroot"), said(done="yes")),
            (asks("attach"), said(prover="2", state="switched", running=NEW)),
            (asks("watch"), [SWITCHED, COMMITTED]),
            (asks("look"), said(state="switched", running=NEW)),
            (asks("word"), said(state="committing", accepted="yes")),
        )

    def on(self, name: str, verb: str, answers: Answers) -> None:
        """What a host answers otherwise."""
        link = self.links[HostName(name)]
        link.table = [(asks(verb), answers), *link.table]

    def remember(self, name: str, **changes: Any) -> None:
        """This is known of a host otherwise."""
        record = dataclasses.replace(self.past.hosts[HostName(name)], **changes)
        self.past = dataclasses.replace(self.past, hosts=self.past.hosts.replace(record))

    async def resume(self) -> int:
        tools = Tools(
            inventory=self.inventory,
            logins=FakeLogins(self.links.values()),
            state=self.state,
            new_supply=FakeSupply,
            by="ann",
        )
        stop = Stop()
        async with Fleet(tools) as fleet:
            run = fleet.resume(self.past, stop=stop)
            async for event in run:
                self.events(event)
                if self.stops.get(type(event), 0):
                    self.stops[type(event)] -= 1
                    stop.request()
            return (await run).exit_code

    @property
    def outcomes(self) -> dict[str, Outcome]:
        """What the last event says of each host; each has been told before, once."""
        (end,) = self.events.of(RunFinished)
        assert self.events.index(end) == len(self.events) - 1
        assert end.run == RUN
        assert sorted(event.host for event in self.events.of(HostFinished)) == sorted(one.host for one in end.hosts)
        return {one.host: one.outcome for one in end.hosts}

    def failure(self, name: str) -> str:
        """The kind of the host's failure."""
        failure = next(event.result.failure for event in self.events.of(HostFinished) if event.host == name)
        return failure.kind if failure else ""


def words(link: FakeLink) -> list[str]:
    """Which words the host was left."""
    return [word.split()[0] for _, word, *_ in asked("word", link.ran)]


async def test_hosts_that_wait_for_a_word_are_proven_and_kept(tmp_path: Path) -> None:
    world = World(tmp_path, "a", "b")
    assert await world.resume() == 0
    assert world.outcomes == {"a": KEPT, "b": KEPT}
    assert world.events.of(RunStarted)[0].verb == "resume"


async def test_bug_on_one_host_does_not_cancel_the_others(tmp_path: Path) -> None:
    world = World(tmp_path, "a", "b")
    world.on("a", "facts", ZeroDivisionError("oops"))
    assert await world.resume() == 4
    assert world.outcomes == {"a": HUMAN, "b": KEPT}
    assert world.failure("a") == "bug"


@in_no_time
async def test_hosts_are_asked_so_many_at_once_and_all_of_them_followed(tmp_path: Path) -> None:
    count = CONTACTS + 5
    world = World(tmp_path, *(f"h{number}" for number in range(count)))
    looked, followed = AtOnce(), AtOnce()
    for name, link in world.links.items():
        world.on(name, "facts", Says(seconds=1, stdout=said(**OPEN).stdout.encode()))
        world.on(name, "watch", [Says(seconds=9, stdout=SWITCHED.stdout.encode()), COMMITTED])
        link.run = looked.counting(asks("facts"), followed.counting(asks("watch"), link.run))  # type: ignore[method-assign]
    assert await world.resume() == 0
    assert (looked.most, followed.most) == (CONTACTS, count)


@in_no_time
async def test_so_many_hosts_are_asked_at_once_whether_they_know_of_a_run(tmp_path: Path) -> None:
    world = World(tmp_path, *(f"h{number}" for number in range(CONTACTS + 5)), verb="")
    world.past = dataclasses.replace(world.past, hosts=Hosts())
    looked = AtOnce()
    for name, link in world.links.items():
        world.on(name, "facts", Says(seconds=1, stdout=b"running=/old\n"))
        link.run = looked.counting(asks("facts"), link.run)  # type: ignore[method-assign]
    with pytest.raises(ConfigError, match="no host knows of it"):
        await world.resume()
    assert looked.most == CONTACTS


async def test_time_that_a_host_took_is_told(tmp_path: Path) -> None:
    world = World(tmp_path, "a")
    world.on("a", "word", Says(seconds=0.1, stdout=b"state=committing\naccepted=yes\n"))
    await world.resume()
    assert [one.seconds >= 0.1 for one in world.events.of(RunFinished)[0].hosts] == [True]


async def test_host_is_told_of_as_it_ends(tmp_path: Path) -> None:
    world = World(tmp_path, "a", "b")
    world.on("a", "look", [Says(seconds=0.2, stdout=b"state=switched\n"), said(state="switched", running=NEW)])
    await world.resume()
    assert [event.host for event in world.events.of(HostFinished)] == ["b", "a"]


async def test_interrupt_changes_nothing_as_nothing_new_would_begin(tmp_path: Path) -> None:
    world = World(tmp_path, "a", "b")
    world.stops = {PhaseStarted: 1}
    assert await world.resume() == 130
    assert world.outcomes == {"a": KEPT, "b": KEPT}
    assert len(world.events.of(RunInterrupted)) == 1


async def test_second_interrupt_leaves_hosts_in_doubt(tmp_path: Path) -> None:
    world = World(tmp_path, "a", "b", "c")
    world.remember("c", begun=False)
    world.on("a", "look", Says(seconds=60))
    world.on("c", "facts", said(running=OLD))
    world.on("c", "unroot", Says(seconds=60))
    world.stops = {PhaseStarted: 1, HostFinished: 1}
    assert await world.resume() == 4
    assert world.outcomes == {"a": HUMAN, "b": KEPT, "c": SKIPPED}
    assert world.failure("a") == "in_doubt"


@pytest.mark.parametrize(("booted", "is_pending"), [("new", False), ("old", True)])
async def test_what_a_kept_host_has_booted_is_asked(tmp_path: Path, booted: str, *, is_pending: bool) -> None:
    """The plan was another process's, and perhaps the host rebooted since, or built the system itself."""
    world = World(tmp_path, "a")
    world.remember("a", reboot=() if is_pending else ("kernel",))
    world.on("a", "facts", said(**OPEN, running_kernel="new", booted_kernel=booted))
    await world.resume()
    (kept,) = world.events.of(RunFinished)[0].hosts
    assert (kept.outcome, kept.boot_proven, kept.reboot_pending) == (KEPT, not is_pending, is_pending)


async def test_what_a_kept_host_has_booted_is_not_proven_where_it_cannot_be_asked(tmp_path: Path) -> None:
    world = World(tmp_path, "a")
    world.on("a", "facts", [said(**OPEN), UnreachableError(HostName("a"), "gone")])
    await world.resume()
    assert [(one.outcome, one.boot_proven) for one in world.events.of(RunFinished)[0].hosts] == [(KEPT, False)]


def test_a_host_that_was_about_to_reboot_is_waited_for(tmp_path: Path) -> None:
    @in_no_time
    async def test() -> None:
        world = World(tmp_path, "a")
        world.remember("a", by_reboot=True)
        away = [UnreachableError(HostName("a"), "no connection")] * 100
        world.on("a", "facts", [*away, said(**OPEN, open_goal="boot")])
        assert await world.resume() == 0
        assert world.outcomes == {"a": KEPT}

    test()


async def test_a_check_that_nobody_asked_before_decides_and_is_not_said_to_have_failed(tmp_path: Path) -> None:
    check = "[[defaults.checks]]\nname = 'ok'\ncommand = 'ok'\nwithin = '100ms'\ntolerate_existing = true\n"
    world = World(tmp_path, "a", more=check)
    link = world.links[HostName("a")]
    link.table.append((runs("sh", "-c", "ok"), Output(status=1)))
    await world.resume()
    assert words(link) == ["abandon"]
    link.table[-1] = (runs("sh", "-c", "ok"), Output(status=0))
    world.events.clear()
    await world.resume()
    assert [one.notes for one in world.events.of(RunFinished)[0].hosts] == [()]


async def test_host_that_is_settled_is_not_asked(tmp_path: Path) -> None:
    world = World(tmp_path, "a")
    world.remember("a", result=HostResult(host=HostName("a"), outcome=KEPT))
    assert await world.resume() == 0
    assert world.links[HostName("a")].ran == []


async def test_host_that_is_not_in_the_inventory_any_more_stays_in_doubt(tmp_path: Path) -> None:
    world = World(tmp_path, "a")
    gone = HostRecord(name=HostName("gone"), begun=True)
    world.past = dataclasses.replace(world.past, hosts=Hosts([*world.past.hosts.values(), gone]))
    assert await world.resume() == 4
    assert world.outcomes == {"a": KEPT, "gone": HUMAN}


async def test_strict_rollback_is_stopped_by_its_checks_also_when_it_is_taken_up(tmp_path: Path) -> None:
    check = "[[defaults.checks]]\nname = 'ok'\ncommand = 'ok'\nwithin = '100ms'\n"
    for strict, word in ((True, "abandon"), (False, "confirm")):
        world = World(tmp_path, "a", more=check, verb="rollback", strict=strict)
        link = world.links[HostName("a")]
        link.table.append((runs("sh", "-c", "ok"), Output(status=1)))
        await world.resume()
        assert words(link) == [word]


async def test_host_that_says_it_has_begun_is_believed_whatever_was_written_here(tmp_path: Path) -> None:
    world = World(tmp_path, "a", "b", "c")
    for name in world.past.hosts:
        world.remember(name, begun=False, pushed=False, closure=None, previous=None)
    world.on("b", "facts", said(running=NEW, last_run=RUN, last_state="committed", last_new=NEW, last_old=OLD))
    world.on("b", "watch", said(state="committed", running=NEW))
    world.on("c", "facts", said(running=OLD, last_run="20200101T000000-000000"))
    assert await world.resume() == 1
    assert world.outcomes == {"a": KEPT, "b": KEPT, "c": SKIPPED}
    assert {one.previous for one in world.events.of(RunFinished)[0].hosts} == {OLD, None}


async def test_hosts_are_asked_for_a_run_that_cannot_be_read_here(tmp_path: Path) -> None:
    world = World(tmp_path, "knows", "lost", "other", verb="")
    world.past = dataclasses.replace(world.past, hosts=Hosts())
    world.on("other", "facts", said(running=OLD, last_run="20200101T000000-000000"))
    world.links[HostName("lost")].is_lost = True
    assert await world.resume() == 4
    assert world.outcomes == {"knows": KEPT, "lost": HUMAN}
    again = world.state.run(RUN)
    assert again is not None
    assert (again.is_open, [one.name for one in again.hosts.values() if not one.is_settled]) == (True, ["lost"])


async def test_run_that_nobody_can_tell_of_is_no_success(tmp_path: Path) -> None:
    world = World(tmp_path, "a", verb="")
    world.past = dataclasses.replace(world.past, hosts=Hosts())
    world.on("a", "facts", said(running=OLD))
    with pytest.raises(ConfigError, match=f"run {RUN} cannot be read, and no host knows of it"):
        await world.resume()
    assert world.events == []


@pytest.mark.parametrize(
    ("last", "heard", "outcome", "kind"),
    [
        ("", False, Outcome.FAILED, "unreachable"),
        ("20200101T000000-000000", False, Outcome.FAILED, "unreachable"),
        ("", True, HUMAN, "replaced"),
        ("20990101T000000-000000", False, HUMAN, "replaced"),
    ],
)
async def test_host_that_knows_nothing_of_the_run(
    tmp_path: Path, last: str, outcome: Outcome, kind: str, *, heard: bool
) -> None:
    world = World(tmp_path, "a")
    world.remember("a", heard=heard)
    world.on("a", "facts", said(running=OLD, last_run=last))
    world.on("a", "watch", said(state="unknown", running=OLD))
    await world.resume()
    assert (world.outcomes, world.failure("a")) == ({"a": outcome}, kind)
