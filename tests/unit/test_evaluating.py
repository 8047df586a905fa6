"""Which hosts are evaluated, and which are known from the last time."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from fleet.deploy.evaluating import Known, evaluated
from fleet.errors import CommandFailedError
from fleet.machine import Command, Output
from fleet.machine.local import HERE
from fleet.source.evaluations import Evaluations
from tests.fakes import Answer, Events, FakeMachine, runs
from tests.unit.builders import host

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NO = Output(status=1, stderr="error: no\n")


def path(name: str) -> str:
    return f"/nix/store/{'0' * 32}-{name}"


class Source:
    """A flake in a folder, a Nix that evaluates it, and the cache."""

    def __init__(self, folder: Path) -> None:
        self.flake = folder / "flake"
        self.flake.mkdir()
        (self.flake / "flake.nix").write_text("{ }")
        self.cache = Evaluations(folder / "cache")
        self.asked: list[list[str]] = []
        """The hosts of each evaluation."""
        self.broken: set[str] = set()
        self.gone: Answer = Output(status=0)
        self.meanwhile: Callable[[], object] = lambda: None
        self.here = FakeMachine(
            (runs("nix", "--version"), Output(status=0, stdout="nix (Nix) 2.18\n")),
            (runs("nix"), self._evaluate),
            (runs("git"), Output(status=128)),
            (runs("xargs", "-r", "nix-store", "--check-validity"), lambda _: self.gone),
        )

    def _evaluate(self, command: Command) -> Answer:
        names = [name for name in ("a", "b", "c") if f'"{name}" = ' in str(command)]
        self.asked.append(names)
        self.meanwhile()
        found = {name: {"drv": f"{path(name)}.drv", "out": path(name)} for name in names}
        return NO if self.broken & set(names) else Output(status=0, stdout=json.dumps(found))

    async def evaluate(self, *names: str, cache: bool = True) -> Known:
        self.asked.clear()
        hosts = [host(name) for name in names]
        return await evaluated(self.here, str(self.flake), hosts, cache=self.cache if cache else None, emit=Events())


@pytest.fixture
def source(tmp_path: Path) -> Source:
    return Source(tmp_path)


async def test_source_that_did_not_change_is_not_evaluated_again(source: Source) -> None:
    first = await source.evaluate("a", "b")
    assert (source.asked, first.recalled) == ([["a", "b"]], frozenset())
    second = await source.evaluate("a", "b")
    assert (source.asked, sorted(second.recalled)) == ([], ["a", "b"])
    assert second.found == first.found
    assert second.found[host("a").name].closure == path("a")


async def test_source_that_changed_is_evaluated(source: Source) -> None:
    await source.evaluate("a")
    (source.flake / "flake.nix").write_text("{ x = 1; }")
    assert (await source.evaluate("a")).recalled == frozenset()
    assert source.asked == [["a"]]


async def test_only_hosts_that_are_not_known_are_evaluated(source: Source) -> None:
    await source.evaluate("a")
    found = await source.evaluate("a", "b")
    assert (source.asked, sorted(found.recalled), sorted(found.found)) == ([["b"]], ["a"], ["a", "b"])
    await source.evaluate("a", "b")
    assert source.asked == []


async def test_another_attribute_of_a_host_is_evaluated(source: Source) -> None:
    await source.evaluate("a")
    other = host("a", attr="packages.x86_64-linux.a")
    await evaluated(source.here, str(source.flake), [other], cache=source.cache, emit=Events())
    assert source.asked == [["a"], ["a"]]


async def test_derivation_that_was_collected_is_evaluated_again(source: Source) -> None:
    await source.evaluate("a", "b")
    source.gone = Output(status=0, stdout=f"{path('b')}.drv\n")
    found = await source.evaluate("a", "b")
    assert (source.asked, sorted(found.recalled), sorted(found.found)) == ([["b"]], ["a"], ["a", "b"])


@pytest.mark.parametrize("trouble", [NO, CommandFailedError(HERE, "cannot run xargs")])
async def test_store_that_cannot_be_asked_means_an_evaluation(source: Source, trouble: Answer) -> None:
    await source.evaluate("a")
    source.gone = trouble
    assert (await source.evaluate("a")).recalled == frozenset()
    assert source.asked == [["a"]]


async def test_host_that_does_not_evaluate_is_not_remembered(source: Source) -> None:
    source.broken = {"b"}
    assert set((await source.evaluate("a", "b")).failed) == {"b"}
    again = await source.evaluate("a", "b")
    assert (source.asked, sorted(again.recalled), list(again.failed)) == ([["b"]], ["a"], ["b"])


async def test_source_that_changed_meanwhile_is_not_remembered(source: Source) -> None:
    file = source.flake / "flake.nix"
    times = file.stat().st_atime_ns, file.stat().st_mtime_ns

    def edit_and_take_back() -> None:
        file.write_text("{ x = 1; }")
        file.write_text("{ }")
        os.utime(file, ns=times)

    source.meanwhile = edit_and_take_back
    await source.evaluate("a")
    await source.evaluate("a")
    assert source.asked == [["a"]]


async def test_without_the_cache_nothing_is_recalled_and_nothing_remembered(source: Source) -> None:
    await source.evaluate("a", cache=False)
    assert not (await source.evaluate("a")).recalled
    assert not (await source.evaluate("a", cache=False)).recalled
    assert source.asked == [["a"]]


async def test_source_that_may_change_by_itself_is_evaluated_each_time(source: Source) -> None:
    (source.flake / "flake.lock").write_text('{"nodes": {"x": {"locked": {"type": "path", "path": "/x"}}}}')
    for _ in range(2):
        assert not (await source.evaluate("a")).recalled
        assert source.asked == [["a"]]
