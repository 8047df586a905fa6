"""TLS over any stream of bytes: over a socket here, or over a channel of an SSH connection."""

from __future__ import annotations

import contextlib
import functools
import ssl
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleet.machine import TcpStream

_BLOCK = 1 << 16
_Result = TypeVar("_Result")


@functools.cache
def trusting(*, verify: bool) -> ssl.SSLContext:
    """Return what TLS trusts: the system's certificates and the right name, or anything.

    Cached, since reading them is slow.
    """
    context = ssl.create_default_context()
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


class TlsStream:
    """A `TcpStream` that is encrypted and sent over another one."""

    def __init__(self, stream: TcpStream, context: ssl.SSLContext, host: str) -> None:
        """`host` is the name or address that the other end's certificate must have."""
        self._stream = stream
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)

    async def shake_hands(self) -> None:
        """Do the handshake.

        Raise `ssl.SSLError` if the other end is not who it should be, and `OSError` if the stream breaks.
        """
        await self._transfer(self._tls.do_handshake)

    async def read(self, count: int) -> bytes:
        """See `TcpStream.read`.

        A connection that is closed without TLS's own close counts as ended, as other clients have it.
        """
        try:
            return await self._transfer(lambda: self._tls.read(count))
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return b""

    async def write(self, data: bytes) -> None:
        """See `TcpStream.write`."""
        await self._transfer(lambda: self._tls.write(data))

    async def _transfer(self, act: Callable[[], _Result]) -> _Result:
        """Return what `act` returns, once it has the bytes it wants, and send the bytes it makes."""
        while True:
            try:
                result = act()
            except ssl.SSLWantReadError:
                await self._send()
                await self._receive()
            except ssl.SSLError:
                with contextlib.suppress(OSError):  # the other end may like to know why
                    await self._send()
                raise
            else:
                await self._send()
                return result

    async def _send(self) -> None:
        if data := self._outgoing.read():
            await self._stream.write(data)

    async def _receive(self) -> None:
        if data := await self._stream.read(_BLOCK):
            self._incoming.write(data)
        else:
            self._incoming.write_eof()
