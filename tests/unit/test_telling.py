"""Runs tell how they end and write metrics, and neither changes how they end."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Any, cast

import pytest
from prometheus_client.parser import text_string_to_metric_families

from fleet.cli import session
from fleet.deploy.stop import Stop
from fleet.inventory import parse
from fleet.library import metrics
from fleet.library.drafts import Drafts
from fleet.library.factory import RunFactory
from fleet.model import Outcome, Verb
from tests.fakes import asks, runs, said
from tests.unit import receivers
from tests.unit.receivers import hook
from tests.unit.world import BROKEN, FACTS, Applying, World
from tests.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from fleet import Fleet
    from tests.unit.conftest import CommandLine

ALWAYS = '["finished", "failed", "needs_human"]'


def telling(port: int, more: str = "") -> str:
    return f'[[notify]]\nwebhook = "http://127.0.0.1:{port}/hook"\non = {ALWAYS}\n{more}\n'


# --- runs ------------------------------------------------------------------------------------------


async def test_run_that_ended_is_told_once_with_why_it_was(tmp_path: Path) -> None:
    with hook() as server:
        world = World(tmp_path, "a", "b", more=telling(server.port), intent="update nginx")
        assert await world.execute() == 0
    (document,) = server.bodies
    assert (document["event"], document["fleet"], document["command"]) == ("finished", world.inventory.name, "deploy")
    assert (document["by"], document["origin"], document["intent"]) == ("ann", "desk", "update nginx")
    assert (document["outcomes"], document["hosts"], document["exit_code"]) == ({"kept": 2}, [], 0)
    assert document["run"] == world.end.run
    assert document["started"] <= document["finished"]


async def test_host_that_went_back_is_told_with_its_reason(tmp_path: Path) -> None:
    with hook() as server:
        world = Applying(tmp_path, "a", more=telling(server.port))
        world.on("a", (asks("begin"), said(refused="locked", by="run r9 of bob")))
        result = await world.apply(world.plan(("a",)))
    (document,) = server.bodies
    assert result.exit_code == document["exit_code"] != 0
    assert document["event"] == "failed"
    (told,) = document["hosts"]
    assert (told["name"], told["outcome"]) == ("a", result.hosts[0].outcome)
    assert result.hosts[0].failure is not None
    assert told["error"]["kind"] == result.hosts[0].failure.kind


@pytest.mark.parametrize(
    ("asked", "told"),
    [({}, [3]), ({"verb": Verb.PLAN}, []), ({"is_undo": True}, [])],
    ids=["deploy", "plan", "undo, of which the run that is undone tells"],
)
async def test_plan_that_cannot_be_made_is_told_where_something_was_to_change(
    tmp_path: Path, asked: dict[str, Any], told: list[int]
) -> None:
    with hook() as server:
        world = World(tmp_path, "a", more=telling(server.port))
        world.here_too((runs("nix"), BROKEN))
        world.options = dataclasses.replace(world.options, **asked)
        assert await world.execute() == 3
    assert [document["exit_code"] for document in server.bodies] == told
    assert [document["error"]["kind"] for document in server.bodies] == ["evaluation" for _ in told]


async def test_run_that_undoes_another_is_not_told_beside_it(tmp_path: Path) -> None:
    with hook() as server:
        world = Applying(tmp_path, "a", more=telling(server.port))
        plan = world.plan(("a",))
        for tells in (False, True):
            run = RunFactory(world.tools, Drafts()).apply(plan, plan.hosts, Stop(), tells=tells)
            assert (await run).exit_code == 0
            assert len(server.bodies) == int(tells)


async def test_answer_of_no_is_nothing_to_tell(tmp_path: Path) -> None:
    with hook() as server:
        world = World(tmp_path, "a", more=telling(server.port))
        world.answer = False
        assert await world.execute() == 1
    assert server.bodies == []


async def test_whoever_cannot_be_told_changes_nothing_and_is_named(tmp_path: Path) -> None:
    with hook() as server:
        server.status = 500
        world = Applying(tmp_path, "a", more=telling(server.port))
        async with world.fleet() as fleet:
            run = fleet.apply(world.plan(("a",)))
            result = await run
    assert (result.exit_code, result.hosts[0].outcome) == (0, Outcome.KEPT)
    assert run.untold == ("webhook 127.0.0.1 was not told: it answered 500 Internal Server Error",)


async def test_bug_in_the_telling_does_not_change_how_a_run_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise KeyError("x")

    monkeypatch.setattr(metrics, "samples", broken)
    world = Applying(tmp_path, "a", more=f'[metrics]\ntextfile = "{tmp_path}/x.prom"\n')
    async with world.fleet() as fleet:
        run = fleet.apply(world.plan(("a",)))
        result = await run
    assert result.exit_code == 0
    assert run.untold == ("somebody may not have been told: KeyError: this is a bug in fleet",)


async def test_nobody_waits_for_a_message_after_a_further_request_to_stop(tmp_path: Path) -> None:
    over = threading.Event()
    stop = Stop()

    def silent(_: object) -> None:
        stop.request()
        over.wait()

    with receivers.serving(silent) as port:
        world = Applying(tmp_path, "a", more=telling(port, 'timeout = "60s"'))
        began = time.monotonic()
        async with world.fleet() as fleet:
            run = fleet.apply(world.plan(("a",)), stop=stop)
            result = await run
        over.set()
    assert time.monotonic() - began < 20
    assert (result.exit_code, run.untold) == (0, ("nobody was told: interrupted",))


def test_command_says_who_could_not_be_told(tmp_path: Path, command_line: CommandLine) -> None:
    with hook() as server:
        server.status = 404
        world = World(tmp_path, "a", more=telling(server.port))
        done = command_line(world, "deploy", "a", "--yes", "--copy-with", "nix", "--no-eval-cache")
    assert done.code == 0, done.err
    assert done.err.endswith("warning: webhook 127.0.0.1 was not told: it answered 404 Not Found\n")


# --- metrics ---------------------------------------------------------------------------------------


def values(path: Path) -> dict[str, dict[tuple[str, ...], float]]:
    """The metrics of a file, as Prometheus reads them: by name, and by their labels but that of the fleet."""
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(path.read_text()):
        assert family.type == "gauge"
        assert family.documentation
        for sample in family.samples:
            labels = dict(sample.labels)
            assert labels.pop("fleet")
            found.setdefault(sample.name, {})[tuple(labels.values())] = sample.value
    return found


def files_in(folder: Path) -> list[Path]:
    return list(folder.iterdir())


async def test_metrics_tell_of_runs_and_hosts(tmp_path: Path) -> None:
    file = tmp_path / "fleet.prom"
    world = World(tmp_path, "a", "b", more=f'[metrics]\ntextfile = "{file}"\n')
    world.on("b", (asks("facts"), said(**FACTS | {"failed_unit": ["web.service"], "boot_free": 16 << 20})))
    before = time.time()
    assert await world.execute() == 0
    async with world.fleet() as fleet:
        await fleet.status()
        assert await fleet.write_metrics() == ""
    found = values(file)
    assert set(found) <= set(metrics.HELP)
    assert found["fleet_hosts"] == {(): 2}
    assert found["fleet_run_exit_code"] == {("deploy",): 0}
    assert before <= found["fleet_run_finished_timestamp_seconds"]["deploy",] <= time.time()
    assert found["fleet_host_outcome"] == {("a", "kept"): 1, ("b", "kept"): 1}
    assert found["fleet_host_failed_units"] == {("a",): 0, ("b",): 1}
    assert found["fleet_host_nix_free_bytes"]["a",] == FACTS["nix_free"]
    assert found["fleet_host_boot_free_bytes"]["b",] == 16 << 20
    assert found["fleet_host_delivery_waiting"] == {("a",): 0, ("b",): 0}
    assert found["fleet_runs_under_way"] == {(): 0}
    assert file.stat().st_mode & 0o777 == 0o644
    assert {path.name for path in await asyncio.to_thread(files_in, tmp_path) if "prom" in path.name} == {"fleet.prom"}


async def test_metrics_that_cannot_be_written_change_nothing_and_leave_the_old_ones(tmp_path: Path) -> None:
    folder = tmp_path / "collector"
    folder.mkdir()
    file = folder / "fleet.prom"
    file.mkdir()
    world = World(tmp_path, "a", more=f'[metrics]\ntextfile = "{file}"\n')
    async with world.fleet() as fleet:
        plan = await fleet.plan(copy_with="nix", eval_cache=False)
        run = fleet.apply(plan)
        result = await run
    assert result.exit_code == 0
    assert run.untold == (f"the metrics were not written: {file}: Is a directory",)
    assert list(folder.iterdir()) == [file]


async def test_reader_never_sees_half_of_the_metrics(tmp_path: Path) -> None:
    """node_exporter may read at any moment: the file is replaced as a whole."""
    file = tmp_path / "fleet.prom"
    world = World(tmp_path, "a", more=f'[metrics]\ntextfile = "{file}"\n')
    async with world.fleet() as fleet:
        await fleet.write_metrics()
        handle = os.open(file, os.O_RDONLY)
        before = os.fstat(handle).st_size
        await fleet.status()
        await fleet.write_metrics()
    try:
        assert os.fstat(handle).st_size == before
        assert os.fstat(handle).st_nlink == 0
    finally:
        os.close(handle)
    assert len(file.read_bytes()) > before


async def test_hosts_that_are_gone_from_the_file_are_gone_from_the_metrics(tmp_path: Path) -> None:
    file = tmp_path / "fleet.prom"
    world = World(tmp_path, "a", "b", more=f'[metrics]\ntextfile = "{file}"\n')
    await world.execute()
    world.file.write_text(world.file.read_text().replace("[hosts.b]", "[hosts.c]"))
    world.inventory = parse(world.file, world.file.read_text())
    async with world.fleet() as fleet:
        await fleet.write_metrics()
    assert set(values(file)["fleet_host_outcome"]) == {("a", "kept")}


def test_labels_are_escaped_as_prometheus_wants_it() -> None:
    text = metrics.text([metrics.Sample("fleet_hosts", (("fleet", 'a"\\\nb'),), 3)])
    (family,) = text_string_to_metric_families(text)
    assert family.samples[0].labels == {"fleet": 'a"\\\nb'}


def test_status_writes_the_metrics_and_says_so_if_it_cannot(tmp_path: Path, command_line: CommandLine) -> None:
    file = tmp_path / "none" / "fleet.prom"
    world = World(tmp_path, "a", more=f'[metrics]\ntextfile = "{file}"\n')
    done = command_line(world, "status")
    assert (done.code, done.err) == (0, f"warning: the metrics were not written: {file}: No such file or directory\n")
    file.parent.mkdir()
    assert command_line(world, "status").err == ""
    assert values(file)["fleet_host_seen_timestamp_seconds"].keys() == {("a",)}


def test_service_that_delivers_writes_the_metrics_again_and_again(
    tmp_path: Path, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "METRICS", 0.01)
    file = tmp_path / "fleet.prom"
    world = World(tmp_path, "a", more=f'[metrics]\ntextfile = "{file}"\n')

    def end_it() -> None:
        for _ in range(2):
            until(file.exists)
            file.unlink()
        os.kill(os.getpid(), signal.SIGTERM)

    other = threading.Thread(target=end_it)
    other.start()
    assert command_line(world, "deliver", "--watch").code == 0
    other.join()


async def test_trouble_with_metrics_is_said_once_and_again_when_it_is_another(monkeypatch: pytest.MonkeyPatch) -> None:
    troubles = ["full", "full", "", "full", "gone"]
    said_: list[str] = []

    class Writer:
        async def write_metrics(self) -> str:
            if not troubles:
                raise StopAsyncIteration
            return troubles.pop(0)

    monkeypatch.setattr(session, "METRICS", 0.0)
    monkeypatch.setattr(session, "warn", said_.append)
    with pytest.raises(StopAsyncIteration):
        await session.keep_metrics(cast("Fleet", Writer()))
    assert said_ == ["full", "full", "gone"]
