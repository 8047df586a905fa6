"""Any number of workers carry out one run: every host gets its system, none is switched twice, whatever dies."""

from __future__ import annotations

import signal
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.workers.crew import crew, ended, outcomes, until

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
        events = ended(fleet.deploy())
        assert Counter(outcomes(events).values()) == {"kept": 12}
        assert fleet.switched() == sorted(fleet.hosts)
        assert events[-1]["exit_code"] == 0
