"""A lab host that has systems of another driver than NixOS's."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.containers.driver import PATIENCE, Stage, answer, wait_until

if TYPE_CHECKING:
    from fleet.lab import LabHost
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


@dataclass
class Ground:
    """The lab host, which has a system of this driver, or none."""

    stage: Stage
    driver: str
    on: str

    @property
    def host(self) -> LabHost:
        return self.stage.host(self.on)

    @property
    def is_home(self) -> bool:
        return self.driver == "home-manager"

    @property
    def name(self) -> str:
        return f"{self.on}.alice" if self.is_home else self.on

    @property
    def profile(self) -> str:
        return PROFILES[self.driver]

    def toml(self, *checks: dict[str, Any], **more: Any) -> None:
        own = {"checks": [GOOD_HOME if self.is_home else WEB, *checks]}
        table = {"driver": "none", "profiles": {"alice": own}} if self.is_home else {"driver": self.driver, **own}
        self.stage.toml({self.on: table}, **more)

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
            return dict(told) if told.get("transaction") is None and told.get("error") is None else None

        return dict(wait_until(settled, "a settled host", PATIENCE))

    def state(self) -> str:
        """The state of the transaction that is open."""
        folder = "/run/fleet/profile-alice/open" if self.is_home else "/run/fleet/open"
        return self.host.exec("cat", f"{folder}/state", check=False).stdout.strip()

    def bring(self, closure: str) -> str:
        """The closure, on the host by other means than fleet's."""
        paths = subprocess.run(["nix-store", "-qR", closure], check=True, capture_output=True, text=True).stdout.split()
        export = subprocess.run(["nix-store", "--export", *paths], check=True, capture_output=True).stdout
        argv = ["docker", "exec", "-i", self.host.container.name, "nix-store", "--import"]
        subprocess.run(argv, input=export, check=True, capture_output=True)
        return closure

    def by_hand(self, closure: str) -> None:
        """A person has switched to the closure, by the driver's own means."""
        words = {
            "generic": f"nix-env -p {self.profile} --set {closure} && {closure}/bin/activate",
            "system-manager": f"{closure}/bin/activate && {closure}/bin/register-profile",
            "home-manager": f"runuser -l alice -c {closure}/activate",
        }
        self.host.exec("sh", "-c", words[self.driver])

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
