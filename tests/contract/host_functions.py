"""Functions of the host program on this machine, in folders of a test."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

from fleet.host.program import source

if TYPE_CHECKING:
    from pathlib import Path

SHELLS = ["sh", *(["bash --posix"] if shutil.which("bash") else [])]


def call(folder: Path, script: str, *, shell: str = "sh", stdin: str = "", check: bool = True) -> str:
    """What the script printed, which knows all functions, and has every place of the host program in the folder."""
    program = folder / "functions"
    program.write_text("".join(line for line in source().splitlines(keepends=True) if not line.startswith("main ")))
    places = ("run/open", "run/last", "run/draft", "run/queue", "record", "roots")
    for place in ("run", "record", "roots"):
        (folder / place).mkdir(exist_ok=True)
    names = dict(zip(("open", "closed", "draft", "queue", "record", "roots"), places, strict=True))
    moved = "; ".join(f"{name}={folder / place}" for name, place in names.items())
    moved += f"; all_open='{folder}/run/open {folder}/run/profile-*/open'"
    text = f". {program}\n{moved}\ncd {folder}\n{script}"
    done = subprocess.run([*shell.split(), "-c", text], input=stdin, capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, done
    return done.stdout


def put(folder: Path, **files: str) -> None:
    """The files of a transaction, a line each."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in files.items():
        (folder / name.rstrip("_")).write_text(f"{value}\n")
