"""Fold the events of a run into a record of what became of it: one pure function, used live and for past runs."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from fleet.events import (
    CheckReported,
    HooksStarted,
    HostEvent,
    HostFinished,
    HostPlanned,
    HostReplanned,
    HostSwitched,
    PhaseStarted,
    PushProgressed,
    RunFinished,
    RunStarted,
    SoakFinished,
)
from fleet.model import CheckAnswer, Closure, Goal, HostName, HostResult, Outcome, Phase, RunId, Verb
from fleet.state.hosts import Hosts

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from fleet.events import Envelope, Event

FOLDED: tuple[type[Event], ...] = (
    RunStarted,
    RunFinished,
    SoakFinished,
    HostPlanned,
    HostReplanned,
    PhaseStarted,
    HooksStarted,
    HostSwitched,
    CheckReported,
    HostFinished,
)
"""The kinds of events that change a record in more than the number of the last event."""
NOT_KEPT = (PushProgressed,)
"""The kinds of events that are emitted but not kept: there are many, and nobody reads them later."""
_NOT_SEEN_TO_THE_END = ("in_doubt", "bug")
"""The kinds of failures that leave open what became of the host."""


@dataclass(frozen=True, kw_only=True)
class HostRecord:
    """What the events of a run say about one host."""

    name: HostName
    closure: Closure | None = None
    previous: Closure | None = None
    """The closure that ran before."""
    reboot: tuple[str, ...] = ()
    """Parts of the closure that only a reboot makes live."""
    pushed: bool = False
    """Whether a push began: roots of the run may be on the host."""
    prepared: bool = False
    """Whether hooks before the switch have begun to run."""
    begun: bool = False
    """Whether the host may have begun to switch."""
    heard: bool = False
    """Whether the host has shown that it began."""
    by_reboot: bool = False
    """Whether it goes to the new system by way of a reboot."""
    switched: bool = False
    """Whether switch-to-configuration has ended."""
    before: Mapping[str, CheckAnswer] = field(default_factory=dict)
    """The last answer of each check before the switch, by its name."""
    result: HostResult | None = None

    @property
    def is_settled(self) -> bool:
        """Whether the end of the host is known, so that nothing on the host can still change it."""
        if self.result is None or self.result.failure is None:
            return self.result is not None
        is_in_doubt = self.result.failure.kind in _NOT_SEEN_TO_THE_END
        return not (is_in_doubt and self.result.outcome is Outcome.NEEDS_HUMAN)


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """One run, as far as its events are known."""

    id: RunId
    verb: str = ""
    """`deploy`, `push` or `rollback`; `resume` if only a later process could record it. Empty if nothing is known."""
    goal: Goal = Goal.SWITCH
    watch: float = 0.0
    """The least time, in seconds, for which a new system is watched before it is kept."""
    strict: bool = False
    """For `rollback`: whether failing checks stop it."""
    by: str = ""
    """The person or program that asked for it."""
    started: float | None = None
    """Seconds since 1970; None if that is not known."""
    finished: float | None = None
    """Seconds since 1970; None while it goes on, and if it was cut short."""
    exit_code: int | None = None
    """None while it goes on, and if it was cut short."""
    plan: str | None = None
    """The digest of the plan that it applies."""
    hosts: Hosts = field(default_factory=Hosts)
    soaked: frozenset[int] = frozenset()
    """The waves whose soak is over."""
    last_seq: int = 0
    """The number of its last event: whoever resumes it goes on counting from there."""

    @property
    def known_verb(self) -> Verb:
        """What it was, where that is known; else what was made of it later."""
        return Verb(self.verb) if self.verb in set(Verb) else Verb.RESUME

    @property
    def is_readable(self) -> bool:
        """Whether the events say what the run was. A power cut here may have lost them; then the hosts know more."""
        return bool(self.verb)

    @property
    def went_wrong(self) -> bool:
        """Whether a host went back, or needs a person: people look at what was gathered about it, maybe much later."""
        wrong = (Outcome.ROLLED_BACK, Outcome.NEEDS_HUMAN)
        return any(host.result is not None and host.result.outcome in wrong for host in self.hosts.values())

    @property
    def is_open(self) -> bool:
        """Whether the end of some host is still to be learned, once the run is not under way any more."""
        return any(
            not host.is_settled and (host.begun or (host.pushed and self.exit_code is None))
            for host in self.hosts.values()
        )


_Record = TypeVar("_Record", HostRecord, RunRecord)


def fold(record: RunRecord, envelope: Envelope) -> RunRecord:
    """Return the record with one more event of its run.

    The cost hardly depends on the length or the size of the run.
    """
    event, seq = envelope.event, envelope.seq
    match event:
        case RunStarted():
            return _start(record, envelope, event)
        case RunFinished():
            hosts = _with_results(record.hosts, event.hosts)
            return _with(record, exit_code=event.exit_code, finished=envelope.at or None, hosts=hosts, last_seq=seq)
        case SoakFinished():
            return _with(record, soaked=record.soaked | {event.wave}, last_seq=seq)
        case HostEvent() if event.host in record.hosts:
            hosts = record.hosts.replace(_fold_host(record.hosts[event.host], event))
            return _with(record, hosts=hosts, last_seq=seq)
    return _with(record, last_seq=seq)


def fold_all(record: RunRecord, envelopes: Iterable[Envelope]) -> RunRecord:
    """Return the record with all of these events."""
    return functools.reduce(fold, envelopes, record)


def _start(record: RunRecord, envelope: Envelope, event: RunStarted) -> RunRecord:
    """Return the record of a run on which a process begins to work: the first one, or one that resumes it."""
    # A process that resumes brings new hosts only if the beginning of the run cannot be read. They may have begun.
    begun = event.verb == "resume"
    new = [HostRecord(name=name, begun=begun) for name in event.hosts if name not in record.hosts]
    return _with(
        record,
        verb=record.verb or event.verb,
        goal=event.goal,
        watch=event.watch,
        strict=event.strict,
        by=record.by or envelope.by,
        started=record.started or envelope.at or None,
        finished=None,
        exit_code=None,
        hosts=Hosts([*record.hosts.values(), *new]),
        last_seq=envelope.seq,
    )


def _with_results(hosts: Hosts, results: Iterable[HostResult]) -> Hosts:
    """Set the results of these hosts. The events that reported them one by one may be missing."""
    for result in results:
        if result.host in hosts:
            hosts = hosts.replace(_with(hosts[result.host], result=result))
    return hosts


def _fold_host(host: HostRecord, event: HostEvent) -> HostRecord:
    """Return the record of a host with one more event about it."""
    match event:
        case HostPlanned():
            return _with(host, closure=event.closure, previous=event.running, reboot=event.reboot)
        case HostReplanned():
            return _with(host, previous=event.running)
        case PhaseStarted(phase=Phase.PUSH):
            return _with(host, pushed=True)
        case PhaseStarted(phase=Phase.SWITCH):
            return _with(host, begun=True)
        case PhaseStarted(phase=Phase.REBOOT):
            return _with(host, heard=True, by_reboot=True)
        case PhaseStarted(phase=Phase.PROVE | Phase.COMMIT | Phase.REVERT):
            return _with(host, heard=True)
        case HooksStarted():
            return _with(host, prepared=True)
        case HostSwitched():
            return _with(host, heard=True, switched=True)
        case CheckReported(stage="before"):
            answer = CheckAnswer(check=event.check, passed=event.passed, said=event.answer, seconds=0.0)
            return _with(host, before={**host.before, event.check: answer})
        case HostFinished():
            return _with(host, result=event.result)
    return host


def _with(record: _Record, **changes: Any) -> _Record:
    """Do what `dataclasses.replace` does in a fifth of its time, which is most of the time of reading many runs."""
    changed = object.__new__(type(record))
    changed.__dict__.update(record.__dict__, **changes)
    return changed
