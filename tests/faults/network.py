"""Faults of the network, and of the power."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING

from fleet.lab import faults
from tests.containers.driver import wait_until
from tests.faults.controller import IN_DOUBT
from tests.faults.scene import CONFIRM
from tests.faults.table import FAILED, GONE_BACK, KEPT, NEW, OLD, Fault, Row

if TYPE_CHECKING:
    from tests.faults.scene import Scene

BROKEN_SSHD = r"""
    files."etc/ssh/sshd_config.d/00-broken.conf" = "DenyUsers root\n";
    units."ssh.service.d/restart.conf" = "[Service]\nEnvironment=CONFIG=2\n";
"""
_RULES = "table inet closed { chain in { type filter hook input priority 0; tcp dport 22 ct state new drop; }; }"
FIREWALL = f"""
    services.firewall = {{
        exec = "/usr/sbin/nft '{_RULES}'";
        service = {{ Type = "oneshot"; RemainAfterExit = true; ExecStop = "/usr/sbin/nft destroy table inet closed"; }};
    }};
"""
NOT_SEEN = Row(
    outcome="rolled_back", code=1, on=OLD, blamed=False, kind="silent", says="no new connection|nobody confirmed"
)


def cut(scene: Scene) -> None:
    faults.cut(scene.host)


def cut_until_it_went_back(scene: Scene) -> None:
    faults.cut(scene.host)
    scene.is_settled()
    faults.restore(scene.host)


def blink(scene: Scene) -> None:
    """Shorter than the deadline, as 20 s are of the default."""
    faults.cut(scene.host)
    scene.host.exec("sleep", "4")
    faults.restore(scene.host)


def lose_new_connections(scene: Scene) -> None:
    faults.cut(scene.host, new_only=True)
    scene.is_settled()
    faults.restore(scene.host)


def cut_power(scene: Scene) -> None:
    scene.host.power_off()
    scene.host.power_on()


def reboot(scene: Scene) -> None:
    """Somebody reboots the host: units are stopped in good order, sshd last of all."""
    scene.host.exec("systemctl", "--no-block", "reboot")
    wait_until(lambda: not scene.host.is_on, f"{scene.name} goes down")
    scene.host.power_on()


def reboot_slowly(scene: Scene) -> None:
    """A service takes longer to stop than the way back gives any service to start."""
    lingers = ["-p", "TimeoutStopSec=100", "-p", "ExecStop=/usr/bin/sleep 75", "/usr/bin/sleep", "inf"]
    scene.host.exec("systemd-run", "-q", "--unit=intruder", *lingers)
    reboot(scene)


def freeze_past_the_deadline(scene: Scene) -> None:
    """The host sleeps; its own clock of seconds goes on."""
    faults.freeze(scene.host)
    time.sleep(CONFIRM + 1)  # nothing on the host can be asked
    faults.restore(scene.host)


def two_addresses(scene: Scene) -> None:
    """The host has two addresses of its own, and fleet.toml both."""
    scene.host.container.reload()
    base = scene.host.container.attrs["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
    start, last = base.rsplit(".", 1)
    extra = [f"{start.rsplit('.', 1)[0]}.{net}.{last}" for net in (201, 202)]
    for address in extra:
        scene.host.exec("ip", "address", "add", f"{address}/16", "dev", "eth0")
    scene.prepare(reach={"address": extra, "port": 22})


def lose_the_first_address(scene: Scene) -> None:
    script = (
        "ip -o address show dev eth0 | while read -r _ _ _ a _; do case $a in *.201.*) ip address del $a dev eth0; "
    )
    scene.host.exec("sh", "-c", script + "esac; done; ss -K sport = 22 2>/dev/null; :")


REBOOTED = Row(outcome="rolled_back", code=1, on=OLD, blamed=False, kind="silent", says="rebooted during the switch")

WOKEN = Row(outcome="rolled_back", code=1, on=OLD, blamed=False, kind="silent", or_else=KEPT)
"""Its keeper wakes up and goes back, if no look of the controller comes before it has: that proves the host anew."""

GIVEN_UP = dataclasses.replace(FAILED, leaves=".*-unsynced")
"""The mark of a push that a reboot has interrupted is there until somebody looks for damage."""

FAULTS = (
    Fault(
        name="network cut for good",
        strike=cut,
        slow=True,
        rows={
            "switched": IN_DOUBT,
            "switching": IN_DOUBT,
            "committing": Row(outcome="needs_human", code=4, on=NEW, kind="in_doubt"),
        },
    ),
    Fault(
        name="network cut past the deadline",
        slow=True,
        strike=cut_until_it_went_back,
        rows={"switched": NOT_SEEN, "switching": NOT_SEEN, "reverting": GONE_BACK, "committing": KEPT},
    ),
    Fault(
        name="network blinks",
        strike=blink,
        defaults={"confirm_timeout": "14s"},
        rows={"switched": KEPT, "switching": KEPT, "committing": KEPT},
    ),
    Fault(name="new connections refused", slow=True, strike=lose_new_connections, rows={"switching": NOT_SEEN}),
    Fault(
        name="new sshd broken",
        slow=True,
        nix=BROKEN_SSHD,
        rows={"switching": Row(outcome="rolled_back", code=1, on=OLD, kind="silent", says="no new login")},
    ),
    Fault(name="new firewall refuses new connections", nix=FIREWALL, rows={"switching": NOT_SEEN}),
    Fault(
        name="address changed",
        slow=True,
        prepare=two_addresses,
        strike=lose_the_first_address,
        defaults={"confirm_timeout": "45s"},  # a connection that died is noticed after three keepalives
        rows={"switched": KEPT, "switching": KEPT},
    ),
    Fault(
        name="power cut",
        strike=cut_power,
        rows={
            "committing": REBOOTED,
            "push": Row(outcome="kept", code=0, on=NEW, or_else=GIVEN_UP),  # pushed again when the host was back
            "switching": Row(
                outcome="rolled_back", code=1, on=OLD, or_else=GIVEN_UP
            ),  # it may not have recorded it yet
            "switched": REBOOTED,
            "reverting": Row(outcome="rolled_back", code=1, on=OLD),
        },
    ),
    Fault(
        name="host rebooted",
        strike=reboot,
        rows={
            "switched": REBOOTED,
            "switching": dataclasses.replace(
                GONE_BACK, blamed=False
            ),  # its unit is ended first, and then the host: it may find either reason
            "committing": Row(outcome="rolled_back", code=1, on=OLD, or_else=KEPT),
            "reverting": dataclasses.replace(GONE_BACK, blamed=None),
            "push": Row(outcome="kept", code=0, on=NEW, or_else=GIVEN_UP),
        },
    ),
    Fault(
        name="host rebooted slowly",
        strike=reboot_slowly,
        slow=True,
        rows={
            "switching": REBOOTED,
            "committing": Row(outcome="rolled_back", code=1, on=OLD, or_else=KEPT),
            "reverting": dataclasses.replace(GONE_BACK, blamed=None),  # as above: who is to blame is not on the disk
        },
    ),
    Fault(name="host asleep past the deadline", strike=freeze_past_the_deadline, rows={"switched": WOKEN}),
)
