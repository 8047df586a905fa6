"""`fleet logs`: what a unit has written to the journals of hosts."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import errno
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fleet.cli import options, session

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine

    from fleet import FleetError
    from fleet.model import HostName

    Item = tuple[HostName, str | FleetError]

LINES = 100
MOST_LINES = 1_000_000


@click.command()
@options.selectors
@click.argument("unit")
@click.option("--follow", "-f", is_flag=True, help="Go on with what is written from now on, until Ctrl-C.")
@click.option(
    "--lines",
    "-n",
    type=click.IntRange(0, MOST_LINES),
    metavar="N",
    help=f"The last N lines of each host. Default: {LINES}, or all with --since.",
)
@click.option(
    "--since", default="", metavar="TIME", help="10m, 2h, today, 09:30, 2026-11-30: by the clock of the host."
)
@options.everything
@options.as_json
@click.option(
    "--file",
    type=click.Path(path_type=Path),
    envvar="FLEET_FILE",
    show_envvar=True,
    help="The inventory. Default: fleet.toml here or in the nearest folder above.",
)
def logs(
    selectors: tuple[str, ...],
    unit: str,
    file: Path | None,
    *,
    lines: int | None,
    everything: bool,
    as_json: bool,
    **asked: Any,
) -> int:
    """Show what UNIT has written to the journal of a host, or of several. UNIT is the last word, and may have * and ?.

    With several hosts each line begins with the name of its host. With --json each line is an object. The exit code
    is 1 when a host cannot be read.

    \b
    fleet logs gpu-01 ollama
    fleet logs gpu-01 ollama -f
    fleet logs @web nginx --since 10m
    """
    inventory = session.open_inventory(file)
    if not selectors and not everything and (unit in inventory.hosts or unit.startswith("@")):
        from fleet.errors import ConfigError

        raise ConfigError("no unit was named, whose lines are wanted", hint=f"fleet logs {unit} UNIT, such as sshd")
    hosts = session.choose_computers(inventory, selectors, everything=everything)
    fleet = session.fleet(inventory, hosts)
    names = [host.name for host in hosts]
    wanted = lines if lines is not None or asked["since"] else LINES
    items = fleet.logs(*names, unit=unit, lines=wanted, **asked)
    return asyncio.run(_follow(items, names, _teller(names, as_json=as_json), unit))


def _teller(names: list[HostName], *, as_json: bool) -> Callable[[HostName, str | FleetError], None]:
    """Return what shows a line of a host, or its error."""
    from fleet.errors import FleetError

    width = max(map(len, names), default=0)

    def as_document(name: HostName, item: str | FleetError) -> None:
        told = {"error": dataclasses.asdict(item.failure())} if isinstance(item, FleetError) else {"line": item}
        click.echo(json.dumps({"host": name, **told}))

    def as_text(name: HostName, item: str | FleetError) -> None:
        if isinstance(item, FleetError):
            session.tell_errors({name: item})
        else:
            click.echo(f"{name:<{width}}  {item}" if len(names) > 1 else item)

    return as_document if as_json else as_text


async def _until_the_reader_leaves(show: Coroutine[Any, Any, None]) -> None:
    """Wait for the work. Raise `BrokenPipeError` as soon as nobody reads what it shows."""
    from fleet.output.reader import reader_has_left

    showing, left = asyncio.ensure_future(show), asyncio.ensure_future(reader_has_left(sys.stdout))
    try:
        await asyncio.wait((showing, left), return_when=asyncio.FIRST_COMPLETED)
        if not showing.done():
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
        await showing
    finally:
        for task in (showing, left):
            task.cancel()
        await asyncio.gather(showing, left, return_exceptions=True)


async def _follow(
    items: AsyncGenerator[Item], names: list[HostName], tell: Callable[[HostName, str | FleetError], None], unit: str
) -> int:
    """Show the lines until there are no more, or until Ctrl-C. Return the exit code."""
    from fleet.cli.interrupts import interrupts
    from fleet.errors import INTERRUPTED, FleetError, StoppedError

    silent, failed = dict.fromkeys(names), False

    async def show() -> None:
        nonlocal failed
        with session.display() as output:
            output.wait_for(f"logs of {unit}", hosts=names)
            async for name, item in items:
                if len(silent) == len(names):
                    output.close()  # what is shown from now on needs the place
                silent.pop(name, None)
                failed = failed or isinstance(item, FleetError)
                tell(name, item)

    with interrupts() as stop:
        async with contextlib.aclosing(items):
            try:
                await stop.unless(_until_the_reader_leaves(show()))
            except StoppedError:
                return INTERRUPTED
    for name in silent:
        click.echo(f"{name}: no entries of {unit}", err=True)
    return 1 if failed else 0
