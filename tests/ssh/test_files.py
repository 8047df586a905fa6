"""Files that logins need are read once for all hosts, and again when they have changed."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import asyncssh
import pytest

from fleet.machine.files import LoginFiles
from tests.sshd import KEY, public

if TYPE_CHECKING:
    from pathlib import Path

OTHER = asyncssh.generate_private_key("ssh-ed25519")


@pytest.fixture
def files() -> LoginFiles:
    return LoginFiles()


def trusted(known: asyncssh.SSHKnownHosts, host: str) -> list[str]:
    return [public(key) for key in known.match(host, "", None)[0]]


def test_known_hosts_are_parsed_once(files: LoginFiles, tmp_path: Path) -> None:
    names = [tmp_path / "known_hosts", tmp_path / "none-such"]
    names[0].write_text(f"nonsense\nweb {public(KEY)}\n")
    known = files.known_hosts(names)
    assert trusted(known, "web") == [public(KEY)]
    assert files.known_hosts(names) is known


def test_known_hosts_that_changed_are_read_again(files: LoginFiles, tmp_path: Path) -> None:
    names = [tmp_path / "one", tmp_path / "two"]
    names[0].write_text(f"web {public(KEY)}\n")
    files.known_hosts(names)
    names[1].write_text(f"db {public(OTHER)}\n")
    assert trusted(files.known_hosts(names), "db") == [public(OTHER)]
    names[0].unlink()
    assert trusted(files.known_hosts(names), "web") == []


def test_key_is_read_once_and_again_when_it_changed(files: LoginFiles, tmp_path: Path) -> None:
    file = tmp_path / "key"
    KEY.write_private_key(file)
    key = files.key(file)
    assert files.key(file) is key
    file.unlink()
    OTHER.write_private_key(file)
    changed = files.key(file).private
    assert changed is not None
    assert public(changed) == public(OTHER)


@pytest.mark.parametrize("form", ["OpenSSH", "PKCS8"])
def test_public_half_of_an_encrypted_key_is_known(files: LoginFiles, tmp_path: Path, form: str) -> None:
    file = tmp_path / "key"
    if form == "OpenSSH":
        KEY.write_private_key(file)
        file.chmod(0o600)
        subprocess.run(["ssh-keygen", "-q", "-p", "-P", "", "-N", "secret", "-f", file], check=True)
    else:
        KEY.write_private_key(file, "pkcs8-pem", "secret")
        assert files.key(file).public_data == b""
        KEY.write_public_key(tmp_path / "key.pub")
    key = files.key(file)
    assert (key.private, key.is_locked, key.public_data) == (None, True, KEY.public_data)


def test_public_half_alone_is_a_key_of_the_agent(files: LoginFiles, tmp_path: Path) -> None:
    KEY.write_public_key(tmp_path / "key.pub")
    key = files.key(tmp_path / "key.pub")
    assert (key.private, key.is_locked, key.public_data) == (None, False, KEY.public_data)


def test_certificate_beside_a_key_belongs_to_it(files: LoginFiles, tmp_path: Path) -> None:
    KEY.write_private_key(tmp_path / "key")
    assert files.key(tmp_path / "key").certificates == ()
    (tmp_path / "key-cert.pub").write_text("ssh-ed25519-cert-v01@openssh.com AAAA")
    assert files.key(tmp_path / "key").certificates == ()
    certificate = OTHER.generate_user_certificate(KEY, "root", principals=["root"])
    certificate.write_certificate(tmp_path / "key-cert.pub")
    assert [one.public_data for one in files.key(tmp_path / "key").certificates] == [certificate.public_data]


def test_key_that_cannot_be_used_says_so_each_time(files: LoginFiles, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nnonsense\n")
    for _ in range(2):
        with pytest.raises(asyncssh.KeyImportError):
            files.key(tmp_path / "key")
        with pytest.raises(FileNotFoundError):
            files.key(tmp_path / "none-such")
