"""One VM of a lab: a QEMU process with an overlay over the image's disk. It has a real kernel and a real boot loader.

Its folder is outside of the lab's, because Nix would copy the disk into the store with the lab's flake.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import tarfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fleet.errors import ConfigError, UnreachableError
from fleet.lab import agent, vm_image
from fleet.lab.engine import free_port, port_is_free
from fleet.lab.hosts import booted, checked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleet.lab.vm_image import VmImage
    from fleet.machine import Output
    from fleet.model import HostName

KVM = Path("/dev/kvm")
_PATIENCE = 300.0
"""Seconds that a VM has to boot. Under emulation on two idle cores it takes 20."""
_BUSY = 30.0
"""Seconds more that a VM has to answer while it is on: it may be busy, or reboot."""
_KVM_PATIENCE = 20.0
"""Seconds in which a kernel under KVM finishes its boot if it ever does. It takes one."""


@dataclass(frozen=True)
class VmHost:
    """A virtual machine that stands for a host."""

    name: HostName
    place: Path
    """The folder with its disk."""

    @property
    def port(self) -> int:
        """The port of its sshd on 127.0.0.1, whether it runs or not."""
        return int(json.loads((self.place / "vm.json").read_text(encoding="utf-8"))["port"])

    @property
    def process(self) -> int | None:
        """The id of its QEMU process while it has power."""
        try:
            pid = int((self.place / "pid").read_text(encoding="utf-8"))
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError):
            return None
        return pid if self._pidfile.encode() in words else None  # the id may belong to another process by now

    @property
    def is_on(self) -> bool:
        """Whether it has power."""
        return self.process is not None

    def make(self, image: VmImage, *, host_key: str, client_key: str, port: int | None) -> None:
        """Make it, at generation 1 and off. One that exists is kept, with these keys."""
        self.place.mkdir(parents=True, exist_ok=True)
        chosen = port if port is not None and port_is_free(port) else free_port()
        if not (self.place / "vm.json").exists():
            overlay = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(image.disk)]
            subprocess.run([*overlay, str(self.place / "disk.qcow2")], check=True, capture_output=True)
            shutil.copy(vm_image.VARIABLES, self.place / "firmware.fd")
        with tarfile.open(self.place / "seed.tar", "w") as seed:
            for file, text in (("host_key", host_key), ("client_key", client_key), ("name", self.name)):
                member = tarfile.TarInfo(file)
                member.size = len(text.encode())
                seed.addfile(member, io.BytesIO(text.encode()))
        (self.place / "vm.json").write_text(
            json.dumps({"port": chosen, "kernel": str(image.linux / "bzImage")}), encoding="utf-8"
        )

    def remove(self) -> None:
        """Remove it with everything that belongs to it."""
        self.power_off()
        shutil.rmtree(self.place)

    def exec(self, *argv: str, check: bool = True) -> Output:
        """Run the command on the host as root, without SSH. With `check`, raise `CommandFailedError` if it fails."""
        try:
            output = agent.run(self.place, argv, patience=_BUSY if self.is_on else 0.0)
        except agent.AgentSilentError as error:
            raise UnreachableError(self.name, f"does not say what became of {argv[0]}: {error}") from error
        return checked(self.name, argv, output) if check else output

    def power_off(self) -> None:
        """Cut its power: what its kernel has not written is lost."""
        pid = self.process
        if pid is None:
            return
        os.kill(pid, signal.SIGKILL)
        while not _has_ended(pid):  # until then it holds its disk and its port
            time.sleep(0.01)

    def power_on(self) -> str:
        """Boot what its boot loader's files say, and wait until it answers. Return systemd's name for its state."""
        self.start()
        return self.wait()

    def start(self) -> None:
        """Switch its power on."""
        if self.is_on:
            return
        done = subprocess.run(self._argv(), cwd=self.place, capture_output=True, encoding="utf-8", errors="replace")
        if done.returncode:
            raise ConfigError(f"{self.name}: QEMU does not start", said=done.stderr.splitlines()[-5:])

    def wait(self) -> str:
        """Wait until it has finished booting and its sshd answers.

        Return systemd's name for its state, such as `running`.
        """
        return booted(self, _PATIENCE, every=0.2, hint=f"see {self.place / 'console.log'}")

    def console(self) -> str:
        """Return what it has written to its console since it was made."""
        return (self.place / "console.log").read_text(encoding="utf-8", errors="replace")

    def state(self) -> str:
        """Return systemd's name for its state; an empty string if it does not answer."""
        try:
            return agent.run(self.place, ["systemctl", "is-system-running"]).stdout.strip()
        except agent.AgentSilentError:
            return ""

    @property
    def _pidfile(self) -> str:
        """The file with its process id. Its name also tells its process from others."""
        return str(self.place / "pid")

    def _argv(self) -> list[str]:
        """Return QEMU's command line, for the folder of the VM.

        QEMU returns when the machine runs, and leaves it running.
        """
        kvm = kvm_works(Path(json.loads((self.place / "vm.json").read_text(encoding="utf-8"))["kernel"]))
        return [
            *("qemu-system-x86_64", "-name", self.name),
            *_machine(kvm=kvm),
            *("-m", "1024", "-device", "virtio-rng-pci"),
            *("-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={vm_image.FIRMWARE}"),
            *("-drive", "if=pflash,unit=1,format=raw,file=firmware.fd"),
            *("-drive", "if=virtio,format=qcow2,file=disk.qcow2"),
            *("-drive", "if=virtio,format=raw,readonly=on,file=seed.tar"),
            *("-netdev", f"user,id=net,hostfwd=tcp:127.0.0.1:{self.port}-:22"),
            *("-device", "virtio-net-pci,netdev=net,romfile="),
            *("-device", "virtio-serial", "-chardev", "socket,id=agent,path=agent.sock,server=on,wait=off"),
            *("-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0"),
            *("-chardev", "file,id=console,path=console.log,append=on", "-serial", "chardev:console"),
            *("-pidfile", self._pidfile, "-daemonize"),
        ]


def _has_ended(pid: int) -> bool:
    """Whether the process has ended, except perhaps for its entry in the table of processes."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def _machine(*, kvm: bool) -> list[str]:
    # Little room for translated code (in MiB): after a reset the firmware overwrites all of it bit by bit. That takes
    # ten seconds, but minutes with the gigabyte that is QEMU's default.
    accel = ["-accel", "kvm", "-cpu", "host", "-smp", "2"] if kvm else ["-accel", "tcg,tb-size=128", "-cpu", "max"]
    return ["-machine", "q35", *accel, "-display", "none", "-nodefaults", "-no-user-config"]


def kvm_works(kernel: Path) -> bool:
    """Whether this machine runs the kernel under KVM; on some it hangs. Tried once after each boot of this machine."""
    if not os.access(KVM, os.R_OK | os.W_OK):
        return False
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    answer = vm_image.cache() / f"kvm-{boot}"
    if not answer.exists():
        answer.parent.mkdir(parents=True, exist_ok=True)
        answer.write_text("yes" if _boots_under_kvm(kernel) else "no", encoding="utf-8")
    return answer.read_text(encoding="utf-8") == "yes"


def _boots_under_kvm(kernel: Path) -> bool:
    """Whether the kernel comes to the end of its boot under KVM.

    It boots without a disk, so that it panics there, and the panic switches the machine off.
    """
    console = ["-kernel", str(kernel), "-append", "console=ttyS0 panic=-1", "-no-reboot", "-serial", "stdio"]
    argv = ["qemu-system-x86_64", *_machine(kvm=True), "-m", "256", *console]
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=_KVM_PATIENCE)
    except subprocess.TimeoutExpired:
        return False
    return b"Kernel panic" in done.stdout


def folder(lab: str) -> Path:
    """Return the folder for the VMs of the lab with this name."""
    return vm_image.cache() / "vms" / lab


def add_kernel(image: VmImage, root: Path) -> None:
    """Add the kernel of the lab's VMs to this machine's store, where it stays for as long as the link `root` does."""
    add = ["nix-store", "--add-fixed", "--recursive", "sha256", str(image.linux)]
    path = _nix(add).strip()
    root.parent.mkdir(parents=True, exist_ok=True)
    _nix(["nix-store", "--realise", path, "--add-root", str(root), "--indirect"])


def _nix(argv: Sequence[str]) -> str:
    try:
        done = subprocess.run(argv, capture_output=True, encoding="utf-8", check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        stderr = error.stderr.splitlines()[-5:] if isinstance(error, subprocess.CalledProcessError) else []
        raise ConfigError(f"{argv[0]} does not take the kernel of the lab's VMs", said=stderr) from error
    return done.stdout
