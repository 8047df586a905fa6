"""What tests of every kind may ask for."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

# Before any conftest imports them: their assertions show what was compared, as those of tests do.
pytest.register_assert_rewrite(
    "tests.containers.driver",
    "tests.containers.hostprogram",
    "tests.faults.play",
    "tests.faults.play_drivers",
    "tests.faults.scene",
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.postgres import Server

# A machine that is busy with other tests is no finding: neither examples that come slowly, nor one that takes long.
settings.register_profile("fleet", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("fleet")

LONGEST_FIRST = ("reboots", "faults", "containers", "workers")
"""Folders of tests. The rest is short, and fills the time of the workers that are through with these."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Those marked `long` are left out, but where FLEET_LONG=all, as in `make faults` and `make reboots`."""
    if os.environ.get("FLEET_LONG") != "all":
        long = [item for item in items if item.get_closest_marker("long")]
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if not item.get_closest_marker("long")]

    def place(item: pytest.Item) -> int:
        folder = item.path.relative_to(config.rootpath / "tests").parts[0]
        return LONGEST_FIRST.index(folder) if folder in LONGEST_FIRST else len(LONGEST_FIRST)

    items.sort(key=place)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder with nothing in it but an empty `.ssh`; no agent, no variables of ours."""
    folder = tmp_path / "home"
    (folder / ".ssh").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(folder))
    for name in ("SSH_AUTH_SOCK", "XDG_CACHE_HOME", "XDG_STATE_HOME", "FLEET_FILE", "FLEET_SUDO_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    return folder


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A PostgreSQL server for all tests of this process."""
    from tests.postgres import Server

    with Server() as server:
        yield server
