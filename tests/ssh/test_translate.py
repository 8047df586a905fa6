"""Whatever asyncssh can raise has a name of ours."""

from __future__ import annotations

import inspect

import asyncssh
import pytest

from fleet.errors import AuthenticationError, HostError, HostKeyError, UnreachableError
from fleet.machine.translate import FOREIGN, in_our_words, translated
from fleet.model import HostName

HOST = HostName("web-1")
OF_SERVERS = {
    asyncssh.BreakReceived, asyncssh.PasswordChangeRequired, asyncssh.SignalReceived, asyncssh.TerminalSizeChanged,
}  # fmt: skip
"""What only servers raise, or are sent."""
ALL = [kind for kind in vars(asyncssh).values() if inspect.isclass(kind) and issubclass(kind, Exception)]


def row(kind: type[Exception]) -> type[Exception] | None:
    """The first class in FOREIGN that a kind would be taken for."""
    return next((foreign for foreign, _, _ in FOREIGN if issubclass(kind, foreign)), None)


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_every_exception_of_asyncssh_has_a_row(kind: type[Exception]) -> None:
    assert kind in OF_SERVERS or row(kind) is not None


def test_no_row_hides_a_later_one() -> None:
    kinds = [foreign for foreign, _, _ in FOREIGN]
    assert [row(kind) for kind in kinds] == kinds


@pytest.mark.parametrize(
    ("error", "ours", "message"),
    [
        (asyncssh.HostKeyNotVerifiable("not trusted"), HostKeyError, "host key not accepted: not trusted"),
        (asyncssh.PermissionDenied("no more methods"), AuthenticationError, "login refused: no more methods"),
        (asyncssh.KeyExchangeFailed("none"), AuthenticationError, "no login is possible: none"),
        (asyncssh.ConnectionLost("gone"), UnreachableError, "connection lost: gone"),
        (asyncssh.KeyImportError("bad"), AuthenticationError, "the key file cannot be used: bad"),
        (ConnectionRefusedError(111, "Connection refused"), UnreachableError, "no connection: Connection refused"),
        (
            ConnectionRefusedError(111, "Connect call failed ('::1', 22, 0, 0)"),
            UnreachableError,
            "no connection: Connection refused (::1 port 22)",
        ),
        (
            OSError(
                "Multiple exceptions: [Errno 111] Connect call failed ('::1', 22, 0, 0), "
                "[Errno 113] Connect call failed ('10.0.0.7', 22)"
            ),
            UnreachableError,
            "no connection: Connection refused (::1 port 22), No route to host (10.0.0.7 port 22)",
        ),
        (TimeoutError(), UnreachableError, "no answer in time"),
        (asyncssh.DisconnectError(2, "evil \x1b[31mtext\n"), UnreachableError, None),
    ],
)
def test_exception_comes_out_in_our_words(error: Exception, ours: type[HostError], message: str | None) -> None:
    with pytest.raises(ours) as caught, translated(HOST):
        raise error
    assert message in (None, caught.value.message)
    assert caught.value.host == HOST
    assert caught.value.hint
    assert caught.value.message.isprintable()


def test_exceptions_of_a_task_group_come_out_too() -> None:
    with pytest.raises(UnreachableError), translated(HOST):
        raise ExceptionGroup("tasks", [ExceptionGroup("more", [asyncssh.ConnectionLost("gone")])])
    ours = HostKeyError(HOST, "ours")
    with pytest.raises(HostKeyError) as caught, translated(HOST):
        raise ExceptionGroup("tasks", [ours])
    assert caught.value is ours


def test_bug_stays_a_bug() -> None:
    with pytest.raises(ZeroDivisionError), translated(HOST):
        raise ZeroDivisionError
    with pytest.raises(KeyError), translated(HOST):
        raise ExceptionGroup("tasks", [KeyError()])
    with pytest.raises(KeyError):
        in_our_words(HOST, KeyError())
