"""The columns of the fault table for other drivers than NixOS's: what befalls a deployment, and how it ends."""

from __future__ import annotations

import dataclasses
import signal
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fleet.model import NOTHING
from tests.containers.driver import BUSY, PATIENCE, wait_until
from tests.containers.grounds import DRIVERS, Ground
from tests.faults.controller import KILLED
from tests.faults.network import REBOOTED
from tests.faults.table import GONE_BACK, KEPT, NEW, OLD, Row

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fleet.lab import LabHost
    from tests.containers.driver import Run

PLACE = "/run/lab-drivers"
"""A folder of the host where activations say that they run, and are told to wait or to fail."""
HOLD = f"{PLACE}/hold"
SCRIPT = (
    f"[ ! -d {PLACE} ] || : >>{PLACE}/began; while [ -e {HOLD} ]; do sleep 0.05; done;"
    f" [ ! -e {PLACE}/fails ] || {{ rm {PLACE}/fails; false; }} && [ ! -e {PLACE}/fails-always ]"
)
FAILS_ONCE, FAILS = f"{PLACE}/fails", f"{PLACE}/fails-always"
NONE = ("nothing", "nothing", "nothing")
OTHER = ("other", "other", "other")


@dataclass
class Play:
    """One host, one deployment of a driver's system that something befalls."""

    ground: Ground
    old: str
    new: str
    other: str = ""
    said: list[str] = field(default_factory=list)
    """What people were told besides the run's own events."""
    started: Run | None = None

    @property
    def host(self) -> LabHost:
        return self.ground.host

    @property
    def run(self) -> Run:
        """The deployment."""
        assert self.started is not None
        return self.started

    def at(self, state: str) -> None:
        """The transaction has come to this state."""
        wait_until(
            lambda: self.ground.state() == state, lambda: f"{self.ground.name} is {state}: {self.run!r}", PATIENCE
        )

    def activates(self) -> None:
        """An activation has begun, and waits."""
        wait_until(
            lambda: has(self.host, f"{PLACE}/began"), lambda: f"{self.ground.name} activates: {self.run!r}", PATIENCE
        )

    def goes_on(self) -> None:
        """Nothing is held any more."""
        if self.host.is_on:
            self.host.exec("rm", "-f", BUSY, HOLD)
            self.host.exec("systemctl", "stop", "intruder", check=False)

    def stands_on(self) -> tuple[str, str, str]:
        """What it runs, keeps and boots, by the names that rows use; and the profile itself is what it says."""
        told = self.ground.status()
        found = self.host.exec("readlink", "-e", self.ground.profile, check=False).stdout.strip()
        assert found == told["profile"].replace(NOTHING, "")
        names = {self.old: "old", self.new: "new", self.other: "other", NOTHING: "nothing"}
        runs, keeps, boots = (names.get(told[key], told[key]) for key in ("running", "profile", "boot_default"))
        return runs, keeps, boots


def has(host: LabHost, path: str) -> bool:
    return host.exec("test", "-e", path, check=False).status == 0


def strike_nothing(play: Play) -> None:
    """The fault is in the closure."""


def cut_power(play: Play) -> None:
    play.host.power_off()
    play.host.power_on()


def kill_controller(play: Play) -> None:
    play.run.process.kill()


def kill_keeper_again_and_again(play: Play) -> None:
    script = "for n in 1 2 3 4 5 6 7 8 9; do systemctl kill -s KILL 'fleet-keep-*' 2>/dev/null; sleep 0.15; done"
    play.host.exec("sh", "-c", script)


def second_controller(play: Play) -> None:
    other = play.ground.deploy(play.old, "--json")
    assert other.code == 5, other
    play.said.append(other.failure(play.ground.name)["message"])


def switch_by_hand(play: Play) -> None:
    play.ground.by_hand(play.other)


def roll_back(play: Play) -> Run:
    return play.ground.stage.fleet("rollback", play.ground.name, "--json", "--yes")


def cut_power_afterwards(play: Play) -> Run:
    cut_power(play)
    return play.run


@dataclass(frozen=True, kw_only=True, eq=False)
class DriverFault:
    """Something that befalls the deployment of a driver's system. `rows` is by phase, and then by driver."""

    name: str
    rows: Mapping[str, Mapping[str, Row]]
    strike: Callable[[Play], None] = strike_nothing
    then: Callable[[Play], Run] | None = None
    """What happens when the run has ended; the row is about the run that this gives."""
    bad: bool = False
    """Whether a check of the new system fails."""
    broken: bool = False
    """Whether its activation fails."""
    first: bool = False
    """Whether nothing was there before."""
    one_way: bool = False
    """Whether it cannot be taken back."""
    before: tuple[str, ...] = ()
    """What the host has in PLACE when the way back begins."""


def each(row: Row, **others: Row) -> dict[str, Row]:
    """The row for each driver, but for those that have another one."""
    return {driver: others.get(driver.replace("-", "_"), row) for driver in DRIVERS}


GONE = Row(outcome="rolled_back", code=1, on=NONE, blamed=True)
"""Of the first system of all."""
ACTIVATION = Row(outcome="rolled_back", code=1, on=OLD, blamed=True, kind="unhealthy", says="activation failed")
CUT = Row(outcome="rolled_back", code=1, on=OLD, blamed=False)
KILLED_LATE = Row(outcome="", code=-signal.SIGKILL, on=NEW)
STUCK = Row(outcome="needs_human", code=4, on=("new", "old", "old"), kind="stuck", says="its activation fails|runs")
SUPERSEDED = Row(outcome="failed", code=1, on=OTHER, blamed=False, kind="superseded", says="hands off")

FAULTS = (
    DriverFault(name="nothing", rows={"committing": each(KEPT)}),
    DriverFault(name="check fails", bad=True, rows={"switched": each(GONE_BACK)}),
    DriverFault(name="check of the first system fails", bad=True, first=True, rows={"switched": each(GONE)}),
    DriverFault(name="activation fails", broken=True, rows={"switching": each(ACTIVATION)}),
    DriverFault(name="activation of the first system fails", broken=True, first=True, rows={"switching": each(GONE)}),
    DriverFault(
        name="old system's activation fails once", bad=True, before=(FAILS_ONCE,), rows={"switched": each(GONE_BACK)}
    ),
    DriverFault(
        name="old system's activation fails for good",
        bad=True,
        before=(FAILS,),
        rows={"switched": each(STUCK, home_manager=dataclasses.replace(STUCK, on=("nothing", "old", "old")))},
    ),
    DriverFault(
        name="first system cannot be taken back",
        bad=True,
        first=True,
        one_way=True,
        rows={"switched": {"generic": dataclasses.replace(STUCK, on=("new", "nothing", "nothing"))}},
    ),
    DriverFault(
        name="rolled back by people",
        then=roll_back,
        rows={"committing": each(Row(outcome="kept", code=0, on=OLD, blamed=False))},
    ),
    DriverFault(
        name="power cut",
        strike=cut_power,
        rows={
            "switched": each(REBOOTED),
            "switching": each(CUT),
            # What runs after that boot is the proven one, where a boot does not bring the old one back.
            "committing": each(KEPT, generic=dataclasses.replace(REBOOTED, or_else=KEPT)),
            "reverting": each(CUT),
        },
    ),
    DriverFault(
        name="power cut of the first system",
        first=True,
        strike=cut_power,
        rows={"switched": each(Row(outcome="rolled_back", code=1, on=NONE, blamed=False))},
    ),
    DriverFault(name="power cut afterwards", then=cut_power_afterwards, rows={"committing": each(KEPT)}),
    DriverFault(
        name="controller killed",
        strike=kill_controller,
        rows={
            "switched": each(KILLED),
            "switching": each(KILLED),
            "committing": each(KILLED_LATE),
            "reverting": each(KILLED),
        },
    ),
    DriverFault(
        name="keeper killed again and again",
        strike=kill_keeper_again_and_again,
        rows={
            "reverting": each(GONE_BACK),
            "switching": each(KEPT),
            "switched": each(KEPT),
            "committing": each(KEPT),
        },
    ),
    DriverFault(
        name="two controllers",
        strike=second_controller,
        rows={
            "switched": each(Row(outcome="kept", code=0, on=NEW, says="a transaction is open: run .* switched")),
        },
    ),
    DriverFault(
        name="somebody switches by hand",
        strike=switch_by_hand,
        # A script that was run tells nobody of it: what was deployed counts as what runs.
        rows={
            "switched": each(
                SUPERSEDED, generic=Row(outcome="failed", code=1, on=("new", "other", "other"), kind="superseded")
            )
        },
    ),
)


@dataclass(frozen=True)
class DriverCell:
    """One fault in one phase, for one driver."""

    fault: DriverFault
    phase: str
    driver: str

    @property
    def row(self) -> Row:
        return self.fault.rows[self.phase][self.driver]

    @property
    def is_worst(self) -> bool:
        """Whether `make test` plays it: what was activated is on the disk, and a boot alone brings nothing back."""
        return (self.fault.name, self.phase) == ("power cut", "switched")

    def __str__(self) -> str:
        return f"{self.driver}-{self.fault.name}-{self.phase}".replace(" ", "_")


CELLS = tuple(
    DriverCell(fault, phase, driver) for fault in FAULTS for phase in fault.rows for driver in fault.rows[phase]
)


def documented() -> list[str]:
    """The rows of the table in docs/drivers.md."""
    rows = ["| what befalls it | when | " + " | ".join(f"`{driver}`" for driver in DRIVERS) + " | `nix-darwin` |"]
    rows.append("|---" * (len(DRIVERS) + 3) + "|")
    for fault in FAULTS:
        for phase, columns in fault.rows.items():
            cells = [_ends(columns[driver]) if driver in columns else "-" for driver in DRIVERS]
            rows.append(f"| {fault.name} | {phase} | {' | '.join(cells)} | not run |")
    return rows


def _ends(row: Row) -> str:
    """How a row ends, in the words of docs/outcomes.md where there is an outcome."""
    if row.or_else is not None:
        return f"`{row.outcome}` or `{row.or_else.outcome}`"
    return f"`{row.outcome}`" if row.outcome else {"old": "goes back", "new": "stays"}[row.on[0]] + " by itself"
