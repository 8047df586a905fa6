"""Try the addresses of a host: in their order, and the next one too where nobody answers soon."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from typing import TYPE_CHECKING, TypeVar

from fleet.errors import HostError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from typing import Any

    from fleet.machine import OnAnswer

Found = TypeVar("Found")
Resources = contextlib.AsyncExitStack
"""Closes what was opened on the way to a host."""
SOON = 1.0
"""Seconds after which the next address is tried too: that of a laptop at home is silent where it is not at home."""


async def first_that_works(
    attempts: Sequence[Callable[[OnAnswer], Coroutine[Any, Any, tuple[Found, Resources]]]],
) -> tuple[Found, Resources]:
    """Return what the first attempt returns that works, and close what the others have opened.

    They begin in their order: the next one when those before it have failed, or nobody has answered them for `SOON`.
    Each is given what it calls when somebody answers. If none works, raise the `HostError` that says most.
    """
    if len(attempts) == 1:  # most hosts have one
        return await attempts[0](lambda: None)
    running: list[asyncio.Task[tuple[Found, Resources]]] = []
    answered: set[asyncio.Task[tuple[Found, Resources]]] = set()

    def note_answer(number: int) -> None:
        answered.add(running[number])

    try:
        for number, attempt in enumerate(attempts, 1):
            running.append(asyncio.create_task(attempt(functools.partial(note_answer, number - 1))))
            winner = await _winner(running, answered, is_last=number == len(attempts))
            if winner is not None:
                await _close([task for task in running if task is not winner])
                return winner.result()
    except BaseException:
        await _close(running)
        raise
    raise _most_telling([error for task in running if isinstance(error := task.exception(), HostError)])


async def _close(tasks: Sequence[asyncio.Task[tuple[Found, Resources]]]) -> None:
    """End the attempts, and close what they have opened."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for task in tasks:
        if not task.cancelled() and task.exception() is None:
            await task.result()[1].aclose()


async def _winner(
    running: Sequence[asyncio.Task[Found]], answered: set[asyncio.Task[Found]], *, is_last: bool
) -> asyncio.Task[Found] | None:
    """Return the first that has worked, or has failed in a way that no other address changes.

    Return None as soon as the next attempt should begin, and if all have failed.
    """
    while True:
        for task in running:
            if task.done() and not isinstance(task.exception(), HostError):
                return task
        pending = {task for task in running if not task.done()}
        waits = is_last or bool(answered & pending)
        if not pending or (running[-1].done() and not waits):
            return None
        ended, _ = await asyncio.wait(pending, timeout=None if waits else SOON, return_when=asyncio.FIRST_COMPLETED)
        if not ended and not answered & pending:
            return None


def _most_telling(errors: list[HostError]) -> HostError:
    """Return the error that says most: a refusal by an address that answers says more than one that is silent."""
    refusals = [error for error in errors if not isinstance(error, UnreachableError)]
    answers = [error for error in errors if not isinstance(error, UnreachableError) or not error.is_silent]
    return (refusals or answers or errors)[0]
