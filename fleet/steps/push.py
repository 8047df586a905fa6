"""The closure and the host program arrive on the host, and are rooted at every moment."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from typing import TYPE_CHECKING, Any

from fleet import nix
from fleet.errors import CommandFailedError, PushError
from fleet.events import OutputLine, PushFinished, PushProgressed
from fleet.host.program import HostProgram, ask, bringing
from fleet.machine import Command
from fleet.model import Phase
from fleet.steps import preflight
from fleet.steps.caches import fetch
from fleet.steps.deliver import AGAIN, SIGN, STALLED, Delivery, Whole, deliver
from fleet.steps.thin import Thin
from fleet.store.send import Progress
from fleet.store.supply import Supply

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from fleet.events import Emit
    from fleet.machine import Bridge, Machine, RemoteMachine
    from fleet.model import RunId
    from fleet.steps.deliver import Way
    from fleet.steps.plan import HostPlan

PROGRESS_INTERVAL = 0.25

STILL_THERE = Command(argv=("true",), timeout=30.0, root=False)


async def push(
    copier: Machine | Supply | Thin,
    machine: RemoteMachine,
    plan: HostPlan,
    run: RunId,
    program: HostProgram,
    *,
    emit: Emit,
) -> None:
    """The host has the whole closure and the program, valid and rooted for the run. Raises `PushError`.

    What copies is `nix copy` on this machine, or our own engine: a supply, or what a thin link needs. What the host's
    own caches have, it has fetched first. Where the closure is built on the host, its derivations are pushed and built
    there instead.
    """
    assert program.path is not None
    host = plan.host
    lost = await fetch(machine, host, plan.substitutes, run, emit=emit)
    started = time.monotonic()
    root = functools.partial(ask, machine, host, HostProgram().call("root", run, plan.closure, program.path))
    if isinstance(copier, Supply | Thin):
        moved = await _serve(copier, machine, plan, run, program.path, root, emit)
    else:
        await root()
        async with _following(machine, plan, run, emit) as bridge:
            if plan.derivation is not None:
                await _copy(copier, machine, plan, bridge, [plan.derivation], derivation=True)
            await _copy(copier, machine, plan, bridge, [program.path, *([plan.closure] if plan.missing else [])])
        size = plan.push_bytes + sum(plan.substitutes[path] for path in lost)
        moved = Progress(paths=len(plan.pushed) + len(lost), nar_bytes=size, sent=bridge.sent)
    seconds = time.monotonic() - started
    emit(
        PushFinished(
            host=host.name, paths=moved.paths, nar_bytes=moved.nar_bytes, wire_bytes=moved.sent, seconds=seconds
        )
    )
    if plan.derivation is not None:
        await _build_there(machine, plan, run, emit)


async def _serve(
    copier: Supply | Thin,
    machine: RemoteMachine,
    plan: HostPlan,
    run: RunId,
    program: str,
    root: Callable[[], Coroutine[Any, Any, object]],
    emit: Emit,
) -> Progress:
    """Everything has arrived by our own engine, and is rooted."""
    progress = Progress()
    tops = (program, plan.derivation or plan.closure)
    wanted = tuple(dict.fromkeys((*plan.missing, program, *([plan.derivation] if plan.derivation else []))))
    way: Way = Whole()
    supply = copier if isinstance(copier, Supply) else copier.supply
    if isinstance(copier, Thin):
        way = await copier.way(machine, plan.host, plan.facts, emit=emit)
    # What the caches brought meanwhile is not in the plan, and a thin link asks first what may be a base.
    planned = plan.missing if isinstance(way, Whole) and not plan.substitutes else ()
    verify = functools.partial(preflight.verify, machine, plan.host, emit=emit)
    delivery = Delivery(
        host=plan.host, run=run, wanted=wanted, planned=planned, tops=tops, root=root, verify=verify, way=way
    )

    def told() -> PushProgressed:
        total = progress.total or plan.wire_bytes  # until the host has said what it lacks
        return PushProgressed(host=plan.host.name, sent=progress.sent, total=total)

    async with _telling(told, emit):
        await deliver(machine, supply, delivery, progress)
    return progress


async def _copy(
    here: Machine, machine: Machine, plan: HostPlan, bridge: Bridge, paths: list[str], *, derivation: bool = False
) -> None:
    """The paths have arrived. Raises `UnreachableError` when the host has gone meanwhile, else `PushError`."""
    command = nix.copy(bridge.socket, paths, derivation=derivation)
    clock = asyncio.get_running_loop().time
    bridge.last_moved = clock()
    copying = asyncio.create_task(here.run(command))
    try:
        while not (await asyncio.wait({copying}, timeout=PROGRESS_INTERVAL))[0]:
            if clock() - bridge.last_moved > STALLED:
                message = f"the push stalled: no byte moved for {STALLED:g} s"
                raise PushError(plan.host.name, message, hint=AGAIN)
    finally:
        if not copying.done():
            copying.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await copying
    output = copying.result()
    if output.status != 0:
        await machine.run(STILL_THERE)
        said = (*output.stderr.splitlines()[-5:], *bridge.stderr.splitlines()[-5:])
        message = f"nix copy failed with exit status {output.status}"
        hint = SIGN if "signature" in output.stderr else AGAIN
        raise PushError(plan.host.name, message, ran=str(command), said=said, hint=hint)


@contextlib.asynccontextmanager
async def _following(machine: RemoteMachine, plan: HostPlan, run: RunId, emit: Emit) -> AsyncIterator[Bridge]:
    """A bridge to the host's Nix daemon whose progress is told while it moves."""
    async with machine.bridge(bringing(nix.DAEMON, run)) as bridge:

        def progress() -> PushProgressed:
            total = max(plan.wire_bytes, bridge.sent)
            return PushProgressed(host=plan.host.name, sent=bridge.sent, total=total)

        async with _telling(progress, emit):
            yield bridge


@contextlib.asynccontextmanager
async def _telling(progress: Callable[[], PushProgressed], emit: Emit) -> AsyncIterator[None]:
    """Meanwhile progress is told whenever there was some, a few times each second."""

    async def tell() -> None:
        told = None
        while True:
            if (now := progress()) != told:
                told = now
                emit(now)
            await asyncio.sleep(PROGRESS_INTERVAL)

    telling = asyncio.create_task(tell())
    try:
        yield
    finally:
        telling.cancel()
        await asyncio.gather(telling, return_exceptions=True)


async def _build_there(machine: Machine, plan: HostPlan, run: RunId, emit: Emit) -> None:
    assert plan.derivation is not None

    def show(line: str) -> None:
        emit(OutputLine(host=plan.host.name, phase=Phase.BUILD, text=line))

    command = bringing(nix.build_on_host(plan.derivation), run)
    built = await machine.run(command, on_line=show)
    if built.status != 0:
        said = built.stderr.splitlines()[-10:]
        raise PushError(plan.host.name, "the build on the host failed", ran=str(command), said=said)


async def unroot(machine: Machine, plan: HostPlan, run: RunId) -> None:
    """The roots of the run are gone, and it will not begin any more. Raises `HostError` where that is not certain."""
    await ask(machine, plan.host, HostProgram().call("unroot", run))


async def dry_activate(machine: Machine, plan: HostPlan, emit: Emit) -> None:
    """What the switch would do has been told; nothing was done."""
    argv = (f"{plan.closure}/bin/switch-to-configuration", "dry-activate")

    def show(line: str) -> None:
        emit(OutputLine(host=plan.host.name, phase=Phase.SWITCH, text=line))

    output = await machine.run(Command(argv=argv, timeout=plan.host.activation_timeout), on_line=show)
    if output.status != 0:
        message = f"dry-activate failed with exit status {output.status}"
        raise CommandFailedError(plan.host.name, message, said=output.stderr.splitlines()[-5:])
