"""Log in to hosts: addresses, jump hosts, host keys and identities become one SshMachine."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

import asyncssh

from fleet.errors import AuthenticationError, HostError, HostKeyError, UnreachableError
from fleet.inventory import Host, LinkSpeed
from fleet.inventory.values import host_and_port
from fleet.machine.files import LoginFiles
from fleet.machine.ssh import Secret, SshMachine
from fleet.machine.translate import translated
from fleet.model import HostName

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

Found = TypeVar("Found")


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long a host may be silent before it is given up, in seconds."""

    connect: float = 10.0
    """Until its address answers."""
    login: float = 20.0
    """Until it has let us in."""
    keepalive: float = 5.0
    """Between two keepalive questions. Four without an answer end the connection."""


PATIENCE = Patience()
FAST_CIPHERS = "^aes128-gcm@openssh.com,aes256-gcm@openssh.com"
"""Preferred to asyncssh's own first choice, ChaCha20, which takes twice the CPU time here (1 GiB: 2.2 s against 1.2 s).
Not used for hosts whose processor has no instructions for AES: ChaCha20 is faster there."""
COMPRESSION = ("zlib@openssh.com", "none")
KEEPALIVE_COUNT = 4
JUMPS_AT_ONCE = 6
"""Logins at a time through one jump host. sshd drops some as soon as ten are under way (MaxStartups 10:30:100)."""
USER_KNOWN_HOSTS = Path("~/.ssh/known_hosts")
SYSTEM_KNOWN_HOSTS = Path("/etc/ssh/ssh_known_hosts")


class JumpHost(Host):
    """A jump host that fleet.toml does not describe. Everything about it comes from ~/.ssh/config."""


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
    patience: Patience = PATIENCE
    system_known_hosts: Path = SYSTEM_KNOWN_HOSTS
    files: LoginFiles = field(default_factory=LoginFiles)
    _doors: _Doors = field(default_factory=lambda: _Doors(), repr=False, compare=False)

    @contextlib.asynccontextmanager
    async def connect(self, host: Host) -> AsyncIterator[SshMachine]:
        """Open a connection to the first of the host's addresses that lets us in, and close it on the way out.

        Raise `UnreachableError`, `AuthenticationError` or `HostKeyError`.
        """
        async with self._connect(host, ()) as machine:
            yield machine

    async def host_key(self, host: Host) -> tuple[str, str]:
        """Return the key that the host shows at its first reachable address, and the key's fingerprint.

        Both are text: `(ssh-ed25519 AAAA…, SHA256:…)`.
        """

        async def ask(address: str, tunnel: Any, options: asyncssh.SSHClientConnectionOptions) -> tuple[str, str]:
            key = await asyncssh.get_server_host_key(address, tunnel=tunnel, options=options, config=None)
            if key is None:
                raise UnreachableError(host.name, "the host shows no key")
            return " ".join(key.export_public_key().decode().split()[:2]), key.get_fingerprint()

        async with contextlib.AsyncExitStack() as way:
            return await self._at_first_address(way, host, (), ask)

    async def user(self, host: Host) -> str:
        """Return the user who logs in to the host.

        Raise `AuthenticationError` if ~/.ssh/config or a key that it names cannot be read.
        """
        with translated(host.name):
            name: str = (await self._options(host, host.address[0])).username
        return name

    @contextlib.asynccontextmanager
    async def _connect(self, host: Host, via: tuple[HostName, ...]) -> AsyncIterator[SshMachine]:
        async def log_in(address: str, tunnel: Any, options: asyncssh.SSHClientConnectionOptions) -> SshMachine:
            connection = await asyncssh.connect(address, tunnel=tunnel, options=options, config=None)
            return SshMachine(host, connection, address, self.sudo_passwords.get(host.name))

        async with contextlib.AsyncExitStack() as way:
            machine = await self._at_first_address(way, host, via, log_in)
            way.push_async_callback(machine.close)
            yield machine

    async def _at_first_address(
        self,
        way: contextlib.AsyncExitStack,
        host: Host,
        via: tuple[HostName, ...],
        act: Callable[[str, Any, asyncssh.SSHClientConnectionOptions], Awaitable[Found]],
    ) -> Found:
        """Try `act` at each address, and return what it returns at the first where it works.

        `way` closes the jump hosts that lead there.
        """
        errors: list[HostError] = []
        for address in host.address:
            try:
                async with contextlib.AsyncExitStack() as tunnels:
                    with translated(host.name):
                        options = await self._options(host, address)
                        tunnel = await self._tunnel(tunnels, host, options.tunnel, via)
                        found = await act(address, tunnel, options)
                    await way.enter_async_context(tunnels.pop_all())
                    return found
            except HostError as error:
                errors.append(error)
        raise _most_telling(errors)

    async def _tunnel(
        self, way: contextlib.AsyncExitStack, host: Host, configured: object, via: tuple[HostName, ...]
    ) -> asyncssh.SSHClientConnection | None:
        """Connect to the jump host, if there is one: that of fleet.toml, otherwise the ProxyJump of ~/.ssh/config."""
        jump = self._jump(host, configured)
        passed = (*via, host.name)
        # As in OpenSSH, a ProxyJump that matches every host does not apply to the jump host itself.
        if jump is None or (jump.name in passed and host.jump is None):
            return None
        try:
            async with self._doors.to(jump.name):
                machine = await way.enter_async_context(self._connect(jump, passed))
        except HostError as error:
            message = f"jump host {jump.name}: {error.message}"
            raise type(error)(host.name, message, said=error.said, hint=error.hint) from error
        return machine.connection

    def _jump(self, host: Host, configured: object) -> Host | None:
        words = host.jump or (configured if isinstance(configured, str) else "")
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

    async def _options(self, host: Host, address: str) -> asyncssh.SSHClientConnectionOptions:
        """Return the options of a login: from fleet.toml, else from ~/.ssh/config, else the built-in ones."""
        chosen: dict[str, Any] = {}
        if host.port is not None:
            chosen["port"] = host.port
        if host.user is not None:
            chosen["username"] = host.user
        try:
            # This runs in a thread, since `Match exec` runs a program. Keys are added in the second construction.
            options: asyncssh.SSHClientConnectionOptions = await asyncssh.SSHClientConnectionOptions.construct(
                config=(),  # without this argument, ~/.ssh/config is not read here
                client_keys=None,
                host=address,
                connect_timeout=self.patience.connect,
                login_timeout=self.patience.login,
                keepalive_interval=self.patience.keepalive,
                keepalive_count_max=KEEPALIVE_COUNT,
                **chosen,
            )
            if host.user is None and options.config.get("User") is None and not isinstance(host, JumpHost):
                chosen["username"] = "root"
            if host.has_fast_aes and options.config.get("Ciphers") is None:
                chosen["encryption_algs"] = FAST_CIPHERS
            if host.link is LinkSpeed.SLOW and options.config.get("Compression") is None:
                chosen["compression_algs"] = COMPRESSION  # questions and answers are mostly lists of names
            chosen |= {"known_hosts": self._known_hosts(host, options), **self._identity(host, options)}
            options = asyncssh.SSHClientConnectionOptions(options, **chosen)
        except OSError as error:
            what = f"cannot read {error.filename}: {error.strerror}"
            raise AuthenticationError(host.name, what, hint=f"try: fleet ssh {host.name}") from error
        return options

    def _identity(self, host: Host, options: asyncssh.SSHClientConnectionOptions) -> dict[str, Any]:
        """Return the options for the key that fleet.toml names. Without one, ~/.ssh/config and the usual keys apply."""
        if host.identity_file is None:
            return {"client_keys": ()}
        key = self.files.identity(host.identity_file)
        if options.config.get("IdentitiesOnly"):  # the agent is asked for the key by its file
            key = str(host.identity_file)
        # Leave an encrypted key to the agent.
        return {"client_keys": [key], "ignore_encrypted": True}

    def _known_hosts(self, host: Host, options: asyncssh.SSHClientConnectionOptions) -> Any:
        """Return the keys to trust. Never None, which would trust every key, and never asyncssh's own defaults."""
        if host.host_key is not None:
            try:
                return [asyncssh.import_public_key(host.host_key)], [], []
            except asyncssh.KeyImportError as error:
                raise HostKeyError(host.name, f"host_key in fleet.toml is not a key: {error}") from error
        user: Any = options.config.get("UserKnownHostsFile")
        system: Any = options.config.get("GlobalKnownHostsFile")
        return self.files.known_hosts([
            *([USER_KNOWN_HOSTS] if user is None else user),
            *([self.system_known_hosts] if system is None else system),
        ])  # fmt: skip


def _most_telling(errors: list[HostError]) -> HostError:
    """Return the error that says most: a refusal by an address that answers says more than one that is silent."""
    refusals = [error for error in errors if not isinstance(error, UnreachableError)]
    return (refusals or errors)[0]
