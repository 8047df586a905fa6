"""One event of every kind, and any number of them."""

from __future__ import annotations

import dataclasses
import enum
import types
import typing
from typing import Any

from hypothesis import strategies as st

from fleet import events
from fleet.events import KINDS, Envelope, Event
from fleet.model import (
    Closure,
    Derivation,
    Failure,
    FailureKind,
    Goal,
    HostName,
    HostResult,
    Outcome,
    Phase,
    RunId,
    Severity,
)
from fleet.text import without_control

HOST = HostName("web-1")
CLOSURE = Closure("/nix/store/0123456789abcdfghijklmnpqrsvwxyz-nixos-system-web-1-25.05")
FAILURE = Failure(kind=FailureKind.SWITCH, message="switch failed", ran="stc", said=("a", "b"), now="back", hint="look")
RESULT = HostResult(host=HOST, outcome=Outcome.ROLLED_BACK, closure=CLOSURE, seconds=1.235, failure=FAILURE)
SAMPLES = {
    "action": "switch",
    "ahead": 2,
    "answer": "503",
    "asked": "pause",
    "changed": ("token",),
    "check": "http",
    "closure": CLOSURE,
    "broken_by": "ann",
    "closures": {HOST: CLOSURE},
    "decisions": {HOST: "ask"},
    "download_bytes": 4,
    "error": FAILURE,
    "exit_code": 1,
    "goal": Goal.SWITCH,
    "hint": "free some space",
    "host": HOST,
    "hosts": (HOST,),
    "intent": "update nginx",
    "kind": "disk",
    "meanwhile": ("run r9 of bob from train",),
    "message": "disk is full",
    "missing_bytes": 5,
    "missing_paths": 2,
    "nar_bytes": 7,
    "outcomes": {"kept": 1},
    "passed": False,
    "paths": 2,
    "phase": Phase.PUSH,
    "push_seconds": 2.5,
    "reason": "unhealthy",
    "recalled": 1,
    "reboot": ("kernel",),
    "result": RESULT,
    "room_free": 100,
    "room_needed": 50,
    "rules": ("agents on prod",),
    "run": RunId("20261120T042211-3fa9c1d2"),
    "running": CLOSURE,
    "satisfied": "approved by ann",
    "same": ("other",),
    "seconds": 0.123,
    "secrets": ("token",),
    "sent": 3,
    "severity": Severity.ERROR,
    "since": 1795946400,
    "stage": "after",
    "status": 4,
    "strict": True,
    "substitute_bytes": 3,
    "substitute_paths": 1,
    "text": "line",
    "total": 9,
    "undo": RunId("20261120T042212-3fa9c2"),
    "unwell": {HOST: "check web: 503"},
    "verb": "deploy",
    "waits_for": RunId("20261120T042210-3fa9c0"),
    "wave": 1,
    "watch": 1.5,
    "waves": 2,
    "when": "before_switch",
    "who": "ann",
    "whose": "bob from train",
    "why": "the database is away",
    "wire_bytes": 6,
}


def sample(kind: type[Event]) -> Event:
    """An event of this kind with a value in every field."""
    special: dict[str, object] = {"derivations": 2} if kind is events.BuildFinished else {}
    if kind is events.EvaluationFinished:
        special = {"derivations": {HOST: Derivation("/nix/store/x.drv")}}
    if kind is events.RunFinished:
        special = {"hosts": (RESULT,)}
    return kind(**{field.name: (SAMPLES | special)[field.name] for field in dataclasses.fields(kind)})


def sealed(event: Event, **place: Any) -> Envelope:
    """The event in an envelope."""
    return Envelope(**{"run": SAMPLES["run"], "seq": 1, "at": 1795946400.125, "by": "ann", "event": event, **place})


FLOATS = st.floats(0, 1e9).map(lambda number: round(number, 3))
"""As they are written."""
INTEGERS = st.integers(-(2**63), 2**63)


TEXTS = st.text().map(without_control)


def values(kind: Any) -> st.SearchStrategy[Any]:
    """Any value that a field of this type may have."""
    plain: dict[Any, st.SearchStrategy[Any]] = {
        str: TEXTS, int: INTEGERS, float: FLOATS, bool: st.booleans(), types.NoneType: st.none()
    }  # fmt: skip
    arguments = typing.get_args(kind)
    if isinstance(kind, typing.NewType):
        return values(kind.__supertype__)
    if kind in plain:
        return plain[kind]
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        return st.builds(kind, **{field.name: values(hints[field.name]) for field in dataclasses.fields(kind)})
    if typing.get_origin(kind) is tuple:
        return st.lists(values(arguments[0]), max_size=3).map(tuple)
    if typing.get_origin(kind) is dict:
        return st.dictionaries(values(arguments[0]), values(arguments[1]), max_size=3)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return st.sampled_from(kind)
    return st.one_of([values(each) for each in arguments])


ANY_EVENT: st.SearchStrategy[Event] = st.one_of([values(kind) for kind in KINDS.values()])
ANY_ENVELOPE = st.builds(Envelope, run=TEXTS, seq=st.integers(0, 2**53), at=FLOATS, by=TEXTS, event=ANY_EVENT).map(
    lambda envelope: dataclasses.replace(envelope, run=getattr(envelope.event, "run", envelope.run))
)
