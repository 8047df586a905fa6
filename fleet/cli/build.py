"""`fleet build`: build closures without contacting a host."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import click

from fleet.cli import options, session

if TYPE_CHECKING:
    from pathlib import Path


@click.command()
@options.reads
@options.no_eval_cache
@options.verbose
def build(
    selectors: tuple[str, ...],
    file: Path | None,
    *,
    as_json: bool,
    everything: bool,
    no_eval_cache: bool,
    verbose: bool,
) -> int:
    """Evaluate and build, and print the closure of each host. No host is contacted.

    \b
    fleet build gpu-01
    """
    from fleet.output.format import counted

    inventory = session.open_inventory(file)
    hosts = session.choose_or_all(inventory, selectors, everything=everything)
    with session.display(verbose=verbose) as output:
        output.wait_for(f"evaluate {counted(len(hosts), 'host')}")
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
