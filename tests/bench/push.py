"""Pushes: cold to many hosts, and a small update over a long way."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.bench import closures
from tests.bench.hosts import Hosts
from tests.bench.measure import Taken, median, run
from tests.bench.peers import Commands, each, peers
from tests.bench.report import Row
from tests.pushes import relay

if TYPE_CHECKING:
    from tests.bench.bench import Bench
    from tests.bench.closures import Closure

FLEET = str(Path(sys.executable).with_name("fleet"))
NIX = ("nix", "--extra-experimental-features", "nix-command")


def tools() -> dict[str, Commands]:
    """The commands that bring a closure to hosts, with those of `PEERS`."""

    def fleet(*more: str) -> Commands:
        return lambda hosts, top: [[FLEET, "push", "--all", "--json", "-f", hosts.inventory, "--closure", top, *more]]

    return {
        "fleet": fleet(),
        "fleet --copy-with nix": fleet("--copy-with", "nix"),
        "nix copy ssh-ng": each(*NIX, "copy", "--no-check-sigs", "--to", "ssh-ng://{host}", "{closure}"),
        "nix-copy-closure": each("nix-copy-closure", "--to", "{host}", "{closure}"),
        **peers(),
    }


def compare(case: str, hosts: Hosts, closure: Closure, *, runs: int, keep: Closure | None = None) -> list[Row]:
    """All tools in turn, so that a drifting machine hits all alike; the first round only warms up."""
    chosen = tools()
    taken: dict[str, list[Taken]] = {name: [] for name in chosen}
    for number in range(runs + 1):
        for name, commands in chosen.items():
            hosts.forget(closure, keep)
            one = run(commands(hosts, closure.top), hosts.environment)
            if number:
                taken[name].append(one)
                _say(f"{case}: {name}: {one.wall:.2f} s, {one.cpu:.2f} s of CPU, {one.memory >> 20} MiB")
    hosts.forget(closure, keep)
    fresh = closure.nar_bytes - (_shared(closure, keep) if keep else 0)
    return [Row(case, name, median(all_of), runs, len(hosts.names), fresh) for name, all_of in taken.items()]


def _shared(closure: Closure, keep: Closure) -> int:
    paths = sorted(set(closure.paths) & set(keep.paths))
    done = subprocess.run(["nix-store", "--query", "--size", *paths], check=True, capture_output=True, text=True)
    return sum(map(int, done.stdout.split()))


def cold(bench: Bench) -> list[Row]:
    """300 MB in 150 paths, to so many hosts at once."""
    lab, folder = bench.lab(), bench.folder
    closure = closures.build(folder / "cold", lab.folder.path / "bin", count=150, size=2_000_000)
    names = [str(host.name) for host in lab.hosts]
    rows = []
    for count in bench.hosts:
        hosts = Hosts.of(lab, names[:count], folder / f"hosts-{count}")
        rows += compare(f"cold push, {count} hosts", hosts, closure, runs=bench.runs)
    return rows


def update(bench: Bench) -> list[Row]:
    """5 paths out of 1,000, at a round trip of 50 ms: with connecting, and on a connection that stands."""
    lab, folder, runs = bench.lab(), bench.folder, bench.runs
    old = closures.build(folder / "update", lab.folder.path / "bin", count=1000, size=8192)
    new = closures.build(folder / "update", lab.folder.path / "bin", count=1000, size=8192, new=5)
    name = str(lab.hosts[0].name)
    near = Hosts.of(lab, [name], folder / "near")
    run(tools()["fleet"](near, old.top), near.environment)
    with relay(lab, name, "--delay", "25ms") as port:
        far = Hosts.of(lab, [name], folder / "far", {name: port})
        rows = compare("update at 50 ms", far, new, runs=runs, keep=old)
        return rows + standing(far, new, old, runs=runs)


def standing(hosts: Hosts, new: Closure, old: Closure, *, runs: int) -> list[Row]:
    """The update without connecting: fleet's own connection, and OpenSSH's ControlMaster."""
    case = "update at 50 ms, connected"
    (name,) = hosts.names
    control = hosts.folder / "control"
    options = f"-F {hosts.folder / 'ssh_config'} -o ControlPath={control}"
    master = subprocess.Popen(["ssh", *options.split(), "-o", "ControlMaster=yes", "-N", name])
    env = {**hosts.environment, "NIX_SSHOPTS": options}
    check = ["sh", "-c", f"until ssh {options} -O check {name} 2>/dev/null; do sleep 0.1; done"]
    subprocess.run(check, check=True, stderr=subprocess.DEVNULL, timeout=20)
    peers = {tool: make for tool, make in tools().items() if "fleet" not in tool}
    peers["nix copy ssh"] = lambda _, top: [[*NIX, "copy", "--to", f"ssh://{name}", top]]
    taken: dict[str, list[Taken]] = {"fleet": [], **{tool: [] for tool in peers}}
    try:
        for _ in range(runs):
            hosts.forget(new, old)
            argv = [sys.executable, "-m", "tests.bench.engine", hosts.inventory, new.top]
            done = subprocess.run(argv, check=True, capture_output=True, text=True, env={**os.environ, **env})
            taken["fleet"].append(Taken(float(done.stdout)))
            for tool, commands in peers.items():
                hosts.forget(new, old)
                taken[tool].append(run(commands(hosts, new.top), env))
    finally:
        master.kill()  # it hears a gentler word only once its connection says something
        master.wait()
    for tool, all_of in taken.items():
        _say(f"{case}: {tool}: {', '.join(f'{one.wall:.3f}' for one in all_of)} s")
    return [Row(case, tool, median(all_of), runs, 1, new.nar_bytes) for tool, all_of in taken.items()]


def _say(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)
