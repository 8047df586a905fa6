"""One run from its first event to its last, with fake hosts and a fake Nix."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import dataclasses
import errno
import json
import os
import signal
from typing import TYPE_CHECKING, Any, cast

import pytest

from fleet.deploy.request import Request
from fleet.deploy.run import execute
from fleet.errors import AuthenticationError, UnreachableError
from fleet.events import (
    BuildFinished,
    EvaluationFinished,
    Event,
    FindingReported,
    HostFinished,
    HostPlanned,
    RunFinished,
    RunInterrupted,
    RunStarted,
)
from fleet.machine import Command, Output
from fleet.model import Closure, Goal, HostName, Outcome, Severity
from tests.fakes import Answer, Answers, Events, FakeLink, FakeMachine, Says, asks, runs, said
from tests.unit import builders
from tests.unit.builders import NEW, OLD, RUN

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from fleet.inventory import Host
    from fleet.machine.login import Logins

OLDER = Closure(f"/nix/store/{'2' * 32}-nixos-system-older")
KEPT, FAILED, SKIPPED, UNCHANGED = Outcome.KEPT, Outcome.FAILED, Outcome.SKIPPED, Outcome.UNCHANGED
FACTS: dict[str, object] = {
    "machine": "x86_64", "nix": "nix (Nix) 2.18", "store_writable": "yes", "running": OLD, "profile": OLD,
    "boot_default": OLD, "nix_free": 8 << 30, "previous": OLDER, "has_zstd": "yes",
}  # fmt: skip
YES = Output(status=0)
VALID = runs("xargs", "-r", "nix-store", "--check-validity")
BROKEN = Output(status=1, stderr="error: no\n")


class World:
    """Hosts, a Nix, and a run that knows them."""

    def __init__(self, tmp_path: Path, *names: str, more: str = "", **request: Any) -> None:
        self.closure = tmp_path / "system"
        (self.closure / "bin").mkdir(parents=True)
        for file in ("nixos-version", "bin/switch-to-configuration"):
            (self.closure / file).write_text("")
        self.inventory = builders.inventory(*names, more=f"[defaults]\nsettle = '0s'\n{more}")
        self.hosts = tuple(self.inventory.hosts.values())
        self.links = {host.name: self._link(host) for host in self.hosts}
        self.here = FakeMachine(
            (runs("nix", "--extra-experimental-features", "nix-command flakes", "eval"), self._evaluated),
            (runs("nix-store", "--realise"), YES),
            (runs("nix-store", "--query"), Output(status=0, stdout=f"{self.closure}\n")),
            (runs("nix-store", "--add"), Output(status=0, stdout="/nix/store/p/fleet-host\n")),
            (runs("xargs", "-r", "nix-store", "--query"), Output(status=0, stdout="100\n")),
            (VALID, YES),
            (runs("nix"), YES),
            (runs("git"), Output(status=128)),
        )
        self.wanted = str(self.closure)
        """What every host evaluates to."""
        self.events = Events()
        self.agreed: list[bool] = []
        asked = Request(**{"verb": "deploy", "copy_with": "nix", **request})
        self.run = builders.run(
            self.events, here=self.here, inventory=self.inventory, request=asked, folder=tmp_path,
            logins=cast("Logins", self),
        )  # fmt: skip
        self.answer = True

    def _link(self, host: Host) -> FakeLink:
        new = str(self.closure)
        return FakeLink(
            host,
            (asks("facts"), said(**FACTS)),
            (runs("xargs"), Output(status=0, stdout=f"{new}\n")),
            *((asks(verb), said(done="yes")) for verb in ("root", "unroot", "stage")),
            (asks("begin"), said(begun=RUN)),
            (asks("watch"), [said(state="switched", running=new, status=0), said(state="committed", running=new)]),
            (asks("look"), said(state="switched", running=new)),
            (asks("word"), said(state="committing", accepted="yes")),
            (asks("generations"), said(generation=[f"1 10 {OLDER}", f"2 20 {NEW}"])),
        )

    def _evaluated(self, command: Command) -> Answer:
        names = [name for name in self.links if f'"{name}" = ' in command.argv[8]]
        return Output(status=0, stdout=json.dumps({name: {"drv": f"{name}.drv", "out": self.wanted} for name in names}))

    def on(self, name: str, *rows: tuple[Any, Answers]) -> None:
        """What a host answers otherwise."""
        link = self.links[HostName(name)]
        link.table = [*rows, *link.table]

    def here_too(self, *rows: tuple[Any, Answers]) -> None:
        self.here.table = [*rows, *self.here.table]

    @contextlib.asynccontextmanager
    async def connect(self, host: Host) -> AsyncIterator[FakeLink]:
        """See `Logins.connect`."""
        if self.links[host.name].is_lost:
            raise UnreachableError(host.name, "no connection")
        yield self.links[host.name]

    async def execute(self) -> int:
        async def agree(_: object) -> bool:
            self.agreed.append(self.answer)
            return self.answer

        return await execute(self.run, self.hosts, agree=agree)

    @property
    def end(self) -> RunFinished:
        """The last event, which every run has once."""
        (end,) = self.events.of(RunFinished)
        assert self.events[-1] is end
        return cast("RunFinished", end)

    @property
    def outcomes(self) -> dict[str, Outcome]:
        """What the last event says of each host; each has been told before, once."""
        told = sorted(event.host for event in self.events.of(HostFinished))
        assert told == sorted(one.host for one in self.end.hosts)
        return {one.host: one.outcome for one in self.end.hosts}

    def began(self) -> list[str]:
        return [name for name, link in self.links.items() if any(asks("begin")(command) for command in link.ran)]


async def test_good_run(tmp_path: Path) -> None:
    world = World(tmp_path, "a", "b")
    assert await world.execute() == 0
    assert world.outcomes == {"a": KEPT, "b": KEPT}
    assert isinstance(world.events[0], RunStarted)
    assert (world.agreed, world.end.error) == ([True], None)
    assert [type(event) for event in world.events if isinstance(event, EvaluationFinished | BuildFinished)] == [
        EvaluationFinished, BuildFinished,
    ]  # fmt: skip
    plans = world.events.of(HostPlanned)
    assert [(plan.host, plan.action, plan.wave, plan.missing_bytes) for plan in plans] == [
        ("a", "switch", 1, 100), ("b", "switch", 1, 100),
    ]  # fmt: skip


async def test_what_would_not_fit_is_refused_before_its_first_byte(tmp_path: Path) -> None:
    world = World(tmp_path, "a")
    world.on("a", (asks("facts"), said(**FACTS | {"nix_free": 70 << 20})))
    (world.closure / "big").write_bytes(b"")
    os.truncate(world.closure / "big", 50 << 20)
    assert await world.execute() == 1
    (end,) = world.end.hosts
    assert end.failure is not None
    assert (end.failure.kind, "MiB on /nix, 70 MiB are free" in end.failure.message) == ("unfit", True)
    assert (world.agreed, world.links[HostName("a")].bridges) == ([], [])


async def test_plan_tells_what_the_push_takes(tmp_path: Path) -> None:
    world = World(tmp_path, "a", "b", more="[rollout]\nbandwidth = '1kB/s'", verb="plan")
    world.run = dataclasses.replace(world.run, speed_of={"a": 100.0, "b": 5000.0}.get)
    assert await world.execute() == 0
    for planned, speed in zip(world.events.of(HostPlanned), (100, 1000), strict=True):
        assert planned.wire_bytes > 100
        assert planned.push_seconds == pytest.approx(planned.wire_bytes / speed)
        assert 32 << 20 < planned.room_needed < planned.room_free


async def test_thin_link_is_planned_with_what_will_cross_it(tmp_path: Path) -> None:
    wires = []
    for keys in ("link = 'slow'", "link = 'fast'"):
        world = World(tmp_path / keys[-5:-1], "a", verb="plan", more=keys, copy_with="serve")
        assert await world.execute() == 0
        wires.append(world.events.of(HostPlanned)[0].wire_bytes)
    assert wires[0] == 200 + 35  # announced, and compressed by the third that is usual
    assert wires[1] > 300
    nix = World(tmp_path / "nix", "a", verb="plan", more="link = 'slow'")
    assert await nix.execute() == 0
    assert nix.events.of(HostPlanned)[0].wire_bytes == wires[1]


@pytest.mark.parametrize("build_on", ["controller", "target"])
async def test_thin_link_to_a_host_that_cannot_read_what_is_compressed_is_told(tmp_path: Path, build_on: str) -> None:
    world = World(tmp_path, "a", verb="plan", more=f"link = 'slow'\nbuild_on = '{build_on}'", copy_with="serve")
    world.on("a", (asks("facts"), said(**FACTS | {"has_zstd": ""})))
    assert await world.execute() == 0
    assert [one.kind for one in world.events.of(FindingReported)] == ["thin_link"]


async def test_closure_that_was_found_bad_is_not_pushed_again(tmp_path: Path) -> None:
    world = World(tmp_path, "a")
    world.on("a", (asks("facts"), said(**FACTS | {"quarantined": world.closure})))
    assert await world.execute() == 1
    (end,) = world.end.hosts
    assert end.failure is not None
    assert (end.failure.kind, world.links[HostName("a")].bridges) == ("quarantined", [])


@pytest.mark.parametrize(
    ("asked", "outcome"),
    [
        ({}, FAILED),
        ({"goal": Goal.TEST}, FAILED),
        ({"verb": "push"}, Outcome.STAGED),
        ({"goal": Goal.DRY_ACTIVATE}, Outcome.STAGED),
    ],
)
@pytest.mark.parametrize("bad", ["inhibited", "quarantined"])
async def test_closure_that_a_host_must_not_switch_to_now_may_still_be_brought_to_it(
    tmp_path: Path, asked: dict[str, Any], outcome: Outcome, bad: str
) -> None:
    world = World(tmp_path, "a", **asked)
    (world.closure / "init-interface-version").write_text("3")
    there = {"quarantined": world.closure} if bad == "quarantined" else {"init_interface": "2"}
    world.on("a", (asks("facts"), said(**FACTS | there)))
    world.on("a", (runs(f"{world.closure}/bin/switch-to-configuration"), YES))
    await world.execute()
    assert (world.outcomes, world.began()) == ({"a": outcome}, [])


async def test_links_keep_to_what_the_file_allows(tmp_path: Path) -> None:
    world = World(tmp_path, "a", "b", more="bandwidth = '50kB/s'\n[hosts.c]\nbandwidth = '1kB/s'\n[hosts.d]")
    assert await world.execute() == 0
    found = {name: link.bridges[0].pace for name, link in world.links.items()}
    assert [pace.portion if pace else None for pace in found.values()] == [1024, 5000, 5000, 5000]
    together = World(tmp_path / "2", "a", "b", more="[rollout]\nbandwidth = '50kB/s'")
    assert await together.execute() == 0
    first, second = (link.bridges[0].pace for link in together.links.values())
    assert first is second is not None


@pytest.mark.parametrize(("verb", "signs"), [("deploy", True), ("push", True), ("plan", False), ("rollback", False)])
async def test_closures_are_signed_before_they_are_pushed(tmp_path: Path, verb: str, signs: bool) -> None:  # noqa: FBT001
    secret = base64.b64encode(bytes(64)).decode()
    (tmp_path / "key").write_text(f"home-1:{secret}")
    world = World(tmp_path, "a", verb=verb, back_to="2" if verb == "rollback" else None)
    world.run = dataclasses.replace(
        world.run, inventory=world.inventory.model_copy(update={"signing_key": tmp_path / "key"})
    )
    world.on("a", (lambda command: "show-config" in str(command), said(store="auto")))
    world.on("a", (lambda command: "readlink" in str(command), said()))
    await world.execute()
    signed = [command.argv[-1] for command in world.here.ran if "sign" in command.argv]
    assert signed == ([str(world.closure)] if signs else [])
    notes = [finding.kind for finding in world.events.of(FindingReported) if finding.kind == "signature"]
    assert notes == ([] if verb == "rollback" else ["signature"])
    assert secret not in "".join(map(str, world.events))


async def test_key_that_cannot_be_read_is_exit_code_2_and_no_host_is_asked(tmp_path: Path) -> None:
    world = World(tmp_path, "a")
    world.run = dataclasses.replace(
        world.run, inventory=world.inventory.model_copy(update={"signing_key": tmp_path / "nowhere"})
    )
    assert await world.execute() == 2
    assert world.links[HostName("a")].ran == []


async def test_nothing_changes_before_everything_is_built(tmp_path: Path) -> None:
    world = World(tmp_path, "a", "b")
    nothing_there = Output(status=0, stdout=f"{world.closure}\n")
    world.here_too((runs("nix-store", "--realise"), BROKEN), (VALID, nothing_there))
    assert await world.execute() == 3
    assert world.outcomes == {"a": SKIPPED, "b": SKIPPED}
    assert world.end.error is not None
    assert (world.end.error.kind, world.agreed) == ("build", [])
    assert all(asks("facts")(command) for link in world.links.values() for command in link.ran)


async def test_host_that_stands_on_the_closure_is_unchanged_and_nobody_is_asked(tmp_path: Path) -> None:
    world = World(tmp_path, "a")
    world.wanted = NEW
    world.on("a", (asks("facts"), said(**FACTS | {"running": NEW, "profile": NEW, "boot_default": NEW})))
    assert await world.execute() == 0
    assert world.outcomes == {"a": UNCHANGED}
    assert (world.agreed, len(world.links[HostName("a")].ran)) == ([], 1)
    assert [plan.action for plan in world.events.of(HostPlanned)] == ["unchanged"]


async def test_host_that_fails_preflight_fails_alone(tmp_path: Path) -> None:
    world = World(tmp_path, "a", "b")
    world.links[HostName("a")].is_lost = True
    assert await world.execute() == 1
    assert world.outcomes == {"a": FAILED, "b": KEPT}
    assert [finding.kind for finding in world.events.of(FindingReported)] == ["unreachable"]


async def test_all_or_nothing_is_nothing(tmp_path: Path) -> None:
    world = World(tmp_path, "a", "b", all_or_nothing=True)
    world.on("a", (asks("facts"), said(**FACTS | {"nix": ""})))
    assert await world.execute() == 1
    assert (world.outcomes, world.here.ran) == ({"a": FAILED, "b": SKIPPED}, [])


async def test_unreachable_host_that_may_be_is_deferred(tmp_path: Path) -> None:
    world = World(tmp_path, "a", more="kind = 'laptop'")
    world.links[HostName("a")].is_lost = True
    assert await world.execute() == 0
    assert world.outcomes == {"a": Outcome.DEFERRED}


async def test_locked_hosts_are_exit_code_5(tmp_path: Path) -> None:
    world = World(tmp_path, "a", "b")
    for name in ("a", "b"):
        world.on(name, (asks("facts"), said(**FACTS, open_run="r9", open_who="bob", open_state="switched")))
    assert await world.execute() == 5
    assert {one.failure.kind for one in world.end.hosts if one.failure} == {"locked"}


async def test_evaluation_that_fails_stops_everything(tmp_path: Path) -> None:
    world = World(tmp_path, "a", "b")
    world.here_too((lambda command: '"a" = ' in "".join(command.argv), BROKEN))
    assert await world.execute() == 3
    assert world.outcomes == {"a": SKIPPED, "b": SKIPPED}


async def test_evaluation_that_fails_costs_only_its_host_when_the_run_keeps_going(tmp_path: Path) -> None:
    world = World(tmp_path, "a", "b", keep_going=True)
    world.here_too((lambda command: '"a" = ' in "".join(command.argv), BROKEN))
    assert await world.execute() == 1
    assert world.outcomes == {"a": FAILED, "b": KEPT}


async def test_evaluation_that_fails_for_all_is_exit_code_3(tmp_path: Path) -> None:
    world = World(tmp_path, "a", keep_going=True)
    world.here_too((runs("nix"), BROKEN))
    assert await world.execute() == 3


async def test_no_changes_nothing(tmp_path: Path) -> None:
    world = World(tmp_path, "a", "b")
    world.answer = False
    assert await world.execute() == 1
    assert (world.outcomes, world.began()) == ({"a": SKIPPED, "b": SKIPPED}, [])


async def test_plan_changes_nothing_and_asks_nobody(tmp_path: Path) -> None:
    world = World(tmp_path, "a", verb="plan")
    assert await world.execute() == 0
    assert (world.agreed, world.began(), len(world.events.of(HostPlanned))) == ([], [], 1)


async def test_waves_go_one_after_another_and_stop_at_a_failure(tmp_path: Path) -> None:
    world = World(tmp_path, "a", "b", more="[[rollout.waves]]\nhosts = 'b'")
    world.on("b", (asks("begin"), said(refused="quarantined", message="x")))
    assert await world.execute() == 1
    assert world.outcomes == {"a": SKIPPED, "b": FAILED}
    assert [(plan.host, plan.wave) for plan in world.events.of(HostPlanned)] == [("b", 1), ("a", 2)]


async def test_closure_that_was_built_elsewhere_is_not_evaluated(tmp_path: Path) -> None:
    world = World(tmp_path, "a", closure=NEW)
    world.here_too((VALID, Output(status=0, stdout=f"{NEW}\n")))
    assert await world.execute() == 2
    assert world.end.error is not None
    assert "not in this machine's store" in world.end.error.message


@pytest.mark.parametrize("given", ["./result", "/tmp/x"])
async def test_closure_that_is_no_store_path_is_refused(tmp_path: Path, given: str) -> None:
    world = World(tmp_path, "a", closure=Closure(given))
    assert await world.execute() == 2


@pytest.mark.parametrize(("back_to", "closure"), [(None, OLDER), ("2", NEW), (NEW, NEW)])
async def test_rollback_goes_where_it_should(tmp_path: Path, back_to: str | None, closure: str) -> None:
    world = World(tmp_path, "a", verb="rollback", back_to=back_to)
    world.on(
        "a",
        (asks("look"), said(state="switched", running=closure)),
        (lambda command: "readlink" in str(command), said(part_kernel="/nix/store/k2")),
        (runs("xargs"), YES),
    )
    assert await world.execute() == 0
    assert world.end.hosts[0].reboot_pending
    assert (world.end.hosts[0].closure, world.end.hosts[0].outcome) == (closure, KEPT)


@pytest.mark.parametrize(("back_to", "code"), [("nonsense", 2), (str(NEW), 1)])
async def test_rollback_to_what_is_no_closure_of_the_host_is_refused(tmp_path: Path, back_to: str, code: int) -> None:
    world = World(tmp_path, "a", verb="rollback", back_to=back_to)
    world.on("a", (runs("xargs"), Output(status=0, stdout=f"{NEW}\n")))
    assert (await world.execute(), world.began()) == (code, [])


async def test_rollback_to_what_is_not_there_is_told(tmp_path: Path) -> None:
    world = World(tmp_path, "a", "b", verb="rollback", back_to="7")
    world.on("b", (asks("facts"), said(**FACTS | {"previous": ""})))
    assert await world.execute() == 1
    failure = world.end.hosts[0].failure
    assert failure is not None
    assert (failure.message, failure.hint) == ("there is no generation 7", "there are: 1, 2")
    nowhere = World(tmp_path / "2", "a", verb="rollback")
    nowhere.on("a", (asks("facts"), said(**FACTS | {"previous": ""})))
    assert await nowhere.execute() == 1


async def test_dry_activation_stages(tmp_path: Path) -> None:
    world = World(tmp_path, "a", goal=Goal.DRY_ACTIVATE)
    world.on("a", (runs(f"{world.closure}/bin/switch-to-configuration"), YES))
    assert await world.execute() == 0
    assert world.outcomes == {"a": Outcome.STAGED}


@pytest.mark.parametrize("query", ["", "?dir=x"])
async def test_file_that_evaluation_would_read_and_nix_does_not_see_is_noted_of_no_host(
    tmp_path: Path, query: str
) -> None:
    world = World(tmp_path, "a", "b")
    object.__setattr__(world.inventory, "flake", f"{tmp_path}{query}")
    git = ("git", "-C", str(tmp_path))
    world.here_too(
        (runs(*git, "rev-parse"), Output(status=0, stdout=f"{tmp_path}\n")),
        (runs(*git, "ls-files", "-z", "--others"), Output(status=0, stdout="new.nix\0notes.txt\0")),
        (runs(*git, "ls-files", "-z"), Output(status=0, stdout="flake.nix\0")),
    )
    assert await world.execute() == 0
    (note,) = world.events.of(FindingReported)
    assert (note.host, note.kind, note.severity) == (None, "untracked", Severity.NOTE)
    assert note.hint.startswith("git add new.nix")


async def test_bug_still_has_a_last_event(tmp_path: Path) -> None:
    world = World(tmp_path, "a")
    world.here_too((runs("nix"), cast("Answer", ZeroDivisionError("oops"))))
    assert await world.execute() == 1
    assert world.end.error is not None
    assert any("ZeroDivisionError" in line for line in world.end.error.said)


async def test_program_that_cannot_be_stored_stops_the_run(tmp_path: Path) -> None:
    world = World(tmp_path, "a")
    world.here_too((runs("nix-store", "--add"), BROKEN))
    assert await world.execute() == 1
    assert (world.outcomes, world.began()) == ({"a": SKIPPED}, [])


@pytest.mark.parametrize("asked", [{"verb": "push"}, {"goal": Goal.DRY_ACTIVATE}])
async def test_plan_of_what_is_only_pushed_says_so(tmp_path: Path, asked: dict[str, Any]) -> None:
    world = World(tmp_path, "a", **asked)
    world.on("a", (runs(str(world.closure / "bin/switch-to-configuration")), YES))
    assert await world.execute() == 0
    assert [plan.action for plan in world.events.of(HostPlanned)] == ["push"]
    assert world.outcomes == {"a": Outcome.STAGED}


async def interrupted(world: World, when: type[Event], *signals: signal.Signals) -> int:
    """The exit code of a run that gets these signals (default: one Ctrl-C) just after the first such event."""
    left = list(signals or [signal.SIGINT])

    def emit(event: Event) -> None:
        world.events(event)
        while isinstance(event, when) and left:
            os.kill(os.getpid(), left.pop())

    object.__setattr__(world.run, "emit", emit)
    return await world.execute()


async def test_trouble_with_this_machine_s_own_files_is_no_bug(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, "a")

    def full(**_: object) -> str:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/tmp/fleet-x")

    monkeypatch.setattr("fleet.deploy.run.tempfile.mkdtemp", full)
    assert await world.execute() == 1
    assert world.end.error is not None
    assert (world.end.error.message, world.began()) == ("this machine: /tmp/fleet-x: No space left on device", [])


async def test_interrupt_before_the_plan_changes_nothing(tmp_path: Path) -> None:
    world = World(tmp_path, "a")
    world.here_too((runs("nix"), Says(seconds=60)))
    assert await interrupted(world, RunStarted) == 130
    assert (world.outcomes, world.began()) == ({"a": SKIPPED}, [])


async def test_interrupt_lets_hosts_that_switch_go_to_their_end(tmp_path: Path) -> None:
    from fleet.events import HostSwitched

    world = World(tmp_path, "a", "b", more="[rollout]\nat_once = 1")
    assert await interrupted(world, HostSwitched) == 130
    assert (world.outcomes, len(world.events.of(RunInterrupted))) == ({"a": KEPT, "b": SKIPPED}, 1)


async def test_terminal_that_goes_away_is_one_interrupt_however_often_that_is_told(tmp_path: Path) -> None:
    from fleet.events import HostSwitched

    world = World(tmp_path, "a", "b", more="[rollout]\nat_once = 1")
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # pytest may have been started by nohup
    try:
        assert await interrupted(world, HostSwitched, signal.SIGHUP, signal.SIGHUP) == 130
    finally:
        signal.signal(signal.SIGHUP, before)
    assert (world.outcomes, len(world.events.of(RunInterrupted))) == ({"a": KEPT, "b": SKIPPED}, 1)


async def test_terminal_that_goes_away_does_not_matter_to_a_run_under_nohup(tmp_path: Path) -> None:
    from fleet.events import HostSwitched

    world = World(tmp_path, "a")
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert await interrupted(world, HostSwitched, signal.SIGHUP) == 0
    finally:
        signal.signal(signal.SIGHUP, before)
    assert world.outcomes == {"a": KEPT}


async def test_second_interrupt_leaves_hosts_in_doubt(tmp_path: Path) -> None:
    from fleet.events import HostSwitched

    world = World(tmp_path, "a")
    world.on("a", (asks("look"), Says(seconds=60)))

    async def again() -> None:
        while not world.run.interrupt.asked:  # noqa: ASYNC110 - it is no event, but a flag
            await asyncio.sleep(0.001)
        os.kill(os.getpid(), signal.SIGTERM)

    task = asyncio.create_task(again())
    assert await interrupted(world, HostSwitched) == 4
    await task
    assert world.outcomes == {"a": Outcome.NEEDS_HUMAN}


async def test_login_that_is_refused_is_told_with_its_remedy(tmp_path: Path) -> None:
    world = World(tmp_path, "a")
    world.on("a", (asks("facts"), AuthenticationError(HostName("a"), "login refused", hint="ssh-add")))
    assert await world.execute() == 1
    assert [(one.kind, one.hint) for one in world.events.of(FindingReported)] == [("authentication", "ssh-add")]
