"""Commands that start in one round trip, on hosts that allow it and on others."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import asyncssh
import pytest

from fleet.errors import CommandFailedError
from fleet.machine import Command
from fleet.machine import session as sessions
from tests.sshd import KEY, Server, network, public, scripts

if TYPE_CHECKING:
    from pathlib import Path

    from fleet.inventory import Host
    from fleet.machine.login import Logins
    from fleet.machine.ssh import SshMachine
    from tests.ssh.conftest import MakeHost

TRUE = Command(argv=("true",))


async def spare(machine: SshMachine) -> list[Any]:
    """The sessions that wait for a command."""
    return [(await task).channel for task in machine._starter._spare]


async def test_a_command_and_its_input_need_no_answer_to_be_on_their_way(
    logins: Logins, make_host: MakeHost, server: Server, tmp_path: Path
) -> None:
    file = tmp_path / "input"
    script = f"cat >{file}.part; mv {file}.part {file}; exit 3"
    async with network(server.port) as between, logins.connect(make_host(port=between.port)) as machine:
        await machine.run(TRUE)
        await machine.run(TRUE)
        assert len(await spare(machine)) == sessions.SPARE
        between.hold_answers()
        running = asyncio.create_task(machine.run(Command(argv=("sh", "-c", script), stdin=b"all of it")))
        while not file.exists():  # noqa: ASYNC110 - nobody tells of a new file
            await asyncio.sleep(0.01)
        between.release_answers()
        assert (await running).status == 3
    assert file.read_text() == "all of it"


async def test_who_asks_one_thing_opens_one_session(logins: Logins, host: Host, server: Server) -> None:
    async with logins.connect(host) as machine:
        await machine.run(TRUE)
        assert await spare(machine) == []
    assert server.most_at_once == 1


async def test_a_connection_that_is_lost_between_a_session_and_its_command(logins: Logins, host: Host) -> None:
    async with logins.connect(host) as machine:
        session = sessions.Session(machine.connection)
        await session.open()
        machine.connection.abort()
        await machine.connection.wait_closed()
        with pytest.raises(asyncssh.ConnectionLost):
            await session.start("true")


async def test_a_host_with_one_session_runs_one_command_after_the_other(
    logins: Logins, host: Host, server: Server
) -> None:
    server.sessions = 1
    async with logins.connect(host) as machine:
        for number in range(5):
            assert (await machine.run(Command(argv=("sh", "-c", f"exit {number}")))).status == number


async def test_a_shell_that_waits_gives_way_to_a_command_that_is_no_line(
    logins: Logins, host: Host, server: Server
) -> None:
    async with logins.connect(host) as machine:
        await machine.run(TRUE)
        await machine.run(TRUE)
        await spare(machine)
        server.sessions = sessions.SPARE
        for script in ("true\nexit 4", "exit 5 #" + "x" * sessions.LONGEST):
            done = await machine.run(Command(argv=("sh", "-c", script)))
            assert done.status == int(script.split("exit ")[1][0])


@pytest.mark.parametrize("shell", ["exit 1", "echo restricted; exit 0"])
async def test_a_host_that_runs_something_else_instead_of_a_shell(
    logins: Logins, host: Host, server: Server, tmp_path: Path, shell: str
) -> None:
    """As where authorized_keys names a command that lets some lines through."""
    server.path = scripts(
        tmp_path / "bin", {"sh": f'case $2 in *"fleet: ready"*) {shell};; *) exec /bin/sh "$@";; esac'}
    )
    async with logins.connect(host) as machine:
        for number in range(4):
            done = await machine.run(Command(argv=("/bin/sh", "-c", f"exit {number}")))
            assert done.status == number


@pytest.mark.parametrize("why", ["too old", "closed by the host"])
async def test_a_session_that_may_be_gone_is_not_used(
    logins: Logins, host: Host, server: Server, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    async with logins.connect(host) as machine:
        await machine.run(TRUE)
        await machine.run(TRUE)
        old = await spare(machine)
        if why == "too old":
            monkeypatch.setattr(sessions, "FRESH", 0.0)
        else:
            for connection in server.connections:
                for channel in list(connection._channels.values()):
                    channel.abort()
            while any(one.is_fresh for one in old):  # noqa: ASYNC110 - nobody tells of it
                await asyncio.sleep(0.01)
        assert (await machine.run(TRUE)).status == 0
        assert not {one._recv_chan for one in old} & set(machine.connection._channels)


async def test_a_host_that_runs_no_commands_says_so(logins: Logins, make_host: MakeHost) -> None:
    class Refuses(asyncssh.SSHServerSession[bytes]):
        def exec_requested(self, command: str) -> bool:  # noqa: ARG002
            return False

    class Handler(asyncssh.SSHServer):
        def begin_auth(self, username: str) -> bool:  # noqa: ARG002
            return False

        def session_requested(self) -> Any:
            return Refuses()

    acceptor = await asyncssh.listen("127.0.0.1", 0, server_host_keys=[KEY], server_factory=Handler)
    async with acceptor, logins.connect(make_host(port=acceptor.get_port(), host_key=public(KEY))) as machine:
        with pytest.raises(CommandFailedError, match="the host runs no commands for us"):
            await machine.run(TRUE)


@pytest.mark.parametrize("words", ["SetEnv A=b", "SendEnv LANG", "ForwardAgent yes"])
async def test_a_config_that_wants_more_than_a_plain_session_is_asyncsshs(
    logins: Logins, host: Host, home: Path, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", str(home / "agent"))
    (home / ".ssh").mkdir(exist_ok=True)
    (home / ".ssh/config").write_text(f"{words}\n")
    async with logins.connect(host) as machine:
        for _ in range(3):
            assert (await machine.run(TRUE)).status == 0
        assert await spare(machine) == []


async def test_it_is_in_use(logins: Logins, host: Host) -> None:
    """Goes red when an asyncssh renames what this needs: commands would be slow, and nobody would know."""
    async with logins.connect(host) as machine:
        assert sessions._is_known(machine.connection)


async def test_an_asyncssh_that_we_do_not_know_starts_commands_itself(
    logins: Logins, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "_CONNECTION", ("_renamed",))
    async with logins.connect(host) as machine:
        assert (await machine.run(Command(argv=("cat",), stdin=b"x"))).stdout == "x"
        assert (await machine.run(TRUE)).status == 0
        assert await spare(machine) == []
