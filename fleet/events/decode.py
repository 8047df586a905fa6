"""Decode JSON into events: lines of `--json`, of `events.jsonl`, and what the state has kept."""

from __future__ import annotations

import functools
import json
import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from fleet.events.encode import KINDS, RESULT_NAMES
from fleet.events.envelope import Envelope
from fleet.model import HostResult, RunId

if TYPE_CHECKING:
    from pydantic import TypeAdapter

    from fleet.events.kinds import Event


class DecodeError(ValueError):
    """The JSON is not an event that this version of fleet knows: of another kind, or with a missing or wrong field."""


@dataclass(frozen=True, kw_only=True)
class _Place:
    """What an envelope adds to an event. Each field may be missing."""

    v: int = Envelope.version
    run: str | None = None
    seq: int | None = None
    at: float | None = None
    by: str | None = None


def decode(
    source: str | bytes | Mapping[str, Any], *, run: str = "", seq: int = 0, at: float = 0.0, by: str = ""
) -> Envelope:
    """Return the event of one JSON object, in its envelope.

    Unknown fields are ignored. `run`, `seq`, `at` and `by` fill in what the object lacks, as lines of fleet 0.1.0 do.
    Raise `DecodeError`, and nothing else, if it is no event.
    """
    text = _json(source) if isinstance(source, Mapping) else source
    events, places = _adapters()
    try:
        # Strict, so that a string is never taken for a number. Only in JSON does that still accept lists as tuples.
        event, place = events.validate_json(text, strict=True), places.validate_json(text, strict=True)
    except ValueError as error:  # pydantic's own error, or that of text which is not Unicode
        raise DecodeError(_reason(error)) from error
    if place.v > Envelope.version:
        raise DecodeError(f"written in format {place.v} by a newer fleet; this one reads format {Envelope.version}")
    return Envelope(
        run=RunId(run if place.run is None else place.run),
        seq=seq if place.seq is None else place.seq,
        at=at if place.at is None else place.at,
        by=by if place.by is None else place.by,
        event=event,
    )


def _json(fields: Mapping[str, Any]) -> str:
    try:
        return json.dumps(dict(fields))
    except (TypeError, ValueError, RecursionError) as error:
        raise DecodeError(f"not JSON: {error}") from error


@functools.cache
def _adapters() -> tuple[TypeAdapter[Event], TypeAdapter[_Place]]:
    """Return the reader of events, and the reader of the rest of an envelope."""
    from pydantic import Discriminator, Tag, TypeAdapter, with_config

    with_config(alias_generator=lambda field: RESULT_NAMES.get(field, field))(HostResult)
    by_name = Discriminator(
        lambda data: data.get("event") if isinstance(data, dict) else None,
        custom_error_type="event",
        custom_error_message="no event that this version of fleet knows",
    )
    kinds: Any = functools.reduce(operator.or_, (Annotated[kind, Tag(name)] for name, kind in KINDS.items()))
    return TypeAdapter(Annotated[kinds, by_name]), TypeAdapter(_Place)


def _reason(error: ValueError) -> str:
    """Return the first thing that is wrong, on one line."""
    from pydantic import ValidationError

    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    return ": ".join([*map(str, first["loc"]), first["msg"]])
