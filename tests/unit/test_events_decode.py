"""Reading events back: whatever was written comes back equal, and what is no event costs only itself."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given

from fleet.events import (
    KINDS,
    DecodeError,
    Envelope,
    EvaluationFinished,
    HostPlanned,
    HostSwitched,
    OutputLine,
    RunFinished,
    RunInterrupted,
    RunStarted,
    decode,
    encode,
    event_json,
    event_name,
)
from fleet.model import Closure, Goal, HostName, Outcome, Phase, RunId
from tests.unit.event_samples import ANY_ENVELOPE, HOST, RESULT, sample, sealed

if TYPE_CHECKING:
    from fleet.events import Event


@pytest.mark.parametrize("kind", KINDS.values(), ids=event_name)
def test_every_event_comes_back_equal(kind: type[Event]) -> None:
    envelope = sealed(sample(kind))
    assert decode(encode(envelope)) == envelope


@given(ANY_ENVELOPE)
def test_whatever_an_event_has_in_it_comes_back_equal(envelope: Envelope) -> None:
    line = encode(envelope)
    assert line.isascii()
    assert "\n" not in line
    assert decode(line) == envelope


def test_what_a_host_wrote_moves_no_cursor_and_has_an_end() -> None:
    said = "\x1b]0;title\x07a\x1b[2J\u202eb" + "c" * 100_000
    document = json.loads(encode(sealed(OutputLine(host=HOST, phase=Phase.SWITCH, text=said))))
    assert document["text"].startswith("abcc")
    assert len(document["text"]) < 20_000


def test_line_may_also_come_as_bytes_or_as_a_mapping() -> None:
    envelope = sealed(sample(RunFinished))
    line = encode(envelope)
    assert decode(line.encode()) == decode(json.loads(line)) == envelope


def test_line_without_an_envelope_gets_the_place_that_the_caller_knows() -> None:
    line = json.dumps(event_json(RunInterrupted()))
    known = decode(line, run="20261120T042211-3fa9c1d2", seq=3, at=5.5, by="ann")
    assert known == sealed(RunInterrupted(), run=RunId("20261120T042211-3fa9c1d2"), seq=3, at=5.5)
    assert decode(line) == sealed(RunInterrupted(), run=RunId(""), seq=0, at=0.0, by="")


def test_own_envelope_of_a_line_counts_more_than_what_the_caller_knows() -> None:
    envelope = sealed(RunInterrupted())
    assert decode(encode(envelope), run="other", seq=99, at=1.0, by="eve") == envelope


OF_0_1_0 = [
    (
        '{"event": "run_started", "run": "r", "verb": "deploy", "goal": "switch", "hosts": ["web-1"]}',
        RunStarted(run=RunId("r"), verb="deploy", goal=Goal.SWITCH, hosts=(HOST,), watch=0.0, strict=False),
    ),
    (
        '{"event": "evaluation_finished", "derivations": {}, "seconds": 2}',
        EvaluationFinished(derivations={}, recalled=0, seconds=2.0),
    ),
    (
        '{"event": "host_planned", "host": "web-1", "action": "left out", "closure": "/new", "running": "/old", "wave"'
        ': 1, "missing_paths": 2, "missing_bytes": 3, "reboot": ["kernel"]}',
        HostPlanned(
            host=HOST, action="left out", closure=Closure("/new"), running=Closure("/old"), wave=1,
            missing_paths=2, missing_bytes=3, reboot=("kernel",),
        ),
    ),
    (
        '{"event": "run_finished", "run": "r", "exit_code": 0, "error": null, "hosts": [{"outcome": "kept", "closure"'
        ': null, "previous": null, "boot_default": true, "name": "web-1", "error": null}]}',
        RunFinished(
            run=RunId("r"), exit_code=0, error=None,
            hosts=(type(RESULT)(host=HostName("web-1"), outcome=Outcome.KEPT, boot_default=True),),
        ),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("line", "event"), OF_0_1_0, ids=[type(event).__name__ for _, event in OF_0_1_0])
def test_line_that_lacks_fields_that_came_later_has_their_defaults(line: str, event: Event) -> None:
    assert decode(line).event == event


def test_fields_that_are_not_known_are_ignored() -> None:
    fields = json.loads(encode(sealed(sample(RunFinished))))
    fields["hosts"][0]["mood"] = fields["error"]["colour"] = fields["weather"] = {"is": ["fine"]}
    assert decode(fields) == sealed(sample(RunFinished))


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param("", id="nothing"),
        pytest.param('{"event": "run_interr', id="cut"),
        pytest.param("[" * 100_000, id="deep"),
        pytest.param("7", id="number"),
        pytest.param('["run_interrupted"]', id="list"),
        pytest.param("{}", id="no event"),
        pytest.param('{"event": "run_paused"}', id="unknown event"),
        pytest.param('{"event": 7}', id="event is no word"),
        pytest.param('{"event": {"event": "run_interrupted"}}', id="event is an object"),
        pytest.param(b'{"event": "run_interrupted", "by": "\xff"}', id="no UTF-8"),
        pytest.param("\udcff", id="no Unicode"),
        pytest.param({"event": "run_interrupted", "by": {1}}, id="no JSON"),
    ],
)
def test_what_is_no_event_raises_one_error(wrong: Any) -> None:
    with pytest.raises(DecodeError):
        decode(wrong)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("status", "4"), ("status", None), ("status", 4.5), ("status", True), ("seconds", "1"), ("seconds", True),
        ("closure", 7), ("host", None), ("seq", "1"), ("seq", 1.5), ("at", "now"), ("by", 7), ("run", 7), ("v", "1"),
    ],
)  # fmt: skip
def test_field_of_another_type_raises_the_same_error_and_is_named(field: str, value: object) -> None:
    fields = {"event": "host_switched", "host": "web-1", "closure": "/new", "status": 4, "seconds": 1.5}
    assert decode(fields).event == HostSwitched(host=HOST, closure=Closure("/new"), status=4, seconds=1.5)
    with pytest.raises(DecodeError, match=field):
        decode({**fields, field: value})


@pytest.mark.parametrize("field", ["host", "closure", "status", "seconds"])
def test_event_that_lacks_a_field_raises_the_same_error_and_names_it(field: str) -> None:
    fields = {"event": "host_switched", "host": "web-1", "closure": "/new", "status": 4, "seconds": 1.5}
    del fields[field]
    with pytest.raises(DecodeError, match=field):
        decode(fields)


def test_line_of_a_newer_format_is_refused() -> None:
    with pytest.raises(DecodeError, match="newer"):
        decode({"event": "run_interrupted", "v": 2})


def test_text_that_is_no_unicode_does_not_make_an_event_unreadable() -> None:
    envelope = sealed(OutputLine(host=None, phase=Phase.BUILD, text="caf\udce9"), by="\udcff")
    assert decode(encode(envelope)) == sealed(OutputLine(host=None, phase=Phase.BUILD, text="caf?"), by="?")
