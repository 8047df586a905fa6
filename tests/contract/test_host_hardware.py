"""What the host program says of hardware: files in the place of sysfs and of devices, and processes that are real."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.contract.host_functions import SHELLS, call

if TYPE_CHECKING:
    from collections.abc import Iterator

SMI = "nvidia-smi"


def answers(folder: Path, shell: str, script: str = "") -> list[str]:
    """What is answered of a machine whose sysfs and devices are in the folder, and which has no boot loader."""
    places = f"firmware_node={folder}/firmware sensors={folder}/hwmon gpus='{folder}/nvidia-uvm {folder}/kfd' loader="
    path = f"PATH={folder}/bin:$PATH"
    return call(folder, f"{places}; {path}; {script or 'answer_hardware'}", shell=shell).splitlines()


def program(folder: Path, name: str, script: str) -> None:
    file = folder / "bin" / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)


def put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def job(tmp_path: Path) -> Iterator[str]:
    """A process that computes on both GPUs, and what names it."""
    devices = [tmp_path / name for name in ("nvidia-uvm", "kfd")]
    for device in devices:
        device.touch()
    with devices[0].open() as uvm, devices[1].open() as kfd:
        process = subprocess.Popen(["sleep", "inf"], stdin=uvm, stdout=kfd)
    yield f"{process.pid}, sleep"
    process.kill()
    process.wait()


@pytest.mark.parametrize("shell", SHELLS)
def test_machine_without_any_of_it_says_nothing(tmp_path: Path, shell: str) -> None:
    assert answers(tmp_path, shell) == []


@pytest.mark.parametrize("shell", SHELLS)
def test_firmware_of_a_pi_is_read_or_asked_and_so_is_its_sensor(tmp_path: Path, shell: str) -> None:
    program(tmp_path, "vcgencmd", 'echo "throttled=0x$1"; [ "$1" = get_throttled ] || exit 1')
    assert answers(tmp_path, shell) == ["throttled=0xget_throttled"]
    put(tmp_path / "firmware" / "get_throttled", "50005\n")
    put(tmp_path / "hwmon" / "hwmon0" / "name", "cpu_thermal\n")
    put(tmp_path / "hwmon" / "hwmon0" / "in0_lcrit_alarm", "1\n")
    put(tmp_path / "hwmon" / "hwmon1" / "name", "rpi_volt\n")
    put(tmp_path / "hwmon" / "hwmon1" / "in0_lcrit_alarm", "0\n")
    assert answers(tmp_path, shell) == ["throttled=50005"]
    put(tmp_path / "hwmon" / "hwmon1" / "in0_lcrit_alarm", "1\n")
    assert answers(tmp_path, shell) == ["throttled=50005", "undervoltage=yes"]


@pytest.mark.parametrize("shell", SHELLS)
def test_processes_that_compute_on_a_gpu_are_told_once_each(tmp_path: Path, shell: str, job: str) -> None:
    program(tmp_path, SMI, "exit 9")  # it may take seconds: a mere look does not wait for it
    assert answers(tmp_path, shell) == [f"gpu_job={job}"]


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("smi", "by_smi", "by_open_files"),
    [
        ("echo '42, python3'", ["42, python3"], True),  # what has ROCm's device open, nvidia-smi does not know
        ("exit 9", [], True),
        ("echo '[Not Supported], [Not Supported]'", [], True),
        ("echo '[N/A], [N/A]'", [], True),
        ("echo 'WARNING: infoROM is corrupted at gpu 0000:01:00.0'", [], True),  # it says so on stdout, and ends well
        ("echo '42, python3'; echo 'WARNING: infoROM is corrupted'", [], True),
        ("echo 42, python3; head -c 200000 /dev/zero | tr '\\0' x", [], True),
        ("head -c 200000 /dev/urandom", [], True),
    ],
)
def test_jobs_are_those_of_nvidia_smi_or_those_with_open_devices(
    tmp_path: Path, shell: str, job: str, smi: str, by_smi: list[str], *, by_open_files: bool
) -> None:
    program(tmp_path, SMI, smi)
    assert answers(tmp_path, shell, "gpu_jobs") == [*by_smi, *([job] if by_open_files else [])]


@pytest.mark.parametrize("shell", SHELLS)
def test_nvidia_smi_is_believed_about_its_own_cards(tmp_path: Path, shell: str, job: str) -> None:
    program(tmp_path, SMI, "exit 0")
    (tmp_path / "kfd").unlink()
    assert answers(tmp_path, shell, "gpu_jobs") == []
    program(tmp_path, SMI, "exit 1")
    assert answers(tmp_path, shell, "gpu_jobs") == [job]


@pytest.mark.parametrize("shell", SHELLS)
def test_what_watches_over_a_gpu_is_no_job(tmp_path: Path, shell: str) -> None:
    device, watcher = tmp_path / "nvidia-uvm", tmp_path / "nvidia-persistenced"
    device.touch()
    watcher.symlink_to(Path("/bin/sleep").resolve())
    with device.open() as uvm:
        process = subprocess.Popen([watcher, "inf"], stdin=uvm)
    said = answers(tmp_path, shell)
    process.kill()
    process.wait()
    assert said == []


@pytest.mark.parametrize("shell", SHELLS)
def test_a_reboot_that_would_interrupt_somebody_is_refused_by_the_host(tmp_path: Path, shell: str) -> None:
    fakes = 'decline() { echo "$@"; }; busy() { answer busy "ann (tty1)"; answer busy "a job (7)"; }'
    said = answers(tmp_path, shell, f"{fakes}; require_idle")
    assert said == ["unfit a reboot would interrupt ann (tty1);a job (7)"]
    assert answers(tmp_path, shell, f"{fakes}; busy() {{ :; }}; require_idle && echo idle") == ["idle"]


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(("force", "reason", "told"), [("yes", "", "forced (--force)"), ("", "bad", "bad")])
def test_history_says_that_a_reboot_was_forced(tmp_path: Path, shell: str, force: str, reason: str, told: str) -> None:
    put(tmp_path / "t" / "reason", f"{reason}\n")
    if force:
        put(tmp_path / "t" / "force", "yes\n")
    assert answers(tmp_path, shell, 'cd t; read_reason; echo "$text"') == [told]


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("smi", ["setsid sleep 15 &", "trap '' TERM; setsid sleep 15 & wait", "yes '42, python3'"])
def test_tool_that_never_ends_keeps_nobody_waiting_and_holds_no_lock(
    tmp_path: Path, shell: str, job: str, smi: str
) -> None:
    """As where a card has fallen off its bus: a process that waits for it does not even end when it is killed."""
    program(tmp_path, SMI, smi)
    program(tmp_path, "vcgencmd", smi)
    script = f"""exec 9>{tmp_path}/lock; flock -n 9; with_timeout() {{ shift; timeout -k 0.2 0.3 "$@"; }}
      timeout() {{ case $1 in -k) command timeout "$@" ;; *) shift; command timeout 1 "$@" ;; esac; }}
      gpu_jobs; answer_hardware >/dev/null; exec 9>&-; flock -n {tmp_path}/lock echo free"""
    began = time.monotonic()
    assert answers(tmp_path, shell, script) == [job, "free"]
    assert time.monotonic() - began < 10
