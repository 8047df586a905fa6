"""procrastinate alone: `python -m tests.bench.bare_queue URL COUNT PROCESSES PLACES` does so many jobs that do nothing.

Without COUNT and PROCESSES it is one of the workers.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import Any

import procrastinate

SCHEMA = "bare_queue"
AT_ONCE = 1000
"""Jobs that are added together."""


def app(url: str) -> procrastinate.App:
    """The queue in the database, in a schema of its own, with one task."""
    kwargs = {"options": f"-c search_path={SCHEMA}"}
    made = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=url, kwargs=kwargs))

    @made.task(name="nothing")
    async def nothing(number: int) -> None:
        """Do nothing."""

    return made


async def work(url: str, places: int) -> None:
    """Everything that is there is done."""
    queue = app(url)
    async with queue.open_async():
        await queue.run_worker_async(
            wait=False, concurrency=places, delete_jobs="always", install_signal_handlers=False, listen_notify=False
        )


async def add(url: str, count: int) -> None:
    """So many jobs are there."""
    queue = app(url)
    async with queue.open_async():
        await queue.connector.execute_query_async(f"CREATE SCHEMA {SCHEMA}")
        await queue.schema_manager.apply_schema_async()
        task = queue.configure_task("nothing")
        for first in range(0, count, AT_ONCE):
            numbers = range(first, min(count, first + AT_ONCE))
            await task.batch_defer_async(*(dict[str, Any](number=number) for number in numbers))


def main(url: str, *numbers: str) -> None:
    if len(numbers) == 1:
        asyncio.run(work(url, int(numbers[0])))
        return
    count, processes, places = map(int, numbers)
    asyncio.run(add(url, count))
    argv = [sys.executable, "-m", "tests.bench.bare_queue", url, str(places)]
    for worker in [subprocess.Popen(argv) for _ in range(processes)]:
        assert worker.wait() == 0


if __name__ == "__main__":
    main(*sys.argv[1:])
