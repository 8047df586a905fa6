"""Who is let in where, with which key, by which way, and whom we trust to be who they say."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import pwd
import socket
import sys
from typing import TYPE_CHECKING

import asyncssh
import pytest

from fleet.errors import AuthenticationError, HostError, HostKeyError, UnreachableError
from fleet.machine import Command
from fleet.machine.openssh import OpenSsh
from fleet.machine.witness import Patience
from tests.fakes import nothing_left
from tests.ssh.conftest import named
from tests.sshd import KEY, Server, listening, public, silent_port
from tests.tools import new_key, public_half
from tests.waiting import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fleet.inventory import Host
    from fleet.machine.login import Logins
    from tests.ssh.conftest import MakeHost

OTHER_KEY = asyncssh.generate_private_key("ssh-ed25519")


async def log_in(logins: Logins, host: Host) -> str:
    """The address where it worked."""
    with nothing_left():
        async with logins.connect(host) as machine:
            assert (await machine.run(Command(argv=("echo", "in")))).stdout == "in\n"
            return machine.address


def known(server: Server, *, key: str | None = None, name: str = "127.0.0.1") -> str:
    return f"[{name}]:{server.port} {key or server.public}\n"


# --- no way in -------------------------------------------------------------------------------------


async def test_refused_port_is_unreachable(logins: Logins, make_host: MakeHost) -> None:
    with pytest.raises(UnreachableError, match="no connection") as caught:
        await log_in(logins, make_host(port=free_port()))
    assert "fleet ssh web-1" in caught.value.hint


async def test_unknown_name_is_unreachable(logins: Logins, make_host: MakeHost) -> None:
    with pytest.raises(UnreachableError):
        await log_in(logins, make_host(address=("no-such-host.invalid",)))


async def test_silent_port_is_given_up(logins: Logins, make_host: MakeHost) -> None:
    patience = dataclasses.replace(logins.patience, greeting=0.05)
    async with silent_port() as port:
        with pytest.raises(UnreachableError, match="no answer in time") as caught:
            await log_in(dataclasses.replace(logins, patience=patience), make_host(port=port))
    assert not caught.value.is_silent  # a TCP connection stood


@contextlib.contextmanager
def deaf_port() -> Iterator[int]:
    """A port of 127.0.0.1 where no connection comes about, and none is refused: packets get no answer."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(2):  # the queue is full then
            client = stack.enter_context(socket.socket())
            client.settimeout(0)
            with contextlib.suppress(BlockingIOError):
                client.connect(server.getsockname())
        yield server.getsockname()[1]


async def test_address_that_does_not_answer_at_all_is_told_from_one_that_takes_its_time(
    logins: Logins, make_host: MakeHost
) -> None:
    patience = dataclasses.replace(logins.patience, connect=0.1, greeting=20.0)
    answers: list[bool] = []
    with deaf_port() as port, pytest.raises(UnreachableError, match="no answer in time") as caught:
        async with dataclasses.replace(logins, patience=patience).connect(
            make_host(port=port), on_answer=lambda: answers.append(True)
        ):
            pass
    assert (caught.value.is_silent, answers) == (True, [])


async def test_silence_behind_a_jump_host_is_told_as_one_that_is_not_tried_again_and_again(
    logins: Logins, make_host: MakeHost
) -> None:
    jump, patience = make_host(name="jump"), dataclasses.replace(logins.patience, connect=0.2)
    by_jump = dataclasses.replace(logins, hosts=named(jump), patience=patience)
    with deaf_port() as port, pytest.raises(UnreachableError, match="no answer in time") as caught:
        await log_in(by_jump, make_host(port=port, jump="jump"))
    assert not caught.value.is_silent  # each attempt would log in to the jump host


async def test_connect_timeout_of_fleet_toml_comes_before_that_of_the_ssh_configuration(
    logins: Logins, make_host: MakeHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh/config").write_text("Host *\n    ConnectTimeout 600\n")
    with deaf_port() as port, pytest.raises(UnreachableError, match="no answer in time"):
        await log_in(logins, make_host(port=port, connect_timeout="100ms"))


async def test_whoever_connects_is_told_when_somebody_answers(logins: Logins, make_host: MakeHost) -> None:
    answers: list[bool] = []
    async with logins.connect(make_host(), on_answer=lambda: answers.append(True)):
        pass
    assert answers == [True]


async def test_server_that_hangs_in_the_login_is_given_up(logins: Logins, make_host: MakeHost) -> None:
    patience = dataclasses.replace(logins.patience, login=0.05)

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-sshd\r\n")
        with contextlib.suppress(OSError):
            await reader.read(-1)
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as hanging:
        host = make_host(port=hanging.sockets[0].getsockname()[1])
        with pytest.raises(UnreachableError, match="the login was begun and did not end"):
            await log_in(dataclasses.replace(logins, patience=patience), host)


async def test_server_that_speaks_no_ssh_is_unreachable(logins: Logins, make_host: MakeHost) -> None:
    async def speak(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(speak, "127.0.0.1", 0) as web:
        with pytest.raises(UnreachableError):
            await log_in(logins, make_host(port=web.sockets[0].getsockname()[1]))


async def test_cancelled_login_leaves_nothing(logins: Logins, make_host: MakeHost) -> None:
    async with silent_port() as port:
        with nothing_left(), pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await log_in(logins, make_host(port=port))


# --- several addresses -----------------------------------------------------------------------------


async def test_dead_address_is_passed_over(logins: Logins, make_host: MakeHost) -> None:
    assert await log_in(logins, make_host(address=("no-such-host.invalid", "127.0.0.1"))) == "127.0.0.1"


async def test_address_with_a_wrong_key_is_passed_over(
    logins: Logins, make_host: MakeHost, server: Server, home: Path
) -> None:
    async with listening(Server(key=OTHER_KEY)) as liar:
        ports = {"liar": liar.port, "right": server.port}
        config = "".join(f"Host {name}\nHostName 127.0.0.1\nPort {port}\n" for name, port in ports.items())
        (home / ".ssh/config").write_text(config)
        assert await log_in(logins, make_host(address=("liar", "right"), port=None)) == "right"
        assert liar.users == []


async def test_refusal_says_more_than_silence(logins: Logins, make_host: MakeHost) -> None:
    host = make_host(address=("no-such-host.invalid", "127.0.0.1"), host_key=public(OTHER_KEY))
    with pytest.raises(HostKeyError):
        await log_in(logins, host)


# --- host keys -------------------------------------------------------------------------------------


async def test_key_of_fleet_toml_is_trusted_and_no_other(logins: Logins, make_host: MakeHost, home: Path) -> None:
    (home / ".ssh/known_hosts").write_text(f"* {public(KEY)}\n")
    await log_in(logins, make_host())
    with pytest.raises(HostKeyError, match="host key not accepted") as caught:
        await log_in(logins, make_host(host_key=public(OTHER_KEY)))
    assert "fleet trust web-1" in caught.value.hint


async def test_key_of_fleet_toml_that_is_none_is_told(logins: Logins, host: Host) -> None:
    with pytest.raises(HostKeyError, match=r"host_key in fleet\.toml is not a key"):
        await log_in(logins, host.model_copy(update={"host_key": "ssh-ed25519 AAAA"}))


async def test_unknown_key_is_refused(logins: Logins, make_host: MakeHost) -> None:
    with pytest.raises(HostKeyError):
        await log_in(logins, make_host(host_key=None))


async def test_key_of_the_users_file_is_trusted(
    logins: Logins, make_host: MakeHost, server: Server, home: Path
) -> None:
    (home / ".ssh/known_hosts").write_text("this is no line of known_hosts\n@\n" + known(server))
    await log_in(logins, make_host(host_key=None))


async def test_key_of_the_systems_file_is_trusted(logins: Logins, make_host: MakeHost, server: Server) -> None:
    logins.system_known_hosts.write_text(known(server))
    await log_in(logins, make_host(host_key=None))


async def test_files_that_the_ssh_configuration_names_are_trusted(
    logins: Logins, make_host: MakeHost, server: Server, home: Path
) -> None:
    (home / "mine").write_text(known(server))
    (home / ".ssh/config").write_text("UserKnownHostsFile ~/mine\n")
    await log_in(logins, make_host(host_key=None))
    (home / ".ssh/config").write_text("UserKnownHostsFile ~/none-such\nGlobalKnownHostsFile ~/mine\n")
    await log_in(logins, make_host(host_key=None))


@pytest.mark.parametrize("words", ["UserKnownHostsFile none", "UserKnownHostsFile /dev/null\nStrictHostKeyChecking no"])
async def test_ssh_configuration_cannot_turn_host_keys_off(
    logins: Logins, make_host: MakeHost, server: Server, home: Path, words: str
) -> None:
    (home / ".ssh/config").write_text(f"{words}\n")
    (home / ".ssh/known_hosts").write_text(known(server))
    with pytest.raises(HostKeyError):
        await log_in(logins, make_host(host_key=None))
    with pytest.raises(HostKeyError):
        await log_in(logins, make_host(name="behind", jump=f"root@127.0.0.1:{server.port}"))


async def test_revoked_key_is_refused(logins: Logins, make_host: MakeHost, server: Server, home: Path) -> None:
    (home / ".ssh/known_hosts").write_text(f"{known(server)}@revoked * {server.public}\n")
    with pytest.raises(HostKeyError):
        await log_in(logins, make_host(host_key=None))


async def test_key_is_shown_before_it_is_trusted(logins: Logins, make_host: MakeHost, server: Server) -> None:
    key, fingerprint = await logins.host_key(make_host(address=("no-such-host.invalid", "127.0.0.1"), host_key=None))
    assert (key, fingerprint) == (server.public, server.key.get_fingerprint())
    with pytest.raises(UnreachableError):
        await logins.host_key(make_host(port=free_port()))


# --- users and identities --------------------------------------------------------------------------


async def test_user_is_root_unless_somebody_says_otherwise(
    logins: Logins, make_host: MakeHost, server: Server, home: Path
) -> None:
    await log_in(logins, make_host())
    (home / ".ssh/config").write_text("User configured\n")
    await log_in(logins, make_host())
    await log_in(logins, make_host(user="said"))
    assert server.users == ["root", "configured", "said"]


async def test_user_is_known_without_a_login(logins: Logins, make_host: MakeHost, home: Path) -> None:
    assert await logins.user(make_host()) == "root"
    (home / ".ssh/config").write_text("User configured\n")
    assert await logins.user(make_host()) == "configured"
    assert await logins.user(make_host(user="said")) == "said"
    (home / ".ssh/config").write_text("Port none\n")
    with pytest.raises(AuthenticationError, match="configuration file cannot be read"):
        await logins.user(make_host())


async def test_port_and_name_come_from_the_ssh_configuration(
    logins: Logins, make_host: MakeHost, server: Server, home: Path
) -> None:
    (home / ".ssh/config").write_text(f"Host web\nHostName 127.0.0.1\nPort {server.port}\n")
    await log_in(logins, make_host(address=("web",), port=None))


async def test_configuration_that_openssh_does_not_read_is_told_of_once(
    logins: Logins, host: Host, home: Path, reading: str
) -> None:
    told: list[str] = []
    logins = dataclasses.replace(logins, tell=lambda _, text: told.append(text))
    (home / ".ssh/config").write_text("User configured\n")
    for _ in range(2):
        await log_in(logins, host)
    assert len(told) == (reading == "asyncssh")
    assert all("no ssh on PATH" in text for text in told)


async def test_port_of_fleet_toml_comes_first(logins: Logins, make_host: MakeHost, home: Path) -> None:
    (home / ".ssh/config").write_text(f"Port {free_port()}\n")
    await log_in(logins, make_host())


async def test_terminal_that_the_ssh_configuration_wants_is_not_asked_for(
    logins: Logins, make_host: MakeHost, server: Server, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    (home / ".ssh/config").write_text("RequestTTY force\nRemoteCommand echo no\nForwardX11 yes\n")
    await log_in(logins, make_host())
    assert (server.lines, server.terminals) == (["echo in"], [])


@pytest.fixture(autouse=True, params=["ssh", "asyncssh"])
def reading(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Who reads the SSH configuration: OpenSSH, and asyncssh where there is no OpenSSH."""
    if request.param == "asyncssh":
        monkeypatch.setattr(OpenSsh, "is_there", staticmethod(lambda: False))
    return str(request.param)


@pytest.fixture
def private(home: Path) -> Path:
    """A key file."""
    file = home / "key"
    KEY.write_private_key(file)
    return file


@pytest.mark.parametrize("said_by", ["fleet.toml", "the ssh configuration", "the default place"])
async def test_identity_lets_us_in(
    logins: Logins, make_host: MakeHost, server: Server, home: Path, private: Path, said_by: str
) -> None:
    server.allow = KEY
    match said_by:
        case "fleet.toml":
            (home / ".ssh/config").write_text(f"IdentityFile {home}/wrong\n")
            OTHER_KEY.write_private_key(home / "wrong")
            await log_in(logins, make_host(identity_file=str(private)))
        case "the ssh configuration":
            (home / ".ssh/config").write_text(f"IdentityFile {private}\n")
            await log_in(logins, make_host())
        case _:
            KEY.write_private_key(home / ".ssh/id_ed25519")
            await log_in(logins, make_host())


async def test_login_that_is_refused_says_so(logins: Logins, make_host: MakeHost, server: Server) -> None:
    server.allow = KEY
    with pytest.raises(AuthenticationError, match="login refused") as caught:
        await log_in(logins, make_host())
    assert "fleet ssh web-1" in caught.value.hint


async def test_identity_that_is_not_there_says_so(logins: Logins, make_host: MakeHost, home: Path) -> None:
    with pytest.raises(AuthenticationError, match=r"cannot read .*none-such: No such file") as caught:
        await log_in(logins, make_host(identity_file=str(home / "none-such")))
    assert "correct identity_file of web-1" in caught.value.hint


async def test_public_key_in_place_of_the_private_one_says_so(
    logins: Logins, make_host: MakeHost, home: Path, server: Server
) -> None:
    server.allow = KEY
    file = home / "mine.pub"
    file.write_text(public_half(new_key(home / "mine")))
    with pytest.raises(AuthenticationError, match="login refused") as caught:
        await log_in(logins, make_host(identity_file=str(file)))
    assert caught.value.said == (f"not offered, since it is a public key, and no agent holds the private one: {file}",)
    assert "name the file with the private key" in caught.value.hint


async def test_identity_that_is_no_key_says_so(logins: Logins, make_host: MakeHost, home: Path) -> None:
    (home / "key").write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nnonsense\n-----END OPENSSH PRIVATE KEY-----\n")
    with pytest.raises(AuthenticationError, match="the key file cannot be used"):
        await log_in(logins, make_host(identity_file=str(home / "key")))


async def test_encrypted_identity_is_the_agents_to_use(
    logins: Logins, make_host: MakeHost, server: Server, home: Path
) -> None:
    server.allow = KEY
    KEY.write_private_key(home / "key", "pkcs8-pem", "secret")
    with pytest.raises(AuthenticationError, match="login refused") as caught:
        await log_in(logins, make_host(identity_file=str(home / "key")))
    assert "ssh-add" in caught.value.hint


async def test_ssh_configuration_that_cannot_be_read_says_so(logins: Logins, host: Host, home: Path) -> None:
    (home / ".ssh/config").write_text("Port many\n")
    with pytest.raises(AuthenticationError, match="the SSH configuration file cannot be read"):
        await log_in(logins, host)


# --- jump hosts ------------------------------------------------------------------------------------


async def test_jump_host_of_the_file_is_passed(logins: Logins, make_host: MakeHost, server: Server) -> None:
    async with listening(Server()) as bastion:
        jump = make_host(name="bastion", port=bastion.port, user="jumper")
        await log_in(dataclasses.replace(logins, hosts=named(jump)), make_host(jump="bastion"))
        assert (bastion.users, server.users) == (["jumper"], ["root"])


async def test_many_hosts_at_once_pass_a_jump_host_that_takes_few_logins(
    logins: Logins, make_host: MakeHost, server: Server
) -> None:
    server.startups = 100
    async with listening(Server()) as bastion:
        jump = make_host(name="bastion", port=bastion.port)
        patient = dataclasses.replace(logins, hosts=named(jump), patience=Patience())

        async def pass_it(name: str) -> None:
            async with patient.connect(make_host(name=name, jump="bastion")):
                pass

        await asyncio.gather(*(pass_it(f"h{number}") for number in range(40)))
        assert (len(bastion.users), len(server.users)) == (40, 40)


async def test_jump_host_outside_of_the_file_is_passed(
    logins: Logins, make_host: MakeHost, server: Server, home: Path
) -> None:
    async with listening(Server()) as bastion:
        (home / ".ssh/known_hosts").write_text(known(bastion))
        await log_in(logins, make_host(jump=f"jumper@127.0.0.1:{bastion.port}"))
        assert (bastion.users, server.users) == (["jumper"], ["root"])


async def test_jump_hosts_of_the_ssh_configuration_are_passed(
    logins: Logins, make_host: MakeHost, server: Server, home: Path
) -> None:
    async with listening(Server()) as one, listening(Server()) as two:
        (home / ".ssh/known_hosts").write_text(known(one) + known(two))
        (home / ".ssh/config").write_text(
            f"Host first\nHostName 127.0.0.1\nPort {one.port}\nUser me\n"
            f"Match originalhost 127.0.0.1 user root\nProxyJump first,ssh://you@127.0.0.1:{two.port}\n"
        )
        await log_in(logins, make_host(user="root"))
        assert (one.users, two.users, server.users) == (["me"], ["you"], ["root"])


async def test_jump_host_for_every_host_is_none_for_itself(
    logins: Logins, make_host: MakeHost, server: Server, home: Path
) -> None:
    async with listening(Server()) as bastion:
        (home / ".ssh/known_hosts").write_text(known(bastion))
        (home / ".ssh/config").write_text(
            f"Host bastion\nHostName 127.0.0.1\nPort {bastion.port}\nHost *\nUser me\nProxyJump bastion\n"
        )
        await log_in(logins, make_host())
        assert (bastion.users, server.users) == (["me"], ["me"])


async def test_jump_host_of_the_ssh_configuration_has_openssh_s_default_user(
    logins: Logins, make_host: MakeHost, server: Server, home: Path, reading: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGNAME", "somebody")
    me = pwd.getpwuid(os.getuid()).pw_name if reading == "ssh" else "somebody"
    async with listening(Server()) as bastion:
        (home / ".ssh/known_hosts").write_text(known(bastion))
        (home / ".ssh/config").write_text(
            f"Match originalhost 127.0.0.1 user root\nProxyJump localhost:{bastion.port}\n"
        )
        (home / ".ssh/known_hosts").write_text(known(bastion, name="localhost"))
        await log_in(logins, make_host(user="root"))
        assert (bastion.users, server.users) == ([me], ["root"])


RELAY = """
import os, socket, sys, threading, time
far = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
up = lambda: [far.sendall(block) for block in iter(lambda: os.read(0, 65536), b"")]
threading.Thread(target=up, daemon=True).start()
[os.write(1, block) for block in iter(lambda: far.recv(65536), b"")]
time.sleep(60)
"""


async def test_proxy_command_of_the_ssh_configuration_is_used_and_ended(
    logins: Logins, make_host: MakeHost, server: Server, home: Path
) -> None:
    (home / "relay.py").write_text(RELAY)
    (home / ".ssh/config").write_text(f"ProxyCommand {sys.executable} {home}/relay.py {server.port}\n")
    logins = dataclasses.replace(logins, patience=Patience())
    started = asyncio.get_running_loop().time()
    await log_in(logins, make_host(port=1))
    assert asyncio.get_running_loop().time() - started < 5
    assert server.users == ["root"]


async def test_jump_host_that_fails_is_named(logins: Logins, make_host: MakeHost) -> None:
    dead = make_host(name="bastion", port=free_port())
    with pytest.raises(UnreachableError, match="jump host bastion: no connection") as caught:
        await log_in(dataclasses.replace(logins, hosts=named(dead)), make_host(jump="bastion"))
    assert caught.value.host == "web-1"
    liar = make_host(name="bastion", host_key=public(OTHER_KEY))
    with pytest.raises(HostKeyError, match="jump host bastion") as refused:
        await log_in(dataclasses.replace(logins, hosts=named(liar)), make_host(jump="bastion"))
    assert "fleet trust bastion" in refused.value.hint


async def test_host_behind_a_good_jump_host_that_cannot_be_reached_is_unreachable(
    logins: Logins, make_host: MakeHost
) -> None:
    jump = make_host(name="bastion")
    with pytest.raises(UnreachableError) as caught:
        await log_in(dataclasses.replace(logins, hosts=named(jump)), make_host(jump="bastion", port=free_port()))
    assert caught.value.host == "web-1"


async def test_jump_that_nobody_understands_says_so(logins: Logins, host: Host, home: Path) -> None:
    (home / ".ssh/config").write_text("ProxyJump a:b:c\n")
    with pytest.raises(HostError, match=r'(jump host |Invalid ProxyJump ")a:b:c'):
        await log_in(logins, host)


async def test_key_of_a_host_behind_a_jump_host_is_shown(logins: Logins, make_host: MakeHost, server: Server) -> None:
    async with listening(Server(key=OTHER_KEY)) as bastion:
        jump = make_host(name="bastion", port=bastion.port, host_key=bastion.public)
        key, _ = await dataclasses.replace(logins, hosts=named(jump)).host_key(make_host(jump="bastion"))
    assert key == server.public
