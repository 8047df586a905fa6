"""Commands that start in one round trip, on hosts that allow it and on others."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import asyncssh
import pytest

from fleet.errors import CommandFailedError
from fleet.machine import Command, sessions
from fleet.machine.patched import session
from tests.ssh.conftest import BOTH_WAYS
from tests.sshd import KEY, Server, network, public, scripts
from tests.waiting import becomes

if TYPE_CHECKING:
    from pathlib import Path

    from fleet.inventory import Host
    from fleet.machine.login import Logins
    from fleet.machine.ssh import SshMachine
    from tests.ssh.conftest import MakeHost

TRUE = Command(argv=("true",))


async def two_commands(machine: SshMachine, server: Server) -> None:
    """They have run; from the second on shells wait for what comes next, and we know that they do."""
    await machine.run(TRUE)
    await machine.run(TRUE)
    await becomes(lambda: server.complaints.count(b"ready") == sessions.SPARE)
    await round_trip(machine, server)


async def round_trip(machine: SshMachine, server: Server) -> None:
    """We know what the host has said by now: what it says on a connection comes in order."""
    async with machine.dial("127.0.0.1", server.port, timeout=5):
        pass


async def test_a_command_and_its_input_need_no_answer_to_be_on_their_way(
    logins: Logins, make_host: MakeHost, server: Server, tmp_path: Path
) -> None:
    file = tmp_path / "input"
    script = f"cat >{file}.part; mv {file}.part {file}; exit 3"
    async with network(server.port) as between, logins.connect(make_host(port=between.port)) as machine:
        await two_commands(machine, server)
        between.hold_answers()
        running = asyncio.create_task(machine.run(Command(argv=("sh", "-c", script), stdin=b"all of it")))
        await becomes(file.exists)
        between.release_answers()
        assert (await running).status == 3
    assert file.read_text() == "all of it"


async def test_who_asks_one_thing_opens_one_session(logins: Logins, host: Host, server: Server) -> None:
    async with logins.connect(host) as machine:
        await machine.run(TRUE)
        await becomes(lambda: server.at_once == 0)
    assert server.lines == ["true"]
    assert server.most_at_once == 1


async def test_a_connection_that_is_lost_between_a_session_and_its_command(logins: Logins, host: Host) -> None:
    async with logins.connect(host) as machine:
        opened = session.Session(machine.connection)
        await opened.open()
        machine.connection.abort()
        await machine.connection.wait_closed()
        with pytest.raises(asyncssh.ConnectionLost):
            await opened.start("true")


@BOTH_WAYS
async def test_a_host_with_one_session_runs_one_command_after_the_other(
    logins: Logins, host: Host, server: Server
) -> None:
    server.sessions = 1
    async with logins.connect(host) as machine:
        for number in range(5):
            assert (await machine.run(Command(argv=("sh", "-c", f"exit {number}")))).status == number


@BOTH_WAYS
async def test_a_session_that_has_ended_and_still_counts_is_waited_for(
    logins: Logins, host: Host, server: Server
) -> None:
    server.sessions, server.lingering = 1, 0.3
    async with logins.connect(host) as machine:
        for number in range(3):
            assert (await machine.run(Command(argv=("sh", "-c", f"exit {number}")))).status == number


async def test_a_shell_that_waits_gives_way_to_a_command_that_is_no_line(
    logins: Logins, host: Host, server: Server
) -> None:
    async with logins.connect(host) as machine:
        await two_commands(machine, server)
        server.sessions = sessions.SPARE
        for script in ("true\nexit 4", "exit 5 #" + "x" * sessions.LONGEST):
            done = await machine.run(Command(argv=("sh", "-c", script)))
            assert done.status == int(script.split("exit ")[1][0])


@BOTH_WAYS
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
        await two_commands(machine, server)
        if why == "too old":
            monkeypatch.setattr(session, "FRESH", 0.0)
        else:
            server.end_sessions()
            await round_trip(machine, server)
        assert (await machine.run(TRUE)).status == 0
        assert server.lines.count("true") == 3
        monkeypatch.undo()
        await becomes(lambda: server.at_once == sessions.SPARE)  # and none of the old ones is left


@BOTH_WAYS
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


@pytest.mark.parametrize("words", ["SetEnv A=b", "SendEnv OF_OURS", "ForwardAgent yes"])
async def test_a_config_that_wants_more_than_a_plain_session_is_asyncsshs(
    logins: Logins, host: Host, server: Server, home: Path, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", str(home / "agent"))
    monkeypatch.setenv("OF_OURS", "x")
    (home / ".ssh").mkdir(exist_ok=True)
    (home / ".ssh/config").write_text(f"{words}\n")
    async with logins.connect(host) as machine:
        for _ in range(3):
            assert (await machine.run(TRUE)).status == 0
    assert server.lines == ["true"] * 3  # no shell waits for a line


async def test_it_is_in_use(logins: Logins, host: Host) -> None:
    """Goes red when an asyncssh renames what this needs: commands would be slow, and nobody would know."""
    async with logins.connect(host) as machine:
        assert session.can_open(machine.connection)


async def test_another_asyncssh_starts_commands_itself(
    logins: Logins, host: Host, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asyncssh.__version__", "2.25.0")
    async with logins.connect(host) as machine:
        assert (await machine.run(Command(argv=("cat",), stdin=b"x"))).stdout == "x"
        assert (await machine.run(TRUE)).status == 0
    assert server.lines == ["cat", "true"]
