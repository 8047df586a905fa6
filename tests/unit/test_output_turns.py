"""What people see of hosts that wait for their turn."""

from __future__ import annotations

import re

import pytest

from fleet.events import Event, HostQueued, HostReplanned, PhaseStarted, RunStarted
from fleet.model import Goal, HostName, Phase, RunId
from fleet.output.board import Board
from fleet.output.brief import Brief
from fleet.output.console import _lasting_lines
from fleet.output.facts import fact_lines
from fleet.output.verbose import Verbose
from tests.unit.builders import NEW, OLD

A = HostName("a")
QUEUED = HostQueued(
    host=A, waits_for=RunId("r9"), whose="bob from train", intent="update nginx", since=1795946400, ahead=2
)
REPLANNED = HostReplanned(host=A, closure=NEW, running=OLD, meanwhile=("run r9 of bob", "run r10 of ann"))


def test_who_waits_is_told_for_whom_why_and_since_when() -> None:
    (line,) = fact_lines(QUEUED)
    assert re.fullmatch(
        r"a: waits for run r9 of bob from train, there since \d\d:\d\d:\d\d \(update nginx\); 2 more before it",
        line,
    )
    (short,) = fact_lines(HostQueued(host=A, waits_for=RunId("r9"), whose="bob", since=1795946400))
    assert re.fullmatch(r"a: waits for run r9 of bob, there since \d\d:\d\d:\d\d", short)


def test_what_others_have_done_meanwhile_is_told_line_by_line() -> None:
    first, *rest = fact_lines(REPLANNED)
    assert first.startswith("a: planned anew, since others came first: ")
    assert rest == ["a: meanwhile: run r9 of bob", "a: meanwhile: run r10 of ann"]


@pytest.mark.parametrize("event", [QUEUED, REPLANNED])
def test_nobody_waits_without_being_told(event: Event) -> None:
    lines = fact_lines(event)
    assert Brief().lines(event) == lines
    assert Verbose(lambda: 0.0).lines(event) == lines
    assert [str(text) for text in _lasting_lines(event)] == lines


def test_table_says_for_whom_a_host_waits() -> None:
    board = Board(lambda: 0.0)
    board.see(RunStarted(run=RunId("r"), verb="deploy", goal=Goal.SWITCH, hosts=(A,)))
    board.see(PhaseStarted(host=A, phase=Phase.PUSH))
    board.see(QUEUED)
    ((row,), _) = board.visible(5)
    assert row.last == "waits for bob from train"
