"""`fleet who`: who is at work on each host, who waits there, and who was the last."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING

import click

from fleet.cli import options, session

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from fleet import FleetError, HostFacts
    from fleet.model import HostName

HEADERS = ("host", "who", "run", "what", "since", "until", "why")


@click.command()
@options.reads
def who(selectors: tuple[str, ...], file: Path | None, *, as_json: bool, everything: bool) -> int:
    """Tell who is at work on each host now, who waits for a turn there, and who has changed it last.

    Hosts tell it themselves, so from any machine. The exit code is 1 when a host cannot be asked.

    \b
    fleet who
    fleet who gpu-01 --json
    """
    from fleet.errors import FleetError
    from fleet.library import documents
    from fleet.output.table import table

    inventory = session.open_inventory(file)
    hosts = session.choose_or_all(inventory, selectors, everything=everything)
    fleet = session.fleet(inventory, hosts)
    with session.asking("who", as_json=as_json) as wait_for:
        answers = asyncio.run(fleet.status(*(host.name for host in hosts), on_wait=wait_for))
    if as_json:
        click.echo(json.dumps(documents.who(answers)))
    else:
        click.echo(table(HEADERS, list(_rows(answers)), is_terminal=sys.stdout.isatty()))
        session.tell_errors(answers)
    return 1 if any(isinstance(answer, FleetError) for answer in answers.values()) else 0


def _rows(answers: Mapping[HostName, HostFacts | FleetError]) -> Iterator[tuple[str, ...]]:
    from fleet.errors import FleetError
    from fleet.host.tickets import who
    from fleet.output.facts import ended_words
    from fleet.output.format import human_seconds
    from fleet.text import local_time

    for name, facts in answers.items():
        if isinstance(facts, FleetError):
            continue
        if (held := facts.transaction) is not None:
            closes = f"closes by itself in {human_seconds(held.closes_in)}" if held.closes_in >= 0 else "is closing"
            since = local_time(held.since)
            yield name, held.whose, held.run, held.state.value, since, closes, held.intent or "-"
        for place, ticket in enumerate(facts.waiting, 1):
            until = f"gives up in {human_seconds(ticket.waits)}"
            since = local_time(ticket.since)
            yield name, ticket.whose, ticket.run, f"waits, as number {place}", since, until, ticket.intent or "-"
        if (last := facts.last) is not None:
            ended = local_time(last.ended) if last.ended else "-"
            words = f"last: {ended_words(last.state)}"
            yield name, who(last.by, last.origin) or "-", last.run, words, "-", ended, last.intent or "-"
        elif held is None and not facts.waiting:
            yield name, "-", "-", "nobody yet", "-", "-", "-"
