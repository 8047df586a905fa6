"""Look at a run that is over, or under way, as this machine remembers it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fleet.errors import CommandFailedError, ConfigError, FleetError
from fleet.events import HostFinished, OutputLine, PhaseStarted, RunFinished, UndoStarted
from fleet.output.facts import fact_lines
from fleet.text import listed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from fleet.diff import SystemDiff
    from fleet.events import Envelope, Event
    from fleet.machine import Link, Machine
    from fleet.model import HostName, RunId
    from fleet.plans import Plan
    from fleet.state import HostRecord, RunRecord


@dataclass(frozen=True, kw_only=True)
class Step:
    """Something that happened to a host in a run."""

    at: float
    """Seconds since 1970; 0 if that is not known."""
    text: str
    seconds: float | None = None
    """How long a phase took; None for what took no time, and for a phase whose end is not known."""
    is_phase: bool = False


@dataclass(frozen=True, kw_only=True)
class PastRun:
    """Everything that this machine remembers of a run."""

    record: RunRecord
    is_under_way: bool
    envelopes: tuple[Envelope, ...]
    folder: Path
    """The folder with what was gathered of hosts that failed. It may not exist."""
    plan: Plan | None = field(default=None)
    """What the run was to do; None if that is not known any more."""

    @property
    def finished(self) -> RunFinished:
        """How the run ended, with the results of all hosts that have one."""
        last = next((one.event for one in reversed(self.envelopes) if isinstance(one.event, RunFinished)), None)
        results = tuple(host.result for host in self.record.hosts.values() if host.result is not None)
        code = self.record.exit_code
        return RunFinished(
            run=self.record.id, exit_code=1 if code is None else code, error=last.error if last else None, hosts=results
        )

    @property
    def without_result(self) -> tuple[HostName, ...]:
        """The hosts of which nobody knows here how they ended."""
        return tuple(name for name, host in self.record.hosts.items() if host.result is None)

    def host(self, name: str) -> HostRecord:
        """Return what is remembered of a host. Raise `ConfigError` if it was not in the run."""
        for host in self.record.hosts.values():
            if host.name == name:
                return host
        known = listed(list(self.record.hosts)) or "none"
        raise ConfigError(f"{name}: was not in run {self.record.id}", hint=f"hosts of the run: {known}")

    def of_host(self, name: HostName) -> tuple[Envelope, ...]:
        """Return the events about one host."""
        return tuple(one for one in self.envelopes if getattr(one.event, "host", None) == name)

    def steps(self, name: HostName) -> tuple[Step, ...]:
        """Return what happened to one host, in order: its phases, and what is to be told of them."""
        events = [one for one in self.envelopes if _is_a_step(one.event, name)]
        ends = [one.at for one in events if isinstance(one.event, PhaseStarted | HostFinished)]
        steps: list[Step] = []
        for one in events:
            if isinstance(one.event, PhaseStarted):
                ends.pop(0)
                seconds = ends[0] - one.at if ends and one.at else None
                steps.append(Step(at=one.at, text=one.event.phase.value, seconds=seconds, is_phase=True))
                continue
            if isinstance(one.event, HostFinished):
                ends.pop(0)
            told = [line.removeprefix(f"{name}: ") for line in fact_lines(one.event)]
            if isinstance(one.event, UndoStarted):
                told = [f"the run has failed: goes back, as run {one.event.undo}"]
            steps += [Step(at=one.at, text=line) for line in told]
        return tuple(steps)

    def evidence(self, name: HostName) -> tuple[Path, ...]:
        """Return the files that were gathered of a host that failed."""
        folder = self.folder / "hosts" / name
        return tuple(sorted(folder.iterdir())) if folder.is_dir() else ()


def _is_a_step(event: Event, name: HostName) -> bool:
    """Whether the event is something that happened to the host, also together with others."""
    if isinstance(event, UndoStarted):
        return name in event.hosts
    return getattr(event, "host", None) == name and not isinstance(event, OutputLine)


def find_run(records: Sequence[tuple[RunRecord, bool]], run: str) -> tuple[RunRecord, bool]:
    """Return the run whose id is `run`, or the only one whose id begins with it, and whether it is under way.

    Raise `ConfigError` if there is none, or more than one.
    """
    found = [one for one in records if run and one[0].id.startswith(run)]
    exact = [one for one in found if one[0].id == run]
    if exact or len(found) == 1:
        return (exact or found)[0]
    if found:
        hint = f"they are {listed([record.id for record, _ in found], most=5)}"
        raise ConfigError(f"{len(found)} runs begin with {run}", hint=hint)
    raise ConfigError(f"there is no run {run} in this machine's memory", hint="fleet runs lists what there is")


async def difference(past: HostRecord, run: RunId, link: Link | None, here: Machine) -> SystemDiff | None:
    """Return what the run was to change on the host; None if it was to change nothing, or that is not known.

    A closure that is not in the store here is read on the host. Raise `FleetError` if it is not there either.
    """
    from fleet import nix
    from fleet.diff import read_diff  # few ask for it

    old, new = past.previous, past.closure
    if old is None or new is None or old == new:
        return None

    async def place(closure: str) -> Machine:
        valid = await here.run(nix.missing([closure]))
        if valid.status == 0 and not valid.stdout.strip():
            return here
        if link is None:
            raise FleetError(f"{closure} is not in this machine's store, and {past.name} is not in fleet.toml any more")
        return link

    try:
        return await read_diff(await place(old), old, await place(new), new)
    except FleetError as error:
        message = f"what run {run} was to change is not known any more: {error.message}"
        raise CommandFailedError(past.name, message, said=error.said) from error
