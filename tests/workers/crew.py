"""Simulated hosts, a database, and workers in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TextIO

import tomli_w

from tests.bench.idle import make_key
from tests.bench.scale import RUNNING, system
from tests.bench.simulate import Simulated, simulated

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FLEET = "from fleet.__main__ import main; import sys; sys.exit(main())"
HASTY = """
from fleet.library.crew import worker
from fleet.state import clock
clock.LASTS, worker.BEAT, worker.SWEEP = {lasts}, {lasts} / 4, 0.5
clock.LIVES = clock.LIVES.replace("+ 30.0", "+ {lasts}")
"""
"""How a worker is that counts as lost sooner, so that nobody has to wait."""


@dataclass
class Crew:
    """A fleet of simulated hosts whose state is in a database. Commands are run in `folder`."""

    folder: Path
    hosts: dict[str, Simulated]
    new: str
    log: Path
    tables: dict[str, Any]
    processes: list[subprocess.Popen[str]] = field(default_factory=list)
    names: dict[subprocess.Popen[str], str] = field(default_factory=dict)
    """The names of the workers."""
    outs: dict[subprocess.Popen[str], TextIO] = field(default_factory=dict)

    program = FLEET
    hasty = HASTY.format(lasts=3.0)

    @property
    def file(self) -> Path:
        return self.folder / "fleet.toml"

    def write(self) -> None:
        """The fleet.toml of everybody."""
        self.file.write_text(tomli_w.dumps(self.tables))

    def settle(self, time: str) -> None:
        """Each delivery takes so long."""
        self.tables["defaults"]["settle"] = time
        self.write()

    def environment(self) -> dict[str, str]:
        home = f"{self.folder}-home"
        return {**os.environ, "HOME": home, "XDG_STATE_HOME": f"{home}/state", "XDG_CACHE_HOME": f"{home}/cache"}

    def fleet(self, *words: str, before: str = "", **options: Any) -> subprocess.Popen[str]:
        """Begin a command."""
        argv = [sys.executable, "-c", before + FLEET, *words]
        out = (self.folder / f"stdout-{len(self.processes)}").open("w+")  # nobody reads a pipe while it is full
        given = {"stdout": out, "stderr": subprocess.PIPE, "text": True, **options}
        process: subprocess.Popen[str] = subprocess.Popen(argv, env=self.environment(), cwd=self.folder, **given)
        self.processes.append(process)
        self.outs[process] = out
        return process

    def worker(self, *words: str, lasts: float = 3.0) -> subprocess.Popen[str]:
        """A worker, which lives when this returns."""
        process = self.fleet("worker", "--trust-database", *words, before=HASTY.format(lasts=lasts))
        assert process.stderr is not None
        line = process.stderr.readline()
        assert "takes hosts of" in line, line + process.stderr.read()
        self.names[process] = line.split()[2]
        return process

    def says(self, process: subprocess.Popen[str]) -> str:
        """The next line that it has for people."""
        assert process.stderr is not None
        return process.stderr.readline()

    def deploy(self, *words: str) -> subprocess.Popen[str]:
        """A deployment to all of them by workers."""
        return self.fleet("deploy", "--all", "--yes", "--json", "--closure", self.new, "--workers", *words)

    def ended(self, process: subprocess.Popen[str]) -> list[dict[str, Any]]:
        """Wait for the end of a deployment, and return its events."""
        _, err = process.communicate(timeout=240)
        self.outs[process].seek(0)
        events = [json.loads(line) for line in self.outs[process]]
        assert events, err
        return events

    def runs(self) -> list[dict[str, Any]]:
        """What `fleet runs` tells."""
        process = self.fleet("runs", "--json", before=self.hasty)
        assert process.wait(30) == 0
        self.outs[process].seek(0)
        found: list[dict[str, Any]] = json.loads(self.outs[process].read())["runs"]
        return found

    def switched(self) -> list[str]:
        """The hosts that were switched, once for each time."""
        names = {host.port: name for name, host in self.hosts.items()}
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return sorted(names[int(line.split()[0])] for line in lines)


def outcomes(events: list[dict[str, Any]]) -> dict[str, str]:
    """How each host ended, as the last event says."""
    return {host["name"]: host["outcome"] for host in events[-1]["hosts"]}


@contextmanager
def crew(folder: Path, url: str, count: int, **rollout: Any) -> Iterator[Crew]:
    """So many hosts, and no workers yet. Every process is gone afterwards."""
    key = make_key(folder / "keys")
    (folder / "fleet").mkdir()
    new = system(folder / "nixos-system-new")
    log = folder / "switched"
    with simulated(count, RUNNING, key, new=new, log=log) as found:
        hosts = {f"host-{number}": host for number, host in enumerate(found)}
        tables = {
            "fleet": {"name": "many", "state": url},
            "defaults": {
                "address": "127.0.0.1", "user": "root", "identity_file": str(key), "substitute": False, "settle": "0s",
            },
            "rollout": {"at_once": 64, **rollout},
            "hosts": {name: {"port": host.port, "host_key": host.host_key} for name, host in hosts.items()},
        }  # fmt: skip
        made = Crew(folder / "fleet", hosts, new, log, tables)
        made.write()
        try:
            yield made
        finally:
            for process in made.processes:
                process.kill()
                process.wait()
                if process.stderr is not None:
                    process.stderr.close()
                made.outs[process].close()
