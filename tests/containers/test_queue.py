"""Many who deploy to one host and share nothing else: they come one after another, and see what the others do."""

from __future__ import annotations

import dataclasses
import itertools
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

from fleet.deploy.hooked import ELSEWHERE
from tests.containers.driver import BUSY, GATE, WEB, Run, Stage, answer, is_open, new_version, running, wait_until, web
from tests.faults.scene import build

if TYPE_CHECKING:
    from fleet.lab import Lab, LabHost
    from tests.containers.conftest import MakeLab

WAIT = ("--wait", "5m")


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Lab:
    return make_lab("one")


@pytest.fixture
def host(stage: Stage) -> LabHost:
    """A host that runs some healthy version, and on which nobody waits."""
    return stage.settle("one")


def elsewhere(stage: Stage, name: str) -> Stage:
    """Another machine: it knows how to reach the host, and shares no state with anybody."""
    folder = stage.folder / name
    (folder / "home").mkdir(parents=True)
    other = dataclasses.replace(stage, folder=folder, home=folder / "home", _started=stage._started)
    other.toml({"one": {"checks": [WEB]}})
    return other


def built(stage: Stage) -> str:
    """A new system for the host, in this machine's store."""
    return build(stage.lab.folder.path, stage.folder, "one", web(new_version()))


def deploys(stage: Stage, closure: str, *flags: str) -> Run:
    return stage.start("deploy", "--json", "--yes", "one", "--closure", closure, *flags)


def busy(stage: Stage, host: LabHost) -> Run:
    """A deployment whose proof does not end while the host is busy, however long that is."""
    stage.toml({"one": {"checks": [WEB, {**GATE, "within": "4m"}]}}, confirm_timeout="2m")
    host.exec("touch", BUSY)
    run = deploys(stage, built(stage))
    run.wait_for("phase_started", phase="prove")
    return run


def who(stage: Stage) -> dict[str, Any]:
    found: dict[str, Any] = stage.document("who", "one")["hosts"][0]
    return found


def waiting(stage: Stage) -> list[str]:
    """The runs that wait, in the order of their tickets."""
    return [ticket["run"] for ticket in who(stage)["waiting"]]


def run_of(run: Run) -> str:
    return str(run.wait_for("run_started")["run"])


@pytest.mark.timeout(600)
@pytest.mark.parametrize("count", [3, pytest.param(8, marks=pytest.mark.long)])
def test_many_who_share_nothing_come_in_the_order_of_their_tickets_and_see_each_other(
    stage: Stage, host: LabHost, count: int
) -> None:
    homes = [elsewhere(stage, name) for name in ("ann", "bob", "eve", "joe")]
    closures = [built(stage) for _ in range(count)]
    cursors = [home.document("changes")["cursor"] for home in homes]
    first = busy(stage, host)
    runs = [
        deploys(homes[number % 4], closure, "--intent", f"change {number}", *WAIT)
        for number, closure in enumerate(closures)
    ]
    tickets: list[str] = wait_until(
        lambda: found if len(found := waiting(homes[0])) == count else None, "all of them wait"
    )
    assert sorted(tickets) == sorted(run_of(run) for run in runs)
    host.exec("rm", BUSY)
    for run in (first, *sorted(runs, key=lambda run: tickets.index(run_of(run)))):
        assert run.end().code == 0, run
    entries = homes[0].document("history", "one", "-n", str(count + 1))["hosts"][0]["transactions"][::-1]
    assert [entry["run"] for entry in entries] == [run_of(first), *tickets]
    assert all(before["ended"] <= after["began"] for before, after in itertools.pairwise(entries))
    assert overlapping(host, [run_of(first), *tickets]) == []
    assert [entry["old"] for entry in entries[1:]] == [entry["new"] for entry in entries[:-1]]
    for number, run in enumerate(runs):
        assert (run.outcomes, run.hosts["one"]["closure"]) == ({"one": "kept"}, closures[number])
        earlier = [first.events[0]["run"], *tickets[: tickets.index(run_of(run))]]
        (replanned,) = run.told("host_replanned")
        assert [line.split()[3] for line in replanned["meanwhile"]] == earlier
        (seen,) = homes[number % 4].document("changes", "--since", cursors[number % 4])["hosts"]
        others = [entry["run"] for entry in seen["transactions"] if entry["run"] != run_of(run)]
        assert (sorted(others), seen["complete"]) == (sorted({run_of(first), *tickets} - {run_of(run)}), True)


def overlapping(host: LabHost, runs: list[str]) -> list[str]:
    """The runs whose switch, by the host's journal, did not begin after the one before it had ended."""
    spans = []
    for run in runs:
        script = f"journalctl -q -o short-unix -u fleet-switch-{run}.service | cut -d ' ' -f 1"
        times = [float(time) for time in host.exec("sh", "-c", script).stdout.split()]
        assert len(times) > 1, run
        spans.append((min(times), max(times)))
    return [run for run, before, after in zip(runs[1:], spans, spans[1:], strict=False) if before[1] > after[0]]


def test_who_does_not_wait_is_refused_and_told_who_why_since_when_until_when_and_what_to_do(
    stage: Stage, host: LabHost
) -> None:
    closure = built(stage)
    home = elsewhere(stage, "bob")
    first = busy(stage, host)
    refused = deploys(home, closure).end()
    assert (refused.code, refused.failure("one")["kind"]) == (5, "locked")
    said = refused.failure("one")
    assert run_of(first) in said["message"]
    assert "since " in said["message"]
    assert "closes by itself" in said["hint"]
    assert "fleet deploy one --wait 10m waits for a turn" in said["hint"]
    late = deploys(home, closure, "--wait", "2s").end()
    assert (late.code, late.failure("one")["kind"]) == (5, "locked")
    assert late.failure("one")["message"].startswith("waited 2 s for a turn in vain: a transaction is open: ")
    assert waiting(home) == []
    interrupted = deploys(home, closure, *WAIT)
    wait_until(lambda: waiting(home) == [run_of(interrupted)], "it waits")
    interrupted.interrupt()
    assert (interrupted.end().code, interrupted.outcomes) == (130, {"one": "skipped"})
    assert waiting(home) == []
    held = who(home)["transaction"]
    assert (held["run"], held["state"]) == (run_of(first), "switched")
    host.exec("rm", BUSY)
    assert first.end().outcomes == {"one": "kept"}
    assert answer(host).startswith("version")


def test_who_was_taken_for_dead_and_lives_changes_nothing_that_another_proves(stage: Stage, host: LabHost) -> None:
    sleeper = busy(stage, host)
    wait_until(lambda: sleeper.told("check_reported", check="gate", stage="after"), "it looks")
    sleeper.process.send_signal(signal.SIGSTOP)
    taker = stage.twin().start("resume", run_of(sleeper), "--json")
    wait_until(lambda: host.exec("cat", "/run/fleet/open/prover", check=False).stdout.strip() == "2", "it is taken up")
    sleeper.process.send_signal(signal.SIGCONT)
    wait_until(lambda: taker.told("check_reported", check="gate", stage="after"), "the other looks")
    host.exec("rm", BUSY)
    assert (taker.end().code, taker.outcomes) == (0, {"one": "kept"})
    assert (sleeper.end().code, sleeper.outcomes) == (0, {"one": "kept"})
    assert ELSEWHERE in sleeper.hosts["one"]["notes"]
    assert ELSEWHERE not in taker.hosts["one"]["notes"]
    assert sleeper.told("host_proven") == []
    assert len(taker.told("host_proven")) == 1
    assert not is_open(host)


@pytest.mark.long
def test_who_slept_through_the_proof_has_to_begin_it_anew(stage: Stage, host: LabHost) -> None:
    """What was well before a pause of more than 10 s counts for nothing, though the checks passed by then."""
    stage.toml({"one": {"checks": [WEB], "settle": "4s"}}, confirm_timeout="60s")
    stage.write("one", web(new_version()))
    run = stage.start("deploy", "--json", "--yes", "one")
    wait_until(lambda: run.told("check_reported", check="web", passed=True, stage="after"), "it is well")
    run.process.send_signal(signal.SIGSTOP)
    host.exec("sleep", "12")
    began = time.monotonic()
    run.process.send_signal(signal.SIGCONT)
    assert run.end().outcomes == {"one": "kept"}
    assert time.monotonic() - began > 4


@pytest.mark.long
def test_waiter_that_was_killed_is_dropped_and_the_next_one_goes(stage: Stage, host: LabHost) -> None:
    closures, home = [built(stage), built(stage)], elsewhere(stage, "bob")
    first = busy(stage, host)
    killed = deploys(home, closures[0], *WAIT)
    wait_until(lambda: waiting(home) == [run_of(killed)], "the first waits")
    other = deploys(home, closures[1], *WAIT)
    wait_until(lambda: len(waiting(home)) == 2, "the second waits")
    killed.process.kill()
    wait_until(lambda: waiting(home) == [run_of(other)], "the dead one is dropped", 60)
    host.exec("rm", BUSY)
    assert first.end().outcomes == other.end().outcomes == {"one": "kept"}
    assert running(host) == closures[1]


@pytest.mark.long
def test_waiter_that_sleeps_through_its_turn_comes_later(stage: Stage, host: LabHost) -> None:
    closures, home = [built(stage), built(stage)], elsewhere(stage, "bob")
    first = busy(stage, host)
    sleeper = deploys(home, closures[0], *WAIT)
    wait_until(lambda: waiting(home) == [run_of(sleeper)], "the first waits")
    other = deploys(home, closures[1], *WAIT)
    wait_until(lambda: len(waiting(home)) == 2, "the second waits")
    sleeper.process.send_signal(signal.SIGSTOP)
    host.exec("rm", BUSY)
    assert first.end().outcomes == other.end().outcomes == {"one": "kept"}
    sleeper.process.send_signal(signal.SIGCONT)
    assert sleeper.end().outcomes == {"one": "kept"}
    assert running(host) == closures[0]
