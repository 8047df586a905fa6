"""Every failure this program can name.

FleetError                   exit  what to think
├── ConfigError               2    fleet.toml, a plan, a selector or a flag is wrong; nothing was touched
├── PolicyError               2    policy.toml says no, or a signature is not good; nothing was touched
├── StateError                2    this machine cannot record what it does, or read what it has recorded
├── EvaluationError           3    Nix could not evaluate; nothing was touched
├── BuildError                3    Nix could not build; nothing was touched
├── BugError                  1    fleet itself failed, whatever led to it
├── StoppedError            130    somebody asked the run to stop before anything was touched
└── HostError(host)           1    this host failed; the others go on
    ├── UnreachableError           there is no connection, or it was lost
    ├── AuthenticationError        the host refused the login, or sudo the password
    ├── HostKeyError               the host key is unknown or not the expected one
    ├── CommandFailedError         a command ended with a status other than 0, by a signal, or not in time
    │   └── AnswerError            it answered with what cannot be read, or with too much
    ├── HookError                  a hook that was declared for the host failed
    ├── SecretError                the value of a secret cannot be had on this machine
    ├── UnfitError                 the host or the closure is not fit for this deployment
    ├── LockedError           5    another run has a transaction open (5 if so for all hosts)
    ├── StaleError                 something has happened on the host since the plan was made
    ├── QuarantinedError           this closure was found bad on this host before
    ├── GateError                  the host's gate refused it: a signature is missing, or it does no such thing
    ├── PushError                  the closure did not arrive
    └── SwitchError                the transaction was refused or reverted
"""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, ClassVar

from fleet.model import Failure, FailureKind, HostName
from fleet.text import shortened

if TYPE_CHECKING:
    from collections.abc import Sequence


LONGEST = 4000
"""Characters of each text of an error, at most."""
INTERRUPTED = 130
"""The exit code after Ctrl-C, as shells have it."""


class FleetError(Exception):
    """Anything that this program reports without a traceback."""

    exit_code: ClassVar[int] = 1
    kind: ClassVar[FailureKind] = FailureKind.ERROR

    def __init__(self, message: str, *, hint: str = "", said: Sequence[str] = ()) -> None:
        """Keep what happened, what helps, and the last lines that something said: without control characters, and each
        as long as somebody may want to read it. A host may have written any of them.
        """
        self.message = shortened(message, LONGEST)
        self.hint = shortened(hint, LONGEST)
        self.said = tuple(shortened(line, LONGEST) for line in said)
        super().__init__(self.message)

    def failure(self) -> Failure:
        """Return the same as a value, for results and events."""
        return Failure(kind=self.kind, message=self.message, said=self.said, hint=self.hint)


class ConfigError(FleetError):
    """fleet.toml, a plan, a selector or a flag is wrong. Nothing was touched."""

    exit_code = 2
    kind = FailureKind.CONFIG


class PolicyError(FleetError):
    """policy.toml says no, or a signature is not good. Nothing was touched."""

    exit_code = 2
    kind = FailureKind.POLICY


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


class BugError(FleetError):
    """Fleet itself failed, whatever led to it."""

    exit_code = 1
    kind = FailureKind.BUG

    @classmethod
    def of(cls, error: BaseException) -> BugError:
        """Return the error that reports an exception which nobody expected, with the end of its traceback."""
        trace = "".join(traceback.format_exception(error)).splitlines()
        return cls("fleet itself failed; this is a bug in fleet", said=trace[-30:], hint="please report this")


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
        self.ran = shortened(ran, LONGEST)

    def failure(self) -> Failure:
        return Failure(kind=self.kind, message=self.message, ran=self.ran, said=self.said, hint=self.hint)


class UnreachableError(HostError):
    """There is no connection to the host, or it was lost."""

    kind = FailureKind.UNREACHABLE
    turns_away = False
    """Whether the host does answer, and says that it takes no login just now. It may take one in a while."""
    is_silent = False
    """Whether nobody has answered at all: no TCP connection has come about in time, straight from here. To try again
    costs nobody anything then, and asks no person for anything."""
    is_refused = False
    """Whether the host itself has said that nobody listens there."""


class AuthenticationError(HostError):
    """The host refused the login, or sudo refused the password."""

    kind = FailureKind.AUTHENTICATION
    has_proven_key = False
    """Whether the host has proven its key before it refused the login."""


class HostKeyError(HostError):
    """The host key is unknown, or not the expected one."""

    kind = FailureKind.HOST_KEY


class CommandFailedError(HostError):
    """A command on the host ended with a status other than 0, by a signal, or not in time."""

    kind = FailureKind.COMMAND


class AnswerError(CommandFailedError):
    """What the host answered cannot be read, or is more than an answer may have."""

    kind = FailureKind.ANSWER


class HookError(HostError):
    """A hook that people have declared for the host failed, and may not."""

    kind = FailureKind.HOOK


class SecretError(HostError):
    """The value of a secret of the host cannot be had on this machine. Nothing was touched."""

    kind = FailureKind.SECRET


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


class GateError(HostError):
    """The host's gate refused it: signatures are missing or not good, or it does no such thing. Nothing was touched."""

    kind = FailureKind.GATE


class PushError(HostError):
    """The closure did not arrive on the host."""

    kind = FailureKind.PUSH
    is_not_served = False
    """Whether the host does not run what fleet's own engine talks to, so that `nix copy` may work."""


class SwitchError(HostError):
    """The transaction was refused, or the host went back to its old system."""

    kind = FailureKind.SWITCH
