"""`fleet plan`, `fleet show` and `fleet apply`: make a plan, look at it and apply it, each when people want to."""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fleet.cli import options, session
from fleet.cli.reporting import Reporting
from fleet.model import Verb

if TYPE_CHECKING:
    from fleet import Fleet, Plan, Stop
    from fleet.cli.changing import PlanView
    from fleet.deploy.options import Options
    from fleet.errors import FleetError
    from fleet.inventory import Host
    from fleet.output import Display


@click.command()
@options.reads
@options.deployment
@options.all_or_nothing
@options.expires
@options.verbose
@click.option("--output", "-o", "target", type=options.output_file, metavar="FILE", help="Write the plan here.")
@click.option("--sign", "signs", is_flag=True, help="Sign the plan, too, as its author. Needs -o.")
@options.key
@click.option(
    "--amend",
    metavar="FILE|DIGEST",
    help="Bring what this earlier plan brings to those of its hosts that had changed by the time.",
)
def plan(
    selectors: tuple[str, ...],
    file: Path | None,
    target: Path | None,
    expires: str,
    *,
    as_json: bool,
    everything: bool,
    verbose: bool,
    **asked: Any,
) -> int:
    """Look at the hosts, evaluate and build, and tell what a deployment would do to each.

    With -o the plan is written to FILE, and this machine keeps it, with all that it needs, until it expires.
    Whoever applies it does exactly what it says, and a host that has changed since refuses it. With --sign others can
    tell who has made it: docs/signing.md.

    \b
    fleet plan @prod
    fleet plan @prod -o update.plan
    fleet plan @prod --sign -o update.plan
    """
    from fleet.cli.signing import amending, sign_plan, with_id
    from fleet.deploy.options import Options

    signs, key, amend = asked.pop("signs"), asked.pop("key"), asked.pop("amend")
    wanted = Options(
        verb=Verb.PLAN,
        expires_in=round(options.seconds("--expires", expires)),
        **options.asked_deployment(asked),
    )
    if signs and target is None:
        raise click.UsageError("--sign: say where the plan goes, with -o FILE.")
    inventory = session.open_inventory(file)
    if signs:
        inventory = with_id(inventory)
    earlier = find_plan(amend, inventory.path) if amend is not None else None
    if earlier is not None:
        wanted, selectors = amending(wanted, earlier, inventory, () if everything else selectors)
    hosts = session.choose_or_all(inventory, selectors, everything=everything and earlier is None)
    fleet = session.fleet(inventory, hosts)
    made, code = asyncio.run(_plan(fleet, hosts, wanted, target, as_json=as_json, verbose=verbose))
    if signs and made is not None and target is not None:
        sign_plan(fleet, made, target, key)
    return code


async def _plan(
    fleet: Fleet, hosts: tuple[Host, ...], wanted: Options, target: Path | None, *, as_json: bool, verbose: bool
) -> tuple[Plan | None, int]:
    """Make the plan, show it, and write it down. Return it, if there is one, and the exit code."""
    from fleet.cli.changing import PlanView
    from fleet.cli.interrupts import interrupts
    from fleet.errors import FleetError
    from fleet.events import FindingReported, HostFinished, RunFinished
    from fleet.library.plans import write_plan
    from fleet.library.signatures import forget_earlier

    view, made, error = PlanView(), None, None
    async with fleet:
        with (
            session.display(as_json=as_json, verbose=verbose) as output,
            interrupts() as stop,
        ):
            planning = fleet.plan_as(hosts, wanted, stop=stop)
            output.wait_for_hosts(lambda: planning.contacted)
            async for event in planning:
                view.note(event)
                if not isinstance(event, RunFinished | HostFinished | FindingReported):  # printed with the plan
                    output.show(event)
            try:
                made = await planning
            except FleetError as caught:
                error = caught
            output.plan_shown()  # it is printed below
        if made is not None and target is not None:
            await fleet.keep(made)
            write_plan(made, target)
            forget_earlier(made, target)
        _print_plan(view, made, error, as_json=as_json)
        return made, planning.exit_code


def _print_plan(view: PlanView, made: Plan | None, error: FleetError | None, *, as_json: bool) -> None:
    from fleet.errors import StoppedError
    from fleet.library import documents
    from fleet.output.format import failure_lines

    if isinstance(error, StoppedError):
        click.echo("interrupted: the plan is not complete", err=True)
        error = None
    if as_json:
        click.echo(json.dumps(documents.plan(view.events, made, error)))
        return
    click.echo("\n".join(view.lines(is_terminal=sys.stdout.isatty())))
    if error is not None:
        click.echo("\n".join(failure_lines((), error.failure())))


def find_plan(place: str, file: Path | None) -> Plan:
    """Return the plan in a file, or the kept plan whose digest is, or begins with, `place`."""
    from fleet.library.plans import read_plan

    if re.fullmatch("[0-9a-f]{6,64}", place) is None or Path(place).exists():
        return read_plan(Path(place))
    return asyncio.run(session.fleet(session.open_inventory(file), ()).kept_plan(place))


@click.command()
@click.argument("place", metavar="FILE|DIGEST", shell_complete=options.completes("plan"))
@options.file
@options.as_json
def show(place: str, file: Path | None, *, as_json: bool) -> int:
    """Tell what a plan would do, who made it, when and of what. No host is contacted.

    FILE is what fleet plan -o has written. DIGEST is the plan's digest or its beginning, on the machine that made it.

    \b
    fleet show update.plan
    fleet show 729787fb
    """
    from fleet.library import documents
    from fleet.library.describe import describe

    made = find_plan(place, file)
    if as_json:
        click.echo(json.dumps(documents.whole_plan(made)))
    else:
        click.echo("\n".join(describe(made, now=time.time(), is_terminal=sys.stdout.isatty())))
    return 0


@click.command(cls=Reporting)
@click.argument("place", metavar="FILE|DIGEST", shell_complete=options.completes("plan"))
@options.selectors
@options.file
@options.as_json
@options.verbose
@click.option(
    "--signatures",
    "signed",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="FILE",
    help="Signatures that are elsewhere than beside the plan. May be given several times.",
)
@options.break_glass
@options.yes
@options.ask
@options.workers
def apply(
    place: str,
    selectors: tuple[str, ...],
    file: Path | None,
    signed: tuple[Path, ...],
    *,
    as_json: bool,
    verbose: bool,
    by_workers: bool,
    **consents: Any,
) -> int:
    """Do what a plan says, or its part for some hosts. A host that has changed since refuses it.

    FILE is what fleet plan -o has written. DIGEST is the plan's digest or its beginning, on the machine that made it.
    Signatures are taken from the file beside it that ends with .signatures.

    \b
    fleet apply update.plan
    fleet apply update.plan @canary
    """
    from fleet.cli.changing import ask_and_apply, carry_out, follow_to_end, way_of
    from fleet.cli.questions import Consent
    from fleet.cli.signing import signatures_of
    from fleet.library.describe import describe
    from fleet.library.judging import Plea
    from fleet.library.plans import require_applicable

    inventory = session.open_inventory(file)
    made = find_plan(place, file)
    names = require_applicable(made, inventory, selectors, now=time.time())
    changed = [name for name in names if made.parts[name].goal.switches]
    consent = Consent(**consents)
    count = len(names) if consent.ask else len(changed)
    consent.require_terminal(count)

    async def act(fleet: Fleet, output: Display, stop: Stop) -> int:
        way = await way_of(fleet, names, plea, by_workers=by_workers)
        if consent.is_asked_for(count):
            lines = describe(made, now=time.time(), hosts=names, is_terminal=output.is_terminal)
            return await ask_and_apply(fleet, output, stop, made, lines, *names, way=way)
        return await follow_to_end(way.apply(fleet, made, *names, stop=stop), output)

    fleet = session.fleet(inventory, [inventory.hosts[name] for name in names])
    plea = Plea(signatures=signatures_of(fleet, made, place, signed), break_glass=consent.break_glass)
    checks = {name: made.parts[name].checks for name in names}
    return carry_out(fleet, act, as_json=as_json, verbose=verbose, checks=checks)
