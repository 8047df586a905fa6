"""One host, one deployment that something befalls, and what is true of the host afterwards."""

from __future__ import annotations

import itertools
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fleet.lab import LabHost, faults
from tests.containers.driver import WEB, Run, Stage, wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.containers.forked import Forked

CONFIRM = 6
"""Seconds without contact, after which a host goes back."""
ACTIVATION = 25
"""Seconds that an activation may take."""
LIMITS = {"settle": "600ms", "confirm_timeout": f"{CONFIRM}s", "activation_timeout": f"{ACTIVATION}s"}
SLOW = 2.5
"""Seconds that a phase is made to last, so that something can befall it."""
HOLD = "/run/lab-hold"
"""While the host has this file, a switch that has begun does not go on."""
PATIENCE = 45.0
_numbers = itertools.count(1)
_COMMON = """
    services.ssh = {
        exec = "/usr/sbin/sshd -D";
        service = { KillMode = "process"; Restart = "on-failure"; RuntimeDirectory = "sshd"; };
    };
    services.sick = { exec = "${busybox} false"; wantedBy = [ ]; };
    services.tick = { exec = "${busybox} false"; wantedBy = [ ]; };
    units."tick.timer" = { text = "[Timer]\nOnCalendar=2099-01-01\n"; wantedBy = [ "timers.target" ]; };
"""
"""Units that every system has: sshd, as on NixOS; one that fails when people start it; and one that a timer would."""
_RESET = """\
for _ in $(seq 100); do         # PID 1 refuses while it re-executes
    systemctl -q stop 'fleet-*' intruder 2>/dev/null && ! systemctl -q is-active intruder && break
    sleep 0.1
done
systemctl reset-failed
rm -rf /run/fleet /nix/var/fleet /nix/var/nix/gcroots/fleet /run/lab-* /run/busy
rm -rf /var/lib/fleet-secrets /run/fleet-secrets/* /run/fleet-secrets/.staged
systemctl -q start multi-user.target
nix-env -p /nix/var/nix/profiles/system --set "$1" && "$1/bin/switch-to-configuration" boot || exit
NIXOS_NO_CHECK=1 "$1/bin/switch-to-configuration" test
systemctl reset-failed
"""


def system(version: str, *, status: int = 200, web: str = "", more: str = "") -> str:
    """A lab system that answers on port 8080. The host can ask its switch to be slow, or to refuse."""
    http = f'{{ port = 8080; status = {status}; body = "version {version}"; }}'
    slow = (
        f"[ ! -e /run/lab-slow ] || sleep {SLOW}; while [ -e {HOLD} ]; do sleep 0.05; done; [ ! -e /run/lab-refuses ]"
    )
    return (
        f'{{ busybox }}: {{ version = "{version}"; services.web = {{ http = {http}; {web} }}; '
        f"switchScript = ''{slow}''; {_COMMON} {more} }}"
    )


@dataclass
class Scene:
    """A host of the lab that runs `old`, and the deployment that is under way there."""

    stage: Stage
    name: str
    old: str
    checks: list[dict[str, Any]] = field(default_factory=lambda: [WEB])
    new: str = ""
    run: Run | None = None
    other: str = ""
    """A system that a person brings."""
    limits: dict[str, Any] = field(default_factory=lambda: dict(LIMITS))
    reach: dict[str, Any] = field(default_factory=dict)
    """Where fleet.toml says that the host is."""
    said: list[str] = field(default_factory=list)
    """What people were told besides the run's own events."""

    @property
    def host(self) -> LabHost:
        return self.stage.host(self.name)

    # --- the systems ---

    def build(self, text: str) -> str:
        """The closure of this lab system, in the controller's store."""
        return build(self.stage.lab.folder.path, self.stage.folder, self.name, text)

    def version(self) -> str:
        return f"{self.name}.{next(_numbers)}"

    def bring(self, closure: str) -> str:
        """The closure, on the host by other means than fleet's."""
        paths = _run("nix-store", "-qR", closure).split()
        export = subprocess.run(["nix-store", "--export", *paths], check=True, capture_output=True).stdout
        argv = ["docker", "exec", "-i", self.host.container.name, "nix-store", "--import"]
        subprocess.run(argv, input=export, check=True, capture_output=True)
        return closure

    def by_hand(self, closure: str, *, profile: bool = True) -> None:
        """A person has switched the host to the closure, as nixos-rebuild does."""
        script = "nix-env -p /nix/var/nix/profiles/system --set $1 && $1/bin/switch-to-configuration boot && " * profile
        self.host.exec("sh", "-c", f"{script} $1/bin/switch-to-configuration test", "sh", closure)

    # --- the run ---

    def prepare(self, **defaults: Any) -> None:
        """fleet.toml has the host with short limits."""
        self.reach = {**self.reach, **defaults.pop("reach", {})}
        self.limits = {**self.limits, **defaults}
        self.stage.toml({self.name: {"checks": self.checks, **self.reach}}, **self.limits)

    def deploy(self, *arguments: str, env: Mapping[str, str] | None = None) -> Run:
        """The deployment has been started."""
        self.run = self.stage.start("deploy", self.name, "--closure", self.new, "--json", "--yes", *arguments, env=env)
        return self.run

    @property
    def process(self) -> subprocess.Popen[bytes] | Forked:
        """The controller."""
        assert self.run is not None
        return self.run.process

    def at(self, state: str) -> None:
        """The host's transaction has come to this state."""
        wait_until(lambda: self.state() == state, lambda: f"{self.name} is {state}: {self.run!r}", PATIENCE)

    def state(self) -> str:
        return (read(self.host, "cat /run/fleet/open/state 2>/dev/null") or [""])[0]

    def is_open(self) -> bool:
        """Whether a transaction is open on the host."""
        return bool(read(self.host, "ls -d /run/fleet/open 2>/dev/null"))

    def is_settled(self, patience: float = PATIENCE) -> None:
        """No transaction is open on the host, with nobody's help."""
        wait_until(lambda: not self.is_open(), f"{self.name}'s transaction closes", patience)

    # --- afterwards ---

    def stands_on(self) -> tuple[str, str, str]:
        """What the host runs, keeps and boots, each by the name that the rows of the table use."""
        names = {self.old: "old", self.new: "new", self.other: "other"}
        runs, keeps, boots = (names.get(path, path) for path in standing(self.host))
        return runs, keeps, boots

    def left_behind(self) -> list[str]:
        """Traces of fleet on the host beyond its record and its two roots."""
        script = """\
            find /run/fleet /nix/var/fleet -mindepth 1 -maxdepth 1 '(' -name open -o -name '.*' ')' 2>/dev/null |
                grep -vx '/run/fleet/.opening\\|/run/fleet/.given-up\\|/run/fleet/.verifying'
            ls -A /nix/var/fleet/unsynced 2>/dev/null | sed 's/$/-unsynced/'
            ls /boot/loader/loader.tmp 2>/dev/null
            ls -A /nix/var/nix/gcroots/fleet 2>/dev/null | grep -vx 'live\\|previous\\|staged\\|boots'
            systemctl list-units --all --plain --no-legend 'fleet-*' | cut -d' ' -f1"""
        return read(self.host, script)


def read(host: LabHost, script: str) -> list[str]:
    """The words that the script writes. Docker loses the output of an exec now and then, so the end is marked."""

    def words() -> list[str]:
        return host.exec("sh", "-c", f"{script}\necho end-of-output", check=False).stdout.split()

    found = wait_until(lambda: (said := words()) and said[-1] == "end-of-output" and said, f"{host.name} answers")
    return list(found[:-1])


def standing(host: LabHost) -> tuple[str, str, str]:
    """The systems that the host runs, keeps and boots."""
    paths = "/run/current-system /nix/var/nix/profiles/system"
    entry = "/boot/loader/entries/$(sed -n 's/^default //p' /boot/loader/loader.conf)"
    runs, keeps, *options = read(host, f"readlink -f {paths}; sed -n 's/^options //p' \"{entry}\"")
    (boots,) = (word for word in options if word.startswith("init="))
    return runs, keeps, boots.removeprefix("init=").removesuffix("/init")


def build(folder: Path, work: Path, name: str, text: str) -> str:
    """The closure of this lab system, built without the lab's flake: many are built at once."""
    config = work / f"{name}-{next(_numbers)}.nix"
    config.write_text(text)
    system_nix = str(folder / "system.nix")
    arguments = ["--argstr", "name", name, "--argstr", "system", "x86_64-linux", "--arg", "config", f"import {config}"]
    return _run("nix-build", "--no-out-link", system_nix, *arguments).strip()


def reset(host: LabHost, base: str) -> None:
    """The host runs, keeps and boots `base`, and fleet was never there."""
    faults.restore(host)
    done = host.exec("sh", "-c", _RESET, "sh", base, check=False)
    assert done.status == 0, done
    assert standing(host) == (base, base, base), done
    wait_until(lambda: not host.exec("systemctl", "is-active", "-q", "web", check=False).status, "web is up", PATIENCE)
    host.wait()


def _run(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout
