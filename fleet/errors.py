"""Every failure this program can name.

FleetError                   exit  what to think
├── ConfigError               2    fleet.toml, a plan, a selector or a flag is wrong; nothing was touched
├── StateError                2    this machine cannot record what it does, or read what it has recorded
├── EvaluationError           3    Nix could not evaluate; nothing was touched
├── BuildError                3    Nix could not build; nothing was touched
├── StoppedError            130    somebody asked the run to stop before anything was touched
└── HostError(host)           1    this host failed; the others go on
    ├── UnreachableError           there is no connection, or it was lost
    ├── AuthenticationError        the host refused the login, or sudo the password
    ├── HostKeyError               the host key is unknown or not the expected one
    ├── CommandFailedError         a command ended with a status other than 0, by a signal, or not in time
    ├── UnfitError                 the host or the closure is not fit for this deployment
    ├── LockedError           5    another run has a transaction open (5 if so for all hosts)
    ├── StaleError                 something has happened on the host since the plan was made
    ├── QuarantinedError           this closure was found bad on this host before
    ├── PushError                  the closure did not arrive
    └── SwitchError                the transaction was refused or reverted
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from fleet.model import Failure, FailureKind, HostName

if TYPE_CHECKING:
    from collections.abc import Sequence


INTERRUPTED = 130
"""The exit code after Ctrl-C, as shells have it."""


class FleetError(Exception):
    """Anything that this program reports without a traceback."""

    exit_code: ClassVar[int] = 1
    kind: ClassVar[FailureKind] = FailureKind.ERROR

    def __init__(self, message: str, *, hint: str = "", said: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.said = tuple(said)

    def failure(self) -> Failure:
        """Return the same as a value, for results and events."""
        return Failure(kind=self.kind, message=self.message, said=self.said, hint=self.hint)


class ConfigError(FleetError):
    """fleet.toml, a plan, a selector or a flag is wrong. Nothing was touched."""

    exit_code = 2
    kind = FailureKind.CONFIG


class StateError(FleetError):
    """This machine cannot record what it does, or cannot read what it has recorded."""

    exit_code = 2
    kind = FailureKind.STATE


class EvaluationError(FleetError):
    """Nix could not evaluate a host. Nothing was touched."""

    exit_code = 3
    kind = FailureKind.EVALUATION


class BuildError(FleetError):
    """Nix could not build a closure. Nothing was touched."""

    exit_code = 3
    kind = FailureKind.BUILD


class StoppedError(FleetError):
    """Somebody asked the run to stop before anything was touched."""

    exit_code = INTERRUPTED
    kind = FailureKind.INTERRUPTED

    def __init__(self, message: str = "interrupted before anything was changed") -> None:
        super().__init__(message)


class HostError(FleetError):
    """One host failed. The others go on."""

    kind = FailureKind.HOST

    def __init__(
        self, host: HostName, message: str, *, ran: str = "", said: Sequence[str] = (), hint: str = ""
    ) -> None:
        super().__init__(message, hint=hint, said=said)
        self.host = host
        self.ran = ran

    def failure(self) -> Failure:
        return Failure(kind=self.kind, message=self.message, ran=self.ran, said=self.said, hint=self.hint)


class UnreachableError(HostError):
    """There is no connection to the host, or it was lost."""

    kind = FailureKind.UNREACHABLE


class AuthenticationError(HostError):
    """The host refused the login, or sudo refused the password."""

    kind = FailureKind.AUTHENTICATION


class HostKeyError(HostError):
    """The host key is unknown, or not the expected one."""

    kind = FailureKind.HOST_KEY


class CommandFailedError(HostError):
    """A command on the host ended with a status other than 0, by a signal, or not in time."""

    kind = FailureKind.COMMAND


class UnfitError(HostError):
    """The host, or the closure for it, is not fit for this deployment."""

    kind = FailureKind.UNFIT


class LockedError(HostError):
    """Another run has a transaction open on the host."""

    exit_code = 5
    kind = FailureKind.LOCKED


class StaleError(HostError):
    """Something has happened on the host since the plan was made. Nothing was touched."""

    kind = FailureKind.STALE


class QuarantinedError(HostError):
    """This closure was found bad on this host before."""

    kind = FailureKind.QUARANTINED


class PushError(HostError):
    """The closure did not arrive on the host."""

    kind = FailureKind.PUSH


class SwitchError(HostError):
    """The transaction was refused, or the host went back to its old system."""

    kind = FailureKind.SWITCH
