"""Running commands, and what that took."""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import tempfile
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.bench.tree import Watch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True)
class Taken:
    """What one measurement took."""

    wall: float
    """Seconds."""
    cpu: float = 0.0
    """Seconds of this machine's processors, children included and the hosts not."""
    memory: int = 0
    """Bytes at the peak, summed over the commands that ran at once and all that they started."""
    hosts_cpu: float = 0.0
    """Seconds of processors that the hosts took meanwhile, all together."""
    processes: int = 0
    """How many processes and threads each host started meanwhile, in the mean."""
    wire: int = 0
    """Bytes on the links of the hosts, to and fro, all together."""
    connections: int = 0
    """TCP connections that the hosts accepted, all together."""


def run(commands: Sequence[Sequence[str]], env: Mapping[str, str] | None = None) -> Taken:
    """All commands have run, at once, and succeeded; else `SystemExit` has the end of what the first one said."""
    environment = {**os.environ, **(env or {})}
    with contextlib.ExitStack() as files:
        outputs = [files.enter_context(tempfile.TemporaryFile()) for _ in commands]
        started = time.perf_counter()
        processes = [
            subprocess.Popen(
                list(argv), env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
            )
            for argv, output in zip(commands, outputs, strict=True)
        ]
        cpu = 0.0
        with Watch(process.pid for process in processes) as watch:
            for process in processes:
                _, status, usage = os.wait4(process.pid, 0)
                process.returncode = os.waitstatus_to_exitcode(status)
                cpu += usage.ru_utime + usage.ru_stime
            wall = time.perf_counter() - started
        for process, output in zip(processes, outputs, strict=True):
            if process.returncode:
                output.seek(0)
                said = output.read().decode(errors="replace")[-2000:]
                raise SystemExit(f"{process.args!r} ended with {process.returncode}:\n{said}")
    return Taken(wall, cpu, watch.peak)


def median(taken: Sequence[Taken]) -> Taken:
    """The median of each number by itself."""
    return Taken(
        statistics.median(one.wall for one in taken),
        statistics.median(one.cpu for one in taken),
        int(statistics.median(one.memory for one in taken)),
        statistics.median(one.hosts_cpu for one in taken),
        int(statistics.median(one.processes for one in taken)),
        int(statistics.median(one.wire for one in taken)),
        int(statistics.median(one.connections for one in taken)),
    )
