"""Translate errors of asyncssh into fleet's own."""

from __future__ import annotations

import contextlib
import os
import re
from typing import TYPE_CHECKING

import asyncssh

from fleet.errors import AuthenticationError, HostError, HostKeyError, UnreachableError
from fleet.events import plain_text
from fleet.tasks import first

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleet.model import HostName

FOREIGN: tuple[tuple[type[Exception], type[HostError], str], ...] = (
    (asyncssh.HostKeyNotVerifiable, HostKeyError, "host key not accepted"),
    (asyncssh.PermissionDenied, AuthenticationError, "login refused"),
    (asyncssh.IllegalUserName, AuthenticationError, "login refused"),
    # These three are ValueErrors, outside asyncssh.Error.
    (asyncssh.KeyEncryptionError, AuthenticationError, "the key file cannot be used"),
    (asyncssh.KeyImportError, AuthenticationError, "the key file cannot be used"),
    (asyncssh.KeyExportError, AuthenticationError, "the key file cannot be used"),
    (asyncssh.KeyGenerationError, AuthenticationError, "the key file cannot be used"),
    (asyncssh.ConfigParseError, AuthenticationError, "the SSH configuration file cannot be read"),
    # A host that answers, and with which no login is possible, is not away.
    (asyncssh.KeyExchangeFailed, AuthenticationError, "no login is possible"),
    (asyncssh.ProtocolNotSupported, AuthenticationError, "no login is possible"),
    (asyncssh.ChannelOpenError, UnreachableError, "the host opens no further session"),
    (asyncssh.ChannelListenError, UnreachableError, "the host cannot forward"),
    (asyncssh.ConnectionLost, UnreachableError, "connection lost"),
    (ConnectionResetError, UnreachableError, "connection lost"),
    (asyncssh.DisconnectError, UnreachableError, "connection refused by the SSH server"),
    (asyncssh.Error, UnreachableError, "SSH failed"),
    # asyncssh.TimeoutError has an empty message; the built-in one is an OSError too.
    (TimeoutError, UnreachableError, "no answer in time"),
    (OSError, UnreachableError, "no connection"),
)
"""The first row that fits counts. A test walks asyncssh's exceptions, and fails if one has no row."""

_ATTEMPT = re.compile(r"(?:\[Errno (?P<code>\d+)\] )?Connect call failed \('(?P<address>[^']+)', (?P<port>\d+)[^)]*\)")
"""What asyncio says of one address of a host, and of several after `Multiple exceptions: `."""

HINTS: dict[type[HostError], str] = {
    HostKeyError: "fleet trust {host} shows the key, asks, and writes it to fleet.toml",
    AuthenticationError: (
        "name the right key as identity_file in fleet.toml; an encrypted one must be in the agent (ssh-add);"
        " try: fleet ssh {host}"
    ),
    UnreachableError: "is the host on, and is its address right? try: fleet ssh {host}",
}


@contextlib.contextmanager
def translated(host: HostName) -> Iterator[None]:
    """Raise whatever asyncssh or the network raises inside as a `HostError`."""
    try:
        yield
    except ExceptionGroup as group:  # a TaskGroup wraps what its tasks raise
        error = first(group)
        raise (error if isinstance(error, HostError) else in_our_words(host, error)) from group
    except tuple(foreign for foreign, _, _ in FOREIGN) as error:
        raise in_our_words(host, error) from error


def in_our_words(host: HostName, error: BaseException) -> HostError:
    """Return the `HostError` that says the same as this error."""
    for foreign, ours, what in FOREIGN:
        if isinstance(error, foreign):
            detail = plain_text(_reason(error)).strip()
            message = f"{what}: {detail}" if detail else what
            return ours(host, message, hint=HINTS[ours].format(host=host))
    raise error


def _reason(error: BaseException) -> str:
    """Return why the network refused, with the system's words in place of asyncio's, which name no reason."""
    text = getattr(error, "strerror", None) or str(error)
    number = getattr(error, "errno", None)

    def in_words(found: re.Match[str]) -> str:
        code = int(found["code"]) if found["code"] else number
        why = os.strerror(code) if isinstance(code, int) and code > 0 else "refused"
        return f"{why} ({found['address']} port {found['port']})"

    return _ATTEMPT.sub(in_words, text.removeprefix("Multiple exceptions: "))
