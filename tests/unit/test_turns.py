"""Hosts whose turn is waited for, and whose part is planned anew when others came first."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from fleet.deploy.turns import AGAIN, Turn
from fleet.errors import AuthenticationError, LockedError, StaleError, SwitchError, UnfitError, UnreachableError
from fleet.events import Envelopes, FindingReported, HostFinished, HostQueued, HostReplanned, PhaseStarted
from fleet.model import Goal, HostName, Outcome, Phase, RunId
from fleet.plans import Action
from fleet.scripts import script
from fleet.state import HostRecord, Hosts, RunRecord, fold
from fleet.steps.job import Job
from tests.fakes import Answers, Events, FakeLink, Says, asked, asks, call, in_no_time, runs, said
from tests.unit import builders
from tests.unit.builders import NEW, OLD
from tests.unit.world import ENTRY, FACTS, OLDER, Applying, World

if TYPE_CHECKING:
    from pathlib import Path

    from fleet.machine import Output

A = HostName("a")
HELD: dict[str, object] = {
    "open_run": "r9", "open_state": "switched", "open_who": "bob", "open_from": "train", "open_since": 1795946400,
    "open_closes_in": 20, "open_intent": "update nginx",
}  # fmt: skip
MINE = said(turn="yes")
OVERTAKEN: dict[str, object] = FACTS | {"running": OLDER, "profile": OLDER, "boot_default": OLDER, "serial": "42-b"}
SYSTEM = runs("sh", "-c", script("fleet.steps", "look-at-system"))


def waits(*runs: str, **more: object) -> Output:
    """An answer to those who wait in that order, while it is nobody's turn."""
    rows = [f"{number}\t{run}\t1795946500\t600\tann\tdesk\t-" for number, run in enumerate(runs, 1)]
    return said(turn="no", waiting=rows, **more)


def deploying(tmp_path: Path, *queue: Output, later: dict[str, object] | None = None, **options: Any) -> World:
    """A deployment to `a` that waits for its turn, of which the host says this; and it is so when it comes."""
    world = World(tmp_path, "a", wait=600.0, **options)
    world.on(
        "a",
        (asks("queue"), list(queue)),
        (asks("facts"), [said(**FACTS), said(**(later or FACTS))]),
        (asks("history"), said(history=[ENTRY])),
        (SYSTEM, said(platform="x86_64-linux")),
    )
    return world


def order(world: World) -> dict[str, str]:
    """What the host was asked to begin with."""
    (text,) = [command.stdin for command in world.links[A].ran if asks("begin")(command)]
    assert text is not None
    return {key: value for key, _, value in (line.partition(" ") for line in text.decode().splitlines())}


async def test_host_whose_turn_it_is_at_once_begins_as_planned(tmp_path: Path) -> None:
    world = deploying(tmp_path, MINE, intent="fix it")
    assert await world.execute() == 0
    ((run, seconds, *words),) = asked("queue", world.links[A].ran)
    assert (run, seconds, words) == (world.end.run, "600", ["ann", "desk", "fix it"])
    assert (order(world)["expected"], order(world)["serial"]) == (OLD, "0-none")
    assert world.events.of(HostQueued, HostReplanned) == []


async def test_who_waits_is_told_once_for_whom_and_again_when_that_changes(tmp_path: Path) -> None:
    holds = waits("r3", "mine", **HELD)
    world = deploying(tmp_path, holds, holds, waits("r3", "mine"), MINE)
    assert await world.execute() == 0
    usual = {"host": A, "since": 1795946400, "ahead": 2}
    assert world.events.of(HostQueued) == [
        HostQueued(waits_for="r9", whose="bob from train", intent="update nginx", **usual),  # type: ignore[arg-type]
        HostQueued(**usual | {"waits_for": "r3", "whose": "ann from desk", "since": 1795946500, "ahead": 1}),  # type: ignore[arg-type]
    ]
    assert [event.phase for event in world.events.of(PhaseStarted)].count(Phase.WAITING) == 1


async def test_those_who_come_later_do_not_count(tmp_path: Path) -> None:
    world = World(tmp_path, "a", wait=600.0)

    def answer(command: object) -> Output:
        run = call(command)[1]  # type: ignore[arg-type]
        return waits("r3", run, "r5") if len(asked("queue", world.links[A].ran)) == 1 else MINE

    world.on("a", (asks("queue"), answer))
    assert await world.execute() == 0
    assert [(event.waits_for, event.ahead) for event in world.events.of(HostQueued)] == [("r3", 0)]


async def test_host_that_others_have_changed_is_planned_anew_and_goes_back_to_what_they_left(tmp_path: Path) -> None:
    world = deploying(tmp_path, waits(**HELD), MINE, later=OVERTAKEN)
    assert await world.execute() == 0
    sent = order(world)
    assert (sent["new"], sent["expected"], sent["serial"]) == (str(world.closure), OLDER, "42-b")
    (told,) = world.events.of(HostReplanned)
    assert (told.running, told.closure) == (OLDER, str(world.closure))
    assert [line.split()[3:6] for line in told.meanwhile] == [["r9", "of", "bob"]]
    (end,) = world.end.hosts
    assert (end.outcome, end.previous) == (Outcome.KEPT, OLDER)
    assert any(note.startswith("others came first: ") and "run r9 of bob from train" in note for note in end.notes)


async def test_the_one_that_was_open_when_this_was_planned_came_first_too(tmp_path: Path) -> None:
    held = HELD | {"serial": "42-b", "last_run": "r8", "last_serial": "41-a", "last_state": "committed"}
    world = World(tmp_path, "a", wait=600.0)
    world.on(
        "a",
        (asks("queue"), MINE),
        (asks("facts"), [said(**FACTS | held), said(**OVERTAKEN)]),
        (asks("history"), said(history=[ENTRY])),
        (SYSTEM, said(platform="x86_64-linux")),
    )
    assert await world.execute() == 0
    assert asked("history", world.links[A].ran) == [("41-a",)]


async def test_hooks_are_told_what_others_have_left(tmp_path: Path) -> None:
    hook = "\n[[defaults.hooks]]\nname = 'drain'\nwhen = 'before_switch'\ncommand = 'drain'\non = 'controller'\n"
    world = deploying(tmp_path, MINE, later=OVERTAKEN, more=hook)
    world.here_too((runs("env"), said()))
    assert await world.execute() == 0
    (ran,) = [command.argv for command in world.here.ran if command.argv[0] == "env"]
    assert f"FLEET_PREVIOUS={OLDER}" in ran


def test_record_of_a_run_knows_what_a_host_goes_back_to_since_it_was_planned_anew() -> None:
    record = RunRecord(id=RunId("r"), hosts=Hosts([HostRecord(name=A, closure=NEW, previous=OLD)]))
    event = HostReplanned(host=A, closure=NEW, running=OLDER)
    assert fold(record, Envelopes(RunId("r"), "ann").wrap(event)).hosts[A].previous == OLDER


async def test_nothing_is_done_where_others_have_brought_the_same(tmp_path: Path) -> None:
    world = World(tmp_path, "a", wait=600.0)
    new = str(world.closure)
    later = FACTS | {"running": new, "profile": new, "boot_default": new, "serial": "42-b"}
    world.on(
        "a",
        (asks("queue"), MINE),
        (asks("facts"), [said(**FACTS), said(**later)]),
        (asks("history"), said(history=[ENTRY])),
    )
    assert await world.execute() == 0
    assert (world.outcomes, world.began()) == ({"a": Outcome.UNCHANGED}, [])
    assert asked("unroot", world.links[A].ran) == [(world.end.run,)]


@pytest.mark.parametrize(
    ("later", "system", "kind", "says"),
    [
        ({"quarantined": "CLOSURE"}, {}, "quarantined", "was found bad on this host before"),
        ({"init_interface": "1"}, {"init_interface": "2"}, "unfit", "a live switch is inhibited"),
        ({}, {"lacks": "bin/switch-to-configuration"}, "unfit", "is not a NixOS system"),
    ],
)
async def test_what_others_have_left_may_forbid_to_go_on(
    tmp_path: Path, later: dict[str, str], system: dict[str, str], kind: str, says: str
) -> None:
    world = deploying(tmp_path, MINE)
    found = {key: str(world.closure) if value == "CLOSURE" else value for key, value in later.items()}
    world.on(
        "a",
        (asks("facts"), [said(**FACTS), said(**OVERTAKEN | found)]),
        (SYSTEM, said(platform="x86_64-linux", **system)),
    )
    assert await world.execute() == 1
    (end,) = world.end.hosts
    assert end.failure is not None
    assert (end.failure.kind, says in end.failure.message, world.began()) == (kind, True, [])
    assert asked("unroot", world.links[A].ran)


async def test_turn_that_does_not_come_in_time_ends_with_5_and_says_who_was_in_the_way(tmp_path: Path) -> None:
    world = deploying(tmp_path, waits("mine", **HELD))
    world.options = type(world.options)(copy_with="nix", eval_cache=False, wait=0.05)
    assert await world.execute() == 5
    (end,) = world.end.hosts
    assert end.failure is not None
    assert end.failure.message.startswith(
        "waited 0.05 s for a turn in vain: a transaction is open: run r9 of bob from tr"
    )
    assert "(update nginx)" in end.failure.message
    assert (end.failure.kind, end.failure.now, world.began()) == ("locked", "nothing was changed", [])
    assert asked("unroot", world.links[A].ran)


async def test_interrupt_while_a_host_waits_gives_up_its_ticket(tmp_path: Path) -> None:
    world = deploying(tmp_path, waits("mine", **HELD))
    world.acts[HostQueued] = world.stop.request
    assert await world.execute() == 130
    assert (world.outcomes, world.began()) == ({"a": Outcome.SKIPPED}, [])
    assert asked("unroot", world.links[A].ran)


async def test_host_on_which_others_are_at_work_is_planned_for_where_it_waits_and_refused_where_not(
    tmp_path: Path,
) -> None:
    for wait, code in ((600.0, 0), (0.0, 5)):
        world = World(tmp_path / str(code), "a", wait=wait)
        world.on("a", (asks("facts"), [said(**FACTS | HELD), said(**FACTS)]), (asks("queue"), MINE))
        assert await world.execute() == code
        notes = [event for event in world.events.of(FindingReported) if event.kind == "waits"]
        assert len(notes) == (1 if wait else 0)


@pytest.mark.parametrize("at_all", [True, False], ids=["waited", "had its turn at once"])
async def test_host_does_not_begin_that_waited_while_others_ended_badly(
    tmp_path: Path,
    at_all: bool,  # noqa: FBT001
) -> None:
    world = World(tmp_path, "a", "b", wait=600.0)
    bad = said(state="reverted", running=OLD, blame="found", reason="check web: 503")
    world.on("a", (asks("queue"), MINE), (asks("watch"), bad), (asks("history"), said()))

    ended = asyncio.Event()
    world.acts[HostFinished] = ended.set
    link = world.links[HostName("b")]
    run = link.run

    async def waiting(command: Any, **options: Any) -> Output:
        if asks("queue")(command):
            await ended.wait()
        return await run(command, **options)

    link.run = waiting  # type: ignore[method-assign]
    world.on("b", (asks("queue"), [waits("mine", **HELD), MINE] if at_all else MINE))
    assert await world.execute() == 1
    assert world.outcomes == {"a": Outcome.ROLLED_BACK, "b": Outcome.SKIPPED if at_all else Outcome.KEPT}
    assert world.began() == (["a"] if at_all else ["a", "b"])


async def test_plan_that_was_made_before_does_not_wait(tmp_path: Path) -> None:
    world = Applying(tmp_path, "a")
    await world.apply(world.plan(("a",)))
    assert (world.outcomes, asked("queue", world.links[A].ran)) == ({"a": Outcome.KEPT}, [])


# --- one turn ----------------------------------------------------------------------------------------------


def turn(queue: Answers, *, wait: float = 60.0, facts: dict[str, object] | None = None) -> tuple[Turn, Events]:
    events, host = Events(), builders.host("a")
    link = FakeLink(host, (asks("queue"), queue), (asks("facts"), said(**(facts or FACTS))))
    context = builders.context(events, links={A: link}, wait=wait)
    return Turn(context, builders.job(host), builders.plan(("a",))), events


@pytest.mark.parametrize("error", [UnreachableError(A, "lost"), AuthenticationError(A, "refused")])
def test_connection_that_is_lost_while_it_waits_is_tried_again(error: Exception) -> None:
    @in_no_time
    async def test() -> None:
        waiting, _ = turn([error, error, MINE])
        began = asyncio.get_running_loop().time()
        assert isinstance(await waiting.wait(), Job)
        assert asyncio.get_running_loop().time() - began == pytest.approx(2 * AGAIN, abs=0.1)

    test()


@in_no_time
async def test_host_that_cannot_be_asked_any_more_is_given_up_when_the_time_is_over() -> None:
    waiting, _ = turn(UnreachableError(A, "lost"))
    began = asyncio.get_running_loop().time()
    with pytest.raises(UnreachableError, match="lost"):
        await waiting.wait()
    assert asyncio.get_running_loop().time() - began == pytest.approx(60, abs=1)


@in_no_time
async def test_each_question_says_how_long_it_waits_on() -> None:
    slow = Says(stdout=waits("x").stdout.encode(), seconds=10.0)
    waiting, _ = turn([slow, slow, MINE])
    assert isinstance(await waiting.wait(), Job)
    (link,) = waiting.context.links.values()
    assert isinstance(link, FakeLink)
    assert [seconds for _, seconds, *_ in asked("queue", link.ran)] == ["60", "50", "40"]


@in_no_time
async def test_run_that_was_given_up_waits_for_nothing() -> None:
    waiting, _ = turn(said(refused="closed", message="run r1 was given up"))
    with pytest.raises(SwitchError, match="given up"):
        await waiting.wait()


@in_no_time
async def test_answer_that_names_nobody_is_no_reason_to_begin() -> None:
    waiting, events = turn(Says(stdout=b"turn=no\n", seconds=10.0), wait=30.0)
    with pytest.raises(LockedError, match="waited 30 s for a turn in vain: others are at work there"):
        await waiting.wait()
    assert events == []


@in_no_time
async def test_host_whose_disk_has_become_read_only_while_it_waited_does_not_begin() -> None:
    waiting, _ = turn(MINE, facts=FACTS | {"read_only": "/nix"})
    with pytest.raises(UnfitError, match="a switch writes to what is read-only: /nix"):
        await waiting.wait()


@in_no_time
async def test_what_a_forced_reboot_interrupts_is_told_also_where_the_part_is_planned_anew() -> None:
    events, host = Events(), builders.host("a")
    link = FakeLink(
        host, (asks("queue"), MINE), (asks("facts"), said(**OVERTAKEN | {"boots_once": "yes"})),
        (asks("history"), said()), (SYSTEM, said(platform="x86_64-linux")), (asks("busy"), said(busy="ann on tty1")),
    )  # fmt: skip
    context = builders.context(events, links={A: link}, wait=60.0)
    job = builders.job(host, goal=Goal.BOOT, force=True)
    assert isinstance(await Turn(context, job, builders.plan(("a",))).wait(), Job)
    assert [found.message for found in events.of(FindingReported)] == ["the reboot interrupts ann on tty1"]


@pytest.mark.parametrize(
    "changes", [{"serial": "42-b"}, {"link": "system-7-link@1.0"}, {"running": OLDER, "profile": OLDER}]
)
def test_any_of_what_was_planned_for_that_has_changed_is_planned_for_anew(changes: dict[str, object]) -> None:
    @in_no_time
    async def test() -> None:
        waiting, _ = turn(MINE, facts=FACTS | changes)
        link = waiting.context.links[A]
        assert isinstance(link, FakeLink)
        link.table += [(asks("history"), said()), (SYSTEM, said(platform="x86_64-linux"))]
        again = await waiting.wait()
        assert isinstance(again, Job)
        part = again.part
        found = {"serial": part.serial, "link": part.link, "running": part.expected, "profile": part.expected}
        assert {key: found[key] for key in changes} == changes
        assert (part.closure, part.action, part.digest != waiting.job.part.digest) == (NEW, Action.SWITCH, True)

    test()


@in_no_time
async def test_plan_that_was_withdrawn_while_it_waited_is_not_planned_anew() -> None:
    waiting, events = turn(MINE, facts=FACTS | {"serial": "42-b"})
    link, digest = waiting.context.links[A], waiting.plan.digest
    assert isinstance(link, FakeLink)
    line = f"42-b\tw1\tbob\ttrain\t1\t1\t{OLD}\t{OLD}\twithdrawn\t-\t-\t{digest}\t-\t-\ta plan was withdrawn"
    link.table.append((asks("history"), said(history=[line])))
    with pytest.raises(StaleError):
        await waiting.wait()
    assert events.of(HostReplanned) == []


@in_no_time
async def test_reboot_that_others_have_made_unsafe_is_refused() -> None:
    events, host = Events(), builders.host("a")
    link = FakeLink(
        host, (asks("queue"), MINE), (asks("facts"), said(**OVERTAKEN | {"boots_not_once": "no such entry"})),
        (asks("history"), said()), (SYSTEM, said(platform="x86_64-linux")),
    )  # fmt: skip
    context = builders.context(events, links={A: link}, wait=60.0)
    with pytest.raises(UnfitError, match="cannot boot an entry once"):
        await Turn(context, builders.job(host, goal=Goal.BOOT), builders.plan(("a",))).wait()
