"""Packets that fleet makes itself, read by an SSH server that believes nothing; and those that asyncssh makes."""

from __future__ import annotations

import asyncio
import hashlib

import pytest

from fleet.machine import Command
from fleet.machine.patched import fast_write
from fleet.machine.patched.bulk import WORTH
from tests.ssh import inside
from tests.ssh.conftest import BOTH_WAYS
from tests.ssh.pushing import GCM, machine_over, some_blocks, sum_of
from tests.sshd import connected


@BOTH_WAYS
@pytest.mark.parametrize("cipher", [*GCM, "chacha20-poly1305@openssh.com", "aes128-ctr"])
async def test_what_is_sent_arrives_unchanged(cipher: str) -> None:
    blocks = some_blocks(1, 40)
    async with machine_over(cipher) as machine:
        assert await sum_of(machine, blocks) == hashlib.sha256(b"".join(blocks)).hexdigest()


@BOTH_WAYS
@pytest.mark.parametrize("keys", [{"rekey_bytes": 500_000}, {"host_rekey_bytes": 3_000}], ids=["us", "the host"])
async def test_it_arrives_unchanged_when_keys_are_exchanged_by(keys: dict[str, int]) -> None:
    blocks = some_blocks(2, 60)
    async with machine_over(GCM[0], **keys) as machine:
        assert await sum_of(machine, blocks) == hashlib.sha256(b"".join(blocks)).hexdigest()


@BOTH_WAYS
async def test_it_arrives_unchanged_through_compression() -> None:
    blocks = some_blocks(4, 20)
    async with machine_over(GCM[0], compression_algs=["zlib@openssh.com"]) as machine:
        assert await sum_of(machine, blocks) == hashlib.sha256(b"".join(blocks)).hexdigest()


@BOTH_WAYS
async def test_other_commands_go_between_its_packets() -> None:
    blocks = some_blocks(3, 60)
    async with machine_over(GCM[0]) as machine:
        summing = asyncio.create_task(sum_of(machine, blocks))
        for number in range(20):
            said = await machine.run(Command(argv=("cat",), stdin=b"%d" % number * 50_000))
            assert said.stdout == str(number) * 50_000
        assert await summing == hashlib.sha256(b"".join(blocks)).hexdigest()


@BOTH_WAYS
async def test_it_goes_through_a_jump() -> None:
    blocks = some_blocks(6, 40)
    async with connected(GCM[0]) as jump, machine_over(GCM[0], tunnel=jump) as machine:
        assert await sum_of(machine, blocks) == hashlib.sha256(b"".join(blocks)).hexdigest()


async def test_what_the_transport_has_not_sent_yet_stays_as_it_is() -> None:
    """asyncio's keep what they are given, without a copy, since Python 3.12."""
    blocks = [bytes([number]) * 300_000 for number in range(5)]
    async with machine_over(GCM[0]) as machine:
        process = await machine.connection.create_process("sha256sum", encoding=None)
        write = fast_write(process.channel)
        assert write is not None
        with inside.held_back(machine.connection):
            for block in blocks:
                write(block)
        process.stdin.write_eof()
        assert (await process.stdout.read()).decode().split()[0] == hashlib.sha256(b"".join(blocks)).hexdigest()


async def test_a_window_that_is_still_closed_is_waited_for() -> None:
    """sshd opens it when the command runs; by then much may have been written."""
    async with machine_over(GCM[0]) as machine:
        process = await machine.connection.create_process("sha256sum", encoding=None)
        window = inside.close_window(process.channel)
        write = fast_write(process.channel)
        assert write is not None
        blocks = some_blocks(5, 40)
        for block in blocks:
            write(block)
        assert process.channel.get_write_buffer_size() == sum(map(len, blocks))
        process.stdin.write_eof()
        inside.open_window(process.channel, window)
        assert (await process.stdout.read()).decode().split()[0] == hashlib.sha256(b"".join(blocks)).hexdigest()


async def test_a_window_that_opens_by_little_is_filled_when_it_is_worth_it() -> None:
    async with machine_over(GCM[0]) as machine:
        process = await machine.connection.create_process("cat", encoding=None)
        write, waiting = fast_write(process.channel), process.channel.get_write_buffer_size
        assert write is not None
        write(bytes(inside.window(process.channel) + WORTH + 1))
        assert waiting() == WORTH + 1
        inside.open_window(process.channel, WORTH - 1)
        assert waiting() == WORTH + 1
        inside.open_window(process.channel, 1)
        assert waiting() == 1


@pytest.mark.parametrize("cipher", GCM)
async def test_it_is_in_use(cipher: str) -> None:
    """Goes red when an asyncssh renames what this needs: pushes would be slow, and nobody would know."""
    async with machine_over(cipher) as machine:
        process = await machine.connection.create_process("cat", encoding=None)
        assert fast_write(process.channel) is not None
