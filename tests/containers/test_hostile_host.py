"""One host among several says anything, over real SSH: the others end as they would without it."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.containers.driver import WEB, Run, Stage, new_version, running, wait_until, web

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleet.lab import Lab
    from tests.containers.conftest import MakeLab

GOOD = ("one", "two")
MOST_MEMORY = 300 << 20
"""Bytes that the controller may have in memory, whatever a host says."""
SHELL = "/usr/local/bin/evil"
LOGIN_SHELL = """\
#!/bin/sh
# Does what root's shell does, until it was called as often as it says in /run/evil-after.
count=$(($(cat /run/evil-count 2>/dev/null || echo 0) + 1))
echo $count >/run/evil-count
[ $count -gt "$(cat /run/evil-after)" ] || exec /bin/sh "$@"
. /run/evil
"""
SAYINGS = {
    "endless lines": "exec yes refused=locked",
    "an endless line": "tr '\\0' '[' </dev/zero",
    "both": "yes & exec yes >&2",
    "escapes": "printf '\\033]0;x\\007\\033[2J\\342\\200\\256running=x\\n'; exit 0",
    "numbers": "echo open_since=999999999999999999999; echo nix_free=9e999; exit 0",
}


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Lab:
    lab = make_lab(*GOOD, "evil")
    host = lab.host("evil")
    host.exec("sh", "-c", f"cat >{SHELL} <<'END'\n{LOGIN_SHELL}END\nchmod 755 {SHELL}; echo {SHELL} >>/etc/shells")
    return lab


@pytest.fixture
def all_behind(stage: Stage) -> Iterator[Stage]:
    """Nothing of the last test runs on the host that says anything, and each host has something to switch to."""
    evil = stage.host("evil")
    # Whoever hears nothing of a host that has begun waits until it has gone back by itself.
    stage.toml({name: {"checks": [WEB], "activation_timeout": "15s"} for name in (*GOOD, "evil")})
    for name in (*GOOD, "evil"):
        stage.write(name, web(new_version()))
    yield stage
    evil.exec("usermod", "-s", "/bin/bash", "root")
    evil.exec("sh", "-c", "pkill -KILL -x yes; pkill -KILL -x tr; rm -f /run/evil-count", check=False)


def becomes_hostile(stage: Stage, saying: str, after: int) -> None:
    script = "rm -f /run/evil-count; echo $1 >/run/evil-after; printf '%s\\n' \"$2\" >/run/evil; usermod -s $3 root"
    stage.host("evil").exec("sh", "-c", script, "sh", str(after), saying, SHELL)


def highest_memory(run: Run) -> int:
    """Run to the end. Returns the most bytes that the controller had in memory."""
    status, highest = Path(f"/proc/{run.process.pid}/status"), 0

    def has_ended() -> bool:
        nonlocal highest
        with contextlib.suppress(OSError):
            found = re.search(r"VmHWM:\s*(\d+) kB", status.read_text())
            highest = max(highest, int(found[1]) << 10) if found else highest
        return run.process.poll() is not None

    wait_until(has_ended, "the run has ended", patience=200)
    run.end()
    return highest


def test_host_that_is_hostile_from_the_start_ends_alone(all_behind: Stage) -> None:
    """It has one saying after the other, each in a run of its own."""
    for saying in SAYINGS.values():
        for name in GOOD:
            all_behind.write(name, web(new_version()))
        becomes_hostile(all_behind, saying, after=0)
        run = all_behind.start("deploy", "--json", "--yes", "--all")
        assert 0 < highest_memory(run) < MOST_MEMORY, saying
        assert {name: run.outcomes[name] for name in GOOD} == dict.fromkeys(GOOD, "kept"), (saying, run)
        assert run.outcomes["evil"] == "failed", (saying, run)
        assert run.failure("evil")["kind"] not in ("bug", ""), (saying, run)
        assert "\x1b" not in run.stdout
        assert "\u202e" not in run.stdout


@pytest.mark.long
def test_host_that_turns_hostile_in_the_middle_ends_alone(all_behind: Stage) -> None:
    becomes_hostile(all_behind, SAYINGS["both"], after=6)
    before = running(all_behind.host("evil"))
    run = all_behind.start("deploy", "--json", "--yes", "--all")
    assert 0 < highest_memory(run) < MOST_MEMORY
    assert {name: run.outcomes[name] for name in GOOD} == dict.fromkeys(GOOD, "kept"), run
    assert run.outcomes["evil"] in ("failed", "rolled_back", "needs_human"), run
    assert run.failure("evil")["kind"] != "bug", run
    evil = all_behind.host("evil")
    wait_until(lambda: evil.exec("test", "-e", "/run/fleet/open", check=False).status != 0, "nothing is open")
    assert running(evil) == before
