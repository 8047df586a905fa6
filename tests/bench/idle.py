"""Deployments that have nothing to do: to real lab hosts, and to many simulated ones."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import asyncssh
import tomli_w

from fleet.machine import CONTACTS
from tests.bench.closures import ask
from tests.bench.measure import Taken, median, run
from tests.bench.push import FLEET
from tests.bench.report import Row
from tests.bench.simulate import Simulated, simulated

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fleet.lab.hosts import LabHost
    from tests.bench.bench import Bench

EACH = 64 << 20
"""Bytes of memory that a lab host may come to take here: it begins with 18 MB."""
WATCHES = 6
"""inotify instances of a lab host's systemd, which it does not live without. All containers share the limit."""
FLAKE = """{
  outputs = { self }:
    let
      hosts = (builtins.fromTOML (builtins.readFile ./fleet.toml)).hosts;
      system = derivation {
        name = "nixos-system-idle";
        system = "x86_64-linux";
        builder = "/bin/sh";
        args = [ "-c" "echo > $out" ];
      };
    in
    { nixosConfigurations = builtins.mapAttrs (_: _: { config.system.build.toplevel = system; }) hosts; };
}
"""


@dataclass(frozen=True)
class Idle:
    """Hosts that stand on what is deployed to them."""

    folder: Path
    hosts: Mapping[str, Simulated]
    key: Path
    rollout: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        tables = {name: {"port": host.port, "host_key": host.host_key} for name, host in self.hosts.items()}
        defaults = {"address": "127.0.0.1", "user": "root", "identity_file": str(self.key), "substitute": False}
        document = {"fleet": {"name": "idle"}, "defaults": defaults, "rollout": self.rollout, "hosts": tables}
        (self.folder / "fleet.toml").write_text(tomli_w.dumps(document))
        bare = [{"port": host.port, "host_key": host.host_key, "key": str(self.key)} for host in self.hosts.values()]
        (self.folder / "bare.json").write_text(json.dumps(bare))
        blocks = [
            f"Host {name}\n  HostName 127.0.0.1\n  Port {host.port}\n  User root\n  IdentityFile {self.key}\n"
            "  IdentitiesOnly yes\n  StrictHostKeyChecking no\n  UserKnownHostsFile /dev/null\n  LogLevel ERROR\n"
            for name, host in self.hosts.items()
        ]
        (self.folder / "ssh_config").write_text("\n".join(blocks))
        (self.folder / "names").write_text("".join(f"{name}\n" for name in self.hosts))

    @property
    def environment(self) -> dict[str, str]:
        """Nothing of this user's is read or written."""
        home = f"{self.folder}-home"  # not in the folder: that is the flake
        return {"HOME": home, "XDG_STATE_HOME": f"{home}/state", "XDG_CACHE_HOME": f"{home}/cache"}

    def fleet(self, *more: str) -> list[str]:
        """A deployment to all of them."""
        return [FLEET, "deploy", "--all", "--yes", "--json", "-f", str(self.folder / "fleet.toml"), *more]

    @property
    def bare(self) -> list[str]:
        """The least that asyncssh can do: connect to each, and run `true`."""
        return [sys.executable, "-m", "tests.bench.bare", str(self.folder / "bare.json"), str(CONTACTS)]

    @property
    def openssh(self) -> list[str]:
        """The same by OpenSSH, a process each."""
        script = f"xargs -P {CONTACTS} -I {{}} ssh -F {self.folder}/ssh_config {{}} true <{self.folder}/names"
        return ["sh", "-c", script]

    def measure(self, case: str, tools: Mapping[str, Sequence[str]], runs: int) -> list[Row]:
        """All tools in turn; the first round only warms up."""
        taken: dict[str, list[Taken]] = {name: [] for name in tools}
        for number in range(runs + 1):
            for name, argv in tools.items():
                one = run([argv], self.environment)
                _say(f"{case}: {name}: {one.wall:.2f} s, {one.cpu:.2f} s of CPU, {one.memory >> 20} MiB")
                taken[name] += [one] if number else []
        return [Row(case, name, median(all_of), runs, len(self.hosts)) for name, all_of in taken.items()]


def measure(bench: Bench) -> list[Row]:
    """On lab hosts, as many as there is room for, and on simulated ones."""
    rows = []
    if bench.idle:
        rows += on_lab(bench, "no-op, {} lab hosts")
    if bench.simulated:
        rows += on_simulated(bench, "no-op, {} simulated hosts")
    return rows


def on_simulated(bench: Bench, case: str) -> list[Row]:
    """From a flake that has not changed, and evaluated anew; beside bare asyncssh."""
    folder = bench.folder / "simulated"
    key = make_key(folder)
    (folder / "flake.nix").write_text(FLAKE)
    (folder / "fleet.toml").write_text("[hosts.one]\n")  # what it lists does not change the system
    attribute = f"path:{folder}#nixosConfigurations.one.config.system.build.toplevel"
    (system,) = ask(
        "nix", "--extra-experimental-features", "nix-command flakes", "eval", "--raw", f"{attribute}.outPath"
    )
    with simulated(bench.simulated, system, key) as hosts:
        idle = Idle(folder, {f"host-{number}": host for number, host in enumerate(hosts)}, key)
        tools = {
            "fleet": idle.fleet(),
            "fleet --no-eval-cache": idle.fleet("--no-eval-cache"),
            "asyncssh, connect and true": idle.bare,
        }
        return idle.measure(case.format(len(hosts)), tools, bench.runs)


def on_lab(bench: Bench, case: str) -> list[Row]:
    """Hosts that run what the lab's image has, beside bare asyncssh and OpenSSH."""
    count = min(bench.idle, _room())
    if count < bench.idle:
        _say(f"there is room for {count} lab hosts, not for {bench.idle}: each takes 64 MiB, and {WATCHES} inotify")
        _say("instances, of which sysctl fs.inotify.max_user_instances=1024 gives more")
    if not count:
        return []
    names = [f"idle-{number}" for number in range(count)]
    lab = bench.lab(*names)
    closure = lab.host(names[0]).exec("readlink", "-f", "/run/current-system").stdout.strip()
    _fetch(lab.host(names[0]), closure)
    known = tomllib.loads(lab.folder.inventory.read_text())["hosts"]
    hosts = {name: Simulated(known[name]["port"], known[name]["host_key"]) for name in names}
    idle = Idle(bench.folder / "idle", hosts, lab.folder.path / "keys/id_ed25519")
    tools = {
        "fleet": idle.fleet("--closure", closure),
        "asyncssh, connect and true": idle.bare,
        "ssh HOST true": idle.openssh,
    }
    return idle.measure(case.format(count), tools, bench.runs)


def make_key(folder: Path) -> Path:
    """The folder is made, and the key in it that hosts let in."""
    folder.mkdir()
    key = asyncssh.generate_private_key("ssh-ed25519")
    key.write_private_key(folder / "key")
    key.write_public_key(folder / "key.pub")
    return folder / "key"


def _fetch(host: LabHost, closure: str) -> None:
    """The closure is in the local store, where `--closure` wants it."""
    script = 'nix-store --export $(nix-store --query --requisites "$1")'
    export = ["docker", "exec", host.container.name, "sh", "-c", script, "sh", closure]
    taken = subprocess.run(export, check=True, capture_output=True)
    subprocess.run(["nix-store", "--import"], input=taken.stdout, check=True, stdout=subprocess.DEVNULL)


def _room() -> int:
    """How many more lab hosts this machine can have."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    free = next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable"))
    most = int(Path("/proc/sys/fs/inotify/max_user_instances").read_text())
    taken = sum(_is_inotify(link) for link in Path("/proc").glob("[0-9]*/fd/*"))
    return max(0, min(free // EACH, (most - taken) // WATCHES))


def _is_inotify(link: Path) -> bool:
    try:
        return str(link.readlink()) == "anon_inode:inotify"
    except OSError:  # it was closed meanwhile
        return False


def _say(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)
