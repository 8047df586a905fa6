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


def test_host_is_delivered_once_though_workers_are_killed_and_stopped(tmp_path: Path, database: str) -> None:
    with crew(tmp_path, database, 60, at_once=24) as fleet:
        fleet.settle("1s")
        killed, stopped, _ = (fleet.worker("--at-once", "8") for _ in range(3))
        deploying = fleet.deploy()
        until(lambda: len(fleet.switched()) >= 10, within=30)
        killed.kill()
        stopped.send_signal(signal.SIGSTOP)
        until(lambda: len(fleet.switched()) >= 50, within=30)
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
        until(fleet.switched, within=30)
        leaving.terminate()
        assert leaving.wait(timeout=30) == 0
        begun = fleet.switched()
        assert 0 < len(begun) < 12
        fleet.worker()
        assert Counter(outcomes(fleet.ended(deploying)).values()) == {"kept": 12}
        assert fleet.switched() == sorted(fleet.hosts)


def test_interrupted_follower_lets_no_further_host_begin(tmp_path: Path, database: str) -> None:
    with crew(tmp_path, database, 12, at_once=2) as fleet:
        fleet.settle("2s")
        fleet.worker()
        deploying = fleet.deploy()
        until(fleet.switched, within=30)
        deploying.send_signal(signal.SIGINT)
        events = fleet.ended(deploying)
        assert Counter(outcomes(events).values()) == {
            "kept": len(fleet.switched()),
            "skipped": 12 - len(fleet.switched()),
        }
        assert events[-1]["exit_code"] == 130
        assert deploying.returncode == 130
