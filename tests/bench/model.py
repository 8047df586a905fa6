"""A model of 2 GB beside a system, for three hosts of one site: it crosses the link to the site once."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import tomli_w

from fleet.nix import quoted
from tests.bench import whole
from tests.bench.closures import ask
from tests.bench.hosts import Hosts
from tests.bench.measure import Taken, run
from tests.bench.peers import each
from tests.bench.push import FLEET, NIX
from tests.bench.report import Row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.bench.bench import Bench

SIZE = 2_000_000_000
BLOCK = 1 << 24
NAMES = ("whole-0", "whole-1", "whole-2")
CASE = "model of 2 GB, 3 hosts of a site"
PORT = 7397


def measure(bench: Bench) -> list[Row]:
    """The push of a system that names the model; beside it, `nix copy` of the model to each host. One round of each."""
    lab = bench.lab(*NAMES)
    with _weights(bench.folder) as path:
        listed = {"version": 1, "models": [_entry(path)]}
        more = f'files."etc/fleet/models.json" = {quoted(json.dumps(listed))};'
        closure = whole.built(bench, "model", more)
        hosts = Hosts.of(lab, NAMES, bench.folder / "site")
        _join(hosts)
        said = hosts.folder / "events"
        argv = [FLEET, "push", "--all", "--json", "-f", hosts.inventory, "--closure", closure.top]
        rows = []
        for tool, commands in {
            "fleet": [["sh", "-c", 'said=$1; shift; exec "$@" >"$said"', "sh", str(said), *argv]],
            "nix copy ssh-ng": each(*NIX, "copy", "--no-check-sigs", "--to", "ssh-ng://{host}", path)(hosts, path),
        }.items():
            before = _received(hosts)
            with hosts.metered() as metered:
                one = metered(run(commands, hosts.environment))
            everywhere = _received(hosts) - before
            wire = _pushed(said) if tool == "fleet" else everywhere
            _say(tool, one, wire, everywhere)
            rows.append(Row(CASE, tool, one, 1, len(NAMES), SIZE, wire))
            _forget(hosts, path)
        return rows


@contextlib.contextmanager
def _weights(folder: Path) -> Iterator[str]:
    """A file that nothing makes smaller, in this machine's store while inside."""
    file = folder / "bench.gguf"
    with file.open("wb") as weights:
        for start in range(0, SIZE, BLOCK):
            weights.write(os.urandom(min(BLOCK, SIZE - start)))
    (path,) = ask("nix-store", "--add-fixed", "sha256", str(file))
    file.unlink()
    try:
        yield path
    finally:
        subprocess.run(["nix-store", "--delete", "--ignore-liveness", path], check=False, capture_output=True)


def _entry(path: str) -> dict[str, object]:
    """What a system says of the model. It is in the store, so that nobody asks for the address."""
    known = {"license": "mit", "size": SIZE, "vram": None, "inClosure": False}
    return {"name": "bench.gguf", "path": path, "url": "http://127.0.0.1:1/bench.gguf", "hash": "sha256-A", **known}


def _join(hosts: Hosts) -> None:
    """The hosts are at one site."""
    document = tomllib.loads(Path(hosts.inventory).read_text())
    for table in document["hosts"].values():
        table |= {"site": "here", "site_address": f"{table['address']}:{PORT}"}
    Path(hosts.inventory).write_text(tomli_w.dumps(document))


def _received(hosts: Hosts) -> int:
    """The bytes that all hosts have received so far, from here and from each other."""
    counter = "/sys/class/net/eth0/statistics/rx_bytes"
    return sum(int(hosts.lab.host(name).exec("cat", counter).stdout) for name in hosts.names)


def _pushed(said: Path) -> int:
    """The bytes that were pushed from here, as the run has told."""
    events = [json.loads(line) for line in said.read_text().splitlines()]
    return sum(event["wire_bytes"] for event in events if event["event"] == "push_finished")


def _forget(hosts: Hosts, path: str) -> None:
    script = f"rm -rf /nix/var/nix/gcroots/fleet*; nix-store --delete --ignore-liveness {path}; ! test -e {path}"
    for name in hosts.names:
        hosts.lab.host(name).exec("sh", "-c", script)


def _say(tool: str, one: Taken, wire: int, everywhere: int) -> None:
    took = f"{one.wall:.1f} s, {one.cpu:.1f} s of CPU, {one.memory >> 20} MiB"
    received = f"{wire / 1e6:.1f} MB from here, {everywhere / 1e6:.1f} MB received by all hosts"
    print(f"  {CASE}: {tool}: {took}; {received}", file=sys.stderr, flush=True)
