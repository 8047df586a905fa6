"""Keep what `ssh -G` has said from one run to the next: a fleet of 1,000 hosts would pay seconds for it each time."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import shlex
import shutil
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fleet.files import cache_folder, replace_file
from fleet.machine.settings import Answers, home

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

FORMAT = 2
MOST = 5000
"""How many answers are kept."""
FLEETING = re.compile(
    r"^\s*match\b.*\b(exec|localnetwork)\b|^\s*canonicalizehostname[\s=]+(yes|always)|\$\{|^\s*include\b.*(%|[*?\[].*/)",
    re.IGNORECASE | re.MULTILINE,
)
"""What makes an answer depend on more than files: programs, networks, names, variables. And what hides which files."""
INCLUDE = re.compile(r"^\s*include[\s=]+(.+)$", re.IGNORECASE | re.MULTILINE)
SINGLES_OUT = re.compile(r"^\s*[^#\s].*%|^\s*match\b|^\s*host[\s=]+(?![\s=]|\*\s*$)", re.IGNORECASE | re.MULTILINE)
"""What makes an answer another one for each host: blocks for some, and tokens."""
FOLDERS = ("~/.ssh", "/etc/ssh")
"""Where files lie that are included by a relative name."""
State = tuple[int, ...] | None


@dataclass(frozen=True)
class Answer:
    """What `ssh -G` has said about one host, and the files that it was read from."""

    answers: Answers
    files: tuple[tuple[str, State], ...]
    lasts: bool
    """Whether it depends on these files alone."""
    is_for_all: bool = False
    """Whether it is the same for every host, but for the host's own name, and for the port if one was asked for."""

    def of(self, address: str, port: int | None) -> Answer:
        """Return the answer for this address, and this port if there is one. It is one that is for all."""
        own = {"host": [address], "hostname": [address.lower()]}
        if port is not None:
            own["port"] = [str(port)]
        return dataclasses.replace(self, answers={**self.answers, **own})

    @property
    def is_fresh(self) -> bool:
        """Whether all of the files are as they were."""
        return all(state_of(file) == state for file, state in self.files)


def answer(answers: Answers, files: Iterable[Path], texts: Iterable[str]) -> Answer:
    """Return the answer that was read from these files, which have these texts."""
    texts = list(texts)
    named = dict.fromkeys([str(file) for file in files] + list(_included(texts)))
    lasts = not any(map(FLEETING.search, texts))
    for_all = lasts and not any(map(SINGLES_OUT.search, texts))
    return Answer(answers, tuple((name, state_of(name)) for name in named), lasts, for_all)


def _included(texts: Iterable[str]) -> Iterator[str]:
    """Yield the files that are included by name, also if they are missing, and the folders of those by pattern."""
    for text in texts:
        for words in INCLUDE.findall(text):
            with contextlib.suppress(ValueError):  # an open quote, at which ssh gives up
                for word in shlex.split(words, comments=True):
                    for path in [word] if word.startswith(("/", "~")) else [f"{folder}/{word}" for folder in FOLDERS]:
                        place = path.replace("~", str(home()), 1) if path.startswith("~/") else path
                        yield str(Path(place).parent) if any(char in place for char in "*?[") else place


def state_of(name: str) -> State:
    """Return values that change when the file does; None if there is none."""
    try:
        found = os.stat(name)  # noqa: PTH116  # for each host and file: a Path costs as much again
    except OSError:
        return None
    return (found.st_ino, found.st_size, found.st_mtime_ns)


@dataclass
class Kept:
    """The answers of this and of earlier runs, in a file that is this user's alone."""

    usual: Answers
    """What `ssh -G` says where nothing is configured."""
    _known: dict[str, Answer] = field(default_factory=dict)
    _is_changed: bool = True

    @staticmethod
    def file() -> Path:
        """Return where the answers are kept."""
        return cache_folder("ssh") / "answers.json"

    @classmethod
    def load(cls, ask_usual: Callable[[], Answers]) -> Kept:
        """Read the file. One that others can write, or that cannot be read, is as good as none."""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            for place in (cls.file(), cls.file().parent):
                found = place.stat()
                if found.st_uid != os.getuid() or found.st_mode & 0o022:
                    return cls(ask_usual())
            document = json.loads(cls.file().read_text(encoding="utf-8"))
            if document["of"] == _program():
                kept = cls(document["usual"], _is_changed=False)
                files = [tuple((name, state and tuple(state)) for name, state in one) for one in document["files"]]
                for key, (changes, number) in document["answers"].items():
                    kept._known[key] = Answer(kept._whole(changes), files[number], lasts=True)
                return kept
        return cls(ask_usual())

    def get(self, key: str) -> Answer | None:
        """Return the answer, if there is one and its files have not changed since."""
        found = self._known.get(key)
        return found if found is not None and found.is_fresh else None

    def put(self, key: str, made: Answer) -> None:
        """Keep the answer, if it is one that lasts."""
        if made.lasts:
            self._known[key] = made
            self._is_changed = True

    def save(self) -> None:
        """Write the file, if there is something new. Whatever keeps it from being written only costs time."""
        if not self._is_changed:
            return
        files: dict[Any, int] = {}
        kept = list(self._known.items())[-MOST:]
        rows = {key: (self._changes(one.answers), files.setdefault(one.files, len(files))) for key, one in kept}
        document = {"of": _program(), "usual": self.usual, "answers": rows, "files": list(files)}
        with contextlib.suppress(OSError):
            self.file().parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            replace_file(self.file(), json.dumps(document).encode())
        self._is_changed = False

    def _changes(self, answers: Answers) -> dict[str, list[str] | None]:
        return {key: answers.get(key) for key in {*answers, *self.usual} if answers.get(key) != self.usual.get(key)}

    def _whole(self, changes: dict[str, list[str] | None]) -> Answers:
        return {key: values for key, values in {**self.usual, **changes}.items() if values is not None}


def _program() -> list[Any]:
    """Return what the answers depend on besides files of the configuration."""
    program = shutil.which("ssh") or ""
    return [FORMAT, program, list(state_of(program) or ()), str(home()), socket.gethostname()]
