"""Faults after which nobody can log in, though the old system runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleet.lab import faults
from tests.faults.table import GONE_BACK, OLD, Fault, Row

if TYPE_CHECKING:
    from tests.faults.scene import Scene

KEYS = "/root/.ssh/authorized_keys"
HIDE_KEYS = f"activationScript = ''/usr/bin/mv {KEYS} {KEYS}.gone; exit 1'';"


def shut(says: str) -> Row:
    """The host has seen it itself."""
    return Row(outcome="needs_human", code=4, on=OLD, kind="stuck", says=says, blamed=False)


def restore_keys(scene: Scene) -> None:
    scene.host.exec("sh", "-c", f"[ ! -e {KEYS}.gone ] || mv {KEYS}.gone {KEYS}")


def uncover_etc(scene: Scene) -> None:
    scene.host.exec("sh", "-c", "umount -l /etc; systemctl daemon-reload; systemctl restart ssh", check=False)


def refuse_logins(scene: Scene) -> None:
    faults.cut(scene.host, new_only=True)


def refuse_logins_for_a_while(scene: Scene) -> None:
    """They are refused for some time after the way back has ended."""
    refuse_logins(scene)
    scene.is_settled()
    scene.host.exec("sleep", "5")
    faults.restore(scene.host)


FAULTS = (
    Fault(
        name="keys vanish",
        nix=HIDE_KEYS,
        undo=restore_keys,
        rows={"switching": shut(f"a key is gone from {KEYS}")},
    ),
    Fault(
        name="mount over etc",
        nix="activationScript = ''/usr/bin/mount -t tmpfs x /etc; exit 1'';",
        undo=uncover_etc,
        rows={"switching": shut("what is mounted at /etc is not what was there at begin")},
    ),
    Fault(name="sshd refuses for a while", strike=refuse_logins_for_a_while, rows={"reverting": GONE_BACK}),
    Fault(
        name="sshd refuses for good",
        strike=refuse_logins,
        slow=True,
        rows={
            "reverting": Row(
                outcome="needs_human", code=4, on=OLD, kind="unhealthy", says="nobody can log in", blamed=True
            )
        },
    ),
)
