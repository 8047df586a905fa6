"""`fleet status`: what each host runs and how it is, once or for as long as somebody watches."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from fleet.cli import options, session

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping
    from pathlib import Path

    from fleet import Fleet
    from fleet.library.watching import Watched
    from fleet.model import HostName

TICK = 1.0
"""Seconds between two drawings of the terminal: ages grow meanwhile."""


@click.command()
@options.reads
@click.option("--watch", "-w", "watches", is_flag=True, help="Go on and ask again, until Ctrl-C.")
@click.option(
    "--interval",
    default="10s",
    show_default=True,
    metavar="TIME",
    help="With --watch: how long after its answer a host is asked again.",
)
def status(
    selectors: tuple[str, ...],
    file: Path | None,
    *,
    as_json: bool,
    everything: bool,
    watches: bool,
    interval: str,
) -> int:
    """Tell what each host runs and how it is: the worst first.

    age is how long the running system is the system profile, health what systemd says, pending a transaction that is
    open or a system that was pushed and waits, reboot what only a reboot makes live, disk what is free on /nix. Of a
    host that does not answer the last that was seen of it from this machine is shown, dim.

    What a reboot or a crash had left open on a host is settled by this very contact. The exit code is 1 when a host
    cannot be reached or has units that failed. With --json and --watch there is a document on a line, again and again.

    \b
    fleet status
    fleet status @web --watch
    fleet status gpu-01 --json
    """
    seconds = options.seconds("--interval", interval)
    if seconds < 1:
        from fleet.errors import ConfigError

        raise ConfigError(f"--interval: {interval} is less than a second")
    inventory = session.open_inventory(file)
    hosts = session.choose_or_all(inventory, selectors, everything=everything)
    fleet = session.fleet(inventory, hosts)
    names = [host.name for host in hosts]
    if watches:
        return asyncio.run(_watch(fleet, names, seconds, as_json=as_json))
    with session.asking("status", as_json=as_json) as wait_for:
        found = asyncio.run(_look(fleet, names, wait_for))
    document = _document(found)
    if as_json:
        click.echo(json.dumps(document))
    else:
        click.echo("\n".join(_lines(found, is_terminal=sys.stdout.isatty())))
        session.tell_errors({name: one.answer for name, one in found.items()})
    return 0 if all(row["reachable"] and not row["failed_units"] for row in document["hosts"]) else 1


async def _look(fleet: Fleet, names: list[HostName], wait_for: Any) -> dict[HostName, Watched]:
    from fleet.library.watching import Watched

    answers = await fleet.status(*names, on_wait=wait_for)
    last, waits = await fleet.last_seen(), await fleet.waiting()
    if trouble := await fleet.write_metrics():
        session.warn(trouble)
    return {
        name: Watched(answer=answer, last=last.get(name), waits=waits.get(name)) for name, answer in answers.items()
    }


def _lines(found: Mapping[HostName, Watched], *, is_terminal: bool, width: int | None = None) -> list[str]:
    from fleet.library.status_lines import status_lines

    return status_lines(found, now=time.time(), is_terminal=is_terminal, width=width)


def _document(found: Mapping[HostName, Watched]) -> dict[str, Any]:
    from fleet.library import documents

    last = {name: one.last for name, one in found.items() if one.last is not None}
    waits = {name: one.waits for name, one in found.items() if one.waits is not None}
    return documents.status({name: one.answer for name, one in found.items()}, last, waits)


async def _watch(fleet: Fleet, names: list[HostName], every: float, *, as_json: bool) -> int:
    """Show the hosts again and again, until Ctrl-C. Return the exit code."""
    from fleet.cli.interrupts import interrupts
    from fleet.errors import INTERRUPTED, StoppedError
    from fleet.output import is_capable

    known: dict[HostName, Watched] = {}
    complete = asyncio.Event()

    async def follow() -> None:
        async with contextlib.aclosing(fleet.watch(*names, every=every)) as items:
            async for found in items:
                known.update(found)
                if all(one.answer is not None for one in found.values()):
                    complete.set()

    async def show() -> None:
        if is_capable(sys.stdout) and not as_json:
            await _draw(known, every)
        await _print(known, every, complete, as_json=as_json)

    with interrupts() as stop:
        try:
            await stop.unless(_both(follow(), show(), session.keep_metrics(fleet)))
        except StoppedError:
            return INTERRUPTED
    return 0


async def _both(*works: Coroutine[Any, Any, None]) -> None:
    """Do both until one of them ends, and raise what that raises: no group around it, since a reader may have left."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _draw(known: Mapping[HostName, Watched], every: float) -> None:
    from fleet.output.screen import Screen

    with Screen(sys.stdout) as screen:
        while True:
            lines = _lines(known, is_terminal=True, width=screen.width) if known else []
            screen.show(lines, foot=f"asked again every {every:g} s; Ctrl-C ends it")
            await asyncio.sleep(TICK)


async def _print(known: Mapping[HostName, Watched], every: float, complete: asyncio.Event, *, as_json: bool) -> None:
    """Print the hosts again and again: at first when all have answered, or when it is time to ask again."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(complete.wait(), every)
    while True:
        if as_json:
            click.echo(json.dumps(_document(known)))
        else:
            click.echo("\n".join([*_lines(known, is_terminal=False), ""]))
        await asyncio.sleep(every)
