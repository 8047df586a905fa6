"""Faults of units: those that count, and those that do not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.faults.activation import bad
from tests.faults.table import KEPT, Fault

if TYPE_CHECKING:
    from tests.faults.scene import Scene

LATE = """
    services.late.exec = "${busybox} sh -c 'sleep 3; exit 1'";
"""
LOOP = """
    services.loop = {
        exec = "${busybox} sh -c 'sleep 0.2; exit 1'";
        service = { Restart = "always"; RestartSec = "300ms"; };
        unit.StartLimitIntervalSec = 0;
    };
"""
ACCEPT = """
    units."echo.socket" = {
        text = "[Socket]\\nListenStream=127.0.0.1:7007\\nAccept=yes\\n";
        wantedBy = [ "sockets.target" ];
    };
    units."echo@.service" = "[Service]\\nExecStart=/bin/false\\nStandardInput=socket\\n";
"""


def fail_before(scene: Scene) -> None:
    scene.host.exec("systemctl", "start", "sick.service", check=False)


def tick(scene: Scene) -> None:
    """A unit that belongs to a timer fails by coincidence."""
    scene.host.exec("systemctl", "start", "tick.service", check=False)


def knock(scene: Scene) -> None:
    """A connection of a socket with Accept=yes fails."""
    scene.host.exec("sh", "-c", "echo | busybox nc -w 1 127.0.0.1 7007; :")


def intrude(scene: Scene) -> None:
    """A unit that is of no system fails."""
    scene.host.exec("systemd-run", "-q", "--unit=intruder", "/bin/false")


FAULTS = (
    Fault(
        name="unit newly failing",
        shown_by="test_deploy_units.py::test_unit_that_fails_is_enough_to_go_back_and_its_words_are_shown",
        nix='services.bad.exec = "${busybox} false";',
        rows={"switching": bad("bad.service has failed")},
    ),
    Fault(
        name="unit fails 3 s after activation",
        shown_by="test_deploy_units.py::test_unit_that_crashes_after_it_started_well_is_found",
        nix=LATE,
        defaults={"settle": "5s"},
        rows={"switching": bad("late.service has failed")},
    ),
    Fault(name="crash loop", slow=True, nix=LOOP, defaults={"settle": "3s"}, rows={"switching": bad("loop.service")}),
    Fault(
        name="unit failing before",
        shown_by="test_deploy_units.py::test_unit_that_was_failing_before_is_told_and_not_counted",
        prepare=fail_before,
        rows={"switching": KEPT},
    ),
    Fault(
        name="unit of a timer fails",
        shown_by="test_units.py::test_timer_driven_unit_counts_only_if_its_definition_changed",
        strike=tick,
        rows={"switched": KEPT},
    ),
    Fault(
        name="connection of a socket fails",
        shown_by="test_units.py::test_instance_of_a_connection_is_not_counted",
        nix=ACCEPT,
        strike=knock,
        rows={"switched": KEPT},
    ),
    Fault(
        name="transient unit fails",
        shown_by="test_units.py::test_transient_unit_and_unit_of_no_closure_are_not_counted",
        strike=intrude,
        rows={"switched": KEPT},
    ),
)
