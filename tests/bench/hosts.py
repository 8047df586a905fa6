"""The lab hosts that are pushed to, and how each tool finds them."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import subprocess
import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tomli_w

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from fleet.lab import Lab
    from tests.bench.closures import Closure
    from tests.bench.measure import Taken


@dataclass(frozen=True)
class Hosts:
    """A lab, some of its hosts, and the files that lead `fleet` and `ssh` to them."""

    lab: Lab
    names: tuple[str, ...]
    folder: Path

    @classmethod
    def of(cls, lab: Lab, names: Sequence[str], folder: Path, ports: Mapping[str, int] | None = None) -> Hosts:
        """The files are written; `ports` lead around by a relay.

        Without one they name the containers' own addresses: behind the port that the engine publishes a process of its
        own copies every byte, for all tools alike, which takes as much of the machine as a host's sshd.
        """
        folder.mkdir(parents=True, exist_ok=True)
        known = tomllib.loads(lab.folder.inventory.read_text())["hosts"]
        key = lab.folder.path / "keys/id_ed25519"
        tables, blocks = {}, []
        for name in names:
            port = (ports or {}).get(name)
            address, port = ("127.0.0.1", port) if port else (_address(lab, name), 22)
            tables[name] = {"address": address, "port": port, "host_key": known[name]["host_key"]}
            blocks.append(
                f"Host {name}\n  HostName {address}\n  Port {port}\n  User root\n  IdentityFile {key}\n"
                "  IdentitiesOnly yes\n  StrictHostKeyChecking no\n  UserKnownHostsFile /dev/null\n  LogLevel ERROR\n"
            )
        defaults = {"identity_file": str(key), "substitute": False}
        document = {"fleet": {"name": "bench"}, "defaults": defaults, "hosts": tables, "rollout": {"at_once": 64}}
        (folder / "fleet.toml").write_text(tomli_w.dumps(document))
        (folder / "ssh_config").write_text("\n".join(blocks))
        return cls(lab, tuple(names), folder)

    @property
    def inventory(self) -> str:
        return str(self.folder / "fleet.toml")

    @property
    def ssh_config(self) -> Path:
        return self.folder / "ssh_config"

    @property
    def environment(self) -> dict[str, str]:
        """For `fleet`, and for Nix's own ssh."""
        return {"NIX_SSHOPTS": f"-F {self.ssh_config}", "XDG_STATE_HOME": str(self.folder / "state")}

    @contextlib.contextmanager
    def metered(self) -> Iterator[Callable[[Taken], Taken]]:
        """Gives what adds to a measurement inside what the hosts took for it, once it has ended."""
        before = self._counted()

        def metered(taken: Taken) -> Taken:
            cpu, started, wire, connections = (now - then for now, then in zip(self._counted(), before, strict=True))
            processes = round(started / len(self.names)) - 1  # the last look's own
            return dataclasses.replace(
                taken, hosts_cpu=cpu, processes=processes, wire=int(wire), connections=int(connections)
            )

        yield metered

    def _counted(self) -> tuple[float, ...]:
        """Seconds of processors, processes, bytes on the links and connections taken, of all hosts so far."""
        pids = [self.lab.host(name).container.attrs["State"]["Pid"] for name in self.names]
        started = sum(map(_newest_process, pids))  # before its own cost is in the next number
        return sum(map(_usage, pids)), started, sum(map(_bytes, pids)), sum(map(_connections, pids))

    def forget(self, closure: Closure, keep: Closure | None = None) -> None:
        """No host has anything of the closure, but for what `keep` has too, nor what a peer has made around it."""
        gone = sorted(set(closure.paths) - set(keep.paths if keep else ()))
        if not gone:
            return
        script = (
            f"set -- {' '.join(gone)}; "  # once: a single argument may have 128 KiB
            "rm -rf /nix/var/nix/gcroots/fleet; "
            'there=$(ls -d "$@" 2>/dev/null); '
            'there="$there $(nix-store --query --referrers-closure $there 2>/dev/null)"; '
            'test -z "${there# }" || nix-store --delete --ignore-liveness $there >/dev/null 2>&1; '
            f'test -z "$(nix-store --check-validity --print-invalid "$@" | wc -l | grep -vx {len(gone)})"'
        )
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda name: self.lab.host(name).exec("sh", "-c", script), self.names))


def _usage(pid: int) -> float:
    """Seconds of processors that the container of the process has taken. Its cgroup has those of `docker exec` too."""
    groups = Path(f"/proc/{pid}/cgroup").read_text()
    if first := re.search(r"^\d+:[\w,]*\bcpuacct\b[\w,]*:(.*?[0-9a-f]{64}(?:\.scope)?)", groups, re.MULTILINE):
        return int(Path(f"/sys/fs/cgroup/cpuacct{first[1]}/cpuacct.usage").read_text()) / 1e9
    second = re.search(r"^0::(.*?[0-9a-f]{64}(?:\.scope)?)", groups, re.MULTILINE)
    assert second
    found = re.search(r"^usage_usec (\d+)$", Path(f"/sys/fs/cgroup{second[1]}/cpu.stat").read_text(), re.MULTILINE)
    assert found
    return int(found[1]) / 1e6


def _newest_process(pid: int) -> int:
    """The highest number of a process or thread in the container of the process: this look's own."""
    look = ["nsenter", "-t", str(pid), "-p", "cat", "/proc/loadavg"]
    return int(subprocess.run(look, check=True, capture_output=True, text=True).stdout.split()[-1])


def _bytes(pid: int) -> int:
    """Bytes that the container of the process has received and sent."""
    lines = Path(f"/proc/{pid}/net/dev").read_text().splitlines()[2:]
    counts = {name.strip(): numbers.split() for name, _, numbers in (line.partition(":") for line in lines)}
    return sum(int(numbers[0]) + int(numbers[8]) for name, numbers in counts.items() if name != "lo")


def _connections(pid: int) -> int:
    """TCP connections that the container of the process has accepted."""
    names, numbers = (
        line.split() for line in Path(f"/proc/{pid}/net/snmp").read_text().splitlines() if line[:4] == "Tcp:"
    )
    return int(numbers[names.index("PassiveOpens")])


def _address(lab: Lab, name: str) -> str:
    return str(lab.host(name).container.attrs["NetworkSettings"]["Networks"]["bridge"]["IPAddress"])
