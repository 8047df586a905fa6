"""`fleet plan`: what a deployment would do, and nothing done."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fleet.cli import options, session
from fleet.errors import INTERRUPTED
from fleet.events import HostFinished, RunFinished, event_json, fan_out

if TYPE_CHECKING:
    from fleet.cli.changing import Planned
    from fleet.deploy.prepare import Prepared
    from fleet.events import Event
    from fleet.model import Closure


@click.command()
@options.reads
@options.reboots
@options.closure
@options.no_eval_cache
@options.keep_going
def plan(
    selectors: tuple[str, ...],
    file: Path | None,
    closure: Closure | None,
    *,
    as_json: bool,
    keep_going: bool,
    no_eval_cache: bool,
    **reboot: Any,
) -> int:
    """Look at the hosts, evaluate and build, and tell what a deployment would do to each.

    \b
    fleet plan @prod
    """
    from fleet.cli.changing import Planned
    from fleet.deploy.request import Request, Run, new_run_id
    from fleet.deploy.run import execute
    from fleet.deploy.speeds import Speeds
    from fleet.files import state_folder
    from fleet.machine.local import LocalMachine
    from fleet.output import open_output

    inventory = session.open_inventory(file)
    hosts = session.choose_or_all(inventory, selectors)
    logins = session.logins(inventory, hosts)
    planned, end = Planned(), _End()

    async def never(_: Prepared) -> bool:
        return False

    with (
        tempfile.TemporaryDirectory(prefix="fleet-plan-") as folder,
        open_output(json=False, stdout=sys.stdout, stderr=sys.stderr, is_terminal=sys.stderr.isatty()) as output,
    ):

        def talk(event: Event) -> None:
            if not isinstance(event, RunFinished | HostFinished) and not as_json:
                output(event)

        run = Run(
            id=new_run_id(),
            request=Request(
                verb="plan",
                **options.asked_reboot(reboot),
                closure=closure,
                keep_going=keep_going,
                eval_cache=not no_eval_cache,
            ),
            inventory=inventory,
            logins=logins,
            here=LocalMachine(),
            emit=fan_out(planned, end, talk),
            folder=Path(folder),
            speed_of=Speeds(state_folder(inventory.name)).of,
        )
        code = asyncio.run(execute(run, hosts, agree=never))
    _tell(planned, end, as_json=as_json)
    return code


class _End:
    """Subscriber that keeps the last event."""

    finished: RunFinished | None = None

    def __call__(self, event: Event) -> None:
        if isinstance(event, RunFinished):
            self.finished = event


def _tell(planned: Planned, end: _End, *, as_json: bool) -> None:
    from fleet.output.summary import summary_lines

    assert end.finished is not None
    if end.finished.exit_code == INTERRUPTED:
        click.echo("interrupted: the plan is not complete", err=True)
    if as_json:
        document = {
            "hosts": [event_json(host) for host in planned.hosts],
            "findings": [event_json(finding) for finding in planned.findings],
            "error": event_json(end.finished)["error"],
        }
        click.echo(json.dumps(document))
        return
    click.echo("\n".join(planned.lines(is_terminal=sys.stdout.isatty())))
    if end.finished.error is not None:
        click.echo("\n".join(summary_lines(end.finished)))
