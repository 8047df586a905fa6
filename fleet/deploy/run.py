"""One run from its first event to its last, whatever happens in between."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from fleet import nix
from fleet.deploy import result
from fleet.deploy.prepare import Preparation, Prepared
from fleet.deploy.rollout import Rollout
from fleet.errors import FleetError
from fleet.events import HostFinished, RunFinished, RunInterrupted, RunStarted
from fleet.host.program import HostProgram, source
from fleet.machine.link import Link

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence

    from fleet.deploy.request import Run
    from fleet.inventory import Host
    from fleet.machine import Machine
    from fleet.model import HostName, HostResult

    Agree = Callable[[Prepared], Awaitable[bool]]


async def execute(run: Run, hosts: Sequence[Host], *, agree: Agree) -> int:
    """The run is over and its last event is out. Returns the command's exit code.

    `agree` is asked once, after the plan, when something would change; a no ends the run with nothing changed.
    """
    names = tuple(host.name for host in hosts)
    run.emit(RunStarted(run=run.id, verb=run.request.verb, goal=run.request.goal, hosts=names))
    results: dict[HostName, HostResult] = {}
    error: FleetError | None = None
    try:
        async with _links(run, hosts) as links:
            preparation = Preparation(run, hosts, links)
            results = preparation.results
            prepared = await _interruptible(preparation.prepare())
            if run.request.verb != "plan" and prepared.plans and await agree(prepared):
                results |= await _roll_out(run, prepared, links)
    except FleetError as caught:
        error = caught
    except asyncio.CancelledError:
        run.interrupt.asked = True
    _skip_the_rest(run, hosts, results, error)
    ended = tuple(results[host.name] for host in hosts if host.name in results)
    code = result.exit_code(ended, error=error, interrupted=run.interrupt.asked)
    run.emit(RunFinished(run=run.id, exit_code=code, error=error.failure() if error else None, hosts=ended))
    return code


@contextlib.asynccontextmanager
async def _links(run: Run, hosts: Sequence[Host]) -> AsyncIterator[dict[HostName, Link]]:
    links = {host.name: Link(run.logins, host) for host in hosts}
    try:
        yield links
    finally:
        await asyncio.gather(*(link.close() for link in links.values()))


async def _interruptible(work: Awaitable[Prepared]) -> Prepared:
    """The work's result. Ctrl-C ends the work at once: nothing has been changed yet."""
    task = asyncio.ensure_future(work)
    with _on_interrupt(task.cancel):
        return await task


async def _roll_out(run: Run, prepared: Prepared, links: dict[HostName, Link]) -> dict[HostName, HostResult]:
    """All hosts have ended. Ctrl-C once: no further host begins. Twice: hosts at work are left to themselves."""
    program = HostProgram(await store_program(run.here))
    rollout = Rollout(run, prepared.waves, links, program)
    task = asyncio.ensure_future(rollout.roll_out())

    def interrupt() -> None:
        if run.interrupt.asked:
            task.cancel()
        else:
            run.interrupt.asked = True
            run.emit(RunInterrupted())

    with _on_interrupt(interrupt), contextlib.suppress(asyncio.CancelledError):
        await task
    return rollout.results


@contextlib.contextmanager
def _on_interrupt(act: Callable[[], object]) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM)
    for number in numbers:
        loop.add_signal_handler(number, act)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


async def store_program(here: Machine) -> str:
    """The host program's path in the local store, which now has it."""
    folder = await asyncio.to_thread(tempfile.mkdtemp, prefix="fleet-")
    try:
        file = Path(folder) / "fleet-host"
        file.write_text(source())
        file.chmod(0o755)  # an installer may have dropped the bit
        added = await here.run(nix.add_file(file))
    finally:
        shutil.rmtree(folder)
    if added.status != 0:
        raise FleetError("cannot add the host program to the local store", said=added.stderr.splitlines()[-5:])
    return added.stdout.strip()


def _skip_the_rest(
    run: Run, hosts: Sequence[Host], results: dict[HostName, HostResult], error: FleetError | None
) -> None:
    """Every selected host has a result, unless nothing was ever going to happen to it."""
    if error is None and not run.interrupt.asked:
        return
    for host in hosts:
        if host.name not in results:
            why = "interrupted before it began" if error is None else f"not begun: {error.message}"
            results[host.name] = result.skipped(host, why)
            run.emit(HostFinished(host=host.name, result=results[host.name]))
