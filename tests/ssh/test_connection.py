"""What becomes of a command when the connection, the host or the time fails it. Never: a success."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from fleet.errors import CommandFailedError, UnreachableError
from fleet.machine import CHANNELS, Command
from fleet.machine.sessions import SPARE
from fleet.machine.ssh import SshMachine
from tests.fakes import nothing_left
from tests.ssh.conftest import BOTH_WAYS
from tests.sshd import Network, Server, network

if TYPE_CHECKING:
    from pathlib import Path

    from fleet.inventory import Host
    from fleet.machine import Machine
    from fleet.machine.login import Logins
    from tests.ssh.conftest import MakeHost

pytestmark = BOTH_WAYS
Fault = Callable[[Network, Server], None]
FAULTS: dict[str, Fault] = {
    "server aborts": lambda _, server: server.drop(),
    "server says goodbye": lambda _, server: server.leave(),
    "closed": lambda between, _: between.cut(),
    "reset": lambda between, _: between.reset(),
    "silent": lambda between, _: between.silence(),
}


def sh(script: str, timeout: float = 10.0) -> Command:
    return Command(argv=("sh", "-c", script), timeout=timeout)


async def dial(machine: Machine, port: int, *, timeout: float = 5) -> None:
    async with machine.dial("127.0.0.1", port, timeout=timeout):
        pass


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
async def test_lost_connection_is_never_the_end_of_a_command(
    logins: Logins, make_host: MakeHost, server: Server, fault: Fault
) -> None:
    async with network(server.port) as between:
        with nothing_left():
            async with logins.connect(make_host(port=between.port)) as machine:
                task = asyncio.create_task(machine.run(sh("echo so far; exec sleep 60")))
                await server.is_busy()
                fault(between, server)
                with pytest.raises(UnreachableError, match="connection lost"):
                    await task


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
async def test_command_on_a_lost_connection_is_unreachable(
    logins: Logins, make_host: MakeHost, server: Server, fault: Fault
) -> None:
    async with network(server.port) as between, logins.connect(make_host(port=between.port)) as machine:
        await machine.run(sh("true"))
        fault(between, server)
        with pytest.raises(UnreachableError):
            await machine.run(sh("true"))
        with pytest.raises(UnreachableError):
            await dial(machine, server.port)


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
async def test_dial_on_a_connection_that_is_being_lost_is_unreachable(
    logins: Logins, make_host: MakeHost, server: Server, fault: Fault
) -> None:
    async with network(server.port) as between, logins.connect(make_host(port=between.port)) as machine:
        await machine.run(sh("true"))
        between.silence()
        task = asyncio.create_task(dial(machine, server.port))
        await asyncio.sleep(0.01)
        fault(between, server)
        with pytest.raises(UnreachableError):
            await task


async def test_command_is_given_up_in_time_on_a_silent_connection(
    logins: Logins, make_host: MakeHost, server: Server
) -> None:
    patient = dataclasses.replace(logins, patience=dataclasses.replace(logins.patience, keepalive=30.0))
    clock = asyncio.get_running_loop().time
    async with network(server.port) as between, patient.connect(make_host(port=between.port)) as machine:
        task = asyncio.create_task(machine.run(sh("exec sleep 60", timeout=0.2)))
        await server.is_busy()
        between.silence()
        started = clock()
        with pytest.raises(CommandFailedError, match="did not end within"):
            await task
        assert clock() - started < 1
        with pytest.raises(CommandFailedError, match="did not end within"):
            await machine.run(sh("true", timeout=0.05))
        with pytest.raises(OSError, match=r"no answer within 0\.05 s"):
            await dial(machine, server.port, timeout=0.05)


async def test_closing_a_silent_connection_leaves_nothing(logins: Logins, make_host: MakeHost, server: Server) -> None:
    async with network(server.port) as between:
        with nothing_left():
            async with logins.connect(make_host(port=between.port)):
                between.silence()


async def test_closing_a_connection_that_takes_no_more_bytes_does_not_wait_for_it(
    logins: Logins, make_host: MakeHost, server: Server
) -> None:
    patient = dataclasses.replace(logins, patience=dataclasses.replace(logins.patience, keepalive=30.0))
    async with network(server.port) as between:
        with nothing_left():
            async with patient.connect(make_host(port=between.port)) as machine:
                talking = Command(argv=("cat",), stdin=b"x" * 10_000_000, timeout=1.0)
                tasks = [asyncio.create_task(machine.run(talking)) for _ in range(6)]
                await server.is_busy()
                between.silence()
                await asyncio.wait(tasks)
                await asyncio.gather(*tasks, return_exceptions=True)
                started = asyncio.get_running_loop().time()
            assert asyncio.get_running_loop().time() - started < 1


async def test_command_that_ended_is_believed_though_the_connection_is_lost_then(
    logins: Logins, make_host: MakeHost, server: Server
) -> None:
    async with logins.connect(make_host()) as machine:
        output = await machine.run(sh("echo done; exit 4"))
        server.drop()
    assert (output.status, output.stdout) == (4, "done\n")


async def test_death_of_a_signal_is_told_by_name(logins: Logins, host: Host, server: Server) -> None:
    async with logins.connect(host) as machine:
        with pytest.raises(CommandFailedError, match="sh was killed"):
            await machine.run(sh("kill -9 $$"))


@pytest.mark.parametrize("limit", [1, 3])
async def test_host_that_allows_few_sessions_is_given_few(
    logins: Logins, host: Host, server: Server, limit: int
) -> None:
    server.sessions = limit
    async with logins.connect(host) as machine, asyncio.TaskGroup() as group:
        for number in range(8):
            group.create_task(machine.run(sh(f"sleep 0.02; exit {number}")))
    assert server.most_at_once == limit


async def test_host_that_allows_no_session_is_unreachable(logins: Logins, host: Host, server: Server) -> None:
    server.sessions = 0
    async with logins.connect(host) as machine:
        with pytest.raises(UnreachableError, match="the host opens no further session: open failed"):
            await machine.run(sh("true"))


async def test_a_few_commands_are_at_work_at_once_and_no_more(
    logins: Logins, host: Host, server: Server, tmp_path: Path
) -> None:
    """Each says how many there are, and none ends before so many were seen as there may be."""
    (tmp_path / "at-work").mkdir()
    script = f"""cd {tmp_path}; touch at-work/$$
        until test -e full; do test $(ls at-work | wc -l) -lt {CHANNELS} || touch full; sleep 0.01; done
        ls at-work | wc -l; rm at-work/$$"""
    async with logins.connect(host) as machine, asyncio.TaskGroup() as group:
        tasks = [group.create_task(machine.run(sh(script))) for _ in range(2 * CHANNELS)]
    assert max(int(task.result().stdout) for task in tasks) == CHANNELS
    assert server.most_at_once <= CHANNELS + SPARE


async def test_waiting_for_a_place_is_not_part_of_the_commands_time(logins: Logins, host: Host, server: Server) -> None:
    async with logins.connect(host) as machine, asyncio.TaskGroup() as group:
        for _ in range(12):
            group.create_task(machine.run(sh("sleep 0.5", timeout=0.9)))


async def test_machine_has_a_name_and_its_address(logins: Logins, host: Host) -> None:
    async with logins.connect(host) as machine:
        assert isinstance(machine, SshMachine)
        assert (machine.name, machine.address) == ("web-1", "127.0.0.1")
