"""Commands that change hosts: plan, ask, apply, with progress, summary and exit code."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleet.cli import questions, session
from fleet.cli.interrupts import interrupts
from fleet.errors import FleetError
from fleet.events import FindingReported, HostPlanned, RunFinished
from fleet.library.governed import NOTHING
from fleet.output import Display

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from fleet import Fleet, Plan, Planning, Run, Stop
    from fleet.cli.questions import Consent
    from fleet.deploy.options import Options
    from fleet.events import Event
    from fleet.inventory import Check, Host
    from fleet.library.judging import Plea
    from fleet.library.signed_parts import SignedParts
    from fleet.model import HostName

QUIET = 2.0
"""Seconds after the end of a run in which nobody asks what is still done."""
LEFT = "fleet: the run has ended, and what became of it is written down and told to those whom fleet.toml names"


class PlanView:
    """Collects what is reported while a plan is made, to show it before the question."""

    def __init__(self) -> None:
        self.events: list[HostPlanned | FindingReported] = []

    def note(self, event: Event) -> None:
        """Remember the event if it is about the plan."""
        if isinstance(event, HostPlanned | FindingReported):
            self.events.append(event)

    def lines(self, *, is_terminal: bool) -> list[str]:
        """Return the plan as people read it."""
        from fleet.output.summary import plan_lines

        hosts = [event for event in self.events if isinstance(event, HostPlanned)]
        findings = [event for event in self.events if isinstance(event, FindingReported)]
        numbers = sorted({host.wave for host in hosts} - {0})
        waves = [[host.host for host in hosts if host.wave == number] for number in numbers]
        return plan_lines(hosts, waves, findings, is_terminal=is_terminal)


@dataclass(frozen=True)
class Way:
    """How a plan is applied: what is brought forward for it, and who does it."""

    plea: Plea = NOTHING
    by_workers: bool = False
    late: SignedParts | None = None
    """What it brings to hosts that have missed it; None for any other plan."""

    def apply(self, fleet: Fleet, plan: Plan, *names: HostName, stop: Stop) -> Run:
        """Begin to apply the plan to these hosts of it, or to all. For workers it is signed first."""
        if self.late is not None:
            return fleet.deliver(self.late, stop=stop)
        if not self.by_workers:
            return fleet.apply(plan, *names, stop=stop, plea=self.plea)
        from fleet.cli.signing import signed_for_workers

        return fleet.workers.apply(plan, *names, stop=stop, plea=signed_for_workers(fleet, plan, self.plea))


USUAL = Way()
"""This process does it, and nothing is brought forward."""


async def way_of(fleet: Fleet, hosts: Sequence[HostName], plea: Plea, *, by_workers: bool) -> Way:
    """Return how a plan for these hosts is applied. Raise `ConfigError` if no worker lives for some of them."""
    if by_workers:
        await fleet.workers.require(hosts)
    return Way(plea, by_workers)


def change(
    options: Options,
    selectors: Sequence[str],
    *,
    everything: bool,
    file: Path | None,
    as_json: bool,
    verbose: bool,
    consent: Consent,
) -> int:
    """Plan and apply what was asked, and return the exit code. Raise what refuses the command as a whole."""
    plea = dataclasses.replace(NOTHING, break_glass=consent.break_glass)
    inventory = session.open_inventory(file)
    if consent.by_workers:
        from fleet.cli.signing import with_id_if_signed  # few have workers

        inventory = with_id_if_signed(inventory)
    hosts = session.choose(inventory, selectors, everything=everything)
    changed = len(hosts) if options.switches or consent.ask else 0
    consent.require_terminal(changed)

    async def act(fleet: Fleet, output: Display, stop: Stop) -> int:
        asks = consent.is_asked_for(changed)
        way = await way_of(fleet, [host.name for host in hosts], plea, by_workers=consent.by_workers)
        return await plan_and_apply(fleet, output, stop, hosts, options, asks=asks, way=way)

    checks = {host.name: host.checks for host in hosts}
    fleet = session.fleet(inventory, hosts)
    return carry_out(fleet, act, as_json=as_json, verbose=verbose, checks=checks)


def carry_out(
    fleet: Fleet,
    act: Callable[[Fleet, Display, Stop], Awaitable[int]],
    *,
    as_json: bool,
    verbose: bool,
    checks: Mapping[HostName, Iterable[Check]],
) -> int:
    """Run something that changes hosts, with output for people or scripts and with Ctrl-C. Return its exit code."""

    async def work() -> int:
        with session.display(as_json=as_json, verbose=verbose, checks=checks) as output:
            async with fleet:
                with interrupts() as stop:
                    return await act(fleet, output, stop)

    code = asyncio.run(work())
    session.tell_unentered(fleet)
    return code


async def plan_and_apply(
    fleet: Fleet,
    output: Display,
    stop: Stop,
    hosts: Sequence[Host],
    options: Options,
    *,
    asks: bool,
    way: Way = USUAL,
) -> int:
    """Plan, show the plan and ask if it `asks`, and apply. Return the exit code."""
    view = PlanView()
    planning = fleet.plan_as(hosts, options, stop=stop)
    await follow(planning, output, view)
    try:
        plan = await planning
    except FleetError:  # the last event has reported it
        warn_of(planning.untold, output)
        return planning.exit_code
    if asks and plan.parts:
        lines = view.lines(is_terminal=output.is_terminal)
        return await ask_and_apply(fleet, output, stop, plan, lines, way=way)
    return await follow_to_end(way.apply(fleet, plan, stop=stop), output)


async def ask_and_apply(
    fleet: Fleet,
    output: Display,
    stop: Stop,
    plan: Plan,
    lines: Sequence[str],
    *names: HostName,
    way: Way = USUAL,
) -> int:
    """Show the plan and what it changes on these hosts or on all, ask, and apply it if the answer is yes.

    Return the exit code. A request to stop counts as a yes: the run acts on it. Raise `PolicyError`, before anybody is
    asked, if policy.toml does not allow it.
    """
    await fleet.require_allowed(plan, *names, plea=way.plea)
    if await _is_agreed(fleet, output, stop, plan, lines, *names):
        return await follow_to_end(way.apply(fleet, plan, *names, stop=stop), output)
    import click

    code = await follow_to_end(fleet.decline(plan, "not begun: the answer was no"), Display(lines=output.lines))
    output.close()
    click.echo(questions.UNTOUCHED, err=True)
    return code


async def _is_agreed(
    fleet: Fleet, output: Display, stop: Stop, plan: Plan, lines: Sequence[str], *names: HostName
) -> bool:
    import click

    from fleet.diff import brief
    from fleet.errors import StoppedError
    from fleet.output.format import counted

    hosts = names or plan.hosts
    output.wait_for("compare what runs with what is planned", hosts=hosts)
    try:
        found = await stop.unless(fleet.compare(plan, *hosts))
        output.wait_for("")
        with output.paused():
            diff = brief(found, is_terminal=output.is_terminal)
            click.echo("\n".join([*lines, *([""] if diff else []), *diff]), err=True)
            output.plan_shown()
            return await questions.agreed(f"Change {counted(len(hosts), 'host')}?", stop)
    except StoppedError:
        return True


async def follow_to_end(run: Run, output: Display) -> int:
    """Follow a run to its end, and return its exit code."""
    await follow(run, output)
    done = await run
    if done.unrecorded:
        with output.paused():
            session.warn(f"{done.unrecorded}; fleet resume knows less")
    warn_of(run.untold, output)
    return done.exit_code


def warn_of(untold: Iterable[str], output: Display) -> None:
    """Say on stderr who could not be told how a run has ended."""
    for line in untold:
        with output.paused():
            session.warn(line)


async def follow(work: Planning | Run, output: Display, view: PlanView | None = None) -> None:
    """Show every event of the work, to its end."""
    output.wait_for_hosts(lambda: work.contacted)
    with contextlib.ExitStack() as stack:
        async for envelope in work.envelopes():
            if view is not None:
                view.note(envelope.event)
            output(envelope)
            if isinstance(envelope.event, RunFinished):  # nothing moves any more
                late = asyncio.get_running_loop().call_later(QUIET, output.say, LEFT)
                stack.callback(late.cancel)
    output.wait_for("")
