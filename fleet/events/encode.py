"""Encode events as JSON."""

from __future__ import annotations

import dataclasses
import enum
import inspect
import json
import re
from typing import TYPE_CHECKING, Any

from fleet.events import kinds, policy, recording, secrets, turns
from fleet.events.kinds import Event, HostEvent
from fleet.model import Failure, HostResult
from fleet.text import valid_unicode, without_control

if TYPE_CHECKING:
    from fleet.events.envelope import Envelope

LONGEST = 16 << 10
"""Characters of each text of an event, at most."""
RESULT_NAMES = {"host": "name", "failure": "error"}
"""Fields of a `HostResult` that have another name in JSON."""


def event_name(event: type[Event]) -> str:
    """Return the JSON name of an event class: `HostSwitched` is `host_switched`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", event.__name__).lower()


KINDS: dict[str, type[Event]] = {
    event_name(kind): kind
    for module in (kinds, policy, recording, secrets, turns)
    for _, kind in inspect.getmembers(module, inspect.isclass)
    if issubclass(kind, Event) and kind not in (Event, HostEvent)
}
"""Every class of event by its JSON name."""
_FIELDS: dict[type, tuple[str, ...]] = {}
"""The names of the fields of each class that was encoded so far: a run has many events of few classes."""


def event_json(event: Event) -> dict[str, Any]:
    """Return the event as JSON data: `{"event": NAME, …its fields}`. Floats are rounded to three digits."""
    return {"event": event_name(type(event)), **_fields(event)}


def envelope_json(envelope: Envelope) -> dict[str, Any]:
    """Return the event as JSON data, with `v`, `run`, `seq`, `at` and `by` beside its own fields."""
    place = {"run": envelope.run, "seq": envelope.seq, "at": envelope.at, "by": envelope.by}
    return {**event_json(envelope.event), "v": envelope.version, **{key: _plain(place[key]) for key in place}}


def encode(envelope: Envelope) -> str:
    """Return the envelope as one line of ASCII JSON, without the line feed. `decode` returns the same envelope.

    Texts have no control characters but tabs and line feeds: a host may have written them.
    """
    return json.dumps(envelope_json(envelope))


def _fields(value: Any) -> dict[str, Any]:
    kind = type(value)
    if kind not in _FIELDS:
        _FIELDS[kind] = tuple(field.name for field in dataclasses.fields(kind))
    return {name: _plain(getattr(value, name)) for name in _FIELDS[kind]}


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, int):  # most of what there is
        return value
    if type(value) is str and value.isascii() and value.isprintable():
        return value[:LONGEST]
    match value:
        case HostResult():
            return {RESULT_NAMES.get(name, name): field for name, field in _fields(value).items()}
        case Failure():
            return _fields(value)
        case enum.Enum():
            return value.value
        case str():
            return valid_unicode(without_control(value[:LONGEST]))
        case dict():
            return {_plain(str(key)): _plain(item) for key, item in value.items()}
        case tuple() | list():
            return [_plain(item) for item in value]
        case float():
            return round(value, 3)
    return value
