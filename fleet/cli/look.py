"""`fleet status`, `fleet health` and `fleet generations`: they change nothing."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING, Any

import click

from fleet.cli import options, session
from fleet.errors import FleetError
from fleet.text import local_time

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from fleet.host.answers import Generation
    from fleet.host.facts import HostFacts
    from fleet.model import HostName


@click.command()
@options.reads
def status(selectors: tuple[str, ...], file: Path | None, *, as_json: bool, everything: bool) -> int:
    """Tell what each host runs, keeps and boots, and whether a transaction is open there.

    What a reboot or a crash had left open on a host is settled by this very contact. The exit code is 1 when a host
    cannot be reached or has units that failed.

    \b
    fleet status
    fleet status gpu-01 --json
    """
    from fleet.library import documents

    inventory = session.open_inventory(file)
    hosts = session.choose_or_all(inventory, selectors, everything=everything)
    fleet = session.fleet(inventory, hosts)
    with session.asking("status", as_json=as_json) as wait_for:
        answers = asyncio.run(fleet.status(*(host.name for host in hosts), on_wait=wait_for))
    document = documents.status(answers)
    if as_json:
        click.echo(json.dumps(document))
    else:
        _print_status(answers)
    return 0 if all(row["reachable"] and not row["failed_units"] for row in document["hosts"]) else 1


def _print_status(answers: Mapping[HostName, HostFacts | FleetError]) -> None:
    from fleet.output.format import short_name
    from fleet.output.table import table

    rows = []
    for name, answer in answers.items():
        if isinstance(answer, FleetError):
            rows.append((name, answer.kind.value, "-", "-", answer.message))
            continue
        rows.append((
            name,
            short_name(answer.running, name),
            answer.generation or "-",
            _boots(answer, name),
            "; ".join(_remarks(answer)) or "-",
        ))  # fmt: skip
    headers = ("host", "running", "generation", "boots next", "remarks")
    click.echo(table(headers, rows, is_terminal=sys.stdout.isatty()))
    session.tell_errors(answers)


def _boots(facts: HostFacts, host: HostName) -> str:
    from fleet.output.format import short_name

    if facts.boot_default is None:
        return "unverified"
    return "the same" if facts.boot_default == facts.running else short_name(facts.boot_default, host)


def _remarks(facts: HostFacts) -> list[str]:
    from fleet.host.answers import State

    remarks = []
    if facts.transaction is not None:
        left = facts.transaction.closes_in
        when = f"closes in {left} s" if left >= 0 else f"its deadline passed {-left} s ago"
        remarks.append(f"open: {facts.transaction}, {when}")
    if facts.profile != facts.running:
        remarks.append("the profile names another system")
    if facts.reboot_pending:
        remarks.append(f"reboot pending: {', '.join(facts.reboot_pending)}")
    if facts.failed_units:
        remarks.append(f"failed: {', '.join(facts.failed_units)}")
    if facts.last is not None and facts.last.state in (State.REVERTED, State.STUCK, State.SUPERSEDED):
        remarks.append(f"last run {facts.last.state}: {facts.last.reason or facts.last.run}")
    if facts.quarantined:
        remarks.append(f"{len(facts.quarantined)} quarantined")
    return remarks


@click.command()
@options.reads
def health(selectors: tuple[str, ...], file: Path | None, *, as_json: bool, everything: bool) -> int:
    """Ask the declared checks of each host once, and list its failed units.

    \b
    fleet health @prod
    """
    from fleet.library import documents

    inventory = session.open_inventory(file)
    hosts = session.choose_or_all(inventory, selectors, everything=everything)
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
