"""What workers do together, over a real database: one takes each share, waves go one after another, and all is told."""

from __future__ import annotations

import asyncio
import dataclasses
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from fleet.deploy.stop import Stop
from fleet.errors import ConfigError, PolicyError, StateError
from fleet.events import HostFinished, RolloutAsked, RunFinished, SoakFinished, WaveFinished, WaveStarted
from fleet.inventory import BuildOn, parse
from fleet.library.crew import worker as workers
from fleet.library.crew.advancing import go_on, places_of
from fleet.library.crew.cache import fetcher, give
from fleet.library.crew.trust import require_trust, trusted_plan
from fleet.library.governed import NOTHING
from fleet.library.judging import Plea
from fleet.machine import Output
from fleet.model import Derivation, HostName, Outcome, Verb
from fleet.plans import SoakOf
from fleet.signing import APPROVAL, PLAN, bundle
from fleet.state import Asked, clock
from fleet.state.shares import Rollout, RolloutState, Share, Step
from fleet.state.workers import WorkerRecord
from tests.fakes import Events, asks, said
from tests.signer import Device
from tests.unit import builders
from tests.unit.builders import RUN
from tests.unit.state_builders import KEPT_IN, open_state, record, recorded, result, started
from tests.unit.world import FACTS, Applying

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fleet.events import Event
    from fleet.plans import Plan
    from fleet.state import State
    from fleet.state.crew import Claim
    from tests.postgres import Server

A, B, C = map(HostName, "abc")
ONE, OTHER = "one-1", "other-2"
DEVICE = Device()


@pytest.fixture(autouse=True)
def shared(postgres: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """States are in the database."""
    monkeypatch.setenv(KEPT_IN, postgres.url)
    yield postgres
    postgres.clear()


class Desk:
    """A rollout of a plan, and who takes what of it."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.plan = plan
        self.state: State = open_state(folder / "home")
        self.crew = self.state.crew
        recorded(self.state, started(*plan.hosts))
        for name in (ONE, OTHER):
            self.crew.join(WorkerRecord(name=name, site="", origin="desk", process=1, places=4))
        row = Rollout(run=RUN, plan=plan.digest, signatures="", by="ann", origin="desk", places=places_of(plan))
        shares = [
            Share(host=name, wave=number, place=place, site="")
            for number, wave in enumerate(plan.waves, 1)
            for place, name in enumerate(wave)
        ]
        self.crew.begin(row, shares)

    def go_on(self) -> RolloutState:
        with self.crew.hand(RUN, by="ann") as hand:
            if hand is not None:
                go_on(hand, self.plan)
        row = self.crew.rollout(RUN)
        assert row is not None
        return row.state

    def take(self, *hosts: str, worker: str = ONE) -> list[str]:
        """The hosts that the worker could take."""
        return [name for name in hosts if self.claim(name, worker) is not None]

    def claim(self, host: str, worker: str = ONE) -> Claim | None:
        return self.crew.claim(RUN, HostName(host), worker)

    def end(self, *hosts: str, outcome: Outcome = Outcome.KEPT, worker: str = ONE) -> set[HostName]:
        """The worker tells how they ended. Returns those that are not its any more."""
        events = [HostFinished(host=HostName(name), result=result(outcome, host=HostName(name))) for name in hosts]
        bad = hosts if outcome is Outcome.ROLLED_BACK else ()
        with self.crew.hand(RUN, by="w") as hand:
            assert hand is not None
            return hand.say(events, worker, set(map(HostName, bad)))

    def lose(self, shared: Server, worker: str) -> None:
        """The worker was not heard for long."""
        shared.run("UPDATE fleet_home.workers SET ends = 0 WHERE name = %(worker)s", worker=worker)

    def events(self, *kinds: type[Event]) -> list[Any]:
        return [one.event for one in self.state.events(RUN) if isinstance(one.event, kinds)]

    def jobs(self, shared: Server) -> int:
        ((count,),) = shared.run("SELECT count(*) FROM fleet_home_queue.procrastinate_jobs WHERE status = 'todo'")
        return int(count)


@pytest.fixture
def up_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """The database was not started just now, as that of the tests was."""
    monkeypatch.setattr(clock, "LIVES", clock.LIVES.replace(clock.BACK, "0"))


def test_share_is_taken_once_and_its_result_is_written_once(tmp_path: Path, shared: Server) -> None:
    desk = Desk(tmp_path, builders.plan(("a", "b")))
    desk.go_on()
    assert desk.jobs(shared) == 2
    assert desk.take("a", "b") == ["a", "b"]
    assert desk.take("a", "b", worker=OTHER) == []
    assert desk.end("a") == set()
    assert desk.end("a", outcome=Outcome.FAILED) == {A}
    assert desk.end("b", worker=OTHER) == {B}
    assert [(one.host, one.result.outcome) for one in desk.events(HostFinished)] == [(A, Outcome.KEPT)]


def test_as_many_are_under_way_as_the_plan_says(tmp_path: Path, shared: Server) -> None:
    desk = Desk(tmp_path, builders.plan(tuple("abcdef"), at_once=2))
    desk.go_on()
    desk.go_on()
    assert desk.jobs(shared) == 2
    assert desk.take(*"abcdef") == ["a", "b"]
    desk.end("b")
    desk.go_on()
    assert desk.take(*"abcdef") == ["c"]
    assert places_of(builders.plan(("a",), at_once=8, push_at_once=3)) == 3


def test_waves_go_one_after_another_and_the_run_ends(tmp_path: Path) -> None:
    desk = Desk(tmp_path, builders.plan(("a",), ("b", "c")))
    desk.go_on()
    assert desk.take("a", "b", "c") == ["a"]
    desk.end("a")
    assert desk.go_on() is RolloutState.OPEN
    assert desk.take("b", "c") == ["b", "c"]
    desk.end("b", "c")
    assert desk.go_on() is RolloutState.ENDING
    told = [(type(one), one.wave) for one in desk.events(WaveStarted, WaveFinished)]
    assert told == [(WaveStarted, 1), (WaveFinished, 1), (WaveStarted, 2), (WaveFinished, 2)]
    assert desk.events(WaveFinished)[1].outcomes == {"kept": 2}


def test_nobody_begins_after_too_many_bad_ends(tmp_path: Path) -> None:
    desk = Desk(tmp_path, builders.plan(("a", "b"), ("c",), at_once=1))
    desk.go_on()
    assert desk.take("a") == ["a"]
    desk.end("a", outcome=Outcome.ROLLED_BACK)
    assert desk.go_on() is RolloutState.ENDING
    skipped = {one.host: one.result.failure.message for one in desk.events(HostFinished) if one.host != A}
    assert skipped == dict.fromkeys((B, C), "not begun: 1 of the hosts before it ended badly (max_failures)")


def test_what_a_lost_worker_had_is_for_others_and_what_it_says_is_not_heard(
    tmp_path: Path, shared: Server, up_for_long: None
) -> None:
    desk = Desk(tmp_path, builders.plan(("a", "b")))
    desk.go_on()
    desk.take("a", "b")
    assert desk.crew.mend() == set()
    desk.lose(shared, ONE)
    assert desk.crew.mend() == {RUN}
    again = desk.claim("a", OTHER)
    assert again is not None
    assert again.share.attempt == 2
    assert desk.end("a", outcome=Outcome.FAILED) == {A}
    assert desk.end("b", outcome=Outcome.FAILED) == {B}
    assert desk.end("a", worker=OTHER) == set()
    assert [(one.host, one.result.outcome) for one in desk.events(HostFinished)] == [(A, Outcome.KEPT)]


def test_nobody_counts_as_lost_because_the_database_was_away(tmp_path: Path, shared: Server) -> None:
    desk = Desk(tmp_path, builders.plan(("a",)))
    desk.go_on()
    desk.take("a")
    desk.lose(shared, ONE)  # by the clock; but the server has been up for less than half a minute
    if not shared.run("SELECT now() - pg_postmaster_start_time() > interval '25 seconds'")[0][0]:
        assert desk.crew.mend() == set()


def test_job_that_is_lost_is_made_again(tmp_path: Path, shared: Server) -> None:
    desk = Desk(tmp_path, builders.plan(("a", "b")))
    desk.go_on()
    desk.take("a")
    shared.run("SET search_path TO fleet_home_queue; DELETE FROM procrastinate_jobs")
    assert desk.crew.mend() == {RUN}
    assert desk.jobs(shared) == 1
    assert desk.crew.mend() == set()


def test_other_version_of_the_queue_is_made_anew_when_no_worker_needs_it(
    tmp_path: Path, shared: Server, up_for_long: None
) -> None:
    desk = Desk(tmp_path, builders.plan(("a",)))
    desk.go_on()
    shared.run("UPDATE fleet_home.meta SET value = '3.9.0' WHERE \"key\" = 'queue'")
    later = open_state(tmp_path / "home").crew
    with pytest.raises(StateError, match=r"workers live with procrastinate 3\.9\.0"):
        later.mend()
    for name in (ONE, OTHER):
        desk.lose(shared, name)
    assert later.mend() == {RUN}
    assert desk.jobs(shared) == 1


def test_paused_rollout_lets_nobody_begin_until_it_continues(tmp_path: Path) -> None:
    desk = Desk(tmp_path, builders.plan(("a", "b"), at_once=1))
    desk.go_on()
    desk.state.ask(RUN, Asked.PAUSE, by="bob")
    assert desk.crew.unheard() == {RUN}
    assert desk.take("a") == []
    desk.go_on()
    desk.go_on()
    assert desk.take("a", "b") == []
    desk.state.ask(RUN, None, by="bob")
    desk.go_on()
    assert desk.crew.unheard() == set()
    assert desk.take("a", "b") == ["a"]
    assert [(one.asked, one.who) for one in desk.events(RolloutAsked)] == [("pause", "bob"), ("continue", "")]


def test_aborted_rollout_sees_through_what_has_begun(tmp_path: Path, shared: Server, up_for_long: None) -> None:
    desk = Desk(tmp_path, builders.plan(("a", "b"), at_once=1))
    desk.go_on()
    desk.take("a")
    desk.state.ask(RUN, Asked.ABORT, by="bob")
    assert desk.go_on() is RolloutState.OPEN
    desk.lose(shared, ONE)
    desk.crew.mend()
    again = desk.claim("a", OTHER)  # it may have begun there
    assert again is not None
    assert again.why_not == "not begun: bob has aborted the rollout"
    desk.end("a", worker=OTHER)
    assert desk.go_on() is RolloutState.ENDING
    assert {one.host: one.result.outcome for one in desk.events(HostFinished)} == {A: Outcome.KEPT, B: Outcome.SKIPPED}


def test_wave_is_watched_and_who_gets_unwell_counts(tmp_path: Path) -> None:
    plan = dataclasses.replace(builders.plan(("a", "b"), ("c",)), soaks=(SoakOf(1, 1, 60.0),))
    desk = Desk(tmp_path, plan)
    desk.go_on()
    desk.take("a", "b")
    desk.end("a", "b")
    desk.go_on()
    claims = [desk.claim(name) for name in "ab"]
    assert [claim.share.step for claim in claims if claim is not None] == [Step.SOAK, Step.SOAK]
    assert desk.claim("c") is None
    with desk.crew.hand(RUN, by="w") as hand:
        assert hand is not None
        hand.end_soak(A, ONE, "")
        hand.end_soak(B, ONE, "nginx.service failed")
    assert desk.go_on() is RolloutState.ENDING
    (soaked,) = desk.events(SoakFinished)
    assert soaked.unwell == {B: "nginx.service failed"}
    assert [one.host for one in desk.events(HostFinished)] == [A, B, B, C]
    known = desk.state.run(RUN)
    assert known is not None
    b, c = (known.hosts[name].result for name in (B, C))
    assert b is not None
    assert b.counts_against_run
    assert c is not None
    assert c.outcome is Outcome.SKIPPED


def test_end_is_told_once_by_whoever_lives(tmp_path: Path, shared: Server, up_for_long: None) -> None:
    desk = Desk(tmp_path, builders.plan(("a",)))
    desk.go_on()
    desk.take("a")
    desk.end("a")
    desk.go_on()
    assert desk.crew.claim_end(RUN, ONE)
    assert not desk.crew.claim_end(RUN, OTHER)
    desk.lose(shared, ONE)
    assert desk.crew.claim_end(RUN, OTHER)
    entered = _entered(desk)
    ended = RunFinished(run=RUN, exit_code=0, error=None, hosts=())
    assert desk.crew.end(RUN, ended, by="w", entered=entered) is not None
    assert desk.crew.end(RUN, ended, by="w", entered=entered) is None
    assert len(desk.events(RunFinished)) == 1


def _entered(desk: Desk) -> Any:
    from fleet.model import Verb
    from fleet.state import Entered

    return Entered("desk", Verb.DEPLOY)


def test_run_of_living_workers_is_under_way_and_of_lost_ones_is_taken_from_them(
    tmp_path: Path, shared: Server, up_for_long: None
) -> None:
    desk = Desk(tmp_path, builders.plan(("a",)))
    desk.go_on()
    desk.take("a")
    elsewhere = open_state(tmp_path / "other" / "home")
    assert elsewhere.is_under_way(RUN)
    with pytest.raises(ConfigError, match="workers: fleet workers tells which"), elsewhere.hold(RUN):
        pass
    for name in (ONE, OTHER):
        desk.lose(shared, name)
    assert not elsewhere.is_under_way(RUN)
    with elsewhere.hold(RUN), desk.crew.hand(RUN, by="w") as hand:
        assert hand is None
    assert desk.crew.unfinished() == set()


def test_workers_tell_what_they_do(tmp_path: Path, shared: Server, up_for_long: None) -> None:
    desk = Desk(tmp_path, builders.plan(("a", "b")))
    desk.go_on()
    desk.take("b")
    desk.lose(shared, OTHER)
    one, other = desk.crew.workers()
    assert (one.name, one.lives, one.doing) == (ONE, True, ((RUN, B, Step.DELIVER),))
    assert (other.name, other.lives, other.doing) == (OTHER, False, ())
    desk.crew.leave(OTHER)
    assert [worker.name for worker in desk.crew.workers()] == [ONE]


def test_state_of_one_machine_has_no_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEPT_IN)
    with pytest.raises(ConfigError, match="workers need a PostgreSQL database"):
        _ = open_state(tmp_path).crew


class Together(Applying):
    """Hosts, and workers in this very process."""

    async def run(self, plan: Plan, *, sites: Sequence[str] = ("",), plea: Plea = NOTHING, trusts: bool = True) -> int:
        """Let workers apply the plan, and return the exit code."""
        stop = Stop()
        async with self.fleet() as fleet:
            lives = asyncio.Semaphore(0)
            crew = [
                fleet.workers.work(site=site, trust_database=trusts, tell=lambda _: lives.release()) for site in sites
            ]
            working = [asyncio.create_task(worker.go_on(stop)) for worker in crew]
            for _ in crew:
                await lives.acquire()
            run = fleet.workers.apply(plan, stop=self.stop, plea=plea)
            await self._follow(run)
            stop.request()
            await asyncio.gather(*working)
            return (await run).exit_code


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "TICK", 0.1)
    monkeypatch.setattr(workers, "AGAIN", 0.1)


@pytest.mark.usefixtures("quick")
async def test_workers_take_hosts_through_their_parts(tmp_path: Path) -> None:
    world = Together(tmp_path, *"abc")
    assert await world.run(world.plan(("a",), ("b", "c")), sites=("", "")) == 0
    assert world.outcomes == dict.fromkeys("abc", Outcome.KEPT)
    assert Counter(world.began()) == {"a": 1, "b": 1, "c": 1}
    (end,) = world.events.of(RunFinished)
    assert end == world.events[-1]


@pytest.mark.usefixtures("quick")
async def test_host_that_goes_back_stops_the_run_of_workers_too(tmp_path: Path) -> None:
    world = Together(tmp_path, *"ab")
    world.on("a", (asks("look"), said(state="switched", running=builders.NEW, bad="nginx.service: failed")))
    world.on("a", (asks("watch"), [said(state="switched", running=builders.NEW, status=0), said(state="reverted")]))
    world.on("a", (asks("word"), said(state="reverted", accepted="yes", running=builders.OLD)))
    assert await world.run(world.plan(("a",), ("b",))) == 1
    assert world.outcomes["b"] is Outcome.SKIPPED
    assert world.outcomes["a"] is Outcome.ROLLED_BACK


@pytest.mark.usefixtures("quick")
async def test_hosts_of_a_wave_are_watched_before_the_next_begins(tmp_path: Path) -> None:
    world = Together(tmp_path, *"ab")
    there = said(**FACTS | dict.fromkeys(("running", "profile", "boot_default"), builders.NEW))
    world.on("a", (asks("facts"), [said(**FACTS), there]))
    assert await world.run(world.plan(("a",), ("b",), soaks=(SoakOf(1, 1, 0.2),))) == 0
    assert world.outcomes == dict.fromkeys("ab", Outcome.KEPT)
    kinds = [type(event) for event in world.events if isinstance(event, SoakFinished | WaveStarted)]
    assert kinds == [WaveStarted, SoakFinished, WaveStarted]


@pytest.mark.usefixtures("quick")
async def test_each_site_has_workers_of_its_own(tmp_path: Path) -> None:
    world = Together(tmp_path, "a", "b", more='[hosts.c]\nsite = "fra"\n')
    assert world.inventory.hosts[C].site == "fra"
    assert await world.run(world.plan(("a", "b", "c")), sites=("", "fra")) == 0
    assert world.outcomes == dict.fromkeys("abc", Outcome.KEPT)


def test_job_is_for_the_queue_of_the_site_of_its_host(tmp_path: Path, shared: Server) -> None:
    desk = Desk(tmp_path, builders.plan(("a", "b")))
    shared.run("UPDATE fleet_home.shares SET site = 'fra' WHERE host = 'b'")
    desk.go_on()
    jobs = shared.run("SELECT queue_name, args ->> 'host' FROM fleet_home_queue.procrastinate_jobs ORDER BY 1")
    assert jobs == [("site/", "a"), ("site/fra", "b")]


@pytest.mark.usefixtures("quick")
async def test_host_that_is_away_gets_it_later(tmp_path: Path) -> None:
    world = Together(tmp_path, "a", more='offline = "defer"')
    world.links[A].is_lost = True
    part = world.part("a", offline=world.inventory.hosts[A].offline)
    code = await world.run(world.plan(("a",), parts={"a": part}))
    assert world.outcomes == {"a": Outcome.DEFERRED}
    assert code == 0
    assert [delivery.host for delivery in world.state.deliveries()] == [A]


async def test_nobody_begins_without_a_worker_for_each_site(tmp_path: Path) -> None:
    world = Together(tmp_path, "a", more='site = "fra"')
    async with world.fleet() as fleet:
        run = fleet.workers.apply(world.plan(("a",)))
        done = await run
    assert done.exit_code == 2
    assert done.error is not None
    assert "no worker lives for fra" in done.error.message
    assert world.began() == []


def people(folder: Path, policy: str = "") -> None:
    """Ann has a key, and agent-3 none."""
    keys = f'[principals.ann]\nkind = "person"\nkeys = ["{DEVICE.public}"]\n[principals.agent-3]\nkind = "agent"\n'
    (folder / "principals.toml").write_text(keys)
    if policy:
        (folder / "policy.toml").write_text(policy)


def row_of(plan: Plan, *namespaces: str) -> Rollout:
    signatures = [DEVICE.sign(plan.head, namespace) for namespace in namespaces]
    text = bundle.written(plan.digest, signatures) if signatures else ""
    return Rollout(run=RUN, plan=plan.digest, signatures=text, by="ann", origin="desk", places=1)


async def test_plan_is_applied_if_its_author_has_signed_it(tmp_path: Path) -> None:
    world = Together(tmp_path, "a")
    people(tmp_path)
    plan = world.plan(("a",))
    world.state.keep_plan(plan.digest, plan.text, expires=plan.expires)
    assert await trusted_plan(world.tools, row_of(plan, PLAN), trusts=False) == plan
    with pytest.raises(PolicyError, match="ann, who has made its plan, has not signed it"):
        await trusted_plan(world.tools, row_of(plan), trusts=False)
    with pytest.raises(PolicyError, match="has not signed it"):
        await trusted_plan(world.tools, row_of(plan, APPROVAL), trusts=True)
    other = world.plan(("a",), intent="another one")
    swapped = dataclasses.replace(row_of(plan, PLAN), plan=other.digest)
    world.state.keep_plan(other.digest, other.text, expires=other.expires)
    with pytest.raises(PolicyError, match="signatures cannot be read"):
        await trusted_plan(world.tools, swapped, trusts=False)


async def test_plan_that_was_swapped_in_the_database_is_not_applied(tmp_path: Path, shared: Server) -> None:
    world = Together(tmp_path, "a")
    people(tmp_path)
    plan, other = world.plan(("a",)), world.plan(("a",), intent="another one")
    world.state.keep_plan(plan.digest, plan.text, expires=plan.expires)
    shared.run(f"UPDATE fleet_{_schema(world)}.plans SET text = %(text)s", text=other.text)
    with pytest.raises(PolicyError, match="the database has another plan"):
        await trusted_plan(world.tools, row_of(plan, PLAN), trusts=False)


def _schema(world: Together) -> str:
    return world.folder.joinpath("state").name


async def test_policy_of_the_worker_is_asked_too(tmp_path: Path) -> None:
    world = Together(tmp_path, "a")
    people(tmp_path, '[[agents]]\nname = "agents"\nhosts = "a"\n')
    plan = world.plan(("a",), by="agent-3")
    world.state.keep_plan(plan.digest, plan.text, expires=plan.expires)
    with pytest.raises(PolicyError):
        await trusted_plan(world.tools, row_of(plan, APPROVAL), trusts=False)


def test_worker_without_principals_has_to_be_told_to_trust_the_database(tmp_path: Path) -> None:
    world = Together(tmp_path, "a")
    with pytest.raises(ConfigError, match=r"there is no principals.toml beside .*: whoever can write to the database"):
        require_trust(world.inventory, trusts=False)
    assert require_trust(world.inventory, trusts=True) is None
    people(tmp_path)
    assert require_trust(world.inventory, trusts=False) is not None


@pytest.mark.usefixtures("quick")
async def test_host_of_a_plan_that_is_not_trusted_is_left_alone(tmp_path: Path) -> None:
    world = Together(tmp_path, "a")
    plan = world.plan(("a",))
    people(tmp_path)
    assert await world.run(plan, plea=Plea()) == 1
    (end,) = world.events.of(HostFinished)
    assert "has not signed it" in end.result.failure.message
    assert world.began() == []


CACHE = "s3://closures"
DRV = Derivation(f"/nix/store/{'d' * 32}-nixos-system-a.drv")


async def test_closures_go_to_the_cache_and_come_from_there(tmp_path: Path) -> None:
    world = Together(tmp_path, "a", more=f'[workers]\ncache = "{CACHE}"\n')
    assert await world.run(world.plan(("a",))) == 0
    closure = str(world.plan(("a",)).parts[A].closure)
    copies = [command.argv[-3:] for command in world.here.ran if "copy" in command.argv and CACHE in command.argv]
    assert copies == [("--to", CACHE, closure), ("--from", CACHE, closure)]


async def test_nothing_begins_if_the_cache_cannot_be_written(tmp_path: Path) -> None:
    world = Together(tmp_path, "a", more=f'[workers]\ncache = "{CACHE}"\n')
    world.here_too((lambda command: "--to" in command.argv, Output(status=1, stderr="error: no bucket\n")))
    assert await world.run(world.plan(("a",))) == 2
    (end,) = world.events.of(RunFinished)
    assert f"cannot be copied to {CACHE}" in end.error.message
    assert world.began() == []


async def test_what_hosts_build_themselves_goes_to_the_cache_as_derivation(tmp_path: Path) -> None:
    world = Together(tmp_path, "a", more=f'[workers]\ncache = "{CACHE}"\n')
    part = world.part("a", build_on=BuildOn.TARGET, derivation=DRV, manifest="")
    await give(world.tools, world.plan(("a",), parts={"a": part}))
    fetch = fetcher(world.tools)
    assert fetch is not None
    await fetch(part)
    copies = [command.argv[-4:] for command in world.here.ran if CACHE in command.argv]
    assert copies == [(way, CACHE, "--derivation", DRV) for way in ("--to", "--from")]


async def test_plan_that_workers_cannot_carry_out_is_refused(tmp_path: Path) -> None:
    world = Together(tmp_path, "a")
    for wrong, why in (
        ({"undo_on_failure": True}, "workers take nobody back"),
        ({"all_or_nothing": True}, "the plan is all or nothing"),
        ({"verb": Verb.ROLLBACK}, "the plan is one to rollback"),
    ):
        assert await world.run(world.plan(("a",), **wrong)) == 2
        assert world.end.error is not None
        assert why in world.end.error.message
        world.events = Events()
    async with world.fleet() as fleet:
        with pytest.raises(ConfigError, match="break-glass waits for nobody"):
            fleet.workers.apply(world.plan(("a",)), plea=Plea(break_glass="the shop is down"))
    assert world.began() == []


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('cache = "/var/cache"', "expected a Nix store that all workers reach"),
        ('cache = "https://me:secret@cache.example.org"', "has a password in it"),
        ("cache = 1", "expected a Nix store"),
        ('store = "s3://x"', "unknown key"),
    ],
)
def test_table_of_workers_is_checked(text: str, why: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(Path("/fleet/fleet.toml"), f"[workers]\n{text}\n[hosts.a]\n")
    assert why in caught.value.message
    assert "secret" not in caught.value.message


async def test_share_whose_answer_was_lost_is_given_back(tmp_path: Path) -> None:
    world = Together(tmp_path, *"ab")
    async with world.fleet() as fleet:
        worker = fleet.workers.work(trust_database=True)
    state = world.state
    await record(state, started(A, B))
    row = Rollout(run=RUN, plan="p", signatures="", by="ann", origin="desk", places=2, wave=1)
    state.crew.begin(row, [Share(host=name, wave=1, place=0, site="") for name in (A, B)])
    state.crew.join(worker.record)
    with state.crew.hand(RUN, by="w") as hand:
        assert hand is not None
        hand.queue(hand.waiting())
    for name in (A, B):
        assert state.crew.claim(RUN, name, worker.record.name) is not None
    worker._doing[RUN, B] = asyncio.Event()
    await worker._give_back()
    assert state.crew.claim(RUN, A, OTHER) is None  # it may have been taken just now
    await worker._give_back()
    assert state.crew.claim(RUN, A, OTHER) is not None
    assert state.crew.claim(RUN, B, OTHER) is None


@pytest.mark.usefixtures("quick")
async def test_worker_that_cannot_say_that_it_lives_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = Together(tmp_path, "a")
    monkeypatch.setattr(workers, "BEAT", 0.05)

    def fail(_: object) -> None:
        raise RuntimeError("a bug")

    async with world.fleet() as fleet:
        worker = fleet.workers.work(trust_database=True)
        monkeypatch.setattr(world.state.crew, "live", fail)
        with pytest.raises(RuntimeError, match="a bug"):
            await worker.go_on(Stop())
    assert world.state.crew.workers() == []
