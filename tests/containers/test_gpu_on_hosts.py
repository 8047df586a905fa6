"""The check kind `gpu`, on a lab host that has what tells of GPUs: a stand-in for nvidia-smi, library and module."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.containers.driver import Run, Stage, new_version, running, web
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


def findings(run: Run, kind: str) -> list[str]:
    return [one["message"] for one in run.told("finding_reported", kind=kind)]


def test_a_job_on_a_gpu_waits_for_no_live_switch_and_lets_nobody_reboot_the_host(gpus: LabHost, stage: Stage) -> None:
    """The device is a plain file, the process that has it open is real, and nvidia-smi does not tell of processes."""
    shell(gpus, ": >/dev/nvidia-uvm")
    shell(gpus, "systemd-run -q --unit=job -p StandardInput=file:/dev/nvidia-uvm /usr/bin/sleep inf")
    pid = shell(gpus, "systemctl show -P MainPID job")
    stage.toml({"gpu": {}})
    stage.write("gpu", web(new_version()))
    run = stage.deploy("gpu")
    assert (run.outcomes, findings(run, "gpu_jobs")) == ({"gpu": "kept"}, [f"computes on a GPU: {pid}, sleep"])
    assert shell(gpus, "systemctl show -P MainPID job") == pid
    assert stage.document("status", "gpu")["hosts"][0]["gpu_jobs"] == [f"{pid}, sleep"]

    boot = shell(gpus, "cut -d ' ' -f 22 /proc/1/stat")
    stage.write("gpu", web(new_version()))
    refused = stage.deploy("gpu", "--reboot", "always", "--accept-boot-risk")
    assert (refused.outcomes, refused.failure("gpu")["kind"]) == ({"gpu": "failed"}, "unfit")
    assert f"a reboot would interrupt a job on the GPU ({pid}, sleep)" in refused.failure("gpu")["message"]
    refused = stage.fleet("reboot", "gpu", "--accept-boot-risk", "--json", "--yes")
    assert (refused.outcomes, refused.failure("gpu")["kind"]) == ({"gpu": "failed"}, "unfit")
    assert shell(gpus, "cut -d ' ' -f 22 /proc/1/stat; systemctl show -P MainPID job").split() == [boot, pid]

    plan = stage.document("plan", "gpu", "--reboot", "always", "--accept-boot-risk", "--force")
    shell(gpus, "systemctl stop job; rm /dev/nvidia-uvm")
    (forced,) = [one for one in plan["findings"] if one["kind"] == "forced"]
    assert forced["message"] == f"the reboot interrupts a job on the GPU ({pid}, sleep)"


def test_weak_power_is_told_and_a_read_only_card_is_left_out(gpus: LabHost, stage: Stage) -> None:
    """What asks the firmware is a stand-in. The file system is really read-only."""
    put(gpus, "/usr/local/bin/vcgencmd", "#!/bin/sh\necho throttled=0x50005\n", mode="755")
    stage.toml({"gpu": {}})
    stage.write("gpu", web(new_version()))
    run = stage.deploy("gpu")
    assert (run.outcomes, findings(run, "power")) == ({"gpu": "kept"}, ["undervoltage, throttling now"])
    shell(gpus, "rm /usr/local/bin/vcgencmd; mount --bind /boot /boot && mount -o remount,ro,bind /boot")
    try:
        stage.write("gpu", web(new_version()))
        run = stage.deploy("gpu")
        told = "a switch writes to what is read-only: /boot/loader/loader.conf"
        assert (run.outcomes, run.failure("gpu")["kind"]) == ({"gpu": "failed"}, "unfit")
        assert (run.failure("gpu")["message"], run.told("phase_started", phase="push")) == (told, [])
        assert findings(run, "read_only") == ["cannot be written: /boot/loader/loader.conf"]
        assert stage.deploy("gpu", "--goal", "test").outcomes == {"gpu": "kept"}
    finally:
        shell(gpus, "umount /boot")


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
