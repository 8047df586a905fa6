"""Whether somebody reads what is written."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import pytest

from fleet.output.reader import reader_has_left

if TYPE_CHECKING:
    from pathlib import Path


async def test_reader_of_a_pipe_that_leaves_is_noticed_though_nothing_is_written() -> None:
    read, write = os.pipe()
    with os.fdopen(write, "w") as stream:
        waiting = asyncio.create_task(reader_has_left(stream))
        done, _ = await asyncio.wait([waiting], timeout=0.2)
        assert not done
        os.close(read)
        await asyncio.wait_for(waiting, 10)


async def test_file_is_never_left(tmp_path: Path) -> None:
    with (tmp_path / "out").open("w") as stream, pytest.raises(TimeoutError):
        await asyncio.wait_for(reader_has_left(stream), 0.2)
