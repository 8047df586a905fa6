"""`fleet build`: build closures without contacting a host."""

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
@options.no_eval_cache
def build(selectors: tuple[str, ...], file: Path | None, *, as_json: bool, no_eval_cache: bool) -> int:
    """Evaluate and build, and print the closure of each host. No host is contacted.

    \b
    fleet build gpu-01
    """
    from fleet.output import open_display

    inventory = session.open_inventory(file)
    hosts = session.choose_or_all(inventory, selectors)
    terminal = sys.stderr.isatty()
    with open_display(json=False, stdout=sys.stdout, stderr=sys.stderr, is_terminal=terminal) as output:
        closures = asyncio.run(
            session.fleet(inventory, ()).build(
                *(host.name for host in hosts), eval_cache=not no_eval_cache, on_event=output.show
            )
        )
    if as_json:
        click.echo(json.dumps({"hosts": [{"name": name, "closure": path} for name, path in closures.items()]}))
    else:
        for name, path in closures.items():
            click.echo(f"{name}: {path}")
    return 0
