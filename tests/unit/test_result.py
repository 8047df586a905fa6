"""How a host's run ended, and what the command's exit code is."""

from __future__ import annotations

from typing import Any

import pytest

from fleet.deploy import result
from fleet.errors import BuildError, ConfigError, EvaluationError, FleetError, LockedError, UnfitError, UnreachableError
from fleet.host.answers import State, View
from fleet.model import Failure, FailureKind, HostName, HostResult, Outcome
from fleet.steps.prove_back import Unwell
from tests.unit.builders import FACTS, NEW, OLD, PARTS, facts, host, job

WEB = HostName("web-1")


def ended(outcome: str, kind: str = "") -> HostResult:
    failure = Failure(kind=FailureKind(kind), message="because") if kind else None
    return HostResult(host=WEB, outcome=Outcome(outcome), failure=failure)


LOCKED = ended("failed", "locked")
GOOD = [ended("kept"), ended("unchanged"), ended("staged"), ended("deferred", "unreachable")]


@pytest.mark.parametrize(
    ("code", "results", "how"),
    [
        (0, [], {}),
        (0, GOOD, {}),
        # 4 comes before all others
        (4, [*GOOD, ended("needs_human", "stuck")], {}),
        (4, [ended("needs_human", "stuck")], {"interrupted": True, "error": ConfigError("x")}),
        (4, [LOCKED, ended("needs_human", "in_doubt")], {}),
        # then 130
        (130, GOOD, {"interrupted": True}),
        (130, [LOCKED], {"interrupted": True}),
        (130, [ended("rolled_back", "unhealthy")], {"interrupted": True, "error": BuildError("x")}),
        # then 5, if it is so for all
        (5, [LOCKED], {}),
        (5, [LOCKED, LOCKED], {}),
        (1, [LOCKED, ended("kept")], {}),
        (1, [LOCKED, ended("failed", "unfit")], {}),
        # then 3 and 2
        (3, [ended("skipped", "skipped")], {"error": EvaluationError("x")}),
        (3, [ended("skipped", "skipped")], {"error": BuildError("x")}),
        (3, [ended("failed", "evaluation"), ended("failed", "build")], {}),
        (1, [ended("failed", "evaluation"), ended("kept")], {}),
        (2, [ended("skipped", "skipped")], {"error": ConfigError("x")}),
        (1, [ended("skipped", "skipped")], {"error": FleetError("x")}),
        # then 1
        (1, [ended("kept"), ended("failed", "unfit")], {}),
        (1, [ended("kept"), ended("rolled_back", "unhealthy")], {}),
        (1, [ended("kept"), ended("skipped", "skipped")], {}),
    ],
)
def test_exit_code_is_that_of_the_first_rule(code: int, results: list[HostResult], how: dict[str, Any]) -> None:
    assert result.exit_code(results, **how) == code


@pytest.mark.parametrize(
    ("offline", "error", "outcome"),
    [
        ("fail", UnreachableError(WEB, "gone"), Outcome.FAILED),
        ("defer", UnreachableError(WEB, "gone"), Outcome.DEFERRED),
        ("defer", UnfitError(WEB, "odd"), Outcome.FAILED),
        ("defer", LockedError(WEB, "taken"), Outcome.FAILED),
    ],
)
def test_host_is_deferred_only_when_unreachable_and_allowed(offline: str, error: FleetError, outcome: Outcome) -> None:
    found = result.left_out(host(offline=offline), error, FACTS)
    assert (found.outcome, found.previous) == (outcome, OLD)
    assert found.failure is not None
    assert (found.failure.kind, found.failure.now) == (error.kind, "nothing was changed")


def test_skipped_host_says_why() -> None:
    found = result.skipped(WEB, "because")
    assert (found.outcome, found.failure) == (
        Outcome.SKIPPED, Failure(kind=FailureKind.SKIPPED, message="because", now="nothing was changed"),
    )  # fmt: skip


def test_unchanged_host_tells_whether_its_kernel_is_live() -> None:
    found = result.unchanged(host(), FACTS, OLD)
    assert (found.outcome, found.boot_default, found.boot_proven, found.reboot_pending) == (
        Outcome.UNCHANGED, True, True, False,
    )  # fmt: skip
    assert result.unchanged(host(), facts(boot_default=None), OLD).boot_default is None
    pending = result.unchanged(host(), facts(booted_parts={**PARTS, "kernel": "other"}), OLD)
    assert (pending.boot_proven, pending.reboot_pending) == (False, True)


def test_kept_host() -> None:
    found = result.kept(job(), View(state=State.COMMITTED, running=NEW), ["a note"], reboot=("kernel",))
    assert (found.outcome, found.closure, found.previous, found.notes) == (Outcome.KEPT, NEW, OLD, ("a note",))
    assert (found.boot_default, found.boot_proven, found.reboot_pending) == (True, False, True)


def test_tested_host_is_kept_but_not_the_boot_default() -> None:
    found = result.kept(job(), View(state=State.TESTED, running=NEW), [], reboot=())
    assert (found.outcome, found.boot_default, found.boot_proven) == (Outcome.KEPT, False, True)
    assert OLD in found.notes[0]


def test_boot_entry_that_cannot_be_read_is_said() -> None:
    found = result.kept(job(), View(state=State.COMMITTED, running=NEW, boot_entry="unverified"), [], reboot=())
    assert found.notes == ("what boots next could not be read from the boot loader's files",)
    assert found.boot_default is None
    end = View(state=State.COMMITTED, running=NEW, boot_entry="unverified", boot_doubt="/boot is not mounted")
    told = result.kept(job(), end, [], reboot=())
    assert told.notes == ("what boots next could not be read: /boot is not mounted",)


@pytest.mark.parametrize(
    ("blame", "unwell", "outcome", "kind"),
    [
        ("found", "", Outcome.ROLLED_BACK, "unhealthy"),
        ("silent", "", Outcome.ROLLED_BACK, "silent"),
        ("found", "check web: 503", Outcome.NEEDS_HUMAN, "unhealthy"),
        ("silent", "nobody can log in: login refused", Outcome.NEEDS_HUMAN, "silent"),
    ],
)
def test_host_that_went_back(blame: str, unwell: str, outcome: Outcome, kind: str) -> None:
    end = View(state=State.REVERTED, running=OLD, blame=blame)
    found = result.gone_back(job(), end, "web has failed", ["line"], unwell=Unwell(unwell) if unwell else None)
    assert (found.outcome, found.previous, found.boot_default) == (outcome, OLD, False)
    assert found.failure is not None
    assert (found.failure.kind, found.failure.message, found.failure.said) == (kind, "web has failed", ("line",))
    assert OLD in found.failure.now
    assert (unwell or "proven") in found.failure.now
    assert ("--retry-quarantined" in found.failure.hint) == (blame == "found")


@pytest.mark.parametrize(
    ("reason", "hinted"),
    [
        ("acme-order-renew-example.org.service has failed", True),
        ("acme-example.org.service has failed; web.service has failed", True),
        ("lacme-x.service has failed", False),
        ("check acme: 503", False),
    ],
)
def test_first_certificate_that_cannot_be_ordered_has_a_hint(reason: str, hinted: bool) -> None:  # noqa: FBT001
    found = result.gone_back(job(), View(state=State.REVERTED, running=OLD, blame="found"), reason, [], unwell=None)
    assert found.failure is not None
    assert ('ignore_units = ["acme-*"]' in found.failure.hint) == hinted
    assert "--retry-quarantined" in found.failure.hint


def test_activation_that_fails_with_the_old_system_too_has_a_hint() -> None:
    reason = "activation failed with exit status 2: the old system's activation fails too"
    found = result.gone_back(job(), View(state=State.REVERTED, running=OLD, blame="silent"), reason, [], unwell=None)
    assert found.failure is not None
    assert "ignore_snippets" in found.failure.hint


def test_host_that_somebody_else_changed_failed() -> None:
    found = result.not_ours(job(), View(state=State.SUPERSEDED, running=NEW), [])
    assert found.outcome is Outcome.FAILED
    assert found.failure is not None
    assert found.failure.kind == "superseded"


@pytest.mark.parametrize("reason", ["", "check web: 503"])
@pytest.mark.parametrize("unproven", ["", "nothing listens on sshd's port 22"])
def test_stuck_host_needs_a_human_and_says_what_is_wrong(reason: str, unproven: str) -> None:
    found = result.stuck(job(), View(state=State.STUCK, running=NEW, reason=reason, unproven=unproven), [])
    assert found.outcome is Outcome.NEEDS_HUMAN
    assert found.failure is not None
    assert reason in found.failure.message
    assert unproven in found.failure.message
    assert NEW in found.failure.now
    assert OLD in found.failure.now


@pytest.mark.parametrize(("has_switched", "seconds"), [(False, "660 s"), (True, "60 s")])
def test_host_in_doubt_says_when_it_goes_back(*, has_switched: bool, seconds: str) -> None:
    found = result.in_doubt(job(), "lost", has_switched=has_switched)
    assert found.outcome is Outcome.NEEDS_HUMAN
    assert found.failure is not None
    assert f" {seconds}" in found.failure.now
    assert "fleet status web-1" in found.failure.hint


def test_notes_of_the_host_are_told() -> None:
    found = result.kept(
        job(), View(state=State.COMMITTED, running=NEW, notes=("x was not restarted",)), ["y"], reboot=()
    )
    assert found.notes == ("y", "x was not restarted")
