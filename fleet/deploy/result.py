"""Compute the results of hosts, which say how each ended, and the exit code of the command. Pure functions."""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING

from fleet.errors import INTERRUPTED, EvaluationError, UnreachableError
from fleet.host.answers import State
from fleet.inventory import Offline
from fleet.model import Failure, FailureKind, HostResult, Outcome, Verb
from fleet.steps.verdict import Condemned

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from fleet.errors import FleetError
    from fleet.host.answers import View
    from fleet.host.facts import HostFacts, LastTransaction
    from fleet.inventory import Host
    from fleet.model import Closure, HostName, RunId
    from fleet.plans import Part, Plan
    from fleet.steps.job import Job
    from fleet.steps.prove_back import Unwell
    from fleet.steps.verdict import Verdict

FIRST_CERTIFICATE = """\
a first certificate is ordered while the host is proven: ignore_units = ["acme-*"] lets the switch be kept without it"""
MAY_FAIL = "ignore_snippets in fleet.toml names activation scripts that may fail"
NIX_FAILED = (FailureKind.EVALUATION, FailureKind.BUILD)


def exit_code(results: Sequence[HostResult], *, error: FleetError | None = None, interrupted: bool = False) -> int:
    """Return the exit code of the command: the first in docs/outcomes.md that applies (4, 130, 5, 3, 2, 1, 0)."""
    if any(result.outcome is Outcome.NEEDS_HUMAN for result in results):
        return 4
    if interrupted:
        return INTERRUPTED
    if results and all(result.failure is not None and result.failure.kind is FailureKind.LOCKED for result in results):
        return 5
    if error is not None:
        return error.exit_code
    if results and all(result.failure is not None and result.failure.kind in NIX_FAILED for result in results):
        return EvaluationError.exit_code
    return 0 if all(result.is_good for result in results) else 1


def left_out(host: Host, error: FleetError, facts: HostFacts | None = None) -> HostResult:
    """Return the result of a host that failed before anything was changed on it."""
    deferred = isinstance(error, UnreachableError) and host.offline is Offline.DEFER
    return HostResult(
        host=host.name,
        outcome=Outcome.DEFERRED if deferred else Outcome.FAILED,
        previous=facts.running if facts else None,
        failure=with_now(error.failure(), "nothing was changed"),
    )


def skipped(name: HostName, why: str, hint: str = "") -> HostResult:
    """Return the result of a host that never began."""
    failure = Failure(kind=FailureKind.SKIPPED, message=why, now="nothing was changed", hint=hint)
    return HostResult(host=name, outcome=Outcome.SKIPPED, failure=failure)


def called_off(hosts: Iterable[Host], unable: Iterable[HostName]) -> list[HostResult]:
    """Return the results of hosts that do not begin since it is all or nothing, and others cannot take part."""
    why = f"all or nothing, and {', '.join(unable)} cannot take part"
    return [skipped(host.name, why) for host in hosts]


def forgotten(name: HostName, why: str) -> HostResult:
    """Return the result of a host of an earlier run whose end cannot be learned now."""
    hint = f"fleet resume again, or fleet status {name}, as soon as the host can be reached"
    failure = Failure(
        kind=FailureKind.IN_DOUBT, message=why, now="not known; unless it committed it goes back by itself", hint=hint
    )
    return HostResult(host=name, outcome=Outcome.NEEDS_HUMAN, failure=failure)


def of_last(part: Part, facts: HostFacts, last: LastTransaction) -> HostResult:
    """Return the result of a host whose last transaction was of this very part. Nothing is done again."""
    known = HostResult(host=part.host, outcome=Outcome.FAILED, closure=part.closure, previous=part.expected)
    when = "this very plan was applied there before"
    if last.state in (State.COMMITTED, State.TESTED):
        pending = bool(facts.reboot_pending)
        return dataclasses.replace(
            known,
            outcome=Outcome.KEPT,
            boot_default=last.state is State.COMMITTED and _is_default(part.closure, facts),
            boot_proven=not pending,
            reboot_pending=pending,
            notes=(when,),
        )
    kind = FailureKind.UNHEALTHY if last.blame == "found" else FailureKind.SUPERSEDED
    outcome = Outcome.FAILED
    if last.state is State.REVERTED:
        outcome = Outcome.ROLLED_BACK
    elif last.state is State.STUCK:
        outcome, kind = Outcome.NEEDS_HUMAN, FailureKind.STUCK
    message = f"{when}, and ended {last.state}: {last.reason}" if last.reason else f"{when}, and ended {last.state}"
    failure = Failure(kind=kind, message=message, now=f"runs {facts.running}", hint="fleet plan makes a new plan")
    return dataclasses.replace(known, outcome=outcome, failure=failure)


def with_bundle(ended: HostResult, bundle: Path | None) -> HostResult:
    """Return the result with a hint that names the folder of all that was gathered about the failure, if any was."""
    if bundle is None or ended.failure is None:
        return ended
    hint = "; ".join(text for text in (ended.failure.hint, f"all that was gathered: {bundle}") if text)
    return dataclasses.replace(ended, failure=dataclasses.replace(ended.failure, hint=hint))


def _is_default(closure: Closure, facts: HostFacts) -> bool | None:
    """Return whether the host boots the closure next; None if that cannot be read."""
    return None if facts.boot_default is None else facts.boot_default == closure


def unchanged(host: Host, facts: HostFacts, closure: Closure) -> HostResult:
    """Return the result of a host that stands on the wanted closure."""
    return HostResult(
        host=host.name,
        outcome=Outcome.UNCHANGED,
        closure=closure,
        previous=facts.running,
        boot_default=_is_default(closure, facts),
        boot_proven=not facts.reboot_pending,
        reboot_pending=bool(facts.reboot_pending),
    )


def with_now(failure: Failure, now: str) -> Failure:
    """Return the failure with `now`, the state that the host is in, unless it tells that already."""
    return dataclasses.replace(failure, now=failure.now or now)


def kept(job: Job, end: View, notes: Iterable[str], *, reboot: Sequence[str]) -> HostResult:
    """Return the result of a host that committed the new system, or keeps it until the next boot (goal `test`)."""
    shown = [*notes, *end.notes]
    is_default: bool | None = end.state is State.COMMITTED
    if end.boot_entry == "unverified":
        is_default = None
        why = f": {end.boot_doubt}" if end.boot_doubt else " from the boot loader's files"
        shown.append(f"what boots next could not be read{why}")
    if end.state is State.TESTED:
        shown.append(
            f"until the next boot only: the boot default is still {job.facts.boot_default or job.facts.profile}"
        )
    return HostResult(
        host=job.host.name,
        outcome=Outcome.KEPT,
        closure=job.closure,
        previous=job.part.expected,
        boot_default=is_default,
        boot_proven=not reboot,
        reboot_pending=bool(reboot),
        notes=tuple(shown),
    )


def notes_on_rollback(plan: Plan | None) -> list[str]:
    """Return what people should know who went back: what ran before is now what came after."""
    is_rollback = plan is not None and plan.verb is Verb.ROLLBACK
    return ["a second fleet rollback goes forward again"] if is_rollback else []


def why_back(end: View, verdict: Verdict, silence: str) -> str:
    """Return why the host went back: its own reason, and ours too if that did not reach the host."""
    ours = " ".join(verdict.reason.split()) if isinstance(verdict, Condemned) else ""
    if end.rebooted and not (isinstance(verdict, Condemned) and verdict.found):
        return end.reason  # it explains all silence
    if not ours and silence and end.blame == "silent":
        ours = silence
    if ours not in end.reason:
        return f"{ours}; {end.reason}"
    return end.reason or "the new system was not proven"


def gone_back(job: Job, end: View, reason: str, said: Sequence[str], *, unwell: Unwell | None) -> HostResult:
    """Return the result of a host that went back to the old system and proved it.

    `said` has the lines that explain why. `unwell` is what speaks against the old system for whoever comes from
    outside; None if nothing does.
    """
    quarantined = "this closure is refused here from now on, unless with --retry-quarantined"
    if re.search(r"\bacme-\S+\.service", reason):  # the first certificate needs the server that needs it
        quarantined += f"; {FIRST_CERTIFICATE}"
    shared = MAY_FAIL if "the old system's activation fails too" in reason else ""
    failure = Failure(
        kind=FailureKind.UNHEALTHY if end.blame == "found" else FailureKind.SILENT,
        message=reason,
        said=tuple(said),
        now=f"runs {job.part.expected} again" + (f", but {unwell.says}" if unwell else ", proven"),
        hint=quarantined if end.blame == "found" else shared,
    )
    return _bad_result(job, Outcome.NEEDS_HUMAN if unwell else Outcome.ROLLED_BACK, failure)


def not_ours(job: Job, end: View, said: Sequence[str]) -> HostResult:
    """Return the result of a host on which somebody else has switched or set the profile meanwhile."""
    failure = Failure(
        kind=FailureKind.SUPERSEDED,
        message="somebody else changed the running system or the profile during the switch",
        said=tuple(said),
        now=f"runs {end.running}; fleet has taken its hands off",
        hint=f"see who: fleet status {job.host.name}, and the journal there; then deploy again",
    )
    return _bad_result(job, Outcome.FAILED, failure)


def stuck(job: Job, end: View, said: Sequence[str]) -> HostResult:
    """Return the result of a host that could not prove its old system."""
    what = f"the way back could not be proven: {end.unproven}" if end.unproven else "the way back could not be proven"
    failure = Failure(
        kind=FailureKind.STUCK,
        message=f"{what} ({end.reason})" if end.reason else what,
        said=tuple(said),
        now=f"runs {end.running}, wanted back: {job.part.expected}",
        hint=f"fleet ssh {job.host.name}: systemctl --failed, journalctl -u 'fleet-*'",
    )
    return _bad_result(job, Outcome.NEEDS_HUMAN, failure)


def in_doubt(job: Job, why: str, *, has_switched: bool, is_overdue: bool = False) -> HostResult:
    """Return the result of a host that began to switch and was not seen to the end.

    `why` says what kept us from seeing it. `is_overdue` says that it is past its own deadline and has not gone back.
    """
    seconds = job.host.confirm_timeout + (0.0 if has_switched else job.host.activation_timeout)
    seconds += job.host.boot_timeout if job.part.by_reboot else 0.0
    failure = Failure(
        kind=FailureKind.IN_DOUBT,
        message=why,
        now=f"unless it committed, it goes back to {job.part.expected} by itself within {seconds:g} s",
        hint=f"fleet resume sees it through; fleet status {job.host.name} tells as soon as the host can be reached",
    )
    if is_overdue:
        now = f"not proven, and it does not go back to {job.part.expected} by itself"
        hint = f"fleet ssh {job.host.name}: systemctl status 'fleet-keep-*'; then fleet resume"
        failure = dataclasses.replace(failure, now=now, hint=hint)
    return _bad_result(job, Outcome.NEEDS_HUMAN, failure)


def replaced(job: Job, run: RunId) -> HostResult:
    """Return the result of a host that began to switch and does not know any more how that ended."""
    failure = Failure(
        kind=FailureKind.REPLACED,
        message=f"the host knows nothing of run {run} any more: a later run has replaced its record",
        now="whatever the later run has left there",
        hint=f"fleet status {job.host.name} tells what it runs; fleet runs tells of later runs from here",
    )
    return _bad_result(job, Outcome.NEEDS_HUMAN, failure)


def _bad_result(job: Job, outcome: Outcome, failure: Failure) -> HostResult:
    """Return the result of a host that does not keep the new system."""
    return HostResult(
        host=job.host.name,
        outcome=outcome,
        closure=job.closure,
        previous=job.part.expected,
        reboot_pending=bool(job.facts.reboot_pending),
        failure=failure,
    )
