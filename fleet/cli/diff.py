"""`fleet diff`: what a deployment would change."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fleet.cli import options, session

if TYPE_CHECKING:
    from fleet.diff import SystemDiff
    from fleet.inventory import Host
    from fleet.machine.link import Link


@click.command()
@options.reads
@options.closure
@options.no_eval_cache
def diff(
    selectors: tuple[str, ...], file: Path | None, closure: str | None, *, as_json: bool, no_eval_cache: bool
) -> int:
    """Compare what each host runs with what would be deployed. Nothing is pushed.

    \b
    fleet diff gpu-01
    fleet diff --json | jq '.hosts[].packages'
    """
    from fleet.cli.reading import ask_all, tell_errors
    from fleet.deploy.target import closures_of, given
    from fleet.diff import diff_json, fold, read_diff
    from fleet.errors import FleetError
    from fleet.machine.local import LocalMachine
    from fleet.model import Closure
    from fleet.output import open_output
    from fleet.source import evaluations
    from fleet.steps.preflight import preflight

    inventory = session.open_inventory(file)
    hosts = session.choose_or_all(inventory, selectors)
    logins = session.logins(inventory, hosts)
    cache = None if no_eval_cache else evaluations.users_own()
    terminal = sys.stderr.isatty()
    with tempfile.TemporaryDirectory(prefix="fleet-diff-") as folder:
        if closure is not None:
            wanted = dict.fromkeys((host.name for host in hosts), asyncio.run(given(LocalMachine(), Closure(closure))))
        else:
            with open_output(json=False, stdout=sys.stdout, stderr=sys.stderr, is_terminal=terminal) as output:
                wanted = asyncio.run(
                    closures_of(LocalMachine(), inventory.flake, hosts, folder=Path(folder), cache=cache, emit=output)
                )

        async def ask(host: Host, link: Link) -> SystemDiff:
            facts = await preflight(link, host)
            return await read_diff(link, facts.running, LocalMachine(), wanted[host.name])

        answers = ask_all(logins, hosts, ask)
    found = {host.name: answer for host, answer in answers if not isinstance(answer, FleetError)}
    if as_json:
        click.echo(json.dumps(diff_json(found)))
    elif found:
        click.echo("\n".join(fold(found, is_terminal=sys.stdout.isatty())))
    return 1 if tell_errors(answers) else 0
