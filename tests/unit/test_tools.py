"""What a fleet works with."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from fleet.library.tools import Tools, new_run_id, user
from fleet.machine.local import LocalMachine
from fleet.machine.login import Logins
from fleet.state import open_state
from tests.unit import builders

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_run_ids_sort_by_time_and_differ() -> None:
    ids = [new_run_id() for _ in range(50)]
    assert len(set(ids)) == 50
    assert all(re.fullmatch(r"\d{8}T\d{6}-[0-9a-f]{6}", one) for one in ids)
    assert [one[:15] for one in ids] == sorted(one[:15] for one in ids)


def test_user_without_a_name_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> str:
        raise KeyError("uid not found")

    assert user() != "unknown"
    monkeypatch.setattr("getpass.getuser", nobody)
    assert user() == "unknown"


def test_fleet_knows_who_asks_and_from_where(tmp_path: Path) -> None:
    tools = Tools(inventory=builders.inventory(), logins=Logins({}), state=open_state(tmp_path))
    assert (tools.by, bool(tools.origin), isinstance(tools.here, LocalMachine)) == (user(), True, True)
