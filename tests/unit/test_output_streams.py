"""JSON lines, plain lines, and streams that fail under them."""

from __future__ import annotations

import io
import json
import os
import time
from typing import TYPE_CHECKING

import pytest

from fleet import events
from fleet.events import encode
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
from fleet.output import open_display
from fleet.output.jsonl import JsonLines
from fleet.output.plain import Plain
from fleet.output.stream import SafeStream
from fleet.output.verbose import Verbose

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WEB = HostName("web-1")
DB = HostName("db")
NEW = Closure("/nix/store/" + "b" * 32 + "-nixos-system-web-1-2")
OLD = Closure("/nix/store/" + "a" * 32 + "-nixos-system-web-1-1")
RESULT = HostResult(host=WEB, outcome=Outcome.KEPT, closure=NEW, previous=OLD, boot_default=True, seconds=20)
FINISHED = events.RunFinished(run=RunId("r"), exit_code=0, error=None, hosts=(RESULT,))
RUN = [
    events.RunStarted(run=RunId("r"), verb="deploy", goal=Goal.SWITCH, hosts=(WEB, DB), watch=0.0, strict=False),
    events.PhaseStarted(host=WEB, phase=Phase.EVALUATE),
    events.PhaseStarted(host=DB, phase=Phase.EVALUATE),
    events.OutputLine(host=None, phase=Phase.BUILD, text="building \x1b[1mfoo\x1b[0m"),
    events.FindingReported(
        host=DB, severity=Severity.NOTE, kind="disk", message="disk\nis nearly full", hint="collect garbage"
    ),
    events.FindingReported(host=None, severity=Severity.NOTE, kind="untracked", message="a.nix is not in git"),
    events.WaveStarted(wave=1, waves=1, hosts=(WEB,)),
    events.PhaseStarted(host=WEB, phase=Phase.PUSH),
    events.PushProgressed(host=WEB, sent=1, total=2048),
    events.PushFinished(host=WEB, paths=3, nar_bytes=2048, wire_bytes=1024, seconds=2),
    events.OutputLine(host=WEB, phase=Phase.SWITCH, text="restarting nginx.service"),
    events.HostSwitched(host=WEB, closure=NEW, status=0, seconds=1.5),
    events.CheckReported(host=WEB, check="http", passed=True, answer="200", stage="after"),
    events.HostProven(host=WEB, closure=NEW, seconds=5),
    events.HostFinished(host=WEB, result=RESULT),
    FINISHED,
]


def enveloped(*events_of_a_run: events.Event) -> Iterator[events.Envelope]:
    """The events, each at its place in a run."""
    return map(events.Envelopes(RunId("r"), "ann").wrap, events_of_a_run)


class Failing(io.StringIO):
    """A stream whose reader has left, or whose disk is full, after some writes."""

    def __init__(self, good_writes: int, error: OSError) -> None:
        super().__init__()
        self.left, self.error = good_writes, error

    def write(self, text: str) -> int:
        if self.left == 0:
            raise self.error
        self.left -= 1
        return super().write(text)


def test_json_lines_are_one_ascii_object_each() -> None:
    stream = io.StringIO()
    emit = JsonLines(stream)
    for envelope in enveloped(*RUN, events.OutputLine(host=WEB, phase=Phase.BUILD, text="grün\u2028")):
        emit(envelope)
    lines = stream.getvalue().splitlines()
    assert stream.getvalue().isascii()
    assert [json.loads(line)["event"] for line in lines[:2]] == ["run_started", "phase_started"]
    assert len(lines) == len(RUN) + 1


@pytest.mark.parametrize("error", [BrokenPipeError(), OSError(28, "No space left on device")])
def test_a_stream_that_fails_goes_silent_and_the_run_goes_on(error: OSError) -> None:
    stream = Failing(1, error)
    emit = JsonLines(stream)
    for envelope in enveloped(*RUN):
        emit(envelope)
    assert len(stream.getvalue().splitlines()) == 1


@pytest.mark.parametrize("error", [BrokenPipeError(), OSError(28, "No space left on device")])
def test_a_stream_that_fails_tells_why_it_is_silent(error: OSError) -> None:
    stream = SafeStream(Failing(1, error))
    stream.write("a\n")
    assert stream.error is None
    stream.write("b\n")
    assert stream.error is error


def test_nothing_is_left_to_fail_at_exit_after_the_reader_left() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as file:
        stream = SafeStream(file)
        stream.write(encode(next(enveloped(*RUN))))
        assert isinstance(stream.error, BrokenPipeError)


def test_characters_that_the_stream_lacks_are_spelled_out(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with path.open("w", encoding="ascii") as stream:
        SafeStream(stream).write("1 → 2… ü\n")
    assert path.read_text() == "1 -> 2... ?\n"


def test_plain_output_is_a_line_per_fact() -> None:
    stream = io.StringIO()
    plain = Plain(stream, Verbose(time.monotonic))
    for event in RUN:
        plain(event)
    assert stream.getvalue().splitlines() == [
        "fleet: run r: deploy 2 hosts",
        "fleet: evaluate",
        "build: building foo",
        "db: note: disk is nearly full",
        "db: hint: collect garbage",
        "fleet: note: a.nix is not in git",
        "fleet: wave 1 of 1: web-1",
        "web-1: push",
        "web-1: pushed 3 paths, 2.0 KiB (1.0 KiB sent) in 2.0 s",
        "web-1: restarting nginx.service",
        "web-1: switched in 1.5 s (exit status 0), not proven yet",
        "web-1: check http passed (after): 200",
        "web-1: proven after 5.0 s",
        "web-1: kept in 20 s",
    ]


def test_plain_output_tells_why_a_host_went_back() -> None:
    stream = io.StringIO()
    plain = Plain(stream, Verbose(time.monotonic))
    failure = Failure(kind=FailureKind.SWITCH, message="web-1: unhealthy")
    plain(events.HostCondemned(host=WEB, closure=NEW, reason="check http failed"))
    result = HostResult(host=WEB, outcome=Outcome.ROLLED_BACK, failure=failure, seconds=1)
    plain(events.HostFinished(host=WEB, result=result))
    assert stream.getvalue().splitlines() == [
        "web-1: goes back: check http failed",
        "web-1: rolled back in 1.0 s: unhealthy",
    ]


def test_plain_output_tells_what_the_run_found_out_and_wants_to_do() -> None:
    stream = io.StringIO()
    plain = Plain(stream, Verbose(time.monotonic))
    plain(events.EvaluationFinished(derivations={WEB: Derivation("/nix/store/x.drv")}, recalled=0, seconds=2))
    plain(events.BuildFinished(closures={WEB: NEW}, derivations=2, seconds=70))
    for paths, reboot in ((2, ("kernel",)), (0, ())):
        plain(
            events.HostPlanned(
                host=WEB,
                action="switch",
                closure=NEW,
                running=OLD,
                wave=1,
                missing_paths=paths,
                missing_bytes=1024 * paths,
                reboot=reboot,
            )
        )
    plain(events.HostFetched(host=WEB, paths=2, nar_bytes=2048, seconds=3))
    plain(events.PushFinished(host=WEB, paths=0, nar_bytes=0, wire_bytes=0, seconds=0))
    plain(events.PhaseStarted(host=WEB, phase=Phase.WAITING))
    plain(events.RunInterrupted())
    assert stream.getvalue().splitlines() == [
        "fleet: evaluated 1 host in 2.0 s",
        "fleet: built 2 systems in 1m 10s",
        "web-1: plan: switch 1 → 2; push 2 paths, 2.0 KiB; a reboot is needed for kernel",
        "web-1: plan: switch 1 → 2",
        "web-1: fetched 2 paths, 2.0 KiB from its own caches in 3.0 s",
        "web-1: nothing to push",
        "fleet: interrupted: no further host begins; hosts that switched are proven or reverted (again: leave at once)",
    ]


def test_json_output_keeps_stderr_free() -> None:
    stdout, stderr = io.StringIO(), io.StringIO()
    with open_display(json=True, stdout=stdout, stderr=stderr, is_terminal=True) as output:
        for envelope in enveloped(*RUN):
            output(envelope)
    assert json.loads(stdout.getvalue().splitlines()[-1])["event"] == "run_finished"
    assert stderr.getvalue() == ""


@pytest.mark.parametrize("is_terminal", [False, True])
def test_talk_goes_to_stderr_and_the_summary_to_stdout(*, is_terminal: bool) -> None:
    stdout, stderr = io.StringIO(), io.StringIO()
    with open_display(json=False, stdout=stdout, stderr=stderr, is_terminal=is_terminal) as output:
        for envelope in enveloped(*RUN):
            output(envelope)
        with output.paused():
            pass
    assert stdout.getvalue().splitlines() == [
        "host   outcome  system  time",
        "web-1  kept     1 → 2   20 s",
        "",
        "1 kept",
    ]
    assert "run r: deploy 2 hosts" in stderr.getvalue()


def test_lines_for_scripts_say_where_in_a_run_each_event_belongs() -> None:
    stdout = io.StringIO()
    with open_display(json=True, stdout=stdout, stderr=io.StringIO(), is_terminal=False) as output:
        for envelope in enveloped(*RUN):
            output(envelope)
    told = [json.loads(line) for line in stdout.getvalue().splitlines()]
    assert [(one["run"], one["seq"], one["by"]) for one in told] == [
        ("r", number, "ann") for number in range(1, len(RUN) + 1)
    ]
