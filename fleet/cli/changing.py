"""Commands that change hosts: plan, ask, apply, with progress, summary and exit code."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from typing import TYPE_CHECKING, Any

from fleet.cli import session
from fleet.cli.interrupts import interrupts
from fleet.errors import FleetError
from fleet.events import FindingReported, HostPlanned

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    from fleet import Fleet, Run, Stop
    from fleet.deploy.options import Options
    from fleet.events import Event
    from fleet.inventory import Host
    from fleet.library.work import Work
    from fleet.output import Display


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


def change(
    options: Options, selectors: Sequence[str], *, everything: bool, file: Path | None, as_json: bool, yes: bool
) -> int:
    """Plan and apply what was asked, and return the exit code. Raise what refuses the command as a whole."""
    inventory = session.open_inventory(file)
    hosts = session.choose(inventory, selectors, everything=everything)
    if options.switches:
        session.require_consent(len(hosts), yes=yes)
    asks = options.switches and len(hosts) > 1 and not yes

    async def act(fleet: Fleet, output: Display, stop: Stop) -> int:
        return await _plan_and_apply(fleet, output, stop, hosts, options, asks=asks)

    return carry_out(session.fleet(inventory, hosts), act, as_json=as_json)


def carry_out(fleet: Fleet, act: Callable[[Fleet, Display, Stop], Awaitable[int]], *, as_json: bool) -> int:
    """Run something that changes hosts, with output for people or scripts and with Ctrl-C. Return its exit code."""
    from fleet.output import open_display

    async def work() -> int:
        terminal = sys.stderr.isatty()
        with open_display(json=as_json, stdout=sys.stdout, stderr=sys.stderr, is_terminal=terminal) as output:
            async with fleet:
                with interrupts() as stop:
                    return await act(fleet, output, stop)

    return asyncio.run(work())


async def _plan_and_apply(
    fleet: Fleet, output: Display, stop: Stop, hosts: Sequence[Host], options: Options, *, asks: bool
) -> int:
    view = PlanView()
    planning = fleet.plan_as(hosts, options, stop=stop)
    await follow(planning, output, view)
    try:
        plan = await planning
    except FleetError:  # the last event has reported it
        return planning.exit_code
    if (
        asks
        and plan.parts
        and not await agreed(output, view.lines(is_terminal=sys.stderr.isatty()), len(plan.parts), stop)
    ):
        run = fleet.decline(plan, "not begun: the answer was no")
    else:
        run = fleet.apply(plan, stop=stop)
    return await follow_to_end(run, output)


async def follow_to_end(run: Run, output: Display) -> int:
    """Follow a run to its end, and return its exit code."""
    await follow(run, output)
    done = await run
    if done.unrecorded:
        import click

        with output.paused(), contextlib.suppress(OSError):  # stderr may be gone as well
            click.echo(f"warning: {done.unrecorded}; fleet resume knows less", err=True)
    return done.exit_code


async def follow(work: Work[Any], output: Display, view: PlanView | None = None) -> None:
    """Show every event of the work, to its end."""
    async for envelope in work.envelopes():
        if view is not None:
            view.note(envelope.event)
        output(envelope)


async def agreed(output: Display, lines: Sequence[str], count: int, stop: Stop) -> bool:
    """Ask whether to carry out the plan.

    Return True as well if the answer is a request to stop: the run acts on that.
    """
    import click

    from fleet.errors import StoppedError
    from fleet.output.format import counted

    with output.paused():
        click.echo("\n".join(lines), err=True)
        while True:
            click.echo(f"\nChange {counted(count, 'host')}? [y/N]: ", err=True, nl=False)
            try:
                answer = (await stop.unless(_line())).strip().lower()
            except StoppedError:
                return True
            if answer in ("", "y", "yes", "n", "no"):
                return answer.startswith("y")


async def _line() -> str:
    """Return a line that a person types; empty at the end of input. Not in a thread, which Ctrl-C could not end."""
    loop = asyncio.get_running_loop()
    typed: asyncio.Future[str] = loop.create_future()

    def read() -> None:
        if not typed.done():
            typed.set_result(sys.stdin.readline())

    loop.add_reader(sys.stdin, read)
    try:
        return await typed
    finally:
        loop.remove_reader(sys.stdin)
