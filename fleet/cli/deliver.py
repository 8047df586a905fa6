"""`fleet deliver`: bring hosts what they have missed while they were away."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from fleet.cli import options, session

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from fleet import Fleet, Stop
    from fleet.cli.questions import Consent
    from fleet.inventory import Host
    from fleet.output import Display
    from fleet.state import Delivery

INTERVAL = 2.0
"""Seconds between two looks at who is back."""
AGAIN = 60.0
"""Seconds before the next attempt at a host that answered and did not get what waits for it. Each pause after that is
twice as long, up to `SELDOM`: each attempt is a run that is recorded."""
SELDOM = 3600.0


@click.command()
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
    nobody works there, unless fleet.toml allows more (deliver_on_battery, deliver_metered, deliver_in_session).

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
        from fleet.events import Envelopes, RunFinished
        from fleet.model import RunId
        from fleet.output.jsonl import JsonLines

        JsonLines(sys.stdout)(
            Envelopes(RunId(""), "").wrap(RunFinished(run=RunId(""), exit_code=0, error=None, hosts=()))
        )
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
    from fleet.cli.changing import carry_out, plan_and_apply
    from fleet.library.delivering import options_for

    consent.require_terminal(len(waiting))
    hosts = [fleet.inventory.hosts[delivery.host] for delivery in waiting]

    async def act(fleet: Fleet, output: Display, stop: Stop) -> int:
        asks = consent.is_asked_for(len(waiting))
        return await plan_and_apply(fleet, output, stop, hosts, options_for(waiting), asks=asks)

    return carry_out(fleet, act, as_json=as_json, verbose=verbose, checks={host.name: host.checks for host in hosts})


async def _watch(fleet: Fleet, hosts: Sequence[Host], *, as_json: bool, verbose: bool) -> int:
    """Deliver to each host as it comes back, until somebody asks for the end."""
    from fleet.cli.interrupts import interrupts
    from fleet.errors import INTERRUPTED, StateError

    def display() -> AbstractContextManager[Display]:
        checks = {host.name: host.checks for host in hosts}
        return session.display(as_json=as_json, verbose=verbose, checks=checks)

    pauses: dict[str, Pause] = {}
    told: dict[str, str] = {}
    async with fleet:
        with interrupts() as stop:
            while not stop.is_requested:
                with contextlib.suppress(StateError):  # the disk may be better the next time
                    waiting = await fleet.deliveries(*(host.name for host in hosts))
                    due = [one for one in waiting if not _is_early(one, pauses)]
                    await _deliver_to_those_back(fleet, due, stop, display, pauses, told)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.requested(), INTERVAL)
    return INTERRUPTED if stop.is_insisted else 0


class Pause(NamedTuple):
    """How long a host gets no further attempt at the delivery of this run."""

    run: str
    seconds: float
    until: float


def _is_early(delivery: Delivery, pauses: dict[str, Pause]) -> bool:
    """Whether this very delivery was tried lately, and may have come to nothing."""
    pause = pauses.get(delivery.host)
    return pause is not None and pause.run == delivery.run and time.monotonic() < pause.until


async def _deliver_to_those_back(
    fleet: Fleet,
    due: list[Delivery],
    stop: Stop,
    display: Callable[[], AbstractContextManager[Display]],
    pauses: dict[str, Pause],
    told: dict[str, str],
) -> None:
    """Deliver what is due to the hosts that answer and may be changed now."""
    from fleet.cli.changing import follow, follow_to_end
    from fleet.errors import FleetError

    back = await fleet.those_back(due) if due else {}
    for name, found in back.items():
        if found.why_not and told.get(name) != found.why_not:
            click.echo(f"{name}: is back, and {found.why_not}", err=True)
        told[name] = found.why_not
    ready = [found.delivery for found in back.values() if not found.why_not]
    if not ready or stop.is_requested:
        return
    with display() as output:
        planning = fleet.plan_delivery(ready, stop=stop)
        await follow(planning, output)
        with contextlib.suppress(FleetError):  # the last event has reported it
            await follow_to_end(fleet.apply(await planning, stop=stop), output)
    for delivery in ready:
        before = pauses.get(delivery.host)
        pause = AGAIN if before is None or before.run != delivery.run else min(2 * before.seconds, SELDOM)
        pauses[delivery.host] = Pause(delivery.run, pause, time.monotonic() + pause)
