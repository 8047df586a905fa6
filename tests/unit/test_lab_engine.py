"""What a lab tells of the machine that it runs on."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from fleet.errors import ConfigError
from fleet.lab import engine
from fleet.lab.engine import inotify_shortage

if TYPE_CHECKING:
    from pathlib import Path


def test_engine_that_takes_the_call_and_says_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("docker")
    monkeypatch.setattr(engine, "PATIENCE", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr("testcontainers.core.docker_client.get_docker_host", lambda: address(silent))
        monkeypatch.setenv("DOCKER_HOST", address(silent))
        with pytest.raises(ConfigError, match="no Docker engine answers"):
            engine.connect.__wrapped__()


def address(server: socket.socket) -> str:
    return f"tcp://127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize(("hosts", "short"), [(3, False), (25, False), (26, True), (40, True)])
def test_too_few_inotify_instances_are_told_with_the_name_of_the_setting(
    tmp_path: Path, hosts: int, *, short: bool
) -> None:
    limit = tmp_path / "limit"
    limit.write_text("128\n")
    said = inotify_shortage(hosts, limit=limit)
    assert bool(said) is short
    if short:
        assert "sysctl fs.inotify.max_user_instances=1024" in said


def test_machine_without_that_limit_is_not_warned_of(tmp_path: Path) -> None:
    assert inotify_shortage(1000, limit=tmp_path / "none") == ""
