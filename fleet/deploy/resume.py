"""Taking up a run whose controller was lost: the truth is learned from the hosts, nothing is built or begun."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import TYPE_CHECKING

from fleet.deploy import result
from fleet.deploy.host import HostRun
from fleet.errors import HostError
from fleet.events import HostFinished, RunFinished, RunStarted
from fleet.host.program import HostProgram
from fleet.machine.link import Link
from fleet.steps.plan import Action, HostPlan
from fleet.steps.preflight import preflight

if TYPE_CHECKING:
    from fleet.deploy.past import PastHost, PastRun
    from fleet.deploy.request import Run
    from fleet.inventory import Host
    from fleet.model import HostResult


async def resume(run: Run, past: PastRun) -> int:
    """Every host of the run has its true outcome, and the run's folder has it too. Returns the exit code.

    A host that is still switching is followed; one that waits for a word is proven, and commits or goes back; one that
    has decided alone says what it did. One that had not begun stays as it is.
    """
    names = tuple(past.hosts)
    asked = run.request
    started = RunStarted(
        run=run.id, verb="resume", goal=asked.goal, hosts=names, watch=asked.watch, strict=asked.strict
    )
    run.emit(started)
    results: list[HostResult] = []
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_settled(run, host)) for host in past.hosts.values()]
    for task in tasks:
        ended = task.result()
        results.append(ended)
        run.emit(HostFinished(host=ended.host, result=ended))
    code = result.exit_code(results)
    run.emit(RunFinished(run=run.id, exit_code=code, error=None, hosts=tuple(results)))
    return code


async def _settled(run: Run, past: PastHost) -> HostResult:
    if past.is_settled and past.result is not None:
        return past.result
    host = next((known for name, known in run.inventory.hosts.items() if name == past.name), None)
    if host is None:
        return result.forgotten(past.name, "it is not in fleet.toml any more")
    link = Link(run.logins, host)
    try:
        return await _follow(run, host, past, link)
    finally:
        await link.close()


async def _follow(run: Run, host: Host, past: PastHost, link: Link) -> HostResult:
    if past.closure is None or past.previous is None or not (past.begun or past.pushed):
        return result.skipped(host, "the run ended before it began")
    try:
        facts = await preflight(link, host)
    except HostError as error:
        if past.begun:
            return result.forgotten(host.name, f"not seen to the end: {error.message}")
        return result.left_out(host, error)
    plan = HostPlan(
        host=host,
        facts=dataclasses.replace(facts, running=past.previous),
        closure=past.closure,
        action=Action.SWITCH,
        reboot=past.reboot,
    )
    return await HostRun(run, plan, link, HostProgram()).take_up(past.before, begun=past.begun)
