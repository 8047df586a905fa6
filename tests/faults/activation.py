"""Faults of the activation itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.faults.scene import system
from tests.faults.table import KEPT, NEW, OLD, Fault, Row

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.faults.scene import Scene


def bad(says: str, *, kind: str = "unhealthy") -> Row:
    blamed = {"unhealthy": True, "silent": False}.get(kind)
    return Row(outcome="rolled_back", code=1, on=OLD, kind=kind, says=says, blamed=blamed)


def all_the_while(command: str) -> Callable[[Scene], None]:
    """The command is run again and again on the host."""

    def prepare(scene: Scene) -> None:
        loop = f"while :; do {command}; sleep 0.3; done"
        scene.host.exec("systemd-run", "-q", "--unit=intruder", "--setenv=PATH=/usr/bin:/bin", "/bin/sh", "-c", loop)

    return prepare


def restart_logind(scene: Scene) -> None:
    """Where it runs, it does not look for the new bus, and everybody who asks it waits for 25 s."""
    scene.host.exec("systemctl", "try-restart", "systemd-logind")


REFUSED = Row(outcome="kept", code=0, on=NEW, blamed=False, or_else=Row(outcome="rolled_back", code=1, on=OLD))
FAILS_IN_BOTH = 'activationScript = "[ ! -e /run/lab-both ]";'


def break_both(scene: Scene) -> None:
    """The host runs a system with the same snippet, which fails from now on."""
    scene.old = scene.bring(scene.build(system(scene.version(), more=FAILS_IN_BOTH)))
    scene.by_hand(scene.old)
    scene.host.exec("touch", "/run/lab-both")


EMERGENCY = """
    services.breaker = { exec = "/usr/bin/systemctl --no-block isolate emergency.target"; service.Type = "oneshot"; };
"""
MOUNT = """
    units."mnt-lost.mount" = {
        text = "[Unit]\\nOnFailure=emergency.target\\nOnFailureJobMode=isolate\\n"
            + "[Mount]\\nWhat=/dev/nothing\\nWhere=/mnt/lost\\nType=ext4\\n";
        wantedBy = [ "multi-user.target" ];
    };
"""

FAULTS = (
    Fault(
        name="activation hangs",
        nix='activationScript = "sleep 600";',
        defaults={"activation_timeout": "4s"},
        rows={"switching": bad("activation did not end within 4 s")},
    ),
    Fault(
        name="activation exits 2",
        shown_by="test_deploy.py::test_activation_that_fails_goes_back_and_shows_what_it_said",
        nix='activationScript = "exit 1";',
        rows={"switching": bad("failed with exit status 2")},
    ),
    Fault(
        name="activation fails in both systems",
        slow=True,
        nix=FAILS_IN_BOTH,
        prepare=break_both,
        rows={"switching": bad("the old system's activation fails too", kind="silent")},
    ),
    Fault(name="activation exits 4 and all is well", nix="switchExit = 4;", rows={"switching": KEPT}),
    Fault(
        name="activation exits 11",
        shown_by="test_transaction_switch.py::test_switch_that_ends_badly_is_reverted",
        nix="switchExit = 11;",
        rows={"switching": bad("holds the lock", kind="silent")},
    ),
    Fault(
        name="activation exits 100",
        shown_by="test_transaction_switch.py::test_switch_that_ends_badly_is_reverted",
        nix="switchExit = 100;",
        rows={"switching": bad("needs a reboot", kind="silent")},
    ),
    Fault(
        name="activation exits 101",
        shown_by="test_transaction_switch.py::test_switch_that_ends_badly_is_reverted",
        nix="switchExit = 101;",
        rows={"switching": bad("failed with exit status 101")},
    ),
    Fault(name="emergency target", nix=EMERGENCY, rows={"switching": bad("", kind="")}),
    Fault(name="new mount fails into emergency", slow=True, nix=MOUNT, rows={"switching": bad("", kind="")}),
    Fault(
        name="daemon-reload all the while",
        shown_by="test_transaction_keeper.py::test_systemd_that_reloads_all_the_while_changes_nothing",
        prepare=all_the_while("systemctl daemon-reload"),
        rows={"switching": KEPT},
    ),
    Fault(
        name="daemon-reexec all the while",
        prepare=all_the_while("systemctl daemon-reexec; sleep 1"),
        rows={"switching": REFUSED},  # the switch itself may be refused by PID 1
    ),
    Fault(
        name="dbus restarted by the switch",
        slow=True,
        nix='activationScript = "systemctl restart dbus.service";',
        rows={"switching": bad("failed with exit status 1")},
        undo=restart_logind,
    ),
)
