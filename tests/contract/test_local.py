"""What only the machine here promises: of a command that is given up, nothing is left."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from fleet.errors import CommandFailedError
from fleet.machine import Command
from fleet.machine.local import LocalMachine
from fleet.machine.pipe import LAST_BYTES, LocalStreams

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

SCRIPTS = {
    "leader waits for its child": "sleep 60 & echo $! >FILE; wait",
    "leader has ended, its child holds the output": "sleep 60 & echo $! >FILE",
    "child wants no end": "trap '' TERM; (trap '' TERM; sleep 60; sleep 60) & echo $! >FILE; wait",
}


def is_there(file: Path) -> bool:
    try:
        os.kill(int(file.read_text()), 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{int(file.read_text())}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.parametrize("how", ["timeout", "cancelled"])
@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
async def test_nothing_is_left_of_a_command_that_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, how: str
) -> None:
    monkeypatch.setattr("fleet.machine.local.STOP_PATIENCE", 0.05)
    file = tmp_path / "pid"
    argv = ("sh", "-c", script.replace("FILE", str(file)))
    task = asyncio.create_task(LocalMachine().run(Command(argv=argv, timeout=0.2 if how == "timeout" else 60)))
    await asyncio.sleep(0.1)
    assert is_there(file)
    if how == "cancelled":
        task.cancel()
    with pytest.raises((CommandFailedError, asyncio.CancelledError)):
        await task
    for _ in range(1000):  # a signal needs a moment to arrive
        await asyncio.sleep(0.01 * is_there(file))
    assert not is_there(file)


async def test_nothing_is_left_of_a_command_that_an_impatient_person_gives_up(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    argv = ("sh", "-c", SCRIPTS["child wants no end"].replace("FILE", str(file)))
    task = asyncio.create_task(LocalMachine().run(Command(argv=argv)))
    for _ in range(1000):
        await asyncio.sleep(0.01 * (not file.exists() or not file.read_text()))
    while not task.done():  # one Ctrl-C after another
        task.cancel()
        await asyncio.sleep(0.01)
    assert task.cancelled()
    for _ in range(1000):  # a signal needs a moment to arrive
        await asyncio.sleep(0.01 * is_there(file))
    assert not is_there(file)


async def runs(command: Command) -> None:
    await LocalMachine().run(command)


async def streams(command: Command) -> None:
    async with LocalStreams().stream(command):
        raise AssertionError("it was given up before")


@pytest.mark.parametrize("start_it", [runs, streams])
async def test_nothing_is_left_of_a_command_that_is_given_up_while_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start_it: Callable[[Command], Coroutine[Any, Any, None]]
) -> None:
    monkeypatch.setattr("fleet.machine.local.STOP_PATIENCE", 0.05)
    file, start = tmp_path / "pid", asyncio.create_subprocess_exec

    async def slowly(*argv: str, **options: Any) -> asyncio.subprocess.Process:
        process = await start(*argv, **options)
        try:
            for _ in range(1000):
                await asyncio.sleep(0.01 * (not file.exists() or not file.read_text()))
            task.cancel()
            await asyncio.sleep(0.01)
        except asyncio.CancelledError:  # what asyncio does then
            process.kill()
            raise
        return process

    monkeypatch.setattr(asyncio, "create_subprocess_exec", slowly)
    argv = ("sh", "-c", SCRIPTS["child wants no end"].replace("FILE", str(file)))
    task = asyncio.create_task(start_it(Command(argv=argv)))
    with pytest.raises(asyncio.CancelledError):
        await task
    for _ in range(1000):  # a signal needs a moment to arrive
        await asyncio.sleep(0.01 * is_there(file))
    assert not is_there(file)


async def test_stream_ends_whatever_its_command_says_in_one_line() -> None:
    talk = "head -c 300000 /dev/zero | tr '\\0' x; echo; echo error: no; exit 3"
    async with LocalStreams().stream(Command(argv=("sh", "-c", f"{{ {talk}; }} >&2"))) as stream:
        assert await stream.read(1) == b""
        ended = await stream.ended()
    assert (ended.status, ended.stderr.splitlines()[-1]) == (3, "error: no")
    assert len(ended.stderr) <= LAST_BYTES


async def test_environment_is_added_to_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEET_TEST", "here")
    machine = LocalMachine({"ADDED": "too"})
    output = await machine.run(Command(argv=("sh", "-c", "echo $FLEET_TEST $ADDED")))
    assert output.stdout == "here too\n"


async def test_name_with_several_addresses_is_dialled_until_one_answers() -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        async with LocalMachine().dial("localhost", server.getsockname()[1], timeout=5):
            pass


async def test_name_that_nobody_knows_is_an_error_of_the_network() -> None:
    with pytest.raises(OSError, match=r".+"):
        async with LocalMachine().dial("no-such-host.invalid", 80, timeout=5):
            raise AssertionError("it was connected")


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_stream_whose_output_nobody_reads_leaves_no_file_open(tmp_path: Path) -> None:
    async with LocalStreams().stream(Command(argv=("true",))):
        pass  # what the loop keeps for children is there
    before = open_files()
    written = tmp_path / "written"
    script = f"while :; do head -c 8192 /dev/zero; echo x >>{written}; done"
    async with LocalStreams().stream(Command(argv=("sh", "-c", script))) as stream:
        assert await stream.read(1) == b"\0"
        seen = b""
        while not seen or seen != written.read_bytes():  # until nothing more fits anywhere
            seen = written.read_bytes() if written.exists() else b""
            await asyncio.sleep(0.2)
    assert open_files() == before


@pytest.mark.parametrize("to", ["1", "2"])
async def test_command_that_is_given_up_amid_much_output_leaves_no_file_open(to: str) -> None:
    await LocalMachine().run(Command(argv=("true",)))
    before = open_files()
    with pytest.raises(CommandFailedError):
        await LocalMachine().run(Command(argv=("sh", "-c", f"cat /dev/zero >&{to}"), timeout=0.2, keep=1))
    assert open_files() == before
