"""What is known of a slow link before a byte goes, and what is done where this machine cannot compress."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from fleet.machine import Output
from fleet.machine.pipe import LocalStreams
from fleet.model import Closure
from fleet.steps.deliver import WholePaths
from fleet.steps.slow_link import DeltaTransport, SlowLinks, known_there
from fleet.store.supply import Supply
from fleet.store.wire import PathInfo
from tests.fakes import Events, FakeMachine, runs
from tests.unit import builders

if TYPE_CHECKING:
    from collections.abc import Iterable


def path(name: str) -> str:
    return f"/nix/store/{'0' * 32}-{name}"


class Shelf(Supply):
    """A local store: paths with what they refer to."""

    def __init__(self, **references: str) -> None:
        super().__init__(LocalStreams())
        self.there = {
            path(name): PathInfo(path=path(name), references=tuple(map(path, to.split())), nar_hash="ff", nar_size=1000)
            for name, to in references.items()
        }

    async def known(self, paths: Iterable[str]) -> list[PathInfo]:
        return [self.there[one] for one in paths if one in self.there]


def names(infos: Iterable[PathInfo]) -> set[str]:
    return {info.path[len(path("")) :] for info in infos}


async def test_what_the_host_runs_and_was_pushed_last_is_known_without_asking() -> None:
    here = Shelf(running="curl libc", curl="libc", libc="", staged="libc vim", vim="", other="")
    machine = FakeMachine()
    there = await known_there(machine, here, [Closure(path("running")), Closure(path("staged"))])
    assert names(there) == {"running", "curl", "libc", "staged", "vim"}
    assert machine.ran == []


async def test_a_system_that_somebody_else_has_pushed_is_asked_about() -> None:
    listed = f"{path('curl')}\n{path('unknown')}\n{path('running')}\n"
    machine = FakeMachine((runs("nix-store", "--query", "--requisites"), Output(status=0, stdout=listed)))
    there = await known_there(machine, Shelf(curl="", libc=""), [Closure(path("running"))])
    assert names(there) == {"curl"}


@pytest.mark.timeout(20)  # a search that asks for it over and over never lets go
async def test_what_the_collector_took_here_meanwhile_is_not_looked_for_for_ever() -> None:
    here = Shelf(running="curl gone", curl="libc gone", libc="")
    there = await known_there(FakeMachine(), here, [Closure(path("running"))])
    assert names(there) == {"running", "curl", "libc"}


async def test_a_host_that_does_not_answer_has_nothing() -> None:
    machine = FakeMachine((runs("nix-store", "--query", "--requisites"), Output(status=1, stderr="error: no")))
    assert await known_there(machine, Shelf(curl=""), [Closure(path("running"))]) == []
    assert await known_there(machine, Shelf(curl=""), []) == []


async def test_the_plan_and_the_push_ask_once() -> None:
    machine = FakeMachine((runs("nix-store", "--query", "--requisites"), Output(status=0, stdout=path("curl"))))
    here = Shelf(curl="")
    async with SlowLinks(here) as slow:
        await slow.estimate(machine, builders.FACTS, [])
        transport = await slow.transport(machine, builders.host(), builders.FACTS, emit=Events())
    assert isinstance(transport, DeltaTransport)
    assert len(machine.ran) == 1


async def test_without_zstd_here_it_goes_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fleet.store.deltas.frames", None)
    slow = SlowLinks(Shelf())
    message, hint = slow.obstacle(builders.FACTS) or ("", "")
    assert ("this machine cannot compress" in message, "fleet[delta]" in hint) == (True, True)
    assert isinstance(await slow.transport(FakeMachine(), builders.host(), builders.FACTS, emit=Events()), WholePaths)


async def test_without_zstd_there_it_goes_as_it_is() -> None:
    slow, facts = SlowLinks(Shelf()), builders.facts(has_zstd=False)
    message, _ = slow.obstacle(facts) or ("", "")
    assert "the host has no zstd" in message
    assert isinstance(await slow.transport(FakeMachine(), builders.host(), facts, emit=Events()), WholePaths)
    assert slow.obstacle(builders.FACTS) is None
