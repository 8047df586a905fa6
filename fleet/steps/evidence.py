"""What a host wrote that tells why a switch failed: the lines of the units that matter, and nobody's "Started"."""

from __future__ import annotations

import itertools
import json
import re
from typing import TYPE_CHECKING, Any

from fleet.errors import HostError
from fleet.events import plain_text
from fleet.machine import Command

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fleet.host.answers import View
    from fleet.machine import Machine
    from fleet.model import RunId

MOST = 8
"""Lines. More is the journal's business."""
_UNIT = re.compile(r"[\w@.\\:-]+\.(?:service|socket|mount|timer|path)\b")
_PROGRESS = re.compile(r"(finished )?switching to system configuration /nix/store/")
"""What switch-to-configuration logs of every switch, good or bad."""
_GOING_BACK = re.compile(r"switching profile |removing profile |stopping the following |activating the config")
"""How a revert begins, after a commit that failed."""


async def lines(machine: Machine, run: RunId, end: View, reason: str, said: Sequence[str]) -> list[str]:
    """The last lines that matter: of the units that the reason names, else of those that the switch touched.

    `said` is what the switch itself wrote. Never raises: a failure is told with less, rather than not at all.
    """
    script = [line for line in said if not _PROGRESS.match(line)]
    keeper = f"fleet-keep-{run}.service"
    commit_failed = reason.startswith("commit")
    if not commit_failed and end.status not in (0, 4):
        return script[-MOST:]
    units = [] if commit_failed else units_in(reason) or units_in("\n".join(script))
    try:
        output = await machine.run(journal(units, keeper, since=end.since))
    except HostError:
        return script[-MOST:]
    entries = read(output.stdout)
    if commit_failed:
        texts = [text for unit, text in entries if unit == keeper]
        return list(itertools.takewhile(lambda text: not _GOING_BACK.match(text), texts))[-MOST:]
    return told(entries, keeper) or (script[-MOST:] if end.status == 4 else [])


def units_in(text: str) -> list[str]:
    """The units that a text names, without repeats."""
    return list(dict.fromkeys(_UNIT.findall(text)))


def journal(units: Sequence[str], keeper: str, *, since: int) -> Command:
    """Prints what the units wrote, what systemd noted of them at least as a notice, and what the keeper wrote."""
    by_them = [f"_SYSTEMD_UNIT={unit}" for unit in units]
    notices = [f"PRIORITY={number}" for number in range(6)]
    of_them = ["+", *(f"UNIT={unit}" for unit in units), *notices, "+"] if units else []
    flags = ("--quiet", "--no-pager", "--output=json", f"--since=@{since}", "--lines=400")
    return Command(argv=("journalctl", *flags, *by_them, *of_them, f"_SYSTEMD_UNIT={keeper}"), timeout=10.0)


def read(stdout: str) -> list[tuple[str, str]]:
    """Each entry of the journal as (unit, text). What is not an entry is left out."""
    found = []
    for row in stdout.splitlines():
        try:
            entry = json.loads(row)
        except ValueError:
            continue
        if isinstance(entry, dict):
            unit = entry.get("UNIT") or entry.get("_SYSTEMD_UNIT") or ""
            found += [(str(unit), text) for text in plain_text(_message(entry)).splitlines() if text.strip()]
    return found


def _message(entry: dict[str, Any]) -> str:
    """The message; the journal gives bytes as numbers where they are no proper text."""
    message = entry.get("MESSAGE")
    if isinstance(message, list):
        return bytes(message).decode(errors="replace")
    return message if isinstance(message, str) else ""


def told(entries: Iterable[tuple[str, str]], keeper: str) -> list[str]:
    """The last lines before the host began to go back: the keeper writes nothing before that."""
    before = []
    for unit, text in entries:
        if unit == keeper:
            break
        before.append((unit, text))
    several = len({unit for unit, _ in before}) > 1
    texts = [f"{unit}: {text}" if several else text for unit, text in before]
    return list(dict.fromkeys(texts))[-MOST:]
