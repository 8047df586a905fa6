"""How far pushes are, how fast, and how long they will take."""

from __future__ import annotations

import dataclasses
import io

import pytest

from fleet import events
from fleet.model import Closure, HostName, HostResult, Outcome, Phase
from fleet.output.plain import Plain
from fleet.output.progress import WINDOW, Meter, Pushes
from fleet.output.verbose import INTERVAL, Verbose

WEB, DB = HostName("web"), HostName("db")
MIB = 1 << 20
CLOSURE = Closure(f"/nix/store/{'b' * 32}-nixos-system-web-2")


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def metered(*seen: tuple[float, int], total: int = 100 * MIB) -> Meter:
    meter = Meter()
    for now, sent in seen:
        meter.see(now, sent, total)
    return meter


def planned(host: HostName, size: int, *, wave: int = 1) -> events.HostPlanned:
    return events.HostPlanned(
        host=host, action="switch", closure=CLOSURE, running=CLOSURE, wave=wave, missing_paths=1, missing_bytes=size,
        wire_bytes=size, reboot=(),
    )  # fmt: skip


def pushing(host: HostName) -> events.PhaseStarted:
    return events.PhaseStarted(host=host, phase=Phase.PUSH)


def moved(host: HostName, sent: int, total: int) -> events.PushProgressed:
    return events.PushProgressed(host=host, sent=sent, total=total)


def test_rate_is_of_the_last_seconds() -> None:
    slow_then_fast = metered((0, 0), (50, 5 * MIB), (55, 30 * MIB), (60, 55 * MIB))
    assert slow_then_fast.rate(60) == 5 * MIB
    assert slow_then_fast.words(60) == "55% of 100.0 MiB, 5.0 MiB/s, 9.0 s left"


def test_nothing_is_said_too_soon() -> None:
    assert metered((0, MIB)).rate(30) is None
    assert metered((0, 0), (0.5, MIB)).rate(0.5) is None
    assert metered((0, 0), (0.5, MIB)).words(0.5) == "1% of 100.0 MiB"
    assert Meter().words(0) == ""


def test_link_that_hangs_shows_a_falling_rate_and_no_time() -> None:
    meter = metered((0, 0), (5, 5 * MIB), (10, 10 * MIB))
    assert meter.rate(10) == MIB
    rate = meter.rate(15)
    assert rate is not None
    assert 0 < rate < MIB
    assert meter.rate(10 + WINDOW) == 0
    assert meter.words(10 + WINDOW) == "10% of 100.0 MiB, 0 B/s"


@pytest.mark.parametrize("sent", [100 * MIB, 101 * MIB])
def test_push_that_is_over_has_no_time_left(sent: int) -> None:
    assert metered((0, 0), (5, sent)).words(5) == "100% of 100.0 MiB"


def test_all_pushes_count_together_with_those_to_come() -> None:
    clock = Clock()
    pushes = Pushes(clock)
    for event in (planned(WEB, 30 * MIB), planned(DB, 70 * MIB), planned(HostName("far"), 0), pushing(WEB)):
        pushes.see(event)
    assert pushes.together() == ""
    pushes.see(moved(WEB, 0, 30 * MIB))
    clock.now += 5
    pushes.see(moved(WEB, 10 * MIB, 30 * MIB))
    assert pushes.words(WEB) == "33% of 30.0 MiB, 2.0 MiB/s, 10 s left"
    assert pushes.together() == "push to 2 hosts: 10% of 100.0 MiB, 2.0 MiB/s, 45 s left"
    assert (pushes.active(), pushes.words(DB)) == ([WEB], "")


def test_what_crossed_in_the_end_is_what_counts() -> None:
    clock = Clock()
    pushes = Pushes(clock)
    for event in (planned(WEB, 30 * MIB), planned(DB, 30 * MIB), pushing(WEB), pushing(DB), moved(WEB, 0, 30 * MIB)):
        pushes.see(event)
    clock.now += 10
    pushes.see(events.PushFinished(host=WEB, paths=1, nar_bytes=30 * MIB, wire_bytes=10 * MIB, seconds=10))
    pushes.see(events.PhaseStarted(host=WEB, phase=Phase.SWITCH))
    assert pushes.together() == "push to 2 hosts: 25% of 40.0 MiB, 1.0 MiB/s, 30 s left"
    assert pushes.active() == [DB]


def test_all_pushes_take_as_long_as_the_slowest() -> None:
    clock = Clock()
    pushes = Pushes(clock)
    for host in (WEB, DB):
        pushes.see(pushing(host))
        pushes.see(moved(host, 0, 60 * MIB))
    clock.now += 10
    pushes.see(moved(WEB, 50 * MIB, 60 * MIB))
    pushes.see(moved(DB, 10 * MIB, 60 * MIB))
    assert pushes.together() == "push to 2 hosts: 50% of 120.0 MiB, 6.0 MiB/s, 50 s left"


def test_host_that_failed_has_nothing_left_to_push() -> None:
    clock = Clock()
    pushes = Pushes(clock)
    for event in (planned(WEB, 30 * MIB), planned(DB, 30 * MIB), pushing(WEB), pushing(DB), moved(WEB, 0, 30 * MIB)):
        pushes.see(event)
    pushes.see(events.HostFinished(host=DB, result=HostResult(host=DB, outcome=Outcome.FAILED)))
    clock.now += 10
    pushes.see(moved(WEB, 10 * MIB, 30 * MIB))
    assert pushes.together() == "push to 2 hosts: 33% of 30.0 MiB, 1.0 MiB/s, 20 s left"


def test_plain_output_tells_of_pushes_now_and_then() -> None:
    clock, stream = Clock(), io.StringIO()
    plain = Plain(stream, Verbose(clock), clock=clock)
    for host in (WEB, DB):
        plain(pushing(host))
        plain(moved(host, 0, 60 * MIB))
    for second in range(1, 3 * int(INTERVAL)):
        clock.now = 100 + second
        plain(moved(WEB, second * MIB, 60 * MIB))
    assert stream.getvalue().splitlines() == [
        "web: push",
        "db: push",
        "db: 0% of 60.0 MiB",
        "web: 16% of 60.0 MiB, 1.0 MiB/s, 50 s left",
        "fleet: push to 2 hosts: 8% of 120.0 MiB, 1.0 MiB/s, 1m 50s left",
        "db: 0% of 60.0 MiB",
        "web: 33% of 60.0 MiB, 1.0 MiB/s, 40 s left",
        "fleet: push to 2 hosts: 16% of 120.0 MiB, 1.0 MiB/s, 1m 40s left",
    ]


def test_push_is_told_as_it_was_planned_and_the_host_program_apart() -> None:
    tell = Verbose(Clock())
    done = events.PushFinished(host=WEB, paths=5, nar_bytes=86_835, wire_bytes=90_000, seconds=2)
    tell.lines(dataclasses.replace(planned(WEB, 23_040), missing_paths=4))
    assert tell.lines(done) == [
        "web: pushed 4 paths, 22.5 KiB, and fleet's host program, 62.3 KiB (87.9 KiB sent) in 2.0 s"
    ]
    assert tell.lines(dataclasses.replace(done, paths=4, nar_bytes=23_040)) == [
        "web: pushed 4 paths, 22.5 KiB (87.9 KiB sent) in 2.0 s"
    ]


def test_plain_output_tells_of_many_pushes_only_together() -> None:
    clock, stream = Clock(), io.StringIO()
    plain = Plain(stream, Verbose(clock), clock=clock)
    hosts = [HostName(f"web-{number}") for number in range(50)]
    for host in hosts:
        plain(moved(host, 0, MIB))
        plain(pushing(host))
    clock.now += INTERVAL
    for host in hosts:
        plain(moved(host, MIB // 2, MIB))
    lines = [line for line in stream.getvalue().splitlines() if "%" in line]
    assert lines == ["fleet: push to 50 hosts: 1% of 50.0 MiB, 51.2 KiB/s, 16m 30s left"]
