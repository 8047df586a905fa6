"""`fleet history` and `fleet changes`: what has happened on each host, as the host itself remembers it."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING

import click

from fleet.cli import options, session

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from fleet import Changes, FleetError, PastTransaction
    from fleet.model import HostName

HEADERS = ("host", "ended", "run", "by", "system", "revision", "outcome", "why")
KEPT = 100
"""How many transactions a host remembers."""


@click.command()
@options.reads
@click.option(
    "--lines",
    "-n",
    type=click.IntRange(1, KEPT),
    default=10,
    show_default=True,
    metavar="N",
    help="The last N of each host.",
)
def history(selectors: tuple[str, ...], file: Path | None, *, as_json: bool, everything: bool, lines: int) -> int:
    """List the last deployments, rollbacks and reboots of each host, newest first.

    Hosts remember their last 100: from any machine, and with services.fleet.guard also switches by hand. fleet runs
    lists what this machine has done. The exit code is 1 when a host cannot be asked.

    \b
    fleet history
    fleet history gpu-01 -n 100
    """
    from fleet.errors import FleetError
    from fleet.library import documents

    inventory = session.open_inventory(file)
    hosts = session.choose_or_all(inventory, selectors, everything=everything)
    fleet = session.fleet(inventory, hosts)
    with session.asking("history", as_json=as_json) as wait_for:
        answers = asyncio.run(fleet.history(*(host.name for host in hosts), on_wait=wait_for))
    if as_json:
        click.echo(json.dumps(documents.history(answers, most=lines)))
    else:
        _print(answers, lines)
    return 1 if any(isinstance(answer, FleetError) for answer in answers.values()) else 0


@click.command()
@options.reads
@click.option("--since", metavar="CURSOR", default="", help="What fleet changes has printed the last time.")
def changes(selectors: tuple[str, ...], file: Path | None, *, as_json: bool, everything: bool, since: str) -> int:
    """Tell what has happened on hosts since you looked last, whoever did it, and from any machine.

    Without --since it prints a cursor alone, which stands for now. What comes after that is told with --since, oldest
    first, and a new cursor after it. The exit code is 1 when a host cannot be asked: of that the next call tells.

    \b
    fleet changes
    fleet changes --since "$CURSOR"
    """
    from fleet.errors import FleetError
    from fleet.library import documents

    inventory = session.open_inventory(file)
    hosts = session.choose_or_all(inventory, selectors, everything=everything)
    fleet = session.fleet(inventory, hosts)
    with session.asking("changes", as_json=as_json) as wait_for:
        found = asyncio.run(fleet.changes(*(host.name for host in hosts), since=since, on_wait=wait_for))
    if as_json:
        click.echo(json.dumps(documents.changes(found)))
    else:
        _print_changes(found, is_asked=bool(since))
    return 1 if any(isinstance(answer, FleetError) for answer in found.hosts.values()) else 0


def _print_changes(found: Changes, *, is_asked: bool) -> None:
    from fleet.errors import FleetError
    from fleet.output.table import table

    known = {name: answer for name, answer in found.hosts.items() if not isinstance(answer, FleetError)}
    entries = [(name, entry) for name, answer in known.items() for entry in answer.transactions]
    rows = [_row(name, entry) for name, entry in sorted(entries, key=lambda one: one[1].ended)]
    if rows:
        click.echo(table(HEADERS, rows, is_terminal=sys.stdout.isatty()))
    elif is_asked:
        click.echo("nothing has happened", err=True)
    for name, answer in known.items():
        if not answer.is_complete:
            click.echo(f"{name}: more has happened than it remembers, or it was set up anew", err=True)
    session.tell_errors(found.hosts)
    click.echo(found.cursor)


def _print(answers: Mapping[HostName, tuple[PastTransaction, ...] | FleetError], most: int) -> None:
    from fleet.errors import FleetError
    from fleet.output.table import table

    found = {name: answer for name, answer in answers.items() if not isinstance(answer, FleetError)}
    entries = [(name, entry) for name, answer in found.items() for entry in answer[-most:]]
    rows = [_row(name, entry) for name, entry in sorted(entries, key=lambda one: one[1].ended, reverse=True)]
    if rows:
        click.echo(table(HEADERS, rows, is_terminal=sys.stdout.isatty()))
    for name, answer in found.items():
        if not answer:
            click.echo(f"{name}: remembers no transaction", err=True)
    session.tell_errors(answers)


def _row(name: HostName, entry: PastTransaction) -> tuple[str, ...]:
    from fleet.output.facts import ended_words
    from fleet.output.format import change
    from fleet.text import local_time

    return (
        name,
        local_time(entry.ended),
        entry.run,
        f"{entry.by}@{entry.origin}" if entry.origin else entry.by or "-",
        change(entry.old, entry.new, name),
        _short(entry.revision) or "-",
        ended_words(entry.state),
        "; ".join(text for text in (entry.intent, entry.reason) if text) or "-",
    )


def _short(revision: str) -> str:
    commit, _, dirty = revision.partition("-")
    return f"{commit[:7]}{'-' * bool(dirty)}{dirty}"
