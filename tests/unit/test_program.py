"""Questions to the host program, and what its refusals mean."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.errors import (
    AuthenticationError,
    CommandFailedError,
    HostError,
    LockedError,
    PushError,
    QuarantinedError,
    StaleError,
    SwitchError,
    UnfitError,
)
from fleet.host.program import HostProgram, ask, bringing, refusal, source
from fleet.inventory import Host
from fleet.machine import Command, Output
from fleet.model import Goal, HostName, RunId
from tests.fakes import FakeMachine, asks, said
from tests.unit import builders
from tests.unit.builders import NEW, OLD, RUN

HOST = Host(name=HostName("web-1"), ignore_units=("backup-*", "x.service"))
ORDER = builders.order(host=HOST)


def test_program_is_sent_along_until_it_is_there() -> None:
    call = HostProgram().call("facts")
    assert (call.argv, call.stdin, call.root) == (("sh", "-s", "--", "facts"), source().encode(), True)
    there = HostProgram("/nix/store/p-fleet-host").call("word", "r1", "confirm")
    assert (there.argv, there.stdin) == (("/nix/store/p-fleet-host", "word", "r1", "confirm"), b"")


def test_program_is_a_shell_script() -> None:
    assert source().startswith("#!/bin/sh\n")


def test_order_is_told_on_stdin() -> None:
    call = HostProgram("/nix/store/p-fleet-host").begin(ORDER)
    assert call.argv == ("/nix/store/p-fleet-host", "begin")
    assert call.stdin.decode().splitlines() == [
        f"run={RUN}", f"new={NEW}", f"expected={OLD}", "goal=switch", "who=ann", "from=desk",
        "activation=600", "confirm=60", "boot=600", "risk=", "last_resort=", "retry=",
        "ignore=backup-*", "ignore=x.service", "end",
    ]  # fmt: skip


def test_deadlines_are_whole_seconds_and_never_nothing() -> None:
    host = HOST.model_copy(update={"activation_timeout": 0.2, "confirm_timeout": 1.6, "boot_timeout": 0.1})
    rows = builders.order(host=host, retry_quarantined=True).text().splitlines()
    assert {"activation=1", "confirm=2", "boot=1", "retry=yes"} <= set(rows)


def test_what_people_allow_is_part_of_the_order() -> None:
    host = HOST.model_copy(update={"last_resort": "reboot"})
    rows = builders.order(host=host, goal=Goal.BOOT, accept_boot_risk=True).text().splitlines()
    assert {"goal=boot", "risk=yes", "last_resort=reboot"} <= set(rows)


@given(st.text(), st.text())
def test_no_name_can_add_a_line_to_an_order(who: str, origin: str) -> None:
    rows = builders.order(host=HOST, who=who, origin=origin).text().split("\n")
    assert [row.partition("=")[0] for row in rows] == [row.partition("=")[0] for row in ORDER.text().split("\n")]


def test_hostile_patterns_add_no_line() -> None:
    host = HOST.model_copy(update={"ignore_units": ("a\nnew=/nix/store/evil",)})
    assert builders.order(host=host).text().splitlines()[-2:] == ["ignore=a new=/nix/store/evil", "end"]


async def answer(output: Output) -> object:
    return await ask(FakeMachine((asks("facts"), output)), HOST, HostProgram().call("facts"))


async def test_answer_is_read() -> None:
    assert await answer(said(running="x", line=["a", "b"])) == {"running": ["x"], "line": ["a", "b"]}


async def test_refusal_is_raised_also_with_a_bad_exit_status() -> None:
    for status in (0, 1):
        with pytest.raises(UnfitError, match="no space"):
            await answer(Output(status=status, stdout="refused=full\nmessage=no space\n"))


async def test_program_that_fails_is_told_with_its_last_lines() -> None:
    with pytest.raises(CommandFailedError, match="exit status 2") as caught:
        await answer(Output(status=2, stdout="running=x\n", stderr="".join(f"line {n}\n" for n in range(9))))
    assert caught.value.said == tuple(f"line {n}" for n in range(4, 9))
    assert (caught.value.ran, caught.value.hint) == ("sh -s -- facts", "")


async def test_login_shell_that_runs_no_command_is_told_with_what_it_says() -> None:
    with pytest.raises(CommandFailedError, match="exit status 1") as caught:
        await answer(Output(status=1, stdout="This account is currently not available.\n", stderr="a\n"))
    assert caught.value.said == ("This account is currently not available.", "a")
    assert "does the login shell run commands" in caught.value.hint
    with pytest.raises(CommandFailedError) as caught:
        await answer(Output(status=1, stderr="sudo: not found\n"))
    assert caught.value.hint == ""


@pytest.mark.parametrize(
    ("kind", "error", "hint"),
    [
        ("quarantined", QuarantinedError, "--retry-quarantined"),
        ("incomplete", PushError, "deploy again"),
        ("stale", StaleError, "deploy again"),
        ("unfit", UnfitError, ""),
        ("full", UnfitError, ""),
        ("broken", CommandFailedError, ""),
        ("root", AuthenticationError, "sudo = true"),
        ("locked", LockedError, ""),
        ("other", SwitchError, ""),
    ],
)
def test_refusal_has_its_error(kind: str, error: type[HostError], hint: str) -> None:
    raised = refusal(HOST, {"refused": [kind], "message": ["because"]})
    assert (type(raised), raised.host) == (error, "web-1")
    assert "because" in raised.message
    assert hint in raised.hint


def test_refusal_without_a_message_names_its_kind() -> None:
    assert refusal(HOST, {"refused": ["odd"]}).message == "refused: odd"


@pytest.mark.parametrize(
    ("closes", "told"),
    [("30", " 30 s after its controller is gone"), ("-5", "its deadline passed 5 s ago: it is closing")],
)
def test_lock_tells_whose_it_is_and_how_long(closes: str, told: str) -> None:
    raised = refusal(
        HOST,
        {
            "refused": ["locked"], "open_run": ["r9"], "open_who": ["bob"], "open_from": ["train"],
            "open_state": ["switched"], "open_closes_in": [closes],
        },
    )  # fmt: skip
    assert raised.message.startswith("a transaction is open: run r9 of bob from train, switched, since ")
    assert told in raised.hint


def test_hostile_word_stays_one_argument() -> None:
    call = HostProgram("/bin/echo").call("word", "r1", "abandon found a'; rm -rf / #\n$HOME")
    ran = subprocess.run(["sh", "-c", str(call)], capture_output=True, text=True, check=True)
    assert ran.stdout == "word r1 abandon found a'; rm -rf / #\n$HOME\n"


def test_command_shows_itself_quoted() -> None:
    assert str(Command(argv=("echo", "a b", "$x"))) == "echo 'a b' '$x'"


def test_what_leaves_a_mark_is_one_line() -> None:
    """A session that waits for its line takes no other, and a push would pay for a new one."""
    command = bringing(Command(argv=("nix-store", "--serve"), root=True), RunId("r9"))
    assert "\n" not in str(command)
    assert command.argv[-3:] == ("r9", "nix-store", "--serve")
