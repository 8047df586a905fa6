"""VMs for the tests of a session, one for each boot loader: with a kernel and a disk that forgets what was not written.

Those marked `long` are part of `make reboots` alone, which sets FLEET_LONG=all.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fleet.errors import ConfigError
from fleet.lab import Lab, vm_image

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fleet.lab import VmHost

TIMEOUT = 1200
"""Seconds for one test: under emulation, on a machine that has other things to do, a boot takes a minute."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.container)
            item.add_marker(pytest.mark.timeout(TIMEOUT))


@pytest.fixture(scope="session")
def make_vm_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Lab]]:
    """`make_vm_lab()` is a lab with one VM, `vm`. Where VMs cannot run, tests are skipped, but fail in CI."""
    labs: list[Lab] = []

    def make() -> Lab:
        try:
            vm_image.ensure(print)
        except ConfigError as error:
            if os.environ.get("CI"):
                raise
            pytest.skip(f"{error}; {error.hint}")
        lab = Lab.find(tmp_path_factory.mktemp("lab"))
        labs.append(lab)  # before up: a lab that came up in part is removed too
        return Lab.up(lab.folder.path, vms=["vm"])

    yield make
    for lab in labs:
        lab.down()


@pytest.fixture(scope="session")
def vm_lab(make_vm_lab: Callable[[], Lab]) -> Lab:
    """The lab of most tests; its VM boots by systemd-boot."""
    return make_vm_lab()


@pytest.fixture
def vm(vm_lab: Lab) -> VmHost:
    """The VM, which has power and has booted."""
    host = vm_lab.vm("vm")
    host.power_on()
    return host
