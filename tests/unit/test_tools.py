"""What a fleet works with."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from fleet.library.tools import Tools, new_run_id, user
from fleet.machine.local import LocalMachine
from fleet.machine.login import Logins
from fleet.model import RUN_ID
from fleet.state import open_state
from tests.unit import builders

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_run_ids_sort_by_time_and_differ() -> None:
    ids = [new_run_id() for _ in range(50)]
    assert len(set(ids)) == 50
    assert all(re.fullmatch(RUN_ID, one) for one in ids)
    assert [one[:20] for one in ids] == sorted(one[:20] for one in ids)


def test_run_ids_of_one_second_sort_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for a host is what the later of two runs asked for."""
    times = [1_796_099_366 * 10**9 + part for part in (0, 16_000, 900_000_000, 999_999_999, 1_000_000_000)]
    ids = []
    for now in times:
        monkeypatch.setattr("time.time_ns", lambda now=now: now)
        ids.append(new_run_id())
    assert ids == sorted(ids)
    assert [one[:20] for one in ids][-2:] == ["20261201T042926-ffff", "20261201T042927-0000"]
    assert {len(one) for one in ids} == {24}


def test_user_without_a_name_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> str:
        raise KeyError("uid not found")

    assert user() != "unknown"
    monkeypatch.setattr("getpass.getuser", nobody)
    assert user() == "unknown"


def test_fleet_knows_who_asks_and_from_where(tmp_path: Path) -> None:
    tools = Tools(inventory=builders.inventory(), logins=Logins({}), state=open_state(tmp_path))
    assert (tools.by, bool(tools.origin), isinstance(tools.here, LocalMachine)) == (user(), True, True)
