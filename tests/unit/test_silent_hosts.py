"""Hosts that do not answer: nobody waits long for them, and who answers in time takes part."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from fleet.deploy.looks import LATE
from fleet.events import BuildFinished, EvaluationFinished, FindingReported, HostFinished, HostPlanned
from fleet.machine import CONNECT_TIMEOUT, CONTACTS, Output
from fleet.model import HostName, Outcome
from tests.fakes import Says, asks, in_no_time, runs, said
from tests.unit.world import BROKEN, FACTS, World

if TYPE_CHECKING:
    from pathlib import Path

    from fleet.machine import Command
    from tests.fakes import Answers, Fits

FAILED, DEFERRED, SKIPPED = Outcome.FAILED, Outcome.DEFERRED, Outcome.SKIPPED
NEVER = float("inf")
EVALUATION = runs("nix", "--extra-experimental-features", "nix-command flakes", "eval")
BUILD = runs("nix-store", "--realise")


class Planned(World):
    """A world in which a plan is made. The evaluation and each build take as many seconds as a test says."""

    def __init__(self, tmp_path: Path, *names: str, **options: Any) -> None:
        super().__init__(tmp_path, *names, verb="plan", **options)
        self.evaluation = self.build = 0.0
        self.start = asyncio.get_running_loop().time()
        self.here_too((EVALUATION, self._evaluates), (BUILD, lambda _: Says(seconds=self.build)))

    def _evaluates(self, command: Command) -> Says:
        answer = self._evaluated(command)
        assert isinstance(answer, Output)
        return Says(stdout=answer.stdout.encode(), seconds=self.evaluation)

    def answers(self, name: str, *, at: float, login_takes: float = 0.0) -> None:
        """When somebody answers at the host's address, in seconds from the start."""
        self.links[HostName(name)].answers_at = self.start + at
        self.links[HostName(name)].login_takes = login_takes

    async def make(self) -> float:
        """Make the plan. Returns the seconds that this has taken."""
        self.exit_code = await self.execute()
        return asyncio.get_running_loop().time() - self.start

    @property
    def planned(self) -> list[str]:
        """The hosts of the plan that change."""
        return [event.host for event in self.events.of(HostPlanned) if event.wave]

    @property
    def ended(self) -> dict[str, Outcome]:
        """How the hosts have ended that are not in the plan."""
        return {event.host: event.result.outcome for event in self.events.of(HostFinished)}

    @property
    def builds(self) -> int:
        """How often something was built."""
        return len([command for command in self.here.ran if BUILD(command)])


@in_no_time
async def test_plan_waits_as_long_for_a_host_that_does_not_answer_as_a_connection_may_take(tmp_path: Path) -> None:
    world = Planned(tmp_path, "dead", "good")
    world.answers("dead", at=NEVER)
    assert await world.make() == CONNECT_TIMEOUT
    assert (world.planned, world.ended["dead"]) == (["good"], FAILED)
    assert [found.kind for found in world.events.of(FindingReported)] == ["unreachable"]


@in_no_time
async def test_silent_host_gets_a_little_longer_than_the_builds_take(tmp_path: Path) -> None:
    world = Planned(tmp_path, "dead", "good")
    world.answers("dead", at=NEVER)
    world.evaluation, world.build = 10.0, 50.0
    assert await world.make() == 60.0 + LATE


@in_no_time
async def test_builds_do_not_wait_for_a_silent_host(tmp_path: Path) -> None:
    world = Planned(tmp_path, "dead", "good")
    world.answers("dead", at=NEVER)
    world.evaluation, world.build = 1.0, 20.0
    assert await world.make() == 21.0 + LATE


@in_no_time
async def test_host_that_answers_during_the_builds_takes_part_and_is_built_after_its_preflight(tmp_path: Path) -> None:
    world = Planned(tmp_path, "late", "good")
    world.answers("late", at=12.0)
    world.evaluation, world.build = 2.0, 20.0
    assert await world.make() == 42.0
    assert (sorted(world.planned), world.builds) == (["good", "late"], 2)
    roots = [command.argv[command.argv.index("--add-root") + 1] for command in world.here.ran if BUILD(command)]
    assert len(set(roots)) == 2
    assert [sorted(done.closures) for done in world.events.of(BuildFinished)] == [["good"], ["late"]]


@in_no_time
async def test_host_whose_tcp_stands_is_waited_for_until_it_has_let_us_in(tmp_path: Path) -> None:
    world = Planned(tmp_path, "slow", "good")
    world.answers("slow", at=0.5, login_takes=25.0)
    assert await world.make() == 25.5
    assert (sorted(world.planned), world.builds) == (["good", "slow"], 1)


@in_no_time
async def test_connect_timeout_moves_how_long_a_host_is_waited_for(tmp_path: Path) -> None:
    world = Planned(tmp_path, "far", "good", more="connect_timeout = '20s'")
    world.answers("far", at=15.0)
    assert await world.make() == 15.0
    assert sorted(world.planned) == ["far", "good"]


@in_no_time
async def test_evaluation_goes_on_while_hosts_are_looked_at(tmp_path: Path) -> None:
    world = Planned(tmp_path, "a")
    world.answers("a", at=0.5, login_takes=8.0)
    world.evaluation = 9.0
    assert await world.make() == 9.0


@in_no_time
async def test_nothing_is_evaluated_to_its_end_where_nobody_answers(tmp_path: Path) -> None:
    world = Planned(tmp_path, "a", "b", more="offline = 'defer'")
    world.answers("a", at=NEVER)
    world.answers("b", at=NEVER)
    world.evaluation = 100.0
    assert await world.make() == CONNECT_TIMEOUT
    assert (world.ended, world.events.of(EvaluationFinished)) == ({"a": DEFERRED, "b": DEFERRED}, [])


@in_no_time
async def test_evaluation_ends_when_every_host_is_locked(tmp_path: Path) -> None:
    world = Planned(tmp_path, "a", "b")
    for name in ("a", "b"):
        world.on(name, (asks("facts"), said(**FACTS, open_run="r9", open_who="bob", open_state="switched")))
    world.evaluation = 100.0
    assert (await world.make(), world.exit_code) == (0.0, 5)


@in_no_time
async def test_all_or_nothing_evaluates_and_builds_nothing_for_a_fleet_with_a_dead_host(tmp_path: Path) -> None:
    world = Planned(tmp_path, "dead", "good", all_or_nothing=True)
    world.answers("dead", at=NEVER)
    world.evaluation = 100.0
    assert await world.make() == CONNECT_TIMEOUT
    assert (world.ended, world.builds) == ({"dead": FAILED, "good": SKIPPED}, 0)


def fails(name: str) -> tuple[Fits, Answers]:
    """What Nix says of every evaluation that has the host."""
    return lambda command: f'"{name}" = ' in "".join(command.argv), BROKEN


@in_no_time
async def test_host_that_is_away_and_does_not_evaluate_stops_nobody(tmp_path: Path) -> None:
    world = Planned(tmp_path, "dead", "good")
    world.answers("dead", at=NEVER)
    world.here_too(fails("dead"))
    await world.make()
    assert (world.exit_code, world.planned) == (1, ["good"])


@in_no_time
async def test_host_that_comes_late_and_does_not_evaluate_stops_everything(tmp_path: Path) -> None:
    world = Planned(tmp_path, "late", "good")
    world.answers("late", at=3.0)
    world.here_too(fails("late"))
    await world.make()
    assert (world.exit_code, world.planned) == (3, [])


@in_no_time
async def test_many_silent_hosts_take_nobodys_place(tmp_path: Path) -> None:
    dead = [f"dead{number}" for number in range(2 * CONTACTS)]
    world = Planned(tmp_path, *dead, "good")
    for name in dead:
        world.answers(name, at=NEVER)
    assert await world.make() <= 4 * CONNECT_TIMEOUT
    assert (world.planned, world.ended["dead0"]) == (["good"], FAILED)


@in_no_time
async def test_rollback_waits_no_longer(tmp_path: Path) -> None:
    world = World(tmp_path, "dead", "good", verb="rollback")
    world.on("good", (runs("sh", "-c"), said(platform="x86_64-linux")))
    world.links[HostName("dead")].answers_at = NEVER
    began = asyncio.get_running_loop().time()
    async with world.fleet() as fleet:
        planning = fleet.plan_as(world.hosts, world.options, stop=world.stop)
        assert (await planning).hosts == ("good",)
        assert asyncio.get_running_loop().time() - began == CONNECT_TIMEOUT
