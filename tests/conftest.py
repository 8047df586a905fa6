"""What tests of every kind may ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

# Before any conftest imports them: their assertions show what was compared, as those of tests do.
pytest.register_assert_rewrite(
    "tests.containers.driver", "tests.containers.hostprogram", "tests.faults.play", "tests.faults.scene"
)

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder with nothing in it but an empty `.ssh`; no agent, no variables of ours."""
    folder = tmp_path / "home"
    (folder / ".ssh").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(folder))
    for name in ("SSH_AUTH_SOCK", "XDG_STATE_HOME", "FLEET_FILE", "FLEET_SUDO_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    return folder
