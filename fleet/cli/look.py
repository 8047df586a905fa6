"""`fleet health` and `fleet generations`: they change nothing."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import click

from fleet.cli import options, session
from fleet.errors import FleetError
from fleet.text import local_time

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from fleet.host.answers import Generation
    from fleet.inventory import Host, Inventory
    from fleet.model import HostName


@click.command()
@options.reads
def health(selectors: tuple[str, ...], file: Path | None, *, as_json: bool, everything: bool) -> int:
    """Ask the declared checks of each host once, and list its failed units.

    \b
    fleet health @prod
    """
    inventory = session.open_inventory(file)
    return ask_health(inventory, session.choose_or_all(inventory, selectors, everything=everything), as_json=as_json)


def ask_health(inventory: Inventory, hosts: Sequence[Host], *, as_json: bool) -> int:
    """Print how these hosts are, and return the exit code."""
    from fleet.library import documents

    fleet = session.fleet(inventory, hosts)
    with session.asking("health", as_json=as_json) as wait_for:
        answers = asyncio.run(fleet.health(*(host.name for host in hosts), on_wait=wait_for))
    document = documents.health(answers)
    if as_json:
        click.echo(json.dumps(document))
    else:
        for row in document["hosts"]:
            _print_health(row)
        session.tell_errors(answers)
    return 0 if all(row["healthy"] for row in document["hosts"]) else 1


def _print_health(row: dict[str, Any]) -> None:
    healthy = "healthy" if row["checks"] else "healthy, as far as systemd knows: it has no checks"
    click.echo(f"{row['name']}: {healthy if row['healthy'] else 'not healthy'}")
    for answer in row["checks"]:
        click.echo(f"  {'pass' if answer['passed'] else 'FAIL'}  {answer['check']}: {answer['said']}")
    for unit in row["failed_units"]:
        click.echo(f"  FAIL  {unit} has failed")


@click.command()
@options.reads
def generations(selectors: tuple[str, ...], file: Path | None, *, as_json: bool, everything: bool) -> int:
    """List the generations of each host, and where a rollback would go.

    \b
    fleet generations pi-edge
    """
    from fleet.library import documents

    inventory = session.open_inventory(file)
    hosts = session.choose_or_all(inventory, selectors, everything=everything)
    fleet = session.fleet(inventory, hosts)
    with session.asking("generations", as_json=as_json) as wait_for:
        answers = asyncio.run(fleet.generations(*(host.name for host in hosts), on_wait=wait_for))
    if as_json:
        click.echo(json.dumps(documents.generations(answers)))
    else:
        for name, answer in answers.items():
            if not isinstance(answer, FleetError):
                _print_generations(name, answer)
        session.tell_errors(answers)
    return 1 if any(isinstance(answer, FleetError) for answer in answers.values()) else 0


def _print_generations(host: HostName, generations: tuple[Generation, ...]) -> None:
    click.echo(f"{host}:")
    for generation in generations:
        marks = [word for word in ("current", "running", "previous") if getattr(generation, word)]
        created = local_time(generation.created)
        line = f"  {generation.number:>4}  {created}  {generation.closure}"
        click.echo(line + (f"  ({', '.join(marks)})" if marks else ""))
