"""The link to this very machine: what a login to its SSH server proves, and what is left where nobody can log in."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import asyncssh
import pytest

from fleet.errors import AuthenticationError, CommandFailedError, HostKeyError, UnreachableError
from fleet.inventory import Host
from fleet.machine import Command
from fleet.machine.own import OwnMachine
from fleet.machine.own_link import NO_SERVER, OwnLink
from fleet.machine.ssh import SshMachine
from fleet.model import HostName
from tests.sshd import KEY, Server, listening, public, scripts
from tests.waiting import free_port

if TYPE_CHECKING:
    from pathlib import Path

    from fleet.machine.login import Logins

MINE = asyncssh.generate_private_key("ssh-ed25519")
ECHO = Command(argv=("echo", "here"))
NONE_LOADED = 'echo "LoadState=not-found"; echo "UnitFileState="; echo "ActiveState=inactive"'
DISABLED = 'echo "LoadState=loaded"; echo "UnitFileState=disabled"; echo "ActiveState=inactive"'
FAILED = f'{NONE_LOADED}; echo; echo "LoadState=loaded"; echo "UnitFileState=enabled"; echo "ActiveState=failed"'


def own_host(**keys: Any) -> Host:
    return Host(name=HostName("web-1"), address=("gone.invalid", "local"), host_key=public(KEY), **keys)


@pytest.fixture
def here(logins: Logins, tmp_path: Path, home: Path) -> Logins:
    """Logins of a user with the key `MINE`, on a machine that has the key of the servers."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "ssh_host_ed25519_key.pub").write_text(public(KEY))
    (home / ".ssh").mkdir(mode=0o700, exist_ok=True)
    MINE.write_private_key(home / ".ssh" / "id_ed25519")
    (home / ".ssh" / "id_ed25519").chmod(0o600)
    return dataclasses.replace(logins, host_keys=tmp_path / "etc")


@pytest.fixture
def own(here: Logins) -> Any:
    """`own(port=…)` is the link to this machine."""

    def make(**keys: Any) -> OwnLink:
        link = here.link(own_host(**keys))
        assert isinstance(link, OwnLink)
        return link

    return make


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`systemd(text)` has `systemctl` say so."""

    def says(text: str) -> None:
        monkeypatch.setenv("PATH", f"{scripts(tmp_path / 'bin', {'systemctl': text})}:/usr/bin:/bin")

    return says


async def proven_by(link: OwnLink) -> type:
    async with link.fresh() as machine:
        assert (await machine.run(ECHO)).stdout == "here\n"
        return type(machine)


async def test_commands_need_no_server(own: Any) -> None:
    answered: list[bool] = []
    link = own(port=free_port())
    await link.open(on_answer=lambda: answered.append(True))
    assert (await link.run(ECHO)).stdout == "here\n"
    assert answered == [True]


async def test_proof_logs_in_where_that_worked_before(own: Any, server: Server) -> None:
    server.allow = MINE
    link = own(port=server.port)
    await link.rehearse()
    assert await proven_by(link) is SshMachine
    assert link.shortfall == ""


async def test_key_of_the_machine_is_that_of_the_link(own: Any, server: Server) -> None:
    link = own(port=server.port)
    async with link.fresh() as machine:
        assert machine.host_key == link.host_key


async def test_login_that_worked_before_has_to_work_afterwards(own: Any, server: Server) -> None:
    server.allow = MINE
    link = own(port=server.port)
    await link.rehearse()
    server.allow = asyncssh.generate_private_key("ssh-ed25519")
    with pytest.raises(AuthenticationError):
        await proven_by(link)


async def test_where_nobody_could_log_in_before_the_server_proves_its_key(own: Any, server: Server) -> None:
    server.allow = asyncssh.generate_private_key("ssh-ed25519")
    link = own(port=server.port)
    await link.rehearse()
    assert await proven_by(link) is not SshMachine
    assert "has proven its host key and let nobody in" in link.shortfall


async def test_refused_key_is_offered_once(here: Logins, server: Server) -> None:
    """sshd counts refusals, and shuts out whoever comes again and again."""
    offered: list[bool] = []
    server.allow = asyncssh.generate_private_key("ssh-ed25519")
    host = own_host(port=server.port)

    def counting(*, by_keys: bool) -> Any:
        offered.append(by_keys)
        return here.connect_here(host, by_keys=by_keys)

    link = OwnLink(host, OwnMachine(host), counting)
    await link.rehearse()
    await proven_by(link)
    await proven_by(link)
    assert offered == [True, False, False]


async def test_key_file_that_is_not_there_leaves_the_proof_of_the_server(own: Any, server: Server) -> None:
    link = own(port=server.port, identity_file="/no/such/key")
    server.allow = MINE
    await link.rehearse()
    assert await proven_by(link) is not SshMachine
    assert "/no/such/key" in link.shortfall


async def test_server_with_another_key_is_no_proof(own: Any) -> None:
    async with listening(Server(key=asyncssh.generate_private_key("ssh-ed25519"))) as stranger:
        link = own(port=stranger.port)
        with pytest.raises(HostKeyError):
            await link.rehearse()
        with pytest.raises(HostKeyError):
            await proven_by(link)


async def test_server_that_cannot_be_talked_to_has_proven_nothing(own: Any, home: Path) -> None:
    (home / ".ssh" / "config").write_text("Ciphers aes128-ctr\n")
    async with listening(Server(), encryption_algs=["aes256-gcm@openssh.com"]) as server:
        with pytest.raises(AuthenticationError, match="no login is possible"):
            await proven_by(own(port=server.port))


async def test_login_that_runs_nothing_is_told_before_the_switch(own: Any, server: Server) -> None:
    server.shell = "false"
    with pytest.raises(CommandFailedError, match="a login to the SSH server here runs nothing"):
        await own(port=server.port).rehearse()


async def test_login_that_does_not_become_root_is_told_before_the_switch(
    own: Any, server: Server, tmp_path: Path
) -> None:
    server.path = scripts(tmp_path / "there", {"sudo": "exit 1"})
    with pytest.raises(AuthenticationError, match="sudo refused"):
        await own(port=server.port, sudo=True).rehearse()


async def test_without_a_server_there_is_no_login_and_that_is_said(own: Any) -> None:
    link = own(port=free_port())
    await link.rehearse()
    assert await proven_by(link) is not SshMachine
    assert link.shortfall == NO_SERVER


async def gone(link_to: Any, *, rehearsed: bool = True) -> OwnLink:
    """The link, when the server of before is gone."""
    async with listening(Server()) as server:
        link: OwnLink = link_to(port=server.port)
        if rehearsed:
            await link.rehearse()
    return link


@pytest.mark.parametrize("rehearsed", [True, False], ids=["seen before", "resumed"])
async def test_server_that_is_there_and_does_not_answer_is_missed(own: Any, systemd: Any, *, rehearsed: bool) -> None:
    link = await gone(own, rehearsed=rehearsed)
    systemd(FAILED)
    with pytest.raises(UnreachableError, match="no connection"):
        await proven_by(link)


@pytest.mark.parametrize("said", [NONE_LOADED, DISABLED], ids=["removed", "disabled"])
async def test_server_that_the_new_system_does_not_have_is_not_missed(own: Any, systemd: Any, said: str) -> None:
    link = await gone(own)
    systemd(said)
    assert await proven_by(link) is not SshMachine
    assert link.shortfall == NO_SERVER


async def test_server_is_missed_where_systemd_does_not_say(own: Any, systemd: Any) -> None:
    link = await gone(own)
    systemd("exit 1")
    with pytest.raises(CommandFailedError):
        await proven_by(link)


async def test_server_that_was_silent_before_may_be_silent_afterwards(own: Any, systemd: Any) -> None:
    """Else nobody could deploy what has nothing to do with it."""
    link = own(port=free_port())
    await link.rehearse()
    systemd(FAILED)
    assert await proven_by(link) is not SshMachine


async def test_server_that_turns_away_for_now_is_waited_for(own: Any, server: Server) -> None:
    server.startups = 0
    link = own(port=server.port)
    await link.rehearse()
    with pytest.raises(UnreachableError):
        await proven_by(link)
    server.startups = 10
    assert await proven_by(link) is SshMachine


async def test_configuration_of_the_remote_address_counts_and_its_way_does_not(
    own: Any, server: Server, home: Path
) -> None:
    config = f"Host gone.invalid\n  Port {server.port}\n  User ann\n  ProxyCommand false\n"
    (home / ".ssh" / "config").write_text(config)
    assert await proven_by(own()) is SshMachine
    assert server.users == ["ann"]


async def test_host_that_is_here_is_no_jump_host(here: Logins, server: Server) -> None:
    jump = own_host(port=free_port())
    behind = Host(
        name=HostName("web-2"), address=("127.0.0.1",), port=server.port, host_key=server.public, jump="web-1"
    )
    both = dataclasses.replace(here, hosts={jump.name: jump, behind.name: behind})
    async with both.connect(behind) as machine:
        assert (await machine.run(ECHO)).stdout == "here\n"
