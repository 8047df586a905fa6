"""Deployments by way of a reboot on the lab's VM, and what is true of it afterwards."""

from __future__ import annotations

import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fleet.errors import HostError
from fleet.host.program import source
from tests.containers.driver import Run, Stage, new_version
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from fleet.lab import Lab, VmHost

PATIENCE = 900.0
"""Seconds for anything: under emulation, on a busy machine, a boot takes more than a minute."""
TOML = {
    "settle": "1s",
    "confirm_timeout": "120s",
    "boot_timeout": "400s",
    "checks": [{"name": "web", "http": "http://127.0.0.1:8080/", "within": "90s"}],
}
PANICS = 'initrdScript = "exit 1";'
LEFT = (
    "cd / && ls -d /run/fleet/open /nix/var/fleet/open /etc/systemd/system.attached /boot/loader/entries/fleet-* "
    "/nix/var/nix/gcroots/fleet/*-* /nix/var/fleet/unsynced/* 2>/dev/null; "
    "systemctl list-units --all --no-legend 'fleet-*'"
)
"""What may not be on a host between runs."""


@dataclass
class Trial:
    """The VM, and one `fleet` beside it."""

    stage: Stage
    vm: VmHost

    def system(self, more: str = "", *, status: int = 200) -> str:
        """A host file with a kernel and an initrd that have another path than every other's."""
        version = new_version()
        web = f'{{ port = 8080; status = {status}; body = "version {version}"; }}'
        kernel = f'kernel = "6.12.{version}"; initrd = "{version}";'
        return f'{{ version = "{version}"; {kernel} services.web.http = {web}; {more} }}'

    def start(self, more: str = "", *flags: str, status: int = 200, **toml: Any) -> Run:
        """A deployment of a new system by way of a reboot is under way."""
        self.stage.write("vm", self.system(more, status=status))
        self.stage.toml({"vm": {**TOML, **toml}})
        return self.stage.start("deploy", "vm", "--json", "--yes", *(flags or ("--reboot", "if-needed")))

    def deploy(self, more: str = "", *flags: str, status: int = 200, **toml: Any) -> Run:
        """The same, ended."""
        return self.ended(self.start(more, *flags, status=status, **toml))

    def ended(self, run: Run) -> Run:
        try:
            run.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"does not end:\n{run.stdout}\n{run.stderr}") from None
        return run.end()

    def lose(self, run: Run) -> None:
        """The controller is gone, as when its machine lost power."""
        run.process.kill()
        run.process.wait()

    def ask(self, script: str) -> str:
        """What the VM says, around its network; nothing where it cannot."""
        try:
            return self.vm.exec("sh", "-c", script, check=False).stdout.strip()
        except HostError:
            return ""

    def reaches(self, state: str) -> None:
        """The transaction is in this state; has been in it, where it may be over before anybody looks."""
        if state == "rebooting":
            self.until(lambda: self.ask("ls /nix/var/fleet/open/rebooting"), state)
        else:
            self.until(lambda: self.ask("cat /run/fleet/open/state") == state, state)

    def pass_some(self, seconds: float) -> None:
        """Some time passes; nothing is waited for."""
        time.sleep(seconds)

    def until(self, condition: Callable[[], object], what: str) -> None:
        until(condition, within=PATIENCE, what=what)

    @property
    def stands(self) -> tuple[str, str, str]:
        """What the VM runs, keeps, and has booted."""
        names = "/run/current-system /nix/var/nix/profiles/system /run/booted-system"
        running, profile, booted, *_ = [*self.ask(f"readlink -f {names}").split(), "", "", ""]
        return running, profile, booted

    def comes_back_to(self, closure: str, *, booted: str | None = None) -> None:
        """Nobody asks the host anything, and yet: it stands on this system, and nothing is left of the run."""
        wanted = (closure, closure, booted or closure)
        self.until(lambda: self.stands == wanted and not self.ask("ls -d /nix/var/fleet/open"), f"back on {closure}")
        self.until(lambda: self.ask(LEFT) == "", "nothing left behind")

    def is_told_to_stand_on(self, closure: str) -> None:
        """`fleet status` says so, of the boot default too."""
        (host,) = self.stage.document("status", "vm", code=None)["hosts"]
        told = {key: host[key] for key in ("running", "profile", "boot_default", "booted", "transaction")}
        assert told == {
            **dict.fromkeys(("running", "profile", "boot_default", "booted"), closure),
            "transaction": None,
        }

    def is_led_back_with_nobody_there(self, old: str, more: str) -> None:
        """The controller dies when the host reboots into a system that is not well; it stands on the old one again."""
        run = self.start(more)
        self.reaches("rebooting")
        self.lose(run)
        self.comes_back_to(old)
        self.is_told_to_stand_on(old)

    def is_led_back_from_a_panic(self, old: str) -> None:
        """A system whose stage 1 ends is tried once, and the old one follows it."""
        panics = self.vm.console().count("Kernel panic")
        run = self.deploy(PANICS)
        assert (run.code, run.outcomes) == (1, {"vm": "rolled_back"}), run
        assert "did not boot" in run.failure("vm")["message"]
        assert self.vm.console().count("Kernel panic") == panics + 1
        self.comes_back_to(old)
        self.is_told_to_stand_on(old)

    def bury(self) -> None:
        """Where no more than the push of a run had reached the disk, that is gone, as when the next run begins."""
        self.vm.exec("sh", "-c", source(), "sh", "verify")

    def cut_power(self, run: Run) -> None:
        """The VM and the controller have lost their power at the same moment, and the VM has it again."""
        self.vm.power_off()
        self.lose(run)
        self.vm.power_on()


@contextmanager
def trial_on(lab: Lab, folder: Path, left: str) -> Iterator[Trial]:
    """A trial on the VM of the lab, which has power. Before and afterwards the script `left` finds nothing on it."""
    home = folder / "home"
    home.mkdir()
    stage = Stage(lab, folder, home)
    trial = Trial(stage, lab.vm("vm"))
    trial.vm.power_on()
    trial.until(lambda: trial.ask(left) == "", "quiet VM")
    yield trial
    stage.close()
    trial.vm.power_on()
    trial.until(lambda: trial.ask(left) == "", "nothing left behind")
