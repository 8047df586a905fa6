"""A reboot that would interrupt somebody: the host refuses it itself, however long ago the plan was made."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.containers.hostprogram import NEW
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.containers.hostprogram import Subject


@pytest.fixture
def job(subject: Subject) -> Iterator[str]:
    """A process that has a GPU open, and how it is named. The GPU is a plain file."""
    subject.sh(": >/dev/kfd; systemd-run -q --unit=job -p StandardInput=file:/dev/kfd /usr/bin/sleep inf")
    yield f"{subject.sh('systemctl show -P MainPID job')}, sleep"
    subject.sh("systemctl stop job; rm -f /dev/kfd", check=False)


def test_a_job_on_a_gpu_is_not_interrupted_unless_that_is_forced_and_then_it_is_in_the_history(
    subject: Subject, job: str
) -> None:
    new = subject.closure(NEW + 'kernel = "6.14";')
    before = subject.stands_on
    answer = subject.tell(subject.order(new, goal="boot", boot=120, risk="yes"))
    assert answer["refused"] == ["unfit"]
    assert answer["message"] == [f"a reboot would interrupt a job on the GPU ({job})"]
    assert (subject.stands_on, subject.leftovers()) == (before, "")
    run = subject.begin(new, goal="boot", boot=120, risk="yes", force="yes")
    until(lambda: not subject.host.is_on, within=60, what="it goes down")
    subject.host.power_on()
    subject.follow(run, "switched", within=60)
    assert subject.word(run, "confirm").accepted
    subject.follow(run, "committed", within=60)
    assert subject.history[-1].reason == "forced (--force)"
