"""A push over a slow link through the shell program on the host, against the Nix and the zstd that are here."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from fleet.errors import PushError
from fleet.events import FindingReported
from fleet.host.facts import HostFacts
from fleet.inventory import Host
from fleet.machine import Command, Output
from fleet.machine.patched import PLAIN
from fleet.machine.pipe import LocalStreams
from fleet.model import Closure, HostName, RunId
from fleet.steps import deliver as deliver_step
from fleet.steps.deliver import Delivery, deliver
from fleet.steps.slow_link import MOST_DOUBTS, SlowLinks
from fleet.store.deltas.cache import Cache
from fleet.store.send import Progress
from fleet.store.supply import Supply
from tests.contract.host_functions import SHELLS
from tests.contract.links import Linked, over_ssh
from tests.fakes import Events
from tests.waiting import becomes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

HOST = Host(name=HostName("pi-1"))
SIZES = (5_000_000, 900_000, 300_000, 40_000, 3_000)


def nix_store(*argv: str) -> list[str]:
    return subprocess.run(["nix-store", *argv], check=True, capture_output=True, text=True).stdout.split()


def forget(*paths: str) -> None:
    """What a test has damaged here is gone."""
    subprocess.run(["nix-store", "--delete", "--ignore-liveness", *paths], capture_output=True)


def left_behind() -> list[Path]:
    return list(Path("/run").glob("fleet-delta.*"))


def bytes_of(paths: Sequence[str]) -> int:
    return sum(map(int, nix_store("--query", "--size", *paths)))


def closure(folder: Path, version: str, seed: int) -> str:
    """The top of a tree of packages whose bytes hardly change with the version."""
    code = random.Random(seed)
    trees = []
    for number, size in enumerate(SIZES):
        tree = folder / f"tool{number}-x{seed}-{version}"
        tree.mkdir(parents=True)
        data = bytearray(code.randbytes(size))
        data[size // 3 : size // 3 + 20] = f"version {version}".encode().ljust(20)
        (tree / "code").write_bytes(data + b"more" * int(version[-1]))
        trees.append(str(tree))
    paths = nix_store("--add", *trees)
    text = f'builtins.toFile "tools-{version}" "{seed} {" ".join(f"${{builtins.storePath {path}}}" for path in paths)}"'
    argv = ["nix-instantiate", "--eval", "--read-write-mode", "--json", "--expr", text]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip().strip('"')


class Target(Linked):
    """A machine whose Nix knows a folder as its store. `tools` come before all others in its PATH."""

    def __init__(self, folder: Path) -> None:
        self.root, self.tools = folder / "root", folder / "tools"
        self.cuts: list[int] = []
        self.streams = 0
        self.tools.mkdir(parents=True)
        self.tool("timeout", f'shift; exec {shutil.which("timeout")} 1 "$@"')
        nix_store("--store", str(self.root), "--init")
        self.tool("nix-store", f'exec {shutil.which("nix-store")} --store {self.root} "$@"')

    def tool(self, name: str, script: str) -> None:
        (self.tools / name).write_text(f"#!/bin/sh\n{script}\n")
        (self.tools / name).chmod(0o755)

    def stream(self, command: Command) -> Any:
        self.streams += 1
        path = f"PATH={self.tools}:{os.environ['PATH']}"
        return super().stream(Command(argv=("env", path, *command.argv)))

    async def run(self, command: Command, **_: object) -> Output:
        if command.argv[0] != "nix-store":
            return Output(status=0)
        return self.query(command.argv[1:])

    def query(self, words: Sequence[str]) -> Output:
        done = subprocess.run([str(self.tools / "nix-store"), *words], capture_output=True, text=True)
        return Output(status=done.returncode, stdout=done.stdout)

    def file(self, path: str) -> Path:
        """The file of that store path's code, where this store has it."""
        return self.root / path[1:] / "code"

    def has(self, top: str) -> bool:
        """Whether it has all of the closure, every byte as it should be."""
        there = nix_store("--store", str(self.root), "--query", "--requisites", top)
        nix_store("--store", str(self.root), "--verify-path", *there)
        return sorted(there) == sorted(nix_store("--query", "--requisites", top))


def facts(running: str) -> HostFacts:
    system = Closure(running)
    return HostFacts(
        machine="x86_64", nix="2.18", store_writable=True, running=system, profile=system, generation="1",
        booted=running, boot_default=None, nix_free=1 << 40, boot_free=None, has_zstd=True,
    )  # fmt: skip


async def push(target: Target, top: str, *, running: str = "", folder: Path) -> tuple[Progress, Events]:
    """All that the host lacks of the closure has gone over a slow link."""
    progress, events = Progress(), Events()
    async with Supply(LocalStreams()) as supply, SlowLinks(supply, lambda: Cache(folder / "cache")) as slow:
        transport = await slow.transport(target, HOST, facts(running), emit=events)
        delivery = Delivery(
            host=HOST, run=RunId("20261120T000000-abcdef"), wanted=(top,), tops=(top,), transport=transport
        )
        await deliver(target, supply, delivery, progress)
    assert target.has(top)
    assert left_behind() == []
    return progress, events


@pytest.fixture
def versions(tmp_path: Path) -> tuple[str, str]:
    seed = random.randrange(1 << 60)
    return closure(tmp_path / "trees", "1.0", seed), closure(tmp_path / "trees", "1.1", seed)


@pytest.fixture
async def target(tmp_path: Path, versions: tuple[str, str]) -> Target:
    """A host that has the old version."""
    target = Target(tmp_path / "host")
    progress, _ = await push(target, versions[0], folder=tmp_path)
    assert progress.sent > sum(SIZES)  # bytes without any order, against nothing
    return target


async def test_an_update_goes_as_differences(target: Target, versions: tuple[str, str], tmp_path: Path) -> None:
    old, new = versions
    progress, events = await push(target, new, running=old, folder=tmp_path)
    assert progress.sent < 10_000
    assert progress.sent == progress.total
    assert progress.paths == progress.arrived == len(SIZES) + 1
    assert progress.nar_bytes == bytes_of(sorted(set(nix_store("-qR", new)) - set(nix_store("-qR", old))))
    assert events == []
    again, _ = await push(target, new, running=old, folder=tmp_path)
    assert again.sent < 2000


@pytest.mark.parametrize("plain", ["0", "1"], ids=["patched", "plain"])
async def test_an_update_goes_as_differences_over_ssh(
    target: Target, versions: tuple[str, str], tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch, plain: str
) -> None:
    monkeypatch.setenv(PLAIN, plain)
    async with over_ssh() as target.below:
        progress, events = await push(target, versions[1], running=versions[0], folder=tmp_path)
    assert progress.sent < 10_000
    assert events == []


async def test_a_base_is_found_also_where_the_host_names_none(
    target: Target, versions: tuple[str, str], tmp_path: Path
) -> None:
    progress, _ = await push(target, versions[1], folder=tmp_path)
    assert progress.sent < 10_000


async def test_what_the_host_runs_is_asked_for_where_it_is_not_here(
    target: Target, versions: tuple[str, str], tmp_path: Path
) -> None:
    """Somebody else has pushed it: only its packages are known here."""
    old, new = versions
    target.tool(
        "nix-store",
        f'case "$*" in *--requisites*) shift 3; set -- --query --requisites {old} ;; esac\n'
        f'exec {shutil.which("nix-store")} --store {target.root} "$@"',
    )
    progress, _ = await push(target, new, running=f"/nix/store/{'0' * 32}-elsewhere", folder=tmp_path)
    assert progress.sent < 10_000


def damaged(target: Target, path: str) -> None:
    file = target.file(path)
    file.chmod(0o644)
    data = bytearray(file.read_bytes())
    data[10:] = os.urandom(len(data) - 10)
    file.write_bytes(data)


def shorter(target: Target, path: str) -> None:
    target.file(path).chmod(0o644)
    os.truncate(target.file(path), 100)


def gone(target: Target, path: str) -> None:
    shutil.rmtree(target.root / path[1:])


@pytest.mark.parametrize("harm", [damaged, shorter, gone])
async def test_a_base_that_is_no_good_there_is_done_without(
    target: Target, versions: tuple[str, str], tmp_path: Path, harm: Callable[[Target, str], None]
) -> None:
    old, new = versions
    victim = next(path for path in nix_store("-qR", old) if "-tool1-" in path)
    harm(target, victim)
    progress, events = await push(target, new, running=old, folder=tmp_path)
    assert sum(SIZES[1:2]) < progress.sent < sum(SIZES[1:]) + 2_100_000  # its group, and one piece of the large one
    (told,) = events.of(FindingReported)
    assert "did not fit" in told.message


async def test_a_base_that_is_damaged_here_is_done_without(
    target: Target, versions: tuple[str, str], tmp_path: Path
) -> None:
    old, new = versions
    victim = next(path for path in nix_store("-qR", old) if "-tool1-" in path)
    file = Path(victim) / "code"
    file.chmod(0o644)
    file.write_bytes(os.urandom(file.stat().st_size))
    await push(target, new, running=old, folder=tmp_path)
    forget(victim, old)


async def test_when_nothing_fits_all_goes_without_bases(
    target: Target, versions: tuple[str, str], tmp_path: Path
) -> None:
    old, new = versions
    for path in nix_store("-qR", old):
        if target.file(path).exists():
            damaged(target, path)
    progress, events = await push(target, new, running=old, folder=tmp_path)
    assert progress.sent > sum(SIZES)
    assert 1 <= len(events) <= MOST_DOUBTS


@pytest.mark.parametrize(
    ("script", "message"),
    [
        pytest.param("exit 1", "cannot read what is compressed", id="too old"),
        pytest.param("kill -KILL $$", "cannot read what is compressed", id="killed"),
    ],
)
async def test_a_zstd_that_does_not_work_is_done_without_and_told_once(
    target: Target, versions: tuple[str, str], tmp_path: Path, script: str, message: str
) -> None:
    old, new = versions
    target.tool("zstd", script)
    progress, events = await push(target, new, running=old, folder=tmp_path)
    assert progress.sent > sum(SIZES)
    (told,) = events.of(FindingReported)
    assert message in told.message
    assert target.streams == 3  # the old version, the deltas, the whole


async def test_without_a_base_that_zstd_can_read_what_is_only_compressed_still_goes(
    target: Target, versions: tuple[str, str], tmp_path: Path
) -> None:
    """As with a zstd before 1.4.5."""
    old, new = versions
    target.tool("zstd", f'case "$*" in *--patch-from*) exit 1 ;; esac; exec {shutil.which("zstd")} "$@"')
    progress, events = await push(target, new, running=old, folder=tmp_path)
    assert sum(SIZES) < progress.sent < 2.5 * sum(SIZES)
    assert len(events) <= MOST_DOUBTS


async def test_a_link_that_is_cut_at_any_byte_loses_nothing(
    target: Target, versions: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliver_step, "PAUSE", 0.0)
    target.cuts = [100, 900, 1700, 2300]
    _, events = await push(target, versions[1], running=versions[0], folder=tmp_path)
    assert target.cuts == []
    assert events == []


async def test_what_is_wrong_here_is_refused_there(target: Target, versions: tuple[str, str], tmp_path: Path) -> None:
    old, new = versions
    victim = next(path for path in nix_store("-qR", new) if "-tool1-" in path)
    file = Path(victim) / "code"
    file.chmod(0o644)
    data = bytearray(file.read_bytes())
    data[1000] ^= 1
    file.write_bytes(data)
    with pytest.raises(PushError, match="hash mismatch"):
        await push(target, new, running=old, folder=tmp_path)
    forget(new, victim)


@pytest.mark.timeout(30)  # a host that holds the connection lets nobody go on
async def test_when_the_store_that_is_written_to_ends_the_connection_does(target: Target) -> None:
    from fleet.store.deltas.send import receiver

    target.tool("nix-store", 'case "$*" in *--write*) exit 7 ;; esac; exec cat')
    async with target.stream(Command(argv=("sh", "-c", receiver()))) as stream:
        assert await stream.read(1) == b""
        assert (await stream.ended()).status == 7


async def test_a_program_that_ends_in_the_middle_leaves_nothing(target: Target) -> None:
    from fleet.store.deltas.send import receiver

    async with target.stream(Command(argv=("sh", "-c", receiver()))) as stream:
        await stream.write(b"take 5\n")
    await becomes(lambda: not left_behind())  # other tests may be receiving just now


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("orders", "told"),
    [
        ("drop a[$(touch ran)]\n", "cannot drop so much"),
        ("skip a[$(touch ran)]\n", "cannot skip so much"),
        ("take -1\n", "cannot take so much"),
        ("take 08\n", "cannot take so much"),
        ("take 16000000\ntake 1000000\n", "cannot take"),
    ],
)
def test_orders_run_nothing_and_fill_no_memory(tmp_path: Path, shell: str, orders: str, told: str) -> None:
    """Behind a gate whoever sends them has no shell there, and /run is everybody's."""
    from fleet.store.deltas.send import receiver

    tool = tmp_path / "nix-store"
    tool.write_text('#!/bin/sh\ncase "$*" in *--write*) exec cat ;; *) exec cat /dev/zero ;; esac\n')
    tool.chmod(0o755)
    (tmp_path / "place").mkdir()
    argv = [*shell.split(), "-c", receiver(), "sh", str(tmp_path / "place")]
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(
        argv, input=orders, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False
    )
    assert f"fleet-delta: {told}\n" in done.stderr
    assert not (tmp_path / "ran").exists()
    assert not list((tmp_path / "place").iterdir())
