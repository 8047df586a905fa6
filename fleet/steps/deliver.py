"""The second push engine: store paths arrive on a host over the serve protocol, whatever the link does."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from fleet.errors import CommandFailedError, PushError, UnreachableError
from fleet.host.program import WENT_DOWN, bringing
from fleet.machine import Command
from fleet.machine.translate import first
from fleet.store.nar import ChangedError
from fleet.store.send import OutdatedError, Progress, Sender
from fleet.store.supply import length
from fleet.store.wire import EndOfStreamError, NoiseError, ProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from fleet.inventory import Host
    from fleet.machine import Output, RemoteMachine, Stream
    from fleet.model import HostName, RunId
    from fleet.store.supply import Supply

TRIES = 5
"""Connections lost in a row, without one path arriving in between, after which a push is given up."""
PAUSE = 0.5
"""Seconds before a lost connection is tried again, times the losses in a row."""
STALLED = 600.0
"""Seconds without one byte in either direction after which a push is given up."""
MOST_UNASKED = 4 << 20
"""Bytes that are sent because the plan says so, at most. Beside more than that the round trip of a question is nothing,
and a host that got the paths meanwhile is spared them."""
DYING = 10.0
"""Seconds that a server gets to end after it closed its side."""
AGAIN = "deploy again; what has arrived is not sent twice"
SILENCE = "does the login shell print something? Silence it where it is not interactive (root's .bashrc, say)"
INSTEAD = "--copy-with nix pushes with nix copy instead"
SIGN = "set signing_key in [fleet], and trusted-public-keys in the host's nix.conf: its daemon does not trust root"

_MARK = "FLEET_PUSH"
_SEEN = 'cat "$folder/io" "$folder/stat" 2>/dev/null'
_END_OTHERS = (
    'for folder in /proc/[0-9]*; do if tr "\\0" "\\n" <"$folder/environ" 2>/dev/null | grep -qxF "$1"; then '
    f'while seen=$({_SEEN}); sleep 0.5; [ "$seen" != "$({_SEEN})" ]; do :; done; '
    'kill "${folder#/proc/}" 2>/dev/null; fi; done'
)
"""A server that is still at work on what had come through is given the time for it: that need not be sent again."""


SERVE = ("nix-store", "--serve", "--write")


class Way(Protocol):
    """How paths go to one host."""

    @property
    def argv(self) -> tuple[str, ...]:
        """What runs on the host, as root."""
        ...

    def sender(self, stream: Stream, supply: Supply, progress: Progress) -> Sender:
        """What speaks to it, for one connection."""
        ...

    def is_another(self, ended: Output) -> bool:
        """Whether to try again at once, since this is another way from now on: that one's end was its own fault."""
        ...


class Whole:
    """Every path as it is, straight to the host's store."""

    argv = SERVE

    def sender(self, stream: Stream, supply: Supply, progress: Progress) -> Sender:
        """See `Way.sender`."""
        return Sender(stream, supply, progress)

    def is_another(self, ended: Output) -> bool:  # noqa: ARG002
        """See `Way.is_another`."""
        return False


class _OtherWayError(Exception):
    """What was tried does not work on this host, or not any more, and something else is tried from now on."""


class _WentDownError(Exception):
    """The host may have lost some of what had arrived, though its Nix calls that valid."""


async def _nothing() -> None:
    pass


async def _ended(task: asyncio.Task[object]) -> None:
    await task


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """What goes to one host."""

    host: Host
    run: RunId
    wanted: Sequence[str]
    """Paths of the local store. What they refer to comes along."""
    planned: Sequence[str] = ()
    """Those of them that the host lacked when it was planned, with all that they refer to and it lacked: where they are
    small they are sent without waiting for its word. Only for the way `Whole`."""
    tops: Sequence[str]
    """The paths that the host must say it has at the end. What they refer to is then there too."""
    root: Callable[[], Coroutine[Any, Any, object]] = _nothing
    """Makes the roots that keep what arrives. That takes no time of its own: until they stand, the server that took
    the paths holds them, and it lives on until then. Done again after a lost connection."""
    verify: Callable[[], Coroutine[Any, Any, object]] = _nothing
    """Finds and removes what a host that went down meanwhile has lost of what had arrived."""
    way: Way = field(default_factory=Whole)


async def deliver(machine: RemoteMachine, supply: Supply, delivery: Delivery, progress: Progress) -> None:
    """The host has the wanted paths and all that they refer to, and has said so.

    A lost connection is opened again, and only the rest is sent. Raises `PushError`, or `UnreachableError` when the
    host stays away.
    """
    losses, left = 0, -1
    planned = delivery.planned
    while True:
        attempt = _Attempt(machine, supply, delivery, progress, planned)
        planned = ()  # by then some have arrived, and only the host knows which
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


def unreadable(host: HostName, error: ChangedError | OSError) -> PushError:
    """What the local store did not give, as the reason why a push to the host fails."""
    hint = "nix-store --verify --check-contents checks the local store"
    return PushError(host, f"the local store cannot be read: {error}", hint=hint)


async def end_others(machine: RemoteMachine, delivery: Delivery) -> None:
    """Servers of this run that wait on a connection that we lost are gone: they hold locks on paths."""
    argv = ("sh", "-c", _END_OTHERS, "sh", f"{_MARK}={delivery.run}")
    with contextlib.suppress(CommandFailedError, UnreachableError):
        await machine.run(Command(argv=argv))


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
        """How many paths the host lacked when this began; -1 if that is not known."""
        self._machine = machine
        self._supply = supply
        self._delivery = delivery
        self._progress = progress
        self._planned = planned

    async def make(self) -> None:
        """Everything has arrived. Raises `PushError` or `UnreachableError`."""
        rooting = asyncio.create_task(self._delivery.root())
        await asyncio.sleep(0)  # it asks first: a host with place for one session has it for the server afterwards
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
        serve = ("env", f"{_MARK}={self._delivery.run}", *self._delivery.way.argv)
        async with self._machine.stream(bringing(Command(argv=serve), self._delivery.run)) as stream:
            try:
                await self._talk(stream, rooting)
            except ExceptionGroup as group:
                raise await self._meaning(stream, first(group)) from group
            except (ProtocolError, OutdatedError, ChangedError, OSError) as error:
                raise await self._meaning(stream, error) from error

    async def _talk(self, stream: Stream, rooting: asyncio.Task[object]) -> None:
        delivery, progress = self._delivery, self._progress
        sender = delivery.way.sender(stream, self._supply, progress)
        async with asyncio.TaskGroup() as group:
            group.create_task(_ended(rooting))
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
        """Raises `PushError` when nothing moves any more, from the first wait for the host on."""
        self._progress.moved()
        while True:
            patience = self._progress.last_moved + STALLED - time.monotonic()
            if patience <= 0:
                break
            await asyncio.sleep(patience)
        message = f"the push stalled: no byte moved for {STALLED:g} s"
        raise PushError(self._delivery.host.name, message, hint=AGAIN)

    async def _meaning(self, stream: Stream, error: BaseException) -> BaseException:
        """What went wrong, in the words of whoever knows."""
        name = self._delivery.host.name
        match error:
            case EndOfStreamError() | BrokenPipeError():
                return await self._last_words(stream)
            case OutdatedError():
                return _OtherWayError()
            case ProtocolError():
                hint = SILENCE if isinstance(error, NoiseError) else INSTEAD
                return PushError(name, f"cannot talk to nix-store --serve on the host: {error}", hint=hint)
            case ChangedError() | OSError():
                return unreadable(name, error)
        return error

    async def _last_words(self, stream: Stream) -> BaseException:
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
        if self._delivery.way.is_another(ended):
            return _OtherWayError()
        said = [line for line in ended.stderr.splitlines() if line.strip()]
        reason = next((line.strip() for line in said if line.lstrip().startswith("error:")), "")
        message = (
            f"the host's store refused: {reason.removeprefix('error:').strip()}"
            if reason
            else (f"nix-store --serve on the host ended with exit status {ended.status}")
        )
        hint = SIGN if "signature" in reason else AGAIN
        return PushError(name, message, said=said[-5:], hint=hint)
