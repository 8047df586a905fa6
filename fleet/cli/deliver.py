"""`fleet deliver`: bring hosts what they have missed while they were away."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from fleet.cli import options, session
from fleet.cli.reporting import Reporting, end_without_run
from fleet.text import listed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from fleet import Fleet, Stop
    from fleet.cli.questions import Consent
    from fleet.inventory import Host
    from fleet.output import Display
    from fleet.state import Delivery


WORST = (4, 130, 3, 2, 1)
"""Exit codes of several runs: the first of these that one of them has ended with is that of all."""


@click.command(cls=Reporting)
@options.selectors
@options.file
@options.everything
@options.as_json
@options.verbose
@options.ask
@options.yes
@click.option("--watch", "watches", is_flag=True, help="Go on, as a service: deliver to each host as it comes back.")
def deliver(
    selectors: tuple[str, ...],
    file: Path | None,
    *,
    everything: bool,
    as_json: bool,
    verbose: bool,
    watches: bool,
    **answers: Any,
) -> int:
    """Bring hosts what they have missed while they were away. Without a selector: all that something waits for.

    What waits for a host is the newest system that a deployment had for it when it was deferred; `fleet status` tells.
    With --watch nobody is asked, and a laptop gets it on AC power, over a connection that is not metered, and while
    nobody works there, unless fleet.toml allows more (deliver_on_battery, deliver_metered, deliver_in_session). And
    hosts get those secrets again that a reboot has taken from memory.

    \b
    fleet deliver
    fleet deliver laptop
    fleet deliver --watch
    """
    from fleet.cli.questions import Consent

    inventory = session.open_inventory(file)
    hosts = session.choose_or_all(inventory, selectors, everything=everything)
    if watches:
        there = _without_questions(hosts)
        return asyncio.run(_watch(session.fleet(inventory, there), there, as_json=as_json, verbose=verbose))
    waiting = asyncio.run(session.fleet(inventory, ()).deliveries(*(host.name for host in hosts)))
    if not waiting:
        return _nothing(as_json=as_json)
    fleet = session.fleet(inventory, [inventory.hosts[delivery.host] for delivery in waiting])
    waiting = asyncio.run(_not_overtaken(fleet, waiting))
    if not waiting:
        return _nothing(as_json=as_json)
    return _deliver_once(fleet, waiting, Consent(**answers), as_json=as_json, verbose=verbose)


def _without_questions(hosts: Sequence[Host]) -> list[Host]:
    """Return the hosts without those whose sudo asks for a password, where nobody is there to give it. Say so."""
    if session.has_password() or sys.stdin.isatty():
        return list(hosts)
    from fleet.inventory import Sudo

    asking = [host.name for host in hosts if host.sudo is Sudo.PASSWORD]
    if asking:
        names = ", ".join(asking)
        click.echo(
            f"{names}: left out, since sudo asks for a password there; {session.PASSWORD_VARIABLE} can give it",
            err=True,
        )
    return [host for host in hosts if host.sudo is not Sudo.PASSWORD]


def _nothing(*, as_json: bool) -> int:
    """Say that nothing waits for any host. Scripts get the event that ends every run."""
    if as_json:
        end_without_run()
    else:
        click.echo("nothing waits for these hosts", err=True)
    return 0


async def _not_overtaken(fleet: Fleet, waiting: tuple[Delivery, ...]) -> tuple[Delivery, ...]:
    """Return what still waits when the hosts were looked at: a later run from elsewhere may have overtaken it."""
    await fleet.those_back(waiting)
    left = await fleet.deliveries(*(delivery.host for delivery in waiting))
    return tuple(delivery for delivery in left if delivery in waiting)


def _deliver_once(
    fleet: Fleet, waiting: tuple[Delivery, ...], consent: Consent, *, as_json: bool, verbose: bool
) -> int:
    from fleet.cli.changing import Way, ask_and_apply, carry_out, follow_to_end, plan_and_apply
    from fleet.library.delivering import options_for
    from fleet.library.describe import describe
    from fleet.library.signed_parts import UNSIGNED

    consent.require_terminal(len(waiting))
    hosts = [fleet.inventory.hosts[delivery.host] for delivery in waiting]
    free = [delivery for delivery in waiting if not fleet.inventory.hosts[delivery.host].gate]

    async def act(fleet: Fleet, output: Display, stop: Stop) -> int:
        asks, codes = consent.is_asked_for(len(waiting)), []
        signed = await fleet.signed_parts(waiting)
        if unsigned := {host.name for host in hosts if host.gate} - {name for one in signed for name in one.hosts}:
            with output.paused():
                click.echo(f"{listed(sorted(unsigned))}: left out: {UNSIGNED}; plan, sign and approve", err=True)
            codes.append(1)
        if free:
            there = [fleet.inventory.hosts[delivery.host] for delivery in free]
            codes.append(await plan_and_apply(fleet, output, stop, there, options_for(free), asks=asks))
        for one in signed:
            if asks:
                lines = describe(one.plan, now=time.time(), hosts=one.hosts, is_terminal=output.is_terminal)
                way = Way(one.plea, late=one)
                codes.append(await ask_and_apply(fleet, output, stop, one.plan, lines, *one.hosts, way=way))
            else:
                codes.append(await follow_to_end(fleet.deliver(one, stop=stop), output))
        return next((code for code in WORST if code in codes), max(codes))

    return carry_out(fleet, act, as_json=as_json, verbose=verbose, checks={host.name: host.checks for host in hosts})


async def _watch(fleet: Fleet, hosts: Sequence[Host], *, as_json: bool, verbose: bool) -> int:
    """Deliver to each host as it comes back, until somebody asks for the end."""
    from fleet.cli.deliver_watch import DeliveryWatch
    from fleet.cli.filling import Filler
    from fleet.cli.interrupts import interrupts
    from fleet.errors import INTERRUPTED

    checks = {host.name: host.checks for host in hosts}

    def display() -> AbstractContextManager[Display]:
        return session.display(as_json=as_json, verbose=verbose, checks=checks, moves=False)

    def tell(line: str) -> None:
        if not as_json:
            click.echo(line, err=True)

    async with fleet:
        metrics = asyncio.create_task(session.keep_metrics(fleet))
        with interrupts() as stop:
            filling = asyncio.create_task(Filler(fleet, hosts, stop, tell).go_on())
            try:
                await DeliveryWatch(fleet, hosts, stop, display, tell).go_on()
            finally:
                for task in (filling, metrics):
                    task.cancel()
                await asyncio.gather(filling, metrics, return_exceptions=True)
    return INTERRUPTED if stop.is_insisted else 0
