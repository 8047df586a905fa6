"""AES-GCM bears no nonce twice under one key: not for asyncssh's packets, not for ours, and not for both together."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from typing import TYPE_CHECKING, Any

import pytest

from fleet.errors import HostError
from fleet.machine import Command
from tests.ssh.inside import Recorded, break_transport
from tests.ssh.pushing import GCM, machine_over, some_blocks, sum_of

if TYPE_CHECKING:
    from fleet.machine.ssh import SshMachine


@pytest.fixture
def record(monkeypatch: pytest.MonkeyPatch) -> Recorded:
    """All that is sealed in this process: by us, by asyncssh's client, and by its server."""
    record = Recorded()
    for place in ("asyncssh.crypto.cipher", "fleet.machine.patched.packets"):
        monkeypatch.setattr(f"{place}.AESGCM", record)
    return record


async def push_and_ask(machine: SshMachine, seed: int, questions: int) -> bool:
    """Whether much was pushed, with commands in between, and all of it has arrived as it was sent."""
    blocks = some_blocks(seed, 60)
    pushing = asyncio.create_task(sum_of(machine, blocks))
    answers = []
    for number in range(questions):
        said = await machine.run(Command(argv=("cat",), stdin=b"%d" % number * 1000))
        answers.append(said.stdout == str(number) * 1000)
    return all(answers) and await pushing == hashlib.sha256(b"".join(blocks)).hexdigest()


@pytest.mark.parametrize("cipher", GCM)
@pytest.mark.parametrize(
    "keys",
    [{}, {"rekey_bytes": 500_000}, {"host_rekey_bytes": 3_000}, {"rekey_bytes": 400_000, "host_rekey_bytes": 5_000}],
    ids=["as they are", "exchanged by us", "exchanged by the host", "exchanged by both"],
)
async def test_no_nonce_is_used_twice_under_one_key(record: Recorded, cipher: str, keys: dict[str, Any]) -> None:
    async with machine_over(cipher, **keys) as machine:
        assert await push_and_ask(machine, 7, 20)
    assert record.used_twice() == []
    assert len(record.sealed) > 500
    assert any(by == {"encrypt", "encrypt_into"} for by in record.by.values())  # one key, both ways
    assert len(record.by) == 2 if not keys else len(record.by) > 10


async def test_keys_are_exchanged_while_nothing_but_a_push_goes(record: Recorded) -> None:
    """After 3 MiB, and at most a window of 2 MiB later."""
    async with machine_over(GCM[0], rekey_bytes=3 << 20) as machine:
        blocks = [bytes(1 << 20)] * 30
        assert await sum_of(machine, blocks) == hashlib.sha256(b"".join(blocks)).hexdigest()
    ours = [key for key, by in record.by.items() if "encrypt_into" in by]
    assert len(ours) >= 30 // (3 + 2)


async def test_no_nonce_is_used_twice_on_a_connection_to_which_the_patches_come_and_go(
    record: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with machine_over(GCM[0]) as machine:
        for number, plain in enumerate(["0", "1", "0"]):
            monkeypatch.setenv("FLEET_PLAIN_SSH", plain)
            assert await push_and_ask(machine, number, 5)
    assert record.used_twice() == []


@pytest.mark.parametrize("packet", [1, 2, 5])
async def test_no_nonce_is_used_twice_when_sealing_fails_in_the_middle(record: Recorded, packet: int) -> None:
    """What was sealed by then may be with the host. Whatever is sent afterwards, it must not be sealed like that."""
    left = [packet]

    def fail_once() -> None:
        left[0] -= 1
        if left[0] == 0:
            raise MemoryError

    async with machine_over(GCM[0]) as machine:
        with contextlib.suppress(HostError):
            async with machine.stream(Command(argv=("cat",))) as stream:
                await stream.write(bytes(300_000))
                record.before_sealing = fail_once
                with pytest.raises(MemoryError):
                    await stream.write(bytes(range(250)) * 1200)
                with contextlib.suppress(BrokenPipeError):
                    await stream.write(bytes(range(240)) * 1200)
        with contextlib.suppress(HostError):
            await machine.run(Command(argv=("true",), timeout=2))
    assert record.used_twice() == []


async def test_no_nonce_is_used_twice_when_the_transport_fails_in_the_middle(record: Recorded) -> None:
    async with machine_over(GCM[0]) as machine:
        with contextlib.suppress(HostError):
            async with machine.stream(Command(argv=("cat",))) as stream:
                await stream.write(b"first")
                break_transport(machine.connection, at=2)
                with pytest.raises(RuntimeError, match="the transport fails"):
                    await stream.write(bytes(range(250)) * 6000)
        with contextlib.suppress(HostError):
            await machine.run(Command(argv=("true",), timeout=2))
    assert record.used_twice() == []
