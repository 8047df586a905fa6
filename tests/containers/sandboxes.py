"""Sandboxes of modules/sandbox.nix on a lab host, as a system that has them would bring them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.containers.files import put, shell
from tests.nixos_modules import configured, script_text, unit_text

if TYPE_CHECKING:
    from fleet.lab import LabHost, VmHost

SOURCE = Path(__file__).parent.parent.parent / "fleet" / "sandbox"
DEBIAN = 'readOnly = [ "/usr" "/bin" "/lib" "/lib64" ]; requireLimits = false;'
"""What a host needs whose programs are not in the store; and the kernel of a lab host limits no memory."""


def program() -> str:
    """The text of the program, joined as `program/default.nix` does it."""
    folder = SOURCE / "program"
    return "".join((folder / part).read_text() for part in (folder / "parts.txt").read_text().split())


def install(host: LabHost | VmHost, settings: str, *, store: str = "", modules: tuple[str, ...] = ("sandbox",)) -> None:
    """The host has the sandboxes of these settings; of the store they see what `store` lists."""
    put(host, "/opt/fleet-sandbox-program", program(), mode="755")
    put(host, "/opt/fleet-sandbox-probe", (SOURCE / "scripts" / "probe.sh").read_text())
    put(host, "/opt/closure-info/store-paths", store)
    wanted = """{ inherit (config.systemd) services sockets timers; etc = config.environment.etc;
      packages = map (package: package.text) config.systemd.packages;
      entry = config.environment.etc."fleet/sandbox".source.text; }"""
    ours = """services.fleet.sandbox = { enable = true; program = "/opt/fleet-sandbox-program";
      probe = "/opt/fleet-sandbox-probe"; };"""
    found = configured(modules, f"{{ imports = [ {{ {ours} }} ({settings}) ]; }}", wanted)
    shell(host, "rm -rf /etc/systemd/system/fleet-sandbox-* /etc/fleet/sandboxes")
    for name, file in found["etc"].items():
        if file["text"] is not None:
            put(host, f"/etc/{name}", file["text"])
        elif name != "fleet/sandbox":
            shell(host, f"cp {file['source']} /etc/{name}")
    for path in ("/etc/fleet/sandbox", "/opt/fleet-sandbox"):
        put(host, path, found["entry"], mode="755")
    names = []
    for kind in ("service", "socket", "timer"):
        for stem, unit in found[f"{kind}s"].items():
            put(host, f"/etc/systemd/system/{stem}.{kind}", unit_text(f"{stem}.{kind}", unit, f"/opt/{stem}"))
            if unit.get("script"):
                put(host, f"/opt/{stem}", script_text(unit), mode="755")
            names.append(f"{stem}.{kind}")
    for text in found["packages"]:
        shell(host, f"out=/opt/built; rm -rf $out\n{text}\ncp -r $out/lib/systemd/system/. /etc/systemd/system/")
    verified = host.exec("systemd-analyze", "verify", *names, check=False)
    assert (verified.status, verified.stderr) == (0, "")
    host.exec("systemctl", "daemon-reload")


def inside(host: LabHost | VmHost, name: str, command: str) -> tuple[int, str]:
    """How the command ended in the sandbox, and what it said."""
    done = host.exec("/etc/fleet/sandbox", "enter", name, "sh", "-c", command, check=False)
    return done.status, (done.stdout + done.stderr).strip()


def answer(host: LabHost | VmHost, verb: str, name: str) -> dict[str, Any]:
    """What the program of the host says: each probe by its name, and the rest by its key."""
    rows = [line.split("\t") for line in shell(host, f"/etc/fleet/sandbox {verb} {name}").splitlines()]
    assert rows.pop() == ["end"]
    found: dict[str, Any] = {row[0]: row[1] for row in rows if row[0] != "probe"}
    return {**found, "probes": {row[1]: (row[2], row[3]) for row in rows if row[0] == "probe"}}


def broken(found: dict[str, Any]) -> set[str]:
    return {name for name, (held, _) in found["probes"].items() if held in ("broken", "unknown")}


def ways_out(here: str, neighbour: str, victim: str) -> dict[str, str]:
    """Commands that succeed for whoever gets out, by what they reach. `here` is the host, `victim` a process of it."""
    return {
        "the host's files": "cat /etc/shadow || cat /root/.ssh/authorized_keys || ls /home/operator",
        "the host's network": f"busybox nc -w 2 {here} 22 </dev/null | grep SSH",
        "a neighbour": f"busybox wget -T 2 -q -O- http://{neighbour}/",
        "names": "busybox nslookup example.org 1.1.1.1 || busybox nslookup example.org 172.17.0.1",
        "Nix's daemon": "NIX_REMOTE=daemon nix-store --add /work",
        "systemd": "systemctl --no-pager status victim || busctl list --system || systemd-run true",
        "a process of the host": f"kill {victim} || cat /proc/{victim}/environ || ls /proc/1/root/home",
        "root": "sudo -n id || su -c id </dev/null || unshare -Ur id || nsenter -t 1 -m id",
        "the kernel": "mount -t tmpfs none /tmp || dmesg || echo 1 >/proc/sys/vm/laptop_mode",
        "raw packets": "busybox ping -c 1 -W 1 127.0.0.1 || busybox arping -c 1 -w 1 127.0.0.1",
        "the store": "ls /nix/var/nix/db || cat /nix/store/*-generation/* || ls -d /nix/store/*.drv",
        "fleet's state": "ls /nix/var/fleet || ls /run/fleet || ls /etc/fleet || ls /run/fleet-sandbox-proofs",
        "another sandbox": "ls /run/fleet-sandboxes || cat /run/credentials/fleet-sandbox-other.service/secret",
        "a setuid program": "cp /usr/bin/busybox /work/b && chmod 4755 /work/b && test -u /work/b",
        "memory for everybody": "cat /dev/shm/of-the-host",
        "a device": "head -c 1 /dev/kmsg || mknod /tmp/disk b 7 0 || ls /dev/net/tun",
    }
