"""Logins to OpenSSH's own server, as OpenSSH's own configuration says."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncssh
import pytest

from fleet.errors import AuthenticationError, CommandFailedError, HostKeyError, UnreachableError
from fleet.inventory import Host
from fleet.machine import Command
from fleet.machine.keys import Offers
from fleet.machine.login import Logins
from fleet.machine.witness import Patience
from fleet.model import HostName
from fleet.text import how_it_ended
from tests.sshd import KEY, public
from tests.sshd_real import ME, Sshd, agent, keygen, sshd
from tests.waiting import becomes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Sshd]:
    async with sshd(tmp_path / "sshd") as up:
        yield up


@pytest.fixture
def logins(home: Path) -> Logins:
    return Logins({}, patience=Patience(connect=5, login=10), system_known_hosts=home / "none")


def host(server: Sshd, **keys: Any) -> Host:
    usual = {"name": "web", "address": ("127.0.0.1",), "port": server.port, "host_key": server.host_key, "user": ME}
    return Host.model_validate({**usual, **keys})


async def log_in(logins: Logins, host: Host) -> None:
    async with logins.connect(host) as machine:
        assert (await machine.run(Command(argv=("echo", "in")))).stdout == "in\n"


def run(*argv: str | Path) -> str:
    """What the program prints."""
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


def children() -> set[str]:
    """The processes that this one has started, and that nobody has waited for yet."""
    return {pid for file in Path("/proc/self/task").glob("*/children") for pid in file.read_text().split()}


RELAY = """
import os, socket, sys, threading, time
far = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
up = lambda: [far.sendall(block) for block in iter(lambda: os.read(0, 65536), b"")]
threading.Thread(target=up, daemon=True).start()
os.write(1, far.recv(65536))
time.sleep(float(sys.argv[2]) if sys.argv[2:] else 0)
[os.write(1, block) for block in iter(lambda: far.recv(65536), b"")]
"""


def relay(folder: Path) -> str:
    """A command that leads to a port of this machine; it may wait for some seconds after the server's first words."""
    (folder / "relay.py").write_text(RELAY)
    return f"{sys.executable} {folder}/relay.py"


# --- which keys are offered ------------------------------------------------------------------------


@pytest.fixture
def many(home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """An agent with seven keys, which are all not the right one."""
    keys = [tmp_path / f"other-{number}" for number in range(7)]
    for key in keys:
        keygen(key)
    with agent(tmp_path, *keys) as path:
        monkeypatch.setenv("SSH_AUTH_SOCK", path)
        yield keys


async def test_named_key_is_the_only_one_that_is_offered(
    logins: Logins, server: Sshd, many: list[Path], tmp_path: Path
) -> None:
    server.allow(keygen(tmp_path / "mine"))
    await log_in(logins, host(server, identity_file=str(tmp_path / "mine")))
    assert "Failed publickey" not in server.log


async def test_named_key_may_be_the_agents_though_it_is_encrypted(
    logins: Logins, server: Sshd, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.allow(keygen(tmp_path / "mine"))
    with agent(tmp_path, tmp_path / "mine") as path:
        run("ssh-keygen", "-q", "-p", "-P", "", "-N", "secret", "-f", tmp_path / "mine")
        monkeypatch.setenv("SSH_AUTH_SOCK", path)
        await log_in(logins, host(server, identity_file=str(tmp_path / "mine")))


async def test_too_many_keys_are_a_refusal_and_not_a_silence(logins: Logins, server: Sshd, many: list[Path]) -> None:
    with pytest.raises(AuthenticationError, match="Too many authentication failures") as caught:
        await log_in(logins, host(server))
    assert "identity_file" in caught.value.hint
    assert sum(line.startswith("offered: ssh-ed25519 SHA256:") for line in caught.value.said) >= 5


async def test_encrypted_key_that_no_agent_holds_is_named(logins: Logins, server: Sshd, home: Path) -> None:
    server.allow(keygen(home / ".ssh/id_ed25519", passphrase="secret"))
    keygen(home / ".ssh/id_rsa", kind="rsa")
    with pytest.raises(AuthenticationError, match=r"id_ed25519 is encrypted, and no agent holds it") as caught:
        await log_in(logins, host(server))
    assert caught.value.hint == f"ssh-add {home}/.ssh/id_ed25519"
    assert any(line.startswith("offered: ssh-rsa SHA256:") for line in caught.value.said)


async def test_who_has_no_key_is_told_that(logins: Logins, server: Sshd) -> None:
    with pytest.raises(AuthenticationError, match="login refused") as caught:
        await log_in(logins, host(server))
    assert caught.value.said[-1].startswith("no key was offered")


@pytest.mark.parametrize(
    ("signal", "says"), [("KILL", "SIGKILL"), ("BUS", "no space left on the disk?"), ("SEGV", "died of SIGSEGV")]
)
async def test_death_of_a_signal_is_told_also_of_one_that_ssh_has_no_name_for(
    logins: Logins, server: Sshd, home: Path, signal: str, says: str
) -> None:
    """Nix dies of SIGBUS where a disk is full, and OpenSSH says SIG@openssh.com then."""
    server.allow(keygen(home / ".ssh/id_ed25519"))
    command = Command(argv=("sh", "-c", f"kill -{signal} $$"))
    async with logins.connect(host(server)) as machine:
        with pytest.raises(CommandFailedError) as caught:
            await machine.run(command)
        async with machine.stream(command) as stream:
            assert await stream.read(1) == b""
            ended = await stream.ended()
    assert says in caught.value.message
    assert says in how_it_ended(ended.status)


@pytest.mark.parametrize("signer", ["file", "agent"])
async def test_certificate_lets_us_in(
    logins: Logins, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signer: str
) -> None:
    keygen(tmp_path / "ca")
    keygen(tmp_path / "mine")
    run("ssh-keygen", "-q", "-s", tmp_path / "ca", "-I", "me", "-n", ME, tmp_path / "mine.pub")
    (tmp_path / "mine-cert.pub").rename(tmp_path / "signed.pub")
    (home / ".ssh/config").write_text(f"IdentityFile {tmp_path}/mine\nCertificateFile {tmp_path}/signed.pub\n")
    async with sshd(tmp_path / "sshd", f"TrustedUserCAKeys {tmp_path}/ca.pub") as server:
        if signer == "file":
            await log_in(logins, host(server))
            return
        with agent(tmp_path, tmp_path / "mine") as path:
            monkeypatch.setenv("SSH_AUTH_SOCK", path)
            (tmp_path / "mine").unlink()
            (tmp_path / "mine.pub").rename(tmp_path / "mine")
            await log_in(logins, host(server))


# --- what the server says --------------------------------------------------------------------------


async def test_refusal_before_the_handshake_is_quoted(logins: Logins, home: Path, tmp_path: Path) -> None:
    async with sshd(tmp_path / "sshd", "MaxStartups 1") as server:
        server.allow(keygen(home / ".ssh/id_ed25519"))
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        await reader.readline()  # one that never logs in
        with pytest.raises(UnreachableError, match='takes no login now: "Exceeded MaxStartups"') as caught:
            await log_in(logins, host(server))
        assert caught.value.turns_away
        writer.close()


async def test_jump_host_that_turns_away_for_now_is_told_as_one(logins: Logins, home: Path, tmp_path: Path) -> None:
    """A proof waits for it then: a jump host is where whole fleets come from one address."""
    async with sshd(tmp_path / "sshd", "MaxStartups 1") as server:
        server.allow(keygen(home / ".ssh/id_ed25519"))
        jump = host(server).model_copy(update={"name": "jump"})
        behind = host(server).model_copy(update={"jump": "jump"})
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        await reader.readline()  # one that never logs in
        with pytest.raises(UnreachableError, match=r"jump host jump: .*takes no login now: .*MaxStartups") as caught:
            await log_in(dataclasses.replace(logins, hosts={HostName("jump"): jump}), behind)
        assert caught.value.turns_away
        writer.close()


@pytest.mark.parametrize("pinned", [True, False])
@pytest.mark.parametrize(
    ("revoked", "why"),
    [
        ("{key}\n", "Host key is revoked"),
        ("SSHKRL\n\0", "cannot be read"),
        (None, "cannot be read"),
        ("# none\n", None),
    ],
)
async def test_host_key_that_the_configuration_revokes_is_not_trusted(
    logins: Logins, server: Sshd, home: Path, tmp_path: Path, revoked: str | None, why: str | None, *, pinned: bool
) -> None:
    server.allow(keygen(home / ".ssh/id_ed25519"))
    if revoked is not None:
        (tmp_path / "revoked").write_text(revoked.format(key=server.host_key))
    (home / ".ssh/config").write_text(f"RevokedHostKeys {tmp_path}/revoked\n")
    (home / ".ssh/known_hosts").write_text(f"[127.0.0.1]:{server.port} {server.host_key}\n")
    known = host(server) if pinned else host(server, host_key=None)
    if why is None:
        await log_in(logins, known)
        return
    with pytest.raises(HostKeyError, match=why):
        await log_in(logins, known)


async def test_what_a_proxy_command_says_is_told_as_its_words(logins: Logins, server: Sshd, home: Path) -> None:
    (home / ".ssh/config").write_text("ProxyCommand no-such-relay %h\n")
    before = children()
    with pytest.raises(UnreachableError, match=r'by ProxyCommand: ".*no-such-relay: not found') as caught:
        await log_in(logins, host(server))
    assert not caught.value.turns_away
    await becomes(lambda: children() <= before)


async def test_banner_is_shown_escaped_and_bounded(logins: Logins, tmp_path: Path) -> None:
    (tmp_path / "banner").write_text("visit https://login.example/a1 \x1b]0;evil\x07\n" + "x" * 5000 + "\n" * 50)
    async with sshd(tmp_path / "sshd", f"Banner {tmp_path}/banner") as server:
        with pytest.raises(AuthenticationError) as caught:
            await log_in(logins, host(server))
    assert caught.value.said[0].startswith("visit https://login.example/a1")
    assert all(line.isprintable() and len(line) < 300 for line in caught.value.said)


async def test_other_key_is_told_with_both_fingerprints(logins: Logins, server: Sshd, tmp_path: Path) -> None:
    other = " ".join(keygen(tmp_path / "other").split()[:2])
    with pytest.raises(HostKeyError, match="ANOTHER key") as caught:
        await log_in(logins, host(server, host_key=other))
    prints = [
        run("ssh-keygen", "-lf", file).split()[1] for file in (tmp_path / "other.pub", server.folder / "host_key.pub")
    ]
    assert all(one in caught.value.message for one in prints)


async def test_known_key_of_another_kind_is_another_key(logins: Logins, server: Sshd, tmp_path: Path) -> None:
    other = " ".join(keygen(tmp_path / "other", kind="rsa").split()[:2])
    with pytest.raises(HostKeyError, match="ANOTHER key"):
        await log_in(logins, host(server, host_key=other))


async def test_unknown_key_is_not_called_another(logins: Logins, server: Sshd) -> None:
    with pytest.raises(HostKeyError, match="is not known") as caught:
        await log_in(logins, host(server, host_key=None))
    assert "ANOTHER" not in caught.value.message


# --- what the configuration says -------------------------------------------------------------------


@pytest.mark.parametrize(
    "config",
    [
        'Match exec "test %h = web.example -a %p = {port}"\n HostName 127.0.0.1\n IdentityFile {key}\n',
        "Match originalhost web.example\n HostName 127.0.0.1\n IdentityFile {folder}/m%%ine\n",
        "Include {folder}/more.*\n",
        "Host *.example\n HostName 127.0.0.1\n IdentityFile {folder}/%n\n",
        "Host web.example\n ProxyCommand {relay} %p\n IdentityFile {key}\n HostKeyAlias %h.alias\n",
    ],
    ids=["exec", "percent", "include", "token", "proxy"],
)
async def test_configuration_means_what_it_means_to_ssh(
    logins: Logins, server: Sshd, home: Path, tmp_path: Path, config: str
) -> None:
    key = tmp_path / "mine"
    server.allow(keygen(key))
    for name in ("m%ine", "web.example"):
        (tmp_path / name).write_bytes(key.read_bytes())
    (tmp_path / "more.conf").write_text(f"Host web.*\n HostName 127.0.0.1\n IdentityFile {key}\n")
    (home / ".ssh/config").write_text(config.format(port=server.port, key=key, folder=tmp_path, relay=relay(tmp_path)))
    await log_in(logins, host(server, address=("web.example",)))


async def test_connection_comes_from_the_address_that_the_configuration_says(
    logins: Logins, server: Sshd, home: Path
) -> None:
    server.allow(keygen(home / ".ssh/id_ed25519"))
    (home / ".ssh/config").write_text("BindAddress 127.0.0.9\n")
    async with logins.connect(host(server)) as machine:
        assert machine.connection.get_extra_info("sockname")[0] == "127.0.0.9"


async def test_address_is_of_the_family_that_the_configuration_says(logins: Logins, server: Sshd, home: Path) -> None:
    server.allow(keygen(home / ".ssh/id_ed25519"))
    (home / ".ssh/config").write_text("AddressFamily inet6\n")
    with pytest.raises(UnreachableError, match="no connection"):
        await log_in(logins, host(server))  # sshd listens on 127.0.0.1


async def test_key_that_a_host_shows_is_asked_for_by_the_proxy_command(
    logins: Logins, server: Sshd, home: Path, tmp_path: Path
) -> None:
    (home / ".ssh/config").write_text(f"ProxyCommand {relay(tmp_path)} %p\n")
    key, _ = await logins.host_key(host(server, address=("nowhere.invalid",), host_key=None))
    assert key == server.host_key


async def test_host_that_is_silent_behind_a_proxy_command_is_not_tried_again_and_again(home: Path) -> None:
    (home / ".ssh/config").write_text("ProxyCommand sleep 60\n")
    logins = Logins({}, patience=Patience(connect=0.1, greeting=0.1), system_known_hosts=home / "none")
    with pytest.raises(UnreachableError, match="no answer in time") as caught:
        await log_in(logins, Host.model_validate({"name": "web", "address": ("web.example",)}))
    assert not caught.value.is_silent  # each attempt starts a program, which may ask people for something


async def test_algorithms_are_those_that_the_configuration_allows(logins: Logins, home: Path, tmp_path: Path) -> None:
    async with sshd(tmp_path / "sshd", "Ciphers aes256-ctr") as server:
        server.allow(keygen(home / ".ssh/id_ed25519"))
        (home / ".ssh/config").write_text("Ciphers aes256-ctr\n")
        async with logins.connect(host(server)) as machine:
            assert machine.connection.get_extra_info("send_cipher") == "aes256-ctr"
        (home / ".ssh/config").write_text("Ciphers aes128-gcm@openssh.com\n")

        async def refused() -> None:
            for _ in range(5):  # where sshd resets the connection first, what it offers is lost on its way
                with contextlib.suppress(UnreachableError):
                    await log_in(logins, host(server))
                    return

        with pytest.raises(AuthenticationError, match="no login is possible"):
            await refused()


async def test_one_question_a_host_and_again_when_a_file_has_changed(
    logins: Logins, server: Sshd, home: Path, tmp_path: Path
) -> None:
    server.allow(keygen(home / ".ssh/id_ed25519"))
    count = tmp_path / "count"
    (home / ".ssh/config").write_text(f'Include {home}/more\nMatch exec "echo >>{count}"\n')
    (home / "more").write_text("")
    for _ in range(3):
        await log_in(logins, host(server))
    assert len(count.read_text().splitlines()) == 1
    (home / "more").write_text("User nobody9\n")
    with pytest.raises(AuthenticationError):
        await log_in(logins, host(server, user=None))
    (home / "more").write_text("User nobody8\n")
    with pytest.raises(AuthenticationError, match="nobody8"):
        await log_in(logins, host(server, user=None))


async def test_slow_login_is_waited_for_longer_than_a_silent_address(home: Path, tmp_path: Path) -> None:
    async with sshd(tmp_path / "sshd") as server:
        server.allow(keygen(home / ".ssh/id_ed25519"))
        (home / ".ssh/config").write_text(f"ProxyCommand {relay(tmp_path)} %p 1\n")
        patience = Patience(connect=0.5, login=10)
        await log_in(Logins({}, patience=patience), host(server))
        with pytest.raises(UnreachableError, match="no answer in time"):
            await log_in(Logins({}, patience=dataclasses.replace(patience, login=0.5)), host(server))


# --- what a person has to do -----------------------------------------------------------------------


class Asks(asyncssh.SSHServer):
    """A server that says something, and lets in only after a while, as one that waits for a link to be followed."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn

    async def begin_auth(self, username: str) -> bool:
        assert username
        self._connection.send_auth_banner("visit https://login.example/\x1b[31ma1\n")
        await asyncio.sleep(self._seconds)
        return False


@pytest.mark.parametrize(("seconds", "is_told"), [(2.0, True), (0.0, False)])
async def test_who_waits_in_a_login_is_told_what_for(logins: Logins, seconds: float, *, is_told: bool) -> None:
    told: list[tuple[str, str]] = []
    hasty = Patience(connect=1, login=1, person=30)
    logins = dataclasses.replace(logins, patience=hasty, tell=lambda name, text: told.append((name, text)))
    acceptor = await asyncssh.listen("127.0.0.1", 0, server_host_keys=[KEY], server_factory=lambda: Asks(seconds))
    async with acceptor:
        keys = {"address": ("127.0.0.1",), "port": acceptor.get_port(), "host_key": public(KEY)}
        async with logins.connect(Host.model_validate({"name": "web", **keys})):
            pass
    assert told == ([("web", "the host says: visit https://login.example/a1")] if is_told else [])


async def test_login_that_a_person_did_not_finish_is_no_silence(logins: Logins) -> None:
    hasty = Patience(connect=1, login=0.2, person=0.5)
    acceptor = await asyncssh.listen("127.0.0.1", 0, server_host_keys=[KEY], server_factory=lambda: Asks(60))
    async with acceptor:
        keys = {"address": ("127.0.0.1",), "port": acceptor.get_port(), "host_key": public(KEY)}
        with pytest.raises(AuthenticationError, match="waited for a person") as caught:
            await log_in(dataclasses.replace(logins, patience=hasty), Host.model_validate({"name": "web", **keys}))
    assert caught.value.said[0] == "visit https://login.example/a1"


class Questions(asyncssh.SSHServer):
    """A server that shows this, and asks for as many answers."""

    def __init__(self, prompts: list[tuple[str, bool]], *, lets_in: bool) -> None:
        self._prompts, self._lets_in = prompts, lets_in

    def public_key_auth_supported(self) -> bool:
        return False

    def kbdint_auth_supported(self) -> bool:
        return True

    def get_kbdint_challenge(self, username: str, lang: str, submethods: str) -> Any:  # noqa: ARG002
        return "", "Approve the login on your phone", "", self._prompts

    def validate_kbdint_response(self, username: str, responses: Any) -> bool:  # noqa: ARG002
        return self._lets_in and list(responses) == []


@pytest.mark.parametrize(
    ("prompts", "lets_in", "told"),
    [
        ([], True, None),
        ([], False, ["Approve the login on your phone"]),
        ([("Password: ", False)], True, ["Approve the login on your phone", "it asks: Password:"]),
    ],
)
async def test_what_a_server_shows_with_its_questions_is_told(
    logins: Logins, prompts: list[tuple[str, bool]], told: list[str] | None, *, lets_in: bool
) -> None:
    server = lambda: Questions(prompts, lets_in=lets_in)  # noqa: E731
    async with await asyncssh.listen("127.0.0.1", 0, server_host_keys=[KEY], server_factory=server) as acceptor:
        keys = {"address": ("127.0.0.1",), "port": acceptor.get_port(), "host_key": public(KEY)}
        web = Host.model_validate({"name": "web", **keys})
        if told is None:
            async with logins.connect(web):
                return
        with pytest.raises(AuthenticationError, match="login refused") as caught:
            await log_in(logins, web)
    assert [line for line in caught.value.said if "offered" not in line] == told


async def test_key_that_wants_a_touch_is_announced_when_it_is_to_sign() -> None:
    touched: list[str] = []
    plain, sk = asyncssh.load_keypairs([KEY, asyncssh.generate_private_key("ssh-ed25519")])
    sk.algorithm = b"sk-ssh-ed25519@openssh.com"

    async def sign(data: bytes) -> bytes:
        return data + b" signed"

    sk.sign_async = sign  # type: ignore[attr-defined]
    offers = Offers(pairs=[(plain, "plain"), (sk, "sk by the agent")])
    assert await offers.next(touched.append) is plain
    assert await offers.next(touched.append) is sk
    assert touched == []
    assert await sk.sign_async(b"x") == b"x signed"  # type: ignore[attr-defined]
    assert touched == ["sk by the agent"]
    assert await offers.next(touched.append) is None
