"""Much that is sent to a command on a server of this process, and what the command says of it."""

from __future__ import annotations

import contextlib
import random
from typing import TYPE_CHECKING, Any

from fleet.inventory import Host
from fleet.machine import Command
from fleet.machine.ssh import SshMachine
from fleet.model import HostName
from tests.sshd import connected

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

GCM = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com")


@contextlib.asynccontextmanager
async def machine_over(cipher: str, **options: Any) -> AsyncIterator[SshMachine]:
    """A host whose connection has this cipher, and asyncssh's options; see `connected`."""
    async with connected(cipher, **options) as connection:
        yield SshMachine(Host(name=HostName("web-1")), connection, "127.0.0.1", None)


async def sum_of(machine: SshMachine, blocks: list[bytes]) -> str:
    """What arrived, as its hash."""
    size = sum(map(len, blocks))
    async with machine.stream(Command(argv=("sh", "-c", 'head -c "$1" | sha256sum', "sh", str(size)))) as stream:
        for block in blocks:
            await stream.write(memoryview(block))
        return (await stream.read(64)).decode()


def some_blocks(seed: int, count: int) -> list[bytes]:
    """So many blocks of chance, of sizes around those at which something is cut."""
    chance = random.Random(seed)
    sizes = [chance.choice([0, 1, 7, 100, 32767, 32768, 32769, 300_000, 1 << 20]) for _ in range(count)]
    return [chance.randbytes(size) for size in sizes]
