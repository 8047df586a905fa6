"""Faults of disks, of the store and of the boot loader."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from fleet.lab import faults
from tests.faults.activation import bad
from tests.faults.table import GONE_BACK, OLD, Fault, Row

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.faults.scene import Scene


def own_disk(folder: str) -> Callable[[Scene], None]:
    return lambda scene: faults.give_disk(scene.host, folder)


def full(folder: str) -> Callable[[Scene], None]:
    return lambda scene: faults.fill(scene.host, folder)


def read_only(folder: str) -> Callable[[Scene], None]:
    return lambda scene: faults.make_read_only(scene.host, folder)


def corrupt(scene: Scene) -> None:
    """The closure is in the host's database, but not all of it on its disk."""
    scene.bring(scene.new)
    script = 'mount -o remount,rw /nix/store 2>/dev/null; chmod u+w "$1/bin" && rm "$1/bin/switch-to-configuration"'
    scene.host.exec("sh", "-c", script, "sh", scene.new)


def mend(scene: Scene) -> None:
    scene.host.exec("sh", "-c", "nix-store --verify --check-contents --repair 2>/dev/null; :")


NO_ROOM = Row(outcome="failed", code=1, on=OLD, kind="push", says="(?i)no space|full")

FULL_FOR_BOTH = bad("commit: .*the old system's boot loader fails too", kind="silent")
"""A full disk speaks against no closure."""
UNTIDY = Row(outcome="rolled_back", code=1, on=OLD, leaves="/nix/var/fleet/open|.*-(new|program|old|unsynced)")
"""Nothing can be removed from a disk that cannot be written; the next transaction does it."""

FAULTS = (
    Fault(
        name="nix full",
        slow=True,
        prepare=own_disk("/nix"),
        strike=full("/nix"),
        rows={
            "reverting": dataclasses.replace(GONE_BACK, blamed=None),  # there is no room to write it down
            "push": NO_ROOM,
            "switched": bad("commit", kind="silent"),
            "switching": bad("commit", kind="silent"),
        },
    ),
    Fault(
        name="nix full before",
        prepare=own_disk("/nix"),
        strike=full("/nix"),
        rows={"preflight": Row(outcome="failed", code=1, on=OLD, kind="unfit", says="free on /nix")},
    ),
    Fault(name="nix read-only", prepare=own_disk("/nix"), strike=read_only("/nix"), rows={"reverting": UNTIDY}),
    Fault(
        name="boot full",
        slow=True,
        prepare=own_disk("/boot"),
        strike=full("/boot"),
        rows={"committing": FULL_FOR_BOTH, "switched": FULL_FOR_BOTH, "reverting": GONE_BACK},
    ),
    Fault(
        name="boot read-only",
        prepare=own_disk("/boot"),
        strike=read_only("/boot"),
        rows={"switched": bad("commit: .*read-only", kind="silent"), "reverting": GONE_BACK},
    ),
    Fault(
        name="boot loader fails",
        shown_by="test_deploy.py::test_a_commit_that_fails_goes_back_and_shows_what_the_boot_loader_said",
        nix='bootLoaderScript = "exit 1";',
        rows={"committing": bad("commit: boot loader failed")},
    ),
    Fault(
        name="boot loader writes nothing and exits 0",
        slow=True,
        nix='bootLoaderScript = "exit 0";',
        rows={"committing": bad("commit: the boot default is .* not the new system")},
    ),
    Fault(
        name="store path corrupted",
        prepare=corrupt,
        undo=mend,
        rows={"switching": Row(outcome="failed", code=1, on=OLD, kind="unfit", says="bin/switch-to-configuration")},
    ),
)
