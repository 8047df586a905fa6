"""Every failure this program can name.

FleetError                   exit  what to think
├── ConfigError               2    fleet.toml, a selector or a flag is wrong; nothing was touched
├── EvaluationError           3    Nix could not evaluate; nothing was touched
├── BuildError                3    Nix could not build; nothing was touched
└── HostError(host)           1    this host failed; the others go on
    ├── UnreachableError           no connection, or it dropped
    ├── AuthenticationError        the host refused the login, or sudo the password
    ├── HostKeyError               the host key is unknown or not the expected one
    ├── CommandFailedError         a command ended non-zero, by a signal, or timed out
    ├── UnfitError                 the host or the closure is not fit for this deployment
    ├── LockedError           5    another run has a transaction open (5 if so for all hosts)
    ├── StaleError                 the host does not run any more what the deployment was planned for
    ├── QuarantinedError           this closure was found bad on this host before
    ├── PushError                  the closure did not arrive
    └── SwitchError                the transaction was refused or reverted
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from fleet.model import Failure, HostName

if TYPE_CHECKING:
    from collections.abc import Sequence


INTERRUPTED = 130
"""The exit code after Ctrl-C, as shells give it."""


class FleetError(Exception):
    """Anything this program reports without a traceback."""

    exit_code: ClassVar[int] = 1
    kind: ClassVar[str] = "error"

    def __init__(self, message: str, *, hint: str = "", said: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.said = tuple(said)

    def failure(self) -> Failure:
        """The same as a value, for results and events."""
        return Failure(kind=self.kind, message=self.message, said=self.said, hint=self.hint)


class ConfigError(FleetError):
    """fleet.toml, a selector or a flag is wrong. Nothing was touched."""

    exit_code = 2
    kind = "config"


class EvaluationError(FleetError):
    """Nix could not evaluate a host. Nothing was touched."""

    exit_code = 3
    kind = "evaluation"


class BuildError(FleetError):
    """Nix could not build a closure. Nothing was touched."""

    exit_code = 3
    kind = "build"


class HostError(FleetError):
    """One host failed; the others go on."""

    kind = "host"

    def __init__(
        self, host: HostName, message: str, *, ran: str = "", said: Sequence[str] = (), hint: str = ""
    ) -> None:
        super().__init__(message, hint=hint, said=said)
        self.host = host
        self.ran = ran

    def failure(self) -> Failure:
        return Failure(kind=self.kind, message=self.message, ran=self.ran, said=self.said, hint=self.hint)


class UnreachableError(HostError):
    """No connection to the host, or it dropped."""

    kind = "unreachable"


class AuthenticationError(HostError):
    """The host refused the login, or sudo refused the password."""

    kind = "authentication"


class HostKeyError(HostError):
    """The host key is unknown, or is not the one we expect."""

    kind = "host_key"


class CommandFailedError(HostError):
    """A command on the host ended non-zero, by a signal, or not in time."""

    kind = "command"


class UnfitError(HostError):
    """The host, or the closure for it, is not fit for this deployment."""

    kind = "unfit"


class LockedError(HostError):
    """Another run has a transaction open on the host."""

    exit_code = 5
    kind = "locked"


class StaleError(HostError):
    """The host does not run any more what it ran when this deployment was planned. Nothing was touched."""

    kind = "stale"


class QuarantinedError(HostError):
    """This closure was found bad on this host before."""

    kind = "quarantined"


class PushError(HostError):
    """The closure did not arrive on the host."""

    kind = "push"


class SwitchError(HostError):
    """The transaction was refused, or the host went back to its old system."""

    kind = "switch"
