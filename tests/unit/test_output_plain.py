"""Logs: few lines however many hosts there are, and no silence without a word on what is waited for."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest

from fleet import events
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
from fleet.output import is_capable, open_display
from fleet.output.board import Board
from fleet.output.brief import Brief
from fleet.output.plain import Plain
from fleet.output.verbose import Verbose

if TYPE_CHECKING:
    from collections.abc import Iterator

OLD, NEW = (Closure(f"/nix/store/{letter * 32}-nixos-system-web-{letter}") for letter in "ab")


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def names(count: int) -> tuple[HostName, ...]:
    return tuple(HostName(f"web-{number:02}") for number in range(count))


def deployment(
    *hosts: HostName, waves: int = 1, outcome: Outcome = Outcome.KEPT, is_noted: bool = True
) -> Iterator[events.Event]:
    """What a run tells, from its first event to its last: as `make demo` does, with much that Nix and switches say."""
    yield events.RunStarted(run=RunId("r"), verb="deploy", goal=Goal.SWITCH, hosts=hosts)
    for host in hosts:
        yield events.PhaseStarted(host=host, phase=Phase.PREFLIGHT)
    yield events.OutputLine(host=None, phase=Phase.EVALUATE, text="warning: Git tree is dirty")
    yield events.EvaluationFinished(derivations=dict.fromkeys(hosts, Derivation("/nix/store/x.drv")), seconds=2)
    for number in range(200):
        yield events.OutputLine(host=None, phase=Phase.BUILD, text=f"building {number}")
    yield events.BuildFinished(closures=dict.fromkeys(hosts, NEW), derivations=len(hosts), seconds=7)
    for number, host in enumerate(hosts):
        yield planned(host, wave=number * waves // len(hosts) + 1)
        if is_noted:
            message = f"needs a reboot to use all of it: kernel of {host}"
            yield events.FindingReported(host=host, severity=Severity.NOTE, kind="x", message=message, hint="reboot")
    size = -(-len(hosts) // waves)
    for number in range(1, waves + 1):
        wave = hosts[size * (number - 1) : size * number]
        yield events.WaveStarted(wave=number, waves=waves, hosts=wave)
        for host in wave:
            yield from one_host(host, outcome)
    yield events.RunFinished(
        run=RunId("r"), exit_code=0, error=None, hosts=tuple(ended(host, outcome).result for host in hosts)
    )


def planned(host: HostName, *, wave: int = 1) -> events.HostPlanned:
    return events.HostPlanned(
        host=host, action="switch", closure=NEW, running=OLD, wave=wave, missing_paths=4, missing_bytes=19550,
        wire_bytes=19550, reboot=(),
    )  # fmt: skip


def one_host(host: HostName, outcome: Outcome) -> Iterator[events.Event]:
    yield events.PhaseStarted(host=host, phase=Phase.PUSH)
    yield events.PushProgressed(host=host, sent=10, total=2048)
    yield events.PushFinished(host=host, paths=4, nar_bytes=2048, wire_bytes=1024, seconds=2)
    yield events.CheckReported(host=host, check="web", passed=False, answer="connection refused", stage="before")
    yield events.PhaseStarted(host=host, phase=Phase.SWITCH)
    for number in range(20):
        yield events.OutputLine(host=host, phase=Phase.SWITCH, text=f"restarting {number}.service")
    yield events.HostSwitched(host=host, closure=NEW, status=0, seconds=1.1)
    yield events.PhaseStarted(host=host, phase=Phase.PROVE)
    yield events.CheckReported(host=host, check="web", passed=outcome.is_good, answer="200", stage="after")
    yield events.PhaseStarted(host=host, phase=Phase.COMMIT)
    yield ended(host, outcome)


def ended(host: HostName, outcome: Outcome) -> events.HostFinished:
    failure = None if outcome.is_good else Failure(kind=FailureKind.UNHEALTHY, message="check web: 503")
    result = HostResult(
        host=host, outcome=outcome, closure=NEW, previous=OLD, boot_default=True, seconds=3.2, failure=failure,
        notes=("check web was failing before: connection refused",) if outcome.is_good else (),
    )  # fmt: skip
    return events.HostFinished(host=host, result=result)


def told(*happened: events.Event, verbose: bool = False) -> list[str]:
    """All that a person reads in a log, in order."""
    log = io.StringIO()
    with open_display(json=False, stdout=log, stderr=log, is_terminal=False, is_verbose=verbose) as display:
        for event in happened:
            display.show(event)
    return log.getvalue().splitlines()


def test_log_of_three_hosts_is_this() -> None:
    assert told(*deployment(*names(3))) == [
        "fleet: run r: deploy 3 hosts",
        "fleet: evaluated 3 hosts in 2.0 s, built 3 systems in 7.0 s",
        "fleet: plan: 3 switch; 12 paths to push, 57.3 KiB",
        "web-00, web-01, web-02: note: needs a reboot to use all of it: kernel of HOST; reboot",
        "host    outcome  system         time   notes",
        "web-00  kept     web-a → web-b  3.2 s  check web was failing before: connection refused",
        "web-01  kept     web-a → web-b  3.2 s  check web was failing before: connection refused",
        "web-02  kept     web-a → web-b  3.2 s  check web was failing before: connection refused",
        "",
        "3 kept",
    ]


@pytest.mark.parametrize("outcome", [Outcome.KEPT, Outcome.ROLLED_BACK])
@pytest.mark.parametrize(("count", "waves", "most"), [(3, 1, 15), (3, 3, 15), (100, 1, 120), (100, 4, 120)])
def test_log_is_short_however_many_hosts_there_are(count: int, waves: int, most: int, outcome: Outcome) -> None:
    lines = told(*deployment(*names(count), waves=waves, outcome=outcome))
    assert len(lines) <= most, "\n".join(lines)
    assert not any("restarting" in line or "building" in line for line in lines)


def test_log_says_all_if_somebody_wants_that() -> None:
    lines = told(*deployment(*names(3)), verbose=True)
    for line in ("build: building 7", "web-01: push", "web-02: restarting 19.service", "web-00: kept in 3.2 s"):
        assert line in lines


@pytest.mark.parametrize("is_terminal", [False, True])
def test_what_a_switch_would_do_is_told_if_that_was_asked_for(*, is_terminal: bool) -> None:
    for goal, told_it in ((Goal.DRY_ACTIVATE, True), (Goal.SWITCH, False)):
        log = io.StringIO()
        with open_display(json=False, stdout=io.StringIO(), stderr=log, is_terminal=is_terminal) as display:
            display.show(events.RunStarted(run=RunId("r"), verb="deploy", goal=goal, hosts=names(1)))
            display.show(events.OutputLine(host=names(1)[0], phase=Phase.SWITCH, text="would stop a.service"))
            display.show(events.RunFinished(run=RunId("r"), exit_code=0, error=None, hosts=()))
        assert ("web-00: would stop a.service" in log.getvalue()) is told_it


def test_bad_ends_are_told_when_they_happen() -> None:
    lines = told(*deployment(*names(3), outcome=Outcome.ROLLED_BACK))
    assert lines.index("web-00: rolled back in 3.2 s: check web: 503") < lines.index("3 rolled back")


def test_notes_that_differ_are_few() -> None:
    host = names(1)[0]
    notes = [
        events.FindingReported(host=host, severity=Severity.NOTE, kind="x", message=f"note {number}")
        for number in range(10)
    ]
    lines = told(*notes, planned(host), events.WaveStarted(wave=1, waves=1, hosts=(host,)))
    assert lines[1] == "web-00: note: note 0"
    assert lines[-1] == "fleet: 4 more notes; -v shows them"
    assert len(lines) == 8


def test_a_plan_that_a_person_was_shown_is_not_told_again() -> None:
    log = io.StringIO()
    with open_display(json=False, stdout=log, stderr=log, is_terminal=False) as display:
        *before, _ = deployment(*names(3))
        for event in before:
            if isinstance(event, events.WaveStarted):
                display.plan_shown()
            display.show(event)
    assert "plan:" not in log.getvalue()
    assert "note:" not in log.getvalue()


class Log:
    """A log that is looked at from time to time."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.stream = io.StringIO()
        self.board = Board(self.clock, within=lambda _host, _check: 10.0)
        self.plain = Plain(self.stream, Brief(), board=self.board, clock=self.clock)

    def after(self, seconds: int) -> list[str]:
        """What is written in these seconds."""
        before = len(self.stream.getvalue())
        for _ in range(4 * seconds):
            self.clock.now += 0.25
            self.plain.tick()
        return self.stream.getvalue()[before:].splitlines()


def test_no_silence_is_longer_than_two_seconds_without_a_word() -> None:
    log = Log()
    log.plain.wait_for("status", hosts=[HostName("gpu-01"), HostName("pi")])
    assert log.after(1) == []
    log.plain.wait_for("status", hosts=[HostName("gpu-01")])
    assert log.after(1) == ["fleet: status, 2.0 s; waiting for gpu-01"]


def test_a_long_wait_does_not_fill_a_log() -> None:
    log = Log()
    log.plain.wait_for("evaluate 3 hosts")
    assert len(log.after(60)) == 4
    assert len(log.after(540)) == 5


def test_what_is_waited_for_next_gets_a_word_within_two_seconds_too() -> None:
    log = Log()
    log.plain.wait_for("read the flake")
    log.after(120)
    log.plain.wait_for("evaluate 3 hosts")
    assert log.after(2)[0].startswith("fleet: evaluate 3 hosts, ")


def test_log_says_whom_a_run_waits_for_and_how_far_it_is() -> None:
    log = Log()
    hosts = names(6)
    for event in (
        events.RunStarted(run=RunId("r"), verb="deploy", goal=Goal.SWITCH, hosts=hosts),
        *map(planned, hosts),
    ):
        log.plain(event)
    log.plain(events.WaveStarted(wave=1, waves=2, hosts=hosts))
    for host in hosts[:5]:
        log.plain(events.PhaseStarted(host=host, phase=Phase.PROVE))
    log.plain(events.CheckReported(host=hosts[1], check="web", passed=False, answer="503, wanted 200", stage="after"))
    log.plain(ended(hosts[0], Outcome.KEPT))
    assert log.after(2) == [
        "fleet: 1/6 kept · wave 1/2 · 2.0 s; waiting for web-01 (prove; web: 503, wanted 200; gives up in 8.0 s), "
        "web-02 (prove), web-03 (prove) and 1 more"
    ]


def test_log_says_which_hook_is_waited_for() -> None:
    log = Log()
    host = names(1)[0]
    log.plain(events.RunStarted(run=RunId("r"), verb="deploy", goal=Goal.SWITCH, hosts=(host,)))
    log.plain(planned(host))
    log.plain(events.WaveStarted(wave=1, waves=1, hosts=(host,)))
    log.plain(events.PhaseStarted(host=host, phase=Phase.HOOK))
    log.plain(events.OutputLine(host=host, phase=Phase.HOOK, text="hook drain runs on the host, for up to 60 s"))
    (line,) = log.after(2)
    assert line.endswith("waiting for web-00 (hook; hook drain runs on the host, for up to 60 s)")


def test_nothing_is_said_while_somebody_is_asked_and_after_the_end() -> None:
    log = Log()
    log.plain.wait_for("compare")
    with log.plain.paused():
        assert log.after(10) == []
    assert log.after(2) == ["fleet: compare, 12 s"]
    log.plain(events.RunFinished(run=RunId("r"), exit_code=0, error=None, hosts=()))
    assert log.after(10) == []


def test_notices_come_by_themselves() -> None:
    stream = io.StringIO()
    clock = Clock()
    plain = Plain(stream, Verbose(clock), clock=clock)
    plain.wait_for("evaluate")
    clock.now += 2
    with plain:
        for _ in range(1000):
            if stream.getvalue():
                break
            plain._ticker._over.wait(0.01)
    assert stream.getvalue() == "fleet: evaluate, 2.0 s\n"


@pytest.mark.parametrize(("term", "fine"), [("xterm-256color", True), ("dumb", False), ("", False), ("unknown", False)])
def test_terminal_that_cannot_move_gets_lines(term: str, monkeypatch: pytest.MonkeyPatch, *, fine: bool) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", term)
    assert is_capable(Terminal()) is fine
    assert not is_capable(io.StringIO())
