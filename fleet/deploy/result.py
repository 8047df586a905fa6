"""Pure: how a host's run ended, and what the command's exit code is."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from fleet.errors import INTERRUPTED, BuildError, EvaluationError, UnreachableError
from fleet.inventory import Offline
from fleet.model import Failure, HostResult, Outcome
from fleet.steps.prove import Condemned

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from fleet.errors import FleetError
    from fleet.host.answers import HostFacts, View
    from fleet.inventory import Host
    from fleet.model import Closure, HostName, RunId
    from fleet.steps.plan import HostPlan
    from fleet.steps.prove import Verdict

NIX_FAILED = (EvaluationError.kind, BuildError.kind)


def exit_code(results: Sequence[HostResult], *, error: FleetError | None = None, interrupted: bool = False) -> int:
    """The command's exit code: the first rule that applies (design: 4, 130, 5, 3, 2, 1, 0)."""
    if any(result.outcome is Outcome.NEEDS_HUMAN for result in results):
        return 4
    if interrupted:
        return INTERRUPTED
    if results and all(result.failure is not None and result.failure.kind == "locked" for result in results):
        return 5
    if error is not None:
        return error.exit_code
    if results and all(result.failure is not None and result.failure.kind in NIX_FAILED for result in results):
        return EvaluationError.exit_code
    return 0 if all(result.outcome.is_good for result in results) else 1


def left_out(host: Host, error: FleetError, facts: HostFacts | None = None) -> HostResult:
    """The result of a host that failed before anything was changed on it."""
    deferred = isinstance(error, UnreachableError) and host.offline is Offline.DEFER
    return HostResult(
        host=host.name,
        outcome=Outcome.DEFERRED if deferred else Outcome.FAILED,
        previous=facts.running if facts else None,
        failure=with_now(error.failure(), "nothing was changed"),
    )


def skipped(name: HostName, why: str) -> HostResult:
    """The result of a host that never began."""
    failure = Failure(kind="skipped", message=why, now="nothing was changed")
    return HostResult(host=name, outcome=Outcome.SKIPPED, failure=failure)


def forgotten(name: HostName, why: str) -> HostResult:
    """The result of a host of an earlier run whose truth cannot be learned now."""
    hint = f"fleet resume again, or fleet status {name}, as soon as the host can be reached"
    failure = Failure(
        kind="in_doubt", message=why, now="not known; unless it committed it goes back by itself", hint=hint
    )
    return HostResult(host=name, outcome=Outcome.NEEDS_HUMAN, failure=failure)


def with_bundle(ended: HostResult, bundle: Path | None) -> HostResult:
    """The result, telling where all is that was gathered about the failure."""
    if bundle is None or ended.failure is None:
        return ended
    hint = "; ".join(text for text in (ended.failure.hint, f"all that was gathered: {bundle}") if text)
    return dataclasses.replace(ended, failure=dataclasses.replace(ended.failure, hint=hint))


def unchanged(host: Host, facts: HostFacts, closure: Closure) -> HostResult:
    """The result of a host that stands on the wanted closure."""
    return HostResult(
        host=host.name,
        outcome=Outcome.UNCHANGED,
        closure=closure,
        previous=facts.running,
        boot_default=True,
        boot_proven=not facts.reboot_pending,
        reboot_pending=bool(facts.reboot_pending),
    )


def with_now(failure: Failure, now: str) -> Failure:
    """The failure, telling what state the host is in."""
    return dataclasses.replace(failure, now=failure.now or now)


def kept(plan: HostPlan, end: View, notes: Iterable[str], *, reboot: Sequence[str]) -> HostResult:
    """The result of a host that committed the new system, or keeps it until the next boot (goal `test`)."""
    told = list(notes)
    if end.boot_entry == "unverified":
        told.append("what boots next could not be read from the boot loader's files")
    if end.state == "tested":
        told.append(
            f"until the next boot only: the boot default is still {plan.facts.boot_default or plan.facts.profile}"
        )
    return HostResult(
        host=plan.host.name,
        outcome=Outcome.KEPT,
        closure=plan.closure,
        previous=plan.facts.running,
        boot_default=end.state == "committed",
        boot_proven=not reboot,
        reboot_pending=bool(reboot),
        notes=tuple(told),
    )


def why_back(end: View, verdict: Verdict, silence: str) -> str:
    """Why the host went back: its own reason, and ours where that did not reach it."""
    ours = " ".join(verdict.reason.split()) if isinstance(verdict, Condemned) else ""
    if end.rebooted and not (isinstance(verdict, Condemned) and verdict.found):
        return end.reason  # it explains all silence
    if not ours and silence and end.blame == "silent":
        ours = silence
    if ours not in end.reason:
        return f"{ours}; {end.reason}"
    return end.reason or "the new system was not proven"


def gone_back(plan: HostPlan, end: View, reason: str, said: Sequence[str], *, old_is_unwell: str | None) -> HostResult:
    """The result of a host that went back by its own proof; `old_is_unwell` is what a check says that passed before."""
    quarantined = "this closure is refused here from now on, unless with --retry-quarantined"
    failure = Failure(
        kind="unhealthy" if end.blame == "found" else "silent",
        message=reason,
        said=tuple(said),
        now=f"runs {plan.facts.running} again" + (f", but {old_is_unwell}" if old_is_unwell else ", proven"),
        hint=quarantined if end.blame == "found" else "",
    )
    return _bad(plan, Outcome.NEEDS_HUMAN if old_is_unwell else Outcome.ROLLED_BACK, failure)


def not_ours(plan: HostPlan, end: View, said: Sequence[str]) -> HostResult:
    """The result of a host on which somebody else has switched or set the profile meanwhile."""
    failure = Failure(
        kind="superseded",
        message="somebody else changed the running system or the profile during the switch",
        said=tuple(said),
        now=f"runs {end.running}; fleet has taken its hands off",
        hint=f"see who: fleet status {plan.host.name}, and the journal there; then deploy again",
    )
    return _bad(plan, Outcome.FAILED, failure)


def stuck(plan: HostPlan, end: View, said: Sequence[str]) -> HostResult:
    """The result of a host that could not prove its old system."""
    failure = Failure(
        kind="stuck",
        message=f"the way back could not be proven ({end.reason})"
        if end.reason
        else "the way back could not be proven",
        said=tuple(said),
        now=f"runs {end.running}, wanted back: {plan.facts.running}",
        hint=f"fleet ssh {plan.host.name}: systemctl --failed, journalctl -u 'fleet-*'",
    )
    return _bad(plan, Outcome.NEEDS_HUMAN, failure)


def in_doubt(plan: HostPlan, why: str, *, has_switched: bool, is_overdue: bool = False) -> HostResult:
    """The result of a host that began to switch and was not seen to the end.

    `is_overdue` says that it is past its own deadline and has not gone back.
    """
    seconds = plan.host.confirm_timeout + (0.0 if has_switched else plan.host.activation_timeout)
    seconds += plan.host.boot_timeout if plan.by_reboot else 0.0
    failure = Failure(
        kind="in_doubt",
        message=why,
        now=f"unless it committed, it goes back to {plan.facts.running} by itself within {seconds:g} s",
        hint=f"fleet status {plan.host.name} tells as soon as the host can be reached",
    )
    if is_overdue:
        now = f"not proven, and it does not go back to {plan.facts.running} by itself"
        hint = f"fleet ssh {plan.host.name}: systemctl status 'fleet-keep-*'; then fleet resume"
        failure = dataclasses.replace(failure, now=now, hint=hint)
    return _bad(plan, Outcome.NEEDS_HUMAN, failure)


def replaced(plan: HostPlan, run: RunId) -> HostResult:
    """The result of a host that began to switch and has forgotten how that ended."""
    failure = Failure(
        kind="replaced",
        message=f"the host knows nothing of run {run} any more: a later run has replaced its record",
        now="whatever the later run has left there",
        hint=f"fleet status {plan.host.name} tells what it runs; fleet runs tells of later runs from here",
    )
    return _bad(plan, Outcome.NEEDS_HUMAN, failure)


def _bad(plan: HostPlan, outcome: Outcome, failure: Failure) -> HostResult:
    return HostResult(
        host=plan.host.name,
        outcome=outcome,
        closure=plan.closure,
        previous=plan.facts.running,
        reboot_pending=bool(plan.facts.reboot_pending),
        failure=failure,
    )
