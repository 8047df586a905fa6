"""Every event that a run can emit.

The JSON name of an event is its class name in snake case, and its JSON fields are its fields: this file and those that
`encode` joins to it are the public format of `--json` and of a run's `events.jsonl`. A field that is added to an event
has a default, so that events of earlier versions can still be read.
"""

from __future__ import annotations

from dataclasses import dataclass

from fleet.model import (  # noqa: TC001 - pydantic reads these while running
    Closure,
    Derivation,
    Failure,
    Goal,
    HostName,
    HostResult,
    Phase,
    RunId,
    Severity,
)


@dataclass(frozen=True, kw_only=True)
class Event:
    """A fact. A plain value, emitted when it becomes true."""


@dataclass(frozen=True, kw_only=True)
class HostEvent(Event):
    """A fact about one host."""

    host: HostName


@dataclass(frozen=True, kw_only=True)
class RunStarted(Event):
    """The run has its id. Nothing was touched yet."""

    run: RunId
    verb: str
    goal: Goal
    hosts: tuple[HostName, ...]
    watch: float = 0.0
    """The least time, in seconds, for which a new system is watched before it is kept."""
    strict: bool = False
    """For `rollback`: whether failing checks stop it."""


@dataclass(frozen=True, kw_only=True)
class PhaseStarted(HostEvent):
    """The host has entered a phase of the run."""

    phase: Phase


@dataclass(frozen=True, kw_only=True)
class FindingReported(Event):
    """Preflight or planning has found something: one line, with the remedy."""

    host: HostName | None
    """None if it concerns no host in particular."""
    severity: Severity
    kind: str
    message: str
    hint: str = ""


@dataclass(frozen=True, kw_only=True)
class EvaluationFinished(Event):
    """Every host that takes part has a derivation. With `--keep-going` other hosts may have been left out."""

    derivations: dict[HostName, Derivation]
    recalled: int = 0
    """How many hosts were not evaluated again because the source had not changed."""
    seconds: float


@dataclass(frozen=True, kw_only=True)
class BuildFinished(Event):
    """These closures exist in the local store, with roots. With `--keep-going` hosts may have been left out."""

    closures: dict[HostName, Closure]
    derivations: int
    """How many different derivations were built."""
    seconds: float


@dataclass(frozen=True, kw_only=True)
class HostPlanned(HostEvent):
    """What the run would do to the host. Sizes are in bytes."""

    action: str
    """`switch`, `commit` (runs already, and is made the default), `push` (nothing is switched), `secrets` (these alone
    are compared), or `unchanged`."""
    closure: Closure
    running: Closure
    wave: int
    """Counted from 1. 0 for a host that nothing will happen to."""
    missing_paths: int
    missing_bytes: int
    """The NAR size of the missing paths, before any substitution."""
    substitute_paths: int = 0
    """How many of the missing paths the host fetches from its own caches."""
    substitute_bytes: int = 0
    """The NAR size of those."""
    download_bytes: int = 0
    """The size of that download."""
    wire_bytes: int = 0
    """What pushing the rest sends over the link."""
    push_seconds: float | None = None
    """How long the push takes at the speed of the last one to the host; None if none was measured."""
    room_needed: int = 0
    """The space needed on the disk that /nix is on."""
    room_free: int = 0
    reboot: tuple[str, ...]
    """The parts that only a reboot makes live, such as `kernel`, and what forbids a live switch."""


@dataclass(frozen=True, kw_only=True)
class WaveStarted(Event):
    """The hosts of this wave may begin."""

    wave: int
    waves: int
    hosts: tuple[HostName, ...]


@dataclass(frozen=True, kw_only=True)
class WaveFinished(Event):
    """Every host of this wave has ended. The next one begins only now."""

    wave: int
    waves: int
    outcomes: dict[str, int]
    """How many of its hosts ended with each outcome."""


@dataclass(frozen=True, kw_only=True)
class SoakStarted(Event):
    """The hosts of this wave are watched before the next one begins."""

    wave: int
    hosts: tuple[HostName, ...]
    seconds: float


@dataclass(frozen=True, kw_only=True)
class SoakFinished(Event):
    """The hosts of this wave were watched for long enough."""

    wave: int
    unwell: dict[HostName, str]
    """What is wrong with those that did not stay well."""


@dataclass(frozen=True, kw_only=True)
class RolloutAsked(Event):
    """Somebody has asked the rollout for something, and it does so."""

    asked: str
    """`pause`: no further host begins until it is to `continue`; `abort`: no further host begins."""
    who: str
    """Empty if it goes on since nobody asks for anything any more."""


@dataclass(frozen=True, kw_only=True)
class UndoStarted(Event):
    """The run has failed, and the hosts that it changed go back to where they were, by a run of its own."""

    hosts: tuple[HostName, ...]
    undo: RunId
    """The run that takes them back."""


@dataclass(frozen=True, kw_only=True)
class HostFetched(HostEvent):
    """The host has fetched what its own caches had. The rest is pushed."""

    paths: int
    nar_bytes: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class PushProgressed(HostEvent):
    """How many bytes have crossed the connection so far. Emitted at most a few times per second."""

    sent: int
    total: int
    """How many bytes will have crossed it in the end. Exact as soon as the host has said what it lacks."""


@dataclass(frozen=True, kw_only=True)
class PushFinished(HostEvent):
    """Everything that was to be sent is on the host, with roots: the closure, or what the host builds it from."""

    paths: int
    """How many store paths were sent."""
    nar_bytes: int
    wire_bytes: int
    """Bytes that were sent to the host, with questions, without what SSH adds."""
    seconds: float
    """Without the time in which the host fetched or built something itself."""


@dataclass(frozen=True, kw_only=True)
class HooksStarted(HostEvent):
    """Hooks have begun to run that others undo: whoever takes up the run knows that."""

    when: str
    """`before_switch`."""


@dataclass(frozen=True, kw_only=True)
class HostSwitched(HostEvent):
    """switch-to-configuration has ended. Nothing is proven yet."""

    closure: Closure
    status: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class CheckReported(HostEvent):
    """A declared check has answered for the first time, or has changed its answer."""

    check: str
    passed: bool
    answer: str
    stage: str
    """`before` the switch, `after` it, or `reverted`."""


@dataclass(frozen=True, kw_only=True)
class HostProven(HostEvent):
    """The new system was healthy for as long as it had to be. The host was told to commit."""

    closure: Closure
    seconds: float


@dataclass(frozen=True, kw_only=True)
class HostCondemned(HostEvent):
    """The controller told the host to go back, for this reason."""

    closure: Closure
    reason: str


@dataclass(frozen=True, kw_only=True)
class HostFinished(HostEvent):
    """The host has its outcome.

    Each process emits this once for each selected host, so `fleet resume` emits it again.
    """

    result: HostResult


@dataclass(frozen=True, kw_only=True)
class OutputLine(Event):
    """A line that Nix or the switch wrote, without control characters."""

    host: HostName | None
    phase: Phase
    text: str


@dataclass(frozen=True, kw_only=True)
class RunInterrupted(Event):
    """Somebody asked the run to stop. No further host begins; hosts that switched are proven or reverted."""


@dataclass(frozen=True, kw_only=True)
class RunFinished(Event):
    """The last event of every run."""

    run: RunId
    exit_code: int
    error: Failure | None
    hosts: tuple[HostResult, ...]
