"""Packets that fleet makes itself, read by an SSH server that believes nothing."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
from typing import TYPE_CHECKING, Any

import pytest

from fleet.inventory import Host
from fleet.machine import Command
from fleet.machine.bulk import fast_write
from fleet.machine.ssh import SshMachine
from fleet.model import HostName
from tests.sshd import connected

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SUM = Command(argv=("sh", "-c", 'head -c "$1" | sha256sum', "sh"))
GCM = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com")


@contextlib.asynccontextmanager
async def machine_over(cipher: str, **options: Any) -> AsyncIterator[SshMachine]:
    async with connected(cipher, **options) as connection:
        yield SshMachine(Host(name=HostName("web-1")), connection, "127.0.0.1", None)


async def sum_of(machine: SshMachine, blocks: list[bytes]) -> str:
    """What arrived, as its hash."""
    command = Command(argv=(*SUM.argv, str(sum(map(len, blocks)))))
    async with machine.stream(command) as stream:
        for block in blocks:
            await stream.write(memoryview(block))
        return (await stream.read(64)).decode()


def some_blocks(seed: int, count: int) -> list[bytes]:
    chance = random.Random(seed)
    sizes = [chance.choice([0, 1, 7, 100, 32767, 32768, 32769, 300_000, 1 << 20]) for _ in range(count)]
    return [chance.randbytes(size) for size in sizes]


@pytest.mark.parametrize("cipher", [*GCM, "chacha20-poly1305@openssh.com", "aes128-ctr"])
async def test_what_is_sent_arrives_unchanged(cipher: str) -> None:
    blocks = some_blocks(1, 40)
    async with machine_over(cipher) as machine:
        assert await sum_of(machine, blocks) == hashlib.sha256(b"".join(blocks)).hexdigest()


async def test_it_arrives_unchanged_when_keys_are_exchanged_in_between() -> None:
    blocks = some_blocks(2, 60)
    async with machine_over(GCM[0], rekey_bytes=500_000) as machine:
        assert await sum_of(machine, blocks) == hashlib.sha256(b"".join(blocks)).hexdigest()
        assert machine.connection._rekey_bytes_sent < sum(map(len, blocks)) / 2


async def test_it_arrives_unchanged_through_compression() -> None:
    blocks = some_blocks(4, 20)
    async with machine_over(GCM[0], compression_algs=["zlib@openssh.com"]) as machine:
        assert await sum_of(machine, blocks) == hashlib.sha256(b"".join(blocks)).hexdigest()


async def test_other_commands_go_between_its_packets() -> None:
    blocks = some_blocks(3, 60)
    async with machine_over(GCM[0]) as machine:
        summing = asyncio.create_task(sum_of(machine, blocks))
        for number in range(20):
            said = await machine.run(Command(argv=("cat",), stdin=b"%d" % number * 50_000))
            assert said.stdout == str(number) * 50_000
        assert await summing == hashlib.sha256(b"".join(blocks)).hexdigest()


async def test_a_window_that_is_still_closed_is_waited_for() -> None:
    """sshd opens it when the command runs; by then much may have been written."""
    async with machine_over(GCM[0]) as machine:
        process = await machine.connection.create_process("sha256sum", encoding=None)
        channel: Any = process.channel
        window, channel._send_window = channel._send_window, 0
        write = fast_write(channel)
        assert write is not None
        blocks = some_blocks(5, 40)
        for block in blocks:
            write(block)
        assert channel._send_buf_len == sum(map(len, blocks))
        process.stdin.write_eof()
        channel._send_window = window
        channel._flush_send_buf()
        assert (await process.stdout.read()).decode().split()[0] == hashlib.sha256(b"".join(blocks)).hexdigest()
        assert channel._flush_send_buf.__self__._worth == 1 << 18


async def test_it_goes_through_a_jump() -> None:
    blocks = some_blocks(6, 40)
    async with connected(GCM[0]) as jump, machine_over(GCM[0], tunnel=jump) as machine:
        assert await sum_of(machine, blocks) == hashlib.sha256(b"".join(blocks)).hexdigest()


@pytest.mark.parametrize("cipher", GCM)
async def test_it_is_in_use(cipher: str) -> None:
    """Goes red when an asyncssh renames what this needs: pushes would be slow, and nobody would know."""
    async with machine_over(cipher) as machine:
        process = await machine.connection.create_process("cat", encoding=None)
        assert fast_write(process.channel) is not None


@pytest.mark.parametrize("name", ["_send_window", "_pause_resume_writing"])
async def test_an_asyncssh_that_we_do_not_know_is_left_alone(name: str) -> None:
    async with machine_over(GCM[0]) as machine:
        process = await machine.connection.create_process("cat", encoding=None)

        class Other:
            def __getattr__(self, asked: str) -> object:
                if asked == name:
                    raise AttributeError(asked)
                return getattr(process.channel, asked)

        assert fast_write(Other()) is None
