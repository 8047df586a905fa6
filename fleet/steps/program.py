"""Put the host program into the local store, from where it is pushed to hosts."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from fleet import nix
from fleet.errors import FleetError
from fleet.host.program import source

if TYPE_CHECKING:
    from fleet.machine import Machine


async def store_program(here: Machine) -> str:
    """Add the host program to the local store and return its path there. Raise `FleetError` if that fails."""
    folder = await asyncio.to_thread(tempfile.mkdtemp, prefix="fleet-")
    try:
        file = Path(folder) / "fleet-host"
        file.write_text(source(), encoding="utf-8")
        file.chmod(0o755)  # an installer may have dropped the bit
        added = await here.run(nix.add_file(file))
    finally:
        shutil.rmtree(folder)
    if added.status != 0:
        raise FleetError("cannot add the host program to the local store", said=added.stderr.splitlines()[-5:])
    return added.stdout.strip()
