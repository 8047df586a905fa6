"""Asking the state without waiting long."""

from __future__ import annotations

import asyncio
import threading

import pytest

from fleet.errors import StateError
from fleet.library import patience
from fleet.library.patience import Asking


async def test_everybody_who_asks_meanwhile_gets_the_answer() -> None:
    """A rollout asks before each of its moves, and each second beside that."""
    questions: list[int] = []
    go = threading.Event()

    def answer() -> int:
        go.wait(10)
        questions.append(len(questions))
        return questions[-1]

    asking = Asking(answer)

    async def again_and_again() -> list[int]:
        return [await asking() for _ in range(3)]

    tasks = [asyncio.create_task(again_and_again()) for _ in range(3)]
    await asyncio.sleep(0)
    go.set()
    answers = await asyncio.gather(*tasks)
    assert [each[0] for each in answers] == [0, 0, 0]
    assert all(each == sorted(each) for each in answers)
    assert max(each[-1] for each in answers) == questions[-1]


async def test_answer_that_comes_too_late_is_the_answer_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "PATIENCE", 0.05)
    go, asked = threading.Event(), []

    def answer() -> str:
        asked.append(1)
        go.wait(10)
        return "well"

    asking = Asking(answer)
    for _ in range(2):
        with pytest.raises(StateError, match="cannot be read within"):
            await asking()
    monkeypatch.setattr(patience, "PATIENCE", 10.0)
    go.set()
    assert await asking() == "well"
    assert len(asked) == 1
