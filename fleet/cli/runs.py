"""`fleet runs` and `fleet resume`: what became of runs, also of those whose controller was lost."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from typing import TYPE_CHECKING

import click

from fleet import runs as state
from fleet.cli import options, session
from fleet.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from fleet.deploy.past import PastRun


@click.command()
@options.file
@options.as_json
def runs(file: Path | None, *, as_json: bool) -> int:
    """List the runs of this fleet that this machine remembers, newest first.

    \b
    fleet runs
    """
    from fleet.deploy.past import past_runs
    from fleet.files import state_folder
    from fleet.output.table import table

    inventory = session.open_inventory(file)
    found = past_runs(state_folder(inventory.name))
    if as_json:
        click.echo(json.dumps({"runs": [_document(run) for run in found]}))
        return 0
    rows = [(run.id, run.verb, _state(run), _hosts(run)) for run in found]
    click.echo(table(("run", "command", "ended", "hosts"), rows, is_terminal=sys.stdout.isatty()))
    return 0


def _document(run: PastRun) -> dict[str, object]:
    hosts = [
        {"name": host.name, "outcome": host.result.outcome.value if host.result else None, "settled": host.is_settled}
        for host in run.hosts.values()
    ]
    is_under_way = state.is_under_way(run.folder)
    return {
        "run": run.id,
        "verb": run.verb,
        "under_way": is_under_way,
        "open": run.is_open and not is_under_way,
        "exit_code": run.exit_code,
        "hosts": hosts,
    }


def _state(run: PastRun) -> str:
    if state.is_under_way(run.folder):
        return "under way"
    if run.is_open:
        return "open: fleet resume"
    if not run.is_readable:
        return f"cannot be read: fleet resume {run.id}"
    return "cut short" if run.exit_code is None else f"exit code {run.exit_code}"


def _hosts(run: PastRun) -> str:
    outcomes = Counter(host.result.outcome.value if host.result else "unknown" for host in run.hosts.values())
    return ", ".join(f"{count} {outcome.replace('_', ' ')}" for outcome, count in outcomes.items())


@click.command()
@click.argument("run_id", metavar="[RUN]", required=False)
@options.file
@options.as_json
def resume(run_id: str | None, file: Path | None, *, as_json: bool) -> int:
    """Learn what became of a run whose controller was lost, and see it through. Default: the newest open one.

    Nothing is evaluated, built or begun: a host that still switches is followed, one that waits is proven and told to
    keep the new system or to go back, one that has decided alone is asked what it did. Of a run that cannot be read
    here any more, all hosts are asked.

    \b
    fleet resume
    fleet resume 20261120T042211-3fa9c1
    """
    from fleet.cli.changing import deaf_at_the_end, tell_of_gaps
    from fleet.deploy.past import past_runs
    from fleet.deploy.request import Request, Run
    from fleet.deploy.resume import resume as take_up
    from fleet.events import fan_out
    from fleet.files import state_folder
    from fleet.machine.local import LocalMachine
    from fleet.output import open_output
    from fleet.output.jsonl import JsonLines

    inventory = session.open_inventory(file)
    past = _chosen(past_runs(state_folder(inventory.name)), run_id)
    concerned = [host for name, host in inventory.hosts.items() if name in past.hosts or not past.is_readable]
    logins = session.logins(inventory, concerned)
    terminal = sys.stderr.isatty()
    with (
        state.taken_up(past.folder) as record,
        open_output(json=as_json, stdout=sys.stdout, stderr=sys.stderr, is_terminal=terminal) as output,
    ):
        lines = JsonLines(record)
        run = Run(
            id=past.id,
            request=Request(verb=past.verb or "deploy", goal=past.goal, watch=past.watch, strict=past.strict),
            inventory=inventory,
            logins=logins,
            here=LocalMachine(),
            emit=fan_out(deaf_at_the_end, lines, output),
            folder=past.folder,
        )
        code = asyncio.run(take_up(run, past))
        tell_of_gaps(lines.error, past.folder, output)
        return code


def _chosen(found: list[PastRun], run_id: str | None) -> PastRun:
    if run_id is not None:
        for run in found:
            if run.id == run_id:
                return run
        raise ConfigError(f"there is no run {run_id} in this machine's memory", hint="fleet runs lists what there is")
    busy = [run for run in found if state.is_under_way(run.folder)]
    left = [run for run in found if run not in busy]
    for run in (*(run for run in left if run.is_open), *(run for run in left if not run.is_readable)):
        return run
    still = f" but what is still under way in another process: {', '.join(run.id for run in busy)}" if busy else ""
    what = f"no run is open{still}"
    raise ConfigError(what, hint="fleet runs lists them; fleet status tells what each host runs")
