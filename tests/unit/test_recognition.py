"""This machine is known as a host by the host keys of its own SSH server, and by nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fleet.errors import ConfigError, UnfitError
from fleet.inventory import Host, parse
from fleet.machine.login import Logins
from fleet.machine.own_link import OwnLink
from fleet.machine.recognition import LONGEST, fingerprint, is_here, not_here
from fleet.model import HostName

if TYPE_CHECKING:
    from pathlib import Path

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMzO7IZ+F5x+jLVvQUgo1qXMmnIMRnrABJmgSHClxH0E"
OTHER = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEdy1O4RrRfvmFzGMLzwmP1bs5JEaGBSjPw3YFTCXq7V"


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    """The folder of a machine that has `KEY`."""
    (tmp_path / "ssh_host_ed25519_key.pub").write_text(f"{KEY} root@laptop\n")
    return tmp_path


def laptop(*address: str, key: str | None = KEY) -> Host:
    return Host(name=HostName("laptop"), address=address or ("local",), host_key=key)


def test_machine_that_has_the_host_key_is_the_host(etc: Path) -> None:
    assert is_here(laptop(), etc)
    assert is_here(laptop(key=f"{KEY} a comment"), etc)
    assert is_here(laptop("laptop.lan", "local"), etc)


def test_machine_with_another_key_is_not_the_host(etc: Path, tmp_path: Path) -> None:
    assert not is_here(laptop(key=OTHER), etc)
    assert not is_here(laptop(), tmp_path / "nothing")


def test_key_alone_makes_no_host_local(etc: Path) -> None:
    assert not is_here(laptop("laptop.lan"), etc)


def test_key_of_a_user_is_no_host_key(tmp_path: Path) -> None:
    (tmp_path / "id_ed25519.pub").write_text(KEY)
    assert not is_here(laptop(), tmp_path)


def test_files_that_are_no_keys_say_nothing(etc: Path) -> None:
    (etc / "ssh_host_a_key.pub").mkdir()
    (etc / "ssh_host_b_key.pub").write_bytes(b"\xff" * (LONGEST + 1))
    (etc / "ssh_host_c_key.pub").write_text("")
    (etc / "ssh_host_d_key.pub").symlink_to("/dev/zero")
    assert is_here(laptop(), etc)
    assert not is_here(laptop(key=OTHER), etc)


def test_fingerprint_is_the_one_that_ssh_keygen_prints() -> None:
    assert fingerprint(KEY) == "SHA256:JuTOuaRF12dlPMKtB8q1zq8aGmGaZQQmel03OVoRMzQ"


def test_elsewhere_it_is_said_why_the_host_is_unfit(etc: Path) -> None:
    error = not_here(laptop(key=OTHER), etc)
    assert isinstance(error, UnfitError)
    assert f"{etc} does not have its host_key" in error.message
    assert fingerprint(KEY) in error.message
    assert "run fleet on laptop itself" in error.hint


async def test_host_that_is_elsewhere_and_only_local_is_unfit(tmp_path: Path) -> None:
    with pytest.raises(UnfitError, match="its only address is local, and this machine is another"):
        await Logins({}, host_keys=tmp_path).link(laptop()).open()


def test_link_needs_no_ssh_only_where_the_machine_is_the_host(etc: Path, tmp_path: Path) -> None:
    assert isinstance(Logins({}, host_keys=etc).link(laptop("laptop.lan", "local")), OwnLink)
    assert not Logins({}, host_keys=tmp_path / "nothing").link(laptop("laptop.lan", "local")).is_here


def problems(tmp_path: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(tmp_path / "fleet.toml", text)
    return caught.value.message


def test_local_host_without_a_key_is_refused_with_the_remedy(tmp_path: Path) -> None:
    said = problems(tmp_path, '[hosts.laptop]\naddress = ["local", "laptop.lan"]\n')
    assert "[hosts.laptop] address: " in said
    assert "host_key is missing: write the first two words of /etc/ssh/ssh_host_ed25519_key.pub there" in said


def test_host_whose_name_is_local_is_told_how_to_be_only_a_name(tmp_path: Path) -> None:
    assert 'or write address = "local." if that is only a name' in problems(tmp_path, "[hosts.local]\n")
    (host,) = parse(tmp_path / "fleet.toml", '[hosts.local]\naddress = "local."\n').hosts.values()
    assert not is_here(host)


def test_each_machine_of_a_fleet_may_be_local_and_is_one_host(tmp_path: Path) -> None:
    hosts = f'[hosts.one]\naddress = "local"\nhost_key = "{KEY}"\n[hosts.two]\naddress = "local"\nhost_key = '
    assert len(parse(tmp_path / "fleet.toml", f'{hosts}"{OTHER}"\n').hosts) == 2
    said = problems(tmp_path, f'{hosts}"{KEY} again"\n')
    assert "[hosts.two] address: the local machine with this host_key is already the host one" in said
