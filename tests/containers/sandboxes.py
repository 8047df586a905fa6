"""Sandboxes of modules/sandbox.nix on a lab host, as a system that has them would bring them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tests.containers.files import put, shell
from tests.nixos_modules import configured, script_text, unit_text

if TYPE_CHECKING:
    from fleet.lab import LabHost

SOURCE = Path(__file__).parent.parent.parent / "fleet" / "sandbox"
DEBIAN = 'readOnly = [ "/usr" "/bin" "/lib" "/lib64" ]; requireLimits = false;'
"""What a host needs whose programs are not in the store; and the kernel of a lab host limits no memory."""


def program() -> str:
    """The text of the program, joined as `program/default.nix` does it."""
    folder = SOURCE / "program"
    return "".join((folder / part).read_text() for part in (folder / "parts.txt").read_text().split())


def install(host: LabHost, settings: str, *, store: str = "", modules: tuple[str, ...] = ("sandbox",)) -> None:
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
