"""Ask the host program about secrets: what it reads on stdin, and what its answers say."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleet.host.answers import names
from fleet.host.program import ANSWER_TIMEOUT, ask

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from fleet.host.answers import Lines
    from fleet.host.program import HostProgram
    from fleet.inventory import Host, SecretPlace
    from fleet.machine import Machine
    from fleet.model import RunId

PUT_TIMEOUT = 300.0
"""Seconds in which a host has written its secrets, and has started anew what reads them: it may take 90 for that."""
NO_RUN = "secrets"
"""What stands for a run where there is none."""


@dataclass(frozen=True, kw_only=True)
class Compared:
    """What a host says of the secrets that it got."""

    changed: tuple[str, ...]
    """The names of those that were not there, or not the same."""
    unknown_units: tuple[str, ...] = ()
    """Units that were to be started anew, and that are not there."""


@dataclass(frozen=True, kw_only=True)
class SecretState:
    """What is in the place of one secret on a host."""

    place: SecretPlace
    state: str
    """`same`; `differs`; `absent`; `unsafe`: somebody else than root decides what is there, or it is no file."""


def written(places: Iterable[SecretPlace], values: Mapping[str, bytes]) -> str:
    """Return the secrets as the host program reads them."""
    lines = []
    for place in places:
        lines += [f"secret {place}", f"value {base64.b64encode(values[place.name]).decode()}"]
    return "".join(f"{line}\n" for line in (*lines, "end"))


@dataclass(frozen=True)
class Bringing:
    """Brings secrets to a host in one run."""

    machine: Machine
    host: Host
    program: HostProgram
    run: RunId

    async def stage(self, places: Sequence[SecretPlace], values: Mapping[str, bytes]) -> Compared:
        """Bring the values to the host, where they wait in memory for the run to begin.

        Raise `UnfitError` if one cannot be written to its place.
        """
        return await self._bring("stage", places, values, timeout=ANSWER_TIMEOUT)

    async def put(self, places: Sequence[SecretPlace], values: Mapping[str, bytes]) -> Compared:
        """Write the values to their places now. Those that differ are written, and their units are started anew.

        Secrets that the host got earlier and that are not among these are removed. Raise `UnfitError` if one cannot be
        written, or if a unit does not start: then what was there is back. Raise `LockedError` if a transaction is open.
        """
        return await self._bring("put", places, values, timeout=PUT_TIMEOUT)

    async def fill(self, places: Sequence[SecretPlace], values: Mapping[str, bytes], *, number: str = "") -> Compared:
        """Write values that a reboot has taken to their places, and start their units anew. No other secret is touched.

        However often this is done, it is done once. No transaction is open, or it is that of the run, whose new system
        has booted on trial and which the process with this number proves: otherwise raise `LockedError`. Raise
        `UnfitError` if one cannot be written.
        """
        return await self._bring("fill", places, values, timeout=PUT_TIMEOUT, number=number)

    async def _bring(
        self, verb: str, places: Sequence[SecretPlace], values: Mapping[str, bytes], *, timeout: float, number: str = ""
    ) -> Compared:
        words = (verb, self.run, *([number] if number else []))
        command = self.program.call("secrets", *words, stdin=written(places, values))
        return compared(await ask(self.machine, self.host, dataclasses.replace(command, timeout=timeout)), places)


def compared(lines: Lines, places: Sequence[SecretPlace]) -> Compared:
    """Return what the answer says of these secrets. Other names that a host may say are nobody's."""
    differ, unknown = set(lines.get("compared", ())), set(lines.get("unknown_unit", ()))
    units = dict.fromkeys(unit for place in places for unit in place.restart)
    return Compared(
        changed=tuple(place.name for place in places if f"{place.name} yes" in differ),
        unknown_units=tuple(unit for unit in units if unit in unknown),
    )


async def compare(
    machine: Machine, host: Host, program: HostProgram, places: Sequence[SecretPlace], values: Mapping[str, bytes]
) -> tuple[tuple[SecretState, ...], tuple[str, ...]]:
    """Return the state of each secret on the host, and the names of those that are there and not among these.

    No value is sent. The host computes digests with a key that is drawn for this question.
    """
    key = secrets.token_hex(32)
    text = "".join(f"{line}\n" for line in (f"key {key}", *(f"secret {place}" for place in places), "end"))
    lines = await ask(machine, host, program.call("secrets", "compare", NO_RUN, stdin=text))
    return states(lines, places, key, values), left(lines, places)


def states(
    lines: Lines, places: Sequence[SecretPlace], key: str, values: Mapping[str, bytes]
) -> tuple[SecretState, ...]:
    """Return the state of each of these secrets by the answer, which has digests under this key."""
    said = dict(line.split(" ", 1) for line in lines.get("secret", ()) if " " in line)
    return tuple(
        SecretState(place=place, state=_state(place, said.get(place.name, ""), key, values[place.name]))
        for place in places
    )


def left(lines: Lines, places: Sequence[SecretPlace]) -> tuple[str, ...]:
    """Return the names of secrets that the host got once, and that have no place any more."""
    paths = {place.path for place in places}
    known = [line.partition(" ") for line in lines.get("known", ())]
    return names([name for name, _, path in known if path not in paths])


def _state(place: SecretPlace, said: str, key: str, value: bytes) -> str:
    if said in ("absent", "unsafe"):
        return said
    wanted = hashlib.sha256(key.encode() + value).hexdigest()
    return "same" if said == f"{wanted} {place.owner}:{place.group}:{place.mode}" else "differs"
