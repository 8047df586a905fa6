"""Running what changes hosts: output, the run's folder, the question, and the exit code."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fleet.cli import session
from fleet.events import FindingReported, HostPlanned, RunFinished, fan_out

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from fleet.deploy.prepare import Prepared
    from fleet.deploy.request import Request
    from fleet.events import Emit, Event
    from fleet.inventory import Host, Inventory
    from fleet.machine.login import Logins
    from fleet.output import Output


@dataclass
class Planned:
    """Subscriber that remembers the plan, to show it before the question."""

    hosts: list[HostPlanned] = field(default_factory=list)
    findings: list[FindingReported] = field(default_factory=list)

    def __call__(self, event: Event) -> None:
        if isinstance(event, HostPlanned):
            self.hosts.append(event)
        elif isinstance(event, FindingReported):
            self.findings.append(event)

    def lines(self, *, is_terminal: bool) -> list[str]:
        """The plan as people read it."""
        from fleet.output.summary import plan_lines

        numbers = sorted({host.wave for host in self.hosts} - {0})
        waves = [[host.host for host in self.hosts if host.wave == number] for number in numbers]
        return plan_lines(self.hosts, waves, self.findings, is_terminal=is_terminal)


def change(
    request: Request, *, selectors: Sequence[str], everything: bool, file: Path | None, as_json: bool, yes: bool
) -> int:
    """The request has been carried out as far as it could be. Returns the exit code; what is refused is raised."""
    from fleet.output import open_output

    inventory = session.open_inventory(file)
    hosts = session.choose(inventory, selectors, everything=everything)
    may_ask = request.switches
    if may_ask:
        session.require_consent(hosts, yes=yes)
    logins = session.logins(inventory, hosts)
    terminal = sys.stderr.isatty()
    with open_output(json=as_json, stdout=sys.stdout, stderr=sys.stderr, is_terminal=terminal) as output:
        return _carry_out(request, inventory, hosts, logins, output, asks=may_ask and len(hosts) > 1 and not yes)


def _carry_out(
    request: Request, inventory: Inventory, hosts: Sequence[Host], logins: Logins, output: Output, *, asks: bool
) -> int:
    from fleet import runs
    from fleet.deploy.past import is_open
    from fleet.deploy.request import Run, new_run_id
    from fleet.deploy.run import execute
    from fleet.deploy.speeds import Speeds
    from fleet.files import state_folder
    from fleet.machine.local import LocalMachine
    from fleet.output.jsonl import JsonLines

    run_id = new_run_id()
    state = state_folder(inventory.name)
    folder = runs.new_run_folder(state, run_id, is_open=is_open)
    record = runs.open_record(folder)
    planned = Planned()

    async def agree(prepared: Prepared) -> bool:
        return not asks or await _ask(output, planned, len(prepared.plans))

    with record:
        lines = JsonLines(record)
        emit: Emit = fan_out(deaf_at_the_end, lines, planned, output)
        run = Run(
            id=run_id,
            request=request,
            inventory=inventory,
            logins=logins,
            here=LocalMachine(),
            emit=emit,
            folder=folder,
            speed_of=Speeds(state).of,
        )
        code = asyncio.run(execute(run, hosts, agree=agree))
    tell_of_gaps(lines.error, folder, output)
    return code


def tell_of_gaps(error: OSError | None, folder: Path, output: Output) -> None:
    """What this machine remembers of the run is less than what happened: people have been warned."""
    import click

    if error is not None:
        with output.paused(), contextlib.suppress(OSError):  # stderr may be gone as well
            why = error.strerror or error
            click.echo(f"warning: {folder}/events.jsonl is not complete: {why}; fleet resume knows less", err=True)


def deaf_at_the_end(event: Event) -> None:
    """A Ctrl-C that comes when everything has been told must not tell another end."""
    if isinstance(event, RunFinished):
        signal.signal(signal.SIGINT, signal.SIG_IGN)


async def _ask(output: Output, planned: Planned, count: int) -> bool:
    import click

    from fleet.output.format import counted

    with output.paused():
        click.echo("\n".join(planned.lines(is_terminal=sys.stderr.isatty())), err=True)
        while True:
            click.echo(f"\nChange {counted(count, 'host')}? [y/N]: ", err=True, nl=False)
            answer = (await _line()).strip().lower()
            if answer in ("", "y", "yes", "n", "no"):
                return answer.startswith("y")


async def _line() -> str:
    """What a person types, empty at the end of input. Not in a thread: Ctrl-C could not end that."""
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
