"""Read the files that logins need, known hosts and identities, once for all hosts that share them."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import asyncssh

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

Read = TypeVar("Read")


class LoginFiles:
    """Keeps what it has read for as long as the files do not change.

    Otherwise a fleet of 1,000 hosts, each with a line in known_hosts, would parse a million lines.
    """

    def __init__(self) -> None:
        self._read: dict[tuple[Path, ...], tuple[object, Any]] = {}

    def known_hosts(self, names: Iterable[str | Path]) -> asyncssh.SSHKnownHosts:
        """Return the keys in these files. Lines that cannot be read are skipped, as OpenSSH does."""
        return self._once(tuple(Path(name).expanduser() for name in names), _known_hosts)

    def identity(self, file: Path) -> str | asyncssh.SSHKey:
        """Return the key in the file, or the file's name if asyncssh has to look at it: it has more than one plain key.

        Raise `OSError` if it cannot be read, and `asyncssh.KeyImportError` if it is not a key.
        """
        return self._once((file, Path(f"{file}-cert.pub")), _identity)

    def _once(self, files: tuple[Path, ...], read: Callable[[Sequence[Path]], Read]) -> Read:
        state = [_state(file) for file in files]
        known = self._read.get(files)
        if known is None or known[0] != state:
            known = self._read[files] = (state, read(files))
        found: Read = known[1]
        return found


def _state(file: Path) -> tuple[int, ...] | None:
    """Return values that change when the file does; None if there is no file."""
    try:
        found = file.stat()
    except OSError:
        return None
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


def _known_hosts(files: Sequence[Path]) -> asyncssh.SSHKnownHosts:
    known = asyncssh.SSHKnownHosts()
    for file in files:
        if file.is_file():
            for line in file.read_text(errors="replace").splitlines():
                with contextlib.suppress(ValueError):
                    known.load(line)
    return known


def _identity(files: Sequence[Path]) -> str | asyncssh.SSHKey:
    file, certificate = files
    text = file.read_bytes()
    if certificate.exists() or text.count(b"-----BEGIN ") != 1:
        return str(file)
    try:
        return asyncssh.import_private_key(text)
    except asyncssh.KeyImportError as error:
        if str(error).startswith("Passphrase"):  # leave an encrypted key to the agent
            return str(file)
        raise
