"""One build for all derivations, and who is left without a closure after a failure."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleet.errors import BuildError, CommandFailedError
from fleet.events import OutputLine
from fleet.machine import Command, Output
from fleet.machine.local import HERE
from fleet.model import Closure, Derivation, HostName
from fleet.steps.build import build
from fleet.steps.evaluate import Evaluated
from tests.fakes import Answer, Events, FakeMachine, runs

DRV = "/nix/store/" + "0" * 32 + "-x.drv"
A, B, C = HostName("a"), HostName("b"), HostName("c")
WANTED = {
    A: Evaluated(Derivation(DRV), Closure("/nix/store/x")),
    B: Evaluated(Derivation(DRV), Closure("/nix/store/x")),
    C: Evaluated(Derivation("/nix/store/c.drv"), Closure("/nix/store/c")),
}
ROOT = Path("/r/closure")
FAILED = Output(status=1, stderr=f"building\nerror: builder for '{DRV}' failed\n")


def store(built: Answer, *missing: str) -> FakeMachine:
    def validity(command: Command) -> Answer:
        asked = command.stdin.decode().split()
        return Output(status=0, stdout="".join(f"{path}\n" for path in asked if path in missing))

    return FakeMachine((runs("nix-store"), built), (runs("xargs"), validity))


async def test_equal_derivations_are_built_once() -> None:
    machine, events = store(Output(status=0, stderr="building x\n")), Events()
    assert await build(machine, WANTED, root=ROOT, emit=events) == {}
    (command,) = machine.ran
    assert command.argv[-2:] == (DRV, "/nix/store/c.drv")
    assert [event.text for event in events.of(OutputLine)] == ["building x"]


async def test_nothing_to_build_asks_nobody() -> None:
    assert await build(FakeMachine(), {}, root=ROOT, emit=Events()) == {}


async def test_hosts_without_a_closure_are_named_and_the_log_is_pointed_to() -> None:
    failed = await build(store(FAILED, "/nix/store/x"), WANTED, root=ROOT, emit=Events())
    assert set(failed) == {A, B}
    assert failed[A].said[-1].startswith("error: builder for")
    assert failed[A].hint == f"the whole log: nix-store --read-log {DRV}"


@pytest.mark.parametrize(
    "said",
    [
        f"error: a 'aarch64-linux' with features {{}} is required to build '{DRV}', but I am a 'x86_64-linux' with …",
        f"error: Cannot build '{DRV}'.\n       Reason: required system or feature not available\n"
        "       Required system: 'aarch64-linux' with features {}\n       Current system: 'x86_64-linux'",
    ],
    ids=["up to 2.29", "since"],
)
async def test_system_that_nothing_here_can_build_for_has_three_ways_out(said: str) -> None:
    failed = await build(store(Output(status=1, stderr=said), "/nix/store/x"), WANTED, root=ROOT, emit=Events())
    for words in ('emulatedSystems = [ "aarch64-linux" ]', "remote builder", 'build_on = "target"'):
        assert words in failed[A].hint


async def test_build_that_was_killed_is_not_told_by_a_number() -> None:
    with pytest.raises(BuildError, match=r"was killed .*out of memory"):
        await build(store(Output(status=137)), WANTED, root=ROOT, emit=Events())


async def test_failure_that_leaves_no_host_without_closure_is_raised() -> None:
    with pytest.raises(BuildError, match="exit status 1"):
        await build(store(FAILED), WANTED, root=ROOT, emit=Events())


async def test_nix_that_is_not_there_is_a_build_error() -> None:
    with pytest.raises(BuildError, match="cannot run nix-store"):
        await build(store(CommandFailedError(HERE, "cannot run nix-store")), WANTED, root=ROOT, emit=Events())
