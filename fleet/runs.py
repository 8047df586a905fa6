"""What the controller remembers: a folder for each run, under `$XDG_STATE_HOME/fleet/NAME/runs/`."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from typing import TYPE_CHECKING, Literal, TextIO

from fleet.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from fleet.model import RunId

KEEP = 20
"""Runs whose folders, and with them the roots of what they built, outlive the next run; and as many builds. Those
under way do too, and those that `fleet resume` can still settle."""

EVENTS = "events.jsonl"
"""What a run has told. A build alone tells nothing."""

ELSEWHERE = "set XDG_STATE_HOME to a folder that can be written"


def new_run_folder(state: Path, run: RunId, *, is_open: Callable[[Path], bool]) -> Path:
    """The run's own folder, which now exists; the oldest ones beyond `KEEP` are gone, but for those that are open."""
    folder = state / "runs" / run
    try:
        folder.mkdir(parents=True, mode=0o700)  # journals of hosts come here, and what checks were answered
        _hold(folder)
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be made: {error.strerror}", hint=ELSEWHERE) from error
    earlier = sorted(folder.parent.iterdir())
    builds = [one for one in earlier if not (one / EVENTS).exists()]
    for old in (*builds[:-KEEP], *[one for one in earlier if one not in builds][:-KEEP]):
        with contextlib.suppress(OSError):
            _hold(old, briefly=True)
            if is_open(old):
                continue
            shutil.rmtree(old)
    return folder


def _hold(folder: Path, *, briefly: bool = False) -> None:
    """Nobody else removes the folder while this process lives. Raises `OSError` when another one holds it."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise
    if briefly:
        os.close(handle)


@contextlib.contextmanager
def taken_up(folder: Path) -> Iterator[TextIO]:
    """The file of an earlier run's events, to write on at its end. Raises while that run is still under way."""
    try:
        _hold(folder)
    except BlockingIOError as error:
        hint = "it ends by itself; Ctrl-C there ends it sooner"
        raise ConfigError(f"run {folder.name} is still under way in another process", hint=hint) from error
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be read: {error.strerror}", hint=ELSEWHERE) from error
    with _opened(folder, "a") as record:
        record.write("\n")  # the last line may have been cut
        yield record


def is_under_way(folder: Path) -> bool:
    """Whether the process of this run is alive."""
    try:
        _hold(folder, briefly=True)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def open_record(folder: Path) -> TextIO:
    """The file of the run's events, empty."""
    return _opened(folder, "w")


def _opened(folder: Path, mode: Literal["w", "a"]) -> TextIO:
    path = folder / EVENTS
    try:
        return path.open(mode, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}", hint=ELSEWHERE) from error
