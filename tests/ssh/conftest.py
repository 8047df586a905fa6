"""Servers in this process, and hosts that lead to them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

import pytest

from fleet.inventory import Host
from fleet.machine.login import Logins
from fleet.machine.patched import PLAIN
from fleet.machine.witness import Patience
from tests.sshd import Server, listening

if TYPE_CHECKING:
    from pathlib import Path

    from fleet.model import HostName

MakeHost = Callable[..., Host]
BOTH_WAYS = pytest.mark.parametrize("asyncssh_is", ["patched", "plain"], indirect=True)
"""Once with our patches of asyncssh, and once without: for all tests of what goes over a connection."""


@pytest.fixture(autouse=True)
def asyncssh_is(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is patched, unless the test says otherwise by `BOTH_WAYS`; whatever the environment of the tests says."""
    monkeypatch.setenv(PLAIN, "1" if getattr(request, "param", "patched") == "plain" else "0")


@pytest.fixture(autouse=True)
def clean_home(home: Path) -> Path:
    return home


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with listening(Server()) as up:
        yield up


@pytest.fixture
def make_host(server: Server) -> MakeHost:
    """`make_host(port=…)` is a host that leads to the server, but for what is said otherwise."""

    def make(**keys: Any) -> Host:
        usual = {"name": "web-1", "address": ("127.0.0.1",), "port": server.port, "host_key": server.public}
        return Host.model_validate({**usual, **keys})

    return make


@pytest.fixture
def host(make_host: MakeHost) -> Host:
    return make_host()


@pytest.fixture
def logins(home: Path) -> Logins:
    """Logins that lose patience soon, and know no system-wide known_hosts."""
    patience = Patience(connect=0.3, login=3.0, keepalive=0.05)
    return Logins({}, patience=patience, system_known_hosts=home / "ssh_known_hosts")


def named(*hosts: Host) -> dict[HostName, Host]:
    return {host.name: host for host in hosts}
