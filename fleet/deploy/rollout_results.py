"""Compute the results of hosts that a rollout watches, takes back, or does not begin yet. Pure functions."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from fleet.inventory.windows import opening
from fleet.model import Failure, FailureKind, Goal, HostResult, Outcome, Verb
from fleet.text import local_time

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fleet.state import RunRecord
    from fleet.steps.job import Job


UNCHANGED = "nothing was changed"
"""What is said of a host that has not begun to go back, and so keeps what it should not."""


def unwell(kept: HostResult, why: str) -> HostResult:
    """Return the result of a host that was kept and got unwell while its wave soaked."""
    failure = Failure(
        kind=FailureKind.UNHEALTHY,
        message=f"got unwell after it was kept: {why}",
        now=f"keeps {kept.closure}",
        hint=f"fleet rollback {kept.host} takes it back",
    )
    return dataclasses.replace(kept, failure=failure)


def undone(kept: HostResult, *, seconds: float = 0.0, reboot_pending: bool = False) -> HostResult:
    """Return the result of a host that was kept, and has gone back since the run failed, in so many seconds."""
    failure = Failure(
        kind=FailureKind.UNDONE,
        message="was kept, and has gone back since the run failed",
        now=f"runs {kept.previous} again, proven",
    )
    return dataclasses.replace(
        kept,
        outcome=Outcome.ROLLED_BACK,
        boot_default=False,
        reboot_pending=reboot_pending,
        seconds=kept.seconds + seconds,
        failure=failure,
    )


def not_undone(kept: HostResult, why: Failure | None) -> HostResult:
    """Return the result of a host that was kept, and should have gone back since the run failed, and has not."""
    why = why or Failure(kind=FailureKind.SKIPPED, message="somebody has changed it since")
    failure = dataclasses.replace(
        why,
        message=f"was to go back since the run failed: {why.message}",
        now=f"keeps {kept.closure}" if why.now in ("", UNCHANGED) else why.now,
        hint=why.hint or f"fleet rollback {kept.host}",
    )
    is_known = why.kind not in (FailureKind.IN_DOUBT, FailureKind.STUCK, FailureKind.BUG)
    return dataclasses.replace(kept, outcome=kept.outcome if is_known else Outcome.NEEDS_HUMAN, failure=failure)


def told_of_delivery(ended: HostResult, run: RunRecord) -> HostResult:
    """Return the result of a host that was left out; if it was deferred, with what brings it its system later."""
    is_wanted = run.verb == Verb.DEPLOY and run.goal in (Goal.SWITCH, Goal.BOOT)
    if ended.outcome is not Outcome.DEFERRED or ended.failure is None or not is_wanted:
        return ended
    hint = "; ".join(filter(None, (ended.failure.hint, "once it is back, fleet deliver brings what waits for it")))
    return dataclasses.replace(ended, failure=dataclasses.replace(ended.failure, hint=hint))


def closed(jobs: Iterable[Job], now: float) -> list[HostResult]:
    """Return the results of the hosts that are outside of their windows now, in seconds since 1970."""
    found = [(job, opening(job.part.windows, now)) for job in jobs]
    return [outside_window(job, opens) for job, opens in found if opens is not None]


def outside_window(job: Job, opens: float) -> HostResult:
    """Return the result of a host whose windows are closed. The next one opens at this second since 1970."""
    when = local_time(opens, "%a %Y-%m-%d %H:%M %Z")
    failure = Failure(
        kind=FailureKind.WINDOW,
        message=f"outside its window {' or '.join(job.part.windows)}; that opens {when}",
        now="nothing was changed",
        hint="fleet deliver brings it then, or another deployment; --ignore-windows does not wait",
    )
    return HostResult(
        host=job.host.name, outcome=Outcome.DEFERRED, closure=job.closure, previous=job.facts.running, failure=failure
    )
