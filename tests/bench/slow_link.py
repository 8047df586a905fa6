"""Pushes over a slow link, 10 Mbit/s and 50 ms there and back: security updates, and a mass rebuild.

What zstd alone would send, and how long the link takes for what went, are on stderr.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import re
import subprocess
import sys
import threading
import tomllib
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING

from fleet.lab.relay import Direction, Relay, delay, rate
from tests.bench import push
from tests.bench.closures import Closure, ask, made_of
from tests.bench.hosts import Hosts
from tests.bench.measure import Taken, median, run
from tests.bench.report import Row

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.bench.bench import Bench
    from tests.bench.peers import Commands

RATE, ONE_WAY = rate("10mbit"), delay("25ms")
PACKAGES = (
    "curl", "libcurl4", "openssh-server", "libc6", "openssl", "libssl3", "nginx", "systemd", "bind9-libs",
    "python3.11-minimal", "samba-libs", "qemu-system-x86",
)  # fmt: skip
"""Packages of Debian 12 that had security updates; those that this machine's apt offers in two versions are taken."""
PARTS, PART_SIZE = 1000, 56_000
REBUILT = """
let
  b = "${{builtins.path {{ path = {bin}; name = "bb"; }}}}/busybox";
  part = n: derivation {{
    name = "part-${{toString n}}-1.0";
    system = builtins.currentSystem;
    builder = b;
    # Machine code with names of other paths and of its own in between.
    args = [ "sh" "-ec" ''
      ${{b}} mkdir $out
      for piece in 0 1 2 3 4 5; do
        ${{b}} dd if=$data bs=$size skip=$piece count=1 2>/dev/null
        for path in $behind $out; do ${{b}} printf '%s/lib\\0' $path; done
      done > $out/code
      ${{b}} printf '%s\\n' $behind > $out/needs
    '' ];
    size = {size} / 6;
    data = builtins.path {{ path = {data} + "/${{toString n}}"; name = "data"; }};
    behind = if n == 0 then [ salt ] else map (at: builtins.elemAt parts at) (needs n);
  }};
  needs = n: builtins.filter (at: at >= 0) [ (n - 1) (n - 2) (n / 2) (n / 3) ];
  salt = builtins.toFile "salt" "{salt}";
  parts = builtins.genList part {count};
in parts
"""


ROOTED = "mkdir -p /nix/var/nix/gcroots/fleet && ln -sfn $1 /nix/var/nix/gcroots/fleet/staged"
"""What a push leaves behind, which tells the next one what the host has."""


def security(bench: Bench) -> list[Row]:
    """Packages of Debian, in the newest version and the one before."""
    folder = bench.folder / "security"
    bin_folder = bench.lab().folder.path / "bin"
    pairs = {name: both for name in PACKAGES if (both := _versions(name))}
    if not pairs:
        raise SystemExit("security: apt offers no package in two versions here; apt-get update?")
    _say(f"security: {', '.join(f'{name} {old} to {new}' for name, (old, new) in pairs.items())}")
    trees = {at: [_unpacked(folder, name, both[at]) for name, both in pairs.items()] for at in (0, 1)}
    old, new = (made_of(_paths(trees[at]), "security", bin_folder) for at in (0, 1))
    return _compare("security updates", bench, old, new)


def rebuild(bench: Bench) -> list[Row]:
    """1,000 paths of which only the names of paths inside have changed."""
    folder = bench.folder / "rebuild"
    bin_folder = bench.lab().folder.path / "bin"
    _machine_code(folder)
    closures = []
    for salt in ("old", "new"):
        parts = REBUILT.format(bin=bin_folder, data=folder, size=PART_SIZE, count=PARTS, salt=salt)
        closures.append(made_of(parts, "rebuild", bin_folder))
    return _compare("mass rebuild", bench, *closures)


def _versions(name: str) -> tuple[str, str] | None:
    """The version before the newest that apt offers, and the newest."""
    offered = {line.split("|")[1].strip() for line in _lines("apt-cache", "madison", name)}

    def compare(one: str, other: str) -> int:
        return -1 if not subprocess.run(["dpkg", "--compare-versions", one, "lt", other]).returncode else 1

    ordered = sorted(offered, key=functools.cmp_to_key(compare))
    return (ordered[-2], ordered[-1]) if len(ordered) > 1 else None


def _unpacked(folder: Path, name: str, version: str) -> tuple[str, Path]:
    """The package as a folder, and the name that NixOS would give it."""
    tree = folder / re.sub(r"[^0-9a-zA-Z+._=-]", "-", f"{name}-{version.rpartition(':')[2]}")
    if not tree.exists():
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(["apt-get", "-qq", "download", f"{name}={version}"], cwd=folder, check=True)
        (package,) = folder.glob("*.deb")
        subprocess.run(["dpkg-deb", "-x", str(package), str(tree)], check=True)
        package.unlink()
    return tree.name, tree


def _paths(trees: Sequence[tuple[str, Path]]) -> str:
    added = (f'(builtins.path {{ path = {tree}; name = "{name}"; }})' for name, tree in trees)
    return f"[ {' '.join(added)} ]"


def _machine_code(folder: Path) -> None:
    """A file of this machine's own libraries for each part."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = PARTS * PART_SIZE
    code = b""
    for file in sorted(Path("/usr/lib").rglob("*.so*")):
        if len(code) < wanted and file.is_file() and not file.is_symlink():
            code += file.read_bytes()
    for number in range(PARTS):
        (folder / str(number)).write_bytes(code[number * PART_SIZE % len(code) :][:PART_SIZE])


def _compare(case: str, bench: Bench, old: Closure, new: Closure) -> list[Row]:
    """The same closure over the same link, from the same old one: by fleet with deltas, and by others."""
    lab = bench.lab()
    name = str(lab.hosts[0].name)
    near = Hosts.of(lab, [name], bench.folder / "near")
    run(push.tools()["fleet"](near, old.top), near.environment)
    fresh = sorted(set(new.paths) - set(old.paths))
    nar_bytes = sum(map(int, ask("nix-store", "--query", "--size", *fresh)))
    alone = sum(int(ask("sh", "-c", 'nix-store --dump "$1" | zstd -3c | wc -c', "sh", path)[0]) for path in fresh)
    _say(f"{case}: {len(fresh)} paths, {nar_bytes / 1e6:.1f} MB of NARs, zstd -3 makes {alone / 1e6:.2f} MB of each")
    port = tomllib.loads(lab.folder.inventory.read_text())["hosts"][name]["port"]
    rows = []
    with _relay(port) as link:
        far = Hosts.of(lab, [name], bench.folder / f"far-{case[:4]}", {name: link.port})
        file = Path(far.inventory)
        file.write_text(file.read_text().replace("[defaults]", '[defaults]\nlink = "slow"'))
        for tool, commands in _tools().items():
            taken, wire = [], []
            runs = bench.runs if tool == "fleet" else 1  # what goes is always the same, and takes minutes
            for number in range(runs):
                far.forget(new, old)
                lab.host(name).exec("sh", "-c", ROOTED, "sh", old.top)
                empty = {"XDG_CACHE_HOME": str(far.folder / f"cache-{number}")}
                passed = link.passed
                taken.append(run(commands(far, new.top), far.environment | empty))
                wire.append(link.passed - passed)
                _say(_told(tool, taken[-1], wire[-1], nar_bytes, alone))
            rows.append(Row(case, tool, median(taken), runs, 1, nar_bytes, sorted(wire)[len(wire) // 2]))
        far.forget(new, old)
    return rows


def _tools() -> dict[str, Commands]:
    return {name: commands for name, commands in push.tools().items() if "--copy-with" not in name}


def _told(tool: str, taken: Taken, wire: int, nar_bytes: int, alone: int) -> str:
    ideal = wire / RATE
    return (
        f"{tool}: {wire / 1e6:.3f} MB went: {wire / nar_bytes:.4f} of the NARs, {wire / alone:.3f} of zstd -3; "
        f"{taken.wall:.2f} s, {taken.wall / ideal:.2f} of what the link takes for that; "
        f"{taken.cpu:.2f} s of CPU, {taken.memory >> 20} MiB"
    )


class _Link:
    """A relay in a thread of its own, whose bytes are counted."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self.port = 0

    @property
    def passed(self) -> int:
        """Bytes that went to the host so far, with all that SSH adds."""
        return self._relay.up.passed


@contextlib.contextmanager
def _relay(target: int) -> Iterator[_Link]:
    link = _Link(Relay(target, Direction(RATE, ONE_WAY), Direction(RATE, ONE_WAY)))
    loop = asyncio.new_event_loop()
    listening: Future[int] = Future()

    async def serve() -> None:
        server = await link._relay.serve(0)
        listening.set_result(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    task = loop.create_task(serve())
    thread = threading.Thread(target=lambda: loop.run_until_complete(asyncio.gather(task, return_exceptions=True)))
    thread.start()
    try:
        link.port = listening.result(10)
        yield link
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join()
        loop.close()


def _lines(*argv: str) -> list[str]:
    return subprocess.run(argv, capture_output=True, text=True, check=False).stdout.splitlines()


def _say(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)
