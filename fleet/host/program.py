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
from fleet.host import answers, history
from fleet.host.facts import OpenTransaction, open_transaction
from fleet.machine import Command
from fleet.plans.text import NONE, words, written
from fleet.scripts import one_line
from fleet.text import plain_text

if TYPE_CHECKING:
    from fleet.inventory import Host
    from fleet.machine import Machine
    from fleet.model import RunId
    from fleet.plans import Part, Plan

TITLE = "fleet-order v1"
FORMAT = 2
"""The format of what this version's host program has on record, and of the calls that it answers."""
ANSWER_TIMEOUT = 60.0
"""Seconds for one answer. PID 1 alone may take 10 (it refuses calls while it re-executes)."""
VERIFY_TIMEOUT = 3600.0
"""Seconds in which a host reads all that a push of at most a few GB has written, from an SD card."""

WENT_DOWN = 75
"""Exit status of `bringing` where the host went down since the run began to push: leave-mark.sh has it too."""


@functools.cache
def source() -> str:
    """The text of the host program: its parts one after another, in the order of `program/parts.txt`.

    `program/default.nix` makes the same bytes.
    """
    folder = resources.files("fleet.host") / "program"
    return "".join((folder / name).read_text() for name in (folder / "parts.txt").read_text().split())


@dataclass(frozen=True)
class HostProgram:
    """The host program, called by its store path where it has been pushed, else sent along on stdin."""

    path: str | None = None

    def call(self, verb: str, *args: str, stdin: str = "") -> Command:
        """The command that asks one thing."""
        words = (str(FORMAT), verb, *args)
        if self.path is None:
            return Command(argv=("sh", "-s", "--", *words), stdin=source().encode(), timeout=ANSWER_TIMEOUT)
        return Command(argv=(self.path, *words), stdin=stdin.encode(), timeout=ANSWER_TIMEOUT)

    def verify(self) -> Command:
        """Finds and removes what a power cut amid a push has damaged. Takes as long as reading it takes."""
        return dataclasses.replace(self.call("verify"), timeout=VERIFY_TIMEOUT)

    def begin(self, order: Order) -> Command:
        """Opens a transaction. Twice with one run id is once. Needs the program's store path: the keeper runs it."""
        return self.call("begin", stdin=order.text())


@dataclass(frozen=True, kw_only=True)
class Order:
    """What a host is asked to do, in full: it can finish it alone. Beside its part, what only tells who asks."""

    run: RunId
    part: Part
    by: str
    origin: str
    """The name of the machine that asks."""
    plan: Plan | None = None
    """The plan that the part is of, if it is of one."""

    def text(self) -> str:
        """As the host program reads it; its last line shows that nothing of it was lost on the way."""
        told = {"run": self.run, "from": words(self.origin), "by": words(self.by), **self._told_of_plan()}
        return written(TITLE, told.items()) + self.part.text + "end\n"

    def _told_of_plan(self) -> dict[str, str]:
        if self.plan is None:
            return {"intent": NONE, "source": NONE, "plan": NONE}
        source = str(self.plan.source) if self.plan.source.reference else NONE
        return {"intent": words(self.plan.intent), "source": source, "plan": self.plan.digest}


def bringing(command: Command, run: RunId) -> Command:
    """The command, which brings store paths: before it starts, the host has on its disk that they may get lost.

    Nix calls a path valid before its files are on the disk. It ends with exit status `WENT_DOWN` until `verify` has
    looked for damage, and with 74 where the host cannot write that down.
    """
    return dataclasses.replace(command, argv=("sh", "-c", one_line("fleet.host", "leave-mark"), run, *command.argv))


class EndedError(Exception):
    """The host has been asked for this very part of a plan before, and its transaction has ended."""


async def ask(machine: Machine, host: Host, command: Command) -> answers.Lines:
    """The host program's answer.

    Raises the error that its refusal means, or `CommandFailedError`; of `begin` also `EndedError`.
    """
    output = await machine.run(command)
    lines = answers.parse(output.stdout)
    if answers.one(lines, "refused") == "ended":
        raise EndedError
    if "refused" in lines:
        raise refusal(host, lines)
    if output.status != 0:
        message = f"the host program failed with exit status {output.status}"
        spoken = output.stdout.splitlines()[:1] if not lines else []  # by somebody else: nologin, say
        hint = f"does the login shell run commands? try: fleet ssh {host.name} true" if spoken else ""
        said = [*spoken, *output.stderr.splitlines()[-5:]]
        raise CommandFailedError(host.name, message, ran=str(command), said=said, hint=hint)
    return lines


def locked(host: Host, held: OpenTransaction) -> LockedError:
    """The error that says whose transaction is open. Its controller may renew it for as long as it proves."""
    since = time.strftime("%H:%M:%S", time.localtime(held.since))
    closes = f"it closes by itself {held.closes_in} s after its controller is gone"
    if held.closes_in < 0:
        closes = f"its deadline passed {-held.closes_in} s ago: it is closing, unless its keeper is stopped"
    hint = f"{closes}; fleet status {host.name} shows it"
    return LockedError(host.name, f"a transaction is open: {held}, since {since}", hint=hint)


def stale(host: Host, lines: answers.Lines) -> StaleError:
    """The error that says what has happened on the host since a plan was made."""
    said = [_told(entry) for entry in history.entries(lines)]
    message = answers.one(lines, "message") or "the host is not any more as it was when this was planned"
    return StaleError(
        host.name, plain_text(message), said=said, hint="plan again: what happened since is then part of it"
    )


def _told(entry: history.PastTransaction) -> str:
    """`10:32 run … of bob from desk: …-a -> …-b, committed (update nginx)`."""
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.ended))
    by = f"{entry.by} from {entry.origin}" if entry.origin else entry.by
    words = f"{when} run {entry.run} of {by}: {entry.old} -> {entry.new}, {entry.state}"
    why = "; ".join(text for text in (entry.intent, entry.source, entry.reason) if text)
    return f"{words} ({why})" if why else words


def refusal(host: Host, lines: answers.Lines) -> HostError:
    """The error that a refusal means."""
    kind, message = answers.one(lines, "refused"), answers.one(lines, "message")
    match kind:
        case "locked":
            held = open_transaction(lines)
            return locked(host, held) if held else LockedError(host.name, f"a transaction is open: {message}")
        case "quarantined":
            hint = "deploy a different closure, or --retry-quarantined"
            return QuarantinedError(host.name, f"this closure was found bad here: {message}", hint=hint)
        case "stale":
            return stale(host, lines)
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
