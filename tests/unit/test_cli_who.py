"""`fleet who` and `fleet changes`: what hosts say of those who are at work there, for people and for scripts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from fleet.errors import ConfigError, UnreachableError
from fleet.library.changes import read_cursor, write_cursor
from fleet.model import HostName, Serial
from tests.fakes import asked, asks, said
from tests.unit.test_cli_history import line
from tests.unit.world import FACTS, World

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.conftest import CommandLine

A, B = HostName("a"), HostName("b")
HELD: dict[str, object] = {
    "open_run": "r9", "open_state": "switched", "open_who": "bob", "open_from": "train", "open_since": 1795946400,
    "open_closes_in": 20, "open_intent": r"update \u00fcber",
}  # fmt: skip
LAST: dict[str, object] = {
    "last_run": "r8", "last_state": "reverted", "last_who": "eve", "last_from": "home", "last_ended": 1795946300,
    "last_intent": "-", "last_serial": "41-a",
}  # fmt: skip
WAITING = [
    "2\tr11\t1795946520\t300\tjoe\tdesk\tnew \\u001b[2J kernel",
    "1\tr10\t1795946500\t600\tann\tdesk\t-",
    "nonsense",
]


def test_who_is_at_work_who_waits_and_who_was_the_last(tmp_path: Path, command_line: CommandLine) -> None:
    world = World(tmp_path, "a", "b", "c")
    world.on("a", (asks("facts"), said(**FACTS | HELD | LAST, waiting=WAITING)))
    world.on("c", (asks("facts"), UnreachableError(HostName("c"), "no connection: gone")))
    told = command_line(world, "who")
    header, *rows = told.out.splitlines()
    assert header.split() == ["host", "who", "run", "what", "since", "until", "why"]
    assert [cell.strip() for cell in rows[0].split("  ") if cell][1:4] == ["bob from train", "r9", "switched"]
    assert "closes by itself in 20 s" in rows[0]
    assert rows[0].endswith("update über")
    assert ("ann from desk" in rows[1], "waits, as number 1" in rows[1], "gives up in 10m 00s" in rows[1]) == (
        True,
    ) * 3
    assert ("joe from desk" in rows[2], rows[2].endswith("new  kernel")) == (True, True)
    assert ("eve from home" in rows[3], "last: rolled back" in rows[3]) == (True, True)
    assert "nobody yet" in rows[4]
    assert (len(rows), told.code, "error: c: no connection: gone" in told.err) == (5, 1, True)


def test_document_of_who_has_all_of_it(tmp_path: Path, command_line: CommandLine) -> None:
    world = World(tmp_path, "a")
    world.on("a", (asks("facts"), said(**FACTS | HELD | LAST, waiting=WAITING)))
    (host,) = json.loads(command_line(world, "who", "--json").out)["hosts"]
    assert (host["transaction"]["run"], host["transaction"]["intent"]) == ("r9", "update über")
    assert [(one["run"], one["number"], one["waits"]) for one in host["waiting"]] == [("r10", 1, 600), ("r11", 2, 300)]
    assert (host["last"]["run"], host["last"]["by"], host["last"]["ended"]) == ("r8", "eve", 1795946300)


def test_changes_since_a_cursor_are_told_oldest_first_and_the_next_cursor_stands_for_now(
    tmp_path: Path, command_line: CommandLine
) -> None:
    world = World(tmp_path, "a", "b")
    world.on("a", (asks("history"), said(history=[line(1, "committed"), line(2, "committed")])))
    world.on("b", (asks("history"), said()))
    (cursor,) = command_line(world, "changes").out.split()
    assert read_cursor(cursor, "home") == {A: "2-a", B: "0-none"}
    world.on("a", (asks("history"), said(history=[line(3, "reverted"), line(5, "committed")])))
    world.on("b", (asks("history"), said(history=[line(1, "stuck")])))
    told = command_line(world, "changes", "--since", cursor)
    assert asked("history", world.links[A].ran)[-1] == ("2-a",)
    assert asked("history", world.links[B].ran)[-1] == ("0-none",)
    _, *rows, later = told.out.splitlines()
    assert [row.split()[0] for row in rows] == ["b", "a", "a"]
    assert read_cursor(later, "home") == {A: "5-a", B: "1-a"}
    assert "a: more has happened than it remembers" in told.err  # number 4 is missing
    assert "b: more" not in told.err
    found = json.loads(command_line(world, "changes", "--since", cursor, "--json").out)
    assert [(host["name"], host["complete"], len(host["transactions"])) for host in found["hosts"]] == [
        ("a", False, 2), ("b", True, 1),
    ]  # fmt: skip
    assert found["cursor"] == later


def test_nothing_that_has_happened_is_said_so(tmp_path: Path, command_line: CommandLine) -> None:
    world = World(tmp_path, "a")
    world.on("a", (asks("history"), said()))
    told = command_line(world, "changes", "--since", write_cursor("home", {A: Serial("7-x")}))
    assert (told.err.strip(), told.code) == ("nothing has happened", 0)
    assert read_cursor(told.out.strip(), "home") == {A: "7-x"}


def test_host_that_cannot_be_asked_keeps_its_place_in_the_cursor(tmp_path: Path, command_line: CommandLine) -> None:
    world = World(tmp_path, "a", "b")
    world.on("a", (asks("history"), UnreachableError(A, "gone")))
    world.on("b", (asks("history"), said(history=[line(8, "committed")])))
    before = write_cursor("home", {A: Serial("7-x"), B: Serial("7-y"), HostName("former"): Serial("1-z")})
    told = command_line(world, "changes", "--since", before)
    assert (told.code, read_cursor(told.out.split()[-1], "home")) == (1, {A: "7-x", B: "8-a"})


def test_hosts_that_were_not_asked_keep_their_place_too(tmp_path: Path, command_line: CommandLine) -> None:
    world = World(tmp_path, "a", "b")
    world.on("b", (asks("history"), said(history=[line(8, "committed")])))
    told = command_line(world, "changes", "b", "--since", write_cursor("home", {A: Serial("7-x"), B: Serial("7-y")}))
    assert read_cursor(told.out.split()[-1], "home") == {A: "7-x", B: "8-a"}


def test_host_that_was_set_up_anew_has_not_told_all(tmp_path: Path, command_line: CommandLine) -> None:
    world = World(tmp_path, "a")
    world.on("a", (asks("history"), said(history=[line(1, "committed")])))
    told = command_line(world, "changes", "--json", "--since", write_cursor("home", {A: Serial("41-x")}))
    (host,) = json.loads(told.out)["hosts"]
    assert (host["complete"], len(host["transactions"])) == (False, 1)


GOOD = write_cursor("home", {A: Serial("41-8f3a09c2")})


@pytest.mark.parametrize(
    ("cursor", "says"),
    [
        ("41-8f3a09c2", "is no cursor of this version of fleet"),
        ("c2." + GOOD[3:], "is no cursor of this version of fleet"),
        (GOOD[:-4], "was cut or changed"),
        ("c1.", "was cut or changed"),
        ("c1.*** no base 64 ***", "was cut or changed"),
        (write_cursor("elsewhere", {A: Serial("1-x")}), "is not of the fleet home"),
        (write_cursor("home", {A: Serial("$(reboot)")}), "was cut or changed"),
        (write_cursor("home", {A: Serial("1-x\n")}), "was cut or changed"),
    ],
)
def test_what_is_no_cursor_is_refused(tmp_path: Path, command_line: CommandLine, cursor: str, says: str) -> None:
    world = World(tmp_path, "a")
    told = command_line(world, "changes", "--since", cursor)
    assert (told.code, says in told.err, world.links[A].ran) == (2, True, [])


def test_cursor_of_very_many_hosts_is_short_and_one_without_end_is_refused() -> None:
    serials = {HostName(f"host-{number:04}"): Serial(f"{number}-8f3a09c2") for number in range(1000)}
    assert len(write_cursor("home", serials)) < 12_000
    assert read_cursor(write_cursor("home", serials), "home") == serials
    bomb = write_cursor("x" * (1 << 25), {})
    with pytest.raises(ConfigError, match="was cut or changed"):
        read_cursor(bomb, "home")
