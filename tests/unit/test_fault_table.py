"""What `make test` leaves out of the fault table is shown by a test that it plays."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.containers.grounds import DRIVERS
from tests.faults import of_drivers
from tests.faults.test_faults import FAULTS

if TYPE_CHECKING:
    from tests.faults.table import Fault

CONTAINERS = Path(__file__).parents[1] / "containers"
DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault.shown_by], ids=lambda fault: fault.name)
def test_what_shows_a_fault_instead_is_played_each_time(fault: Fault) -> None:
    file, name = fault.shown_by.split("::")
    module = ast.parse((CONTAINERS / file).read_text())
    (function,) = [node for node in module.body if isinstance(node, ast.FunctionDef) and node.name == name]
    assert not any(ast.unparse(decorator) == "pytest.mark.long" for decorator in function.decorator_list)
    assert "pytestmark" not in {
        ast.unparse(target) for node in module.body if isinstance(node, ast.Assign) for target in node.targets
    }


def test_the_columns_of_drivers_are_documented_as_they_are_played() -> None:
    lines = (DOCS / "drivers.md").read_text().splitlines()
    rows = of_drivers.documented()
    first = lines.index(rows[0])
    assert lines[first : first + len(rows)] == rows
    assert not lines[first + len(rows)].startswith("|")


def test_every_driver_is_played_where_a_power_cut_is_worst() -> None:
    assert {cell.driver for cell in of_drivers.CELLS if cell.is_worst} == set(DRIVERS)
