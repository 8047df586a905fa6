"""Ask OpenSSH what its configuration says about a host: `ssh -G`.

Only `ssh` itself knows what all of its configuration means: Match, Include, tokens, /etc/ssh/ssh_config.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import os
import pwd
import re
import shutil
import subprocess
import tempfile
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from fleet.machine.kept import Answer, Kept, answer
from fleet.machine.settings import Answers, Settings, home, read

if TYPE_CHECKING:
    from collections.abc import Sequence

AT_ONCE = 4
"""How many `ssh -G` are at work at a time."""
TIMEOUT = 30.0
"""Seconds for one answer. `Match exec` may look something up on the network."""
EVERY = "*"
"""What stands for the address where an answer is the same for every host."""
SYSTEM = Path("/etc/ssh/ssh_config")
READ = re.compile(r"^debug1: Reading configuration data (.+?)\r?$", re.MULTILINE)
NAMES_USER = re.compile(r"^\s*user[\s=]", re.IGNORECASE | re.MULTILINE)
COMPRESSES = re.compile(r"^\s*compression[\s=]", re.IGNORECASE | re.MULTILINE)
ASKS_USER = re.compile(r"^\s*match\b.*\buser\b", re.IGNORECASE | re.MULTILINE)


class UnreadableError(Exception):
    """The SSH configuration cannot be read. The message says why."""


@dataclass(frozen=True)
class Question:
    """One host, as `ssh` is asked for it."""

    address: str
    port: int | None
    user: str | None
    default_user: str | None
    """Who logs in if nothing says anything else. None for the user of this process."""


@dataclass(frozen=True)
class _Known:
    """What is known about a host, and the answer that it comes from."""

    settings: Settings
    answer: Answer


@dataclass
class OpenSsh:
    """Keeps what `ssh -G` has said about each host, until a file that it has read changes, also for later runs.

    Any number of threads may share it, each with its own event loop.
    """

    _known: dict[Question, Future[_Known]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _keeping: threading.Lock = field(default_factory=threading.Lock)
    _kept: Kept | None = None
    _workers: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(AT_ONCE, thread_name_prefix="fleet-ssh-G")
    )
    _under_way: int = 0
    """How many answers are being asked for."""
    _is_missed: bool = False

    @staticmethod
    def is_there() -> bool:
        """Whether there is an OpenSSH client on PATH."""
        return _is_on(os.environ.get("PATH", os.defpath))

    def is_missed(self) -> bool:
        """Whether people should be told now that there is none: once, and if there is something that it would read."""
        if self._is_missed or self.is_there() or not any(file.exists() for file in (home() / ".ssh/config", SYSTEM)):
            return False
        self._is_missed = True
        return True

    async def settings(self, question: Question) -> Settings:
        """Return what the SSH configuration says about the host. Raise `UnreadableError`."""
        with self._lock:
            known = self._known.get(question)
            if known is None or _is_stale(known):
                self._under_way += 1
                known = self._known[question] = self._workers.submit(self._find, question)
        # Shielded: others may wait for the same answer.
        return (await asyncio.shield(asyncio.wrap_future(known))).settings

    def _find(self, question: Question) -> _Known:
        """Return what is kept about the host, or ask."""
        try:
            with self._keeping:
                kept = self._kept = self._kept or Kept.load(_usual)
            own, for_all = _key(question), _key(_for_all(question))
            found = kept.get(own) or ((of_all := kept.get(for_all)) and of_all.of(question.address, question.port))
            if found is None:
                found = _answer(question, kept.usual)
                with self._keeping:
                    kept.put(for_all if found.is_for_all else own, found)
            return _Known(read(found.answers, kept.usual, question.address), found)
        finally:
            with self._lock:
                self._under_way -= 1
                is_last = not self._under_way
            if is_last and self._kept is not None:
                with self._keeping:
                    self._kept.save()


def _key(question: Question) -> str:
    return "\0".join(map(str, dataclasses.astuple(question)))


def _for_all(question: Question) -> Question:
    """Return the question about every host. Whether one names a port decides whether the configuration does."""
    return dataclasses.replace(question, address=EVERY, port=None if question.port is None else 0)


@functools.cache
def _is_on(path: str) -> bool:
    """Whether there is an OpenSSH client in one of these folders. A run asks once for each host."""
    return shutil.which("ssh", path=path) is not None


def _usual() -> Answers:
    return _asked(["-F", "none", "-G", "--", "usual"])[0]


def _answer(question: Question, usual: Answers) -> Answer:
    """Ask OpenSSH. Raise `UnreadableError`."""
    words = ["-G", "-v", *(["-p", str(question.port)] if question.port is not None else [])]
    files = [home() / ".ssh/config", SYSTEM]
    is_moved = str(home()) != pwd.getpwuid(os.getuid()).pw_dir and files[0].exists()
    composed = _composed(None) if is_moved else None
    answers, said = _answered(words, question.address, question.user, composed)
    files += [file for name in READ.findall(said) if (file := Path(name)).exists()]  # the composed one is gone
    texts = [_text(file) for file in files]
    default = question.default_user
    # The user of this process is the answer also where nothing names a user.
    if question.user is None and default is not None and answers["user"] == usual["user"]:
        if any(map(NAMES_USER.search, texts)):
            answers, _ = _answered(words, question.address, None, _composed(default))
        else:
            answers["user"] = [default]
        if answers["user"] == [default] and any(map(ASKS_USER.search, texts)):
            answers, _ = _answered(words, question.address, default, composed)
    if not any(map(COMPRESSES.search, texts)):
        answers.pop("compression", None)
    return answer(answers, files, texts)


def _is_stale(known: Future[_Known]) -> bool:
    return known.done() and (known.exception() is not None or not known.result().answer.is_fresh)


def _answered(words: Sequence[str], address: str, user: str | None, composed: str | None) -> tuple[Answers, str]:
    """Ask for the host as this user, and from a composed file in place of the usual ones if there is one."""
    words = [*words, *(["-l", user] if user is not None else [])]
    if composed is None:
        return _asked([*words, "--", address])
    with tempfile.NamedTemporaryFile("w", prefix="fleet-ssh-", suffix=".conf") as file:
        file.write(composed)
        file.flush()
        return _asked([*words, "-F", file.name, "--", address])


def _composed(default_user: str | None) -> str:
    """Return a configuration file that reads the user's and the system's, as ssh does by itself.

    It may end with a user for hosts for which neither names one. And unlike ssh it reads the user's from HOME.
    """
    text = f'Include "{home()}/.ssh/config"\nMatch all\nInclude {SYSTEM}\n'
    return text if default_user is None else f"{text}Match all\nUser {default_user}\n"


def _asked(words: Sequence[str]) -> tuple[Answers, str]:
    """Run `ssh` and return what it prints, and what it says while reading. Raise `UnreadableError` if it fails."""
    try:
        done = subprocess.run(
            ["ssh", *words], stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=TIMEOUT
        )
    except subprocess.TimeoutExpired:
        raise UnreadableError(f"ssh -G did not end within {TIMEOUT:g} s; is there a Match exec that hangs?") from None
    except OSError as error:
        raise UnreadableError(f"cannot run ssh: {error.strerror}") from error
    said = done.stderr.decode(errors="replace")
    if done.returncode != 0:
        lines = [line for line in said.splitlines() if line and not line.startswith(("debug", "OpenSSH_"))]
        raise UnreadableError("; ".join(lines[:3]) or f"ssh -G ended with exit status {done.returncode}")
    answers: Answers = {}
    for line in done.stdout.decode(errors="replace").splitlines():
        key, _, value = line.partition(" ")
        answers.setdefault(key.lower(), []).append(value)
    return answers, said


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
