"""Turn the host program's verbs into commands, and its refusals into errors."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING

from fleet.errors import (
    AuthenticationError,
    CommandFailedError,
    GateError,
    HostError,
    LockedError,
    PushError,
    QuarantinedError,
    StaleError,
    SwitchError,
    UnfitError,
)
from fleet.host import answers, history
from fleet.host.facts import open_transaction
from fleet.host.locked import locked, queued
from fleet.host.tickets import tickets, who
from fleet.inventory.drivers import Driver
from fleet.machine import Command
from fleet.plans.text import NONE, words, written
from fleet.scripts import one_line
from fleet.text import local_time, plain_text

if TYPE_CHECKING:
    from fleet.inventory import Host
    from fleet.machine import Machine, OnLine
    from fleet.model import RunId
    from fleet.plans import Part, Plan

TITLE = "fleet-order v1"
FORMAT = 2
"""The format of what the host program of this version has on record, and of the calls that it answers."""
ANSWER_TIMEOUT = 60.0
"""Seconds to wait for one answer. PID 1 alone may take 10: it refuses calls while it re-executes."""
VERIFY_TIMEOUT = 3600.0
"""Seconds in which a host reads all that a push of at most a few GB has written, from an SD card."""

GATE_HINTS = {
    "gate": "fleet plan --sign -o FILE; somebody else says fleet approve FILE; then fleet apply FILE",
    "contents": "apply the plan again",
    "protocol": "each fleet speaks to the gates of its own protocol and of the one before",
}
"""What helps against what a gate refuses."""
ABSENT = {"absent": ["yes"]}
"""The answer of a host that has not kept the host program."""
WENT_DOWN = 75
"""Exit status of what `bringing` returns if the host went down since the run began to push. In leave-mark.sh too."""


@functools.cache
def source() -> str:
    """Return the text of the host program: its parts one after another, in the order of `program/parts.txt`.

    `program/default.nix` makes the same bytes.
    """
    folder = resources.files("fleet.host") / "program"
    return "".join(
        (folder / name).read_text(encoding="utf-8")
        for name in (folder / "parts.txt").read_text(encoding="utf-8").split()
    )


@functools.cache
def _name() -> str:
    """Return the name by which a host keeps the program: the SHA-256 of its text."""
    return hashlib.sha256(source().encode()).hexdigest()


@dataclass(frozen=True)
class HostProgram:
    """The host program. It is called by its store path if it has been pushed, and by the hash of its text otherwise.

    `ask` sends it along to a host that has not kept it. A call with input does not get that far: the program comes on
    stdin. So it has to be there, as it is after any other call.
    """

    path: str | None = None

    def call(self, verb: str, *args: str, stdin: str = "") -> Command:
        """Return the command that asks the host program one thing."""
        words = (str(FORMAT), verb, *args)
        if self.path is None:
            known = ("sh", "-c", one_line("fleet.host", "run-known"), "sh", _name())
            name = f"fleet-host {' '.join(words)}"
            return Command(
                argv=(*known, *words), stdin=stdin.encode(), timeout=ANSWER_TIMEOUT, name=name, verb=words[1:]
            )
        return Command(argv=(self.path, *words), stdin=stdin.encode(), timeout=ANSWER_TIMEOUT, verb=words[1:])

    def verify(self) -> Command:
        """Return the command that finds and removes what a power cut during a push has damaged.

        It takes as long as it takes to read what was pushed.
        """
        return dataclasses.replace(self.call("verify"), timeout=VERIFY_TIMEOUT)

    def begin(self, order: Order) -> Command:
        """Return the command that opens a transaction. Run twice with one run id, it opens one.

        The answer shows it as soon as it is not switching any more, or after about a second. This needs the program's
        store path, since the keeper runs the program from there.
        """
        return self.call("begin", "watch", stdin=order.text())

    def queue(self, order: Order, seconds: float) -> Command:
        """Return the command that waits for the turn of an order, for so many more seconds at most.

        The answer comes when it is its turn, or after some seconds: then ask again, since who is silent for 30 s is
        taken for gone.
        """
        asked = (order.run, str(max(1, round(seconds))), words(order.by), words(order.origin), words(order.intent))
        return self.call("queue", *asked)

    def look(self, run: RunId, number: str) -> Command:
        """Return the command that judges the units, and moves the deadline, for the prover with this number."""
        return self.call("look", run, number)

    def word(self, run: RunId, word: str, cursor: str = "", number: str = "") -> Command:
        """Return the command by which the prover with this number leaves a word for the keeper.

        The answer may show already what came of it, and has what the switch wrote after the cursor.
        """
        return self.call("word", run, " ".join(word.split()), "wait", cursor, number)


@dataclass(frozen=True, kw_only=True)
class Order:
    """Everything that a host is asked to do, so that it can finish it alone.

    The part decides what happens. The rest only tells who asks.
    """

    run: RunId
    part: Part
    by: str
    origin: str
    """The name of the machine that asks."""
    plan: Plan | None = None
    """The plan that the part belongs to, if it belongs to one."""
    note: str = ""
    """What the host is to keep with the intent of the plan, before it."""
    ledger: str = ""
    """The head of the ledger that tells of the run: the host keeps it, as a witness."""

    signatures: tuple[str, ...] = ()
    """Signatures over the plan, each as base64 on one line: for a host with a gate, which gets the plan's head too."""
    manifest: str = ""
    """The lines of the closure's manifest, for a host with a gate that has other contents and takes them."""

    @property
    def intent(self) -> str:
        """What for, in the words of whoever asked."""
        return self.plan.intent if self.plan is not None else ""

    def text(self) -> str:
        """Return the order as the host program reads it. Its last line shows that nothing of it was lost on the way."""
        told = {"run": self.run, "from": words(self.origin), "by": words(self.by), **self._plan_values()}
        return written(TITLE, (told | {"ledger": self.ledger}).items()) + self.part.text + self._proof() + "end\n"

    def _proof(self) -> str:
        """Return what shows a gate that the part is what people have signed."""
        if self.plan is None or not self.signatures:
            return ""
        signatures = "".join(f"signature {line}\n" for line in self.signatures)
        manifest = f"fleet-manifest v1\n{self.manifest}" if self.manifest else ""
        return f"{self.plan.head}fleet-signatures v1\n{signatures}{manifest}"

    def _plan_values(self) -> dict[str, str]:
        """Return the keys and values of the order that come from the plan."""
        if self.plan is None:
            return {"intent": words(self.note), "source": NONE, "plan": NONE}
        source = self.plan.source_of(self.part.host)
        told = str(source) if source.reference else NONE
        intent = "; ".join(text for text in (self.note, self.plan.intent) if text)
        return {"intent": words(intent), "source": told, "plan": self.plan.digest}


def bringing(command: Command, run: RunId) -> Command:
    """Return the command, which brings store paths, so that it first notes on the host's disk that they may get lost.

    Nix calls a path valid before its files are on the disk. If the host went down since the run began to push, the
    command ends with exit status `WENT_DOWN` until `verify` has looked for damage. It ends with 74 if the host cannot
    write the note.
    """
    argv = ("sh", "-c", one_line("fleet.host", "leave-mark"), run, *command.argv)
    verb = (command.verb[0], run, *command.verb[1:]) if command.verb else ()
    return dataclasses.replace(command, argv=argv, verb=verb)


def sent_along(command: Command) -> Command:
    """Return a call of the host program by its hash so that it brings the program with it. The host keeps it.

    It has input then, and does not end with us.
    """
    argv = (*command.argv[:2], one_line("fleet.host", "run-sent"), *command.argv[3:])
    return dataclasses.replace(command, argv=argv, stdin=source().encode(), ends_with_us=False)


def for_driver(command: Command, host: Host) -> Command:
    """Return a call of the host program so that it is about what the host's table is about.

    NixOS's own system needs no words for that.
    """
    if host.driver is Driver.NIXOS:
        return command
    at = command.argv.index(str(FORMAT))
    argv = (*command.argv[:at], "for", host.driver.value, host.profile or NONE, *command.argv[at:])
    return dataclasses.replace(command, argv=argv, verb=())  # no gate has it: that is NixOS's


class EndedError(Exception):
    """The host has been asked for this very part of a plan before, and its transaction has ended."""


async def ask(
    machine: Machine, host: Host, command: Command, *, begins: bool = False, on_line: OnLine | None = None
) -> answers.Lines:
    """Run a command of the host program on the host, and return its answer. `on_line` gets the lines of its stderr.

    Raise the error that its refusal means, or `CommandFailedError` if it fails; and `EndedError`, if the command
    `begins` a transaction.
    """
    command = for_driver(command, host)
    output = await machine.run(command, on_line=on_line)
    lines = answers.parse(output.stdout)
    if ABSENT.items() <= lines.items():  # a login shell may print lines like ours before
        output = await machine.run(sent_along(command), on_line=on_line)
        lines = answers.parse(output.stdout)
    if begins and answers.one(lines, "refused") == "ended":
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


def stale(host: Host, lines: answers.Lines) -> StaleError:
    """Return the error that says what has happened on the host since a plan was made."""
    said = [described(entry) for entry in history.entries(lines)]
    message = answers.one(lines, "message") or "the host is not any more as it was when this was planned"
    return StaleError(
        host.name, plain_text(message), said=said, hint="plan again: what happened since is then part of it"
    )


def described(entry: history.PastTransaction) -> str:
    """Return the entry as text: `2025-03-01 10:32 run … of bob from desk: …-a -> …-b, committed (update nginx)`."""
    when = local_time(entry.ended)
    words = f"{when} run {entry.run} of {who(entry.by, entry.origin)}: {entry.old} -> {entry.new}, {entry.state}"
    why = "; ".join(text for text in (entry.intent, entry.source, entry.reason) if text)
    return f"{words} ({why})" if why else words


def refused_turn(host: Host, lines: answers.Lines) -> LockedError | None:
    """Return the error that says who is at work on the host, or begins next; None if the answer names nobody."""
    held, waiting = open_transaction(lines), tickets(lines)
    if held is not None:
        return locked(host, held, waiting)
    return queued(host, waiting) if waiting else None


def refusal(host: Host, lines: answers.Lines) -> HostError:
    """Return the error that a refusal means."""
    kind, message = answers.one(lines, "refused"), answers.one(lines, "message")
    match kind:
        case "locked":
            return refused_turn(host, lines) or LockedError(host.name, message, hint="try again when that has ended")
        case "quarantined":
            hint = "deploy a different closure, or --retry-quarantined"
            return QuarantinedError(host.name, f"this closure was found bad here: {message}", hint=hint)
        case "stale":
            return stale(host, lines)
        case "incomplete":
            return PushError(host.name, message, hint="deploy again; what has arrived is not sent twice")
        case "gate" | "contents" | "protocol":
            return GateError(host.name, message, hint=GATE_HINTS.get(kind, ""))
        case "unfit" | "full":
            return UnfitError(host.name, message)
        case "broken":  # its transaction may be open already: it has not said that nothing was changed
            return CommandFailedError(host.name, message)
        case "root":
            hint = 'set user = "root", or sudo = true, for this host'
            return AuthenticationError(host.name, message, hint=hint)
    return SwitchError(host.name, message or f"refused: {kind}")
