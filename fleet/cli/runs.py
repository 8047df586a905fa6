"""`fleet runs` and `fleet resume`: what became of runs, even of those whose controller was lost."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections import Counter
from typing import TYPE_CHECKING

import click

from fleet.cli import options, session
from fleet.cli.reporting import Reporting
from fleet.errors import StateError

if TYPE_CHECKING:
    from pathlib import Path

    from fleet import Fleet, Stop
    from fleet.model import HostName
    from fleet.output import Display
    from fleet.state import HostRecord, RunRecord


@click.group(invoke_without_command=True, subcommand_metavar="[show RUN [HOST] | import]")
@options.file
@options.as_json
@click.pass_context
def runs(context: click.Context, file: Path | None, *, as_json: bool) -> int:
    """List the runs of this fleet that this machine remembers, newest first.

    \b
    fleet runs
    fleet runs show 20261120T042211-3fa9c1d2
    """
    if context.invoked_subcommand is not None:
        return 0
    from fleet.library import documents
    from fleet.output.table import table

    fleet = session.fleet(session.open_inventory(file), ())
    found = asyncio.run(fleet.runs())
    session.tell_unread(fleet)
    if as_json:
        click.echo(json.dumps(documents.runs(found)))
        return 0
    rows = [
        (run.id, run.verb, _state(fleet, run, is_under_way=is_under_way), _hosts(run, is_under_way=is_under_way))
        for run, is_under_way in found
    ]
    click.echo(table(("run", "command", "ended", "hosts"), rows, is_terminal=sys.stdout.isatty()))
    return 0


def _state(fleet: Fleet, run: RunRecord, *, is_under_way: bool) -> str:
    if is_under_way:
        request = None
        with contextlib.suppress(StateError):  # what is asked of a run is in the database alone
            request = asyncio.run(fleet.asked(run.id))
        return "under way" if request is None else f"under way: {request.asked.value} asked by {request.by}"
    waits = run.plan is not None and run.exit_code is None and any(not host.begun for host in run.hosts.values())
    if run.is_open:
        return "open: fleet resume, or fleet rollout continue" if waits else "open: fleet resume"
    if not run.is_readable:
        return f"cannot be read: fleet resume {run.id}"
    if run.exit_code is not None:
        return f"exit code {run.exit_code}"
    return "cut short: fleet rollout continue" if waits else "cut short"


def _hosts(run: RunRecord, *, is_under_way: bool) -> str:
    def words(host: HostRecord) -> str:
        if host.result is not None:
            return host.result.outcome.value.replace("_", " ")
        if host.begun:
            return "under way" if is_under_way else "unknown"
        return "waiting" if is_under_way else "not begun"

    return ", ".join(f"{count} {ended}" for ended, count in Counter(map(words, run.hosts.values())).items())


@runs.command("show")
@click.argument("run_id", metavar="RUN", shell_complete=options.completes("run"))
@click.argument("host", metavar="[HOST]", required=False, shell_complete=options.completes("host"))
@options.file
@options.as_json
@click.pass_context
def show_run(context: click.Context, run_id: str, host: HostName | None, file: Path | None, *, as_json: bool) -> int:
    """Tell what became of a run; with HOST step by step, with what it was to change there.

    RUN is the id of a run, or its beginning. That is what this machine remembers. The host is asked only for what the
    store here does not have any more of the two systems that are compared.

    \b
    fleet runs show 20261120T042211-3fa9c1d2
    fleet runs show 20261120T042211 gpu-01
    """
    given = context.parent.params if context.parent else {}
    inventory = session.open_inventory(file or given.get("file"))
    asked = [inventory.hosts[host]] if host in inventory.hosts else []
    return asyncio.run(
        _show(session.fleet(inventory, asked), run_id, host, as_json=as_json or bool(given.get("as_json")))
    )


async def _show(fleet: Fleet, run_id: str, host: HostName | None, *, as_json: bool) -> int:
    from fleet.errors import FleetError
    from fleet.library import documents
    from fleet.library.past_lines import host_lines, run_lines

    try:
        past = await fleet.past_run(run_id)
    finally:
        session.tell_unread(fleet)
    diff, error = None, None
    if host is not None:
        past.host(host)
        try:
            with session.asking("what was to change", as_json=as_json) as wait_for:
                wait_for((host,))
                diff = await fleet.past_diff(past, host)
        except FleetError as caught:
            error = caught
    if as_json:
        click.echo(json.dumps(documents.past_run(past, host, diff)))
    else:
        is_terminal = sys.stdout.isatty()
        lines = (
            run_lines(past, is_terminal=is_terminal)
            if host is None
            else host_lines(past, host, diff, is_terminal=is_terminal)
        )
        for line in lines:
            click.echo(line)
    if host is not None and error is not None:
        session.tell_errors({host: error})
    return 0


@runs.command("import")
@options.file
@click.pass_context
def import_(context: click.Context, file: Path | None) -> int:
    """Move runs, plans and the ledger from this machine's file to the database that `[fleet] state` names.

    That is done once, on the machine that has deployed so far. The database must remember nothing of this fleet yet.
    The file is kept as state.db.moved, and nothing uses it any more.

    \b
    fleet runs import
    """
    from fleet.errors import ConfigError
    from fleet.files import state_folder
    from fleet.state.moving import import_state

    given = context.parent.params if context.parent else {}
    inventory = session.open_inventory(file or given.get("file"))
    if inventory.state is None:
        raise ConfigError("fleet.toml names no database", hint='[fleet] state = "postgresql://…": docs/state.md')
    copied = import_state(state_folder(inventory.name), inventory.state)
    told = ", ".join(f"{count} {table}" for table, count in copied.items() if count)
    click.echo(f"moved to {inventory.state}: {told or 'nothing, since there was nothing'}", err=True)
    return 0


@click.command(cls=Reporting)
@click.argument("run_id", metavar="[RUN]", required=False, shell_complete=options.completes("run"))
@options.file
@options.as_json
@options.verbose
def resume(run_id: str | None, file: Path | None, *, as_json: bool, verbose: bool) -> int:
    """Learn what became of a run whose controller was lost, and see it through. Default: the newest open one.

    Nothing is evaluated, built or begun: a host that still switches is followed, one that waits is proven and told to
    keep the new system or to go back, one that has decided alone is asked what it did. Of a run that cannot be read
    here any more, all hosts are asked.

    \b
    fleet resume
    fleet resume 20261120T042211-3fa9c1d2
    """
    from fleet.cli.changing import carry_out, follow_to_end

    inventory = session.open_inventory(file)
    fleet = session.fleet(inventory, ())
    try:
        past = asyncio.run(fleet.open_run(run_id))
    finally:
        session.tell_unread(fleet)
    concerned = [host for name, host in inventory.hosts.items() if name in past.hosts or not past.is_readable]

    async def act(fleet: Fleet, output: Display, stop: Stop) -> int:
        return await follow_to_end(fleet.resume(past, stop=stop), output)

    checks = {host.name: host.checks for host in concerned}
    return carry_out(session.fleet(inventory, concerned), act, as_json=as_json, verbose=verbose, checks=checks)
