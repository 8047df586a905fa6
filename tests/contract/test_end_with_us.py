"""A command that ends with us: nothing of it is left when nobody waits for it any more."""

from __future__ import annotations

import shutil
import subprocess
import uuid
from pathlib import Path

import pytest

from fleet.scripts import one_line
from tests.waiting import until

SHELLS = [shell for shell in ("dash", "bash") if shutil.which(shell)]


def started(shell: str, *argv: str) -> subprocess.Popen[bytes]:
    watched = [shell, "-c", one_line("fleet.machine", "end-with-us"), "sh", *argv]
    return subprocess.Popen(watched, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def alive(mark: str) -> list[str]:
    """The processes that have the mark among their words."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = place.read_bytes().decode().split("\0")
        except OSError:
            continue
        found += [place.parent.name] if mark in words else []
    return found


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(("script", "status"), [("exit 7", 7), ("kill -9 $$", 137), ("true", 0)])
def test_status_and_outputs_are_those_of_the_command(shell: str, script: str, status: int) -> None:
    with started(shell, "sh", "-c", f"cat; echo out; echo err >&2; {script}") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        # stdin stays open meanwhile: the command has an empty one of its own, so that `cat` ends
        assert process.stdout.read() == b"out\n"
        assert process.stderr.readline() == b"err\n"  # of a signal the shell writes more
        assert process.wait(20) == status


@pytest.mark.parametrize("shell", SHELLS)
def test_program_that_is_not_there_is_127(shell: str) -> None:
    with started(shell, "no-such-program") as process:
        assert process.wait(20) == 127


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("trap", ["", "trap '' TERM;"], ids=["ends", "does not listen"])
def test_end_of_stdin_ends_all_that_it_has_started(shell: str, trap: str) -> None:
    mark = str(uuid.uuid4())
    script = f"{trap} sh -c '{trap} echo there; while :; do sleep 1; done' {mark} & wait; while :; do sleep 1; done"
    with started(shell, "sh", "-c", script.replace("'' TERM", '"" TERM'), mark) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == b"there\n"
        assert len(alive(mark)) >= 2
        process.stdin.close()
        until(lambda: not alive(mark))
        assert process.wait(20) != 0
