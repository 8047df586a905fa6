"""Bytes between here and there: bridges to commands, and TCP connections from where the host stands."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import socket
from typing import TYPE_CHECKING

import pytest

from fleet.errors import UnreachableError
from fleet.machine import Bridge, Command
from fleet.machine.witness import Patience
from tests.fakes import nothing_left
from tests.ssh.conftest import BOTH_WAYS
from tests.sshd import Server, network
from tests.waiting import becomes, free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from fleet.inventory import Host
    from fleet.machine.login import Logins
    from tests.ssh.conftest import MakeHost

pytestmark = BOTH_WAYS
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
        for times in (1, 2):
            async with talking(bridge) as (reader, _writer):
                assert await reader.read() == b""
            await ended(bridge, times)
    assert bridge.stderr.splitlines() == ["no daemon", "sh ended with exit status 3"] * 2


async def ended(bridge: Bridge, times: int) -> None:
    """So many far commands have told how they ended."""
    await becomes(lambda: bridge.stderr.count("ended with exit status") == times)


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
        await becomes(lambda: "connection lost" in bridge.stderr)
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
    size = 300_000

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.readexactly(size)).upper())
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as service, logins.connect(host) as machine:
        with nothing_left():
            port = service.sockets[0].getsockname()[1]
            async with machine.dial("127.0.0.1", port, timeout=5) as stream:
                await stream.write(b"hello " * (size // 6))
                said = b""
                while block := await stream.read(1 << 16):
                    said += block
    assert said == b"HELLO " * (size // 6)


async def test_dialled_connection_whose_machine_is_lost_is_unreachable(
    logins: Logins, host: Host, server: Server
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as service:
        port = service.getsockname()[1]
        async with logins.connect(host) as machine, machine.dial("127.0.0.1", port, timeout=5) as stream:
            server.leave()
            with pytest.raises(UnreachableError, match="connection lost"):
                await stream.read(1)
            with pytest.raises(UnreachableError, match="connection lost"):
                await stream.write(b"x")


async def test_dialled_connection_is_closed_on_the_way_out(logins: Logins, host: Host) -> None:
    closed = asyncio.Event()

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        closed.set()

    async with await asyncio.start_server(wait, "127.0.0.1", 0) as service, logins.connect(host) as machine:
        async with machine.dial("127.0.0.1", service.sockets[0].getsockname()[1], timeout=5):
            assert not closed.is_set()
        await asyncio.wait_for(closed.wait(), 10)


async def test_what_is_connected_too_late_is_closed(logins: Logins, make_host: MakeHost, server: Server) -> None:
    closed = asyncio.Event()

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        closed.set()

    async with (
        await asyncio.start_server(wait, "127.0.0.1", 0) as service,
        network(server.port) as between,
        dataclasses.replace(logins, patience=Patience()).connect(make_host(port=between.port)) as machine,
    ):
        between.hold_answers()
        with pytest.raises(TimeoutError):
            async with machine.dial("127.0.0.1", service.sockets[0].getsockname()[1], timeout=0.05):
                raise AssertionError("it was connected")
        between.release_answers()
        await asyncio.wait_for(closed.wait(), 10)


async def test_refused_port_is_refused_and_costs_no_connection(logins: Logins, host: Host) -> None:
    async with logins.connect(host) as machine:
        with pytest.raises(OSError, match=r"(?i)connect"):
            async with machine.dial("127.0.0.1", free_port(), timeout=5):
                raise AssertionError("it was connected")
        assert (await machine.run(Command(argv=("echo", "on")))).stdout == "on\n"
