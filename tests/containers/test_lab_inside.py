"""A command on a lab host is the same whether the kernel's namespaces or Docker bring it there."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from fleet.errors import UnreachableError
from fleet.lab.inside import SWITCH, run_inside
from tests.waiting import until

if TYPE_CHECKING:
    from fleet.lab import LabHost
    from tests.containers.conftest import MakeLab
    from tests.containers.hostprogram import Subject

WHAT_IT_HAS = """\
env | grep -vE '^(PWD|OLDPWD|SHLVL|_)=' | sort; pwd; id; umask; ulimit -n; tty; hostname; grep Cap /proc/self/status
grep -E '(::|systemd:)' /proc/self/cgroup; for kind in cgroup ipc mnt net pid uts; do readlink /proc/self/ns/$kind; done
"""


@pytest.fixture(autouse=True)
def _by_namespaces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SWITCH, "1")


ENDS = {
    "output on both": ("echo out; echo err >&2; printf 'no line'", 0),
    "not ASCII": (r"printf '\303\244 \377 a\r\nb'", 0),
    "fails": ("exit 7", 7),
    "kills its group": ("kill 0", 143),
    "kills itself": ("kill -9 $$", 137),
    "reads": ("cat; echo none", 0),
}


@pytest.mark.parametrize(("script", "status"), ENDS.values(), ids=ENDS)
def test_what_a_command_says_and_how_it_ends_is_the_same(
    host_program: Subject, monkeypatch: pytest.MonkeyPatch, script: str, status: int
) -> None:
    argv = ("sh", "-c", script)
    entered = run_inside(host_program.host.container, argv)
    assert entered is not None
    assert entered.status == status
    monkeypatch.setattr(os, "geteuid", lambda: 1000)  # who is not root asks the engine
    assert run_inside(host_program.host.container, argv) is None
    by_engine = host_program.host.exec(*argv, check=False)
    assert (entered.status, entered.stdout.replace("\r\n", "\n")) == (by_engine.status, by_engine.stdout)


def test_what_a_command_has_and_may_do_is_the_same(host_program: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    entered = run_inside(host_program.host.container, ("sh", "-c", WHAT_IT_HAS))
    assert entered is not None
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    by_engine = host_program.host.exec("sh", "-c", WHAT_IT_HAS)
    assert entered.stdout.splitlines() == by_engine.stdout.splitlines()


def test_program_that_does_not_exist_is_told_like_a_shell_tells_it(host_program: Subject) -> None:
    assert host_program.host.exec("no-such-program", check=False).status == 127


def test_what_a_command_leaves_behind_is_not_waited_for(host_program: Subject) -> None:
    started = time.monotonic()
    host_program.host.exec("sh", "-c", "sleep 60 & echo $! >/run/left")
    assert time.monotonic() - started < 30
    host_program.sh("kill $(cat /run/left) && rm /run/left")


def test_host_that_is_off_or_goes_off_is_unreachable_and_found_again(make_lab: MakeLab) -> None:
    host: LabHost = make_lab("off").host("off")
    before = host.exec("cat", "/proc/sys/kernel/random/boot_id").stdout
    assert before
    host.power_off()
    with pytest.raises(UnreachableError, match="is off"):
        host.exec("true")
    host.power_on()
    assert host.exec("cat", "/proc/1/comm").stdout == "systemd\n"
    with ThreadPoolExecutor() as pool:
        under_way = pool.submit(host.exec, "sh", "-c", "touch /run/begun; sleep 60")
        until(lambda: host.exec("test", "-e", "/run/begun", check=False).status == 0, within=30, what="command")
        host.power_off()
        with pytest.raises(UnreachableError, match="went off"):  # and is not run a second time
            under_way.result()
