"""`fleet status`: the worst first, what was last seen of hosts that do not answer, and a view that goes on."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import struct
import termios
import time
from typing import TYPE_CHECKING, Any

import pytest

from fleet.cli import run
from fleet.errors import UnreachableError
from fleet.host.facts import host_facts
from fleet.library.reading import LENT, ask_all, ignore
from fleet.library.seen import LastSeen, remember, remembered
from fleet.library.status_lines import HEADERS, status_lines
from fleet.library.watching import Watched
from fleet.model import Closure, HostName
from fleet.output.screen import Screen
from fleet.state import SeenRecord
from tests.fakes import Says, asks, in_no_time, said
from tests.unit.builders import OLD
from tests.unit.world import FACTS, World

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from fleet.errors import FleetError
    from fleet.host.facts import HostFacts
    from fleet.inventory import Host
    from fleet.machine import Link
    from tests.unit.conftest import CommandLine

A, B = HostName("a"), HostName("b")
NOW = 1795946400.0
NEVER = float("inf")


def facts(**more: Any) -> HostFacts:
    lines = {**FACTS, "generation": "system-41-link", "link": "system-41-link@1795942800.5", **more}
    return host_facts({key: value if isinstance(value, list) else [str(value)] for key, value in lines.items()})


def shown(**hosts: Watched) -> list[dict[str, str]]:
    """The rows of the table, by column."""
    header, *rows = status_lines({HostName(name): one for name, one in hosts.items()}, now=NOW)
    starts = [header.index(name) for name in HEADERS]
    ends = [*starts[1:], None]
    return [
        {name: row[start:end].strip() for name, start, end in zip(HEADERS, starts, ends, strict=True)} for row in rows
    ]


def test_row_of_a_host_that_is_well() -> None:
    (row,) = shown(a=Watched(answer=facts()))
    assert row == {
        "host": "a", "running": "old", "age": "1 h", "generation": "41", "health": "ok", "pending": "-", "reboot": "-",
        "disk": "8.0 GiB", "remarks": "-",
    }  # fmt: skip


def test_worst_comes_first() -> None:
    hosts: dict[str, HostFacts | FleetError] = {
        "well": facts(),
        "pending": facts(running_kernel="/nix/store/k2", booted_kernel="/nix/store/k1"),
        "full": facts(nix_free=1 << 20),
        "open": facts(open_run="r", open_state="switched", open_who="ann", open_closes_in=40),
        "back": facts(last_run="r", last_state="reverted", last_reason="check web"),
        "away": UnreachableError(HostName("away"), "no connection: gone"),
        "failed": facts(failed_unit=["nginx.service"]),
        "stuck": facts(last_run="r", last_state="stuck"),
    }
    rows = shown(**{name: Watched(answer=answer) for name, answer in hosts.items()})
    assert [row["host"] for row in rows] == list(hosts)[::-1]
    told = {row["host"]: row for row in rows}
    assert told["pending"]["reboot"] == "kernel"
    assert told["open"]["pending"] == "switched by ann, closes in 40 s"
    assert told["back"]["remarks"] == "last run reverted: check web"
    assert told["failed"]["health"] == "1 failed: nginx.service"
    assert (told["away"]["health"], told["away"]["remarks"]) == ("unreachable", "no connection: gone")


def test_what_waits_what_boots_and_what_is_nearly_full_is_told() -> None:
    other = Closure(f"/nix/store/{'9' * 32}-nixos-system-a-99")
    (row,) = shown(a=Watched(answer=facts(staged=other, boot_default=other, boot_free=1 << 20)))
    assert row["pending"] == "pushed: 99"
    assert row["remarks"] == "boots 99 next"
    assert row["disk"] == "8.0 GiB, /boot 1.0 MiB"
    (row,) = shown(a=Watched(answer=facts(boot_default="", profile=other)))
    assert row["remarks"] == "what boots next is unverified; the profile names another system"
    assert row["age"] == "-"  # it is not the profile, whose age is known


def test_host_that_does_not_answer_is_shown_as_it_was() -> None:
    last = LastSeen.of(facts(failed_unit=["x.service"]), NOW - 7200)
    (row,) = shown(a=Watched(answer=UnreachableError(A, "no connection"), last=last))
    assert (row["running"], row["age"], row["health"], row["disk"]) == ("old", "1 h", "unreachable", "8.0 GiB")
    assert row["remarks"] == "as it was 2 h ago, with 1 failed: x.service; no connection"
    (row,) = shown(a=Watched(last=last))
    assert row["health"] == "not asked yet"


def test_on_a_terminal_it_is_dim_and_empty_columns_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    gone = Watched(answer=UnreachableError(A, "gone"))
    lines = status_lines({A: Watched(answer=facts())}, now=NOW, is_terminal=True, width=200)
    assert "pending" not in lines[0]
    dim = status_lines({A: gone}, now=NOW, is_terminal=True, width=200)
    assert "\x1b[2m" in dim[-1]
    assert "\x1b[2m" not in lines[-1]


# --- what is remembered ---


def test_what_was_seen_is_remembered_for_when_the_host_is_gone(tmp_path: Path, command_line: CommandLine) -> None:
    world = World(tmp_path, "a", "b")
    assert command_line(world, "status", "a").code == 0
    world.links[A].is_lost = world.links[B].is_lost = True
    said_ = command_line(world, "status")
    assert said_.code == 1
    rows = said_.out.splitlines()[1:]
    assert "old" in rows[0]
    assert "as it was 0 s ago" in rows[0]
    assert "as it was" not in rows[1]
    a, b = json.loads(command_line(world, "status", "--json").out)["hosts"]
    assert (a["reachable"], a["running"], a["last_seen"]["running"]) == (False, None, OLD)
    assert time.time() - a["last_seen"]["at"] < 60
    assert b["last_seen"] is None


def test_memory_that_cannot_be_written_or_read_costs_nothing(tmp_path: Path, command_line: CommandLine) -> None:
    world = World(tmp_path, "a")
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "state.db").write_text("no database")
    said_ = command_line(world, "status")
    assert (said_.code, said_.err) == (0, "")


async def test_only_hosts_of_the_file_are_remembered_and_each_as_it_was_last(tmp_path: Path) -> None:
    world = World(tmp_path, "a", "b")
    old, new = LastSeen(at=1.0, running=Closure(OLD)), LastSeen(at=2.0, running=Closure("/nix/store/x"), since=5)
    await remember(world.state, world.inventory, {A: old, HostName("gone"): old})
    assert await remembered(world.state) == {A: old}
    await remember(world.state, world.inventory, {A: new})
    await remember(world.state, world.inventory, {B: old})
    assert await remembered(world.state) == {A: new, B: old}


@pytest.mark.parametrize("body", ["", "[]", "7", "{}", '{"running": "x"}', '{"running": null, "since": "x"}'])
async def test_what_another_version_remembers_is_left_out(tmp_path: Path, body: str) -> None:
    world = World(tmp_path, "a")
    world.state.remember_seen({A: SeenRecord(1.0, body)}, known=[A])
    assert await remembered(world.state) == {}


# --- silent hosts ---


async def timed(world: World, **options: Any) -> tuple[dict[HostName, object], float]:
    async def look(_: Host, link: Link) -> str:
        return (await link.run(world_facts)).stdout[:1]

    from fleet.host.program import HostProgram

    world_facts = HostProgram().call("facts")
    start = asyncio.get_running_loop().time()
    found = await ask_all(world.logins, world.hosts, look, on_wait=ignore, **options)
    return dict(found), asyncio.get_running_loop().time() - start


@in_no_time
async def test_silent_hosts_keep_no_place_from_others(tmp_path: Path) -> None:
    world = World(tmp_path, *(f"dead{number}" for number in range(3)), "a")
    for number in range(3):
        world.links[HostName(f"dead{number}")].answers_at = NEVER
    asked: list[float] = []
    start = asyncio.get_running_loop().time()

    def answer(_: object) -> Any:
        asked.append(asyncio.get_running_loop().time() - start)
        return said(**FACTS)

    world.on("a", (asks("facts"), answer))
    found, seconds = await timed(world, at_once=1)
    assert asked == [3 * LENT]
    assert isinstance(found[HostName("dead0")], UnreachableError)
    assert seconds == 5.0 + 2 * LENT


@in_no_time
async def test_who_answers_late_is_asked_only_when_there_is_a_place(tmp_path: Path) -> None:
    world = World(tmp_path, "late", "a")
    world.links[HostName("late")].answers_at = asyncio.get_running_loop().time() + 1.0
    world.on("a", (asks("facts"), Says(stdout=b"m", seconds=3.0)))
    start = asyncio.get_running_loop().time()
    asked: list[float] = []

    def answer(_: object) -> Any:
        asked.append(asyncio.get_running_loop().time() - start)
        return said(**FACTS)

    world.on("late", (asks("facts"), answer))
    await timed(world, at_once=1)
    assert asked == [LENT + 3.0]


@in_no_time
async def test_status_waits_two_seconds_for_silent_hosts_after_the_others(tmp_path: Path) -> None:
    world = World(tmp_path, "dead", "a")
    world.links[HostName("dead")].answers_at = NEVER
    found, seconds = await timed(world, late=2.0)
    assert seconds == 2.0
    assert str(found[HostName("dead")]) == "no answer within 2.0 s"


@in_no_time
async def test_silent_host_that_is_alone_or_may_take_long_gets_its_time(tmp_path: Path) -> None:
    world = World(tmp_path, "dead")
    world.links[HostName("dead")].answers_at = NEVER
    assert (await timed(world, late=2.0))[1] == 5.0
    (tmp_path / "two").mkdir()
    world = World(tmp_path / "two", "a", "dead", more="[hosts.slow]\nconnect_timeout = '9s'\n")
    world.links[HostName("slow")].answers_at = NEVER
    assert (await timed(world, late=2.0))[1] == 9.0


@in_no_time
async def test_login_may_take_longer_once_somebody_has_answered(tmp_path: Path) -> None:
    world = World(tmp_path, "slow", "a")
    world.links[HostName("slow")].answers_at = asyncio.get_running_loop().time() + 1.5
    world.links[HostName("slow")].login_takes = 4.0
    found, seconds = await timed(world, late=2.0)
    assert (found[HostName("slow")], seconds) == ("m", 5.5)


# --- watch ---


@in_no_time
async def test_each_host_is_asked_again_in_its_own_time(tmp_path: Path) -> None:
    world = World(tmp_path, "dead", "a")
    world.links[HostName("dead")].answers_at = NEVER
    async with world.fleet() as fleet:
        items = fleet.watch(every=10.0)
        first = await anext(items)
        assert [one.answer for one in first.values()] == [None, None]
        start = asyncio.get_running_loop().time()
        found = first
        while asyncio.get_running_loop().time() < start + 35:
            found = await anext(items)
        await items.aclose()
    assert isinstance(found[HostName("dead")].answer, UnreachableError)
    assert len(world.links[A].ran) >= 4
    assert world.logins.connected == 1  # the connection stays
    assert world.logins.open == 0
    assert set(await remembered(world.state)) == {"a"}


@in_no_time
async def test_host_that_went_away_is_known_as_it_was(tmp_path: Path) -> None:
    world = World(tmp_path, "a")
    world.on("a", (asks("facts"), [said(**FACTS), UnreachableError(A, "connection lost"), said(**FACTS)]))
    async with world.fleet() as fleet:
        items = fleet.watch(every=10.0)
        seen = [(await anext(items))[A] for _ in range(4)]
        await items.aclose()
    assert [isinstance(one.answer, UnreachableError) for one in seen] == [False, False, True, False]
    assert seen[2].last == seen[1].last
    assert seen[2].last is not None


def test_watch_prints_document_after_document_until_the_reader_leaves(
    tmp_path: Path, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, documents = World(tmp_path, "a", "b"), []

    def echo(text: str, **_: object) -> None:
        documents.append(json.loads(text))
        if len(documents) == 2:
            raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr("click.echo", echo)
    with pytest.raises(SystemExit) as ended:  # as click ends every command whose reader has left
        command_line(world, "status", "--json", "--watch", "--interval", "1s")
    assert ended.value.code == 1
    assert [[host["reachable"] for host in document["hosts"]] for document in documents] == [[True, True]] * 2
    assert world.logins.open == 0


def test_screen_shows_what_fits_and_leaves_the_last_lines_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    person, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 5, 40, 0, 0))
    with os.fdopen(theirs, "w") as stream, Screen(stream) as screen:
        screen.show(["first"], foot="foot")
        screen.show([f"line {number}" for number in range(9)], foot="foot")
    shown_ = ""
    with contextlib.suppress(OSError):  # a terminal that nobody has any more
        while data := os.read(person, 65536):
            shown_ += data.decode()
    os.close(person)
    during, _, after = shown_.rpartition("\x1b[?1049l")
    assert "line 2" in during
    assert "line 3" not in during
    assert "6 more lines; foot" in during
    assert after.split() == [word for number in range(9) for word in ("line", str(number))]


@pytest.mark.parametrize("interval", ["0s", "500ms", "5", "soon"])
def test_interval_has_to_be_one(tmp_path: Path, command_line: CommandLine, interval: str) -> None:
    said_ = command_line(World(tmp_path, "a"), "status", "--watch", "--interval", interval)
    assert (said_.code, "--interval: " in said_.err) == (2, True)
    assert run(["status", "--interval", interval]) == 2


def test_hosts_seem_in_the_order_of_the_file_to_scripts(tmp_path: Path, command_line: CommandLine) -> None:
    world = World(tmp_path, "a", "b")
    world.on("b", (asks("facts"), said(**FACTS, failed_unit=["x.service"])))
    names: Sequence[str] = [host["name"] for host in json.loads(command_line(world, "status", "--json").out)["hosts"]]
    assert names == ["a", "b"]
    assert [line.split()[0] for line in command_line(world, "status").out.splitlines()[1:]] == ["b", "a"]


def test_agents_are_told_with_their_versions_and_the_same_ones_once() -> None:
    new, old = ["claude claude-code 2.1.63", "claude git 2.51"], ["claude claude-code 2.1.60"]
    hosts = {"a": facts(agent=new), "b": facts(agent=new), "c": facts(agent=old), "d": facts()}
    lines = status_lines({HostName(name): Watched(answer=one) for name, one in hosts.items()}, now=NOW)
    assert lines[-3:] == [
        "",
        "agent claude: claude-code 2.1.60 (on c)",
        "agent claude: claude-code 2.1.63, git 2.51 (on a, b)",
    ]


def test_agents_of_a_host_that_says_anything_are_bounded() -> None:
    found = facts(agent=[f"a{number % 3} p{number} \x1b[2J1" for number in range(5000)]).agents
    assert sum(map(len, found.values())) == 500
    assert not any("\x1b" in package for packages in found.values() for package in packages)
