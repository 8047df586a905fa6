"""Systems read by the real script: on folders with a stand-in for nix-store, and on a real store where there is Nix."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from fleet.diff import UnitsDiff, read_diff, read_system, read_texts
from fleet.diff.read import parse_system
from fleet.errors import FleetError
from fleet.machine import Command
from fleet.machine.local import LocalMachine
from fleet.model import Closure

if TYPE_CHECKING:
    from pathlib import Path

NIX_STORE = """#!/bin/sh
case $2 in
  --requisites) printf '%s\\n' "$3" /nix/store/0123456789abcdfghijklmnpqrsvwxyz-nginx-1.28.0 ;;
  --size) shift 2; for path; do echo "${#path}"; done ;;
esac
"""
TTY = r"dev-disk-by\x2dlabel-data.swap"


def write(path: Path, text: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def link(path: Path, target: str | Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)


def system(root: Path, *, motd: str = "hello\n", start: str = "/a", kernel: str = "k1") -> Closure:
    """A closure in the shape of NixOS: etc and its units are links into other folders."""
    store, top = root / "store", root / "system"
    link(top / "kernel", write(store / kernel, ""))
    write(top / "kernel-params", "quiet loglevel=4")
    link(top / "etc", store / "etc")
    link(store / "etc/motd", write(store / "motd", motd))
    write(store / "etc/hostname", "web")
    link(store / "etc/dangling", "/nonexistent")
    zone = write(store / "zones/UTC", "zone")
    for number in range(256):
        os.link(zone, store / f"zones/{number}")
    link(store / "etc/zoneinfo", store / "zones")
    write(store / "small/conf", "small")
    link(store / "etc/small", store / "small")
    write(store / "etc/huge", b"\0" * (1 << 20))
    units = store / "units"
    link(units / "nginx.service", write(store / "unit/nginx.service", f"[Service]\nExecStart={start}\n"))
    link(units / "web.service", "nginx.service")
    link(units / "multi-user.target.wants/nginx.service", "../nginx.service")
    link(units / "off.service", "/dev/null")
    write(units / "nginx.service.d/overrides.conf", "[Service]\nNice=1\n")
    write(units / TTY, "[Swap]\n")
    link(store / "etc/systemd/system", units)
    return Closure(str(top))


@pytest.fixture
def machine(tmp_path: Path) -> LocalMachine:
    write(tmp_path / "bin/nix-store", NIX_STORE).chmod(0o755)
    return LocalMachine({"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"})


async def test_a_system_is_read_by_one_script(machine: LocalMachine, tmp_path: Path) -> None:
    closure = system(tmp_path / "old")
    facts = await read_system(machine, closure)
    store = tmp_path / "old/store"
    assert facts.paths[closure] == len(closure)
    assert facts.parts == {"kernel": str(store / "k1"), "kernel-params": "quiet loglevel=4"}
    assert set(facts.etc) == {"motd", "hostname", "zoneinfo", "huge", "small/conf"}
    assert (facts.etc["zoneinfo"], facts.etc["huge"]) == (str(store / "zones"), str(store / "etc/huge"))
    assert set(facts.units) == {"nginx.service", "off.service", TTY}
    assert [path for path, _ in facts.units["nginx.service"]] == [
        "systemd/system/nginx.service",
        "systemd/system/nginx.service.d/overrides.conf",
    ]
    assert facts.wants == {"multi-user.target": {"nginx.service"}}


async def test_two_systems_are_compared_by_content(machine: LocalMachine, tmp_path: Path) -> None:
    old = system(tmp_path / "old")
    new = system(tmp_path / "new", motd="hello there\n", start="/b", kernel="k2")
    diff = await read_diff(machine, old, machine, new)
    assert diff.units == UnitsDiff(restart=("nginx.service",))
    assert [entry.path for entry in diff.etc] == ["huge", "motd", "zoneinfo"]
    patch = next(entry.patch for entry in diff.etc if entry.path == "motd")
    assert patch is not None
    assert patch[-2:] == ("-hello", "+hello there")
    assert diff.reboot == ("kernel",)


async def test_texts_are_bounded_and_binaries_are_not_text(machine: LocalMachine, tmp_path: Path) -> None:
    closure = system(tmp_path / "old", motd="ü" * 40_000)
    write(tmp_path / "old/store/etc/latin", b"gr\xfcn")
    unit = f"systemd/system/{TTY}"
    texts = await read_texts(machine, closure, ["hostname", "motd", "huge", "latin", "missing", "zoneinfo", unit])
    assert texts == {"hostname": "web", "motd": None, "huge": None, "latin": None, unit: "[Swap]\n"}


async def test_nothing_is_run_for_no_texts(tmp_path: Path) -> None:
    assert await read_texts(LocalMachine({"PATH": "/nonexistent"}), Closure("/x"), []) == {}


async def test_a_missing_closure_is_an_error_that_names_it(machine: LocalMachine) -> None:
    with pytest.raises(FleetError, match="/nonexistent/system"):
        await read_system(machine, Closure("/nonexistent/system"))


async def test_a_closure_is_never_shell_text(machine: LocalMachine, tmp_path: Path) -> None:
    with pytest.raises(FleetError):
        await read_system(machine, Closure(f"/x; touch {tmp_path}/owned; $(touch {tmp_path}/owned)"))
    assert not (tmp_path / "owned").exists()


def test_a_system_without_etc_has_no_files() -> None:
    facts = parse_system(Closure("/c"), "%paths\n/c\n%sizes\n5\n%parts\n")
    assert (facts.paths, facts.files) == ({"/c": 5}, {})


@pytest.mark.skipif(shutil.which("nix-store") is None, reason="needs Nix")
async def test_a_real_store_is_read(tmp_path: Path) -> None:
    environment = {
        "NIX_CONFIG": "build-users-group =",
        "NIX_STORE_DIR": str(tmp_path / "store"),
        "NIX_STATE_DIR": str(tmp_path / "var"),
        "NIX_LOG_DIR": str(tmp_path / "log"),
        "NIX_REMOTE": "local",
    }
    write(tmp_path / "system/etc/hostname", "web")
    command = Command(argv=("nix-store", "--add", str(tmp_path / "system")))
    added = await LocalMachine(environment).run(command)
    closure = Closure(added.stdout.strip())
    facts = await read_system(LocalMachine(environment), closure)
    assert facts.paths == {closure: facts.paths[closure]}
    assert facts.paths[closure] > 300
    assert set(facts.files) == {"hostname"}
