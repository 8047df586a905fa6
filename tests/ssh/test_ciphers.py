"""Which cipher a connection gets, and whether it is compressed: that decides what a push costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fleet.inventory import Host
from fleet.machine.login import Logins
from tests.sshd import Server, listening

if TYPE_CHECKING:
    from pathlib import Path


async def cipher(**keys: object) -> str:
    return await agreed("send_cipher", **keys)


async def agreed(what: str, **keys: object) -> str:
    async with listening(Server()) as server:
        usual = {"name": "web-1", "address": ("127.0.0.1",), "port": server.port, "host_key": server.public}
        host = Host.model_validate({**usual, **keys})
        async with Logins({}).connect(host) as machine:
            return str(machine.connection.get_extra_info(what))


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    (tmp_path / ".ssh").mkdir()
    return tmp_path


async def test_aes_comes_first(home: Path) -> None:
    assert await cipher() == "aes128-gcm@openssh.com"


async def test_a_pi_has_no_instructions_for_aes(home: Path) -> None:
    assert await cipher(kind="pi") == "chacha20-poly1305@openssh.com"


async def test_what_a_person_has_chosen_wins(home: Path) -> None:
    (home / ".ssh/config").write_text("Ciphers aes256-ctr\n")
    assert await cipher() == "aes256-ctr"


async def test_what_crosses_a_slow_link_is_compressed() -> None:
    assert await agreed("send_compression", link="slow") == "zlib@openssh.com"
    assert await agreed("send_compression") == "none"


async def test_what_a_person_has_chosen_about_compression_wins(home: Path) -> None:
    (home / ".ssh/config").write_text("Compression no\n")
    assert await agreed("send_compression", link="slow") == "none"
