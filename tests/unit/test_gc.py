"""`fleet gc`: what people and scripts see of it, and how it ends. What hosts do is tested on lab hosts."""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING

import pytest

from fleet.errors import UnreachableError
from fleet.host import garbage
from fleet.host.answers import parse
from fleet.host.program import ask
from fleet.machine import Output
from fleet.model import HostName, RunId
from fleet.steps.garbage import free
from tests.fakes import FakeLink, Says, asks, runs, said
from tests.unit.builders import host
from tests.unit.state_builders import run_id
from tests.unit.test_state_tidy import builds
from tests.unit.world import World

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.conftest import CommandLine, Terminal

A, B = map(HostName, "ab")
PATH = f"/nix/store/{'a' * 32}-nixos-system"
FOUND = said(
    keep=2,
    stays=[f"8 {PATH}-8 newest", f"7 {PATH}-7 newest,running,profile", f"2 {PATH}-2 previous"],
    goes=[f"6 {PATH}-6", f"3 {PATH}-3"],
    nix_free=1 << 30,
    paths=12,
    bytes=5 << 20,
    path=[f"4194304 {PATH}-6"],
)
NOTHING = said(keep=2, stays=f"1 {PATH}-1 newest", nix_free=9, paths=0, bytes=0)
PRUNED = said(deleted=[6, 3])
COLLECTED = Says(status=0, stdout=b"collected=12\nfreed=4.50 MiB\n", stderr=b"collected 5\n")
LOCKED = said(refused="locked", message="run R is pushing to this host")


def collecting(tmp_path: Path, *names: str) -> World:
    world = World(tmp_path, *names)
    for name in names:
        world.on(name, (asks("garbage"), FOUND), (asks("prune"), PRUNED), (asks("collect"), COLLECTED))
    return world


def verbs(world: World, name: str) -> list[str]:
    """What the host was asked, with the words after it."""
    asked = [" ".join(command.argv[command.argv.index("2") + 1 :]) for command in world.links[HostName(name)].ran]
    return [words for words in asked if words.split()[0] in ("garbage", "prune", "collect")]


def test_dry_run_shows_what_goes_and_why_the_rest_stays_and_changes_nothing(
    tmp_path: Path, command_line: CommandLine
) -> None:
    world = collecting(tmp_path, "a", "b")
    world.on("b", (asks("garbage"), NOTHING))
    shown = command_line(world, "gc", "--all", "--dry-run")
    header, *rows = [re.split(r"  +", line) for line in shown.out.splitlines()]
    assert header == ["host", "generations that go", "that stay", "store paths", "frees", "free now"]
    stay = "8 (newest), 7 (newest, running, profile), 2 (previous)"
    assert rows == [["a", "6, 3", stay, "12", "5.0 MiB", "1.0 GiB"], ["b", "none", "1 (newest)", "0", "0 B", "9 B"]]
    assert (shown.code, verbs(world, "a"), verbs(world, "b")) == (0, ["garbage 5"], ["garbage 5"])


def test_what_was_shown_is_asked_about_once_and_goes_where_there_is_something(
    tmp_path: Path, command_line: CommandLine, terminal: Terminal
) -> None:
    world = collecting(tmp_path, "a", "b")
    world.on("b", (asks("garbage"), NOTHING))
    terminal.answer("y\n")
    shown = command_line(world, "gc", "--all", "--keep", "2", "--within", "90s", "--ask")
    assert shown.out == "a: freed 4.5 MiB: 12 store paths, generations 6, 3\n"
    assert "Free about 5.0 MiB on 1 host? [y/N]" in shown.err
    assert (shown.code, verbs(world, "b")) == (0, ["garbage 2"])
    assert verbs(world, "a") == ["garbage 2", "prune 2 6,3", "collect 90"]


def test_no_is_no(tmp_path: Path, command_line: CommandLine, terminal: Terminal) -> None:
    world = collecting(tmp_path, "a", "b")
    terminal.answer("n\n")
    shown = command_line(world, "gc", "--all")
    assert (shown.code, shown.out) == (1, "")
    assert "Nothing was changed." in shown.err
    assert (verbs(world, "a"), verbs(world, "b")) == (["garbage 5"], ["garbage 5"])


def test_without_a_terminal_and_without_yes_no_host_is_contacted(tmp_path: Path, command_line: CommandLine) -> None:
    world = collecting(tmp_path, "a", "b")
    assert command_line(world, "gc", "--all").code == 2
    assert world.links[A].ran == []


def test_each_host_ends_for_itself_and_scripts_see_all(tmp_path: Path, command_line: CommandLine) -> None:
    world = collecting(tmp_path, "a", "b", "c")
    world.on("b", (asks("garbage"), LOCKED))
    world.on("c", (asks("collect"), UnreachableError(HostName("c"), "connection lost")))
    shown = command_line(world, "gc", "--all", "--yes", "--json")
    a, b, c = json.loads(shown.out)["hosts"]
    assert (shown.code, a["freed"], a["error"]) == (
        1, {"generations": [6, 3], "paths": 12, "bytes": 4718592, "stopped": ""}, None,
    )  # fmt: skip
    assert (a["goes"][0], a["stays"][2]["why"]) == ({"number": 6, "closure": f"{PATH}-6"}, ["previous"])
    assert (a["largest"], a["held"]) == ([{"path": f"{PATH}-6", "bytes": 4 << 20}], "")
    assert (b["freed"], b["error"]["kind"], b["error"]["message"]) == (None, "locked", "run R is pushing to this host")
    assert (c["freed"], c["error"]["kind"], c["paths"]) == (None, "unreachable", 12)


def test_hosts_that_are_all_locked_are_exit_5(tmp_path: Path, command_line: CommandLine) -> None:
    world = World(tmp_path, "a", "b")
    for name in "ab":
        world.on(name, (asks("garbage"), LOCKED))
    shown = command_line(world, "gc", "--all", "--yes")
    assert shown.code == 5
    assert "error: a, b: run R is pushing" in shown.err or "error: a: run R is pushing" in shown.err


def test_keep_generations_of_fleet_toml_counts_unless_keep_is_given(tmp_path: Path, command_line: CommandLine) -> None:
    world = World(tmp_path, "a", more="keep_generations = 9")
    world.on("a", (asks("garbage"), NOTHING))
    command_line(world, "gc", "a")
    command_line(world, "gc", "a", "--keep", "3")
    assert verbs(world, "a") == ["garbage 9", "garbage 3"]


@pytest.mark.parametrize(
    "flags", [("--keep", "0"), ("--keep", "x"), ("--within", "soon"), ("--local", "a"), ("--local", "--all"), ()]
)
def test_flags_that_make_no_sense_are_exit_2(tmp_path: Path, command_line: CommandLine, flags: tuple[str, ...]) -> None:
    world = collecting(tmp_path, "a")
    assert command_line(world, "gc", *flags).code == 2
    assert world.links[A].ran == []


def test_what_a_host_says_is_data(tmp_path: Path) -> None:
    stays = "stays=evil\nstays=99999999999999999999 p w,,v\n"
    found = garbage.garbage(parse(f"keep=x\nheld=\x1b[2Jno\n{stays}goes=\npaths=1x\nbytes=1e9\npath=big /x\n"))
    assert (found.keep, found.paths, found.bytes, found.largest) == (0, 0, 0, (("/x", 0),))
    assert [one.why for one in found.stays] == [(), ("w", "v")]
    for spoken in ("", "12", "nan MiB", "1e300 GiB", "12 MB", "1.5 MiB freed", "9" * 400 + " GiB"):
        assert garbage.freed(parse(f"freed={spoken}\n"), ()).bytes is None
    assert garbage.freed(parse("freed=0.25 KiB\n"), ()).bytes == 256
    assert [garbage.progress(line) for line in ("collected 50", "collected x", "deleting")] == [50, None, None]


async def test_collection_ends_with_us_and_in_time_and_its_progress_is_told() -> None:
    link = FakeLink(host("a"), (asks("prune"), PRUNED), (asks("collect"), COLLECTED))
    counts: list[int] = []
    await free(link, link.host, garbage.Garbage(keep=2), within=60, on_count=counts.append)
    pruned, command = link.ran
    assert pruned.argv[-3:] == ("prune", "2", "0")  # the boot menu may be due
    assert (command.ends_with_us, command.timeout, command.stdin, counts) == (True, 120, b"", [5])


async def test_program_that_is_sent_along_does_not_end_with_us_since_it_has_input() -> None:
    link = FakeLink(host("a"), (asks("prune"), said()), (asks("collect"), [said(absent="yes"), COLLECTED]))
    await free(link, link.host, garbage.Garbage(keep=2), within=60, on_count=lambda _: None)
    assert [command.ends_with_us for command in link.ran] == [False, True, False]
    assert await ask(link, link.host, link.ran[-1])


# --- this machine ---


def test_local_removes_what_is_over_and_only_what_that_had_rooted(tmp_path: Path, command_line: CommandLine) -> None:
    world = World(tmp_path, "a")
    state = world.state
    builds(state, *range(100, 103))
    old, shared, others = (f"/nix/store/{letter * 32}-{letter}" for letter in "xyz")
    folder = state.folder(run_id(100))
    (folder / "closure").symlink_to(old)
    (state.folder(run_id(102)) / "closure").symlink_to(shared)
    state.keep_plan("1a", "text", expires=time.time() - 1)
    state.plan_folder("1a").mkdir(parents=True)
    (state.plan_folder("1a") / "closure").symlink_to(shared)
    roots = f"{folder}/closure -> {old}\n{state.folder(run_id(102))}/closure -> {shared}\n{{temp:7}} -> {others}\n"
    closures = {old: [old, others], shared: [shared], others: [others]}

    def requisites(command: object) -> Output:
        asked = command.stdin.decode().split()  # type: ignore[attr-defined]
        return Output(status=0, stdout="".join(f"{path}\n" for top in asked for path in closures[top]))

    world.here_too(
        (runs("xargs", "-r", "nix-store", "--check-validity"), Output(status=0)),
        (runs("xargs", "-r", "nix-store", "--query", "--requisites"), requisites),
        (runs("nix-store", "--gc", "--print-roots"), Output(status=0, stdout=roots)),
        (runs("nix-store", "--gc", "--print-dead"), Output(status=0, stdout=f"{old}\n/nix/store/{'q' * 32}-mine\n")),
        (runs("xargs", "-r", "nix-store", "--delete"), Output(status=0)),
    )
    shown = command_line(world, "gc", "--local", "--keep", "2", "--dry-run")
    assert (shown.code, shown.out) == (0, "would go: 0 runs, 1 build, 1 plan; 1 store path, 100 B\n")
    assert folder.is_dir()
    assert len(state.plans()) == 1
    assert not [command for command in world.here.ran if "--delete" in command.argv]

    document = json.loads(command_line(world, "gc", "--local", "--keep", "2", "--json").out)
    assert document["freed"] == {
        "runs": [],
        "builds": [run_id(100)],
        "plans": ["1a"],
        "deliveries": [],
        "paths": 1,
        "bytes": 100,
        "note": "",
    }
    (deleted,) = [command for command in world.here.ran if "--delete" in command.argv]
    assert deleted.stdin.decode().split() == [old]
    assert not folder.exists()
    assert state.plans() == []
    assert world.links[A].ran == []


def test_dry_run_of_tidying_says_what_tidying_does(tmp_path: Path) -> None:
    world = World(tmp_path, "a")
    builds(world.state, *range(100, 110))
    world.state.keep_plan("1a", "text", expires=time.time() - 1)
    world.state.keep_plan("2b", "text", expires=time.time() + 60)
    said_before = world.state.tidy(keep=4, dry_run=True)
    assert said_before.builds == tuple(RunId(run_id(number)) for number in (105, 104, 103, 102, 101, 100))
    assert world.state.tidy(keep=4, dry_run=True) == said_before == world.state.tidy(keep=4)
    assert said_before.plans == ("1a",)
