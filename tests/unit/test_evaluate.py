"""One evaluation for all hosts; after a failure, one for each."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from fleet.errors import CommandFailedError, EvaluationError
from fleet.events import OutputLine
from fleet.machine import Command, Output
from fleet.machine.local import HERE
from fleet.steps.evaluate import evaluate
from tests.fakes import Answer, Events, FakeMachine, Says, runs
from tests.unit.builders import host

if TYPE_CHECKING:
    from fleet.inventory import Host

BROKEN = Says(status=1, stderr=b"warning: dirty\n       at here\nerror: attribute 'x' missing\n       at there\n")


def nix(broken: str = "") -> FakeMachine:
    """A machine whose nix evaluates every host but the one that is broken."""

    def answer(command: Command) -> Answer:
        names = [name for name in ("a", "b", "c") if f'"{name}" = ' in str(command)]
        if broken in names:
            return BROKEN
        found = {name: {"drv": f"/nix/store/{name}.drv", "out": f"/nix/store/{name}"} for name in names}
        return Output(status=0, stdout=json.dumps(found), stderr="evaluating\n")

    return FakeMachine((runs("nix"), answer))


def hosts(*names: str) -> list[Host]:
    return [host(name) for name in names]


async def test_all_hosts_are_evaluated_at_once() -> None:
    machine, events = nix(), Events()
    found = await evaluate(machine, "/f", hosts("a", "b"), emit=events)
    assert {name: (one.derivation, one.closure) for name, one in found.found.items()} == {
        "a": ("/nix/store/a.drv", "/nix/store/a"),
        "b": ("/nix/store/b.drv", "/nix/store/b"),
    }
    assert (found.failed, len(machine.ran)) == ({}, 1)
    assert [event.text for event in events.of(OutputLine)] == ["evaluating"]


async def test_guilty_host_is_named_with_nix_own_message() -> None:
    found = await evaluate(nix("b"), "/f", hosts("a", "b", "c"), emit=Events())
    assert (list(found.found), list(found.failed)) == (["a", "c"], ["b"])
    error = found.failed[host("b").name]
    assert error.message == "b: Nix could not evaluate /f#nixosConfigurations"
    assert error.said == ("error: attribute 'x' missing", "       at there")


async def test_single_host_is_evaluated_once() -> None:
    machine = nix("a")
    found = await evaluate(machine, "/f", hosts("a"), emit=Events())
    assert (list(found.failed), len(machine.ran)) == (["a"], 1)


async def test_failure_of_no_host_in_particular_is_raised() -> None:
    alone = [Output(status=0, stdout=f'{{"{name}": {{"drv": "/d", "out": "/o"}}}}') for name in ("a", "b")]
    machine = FakeMachine((runs("nix"), [BROKEN, *alone]))
    with pytest.raises(EvaluationError, match="a, b: Nix could not evaluate"):
        await evaluate(machine, "/f", hosts("a", "b"), emit=Events())


async def test_hosts_of_different_outputs_are_evaluated_apart() -> None:
    machine = nix()
    other = host("b", attr="packages.x86_64-linux.b")
    found = await evaluate(machine, "/f", [host("a"), other], emit=Events())
    outputs = ("/f#nixosConfigurations", "/f#packages")
    assert [one for command in machine.ran for one in outputs if one in command.argv] == list(outputs)
    assert set(found.found) == {"a", "b"}


async def test_nix_that_is_not_there_is_an_evaluation_error_for_each() -> None:
    machine = FakeMachine((runs("nix"), CommandFailedError(HERE, "cannot run nix: No such file or directory")))
    found = await evaluate(machine, "/f", hosts("a"), emit=Events())
    assert "nix on your PATH" in found.failed[host("a").name].hint


async def test_more_hosts_than_an_argument_can_hold_are_evaluated_in_parts() -> None:
    def answer(command: Command) -> Answer:
        assert max(len(argument.encode()) for argument in command.argv) < 131_072 - 1
        names = re.findall(r'"(host-\d+)" = ', str(command))
        found = {name: {"drv": f"/nix/store/{name}.drv", "out": f"/nix/store/{name}"} for name in names}
        return Output(status=0, stdout=json.dumps(found))

    machine = FakeMachine((runs("nix"), answer))
    names = [f"host-{number}" for number in range(3000)]
    found = await evaluate(machine, "/f", hosts(*names), emit=Events())
    assert (list(found.found), len(machine.ran)) == (names, 3)


async def test_trouble_that_nix_ignores_is_neither_told_nor_taken_for_the_error() -> None:
    ignored = b"error (ignored): SQLite database is busy\n"
    fine = Says(stdout=b'{"a": {"drv": "/d", "out": "/o"}}', stderr=ignored + b"going on\n")
    bad = Says(status=1, stderr=ignored + b"error: attribute 'x' missing\n" + ignored)
    machine, events = FakeMachine((runs("nix"), [fine, bad])), Events()
    assert set((await evaluate(machine, "/f", hosts("a"), emit=events)).found) == {"a"}
    assert [event.text for event in events.of(OutputLine)] == ["going on"]
    failed = (await evaluate(machine, "/f", hosts("a"), emit=events)).failed[host("a").name]
    assert failed.said == ("error: attribute 'x' missing",)


def saying(printed: str) -> FakeMachine:
    """A machine whose nix prints this."""
    return FakeMachine((runs("nix"), Output(status=0, stdout=printed)))


@pytest.mark.parametrize(
    "printed",
    ["", "{", "[" * 100_000, "null", "[]", '{"a": null}', '{"a": {}}', '{"a": {"drv": 1, "out": 2}}', '{"a": []}',
     '{"a": {"drv": "x", "out": "y"}}', "1" * 10_000],
)  # fmt: skip
async def test_what_nix_prints_may_be_anything(printed: str) -> None:
    found = await evaluate(
        FakeMachine((runs("nix"), Output(status=0, stdout=printed))), "/f", hosts("a"), emit=Events()
    )
    assert (found.found, list(found.failed)) == ({}, ["a"])


async def test_host_that_nix_says_nothing_of_fails_alone() -> None:
    machine = nix()
    machine.table = [
        (runs("nix"), Output(status=0, stdout='{"a": {"drv": "/nix/store/a.drv", "out": "/nix/store/a"}}'))
    ]
    found = await evaluate(machine, "/f", hosts("a", "b"), emit=Events())
    assert (list(found.found), list(found.failed)) == (["a"], ["b"])


async def test_content_addressed_system_is_refused_by_name() -> None:
    placeholder = "/1rz4g4znpzjwh1xymhjpm42vipw92pr73vdgl6xs1hycac8kf2n9"
    printed = json.dumps({"a": {"drv": "/nix/store/a.drv", "out": placeholder}})
    found = await evaluate(
        FakeMachine((runs("nix"), Output(status=0, stdout=printed))), "/f", hosts("a"), emit=Events()
    )
    assert "content-addressed" in found.failed[host("a").name].message
