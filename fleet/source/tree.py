"""List the files of a flake: those that Nix does not see, and those that it should not."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fleet.errors import CommandFailedError
from fleet.files import read_file
from fleet.inventory.problems import dotted
from fleet.model import Finding, Severity
from fleet.source import git
from fleet.source.secrets import PERMISSION, secrets

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from fleet.machine import Command, Machine

LARGEST = 1 << 20
"""The most bytes of a file that is searched."""
_MOST_NAMED = 20
_UNSEEN = (".nix", "fleet.toml", "flake.lock")
"""Ends of the names of files that evaluation reads. Without them it would read something else, or fail."""
_LAB = ".lab.json"
_THROWN_AWAY = "keys"
"""The folder in a lab with keys that are good for nothing else. `_LAB` marks the folder of a lab."""


@dataclass(frozen=True)
class Tree:
    """The folder of a flake."""

    root: Path
    files: tuple[Path, ...]
    """The files that are copied to the store."""
    untracked: tuple[Path, ...] = ()
    """Files that are there and not copied, because git does not know them."""


def folder_of(flake: str) -> Path | None:
    """Return the folder that a flake reference means; None if it is elsewhere."""
    place = flake.removeprefix("path:").partition("?")[0]
    return Path(place) if place.startswith("/") else None


async def look(here: Machine, flake: str) -> Tree | None:
    """List the files of a flake in a folder of this machine; None for any other flake."""
    folder = folder_of(flake)
    if folder is None or not folder.is_dir():
        return None
    if root := await work_tree(here, flake, folder):
        tracked = await said(here, git.files(root))
        untracked = await said(here, git.files(root, "--others", "--exclude-standard"))
        return Tree(root, _paths(tracked or ""), _paths(untracked or ""))
    return Tree(folder, tuple(await asyncio.to_thread(lambda: tuple(_all_files(folder)))))


async def work_tree(here: Machine, flake: str, folder: Path) -> Path | None:
    """Return the top of the git work tree whose tracked files Nix takes; None if it takes everything in the folder."""
    root = None if flake.startswith("path:") else await said(here, git.root(folder))
    return Path(root.rstrip("\n")) if root else None


async def in_work_tree(here: Machine, flake: str) -> tuple[Path, Path] | None:
    """Return the folder of a flake on this machine and the top of its git work tree; None for any other reference."""
    folder = folder_of(flake)
    root = await work_tree(here, flake, folder) if folder is not None and folder.is_dir() else None
    return (folder, root) if folder is not None and root is not None else None


async def said(here: Machine, command: Command) -> str | None:
    """Return what the command printed; None if it failed or does not exist."""
    try:
        output = await here.run(command)
    except CommandFailedError:
        return None
    return output.stdout if output.status == 0 else None


def _paths(listed: str) -> tuple[Path, ...]:
    return tuple(Path(on_disk(name)) for name in listed.split("\0") if name)


def on_disk(name: str) -> str:
    """Return the name of a file, which git has printed in UTF-8, as Python names it in this locale."""
    return os.fsdecode(name.encode())


def _all_files(folder: Path) -> Iterator[Path]:
    for where, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name != ".git")
        yield from (Path(where, name).relative_to(folder) for name in sorted(names))


def findings(tree: Tree) -> list[Finding]:
    """Return what is wrong with the files."""
    return [*unseen(tree), *_untracked(tree), *_secrets(tree)]


def plain_values(tree: Tree, paths: Iterable[Path]) -> list[Finding]:
    """Return those of the files, each of which is the value of a secret, that are copied to the store."""
    copied = {tree.root / path for path in tree.files}
    return [
        Finding(
            kind="secret",
            message=f"{path} is the value of a secret, and is copied to the Nix store, where everybody can read it",
            hint="git rm --cached it and name it in .gitignore, or encrypt it: age and sops are sources too",
        )
        for path in dict.fromkeys(paths)
        if path in copied
    ]


def unseen(tree: Tree) -> list[Finding]:
    """Return the files that evaluation would read if they were in git."""
    return [
        Finding(
            kind="untracked",
            message=f"{path} is not in git: Nix does not see it",
            hint=f"git add {path}, or remove it",
        )
        for path in tree.untracked
        if str(path).endswith(_UNSEEN)
    ]


def _untracked(tree: Tree) -> Iterator[Finding]:
    if others := [str(path) for path in tree.untracked if not str(path).endswith(_UNSEEN)]:
        named = ", ".join(others[:_MOST_NAMED]) + (", …" if len(others) > _MOST_NAMED else "")
        yield Finding(
            kind="untracked",
            severity=Severity.NOTE,
            message=f"not in git, so that Nix does not see it: {named}",
            hint="git add what belongs to the flake; name the rest in .gitignore",
        )


def _secrets(tree: Tree) -> Iterator[Finding]:
    is_lab = (tree.root / _LAB).is_file()
    for path in tree.files:
        if is_lab and path.parts[0] == _THROWN_AWAY:
            continue
        for number, what in secrets(_text(tree.root / path)):
            yield Finding(
                kind="secret",
                message=f"{path}:{number}: looks like {what}; every user of a machine can read it in the Nix store",
                hint=f"keep it elsewhere, with sops-nix or agenix; if it is none, write '{PERMISSION}' above it",
            )


def without_host(tree: Tree, names: Collection[str]) -> list[Finding]:
    """Return folders for hosts, in the layout of `lib.mkFleet`, that belong to no host."""
    folders = [path.parts[1] for path in tree.files if path.match("hosts/*/default.nix") and len(path.parts) == 3]
    return [
        Finding(
            kind="no_host",
            severity=Severity.NOTE,
            message=f"hosts/{folder}/default.nix is of no host of fleet.toml",
            hint=f"add [{dotted('hosts', folder)}] to fleet.toml, or remove the folder if it is not shared by others",
        )
        for folder in folders
        if folder not in names
    ]


def _text(path: Path) -> str:
    """Return the text of a file; nothing for a link, and for a file that is too large or not text."""
    try:
        if path.is_symlink():
            return ""
        data = read_file(path, most=LARGEST)
    except OSError:
        return ""
    return "" if b"\0" in data else data.decode(errors="replace")
