"""`python -m tests.bench.engine FLEET_TOML CLOSURE`: the seconds of a push on a connection that stands."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

from fleet import inventory
from fleet.host.program import HostProgram
from fleet.library.tools import new_run_id
from fleet.machine.link import SshLink
from fleet.machine.local import LocalMachine
from fleet.machine.login import Logins
from fleet.machine.pipe import LocalStreams
from fleet.model import Closure
from fleet.plans import Part
from fleet.steps.estimate import Estimator
from fleet.steps.job import Job
from fleet.steps.load import contents_of, load_of
from fleet.steps.preflight import preflight
from fleet.steps.program import store_program
from fleet.steps.push import push
from fleet.store.supply import Supply


async def measure(file: Path, top: str) -> float:
    """Seconds from the plan to the host's word that it has all."""
    fleet = inventory.load(file)
    (host,) = fleet.hosts.values()
    here, closure = LocalMachine(), Closure(top)
    program = HostProgram(await store_program(here))
    link = SshLink(Logins(fleet.hosts), host)
    try:
        facts = await preflight(link, host)
        async with Supply(LocalStreams()) as supply:
            load = await load_of(link, host, await contents_of(here, supply, closure))
            load = await Estimator(supply).estimate(load, host.name, speed=None)
            part = Part(host=host.name, closure=closure, expected=facts.running)
            job = Job(part=part, host=host, facts=facts, load=load)
            started = time.perf_counter()
            await push(here, link, job, new_run_id(), program, engine=supply, emit=lambda _: None)
            return time.perf_counter() - started
    finally:
        await link.close()


if __name__ == "__main__":
    print(asyncio.run(measure(Path(sys.argv[1]), sys.argv[2])))
