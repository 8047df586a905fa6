"""One host's connection for a whole run."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import TYPE_CHECKING

import pytest

from fleet.errors import UnreachableError
from fleet.machine import Command
from fleet.machine.link import SshLink
from fleet.machine.local import LocalMachine
from fleet.machine.pace import Pace
from tests.fakes import nothing_left
from tests.ssh.conftest import BOTH_WAYS
from tests.sshd import Server, network
from tests.waiting import becomes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from fleet.inventory import Host
    from fleet.machine.login import Logins
    from tests.ssh.conftest import MakeHost


pytestmark = BOTH_WAYS


@pytest.fixture
async def link(logins: Logins, host: Host) -> AsyncIterator[SshLink]:
    link = SshLink(logins, host)
    yield link
    await link.close()


async def test_nothing_is_connected_before_it_is_needed(link: SshLink, server: Server) -> None:
    assert server.connections == []
    await link.close()


async def test_one_connection_serves_all_commands(link: SshLink, server: Server) -> None:
    async with asyncio.TaskGroup() as group:
        for _ in range(5):
            group.create_task(link.run(Command(argv=("true",))))
    assert len(server.connections) == 1


async def test_key_of_the_host_is_named_as_ssh_keygen_names_it(link: SshLink, server: Server, tmp_path: Path) -> None:
    assert link.host_key == ""
    await link.run(Command(argv=("true",)))
    (tmp_path / "key.pub").write_text(server.public)
    said = await LocalMachine().run(Command(argv=("ssh-keygen", "-l", "-f", str(tmp_path / "key.pub")), root=False))
    assert link.host_key == said.stdout.split()[1]


async def test_lost_connection_is_opened_again_and_nothing_is_repeated(
    link: SshLink, server: Server, tmp_path: Path
) -> None:
    count = Command(argv=("sh", "-c", f"echo x >> {tmp_path}/count; exec sleep 60"))
    task = asyncio.create_task(link.run(count))
    await becomes((tmp_path / "count").exists)
    server.drop()
    with pytest.raises(UnreachableError):
        await task
    assert (await link.run(Command(argv=("cat", str(tmp_path / "count"))))).stdout == "x\n"


async def test_host_that_stays_away_is_unreachable_each_time(
    logins: Logins, make_host: MakeHost, server: Server
) -> None:
    hasty = dataclasses.replace(logins, patience=dataclasses.replace(logins.patience, login=1.0))
    async with network(server.port) as between:
        link = SshLink(hasty, make_host(port=between.port))
        await link.run(Command(argv=("true",)))
        between.silence()
        for _ in range(2):
            with pytest.raises(UnreachableError):
                await link.run(Command(argv=("true",)))
        await link.close()


class Watched(Pace):
    """A pace that nobody notices, and that remembers how much went at it."""

    went = 0

    async def portions(self, data: bytes | bytearray | memoryview) -> AsyncIterator[memoryview]:
        async for piece in super().portions(data):
            self.went += len(piece)
            yield piece


async def test_all_that_goes_through_bridges_and_streams_keeps_the_pace(logins: Logins, host: Host) -> None:
    pace = Watched(1e9)
    link = SshLink(logins, host, pace=pace)
    data = bytes(range(256)) * 4096
    cat = Command(argv=("cat",))
    async with link.stream(cat) as stream:
        sending = asyncio.create_task(stream.write(data))
        came = b""
        while len(came) < len(data):
            came += await stream.read(1 << 20)
        await sending
    assert (came, pace.went) == (data, len(data))
    async with link.bridge(cat) as bridge:
        reader, writer = await asyncio.open_unix_connection(bridge.socket)
        writer.write(data)
        writer.write_eof()
        assert await reader.read() == data
        writer.close()
        assert (bridge.sent, pace.went) == (len(data), 2 * len(data))
    await link.close()


async def test_fresh_connection_is_a_new_one_and_closed_afterwards(link: SshLink, server: Server) -> None:
    await link.run(Command(argv=("true",)))
    async with link.fresh() as machine:
        await machine.run(Command(argv=("true",)))
        assert len(server.connections) == 2
    await becomes(lambda: server.connections[1].is_closed())
    assert not server.connections[0].is_closed()


async def test_refused_command_does_not_end_its_neighbours(link: SshLink, server: Server, tmp_path: Path) -> None:
    server.sessions = 1
    until_told = f"until test -e {tmp_path / 'told'}; do sleep 0.02; done; echo slow"
    slow = asyncio.create_task(link.run(Command(argv=("sh", "-c", until_told))))
    await server.is_busy()
    quick = asyncio.create_task(link.run(Command(argv=("echo", "quick"))))
    await asyncio.sleep(0)
    (tmp_path / "told").touch()
    assert (await quick).stdout == "quick\n"
    assert (await slow).stdout == "slow\n"


async def test_bridge_and_dial_go_through_the_same_connection(link: SshLink, server: Server) -> None:
    async with link.bridge(Command(argv=("cat",))) as bridge:
        reader, writer = await asyncio.open_unix_connection(bridge.socket)
        writer.write(b"x")
        writer.write_eof()
        assert await reader.read() == b"x"
        writer.close()
        await writer.wait_closed()
    async with link.dial("127.0.0.1", server.port, timeout=5) as tcp:
        assert await tcp.read(4) == b"SSH-"
    async with link.stream(Command(argv=("echo", "x"))) as stream:
        assert await stream.read(2) == b"x\n"
    assert server.users == ["root"]


async def test_closing_ends_what_is_under_way(link: SshLink, server: Server) -> None:
    with nothing_left():
        task = asyncio.create_task(link.run(Command(argv=("sleep", "60"))))
        await server.is_busy()
        await link.close()
        with pytest.raises(UnreachableError):
            await task
