"""WholePaths deployments: one system to three and to eight hosts, from the push to the host that keeps it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import tomli_w

from tests.bench.closures import Closure, ask, known
from tests.bench.hosts import Hosts
from tests.bench.measure import Taken, median, run
from tests.bench.peers import Commands, each, once, peers
from tests.bench.push import FLEET
from tests.bench.report import Row

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.bench.bench import Bench

COUNTS = (3, 8)
PROFILE = "/nix/var/nix/profiles/system"
BY_HAND = (
    "nix-copy-closure --to {host} {closure} && ssh $NIX_SSHOPTS {host} "
    f"'nix-env -p {PROFILE} --set {{closure}} && {{closure}}/bin/switch-to-configuration switch'"
)
"""What people do without a deployer: nothing is proven, and nothing comes back."""
SYSTEM = """{{ busybox }}: {{
  version = "{version}";
  services.web.http = {{ port = 8080; body = "version {version}"; }};
  services.steady.exec = "${{busybox}} sleep inf";
  {more}
}}
"""


def measure(bench: Bench) -> list[Row]:
    """`fleet` as people run it, and without its five seconds of looking on, beside a deployment by hand."""
    lab = bench.lab(*(f"whole-{number}" for number in range(max(COUNTS))))
    old, new = (built(bench, version) for version in ("old", "new"))
    rows = []
    for count in COUNTS:
        hosts = Hosts.of(lab, [f"whole-{number}" for number in range(count)], bench.folder / f"whole-{count}")
        write_hasty(hosts)
        rows += compare(f"deployment, {count} hosts", hosts, old, new, bench.runs)
    return rows


def tools() -> dict[str, Commands]:
    """The commands that deploy a closure to hosts, with those of `PEERS`."""

    words = ("deploy", "--all", "--yes", "--json", "-f")

    def fleet(inventory: str) -> Commands:
        return lambda hosts, top: [[FLEET, *words, str(hosts.folder / inventory), "--closure", top]]

    evaluated = {"fleet, settle 0s, from the flake": once(FLEET, *words, "{flake}/fleet.toml")}
    return {
        "fleet": fleet("fleet.toml"),
        "fleet, settle 0s": fleet("hasty/fleet.toml"),
        **(evaluated if "{flake}" in os.environ.get("PEERS", "") else {}),
        "nix-copy-closure and switch": each("sh", "-c", BY_HAND),
        **peers(whole=True),
    }


def compare(case: str, hosts: Hosts, old: Closure, new: Closure, runs: int) -> list[Row]:
    """All tools in turn, each from the old system to the new one; the first round only warms up."""
    chosen = tools()
    taken: dict[str, list[Taken]] = {name: [] for name in chosen}
    put(hosts, old)
    for number in range(runs + 1):
        for name, commands in chosen.items():
            lines = commands(hosts, new.top)
            with hosts.metered() as metered:
                one = metered(run(lines, hosts.environment))
            _require(hosts, new)
            put(hosts, old)
            hosts.forget(new, old)
            there = f"{one.hosts_cpu:.2f} s of the hosts', {one.processes} processes on each, {one.wire} bytes"
            print(f"  {case}: {name}: {one.wall:.2f} s, {one.cpu:.2f} s of CPU, {there}", file=sys.stderr, flush=True)
            taken[name] += [one] if number else []
    return [Row(case, name, median(all_of), runs, len(hosts.names)) for name, all_of in taken.items()]


def built(bench: Bench, version: str, more: str = "") -> Closure:
    """A system with a web service, which a deployment to `whole-0` and its like brings."""
    lab = bench.lab("whole-0")
    lab.write_host("whole-0", SYSTEM.format(version=version, more=more))
    attribute = "nixosConfigurations.whole-0.config.system.build.toplevel"
    nix = ("nix", "--extra-experimental-features", "nix-command flakes", "build", "--json", "--no-link")
    (built,) = json.loads(" ".join(ask(*nix, f"path:{lab.folder.path}#{attribute}")))
    return known(built["outputs"]["out"])


def write_hasty(hosts: Hosts) -> None:
    """Write an inventory of the hosts whose deployments do not look on for five seconds: `hasty/fleet.toml`."""
    document = tomllib.loads(Path(hosts.inventory).read_text())
    document["defaults"]["settle"] = "0s"
    (hosts.folder / "hasty").mkdir()
    (hosts.folder / "hasty" / "fleet.toml").write_text(tomli_w.dumps(document))


def environment(hosts: Hosts) -> dict[str, str]:
    """The whole environment of a tool that deploys to the hosts."""
    return {**os.environ, **hosts.environment}


def put(hosts: Hosts, closure: Closure) -> None:
    """Every host runs, keeps and boots the closure, and has no other generation, without anybody's help."""
    known = 'nix-store --check-validity "$1" 2>/dev/null'
    # One generation: each is a boot entry, which every switch writes anew, and they would grow from round to round.
    only = f'nix-env -p {PROFILE} --set "$1" && nix-env -p {PROFILE} --delete-generations old 2>/dev/null'
    switch = f'{only} && "$1"/bin/switch-to-configuration switch 2>/dev/null'

    def put(name: str) -> None:
        execute = ["docker", "exec", "-i", hosts.lab.host(name).container.name]
        if subprocess.run(
            [*execute, "sh", "-c", known, "sh", closure.top], stdin=subprocess.DEVNULL, check=False
        ).returncode:
            with subprocess.Popen(["nix-store", "--export", *closure.paths], stdout=subprocess.PIPE) as export:
                subprocess.run(
                    [*execute, "nix-store", "--import"], stdin=export.stdout, check=True, stdout=subprocess.DEVNULL
                )
        subprocess.run([*execute, "sh", "-c", switch, "sh", closure.top], check=True, stdout=subprocess.DEVNULL)

    _everywhere(hosts.names, put)


def _require(hosts: Hosts, closure: Closure) -> None:
    """Raises `SystemExit` unless every host runs and keeps the closure: a tool that only says so would win."""

    def look(name: str) -> None:
        # A peer may keep a profile of its own that links to the system's files.
        files = [f"{place}/activate" for place in ("/run/current-system", PROFILE)]
        stands = hosts.lab.host(name).exec("readlink", "-f", *files).stdout.split()
        if stands != [f"{closure.top}/activate"] * 2:
            raise SystemExit(f"{name} does not stand on {closure.top}, but on {stands}")

    _everywhere(hosts.names, look)


def _everywhere(names: Sequence[str], act: Callable[[str], None]) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(act, names))
