"""A command as a byte stream, against an SSH server in this process."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import asyncssh
import pytest

from fleet.errors import CommandFailedError, UnreachableError
from fleet.inventory import Host
from fleet.lab.relay import Direction, Relay
from fleet.machine import Command
from fleet.machine.ssh import SshMachine
from fleet.model import HostName
from tests.ssh.conftest import BOTH_WAYS

pytestmark = BOTH_WAYS
Process = asyncssh.SSHServerProcess[bytes]
Behaviour = Callable[[Process], Awaitable[None]]
COMMAND = Command(argv=("serve",))


class _Open(asyncssh.SSHServer):
    """Lets everybody in."""

    def begin_auth(self, username: str) -> bool:
        return username != "root"


@contextlib.asynccontextmanager
async def machine(behaviour: Behaviour) -> AsyncIterator[SshMachine]:
    key = asyncssh.generate_private_key("ssh-ed25519")

    async def serve(process: Process) -> None:
        with contextlib.suppress(OSError, asyncssh.Error):
            await behaviour(process)

    server = await asyncssh.listen(
        "127.0.0.1", 0, server_host_keys=[key], server_factory=_Open, process_factory=serve, encoding=None
    )
    connection = await asyncssh.connect(
        "127.0.0.1", server.get_port(), username="root", known_hosts=None, client_keys=None, config=[]
    )
    try:
        yield SshMachine(Host(name=HostName("web-1")), connection, "127.0.0.1", None)
    finally:
        connection.abort()
        await connection.wait_closed()
        server.close()
        await server.wait_closed()


@contextlib.asynccontextmanager
async def over_slow_link(behaviour: Behaviour, *, rate: float) -> AsyncIterator[SshMachine]:
    """The same, with so many bytes per second on the way."""
    key = asyncssh.generate_private_key("ssh-ed25519")

    async def serve(process: Process) -> None:
        with contextlib.suppress(OSError, asyncssh.Error):
            await behaviour(process)

    server = await asyncssh.listen(
        "127.0.0.1", 0, server_host_keys=[key], server_factory=_Open, process_factory=serve, encoding=None
    )
    relay = await Relay(server.get_port(), Direction(rate, 0.01), Direction(rate, 0.01)).serve(0)
    port = relay.sockets[0].getsockname()[1]
    connection = await asyncssh.connect(
        "127.0.0.1", port, username="root", known_hosts=None, client_keys=None, config=[]
    )
    try:
        yield SshMachine(Host(name=HostName("web-1")), connection, "127.0.0.1", None)
    finally:
        connection.abort()
        await connection.wait_closed()
        for each in (server, relay):
            each.close()


async def echo(process: Process) -> None:
    while block := await process.stdin.read(1 << 16):
        process.stdout.write(block)
    process.exit(0)


async def complain(process: Process) -> None:
    process.stderr.write(b"error: \x1b[31;1mno\x1b[0m space\n")
    process.exit(1)


async def hang(process: Process) -> None:
    await asyncio.Event().wait()


async def drop(process: Process) -> None:
    await process.stdin.read(1)
    process.channel.get_connection().abort()


async def test_what_the_command_reads_and_writes_are_the_bytes() -> None:
    sent = bytes(range(256)) * 4096
    async with machine(echo) as there, there.stream(COMMAND) as stream:
        writing = asyncio.create_task(stream.write(sent))
        got = b""
        while len(got) < len(sent):
            got += await stream.read(1 << 20)
        await writing
    assert got == sent


async def test_a_command_that_ends_says_how_and_why() -> None:
    async with machine(complain) as there, there.stream(COMMAND) as stream:
        assert await stream.read(1) == b""
        ended = await stream.ended()
        with pytest.raises(BrokenPipeError):
            await stream.write(b"more")
    assert (ended.status, ended.stderr) == (1, "error: no space")


async def test_a_lost_connection_ends_the_stream_and_is_named() -> None:
    async with machine(drop) as there, there.stream(COMMAND) as stream:
        await stream.write(b"x")
        assert await stream.read(1) == b""
        with pytest.raises(UnreachableError, match="connection lost"):
            await stream.ended()


async def test_leaving_does_not_wait_for_a_command_that_hangs() -> None:
    async with machine(hang) as there, asyncio.timeout(10), there.stream(COMMAND) as stream:
        more_than_its_window = stream.write(bytes(64 << 20))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(more_than_its_window, 0.2)


async def test_a_command_that_hangs_is_given_up_in_time() -> None:
    async with machine(hang) as there, asyncio.timeout(10):
        with pytest.raises(CommandFailedError, match="did not end within"):
            await there.run(Command(argv=("sleep",), timeout=0.2))


async def test_what_waits_for_a_slow_link_has_not_crossed_it() -> None:
    size, rate = 200_000, 100_000
    got = 0

    async def take(process: Process) -> None:
        nonlocal got
        while block := await process.stdin.read(1 << 16):
            got += len(block)
        process.exit(0)

    async with over_slow_link(take, rate=rate) as slow, slow.stream(COMMAND) as stream:
        before = asyncio.get_running_loop().time()
        await stream.write(bytes(size))
        seen = []
        while got < size:
            seen.append(size - stream.waiting)
            await asyncio.sleep(0.02)
        assert asyncio.get_running_loop().time() - before > size / rate * 0.8
        assert stream.waiting < size // 10
    assert seen == sorted(seen)
    assert seen[len(seen) // 4] < 0.7 * size  # the kernels of both ends and the relay hold some of it
    assert seen[len(seen) // 2] < 0.9 * size
