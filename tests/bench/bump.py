"""Deployments of a system as large as a small server's to eight hosts: all of it, an update, and nothing new."""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING

from tests.bench import closures, whole
from tests.bench.hosts import Hosts

if TYPE_CHECKING:
    from tests.bench.bench import Bench
    from tests.bench.closures import Closure
    from tests.bench.report import Row

PARTS, SIZE = 294, 310_000
"""With what a lab system has besides, 311 paths and 92 MB."""
NEW, NEW_SIZE = 6, 200_000
"""With what always changes between two systems, 10 paths and 1.2 MB."""
SYSTEM = """
import {lab}/system.nix {{
  name = "bump";
  system = builtins.currentSystem;
  config = {{ busybox }}: {{
    version = "{version}";
    services.web.http = {{ port = 8080; body = "version {version}"; }};
    services.steady.exec = "${{busybox}} sleep inf";
    files."etc/parts" = toString ({parts} ++ {fresh});
  }};
}}
"""


def first(bench: Bench) -> list[Row]:
    """Hosts that have nothing of it."""
    return _compare(
        "first deployment", _hosts(bench, "first"), whole.built(bench, "old"), _system(bench, "1"), bench.runs
    )


def bump(bench: Bench) -> list[Row]:
    """Hosts that have all but ten paths of it, and hosts that have it."""
    hosts, old, new = _hosts(bench, "bump"), _system(bench, "1"), _system(bench, "2")
    return _compare("bump", hosts, old, new, bench.runs) + _compare("nothing new", hosts, new, new, bench.runs)


def _compare(case: str, hosts: Hosts, old: Closure, new: Closure, runs: int) -> list[Row]:
    fresh = set(new.paths) - set(old.paths)
    print(f"  {case}: {len(fresh)} of {len(new.paths)} paths", file=sys.stderr, flush=True)
    return whole.compare(f"{case}, {len(hosts.names)} hosts", hosts, old, new, runs)


def _hosts(bench: Bench, folder: str) -> Hosts:
    names = [f"whole-{number}" for number in range(bench.together)]
    hosts = Hosts.of(bench.lab(*names), names, bench.folder / folder)
    whole.write_hasty(hosts)
    return hosts


def _system(bench: Bench, version: str) -> Closure:
    lab = bench.lab("whole-0").folder.path
    made = functools.partial(closures.parts, bin_folder=lab / "bin")
    parts = made(bench.folder / "same", count=PARTS, size=SIZE)
    fresh = made(bench.folder / f"fresh-{version}", count=NEW, size=NEW_SIZE)
    return closures.evaluated(SYSTEM.format(lab=lab, version=version, parts=f"({parts})", fresh=f"({fresh})"))
