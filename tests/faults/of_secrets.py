"""Faults of a deployment that brings secrets: one on the disk, and one in memory."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from tests.faults.network import GIVEN_UP, REBOOTED, cut_power
from tests.faults.scene import read
from tests.faults.table import GONE_BACK, OLD, Fault, Row

if TYPE_CHECKING:
    from tests.containers.driver import Run
    from tests.faults.scene import Scene

DISK, MEMORY = "/var/lib/fleet-secrets", "/run/fleet-secrets"
SECRETS = {
    "kept": {"command": ["printf", "new"], "storage": "disk", "restart": ["web"]},
    "token": {"command": ["printf", "new"], "restart": ["web"]},
}
PLANT = f"""\
mkdir -p {DISK} {MEMORY} && chmod 755 {DISK} && chmod 751 {MEMORY} && cd {DISK} && umask 077
printf old >kept && printf old >{MEMORY}/token && chmod 400 {MEMORY}/token
"""


def plant(scene: Scene) -> None:
    """The host has secrets already, which differ from what will come."""
    scene.host.exec("sh", "-c", PLANT)


def plant_on_a_mount(scene: Scene) -> None:
    plant(scene)
    scene.host.exec("mount", "--bind", DISK, DISK)


def make_read_only(scene: Scene) -> None:
    scene.host.exec("mount", "-o", "remount,ro,bind", DISK)


def unmount(scene: Scene) -> None:
    scene.host.exec("umount", DISK)


def kill_keeper(scene: Scene) -> None:
    scene.host.exec("sh", "-c", "systemctl kill -s KILL 'fleet-keep-*'")


def values(scene: Scene) -> list[str]:
    """What is in the places of both, `-` for none, and what is beside them."""
    place = f"for file in {DISK}/kept {MEMORY}/token; do cat $file 2>/dev/null || printf -; echo; done"
    return read(scene.host, f"{place}\nfind {DISK} {MEMORY} -name '.*.fleet-*'")


def belong_to_what_runs(scene: Scene, run: Run) -> None:
    """A host that keeps the new system has the new secrets, and one that went back has the old ones."""
    wanted = scene.stands_on()[0]
    assert values(scene) == [wanted, wanted], run


def belong_to_what_runs_but_for_memory(scene: Scene, run: Run) -> None:
    """What was in memory is gone with the power. The controller has filled it again, if the run had begun."""
    token = "new" if run.outcomes[scene.name] in ("kept", "rolled_back") else "-"
    assert values(scene) == [scene.stands_on()[0], token], run


FAULTS = (
    Fault(
        name="power cut with secrets",
        defaults={"secrets": SECRETS},
        prepare=plant,
        strike=cut_power,
        also=belong_to_what_runs_but_for_memory,
        rows={
            "switched": REBOOTED,
            "switching": dataclasses.replace(REBOOTED, says="", kind="", or_else=GIVEN_UP),  # as without secrets
            "committing": REBOOTED,
            "reverting": Row(outcome="rolled_back", code=1, on=OLD),
        },
    ),
    Fault(
        name="keeper killed with secrets",
        slow=True,
        defaults={"secrets": SECRETS},
        prepare=plant,
        strike=kill_keeper,
        also=belong_to_what_runs,
        rows={
            "reverting": dataclasses.replace(GONE_BACK, blamed=False, kind="silent", says="a secret has changed"),
            "switching": Row(outcome="kept", code=0, on=("new", "new", "new")),
            "switched": Row(outcome="kept", code=0, on=("new", "new", "new")),
            "committing": Row(outcome="kept", code=0, on=("new", "new", "new")),
        },
    ),
    Fault(
        name="secret that cannot be put back",
        defaults={"secrets": SECRETS},
        prepare=plant_on_a_mount,
        strike=make_read_only,
        undo=unmount,
        status=503,
        rows={
            "switched": Row(
                outcome="needs_human", code=4, on=OLD, kind="stuck", says="the secret kept is not what it was"
            )
        },
    ),
)
