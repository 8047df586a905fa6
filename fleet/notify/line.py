"""Give talk with a server a thread of its own, and an end.

The clients of Python's standard library wait for each answer as long as they are told to, but a server that sends a
byte now and then keeps them for ever. So they talk in a thread that nobody needs: after the deadline its connection is
shut down, and what it still does is of no interest. A name server that does not answer cannot be interrupted at all;
the thread is a daemon, so that even then the command ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class NotSentError(Exception):
    """The message was not sent, or nobody knows whether it was."""


class Line:
    """The connection to a server, which ends at a deadline."""

    def __init__(self, timeout: float) -> None:
        """It ends in `timeout` seconds."""
        self._deadline = time.monotonic() + timeout
        self._held: socket.socket | None = None
        self._is_cut = False
        self._lock = threading.Lock()

    def dial(self, host: str, port: int) -> socket.socket:
        """Return a TCP connection, which is shut down at the deadline. Raise `OSError`."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        # A second more than there is: the deadline ends it, and in the same words whatever is waited for.
        connection = socket.create_connection((host, port), timeout=left + 1)
        with self._lock:
            if self._is_cut:
                connection.close()
                raise TimeoutError
            # A second name of the connection: TLS takes the first one away.
            self._held = connection.dup()
        return connection

    def cut(self) -> None:
        """Shut the connection down: whoever waits for it gets an error."""
        with self._lock:
            self._is_cut = True
            held, self._held = self._held, None
        if held is not None:
            with contextlib.suppress(OSError):  # the server has ended it
                held.shutdown(socket.SHUT_RDWR)
            held.close()


async def talk(work: Callable[[Line], None], *, timeout: float) -> None:
    """Wait for `work`, which runs in a thread. Raise what it raises, and `NotSentError` after `timeout` seconds."""
    loop = asyncio.get_running_loop()
    line = Line(timeout)
    ended: asyncio.Future[BaseException | None] = loop.create_future()

    def tell(error: BaseException | None) -> None:
        if not ended.done():
            ended.set_result(error)

    def run() -> None:
        error: BaseException | None = None
        try:
            work(line)
        except BaseException as caught:
            error = caught
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(tell, error)

    threading.Thread(target=run, name="fleet-notify", daemon=True).start()
    try:
        async with asyncio.timeout(timeout):
            error = await ended
    except TimeoutError:
        raise NotSentError(f"no answer within {timeout:g} s") from None
    finally:
        line.cut()
    if error is not None:
        raise error


def reason(error: OSError) -> str:
    """Return why there is no talk with a server, in words without its address."""
    import ssl

    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is refused: {error.verify_message}"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return str(error.strerror or error) or type(error).__name__
