"""Find the drift of one host."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from typing import TYPE_CHECKING

from fleet.drift import judge, packages, system
from fleet.drift.baseline import Baseline
from fleet.drift.look import look, look_at_store
from fleet.host import history
from fleet.host.facts import host_facts
from fleet.host.program import HostProgram, ask

if TYPE_CHECKING:
    from fleet.drift.finding import DriftReport
    from fleet.host.history import PastTransaction
    from fleet.machine import Link


async def read_drift(link: Link, baseline: Baseline | None, *, accept: bool = False) -> DriftReport:
    """Return what is on the host that nobody declared, and what is not there any more as it was deployed.

    If it is to `accept` and there is no baseline, everything is told that one can have: people see what that is.
    Nothing is changed there, but that a transaction which a reboot interrupted is settled, as by every contact. Raise
    `HostError` if the host cannot be asked.
    """
    host, program = link.host, HostProgram()
    facts = host_facts(await ask(link, host, program.call("facts")))
    past: tuple[PastTransaction, ...] = ()
    if system.needs_history(facts):
        past = history.entries(await ask(link, host, program.call("history")))
    seen = await look(link)
    items = await asyncio.to_thread(judge.undeclared, seen)
    new = judge.judged(items, seen, Baseline(0) if accept and baseline is None else baseline)
    store = await look_at_store(link, packages.profile_paths(new))
    found = await asyncio.to_thread(judge.report, host, facts, past, seen, store, new, baseline)
    return dataclasses.replace(found, found=Baseline.of(items, time.time()))


def accepted(report: DriftReport, before: Baseline | None) -> tuple[DriftReport, Baseline]:
    """Return the report as it is once everything that can be accepted is, and the new baseline.

    Another system, a reboot that is due and a damaged store stay findings. Where a part could not be looked at as a
    whole, what was accepted of it before stays too.
    """
    assert report.found is not None
    baseline = report.found
    if report.incomplete and before is not None:
        baseline = Baseline(baseline.at, {**before.signs, **baseline.signs})
    gone = tuple(one for one in report.findings if one.drift.can_be_accepted)
    left = tuple(one for one in report.findings if not one.drift.can_be_accepted)
    return dataclasses.replace(report, findings=left, accepted=gone, baseline=baseline.at), baseline
