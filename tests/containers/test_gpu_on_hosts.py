"""The check kind `gpu`, on a lab host that has what tells of GPUs: a stand-in for nvidia-smi, library and module."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.containers.driver import Stage, new_version, running, web
from tests.containers.files import put, shell

if TYPE_CHECKING:
    from fleet.lab import Lab, LabHost
    from tests.containers.conftest import MakeLab


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Lab:
    return make_lab("gpu")


LIBRARY = "/run/opengl-driver/lib"


def driver(version: str) -> str:
    """Makes this driver the one of userspace."""
    file, link = f"/opt/libnvidia-ml.so.{version}", f"{LIBRARY}/libnvidia-ml.so.1"
    return f"mkdir -p {LIBRARY} && : >{file} && ln -sfn {file} {link}"


@pytest.fixture
def gpus(stage: Stage) -> LabHost:
    """A host with what tells of two GPUs: an `nvidia-smi`, a library, and a kernel module."""
    host = stage.host("gpu")
    smi = "#!/bin/sh\ncase $* in *query-gpu=driver_version*) cat /run/gpus ;; *) exit 2 ;; esac\n"
    put(host, "/usr/local/bin/nvidia-smi", smi, mode="755")
    put(host, "/run/gpus", "570.86.15, NVIDIA H200\n570.86.15, NVIDIA H200\n")
    module = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build  (dvs-builder)\n"
    put(host, "/opt/proc-driver/nvidia/version", module)
    shell(host, "mountpoint -q /proc/driver || mount --bind /opt/proc-driver /proc/driver")
    shell(host, driver("570.86.15"))
    return host


@pytest.mark.parametrize(
    ("keys", "break_it", "healthy", "said"),
    [
        ({"count": 2, "min_driver": "570.86"}, "", True, "2 GPUs, driver 570.86.15"),
        ({"count": 8}, "", False, "2 GPUs, driver 570.86.15; wanted 8"),
        ({"min_driver": "580"}, "", False, "2 GPUs, driver 570.86.15; wanted driver 580 or later"),
        ({}, driver("575.51.03"), False, "needs reboot: the kernel module is 570.86.15, userspace is 575.51.03"),
        ({}, "rm /usr/local/bin/nvidia-smi", False, "nvidia-smi is not there"),
        ({}, ": >/run/gpus", False, "nvidia-smi lists no GPU"),
    ],
)
def test_a_gpu_check_asks_the_host(
    gpus: LabHost,
    stage: Stage,
    keys: dict[str, Any],
    break_it: str,
    healthy: bool,  # noqa: FBT001
    said: str,
) -> None:
    stage.toml({"gpu": {"checks": [{"name": "gpus", "gpu": True, **keys}]}})
    shell(gpus, break_it or ":")
    (found,) = json.loads(stage.fleet("health", "gpu", "--json").stdout)["hosts"][0]["checks"]
    assert (found["passed"], found["said"]) == (healthy, said)


def test_a_driver_that_needs_a_reboot_is_rolled_back_and_called_so(gpus: LabHost, stage: Stage) -> None:
    """The activation of each system makes its own library the one of userspace, as NixOS's does."""
    stage.toml({"gpu": {"checks": [{"name": "gpus", "gpu": True, "within": "1s", "interval": "200ms"}]}})
    stage.write("gpu", web(new_version(), more=f"activationScript = ''{driver('570.86.15')}'';"))
    assert stage.deploy("gpu").outcomes == {"gpu": "kept"}
    old = running(gpus)
    stage.write("gpu", web(new_version(), more=f"activationScript = ''{driver('575.51.03')}'';"))
    run = stage.deploy("gpu")
    assert run.outcomes == {"gpu": "rolled_back"}
    assert "needs reboot: the kernel module is 570.86.15" in run.failure("gpu")["message"]
    assert running(gpus) == old
