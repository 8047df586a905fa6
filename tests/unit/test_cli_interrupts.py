"""What Ctrl-C, SIGTERM and the loss of the terminal do to a command that changes hosts."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

from fleet.cli.interrupts import be_deaf, interrupts
from tests.fakes import Says, asks, said
from tests.unit.builders import RUN
from tests.unit.world import World

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fleet import Stop
    from fleet.machine import Command, Output
    from tests.fakes import Answer
    from tests.unit.conftest import CommandLine, Said, Terminal

INT, TERM, HUP = signal.SIGINT, signal.SIGTERM, signal.SIGHUP
FLAGS = ("--yes", "--json", "--no-eval-cache", "--copy-with", "nix")


@pytest.fixture(autouse=True)
def usual_handlers(hears_interrupts_again: None) -> None:
    """Nothing is ignored; the tests may have been started by nohup."""
    signal.signal(HUP, signal.SIG_DFL)


async def told(*numbers: signal.Signals) -> None:
    """This process gets these signals, and its loop has handled them."""
    for number in numbers:
        os.kill(os.getpid(), number)
    heard, loop = asyncio.Event(), asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, heard.set)
    os.kill(os.getpid(), signal.SIGUSR1)  # the loop handles signals in the order in which they come
    await heard.wait()
    loop.remove_signal_handler(signal.SIGUSR1)


def asked(stop: Stop) -> int:
    """How often somebody has asked for the end: 2 is more than once."""
    return stop.is_requested + stop.is_insisted


@pytest.mark.parametrize(
    ("numbers", "times"),
    [([], 0), ([INT], 1), ([TERM], 1), ([HUP], 1), ([INT, TERM], 2), ([HUP, INT], 2), ([HUP, TERM], 2)],
)
async def test_each_signal_asks_for_the_end(numbers: list[signal.Signals], times: int) -> None:
    with interrupts() as stop:
        await told(*numbers)
        assert asked(stop) == times


async def test_ctrl_c_twice_insists() -> None:
    with interrupts() as stop:
        await told(INT)
        await told(INT)
        assert asked(stop) == 2


async def test_terminal_that_goes_away_asks_once_however_often_that_is_told() -> None:
    with interrupts() as stop:
        await told(HUP)
        await told(HUP)
        assert asked(stop) == 1


async def test_terminal_that_goes_away_does_not_matter_under_nohup() -> None:
    signal.signal(HUP, signal.SIG_IGN)
    with interrupts() as stop:
        await told(HUP)
        assert asked(stop) == 0
    assert signal.getsignal(HUP) is signal.SIG_IGN


async def test_ctrl_c_is_ignored_when_all_has_been_told_and_other_signals_end_the_process_again() -> None:
    with interrupts():
        pass
    assert [signal.getsignal(number) for number in (INT, TERM, HUP)] == [
        signal.SIG_IGN, signal.SIG_DFL, signal.SIG_DFL,
    ]  # fmt: skip


def test_process_that_is_deaf_goes_on() -> None:
    be_deaf()
    os.kill(os.getpid(), INT)


def when_asked(answer: Output | Says, *numbers: signal.Signals) -> Callable[[Command], Answer]:
    """Answers, after this process got these signals."""
    left = list(numbers)

    def answered(_: Command) -> Answer:
        while left:
            os.kill(os.getpid(), left.pop(0))
        return answer

    return answered


def outcomes(told: Said) -> dict[str, Any]:
    """How the hosts ended, by the last event."""
    last = json.loads(told.out.splitlines()[-1])
    assert (last["event"], last["exit_code"]) == ("run_finished", told.code)
    return {one["name"]: one["outcome"] for one in last["hosts"]}


def reasons(told: Said) -> set[str]:
    """Why hosts did not end well, by the last event."""
    hosts = json.loads(told.out.splitlines()[-1])["hosts"]
    return {one["error"]["message"] for one in hosts if one["error"]}


def interrupted(told: Said) -> int:
    """How often a run was said to be interrupted."""
    return [json.loads(line)["event"] for line in told.out.splitlines()].count("run_interrupted")


def two_hosts(tmp_path: Path) -> World:
    """Hosts that switch one after the other."""
    return World(tmp_path, "a", "b", more="[rollout]\nat_once = 1")


def test_interrupt_before_the_plan_changes_nothing(tmp_path: Path, command_line: CommandLine) -> None:
    world = World(tmp_path, "a")
    world.on("a", (asks("facts"), when_asked(Says(seconds=60), INT)))
    told = command_line(world, "deploy", "--all", *FLAGS)
    assert (told.code, outcomes(told), world.began()) == (130, {"a": "skipped"}, [])


@pytest.mark.parametrize("numbers", [(INT,), (TERM,), (HUP,), (HUP, HUP)])
def test_interrupt_lets_hosts_that_switch_go_to_their_end(
    tmp_path: Path, command_line: CommandLine, numbers: tuple[signal.Signals, ...]
) -> None:
    world = two_hosts(tmp_path)
    world.on("a", (asks("begin"), when_asked(said(begun=RUN, state="switching"), *numbers)))
    told = command_line(world, "deploy", "--all", *FLAGS)
    assert (told.code, outcomes(told), interrupted(told)) == (130, {"a": "kept", "b": "skipped"}, 1)


def test_terminal_that_goes_away_does_not_matter_to_a_run_under_nohup(
    tmp_path: Path, command_line: CommandLine
) -> None:
    signal.signal(HUP, signal.SIG_IGN)
    world = two_hosts(tmp_path)
    world.on("a", (asks("begin"), when_asked(said(begun=RUN, state="switching"), HUP)))
    told = command_line(world, "deploy", "--all", *FLAGS)
    assert (told.code, outcomes(told), interrupted(told)) == (0, {"a": "kept", "b": "kept"}, 0)


def test_second_interrupt_leaves_hosts_in_doubt(tmp_path: Path, command_line: CommandLine) -> None:
    world = World(tmp_path, "a")
    world.on("a", (asks("begin"), when_asked(said(begun=RUN, state="switching"), INT)))
    world.on("a", (asks("look"), when_asked(Says(seconds=60), TERM)))
    told = command_line(world, "deploy", "--all", *FLAGS)
    assert (told.code, outcomes(told)) == (4, {"a": "needs_human"})


def test_ctrl_c_that_comes_when_all_has_been_told_changes_no_exit_code(
    tmp_path: Path, command_line: CommandLine
) -> None:
    told = command_line(World(tmp_path, "a"), "deploy", "--all", *FLAGS)
    assert (told.code, signal.getsignal(INT)) == (0, signal.SIG_IGN)


def test_interrupt_at_the_question_changes_nothing(
    tmp_path: Path, command_line: CommandLine, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, "a", "b")

    def echo(text: str, **_: object) -> None:
        if "[y/N]" in text:
            os.kill(os.getpid(), INT)

    monkeypatch.setattr("click.echo", echo)
    told = command_line(world, "deploy", "--all", "--json", "--no-eval-cache", "--copy-with", "nix")
    assert (told.code, outcomes(told), world.began()) == (130, {"a": "skipped", "b": "skipped"}, [])
    assert reasons(told) == {"interrupted before it began"}
