"""What was asked for, and what every part of a run shares."""

from __future__ import annotations

import re
from typing import Any

import pytest

from fleet.deploy.request import Request, Run, new_run_id
from fleet.model import Goal
from tests.unit import builders


def test_run_ids_sort_by_time_and_differ() -> None:
    ids = [new_run_id() for _ in range(50)]
    assert len(set(ids)) == 50
    assert all(re.fullmatch(r"\d{8}T\d{6}-[0-9a-f]{6}", one) for one in ids)
    assert [one[:15] for one in ids] == sorted(one[:15] for one in ids)


@pytest.mark.parametrize(
    ("words", "proves"),
    [({"verb": "deploy"}, True), ({"verb": "rollback"}, False), ({"verb": "rollback", "strict": True}, True)],
)
def test_checks_do_not_stop_people_who_go_back(words: dict[str, Any], proves: bool) -> None:  # noqa: FBT001
    assert Request(**words).proves_checks is proves


@pytest.mark.parametrize(
    ("words", "switches"),
    [
        ({"verb": "deploy"}, True),
        ({"verb": "deploy", "goal": Goal.TEST}, True),
        ({"verb": "plan"}, True),
        ({"verb": "rollback"}, True),
        ({"verb": "push"}, False),
        ({"verb": "deploy", "goal": Goal.DRY_ACTIVATE}, False),
    ],
)
def test_what_only_brings_a_closure_switches_nothing(words: dict[str, Any], switches: bool) -> None:  # noqa: FBT001
    assert Request(**words).switches is switches


def test_run_knows_who_asked_and_from_where(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> str:
        raise KeyError("uid not found")

    usual = builders.run()
    shared = {name: getattr(usual, name) for name in ("id", "request", "inventory", "logins", "here", "emit", "folder")}
    monkeypatch.setattr("getpass.getuser", nobody)
    run = Run(**shared)
    assert run.who == "unknown"
    assert run.origin
