"""Which keys are offered to a host, and in which order: that of OpenSSH."""

from __future__ import annotations

import base64
import contextlib
import copy
import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import asyncssh

from fleet.text import plain_text

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Sequence
    from pathlib import Path

    from fleet.machine.files import KeyFile

SHOWN = 8
"""How many of the keys that were offered people are told of."""


@dataclass
class Offers:
    """The keys for one login, and what became of them."""

    pairs: Sequence[tuple[asyncssh.SSHKeyPair, str]] = ()
    """Each with words for people."""
    locked: Sequence[Path] = ()
    """Key files that are encrypted, and that no agent holds."""
    halves: Sequence[Path] = ()
    """Files with a public key alone, whose private half no agent holds."""
    offered: list[str] = field(default_factory=list)

    async def next(self, on_touch: Callable[[str], None]) -> asyncssh.SSHKeyPair | None:
        """Return the next key to offer; None if none is left. `on_touch` is told which one waits to be touched."""
        if len(self.offered) >= len(self.pairs):
            return None
        pair, label = self.pairs[len(self.offered)]
        self.offered.append(label)
        if pair.algorithm.startswith(b"sk-"):
            _announce(pair, lambda: on_touch(label))
        return pair

    def told(self) -> list[str]:
        """Return lines that say what was offered, and which keys could not be."""
        lines = [f"offered: {label}" for label in self.offered[:SHOWN]]
        if len(self.offered) > SHOWN:
            lines.append(f"and {len(self.offered) - SHOWN} more")
        lines += [f"not offered, since it is encrypted and no agent holds it: {file}" for file in self.locked]
        lines += [
            f"not offered, since it is a public key, and no agent holds the private one: {file}" for file in self.halves
        ]
        return lines or ["no key was offered: there is none, in no file and in no agent"]


def _announce(pair: Any, announce: Callable[[], None]) -> None:
    """Have it announced that the key is about to sign: it waits until it is touched."""
    sign = pair.sign_async

    async def announce_and_sign(data: bytes) -> bytes:
        announce()
        signature: bytes = await sign(data)
        return signature

    pair.sign_async = announce_and_sign


@contextlib.asynccontextmanager
async def agent_keys(path: str) -> AsyncIterator[Sequence[asyncssh.SSHKeyPair]]:
    """Yield the keys of the agent at this socket, while inside. None if it does not answer."""
    if not path:
        yield ()
        return
    agent = asyncssh.SSHAgentClient(path)
    async with agent:
        keys: Sequence[asyncssh.SSHKeyPair] = ()
        with contextlib.suppress(OSError, ValueError, asyncssh.Error):
            keys = await agent.get_keys()
        yield keys


def in_order(
    files: Iterable[KeyFile],
    certificates: Iterable[asyncssh.SSHCertificate],
    agent: Sequence[asyncssh.SSHKeyPair],
    *,
    only_files: bool,
) -> Offers:
    """Return what to offer: certificates, the agent's keys that a file names, its other keys, keys of files alone.

    `only_files` leaves the agent's other keys out (IdentitiesOnly).
    """
    files, configured = list(files), list(certificates)
    held = {pair.public_data: pair for pair in agent}
    certified: list[tuple[asyncssh.SSHKeyPair, str]] = []
    by_agent: list[tuple[asyncssh.SSHKeyPair, str]] = []
    by_file: list[tuple[asyncssh.SSHKeyPair, str]] = []
    named = {certificate.public_data for certificate in configured}
    for file in files:
        pair = held.get(file.public_data)
        certs = [*file.certificates, *(cert for cert in configured if cert.key.public_data == file.public_data)]
        certified += [(one, _label(one, f"{file.path}, certificate")) for one in _certified(pair, file, certs)]
        if pair is not None:
            by_agent.append((pair, _label(pair, f"{file.path}, by the agent")))
        elif file.private is not None:
            by_file += [(one, _label(one, str(file.path))) for one in asyncssh.load_keypairs([file.private])]
        named |= {file.public_data, *(cert.public_data for cert in file.certificates)}
    certified += [(pair, _label(pair, "the agent")) for pair in agent if pair.has_cert and pair.public_data in named]
    others = [(pair, _label(pair, "the agent")) for pair in agent if pair.public_data not in named and not only_files]
    locked = [file.path for file in files if file.is_locked and file.public_data not in held]
    halves = [
        file.path
        for file in files
        if file.private is None and not file.is_locked and file.public_data and file.public_data not in held
    ]
    return Offers(pairs=[*certified, *by_agent, *others, *by_file], locked=locked, halves=halves)


def _certified(
    pair: asyncssh.SSHKeyPair | None, file: KeyFile, certificates: Sequence[asyncssh.SSHCertificate]
) -> list[asyncssh.SSHKeyPair]:
    """Return the key of the file with each of the certificates, signed with by the agent if that holds the key."""
    made: list[asyncssh.SSHKeyPair] = []
    for certificate in certificates:
        if file.private is not None:
            made += [one for one in asyncssh.load_keypairs([(file.private, certificate)]) if one.has_cert]
        elif isinstance(pair, asyncssh.SSHAgentKeyPair):
            by_agent = copy.copy(pair)
            by_agent.set_certificate(certificate)
            made.append(by_agent)
    return made


def _label(pair: asyncssh.SSHKeyPair, where: str) -> str:
    kind = pair.algorithm.decode("ascii", "replace").removesuffix("-cert-v01@openssh.com")
    comment = plain_text(pair.get_comment() or "")[:60]
    digest = base64.b64encode(hashlib.sha256(pair.public_data).digest()).decode().rstrip("=")
    words = f"{kind} SHA256:{digest} ({where})"
    return f"{words} {comment}" if comment and comment not in where else words
