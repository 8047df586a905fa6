"""What only this machine as a host promises: what it asks runs here as after a login, and as root if sudo allows it."""

from __future__ import annotations

import asyncio
import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from fleet.errors import AnswerError, AuthenticationError, CommandFailedError
from fleet.inventory import Sudo
from fleet.machine import Command
from fleet.machine.bounds import MOST
from fleet.machine.own import OwnMachine
from fleet.machine.pipe import LocalStreams
from fleet.machine.sudo import Secret
from fleet.steps.deliver import deliver
from fleet.store.send import Progress
from fleet.store.supply import Supply
from tests.contract import test_store
from tests.contract.links import own_host
from tests.contract.test_local import is_there
from tests.contract.test_push_over_ssh import has_all
from tests.contract.test_store import closure
from tests.ssh.test_sudo import NOT_ALLOWED, PASSWORDLESS, STRICT, WHO
from tests.sshd import scripts
from tests.waiting import becomes

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["closure"]  # the fixture
pytestmark = pytest.mark.usefixtures("home")


def of_user(sudo: Sudo, password: str | None = None) -> OwnMachine:
    """This machine, where fleet does not run as root."""
    return OwnMachine(own_host(sudo), Secret(password) if password is not None else None, is_root=False)


@pytest.fixture
def sudo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder on PATH that has `sudo`."""
    folder = tmp_path / "bin"
    scripts(folder, {"sudo": STRICT})
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


async def test_root_needs_no_sudo(sudo: Path) -> None:
    scripts(sudo, {"sudo": NOT_ALLOWED})
    for how in Sudo:
        output = await OwnMachine(own_host(how), is_root=True).run(WHO)
        assert (output.stdout, output.stderr) == ("nobody\ndata\n", "an error\n")


async def test_passwordless_sudo_makes_root(sudo: Path) -> None:
    scripts(sudo, {"sudo": PASSWORDLESS})
    output = await of_user(Sudo.PASSWORDLESS).run(WHO)
    assert (output.stdout, output.stderr) == ("root\ndata\n", "an error\n")


async def test_command_that_needs_no_root_stays_the_users(sudo: Path) -> None:
    command = Command(argv=WHO.argv, stdin=WHO.stdin, root=False)
    assert (await of_user(Sudo.PASSWORD).run(command)).stdout == "nobody\ndata\n"


async def test_password_makes_root_and_goes_nowhere_else(sudo: Path) -> None:
    output = await of_user(Sudo.PASSWORD, 'p w"$').run(WHO)
    assert (output.stdout, output.stderr) == ("root\ndata\n", "an error\n")


async def test_streams_are_roots_too(sudo: Path) -> None:
    async with of_user(Sudo.PASSWORD, 'p w"$').stream(Command(argv=WHO.argv)) as stream:
        assert await stream.read(100) == b"root\n"


@pytest.mark.parametrize("password", ["wrong", None])
async def test_wrong_password_is_refused(sudo: Path, password: str | None) -> None:
    with pytest.raises(AuthenticationError, match="sudo password refused"):
        await of_user(Sudo.PASSWORD, password).run(WHO)


async def test_user_without_sudo_is_told_what_root_takes() -> None:
    with pytest.raises(AuthenticationError, match=r"web-1 is this machine, fleet runs as .* here") as caught:
        await of_user(Sudo.NONE).run(WHO)
    assert caught.value.hint == 'run fleet as root, or set sudo = true or sudo = "password" for web-1'


async def test_commands_find_what_a_login_has_and_no_more(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LC_ALL", "LD_PRELOAD", "NIX_CONFIG", "FLEET_SUDO_PASSWORD"):
        monkeypatch.setenv(name, "")
    said = await OwnMachine(own_host(), is_root=True).run(Command(argv=("sh", "-c", "pwd; exec env")))
    folder, *variables = said.stdout.splitlines()
    assert folder == str(home)
    names = {line.partition("=")[0] for line in variables} - {"PWD", "OLDPWD", "SHLVL", "_"}
    assert "PATH" in names
    assert names <= {"HOME", "LOGNAME", "PATH", "SHELL", "SSH_AUTH_SOCK", "SUDO_USER", "USER"}


@pytest.mark.parametrize("how", ["run", "stream"])
async def test_root_command_that_is_given_up_loses_its_pipes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """No user may end what sudo has made root; a silent one must not keep fleet either."""
    left: list[object] = []

    def not_permitted(process: object, *_: object) -> None:
        left.append(process)
        raise PermissionError

    monkeypatch.setattr(os, "killpg", not_permitted)
    monkeypatch.setattr(subprocess.Popen, "send_signal", not_permitted)
    machine, file, end = OwnMachine(own_host(), is_root=True), tmp_path / "left", tmp_path / "end"
    script = f"cat; echo >{file}; while test ! -e {end}; do sleep 0.05; done"
    command = Command(argv=("sh", "-c", script), timeout=0.2)
    before = asyncio.get_running_loop().time()
    if how == "run":
        with pytest.raises(CommandFailedError, match="did not end within"):
            await machine.run(command)
    else:
        async with machine.stream(command) as stream:
            await stream.write(b"x")
    assert asyncio.get_running_loop().time() < before + 4
    await becomes(file.exists)
    end.touch()
    await becomes(
        lambda: all(process.returncode is not None for process in left if isinstance(process, subprocess.Popen))
    )
    assert any(isinstance(process, subprocess.Popen) for process in left)


async def test_stream_that_is_left_keeps_nobody_where_only_sudo_can_be_killed() -> None:
    """What sudo runs has another session here, so that it outlives sudo, and ends with its input."""
    before = asyncio.get_running_loop().time()
    async with OwnMachine(own_host(), is_root=True).stream(Command(argv=("setsid", "--wait", "cat"))) as stream:
        await stream.write(b"x")
        assert await stream.read(1) == b"x"
    assert asyncio.get_running_loop().time() < before + 4


async def test_bridge_leads_to_a_command_that_is_root(sudo: Path) -> None:
    script = 'printf "%s " "$BECAME"; cat; echo odd >&2; exit 3'
    async with of_user(Sudo.PASSWORD, 'p w"$').bridge(Command(argv=("sh", "-c", script))) as bridge:
        reader, writer = await asyncio.open_unix_connection(bridge.socket)
        writer.write(b"data")
        writer.write_eof()
        assert await reader.read() == b"root data"
        writer.close()
        await becomes(lambda: "exit" in bridge.stderr)
    assert bridge.stderr.splitlines()[0] == "odd"
    assert (bridge.sent, bridge.received) == (4, 9)


async def test_answers_have_the_limits_of_a_host() -> None:
    machine = OwnMachine(own_host(), is_root=True)
    assert (await machine.run(Command(argv=("printf", r"\033[31mred\007")))).stdout == "red"
    with pytest.raises(AnswerError, match="answers with more than"):
        await machine.run(Command(argv=("head", "-c", str(MOST + 1), "/dev/zero")))


async def test_nothing_is_left_behind_a_bridge_that_was_closed(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    command = Command(argv=("sh", "-c", f"echo $$ >{file}; exec sleep 60"))
    async with OwnMachine(own_host(), is_root=True).bridge(command) as bridge:
        _, writer = await asyncio.open_unix_connection(bridge.socket)
        await becomes(lambda: file.exists() and file.read_text())
    await becomes(lambda: not is_there(file))
    writer.close()


async def test_bridge_says_why_nothing_is_behind_it() -> None:
    async with of_user(Sudo.NONE).bridge(Command(argv=("cat",))) as bridge:
        reader, writer = await asyncio.open_unix_connection(bridge.socket)
        assert await reader.read() == b""
        writer.close()
        assert "this needs root" in bridge.stderr


async def test_a_closure_arrives_as_it_is(closure: str, tmp_path: Path) -> None:
    target, progress = test_store.Target(tmp_path), Progress()
    target.below = OwnMachine(own_host(), is_root=True)
    async with Supply(LocalStreams()) as source:
        await deliver(target, source, test_store.delivery(closure), progress)
    assert has_all(tmp_path, closure)
