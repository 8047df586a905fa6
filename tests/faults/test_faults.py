"""The fault table: after any fault, the proven new system or the old one, and people are told which.

`make test` plays each fault once, where it is worst, unless another of its tests shows the same (`shown_by`).
`make faults` plays every cell (`FLEET_LONG=all`).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.faults.activation import FAULTS as ACTIVATION
from tests.faults.checks import FAULTS as CHECKS
from tests.faults.controller import FAULTS as CONTROLLER
from tests.faults.disks import FAULTS as DISKS
from tests.faults.history import FAULTS as HISTORY
from tests.faults.logins import FAULTS as LOGINS
from tests.faults.network import FAULTS as NETWORK
from tests.faults.of_drivers import CELLS as DRIVER_CELLS
from tests.faults.of_secrets import FAULTS as SECRETS
from tests.faults.people import FAULTS as PEOPLE
from tests.faults.table import Cell
from tests.faults.units import FAULTS as UNITS

if TYPE_CHECKING:
    from tests.faults.conftest import Players
    from tests.faults.of_drivers import DriverCell

FAULTS = (*CONTROLLER, *NETWORK, *ACTIVATION, *UNITS, *CHECKS, *DISKS, *PEOPLE, *HISTORY, *LOGINS, *SECRETS)

IS_FULL = os.environ.get("FLEET_LONG") == "all"


def cells() -> list[Cell]:
    """What is played: the worst phase of each quick fault, or everything."""
    if IS_FULL:
        return [Cell(fault, phase) for fault in FAULTS for phase in fault.rows]
    return [Cell(fault, next(iter(fault.rows))) for fault in FAULTS if not (fault.slow or fault.shown_by)]


def parameters() -> list[object]:
    return [
        pytest.param(
            cell,
            id=str(cell),
            marks=[pytest.mark.xfail(reason=cell.fault.xfail[cell.phase])] if cell.phase in cell.fault.xfail else [],
        )
        for cell in cells()
    ]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("cell", parameters())
def test_fault(cell: Cell, players: Players) -> None:
    players.result(cell)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("driver_cell", [cell for cell in DRIVER_CELLS if IS_FULL or cell.is_worst], ids=str)
def test_fault_of_a_driver(driver_cell: DriverCell, players_of_drivers: Players) -> None:
    players_of_drivers.result(driver_cell)
