"""`fleet reboot`: reboot hosts into the systems that they run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from fleet.cli import options, session
from fleet.cli.reporting import Reporting

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from fleet import Fleet, Stop
    from fleet.model import HostName
    from fleet.output import Display


@click.command(cls=Reporting)
@options.everything
@options.selectors
@options.file
@options.verbose
@options.as_json
@options.break_glass
@options.ask
@options.yes
@click.option("--force", is_flag=True, help="Reboot though people, jobs or locks would be interrupted.")
@click.option(
    "--accept-boot-risk", is_flag=True, help="Reboot also into a kernel or a system that has never booted there."
)
def reboot(
    selectors: tuple[str, ...], file: Path | None, *, everything: bool, as_json: bool, verbose: bool, **asked: Any
) -> int:
    """Reboot hosts into the systems that they run, and prove that they come back as they were.

    That is: a new boot, a new login, the same system, no unit that has newly failed, and every check passes that
    passed before. Hosts go in the waves and as many at once as in a deployment. A host is left out if it would boot
    something else than what it runs, or what has never booted there: there would be nothing to come back to. fleet
    deploy --reboot boots that on trial.

    \b
    fleet reboot gpu-01
    fleet reboot @web --yes
    """
    from fleet.cli import questions
    from fleet.cli.changing import carry_out, follow_to_end
    from fleet.cli.questions import Consent
    from fleet.library.judging import Plea

    inventory = session.open_inventory(file)
    hosts = session.choose_computers(inventory, selectors, everything=everything)
    consent = Consent(yes=asked.pop("yes"), ask=asked.pop("ask"))
    consent.require_terminal(len(hosts))
    plea = Plea(break_glass=asked.pop("break_glass"))

    async def act(fleet: Fleet, output: Display, stop: Stop) -> int:
        async def agree(names: Sequence[HostName]) -> bool:
            if not consent.is_asked_for(len(names)):
                return True
            from fleet.output.format import counted
            from fleet.text import listed

            with output.paused():
                click.echo(f"reboots {listed(names, most=40)}", err=True)
                agreed = await questions.agreed(f"Reboot {counted(len(names), 'host')}?", stop)
                if not agreed:
                    click.echo(questions.UNTOUCHED, err=True)
                return agreed

        run = fleet.reboot(*(host.name for host in hosts), agree=agree, stop=stop, plea=plea, **asked)
        return await follow_to_end(run, output)

    checks = {host.name: host.checks for host in hosts}
    return carry_out(session.fleet(inventory, hosts), act, as_json=as_json, verbose=verbose, checks=checks)
