"""What one login needs: the options of asyncssh, the keys to offer, and the keys to trust."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shlex
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncssh
from asyncssh.encryption import get_encryption_algs
from asyncssh.kex import get_kex_algs
from asyncssh.mac import get_mac_algs
from asyncssh.public_key import get_certificate_algs, get_public_key_algs

from fleet.errors import AuthenticationError, HostKeyError
from fleet.inventory import Host, LinkSpeed
from fleet.inventory.local import named_address
from fleet.machine.files import KeyFile, LoginFiles
from fleet.machine.keys import Offers, in_order
from fleet.machine.openssh import OpenSsh, Question, UnreadableError
from fleet.machine.settings import Settings, environment

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fleet.machine.witness import Patience

FAST_CIPHERS = "^aes128-gcm@openssh.com,aes256-gcm@openssh.com"
"""Preferred to asyncssh's own first choice, ChaCha20, which takes twice the CPU time here (1 GiB: 2.2 s against 1.2 s).
Not used for hosts whose processor has no instructions for AES: ChaCha20 is faster there."""
COMPRESSION = ("zlib@openssh.com", "none")
KEEPALIVE_COUNT = 4
USER_KNOWN_HOSTS = Path("~/.ssh/known_hosts")
SYSTEM_KNOWN_HOSTS = Path("/etc/ssh/ssh_known_hosts")
DEFAULT_USER = "root"
LOOPBACK = "127.0.0.1"
USUAL_KEYS = tuple(f"~/.ssh/id_{kind}" for kind in ("rsa", "ecdsa", "ecdsa_sk", "ed25519", "ed25519_sk"))
KNOWN_ALGORITHMS: dict[str, tuple[str, Callable[[], Sequence[bytes]]]] = {
    "ciphers": ("encryption_algs", get_encryption_algs),
    "kexalgorithms": ("kex_algs", get_kex_algs),
    "macs": ("mac_algs", get_mac_algs),
    "hostkeyalgorithms": ("server_host_key_algs", lambda: [*get_public_key_algs(), *get_certificate_algs()]),
    "pubkeyacceptedalgorithms": ("signature_algs", get_public_key_algs),
}
"""For each of OpenSSH's keys the argument of asyncssh, and what that knows. What it does not know is left out."""


class JumpHost(Host):
    """A jump host that fleet.toml does not describe. Everything about it comes from the SSH configuration."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """How to log in to one address of a host."""

    host: Host
    address: str
    settings: Settings
    known_hosts: Any
    files: LoginFiles

    @property
    def place(self) -> tuple[str, int]:
        """The name and the port to connect to."""
        return self.settings.hostname, self.settings.port

    def connect_timeout(self, patience: Patience) -> float:
        """Return the seconds within which somebody has to answer there."""
        limit = self.host.connect_timeout or self.settings.connect_timeout or patience.connect
        return max(limit, patience.greeting) if self.is_by_proxy else limit

    @property
    def is_by_proxy(self) -> bool:
        """Whether a command of the SSH configuration leads there. A jump host goes before it."""
        return bool(self.settings.proxy_command)

    def arguments(self, patience: Patience) -> dict[str, Any]:
        """Return what `asyncssh.connect` is called with. It reads no configuration file, no key and no agent then.

        They are no `SSHClientConnectionOptions`: `connect` would build these a second time, without family and
        local_addr, and each takes half a millisecond.
        """
        host, settings = self.host, self.settings
        chosen: dict[str, Any] = {}
        if host.has_fast_aes and "ciphers" not in settings.algorithms:
            chosen["encryption_algs"] = FAST_CIPHERS
        chosen |= self._algorithms()
        if settings.is_compressed or (settings.is_compressed is None and host.link is LinkSpeed.SLOW):
            chosen["compression_algs"] = COMPRESSION  # questions and answers are mostly lists of names
        if settings.proxy_command:
            chosen["proxy_command"] = [os.environ.get("SHELL") or "/bin/sh", "-c", f"exec {settings.proxy_command}"]
        if settings.bind_address:
            chosen["local_addr"] = (settings.bind_address, 0)
        if settings.preferred_auth:
            chosen["preferred_auth"] = settings.preferred_auth
        if settings.forwards_agent and settings.agent:
            chosen["agent_forwarding"] = settings.agent
        return {
            "config": None,
            "host": settings.hostname,
            "port": settings.port,
            "username": settings.user,
            "family": settings.address_family,
            "known_hosts": self.known_hosts,
            "host_key_alias": settings.host_key_alias,
            "client_keys": None,
            "agent_path": None,
            "connect_timeout": None,
            "login_timeout": 0,
            "keepalive_interval": patience.keepalive,
            "keepalive_count_max": KEEPALIVE_COUNT,
            "env": dict(settings.environment) or None,
            **chosen,
        }

    def _algorithms(self) -> dict[str, Any]:
        """Return what the SSH configuration allows, as far as asyncssh knows it.

        Raise `AuthenticationError` if it knows none of it.
        """
        chosen: dict[str, Any] = {}
        for key, (argument, known) in KNOWN_ALGORITHMS.items():
            allowed = self.settings.algorithms.get(key, ())
            names = [name for name in allowed if name.encode() in known()]
            if allowed and not names:
                message = f"fleet knows none of the {key} that the SSH configuration allows: {','.join(allowed)[:200]}"
                raise AuthenticationError(self.host.name, message, hint="allow one more for this host")
            if key == "hostkeyalgorithms":  # as ssh, which asks first for a key that it knows
                trusted = {name.decode() for key in self.trusted("") for name in key.sig_algorithms}
                names.sort(key=lambda name: name not in trusted)
            if names:
                chosen[argument] = names
        return chosen

    def offers(self, agent: Sequence[asyncssh.SSHKeyPair]) -> Offers:
        """Return the keys to offer. Raise `OSError` or `asyncssh.KeyImportError` for the one that fleet.toml names."""
        named, settings = self.host.identity_file, self.settings
        if named is not None:
            return in_order([self.files.key(named)], (), agent, only_files=True)
        found: list[KeyFile] = []
        for file in settings.identity_files:
            with contextlib.suppress(OSError, asyncssh.KeyImportError):  # as ssh, which goes on without it
                found.append(self.files.key(file))
        certificates = [one for file in settings.certificate_files for one in self.files.certificates(file)]
        return in_order(found, certificates, agent, only_files=settings.identities_only)

    def trusted(self, peer: str) -> list[asyncssh.SSHKey]:
        """Return the keys that the host is known by. `peer` is the address that answers, if there is one."""
        if not isinstance(self.known_hosts, asyncssh.SSHKnownHosts):
            return list(self.known_hosts[0])
        name, port = self.place
        keys, _, revoked, *_ = self.known_hosts.match(
            self.settings.host_key_alias or name, peer, port if port != asyncssh.DEFAULT_PORT else None
        )
        return [key for key in keys if key not in revoked]


@dataclass(frozen=True, kw_only=True)
class Entries:
    """Finds out how to log in to hosts: from fleet.toml, else from the SSH configuration, else the built-in way."""

    files: LoginFiles = field(default_factory=LoginFiles)
    openssh: OpenSsh = field(default_factory=OpenSsh)
    system_known_hosts: Path = SYSTEM_KNOWN_HOSTS

    async def entry(self, host: Host, address: str) -> Entry:
        """Return how to log in to the address of the host.

        Raise `AuthenticationError` if the SSH configuration cannot be read, and `HostKeyError` if the host key of
        fleet.toml is none.
        """
        settings = await self.settings(host, address)
        known = self._known_hosts(host, settings)
        return Entry(host=host, address=address, settings=settings, known_hosts=known, files=self.files)

    async def entry_here(self, host: Host) -> Entry:
        """Return how to log in to the host from itself: as from elsewhere, but straight to its own SSH server.

        Raises what `entry` raises.
        """
        entry = await self.entry(host, named_address(host))
        settings = dataclasses.replace(
            entry.settings,
            hostname=LOOPBACK,
            proxy_jump="",
            proxy_command="",
            bind_address="",
            address_family=socket.AF_UNSPEC,
        )
        return dataclasses.replace(entry, address=LOOPBACK, settings=settings)

    async def settings(self, host: Host, address: str) -> Settings:
        """Return what the SSH configuration says about the address of the host. Raise `AuthenticationError`."""
        default_user = None if isinstance(host, JumpHost) else DEFAULT_USER
        question = Question(address, host.port, host.user, default_user)
        try:
            if self.openssh.is_there():
                return await self.openssh.settings(question)
            return await _by_asyncssh(question)
        except (UnreadableError, asyncssh.ConfigParseError, OSError) as error:
            message = f"the SSH configuration file cannot be read: {error}"
            raise AuthenticationError(host.name, message, hint=f"try: fleet ssh {host.name}") from error

    def _known_hosts(self, host: Host, settings: Settings) -> Any:
        """Return the keys to trust. Never None, which would trust every key, and never asyncssh's own defaults."""
        try:
            revoked = self.files.revoked(settings.revoked_host_keys)
        except (OSError, asyncssh.KeyImportError) as error:
            message = f"RevokedHostKeys of the SSH configuration cannot be read: {error}"
            hint = "fleet reads a file of public keys there, and no KRL"
            raise HostKeyError(host.name, message, hint=hint) from error
        if host.host_key is not None:
            try:
                return [asyncssh.import_public_key(host.host_key)], [], list(revoked)
            except asyncssh.KeyImportError as error:
                raise HostKeyError(host.name, f"host_key in fleet.toml is not a key: {error}") from error
        user, system = settings.known_hosts, settings.system_known_hosts
        return self.files.known_hosts([
            *([USER_KNOWN_HOSTS, Path(f"{USER_KNOWN_HOSTS}2")] if user is None else user),
            *([self.system_known_hosts, Path(f"{self.system_known_hosts}2")] if system is None else system),
        ], settings.revoked_host_keys)  # fmt: skip


async def _by_asyncssh(question: Question) -> Settings:
    """Return what asyncssh makes of ~/.ssh/config, where there is no OpenSSH client. It knows a part of it."""
    chosen: dict[str, Any] = {}
    if question.port is not None:
        chosen["port"] = question.port
    if question.user is not None:
        chosen["username"] = question.user
    # This runs in a thread, since `Match exec` runs a program.
    options: asyncssh.SSHClientConnectionOptions = await asyncssh.SSHClientConnectionOptions.construct(
        config=(), client_keys=None, agent_path=None, known_hosts=(), host=question.address, **chosen
    )
    told: Callable[[str], Any] = options.config.get
    user = options.username
    if question.user is None and told("User") is None and question.default_user is not None:
        user = question.default_user
    algorithms = {"Ciphers": options.encryption_algs, "KexAlgorithms": options.kex_algs, "MACs": options.mac_algs}
    agent = told("IdentityAgent") or os.environ.get("SSH_AUTH_SOCK", "")
    return Settings(
        hostname=options.host,
        port=options.port,
        user=user,
        identity_files=_paths(told("IdentityFile") or USUAL_KEYS),
        certificate_files=_paths(told("CertificateFile") or ()),
        identities_only=bool(told("IdentitiesOnly")),
        agent=str(_paths([agent])[0]) if agent else "",
        known_hosts=told("UserKnownHostsFile"),
        system_known_hosts=told("GlobalKnownHostsFile"),
        host_key_alias=options.host_key_alias,
        proxy_jump=options.tunnel if isinstance(options.tunnel, str) else "",
        proxy_command=shlex.join(options.proxy_command or ()),
        connect_timeout=told("ConnectTimeout"),
        preferred_auth=tuple(options.preferred_auth or ()),
        address_family=options.family or socket.AF_UNSPEC,
        is_compressed=told("Compression"),
        forwards_agent=bool(told("ForwardAgent")),
        environment=environment(told("SetEnv") or {}, told("SendEnv") or ()),
        algorithms={name.lower(): _names(algs) for name, algs in algorithms.items() if told(name)},
    )


def _paths(names: Sequence[str | Path]) -> tuple[Path, ...]:
    return tuple(Path(name).expanduser() for name in names)


def _names(algorithms: Sequence[bytes]) -> tuple[str, ...]:
    return tuple(name.decode() for name in algorithms)
