"""What every machine does alike: the one here, also as a host, one over SSH, and the fake of the unit tests."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import socket
import tracemalloc
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from fleet.errors import AnswerError, CommandFailedError
from fleet.machine import Command, Machine, Output
from fleet.machine.bounds import BURST, LONGEST_LINE, MOST, MOST_LINES, TAIL, Outputs
from fleet.machine.local import LocalMachine
from fleet.machine.own import OwnMachine
from fleet.machine.patched import PLAIN
from tests.contract.links import over_ssh, own_host
from tests.fakes import FakeMachine, Says, nothing_left
from tests.waiting import free_port

if TYPE_CHECKING:
    from pathlib import Path

Make = Callable[[Says], AbstractAsyncContextManager[Machine]]
"""A machine; the fake one is told what the command will do there."""


@contextlib.asynccontextmanager
async def fake(says: Says) -> AsyncIterator[Machine]:
    yield FakeMachine((lambda _: True, says))


@contextlib.asynccontextmanager
async def local(_: Says) -> AsyncIterator[Machine]:
    yield LocalMachine()


@contextlib.asynccontextmanager
async def own(_: Says) -> AsyncIterator[Machine]:
    yield OwnMachine(own_host(), is_root=True)


def remote(_: Says) -> AbstractAsyncContextManager[Machine]:
    return over_ssh()


@pytest.fixture(
    params=[(fake, "0"), (local, "0"), (own, "0"), (remote, "0"), (remote, "1")],
    ids=["fake", "local", "own", "ssh", "plain ssh"],
)
def make(request: pytest.FixtureRequest, home: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    made: Make
    made, plain = request.param
    monkeypatch.setenv(PLAIN, plain)
    return made


def sh(script: str, *, stdin: bytes = b"", timeout: float = 10.0) -> Command:
    return Command(argv=("sh", "-c", script), stdin=stdin, timeout=timeout)


@pytest.mark.parametrize("status", [0, 1, 100, 255])
async def test_exit_status_is_given_and_raises_nothing(make: Make, status: int) -> None:
    async with make(Says(status=status)) as machine:
        assert await machine.run(sh(f"exit {status}")) == Output(status=status)


async def test_stdout_and_stderr_are_kept_apart(make: Make) -> None:
    async with make(Says(stdout=b"one\ntwo", stderr=b"three\n")) as machine:
        output = await machine.run(sh("echo three >&2; echo one; printf two"))
    assert output == Output(status=0, stdout="one\ntwo", stderr="three\n")


async def test_arguments_arrive_as_they_are(make: Make) -> None:
    odd = ("two words", "'quoted'", "$HOME", "a\nb", "*", "", "-n", "ü", "`true`", "\\", ";")
    async with make(Says(stdout="".join(f"{each}|" for each in odd).encode())) as machine:
        output = await machine.run(Command(argv=("printf", "%s|", *odd)))
    assert output.stdout == "".join(f"{each}|" for each in odd)


async def test_stdin_is_given_to_its_end(make: Make) -> None:
    async with make(Says(stdout=b"3000000\n")) as machine:
        assert (await machine.run(sh("wc -c", stdin=b"x" * 3_000_000))).stdout.strip() == "3000000"


async def test_no_stdin_is_an_empty_one(make: Make) -> None:
    async with make(Says()) as machine:
        assert await machine.run(sh("cat")) == Output(status=0)


@pytest.mark.parametrize("script", ["exit 3", "exec 0<&-; sleep 0.05; exit 3", "head -c 10 >/dev/null; exit 3"])
async def test_command_that_does_not_read_its_big_stdin_is_fine(make: Make, script: str) -> None:
    async with make(Says(status=3)) as machine:
        assert (await machine.run(sh(script, stdin=b"x" * 20_000_000))).status == 3


async def test_output_that_is_not_utf8_is_replaced(make: Make) -> None:
    lines: list[str] = []
    async with make(Says(stdout=b"a\xff\xfeb", stderr=b"c\xffd\n")) as machine:
        output = await machine.run(sh(r"printf 'a\377\376b'; printf 'c\377d\n' >&2"), on_line=lines.append)
    assert output == Output(status=0, stdout="a\ufffd\ufffdb", stderr="c\ufffdd\n")
    assert lines == ["c\ufffdd"]


async def test_lines_of_stderr_are_told_in_order_without_control_characters(make: Make) -> None:
    lines: list[str] = []
    raw = b"one\r\n\x1b[31mtwo\x1b[0m\n\nthree \xc3\xbc\x0c"
    async with make(Says(stderr=raw)) as machine:
        await machine.run(sh(r"printf 'one\r\n\033[31mtwo\033[0m\n\nthree \303\274\f' >&2"), on_line=lines.append)
    assert lines == ["one", "two", "", "three ü"]


async def test_of_a_very_long_line_the_beginning_is_told(make: Make) -> None:
    lines: list[str] = []
    async with make(Says(stderr=b"x" * 1_000_000 + b"\ny\n")) as machine:
        await machine.run(sh("head -c 1000000 /dev/zero | tr '\\0' x >&2; echo >&2; echo y >&2"), on_line=lines.append)
    assert lines == ["x" * LONGEST_LINE + "…", "y"]


async def test_much_output_is_complete(make: Make) -> None:
    async with make(Says(stdout=b"x" * 4_000_000, stderr=b"y" * 3_000_000)) as machine:
        output = await machine.run(
            sh("yes | tr -d '\n' | head -c 4000000 | tr y x; yes | tr -d '\n' | head -c 3000000 >&2")
        )
    assert (output.stdout, output.stderr) == ("x" * 4_000_000, "y" * TAIL)


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("exec cat /dev/zero", b"\0" * (MOST + 1)),
        ("exec yes ''", b"\n" * (MOST_LINES + 1)),
        ("exec yes 'refused=locked'", b"refused=locked\n" * (MOST // 10)),
    ],
)
async def test_answer_without_an_end_is_no_answer(make: Make, script: str, says: bytes) -> None:
    async with make(Says(stdout=says)) as machine:
        with nothing_left(), pytest.raises(AnswerError, match=r"sh answers with more than \d+ (KiB|lines)"):
            await machine.run(sh(script, timeout=60.0))


async def test_answer_may_have_as_much_as_its_command_says(make: Make) -> None:
    async with make(Says(stdout=b"x" * 1000)) as machine:
        command = Command(argv=("sh", "-c", "yes | tr -d '\n' | head -c 1000"), most=1000)
        assert len((await machine.run(command)).stdout) == 1000
        with pytest.raises(AnswerError):
            await machine.run(dataclasses.replace(command, most=999))


async def test_stderr_without_an_end_ends_in_time(make: Make) -> None:
    async with make(Says(stderr=b"x\n" * 5_000_000, seconds=60)) as machine:
        with nothing_left(), pytest.raises(CommandFailedError, match="did not end within"):
            await machine.run(sh("exec yes >&2", timeout=0.3))


async def test_stderr_without_an_end_takes_no_memory() -> None:
    """Of what reads it: the SSH server of these tests, in the same process, remembers all that it has sent."""
    left = 2_000

    async def read(count: int) -> bytes:
        nonlocal left
        left -= 1
        return b"x" * count if left >= 0 else b""

    outputs = Outputs(SimpleNamespace(stdout=SimpleNamespace(read=read), stderr=SimpleNamespace(read=read)))
    tracemalloc.start()
    try:
        assert await outputs.errors() == "x" * TAIL
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


async def test_of_a_flood_of_lines_a_part_is_told_and_the_end_is_kept(make: Make) -> None:
    lines: list[str] = []
    line = "y" * 99
    async with make(Says(stderr=b"x\n" + f"{line}\n".encode() * 90_000 + b"end\n")) as machine:
        script = f"echo x >&2; yes {line} | head -n 90000 >&2; echo end >&2"
        output = await machine.run(sh(script), on_line=lines.append)
    assert lines[:2] == ["x", line]
    told = [one for one in lines if one in ("x", line, "end")]
    left_out = sum(
        int(one[1:].split()[0]) for one in lines if one.endswith("lines are left out here: they came too fast)")
    )
    assert len(told) + left_out == 90_002
    assert len(told) < BURST // 200
    assert (len(output.stderr), output.stderr[-6:]) == (TAIL, "y\nend\n")


async def test_as_much_as_is_wanted_is_kept(make: Make) -> None:
    async with make(Says(stdout=b"x" * 5_000_000 + b"end", stderr=b"x" * 9)) as machine:
        script = "yes | tr -d '\n' | head -c 5000000 | tr y x; printf end; printf xxxxxxxxx >&2"
        output = await machine.run(Command(argv=("sh", "-c", script), keep=4))
    assert output == Output(status=0, stdout="xend", stderr="xxxx", left_out=5_000_004)


async def test_stderr_has_no_control_characters_and_no_text_that_turns_around(make: Make) -> None:
    raw = b"\x1b]0;title\x07a\x1b[2Jb\xe2\x80\xaec\n"
    async with make(Says(stderr=raw)) as machine:
        script = r"printf '\033]0;title\007a\033[2Jb\342\200\256c\n' >&2"
        assert (await machine.run(sh(script))).stderr == "abc\n"


async def test_command_that_takes_too_long_is_given_up(make: Make) -> None:
    async with make(Says(seconds=60)) as machine:
        with nothing_left(), pytest.raises(CommandFailedError, match=r"sh did not end within 0\.05 s"):
            await machine.run(sh("exec sleep 60", timeout=0.05))


async def test_machine_works_on_after_a_command_was_given_up(make: Make) -> None:
    async with make(Says(seconds=60)) as machine:
        with pytest.raises(CommandFailedError):
            await machine.run(sh("exec sleep 60", timeout=0.05))
        if isinstance(machine, FakeMachine):
            machine.table = [(lambda _: True, Says(stdout=b"on\n"))]
        assert (await machine.run(sh("echo on"))).stdout == "on\n"


async def test_cancelled_command_leaves_nothing_here(make: Make) -> None:
    async with make(Says(seconds=60)) as machine:
        before = asyncio.all_tasks()
        task = asyncio.create_task(machine.run(sh("exec sleep 60", timeout=60)))
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert {one for one in asyncio.all_tasks() - before if "/tests/sshd.py" not in repr(one)} == set()


async def test_death_of_a_signal_is_told(make: Make) -> None:
    async with make(Says(died_of="SIGKILL")) as machine:
        try:  # where a shell stands between, it tells of the death by its own exit status
            told: object = (await machine.run(sh("kill -9 $$"))).status
        except CommandFailedError as error:
            told = error.message
    assert told in ("sh was killed (SIGKILL); out of memory?", 128 + 9)


async def test_command_that_is_not_there_is_never_a_success(make: Make) -> None:
    async with make(Says(is_there=False)) as machine:
        try:
            status = (await machine.run(Command(argv=("no-such-command-anywhere",)))).status
        except CommandFailedError:
            status = 127
    assert status == 127


async def test_many_commands_at_once(make: Make) -> None:
    async with make(Says(stdout=b"x")) as machine, asyncio.TaskGroup() as group:
        tasks = [group.create_task(machine.run(sh("printf x"))) for _ in range(20)]
    assert [task.result().stdout for task in tasks] == ["x"] * 20


async def test_open_port_is_dialled(make: Make) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        async with make(Says()) as machine:
            if isinstance(machine, FakeMachine):
                machine.listening.add(("127.0.0.1", port))
            async with machine.dial("127.0.0.1", port, timeout=5) as stream:
                await stream.write(b"nobody reads this")


async def test_port_that_never_answers_is_given_up(make: Make) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server, contextlib.ExitStack() as full:
        address = server.getsockname()
        for _ in range(3):
            caller = full.enter_context(socket.socket())
            caller.setblocking(False)  # noqa: FBT003
            with contextlib.suppress(BlockingIOError):
                caller.connect(address)
        async with make(Says()) as machine:
            if isinstance(machine, FakeMachine):
                machine.silent.add(address)
            with nothing_left(), pytest.raises(TimeoutError):
                async with machine.dial(*address, timeout=0.05):
                    raise AssertionError("it was connected")


async def test_closed_port_is_refused(make: Make) -> None:
    async with make(Says()) as machine:
        with pytest.raises(OSError, match=r"(?i)connect"):
            async with machine.dial("127.0.0.1", free_port(), timeout=5):
                raise AssertionError("it was connected")
