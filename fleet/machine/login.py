"""Logging in: addresses, jump hosts, host keys and identities become one SshMachine."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncssh

from fleet.errors import HostError, HostKeyError, UnreachableError
from fleet.machine.ssh import Secret, SshMachine
from fleet.machine.translate import translated

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from fleet.inventory import Host
    from fleet.model import HostName

CONNECT_TIMEOUT = 10.0
LOGIN_TIMEOUT = 20.0
KEEPALIVE_INTERVAL = 5.0
KEEPALIVE_COUNT = 4
"""A silent connection is given up after interval times count, 20 s."""
SYSTEM_KNOWN_HOSTS = Path("/etc/ssh/ssh_known_hosts")


@dataclass(frozen=True)
class Logins:
    """How to reach every host of an inventory: hosts may be each other's jump hosts."""

    hosts: Mapping[HostName, Host]
    sudo_passwords: Mapping[HostName, Secret] = field(default_factory=dict)

    @contextlib.asynccontextmanager
    async def connect(self, host: Host) -> AsyncIterator[SshMachine]:
        """A new connection to the first of the host's addresses that lets us in; closed on the way out.

        Raises `UnreachableError`, `AuthenticationError` or `HostKeyError`.
        """
        async with contextlib.AsyncExitStack() as stack:
            tunnel = await self._tunnel(stack, host)
            machine = await self._first_address(host, tunnel)
            stack.push_async_callback(machine.close)
            yield machine

    async def _tunnel(self, stack: contextlib.AsyncExitStack, host: Host) -> Any:
        if host.jump is None:
            return ()
        jump = next((known for name, known in self.hosts.items() if name == host.jump), None)
        if jump is None:
            return host.jump
        machine = await stack.enter_async_context(self.connect(jump))
        return machine.connection

    async def _first_address(self, host: Host, tunnel: Any) -> SshMachine:
        errors: list[HostError] = []
        for address in host.address:
            try:
                with translated(host.name):
                    options = _options(host, address, tunnel)
                    connection = await asyncssh.connect(address, tunnel=tunnel, options=options)
            except HostError as error:
                errors.append(error)
            else:
                return SshMachine(host, connection, address, self.sudo_passwords.get(host.name))
        raise _most_telling(errors)

    async def host_key(self, host: Host) -> tuple[str, str]:
        """The key that answers at the host's first reachable address: `(ssh-ed25519 AAAA…, SHA256:…)`."""
        async with contextlib.AsyncExitStack() as stack:
            tunnel = await self._tunnel(stack, host)
            error: HostError = UnreachableError(host.name, "no address")
            for address in host.address:
                try:
                    with translated(host.name):
                        options = _options(host, address, tunnel)
                        key = await asyncssh.get_server_host_key(address, tunnel=tunnel, options=options)
                except HostError as caught:
                    error = caught
                    continue
                if key is not None:
                    text = " ".join(key.export_public_key().decode().split()[:2])
                    return text, key.get_fingerprint()
            raise error


def _most_telling(errors: list[HostError]) -> HostError:
    """An address that answers and refuses says more than one that is silent."""
    refusals = [error for error in errors if not isinstance(error, UnreachableError)]
    return (refusals or errors)[0]


def _options(host: Host, address: str, tunnel: Any) -> asyncssh.SSHClientConnectionOptions:
    """What fleet.toml says; what it leaves open is ~/.ssh/config's, whose word asyncssh takes by itself."""
    chosen: dict[str, Any] = {}
    if host.port is not None:
        chosen["port"] = host.port
    if host.user is not None:
        chosen["username"] = host.user
    if host.identity_file is not None:
        chosen["client_keys"] = [str(host.identity_file)]
    options = asyncssh.SSHClientConnectionOptions(
        host=address,
        tunnel=tunnel,
        connect_timeout=CONNECT_TIMEOUT,
        login_timeout=LOGIN_TIMEOUT,
        keepalive_interval=KEEPALIVE_INTERVAL,
        keepalive_count_max=KEEPALIVE_COUNT,
        **chosen,
    )
    if host.user is None and options.config.get("User") is None:
        chosen["username"] = "root"
    trusted = _known_hosts(host, options.known_hosts)
    return asyncssh.SSHClientConnectionOptions(options, known_hosts=trusted, **chosen)


def _known_hosts(host: Host, configured: Any) -> Any:
    """The keys to trust. Never None, which would trust every key."""
    if host.host_key is not None:
        try:
            return [asyncssh.import_public_key(host.host_key)], [], []
        except asyncssh.KeyImportError as error:
            raise HostKeyError(host.name, f"host_key in fleet.toml is not a key: {error}") from error
    files = configured or [Path("~/.ssh/known_hosts").expanduser(), SYSTEM_KNOWN_HOSTS]
    return [str(file) for file in files if Path(file).is_file()] or b""
