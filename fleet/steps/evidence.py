"""Find the lines that explain why a switch failed: from the units that matter, without messages such as "Started"."""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING, Any

from fleet.errors import HostError
from fleet.machine import Command
from fleet.scripts import script
from fleet.text import parsed_json, plain_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fleet.host.answers import View
    from fleet.machine import Machine
    from fleet.model import RunId

LONGEST = 1000
"""Characters of a line, at most."""
MOST = 8
"""The largest number of lines. Whoever needs more reads the journal."""
MOST_ENTRIES = 400
"""Entries of the journal that are read, at most."""
MOST_UNITS, LONGEST_UNIT = 20, 255
"""Units whose journal is read, at most, and characters of a unit's name (systemd's own limit)."""
_UNIT = re.compile(rf"(?<![\w@.\\:-])[\w@.\\:-]{{1,{LONGEST_UNIT}}}+")
"""A word that may be the name of a unit. Each is looked at once, so that a long text takes no more than its length."""
_SUFFIX = re.compile(r"\.(?:service|socket|mount|timer|path)\b")
_BY_SYSTEMD = "_PID=1"
"""Who alone is believed when it says what unit an entry is about: anybody may write `UNIT=`, and nobody `_PID=`."""
_PROGRESS = re.compile(r"(finished )?switching to system configuration /nix/store/")
"""What switch-to-configuration writes in every switch, good or bad."""
_GOING_BACK = re.compile(r"switching profile |removing profile |stopping the following |activating the config")
"""The beginning of a revert in the keeper's journal, after a commit that failed."""


async def lines(
    machine: Machine, run: RunId, end: View, reason: str, said: Sequence[str], *, user: str = ""
) -> list[str]:
    """Return the last lines that matter: of the units that `reason` names, otherwise of those that the switch touched.

    `said` is the output of the switch. The units are those of `user`, if there is one. Never raises: a failure is
    better reported with fewer lines than not at all.
    """
    switch_lines = [line for line in said if not _PROGRESS.match(line)]
    keeper = f"fleet-keep-{run}.service"
    commit_failed = reason.startswith("commit")
    if not commit_failed and end.status not in (0, 4):
        return switch_lines[-MOST:]
    units = [] if commit_failed else units_in(reason) or units_in("\n".join(switch_lines))
    try:
        output = await machine.run(journal(units, run, since=end.since, user=user))
    except HostError:
        return switch_lines[-MOST:]
    entries = read(output.stdout)
    if commit_failed:
        texts = [text for unit, text in entries if unit == keeper]
        return list(itertools.takewhile(lambda text: not _GOING_BACK.match(text), texts))[-MOST:]
    return before_going_back(entries, keeper) or (switch_lines[-MOST:] if end.status == 4 else [])


def units_in(text: str) -> list[str]:
    """Return the systemd units that the text names, each once, and no more than `MOST_UNITS`."""
    found: dict[str, None] = {}
    for word in _UNIT.findall(text):
        if ends := [match.end() for match in _SUFFIX.finditer(word, 1)]:
            found[word[: ends[-1]]] = None
        if len(found) == MOST_UNITS:
            break
    return list(found)


def journal(units: Sequence[str], run: RunId, *, since: int, user: str = "") -> Command:
    """Return the command that prints what the units and the run's keeper wrote since `since`, seconds since 1970.

    Of systemd's own messages about the units it prints notices and worse. With `user` the units are of that one's own
    systemd, which nobody has to believe: it prints none of its messages.
    """
    words = (run, str(since), str(MOST_ENTRIES), *([user] if user else []), *units)
    argv = ("sh", "-c", script("fleet.steps", "evidence-home" if user else "evidence"), "sh", *words)
    return Command(argv=argv, timeout=10.0, name="journalctl", verb=("evidence", *words))


def read(stdout: str) -> list[tuple[str, str]]:
    """Return each entry of `journalctl --output=json` as (unit, text). Lines that are no entry are left out."""
    found = []
    for row in stdout.splitlines()[-MOST_ENTRIES:]:
        try:
            entry = parsed_json(row)
        except ValueError:
            continue
        if isinstance(entry, dict):
            by_systemd = f"_PID={entry.get('_PID')}" == _BY_SYSTEMD
            unit = (
                (by_systemd and entry.get("UNIT"))
                or entry.get("_SYSTEMD_USER_UNIT")
                or entry.get("_SYSTEMD_UNIT")
                or ""
            )
            name = plain_text(unit)[:LONGEST_UNIT] if isinstance(unit, str) else ""
            found += [(name, text[:LONGEST]) for text in plain_text(_message(entry)).splitlines() if text.strip()]
    return found


def _message(entry: dict[str, Any]) -> str:
    """Return the message of an entry. The journal gives bytes that are no valid text as a list of numbers."""
    message = entry.get("MESSAGE")
    if isinstance(message, list):
        numbers = [number for number in message if isinstance(number, int) and 0 <= number < 256]
        return bytes(numbers).decode(errors="replace")
    return message if isinstance(message, str) else ""


def before_going_back(entries: Iterable[tuple[str, str]], keeper: str) -> list[str]:
    """Return the last lines from before the host began to go back.

    The keeper's first line marks that moment: it writes nothing earlier.
    """
    before = []
    for unit, text in entries:
        if unit == keeper:
            break
        before.append((unit, text))
    several = len({unit for unit, _ in before}) > 1
    texts = [f"{unit}: {text}" if several else text for unit, text in before]
    return list(dict.fromkeys(texts))[-MOST:]
