"""Hosts, a Nix and a state for tests of whole runs: everything but the network and the clock of the real thing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from fleet import Fleet
from fleet.deploy.options import Options
from fleet.deploy.stop import Stop
from fleet.drift.observed import PARTS
from fleet.errors import FleetError, StateError
from fleet.events import HostFinished, RunFinished
from fleet.inventory import load
from fleet.library.plans import read_plan, write_plan
from fleet.library.tools import Tools
from fleet.machine import Output
from fleet.model import Closure, HostName, Outcome, Verb
from fleet.plans.manifest import manifest
from fleet.scripts import script
from fleet.state.recorder import GroupCommit
from fleet.state.sqlite import SqliteDatabase
from fleet.state.store import FolderState
from tests.fakes import Answer, Answers, Events, FakeLink, FakeLogins, FakeMachine, Fits, asks, runs, said
from tests.unit import builders
from tests.unit.builders import NEW, OLD, RUN, FakeSupply
from tests.unit.state_builders import open_state

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fleet.deploy.run import RunResult
    from fleet.events import Event
    from fleet.inventory import Host
    from fleet.ledger import Entry
    from fleet.library.work import Work
    from fleet.machine import Command
    from fleet.machine.login import Logins
    from fleet.model import RunId
    from fleet.plans import Part, Plan
    from fleet.policy import Actor
    from fleet.state import Entered, State

OLDER = Closure(f"/nix/store/{'2' * 32}-nixos-system-older")
FACTS: dict[str, object] = {
    "machine": "x86_64", "nix": "/bin/nix-store", "store_writable": "yes", "running": OLD, "profile": OLD,
    "boot_default": OLD, "nix_free": 8 << 30, "previous": OLDER, "has_zstd": "yes",
}  # fmt: skip
YES = Output(status=0)
COMPARING = runs("sh", "-c", script("fleet.diff", "system"))
"""What a system consists of; nothing, unless a test says otherwise."""
READING = runs("sh", "-c", script("fleet.diff", "texts"))
LOOKED = Output(status=0, stdout="".join(f"done\t{part}\n" for part in PARTS) + "end\n")
"""What a host has beside its system: nothing."""
VALID = runs("xargs", "-r", "nix-store", "--check-validity")
BROKEN = Output(status=1, stderr="error: no\n")


class World:
    """Hosts, a Nix, and a run that knows them."""

    def __init__(self, tmp_path: Path, *names: str, more: str = "", **options: Any) -> None:
        self.closure = tmp_path / "system"
        (self.closure / "bin").mkdir(parents=True)
        for file in ("nixos-version", "bin/switch-to-configuration"):
            (self.closure / file).write_text("")
        self.file = tmp_path / "fleet.toml"
        self.file.write_text(builders.toml(*names, more=f"[defaults]\nsettle = '0s'\n{more}"))
        self.inventory = load(self.file)
        self.hosts = tuple(self.inventory.hosts.values())
        self.links = {host.name: self._link(host) for host in self.hosts}
        self.logins = FakeLogins(self.links.values())
        self.here = FakeMachine(
            (runs("nix", "--extra-experimental-features", "nix-command flakes", "eval"), self._evaluated),
            (runs("nix-store", "--realise"), YES),
            (runs("nix-instantiate"), Output(status=0, stdout='"/nix/store/f-fleet-plan"\n')),
            (runs("nix-store", "--query"), Output(status=0, stdout=f"{self.closure}\n")),
            (runs("nix-store", "--add"), Output(status=0, stdout="/nix/store/p/fleet-host\n")),
            (runs("xargs", "-r", "nix-store", "--query"), Output(status=0, stdout="100\n")),
            (VALID, YES),
            (runs("nix"), YES),
            (runs("git"), Output(status=128)),
            (COMPARING, YES),
            (READING, YES),
            is_here=True,
        )
        self.wanted = str(self.closure)
        """What every host evaluates to."""
        self.wants: dict[str, str] = {}
        """What some of them evaluate to instead."""
        self.events = Events()
        self.agreed: list[bool] = []
        verb = Verb(options.pop("verb", "deploy"))
        self.options = Options(**{"verb": verb, "copy_with": "nix", "eval_cache": False, **options})
        self.state: State = open_state(tmp_path / "state")
        self.stop = Stop()
        self.acts: dict[type[Event], Callable[[], object]] = {}
        """What somebody does when the first event of a kind is seen."""
        self.answer = True
        self.actor: Actor | None = None
        """Who acts, by principals.toml; None: the user ann."""
        self.given: list[Logins] = []
        """How each command would have logged in."""

    def _link(self, host: Host) -> FakeLink:
        new = str(self.closure)
        return FakeLink(
            host,
            (asks("facts"), said(**FACTS)),
            (runs("xargs"), Output(status=0, stdout=f"{new}\n")),
            (COMPARING, YES),
            (READING, YES),
            (runs("nice"), LOOKED),
            *((asks(verb), said(done="yes")) for verb in ("root", "unroot", "stage")),
            (asks("begin"), said(begun=RUN, state="switching")),
            (asks("watch"), [said(state="switched", running=new, status=0), said(state="committed", running=new)]),
            (asks("look"), said(state="switched", running=new)),
            (asks("queue"), said(turn="yes")),
            (asks("attach"), said(prover="2", state="switched", running=new)),
            (asks("word"), said(state="committing", accepted="yes")),
            (asks("generations"), said(generation=[f"1 10 {OLDER}", f"2 20 {NEW}"])),
        )

    def _evaluated(self, command: Command) -> Answer:
        names = [name for name in self.links if f'"{name}" = ' in str(command)]
        closures = {name: self.wants.get(name, self.wanted) for name in names}
        found = {name: {"drv": f"/nix/store/{'d' * 32}-{name}.drv", "out": out} for name, out in closures.items()}
        return Output(status=0, stdout=json.dumps(found))

    def on(self, name: str, *rows: tuple[Fits, Answers]) -> None:
        """What a host answers otherwise."""
        link = self.links[HostName(name)]
        link.table = [*rows, *link.table]

    def here_too(self, *rows: tuple[Fits, Answers]) -> None:
        """What this machine answers otherwise."""
        self.here.table = [*rows, *self.here.table]

    @property
    def tools(self) -> Tools:
        """What a fleet of these hosts works with."""
        return Tools(
            inventory=self.inventory, logins=self.logins, state=self.state, here=self.here, new_supply=FakeSupply,
            by=self.actor.name if self.actor else "ann", origin="desk", acts_as=self.actor,
        )  # fmt: skip

    def fleet(self) -> Fleet:
        """A fleet of these hosts."""
        return Fleet(self.tools)

    async def execute(self) -> int:
        """Plan, ask where something would change, and apply or decline. Returns the exit code."""
        async with self.fleet() as fleet:
            planning = fleet.plan_as(self.hosts, self.options, stop=self.stop)
            await self._follow(planning)
            try:
                plan = await planning
            except FleetError:
                return planning.exit_code
            if self.options.verb is Verb.PLAN:
                return planning.exit_code
            if plan.parts:
                self.agreed.append(self.answer)
            if plan.parts and not self.answer:
                run = fleet.decline(plan, "the answer was no")
            else:
                run = fleet.apply(plan, stop=self.stop)
            await self._follow(run)
            return (await run).exit_code

    async def _follow(self, work: Work[Any]) -> None:
        async for event in work:
            self.events(event)
            if act := self.acts.pop(type(event), None):
                act()

    @property
    def end(self) -> RunFinished:
        """The last event, which every run has once."""
        (end,) = self.events.of(RunFinished)
        assert self.events[-1] is end
        assert isinstance(end, RunFinished)
        return end

    @property
    def outcomes(self) -> dict[str, Outcome]:
        """What the last event says of each host; each has been told before, once."""
        told = sorted(event.host for event in self.events.of(HostFinished))
        assert told == sorted(one.host for one in self.end.hosts)
        return {one.host: one.outcome for one in self.end.hosts}

    def began(self) -> list[str]:
        """The hosts that were asked to begin."""
        return [name for name, link in self.links.items() if any(asks("begin")(command) for command in link.ran)]


SWITCHED = said(state="switched", running=NEW, status=0)
ENTRY = f"42-b\tr9\tbob\ttrain\t1795946400\t1795946460\t{OLD}\t{OLDER}\tcommitted\t-\t-\t-\t-\tby hand\t-"
"""A line of a host's history."""


class Applying(World):
    """Hosts that a plan is for, which somebody else has made; its closure is here."""

    def __init__(self, tmp_path: Path, *names: str, more: str = "") -> None:
        super().__init__(tmp_path, *names, more=more)
        self.folder = tmp_path
        for name in self.links:
            self.on(
                name,
                (asks("watch"), [SWITCHED, said(state="committed", running=NEW)]),
                (asks("look"), SWITCHED),
                (runs("sh", "-c", "ok"), Output(status=0)),
            )

    def part(self, name: str, **changes: Any) -> Part:
        """The host's share of the plan."""
        contents = manifest([(str(self.closure), "0" * 64)])
        return builders.part(name, **{"manifest": contents, "settle": 0.0, "copy_with": "nix", **changes})

    def plan(self, *waves: tuple[str, ...], parts: dict[str, Part] | None = None, **changes: Any) -> Plan:
        """The plan as it is read back from a file."""
        names = [name for wave in waves for name in wave]
        every = {name: self.part(name) for name in names} | (parts or {})
        file = self.folder / "update.plan"
        write_plan(builders.plan(*waves, parts=every.values(), **changes), file)
        return read_plan(file)

    async def apply(self, plan: Plan, *selectors: str) -> RunResult:
        self.events = Events()
        async with self.fleet() as fleet:
            run = fleet.apply(plan, *selectors)
            async for event in run:
                self.events(event)
            return await run

    def orders(self, name: str) -> list[str]:
        """What the host was asked to do, line by line."""
        return [
            line
            for command in self.links[HostName(name)].ran
            if asks("begin")(command)
            for line in (command.stdin or b"").decode().splitlines()
        ]

    def has_changed(self, name: str, **facts: object) -> None:
        """The host is not any more as it was."""
        self.on(name, (asks("facts"), said(**FACTS | facts)))


class FullState(FolderState):
    """A state whose disk has no space left for what is told."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, SqliteDatabase(folder / "state.db"))

    def recorder(self, run: RunId, *, plan: str | None = None, entered: Entered | None = None) -> GroupCommit:  # noqa: ARG002
        """See `State.recorder`: nothing gets there."""
        return GroupCommit(no_space)

    def keep_plan(self, digest: str, text: str, *, expires: float, entry: Entry | None = None) -> None:  # noqa: ARG002
        """See `State.keep_plan`."""
        no_space()


def no_space(*_: object, **__: object) -> None:
    """Raise what a full disk means."""
    raise StateError("this machine cannot record what it does: No space left on device")
