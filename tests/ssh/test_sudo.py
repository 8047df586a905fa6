"""Becoming root by sudo: a script on the server's PATH stands for it, as strict as the real one."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import TYPE_CHECKING

import asyncssh
import pytest

from fleet.errors import AnswerError, AuthenticationError, CommandFailedError, ConfigError, UnreachableError
from fleet.machine import Command
from fleet.machine.given import GivenTo
from fleet.machine.sudo import Secret
from fleet.model import HostName
from tests.ssh.conftest import BOTH_WAYS
from tests.sshd import Server, listening, network, public, scripts

if TYPE_CHECKING:
    from pathlib import Path

    from fleet.machine.login import Logins
    from tests.ssh.conftest import MakeHost

pytestmark = BOTH_WAYS

PASSWORDLESS = """
[ "$1" = -- ] || { echo "sudo: $1: not passwordless" >&2; exit 9; }
shift; BECAME=root exec "$@" """
STRICT = """
case " $*" in *" -S "*" -- "*) ;; *) echo 'sudo: a terminal is required to read the password' >&2
    echo 'sudo: a password is required' >&2; exit 1 ;; esac
while [ "$1" != -- ]; do if [ "$1" = -p ]; then prompt=$2; shift; fi; shift; done; shift
echo 'We trust you have received the usual lecture.' >&2
for try in 1 2 3; do
    printf %s "$prompt" >&2
    read -r password || exit 1
    if [ "$password" = 'p w"$' ]; then BECAME=root exec "$@"; fi
    echo 'Sorry, try again.' >&2
done
echo 'sudo: 3 incorrect password attempts' >&2; exit 1"""
NOT_NEEDED = """
while [ "$1" != -- ]; do shift; done; shift; BECAME=root exec "$@" """
NOT_ALLOWED = """
echo 'Sorry, user me may not run sudo here.' >&2; exit 1"""
WHO = Command(argv=("sh", "-c", 'echo "${BECAME:-nobody}"; cat; echo "an error" >&2'), stdin=b"data\n")


@pytest.fixture
def sudo(server: Server, tmp_path: Path) -> Server:
    server.path = scripts(tmp_path / "bin", {"sudo": STRICT})
    return server


def with_password(logins: Logins, text: str) -> Logins:
    return dataclasses.replace(logins, sudo_passwords={HostName("web-1"): Secret(text)})


def install(server: Server, text: str) -> None:
    from pathlib import Path

    scripts(Path(server.path), {"sudo": text})


async def test_without_sudo_nothing_is_elevated(logins: Logins, make_host: MakeHost, sudo: Server) -> None:
    async with logins.connect(make_host()) as machine:
        assert (await machine.run(WHO)).stdout == "nobody\ndata\n"


async def test_passwordless_sudo(logins: Logins, make_host: MakeHost, sudo: Server) -> None:
    install(sudo, PASSWORDLESS)
    lines: list[str] = []
    async with logins.connect(make_host(sudo=True)) as machine:
        output = await machine.run(WHO, on_line=lines.append)
    assert (output.stdout, output.stderr, lines) == ("root\ndata\n", "an error\n", ["an error"])


async def test_command_that_needs_no_root_is_not_elevated(logins: Logins, make_host: MakeHost, sudo: Server) -> None:
    async with logins.connect(make_host(sudo=True)) as machine:
        assert (await machine.run(dataclasses.replace(WHO, root=False))).stdout == "nobody\ndata\n"


async def test_right_password(logins: Logins, make_host: MakeHost, sudo: Server) -> None:
    async with with_password(logins, 'p w"$').connect(make_host(sudo="password")) as machine:
        output = await machine.run(WHO)
    assert (output.stdout, output.stderr) == ("root\ndata\n", "an error\n")
    assert not any('p w"$' in line for line in sudo.lines)


async def test_wrong_password_is_given_once(logins: Logins, make_host: MakeHost, sudo: Server) -> None:
    async with with_password(logins, "wrong").connect(make_host(sudo="password")) as machine:
        with pytest.raises(AuthenticationError, match="sudo password refused") as caught:
            await machine.run(WHO)
    assert "wrong" not in repr(caught.value.failure())


async def test_password_that_is_not_needed_never_reaches_the_command(
    logins: Logins, make_host: MakeHost, sudo: Server
) -> None:
    install(sudo, NOT_NEEDED)
    async with with_password(logins, "secret").connect(make_host(sudo="password")) as machine:
        assert (await machine.run(WHO)).stdout == "root\ndata\n"


async def test_password_that_nobody_has_is_refused(logins: Logins, make_host: MakeHost, sudo: Server) -> None:
    async with logins.connect(make_host(sudo="password")) as machine:
        with pytest.raises(AuthenticationError, match="sudo password refused"):
            await machine.run(WHO)


RS = "echo 'sudo: interactive authentication is required' >&2; exit 1"
NO_TTY = "echo 'sudo: sorry, you must have a tty to run sudo' >&2; exit 1"


@pytest.mark.parametrize(
    ("text", "told", "remedy"),
    [
        (NOT_ALLOWED, "may not run sudo", "sudo -l"),  # a password would not help
        (NO_TTY, "you must have a tty", "sudo -l"),
        (STRICT, "a password is required", 'sudo = "password"'),
        (RS, "interactive authentication is required", 'sudo = "password"'),
    ],
)
async def test_sudo_that_refuses_is_told_with_the_remedy(
    logins: Logins, make_host: MakeHost, sudo: Server, text: str, told: str, remedy: str
) -> None:
    install(sudo, text)
    async with logins.connect(make_host(sudo=True)) as machine:
        with pytest.raises(AuthenticationError, match="sudo refused") as caught:
            await machine.run(WHO)
    assert told in caught.value.said[-1]
    assert remedy in caught.value.hint


async def test_sudo_that_is_not_there_is_refused(logins: Logins, make_host: MakeHost, sudo: Server) -> None:
    install(sudo, "exec no-such-sudo")
    async with logins.connect(make_host(sudo=True)) as machine:
        with pytest.raises(AuthenticationError):
            await machine.run(WHO)


async def test_sudo_that_never_asks_is_given_up(logins: Logins, make_host: MakeHost, sudo: Server) -> None:
    install(sudo, "exec sleep 60")
    async with logins.connect(make_host(sudo=True)) as machine:
        with pytest.raises(CommandFailedError, match="did not end"):
            await machine.run(dataclasses.replace(WHO, timeout=0.05))


@pytest.mark.parametrize("way", ["drop", "cut", "leave"])
async def test_connection_lost_in_sudo_is_no_refusal(
    logins: Logins, make_host: MakeHost, sudo: Server, way: str
) -> None:
    install(sudo, "exec sleep 60")
    async with network(sudo.port) as between, logins.connect(make_host(sudo=True, port=between.port)) as machine:
        task = asyncio.create_task(machine.run(WHO))
        await sudo.is_busy()
        {"drop": sudo.drop, "cut": between.cut, "leave": sudo.leave}[way]()
        with pytest.raises(UnreachableError, match="connection lost"):
            await task


def test_secret_shows_itself_to_nobody() -> None:
    secret = Secret("hunter2")
    assert "hunter2" not in f"{secret} {secret!r} {[secret]} {dataclasses.astuple(Command(argv=(str(secret),)))}"
    assert secret.reveal() == "hunter2"


# --- what sudo may be ------------------------------------------------------------------------------


@pytest.mark.parametrize("sudo_is", [True, "password"])
async def test_sudo_that_is_not_there_is_named_with_the_remedy(
    logins: Logins, make_host: MakeHost, sudo: Server, tmp_path: Path, sudo_is: object
) -> None:
    only = tmp_path / "only"
    only.mkdir()
    for name in ("sh", "env"):
        (only / name).symlink_to(f"/bin/{name}")
    sudo.path_is = str(only)
    async with with_password(logins, "p").connect(make_host(sudo=sudo_is)) as machine:
        with pytest.raises(AuthenticationError, match="sudo is not there") as caught:
            await machine.run(WHO)
    assert 'user = "root"' in caught.value.hint


@pytest.mark.parametrize(
    "words",
    [
        "doas: invalid option -- 'k'",  # and its usage
        "sudo: unrecognized option: p",
        "error: unexpected argument '-p' found",
        "sudo: invalid option '-p'",
    ],
)
async def test_sudo_that_does_not_know_our_options_is_named_with_the_remedy(
    logins: Logins, make_host: MakeHost, sudo: Server, words: str
) -> None:
    install(sudo, f'echo "{words}" >&2; echo "usage: sudo [-u user] command" >&2; exit 1')
    async with with_password(logins, "p").connect(make_host(sudo="password")) as machine:
        with pytest.raises(AuthenticationError, match="does not know the options") as caught:
            await machine.run(WHO)
    assert "sudo = true" in caught.value.hint
    assert words in caught.value.said


async def test_prompt_of_sudo_rs_is_understood(logins: Logins, make_host: MakeHost, sudo: Server) -> None:
    """From 0.2.5 on it takes -p, and puts the text into a prompt of its own."""
    install(sudo, STRICT.replace('printf %s "$prompt"', 'printf "[sudo: %s] Password: " "$prompt"'))
    for password, is_right in (('p w"$', True), ("wrong", False)):
        async with with_password(logins, password).connect(make_host(sudo="password")) as machine:
            if is_right:
                assert (await machine.run(WHO)).stdout == "root\ndata\n"
            else:
                with pytest.raises(AuthenticationError, match="sudo password refused"):
                    await machine.run(WHO)


async def test_hint_does_not_name_what_is_set_already(logins: Logins, make_host: MakeHost, sudo: Server) -> None:
    install(sudo, NOT_ALLOWED)
    async with with_password(logins, "p").connect(make_host(sudo="password")) as machine:
        with pytest.raises(AuthenticationError, match="sudo refused") as caught:
            await machine.run(WHO)
    assert "sudo -l" in caught.value.hint


async def test_sudo_that_talks_for_ever_is_cut_off(logins: Logins, make_host: MakeHost, sudo: Server) -> None:
    install(sudo, "yes blah >&2")
    async with logins.connect(make_host(sudo=True)) as machine:
        with pytest.raises(AnswerError, match="sudo says more than 64 KiB"):
            await machine.run(WHO)


# --- who gets the password -------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["two\nlines", "a\rb", "a\0b", "x" * 256])
def test_password_that_sudo_would_not_take_as_a_whole_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="line break"):
        Secret(text)


async def test_other_machine_does_not_get_the_password(
    logins: Logins, make_host: MakeHost, sudo: Server, tmp_path: Path
) -> None:
    """Somebody has changed the address and the key in fleet.toml."""
    logins = dataclasses.replace(with_password(logins, 'p w"$'), given=GivenTo(tmp_path / "state/given.json"))
    for _ in range(2):
        async with logins.connect(make_host(sudo="password")) as machine:
            assert (await machine.run(WHO)).stdout == "root\ndata\n"
    other = asyncssh.generate_private_key("ssh-ed25519")
    async with listening(Server(key=other, path=sudo.path)) as liar:
        changed = make_host(sudo="password", port=liar.port, host_key=public(other))
        async with logins.connect(changed) as machine:
            with pytest.raises(AuthenticationError, match="password was not sent") as caught:
                await machine.run(WHO)
        assert "fleet trust web-1" in caught.value.hint
        assert logins.given is not None
        assert logins.given.knows_another(HostName("web-1"), other.get_fingerprint())
        logins.given.allow(HostName("web-1"), other.get_fingerprint())
        async with logins.connect(changed) as machine:
            assert (await machine.run(WHO)).stdout == "root\ndata\n"
    async with logins.connect(make_host(sudo="password")) as machine:
        with pytest.raises(AuthenticationError, match="password was not sent"):
            await machine.run(WHO)


async def test_nobody_gets_the_password_if_it_is_not_known_who_had_it(
    logins: Logins, make_host: MakeHost, sudo: Server, tmp_path: Path
) -> None:
    (tmp_path / "given.json").write_text("[")
    logins = dataclasses.replace(with_password(logins, 'p w"$'), given=GivenTo(tmp_path / "given.json"))
    async with logins.connect(make_host(sudo="password")) as machine:
        with pytest.raises(AuthenticationError, match=r"not sent: cannot read .*given\.json"):
            await machine.run(WHO)
