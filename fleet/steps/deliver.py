"""Deliver store paths to a host over the serve protocol, and start again when the connection is lost."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from fleet.errors import CommandFailedError, PushError, UnreachableError
from fleet.host.program import WENT_DOWN, bringing
from fleet.machine import Command
from fleet.scripts import one_line
from fleet.store.nar import ChangedError
from fleet.store.send import OutdatedError, Progress, Sender
from fleet.store.supply import length
from fleet.store.wire import EndOfStreamError, NoiseError, ProtocolError
from fleet.tasks import first
from fleet.text import how_it_ended

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from fleet.inventory import Host
    from fleet.machine import Output, RemoteMachine, Stream
    from fleet.model import HostName, RunId
    from fleet.store.supply import Supply

TRIES = 5
"""Give up a push after this many lost connections in a row without one path arriving in between."""
MOST_ATTEMPTS = 50
"""Begin a push no more often than that, whatever arrives: a host may always go down, or lose something else."""
PAUSE = 0.5
"""Seconds to wait before a lost connection is opened again, times the number of losses in a row."""
STALLED = 600.0
"""Give up a push after this many seconds without a byte in either direction."""
MOST_UNASKED = 4 << 20
"""The most bytes that are sent because the plan says that they are missing, without asking the host again. With more
bytes the round trip of a question does not matter, and it spares a host what it has received since the plan."""
DYING = 10.0
"""Seconds that a server has to exit after it closed its side."""
AGAIN = "deploy again; what has arrived is not sent twice"
SILENCE = "does the login shell print something? Silence it where it is not interactive (root's .bashrc, say)"
INSTEAD = "--copy-with nix pushes with nix copy instead"
SIGN = "set signing_key in [fleet], and trusted-public-keys in the host's nix.conf: its daemon does not trust root"

_MARK = "FLEET_PUSH"

SERVE = ("nix-store", "--serve", "--write")


class Transport(Protocol):
    """How store paths go to one host."""

    @property
    def argv(self) -> tuple[str, ...]:
        """The command that receives them on the host, as root."""
        ...

    @property
    def verb(self) -> str:
        """What the gate of a host calls that command."""
        ...

    def sender(self, stream: Stream, supply: Supply, progress: Progress) -> Sender:
        """Return a sender that talks to that command over one connection."""
        ...

    def has_changed(self, ended: Output) -> bool:
        """Whether the transport works in another way from now on, so that trying again at once makes sense.

        `ended` is the end of the command on the host; its failure was then the fault of the old way.
        """
        ...


class WholePaths:
    """Sends every path as it is, straight to the host's store."""

    argv = SERVE
    verb = "serve"

    def sender(self, stream: Stream, supply: Supply, progress: Progress) -> Sender:
        """See `Transport.sender`."""
        return Sender(stream, supply, progress)

    def has_changed(self, ended: Output) -> bool:  # noqa: ARG002
        """See `Transport.has_changed`."""
        return False


class _OtherWayError(Exception):
    """The transport did not work on this host and has changed. Try again with what it does now."""


class _WentDownError(Exception):
    """The host went down during the push.

    It may have lost some of what had arrived, though its Nix calls that valid.
    """


async def _do_nothing() -> None:
    pass


async def _wait_for(task: asyncio.Task[object]) -> None:
    await task


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """What is delivered to one host."""

    host: Host
    run: RunId
    wanted: Sequence[str]
    """Paths of the local store. The paths that they refer to are delivered too."""
    planned: Sequence[str] = ()
    """The wanted paths that the host lacked when it was planned, with all that they refer to and it lacked. If they are
    small they are sent without asking the host again. For the transport `WholePaths` only."""
    tops: Sequence[str]
    """The paths that the host must confirm in the end. What they refer to is then there too."""
    root: Callable[[], Coroutine[Any, Any, object]] = _do_nothing
    """Makes the roots that keep what arrives. Runs beside the transfer: until the roots exist, the server that received
    the paths holds them, and it is kept running for that long. Runs again after a lost connection."""
    verify: Callable[[], Coroutine[Any, Any, object]] = _do_nothing
    """Finds and removes what a host that went down during the push has lost of what had arrived."""
    transport: Transport = field(default_factory=WholePaths)


async def deliver(machine: RemoteMachine, supply: Supply, delivery: Delivery, progress: Progress) -> None:
    """Deliver the wanted paths and all that they refer to, until the host confirms that it has them.

    After a lost connection, connect again and send the rest. Raise `PushError` if it cannot work, and
    `UnreachableError` if the host stays away.
    """
    losses, left = 0, -1
    planned = delivery.planned
    for _ in range(MOST_ATTEMPTS):
        attempt = _Attempt(machine, supply, delivery, progress, planned)
        planned = ()  # in a further attempt only the host knows which of them have arrived
        try:
            await attempt.make()
        except _OtherWayError:
            continue
        except _WentDownError:
            await delivery.verify()
        except UnreachableError:
            losses = losses + 1 if attempt.left in (-1, left) else 1
            left = left if attempt.left < 0 else attempt.left
            if losses >= TRIES:
                raise
            await asyncio.sleep(PAUSE * losses)
            await end_others(machine, delivery)
        else:
            return
    message = f"begun {MOST_ATTEMPTS} times, and the host had a reason against each"
    raise PushError(delivery.host.name, message, hint=AGAIN)


def unreadable(host: HostName, error: ChangedError | OSError) -> PushError:
    """Return the error of a push that failed because the local store could not be read."""
    hint = "nix-store --verify --check-contents checks the local store"
    return PushError(host, f"the local store cannot be read: {error}", hint=hint)


async def end_others(machine: RemoteMachine, delivery: Delivery) -> None:
    """End the servers of this run that still wait on a connection that we lost: they hold locks on store paths."""
    argv = ("sh", "-c", one_line("fleet.steps", "end-idle"), "sh", f"{_MARK}={delivery.run}")
    with contextlib.suppress(CommandFailedError, UnreachableError):
        await machine.run(Command(argv=argv, verb=("end-idle", delivery.run)))


class _Attempt:
    """One connection's worth of a delivery."""

    def __init__(
        self,
        machine: RemoteMachine,
        supply: Supply,
        delivery: Delivery,
        progress: Progress,
        planned: Sequence[str],
    ) -> None:
        self.left = -1
        """How many paths the host lacked when the attempt began; -1 until that is known."""
        self._machine = machine
        self._supply = supply
        self._delivery = delivery
        self._progress = progress
        self._planned = planned

    async def make(self) -> None:
        """Deliver everything over one connection. Raise `PushError` or `UnreachableError` if that fails."""
        rooting = asyncio.create_task(self._delivery.root())
        # Let it ask first: a host that allows one session at a time needs that session for the server afterwards.
        await asyncio.sleep(0)
        try:
            async with asyncio.TaskGroup() as group:
                watching = group.create_task(self._watch())
                await self._serve(rooting)
                watching.cancel()
        except ExceptionGroup as failed:
            raise first(failed) from failed
        finally:
            rooting.cancel()
            await asyncio.gather(rooting, return_exceptions=True)

    async def _serve(self, rooting: asyncio.Task[object]) -> None:
        """Run the server on the host and talk to it. Raise what explains a failure best."""
        serve = ("env", f"{_MARK}={self._delivery.run}", *self._delivery.transport.argv)
        served = Command(argv=serve, verb=(self._delivery.transport.verb,))
        async with self._machine.stream(bringing(served, self._delivery.run)) as stream:
            try:
                await self._talk(stream, rooting)
            except ExceptionGroup as group:
                raise await self._explain(stream, first(group)) from group
            except (ProtocolError, OutdatedError, ChangedError, OSError) as error:
                raise await self._explain(stream, error) from error

    async def _talk(self, stream: Stream, rooting: asyncio.Task[object]) -> None:
        """Send what the host lacks, and end only when the roots exist too."""
        delivery, progress = self._delivery, self._progress
        sender = delivery.transport.sender(stream, self._supply, progress)
        async with asyncio.TaskGroup() as group:
            group.create_task(_wait_for(rooting))
            planned = await self._supply.infos(self._planned)
            if 0 < sum(map(length, planned)) <= MOST_UNASKED:
                self.left = len(planned)
                sending = sender.send_planned(planned, wanted=delivery.wanted, then=delivery.tops)
            else:
                infos = await sender.lacking(delivery.wanted)
                self.left = len(infos)
                sending = sender.send(infos, then=delivery.tops)
            await sending

    async def _watch(self) -> None:
        """Raise `PushError` when no byte has moved for `STALLED` seconds."""
        self._progress.moved()
        while True:
            remaining = self._progress.last_moved + STALLED - time.monotonic()
            if remaining <= 0:
                break
            await asyncio.sleep(remaining)
        message = f"the push stalled: no byte moved for {STALLED:g} s"
        raise PushError(self._delivery.host.name, message, hint=AGAIN)

    async def _explain(self, stream: Stream, error: BaseException) -> BaseException:
        """Return the error that explains what went wrong in terms of the push."""
        name = self._delivery.host.name
        match error:
            case EndOfStreamError() | BrokenPipeError():
                return await self._explain_end(stream)
            case OutdatedError():
                return _OtherWayError()
            case ProtocolError():
                hint = SILENCE if isinstance(error, NoiseError) else INSTEAD
                return PushError(name, f"cannot talk to nix-store --serve on the host: {error}", hint=hint)
            case ChangedError() | OSError():
                return unreadable(name, error)
        return error

    async def _explain_end(self, stream: Stream) -> BaseException:
        """Return the error that the end of the server means: by its exit status and by what it wrote."""
        name = self._delivery.host.name
        try:
            async with asyncio.timeout(DYING):
                ended = await stream.ended()
        except UnreachableError as lost:
            return lost
        except TimeoutError:
            return PushError(name, "nix-store --serve on the host ended its side but lives on", hint=AGAIN)
        if ended.status == WENT_DOWN:
            return _WentDownError()
        if self._delivery.transport.has_changed(ended):
            return _OtherWayError()
        stderr = [line for line in ended.stderr.splitlines() if line.strip()]
        reason = next((line.strip() for line in stderr if line.lstrip().startswith("error:")), "")
        message = (
            f"the host's store refused: {reason.removeprefix('error:').strip()}"
            if reason
            else (f"nix-store --serve on the host {how_it_ended(ended.status)}")
        )
        hint = SIGN if "signature" in reason else AGAIN
        if self._progress.arrived == 0 and (not reason or "serve" in reason):  # perhaps it is not allowed there
            hint = f"{AGAIN}; {INSTEAD}"
        explained = PushError(name, message, said=stderr[-5:], hint=hint)
        explained.is_not_served = self._progress.arrived == 0 and any("--serve" in line for line in stderr)
        return explained
