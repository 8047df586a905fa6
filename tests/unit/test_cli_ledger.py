"""What runs enter in the ledger, and `fleet ledger` on it."""

from __future__ import annotations

import dataclasses
import json
import sqlite3
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from fleet.drift import Baseline, DriftReport, judge
from fleet.errors import StateError, UnreachableError
from fleet.events import HostFinished
from fleet.ledger import Head, Kind
from fleet.library.judging import Plea
from fleet.library.plans import write_plan
from fleet.machine import Output
from fleet.model import HostName, Outcome
from fleet.state.ledgers import StoredLedger
from tests.fakes import asks, runs, said
from tests.unit import builders
from tests.unit import test_drift as drifts
from tests.unit.builders import NEW, OLD
from tests.unit.ledgers import OTHER_ID, entry, head_of, in_database, lines_of, replace_lines, rewritten
from tests.unit.state_builders import in_files
from tests.unit.test_cli_reboot import Rebooted
from tests.unit.test_judging import NEVER, write
from tests.unit.world import FACTS, World
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.unit.conftest import CommandLine

pytestmark = pytest.mark.usefixtures("kept")


def bodies(world: World) -> list[dict[str, Any]]:
    """All entries."""
    return [json.loads(line) for _, line in world.state.ledger.read().lines]


def kinds(world: World) -> list[tuple[str, str]]:
    """What each entry is about, and which host."""
    return [(body["kind"], body.get("host", "")) for body in bodies(world)]


def heads(world: World, name: str) -> list[str]:
    """The heads with which a host was asked to begin."""
    orders = [command.stdin or b"" for command in world.links[HostName(name)].ran if asks("begin")(command)]
    lines = [line for order in orders for line in order.decode().splitlines()]
    return [line.removeprefix("ledger ") for line in lines if line.startswith("ledger ")]


def deploy(world: World, command_line: CommandLine, *arguments: str) -> int:
    return command_line(world, "deploy", "--yes", "--copy-with", "nix", *arguments).code


def ledger_lines(world: World) -> list[str]:
    return [line for _, line in world.state.ledger.read().lines]


def remembers(world: World, name: str, *told: tuple[str, str], more: tuple[str, ...] = ()) -> None:
    """The host has these runs in its history, each with a head."""
    entries = []
    for number, (run, head) in enumerate(told, 1):
        times = (str(1795946400 + number), str(1795946430 + number))
        entries.append("\t".join([f"{number}-a", run, "ann", "desk", *times, OLD, NEW, "committed", *["-"] * 6, head]))
    world.on(name, (asks("history"), said(history=[*entries, *more])))


async def test_run_is_entered_before_its_first_host_is_touched_and_its_ends_after_it(tmp_path: Path) -> None:
    world = World(tmp_path, "a", "b", intent="update nginx")
    touched: list[list[tuple[str, str]]] = []

    def touch(_: object) -> Any:
        touched.append(kinds(world))
        return said(done="yes")

    for name in ("a", "b"):
        world.on(name, (asks("root"), touch))
    assert await world.execute() == 0
    assert touched
    assert touched[0] == [("opened", ""), ("plan", ""), ("begin", "")]
    found = bodies(world)
    assert sorted(kinds(world)[3:5]) == [("commit", "a"), ("commit", "b")]
    assert kinds(world)[5:] == [("end", "")]
    plan, begin, commit, end = (found[number] for number in (1, 2, 3, 5))
    (run,) = world.state.runs()
    assert (plan["plan"], plan["intent"], plan["author"], plan["from"]) == (run.plan, "update nginx", "ann", "desk")
    assert (begin["run"], begin["plan"], begin["hosts"], begin["verb"]) == (run.id, run.plan, ["a", "b"], "deploy")
    assert (commit["new"], commit["old"], commit["outcome"]) == (str(world.closure), OLD, "kept")
    assert (end["run"], end["exit_code"]) == (run.id, 0)


async def test_hosts_keep_the_head_that_tells_of_their_run(tmp_path: Path) -> None:
    world = World(tmp_path, "a", "b")
    await world.execute()
    begin = bodies(world)[2]
    assert [Head.parse(text).hash for name in ("a", "b") for text in heads(world, name)] == [begin["hash"]] * 2


async def test_plan_has_the_head_of_when_it_was_made(tmp_path: Path) -> None:
    world = World(tmp_path, "a")
    async with world.fleet() as fleet:
        first = await fleet.plan()
        await fleet.keep(first)
        second = await fleet.plan(intent="again")
    assert (first.ledger, second.ledger) == ("", str(world.state.ledger.noted()))
    assert kinds(world) == [("opened", ""), ("plan", "")]


async def test_what_changes_nothing_is_not_entered(tmp_path: Path) -> None:
    world = World(tmp_path, "a")
    world.wanted = NEW
    world.on("a", (asks("facts"), said(**FACTS | {"running": NEW, "profile": NEW, "boot_default": NEW})))
    assert await world.execute() == 0
    assert world.outcomes == {"a": Outcome.UNCHANGED}
    assert world.state.ledger.noted() is None


async def test_ledger_that_cannot_be_written_stops_a_deployment_before_its_first_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> Head:
        raise StateError("this machine cannot record what it does: No space left on device")

    monkeypatch.setattr(StoredLedger, "enter", full)
    world = World(tmp_path, "a", "b")
    assert await world.execute() != 0
    assert world.end.error is not None
    assert "No space left" in world.end.error.message
    assert world.outcomes == {"a": Outcome.SKIPPED, "b": Outcome.SKIPPED}
    assert not any(
        asks("root")(command) or asks("begin")(command) for link in world.links.values() for command in link.ran
    )


def going_back(tmp_path: Path) -> World:
    """A host that goes back to what ran before."""
    world = World(tmp_path, "a", verb="rollback", back_to=str(NEW))
    platform = said(platform="x86_64-linux", part_kernel="/nix/store/k2")
    world.on("a", (lambda command: "readlink" in str(command), platform), (runs("xargs"), Output(status=0)))
    world.on("a", (asks("look"), said(state="switched", running=NEW)))
    return world


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """Another process that will not let go of the database."""
    (tmp_path / "state").mkdir(mode=0o700)
    with closing(sqlite3.connect(tmp_path / "state" / "state.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield other


@in_files
async def test_way_back_waits_for_no_database_and_is_entered_later(tmp_path: Path, locked: sqlite3.Connection) -> None:
    world = going_back(tmp_path)
    done: list[float] = []

    def let_go() -> None:
        done.append(time.monotonic())
        locked.execute("ROLLBACK")

    world.acts[HostFinished] = let_go
    began = time.monotonic()
    assert await world.execute() == 0
    assert done
    assert done[0] - began < 15  # a locked database is waited for 30 s, each time
    assert world.began() == ["a"]
    async with world.fleet() as fleet:
        report = await fleet.ledger.verify()
    assert (report.is_good, report.waiting) == (True, 0)
    assert kinds(world) == [("opened", ""), ("plan", ""), ("begin", ""), ("commit", "a"), ("end", "")]
    assert "late" in bodies(world)[2]


@in_files
async def test_break_glass_waits_for_no_database_either(
    tmp_path: Path, home: object, locked: sqlite3.Connection
) -> None:
    write(tmp_path, f'[approval]\nbreak_glass = ["ann"]\n[[windows]]\nname = "never"\nhosts = "*"\n{NEVER}')
    world = World(tmp_path, "a", copy_with="nix")
    done: list[float] = []
    began = time.monotonic()
    async with world.fleet() as fleet:
        plan = await fleet.plan_as(world.hosts, world.options)
        run = fleet.apply(plan, plea=Plea(break_glass="the shop is down"))
        async for event in run:
            if isinstance(event, HostFinished) and not done:
                done.append(time.monotonic())
                locked.execute("ROLLBACK")
        assert (await run).exit_code == 0
        assert done[0] - began < 20  # a locked database is waited for 30 s, each time
        report = await fleet.ledger.verify()
    assert report.is_good
    assert kinds(world) == [
        ("opened", ""),
        ("break_glass", ""),
        ("plan", ""),
        ("begin", ""),
        ("commit", "a"),
        ("end", ""),
    ]


async def test_way_back_has_a_witness_too(tmp_path: Path) -> None:
    world = going_back(tmp_path)

    def entered(_: object) -> Any:
        until(lambda: world.state.ledger.noted() is not None)
        return said(done="yes")

    world.on("a", (asks("root"), entered))
    await world.execute()
    (head,) = heads(world, "a")
    assert Head.parse(head).hash == bodies(world)[2]["hash"]
    assert (bodies(world)[2]["kind"], bodies(world)[2]["verb"]) == ("begin", "rollback")


async def test_run_of_many_hosts_is_entered_in_parts_that_are_not_too_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fleet.library.entering.NAMES", 2)
    world = World(tmp_path, "a", "b", "c")
    await world.execute()
    assert [body["hosts"] for body in bodies(world) if body["kind"] == "begin"] == [["a", "b"], ["c"]]
    assert [Head.parse(head).size for head in heads(world, "a")] == [4]


def test_ledger_is_shown_verified_and_exported(tmp_path: Path, command_line: CommandLine) -> None:
    world = World(tmp_path, "a", "b")
    assert deploy(world, command_line, "--all", "--intent", "update\x1b[2J nginx") == 0
    shown = command_line(world, "ledger", "show")
    header, *rows = shown.out.splitlines()
    assert header.split() == ["entry", "when", "what", "by", "run", "host", "more"]
    assert [row.split()[3] for row in rows] == ["end", "commit", "commit", "begin", "plan", "opened"]
    assert "exit code 0" in rows[0]
    assert "a, b; update nginx" in rows[3]
    assert "\x1b" not in shown.out
    two = command_line(world, "ledger", "show", "-n", "2")
    assert len(two.out.splitlines()) == 3
    assert two.err == "and 4 before these: --lines 6 shows all\n"
    assert shown.err == ""
    verified = command_line(world, "ledger", "verify")
    head = world.state.ledger.noted()
    assert head is not None
    assert (verified.code, verified.out) == (0, f"ledger {head.ledger}: 6 entries, head {head.hash}\n")
    exported = command_line(world, "ledger", "export").out
    assert exported.splitlines() == ledger_lines(world)
    assert command_line(world, "ledger", "export", "--json").out == exported
    file = tmp_path / "ledger.jsonl"
    assert command_line(world, "ledger", "export", "-o", str(file)).code == 0
    assert file.read_text() == exported
    assert command_line(world, "ledger", "verify", str(file)).out == verified.out
    document = json.loads(command_line(world, "ledger", "show", "--json", "-n", "1").out)
    assert (document["ledger"], document["size"], document["head"]) == tuple(head)
    assert [one["kind"] for one in document["entries"]] == ["end"]


def test_fleet_without_a_ledger_says_so(tmp_path: Path, command_line: CommandLine) -> None:
    world = World(tmp_path, "a")
    assert "no ledger yet" in command_line(world, "ledger", "show").err
    assert "no ledger yet" in command_line(world, "ledger", "verify").out
    assert command_line(world, "ledger", "verify").code == 0
    assert command_line(world, "ledger", "export").out == ""
    assert json.loads(command_line(world, "ledger", "verify", "--json").out)["ledger"] is None
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(
    ("statements", "says"),
    [
        (["UPDATE ledger SET line = replace(line, 'commit', 'revert') WHERE entry = 4"], "entry 4 is wrong (changed)"),
        (["DELETE FROM ledger WHERE entry = 3"], "entry 3 is wrong (missing)"),
        (["DELETE FROM ledger WHERE entry > 4"], "entry 5 is wrong (cut)"),
        (["DELETE FROM ledger"], "entry 1 is wrong (cut)"),
        (
            [f"UPDATE ledger SET entry = {to} WHERE entry = {of}" for of, to in ((4, 0), (5, 4), (0, 5))],
            "entry 4 is wrong (misplaced)",
        ),
    ],
)
def test_first_wrong_entry_is_named(
    tmp_path: Path, command_line: CommandLine, statements: list[str], says: str
) -> None:
    world = World(tmp_path, "a", "b")
    deploy(world, command_line, "--all")
    in_database(tmp_path / "state", *((statement, ()) for statement in statements))
    told = command_line(world, "ledger", "verify")
    assert (told.code, told.out.splitlines()[0].startswith(says)) == (1, True), told.out
    wrong = json.loads(command_line(world, "ledger", "verify", "--json").out)["wrong"]
    assert says == f"entry {wrong['entry']} is wrong ({wrong['how']})"


def test_whole_rewrite_and_a_cut_with_all_its_traces_are_named_by_hosts_and_plans(
    tmp_path: Path, command_line: CommandLine
) -> None:
    world = World(tmp_path, "a", "b")
    deploy(world, command_line, "a")
    plan = tmp_path / "x.plan"
    write_plan(builders.plan(("a",), ledger=str(world.state.ledger.noted())), plan)
    deploy(world, command_line, "b")
    runs = [body["run"] for body in bodies(world) if body["kind"] == "begin"]
    ((first,), (second,)) = heads(world, "a"), heads(world, "b")
    remembers(world, "a", (runs[0], first), more=("no entry",))
    remembers(world, "b", (runs[1], second), ("20261120T042211-ffffff", "-"), ("20261120T042211-eeeeee", "nonsense"))
    good = command_line(world, "ledger", "verify", "--hosts", "a,b", "--plan", str(plan))
    assert (good.code, good.out.splitlines()[0]) == (
        0,
        f"a, a plan that is kept here, b, plan {plan}: agree, by 4 heads",
    )
    lines = ledger_lines(world)
    before = world.state.ledger.noted()
    assert before is not None

    in_database(tmp_path / "state", ("DELETE FROM plans", ()))  # which have seen it too
    spoilt = rewritten(lines, 4, by="bob")
    replace_lines(tmp_path / "state", spoilt, Head(before.ledger, len(spoilt), json.loads(spoilt[-1])["hash"]))
    assert command_line(world, "ledger", "verify").code == 0  # by itself it cannot be told from a right one
    told = command_line(world, "ledger", "verify", "--hosts", "a", "--hosts", "b")
    assert (told.code, "entry 4 is wrong (rewritten): b has seen another entry 7" in told.out) == (1, True), told.out
    assert f"b: has another head: 7 entries, {Head.parse(second).hash}, with run {runs[1]}" in told.out
    told = command_line(world, "ledger", "verify", "--plan", str(plan))
    assert (told.code, f"plan {plan} has seen another entry 5" in told.out) == (1, True), told.out

    replace_lines(tmp_path / "state", lines[:5], Head(before.ledger, 5, json.loads(lines[4])["hash"]))
    assert command_line(world, "ledger", "verify").code == 0
    told = command_line(world, "ledger", "verify", "--hosts", "a,b")
    assert (told.code, "entry 6 is wrong (cut): b has seen 7 entries" in told.out) == (1, True), told.out

    spoilt = rewritten(lines, 1, ledger=OTHER_ID)
    replace_lines(tmp_path / "state", spoilt, Head(OTHER_ID, len(spoilt), json.loads(spoilt[-1])["hash"]))
    told = command_line(world, "ledger", "verify", "--hosts", "a,b")
    assert (told.code, "entry 1 is wrong (rewritten): a has run" in told.out) == (1, True), told.out

    anew = lines_of([entry(Kind.OPENED, ledger=OTHER_ID)])  # that tells nothing of the runs that this machine remembers
    replace_lines(tmp_path / "state", anew, head_of(anew, ledger=OTHER_ID))
    told = command_line(world, "ledger", "verify", "--hosts", "a,b")
    assert (told.code, "entry 1 is wrong (rewritten): a has run" in told.out) == (1, True), told.out


@in_files
def test_machines_without_a_shared_store_have_two_ledgers_and_neither_cries_rewrite(
    tmp_path: Path, command_line: CommandLine
) -> None:
    worlds, told = [], []
    for name in ("desk", "laptop"):
        (tmp_path / name).mkdir()
        world = World(tmp_path / name, "a")
        worlds.append(world)
        deploy(world, command_line, "a")
        told.append((bodies(world)[2]["run"], *heads(world, "a")))
    for number, world in enumerate(worlds):
        remembers(world, "a", *told)
        found = json.loads(command_line(world, "ledger", "verify", "--hosts", "a", "--json").out)
        other = Head.parse(told[1 - number][1]).ledger
        assert (found["good"], found["agreeing"], found["others"]) == (True, {"a": 1}, {other: 1})


def test_host_that_cannot_be_asked_is_not_taken_for_one_that_agrees(tmp_path: Path, command_line: CommandLine) -> None:
    world = World(tmp_path, "a")
    deploy(world, command_line, "a")
    world.on("a", (asks("history"), UnreachableError(HostName("a"), "no connection: gone")))
    told = command_line(world, "ledger", "verify", "--hosts", "a")
    assert (told.code, "error: a: no connection: gone" in told.err) == (1, True)


def test_run_that_never_ended_is_named_until_it_is_resumed(tmp_path: Path, command_line: CommandLine) -> None:
    """As after `kill -9` between the intent and the result."""
    world = World(tmp_path, "a", "b")
    deploy(world, command_line, "--all")
    run = bodies(world)[2]["run"]
    in_database(tmp_path / "state", ("DELETE FROM events WHERE kind = 'run_finished'", ()))
    in_database(tmp_path / "state", ("DELETE FROM events WHERE kind = 'host_finished' AND host = 'b'", ()))
    lines = ledger_lines(world)[:3]  # of a host the result is remembered, and was not entered, as on a full disk
    kept = Head(json.loads(lines[0])["ledger"], len(lines), json.loads(lines[-1])["hash"])
    replace_lines(tmp_path / "state", lines, kept)
    told = command_line(world, "ledger", "verify")
    says = f"entry 3: run {run} has begun, and nothing says how it ended on a, b: fleet resume {run}"
    assert (told.code, told.out.splitlines()[0]) == (1, says)
    found = json.loads(command_line(world, "ledger", "verify", "--json").out)
    assert found["unfinished"] == [{"run": run, "entry": 3, "hosts": ["a", "b"]}]
    with world.state.hold(run):
        told = command_line(world, "ledger", "verify")
        assert (told.code, told.out.splitlines()[0]) == (
            0,
            f"run {run} is under way: nothing says how it ended on a, b yet",
        )
    done = said(running=NEW, last_run=run, last_state="committed", last_new=NEW, last_old=OLD)
    for name in ("a", "b"):
        world.on(name, (asks("facts"), done), (asks("watch"), said(state="committed", running=NEW)))
    command_line(world, "resume", run)
    assert kinds(world)[-1] == ("end", "")
    assert sorted(kinds(world)[3:]) == [("commit", "a"), ("commit", "b"), ("end", "")]
    assert command_line(world, "ledger", "verify").code == 0


async def test_reboot_is_entered_and_commits_nothing(tmp_path: Path) -> None:
    world = Rebooted(tmp_path, "a")
    async with world.fleet() as fleet:
        await fleet.reboot("a")
    assert kinds(world) == [("opened", ""), ("begin", ""), ("result", "a"), ("end", "")]
    assert (bodies(world)[1]["verb"], bodies(world)[2]["outcome"]) == ("reboot", "kept")


async def test_other_rooms_enter_with_one_call(tmp_path: Path) -> None:
    world = World(tmp_path, "a")
    async with world.fleet() as fleet:
        head = await fleet.ledger.enter(Kind.APPROVAL, plan="a" * 64, key="SHA256:x")
        assert await fleet.ledger.enter(Kind.BREAK_GLASS, waits=False, host="a", why="fire") is None
        entries = await fleet.ledger.entries()
    assert (head, kinds(world)) == (
        Head(bodies(world)[0]["ledger"], 2, bodies(world)[1]["hash"]),
        [("opened", ""), ("approval", ""), ("break_glass", "a")],
    )
    assert len(entries) == 3
    assert {body["by"] for body in bodies(world)} == {"ann"}


def test_what_somebody_has_put_into_the_ledger_does_not_reach_the_terminal_as_it_is(
    tmp_path: Path, command_line: CommandLine
) -> None:
    world = World(tmp_path, "a")
    world.state.ledger.enter(entry(Kind.APPROVAL, plan="x"))
    lines = ledger_lines(world)
    spoilt = rewritten([*lines, lines[-1]], 3, entry=3, kind="begin\x1b[2J", run="r\x1b[2J", by="\x1b]0;x", why="\x07")
    spoilt += rewritten([*spoilt, lines[-1]], 4, entry=4, kind="begin", run="r\x07", hosts=["\x07"])[3:]
    replace_lines(tmp_path / "state", [*spoilt, "\x1b[2J"], Head(json.loads(lines[0])["ledger"], 5, "0" * 64))
    for arguments in (["show"], ["verify"]):
        told = command_line(world, "ledger", *arguments)
        assert not set("\x1b\x07") & set(told.out + told.err), told.out
    assert "run r has begun, and nothing says" in command_line(world, "ledger", "verify").out


async def test_drift_that_is_accepted_is_entered_before_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def read(*_: object, **__: object) -> DriftReport:
        seen = drifts.said(f"file\t{drifts.entry('/etc/a')}")
        return dataclasses.replace(drifts.report(seen), found=Baseline.of(judge.undeclared(seen), 7.0))

    monkeypatch.setattr("fleet.library.drifting.read_drift", read)
    world = World(tmp_path, "a")
    async with world.fleet() as fleet:
        await fleet.drift("a")
        assert kinds(world) == []
        await fleet.drift("a", accept=True)
    assert kinds(world) == [("opened", ""), ("drift_accepted", "a")]
    assert (bodies(world)[1]["count"], "/etc/a" in bodies(world)[1]["what"]) == (3, True)
    in_database(tmp_path / "state", ("DROP TABLE ledger", ()), ("DELETE FROM baselines", ()))
    async with world.fleet() as fleet:
        assert isinstance((await fleet.drift("a", accept=True))[HostName("a")], StateError)
    assert not world.state.has_baseline(HostName("a"))


def test_file_of_entries_that_cannot_be_read_is_told(tmp_path: Path, command_line: CommandLine) -> None:
    world = World(tmp_path, "a")
    world.state.ledger.enter(entry(Kind.APPROVAL, plan="x"))
    world.state.ledger.enter_later(entry(Kind.BREAK_GLASS, host="a"))
    (file,) = (tmp_path / "state" / "late").iterdir()
    file.write_text("{")
    told = command_line(world, "ledger", "verify")
    assert (told.code, f"{file}.unreadable: has entries that cannot be read" in told.out) == (1, True), told.out


@pytest.mark.parametrize(
    "arguments", [("verify", "/nowhere"), ("verify", "--plan", "/nowhere"), ("verify", "--hosts", "x")]
)
def test_what_cannot_be_compared_is_refused(
    tmp_path: Path, command_line: CommandLine, arguments: tuple[str, ...]
) -> None:
    told = command_line(World(tmp_path, "a"), "ledger", *arguments)
    assert (told.code, told.err.startswith("error: ")) == (2, True), told.err
