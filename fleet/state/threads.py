"""Threads that wait for the database. They are no others' threads: asyncio, asyncssh and name lookups share few."""

from __future__ import annotations

import asyncio
import contextvars
import functools
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

_P = ParamSpec("_P")
_T = TypeVar("_T")
THREADS = 32
"""So many calls wait for databases at once. A call before the end of a run needs one while others may hang."""
_POOL = ThreadPoolExecutor(THREADS, "fleet-state")


async def in_state(call: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Return what a call of the state returns, which is made in a thread. It may wait for a disk or a database.

    Use it in place of `asyncio.to_thread`: its few threads also sign logins and look up names, so that hosts would seem
    not to answer while a database hangs.
    """
    context = contextvars.copy_context()
    work = functools.partial(context.run, call, *args, **kwargs)
    return await asyncio.get_running_loop().run_in_executor(_POOL, work)
