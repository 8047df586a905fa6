"""What was asked for and what was found become a part of a plan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from fleet.deploy import decide
from fleet.deploy.options import Options
from fleet.deploy.target import Wanted
from fleet.events import CheckReported, FindingReported
from fleet.inventory import BuildOn, Offline
from fleet.model import Derivation, Failure, FailureKind, Goal, HostName, HostResult, Outcome, Reboot, Severity, Verb
from fleet.plans import Action, LeftOut
from fleet.steps.evaluate import Evaluated
from fleet.steps.load import Contents, Load
from fleet.steps.survey import Survey
from tests.unit.builders import FACTS, NEW, OLD, facts, host

if TYPE_CHECKING:
    from fleet.host.facts import HostFacts
    from fleet.inventory import Host
    from fleet.plans import Part

DRV = Derivation(f"/nix/store/{'3' * 32}-x.drv")
EVALUATED = Evaluated(DRV, NEW)
A, B = HostName("a"), HostName("b")
CONTENTS = Contents(sizes={NEW: 1}, manifest="a" * 64)


def part_of(
    host: Host,
    *,
    there: HostFacts = FACTS,
    reasons: tuple[str, ...] = (),
    action: Action = Action.SWITCH,
    wanted: Wanted | None = None,
    **options: Any,
) -> Part:
    """The host's part of a plan with these options."""
    seen = Survey(action=action, load=Load(), reboot=reasons)
    wanted = wanted or Wanted(closure=NEW)
    return decide.part_of(host, there, wanted, seen, Options(**options), contents=CONTENTS, expires=99)


def test_deadlines_are_whole_seconds_and_never_nothing() -> None:
    part = part_of(host(activation_timeout="200ms", confirm_timeout="1600ms", boot_timeout="100ms"))
    assert (part.activation_timeout, part.confirm_timeout, part.boot_timeout) == (1, 2, 1)


def test_what_decides_on_the_host_is_in_its_part() -> None:
    keys: dict[str, Any] = {
        "settle": "7s", "checks": [{"name": "ok", "command": "ok"}], "ignore_units": ["a-*"], "offline": "defer",
        "ignore_snippets": ["specialfs"], "substitute": False, "last_resort": "reboot",
    }  # fmt: skip
    asked: dict[str, Any] = {
        "watch": 90.0, "accept_boot_risk": True, "force": True, "retry_quarantined": True, "copy_with": "nix"
    }  # fmt: skip
    one = host(**keys)
    part = part_of(one, there=facts(serial="41-a", link="system-7-link@1"), **asked)
    assert (part.settle, part.checks, part.ignore_units, part.offline, part.substitute, part.last_resort) == (
        7.0, one.checks, ("a-*",), Offline.DEFER, False, "reboot",
    )  # fmt: skip
    assert part.ignore_snippets == ("specialfs",)
    assert {name: getattr(part, name) for name in asked} == asked
    assert (part.expected, part.serial, part.link, part.expires) == (OLD, "41-a", "system-7-link@1", 99)


def test_part_judges_a_host_of_another_inventory_by_its_own_rules() -> None:
    keys: dict[str, Any] = {
        "settle": "7s",
        "checks": [{"name": "ok", "command": "ok"}],
        "confirm_timeout": "9s",
        "offline": "defer",
    }
    there = host(address="there", settle="1s", checks=[{"name": "other", "command": "x"}], user="ann")
    judged = part_of(host(**keys)).apply_policy(there)
    assert (judged.settle, [one.name for one in judged.checks], judged.confirm_timeout, judged.offline) == (
        7.0, ["ok"], 9.0, Offline.DEFER,
    )  # fmt: skip
    assert (judged.address, judged.user) == (there.address, "ann")


@pytest.mark.parametrize(
    ("verb", "strict", "decide_there"),
    [(Verb.DEPLOY, False, True), (Verb.ROLLBACK, False, False), (Verb.ROLLBACK, True, True)],
)
def test_checks_decide_but_on_the_way_back(*, verb: Verb, strict: bool, decide_there: bool) -> None:
    assert part_of(host(), verb=verb, strict=strict).checks_decide is decide_there


@pytest.mark.parametrize(
    ("options", "reasons", "action", "goal"),
    [
        ({}, ("kernel",), Action.SWITCH, Goal.SWITCH),
        ({"reboot": Reboot.IF_NEEDED}, (), Action.SWITCH, Goal.SWITCH),
        ({"reboot": Reboot.IF_NEEDED}, ("kernel",), Action.SWITCH, Goal.BOOT),
        ({"reboot": Reboot.ALWAYS}, (), Action.SWITCH, Goal.BOOT),
        ({"reboot": Reboot.ALWAYS}, ("kernel",), Action.COMMIT, Goal.SWITCH),
        ({"verb": Verb.PLAN, "reboot": Reboot.ALWAYS}, (), Action.SWITCH, Goal.BOOT),
        ({"verb": Verb.PUSH}, ("kernel",), Action.SWITCH, Goal.PUSH),
        ({"goal": Goal.TEST}, (), Action.SWITCH, Goal.TEST),
        ({"goal": Goal.DRY_ACTIVATE}, (), Action.SWITCH, Goal.DRY_ACTIVATE),
    ],
)
def test_goal_says_whether_a_host_is_rebooted(
    options: dict[str, Any], reasons: tuple[str, ...], action: Action, goal: Goal
) -> None:
    part = part_of(host(), reasons=reasons, action=action, **options)
    assert (part.goal, part.by_reboot, part.reboot) == (goal, goal is Goal.BOOT, reasons)


def test_closure_that_is_pushed_is_named_by_its_contents() -> None:
    here = part_of(host(), wanted=Wanted(closure=NEW, evaluated=EVALUATED))
    assert (here.derivation, here.build_on, here.manifest) == (DRV, BuildOn.CONTROLLER, "a" * 64)
    there = part_of(host(), wanted=Wanted(closure=NEW, evaluated=EVALUATED, is_local=False))
    assert (there.derivation, there.build_on, there.manifest) == (DRV, BuildOn.TARGET, "")
    before = part_of(host(), wanted=Wanted(closure=NEW, is_local=False))
    assert (before.derivation, before.build_on, before.manifest) == (None, BuildOn.CONTROLLER, "")


def test_host_that_stands_on_its_closure_is_told_with_what_it_needs_a_reboot_for() -> None:
    event = decide.unchanged_event(host(), facts(running=NEW, booted_parts={}, nix_free=5), NEW)
    assert (event.action, event.wave, event.running, event.room_free) == ("unchanged", 0, NEW, 5)
    assert "kernel" in event.reboot


def test_hosts_that_are_left_out_say_why() -> None:
    failure = Failure(kind=FailureKind.LOCKED, message="taken")
    results = {
        B: HostResult(host=B, outcome=Outcome.FAILED, failure=failure),
        A: HostResult(host=A, outcome=Outcome.UNCHANGED),
    }
    assert decide.left_out(results, (A, B, HostName("c")), {}) == (
        LeftOut(host=A, outcome=Outcome.UNCHANGED),
        LeftOut(host=B, outcome=Outcome.FAILED, kind="locked", message="taken"),
    )


def test_what_was_found_is_part_of_the_plan_in_the_order_of_its_hosts() -> None:
    found = [
        FindingReported(host=host, severity=Severity.NOTE, kind=kind, message="a.nix")
        for host, kind in ((B, "space"), (A, "clock"), (None, "untracked"), (A, "cache"))
    ]
    other = CheckReported(host=A, check="ok", passed=True, answer="200", stage="before")
    told = decide.findings((*found, other), (A, B))
    assert [(one.host, one.kind) for one in told] == [(None, "untracked"), (A, "clock"), (A, "cache"), (B, "space")]
