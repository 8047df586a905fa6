"""Every fact a run can tell. Work emits, screens and files subscribe; nobody prints.

The JSON name of an event is its class name in snake case and its JSON fields are its fields: this file is the
public format of `--json` and of the run's `events.jsonl`.
"""

from __future__ import annotations

import dataclasses
import enum
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fleet.model import Closure, Derivation, Failure, Goal, HostName, HostResult, Phase, RunId, Severity


@dataclass(frozen=True, kw_only=True)
class Event:
    """A fact. Plain value, emitted the moment it is true."""


@dataclass(frozen=True, kw_only=True)
class HostEvent(Event):
    """A fact about one host."""

    host: HostName


@dataclass(frozen=True, kw_only=True)
class RunStarted(Event):
    """A run has its identity; nothing was touched yet."""

    run: RunId
    verb: str
    goal: Goal
    hosts: tuple[HostName, ...]
    watch: float
    """Seconds for which a new system is watched before it is kept, at the least."""
    strict: bool
    """With `rollback`: whether failing declared checks stop it."""


@dataclass(frozen=True, kw_only=True)
class PhaseStarted(HostEvent):
    """The host entered a phase of the run."""

    phase: Phase


@dataclass(frozen=True, kw_only=True)
class FindingReported(Event):
    """Preflight or plan found something: one line, with the remedy."""

    host: HostName | None
    """None for what concerns no host in particular."""
    severity: Severity
    kind: str
    message: str
    hint: str = ""


@dataclass(frozen=True, kw_only=True)
class EvaluationFinished(Event):
    """All hosts that take part have a derivation; with `--keep-going` the others are left out."""

    derivations: dict[HostName, Derivation]
    recalled: int
    """How many of the hosts were not evaluated again, because the source has not changed since."""
    seconds: float


@dataclass(frozen=True, kw_only=True)
class BuildFinished(Event):
    """These closures exist in the local store, rooted; with `--keep-going` hosts may have been left out."""

    closures: dict[HostName, Closure]
    derivations: int
    """How many different derivations that took."""
    seconds: float


@dataclass(frozen=True, kw_only=True)
class HostPlanned(HostEvent):
    """What the run would do to the host."""

    action: str
    """`switch`, `commit` (it runs already, and is not the default), `push` (nothing is switched), or `unchanged`."""
    closure: Closure
    running: Closure
    wave: int
    """Counted from 1; 0 for a host that nothing will happen to."""
    missing_paths: int
    missing_bytes: int
    """NAR bytes, before any substitution."""
    substitute_paths: int = 0
    """How many of them the host fetches from its own caches."""
    substitute_bytes: int = 0
    """Their NAR bytes."""
    download_bytes: int = 0
    """What fetching them downloads."""
    wire_bytes: int = 0
    """What pushing the rest sends to the host."""
    push_seconds: float | None = None
    """How long that takes at the speed of the last push to the host; None where none was measured."""
    room_needed: int = 0
    """Bytes on the disk that /nix is on."""
    room_free: int = 0
    reboot: tuple[str, ...]
    """Parts that only a reboot makes live, such as `kernel`; and what forbids a live switch."""


@dataclass(frozen=True, kw_only=True)
class WaveStarted(Event):
    """Hosts of this wave may begin."""

    wave: int
    waves: int
    hosts: tuple[HostName, ...]


@dataclass(frozen=True, kw_only=True)
class HostFetched(HostEvent):
    """The host has fetched what its own caches gave. The rest is pushed."""

    paths: int
    nar_bytes: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class PushProgressed(HostEvent):
    """Bytes that crossed the connection so far; at most a few of these each second."""

    sent: int
    total: int
    """Bytes that will have crossed it at the end. Exact as soon as the host has said what it lacks."""


@dataclass(frozen=True, kw_only=True)
class PushFinished(HostEvent):
    """What was to be sent is complete and rooted on the host: the closure, or what the host builds it from."""

    paths: int
    """How many were sent."""
    nar_bytes: int
    wire_bytes: int
    """Bytes that went to the host, questions included, SSH's own excluded."""
    seconds: float
    """Without what the host fetched or built itself."""


@dataclass(frozen=True, kw_only=True)
class HostSwitched(HostEvent):
    """switch-to-configuration has ended; nothing is proven yet."""

    closure: Closure
    status: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class CheckReported(HostEvent):
    """A declared check passed for the first time, or changed its answer."""

    check: str
    passed: bool
    answer: str
    stage: str
    """`before` the switch, `after` it, or `reverted`."""


@dataclass(frozen=True, kw_only=True)
class HostProven(HostEvent):
    """The new system was healthy for as long as it had to be; the host was told to commit."""

    closure: Closure
    seconds: float


@dataclass(frozen=True, kw_only=True)
class HostCondemned(HostEvent):
    """The controller told the host to go back, and why."""

    closure: Closure
    reason: str


@dataclass(frozen=True, kw_only=True)
class HostFinished(HostEvent):
    """The host has its outcome. Emitted once for each selected host by each process: `fleet resume` tells it again."""

    result: HostResult


@dataclass(frozen=True, kw_only=True)
class OutputLine(Event):
    """A line that Nix or the switch wrote, without control characters."""

    host: HostName | None
    phase: Phase
    text: str


@dataclass(frozen=True, kw_only=True)
class RunInterrupted(Event):
    """Ctrl-C: no further host begins; hosts that switched are proven or reverted."""


@dataclass(frozen=True, kw_only=True)
class RunFinished(Event):
    """The last event of every run."""

    run: RunId
    exit_code: int
    error: Failure | None
    hosts: tuple[HostResult, ...]


Emit = Callable[[Event], None]
"""Called, never awaited: order is certain and nothing is lost at exit. Subscribers must be quick."""


def fan_out(*subscribers: Emit) -> Emit:
    """One `Emit` that passes each event to every subscriber, in order."""

    def emit(event: Event) -> None:
        for subscriber in subscribers:
            subscriber(event)

    return emit


def event_name(event: type[Event]) -> str:
    """`HostSwitched` -> `host_switched`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", event.__name__).lower()


_CONTROL = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b.?|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
)


def plain_text(text: str) -> str:
    """The text without escape sequences and control characters: the one door to terminals and files."""
    return _CONTROL.sub("", text.replace("\t", "    "))


def _plain(value: Any) -> Any:
    match value:
        case HostResult():
            return _host_json(value)
        case enum.Enum():
            return value.value
        case dict():
            return {str(key): _plain(item) for key, item in value.items()}
        case tuple() | list():
            return [_plain(item) for item in value]
        case Failure():
            return dataclasses.asdict(value) | {"said": list(value.said)}
        case float():
            return round(value, 3)
    return value


def _host_json(result: HostResult) -> dict[str, Any]:
    fields = {f.name: _plain(getattr(result, f.name)) for f in dataclasses.fields(result)}
    fields["name"] = fields.pop("host")
    fields["error"] = fields.pop("failure")
    return fields


def event_json(event: Event) -> dict[str, Any]:
    """The event as JSON data: `{"event": NAME, …its fields}`."""
    fields = {f.name: _plain(getattr(event, f.name)) for f in dataclasses.fields(event)}
    return {"event": event_name(type(event)), **fields}
