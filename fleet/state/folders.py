"""A folder for each run: roots of what it builds, failure bundles, its events as text, and its lock."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from typing import TYPE_CHECKING

from fleet.errors import ConfigError, StateError
from fleet.files import read_file, replace_file
from fleet.model import RunId
from fleet.state import locks

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BEHIND = "behind"
"""The file in the folder of a run whose events are not all in the database. It has the digest of the run's plan."""
EVENTS = "events.jsonl"
"""The file in the folder of a run that has its events, for people and scripts. A mere build has none."""
ELSEWHERE = "set XDG_STATE_HOME to a folder that can be written"
PATIENCE = 30.0
"""Seconds to wait for other processes that hold a lock only while they read or write."""


class Folders:
    """The folders `runs/RUN` below the folder that has the state of a fleet."""

    def __init__(self, state: Path) -> None:
        self._state = state

    def of(self, run: RunId) -> Path:
        """Return the folder of the run, which may not exist."""
        return self._state / "runs" / run

    def all(self) -> list[RunId]:
        """Return the runs that have a folder, newest first. Raise `StateError` if they cannot be listed."""
        try:
            with os.scandir(self._state / "runs") as entries:
                found = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            why = f"{self._state / 'runs'}: {error.strerror}"
            raise StateError(f"this machine cannot read what it has recorded: {why}", hint=ELSEWHERE) from error
        return [RunId(name) for name in sorted(found, reverse=True)]

    def has_events(self, run: RunId) -> bool:
        """Whether the run has written events to its folder. A mere build has not."""
        return os.path.lexists(self.of(run) / EVENTS)

    def mark_behind(self, run: RunId, plan: str | None, *, is_behind: bool) -> None:
        """Note that events of the run are only in its folder, or that they are all in the database after all."""
        file = self.of(run) / BEHIND
        with contextlib.suppress(OSError):  # the folder may be a temporary one: nothing is read from that later
            if is_behind:
                replace_file(file, (plan or "").encode(), durable=True)
            else:
                file.unlink(missing_ok=True)

    def behind(self) -> dict[RunId, str | None]:
        """Return the runs whose events are not all in the database, each with the digest of its plan."""
        found: dict[RunId, str | None] = {}
        for run in self.all():
            with contextlib.suppress(OSError):
                found[run] = read_file(self.of(run) / BEHIND, most=100).decode("ascii", "replace") or None
        return found

    @contextlib.contextmanager
    def hold(self, run: RunId) -> Iterator[Path]:
        """Make the run's folder and lock it, while inside.

        The run is then under way for every process. See `State.hold`.
        """
        folder = self.of(run)
        try:
            handle = self._make_and_lock(folder)
        except OSError as error:
            why = f"{folder}: cannot be made: {error.strerror}"
            raise StateError(f"this machine cannot record what it does: {why}", hint=ELSEWHERE) from error
        if handle is None:
            hint = "it ends by itself; Ctrl-C there ends it sooner"
            raise ConfigError(f"run {run} is still under way", hint=hint)
        try:
            yield folder
        finally:
            locks.release(handle)

    def _make_and_lock(self, folder: Path) -> int | None:
        """Make the folder and return its lock; None if another process works on the run."""
        until = time.monotonic() + PATIENCE
        while True:
            make_private(self._state)
            # Private: it gets journals of hosts, and answers of checks.
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle = _try_to_lock(folder)
            if handle is not None and locks.is_of(handle, folder):
                return handle
            if handle is not None:  # the folder was removed before we had locked it
                locks.release(handle)
            elif _is_locked(folder) or time.monotonic() > until:
                return None
            else:  # only readers hold it, and not for long
                time.sleep(0.005)

    def is_under_way(self, run: RunId) -> bool:
        """Whether somebody holds the run."""
        try:
            return _is_locked(self.of(run))
        except OSError:
            return False

    @contextlib.contextmanager
    def kept_from_changing(self, run: RunId) -> Iterator[bool]:
        """Keep the run from beginning and from being removed, while inside. Yields False if it is under way."""
        handle = locks.acquire(self.of(run), shared=True)
        try:
            yield handle is not None
        finally:
            if handle is not None:
                locks.release(handle)

    @contextlib.contextmanager
    def owned(self, run: RunId) -> Iterator[bool]:
        """Lock the run for the caller alone, while inside.

        Yields whether that worked; True too if it has no folder any more.
        """
        try:
            handle = locks.acquire(self.of(run))
        except FileNotFoundError:
            yield True
            return
        except OSError:
            yield False
            return
        try:
            yield handle is not None
        finally:
            if handle is not None:
                locks.release(handle)

    def remove(self, run: RunId) -> bool:
        """Remove the folder with everything in it. Returns whether it is gone."""
        folder = self.of(run)
        shutil.rmtree(folder, ignore_errors=True)
        return not os.path.lexists(folder)


def make_private(folder: Path) -> None:
    """Make the folder if need be, and let nobody else look into it. Raise `OSError` if it cannot be made."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if folder.stat().st_mode & 0o077:
        with contextlib.suppress(PermissionError):  # it belongs to somebody else, who decides about its mode
            folder.chmod(0o700)


def _try_to_lock(folder: Path) -> int | None:
    """Return the lock of the folder; None if another one holds it or the folder does not exist."""
    try:
        return locks.acquire(folder)
    except FileNotFoundError:
        return None


def _is_locked(folder: Path) -> bool:
    """Whether somebody holds the folder exclusively."""
    try:
        handle = locks.acquire(folder, shared=True)
    except FileNotFoundError:
        return False
    if handle is not None:
        locks.release(handle)
    return handle is None
