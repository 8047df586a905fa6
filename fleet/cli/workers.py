"""`fleet worker` and `fleet workers`: carry out runs for others, and tell who does."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import TYPE_CHECKING, Any

import click

from fleet.cli import options, session

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from fleet import Fleet
    from fleet.state.workers import WorkerRecord

NAMED = 3
"""Hosts of a worker that are named in a table."""


@click.command()
@click.option(
    "--site", metavar="SITE", default="", help="Take hosts with this site in fleet.toml. Default: of no site."
)
@click.option(
    "--at-once", "places", type=click.IntRange(1, 1000), default=64, show_default=True, help="Hosts at a time, at most."
)
@click.option(
    "--trust-database",
    is_flag=True,
    help="Apply whatever plan is in the database. Needed where there is no principals.toml.",
)
@options.file
def worker(site: str, places: int, file: Path | None, *, trust_database: bool) -> int:
    """Carry out runs of fleet deploy --workers, together with other workers on any machine, until asked to stop.

    Ctrl-C and SIGTERM let it take nothing new and see through what has begun; a second one leaves the rest to others.
    Where there is a principals.toml, it applies only plans that their authors have signed.

    \b
    fleet worker
    fleet worker --site fra --at-once 16
    """
    from fleet.inventory import working

    try:
        working.site(site)
    except ValueError as error:
        raise click.UsageError(f"--site: {error}") from None
    inventory = session.open_inventory(file)
    hosts = list(inventory.hosts.values()) if session.has_password() else []
    known = {host.site for host in inventory.hosts.values()}
    if site not in known:
        click.echo(f"warning: no host of {inventory.path} has the site {site!r}", err=True)
    fleet = session.fleet(inventory, hosts)
    return asyncio.run(_work(fleet, site=site, places=places, trust_database=trust_database))


async def _work(fleet: Fleet, **asked: Any) -> int:
    from fleet.cli.interrupts import interrupts
    from fleet.errors import INTERRUPTED, BugError, FleetError

    async with fleet:
        with interrupts() as stop:
            worker = fleet.workers.work(tell=lambda line: click.echo(line, err=True), **asked)
            try:
                is_over = await worker.go_on(stop)
            except FleetError:
                raise
            except Exception as error:
                click.echo(f"fleet: {BugError.of(error).message}", err=True)
                os._exit(1)
            if stop.is_insisted:
                click.echo("fleet: leaves at once: others see the hosts through that have begun", err=True)
            if not is_over:  # whoever is cancelled here would give hosts up that others take
                os._exit(INTERRUPTED if stop.is_insisted else 0)
    return 0


@click.command()
@options.file
@options.as_json
def workers(file: Path | None, *, as_json: bool) -> int:
    """Tell which workers live, and what they do.

    \b
    fleet workers
    """
    fleet = session.fleet(session.open_inventory(file), ())
    found = asyncio.run(fleet.workers.all())
    if as_json:
        click.echo(json.dumps([_document(one) for one in found]))
        return 0
    if not found:
        click.echo("no worker lives; fleet worker is one", err=True)
        return 0
    from fleet.output.table import table

    heads = ("worker", "site", "state", "hosts", "since", "what it does")
    click.echo(table(heads, [_row(one) for one in found], is_terminal=sys.stdout.isatty()))
    return 0


def _row(one: WorkerRecord) -> Sequence[str]:
    from fleet.text import local_time

    doing = [f"{host} ({step})" for _, host, step in one.doing]
    more = f" and {len(doing) - NAMED} more" if len(doing) > NAMED else ""
    return (
        one.name,
        one.site or "-",
        _state(one),
        f"{len(doing)} of {one.places}",
        local_time(one.since),
        ", ".join(doing[:NAMED]) + more if doing else "-",
    )


def _state(one: WorkerRecord) -> str:
    if not one.lives:
        return "lost"
    return "leaving" if one.is_leaving else "working"


def _document(one: WorkerRecord) -> dict[str, Any]:
    return {
        "name": one.name,
        "site": one.site,
        "machine": one.origin,
        "process": one.process,
        "state": _state(one),
        "at_once": one.places,
        "since": one.since,
        "doing": [{"run": run, "host": host, "step": step.value} for run, host, step in one.doing],
    }
