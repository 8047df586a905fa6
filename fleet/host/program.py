"""The host program's verbs as commands, and its refusals as errors."""

from __future__ import annotations

import dataclasses
import functools
import time
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING

from fleet.errors import (
    AuthenticationError,
    CommandFailedError,
    HostError,
    LockedError,
    PushError,
    QuarantinedError,
    StaleError,
    SwitchError,
    UnfitError,
)
from fleet.host import answers
from fleet.machine import Command

if TYPE_CHECKING:
    from fleet.inventory import Host
    from fleet.machine import Machine
    from fleet.model import Closure, Goal, RunId

ANSWER_TIMEOUT = 60.0
"""Seconds for one answer. PID 1 alone may take 10 (it refuses calls while it re-executes)."""
VERIFY_TIMEOUT = 3600.0
"""Seconds in which a host reads all that a push of at most a few GB has written, from an SD card."""

WENT_DOWN = 75
"""Exit status of `bringing` where the host went down since the run began to push."""

_LEAVE_MARK = (
    "m=/nix/var/fleet/unsynced/$0; b=$(cat /proc/sys/kernel/random/boot_id; cut -d ' ' -f 22 /proc/1/stat); "
    'fail() { [ -s "$m" ] || rm -f "$m"; echo "error: cannot write $m" >&2; exit 74; }; '
    'until [ "$m" -ef /proc/self/fd/8 ]; do '
    'mkdir -p "${m%/*}" 2>/dev/null && true 2>/dev/null >>"$m" || fail; exec 8>>"$m"; flock -s 8; done; '
    '[ -s "$m" ] || printf "%s\\n" "$b" >"$m" && sync "$m" "${m%/*}" || fail; '
    '[ "$(cat "$m")" = "$b" ] || { echo "error: the host went down meanwhile, deploy again" >&2; '
    f"exit {WENT_DOWN}; }}; "
    'exec "$@"'
)
"""Known to `verify` in the host program. In a container the boot is that of PID 1."""


@functools.cache
def source() -> str:
    """The text of the host program."""
    return resources.files("fleet.host").joinpath("fleet-host").read_text()


@dataclass(frozen=True)
class HostProgram:
    """The host program, called by its store path where it has been pushed, else sent along on stdin."""

    path: str | None = None

    def call(self, verb: str, *args: str, stdin: str = "") -> Command:
        """The command that asks one thing."""
        if self.path is None:
            return Command(argv=("sh", "-s", "--", verb, *args), stdin=source().encode(), timeout=ANSWER_TIMEOUT)
        return Command(argv=(self.path, verb, *args), stdin=stdin.encode(), timeout=ANSWER_TIMEOUT)

    def verify(self) -> Command:
        """Finds and removes what a power cut amid a push has damaged. Takes as long as reading it takes."""
        return dataclasses.replace(self.call("verify"), timeout=VERIFY_TIMEOUT)

    def begin(self, order: Order) -> Command:
        """Opens a transaction. Twice with one run id is once. Needs the program's store path: the keeper runs it."""
        return self.call("begin", stdin=order.text())


@dataclass(frozen=True, kw_only=True)
class Order:
    """What a host is asked to do, in full: it can finish it alone."""

    run: RunId
    closure: Closure
    expected: Closure
    """What ran when this was planned. Where another runs by now, the host refuses."""
    goal: Goal
    who: str
    origin: str
    retry_quarantined: bool = False
    accept_boot_risk: bool = False

    host: Host

    def text(self) -> str:
        """As the host program reads it; its last line shows that nothing of it was lost on the way."""
        lines = {
            "run": self.run,
            "new": self.closure,
            "expected": self.expected,
            "goal": self.goal.value,
            "who": self.who,
            "from": self.origin,
            "activation": f"{max(1, round(self.host.activation_timeout))}",
            "confirm": f"{max(1, round(self.host.confirm_timeout))}",
            "boot": f"{max(1, round(self.host.boot_timeout))}",
            "risk": "yes" if self.accept_boot_risk else "",
            "last_resort": self.host.last_resort or "",
            "retry": "yes" if self.retry_quarantined else "",
        }
        rows = [*lines.items(), *(("ignore", pattern) for pattern in self.host.ignore_units)]
        return "".join(f"{key}={' '.join(value.split())}\n" for key, value in rows) + "end\n"


def bringing(command: Command, run: RunId) -> Command:
    """The command, which brings store paths: before it starts, the host has on its disk that they may get lost.

    Nix calls a path valid before its files are on the disk. It ends with exit status `WENT_DOWN` until `verify` has
    looked for damage, and with 74 where the host cannot write that down.
    """
    return dataclasses.replace(command, argv=("sh", "-c", _LEAVE_MARK, run, *command.argv))


async def ask(machine: Machine, host: Host, command: Command) -> answers.Lines:
    """The host program's answer. Raises the error that its refusal means, or `CommandFailedError`."""
    output = await machine.run(command)
    lines = answers.parse(output.stdout)
    if "refused" in lines:
        raise refusal(host, lines)
    if output.status != 0:
        message = f"the host program failed with exit status {output.status}"
        spoken = output.stdout.splitlines()[:1] if not lines else []  # by somebody else: nologin, say
        hint = f"does the login shell run commands? try: fleet ssh {host.name} true" if spoken else ""
        said = [*spoken, *output.stderr.splitlines()[-5:]]
        raise CommandFailedError(host.name, message, ran=str(command), said=said, hint=hint)
    return lines


def locked(host: Host, held: answers.OpenTransaction) -> LockedError:
    """The error that says whose transaction is open. Its controller may renew it for as long as it proves."""
    since = time.strftime("%H:%M:%S", time.localtime(held.since))
    closes = f"it closes by itself {held.closes_in} s after its controller is gone"
    if held.closes_in < 0:
        closes = f"its deadline passed {-held.closes_in} s ago: it is closing, unless its keeper is stopped"
    hint = f"{closes}; fleet status {host.name} shows it"
    return LockedError(host.name, f"a transaction is open: {held}, since {since}", hint=hint)


def refusal(host: Host, lines: answers.Lines) -> HostError:
    """The error that a refusal means."""
    kind, message = answers.one(lines, "refused"), answers.one(lines, "message")
    match kind:
        case "locked":
            held = answers.open_transaction(lines)
            return locked(host, held) if held else LockedError(host.name, f"a transaction is open: {message}")
        case "quarantined":
            hint = "deploy a different closure, or --retry-quarantined"
            return QuarantinedError(host.name, f"this closure was found bad here: {message}", hint=hint)
        case "stale":
            return StaleError(host.name, message, hint="deploy again: the plan is made anew")
        case "incomplete":
            return PushError(host.name, message, hint="deploy again; what has arrived is not sent twice")
        case "unfit" | "full":
            return UnfitError(host.name, message)
        case "broken":  # its transaction may be open already: it has not said that nothing was changed
            return CommandFailedError(host.name, message)
        case "root":
            hint = 'set user = "root", or sudo = true, for this host'
            return AuthenticationError(host.name, message, hint=hint)
    return SwitchError(host.name, message or f"refused: {kind}")
