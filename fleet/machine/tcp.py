"""Open TCP connections, from here and from a host."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING, Any

import asyncssh

from fleet.errors import UnreachableError
from fleet.events import plain_text

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from fleet.model import HostName


@contextlib.asynccontextmanager
async def dial_here(host: str, port: int, *, timeout: float) -> AsyncIterator[SocketStream]:
    """See `Machine.dial`."""
    async with asyncio.timeout(timeout):
        connection = await _first_that_answers(host, port)
    reader, writer = await asyncio.open_connection(sock=connection)
    try:
        yield SocketStream(reader, writer)
    finally:
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def _first_that_answers(host: str, port: int) -> socket.socket:
    """Return a socket that is connected to the first address that answers.

    Raise the `OSError` of the last one if none does.
    """
    loop = asyncio.get_running_loop()
    refusal = OSError(f"{host} has no address")
    for family, kind, number, _, address in await _addresses(host, port):
        connection = socket.socket(family, kind, number)
        try:
            connection.setblocking(False)  # noqa: FBT003
            await loop.sock_connect(connection, address)
        except BaseException as error:
            connection.close()
            if not isinstance(error, OSError):
                raise
            refusal = error
        else:
            return connection
    raise refusal


async def _addresses(host: str, port: int) -> list[Any]:
    """Return the addresses as `socket.getaddrinfo` does.

    A name is looked up in a thread; an address needs no lookup.
    """
    with contextlib.suppress(socket.gaierror):
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    return await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)


class SocketStream:
    """See `TcpStream`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def read(self, count: int) -> bytes:
        """See `TcpStream.read`."""
        return await self._reader.read(count)

    async def write(self, data: bytes) -> None:
        """See `TcpStream.write`."""
        self._writer.write(data)
        await self._writer.drain()


@contextlib.asynccontextmanager
async def dial_through(
    connection: asyncssh.SSHClientConnection, name: HostName, host: str, port: int, *, timeout: float
) -> AsyncIterator[ChannelStream]:
    """See `Machine.dial`. The connection is a channel of the SSH connection to the host `name`."""
    opening = asyncio.ensure_future(connection.open_connection(host, port, encoding=None))
    try:
        with _naming_lost_connections(connection, name):
            try:
                async with asyncio.timeout(timeout):
                    # Shielded, so that an opening that is given up goes on: what the host opens in the end must be
                    # closed, and asyncssh would not close it.
                    reader, writer = await asyncio.shield(opening)
            except TimeoutError as error:
                raise TimeoutError(f"no answer within {timeout:g} s") from error
        yield ChannelStream(connection, name, reader, writer)
    finally:
        opening.add_done_callback(_hang_up)


def _hang_up(opening: asyncio.Future[tuple[asyncssh.SSHReader[bytes], asyncssh.SSHWriter[bytes]]]) -> None:
    """Close the channel that was opened, if one was."""
    if not opening.cancelled() and opening.exception() is None:
        opening.result()[1].channel.abort()


class ChannelStream:
    """See `TcpStream`."""

    def __init__(
        self,
        connection: asyncssh.SSHClientConnection,
        name: HostName,
        reader: asyncssh.SSHReader[bytes],
        writer: asyncssh.SSHWriter[bytes],
    ) -> None:
        self._connection = connection
        self._name = name
        self._reader = reader
        self._writer = writer

    async def read(self, count: int) -> bytes:
        """See `TcpStream.read`."""
        with _naming_lost_connections(self._connection, self._name):
            data = await self._reader.read(count)
            if not data and self._connection.is_closed():  # asyncssh reports a closed connection as end of file
                raise ConnectionResetError
            return data

    async def write(self, data: bytes) -> None:
        """See `TcpStream.write`."""
        with _naming_lost_connections(self._connection, self._name):
            self._writer.write(data)
            await self._writer.drain()


@contextlib.contextmanager
def _naming_lost_connections(connection: asyncssh.SSHClientConnection, name: HostName) -> Iterator[None]:
    """Raise trouble with the SSH connection as `UnreachableError`, and trouble beyond it as `OSError`."""
    try:
        yield
    except TimeoutError:
        raise
    except (asyncssh.Error, OSError) as error:
        if connection.is_closed() or not isinstance(error, asyncssh.ChannelOpenError | OSError):
            raise UnreachableError(name, "connection lost while dialling") from error
        if isinstance(error, asyncssh.ChannelOpenError):
            raise OSError(_refusal(error)) from error
        raise


def _refusal(error: asyncssh.ChannelOpenError) -> str:
    reason = plain_text(error.reason).lower()
    return "connection refused" if reason in ("", "connect failed") else reason
