"""Tell what has happened on hosts since somebody looked last, whoever did it and from wherever."""

from __future__ import annotations

import base64
import itertools
import re
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleet.errors import ConfigError, FleetError
from fleet.host import history
from fleet.host.program import HostProgram, ask
from fleet.library.reading import ask_all
from fleet.model import HostName, Serial
from fleet.plans.part import NO_SERIAL
from fleet.plans.text import document
from fleet.text import parsed_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleet.host.history import PastTransaction
    from fleet.inventory import Host, Inventory
    from fleet.library.reading import OnWait
    from fleet.library.tools import Tools
    from fleet.machine import Link

VERSION = "c1."
"""What a cursor begins with."""
LARGEST = 1 << 24
"""The most bytes that a cursor may have in it: those of 100,000 hosts are fewer."""
_SERIAL = re.compile(r"[0-9]{1,18}-[0-9A-Za-z-]{1,80}")


@dataclass(frozen=True, kw_only=True)
class HostChanges:
    """What has happened on one host."""

    transactions: tuple[PastTransaction, ...]
    """Those that have ended, the oldest first."""
    is_complete: bool
    """Whether these are all. A host remembers its last 100, and one that was set up anew none from before."""


@dataclass(frozen=True, kw_only=True)
class Changes:
    """What has happened on some hosts."""

    hosts: Mapping[HostName, HostChanges | FleetError]
    """In the order of fleet.toml; the error of a host that cannot be asked."""
    cursor: str
    """Stands for this moment: what comes after it, a later call with `since` tells."""


def write_cursor(fleet: str, serials: Mapping[HostName, Serial]) -> str:
    """Return the text that stands for the newest transaction of each host that has ended."""
    text = document({"fleet": fleet, "hosts": serials}).encode()
    return VERSION + base64.urlsafe_b64encode(zlib.compress(text, 9)).decode().rstrip("=")


def read_cursor(cursor: str, fleet: str) -> dict[HostName, Serial]:
    """Return the serials that a cursor of this fleet stands for. Raise `ConfigError` for any other text."""
    hint = "fleet changes prints one; write down all of it"
    if not cursor.startswith(VERSION):
        raise ConfigError(f"--since {cursor[:20]}: is no cursor of this version of fleet", hint=hint)
    try:
        packed = cursor.removeprefix(VERSION)
        unpacking = zlib.decompressobj()
        data = unpacking.decompress(base64.b64decode(packed + "=" * (-len(packed) % 4), b"-_", validate=True), LARGEST)
        found = parsed_json(data) if unpacking.eof else None
    except (ValueError, zlib.error):
        found = None
    if not isinstance(found, dict) or not isinstance(hosts := found.get("hosts"), dict):
        raise ConfigError(f"--since {cursor[:20]}: was cut or changed", hint=hint)
    if found.get("fleet") != fleet:
        raise ConfigError(f"--since: the cursor is not of the fleet {fleet}")
    if not all(isinstance(serial, str) and _SERIAL.fullmatch(serial) for serial in hosts.values()):
        raise ConfigError(f"--since {cursor[:20]}: was cut or changed", hint=hint)
    return {HostName(name): Serial(serial) for name, serial in hosts.items()}


async def changes(tools: Tools, hosts: tuple[Host, ...], since: str, on_wait: OnWait) -> Changes:
    """Return what has happened on the hosts since the cursor. Without one that is nothing, and the cursor is for now.

    Raise `ConfigError` for what is no cursor of the fleet.
    """
    inventory: Inventory = tools.inventory
    known = read_cursor(since, inventory.name) if since else {}

    async def look(host: Host, link: Link) -> tuple[PastTransaction, ...]:
        last = known.get(host.name, NO_SERIAL)
        return history.entries(await ask(link, host, HostProgram().call("history", last)))

    answers = await ask_all(tools.logins, hosts, look, on_wait=on_wait)
    serials = {name: serial for name, serial in known.items() if name in inventory.hosts}
    found: dict[HostName, HostChanges | FleetError] = {}
    for name, answer in answers.items():
        if isinstance(answer, FleetError):
            found[name] = answer
            continue
        last = known.get(name, NO_SERIAL)
        serials[name] = answer[-1].serial if answer else last
        found[name] = HostChanges(
            transactions=answer if since else (), is_complete=not since or _follow_on(answer, last)
        )
    return Changes(hosts=found, cursor=write_cursor(inventory.name, serials))


def _follow_on(entries: tuple[PastTransaction, ...], last: Serial) -> bool:
    """Return whether nothing is missing between the last transaction that was known and these, nor among them."""
    counts = [_count(last), *(_count(entry.serial) for entry in entries)]
    return all(later == earlier + 1 for earlier, later in itertools.pairwise(counts))


def _count(serial: Serial) -> int:
    """Return the count in a serial; -1 if a host says something else."""
    return int(serial.partition("-")[0]) if _SERIAL.fullmatch(serial) else -1
