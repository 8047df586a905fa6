"""`fleet describe`: the whole fleet at one look, without asking any host."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import TYPE_CHECKING

import click

from fleet.cli import options, session

if TYPE_CHECKING:
    from pathlib import Path


@click.command()
@options.file
@options.as_json
def describe(file: Path | None, *, as_json: bool) -> int:
    """Tell what the fleet consists of: its hosts, what each ran when it last answered, its waves, runs and plans.

    No host is contacted, and no secret is told. The JSON is short enough for an agent to read all of it.

    \b
    fleet describe
    fleet describe --json
    """
    from fleet.library.overview import overview, overview_lines

    document = asyncio.run(overview(session.fleet(session.open_inventory(file), ())))
    if as_json:
        click.echo(json.dumps(document, separators=(",", ":")))
    else:
        click.echo("\n".join(overview_lines(document, now=time.time(), is_terminal=sys.stdout.isatty())))
    return 0
