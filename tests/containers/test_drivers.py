"""Other systems than NixOS's, by each driver: what is deployed stays, and what is not healthy goes back by itself."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.containers.driver import BUSY, GATE, PATIENCE, Stage, answer, real, wait_until

if TYPE_CHECKING:
    from fleet.lab import Lab, LabHost
    from tests.containers.conftest import MakeLab
    from tests.containers.driver import Run

SYSTEMS = Path(__file__).parents[1] / "data" / "drivers"
WEB = {"http": "http://127.0.0.1:8090/", "body": "version", "within": "4s"}
PROFILES = {
    "generic": "/nix/var/nix/profiles/fleet",
    "system-manager": "/nix/var/nix/profiles/system-manager-profiles/system-manager",
    "home-manager": "/home/alice/.local/state/nix/profiles/home-manager",
}
VERSION = "/home/alice/.config/test/version"
"""What the home of a test's user has."""
GOOD_HOME = {"command": f"! grep -q bad {VERSION}", "within": "4s", "name": "home"}
DRIVERS = tuple(PROFILES)
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


@dataclass
class Ground:
    """The lab host, which has a system of this driver, or none."""

    stage: Stage
    driver: str

    @property
    def host(self) -> LabHost:
        return self.stage.host("debian")

    @property
    def is_home(self) -> bool:
        return self.driver == "home-manager"

    @property
    def name(self) -> str:
        return "debian.alice" if self.is_home else "debian"

    @property
    def profile(self) -> str:
        return PROFILES[self.driver]

    def toml(self, *checks: dict[str, Any], **more: Any) -> None:
        own = {"checks": [GOOD_HOME if self.is_home else WEB, *checks]}
        table = {"driver": "none", "profiles": {"alice": own}} if self.is_home else {"driver": self.driver, **own}
        self.stage.toml({"debian": table}, **more)

    def closure(self, version: str, **more: Any) -> str:
        return build(self.stage, self.driver, version, **more)

    def deploy(self, closure: str, *arguments: str) -> Run:
        return self.stage.deploy(self.name, "--closure", closure, *arguments)

    def says(self) -> str:
        """The version that is active."""
        if self.is_home:
            return self.host.exec("cat", VERSION, check=False).stdout.strip()
        return answer(self.host, 8090).removeprefix("version ")

    def status(self) -> dict[str, Any]:
        """What `fleet status` says, when no transaction is open any more: it settles what a reboot left."""

        def settled() -> dict[str, Any] | None:
            told = self.stage.document("status", code=None)["hosts"][0]
            return dict(told) if told.get("transaction") is None and told.get("running") else None

        return dict(wait_until(settled, "a settled host", PATIENCE))

    def stands_on(self, closure: str) -> bool:
        """Whether it runs, keeps and boots this, by the program's word and by what the profile is."""
        told = self.status()
        return {told["running"], told["profile"], told["boot_default"], real(self.host, self.profile)} == {closure}

    def left(self) -> str:
        """What no transaction leaves."""
        script = (
            "ls -d /run/fleet/open /nix/var/fleet/open /nix/var/fleet/.[a-z]* 2>/dev/null;"
            "cd /etc/systemd/system.attached 2>/dev/null && ls -d .[a-z]* fleet-wake* sysinit.target.wants 2>/dev/null;"
            "systemctl list-units --all --plain --no-legend 'fleet-keep-*' 'fleet-switch-*' 'fleet-wake*'"
        )
        return self.host.exec("sh", "-c", script, check=False).stdout.strip()


def build(stage: Stage, driver: str, version: str, **more: Any) -> str:
    """A closure of this driver, built here."""
    given = {"driver": driver, "version": version, **{key: str(value) for key, value in more.items()}}
    arguments = [word for key, value in given.items() for word in ("--argstr", key, value)]
    folder = ["--arg", "bin", str(stage.lab.folder.path / "bin")]
    argv = ["nix-build", "--no-out-link", "--option", "sandbox", "false", str(SYSTEMS / "system.nix"), *folder]
    return subprocess.run(
        [*argv, *arguments], check=True, capture_output=True, text=True, env=stage.environment
    ).stdout.strip()


@pytest.fixture(params=DRIVERS)
def ground(request: pytest.FixtureRequest, stage: Stage) -> Ground:
    ground = Ground(stage, request.param)
    ground.host.power_on()
    ground.toml()
    clear(ground.host)
    return ground


def clear(host: LabHost) -> None:
    """No driver has ever done anything there."""
    script = """
        systemctl stop 'fleet-*' web system-manager.target 2>/dev/null
        rm -rf /run/fleet /nix/var/fleet /nix/var/nix/gcroots/fleet /nix/var/nix/gcroots/system-manager-current \\
            /nix/var/nix/profiles/fleet /nix/var/nix/profiles/fleet-* /nix/var/nix/profiles/system-manager-profiles \\
            /var/lib/system-manager /etc/systemd/system.attached /etc/systemd/system/web.service \\
            /etc/systemd/system/*.wants/web.service \\
            /etc/systemd/system/system-manager* /etc/systemd/system/*.wants/system-manager* /run/busy
        systemctl daemon-reload
        systemctl reset-failed"""
    host.exec("sh", "-c", script, check=False)
    host.exec("sh", "-c", "userdel -rf alice; useradd -m -s /bin/sh alice", check=False)


@pytest.mark.long
def test_first_system_is_kept_and_the_next_one_too(ground: Ground) -> None:
    first, second = ground.closure("first"), ground.closure("second")
    for closure, version in ((first, "first"), (second, "second")):
        run = ground.deploy(closure)
        assert (run.code, run.outcomes) == (0, {ground.name: "kept"}), run
        assert run.hosts[ground.name]["boot_proven"]
        assert ground.says() == version
        assert ground.stands_on(closure)
    assert ground.deploy(second).outcomes == {ground.name: "unchanged"}
    assert ground.left() == ""


@pytest.mark.long
def test_bad_system_goes_back_to_what_was_there(ground: Ground) -> None:
    good, bad = ground.closure("good"), ground.closure("bad", status=503)
    assert ground.deploy(good).code == 0
    run = ground.deploy(bad)
    assert (run.code, run.outcomes) == (1, {ground.name: "rolled_back"}), run
    assert ground.says() == "good"
    assert ground.stands_on(good)
    assert bad in ground.status()["quarantined"]
    assert ground.left() == ""


@pytest.mark.long
def test_bad_first_system_leaves_nothing(ground: Ground) -> None:
    run = ground.deploy(ground.closure("bad", status=503))
    assert (run.code, run.outcomes) == (1, {ground.name: "rolled_back"}), run
    assert ground.says() == ""
    assert ground.host.exec("test", "-L", ground.profile, check=False).status != 0
    assert ground.left() == ""
    assert ground.deploy(ground.closure("good")).code == 0


@pytest.mark.long
def test_activation_that_fails_goes_back(ground: Ground) -> None:
    """That of system-manager exits with 0 then."""
    good = ground.closure("good")
    assert ground.deploy(good).code == 0
    run = ground.deploy(ground.closure("broken", script="false"))
    assert run.outcomes == {ground.name: "rolled_back"}, run
    assert "activation failed" in run.failure(ground.name)["message"]
    assert ground.says() == "good"
    assert ground.stands_on(good)


@pytest.mark.long
def test_rollback_leads_to_what_ran_before(ground: Ground) -> None:
    first, second = ground.closure("first"), ground.closure("second")
    for closure in (first, second):
        assert ground.deploy(closure).code == 0
    run = ground.stage.fleet("rollback", ground.name, "--json", "--yes")
    assert (run.code, run.outcomes) == (0, {ground.name: "kept"}), run
    assert ground.says() == "first"
    assert ground.stands_on(first)


@pytest.mark.long
def test_lost_controller_is_a_host_that_goes_back(ground: Ground) -> None:
    good = ground.closure("good")
    assert ground.deploy(good).code == 0
    ground.toml(GATE, confirm_timeout="5s")
    ground.host.exec("touch", BUSY)
    run = ground.stage.start("deploy", ground.name, "--json", "--yes", "--closure", ground.closure("new"))
    wait_until(lambda: ground.says() == "new", "the new system", PATIENCE)
    run.process.kill()
    wait_until(lambda: ground.says() == "good" and not ground.left(), "the old system", PATIENCE)
    ground.host.exec("rm", "-f", BUSY)
    assert ground.stands_on(good)


def test_power_cut_before_the_proof_goes_back_with_nobody_there(ground: Ground) -> None:
    """What was activated is on the disk: a boot alone does not bring the old system back."""
    good = ground.closure("good")
    assert ground.deploy(good).code == 0
    ground.toml(GATE, confirm_timeout="60s")
    ground.host.exec("touch", BUSY)
    run = ground.stage.start("deploy", ground.name, "--json", "--yes", "--closure", ground.closure("new"))
    wait_until(lambda: ground.says() == "new", "the new system", PATIENCE)
    run.process.kill()
    ground.host.power_off()
    ground.host.power_on()
    wait_until(lambda: ground.says() == "good" and not ground.left(), "the old system", PATIENCE)
    assert ground.stands_on(good)


@pytest.mark.long
def test_kept_system_runs_after_a_reboot(ground: Ground) -> None:
    good = ground.closure("good")
    assert ground.deploy(good).code == 0
    ground.host.power_off()
    ground.host.power_on()
    wait_until(lambda: ground.says() == "good", "the kept system", PATIENCE)
    assert ground.stands_on(good)


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
