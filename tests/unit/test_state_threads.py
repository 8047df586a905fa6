"""Calls of the state wait in threads of their own."""

from __future__ import annotations

import asyncio
import threading

from fleet.state.threads import THREADS, in_state


def test_calls_that_wait_for_a_database_keep_nobody_from_looking_up_names() -> None:
    answers = threading.Event()

    async def scenario() -> list[int]:
        hanging = [
            asyncio.create_task(asyncio.wait_for(in_state(lambda: answers.wait() * 7), 60)) for _ in range(THREADS)
        ]
        try:
            async with asyncio.timeout(30):
                assert await asyncio.get_running_loop().getaddrinfo("localhost", 22)
                assert await asyncio.to_thread(lambda: 2) == 2
            assert not any(call.done() for call in hanging)
        finally:
            answers.set()
        return await asyncio.gather(*hanging)

    assert asyncio.run(scenario()) == [7] * THREADS
