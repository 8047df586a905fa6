"""The public format of `--json` and `events.jsonl`. A failure here is a change that users of it will meet."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet import events
from fleet.events import (
    KINDS,
    Envelope,
    Envelopes,
    Event,
    HostEvent,
    OutputLine,
    RunInterrupted,
    envelope_json,
    event_json,
    event_name,
    fan_out,
    plain_text,
)
from fleet.model import Phase, RunId
from tests.unit.event_samples import RESULT, SAMPLES, sample, sealed

if TYPE_CHECKING:
    from collections.abc import Iterator

PUBLIC = {
    "build_finished": "closures derivations seconds",
    "check_reported": "host check passed answer stage",
    "evaluation_finished": "derivations recalled seconds",
    "finding_reported": "host severity kind message hint",
    "host_condemned": "host closure reason",
    "host_finished": "host result",
    "host_fetched": "host paths nar_bytes seconds",
    "host_planned": "host action closure running wave missing_paths missing_bytes substitute_paths substitute_bytes"
    " download_bytes wire_bytes push_seconds room_needed room_free reboot",
    "host_proven": "host closure seconds",
    "host_queued": "host waits_for whose intent since ahead",
    "host_replanned": "host closure running meanwhile",
    "hooks_started": "host when",
    "host_switched": "host closure status seconds",
    "output_line": "host phase text",
    "phase_started": "host phase",
    "policy_applied": "decisions rules satisfied broken_by reason",
    "push_finished": "host paths nar_bytes wire_bytes seconds",
    "push_progressed": "host sent total",
    "run_finished": "run exit_code error hosts",
    "run_interrupted": "",
    "run_started": "run verb goal hosts watch strict",
    "wave_started": "wave waves hosts",
    "wave_finished": "wave waves outcomes",
    "soak_started": "wave hosts seconds",
    "secrets_compared": "host changed same",
    "secrets_filled": "host secrets",
    "soak_finished": "wave unwell",
    "rollout_asked": "asked who",
    "recording_lost": "why",
    "recording_resumed": "seconds",
    "undo_started": "hosts undo",
}


def concrete(parent: type[Event] = Event) -> Iterator[type[Event]]:
    for child in parent.__subclasses__():
        if child is HostEvent:
            yield from concrete(child)
        else:
            yield child


def test_every_event_has_its_name() -> None:
    assert {event_name(kind): kind for kind in concrete()} == KINDS


def test_names_and_fields_of_events_are_the_public_ones() -> None:
    found = {event_name(kind): " ".join(f.name for f in dataclasses.fields(kind)) for kind in concrete()}
    assert found == PUBLIC


@pytest.mark.parametrize("kind", list(concrete()), ids=event_name)
def test_every_event_survives_json(kind: type[Event]) -> None:
    data = event_json(sample(kind))
    assert json.loads(json.dumps(data)) == data
    assert list(data) == ["event", *PUBLIC[event_name(kind)].split()]
    assert data["event"] == event_name(kind)


@pytest.mark.parametrize("kind", list(concrete()), ids=event_name)
def test_envelope_adds_its_fields_to_those_of_the_event(kind: type[Event]) -> None:
    event = sample(kind)
    place = {"v": 1, "run": SAMPLES["run"], "seq": 7, "at": 1795946400.125, "by": "ann"}
    assert envelope_json(sealed(event, seq=7)) == {**event_json(event), **place}


def test_no_field_of_an_event_hides_one_of_its_envelope() -> None:
    own = {field.name for kind in concrete() for field in dataclasses.fields(kind)}
    assert own & {"v", "run", "seq", "at", "by"} == {"run"}
    named = [kind for kind in concrete() if "run" in {field.name for field in dataclasses.fields(kind)}]
    assert {event_name(kind) for kind in named} == {"run_started", "run_finished"}


def test_text_that_is_no_unicode_is_written_so_that_others_can_read_it() -> None:
    event = OutputLine(host=None, phase=Phase.BUILD, text="caf\udce9 \U0001f680")
    assert event_json(event)["text"] == "caf? \U0001f680"


def test_events_of_a_run_are_numbered_from_one_and_timed_to_the_millisecond() -> None:
    times = iter([1795946400.12345, 1795946401.0])
    envelopes = Envelopes(RunId("r"), "ann", clock=lambda: next(times))
    assert [envelopes.wrap(RunInterrupted()) for _ in range(2)] == [
        Envelope(run=RunId("r"), seq=1, at=1795946400.123, by="ann", event=RunInterrupted()),
        Envelope(run=RunId("r"), seq=2, at=1795946401.0, by="ann", event=RunInterrupted()),
    ]


def test_run_that_is_resumed_goes_on_counting() -> None:
    assert Envelopes(RunId("r"), "ann", after=41).wrap(RunInterrupted()).seq == 42


@pytest.mark.parametrize("module", ["fleet.events", "fleet.state"])
def test_import_is_cheap(module: str) -> None:
    code = f"import sys, {module}; print(sorted({{'pydantic', 'asyncssh'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_run_finished_is_what_the_design_promises() -> None:
    finished = events.RunFinished(run=RunId("r"), exit_code=1, error=None, hosts=(RESULT,))
    data = event_json(finished)
    assert data["error"] is None
    (host,) = data["hosts"]
    assert {"name", "outcome", "closure", "previous", "reboot_pending", "boot_proven"} <= set(host)
    assert (host["name"], host["outcome"], host["seconds"]) == ("web-1", "rolled_back", 1.235)
    assert host["error"]["kind"] == "switch"
    assert host["error"]["said"] == ["a", "b"]


def test_fan_out_tells_every_subscriber_in_order() -> None:
    heard: list[str] = []
    fan_out(lambda _: heard.append("a"), lambda _: heard.append("b"))(events.RunInterrupted())
    assert heard == ["a", "b"]


@pytest.mark.parametrize(
    ("wild", "tame"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b[?25lhidden", "hidden"),
        ("\x1b]0;a title\x07text", "text"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("a\tb", "a    b"),
        ("a\rb\x08\x00\x7f\x9b", "ab"),
        ("grün → ok", "grün → ok"),
    ],
)
def test_escape_sequences_are_taken_out(wild: str, tame: str) -> None:
    assert plain_text(wild) == tame


@given(st.text(st.characters(codec="utf-8") | st.sampled_from("\x1b\x9b\x07[]m;\\")))
def test_no_control_character_survives(wild: str) -> None:
    tame = plain_text(wild)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", tame)
    assert plain_text(tame) == tame
