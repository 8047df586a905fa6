"""What the controller remembers: a folder for each run, under `$XDG_STATE_HOME/fleet/NAME/runs/`."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from fleet.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleet.model import RunId

KEEP = 20
"""Runs whose folders, and with them the roots of what they built, outlive the next run."""


def state_folder(fleet: str, environment: Mapping[str, str] = os.environ) -> Path:
    """Where this fleet's state is. The folder may not exist yet."""
    base = environment.get("XDG_STATE_HOME", "")
    root = Path(base) if Path(base).is_absolute() else Path("~/.local/state").expanduser()
    return root / "fleet" / fleet


def new_run_folder(state: Path, run: RunId) -> Path:
    """The run's own folder, which now exists; the oldest ones beyond `KEEP` are gone."""
    folder = state / "runs" / run
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise ConfigError(
            f"{folder}: cannot be made: {error.strerror}", hint="set XDG_STATE_HOME to a folder that can be written"
        ) from error
    for old in sorted(folder.parent.iterdir())[:-KEEP]:
        with contextlib.suppress(OSError):
            shutil.rmtree(old)
    return folder
