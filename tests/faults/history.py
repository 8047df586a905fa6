"""Hosts whose generations are not what one expects, and the way back on them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.faults.scene import system
from tests.faults.table import KEPT, NEW, OLD, Fault, Row

if TYPE_CHECKING:
    from tests.containers.driver import Run
    from tests.faults.scene import Scene

PROFILE = "/nix/var/nix/profiles/system"


def another_profile(scene: Scene) -> None:
    """The profile names a system that was never switched to."""
    scene.other = scene.bring(scene.build(system(scene.version())))
    scene.host.exec("nix-env", "-p", PROFILE, "--set", scene.other)


def many_generations(scene: Scene) -> None:
    """Generations of three other systems follow the one that is live."""
    for _ in range(3):
        another_profile(scene)


def in_no_generation(scene: Scene) -> None:
    """What runs is in no generation of the profile."""
    another_profile(scene)
    scene.host.exec("sh", "-c", f"nix-env -p {PROFILE} --delete-generations old")


def rollback(scene: Scene) -> Run:
    return scene.stage.fleet("rollback", scene.name, "--json", "--yes")


def same_again_and_rollback(scene: Scene) -> Run:
    again = scene.stage.deploy(scene.name, "--closure", scene.new)
    assert (again.code, again.outcomes[scene.name]) == (0, "unchanged"), again
    return rollback(scene)


def rollback_to_collected(scene: Scene) -> Run:
    script = f"""\
        rm /nix/var/nix/gcroots/fleet/previous
        nix-env -p {PROFILE} --delete-generations old && rm -f /run/booted-system && nix-store --delete "$1" """
    done = scene.host.exec("sh", "-c", script, "sh", scene.old, check=False)
    assert done.status == 0, done
    return rollback(scene)


def bring_back(scene: Scene) -> None:
    scene.bring(scene.old)
    scene.host.exec("ln", "-sfn", scene.old, "/run/booted-system")


BACK = Row(outcome="kept", code=0, on=OLD)

FAULTS = (
    Fault(name="profile and running system differ", prepare=another_profile, rows={"switching": KEPT}),
    Fault(
        name="profile and running system differ and the new is bad",
        shown_by="test_transaction_commit.py::test_running_system_that_is_not_the_profile_is_what_a_revert_goes_back_to",
        prepare=another_profile,
        status=503,
        rows={"switching": Row(outcome="rolled_back", code=1, on=("old", "other", "old"))},
    ),
    Fault(
        name="profile and running system differ and the commit fails",
        prepare=another_profile,
        nix='bootLoaderScript = "exit 1";',
        rows={"committing": Row(outcome="rolled_back", code=1, on=("old", "other", "old"))},
    ),
    Fault(
        name="running system in no generation",
        prepare=in_no_generation,
        status=503,
        rows={"switching": Row(outcome="rolled_back", code=1, on=("old", "other", "old"))},
    ),
    Fault(name="same closure twice then rollback", then=same_again_and_rollback, rows={"switching": BACK}),
    Fault(
        name="four generations with the first live then rollback",
        shown_by="test_transaction_commit.py::test_first_of_four_generations_is_what_a_revert_goes_back_to",
        prepare=many_generations,
        then=rollback,
        rows={"switching": BACK},
    ),
    Fault(
        name="previous closure collected",
        then=rollback_to_collected,
        undo=bring_back,
        rows={"switching": Row(outcome="failed", code=1, on=NEW)},
    ),
)
