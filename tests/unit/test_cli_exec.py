"""`fleet exec`: what runs where, what people and scripts see of it, and how it ends."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from fleet.deploy.stop import Stop
from fleet.errors import ConfigError, StoppedError, UnreachableError
from fleet.library.commanding import KEPT, as_command
from fleet.machine import Output
from fleet.model import HostName
from fleet.output.grouped import Said, grouped_lines, summary_line
from tests.fakes import Says, runs
from tests.unit.world import World

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.unit.conftest import CommandLine, Terminal

A, B, C = map(HostName, "abc")
LIMIT = ("timeout", "--kill-after=5", "600.000")
UPTIME = runs(*LIMIT, "sh", "-c", "uptime")


def test_one_word_is_a_line_for_sh_and_several_are_a_program() -> None:
    limit = ("timeout", "--kill-after=5", "3.000")
    assert as_command("df -h | tail", timeout=3).argv == (*limit, "sh", "-c", "df -h | tail")
    assert as_command(("echo", "$HOME", "a b"), timeout=3).argv == (*limit, "echo", "$HOME", "a b")
    command = as_command("true", timeout=3)
    assert (command.root, command.stdin, command.keep, command.ends_with_us) == (True, b"", KEPT, True)


@pytest.mark.parametrize("nothing", ["", "  ", (), ("",), ("a", "b\0c"), "a\0b"])
def test_command_that_cannot_be_one_is_refused(nothing: str) -> None:
    with pytest.raises(ConfigError):
        as_command(nothing, timeout=3)


def test_hosts_that_say_the_same_are_shown_together_and_failures_last(
    tmp_path: Path, command_line: CommandLine
) -> None:
    world = World(tmp_path, "a", "b", "c", "d")
    world.on("a", (UPTIME, Output(status=3, stdout="ill\n", stderr="why\n")))
    world.on("d", (UPTIME, UnreachableError(HostName("d"), "no connection: gone")))
    for name in "bc":
        world.on(name, (UPTIME, Output(status=0, stdout="up\n1 day\n")))
    said = command_line(world, "exec", "--all", "--yes", "--", "uptime")
    assert said.out.splitlines() == [
        "b, c (exit 0)", "  up", "  1 day", "", "a (exit 3)", "  ill", "  stderr:", "  why", "",
        "2 hosts: exit 0; 2 hosts: a (exit 3), d (unreachable)",
    ]  # fmt: skip
    assert "error: d: no connection: gone" in said.err
    assert said.code == 1


def test_all_well_is_exit_0_and_one_host_needs_no_summary(tmp_path: Path, command_line: CommandLine) -> None:
    world = World(tmp_path, "a", "b")
    world.on("a", (runs(*LIMIT, "echo", "a b"), Output(status=0, stdout="a b\n")))
    said = command_line(world, "exec", "a", "--", "echo", "a b")
    assert (said.code, said.out, said.err) == (0, "a (exit 0)\n  a b\n", "")
    assert world.links[B].ran == []


def test_document_has_both_outputs_the_status_and_the_error(tmp_path: Path, command_line: CommandLine) -> None:
    world = World(tmp_path, "a", "b")
    world.on("a", (UPTIME, Says(status=1, stdout=b"o" * (KEPT + 5) + b"\x1b[31m", stderr=b"e")))
    world.on("b", (UPTIME, UnreachableError(B, "no connection")))
    said = command_line(world, "exec", "--all", "-y", "--json", "--", "uptime")
    a, b = json.loads(said.out)["hosts"]
    assert (a["name"], a["status"], a["stderr"], a["left_out"], a["error"]) == ("a", 1, "e", 10, None)
    assert set(a["stdout"]) == {"o"}
    assert (b["name"], b["status"], b["stdout"], b["error"]["kind"]) == ("b", None, "", "unreachable")
    assert said.code == 1


def test_words_after_the_dashes_are_never_flags(tmp_path: Path, command_line: CommandLine) -> None:
    world = World(tmp_path, "a")
    world.on("a", (runs(*LIMIT, "ls", "--all", "--", "--json"), Output(status=0)))
    said = command_line(world, "exec", "a", "--", "ls", "--all", "--", "--json")
    assert (said.code, said.out) == (0, "a (exit 0)\n")


def test_command_named_like_a_reporting_verb_ends_with_no_event(tmp_path: Path, command_line: CommandLine) -> None:
    said = command_line(World(tmp_path, "a"), "exec", "nobody", "--json", "--", "deploy")
    assert (said.code, said.out) == (2, "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a"], "write -- and the command after the hosts"),
        (["a", "--"], "write -- and the command after the hosts"),
        (["a", "--", ""], "there is no command to run"),
        (["--", "true"], "no hosts were named"),
        (["--all", "--", "true"], "2 hosts would be changed, and there is no terminal"),
        (["a", "--timeout", "5", "--", "true"], "--timeout: "),
        (["a", "--parallel", "0", "--", "true"], "--parallel"),
    ],
)
def test_what_is_wrong_is_exit_2_and_no_host_is_asked(
    tmp_path: Path, command_line: CommandLine, arguments: list[str], message: str
) -> None:
    world = World(tmp_path, "a", "b")
    said = command_line(world, "exec", *arguments)
    assert (said.code, said.out) == (2, "")
    assert message in said.err
    assert world.links[A].ran == world.links[B].ran == []


def test_people_are_asked_and_no_means_that_nothing_runs(
    tmp_path: Path, command_line: CommandLine, terminal: Terminal
) -> None:
    world = World(tmp_path, "a", "b")
    terminal.answer("n\n")
    said = command_line(world, "exec", "--all", "--", "rm", "-r", "a b")
    assert (said.code, said.out) == (1, "")
    assert "rm -r 'a b'\non a, b\n" in said.err
    assert "Run this as root on 2 hosts? [y/N]" in said.err
    assert world.links[A].ran == world.links[B].ran == []


async def test_stop_ends_what_runs_and_begins_nothing_more(tmp_path: Path) -> None:
    world, stop = World(tmp_path, "a", "b", "c"), Stop()
    world.on("a", (UPTIME, Output(status=0, stdout="up")))
    world.on("b", (UPTIME, Says(seconds=600)))

    def on_wait(left: Sequence[HostName]) -> None:
        if tuple(left) == (B, C):
            asyncio.get_running_loop().call_later(0.05, stop.request)

    async with world.fleet() as fleet:
        found = await fleet.execute(command="uptime", at_once=1, stop=stop, on_wait=on_wait)
    assert found[A] == Output(status=0, stdout="up")
    assert [str(found[name]) for name in (B, C)] == [
        "interrupted: the command was ended",
        "interrupted before the command began",
    ]
    assert all(isinstance(found[name], StoppedError) for name in (B, C))
    assert world.links[C].ran == []
    assert world.logins.open == 0


def test_no_host_writes_a_header_or_moves_the_cursor() -> None:
    lines = grouped_lines({A: Said(0, "b (exit 0)\n\x1b[2Jx\rtrick\n\n")})
    assert lines == ["a (exit 0)", "  b (exit 0)", "  xtrick"]


def test_what_is_left_out_is_said() -> None:
    assert grouped_lines({A: Said(0, "end\n", left_out=2048)})[1] == "  (the first 2.0 KiB are left out)"


def test_command_that_was_out_of_time_is_shown_with_what_it_wrote() -> None:
    assert grouped_lines({A: Said(124, "so far\n")}) == ["a (exit 124, out of time)", "  so far"]
    assert summary_line({A: Said(124)}, {}) == "1 host: a (exit 124, out of time)"


def test_of_many_hosts_some_are_named_but_of_failures_all() -> None:
    names = [HostName(f"h{number}") for number in range(30)]
    assert grouped_lines(dict.fromkeys(names, Said(0))) == [
        "h0, h1, h2, h3, h4, h5, h6, h7, h8, h9, h10 and 19 more (exit 0)"
    ]
    (line,) = grouped_lines(dict.fromkeys(names, Said(1)))
    assert all(name in line for name in names)
    assert summary_line(dict.fromkeys(names, Said(0)), {}) == "30 hosts: exit 0"
