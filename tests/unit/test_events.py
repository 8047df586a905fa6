"""The public format of `--json` and `events.jsonl`. A failure here is a change that users of it will meet."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet import events
from fleet.events import Event, event_json, event_name, fan_out, plain_text
from fleet.model import Closure, Derivation, Failure, Goal, HostName, HostResult, Outcome, Phase, RunId, Severity

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
    "host_switched": "host closure status seconds",
    "output_line": "host phase text",
    "phase_started": "host phase",
    "push_finished": "host paths nar_bytes wire_bytes seconds",
    "push_progressed": "host sent total",
    "run_finished": "run exit_code error hosts",
    "run_interrupted": "",
    "run_started": "run verb goal hosts watch strict",
    "wave_started": "wave waves hosts",
}
HOST = HostName("web-1")
CLOSURE = Closure("/nix/store/0123456789abcdfghijklmnpqrsvwxyz-nixos-system-web-1-25.05")
FAILURE = Failure(kind="switch", message="switch failed", ran="stc", said=("a", "b"), now="back", hint="look")
RESULT = HostResult(host=HOST, outcome=Outcome.ROLLED_BACK, closure=CLOSURE, seconds=1.23456, failure=FAILURE)
SAMPLES = {
    "action": "switch",
    "answer": "503",
    "check": "http",
    "closure": CLOSURE,
    "closures": {HOST: CLOSURE},
    "download_bytes": 4,
    "error": FAILURE,
    "exit_code": 1,
    "goal": Goal.SWITCH,
    "hint": "free some space",
    "host": HOST,
    "hosts": (HOST,),
    "kind": "disk",
    "message": "disk is full",
    "missing_bytes": 5,
    "missing_paths": 2,
    "nar_bytes": 7,
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
    "run": RunId("20261120T042211-3fa9c1"),
    "running": CLOSURE,
    "seconds": 0.123456,
    "sent": 3,
    "severity": Severity.ERROR,
    "stage": "after",
    "status": 4,
    "strict": True,
    "substitute_bytes": 3,
    "substitute_paths": 1,
    "text": "line",
    "total": 9,
    "verb": "deploy",
    "wave": 1,
    "watch": 1.5,
    "waves": 2,
    "wire_bytes": 6,
}


def concrete(parent: type[Event] = Event) -> Iterator[type[Event]]:
    for child in parent.__subclasses__():
        if child is events.HostEvent:
            yield from concrete(child)
        else:
            yield child


def sample(kind: type[Event]) -> Event:
    special: dict[str, object] = {"derivations": 2} if kind is events.BuildFinished else {}
    if kind is events.EvaluationFinished:
        special = {"derivations": {HOST: Derivation("/nix/store/x.drv")}}
    if kind is events.RunFinished:
        special = {"hosts": (RESULT,)}
    return kind(**{field.name: (SAMPLES | special)[field.name] for field in dataclasses.fields(kind)})


def test_names_and_fields_of_events_are_the_public_ones() -> None:
    found = {event_name(kind): " ".join(f.name for f in dataclasses.fields(kind)) for kind in concrete()}
    assert found == PUBLIC


@pytest.mark.parametrize("kind", list(concrete()), ids=event_name)
def test_every_event_survives_json(kind: type[Event]) -> None:
    data = event_json(sample(kind))
    assert json.loads(json.dumps(data)) == data
    assert list(data) == ["event", *PUBLIC[event_name(kind)].split()]
    assert data["event"] == event_name(kind)


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
