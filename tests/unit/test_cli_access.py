"""`fleet ssh` says to OpenSSH what a deployment says to the host."""

from __future__ import annotations

import io
import os
import pwd
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import asyncssh
import click
import pytest

from fleet.cli import questions, run, session
from fleet.cli.access import ssh_argv
from fleet.errors import AuthenticationError, UnreachableError
from fleet.inventory import Inventory, load, parse
from fleet.library.trusting import fingerprint
from fleet.machine.login import Logins
from fleet.machine.openssh import OpenSsh
from fleet.model import HostName

if TYPE_CHECKING:
    from fleet.inventory import Host

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMzO7IZ+F5x+jLVvQUgo1qXMmnIMRnrABJmgSHClxH0E"
TOML = f"""
[fleet]
name = "home"
[hosts.plain]
[hosts.full]
address = ["full.lan", "10.0.0.1"]
port = 2222
identity_file = "/keys/id"
host_key = "{KEY} it's $(mine)"
[hosts.behind]
jump = "full"
[hosts.far]
jump = "me@bastion:23"
"""


def inventory() -> Inventory:
    return parse(Path("/fleet/fleet.toml"), TOML)


def argv(name: str) -> list[str]:
    known = inventory()
    host = next(host for host in known.hosts.values() if host.name == name)
    return ssh_argv(known, host, user_of=lambda host: f"user-of-{host.name}")


def test_host_without_words_of_its_own_has_its_user_said() -> None:
    assert argv("plain") == ["ssh", "-l", "user-of-plain", "plain"]


def test_everything_that_is_said_is_passed_on_and_a_comment_never_meets_a_shell() -> None:
    words = argv("full")
    assert words[:9] == [
        "ssh", "-l", "user-of-full", "-p", "2222", "-i", "/keys/id", "-o", "IdentitiesOnly=yes",
    ]  # fmt: skip
    assert words[-1] == "full.lan"
    assert f"KnownHostsCommand=/bin/sh -c 'echo \"$0 {KEY}\"' %H" in words
    assert "mine" not in " ".join(words)


def test_jump_hosts_are_passed() -> None:
    assert "-l user-of-full -p 2222" in argv("behind")[-2]
    assert argv("far")[-3:] == ["-J", "me@bastion:23", "far"]


# --- where the host is this machine -----------------------------------------------------------------

OWN = f"""
[hosts.own]
address = ["local", "own.lan"]
host_key = "{KEY}"
[hosts.away]
address = "local"
host_key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEdy1O4RrRfvmFzGMLzwmP1bs5JEaGBSjPw3YFTCXq7V"
[hosts.behind]
jump = "own"
"""


@pytest.fixture
def at_home(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This machine is the host `own`, and `full` is a fleet.toml that says so; its folder has the person's home."""
    account = pwd.struct_passwd(("ann", "x", os.getuid(), os.getgid(), "", str(home), "/bin/sh"))
    monkeypatch.setattr(pwd, "getpwuid", lambda _: account)
    monkeypatch.setattr("fleet.machine.recognition._keys", lambda _: [KEY])
    file = tmp_path / "fleet.toml"
    file.write_text(OWN)
    monkeypatch.setenv("FLEET_FILE", str(file))
    return home


def test_shell_on_this_machine_is_ones_own_without_ssh(at_home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["ssh", "own", "--", "pwd; echo", "$0", "two;", "exit 3"]) == 3
    assert capfd.readouterr().out == f"{at_home}\n/bin/sh two\n"


def test_shell_without_a_command_is_a_login_shell(at_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[tuple[object, object]] = []

    def run_child(argv: list[str], *, executable: str, **_: object) -> SimpleNamespace:
        ran.append((argv, executable))
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr("subprocess.run", run_child)
    assert run(["ssh", "own"]) == 0
    assert ran == [(["-sh"], "/bin/sh")]


def test_host_that_is_local_elsewhere_has_no_shell_here(at_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["ssh", "away", "true"]) == 1
    assert "its only address is local, and this machine is another" in capsys.readouterr().err


def test_ssh_goes_to_an_address_for_other_machines_and_never_by_way_of_this_one(at_home: Path) -> None:
    known = load(Path(os.environ["FLEET_FILE"]))
    hosts = {str(name): host for name, host in known.hosts.items()}
    assert ssh_argv(known, hosts["own"], user_of=lambda _: "ann")[-1] == "own.lan"
    assert ssh_argv(known, hosts["behind"], user_of=lambda _: "ann") == ["ssh", "-l", "ann", "behind"]


def test_trust_tells_the_key_of_this_machine(at_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["trust", "own"]) == 0
    assert "known" in capsys.readouterr().err


# --- who gets the sudo password --------------------------------------------------------------------


@pytest.fixture
def trusting(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fleet.toml with the key that the host answers with."""

    async def shown(_: Logins, __: Host) -> tuple[str, str]:
        return KEY, "SHA256:new"

    monkeypatch.setattr(Logins, "host_key", shown)
    file = tmp_path / "fleet.toml"
    file.write_text(f'[fleet]\nname = "home"\n[hosts.web]\nhost_key = "{KEY}"\n')
    monkeypatch.setenv("FLEET_FILE", str(file))
    return file


def test_trust_lets_another_machine_have_the_sudo_password_if_people_say_so(
    trusting: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = session.given_to(load(trusting))
    web = HostName("web")
    assert run(["trust", "web"]) == 0
    assert not given.knows_another(web, "SHA256:new")
    given.require(web, "SHA256:old")
    assert run(["trust", "web"]) == 2  # there is nobody to ask
    assert "went to a machine with another key" in capsys.readouterr().err
    assert given.knows_another(web, "SHA256:new")
    assert run(["trust", "web", "--yes"]) == 0
    given.require(web, "SHA256:new")
    with pytest.raises(AuthenticationError, match="was not sent"):
        given.require(web, "SHA256:old")


OTHER = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIK0wmN/Cr3JXqmLW7u+g9pTh+wyqDHpSQEIQczXkVx9q"


@pytest.fixture
def three(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fleet.toml with a host whose key it does not have, one with another key, and one that is away."""

    async def shown(_: Logins, host: Host) -> tuple[str, str]:
        if host.name == "away":
            raise UnreachableError(host.name, "no route")
        return KEY, f"SHA256:of-{host.name}"

    monkeypatch.setattr(Logins, "host_key", shown)
    file = tmp_path / "fleet.toml"
    file.write_text(f'[fleet]\nname = "home"\n[hosts.new]\n[hosts.old]\nhost_key = "{OTHER}"\n[hosts.away]\n')
    monkeypatch.setenv("FLEET_FILE", str(file))
    return file


def test_trust_shows_all_keys_in_a_table_and_asks_once(
    three: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[str] = []

    def confirmed(question: str) -> bool:
        asked.append(question)
        return True

    monkeypatch.setattr("fleet.cli.questions.confirmed", confirmed)
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True))
    assert run(["trust", "--all"]) == 1  # one is away
    said = capsys.readouterr().err
    rows = {line.split()[0]: line for line in said.splitlines() if "SHA256:" in line}
    assert list(rows) == ["new", "old"]
    assert rows["new"].endswith("SHA256:of-new  new")
    assert f"ANOTHER than in fleet.toml, {fingerprint(OTHER)}" in rows["old"]
    assert "old: was it set up anew?" in said
    assert "away: no route" in said
    assert asked == ["Are these the fingerprints that the 2 hosts themselves show?"]
    assert [host.host_key for host in load(three).hosts.values()] == [KEY, KEY, None]


def test_a_no_writes_no_key(three: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = three.read_text()
    monkeypatch.setattr("fleet.cli.questions.confirmed", lambda _: False)
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True))
    assert run(["trust", "new", "old"]) == 1
    assert three.read_text() == before


def test_keys_that_fleet_toml_has_are_no_question(trusting: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["trust", "--all"]) == 0
    assert capsys.readouterr().err.splitlines()[1].endswith("known")


def test_a_fingerprint_is_the_one_that_openssh_shows() -> None:
    assert fingerprint(f"{KEY} a comment") == asyncssh.import_public_key(KEY).get_fingerprint()


def test_children_of_no_command_inherit_the_sudo_password(trusting: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "_taken", [])
    monkeypatch.setenv("FLEET_SUDO_PASSWORD", "hunter2")
    seen: list[str | None] = []

    def run_child(*_: object, **__: object) -> SimpleNamespace:
        seen.append(os.environ.get("FLEET_SUDO_PASSWORD"))
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(OpenSsh, "is_there", staticmethod(lambda: False))
    monkeypatch.setattr("subprocess.run", run_child)
    assert run(["ssh", "web", "true"]) == 0
    assert seen == [None]


def test_sudo_password_of_the_environment_is_there_whenever_a_command_opens_its_fleet(
    trusting: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `fleet install` does, which has erased disks when it opens the fleet for the second time."""
    monkeypatch.setattr(session, "_taken", [])
    monkeypatch.setenv("FLEET_SUDO_PASSWORD", "hunter2")
    session.take_password()
    asking = list(load(trusting).hosts.values())
    assert [session._sudo_password(asking).reveal() for _ in range(3)] == ["hunter2"] * 3


def test_person_is_asked_for_the_sudo_password_once(trusting: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "_taken", [])
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True))
    typed = ["hunter2"]
    monkeypatch.setattr("click.prompt", lambda *_, **__: typed.pop())
    asking = list(load(trusting).hosts.values())
    assert [session._sudo_password(asking).reveal() for _ in range(2)] == ["hunter2"] * 2


@pytest.mark.parametrize(("typed", "answer"), [("y\n", True), ("n\n", False), ("\n", False), ("", False)])
def test_end_of_input_is_a_no(monkeypatch: pytest.MonkeyPatch, typed: str, *, answer: bool) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))
    assert questions.confirmed("Sure?") is answer


def test_ctrl_c_at_a_question_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("click.termui.visible_prompt_func", interrupted)
    with pytest.raises(click.exceptions.Abort):
        questions.confirmed("Sure?")


def test_a_computer_is_shown_once_whatever_profiles_it_has(trusting: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trusting.write_text(trusting.read_text() + "[hosts.web.profiles.ann]\n[hosts.web.profiles.bob]\n")
    assert run(["trust", "--all"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().err.splitlines()] == ["host", "web"]
