"""`python -m tests.bench.engine FLEET_TOML CLOSURE`: the seconds of a push on a connection that stands."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

from fleet import inventory
from fleet.deploy.request import new_run_id
from fleet.deploy.run import store_program
from fleet.host.program import HostProgram
from fleet.machine.link import Link
from fleet.machine.local import LocalMachine
from fleet.machine.login import Logins
from fleet.machine.pipe import LocalStreams
from fleet.model import Closure
from fleet.steps.plan import contents, plan_host
from fleet.steps.preflight import preflight
from fleet.steps.push import push
from fleet.steps.weigh import Scales
from fleet.store.supply import Supply


async def measure(file: Path, top: str) -> float:
    """Seconds from the plan to the host's word that it has all."""
    fleet = inventory.load(file)
    (host,) = fleet.hosts.values()
    here, closure = LocalMachine(), Closure(top)
    program = HostProgram(await store_program(here))
    link = Link(Logins(fleet.hosts), host)
    try:
        facts = await preflight(link, host)
        plan = await plan_host(link, host, facts, closure, made_of=await contents(here, closure))
        async with Supply(LocalStreams()) as supply:
            plan = await Scales(supply).weigh(plan, speed=None)
            started = time.perf_counter()
            await push(supply, link, plan, new_run_id(), program, emit=lambda _: None)
            return time.perf_counter() - started
    finally:
        await link.close()


if __name__ == "__main__":
    print(asyncio.run(measure(Path(sys.argv[1]), sys.argv[2])))
