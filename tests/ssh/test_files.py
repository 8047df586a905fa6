"""Files that logins need are read once for all hosts, and again when they have changed."""

from __future__ import annotations

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


def test_identity_is_read_once_and_again_when_it_changed(files: LoginFiles, tmp_path: Path) -> None:
    file = tmp_path / "key"
    KEY.write_private_key(file)
    key = files.identity(file)
    assert isinstance(key, asyncssh.SSHKey)
    assert files.identity(file) is key
    file.unlink()
    OTHER.write_private_key(file)
    changed = files.identity(file)
    assert isinstance(changed, asyncssh.SSHKey)
    assert public(changed) == public(OTHER)


@pytest.mark.parametrize("what", ["encrypted", "with a certificate", "followed by a certificate"])
def test_identity_that_is_more_than_a_key_is_asyncsshs_to_read(files: LoginFiles, tmp_path: Path, what: str) -> None:
    file = tmp_path / "key"
    KEY.write_private_key(file, "pkcs8-pem", "secret" if what == "encrypted" else None)
    if what == "with a certificate":
        (tmp_path / "key-cert.pub").write_text("ssh-ed25519-cert-v01@openssh.com AAAA")
    elif what == "followed by a certificate":
        file.write_text(file.read_text() + "-----BEGIN CERTIFICATE-----\n")
    assert files.identity(file) == str(file)


def test_identity_that_cannot_be_used_says_so_each_time(files: LoginFiles, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nnonsense\n")
    for _ in range(2):
        with pytest.raises(asyncssh.KeyImportError):
            files.identity(tmp_path / "key")
        with pytest.raises(FileNotFoundError):
            files.identity(tmp_path / "none-such")
