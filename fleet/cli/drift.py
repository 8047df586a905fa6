"""`fleet drift`: what is on hosts that nobody declared."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING

import click

from fleet.cli import options, session

if TYPE_CHECKING:
    from pathlib import Path


@click.command()
@options.reads
@click.option("--accept", is_flag=True, help="From now on, what is there is no drift. Nothing is changed on the hosts.")
def drift(selectors: tuple[str, ...], file: Path | None, *, as_json: bool, everything: bool, accept: bool) -> int:
    """Find what nobody declared on each host, and what is not as it was deployed. Changes nothing there.

    system: it runs something else. reboot: one is due. store: contents of store paths have changed, as far as a
    sample tells. packages: what was installed by hand. files: files in /etc, and units. access: listeners, SSH keys,
    accounts and timers.

    Of NixOS its closure declares all. Elsewhere what the first deployment has found is no drift, nor what was accepted
    since. ignore_drift in fleet.toml leaves things out. The exit code is 1 when something was found.

    \b
    fleet drift
    fleet drift gpu-01 --json
    fleet drift gpu-01 --accept
    """
    from fleet.drift import drift_json, drift_lines
    from fleet.errors import FleetError

    inventory = session.open_inventory(file)
    hosts = session.choose_computers(inventory, selectors, everything=everything or not selectors)
    fleet = session.fleet(inventory, hosts)
    with session.asking("drift", as_json=as_json) as wait_for:
        answers = asyncio.run(fleet.drift(*(host.name for host in hosts), accept=accept, on_wait=wait_for))
    if as_json:
        click.echo(json.dumps(drift_json(answers)))
    else:
        click.echo("\n".join(drift_lines(answers, is_terminal=sys.stdout.isatty())))
        session.tell_errors(answers)
    return 1 if any(isinstance(answer, FleetError) or answer.findings for answer in answers.values()) else 0
