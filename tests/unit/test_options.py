"""What a plan is asked to be."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from fleet.deploy.options import Options, PlanOptions
from fleet.errors import ConfigError
from fleet.model import Goal, Reboot, Verb


@pytest.mark.parametrize(
    ("words", "decide"),
    [({"verb": Verb.DEPLOY}, True), ({"verb": Verb.ROLLBACK}, False), ({"verb": Verb.ROLLBACK, "strict": True}, True)],
)
def test_checks_do_not_stop_people_who_go_back(words: dict[str, Any], decide: bool) -> None:  # noqa: FBT001
    assert Options(**words).checks_decide is decide


@pytest.mark.parametrize(
    ("words", "switches"),
    [
        ({"verb": Verb.DEPLOY}, True),
        ({"verb": Verb.DEPLOY, "goal": Goal.TEST}, True),
        ({"verb": Verb.PLAN}, True),
        ({"verb": Verb.ROLLBACK}, True),
        ({"verb": Verb.PUSH}, False),
        ({"verb": Verb.DEPLOY, "goal": Goal.DRY_ACTIVATE}, False),
    ],
)
def test_what_only_brings_a_closure_switches_nothing(words: dict[str, Any], switches: bool) -> None:  # noqa: FBT001
    assert Options(**words).switches is switches


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ({"goal": Goal.TEST, "reboot": Reboot.ALWAYS}, "--goal test never reboots"),
        ({"goal": Goal.DRY_ACTIVATE, "reboot": Reboot.IF_NEEDED}, "--goal dry-activate never reboots"),
        ({"wait": 5.0, "verb": Verb.ROLLBACK}, "--wait: only a deployment"),
        ({"wait": 5.0, "goal": Goal.DRY_ACTIVATE}, "--wait: only a deployment"),
        ({"wait": -1.0}, "--wait: a host waits for a day at most"),
        ({"wait": 86_401.0}, "--wait: a host waits for a day at most"),
        ({"expires_in": 0}, "--expires"),
        ({"expires_in": -1}, "--expires"),
    ],
)
def test_what_cannot_be_meant_together_is_refused(words: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        Options(**words)


def test_keyword_arguments_are_the_fields_of_options() -> None:
    fields = {field.name for field in dataclasses.fields(Options)}
    assert PlanOptions.__annotations__.keys() == fields - {
        "back_to",
        "strict",
        "is_undo",
        "late",
    }  # of ways back, and of a late delivery
