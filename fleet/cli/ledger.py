"""`fleet ledger`: what was planned, approved and done, and whether the record of it is as it was written."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fleet.cli import options, session

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fleet import Fleet
    from fleet.library.ledgers import LedgerReport


@click.group()
def ledger() -> None:
    """Show what was planned and done from this machine, verify that record, or export it.

    Each entry has the hash of the one before, and hosts keep the newest hash that came with their transactions.

    \b
    fleet ledger show
    fleet ledger verify --hosts @prod
    fleet ledger export -o ledger.jsonl
    """


@ledger.command()
@options.file
@options.as_json
@click.option(
    "--lines", "-n", type=click.IntRange(min=1), default=20, show_default=True, metavar="N", help="The last N entries."
)
def show(file: Path | None, *, as_json: bool, lines: int) -> int:
    """List the last entries, newest first.

    \b
    fleet ledger show
    fleet ledger show -n 100
    """
    from fleet.library import ledger_documents
    from fleet.library.ledger_lines import entry_lines

    entries = asyncio.run(session.fleet(session.open_inventory(file), ()).ledger.entries())
    if as_json:
        click.echo(json.dumps(ledger_documents.shown(entries, most=lines)))
    elif entries:
        click.echo(entry_lines(entries[-lines:], is_terminal=sys.stdout.isatty()))
        if len(entries) > lines:
            click.echo(f"and {len(entries) - lines} before these: --lines {len(entries)} shows all", err=True)
    else:
        click.echo("there is no ledger yet: the first deployment from here opens it", err=True)
    return 0


@ledger.command()
@click.argument("export", metavar="[EXPORT]", required=False, type=click.Path(path_type=Path))
@options.file
@options.as_json
@click.option("--hosts", "selectors", metavar="SELECTOR", multiple=True, help="Compare with what these hosts keep.")
@click.option(
    "--plan", "plans", metavar="FILE", multiple=True, type=click.Path(path_type=Path), help="Compare with this plan."
)
def verify(
    export: Path | None, file: Path | None, selectors: tuple[str, ...], plans: tuple[Path, ...], *, as_json: bool
) -> int:
    """Tell the first entry that is wrong, and the runs that never ended. The exit code is 1 if there are any.

    Whoever can write to this machine can write all of its ledger anew: hosts and plans tell. EXPORT is a file of fleet
    ledger export, to verify that instead.

    \b
    fleet ledger verify
    fleet ledger verify --hosts @prod --plan update.plan
    fleet ledger verify ledger.jsonl
    """
    from fleet import selector
    from fleet.library import ledger_documents
    from fleet.library.ledger_lines import report_lines
    from fleet.library.plans import read_plan

    inventory = session.open_inventory(file)
    hosts = selector.select(inventory, selectors) if selectors else ()
    heard = {f"plan {path}": read_plan(path) for path in plans}

    async def find(fleet: Fleet) -> LedgerReport:
        with session.asking("the heads that they keep", as_json=as_json) as wait_for:
            return await fleet.ledger.verify(
                *(host.name for host in hosts), plans=heard, export=export, on_wait=wait_for
            )

    report = asyncio.run(find(session.fleet(inventory, hosts)))
    if as_json:
        click.echo(json.dumps(ledger_documents.verified(report)))
    else:
        _print(report_lines(report))
    session.tell_errors(report.not_asked)
    return 0 if report.is_good else 1


@ledger.command()
@options.file
@options.as_json
@click.option("--output", "-o", "target", type=options.output_file, metavar="FILE", help="Write it here.")
def export(file: Path | None, target: Path | None, *, as_json: bool) -> int:  # noqa: ARG001 - lines of JSON anyway
    """Write all entries, each as a line of JSON. sha256sum and jq can verify them: docs/ledger.md.

    \b
    fleet ledger export -o ledger.jsonl
    """
    from fleet.errors import ConfigError
    from fleet.files import replace_file
    from fleet.text import plain_text

    entries = asyncio.run(session.fleet(session.open_inventory(file), ()).ledger.entries())
    text = "".join(f"{line}\n" for _, line in entries)
    if target is None:
        # Entries are plain ASCII; what somebody has put in their place is not for a terminal.
        click.echo(plain_text(text) if sys.stdout.isatty() else text, nl=False)
        return 0
    try:
        replace_file(target, text.encode("utf-8", "replace"), durable=True)
    except OSError as error:
        raise ConfigError(f"{target}: cannot be written: {error.strerror}") from error
    return 0


def _print(lines: Iterable[str]) -> None:
    from fleet.text import plain_text

    for line in lines:
        click.echo(plain_text(line))
