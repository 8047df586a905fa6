"""Run commands in a container by the kernel's namespaces. Its engine takes some 0.2 s of processor for each."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fleet.machine import Output
from fleet.scripts import script

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

KILLED = 128 + signal.SIGKILL
PATIENCE = 2.0
"""Seconds after which a host whose command was killed is not going off."""
SWITCH = "FLEET_LAB_NAMESPACES"
"""The variable that lets `LabHost.exec` go this way: not every test is ready for looks that take 13 ms and not 85."""
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""What Docker sets where the image does not."""
_inits: dict[str, int] = {}
"""For each container its PID 1, as this machine numbers it, when it was last looked at."""


def run_inside(container: Any, argv: Sequence[str]) -> Output | None:
    """Run the command in the container, as `docker exec` does, and return what it has written when it has ended.

    None where that is not possible: without root, if the engine is not on this machine, or if the container is off.
    Raise `ProcessLookupError` if it goes off meanwhile: the command may have done its work, or a part of it.
    """
    pid = _init(container) if _may_enter() else 0
    if not pid:
        return None
    try:
        power = os.fdopen(os.pidfd_open(pid), "rb", buffering=0)
    except OSError:
        return None
    with power:
        try:
            entering = _entering(pid, container.id)
        except OSError:  # it has just gone off
            return None
        output = _run((*entering, *argv), _environment(container.attrs["Config"]))
        # The end of PID 1 kills all others first, and is known a moment later.
        ended = select.poll()
        ended.register(power, select.POLLIN)
        has_power = not ended.poll(1000 * PATIENCE if output.status == KILLED else 0)
    if not has_power:
        raise ProcessLookupError(f"PID 1 of {container.name} has ended")
    return output


def _run(argv: Sequence[str], environment: Mapping[str, str]) -> Output:
    # What it leaves behind may go on writing: so these are files, whose end nobody waits for.
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        done = subprocess.run(
            argv,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,  # a `kill 0` in it is for itself
            umask=0o022,
            check=False,
        )
        texts = []
        for file in (stdout, stderr):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
    status = done.returncode if done.returncode >= 0 else 128 - done.returncode
    return Output(status=status, stdout=texts[0], stderr=texts[1])


def _entering(pid: int, container: str) -> tuple[str, ...]:
    """Return how a command line begins that runs the rest in the container with this PID 1."""
    join = ("sh", "-c", script("fleet.lab", "join"), "sh", *_control_groups(pid, container), "--")
    return (*join, *_bounded_as(pid), "nsenter", f"--target={pid}", *_WHOLE, "--")


_WHOLE = ("--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--wd")


def _may_enter() -> bool:
    return os.geteuid() == 0 and all(shutil.which(program) for program in ("nsenter", "setpriv"))


def _init(container: Any) -> int:
    """Return the container's PID 1 as this machine numbers it; 0 if it has none here."""
    pid = _inits.get(container.id, 0)
    if not _is_init(pid, container.id):
        container.reload()
        pid = int(container.attrs["State"]["Pid"])
        if not _is_init(pid, container.id):
            return 0
        _inits[container.id] = pid
    return pid


def _is_init(pid: int, container: str) -> bool:
    """Whether that process is PID 1 of that container, and lives. Another one may have its number by now."""
    try:
        return container in _of_process(pid, "cgroup") and f"\nNSpid:\t{pid}\t1\n" in _of_process(pid, "status")
    except OSError:
        return False


def _of_process(pid: int, what: str) -> str:
    return Path("/proc", str(pid), what).read_text(encoding="utf-8", errors="replace")


def _control_groups(pid: int, container: str) -> list[str]:
    """Return the files by which a process enters the control groups of the container, none of those made in it.

    Those that systemd knows processes by, not those with limits: each takes milliseconds to enter.
    """
    files = []
    for line in _of_process(pid, "cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "name=systemd"):
            continue
        above, found, rest = path.partition(container)
        group = above + found + rest.partition("/")[0]
        for hierarchy in (controllers.removeprefix("name="), "unified"):
            file = Path("/sys/fs/cgroup", hierarchy, group.lstrip("/"), "cgroup.procs")
            if file.exists():
                files.append(str(file))
                break
    return files


def _bounded_as(pid: int) -> tuple[str, str]:
    """Return how a command begins that may do no more than the container's own root."""
    mask = int(_of_process(pid, "status").partition("\nCapBnd:\t")[2].split()[0], 16)
    held = ",".join(f"+cap_{number}" for number in range(mask.bit_length()) if mask >> number & 1)
    return "setpriv", f"--bounding-set=-all,{held}"


def _environment(config: dict[str, Any]) -> dict[str, str]:
    """Return the environment that `docker exec` gives to a command of root's."""
    its_own = dict(pair.split("=", 1) for pair in config["Env"] or () if "=" in pair)
    return {"PATH": _PATH, "HOSTNAME": config["Hostname"], "HOME": "/root", **its_own}
