"""What `make test` leaves out of the fault table is shown by a test that it plays."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.faults.test_faults import FAULTS

if TYPE_CHECKING:
    from tests.faults.table import Fault

CONTAINERS = Path(__file__).parents[1] / "containers"


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault.shown_by], ids=lambda fault: fault.name)
def test_what_shows_a_fault_instead_is_played_each_time(fault: Fault) -> None:
    file, name = fault.shown_by.split("::")
    module = ast.parse((CONTAINERS / file).read_text())
    (function,) = [node for node in module.body if isinstance(node, ast.FunctionDef) and node.name == name]
    assert not any(ast.unparse(decorator) == "pytest.mark.long" for decorator in function.decorator_list)
    assert "pytestmark" not in {
        ast.unparse(target) for node in module.body if isinstance(node, ast.Assign) for target in node.targets
    }
