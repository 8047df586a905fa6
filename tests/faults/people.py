"""What people do meanwhile, and what they got wrong."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from tests.containers.driver import wait_until
from tests.faults.activation import bad
from tests.faults.controller import IN_DOUBT, ROOTS_OF_THE_DEAD
from tests.faults.scene import system
from tests.faults.table import GONE_BACK, KEPT, NEW, OLD, Fault, Row

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.faults.scene import Scene

LOCK = "/run/nixos/switch-to-configuration.lock"
HOLDER = ("systemd-run", "-q", "--unit=intruder", "--collect", "-p", "Type=notify", "-p", "NotifyAccess=all")
READY = "/usr/bin/systemd-notify --ready"
OPERATOR = {"user": "operator", "sudo": "password"}
OTHER = ("other", "other", "other")


def take_lock(scene: Scene, script: str, *options: str, first: str = ":") -> None:
    """The script runs, and has switch-to-configuration's lock.

    Each attempt begins with `first`. PID 1 takes no calls while a switch re-executes it, and a switch of the lab waits
    for whatever is being started.
    """
    argv = [*HOLDER, *options, "flock", "-n", LOCK, "/bin/sh", "-c", script]
    call = f"{first}; {shlex.join(argv)} || systemctl -q is-active intruder"
    wait_until(lambda: scene.host.exec("sh", "-c", call, check=False).status == 0, "somebody holds the lock")


def hold_lock(seconds: float) -> Callable[[Scene], None]:
    """A person's own switch is under way for so long."""

    def strike(scene: Scene) -> None:
        take_lock(scene, f"{READY}; exec /usr/bin/sleep {seconds}")

    return strike


def squat(seconds: float) -> Callable[[Scene], None]:
    """An unprivileged user holds the lock for so long. NixOS makes it anew for everybody to open, as after a boot."""

    def strike(scene: Scene) -> None:
        made_anew = f"mkdir -p {LOCK.rpartition('/')[0]}; rm -f {LOCK}; (umask 022; : >{LOCK})"
        scene.host.exec("systemctl", "-q", "stop", "intruder", check=False)
        ready = f"{READY}; exec /usr/bin/sleep {seconds}"
        # The host makes a lock that is free its own at any moment.
        take_lock(scene, ready, "--uid=operator", first=f"systemctl -q is-active intruder || {{ {made_anew}; }}")

    return strike


def switch_under_way(scene: Scene) -> None:
    """A person's own switch has the lock already, and ends while the way back waits for it."""
    take_lock(scene, f"{READY}; /usr/bin/sleep 6; exec {scene.other}/activate")


def prepare_other(scene: Scene) -> None:
    scene.other = scene.bring(scene.build(system(scene.version())))


def repair(scene: Scene) -> None:
    """A person switches the host to a system of their own."""
    scene.by_hand(scene.other)


def expire(scene: Scene) -> None:
    scene.host.exec("sh", "-c", "echo operator:changed | chpasswd")


def restore_password(scene: Scene) -> None:
    scene.host.exec("sh", "-c", "echo operator:operator | chpasswd")


def change_host_key(scene: Scene) -> None:
    key = "/etc/ssh/ssh_host_ed25519_key"
    script = f"cp -a {key} /root/key && rm {key} && ssh-keygen -q -t ed25519 -N '' -f {key} && systemctl restart ssh"
    scene.host.exec("sh", "-c", script)


def restore_host_key(scene: Scene) -> None:
    scene.host.exec("sh", "-c", "mv -f /root/key /etc/ssh/ssh_host_ed25519_key; systemctl restart ssh", check=False)


def refuse_to_come_back(scene: Scene) -> None:
    scene.host.exec("touch", "/run/lab-refuses")


SUPERSEDED = Row(outcome="failed", code=1, on=OTHER, blamed=False, kind="superseded", says="hands off")

FAULTS = (
    Fault(
        name="somebody's switch holds the lock for long",
        strike=hold_lock(600),
        slow=True,
        rows={"preflight": bad("another switch holds the lock", kind="silent")},
    ),
    Fault(
        name="somebody's switch holds the lock for a moment",
        status=503,
        strike=hold_lock(3),
        rows={"switched": GONE_BACK},
    ),
    Fault(
        name="an unprivileged user holds the lock",
        slow=True,
        strike=squat(600),
        rows={"switched": KEPT, "preflight": KEPT, "switching": KEPT, "committing": KEPT, "reverting": GONE_BACK},
    ),
    Fault(
        name="somebody repairs the host",
        prepare=prepare_other,
        strike=repair,
        rows={"switched": SUPERSEDED},
    ),
    Fault(
        name="somebody's switch ends while the way back waits",
        prepare=prepare_other,
        status=503,
        strike=switch_under_way,
        rows={
            "switched": Row(outcome="failed", code=1, on=("other", "old", "old"), kind="superseded", says="hands off")
        },
    ),
    Fault(name="old system's switch refuses", status=503, strike=refuse_to_come_back, rows={"switched": GONE_BACK}),
    Fault(
        name="sudo password wrong",
        shown_by="test_cli_login.py::test_wrong_sudo_password_is_refused_once_and_nowhere_shown",
        defaults=OPERATOR,
        environment={"FLEET_SUDO_PASSWORD": "wrong"},
        rows={"preflight": Row(outcome="failed", code=1, on=OLD, kind="authentication", says="sudo")},
    ),
    Fault(
        name="sudo password expired",
        defaults=OPERATOR,
        environment={"FLEET_SUDO_PASSWORD": "operator"},
        strike=expire,
        slow=True,
        undo=restore_password,
        rows={"switched": IN_DOUBT, "push": Row(outcome="failed", code=1, on=OLD, leaves=ROOTS_OF_THE_DEAD)},
    ),
    Fault(
        name="sudo password right",
        shown_by="test_cli_login.py::test_user_becomes_root_by_sudo",
        defaults=OPERATOR,
        environment={"FLEET_SUDO_PASSWORD": "operator"},
        rows={"preflight": Row(outcome="kept", code=0, on=NEW)},
    ),
    Fault(
        name="host key changed",
        slow=True,
        strike=change_host_key,
        undo=restore_host_key,
        rows={
            "switched": Row(
                outcome="needs_human",
                code=4,
                on=OLD,
                kind="stuck",
                says="is not the host key that it was",
                blamed=False,
            )
        },
    ),
)
