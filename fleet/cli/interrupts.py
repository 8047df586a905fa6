"""Handle Ctrl-C, SIGTERM and the loss of the terminal, for commands that change hosts. Nothing else handles signals."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleet import Stop


@contextlib.contextmanager
def interrupts() -> Iterator[Stop]:
    """Yield a `Stop` that Ctrl-C, SIGTERM and SIGHUP request, in the running event loop."""
    from fleet import Stop

    loop, stop = asyncio.get_running_loop(), Stop()
    numbers: tuple[signal.Signals, ...] = (signal.SIGINT, signal.SIGTERM)
    for number in numbers:
        loop.add_signal_handler(number, stop.request)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup sets it
        numbers = (*numbers, signal.SIGHUP)
        # The kernel and the shell both send it, which must not count as a second request.
        loop.add_signal_handler(signal.SIGHUP, functools.cache(stop.request))
    try:
        yield stop
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
        be_deaf()


def hear_again() -> None:
    """Let Ctrl-C end what a command still does when a run is over."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def be_deaf() -> None:
    """Ignore Ctrl-C from now on, so that one that comes after the last event changes neither output nor exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
