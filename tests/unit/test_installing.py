"""What nixos-anywhere is told of a host, and what is refused before it may erase anything."""

from __future__ import annotations

import io
import os
import signal
import stat
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from fleet import cli
from fleet.cli import install
from fleet.cli.interrupts import be_deaf
from fleet.errors import ConfigError
from fleet.inventory import load
from fleet.library import installing
from fleet.library.installing import KEY, Site
from fleet.machine.local import LocalMachine
from tests.tools import new_key

if TYPE_CHECKING:
    from fleet.inventory import Host, Inventory

HOSTS = """
[fleet]
name = "home"
flake = "/srv/home"
nix_options = { cores = "2" }

[hosts.web]
address = ["local", "web.example.org"]
host_key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMzO7IZ+F5x+jLVvQUgo1qXMmnIMRnrABJmgSHClxH0E"
identity_file = "~/.ssh/deploy"
jump = "door"
build_on = "target"
[hosts.door]
address = "2001:db8::1"
user = "ann"
port = 2200
[hosts.far]
jump = "bob@far.example.org"
[hosts.hive]
attr = "colmenaHive.nodes.hive.config.system.build.toplevel"
[hosts.here]
address = "local"
host_key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAICz9Lgz4CBMqPkGvYTMRJ3jGkfMzQIE5vTH9tZLtNWvZ"
"""


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Inventory:
    """An inventory, on a machine that has nixos-anywhere."""
    program = tmp_path / "bin" / "nixos-anywhere"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\necho called >>"$0.log"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    (tmp_path / "fleet.toml").write_text(HOSTS)
    return load(tmp_path / "fleet.toml")


def host(fleet: Inventory, name: str) -> Host:
    return next(host for host in fleet.hosts.values() if host.name == name)


def keygen(*words: str | Path) -> str:
    return subprocess.run(["ssh-keygen", *words], check=True, capture_output=True, text=True).stdout


def test_nixos_anywhere_is_told_what_fleet_toml_knows(fleet: Inventory) -> None:
    site = Site(address="203.0.113.7", port=22, disk_keys=(("/tmp/a.key", Path("/k")),), more=("--phases", "kexec"))
    assert installing.argv(fleet, host(fleet, "web"), site, Path("/f")) == (
        *("nixos-anywhere", "--flake", "/srv/home#web", "--extra-files", "/f", "-p", "22"),
        *("-i", str(Path("~/.ssh/deploy").expanduser()), "--ssh-option", "ProxyJump=ann@[2001:db8::1]:2200"),
        *("--build-on", "remote", "--option", "cores", "2", "--disk-encryption-keys", "/tmp/a.key", "/k"),
        *("--phases", "kexec", "--target-host", "root@203.0.113.7"),
    )
    plain = installing.argv(fleet, host(fleet, "far"), Site(address="far", user="nixos"), Path("/f"))
    assert plain[5:] == (
        *("--ssh-option", "ProxyJump=bob@far.example.org", "--option", "cores", "2"),
        *("--target-host", "nixos@far"),
    )


def test_a_machine_is_where_it_is_said_to_be_or_at_the_first_address_for_others(fleet: Inventory) -> None:
    assert installing.site_of(host(fleet, "web"), None) == "web.example.org"
    assert installing.site_of(host(fleet, "web"), "10.0.0.7") == "10.0.0.7"
    with pytest.raises(ConfigError, match="here has no address for other machines"):
        installing.site_of(host(fleet, "here"), None)


@pytest.mark.parametrize(
    ("name", "words", "wrong"),
    [
        ("hive", (), "takes a configuration below nixosConfigurations, not colmenaHive.nodes"),
        ("here", ("--at", "10.0.0.7"), "has a host_key in fleet.toml already: it seems to be installed"),
        ("far", ("--at", "root@10.0.0.7"), "an address alone"),
        ("far", ("--user", "a b"), "a user name"),
        ("far", ("--disk-key", "disk.key"), "expected PATH=FILE"),
        ("far", ("--disk-key", "/tmp/a=/no/such"), "expected PATH=FILE"),
        ("far", ("--host-key", "/no/such"), "there is no such file"),
        ("far", ("--extra-files", "/no/such"), "there is no such folder"),
        ("*", (), "names 5 hosts, and this is for one"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_done(
    fleet: Inventory, name: str, words: tuple[str, ...], wrong: str
) -> None:
    argv = ["install", name, *words, "--yes", "--file", str(fleet.path)]
    done = CliRunner().invoke(cli.fleet, argv, standalone_mode=False)
    assert isinstance(done.exception, ConfigError)
    assert wrong in done.exception.message
    assert not (fleet.path.parent / "bin" / "nixos-anywhere.log").exists()


def test_nobody_erases_disks_without_a_word(fleet: Inventory) -> None:
    argv = ["install", "far", "--file", str(fleet.path)]
    done = CliRunner().invoke(cli.fleet, argv, standalone_mode=False)
    assert isinstance(done.exception, ConfigError)
    assert done.exception.message == "disks would be erased, and there is no terminal to ask on"
    assert not (fleet.path.parent / "bin" / "nixos-anywhere.log").exists()


def test_without_nixos_anywhere_its_remedy_is_told(fleet: Inventory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ConfigError, match="there is no nixos-anywhere on PATH") as caught:
        installing.require_installable(fleet, host(fleet, "far"), Site(address="far"))
    assert caught.value.hint == "nix shell nixpkgs#nixos-anywhere"


async def test_a_host_gets_a_new_key_that_only_root_may_read(fleet: Inventory, tmp_path: Path) -> None:
    more = tmp_path / "more"
    (more / "etc").mkdir(parents=True)
    (more / "etc" / "motd").write_text("hello")
    more.chmod(0o700)
    site = Site(address="far", extra_files=more)
    with installing.handed_files(site) as root:
        public = await installing.hand_key(LocalMachine(), site, host(fleet, "far"), root)
        modes = [stat.S_IMODE(path.stat().st_mode) for path in (root.parent, root, (root / KEY).parent, root / KEY)]
        assert modes == [0o700, 0o755, 0o755, 0o600]
        assert (root / f"{KEY}.pub").read_text() == f"{public} far\n"
        assert (root / "etc" / "motd").read_text() == "hello"
        assert keygen("-yf", root / KEY).split()[:2] == public.split()
    assert not root.exists()


async def test_a_given_key_has_to_be_that_of_fleet_toml(fleet: Inventory, tmp_path: Path) -> None:
    key = tmp_path / "key"
    new_key(key)
    site = Site(address="far", key_file=key)
    with installing.handed_files(site) as root:
        public = await installing.hand_key(LocalMachine(), site, host(fleet, "far"), root)
        assert public == " ".join(key.with_suffix(".pub").read_text().split()[:2])
        with pytest.raises(ConfigError, match=r"is not the key that fleet\.toml has for here"):
            await installing.hand_key(LocalMachine(), site, host(fleet, "here"), root)
        key.write_text("no key")
        with pytest.raises(ConfigError, match="is no private key of a host without a passphrase"):
            await installing.hand_key(LocalMachine(), site, host(fleet, "far"), root)


def test_checks_at_the_end_of_an_installation_can_be_interrupted(
    fleet: Inventory, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[object] = []

    def changed(*_: object, **__: object) -> int:
        be_deaf()
        return 0

    async def up(*_: object, **__: object) -> None:
        pass

    def asked(*_: object, **__: object) -> int:
        heard.append(signal.getsignal(signal.SIGINT))
        return 0

    monkeypatch.setattr("fleet.cli.changing.change", changed)
    monkeypatch.setattr("fleet.library.installing.wait_for_host", up)
    monkeypatch.setattr("fleet.cli.look.ask_health", asked)
    assert install._prove(fleet.path, "far", verbose=False) == 0
    assert heard == [signal.default_int_handler]


def test_sudo_password_that_nobody_can_give_is_missed_before_disks_are_erased(
    fleet: Inventory, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], home: Path
) -> None:
    fleet.path.write_text(HOSTS + '[hosts.ask]\nsudo = "password"\n')
    monkeypatch.delenv("FLEET_SUDO_PASSWORD", raising=False)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert cli.run(["install", "ask", "--at", "10.0.0.7", "--yes", "--file", str(fleet.path)]) == 2
    assert "ask: sudo needs a password" in capsys.readouterr().err
    assert not (fleet.path.parent / "bin" / "nixos-anywhere.log").exists()
