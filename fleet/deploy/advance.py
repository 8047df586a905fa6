"""Decide what a rollout does next. A pure function over what is recorded of it, so whoever has the record can go on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleet.model import Outcome
from fleet.text import listed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleet.model import HostName, HostResult
    from fleet.plans import Plan
    from fleet.state import HostRecord

LEFT_OUT = (Outcome.DEFERRED, Outcome.SKIPPED, Outcome.FAILED)
"""The outcomes of hosts that a run has not changed."""


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How far a rollout has come."""

    wave: int = 1
    """The wave to look at first. All before it are over."""
    soaked: frozenset[int] = frozenset()
    """The waves after which a soak is over."""
    selected: frozenset[HostName]
    """The hosts of the plan that it is applied to."""
    results: Mapping[HostName, HostResult]
    bad: int
    """How many hosts have ended badly."""
    interrupted: str = ""
    """Why no further host may begin, in the words of whoever asked for that. Empty if nobody did."""


@dataclass(frozen=True)
class Begin:
    """These hosts of this wave may begin, those of earlier waves have ended."""

    wave: int
    hosts: tuple[HostName, ...]


@dataclass(frozen=True)
class Soak:
    """Hosts that were changed are watched for some seconds after this wave. Then it is over."""

    wave: int
    hosts: tuple[HostName, ...]
    seconds: float


@dataclass(frozen=True)
class End:
    """The rollout is over. Whoever has no result is not begun, for this reason if there is one."""

    reason: str = ""


def advance(plan: Plan, standing: Standing) -> Begin | Soak | End:
    """Return what is to be done next. Nobody is under way: each host that began has a result.

    It takes time for the hosts of the waves that it looks at only.
    """
    results = standing.results
    soaks = {soak.last: soak for soak in plan.soaks}
    for number in range(standing.wave, len(plan.waves) + 1):
        wave = [name for name in plan.waves[number - 1] if name in standing.selected]
        waiting = tuple(name for name in wave if name not in results)
        if reason := why_none_may_begin(plan, standing.bad, standing.interrupted):
            return End(reason)
        if waiting:
            return Begin(number, waiting)
        soak = soaks.get(number)
        if soak is not None and number not in standing.soaked:
            those = [name for each in plan.waves[soak.first - 1 : number] for name in each if name in standing.selected]
            if kept := tuple(name for name in those if results[name].outcome is Outcome.KEPT):
                return Soak(number, kept, soak.seconds)
        if wave and number < len(plan.waves) and not any(results[name].outcome not in LEFT_OUT for name in wave):
            return End(f"not begun: nobody of wave {number} took part ({listed(wave, most=3)})")
    return End()


def count_bad(results: Mapping[HostName, HostResult], hosts: Mapping[HostName, HostRecord]) -> int:
    """Return how many hosts have ended badly, of those that the run has brought something to."""
    return sum(
        results[name].counts_against_run
        for name, host in hosts.items()
        if (host.pushed or host.begun) and name in results
    )


def why_none_may_begin(plan: Plan, bad: int, interrupted: str) -> str:
    """Return why no further host may begin; nothing if one may."""
    if interrupted:
        return interrupted
    if bad > plan.max_failures:
        return f"not begun: {bad} of the hosts before it ended badly (max_failures)"
    return ""


def why_it_waits_in_vain(plan: Plan, name: HostName, results: Mapping[HostName, HostResult]) -> str:
    """Return why the host does not begin though it may: one that it comes after has not ended well."""
    for other in dict(plan.after).get(name, ()):
        ended = results.get(other)
        if ended is not None and (ended.outcome in LEFT_OUT or not ended.is_good):
            return f"not begun: {other}, which it comes after, ended {ended.outcome.value.replace('_', ' ')}"
    return ""
