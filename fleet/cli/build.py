"""`fleet build`: the closures, and no host."""

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
    from fleet import runs
    from fleet.deploy.past import is_open
    from fleet.deploy.request import new_run_id
    from fleet.deploy.target import closures_of
    from fleet.files import state_folder
    from fleet.machine.local import LocalMachine
    from fleet.output import open_output
    from fleet.source import evaluations

    inventory = session.open_inventory(file)
    hosts = session.choose_or_all(inventory, selectors)
    folder = runs.new_run_folder(state_folder(inventory.name), new_run_id(), is_open=is_open)
    cache = None if no_eval_cache else evaluations.users_own()
    terminal = sys.stderr.isatty()
    with open_output(json=False, stdout=sys.stdout, stderr=sys.stderr, is_terminal=terminal) as output:
        closures = asyncio.run(
            closures_of(LocalMachine(), inventory.flake, hosts, folder=folder, cache=cache, emit=output)
        )
    if as_json:
        click.echo(json.dumps({"hosts": [{"name": name, "closure": path} for name, path in closures.items()]}))
    else:
        for name, path in closures.items():
            click.echo(f"{name}: {path}")
    return 0
