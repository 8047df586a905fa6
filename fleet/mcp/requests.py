"""Do what takes long in processes of their own, which go on if the server ends: each is a `fleet` like any other.

Each has a folder in the fleet's state with what it says. It holds a lock in there for as long as it lives, so that
another server knows too what goes on, and what became of it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fleet.errors import FleetError, StateError
from fleet.files import replace_file
from fleet.library.tools import new_run_id
from fleet.model import RUN_ID
from fleet.plans.plan import END
from fleet.state.locks import acquire
from fleet.text import parsed_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

AT_ONCE = 8
"""Requests that may be under way at the same time."""
KEPT = 50
"""Requests that have ended and are remembered."""
MOST = 4 << 20
"""Bytes that are read of what a process has said, at its end."""
FIRST = 64 << 10
"""Bytes within which the first line ends that a process says."""
PLAN = "fleet.plan"
LOCK = "alive"
"""The folder that is locked. Not that of the request: whoever signs the plan in there locks that."""
START = "import json, sys; sys.path[:] = json.loads(sys.argv.pop(1)); from fleet.__main__ import main; main()"
"""Runs fleet with the modules of this process, wherever an installation has them. The environment stays as it is: what
`fleet` starts may be in Python too, and another one."""
_ID = re.compile(RUN_ID)
_under_way: list[subprocess.Popen[bytes]] = []
"""The processes that this one has begun: they are reaped when they have ended."""


@dataclass(frozen=True)
class Request:
    """Something that was asked for, and the folder of the process that does it."""

    folder: Path
    about: Mapping[str, Any]
    """`verb`, `plan` (a digest, or empty), `hosts`, `to` (where a rollback goes, or empty), `by` and `at`."""

    @property
    def id(self) -> str:
        """Its own id, which sorts by time."""
        return self.folder.name

    @property
    def plan_file(self) -> Path:
        """Where the plan is that it makes."""
        return self.folder / PLAN

    @property
    def is_alive(self) -> bool:
        """Whether the process goes on."""
        try:
            handle = acquire(self.folder / LOCK, shared=True)
        except OSError:
            return False
        if handle is None:
            return True
        os.close(handle)
        return False

    @property
    def run(self) -> str:
        """The id of the run that it is; empty as long as it has not said that, and if there is none."""
        with contextlib.suppress(OSError), (self.folder / "out").open("rb") as file:
            line = file.readline(FIRST)
            return str(_row(line).get("run", "")) if line.endswith(b"\n") else ""
        return ""

    @property
    def planned(self) -> str:
        """The digest of the plan that it has made; empty if there is none."""
        key, _, digest = (_tail(self.plan_file, 100).decode("ascii", "replace").splitlines() or [""])[-1].partition(" ")
        return digest if key == END else ""

    def document(self) -> dict[str, Any]:
        """Return the document that it has written; an empty one if there is none, or it is very long."""
        return _row(_tail(self.folder / "out", MOST))

    def last(self) -> dict[str, Any]:
        """Return the last event that it has told; an empty one if there is none."""
        return _row((_tail(self.folder / "out", MOST).splitlines() or [b""])[-1])

    def complaint(self) -> list[str]:
        """Return the last lines that it has written for people."""
        return _tail(self.folder / "err", FIRST).decode("utf-8", "replace").splitlines()[-8:]


class Requests:
    """The requests of one fleet."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        """`environment` is what processes get beside that of this one."""
        self._folder = folder
        self._environment = environment

    def all(self) -> list[Request]:
        """Return what was asked for and is remembered, newest first."""
        try:
            names = [place.name for place in self._folder.iterdir() if _ID.fullmatch(place.name)]
        except OSError:
            return []
        found = (_read(self._folder / name) for name in sorted(names, reverse=True))
        return [request for request in found if request is not None]

    def find(self, run: str) -> Request | None:
        """Return the request with this id, or whose process is the run with this id; None if there is none."""
        every = self.all()
        return next((one for one in every if one.id == run), None) or next(
            (one for one in every if one.run == run), None
        )

    def alive(self, hosts: Iterable[str], *, verb: str, plan: str = "", to: str = "") -> Request | None:
        """Return the request for the same that is under way; None if there is none."""
        wanted = {"verb": verb, "plan": plan, "hosts": sorted(hosts), "to": to}
        every = ((one, {"to": "", **one.about}) for one in self.all())
        return next((one for one, about in every if wanted.items() <= about.items() and one.is_alive), None)

    def begin(self, words: Callable[[Path], Sequence[str]], *, verb: str, by: str, **about: Any) -> Request:
        """Start `fleet` with the words for its folder. See `Request.about`.

        Raise `StateError` if that fails, and `FleetError` if so much is under way that this has to wait.
        """
        if sum(one.is_alive for one in self.all()) >= AT_ONCE:
            hint = "call run with the id of one of them, and this again when it has ended"
            raise FleetError(f"{AT_ONCE} requests are under way, and no more than that at once", hint=hint)
        about = {"plan": "", "hosts": [], "to": "", **about, "verb": verb, "by": by, "at": round(time.time(), 3)}
        request = Request(self._folder / new_run_id(), about)
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            request.folder.mkdir(mode=0o700)
            (request.folder / LOCK).mkdir(mode=0o700)
            replace_file(request.folder / "request.json", json.dumps(about).encode())
            self._start(request.folder, words(request.folder))
        except OSError as error:
            shutil.rmtree(request.folder, ignore_errors=True)
            raise StateError(f"{error.filename or self._folder}: {error.strerror}", hint="is there space?") from error
        self._tidy()
        return request

    def _start(self, folder: Path, words: Sequence[str]) -> None:
        """Start the process, in a session of its own. It has its lock from the first moment on."""
        _under_way[:] = [process for process in _under_way if process.poll() is None]
        lock = acquire(folder / LOCK)
        assert lock is not None, "nobody else knows the folder"
        try:
            with (folder / "out").open("wb") as out, (folder / "err").open("wb") as err:
                # -P: no module is taken from the folder that it runs in.
                process = subprocess.Popen(
                    [sys.executable, "-P", "-c", START, json.dumps(_modules()), *words],
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=err,
                    cwd=folder,
                    env={**os.environ, **self._environment},
                    pass_fds=(lock,),
                    start_new_session=True,
                )
                _under_way.append(process)
        finally:
            os.close(lock)  # the process has it open too, so it is held on

    def _tidy(self) -> None:
        """Forget the oldest requests that have ended."""
        for request in self.all()[KEPT:]:
            if not request.is_alive:
                shutil.rmtree(request.folder, ignore_errors=True)


def _modules() -> list[str]:
    """Return where this process has its modules from, as an installation has made it, without where it was started.

    That is an agent's folder, in which it writes what it likes.
    """
    here, ours = str(Path.cwd()), str(Path(__file__).parents[2])
    places = (place for place in sys.path if Path(place).is_absolute() and (place != here or here == ours))
    return list(dict.fromkeys(places))


def _read(folder: Path) -> Request | None:
    with contextlib.suppress(OSError):
        about = _row((folder / "request.json").read_bytes())
        if about:
            return Request(folder, about)
    return None


def _row(line: bytes) -> dict[str, Any]:
    with contextlib.suppress(ValueError):
        found = parsed_json(line)
        if isinstance(found, dict):
            return found
    return {}


def _tail(file: Path, most: int) -> bytes:
    with contextlib.suppress(OSError), file.open("rb") as opened:
        opened.seek(max(0, os.fstat(opened.fileno()).st_size - most))
        return opened.read(most)
    return b""
