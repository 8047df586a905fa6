"""The live table: what it shows, what fits, and that the terminal is given back."""

from __future__ import annotations

import io
import os
import re
import termios
import threading

import pytest
from rich.console import Console as RichConsole

from fleet import events
from fleet.model import Closure, Failure, FailureKind, Goal, HostName, HostResult, Outcome, Phase, RunId, Severity
from fleet.output.board import Board
from fleet.output.console import Console

HOSTS = tuple(HostName(f"web-{number:02}") for number in range(100))
CLOSURE = Closure("/nix/store/" + "b" * 32 + "-nixos-system-web-2")


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Stage:
    """A console on a terminal of text, drawn only when asked."""

    def __init__(self, width: int = 100, height: int = 24) -> None:
        self.file = io.StringIO()
        self.clock = Clock()
        self.rich = RichConsole(file=self.file, force_terminal=True, width=width, height=height, _environ={})
        self.console = Console(self.file, clock=self.clock, rich_console=self.rich, refresh_per_second=0)

    def picture(self) -> list[str]:
        with self.rich.capture() as captured:
            self.rich.print(self.console)
        text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", captured.get())
        return [line.rstrip() for line in text.splitlines()]


def started(*hosts: HostName) -> events.RunStarted:
    return events.RunStarted(run=RunId("r"), verb="deploy", goal=Goal.SWITCH, hosts=hosts, watch=0.0, strict=False)


def phase(host: HostName, name: Phase) -> events.PhaseStarted:
    return events.PhaseStarted(host=host, phase=name)


def ended(host: HostName, outcome: Outcome, message: str = "") -> events.HostFinished:
    failure = Failure(kind=FailureKind.HOST, message=message) if message else None
    return events.HostFinished(host=host, result=HostResult(host=host, outcome=outcome, failure=failure))


def interrupt() -> None:
    raise KeyboardInterrupt


def test_many_hosts_are_counted_as_they_are_looked_at() -> None:
    stage = Stage()
    stage.console(started(*HOSTS))
    for host in HOSTS[:40]:
        stage.console(phase(host, Phase.PREFLIGHT))
    assert stage.picture() == ["preflight 40 of 100 hosts, 0.0 s"]
    for host in HOSTS[40:]:
        stage.console(phase(host, Phase.PREFLIGHT))
        stage.console(ended(host, Outcome.UNCHANGED))
    assert stage.picture() == ["preflight 100 hosts, 0.0 s"]


def test_what_nix_says_shows_that_a_phase_has_begun() -> None:
    stage = Stage()
    stage.console(started(*HOSTS[:2]))
    for host in HOSTS[:2]:
        stage.console(phase(host, Phase.PREFLIGHT))
    stage.clock.now = 2
    stage.console(events.OutputLine(host=None, phase=Phase.EVALUATE, text="warning: dirty"))
    stage.clock.now = 5
    assert stage.picture() == ["evaluate 2 hosts, 3.0 s  warning: dirty"]


def test_building_is_one_status_line() -> None:
    stage = Stage()
    stage.console(started(*HOSTS[:3]))
    for host in HOSTS[:3]:
        stage.console(phase(host, Phase.BUILD))
    stage.clock.now = 12
    stage.console(events.OutputLine(host=None, phase=Phase.BUILD, text="building \x1b[1mnginx"))
    assert stage.picture() == ["build 3 hosts, 12 s  building nginx"]


def test_a_row_shows_phase_bytes_elapsed_and_the_last_line() -> None:
    stage = Stage()
    stage.console(started(*HOSTS[:2]))
    stage.console(phase(HOSTS[0], Phase.PUSH))
    stage.console(events.PushProgressed(host=HOSTS[0], sent=512, total=2048))
    stage.console(events.OutputLine(host=HOSTS[0], phase=Phase.PUSH, text="copying [bold]x[/bold]"))
    stage.clock.now = 3
    first, second, whole = stage.picture()
    assert re.split(r"\s{2,}", first) == ["web-00", "push", "3.0 s", "25% of 2.0 KiB", "copying [bold]x[/bold]"]
    assert second.split() == ["web-01", "waiting"]
    assert whole == "0/2 kept · 3.0 s"


def test_pushes_show_their_rate_and_all_of_them_together() -> None:
    stage = Stage(width=120)
    stage.console(started(*HOSTS[:2]))
    for host in HOSTS[:2]:
        stage.console(phase(host, Phase.PUSH))
        stage.console(events.PushProgressed(host=host, sent=0, total=40 << 20))
    stage.clock.now = 5
    stage.console(events.PushProgressed(host=HOSTS[0], sent=10 << 20, total=40 << 20))
    first, _, together, _ = stage.picture()
    assert "25% of 40.0 MiB, 2.0 MiB/s, 15 s left" in first
    assert together == "push to 2 hosts: 12% of 80.0 MiB, 2.0 MiB/s, 35 s left"


def planned(host: HostName, *, wave: int = 1) -> events.HostPlanned:
    return events.HostPlanned(
        host=host, action="switch", closure=CLOSURE, running=CLOSURE, wave=wave, missing_paths=0, missing_bytes=0,
        reboot=(),
    )  # fmt: skip


def test_one_line_tells_of_the_whole_and_rows_of_hosts_that_have_ended_are_gone() -> None:
    stage = Stage()
    stage.console(started(*HOSTS[:40]))
    for host in HOSTS[:30]:
        stage.console(planned(host))
    for host in HOSTS[30:40]:
        stage.console(ended(host, Outcome.UNCHANGED))
    stage.console(events.WaveStarted(wave=1, waves=2, hosts=HOSTS[:11]))
    for host in HOSTS[:11]:
        stage.console(phase(host, Phase.SWITCH))
    for host in HOSTS[:9]:
        stage.console(ended(host, Outcome.KEPT))
    stage.console(ended(HOSTS[9], Outcome.ROLLED_BACK, "unhealthy"))
    stage.clock.now = 14
    first, *_, whole = stage.picture()
    assert first.split() == ["web-10", "switch", "14", "s"]
    assert whole == "9/30 kept · 10 unchanged · 1 rolled back · wave 1/2 · 14 s"
    assert not any(line.startswith(("web-00", "web-09", "web-35")) for line in stage.picture())


def begun(*hosts: HostName) -> Board:
    """The board of a run whose first host is kept and whose others wait."""
    board = Board(Clock())
    board.see(started(*hosts))
    for host in hosts:
        board.see(planned(host))
    board.see(events.WaveStarted(wave=1, waves=2, hosts=hosts[:1]))
    board.see(phase(hosts[0], Phase.SWITCH))
    board.see(ended(hosts[0], Outcome.KEPT))
    return board


def test_a_soak_is_counted_down() -> None:
    clock = Clock()
    board = Board(clock)
    for event in (started(*HOSTS[:2]), phase(HOSTS[0], Phase.SWITCH), ended(HOSTS[0], Outcome.KEPT)):
        board.see(event)
    board.see(events.SoakStarted(wave=1, hosts=HOSTS[:1], seconds=600))
    clock.now = 60
    assert board.whole().endswith("wave 1 soaks, 9m 00s left · 1m 00s")
    assert board.waited_for()[1] == board.whole()
    board.see(events.SoakFinished(wave=1, unwell={}))
    assert "soaks" not in board.whole()


def test_a_paused_rollout_says_so_for_as_long_as_it_is() -> None:
    board = begun(*HOSTS[:2])
    board.see(events.RolloutAsked(asked="pause", who="ann"))
    assert "paused until fleet rollout continue" in board.waited_for()[1]
    board.see(events.RolloutAsked(asked="continue", who=""))
    assert "paused" not in board.waited_for()[1]


def test_hosts_that_go_back_are_shown_again() -> None:
    board = begun(*HOSTS[:2])
    board.see(ended(HOSTS[1], Outcome.ROLLED_BACK, "unhealthy"))
    board.see(events.UndoStarted(hosts=(HOSTS[0],), undo=RunId("u")))
    board.see(phase(HOSTS[0], Phase.SWITCH))
    (row,), _ = board.visible(9)
    assert (row.host, row.state()) == (HOSTS[0], "switch")
    assert board.whole() == "1/2 rolled back · undo · 0.0 s"


def test_hosts_that_another_process_has_seen_to_the_end_are_counted() -> None:
    board = Board(Clock())
    board.see(started(*HOSTS[:3]))
    board.see(ended(HOSTS[0], Outcome.KEPT))
    board.see(planned(HOSTS[1]))
    board.see(planned(HOSTS[2]))
    board.see(phase(HOSTS[1], Phase.SWITCH))
    assert board.whole() == "1/3 kept · 0.0 s"


def test_only_a_run_that_evaluates_is_said_to_wait_for_nix() -> None:
    for verb, words in (("reboot", "preflight"), ("rollback", "preflight"), ("deploy", "evaluate")):
        board = Board(Clock())
        board.see(events.RunStarted(run=RunId("r"), verb=verb, goal=Goal.SWITCH, hosts=HOSTS[:1]))
        board.see(phase(HOSTS[0], Phase.PREFLIGHT))
        board.ask_for_contacted(tuple)
        assert board.status().startswith(f"{words} 1 host")


def found(host: HostName) -> events.FindingReported:
    message = f"{host}: needs a reboot to use all of it"
    return events.FindingReported(host=host, severity=Severity.NOTE, kind="x", message=message, hint="reboot it")


def test_what_was_found_is_told_once_and_together() -> None:
    stage = Stage()
    with stage.console:
        for event in (started(*HOSTS[:3]), *map(found, HOSTS[:3])):
            stage.console(event)
        assert "needs a reboot" not in stage.file.getvalue()
        stage.console(events.WaveStarted(wave=1, waves=1, hosts=HOSTS[:3]))
    assert stage.file.getvalue().count("web-00, web-01, web-02: note: needs a reboot to use all of it; reboot it") == 1


def test_what_was_found_is_not_told_again_to_whom_the_plan_was_shown() -> None:
    stage = Stage()
    with stage.console:
        stage.console(found(HOSTS[0]))
        stage.console.plan_shown()
    assert "needs a reboot" not in stage.file.getvalue()


def test_what_was_found_is_told_where_there_is_no_plan() -> None:
    stage = Stage()
    with stage.console:
        stage.console(found(HOSTS[0]))
    assert "needs a reboot" in stage.file.getvalue()


def test_a_run_that_only_pushes_counts_what_is_staged() -> None:
    board = Board(Clock())
    board.see(events.RunStarted(run=RunId("r"), verb="push", goal=Goal.SWITCH, hosts=HOSTS[:2]))
    board.see(phase(HOSTS[0], Phase.PUSH))
    board.see(ended(HOSTS[0], Outcome.STAGED))
    assert board.whole() == "1/2 staged · 0.0 s"


def test_columns_stay_where_they_are_whatever_happens() -> None:
    stage = Stage()
    stage.console(started(*HOSTS[:2], HostName("gpu")))
    places = set()
    for number, name in enumerate((Phase.PUSH, Phase.SWITCH, Phase.PROVE)):
        stage.clock.now = 70.0 * number
        stage.console(phase(HOSTS[number % 2], name))
        stage.console(events.OutputLine(host=HOSTS[number % 2], phase=name, text="begins here"))
        places |= {line.index("begins here") for line in stage.picture() if "begins here" in line}
    assert len(places) == 1


def answered(answer: str, *, passed: bool = False, check: str = "web", stage: str = "after") -> events.CheckReported:
    return events.CheckReported(host=HOSTS[0], check=check, passed=passed, answer=answer, stage=stage)


def test_a_host_that_is_proven_shows_the_failing_check_and_when_it_gives_up() -> None:
    clock = Clock()
    limits = {"web": 10.0, "api": 60.0}
    board = Board(clock, within=lambda _, check: limits.get(check))
    for event in (started(HOSTS[0]), answered("refused", stage="before"), phase(HOSTS[0], Phase.PROVE)):
        board.see(event)
    (row,), _ = board.visible(1)
    assert board.doing(row) == ""
    clock.now = 8
    board.see(answered("503, wanted 200"))
    board.see(answered("500", check="api"))
    board.see(answered("no", check="unlimited"))
    assert board.doing(row) == "web: 503, wanted 200; gives up in 2.0 s"
    board.see(answered("200", passed=True))
    assert board.doing(row) == "api: 500; gives up in 52 s"
    clock.now = 20
    board.see(answered("503, wanted 200"))
    assert board.doing(row) == "web: 503, wanted 200; gives up in 10 s"
    assert "web-00 (prove; web: 503, wanted 200; gives up in 10 s)" in board.waited_for()[1]
    board.see(phase(HOSTS[0], Phase.REVERT))
    assert "gives up" not in board.doing(row)


def test_rows_fit_the_height_and_active_hosts_come_first() -> None:
    stage = Stage(height=14)
    stage.console(started(*HOSTS))
    for host in HOSTS[90:]:
        stage.console(phase(host, Phase.PUSH))
    picture = stage.picture()
    assert [line.split()[0] for line in picture[:10]] == [str(host) for host in HOSTS[90:]]
    assert picture[10:] == ["… and 90 more waiting", "0/100 kept · 0.0 s"]
    assert len(picture) < 14


def test_active_hosts_come_before_those_that_wait() -> None:
    board = Board(Clock())
    board.see(started(*HOSTS[:4]))
    board.see(phase(HOSTS[3], Phase.PUSH))
    board.see(ended(HOSTS[2], Outcome.KEPT))
    shown, hidden = board.visible(1)
    assert [row.host for row in shown] == [HOSTS[3]]
    assert hidden == "… and 2 more waiting"


def test_hosts_that_have_not_answered_are_named() -> None:
    clock, left = Clock(), set(HOSTS[:3])
    board = Board(clock)
    board.ask_for_contacted(lambda: left)
    board.see(started(*HOSTS[:3]))
    for host in HOSTS[:3]:
        board.see(phase(host, Phase.PREFLIGHT))
    assert board.status() == "preflight 3 hosts, 0.0 s"
    clock.now = 4
    left.discard(HOSTS[0])
    assert board.status() == "preflight 3 hosts, 4.0 s; waiting for web-01, web-02"
    left.clear()
    assert board.status() == "evaluate 3 hosts, 4.0 s"


def test_work_without_hosts_does_not_count_them() -> None:
    board = Board(Clock())
    board.see(events.OutputLine(host=None, phase=Phase.BUILD, text="building x"))
    assert board.status() == "build, 0.0 s  building x"


def test_nothing_that_is_typed_is_shown_in_the_table() -> None:
    person, theirs = os.openpty()
    with os.fdopen(theirs, "w") as stream:
        with Console(stream, refresh_per_second=0) as console:
            assert not termios.tcgetattr(theirs)[3] & termios.ECHO
            with console.paused():
                assert termios.tcgetattr(theirs)[3] & termios.ECHO
        assert termios.tcgetattr(theirs)[3] & termios.ECHO
    os.close(person)


@pytest.mark.parametrize("width", [20, 60, 79, 80, 200])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    stage = Stage(width=width)
    stage.console(started(*HOSTS[:5], HostName("a-very-long-host-name." * 5)))
    for host in HOSTS[:5]:
        stage.console(phase(host, Phase.PUSH))
        stage.console(events.PushProgressed(host=host, sent=5, total=10**10))
        stage.console(events.OutputLine(host=host, phase=Phase.PUSH, text="word " * 100))
    picture = stage.picture()
    assert len(picture) == 7
    assert max(map(len, picture)) <= width


def test_lasting_facts_scroll_above() -> None:
    stage = Stage()
    with stage.console:
        stage.console(started(HOSTS[0]))
        stage.console(
            events.FindingReported(host=HOSTS[0], severity=Severity.ERROR, kind="disk", message="full", hint="gc")
        )
        stage.console(events.HostCondemned(host=HOSTS[0], closure=CLOSURE, reason="check http failed"))
    text = stage.file.getvalue()
    for line in ("web-00: error: full", "web-00: hint: gc", "web-00: goes back: check http failed"):
        assert line in text


def test_no_color_is_honoured() -> None:
    file = io.StringIO()
    rich = RichConsole(file=file, force_terminal=True, width=80, _environ={"NO_COLOR": "1"})
    console = Console(file, rich_console=rich, refresh_per_second=0)
    console(ended(HOSTS[0], Outcome.FAILED, "bad"))
    assert "\x1b[3" not in file.getvalue()


def test_the_cursor_comes_back_after_an_exception() -> None:
    stage = Stage()
    with pytest.raises(KeyboardInterrupt), stage.console:
        interrupt()
    text = stage.file.getvalue()
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")


def test_the_table_is_gone_when_the_run_is_finished() -> None:
    stage = Stage()
    with stage.console:
        stage.console(events.RunFinished(run=RunId("r"), exit_code=0, error=None, hosts=()))
        after = len(stage.file.getvalue())
        assert stage.file.getvalue().count("\x1b[?25h") == 1
    assert len(stage.file.getvalue()) == after


def test_a_prompt_has_the_terminal_for_itself() -> None:
    stage = Stage()
    with stage.console:
        stage.console(started(HOSTS[0]))
        stage.console(phase(HOSTS[0], Phase.PUSH))
        with stage.console.paused():
            assert stage.file.getvalue().endswith(("\x1b[?25h", "\x1b[2K"))
            prompt_at = len(stage.file.getvalue())
        assert stage.file.getvalue()[prompt_at:] == "\x1b[?25l"


def test_events_and_drawing_do_not_wait_for_each_other() -> None:
    stage = Stage()

    def emit() -> None:
        for number in range(50):
            stage.console(ended(HOSTS[number], Outcome.FAILED, "bad"))

    with stage.console:
        threads = [threading.Thread(target=emit, daemon=True) for _ in range(2)]
        for thread in threads:
            thread.start()
        for _ in range(20):
            stage.rich.print(stage.console)
        for thread in threads:
            thread.join(timeout=10)
    assert not any(thread.is_alive() for thread in threads)
