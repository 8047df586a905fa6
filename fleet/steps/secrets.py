"""Write the secrets of a host outside of a transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleet.errors import LockedError, SecretError, UnfitError
from fleet.host.locked import locked
from fleet.host.program import HostProgram
from fleet.host.secrets import Bringing, compare
from fleet.steps.preflight import preflight

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleet.host.secrets import Compared, SecretState
    from fleet.inventory import Host, SecretPlace
    from fleet.machine import Machine
    from fleet.model import RunId
    from fleet.steps.secret_values import SecretReader


async def put(machine: Machine, host: Host, reader: SecretReader, run: RunId) -> Compared:
    """Let the host have the secrets of fleet.toml, and no others that it once got. Return what was written.

    Raise `SecretError` if a value cannot be read, `LockedError` if a transaction is open, and `UnfitError` if one
    cannot be written or if a unit does not start with them. Everything is as before then.
    """
    facts = await preflight(machine, host)  # the host has the program from now on: a call with input does not bring it
    if facts.transaction is not None:
        raise locked(host, facts.transaction)
    places = tuple(secret.place for secret in host.secrets.values())
    return await Bringing(machine, host, HostProgram(), run).put(places, await _revealed(host, reader, places))


async def fill(machine: Machine, host: Host, reader: SecretReader, run: RunId) -> Compared | None:
    """Write what a reboot has taken of the secrets of a host, and return what that was; None if nothing is missing.

    Raise `SecretError` if a value cannot be read here, and `UnfitError` if one cannot be written.
    """
    facts = await preflight(machine, host)
    missing = facts.missing_secrets if facts.transaction is None else ()
    places = [one.place for one in host.secrets.values() if one.is_volatile and one.name in missing]
    if not places:
        return None
    return await Bringing(machine, host, HostProgram(), run).fill(places, await _revealed(host, reader, places))


async def refill(machine: Machine, host: Host, reader: SecretReader, run: RunId) -> str:
    """Do the same after a reboot that was asked for. Return why that failed; nothing if it did not."""
    try:
        await fill(machine, host, reader, run)
    except (SecretError, UnfitError, LockedError) as error:
        return f"its secrets could not be filled: {error.message}"
    return ""


async def _revealed(host: Host, reader: SecretReader, places: Sequence[SecretPlace]) -> dict[str, bytes]:
    return {name: value.reveal() for name, value in (await reader.read(host, places)).items()}


async def look(machine: Machine, host: Host, reader: SecretReader) -> tuple[tuple[SecretState, ...], tuple[str, ...]]:
    """Return the state of each secret on the host, and the names of those there that fleet.toml does not have.

    No value is sent. Raise `SecretError` if one cannot be read here.
    """
    await preflight(machine, host)
    places = tuple(secret.place for secret in host.secrets.values())
    return await compare(machine, host, HostProgram(), places, await _revealed(host, reader, places))
