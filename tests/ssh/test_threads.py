"""Machines in threads that each have an event loop of their own, as in a program that uses fleet as a library."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import threading
from typing import TYPE_CHECKING, Any, TypeVar

from fleet.machine import Command
from fleet.machine.link import SshLink
from fleet.machine.local import LocalMachine
from fleet.machine.login import JUMPS_AT_ONCE
from fleet.machine.pipe import LocalStreams
from fleet.machine.witness import Patience
from tests.ssh.conftest import BOTH_WAYS, named
from tests.ssh.pushing import some_blocks, sum_of
from tests.sshd import KEY, Server, listening

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

    from fleet.inventory import Host
    from fleet.machine.login import Logins
    from tests.ssh.conftest import MakeHost

pytestmark = BOTH_WAYS
Result = TypeVar("Result")
MANY = JUMPS_AT_ONCE + 4
"""Logins of one thread: more than may go to one jump host at once."""


async def in_threads(*acts: Callable[[], Coroutine[Any, Any, Result]]) -> list[Result]:
    """What each gives, all at once, each in a thread and an event loop of its own."""
    return await asyncio.gather(*(asyncio.to_thread(lambda act: asyncio.run(act()), act) for act in acts))


async def test_two_threads_log_in_and_run_commands_at_once(
    logins: Logins, make_host: MakeHost, server: Server, home: Path
) -> None:
    """With one `Logins` for both, and all on their connections at the same moment."""
    KEY.write_private_key(home / "key")
    server.allow = KEY
    server.startups = server.sessions = 10 * MANY
    meeting = threading.Barrier(2, timeout=20)

    async with listening(Server()) as bastion:
        bastion.startups = 10 * MANY
        jump = make_host(name="bastion", port=bastion.port)
        shared = dataclasses.replace(logins, hosts=named(jump), patience=Patience())
        there = {"jump": "bastion", "identity_file": str(home / "key")}
        hosts = [make_host(name=f"h{number}", **there) for number in range(MANY)]
        said = await in_threads(*[lambda: ask_all(shared, hosts, meeting)] * 2)
    assert said == [[f"h{number}\n" for number in range(MANY)]] * 2
    assert (len(bastion.users), len(server.users)) == (2 * MANY, 2 * MANY)


async def ask_all(logins: Logins, hosts: list[Host], meeting: threading.Barrier) -> list[str]:
    links = [SshLink(logins, host) for host in hosts]
    try:
        await asyncio.gather(*(link.run(Command(argv=("true",))) for link in links))
        await asyncio.to_thread(meeting.wait)
        outputs = await asyncio.gather(*(link.run(Command(argv=("echo", link.host.name))) for link in links))
        await asyncio.to_thread(meeting.wait)
    finally:
        await asyncio.gather(*(link.close() for link in links))
    return [output.stdout for output in outputs]


async def test_two_threads_push_at_once(logins: Logins, host: Host) -> None:
    meeting = threading.Barrier(2, timeout=20)

    async def push(seed: int) -> bool:
        blocks = some_blocks(seed, 30)
        async with logins.connect(host) as machine:
            await asyncio.to_thread(meeting.wait)
            return await sum_of(machine, blocks) == hashlib.sha256(b"".join(blocks)).hexdigest()

    assert await in_threads(lambda: push(1), lambda: push(2)) == [True, True]


async def test_two_threads_run_commands_here_at_once(server: Server) -> None:
    meeting = threading.Barrier(2, timeout=20)

    async def ask() -> tuple[str, bytes, bytes]:
        here = LocalMachine()
        async with LocalStreams().stream(Command(argv=("cat",))) as cat:
            await cat.write(b"x")
            await asyncio.to_thread(meeting.wait)
            output = await here.run(Command(argv=("echo", "here")))
            async with here.dial("127.0.0.1", server.port, timeout=5) as tcp:
                return output.stdout, await cat.read(1), await tcp.read(4)

    said = await in_threads(ask, ask)
    assert said == [("here\n", b"x", b"SSH-")] * 2
