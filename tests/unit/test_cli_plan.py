"""`fleet plan -o`, `fleet show` and `fleet apply`: plans in files."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from fleet.inventory import Check
from fleet.library.plans import read_plan
from fleet.machine import Output
from fleet.model import HostName
from tests.fakes import asks, runs, said
from tests.unit.builders import NEW
from tests.unit.world import ENTRY, Applying

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.conftest import CommandLine, Terminal

A = HostName("a")
OK = Check.model_validate({"name": "ok", "command": "ok"})


def test_plan_in_a_file_is_applied(tmp_path: Path, command_line: CommandLine) -> None:
    world = Applying(tmp_path, "a")
    world.plan(("a",))
    told = command_line(world, "apply", str(tmp_path / "update.plan"), "--json")
    events = [json.loads(line) for line in told.out.splitlines()]
    assert (told.code, events[-1]["hosts"][0]["outcome"], events[0]["verb"]) == (0, "kept", "deploy")


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (lambda text: text.replace("settle 0\n", "settle 1\n"), "its part is not the one that the plan was made with"),
        (lambda text: text.replace("risk no", "risk maybe"), "part 1: line 18: risk"),
        (lambda text: text.replace("at_once 16", "at_once lots"), "line 11: at_once"),
        (lambda text: text.replace("max_failures 0", "max_failures 9"), "was edited or cut"),
        (lambda text: text[: len(text) // 2], "was cut"),
        (lambda text: text + "more\n", ""),
        (lambda _: "", "line 1: found ''"),
        (lambda text: text.replace("by ann", "by änn"), "is not ASCII"),
    ],
)
@pytest.mark.parametrize("verb", ["apply", "show"])
def test_file_that_was_edited_is_exit_2(
    tmp_path: Path, command_line: CommandLine, verb: str, edit: Any, told: str
) -> None:
    world = Applying(tmp_path, "a")
    world.plan(("a",))
    file = tmp_path / "update.plan"
    file.write_text(edit(file.read_text()), encoding="utf-8")
    said = command_line(world, verb, str(file))
    assert (said.code, told in said.err, "Traceback" in said.err, world.links[A].ran) == (2, True, False, [])


@pytest.mark.parametrize("arguments", [("apply",), ("apply", "--json"), ("show",)])
def test_file_that_is_not_there_is_exit_2(
    tmp_path: Path, command_line: CommandLine, arguments: tuple[str, ...]
) -> None:
    said = command_line(Applying(tmp_path, "a"), *arguments, str(tmp_path / "nowhere.plan"))
    assert (said.code, "nowhere.plan: cannot be read: No such file" in said.err) == (2, True)
    assert ("run_finished" in said.out) is ("--json" in arguments)


def test_plan_that_has_expired_is_exit_2(tmp_path: Path, command_line: CommandLine) -> None:
    world = Applying(tmp_path, "a")
    world.plan(("a",), expires=1)
    said = command_line(world, "apply", str(tmp_path / "update.plan"))
    assert (said.code, "the plan expired at" in said.err, world.links[A].ran) == (2, True, [])


def test_host_that_has_changed_is_exit_1(tmp_path: Path, command_line: CommandLine) -> None:
    world = Applying(tmp_path, "a")
    world.plan(("a",))
    world.has_changed("a", serial="42-b")
    world.on("a", (asks("history"), said(history=[ENTRY])))
    told = command_line(world, "apply", str(tmp_path / "update.plan"))
    assert (told.code, "r9 of bob from train" in told.out, world.began()) == (1, True, [])


def test_several_hosts_and_nobody_to_ask_is_exit_2(tmp_path: Path, command_line: CommandLine) -> None:
    world = Applying(tmp_path, "a", "b")
    world.plan(("a", "b"))
    file = str(tmp_path / "update.plan")
    said = command_line(world, "apply", file)
    assert (said.code, "2 hosts would be changed" in said.err, world.links[A].ran) == (2, True, [])
    assert command_line(world, "apply", file, "b").code == 0
    assert command_line(world, "apply", file, "a", "--yes").code == 0


def test_file_of_a_plan_is_for_its_user_alone(tmp_path: Path) -> None:
    Applying(tmp_path, "a").plan(("a",))
    assert (tmp_path / "update.plan").stat().st_mode & 0o777 == 0o600


def test_show_tells_all_of_it_and_asks_no_host(tmp_path: Path, command_line: CommandLine) -> None:
    world = Applying(tmp_path, "a", "b")
    watched = world.part("a", checks=(OK,), watch=600.0)
    plan = world.plan(("a",), ("b",), parts={"a": watched}, intent="grün, at last", max_failures=1)
    told = command_line(world, "show", str(tmp_path / "update.plan"))
    assert told.code == 0
    told_of = (
        "goal:    switch, watched for 10m",
        "checks:  ok on a; none but systemd and a new login on b",
        "16 at once, stops when 2 hosts ended badly",
    )
    for words in (plan.digest, "grün, at last", "planned by ann", "wave 1: a", "wave 2: b", *told_of):
        assert words in told.out
    document = json.loads(command_line(world, "show", str(tmp_path / "update.plan"), "--json").out)
    assert (document["plan"], document["waves"], document["intent"]) == (plan.digest, [["a"], ["b"]], "grün, at last")
    assert document["parts"] == {name: one.text for name, one in plan.parts.items()}
    assert [link.ran for link in world.links.values()] == [[], []]


def test_plan_is_written_to_a_file_and_applied_from_there(tmp_path: Path, command_line: CommandLine) -> None:
    world = Applying(tmp_path, "a", more="build_on = 'target'")
    world.wanted = NEW
    world.on("a", (runs("nix-store", "--realise"), Output(status=0)), (runs("sh", "-c"), said(platform="x86_64-linux")))
    file = str(tmp_path / "mine.plan")
    planned = command_line(world, "plan", "-o", file, "--no-eval-cache", "--copy-with", "nix", "--expires", "1h")
    assert (planned.code, world.began(), world.state.runs()) == (0, [], [])
    plan = read_plan(tmp_path / "mine.plan")
    assert (plan.expires - plan.made, [one.digest for one in world.state.plans()]) == (3600, [plan.digest])
    told = command_line(world, "apply", file, "--json")
    assert (told.code, world.began()) == (0, ["a"])


@pytest.mark.parametrize(("typed", "code", "began"), [("y\n", 0, ["a", "b"]), ("n\n", 1, [])])
def test_apply_asks_as_deploy_does(
    tmp_path: Path, command_line: CommandLine, terminal: Terminal, typed: str, code: int, began: list[str]
) -> None:
    world = Applying(tmp_path, "a", "b")
    plan = world.plan(("a",), ("b",))
    terminal.answer(typed)
    told = command_line(world, "apply", str(tmp_path / "update.plan"))
    assert (told.code, world.began()) == (code, began)
    assert told.err.count("Change 2 hosts? [y/N]: ") == 1
    assert plan.digest in told.err
