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
        nix='services.bad.exec = "${busybox} false";',
        rows={"switching": bad("bad.service has failed")},
    ),
    Fault(
        name="unit fails 3 s after activation",
        nix=LATE,
        defaults={"settle": "5s"},
        rows={"switching": bad("late.service has failed")},
    ),
    Fault(name="crash loop", slow=True, nix=LOOP, defaults={"settle": "3s"}, rows={"switching": bad("loop.service")}),
    Fault(name="unit failing before", prepare=fail_before, rows={"switching": KEPT}),
    Fault(name="unit of a timer fails", strike=tick, rows={"switched": KEPT}),
    Fault(name="connection of a socket fails", nix=ACCEPT, strike=knock, rows={"switched": KEPT}),
    Fault(name="transient unit fails", strike=intrude, rows={"switched": KEPT}),
)
