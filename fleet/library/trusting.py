"""Ask hosts for the keys that they answer with, and write those that people trust to fleet.toml."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleet.errors import FleetError
from fleet.inventory.edit import set_host_keys
from fleet.machine import CONTACTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from fleet.inventory import Host
    from fleet.library.reading import OnWait
    from fleet.machine.given import GivenTo
    from fleet.machine.login import Logins
    from fleet.model import HostName


@dataclass(frozen=True, kw_only=True)
class ShownKey:
    """The key that a host answers with, beside what is known of the host."""

    host: Host
    key: str
    """As OpenSSH writes it: `ssh-ed25519 AAAA…`."""
    fingerprint: str
    """As OpenSSH writes it: `SHA256:…`."""
    had_password: bool
    """Whether the sudo password went to a machine with another key before."""

    @property
    def is_in_file(self) -> bool:
        """Whether it is the key that fleet.toml has."""
        return self.host.host_key is not None and self.host.host_key.split()[:2] == self.key.split()[:2]

    @property
    def is_changed(self) -> bool:
        """Whether fleet.toml has another one."""
        return self.host.host_key is not None and not self.is_in_file

    @property
    def is_trusted(self) -> bool:
        """Whether people need not look at it."""
        return self.is_in_file and not self.had_password

    @property
    def remarks(self) -> str:
        """What people should know before they trust it."""
        known = self.host.host_key
        remarks = ["known" if self.is_in_file else "new"]
        if self.is_changed and known is not None:
            remarks = [f"ANOTHER than in fleet.toml, {fingerprint(known)}"]
        if self.had_password:
            remarks.append("the sudo password went to a machine with another key before")
        return "; ".join(remarks)


def fingerprint(key: str) -> str:
    """Return the SHA-256 of a key that fleet.toml has, as OpenSSH writes it."""
    digest = hashlib.sha256(base64.b64decode(key.split()[1])).digest()
    return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"


async def shown_keys(
    logins: Logins, hosts: Sequence[Host], given: GivenTo, *, on_wait: OnWait
) -> dict[HostName, ShownKey | FleetError]:
    """Return the key that each host answers with, or why it does not answer. Nobody logs in."""

    left = {host.name: None for host in hosts}
    places = asyncio.Semaphore(CONTACTS)
    on_wait(tuple(left))

    async def look(host: Host) -> ShownKey | FleetError:
        try:
            async with places:
                key, digest = await logins.host_key(host)
        except FleetError as error:
            return error
        finally:
            del left[host.name]
            on_wait(tuple(left))
        return ShownKey(host=host, key=key, fingerprint=digest, had_password=given.knows_another(host.name, digest))

    found = await asyncio.gather(*map(look, hosts))
    return {host.name: each for host, each in zip(hosts, found, strict=True)}


def trust_keys(file: Path, keys: Iterable[ShownKey], given: GivenTo) -> int:
    """Write the keys to fleet.toml, all or none, and let their hosts have the sudo password.

    Return how many were written: a key that the file has is left as it is. Raise `ConfigError` or `StateError`.
    """
    keys = tuple(keys)
    if unwritten := {shown.host.name: shown.key for shown in keys if not shown.is_in_file}:
        set_host_keys(file, unwritten)
    for shown in keys:
        given.allow(shown.host.name, shown.fingerprint)
    return len(unwritten)
