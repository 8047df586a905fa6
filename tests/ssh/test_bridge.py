"""Bytes between here and there: bridges to commands, and TCP connections from where the host stands."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING

import pytest

from fleet.machine import Bridge, Command
from tests.fakes import nothing_left
from tests.sshd import Server, refused_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from fleet.inventory import Host
    from fleet.machine.login import Logins

CAT = Command(argv=("cat",))


@contextlib.asynccontextmanager
async def talking(bridge: Bridge) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_unix_connection(bridge.socket)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def test_bytes_go_both_ways_and_are_counted(logins: Logins, host: Host) -> None:
    data = bytes(range(256)) * 4096
    async with logins.connect(host) as machine, machine.bridge(CAT) as bridge:
        before = bridge.last_moved
        async with talking(bridge) as (reader, writer):
            writer.write(data)
            writer.write_eof()
            assert await reader.read() == data
        assert (bridge.sent, bridge.received, bridge.stderr) == (len(data), len(data), "")
        assert bridge.last_moved > before


async def test_answer_comes_after_our_side_has_ended(logins: Logins, host: Host) -> None:
    count = Command(argv=("wc", "-c"))
    async with logins.connect(host) as machine, machine.bridge(count) as bridge, talking(bridge) as (reader, writer):
        writer.write(b"12345")
        writer.write_eof()
        assert (await reader.read()).strip() == b"5"


async def test_far_end_that_ends_first_ends_the_connection(logins: Logins, host: Host) -> None:
    command = Command(argv=("sh", "-c", "echo bye"))
    async with logins.connect(host) as machine, machine.bridge(command) as bridge, talking(bridge) as (reader, _):
        assert await reader.read() == b"bye\n"


async def test_far_command_that_fails_is_told(logins: Logins, host: Host) -> None:
    command = Command(argv=("sh", "-c", "echo no daemon >&2; exit 3"))
    async with logins.connect(host) as machine, machine.bridge(command) as bridge:
        for _ in range(2):
            async with talking(bridge) as (reader, _writer):
                assert await reader.read() == b""
            await asyncio.sleep(0.02)
    assert bridge.stderr.splitlines() == ["no daemon", "sh ended with exit status 3"] * 2


async def test_each_connection_has_its_own_command(logins: Logins, host: Host, server: Server) -> None:
    async with (
        logins.connect(host) as machine,
        machine.bridge(CAT) as bridge,
        talking(bridge) as (one, to_one),
        talking(bridge) as (two, to_two),
    ):
        to_one.write(b"1")
        to_two.write(b"2")
        to_one.write_eof()
        to_two.write_eof()
        assert (await one.read(), await two.read()) == (b"1", b"2")
    assert server.lines[:2] == ["cat", "cat"]


async def test_lost_connection_ends_the_bridge_and_is_told(logins: Logins, host: Host, server: Server) -> None:
    async with logins.connect(host) as machine, machine.bridge(CAT) as bridge:
        async with talking(bridge) as (reader, writer):
            writer.write(b"x")
            assert await reader.read(1) == b"x"
            server.drop()
            assert await reader.read() == b""
        await asyncio.sleep(0.02)
        assert "connection lost" in bridge.stderr
        async with talking(bridge) as (reader, _):
            assert await reader.read() == b""


async def test_bridge_leaves_nothing_behind(logins: Logins, host: Host) -> None:
    async with logins.connect(host) as machine:
        with nothing_left():
            async with machine.bridge(CAT) as bridge, talking(bridge) as (reader, writer):
                assert bridge.socket.parent.stat().st_mode & 0o077 == 0
                writer.write(b"x")
                await reader.read(1)
        assert not bridge.socket.parent.exists()


async def test_dialled_connection_carries_bytes_both_ways(logins: Logins, host: Host) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.read()).upper())
        writer.close()

    def talk(connection: socket.socket) -> bytes:
        with connection:
            connection.sendall(b"hello " * 50_000)
            connection.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: connection.recv(1 << 16), b""))

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as service, logins.connect(host) as machine:
        with nothing_left():
            connection = await machine.dial("127.0.0.1", service.sockets[0].getsockname()[1], timeout=5)
            said = await asyncio.to_thread(talk, connection)
            await asyncio.sleep(0.02)
    assert said == b"HELLO " * 50_000


async def test_dialled_connection_ends_with_the_machine(logins: Logins, host: Host) -> None:
    with socket.create_server(("127.0.0.1", 0)) as service:
        with nothing_left():
            async with logins.connect(host) as machine:
                connection = await machine.dial("127.0.0.1", service.getsockname()[1], timeout=5)
        with connection:
            assert connection.recv(1) == b""


async def test_refused_port_is_refused_and_costs_no_connection(logins: Logins, host: Host) -> None:
    async with logins.connect(host) as machine:
        with pytest.raises(OSError, match=r"(?i)connect"):
            await machine.dial("127.0.0.1", refused_port(), timeout=5)
        assert (await machine.run(Command(argv=("echo", "on")))).stdout == "on\n"
