"""Find what is on many hosts that nobody declared, and remember what people accept of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleet.drift import DriftReport, accepted, read_drift, remembered
from fleet.inventory.profiles import computer
from fleet.ledger import Kind
from fleet.library.entering import enter
from fleet.library.reading import ask_all
from fleet.model import HostName
from fleet.state.threads import in_state

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleet.errors import FleetError
    from fleet.inventory import Host
    from fleet.library.reading import OnWait
    from fleet.library.tools import Tools
    from fleet.machine import Link

NAMED = 50
"""Accepted things that the ledger names one by one."""


async def find_drift(
    tools: Tools, hosts: Sequence[Host], *, accept: bool, on_wait: OnWait
) -> dict[HostName, DriftReport | FleetError]:
    """Return what was found on each host. If it is to `accept`, this machine remembers that from now on."""

    async def look(host: Host, link: Link) -> DriftReport:
        place = HostName(computer(host))
        before = await remembered(tools.state, place)
        report = await read_drift(link, before, accept=accept)
        if not accept:
            return report
        report, baseline = accepted(report, before)
        if what := baseline.beyond(before):
            await enter(tools, Kind.DRIFT_ACCEPTED, host=host.name, count=len(what), what=what[:NAMED])
        await in_state(tools.state.keep_baseline, place, baseline.record(tools.by))
        return report

    return await ask_all(tools.logins, hosts, look, on_wait=on_wait)
