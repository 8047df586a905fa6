"""One run from its first event to its last, whatever happens in between."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import shutil
import signal
import tempfile
import traceback
from dataclasses import dataclass
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
from fleet.machine.pace import Pace

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence

    from fleet.deploy.request import Run
    from fleet.inventory import Host
    from fleet.machine import Machine
    from fleet.model import HostName, HostResult

    Agree = Callable[[Prepared], Awaitable[bool]]
    Work = Callable[[dict[HostName, HostResult], "Interrupts"], Awaitable[None]]


async def execute(run: Run, hosts: Sequence[Host], *, agree: Agree) -> int:
    """The run is over and its last event is out. Returns the command's exit code.

    `agree` is asked once, after the plan, when something would change; a no ends the run with nothing changed.
    """

    async def work(results: dict[HostName, HostResult], interrupts: Interrupts) -> None:
        async with _links(run, hosts) as links, run.supply, run.thin:
            prepared = await Preparation(run, hosts, links, results).prepare()
            await _change(run, prepared, links, results, interrupts, agree=agree)

    return await told(run, run.request.verb, [host.name for host in hosts], work)


async def told(run: Run, verb: str, names: Sequence[HostName], work: Work) -> int:
    """The work is done, and the run told from its first event to its last. Returns the command's exit code.

    `work` fills the results. The hosts that it ends without were never begun.
    """
    asked = run.request
    run.emit(
        RunStarted(run=run.id, verb=verb, goal=asked.goal, hosts=tuple(names), watch=asked.watch, strict=asked.strict)
    )
    results: dict[HostName, HostResult] = {}
    error: FleetError | None = None
    try:
        with _interrupts() as interrupts:
            await work(results, interrupts)
    except FleetError as caught:
        error = caught
    except asyncio.CancelledError:
        run.interrupt.asked = True
    except Exception as caught:  # scripts wait for the last event, also when there is a bug
        error = _unexpected(caught)
    if error is not None:
        _skip_rest(run, names, results, "not begun")
    elif run.interrupt.asked:
        _skip_rest(run, names, results, "interrupted before it began")
    ended = tuple(results[name] for name in names if name in results)
    code = result.exit_code(ended, error=error, interrupted=run.interrupt.asked)
    run.emit(RunFinished(run=run.id, exit_code=code, error=error.failure() if error else None, hosts=ended))
    return code


async def _change(
    run: Run,
    prepared: Prepared,
    links: dict[HostName, Link],
    results: dict[HostName, HostResult],
    interrupts: Interrupts,
    *,
    agree: Agree,
) -> None:
    """`results` has every host that something was to happen to, unless this was only a plan."""
    if run.request.verb == "plan" or not prepared.plans:
        return
    if await agree(prepared):
        await _roll_out(run, prepared, links, results, interrupts)
    else:
        _skip_rest(run, [plan.host.name for plan in prepared.plans], results, "not begun: the answer was no")


@contextlib.asynccontextmanager
async def _links(run: Run, hosts: Sequence[Host]) -> AsyncIterator[dict[HostName, Link]]:
    cap = run.inventory.rollout.bandwidth
    fleet = Pace(cap) if cap else None
    links = {
        host.name: Link(run.logins, host, pace=Pace(host.bandwidth, within=fleet) if host.bandwidth else fleet)
        for host in hosts
    }
    try:
        yield links
    finally:
        await asyncio.gather(*(link.close() for link in links.values()))


async def _roll_out(
    run: Run,
    prepared: Prepared,
    links: dict[HostName, Link],
    results: dict[HostName, HostResult],
    interrupts: Interrupts,
) -> None:
    """All hosts have ended."""
    program = HostProgram(await store_program(run.here))
    rollout = Rollout(run, prepared.waves, links, program, results=results)
    await until_interrupted(run, interrupts, rollout.roll_out(), end_early=rollout.end_early)


async def until_interrupted(
    run: Run, interrupts: Interrupts, work: Coroutine[None, None, None], *, end_early: Callable[[], None]
) -> None:
    """The work has ended. Ctrl-C once: it ends early. Twice: it is cancelled, and hosts are left to themselves."""
    task = asyncio.create_task(work)

    def interrupt() -> None:
        if run.interrupt.asked:
            task.cancel()
        else:
            run.interrupt.asked = True
            run.emit(RunInterrupted())
            end_early()

    interrupts.act = interrupt
    with contextlib.suppress(asyncio.CancelledError):
        await task


@dataclass
class Interrupts:
    """What Ctrl-C, SIGTERM and the loss of the terminal do just now."""

    act: Callable[[], object]


@contextlib.contextmanager
def _interrupts() -> Iterator[Interrupts]:
    """Until something else is chosen, an interrupt cancels the caller: nothing has been changed yet."""
    task = asyncio.current_task()
    assert task is not None
    loop, interrupts = asyncio.get_running_loop(), Interrupts(task.cancel)
    numbers: tuple[signal.Signals, ...] = (signal.SIGINT, signal.SIGTERM)
    for number in numbers:
        loop.add_signal_handler(number, lambda: interrupts.act())
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup
        numbers = (*numbers, signal.SIGHUP)
        # The kernel and the shell both tell of it, and that is no second Ctrl-C.
        loop.add_signal_handler(signal.SIGHUP, functools.cache(lambda: interrupts.act()))
    try:
        yield interrupts
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


def _unexpected(error: Exception) -> FleetError:
    if isinstance(error, OSError) and error.filename is not None:
        hint = "is there space, and may you write there?"
        return FleetError(f"this machine: {error.filename}: {error.strerror}", hint=hint)
    said = "".join(traceback.format_exception(error)).splitlines()
    return FleetError("fleet itself failed; this is a bug in fleet", said=said, hint="please report this")


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


def _skip_rest(run: Run, names: Sequence[HostName], results: dict[HostName, HostResult], why: str) -> None:
    """Every host has a result."""
    for name in names:
        if name not in results:
            results[name] = result.skipped(name, why)
            run.emit(HostFinished(host=name, result=results[name]))
