"""`fleet logs`: which journal is read, how its lines are shown, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import tracemalloc
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from fleet.errors import ConfigError, UnreachableError
from fleet.library.logs import AHEAD, journal_of
from fleet.machine import Output
from fleet.machine.bounds import LONGEST_LINE, lines
from fleet.model import HostName
from tests.fakes import in_no_time
from tests.unit.world import World

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from fleet.machine import Command
    from tests.unit.conftest import CommandLine

A, B = HostName("a"), HostName("b")


class Journal:
    """What journalctl prints on a host, block by block, and how it ends."""

    def __init__(
        self, *blocks: bytes, status: int = 0, error: Exception | None = None, is_endless: bool = False
    ) -> None:
        self.blocks = list(blocks)
        self.read_so_far = 0
        self.asked: list[Command] = []
        self.is_open = False
        self._output = Output(status=status, stderr="why\n" if status else "")
        self._error = error
        self._is_endless = is_endless

    @contextlib.asynccontextmanager
    async def stream(self, command: Command) -> AsyncIterator[Any]:
        self.asked.append(command)
        if self._error is not None:
            raise self._error
        self.is_open = True
        try:
            yield self
        finally:
            self.is_open = False

    async def read(self, count: int) -> bytes:  # noqa: ARG002
        await asyncio.sleep(0)
        if self.read_so_far < len(self.blocks):
            self.read_so_far += 1
            return self.blocks[self.read_so_far - 1]
        if self._is_endless:
            await asyncio.Event().wait()
        return b""

    async def ended(self) -> Output:
        return self._output


def has(world: World, name: str, journal: Journal) -> Journal:
    world.links[HostName(name)].stream = journal.stream  # type: ignore[method-assign]
    return journal


def flags(**asked: Any) -> tuple[str, ...]:
    return journal_of("nginx", **{"lines": 5, "since": "", "follow": False, **asked}).argv[4:]


def test_journalctl_is_asked_for_what_was_meant() -> None:
    command = journal_of("nginx", lines=5, since="", follow=False)
    assert command.argv == ("journalctl", "--quiet", "--no-pager", "--output=short-iso", "--unit=nginx", "--lines=5")
    assert (command.root, command.ends_with_us) == (True, True)
    assert flags(lines=None, since="1h30m", follow=True) == (
        "--unit=nginx",
        "--lines=all",
        "--since=-5400s",
        "--follow",
    )
    for text, told in [("today", "today"), ("09:30", "09:30"), ("2026-11-30T09:30", "2026-11-30 09:30")]:
        assert f"--since={told}" in flags(since=text)


@pytest.mark.parametrize("unit", ["", "-x", "--flush", "a b", "a;b", "a\nb", "ü", "a" * 256, "a/b"])
def test_what_is_no_unit_is_refused(unit: str) -> None:
    with pytest.raises(ConfigError, match="is no name of a unit"):
        journal_of(unit, lines=5, since="", follow=False)


@pytest.mark.parametrize("unit", ["nginx", "user@1000.service", "dev-disk\\x2dby.device", "ollama-*", "a?"])
def test_what_may_be_a_unit_is_not(unit: str) -> None:
    journal_of(unit, lines=5, since="", follow=False)


@pytest.mark.parametrize("since", ["5", "soon", "-1h", "2026-11", "--flush", "10 min ago"])
def test_what_is_no_time_is_refused(since: str) -> None:
    with pytest.raises(ConfigError, match="is no time"):
        flags(since=since)


def test_one_host_s_lines_are_shown_as_they_are(tmp_path: Path, command_line: CommandLine) -> None:
    world = World(tmp_path, "a", "b")
    journal = has(world, "a", Journal(b"one\ntw", b"o\n\x1b[2Jthree\r", b"\nend"))
    said = command_line(world, "logs", "a", "nginx")
    assert (said.code, said.out, said.err) == (0, "one\ntwo\nthree\nend\n", "")
    assert "--lines=100" in journal.asked[0].argv
    assert world.logins.open == 0


@pytest.mark.parametrize("word", ["a", "@web"])
def test_host_without_a_unit_is_told_what_is_missing(tmp_path: Path, command_line: CommandLine, word: str) -> None:
    said = command_line(World(tmp_path, "a", "b"), "logs", word)
    assert (said.code, said.out) == (2, "")
    assert "no unit was named" in said.err
    assert f"fleet logs {word} UNIT" in said.err


def test_several_hosts_come_one_after_another_each_line_with_its_host(
    tmp_path: Path, command_line: CommandLine
) -> None:
    world = World(tmp_path, "a", "long", "c", "d")
    has(world, "a", Journal(*[f"{number}\n".encode() for number in range(3)]))
    has(world, "long", Journal(error=UnreachableError(HostName("long"), "no connection: gone")))
    has(world, "c", Journal(b"x\n", status=1))
    has(world, "d", Journal())
    said = command_line(world, "logs", "--all", "nginx")
    assert said.out == "a     0\na     1\na     2\nc     x\n"
    assert "error: long: no connection: gone" in said.err
    assert "error: c: journalctl failed with exit status 1" in said.err
    assert "d: no entries of nginx" in said.err
    assert said.code == 1


def test_each_line_of_json_has_its_host(tmp_path: Path, command_line: CommandLine) -> None:
    world = World(tmp_path, "a", "b")
    has(world, "a", Journal(b"one\n"))
    has(world, "b", Journal(error=UnreachableError(B, "no connection")))
    said = command_line(world, "logs", "a", "b", "nginx", "--json")
    one, error = sorted(map(json.loads, said.out.splitlines()), key=lambda row: str(row["host"]))
    assert one == {"host": "a", "line": "one"}
    assert (error["host"], error["error"]["kind"], said.code) == ("b", "unreachable", 1)


@pytest.mark.parametrize("arguments", [["nginx"], ["a", "x y"], ["a", "nginx", "--since", "soon"], ["zz", "nginx"]])
def test_what_is_wrong_is_exit_2_and_no_host_is_asked(
    tmp_path: Path, command_line: CommandLine, arguments: list[str]
) -> None:
    world = World(tmp_path, "a")
    journal = has(world, "a", Journal())
    assert command_line(world, "logs", *arguments).code == 2
    assert journal.asked == []


async def test_lines_of_all_hosts_are_told_as_they_come_and_the_end_closes_everything(tmp_path: Path) -> None:
    world = World(tmp_path, "a", "b")
    journals = [has(world, name, Journal(b"x\n" * 2, is_endless=True)) for name in "ab"]
    async with world.fleet() as fleet:
        items = fleet.logs(unit="nginx", follow=True)
        found = [await anext(items) for _ in range(4)]
        assert sorted(found) == [(A, "x"), (A, "x"), (B, "x"), (B, "x")]
        assert [journal.is_open for journal in journals] == [True, True]
        await items.aclose()
    assert [journal.is_open for journal in journals] == [False, False]
    assert world.logins.open == 0


async def test_host_that_writes_faster_than_anybody_reads_has_to_wait(tmp_path: Path) -> None:
    world = World(tmp_path, "a")
    journal = has(world, "a", Journal(*[b"x\n"] * 10 * AHEAD))
    async with world.fleet() as fleet:
        items = fleet.logs(unit="nginx", follow=True)
        await anext(items)
        for _ in range(5 * AHEAD):
            await asyncio.sleep(0)
        assert journal.read_so_far <= AHEAD + 3
        await items.aclose()


@in_no_time
async def test_host_that_answers_late_keeps_no_other_one_waiting(tmp_path: Path) -> None:
    world = World(tmp_path, "late", "a", "b")
    world.links[HostName("late")].answers_at = asyncio.get_running_loop().time() + 3.0
    for name in ("late", "a", "b"):
        has(world, name, Journal(*[b"x\n"] * 3 * AHEAD))
    async with world.fleet() as fleet:
        start = asyncio.get_running_loop().time()
        items = fleet.logs(unit="nginx")
        found = [(name, asyncio.get_running_loop().time() - start) async for name, _ in items]
    assert [name for name, _ in found] == [name for name in ("a", "b", "late") for _ in range(3 * AHEAD)]
    assert {seconds for name, seconds in found if name != "late"} == {0.0}


@in_no_time
async def test_late_host_gets_a_place_though_the_others_have_more_than_anybody_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fleet.library.logs.CONTACTS", 1)
    world = World(tmp_path, "late", "a", "b")
    world.links[HostName("late")].answers_at = asyncio.get_running_loop().time() + 1.0
    for name in ("late", "a", "b"):
        has(world, name, Journal(*[b"x\n"] * 3 * AHEAD))
    async with world.fleet() as fleet:
        found = [name async for name, _ in fleet.logs(unit="nginx")]
    assert Counter(found) == dict.fromkeys(("late", "a", "b"), 3 * AHEAD)


async def test_very_long_line_is_cut_and_takes_no_memory() -> None:
    left = 500

    async def read(count: int) -> bytes:
        nonlocal left
        left -= 1
        return b"x" * count if left > 0 else b"\nend\n" if left == 0 else b""

    tracemalloc.start()
    try:
        assert [line async for line in lines(read)] == ["x" * LONGEST_LINE + "…", "end"]
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
