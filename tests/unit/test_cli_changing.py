"""What a changing command hands to its run, and tells beside it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
from typing import TYPE_CHECKING, Any

import pytest

from fleet.cli import changing
from fleet.errors import INTERRUPTED
from fleet.events import Envelopes, HostPlanned, PhaseStarted, RunFinished, RunStarted
from fleet.machine import Output
from fleet.model import Closure, Goal, HostName, Phase, RunId
from fleet.output import Display
from tests.fakes import Answers, Says, asked, asks, said
from tests.unit.builders import NEW, OLD
from tests.unit.world import COMPARING, FACTS, Applying, FullState, World

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from fleet.events import Envelope
    from fleet.machine import Command
    from tests.unit.conftest import CommandLine, Terminal

A = HostName("a")
LOOK = (lambda command: "readlink" in str(command), said(platform="x86_64-linux"))
FLAGS = ("--no-eval-cache", "--copy-with", "nix")


def begun(world: World, run: str, phase: Phase = Phase.SWITCH, **asked: Any) -> None:
    """This machine remembers a run of host a, whose controller was lost in this phase."""
    new = Closure(str(world.closure))
    planned = HostPlanned(
        host=A, action="switch", closure=new, running=OLD, wave=1, missing_paths=0, missing_bytes=0, reboot=()
    )
    started = RunStarted(**{"run": RunId(run), "goal": Goal.SWITCH, "hosts": (A,), **asked})
    envelopes = Envelopes(RunId(run), "ann")
    with world.state.hold(RunId(run)), world.state.recorder(RunId(run)) as recorder:
        for event in (started, planned, PhaseStarted(host=A, phase=phase)):
            recorder.record(envelopes.wrap(event))


def words(world: World) -> list[str]:
    """Which words the hosts were left."""
    return [word.split()[0] for link in world.links.values() for _, word, *_ in asked("word", link.ran)]


def going_back(tmp_path: Path) -> World:
    """A host that has something to go back to."""
    world = World(tmp_path, "a")
    world.on("a", LOOK)
    return world


@pytest.mark.parametrize("flags", [(), ("--json",)])
@pytest.mark.parametrize("is_full", [False, True])
def test_record_that_cannot_be_written_is_told_of(
    tmp_path: Path, command_line: CommandLine, flags: tuple[str, ...], *, is_full: bool
) -> None:
    world = World(tmp_path, "a")
    begun(world, "r", verb="deploy")
    if is_full:
        world.state = FullState(tmp_path / "state")
    told = command_line(world, "resume", *flags)
    assert (told.code, words(world)) == (0, ["confirm"])
    assert ("warning: this machine cannot record what it does: No space left" in told.err) is is_full


@pytest.mark.parametrize("flags", [(), ("--json",)])
def test_what_cannot_be_recorded_is_not_begun(
    tmp_path: Path, command_line: CommandLine, flags: tuple[str, ...]
) -> None:
    world = World(tmp_path, "a")
    world.state = FullState(tmp_path / "state")
    told = command_line(world, "deploy", "a", *FLAGS, *flags)
    assert (told.code, world.began()) == (2, [])
    assert "No space left on device" in told.out


def interrupting(answer: Says) -> Answers:
    """Answers after somebody has pressed Ctrl-C."""

    def answered(_: Command) -> Says:
        os.kill(os.getpid(), signal.SIGINT)
        return answer

    return answered


@pytest.mark.parametrize("code", [0, INTERRUPTED])
def test_plan_that_was_interrupted_is_not_taken_for_a_whole_one(
    tmp_path: Path, command_line: CommandLine, code: int
) -> None:
    world = World(tmp_path, "a")
    if code == INTERRUPTED:
        world.on("a", (asks("facts"), interrupting(Says(seconds=60))))
    told = command_line(world, "plan", "--no-eval-cache", "-o", str(tmp_path / "a.plan"))
    assert told.code == code
    assert ("not complete" in told.err) is (code == INTERRUPTED)
    assert (tmp_path / "a.plan").exists() is (code == 0)


def test_run_is_taken_up_with_what_was_asked_for(tmp_path: Path, command_line: CommandLine) -> None:
    world = World(tmp_path, "a")
    begun(world, "r", verb="rollback", goal=Goal.TEST, watch=0.25, strict=True)
    told = command_line(world, "resume", "--json")
    started = json.loads(told.out.splitlines()[0])
    taken_up = {key: started[key] for key in ("run", "verb", "goal", "watch", "strict", "hosts")}
    assert taken_up == {"run": "r", "verb": "resume", "goal": "test", "watch": 0.25, "strict": True, "hosts": ["a"]}


def test_run_that_cannot_be_read_is_named_and_its_hosts_are_asked(
    tmp_path: Path, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, "a", more="[hosts.b]\nsudo = 'password'")
    monkeypatch.setenv("FLEET_SUDO_PASSWORD", "secret")
    with world.state.hold(RunId("r")) as folder:
        (folder / "events.jsonl").write_bytes(b"\0\377\n\0")
    assert "cannot be read: fleet resume r" in command_line(world, "runs").out
    begun(world, "s", Phase.PUSH, verb="deploy")
    with world.state.hold(RunId("s")):  # by a process that is alive
        assert "under way" in command_line(world, "runs").out
        told = json.loads(command_line(world, "runs", "--json").out)["runs"]
        assert [(one["run"], one["under_way"], one["open"]) for one in told] == [
            ("s", True, False),
            ("r", False, False),
        ]
        held = {"open_run": "r", "open_state": "switched", "open_new": NEW, "open_old": OLD}
        world.on("a", (asks("facts"), said(running=NEW, **held)))
        told = command_line(world, "resume", "--json")
    assert json.loads(told.out.splitlines()[0])["hosts"] == ["a"]
    assert [bool(link.ran) for link in world.links.values()] == [True, True]
    assert list(world.given[-1].sudo_passwords) == ["b"]


@pytest.mark.parametrize("words", [("deploy", "--no-eval-cache"), ("push", "--no-eval-cache"), ("rollback",)])
def test_all_commands_push_by_the_same_engine(
    tmp_path: Path, command_line: CommandLine, words: tuple[str, ...]
) -> None:
    world = going_back(tmp_path)
    command_line(world, *words, "a")
    (kept,) = world.state.plans()
    assert "\ncopy_with serve\n" in world.state.plan(kept.digest)


def test_intent_is_kept_with_the_plan(tmp_path: Path, command_line: CommandLine) -> None:
    world = going_back(tmp_path)
    command_line(world, "rollback", "a", "--intent", "  it\nis slow ")
    (kept,) = world.state.plans()
    assert "\nintent it is slow\n" in world.state.plan(kept.digest)


@pytest.mark.parametrize(
    ("typed", "code", "began"),
    [
        (("y\n",), 0, ["a", "b"]),
        (("what\n", "YES\n"), 0, ["a", "b"]),
        (("n\n",), 1, []),
        (("\n",), 1, []),
        (("\x04",), 1, []),
    ],
)
def test_several_hosts_are_changed_when_somebody_says_so(
    tmp_path: Path, command_line: CommandLine, terminal: Terminal, typed: tuple[str], code: int, began: list[str]
) -> None:
    world = World(tmp_path, "a", "b")
    terminal.answer(*typed)
    told = command_line(world, "deploy", "--all", *FLAGS)
    assert (told.code, world.began()) == (code, began)
    assert told.err.count("Change 2 hosts? [y/N]: ") == len(typed)
    if code == 1:
        assert (told.out, told.err.endswith("Nothing was changed.\n")) == ("", True)
    else:
        assert "2 kept" in told.out


@pytest.mark.parametrize("command", ["deploy", "rollback"])
def test_what_was_typed_before_the_question_is_no_answer(
    tmp_path: Path, command_line: CommandLine, terminal: Terminal, command: str
) -> None:
    world = going_back(tmp_path)
    terminal.type("y\ny\n")
    terminal.answer("n\n")
    told = command_line(world, command, "a", "--ask", *(FLAGS if command == "deploy" else ()))
    assert (told.code, world.began(), told.err.count("[y/N]")) == (1, [], 1)


def test_what_was_typed_ahead_of_a_repeated_question_is_no_answer(
    tmp_path: Path, command_line: CommandLine, terminal: Terminal
) -> None:
    world = World(tmp_path, "a", "b")
    terminal.answer("what\ny\n", "n\n")
    told = command_line(world, "deploy", "--all", *FLAGS)
    assert (told.code, world.began(), told.err.count("[y/N]")) == (1, [], 2)


def test_one_host_is_not_asked_for(tmp_path: Path, command_line: CommandLine, terminal: Terminal) -> None:
    world = World(tmp_path, "a", "b")
    told = command_line(world, "deploy", "a", *FLAGS)
    assert (told.code, "Change" in told.err) == (0, False)


@pytest.mark.parametrize(("typed", "code"), [("y\n", 0), ("n\n", 1)])
@pytest.mark.parametrize("command", ["deploy", "push"])
def test_one_host_is_asked_for_if_somebody_wants_that(
    tmp_path: Path, command_line: CommandLine, terminal: Terminal, command: str, typed: str, code: int
) -> None:
    world = World(tmp_path, "a")
    terminal.answer(typed)
    told = command_line(world, command, "a", "--ask", *FLAGS)
    assert (told.code, told.err.count("Change 1 host? [y/N]")) == (code, 1)


def system(*paths: str, **units: str) -> Output:
    """What a system consists of, as a machine tells it."""
    sums = [f"{text}  etc/systemd/system/{unit}.service" for unit, text in units.items()]
    lines = ["%paths", *paths, "%sizes", *("100000" for _ in paths), "%sums", *sums]
    return Output(status=0, stdout="".join(f"{line}\n" for line in lines))


@pytest.mark.parametrize("command", ["deploy", "apply"])
def test_what_differs_stands_before_the_question(
    tmp_path: Path, command_line: CommandLine, terminal: Terminal, command: str
) -> None:
    world = Applying(tmp_path, "a", "b")
    for name in world.links:
        world.on(name, (COMPARING, system(f"/nix/store/{'1' * 32}-nginx-1.26", web="1")))
    world.here_too((COMPARING, system(f"/nix/store/{'2' * 32}-nginx-1.28", web="2")))
    terminal.answer("n\n")
    world.plan(("a", "b"))
    asked = ("deploy", "--all", *FLAGS) if command == "deploy" else ("apply", str(tmp_path / "update.plan"))
    told = command_line(world, *asked)
    before = told.err[: told.err.index("Change 2 hosts?")]
    assert re.search(r"^nginx +1\.26 → 1\.28 +a, b$", before, re.MULTILINE)
    assert re.search(r"^a, b: .* → .*\n  units\n    restart +web\.service$", before, re.MULTILINE)


def test_host_that_cannot_be_compared_is_named_and_the_question_comes(
    tmp_path: Path, command_line: CommandLine, terminal: Terminal
) -> None:
    world = World(tmp_path, "a", "b")
    world.on("b", (COMPARING, Output(status=1, stderr="disk trouble\n")))
    terminal.answer("y\n")
    told = command_line(world, "deploy", "--all", *FLAGS)
    assert (told.code, world.began()) == (0, ["a", "b"])
    assert "b: not compared: cannot read" in told.err


def test_yes_and_ask_contradict_each_other(tmp_path: Path, command_line: CommandLine) -> None:
    told = command_line(World(tmp_path, "a"), "deploy", "a", "--ask", "--yes", *FLAGS)
    assert (told.code, "give one of them" in told.err) == (2, True)


def test_a_push_has_no_answer_to_a_question_that_it_does_not_ask(tmp_path: Path, command_line: CommandLine) -> None:
    world = World(tmp_path, "a", "b")
    told = command_line(world, "push", "--all", "--yes")
    assert (told.code, "No such option" in told.err) == (2, True)
    assert command_line(world, "push", "--all", "--no-eval-cache", "--copy-with", "nix").code == 0


def test_nothing_to_do_is_not_asked(tmp_path: Path, command_line: CommandLine, terminal: Terminal) -> None:
    world = World(tmp_path, "a", "b")
    world.wanted = NEW
    for name in world.links:
        world.on(name, (asks("facts"), said(**FACTS | dict.fromkeys(("running", "profile", "boot_default"), NEW))))
    told = command_line(world, "deploy", "--all", *FLAGS)
    assert (told.code, "Change" in told.err) == (0, False)


@pytest.mark.parametrize("command", [("status",), ("health",), ("generations",), ("plan", *FLAGS), ("build",)])
def test_commands_that_look_take_all_too(tmp_path: Path, command_line: CommandLine, command: tuple[str, ...]) -> None:
    world = World(tmp_path, "a", "b")
    told = command_line(world, *command, "--all")
    assert (told.code, "a" in told.out, "b" in told.out) == (0, True, True)
    told = command_line(world, *command, "--all", "a")
    assert (told.code, "--all and a selector" in told.err) == (2, True)


async def test_whoever_looks_is_told_which_hosts_have_not_answered(tmp_path: Path) -> None:
    world, told = World(tmp_path, "a", "b", "c"), list[tuple[str, ...]]()
    world.links[HostName("b")].is_lost = True
    answers = await world.fleet().status(on_wait=lambda left: told.append(tuple(left)))
    assert list(answers) == ["a", "b", "c"]
    assert told[0] == ("a", "b", "c")
    assert sorted(map(len, told), reverse=True) == [3, 2, 1, 0]


async def test_planning_knows_whom_it_contacts(tmp_path: Path) -> None:
    world = World(tmp_path, "a", "b")
    seen: list[tuple[str, ...]] = []

    def answer(_: Command) -> Output:
        seen.append(planning.contacted)
        return said(**FACTS)

    world.on("b", (asks("facts"), answer))
    async with world.fleet() as fleet:
        planning = fleet.plan_as(world.hosts, world.options)
        await planning
    assert "b" in seen[0]
    assert planning.contacted == ()


async def test_what_takes_long_after_the_end_of_a_run_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changing, "QUIET", 0.01)
    told: list[str] = []
    envelope = Envelopes(RunId("r"), "ann").wrap(RunFinished(run=RunId("r"), exit_code=0, error=None, hosts=()))

    class Ended:
        contacted = ()
        seconds = 0.0

        async def envelopes(self) -> AsyncIterator[Envelope]:
            yield envelope
            await asyncio.sleep(self.seconds)

    work = Ended()
    await changing.follow(work, Display(say=told.append))  # type: ignore[arg-type]
    await asyncio.sleep(0.05)
    assert told == []
    work.seconds = 0.2
    await changing.follow(work, Display(say=told.append))  # type: ignore[arg-type]
    assert told == [changing.LEFT]
