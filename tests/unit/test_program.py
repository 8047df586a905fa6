"""Questions to the host program, and what its refusals mean."""

from __future__ import annotations

import dataclasses
import hashlib
import re
import subprocess
from pathlib import Path

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
from fleet.host.program import FORMAT, TITLE, HostProgram, ask, bringing, refusal, source
from fleet.inventory import Host
from fleet.machine import Command, Output
from fleet.model import HostName, RunId
from fleet.plans import Source
from fleet.plans.part import FIELDS
from fleet.plans.part import TITLE as PART_TITLE
from tests.fakes import FakeMachine, asks, said
from tests.unit import builders
from tests.unit.builders import NEW, OLD, RUN

HOST = Host(name=HostName("web-1"), ignore_units=("backup-*", "x.service"))
ORDER = builders.order(part=builders.job(HOST).part)
ROOT = Path(__file__).parent.parent.parent
LINES = source().replace("\\\n", "")
"""The host program, without the line breaks that a backslash hides."""


async def test_program_is_sent_along_to_a_host_that_has_not_kept_it() -> None:
    machine = FakeMachine((asks("facts"), [said(absent="yes"), said(running="x")]))
    assert await ask(machine, HOST, HostProgram().call("facts")) == {"running": ["x"]}
    by_name, sent = machine.ran
    assert (by_name.stdin, by_name.root) == (b"", True)
    assert (sent.stdin, sent.root) == (source().encode(), True)
    assert by_name.argv[3:] == sent.argv[3:] == ("sh", hashlib.sha256(source().encode()).hexdigest(), "2", "facts")


async def test_host_that_never_has_the_program_is_asked_twice() -> None:
    machine = FakeMachine((asks("facts"), said(absent="yes")))
    assert await ask(machine, HOST, HostProgram().call("facts")) == {"absent": ["yes"]}
    assert len(machine.ran) == 2


def test_program_in_the_store_is_called_by_its_path() -> None:
    there = HostProgram("/nix/store/p-fleet-host").call("word", "r1", "confirm")
    assert (there.argv, there.stdin) == (("/nix/store/p-fleet-host", "2", "word", "r1", "confirm"), b"")


def test_program_is_a_shell_script() -> None:
    assert source().startswith("#!/bin/sh\n")


def test_every_call_begins_with_the_number_that_the_program_speaks() -> None:
    assert f"\nformat={FORMAT} " in source()
    guard = (ROOT / "modules" / "guard.nix").read_text()
    assert set(re.findall(r"\$\{cfg\.program\} (\w+)", guard)) == {"guard", str(FORMAT)}


def test_order_is_the_part_and_who_asks() -> None:
    call = HostProgram("/nix/store/p-fleet-host").begin(ORDER)
    assert call.argv == ("/nix/store/p-fleet-host", "2", "begin", "watch")
    head = f"fleet-order v1\nrun {RUN}\nfrom desk\nby ann\nintent -\nsource -\nplan -\nledger -\n"
    assert call.stdin.decode() == f"{head}{ORDER.part.text}end\n"


def test_order_says_which_plan_it_is_of_and_what_for() -> None:
    source = Source(reference="git+ssh://x", revision="1f3c", is_clean=True)
    plan = builders.plan(("web-1",), intent="Gruß an\nalle", source=source)
    rows = builders.order(plan=plan).text().splitlines()
    assert rows[4:7] == ["intent Gru\\u00df an alle", "source git+ssh://x rev 1f3c clean", f"plan {plan.digest}"]


def test_the_host_program_knows_every_key_of_an_order_and_of_a_part() -> None:
    lists = {name: found.split() for name, found in re.findall(r'^(\w+_keys)="([^"]*)"', LINES, re.MULTILINE)}
    assert lists["part_keys"] == [field.key for field in FIELDS if not field.is_list and field.unless is None]
    assert lists["optional_keys"] == [field.key for field in FIELDS if field.unless is not None]
    assert lists["list_keys"] == [field.key for field in FIELDS if field.is_list]
    head = ORDER.text().partition(ORDER.part.text)[0].splitlines()
    assert lists["order_keys"] == [row.partition(" ")[0] for row in head[1:]]
    assert re.findall(r"'(fleet-(?:order|part) v\d)'\)", LINES) == [TITLE, PART_TITLE]


@given(st.text(), st.text(), st.text())
def test_no_name_can_add_a_line_to_an_order(by: str, origin: str, intent: str) -> None:
    text = dataclasses.replace(ORDER, by=by, origin=origin, plan=builders.plan(("web-1",), intent=intent)).text()
    rows = text.split("\n")
    assert [row.partition(" ")[0] for row in rows] == [row.partition(" ")[0] for row in ORDER.text().split("\n")]
    assert text.isascii()
    assert text.replace("\n", "").isprintable()


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
    assert (caught.value.ran, caught.value.hint) == ("fleet-host 2 facts", "")


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
        ("stale", StaleError, "plan again"),
        ("unfit", UnfitError, ""),
        ("full", UnfitError, ""),
        ("broken", CommandFailedError, ""),
        ("root", AuthenticationError, "sudo = true"),
        ("locked", LockedError, ""),
        ("format", SwitchError, ""),
        ("usage", SwitchError, ""),
        ("other", SwitchError, ""),
    ],
)
def test_refusal_has_its_error(kind: str, error: type[HostError], hint: str) -> None:
    raised = refusal(HOST, {"refused": [kind], "message": ["because"]})
    assert (type(raised), raised.host) == (error, "web-1")
    assert "because" in raised.message
    assert hint in raised.hint


def entry(**changes: str) -> str:
    """A line of a host's history."""
    values = {
        "serial": "42-b", "run": "r7", "by": "bob", "origin": "train", "began": "1795946400", "ended": "1795946460",
        "old": OLD, "new": NEW, "state": "committed", "blame": "-", "part": "-", "plan": "-",
        "source": "git+ssh://x rev 1f3c clean", "intent": "update nginx", "reason": "-",
    }  # fmt: skip
    return "\t".join({**values, **changes}.values())


def test_stale_host_tells_what_happened_since() -> None:
    switched = entry(run="r8", origin="-", state="reverted", source="-", intent="-", reason="web has failed")
    raised = refusal(HOST, {"refused": ["stale"], "message": ["not what ran"], "history": [entry(), "odd", switched]})
    assert (raised.message, len(raised.said)) == ("not what ran", 2)
    assert raised.said[0].endswith(
        f" run r7 of bob from train: {OLD} -> {NEW}, committed (update nginx; git+ssh://x rev 1f3c clean)"
    )
    assert raised.said[1].endswith(f" run r8 of bob: {OLD} -> {NEW}, reverted (web has failed)")


def test_history_of_a_host_cannot_reach_the_terminal() -> None:
    raised = refusal(HOST, {"refused": ["stale"], "message": ["\x1b[31mx"], "history": [entry(intent="\x1b]0;a\x07b")]})
    assert not [text for text in (raised.message, *raised.said) if "\x1b" in text or "\x07" in text]


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
    assert ran.stdout == "2 word r1 abandon found a'; rm -rf / #\n$HOME\n"


def test_command_shows_itself_quoted() -> None:
    assert str(Command(argv=("echo", "a b", "$x"))) == "echo 'a b' '$x'"


def test_what_leaves_a_mark_is_one_line() -> None:
    """A session that waits for its line takes no other, and a push would pay for a new one."""
    command = bringing(Command(argv=("nix-store", "--serve"), root=True), RunId("r9"))
    assert "\n" not in str(command)
    assert command.argv[-3:] == ("r9", "nix-store", "--serve")
