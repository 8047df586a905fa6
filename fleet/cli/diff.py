"""`fleet diff`: what a deployment would change."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING

import click

from fleet.cli import options, session

if TYPE_CHECKING:
    from pathlib import Path

    from fleet.model import Closure


@click.command()
@options.reads
@options.closure
@options.no_eval_cache
@options.verbose
def diff(
    selectors: tuple[str, ...],
    file: Path | None,
    closure: Closure | None,
    *,
    as_json: bool,
    everything: bool,
    no_eval_cache: bool,
    verbose: bool,
) -> int:
    """Compare what each host runs with what would be deployed. Nothing is pushed.

    \b
    fleet diff gpu-01
    fleet diff --json | jq '.hosts[].packages'
    """
    from fleet.diff import diff_json, fold
    from fleet.errors import FleetError
    from fleet.output.format import counted

    inventory = session.open_inventory(file)
    hosts = session.choose_or_all(inventory, selectors, everything=everything)
    fleet = session.fleet(inventory, hosts)
    names = (host.name for host in hosts)
    with session.display(verbose=verbose) as output:
        output.wait_for(f"evaluate {counted(len(hosts), 'host')}")
        answers = asyncio.run(
            fleet.diff(
                *names,
                closure=closure,
                eval_cache=not no_eval_cache,
                on_event=output.show,
                on_wait=lambda left: output.wait_for("compare", hosts=left),
            )
        )
    found = {name: answer for name, answer in answers.items() if not isinstance(answer, FleetError)}
    if as_json:
        click.echo(json.dumps(diff_json(found)))
    elif found:
        click.echo("\n".join(fold(found, is_terminal=sys.stdout.isatty())))
    return 1 if session.tell_errors(answers) else 0
