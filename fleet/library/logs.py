"""Read what a unit has written to the journals of hosts, line by line."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

from fleet.errors import BugError, CommandFailedError, ConfigError, FleetError
from fleet.inventory import amounts
from fleet.library.reading import asked
from fleet.machine import CONTACTS, Command
from fleet.machine.bounds import lines as lines_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from fleet.inventory import Host
    from fleet.machine import Connector
    from fleet.model import HostName

    Item = str | FleetError | None
    """A line, why there are no more, or the end."""

_Lines = asyncio.Queue[tuple["HostName", "Item"]]
AHEAD = 1000
"""Lines of a host that are read before somebody takes them."""
_UNIT = re.compile(r"[\w:.\\@*?][\w:.\\@*?-]{0,254}", re.ASCII)
_TIME = re.compile(r"\d{4}-\d{2}-\d{2}(?:[ T]\d{2}:\d{2}(?::\d{2})?)?|\d{2}:\d{2}(?::\d{2})?|today|yesterday", re.ASCII)


def journal_of(unit: str, *, lines: int | None, since: str, follow: bool) -> Command:
    """Return the command that prints the journal of the unit. Raise `ConfigError` for a unit or a time that is none."""
    if _UNIT.fullmatch(unit) is None:
        raise ConfigError(f"{unit!r} is no name of a unit", hint="such as nginx, nginx.service or 'ollama-*'")
    flags = ["--quiet", "--no-pager", "--output=short-iso", f"--unit={unit}"]
    flags += [f"--lines={'all' if lines is None else lines}"]
    flags += [f"--since={_since(since)}"] if since else []
    flags += ["--follow"] if follow else []
    wanted = (unit, "all" if lines is None else str(lines), _since(since) if since else "")
    verb = ("logs", *wanted, *(["follow"] if follow else []))
    return Command(argv=("journalctl", *flags), ends_with_us=True, verb=verb)


def _since(text: str) -> str:
    """Return the moment as journalctl reads it."""
    if _TIME.fullmatch(text):
        return text.replace("T", " ")
    try:
        return f"-{amounts.seconds(text):g}s"
    except ValueError:
        hint = "10m, 2h30m, today, 09:30, 2026-11-30 or '2026-11-30 09:30', by the clock of the host"
        raise ConfigError(f"--since: {text!r} is no time", hint=hint) from None


async def read_logs(
    logins: Connector, hosts: Sequence[Host], journal: Command, *, is_endless: bool
) -> AsyncGenerator[tuple[HostName, str | FleetError]]:
    """Yield what the command prints on each host, line by line, and the error of a host that cannot be read.

    One host comes after another, whoever answers first. If the logs are endless, lines of all hosts come as they are
    written.
    """
    places = asyncio.Semaphore(len(hosts) if is_endless else CONTACTS)
    shared = _Lines(AHEAD) if is_endless else None
    begun: asyncio.Queue[_Lines] = asyncio.Queue()
    tasks = [
        asyncio.create_task(_read(logins, host, journal, places, _Told(host.name, shared or _Lines(AHEAD), begun)))
        for host in hosts
    ]
    left = len(hosts)
    try:
        while left:
            lines, is_over = await begun.get(), False  # a host that has begun has a place, and goes on to its end
            while left and not is_over:
                name, item = await lines.get()
                if item is not None:
                    yield name, item
                    continue
                left -= 1
                is_over = not is_endless
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _Told:
    """What one host tells, for whoever takes it."""

    def __init__(self, name: HostName, lines: _Lines, begun: asyncio.Queue[_Lines]) -> None:
        self._name = name
        self._lines = lines
        self._begun: asyncio.Queue[_Lines] | None = begun

    async def put(self, item: Item) -> None:
        """Put the item there as soon as there is room; the first one says that the host has begun."""
        if self._begun is not None:
            self._begun.put_nowait(self._lines)
            self._begun = None
        await self._lines.put((self._name, item))


async def _read(logins: Connector, host: Host, journal: Command, places: asyncio.Semaphore, told: _Told) -> None:
    """Tell each line of the host, then why there are no more if that is an error, then the end."""
    link = logins.link(host)

    async def read() -> None:
        async with link.stream(journal) as stream:
            async for line in lines_of(stream.read):
                await told.put(line)
            ended = await stream.ended()
        if ended.status != 0:
            message = f"journalctl failed with exit status {ended.status}"
            raise CommandFailedError(host.name, message, ran=str(journal), said=ended.stderr.splitlines()[-5:])

    try:
        await asked(link, read, places)
    except FleetError as error:
        await told.put(error)
    except Exception as error:
        await told.put(BugError.of(error))
    await told.put(None)
