"""Log in to hosts: addresses, jump hosts, host keys and identities become one SshMachine."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

import asyncssh

from fleet.errors import AuthenticationError, HostError, UnreachableError
from fleet.inventory.local import named_address, remote_addresses
from fleet.inventory.values import host_and_port
from fleet.machine.addresses import Resources, first_that_works
from fleet.machine.entry import SYSTEM_KNOWN_HOSTS, Entries, Entry, JumpHost
from fleet.machine.files import LoginFiles
from fleet.machine.keys import Offers, agent_keys
from fleet.machine.link import SshLink
from fleet.machine.openssh import OpenSsh
from fleet.machine.own import OwnMachine
from fleet.machine.own_link import OwnLink
from fleet.machine.recognition import HOST_KEYS, fingerprint, is_here, not_here
from fleet.machine.refusals import explained
from fleet.machine.ssh import SshMachine
from fleet.machine.translate import translated
from fleet.machine.witness import Patience, Witness
from fleet.model import HostName

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
    from pathlib import Path

    from fleet.inventory import Host
    from fleet.machine import Link, OnAnswer
    from fleet.machine.given import GivenTo
    from fleet.machine.pace import Pace
    from fleet.machine.sudo import Secret

Found = TypeVar("Found")


PATIENCE = Patience()
NO_OPENSSH = "there is no ssh on PATH, so not all of ~/.ssh/config counts, and nothing of /etc/ssh/ssh_config"
ASKED_AGAIN = {
    "host", "port", "proxy_command", "family", "local_addr", "kex_algs", "server_host_key_algs", "config",
}  # fmt: skip
"""What asyncssh.get_server_host_key takes from its own arguments, though they are among the options."""
JUMPS_AT_ONCE = 6
"""Logins at a time through one jump host. sshd drops some as soon as ten are under way (MaxStartups 10:30:100)."""


class _Doors:
    """Limits how many logins to each jump host are under way at a time.

    Jump hosts never lead in a circle, so nobody waits for each other. A semaphore belongs to one event loop, and
    threads with a loop each may share their `Logins`.
    """

    def __init__(self) -> None:
        self._of: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[HostName, asyncio.Semaphore]] = WeakKeyDictionary()

    def to(self, jump: HostName) -> asyncio.Semaphore:
        """Return the semaphore to hold during a login to the jump host."""
        doors = self._of.setdefault(asyncio.get_running_loop(), {})
        return doors.setdefault(jump, asyncio.Semaphore(JUMPS_AT_ONCE))


@dataclass(frozen=True)
class Logins:
    """Connects to every host of an inventory. Hosts may be each other's jump hosts.

    Any number of threads may share it, each with its own event loop. A connection belongs to the loop that opened it.
    """

    hosts: Mapping[HostName, Host]
    sudo_passwords: Mapping[HostName, Secret] = field(default_factory=dict)
    given: GivenTo | None = None
    """Remembers who gets these passwords. None gives them to whoever asks."""
    patience: Patience = PATIENCE
    system_known_hosts: Path = SYSTEM_KNOWN_HOSTS
    host_keys: Path = HOST_KEYS
    """The folder with the public host keys of this machine."""
    files: LoginFiles = field(default_factory=LoginFiles)
    openssh: OpenSsh = field(default_factory=OpenSsh)
    tell: Callable[[HostName, str], None] = lambda _host, _text: None
    """Tells people at once what a host wants of them before it lets us in: a link, a touch."""
    _doors: _Doors = field(default_factory=lambda: _Doors(), repr=False, compare=False)

    @property
    def entries(self) -> Entries:
        """Return what finds out how to log in."""
        return Entries(files=self.files, openssh=self.openssh, system_known_hosts=self.system_known_hosts)

    @contextlib.asynccontextmanager
    async def connect(self, host: Host, *, on_answer: OnAnswer | None = None) -> AsyncIterator[SshMachine]:
        """Open a connection to one of the host's addresses that lets us in, and close it on the way out.

        The addresses are tried in their order, the next one also where one does not answer soon. `on_answer` is called
        when one does. Raise `UnreachableError`, `AuthenticationError` or `HostKeyError`.
        """
        async with self._connect(host, (), on_answer) as machine:
            yield machine

    def link(self, host: Host, *, pace: Pace | None = None) -> Link:
        """See `Connector.link`. Where this very machine is the host, the link needs no SSH; only a proof logs in."""
        if not self.is_here(host):
            return SshLink(self, host, pace=pace)
        machine = OwnMachine(host, self.sudo_passwords.get(host.name))
        return OwnLink(host, machine, functools.partial(self.connect_here, host))

    def is_here(self, host: Host) -> bool:
        """Whether the host is this very machine, and reached without SSH."""
        return is_here(host, self.host_keys)

    @contextlib.asynccontextmanager
    async def connect_here(self, host: Host, *, by_keys: bool) -> AsyncIterator[SshMachine]:
        """Log in to the SSH server of this machine, which is the host, and log out on the way out.

        Without `by_keys` no key is offered. Raise `UnreachableError`, `AuthenticationError` or `HostKeyError`.
        """
        with translated(host.name):
            entry = await self.entries.entry_here(host)
            connection = await self._log_in(entry, None, lambda: None, by_keys=by_keys)
        machine = SshMachine(host, connection, entry.address, self.sudo_passwords.get(host.name), self.given)
        async with contextlib.AsyncExitStack() as resources:
            resources.push_async_callback(machine.close)
            yield machine

    async def host_key(self, host: Host) -> tuple[str, str]:
        """Return the key that the host shows at its first reachable address, and the key's fingerprint.

        Both are text: `(ssh-ed25519 AAAA…, SHA256:…)`. If this machine is the host, that is the key of fleet.toml.
        """
        if self.is_here(host) and host.host_key is not None:
            return host.host_key, fingerprint(host.host_key)

        async def ask(entry: Entry, tunnel: Any, on_answer: OnAnswer, _: Resources) -> tuple[str, str]:
            key = await self._shown_key(entry, tunnel, on_answer)
            if key is None:
                raise UnreachableError(host.name, "the host shows no key")
            return " ".join(key.export_public_key().decode().split()[:2]), key.get_fingerprint()

        async with contextlib.AsyncExitStack() as way:
            return await self._at_first_address(way, host, (), ask)

    async def user(self, host: Host) -> str:
        """Return the user who logs in to the host.

        Raise `AuthenticationError` if the SSH configuration cannot be read.
        """
        return (await self.entries.settings(host, named_address(host))).user

    @contextlib.asynccontextmanager
    async def _connect(
        self, host: Host, via: tuple[HostName, ...], on_answer: OnAnswer | None = None
    ) -> AsyncIterator[SshMachine]:
        async def log_in(entry: Entry, tunnel: Any, answered: OnAnswer, resources: Resources) -> SshMachine:
            def tell() -> None:
                answered()
                if on_answer is not None:
                    on_answer()

            connection = await self._log_in(entry, tunnel, tell)
            machine = SshMachine(host, connection, entry.address, self.sudo_passwords.get(host.name), self.given)
            resources.push_async_callback(machine.close)
            return machine

        async with contextlib.AsyncExitStack() as way:
            yield await self._at_first_address(way, host, via, log_in)

    async def _log_in(
        self, entry: Entry, tunnel: Any, on_answer: OnAnswer, *, by_keys: bool = True
    ) -> asyncssh.SSHClientConnection:
        """Log in, and raise a `HostError` that says in words why it failed."""
        host = entry.host
        if self.openssh.is_missed():
            self.tell(host.name, NO_OPENSSH)
        async with agent_keys(entry.settings.agent) as held:
            try:
                offers = entry.offers(held) if by_keys else Offers()
            except OSError as error:
                what = f"cannot read {error.filename}: {error.strerror}"
                hint = f"correct identity_file of {host.name} in fleet.toml, or put the key there"
                raise AuthenticationError(host.name, what, hint=hint) from error
            limit = asyncio.timeout(entry.connect_timeout(self.patience))
            witness = Witness(
                self.patience,
                limit,
                offers,
                tell=lambda text: self.tell(host.name, text),
                on_answer=on_answer,
                by_proxy=entry.is_by_proxy and tunnel is None,
            )
            arguments = entry.arguments(self.patience)
            try:
                async with limit:
                    return await asyncssh.connect(**arguments, tunnel=tunnel, client_factory=lambda: witness)
            except (asyncssh.Error, OSError) as error:
                trusted = entry.trusted(witness.peer)
                if trusted and witness.is_lost_in_handshake:
                    # As when the host has no key of the kind that is known: it goes, and does not say why.
                    with contextlib.suppress(HostError):
                        shown = await self._shown_key(entry, tunnel)
                        witness.stranger = shown if shown not in trusted else None
                raised = explained(host.name, error, witness, trusted)
                if tunnel is not None and isinstance(raised, UnreachableError):
                    raised.is_silent = False
                if isinstance(raised, AuthenticationError):
                    raised.has_proven_key = witness.has_proven_key
                raise raised from error
            finally:
                witness.end()

    async def _shown_key(self, entry: Entry, tunnel: Any, on_answer: OnAnswer | None = None) -> asyncssh.SSHKey | None:
        """Return the key that answers there, whether or not it is to be trusted. Raise a `HostError`."""
        limit = asyncio.timeout(entry.connect_timeout(self.patience))
        by_proxy = entry.is_by_proxy and tunnel is None
        witness = Witness(self.patience, limit, Offers(), on_answer=on_answer, by_proxy=by_proxy)
        arguments = entry.arguments(self.patience)
        options = asyncssh.SSHClientConnectionOptions(**arguments, client_factory=lambda: witness)
        again = {key: value for key, value in arguments.items() if key in ASKED_AGAIN}
        try:
            async with limit:
                return await asyncssh.get_server_host_key(**again, tunnel=tunnel, options=options)
        except (asyncssh.Error, OSError) as error:
            raise explained(entry.host.name, error, witness, ()) from error

    async def _at_first_address(
        self,
        way: Resources,
        host: Host,
        via: tuple[HostName, ...],
        act: Callable[[Entry, Any, OnAnswer, Resources], Awaitable[Found]],
    ) -> Found:
        """Try `act` at each address, and return what it returns where it works first.

        `way` closes what it has opened there, and the jump hosts that lead there.
        """

        async def attempt(address: str, on_answer: OnAnswer) -> tuple[Found, Resources]:
            async with contextlib.AsyncExitStack() as resources:
                with translated(host.name):
                    entry = await self.entries.entry(host, address)
                    tunnel = await self._tunnel(resources, host, entry.settings.proxy_jump, via)
                    found = await act(entry, tunnel, on_answer, resources)
                return found, resources.pop_all()

        addresses = remote_addresses(host)
        if not addresses:
            raise not_here(host, self.host_keys)
        found, resources = await first_that_works([functools.partial(attempt, address) for address in addresses])
        await way.enter_async_context(resources)
        return found

    async def _tunnel(
        self, way: contextlib.AsyncExitStack, host: Host, configured: str, via: tuple[HostName, ...]
    ) -> asyncssh.SSHClientConnection | None:
        """Connect to the jump host, if there is one: by fleet.toml, else by the SSH configuration."""
        jump = self._jump(host, configured)
        passed = (*via, host.name)
        # As in OpenSSH, a ProxyJump that matches every host does not apply to the jump host itself.
        if jump is None or (jump.name in passed and host.jump is None) or self.is_here(jump):
            return None
        try:
            async with self._doors.to(jump.name):
                machine = await way.enter_async_context(self._connect(jump, passed))
        except HostError as error:
            message = f"jump host {jump.name}: {error.message}"
            raised = type(error)(host.name, message, said=error.said, hint=error.hint)
            if isinstance(error, UnreachableError) and isinstance(raised, UnreachableError):
                raised.turns_away = error.turns_away
            raise raised from error
        return machine.connection

    def _jump(self, host: Host, configured: str) -> Host | None:
        words = host.jump or configured
        before, _, last = words.rpartition(",")
        known = self.hosts.get(HostName(last))
        if known is not None or not last:
            return known
        user, _, place = last.removeprefix("ssh://").rpartition("@")
        try:
            address, port = host_and_port(place)
        except ValueError as error:
            raise AuthenticationError(host.name, f"jump host {last}: {error}") from error
        return JumpHost.model_construct(
            name=HostName(last), address=(address,), port=port, user=user or None, jump=before or None
        )
