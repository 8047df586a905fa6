"""`fleet push`: closures wait on the host, safe from its garbage collector, and nothing else has changed."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.containers.driver import WEB, Run, Stage, answer, new_version, running, stands_on, wait_until, web

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fleet.lab import Lab, LabHost
    from tests.containers.conftest import MakeLab


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Lab:
    return make_lab("pushed")


def test_push_stages_only_and_what_it_staged_survives_the_garbage_collector(stage: Stage) -> None:
    host, old = stage.host("pushed"), running(stage.host("pushed"))
    version = new_version()
    stage.write("pushed", web(version))
    stage.toml({"pushed": {"checks": [WEB]}})
    run = stage.fleet("push", "pushed", "--json")
    closure = run.hosts["pushed"]["closure"]
    assert (run.code, run.outcomes) == (0, {"pushed": "staged"})
    assert stands_on(host, old)
    host.exec("nix-collect-garbage")
    assert host.exec("nix-store", "--verify-path", closure).status == 0
    kept = stage.deploy("pushed")
    assert kept.code == 0
    assert kept.told("host_planned")[0]["missing_paths"] == 0
    assert answer(host) == f"version {version}"
    host.exec("nix-collect-garbage", "-d")  # not even the generations are left: `previous` is
    assert host.exec("nix-store", "--verify-path", old).status == 0
    assert stage.fleet("rollback", "pushed", "--json").code == 0
    assert stands_on(host, old)


BIG = """
derivation {
  name = "nixos-system-pushed-big";
  system = "x86_64-linux";
  builder = "${builtins.path { path = ./bin; name = "bb"; }}/busybox";
  args = [ "sh" "-ec" ''
    b=${builtins.path { path = ./bin; name = "bb"; }}/busybox
    $b mkdir -p $out/bin
    $b dd if=/dev/zero of=$out/big bs=1M count=48 2>/dev/null
    $b touch $out/nixos-version $out/bin/switch-to-configuration
    $b chmod 755 $out/bin/switch-to-configuration
  '' ];
}
"""


def test_host_without_room_for_the_closure_is_left_out_with_the_numbers(stage: Stage, tmp_path: Path) -> None:
    host, old = stage.host("pushed"), running(stage.host("pushed"))
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/busybox").write_bytes((stage.lab.folder.path / "bin/busybox").read_bytes())
    (tmp_path / "bin/busybox").chmod(0o755)
    (tmp_path / "big.nix").write_text(BIG)
    subprocess.run(["nix-build", "-o", "big", "big.nix"], cwd=tmp_path, check=True, capture_output=True)
    stage.toml({"pushed": {}})
    try:
        lay_small_disk(host, "70m")
        no_room = stage.deploy("pushed", "--closure", "big")
        host.exec("umount", "/nix/store", "/mnt")
        lay_small_disk(host, "8m")
        full = stage.deploy("pushed", "--closure", "big")
    finally:
        host.exec("umount", "/nix/store", "/mnt")
    for run, words in ((no_room, r"needs 8\d MiB on /nix, \d+ MiB are free"), (full, r"only [\d.]+ MiB free on /nix")):
        assert (run.code, run.outcomes, run.failure("pushed")["kind"]) == (1, {"pushed": "failed"}, "unfit")
        assert re.search(words, run.failure("pushed")["message"])
        assert "fleet gc" in run.failure("pushed")["hint"]
        assert not run.told("phase_started", phase="push")
    assert stands_on(host, old)


def lay_small_disk(host: LabHost, size: str) -> None:
    """The store has this much room, and what it had."""
    host.exec("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", "/mnt")
    host.exec("mkdir", "/mnt/upper", "/mnt/work")
    layers = "lowerdir=/nix/store,upperdir=/mnt/upper,workdir=/mnt/work"
    host.exec("mount", "-t", "overlay", "-o", layers, "overlay", "/nix/store")


HOLD = """
systemctl stop nix-daemon.service nix-daemon.socket
mkdir /usr/lib/held
mkfifo /run/hold
for program in nix-daemon nix-store; do
    ln -s "$(readlink -f /usr/bin/$program)" /usr/lib/held/$program
    mv /usr/bin/$program /usr/lib/held/$program.was
    cat >/usr/bin/$program <<'SH'
#!/bin/sh
case "$0 $*" in *--serve* | *nix-daemon*) read -r x </run/hold ;; esac
exec "/usr/lib/held/${0##*/}" "$@"
SH
    chmod 755 /usr/bin/$program
done
"""
RELEASE = """
for program in nix-daemon nix-store; do mv /usr/lib/held/$program.was /usr/bin/$program; done
rm -rf /usr/lib/held /run/hold
"""
ROOTS = "ls /nix/var/nix/gcroots/fleet | grep -- -new"
MARKS = "/nix/var/fleet/unsynced"


@pytest.fixture
def held(stage: Stage) -> Iterator[LabHost]:
    """A host whose store does not say a word to those who bring something: a push that takes long."""
    host = stage.host("pushed")
    host.exec("sh", "-ec", HOLD)
    yield host
    host.power_on()
    host.exec("sh", "-c", RELEASE)
    host.exec("systemctl", "start", "nix-daemon.socket")


def begin_push(stage: Stage, host: LabHost, *arguments: str, **table: object) -> Run:
    """A deployment in the middle of its push."""
    stage.write("pushed", web(new_version()))
    stage.toml({"pushed": {"checks": [WEB], **table}})
    run = stage.start("deploy", "pushed", "--json", *arguments)
    run.wait_for("phase_started", phase="push")
    wait_until(lambda: host.exec("sh", "-c", ROOTS, check=False).stdout, "the root stands before the push")
    return run


@pytest.mark.parametrize("engine", ["serve", "nix"])
def test_push_that_is_interrupted_leaves_no_root_and_is_not_switched(stage: Stage, held: LabHost, engine: str) -> None:
    old = running(held)
    run = begin_push(stage, held, "--copy-with", engine)
    wait_until(lambda: held.exec("ls", MARKS, check=False).stdout, "what comes is marked")
    run.interrupt()
    run.end()
    assert (run.code, run.outcomes) == (130, {"pushed": "skipped"})
    assert run.told("run_interrupted")
    assert stands_on(held, old)
    assert held.exec("sh", "-c", ROOTS, check=False).stdout == ""
    assert held.exec("ls", MARKS).stdout != ""  # what would bring it is held still


@pytest.mark.parametrize("engine", ["serve", "nix"])
@pytest.mark.parametrize(("kind", "code", "outcome"), [("laptop", 0, "deferred"), ("server", 1, "failed")])
def test_host_that_goes_away_during_the_push_was_unreachable(
    stage: Stage, held: LabHost, kind: str, code: int, outcome: str, engine: str
) -> None:
    old = running(held)
    run = begin_push(stage, held, "--copy-with", engine, kind=kind)
    held.power_off()
    run.end()
    assert (run.code, run.outcomes, run.failure("pushed")["kind"]) == (code, {"pushed": outcome}, "unreachable")
    held.power_on()
    assert stands_on(held, old)


def test_push_to_a_host_that_rebooted_meanwhile_goes_on_when_it_was_looked_for_damage(
    stage: Stage, held: LabHost
) -> None:
    run = begin_push(stage, held)
    held.power_off()
    held.power_on()
    run.end()
    assert (run.code, run.outcomes) == (0, {"pushed": "kept"}), run
    assert run.told("finding_reported", kind="damaged")
    assert held.exec("ls", MARKS).stdout == ""
