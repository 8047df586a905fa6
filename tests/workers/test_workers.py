"""Any number of workers carry out one run: every host gets its system, none is switched twice, whatever dies."""

from __future__ import annotations

import signal
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.waiting import until
from tests.workers.crew import crew, outcomes

if TYPE_CHECKING:
    from pathlib import Path

    from tests.postgres import Server


@pytest.fixture
def database(postgres: Server) -> str:
    postgres.clear()
    return postgres.url


def test_workers_deliver_to_every_host_once(tmp_path: Path, database: str) -> None:
    with crew(tmp_path, database, 12) as fleet:
        for _ in range(2):
            fleet.worker()
        events = fleet.ended(fleet.deploy())
        assert Counter(outcomes(events).values()) == {"kept": 12}
        assert fleet.switched() == sorted(fleet.hosts)
        assert events[-1]["exit_code"] == 0
        verified = fleet.fleet("ledger", "verify")
        assert verified.wait(30) == 0


@pytest.mark.long
def test_workers_go_on_without_whoever_has_deployed_and_leave_at_once_if_told_twice(
    tmp_path: Path, database: str
) -> None:
    with crew(tmp_path, database, 8, at_once=4) as fleet:
        fleet.settle("2s")
        leaving, _ = fleet.worker("--at-once", "2"), fleet.worker("--at-once", "2")
        deploying = fleet.deploy()
        until(fleet.switched, within=60)
        deploying.kill()
        leaving.terminate()
        assert "takes nothing new" in fleet.says(leaving)
        leaving.terminate()
        assert leaving.wait(10) == 130
        until(lambda: fleet.switched() == sorted(fleet.hosts), within=60)
        until(lambda: fleet.runs()[0]["exit_code"] == 0, within=60)
        assert len(fleet.switched()) == 8


@pytest.mark.long
def test_run_without_workers_is_resumed_by_asking_the_hosts(tmp_path: Path, database: str) -> None:
    with crew(tmp_path, database, 4, at_once=2) as fleet:
        fleet.settle("30s")
        worker, deploying = fleet.worker(), fleet.deploy()
        until(lambda: len(fleet.switched()) == 2, within=60)
        worker.kill()
        deploying.kill()
        (run,) = fleet.runs()
        until(lambda: not fleet.runs()[0]["under_way"], within=60)
        resumed = fleet.ended(fleet.fleet("resume", run["run"], "--json", before=fleet.hasty))
        assert Counter(outcomes(resumed).values()) == {"kept": 2, "skipped": 2}
        fleet.worker()
        assert len(fleet.switched()) == 2


def test_host_is_delivered_once_though_workers_are_killed_and_stopped(tmp_path: Path, database: str) -> None:
    with crew(tmp_path, database, 60, at_once=24) as fleet:
        fleet.settle("1s")
        killed, stopped, _ = (fleet.worker("--at-once", "8") for _ in range(3))
        deploying = fleet.deploy()
        until(lambda: len(fleet.switched()) >= 10, within=60)
        killed.kill()
        stopped.send_signal(signal.SIGSTOP)
        until(lambda: len(fleet.switched()) >= 50, within=60)
        stopped.send_signal(signal.SIGCONT)
        events = fleet.ended(deploying)
        assert Counter(outcomes(events).values()) == {"kept": 60}
        assert fleet.switched() == sorted(fleet.hosts)
        finished = [event["host"] for event in events if event["event"] == "host_finished"]
        assert sorted(finished) == sorted(fleet.hosts)
        assert [event["seq"] for event in events] == sorted(event["seq"] for event in events)


def test_worker_that_is_to_stop_sees_through_what_has_begun(tmp_path: Path, database: str) -> None:
    with crew(tmp_path, database, 12, at_once=4) as fleet:
        fleet.settle("2s")
        leaving = fleet.worker("--at-once", "2")
        deploying = fleet.deploy()
        until(fleet.switched, within=60)
        leaving.terminate()
        assert leaving.wait(timeout=30) == 0
        begun = fleet.switched()
        assert 0 < len(begun) < 12
        fleet.worker()
        assert Counter(outcomes(fleet.ended(deploying)).values()) == {"kept": 12}
        assert fleet.switched() == sorted(fleet.hosts)


def test_interrupted_follower_lets_no_further_host_begin(tmp_path: Path, database: str) -> None:
    with crew(tmp_path, database, 6, at_once=2) as fleet:
        fleet.settle("2s")
        fleet.worker()
        deploying = fleet.deploy()
        until(fleet.switched, within=60)
        deploying.send_signal(signal.SIGINT)
        events = fleet.ended(deploying)
        begun = len(fleet.switched())
        assert 0 < begun < 6
        assert Counter(outcomes(events).values()) == {"kept": begun, "skipped": 6 - begun}
        assert events[-1]["exit_code"] == 130
        assert deploying.returncode == 130
        going_on = fleet.fleet("rollout", "continue", events[-1]["run"], "--json")
        assert Counter(outcomes(fleet.ended(going_on)).values()) == {"kept": 6}
        assert fleet.switched() == sorted(fleet.hosts)


def test_database_that_is_away_for_a_while_costs_nobody_anything(tmp_path: Path, postgres: Server) -> None:
    postgres.clear()
    with crew(tmp_path, postgres.url, 24, at_once=8) as fleet:
        fleet.settle("1s")
        workers = [fleet.worker() for _ in range(2)]
        deploying = fleet.deploy()
        until(lambda: len(fleet.switched()) >= 4, within=60)
        postgres.stop()
        try:
            told = [fleet.says(worker) for worker in workers]
            begun = fleet.switched()
        finally:
            postgres.start()
        assert all("no other begins" in line for line in told), told
        assert len(begun) < 24
        events = fleet.ended(deploying)
        assert Counter(outcomes(events).values()) == {"kept": 24}
        assert fleet.switched() == sorted(fleet.hosts)
        kinds = [event["event"] for event in events]
        assert kinds.count("recording_lost") == kinds.count("recording_resumed") == 1
        finished = [event["host"] for event in events if event["event"] == "host_finished"]
        assert sorted(finished) == sorted(fleet.hosts)
        assert all("is back" in fleet.says(worker) for worker in workers)
