"""`python -m tests.bench.bare FILE AT_ONCE`: connect to each host of the file, run one command, and no more.

What asyncssh costs, and so the least that a no-op of `fleet` can cost: the peer of that case.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import asyncssh


async def main(hosts: list[dict[str, Any]], at_once: int) -> None:
    """Every host has answered."""
    places = asyncio.Semaphore(at_once)

    async def one(host: dict[str, Any]) -> None:
        async with places:
            known: Any = [asyncssh.import_public_key(host["host_key"])], [], []
            async with asyncssh.connect(
                "127.0.0.1", host["port"], username="root", client_keys=[host["key"]], known_hosts=known
            ) as connection:
                await connection.run("true", check=True)

    async with asyncio.TaskGroup() as group:
        for host in hosts:
            group.create_task(one(host))


if __name__ == "__main__":
    asyncio.run(main(json.loads(Path(sys.argv[1]).read_text()), int(sys.argv[2])))
