"""Turn plans into the events that announce them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleet.events import FindingReported, HostPlanned
from fleet.plans.part import Action

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from fleet.model import HostName
    from fleet.plans.part import Part
    from fleet.plans.plan import Plan


def planned(part: Part, wave: int) -> HostPlanned:
    """Return the event that announces a part."""
    is_push = part.action is not Action.UNCHANGED and not part.goal.switches
    return HostPlanned(
        host=part.host,
        action="push" if is_push else part.action.value,
        closure=part.closure,
        running=part.expected,
        wave=wave,
        reboot=part.reboot,
        **vars(part.forecast),
    )


def announced(plan: Plan, hosts: Collection[HostName]) -> Iterator[HostPlanned | FindingReported]:
    """Yield what the plan says about these hosts, and what was found about them or about no host in particular."""
    for number, wave in enumerate(plan.waves, 1):
        yield from (planned(plan.parts[name], number) for name in wave if name in hosts)
    yield from (
        finding
        for finding in plan.findings
        if finding.host is None or finding.host in hosts or finding.host not in plan.parts
    )
