"""Bring the closure and the host program to the host. They are rooted at every moment."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from typing import TYPE_CHECKING, Any

from fleet import nix
from fleet.errors import CommandFailedError, PushError
from fleet.events import FindingReported, OutputLine, PushFinished, PushProgressed
from fleet.host import answers
from fleet.host.program import HostProgram, ask, bringing, refusal
from fleet.machine import Command
from fleet.model import Phase, Severity
from fleet.steps import models, preflight
from fleet.steps.caches import fetch
from fleet.steps.deliver import AGAIN, SIGN, STALLED, Delivery, WholePaths, deliver
from fleet.steps.slow_link import SlowLinks
from fleet.store.send import Progress
from fleet.store.supply import Supply
from fleet.text import how_it_ended

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from fleet.events import Emit
    from fleet.machine import Bridge, Machine, RemoteMachine
    from fleet.model import RunId
    from fleet.steps.deliver import Transport
    from fleet.steps.job import Job

PROGRESS_INTERVAL = 0.25
"""Seconds between two reports of progress."""

STILL_THERE = Command(argv=("true",), timeout=30.0, root=False, verb=("true",))


async def push(
    here: Machine,
    machine: RemoteMachine,
    job: Job,
    run: RunId,
    program: HostProgram,
    *,
    engine: Supply | SlowLinks | None = None,
    emit: Emit,
) -> None:
    """Bring the whole closure and the program to the host, valid and rooted for the run.

    First the host fetches what its own caches have. The rest is copied by fleet's own `engine`, with a supply or with
    what slow links need. Without one, and where the host does not serve it, `nix copy` on the machine `here` copies. If
    the host builds the closure itself, its derivations are pushed, and built there. Raise `PushError` if that fails.
    """
    assert program.path is not None
    host = job.host
    if job.load.models:
        await models.root(machine, host, job.load.models)
    lost = await fetch(machine, host, job.load.substitutes, run, emit=emit)
    started = time.monotonic()
    root = functools.partial(ask, machine, host, HostProgram().call("root", run, job.closure, program.path))
    moved: Progress | None = None
    if engine is not None:
        try:
            moved = await _serve(engine, machine, job, run, program.path, root, emit)
        except PushError as error:
            if not error.is_not_served:
                raise
            emit(_not_served(error))
    if moved is None:
        await root()
        async with _bridge_with_progress(machine, job, run, emit) as bridge:
            if job.built_there is not None:
                await _copy(here, machine, job, bridge, [job.built_there], derivation=True)
            await _copy(
                here,
                machine,
                job,
                bridge,
                [program.path, *(_tops(job) if job.load.missing else [])],
            )
        size = job.load.push_bytes + sum(job.load.substitutes[path] for path in lost)
        moved = Progress(paths=len(job.load.pushed) + len(lost), nar_bytes=size, sent=bridge.sent)
    seconds = time.monotonic() - started
    emit(
        PushFinished(
            host=host.name, paths=moved.paths, nar_bytes=moved.nar_bytes, wire_bytes=moved.sent, seconds=seconds
        )
    )
    if job.built_there is not None:
        await _build_there(machine, job, run, emit)


def _tops(job: Job) -> list[str]:
    """Return what is brought besides the program and derivations: all else is what these refer to."""
    return [*([job.closure] if job.built_there is None else []), *job.load.models]


def _not_served(error: PushError) -> FindingReported:
    """Return the note that the host does not serve fleet's own engine."""
    hint = "--copy-with nix spares the attempt; nix copy sends whole paths, also over a slow link"
    message = f"nix copy pushes instead of fleet's own engine: {error.message}"
    return FindingReported(host=error.host, severity=Severity.NOTE, kind="not_served", message=message, hint=hint)


async def _serve(
    engine: Supply | SlowLinks,
    machine: RemoteMachine,
    job: Job,
    run: RunId,
    program: str,
    root: Callable[[], Coroutine[Any, Any, object]],
    emit: Emit,
) -> Progress:
    """Push with fleet's own engine and return how much was sent. Everything is rooted on the host then."""
    progress = Progress()
    tops = (program, *([job.built_there] if job.built_there else []), *_tops(job))
    wanted = tuple(dict.fromkeys((*job.load.missing, program, *([job.built_there] if job.built_there else []))))
    transport: Transport = WholePaths()
    supply = engine if isinstance(engine, Supply) else engine.supply
    if isinstance(engine, SlowLinks):
        transport = await engine.transport(machine, job.host, job.facts, emit=emit)
    # The plan does not know what the caches have brought since, and over a slow link the host is asked for bases first.
    is_known = isinstance(transport, WholePaths) and not job.load.substitutes and job.built_there is None
    planned = job.load.missing if is_known else ()
    verify = functools.partial(preflight.verify, machine, job.host, emit=emit)
    delivery = Delivery(
        host=job.host, run=run, wanted=wanted, planned=planned, tops=tops, root=root, verify=verify, transport=transport
    )

    def progressed() -> PushProgressed:
        total = progress.total or job.load.wire_bytes  # the plan's number, until the host has said what it lacks
        return PushProgressed(host=job.host.name, sent=progress.crossed, total=total)

    async with _reporting_progress(progressed, emit):
        await deliver(machine, supply, delivery, progress)
    return progress


async def _copy(
    here: Machine, machine: Machine, job: Job, bridge: Bridge, paths: list[str], *, derivation: bool = False
) -> None:
    """Copy the paths with `nix copy`.

    Raise `UnreachableError` if the host has gone, and `PushError` for other failures.
    """
    command = nix.copy(bridge.socket, paths, derivation=derivation)
    clock = asyncio.get_running_loop().time
    bridge.last_moved = clock()
    copying = asyncio.create_task(here.run(command))
    try:
        while not (await asyncio.wait({copying}, timeout=PROGRESS_INTERVAL))[0]:
            if clock() - bridge.last_moved > STALLED:
                message = f"the push stalled: no byte moved for {STALLED:g} s"
                raise PushError(job.host.name, message, hint=AGAIN)
    finally:
        if not copying.done():
            copying.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await copying
    output = copying.result()
    if output.status != 0:
        await machine.run(STILL_THERE)
        stderr = (*output.stderr.splitlines()[-5:], *bridge.stderr.splitlines()[-5:])
        message = f"nix copy {how_it_ended(output.status)}"
        hint = SIGN if "signature" in output.stderr else AGAIN
        raise PushError(job.host.name, message, ran=str(command), said=stderr, hint=hint)


@contextlib.asynccontextmanager
async def _bridge_with_progress(machine: RemoteMachine, job: Job, run: RunId, emit: Emit) -> AsyncIterator[Bridge]:
    """Open a bridge to the host's Nix daemon, and report its progress while inside."""
    async with machine.bridge(bringing(nix.DAEMON, run)) as bridge:

        def progressed() -> PushProgressed:
            total = max(job.load.wire_bytes, bridge.sent)
            return PushProgressed(host=job.host.name, sent=bridge.sent, total=total)

        async with _reporting_progress(progressed, emit):
            yield bridge


@contextlib.asynccontextmanager
async def _reporting_progress(progressed: Callable[[], PushProgressed], emit: Emit) -> AsyncIterator[None]:
    """Report progress while inside, whenever it has changed and every `PROGRESS_INTERVAL` seconds at most."""

    async def report() -> None:
        last = None
        while True:
            if (progress := progressed()) != last:
                last = progress
                emit(progress)
            await asyncio.sleep(PROGRESS_INTERVAL)

    reporting = asyncio.create_task(report())
    try:
        yield
    finally:
        reporting.cancel()
        await asyncio.gather(reporting, return_exceptions=True)


async def _build_there(machine: Machine, job: Job, run: RunId, emit: Emit) -> None:
    """Build the closure on the host, and emit the log. Raise `PushError` if the build fails."""
    assert job.built_there is not None

    def show(line: str) -> None:
        emit(OutputLine(host=job.host.name, phase=Phase.BUILD, text=line))

    command = bringing(nix.build_on_host(job.built_there), run)
    built = await machine.run(command, on_line=show)
    if built.status != 0:
        log = built.stderr.splitlines()[-10:]
        raise PushError(
            job.host.name, f"the build on the host {how_it_ended(built.status)}", ran=str(command), said=log
        )


async def unroot(machine: Machine, job: Job, run: RunId) -> None:
    """Remove the roots of the run and keep it from beginning. Raise `HostError` if that is not certain."""
    await ask(machine, job.host, HostProgram().call("unroot", run))


async def dry_activate(machine: Machine, job: Job, emit: Emit, *, order: str = "") -> None:
    """Emit what a switch to the closure would do, and do nothing. A host with a gate reads the `order` for that.

    Raise `CommandFailedError` if that fails, and what a refusal of the gate means.
    """
    argv = (f"{job.closure}/bin/switch-to-configuration", "dry-activate")

    def show(line: str) -> None:
        emit(OutputLine(host=job.host.name, phase=Phase.SWITCH, text=line))

    timeout = job.host.activation_timeout
    stdin = order.encode() if job.host.gate else b""
    command = Command(argv=argv, stdin=stdin, timeout=timeout, verb=("dry-activate",))
    output = await machine.run(command, on_line=show)
    if job.host.gate and "refused" in (lines := answers.parse(output.stdout)):
        raise refusal(job.host, lines)
    if output.status != 0:
        message = f"dry-activate {how_it_ended(output.status)}"
        raise CommandFailedError(job.host.name, message, said=output.stderr.splitlines()[-5:])
