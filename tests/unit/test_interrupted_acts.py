"""What is said of acts without a run that are interrupted, or lost, when they have begun."""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING

import pytest

from fleet.errors import FleetError, LockedError, UnreachableError
from fleet.host import garbage
from fleet.host.garbage import Freed
from fleet.machine import Output
from fleet.model import HostName, Verb
from fleet.state import Tidied
from fleet.steps.garbage import free
from tests.fakes import FakeLink, Says, asks, runs, said
from tests.unit.builders import host
from tests.unit.state_builders import run_id
from tests.unit.test_state_store import delivery
from tests.unit.test_state_tidy import builds
from tests.unit.world import YES, Applying, World

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fleet.machine import Command
    from tests.fakes import Answer, Answers, Fits
    from tests.unit.conftest import CommandLine

A = HostName("a")
SECRET = '[hosts.a.secrets.token]\ncommand = ["give"]\n'
GIVES = (runs("env"), Output(status=0, stdout="Z29vZA==\n"))
FOUND = garbage.Garbage(keep=1, goes=(garbage.Goes(number=3, closure="/nix/store/x"),))  # type: ignore[arg-type]


def ctrl_c(_: Command) -> Answer:
    """Somebody presses Ctrl-C, and the command goes on."""
    os.kill(os.getpid(), signal.SIGINT)
    return Says(seconds=600)


# --- secrets ---


def with_secret(tmp_path: Path, puts: Callable[[Command], Answer] | Answer) -> World:
    world = World(tmp_path, "a", more=SECRET)
    world.here_too(GIVES)
    world.on("a", (asks("secrets"), puts))
    return world


def test_push_of_secrets_that_has_begun_is_not_told_as_nothing(tmp_path: Path, command_line: CommandLine) -> None:
    shown = command_line(with_secret(tmp_path, ctrl_c), "secrets", "push", "a")
    assert shown.code == 130
    assert "interrupted: secrets may have been written: fleet secrets status tells" in shown.err
    assert "before anything" not in shown.err


def test_push_of_secrets_that_has_not_begun_is_told_as_nothing(tmp_path: Path, command_line: CommandLine) -> None:
    world = with_secret(tmp_path, said())
    world.on("a", (asks("facts"), ctrl_c))
    shown = command_line(world, "secrets", "push", "a")
    assert (shown.code, "interrupted before anything was written" in shown.err) == (130, True)


def test_push_of_secrets_that_is_lost_has_the_same_hint(tmp_path: Path, command_line: CommandLine) -> None:
    shown = command_line(with_secret(tmp_path, UnreachableError(A, "connection lost")), "secrets", "push", "a")
    assert (shown.code, "its secrets may have been written: fleet secrets status" in shown.err) == (1, True)


# --- garbage ---


async def freed(link: FakeLink) -> Freed:
    return await free(link, link.host, FOUND, on_count=lambda _: None)


async def test_generations_that_went_are_told_though_a_deployment_came_next() -> None:
    locked = said(refused="locked", message="run R is pushing to this host")
    link = FakeLink(host("a"), (asks("prune"), said(deleted=[3])), (asks("collect"), locked))
    assert await freed(link) == Freed(generations=(3,), stopped="deployment")


async def test_host_that_was_locked_before_anything_went_is_locked() -> None:
    locked = said(refused="locked", message="run R is pushing to this host")
    link = FakeLink(host("a"), (asks("prune"), said()), (asks("collect"), locked))
    with pytest.raises(LockedError):
        await freed(link)


@pytest.mark.parametrize(
    "ends", [UnreachableError(A, "connection lost", hint="look"), said(refused="broken", message="no menu")]
)
async def test_generations_that_went_are_told_with_the_error_that_came_next(ends: Answer) -> None:
    link = FakeLink(host("a"), (asks("prune"), said(deleted=[3, 2])), (asks("collect"), ends))
    with pytest.raises(FleetError) as caught:
        await freed(link)
    assert caught.value.hint.startswith("generations 3, 2 are deleted")
    assert caught.value.failure().hint == caught.value.hint


def test_local_garbage_that_was_being_deleted_is_not_told_as_nothing(tmp_path: Path, command_line: CommandLine) -> None:
    world = World(tmp_path, "a")
    builds(world.state, *range(100, 103))
    roots = runs("nix-store", "--gc", "--print-roots")
    world.here_too((roots, Output(status=0)), (runs("nix-store", "--gc", "--print-dead"), ctrl_c))
    shown = command_line(world, "gc", "--local", "--keep", "2")
    assert shown.code == 130
    assert "interrupted: what is gone was not needed, and the next fleet gc --local goes on" in shown.err
    assert world.state.tidy(keep=2, dry_run=True) == Tidied()


def test_secrets_that_are_not_in_the_ledger_are_told(
    tmp_path: Path, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = with_secret(tmp_path, said(compared=["token yes"]))
    monkeypatch.setattr(type(world.state.ledger), "enter_later", lambda *_: False)
    shown = command_line(world, "secrets", "push", "a")
    lacks = "warning: the ledger lacks what was done, since it cannot be written: secret_changed"
    assert (shown.code, shown.out, lacks in shown.err) == (0, "a: written: token\n", True)


def test_rollback_that_is_not_in_the_ledger_is_told(
    tmp_path: Path, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = Applying(tmp_path, "a")
    world.plan(("a",), verb=Verb.ROLLBACK)
    monkeypatch.setattr(type(world.state.ledger), "enter_later", lambda *_: False)
    shown = command_line(world, "apply", str(tmp_path / "update.plan"), "--yes")
    assert shown.code == 0, shown.err
    assert "warning: the ledger lacks what was done, since it cannot be written: plan, begin" in shown.err


# --- this machine ---


def local(tmp_path: Path, *rows: tuple[Fits, Answers]) -> World:
    """A build that is over, which alone has rooted two paths; and a delivery that nobody has fetched."""
    world = World(tmp_path, "a")
    builds(world.state, *range(100, 103))
    (world.state.folder(run_id(100)) / "closure").symlink_to(PATHS[0])
    world.state.want([delivery(A, "r1", expires=150.0)])
    two = Output(status=0, stdout="\n".join(PATHS))
    world.here_too(
        *rows,
        (runs("xargs", "-r", "nix-store", "--query", "--size"), Output(status=0, stdout="5\n7\n")),
        (
            runs("xargs", "-r", "nix-store", "--query", "--requisites"),
            lambda one: two if one.stdin else Output(status=0),
        ),
        (runs("nix-store", "--gc", "--print-roots"), Output(status=0)),
        (runs("nix-store", "--gc", "--print-dead"), two),
    )
    return world


PATHS = tuple(f"/nix/store/{letter * 32}-{letter}" for letter in "xy")
VALID = runs("xargs", "-r", "nix-store", "--check-validity")
DELETE = runs("xargs", "-r", "nix-store", "--delete")


def test_path_that_gained_a_root_is_told_with_what_is_gone(tmp_path: Path, command_line: CommandLine) -> None:
    alive = f"error: Cannot delete path '{PATHS[1]}' since it is still alive."
    world = local(
        tmp_path,
        (DELETE, Output(status=123, stderr=f"{alive}\n")),
        (VALID, [YES, YES, Output(status=0, stdout=PATHS[0])]),
    )
    shown = command_line(world, "gc", "--local", "--keep", "2", "--json")
    freed = json.loads(shown.out)["freed"]
    assert (shown.code, freed["builds"], freed["paths"], freed["bytes"]) == (1, [run_id(100)], 1, 5)
    assert freed["note"].startswith("not all that nothing needs any more was deleted: ")
    assert (alive in freed["note"], "warning: not all" in shown.err) == (True, True)


def test_store_that_does_not_answer_any_more_is_told_with_what_is_gone(
    tmp_path: Path, command_line: CommandLine
) -> None:
    world = local(tmp_path, (runs("nix-store", "--gc", "--print-dead"), Output(status=1, stderr="error: no space\n")))
    shown = command_line(world, "gc", "--local", "--keep", "2")
    assert (shown.code, shown.out) == (
        1,
        "gone: 0 runs, 1 build, 0 plans, what waited for 1 host too long; 0 store paths, 0 B\n",
    )
    assert "error: no space" in shown.err


def test_what_waited_too_long_counts_as_garbage_of_this_machine(tmp_path: Path, command_line: CommandLine) -> None:
    shown = command_line(local(tmp_path), "gc", "--local", "--keep", "9", "--dry-run", "--json")
    assert json.loads(shown.out)["deliveries"] == ["a"]
