"""Real hosts for tests: the lab that people get from `fleet lab up`, gone when the tests are."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fleet.errors import ConfigError
from fleet.lab import Lab, engine, image
from tests.containers import nixos_switch
from tests.containers.driver import stage as stage
from tests.containers.hostprogram import Subject
from tests.waiting import until

MakeLab = Callable[..., Lab]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.container)


@pytest.fixture(scope="session")
def lab_image() -> str:
    """The image of all hosts. Without Docker, tests that need it are skipped, but fail in CI."""
    try:
        return image.ensure(engine.connect(), print)
    except ConfigError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"{error}: {error.hint}")


@pytest.fixture(scope="module")
def make_lab(lab_image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeLab]:
    """`make_lab("one", "two")` is a lab with these hosts; all of them are gone after the module's last test."""
    labs: list[Lab] = []

    def make(*hosts: str) -> Lab:
        lab = Lab.find(tmp_path_factory.mktemp("lab"))
        labs.append(lab)  # before up: a lab that came up in part is removed too
        lab = Lab.up(lab.folder.path, hosts)
        nixos_switch.adopt(lab)
        nixos_switch.leave_generation_1(lab)
        return lab

    yield make
    for lab in labs:
        lab.down()


@pytest.fixture(scope="session")
def host_program(lab_image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    """One lab host for all tests of the host program."""
    lab = Lab.up(tmp_path_factory.mktemp("lab"), ["subject"])
    try:
        nixos_switch.adopt(lab)
        yield Subject.on(lab, "subject", tmp_path_factory.mktemp("closures"))
    finally:
        lab.down()


@pytest.fixture
def subject(host_program: Subject) -> Iterator[Subject]:
    """The host at OLD. After the test nothing of fleet is left on it but what design.md allows."""
    host_program.use("/bin/sh")
    yield host_program
    try:
        until(lambda: not host_program.leftovers(), within=10, what="clean host")
    finally:
        host_program.reset()
