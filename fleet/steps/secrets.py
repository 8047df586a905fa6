"""Write the secrets of a host outside of a transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleet.errors import FleetError
from fleet.host.locked import locked
from fleet.host.program import HostProgram
from fleet.host.secrets import Bringing, compare
from fleet.steps.preflight import preflight
from fleet.steps.secret_values import revealed
from fleet.steps.switch import while_lost

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fleet.host.secrets import Compared, SecretState
    from fleet.inventory import Host, SecretPlace
    from fleet.machine import Machine
    from fleet.model import RunId
    from fleet.steps.secret_values import SecretReader


async def put(
    machine: Machine, host: Host, reader: SecretReader, run: RunId, *, on_begin: Callable[[], object]
) -> Compared:
    """Let the host have the secrets of fleet.toml, and no others that it once got. Return what was written.

    `on_begin` is called when the host is about to be asked for that: it may write from then on, whatever comes back.
    Raise `SecretError` if a value cannot be read, `LockedError` if a transaction is open, and `UnfitError` if one
    cannot be written or if a unit does not start with them. Everything is as before then.
    """
    facts = await preflight(machine, host)  # the host has the program from now on: a call with input does not bring it
    if facts.transaction is not None:
        raise locked(host, facts.transaction)
    places = tuple(secret.place for secret in host.secrets.values())
    values = await _revealed(host, reader, places)
    on_begin()
    return await Bringing(machine, host, HostProgram(), run).put(places, values)


async def fill(machine: Machine, host: Host, reader: SecretReader, run: RunId) -> Compared | None:
    """Write what a reboot has taken of the secrets of a host, and return what that was; None if nothing is missing.

    A host that has none in memory is not asked. Raise `SecretError` if a value cannot be read here, and `UnfitError` if
    one cannot be written.
    """
    volatile = [secret for secret in host.secrets.values() if secret.is_volatile]
    if not volatile:
        return None
    facts = await preflight(machine, host)
    missing = facts.missing_secrets if facts.transaction is None else ()
    places = [one.place for one in volatile if one.name in missing]
    if not places:
        return None
    return await Bringing(machine, host, HostProgram(), run).fill(places, await _revealed(host, reader, places))


async def refill(machine: Machine, host: Host, reader: SecretReader, run: RunId) -> str:
    """Do the same after a reboot that was asked for. Return why that failed; nothing if it did not.

    A host that has just booted may be lost for a moment: it is asked again for as long as it waits to be confirmed.
    """
    try:
        await while_lost(lambda: fill(machine, host, reader, run), host.confirm_timeout)
    except FleetError as error:
        return f"its secrets could not be filled: {error.message}"
    return ""


async def _revealed(host: Host, reader: SecretReader, places: Sequence[SecretPlace]) -> dict[str, bytes]:
    return revealed(await reader.read(host, places))


async def look(machine: Machine, host: Host, reader: SecretReader) -> tuple[tuple[SecretState, ...], tuple[str, ...]]:
    """Return the state of each secret on the host, and the names of those there that fleet.toml does not have.

    No value is sent. Raise `SecretError` if one cannot be read here.
    """
    await preflight(machine, host)
    places = tuple(secret.place for secret in host.secrets.values())
    return await compare(machine, host, HostProgram(), places, await _revealed(host, reader, places))
