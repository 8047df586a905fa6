"""The host program on a lab host, driven directly: orders, words, closures, and what must be left when it is done."""

from __future__ import annotations

import json
import secrets
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from fleet.host import answers, history
from fleet.host.program import FORMAT, source
from tests.containers import orders
from tests.containers.orders import run_id as run_id
from tests.waiting import until

if TYPE_CHECKING:
    from fleet.host.answers import Lines, View
    from fleet.host.history import PastTransaction
    from fleet.lab import Lab, LabHost

NIX = ("nix", "--extra-experimental-features", "nix-command flakes")
PROFILE = "/nix/var/nix/profiles/system"
ROOTS = "/nix/var/nix/gcroots/fleet"
RECORD = "/nix/var/fleet"
OPEN = "/run/fleet/open"
OLDER = {1: Path(__file__).parents[1] / "data" / "fleet-host-format-1"}
"""The host programs of earlier formats, as they were released. That of format 1 knows no numbers."""
LOCK = "/run/nixos/switch-to-configuration.lock"
HOLD_LOCK = (
    "systemd-run -q --unit=holder -p Type=notify -p NotifyAccess=all"
    f" flock {LOCK} /bin/sh -c '/usr/bin/systemd-notify --ready; exec /usr/bin/sleep inf'"
)
"""Somebody's own switch is under way, until the unit is stopped."""

OLD = """
version = "old";
services.web.http = { port = 8080; body = "old"; };
services.steady.exec = "${busybox} sleep inf";
"""
"""What the host runs before each test: one service that NEW changes, and one that it does not."""

NEW = OLD.replace('"old"', '"new"')


@dataclass
class Subject:
    """A lab host that runs OLD, with the host program in its store."""

    lab: Lab
    host: LabHost
    folder: Path
    old: str = ""
    program: str = ""
    format: int = FORMAT
    _closures: dict[str, str] = field(default_factory=dict)
    _programs: dict[tuple[str, int], str] = field(default_factory=dict)

    @classmethod
    def on(cls, lab: Lab, name: str, folder: Path) -> Subject:
        """The host, at OLD: running, profile and boot default."""
        subject = cls(lab, lab.host(name), folder)
        subject.use("/bin/sh")
        subject.old = subject.closure(OLD)
        subject.sh(f"nix-env -p {PROFILE} --set {subject.old} && {subject.old}/bin/switch-to-configuration boot")
        subject.sh(f"{subject.old}/bin/switch-to-configuration test")
        return subject

    # --- the host ---

    def sh(self, script: str, *args: str, check: bool = True) -> str:
        """What the script wrote."""
        return self.host.exec("sh", "-c", script, "sh", *args, check=check).stdout.strip()

    def succeeds(self, script: str) -> bool:
        return self.host.exec("sh", "-c", script, check=False).status == 0

    def feed(self, data: bytes, *argv: str) -> str:
        command = ["docker", "exec", "-i", self.host.container.name, *argv]
        return subprocess.run(command, input=data, check=True, capture_output=True).stdout.decode().strip()

    def use(self, interpreter: str, *, format: int = FORMAT) -> None:
        """From now on the program is that of this format, run by this shell, and called as its controller does."""
        if (interpreter, format) not in self._programs:
            text = source() if format == FORMAT else OLDER[format].read_text()
            text = text.replace("#!/bin/sh", f"#!{interpreter}", 1)
            script = "d=$(mktemp -d) && cat >$d/fleet-host && chmod 755 $d/fleet-host && nix-store --add $d/fleet-host"
            self._programs[interpreter, format] = self.feed(text.encode(), "sh", "-c", script + " && rm -r $d")
        self.program, self.format = self._programs[interpreter, format], format

    def closure(self, config: str) -> str:
        """The closure of this configuration, on the host."""
        if config not in self._closures:
            self.lab.write_host(self.host.name, "{ busybox }: {" + config + "}")
            attribute = f"nixosConfigurations.{self.host.name}.config.system.build.toplevel"
            argv = [*NIX, "build", "--json", "--out-link", str(self.folder / secrets.token_hex(4))]
            built = subprocess.run(
                [*argv, f"path:{self.lab.folder.path}#{attribute}"], check=True, capture_output=True
            ).stdout
            closure = str(json.loads(built)[0]["outputs"]["out"])
            paths = subprocess.run(["nix-store", "-qR", closure], check=True, capture_output=True).stdout.decode()
            export = subprocess.run(["nix-store", "--export", *paths.split()], check=True, capture_output=True)
            self.feed(export.stdout, "nix-store", "--import")
            self._closures[config] = closure
        return self._closures[config]

    @property
    def running(self) -> str:
        return self.sh("readlink -f /run/current-system")

    @property
    def profile(self) -> str:
        return self.sh(f"readlink -f {PROFILE}")

    @property
    def boots(self) -> str:
        """The closure that the boot loader's files name, read without the program under test."""
        script = 'sed -n "s|^options init=\\(.*\\)/init.*|\\1|p" '
        return self.sh(script + '"/boot/loader/entries/$(sed -n "s/^default //p" /boot/loader/loader.conf)"')

    @property
    def stands_on(self) -> tuple[str, str, str]:
        return self.running, self.profile, self.boots

    @property
    def generations(self) -> str:
        """The profile's link, and all links that there are."""
        listed = f"readlink {PROFILE}; cd {PROFILE.rpartition('/')[0]} && ls -d system-*-link"
        return self.sh(listed) or self.sh(listed)  # Docker loses an answer now and then

    def body(self) -> str:
        """What the web service says."""
        return self.sh("busybox wget -q -T 2 -O- http://127.0.0.1:8080/", check=False)

    def is_active(self, unit: str) -> bool:
        return self.succeeds(f"systemctl is-active -q {unit}")

    # --- the program ---

    @property
    def asks(self) -> str:
        """How a controller calls the program: what comes before the verb."""
        return self.program if self.format == 1 else f"{self.program} {self.format}"

    def call(self, verb: str, *args: str) -> Lines:
        done = self.host.exec(*self.asks.split(), verb, *args)
        assert not done.stdout.startswith("refused="), done
        return answers.parse(done.stdout)

    def order(self, new: str, **changes: object) -> str:
        """An order for what the host is now. The changes are of its lines, by their keys; `ignore` is several."""
        return orders.order(self.host.name, self.sh(orders.AS_PLANNED), new, self.format, changes)

    def tell(self, order: str) -> Lines:
        """The answer to `begin`."""
        done = self.host.exec("sh", "-c", 'printf %s "$1" | $2 begin', "sh", order, self.asks)
        return answers.parse(done.stdout)

    def begin(self, new: str, **changes: object) -> str:
        """The run, which has begun."""
        order = self.order(new, **changes)
        lines = self.tell(order)
        assert "refused" not in lines, lines
        return answers.one(lines, "begun")

    def switched(self, new: str, **changes: object) -> str:
        """The run, whose switch has ended well."""
        run = self.begin(new, **changes)
        view = self.follow(run, "switched")
        assert view.running == new
        return run

    def show(self, run: str) -> View:
        return answers.view(self.call("show", run))

    def follow(self, run: str, *states: str, within: float = 30.0) -> View:
        """The first view in one of these states, or else in any that is an end."""
        deadline = time.monotonic() + within
        view = self.show(run)
        while True:
            if view.state in states or not view.is_open:
                assert view.state in states, view
                if not view.is_open:  # it has ended, and may not be on record yet: `show` does not wait for a slow disk
                    until(lambda: self.read("run") != run, what="the transaction is closed")
                return view
            assert time.monotonic() < deadline, view
            view = answers.view(self.call("watch", run, view.state, ""))  # it answers when the state is another one

    def look(self, run: str) -> View:
        return answers.view(self.call("look", run))

    def word(self, run: str, word: str) -> View:
        return answers.view(self.call("word", run, word))

    def confirm(self, run: str, end: str = "committed") -> View:
        assert self.word(run, "confirm").accepted
        return self.follow(run, end)

    def abandon(self, run: str, why: str = "silent operator said so", end: str = "reverted") -> View:
        assert self.word(run, f"abandon {why}").accepted
        return self.follow(run, end)

    @property
    def history(self) -> list[PastTransaction]:
        """What the host remembers, the newest last."""
        return list(history.entries(self.call("history", "0-none")))

    def read(self, key: str) -> str:
        """What the open transaction says of this, read without the program under test."""
        return self.sh(f"cat {OPEN}/{key} 2>/dev/null", check=False)

    def quarantined(self, closure: str) -> bool:
        return self.succeeds(f"test -e {RECORD}/quarantine/{closure.rpartition('/')[2]}")

    def keeper(self, run: str) -> str:
        """The process id of the keeper, or 0."""
        return self.sh(f"systemctl show -P MainPID fleet-keep-{run}")

    # --- afterwards ---

    def leftovers(self) -> str:
        """What of fleet stays on the host, and should not be there when no transaction is open."""
        patience = time.monotonic() + 10  # a busy host may tell the end before all is cleared away
        while (left := self._left()) and time.monotonic() < patience:
            time.sleep(0.1)
        return left

    def _left(self) -> str:
        return self.sh(
            f"ls -d {OPEN} /run/fleet/.next /run/fleet/.reopen* {RECORD}/open {RECORD}/.[a-z]* "
            "/run/fleet/last/.bell /run/fleet/last/.turn-* 2>/dev/null;"
            f"ls -A {RECORD}/unsynced 2>/dev/null; ls -A {ROOTS} | grep -vxE 'live|previous|boots';"
            "systemctl list-units --all --plain --no-legend 'fleet-*'",
            check=False,
        )

    def reset(self) -> None:
        """The host is at OLD again, and remembers nothing."""
        number = self.sh(f"readlink -f {PROFILE}-2-link") == self.old
        assert number, "generation 2 is gone"
        self.sh(
            "systemctl stop 'fleet-*' holder;"
            f"nix-env -p {PROFILE} --switch-generation 2 2>/dev/null;"
            f"for n in 3 4 5 6 7 8 9; do rm -f {PROFILE}-$n-link; done;"
            f"rm -rf {RECORD} {ROOTS} /run/fleet /var/lib/fleet-secrets; umount /run/fleet-secrets 2>/dev/null;"
            "systemctl reset-failed; systemctl is-active -q multi-user.target || systemctl start multi-user.target;"
            f"[ $(readlink -f /run/current-system) = {self.old} ] ||"
            f"  NIXOS_NO_CHECK=1 {self.old}/bin/switch-to-configuration test;"
            "rm -f /boot/loader/loader.tmp;"
            f"NIXOS_NO_CHECK=1 {self.old}/bin/switch-to-configuration boot; systemctl start web steady"
        )
        assert self.stands_on == (self.old, self.old, self.old)
