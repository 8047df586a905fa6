"""Units of modules/ on a lab host."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.containers.files import put
from tests.nixos_modules import configured, script_text, unit_text

if TYPE_CHECKING:
    from fleet.lab import LabHost, VmHost


def install_units(host: LabHost | VmHost, modules: tuple[str, ...], settings: str) -> list[str]:
    """The host has the units of these modules, and systemd-analyze finds nothing wrong with them."""
    found = configured(modules, settings, "{ inherit (config.systemd) services timers; }")
    names = []
    for kind in ("service", "timer"):
        for stem, unit in found[f"{kind}s"].items():
            name, script = f"{stem}.{kind}", f"/opt/{stem}"
            if unit.get("script"):
                put(host, script, script_text(unit), mode="755")
            put(host, f"/etc/systemd/system/{name}", unit_text(name, unit, script))
            names.append(name)
    verified = host.exec("systemd-analyze", "verify", *names, check=False)
    assert (verified.status, verified.stderr) == (0, "")
    host.exec("systemctl", "daemon-reload")
    return names


def is_there(host: LabHost, path: str) -> bool:
    return host.exec("nix-store", "--check-validity", path, check=False).status == 0
