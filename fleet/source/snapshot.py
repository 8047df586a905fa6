"""Compute a digest of everything that decides how a flake evaluates: equal digests mean equal derivations.

Pure evaluation sees nothing but the flake's files, what its lock file names, and Nix itself. If the flake is in git,
Nix takes the files that git tracks, as they are in the work tree, and the commit; otherwise all files in the folder,
and the newest of their times. (nix: src/libfetchers/git.cc and path.cc)
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from fleet import nix
from fleet.files import read_file
from fleet.source import git, lock
from fleet.source.tree import folder_of, on_disk, said, work_tree
from fleet.text import parsed_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from fleet.machine import Machine

LARGEST_LOCK = 16 << 20
"""The most bytes of a lock file that are read."""
_SUBMODULE = "160000"
"""git's mode of an entry that is a repository of its own."""

Facts = tuple[str, ...]
"""What counts besides the files."""


@dataclass(frozen=True)
class Snapshot:
    """A flake, and the Nix that would evaluate it, at one moment."""

    digest: str
    """Names everything that evaluation depends on."""
    moment: str
    """Changes with every write to a file, even with one that was undone."""


async def take(here: Machine, flake: str, options: Mapping[str, str] | None = None) -> Snapshot | None:
    """Take a snapshot of the flake; None if its evaluation may change while its files do not.

    It belongs to one set of `options` for Nix.

    That is so for a flake that is elsewhere, has a submodule, has an input which is not locked or is a folder, or is in
    a folder with a `.git` that Nix copies like everything else.
    """
    folder = folder_of(flake)
    asked = dict(parse_qsl(flake.partition("?")[2], keep_blank_values=True))
    if folder is None or not folder.is_dir() or asked.keys() - {"dir"}:
        return None
    version = await said(here, nix.VERSION)
    root = await work_tree(here, flake, folder)
    if version is None:
        return None
    facts = (flake, version, *(f"{name} = {value}" for name, value in sorted((options or {}).items())))
    lock_file = folder.resolve() / asked.get("dir", "") / "flake.lock"
    if root is not None:
        return await _of_git(here, facts, root, lock_file)
    return await asyncio.to_thread(_of_folder, facts, folder.resolve(), lock_file)


async def _of_git(here: Machine, facts: Facts, root: Path, lock_file: Path) -> Snapshot | None:
    listed = await said(here, git.files(root, "--stage", "-v"))
    if listed is None:
        return None
    commit = await said(here, git.head(root)) or ""  # empty before the first commit
    entries = [entry.partition("\t") for entry in listed.split("\0") if entry]
    if any(_SUBMODULE in about.split(" ") for about, _, _ in entries):
        return None
    names = sorted({on_disk(name) for _, _, name in entries})
    # The index and its flags count too: they decide whether Nix calls the tree dirty.
    return await asyncio.to_thread(_digest, (*facts, commit, listed), root, names, lock_file)


def _of_folder(facts: Facts, folder: Path, lock_file: Path) -> Snapshot | None:
    # If git here does not know a repository, only Nix can tell what it reads of it.
    above = () if facts[0].startswith("path:") else folder.parents
    if any((place / ".git").exists() for place in (folder, *above)):
        return None
    try:
        names = ["", *sorted(_below(folder, ""))]
        newest = max(int(os.lstat(folder / name).st_mtime) for name in names)
    except OSError:  # it changes meanwhile
        return None
    return _digest((*facts, str(newest)), folder, names, lock_file)


def _below(folder: Path, inside: str) -> Iterator[str]:
    with os.scandir(folder / inside) as entries:
        for entry in entries:
            name = f"{inside}{entry.name}"
            yield name
            if entry.is_dir(follow_symlinks=False):
                yield from _below(folder, f"{name}/")


def _digest(facts: Facts, root: Path, names: Iterable[str], lock_file: Path) -> Snapshot | None:
    """Digest the facts, and the names, kinds and contents of the files. Return None if an input is not settled."""
    content, moment = hashlib.blake2b(digest_size=20), hashlib.blake2b(digest_size=20)
    for fact in (*nix.NIX, *facts):
        content.update(f"{len(fact)} {fact}\n".encode(errors="surrogateescape"))
    try:
        for name in names:
            kind, data, written = _file(root / name)
            content.update(f"{kind} {name!r} {data}\n".encode())
            moment.update(written.encode())
            if root / name == lock_file and not _is_settled(lock_file):
                return None
    except OSError:  # it changes meanwhile, or we may not read it
        return None
    return Snapshot(content.hexdigest(), f"{content.hexdigest()} {moment.hexdigest()}")


def _file(path: Path) -> tuple[str, str, str]:
    """Return the kind of the file as in a NAR, what names its contents, and what changes with every write to it.

    The last is read before the contents, so that a write in between gives another moment and not the same one.
    """
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return "absent", "", ""
    mode, written = status.st_mode, f"{status.st_ctime_ns} {status.st_ino}\n"
    if stat.S_ISLNK(mode):
        return "link", repr(path.readlink()), written
    if stat.S_ISDIR(mode):
        return "folder", "", written
    if not stat.S_ISREG(mode):  # Nix cannot copy it either
        raise OSError(f"{path} is neither file, folder nor link")
    with path.open("rb") as file:
        content = hashlib.file_digest(file, "blake2b").hexdigest()
    return ("program" if mode & stat.S_IXUSR else "file"), content, written


def _is_settled(file: Path) -> bool:
    try:
        return lock.is_settled(parsed_json(read_file(file, most=LARGEST_LOCK)))
    except (OSError, ValueError):
        return False
