"""Read the files that logins need, known hosts and identities, once for all hosts that share them."""

from __future__ import annotations

import base64
import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import asyncssh

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

Read = TypeVar("Read")
MAGIC = b"openssh-key-v1\0"


@dataclass(frozen=True)
class KeyFile:
    """A key file, as far as it can be read without a passphrase."""

    path: Path
    public_data: bytes
    """The public half as SSH sends it. Empty if it is not known."""
    private: asyncssh.SSHKey | None = None
    is_locked: bool = False
    """Whether it is encrypted."""
    certificates: tuple[asyncssh.SSHCertificate, ...] = ()
    """Those in the file beside it, `-cert.pub`."""


class LoginFiles:
    """Keeps what it has read for as long as the files do not change.

    Otherwise a fleet of 1,000 hosts, each with a line in known_hosts, would parse a million lines.
    """

    def __init__(self) -> None:
        self._read: dict[tuple[object, tuple[Path, ...]], tuple[object, Any]] = {}

    def known_hosts(self, names: Iterable[str | Path], revoked: Sequence[str] = ()) -> asyncssh.SSHKnownHosts:
        """Return the keys in these files, and those `revoked` in others as that.

        Lines that cannot be read are skipped, as OpenSSH does. Raises what `revoked` raises.
        """
        places = tuple(Path(name).expanduser() for name in names)
        keys = self.revoked(revoked)
        files = (*places, *map(Path, revoked))
        return self._once(files, lambda _: _known_hosts(places, keys), apart=len(places))

    def revoked(self, names: Iterable[str]) -> tuple[asyncssh.SSHKey, ...]:
        """Return the keys in these files of RevokedHostKeys, a line for each.

        Raise `OSError` or `asyncssh.KeyImportError` where one cannot be read, as a KRL of ssh-keygen: ssh trusts no
        host then.
        """
        return self._once(tuple(map(Path, names)), _revoked, apart=_revoked)

    def key(self, file: Path) -> KeyFile:
        """Return what the key file holds.

        Raise `OSError` if it cannot be read, and `asyncssh.KeyImportError` if it is not a key.
        """
        return self._once((file, Path(f"{file}.pub"), Path(f"{file}-cert.pub")), _key)

    def certificates(self, file: Path) -> tuple[asyncssh.SSHCertificate, ...]:
        """Return the certificates in the file; none if it cannot be read."""
        return self._once((file,), _certificates)

    def _once(self, files: tuple[Path, ...], read: Callable[[Sequence[Path]], Read], *, apart: object = None) -> Read:
        """Return what `read` found in these files; `apart` tells it from other readings of the same files."""
        state = [_state(file) for file in files]
        known = self._read.get((apart, files))
        if known is None or known[0] != state:
            known = self._read[apart, files] = (state, read(files))
        found: Read = known[1]
        return found


def _state(file: Path) -> tuple[int, ...] | None:
    """Return values that change when the file does; None if there is no file."""
    try:
        found = file.stat()
    except OSError:
        return None
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


def _known_hosts(files: Sequence[Path], revoked: Sequence[asyncssh.SSHKey]) -> asyncssh.SSHKnownHosts:
    known = asyncssh.SSHKnownHosts()
    for file in files:
        if file.is_file():
            for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
                with contextlib.suppress(ValueError):
                    known.load(line)
    for key in revoked:
        known.load(f"@revoked * {key.export_public_key().decode()}")
    return known


def _revoked(files: Sequence[Path]) -> tuple[asyncssh.SSHKey, ...]:
    lines = [line.strip() for file in files for line in file.read_bytes().splitlines()]
    return tuple(asyncssh.import_public_key(line) for line in lines if line and not line.startswith(b"#"))


def _key(files: Sequence[Path]) -> KeyFile:
    file, public, certificate = files
    text = file.read_bytes()
    certificates = _certificates([certificate])
    try:
        private = asyncssh.import_private_key(text)
    except asyncssh.KeyImportError as error:
        if b"PRIVATE KEY" not in text:  # the public half of a key that the agent holds
            return KeyFile(file, asyncssh.import_public_key(text).public_data, certificates=certificates)
        if not str(error).startswith("Passphrase"):
            raise
        return KeyFile(file, _public_half(text, public), is_locked=True, certificates=certificates)
    return KeyFile(file, private.public_data, private=private, certificates=certificates)


def _public_half(text: bytes, file: Path) -> bytes:
    """Return the public half of an encrypted key: from the key itself, else from the file beside it; else nothing."""
    with contextlib.suppress(ValueError, IndexError):
        data = base64.b64decode(b"".join(line for line in text.splitlines() if b"-" not in line))
        if data.startswith(MAGIC):
            rest = data[len(MAGIC) :]
            for _ in range(3):  # cipher, key derivation, its options
                rest = rest[4 + int.from_bytes(rest[:4], "big") :]
            return rest[8 : 8 + int.from_bytes(rest[4:8], "big")]
    with contextlib.suppress(OSError, asyncssh.KeyImportError):
        return asyncssh.read_public_key(file).public_data
    return b""


def _certificates(files: Sequence[Path]) -> tuple[asyncssh.SSHCertificate, ...]:
    with contextlib.suppress(OSError, asyncssh.KeyImportError):
        return tuple(asyncssh.load_certificates(str(files[0])))
    return ()
