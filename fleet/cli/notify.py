"""`fleet notify`: try whether those are told whom fleet.toml names."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import click

from fleet.cli import options, session

if TYPE_CHECKING:
    from pathlib import Path


@click.command()
@options.file
@options.as_json
def notify(file: Path | None, *, as_json: bool) -> int:
    """Send a trial message to everybody whom fleet.toml names, whatever they want to be told of.

    The exit code is 1 if somebody could not be told. No host is contacted.

    \b
    fleet notify
    """
    from fleet.errors import ConfigError
    from fleet.output.format import one_line

    inventory = session.open_inventory(file)
    if not inventory.notify:
        raise ConfigError(f"{inventory.path}: names nobody", hint="write [[notify]] tables: docs/notifications.md")
    with session.display(as_json=as_json) as output:
        output.wait_for("tell those whom fleet.toml names")
        tried = asyncio.run(session.fleet(inventory, ()).try_notify())
    if as_json:
        rows = [{"notify": label, "error": trouble or None} for label, trouble in tried]
        click.echo(json.dumps({"notify": rows}))
    for label, trouble in () if as_json else tried:
        click.echo(one_line(f"{label}: {f'was not told: {trouble}' if trouble else 'was told'}"))
    return 1 if any(trouble for _, trouble in tried) else 0
