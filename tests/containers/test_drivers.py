"""Hosts with systems of other drivers than NixOS's. What befalls those is in tests/faults/of_drivers.py."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.containers.driver import BUSY, GATE, PATIENCE, Stage, answer, real, wait_until
from tests.containers.grounds import GOOD_HOME, SYSTEMS, WEB, build, clear

if TYPE_CHECKING:
    from fleet.lab import Lab, LabHost
    from tests.containers.conftest import MakeLab

FLAKE = """
{
  outputs = { self }:
    let make = driver: version: import ./drivers/system.nix { bin = ./bin; inherit driver version; };
    in {
      systemConfigs.debian = make "system-manager" "one";
      homeConfigurations."alice@debian".activationPackage = make "home-manager" "one";
      packages.x86_64-linux."debian.tools" = make "generic" "tools";
    };
}
"""


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Lab:
    return make_lab("debian")


@pytest.fixture
def debian(stage: Stage) -> LabHost:
    host = stage.host("debian")
    host.power_on()
    clear(host)
    return host


def test_host_and_its_profiles_go_in_order_and_one_at_a_time(debian: LabHost, stage: Stage) -> None:
    """From a flake, in which each is found by the name that its driver looks for."""
    flake = stage.folder / "flake"
    shutil.copytree(SYSTEMS, flake / "drivers")
    shutil.copytree(stage.lab.folder.path / "bin", flake / "bin")
    (flake / "flake.nix").write_text(FLAKE)
    stage.flake = f"path:{flake}"
    profiles = {"alice": {"checks": [GOOD_HOME]}, "tools": {"driver": "generic", "checks": [WEB]}}
    stage.toml({"debian": {"driver": "system-manager", "checks": [WEB], "profiles": profiles}})
    run = stage.deploy("--all")
    assert run.outcomes == dict.fromkeys(("debian", "debian.alice", "debian.tools"), "kept"), run
    begun = [event["host"] for event in run.told("phase_started", phase="switch")]
    assert begun == ["debian", "debian.alice", "debian.tools"]
    hosts = stage.document("status")["hosts"]
    assert {host["name"]: host["running"] for host in hosts} == {
        name: ended["closure"] for name, ended in run.hosts.items()
    }
    stage.toml({"debian": {"driver": "system-manager", "checks": [WEB, GATE], "profiles": profiles}})
    debian.exec("touch", BUSY)
    held = stage.start("deploy", "debian", "--json", "--yes", "--closure", build(stage, "system-manager", "two"))
    wait_until(lambda: answer(debian, 8090) == "version two", "the host's own system", PATIENCE)
    refused = stage.deploy("debian.alice", "--closure", build(stage, "home-manager", "two"))
    assert refused.failure("debian.alice")["kind"] == "locked", refused
    debian.exec("rm", "-f", BUSY)
    assert held.end().code == 0


@pytest.mark.long
def test_script_that_sets_the_profile_itself_leaves_it_to_the_commit(debian: LabHost, stage: Stage) -> None:
    """Those of home-manager from before 25.11 do."""
    debian.exec("sh", "-c", "userdel -rf bob; useradd -m bob", check=False)
    stage.toml({"debian": {"driver": "none", "profiles": {"bob": {"checks": [GATE]}}}}, confirm_timeout="30s")
    first = build(stage, "home-manager", "first", user="bob")
    assert stage.deploy("debian.bob", "--closure", first).outcomes == {"debian.bob": "kept"}
    debian.exec("touch", BUSY)
    second = build(stage, "home-manager", "second", user="bob")
    run = stage.start("deploy", "debian.bob", "--json", "--yes", "--closure", second)
    version = "/home/bob/.config/test/version"
    profile = "/home/bob/.local/state/nix/profiles/home-manager"
    wait_until(lambda: debian.exec("cat", version, check=False).stdout == "second\n", "the second home", PATIENCE)
    wait_until(lambda: real(debian, profile) == first, "the profile of before", PATIENCE)
    debian.exec("rm", "-f", BUSY)
    assert run.end().outcomes == {"debian.bob": "kept"}
    assert real(debian, profile) == second


def test_closure_of_another_driver_is_refused_before_it_is_pushed(debian: LabHost, stage: Stage) -> None:
    stage.toml({"debian": {"driver": "system-manager"}})
    run = stage.deploy("debian", "--closure", build(stage, "generic", "other"))
    failure = run.failure("debian")
    assert (failure["kind"], run.told("push_started")) == ("unfit", [])
    assert 'driver = "generic"' in failure["hint"]
