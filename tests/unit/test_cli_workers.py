"""What `fleet worker`, `fleet workers` and `--workers` say, and what they refuse."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from fleet.model import HostName
from fleet.state.shares import Rollout, Share
from fleet.state.workers import WorkerRecord
from tests.unit.builders import RUN
from tests.unit.state_builders import KEPT_IN, recorded, started
from tests.unit.world import World

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.postgres import Server
    from tests.unit.conftest import CommandLine


@pytest.fixture
def shared(postgres: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv(KEPT_IN, postgres.url)
    yield postgres
    postgres.clear()


def at_work(world: World) -> None:
    """A worker that has a host."""
    crew = world.state.crew
    recorded(world.state, started(HostName("a")))
    crew.join(WorkerRecord(name="desk-1f3c", site="", origin="desk", process=7, places=4))
    row = Rollout(run=RUN, plan="p", signatures="", by="ann", origin="desk", places=1, wave=1)
    crew.begin(row, [Share(host=HostName("a"), wave=1, place=0, site="")])
    with crew.hand(RUN, by="w") as hand:
        assert hand is not None
        hand.queue(hand.waiting())
    assert crew.claim(RUN, HostName("a"), "desk-1f3c") is not None


def test_workers_are_listed_with_what_they_do(tmp_path: Path, shared: Server, command_line: CommandLine) -> None:
    world = World(tmp_path, "a")
    at_work(world)
    said = command_line(world, "workers")
    head, line = said.out.splitlines()
    assert head.split() == ["worker", "site", "state", "hosts", "since", "what", "it", "does"]
    assert line.split()[:6] == ["desk-1f3c", "-", "working", "1", "of", "4"]
    assert line.endswith("a (deliver)")
    (document,) = json.loads(command_line(world, "workers", "--json").out)
    assert document["doing"] == [{"run": RUN, "host": "a", "step": "deliver"}]
    assert (document["machine"], document["process"], document["state"]) == ("desk", 7, "working")


def test_nobody_lives_at_first(tmp_path: Path, shared: Server, command_line: CommandLine) -> None:
    said = command_line(World(tmp_path, "a"), "workers")
    assert (said.code, said.err) == (0, "no worker lives; fleet worker is one\n")


@pytest.mark.parametrize("words", [("workers",), ("worker",), ("deploy", "a", "--workers")])
def test_state_of_one_machine_has_no_workers(tmp_path: Path, command_line: CommandLine, words: tuple[str, ...]) -> None:
    said = command_line(World(tmp_path, "a"), *words)
    assert said.code == 2
    assert "there is no principals.toml" in said.err or "workers need a PostgreSQL database" in said.err


def test_worker_without_principals_does_not_start(tmp_path: Path, shared: Server, command_line: CommandLine) -> None:
    said = command_line(World(tmp_path, "a"), "worker")
    assert said.code == 2
    assert "--trust-database" in said.err


def test_site_is_a_name(tmp_path: Path, command_line: CommandLine) -> None:
    said = command_line(World(tmp_path, "a"), "worker", "--site", "a b")
    assert said.code == 2
    assert "--site: found" in said.err


def test_deployment_without_a_worker_is_refused_before_anything_is_evaluated(
    tmp_path: Path, shared: Server, command_line: CommandLine
) -> None:
    world = World(tmp_path, "a", more='site = "fra"')
    said = command_line(world, "deploy", "a", "--workers")
    assert said.code == 2
    assert "no worker lives for fra" in said.err
    assert "fleet worker --site fra is one" in said.err
    assert not world.links[HostName("a")].ran
