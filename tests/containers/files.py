"""Files and scripts on lab hosts, around SSH."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fleet.lab import LabHost, VmHost


def put(host: LabHost | VmHost, path: str, text: str, mode: str = "644") -> None:
    """The file is on the host."""
    data = base64.b64encode(text.encode()).decode()
    host.exec("sh", "-c", f"mkdir -p $(dirname {path}) && echo {data} | base64 -d >{path} && chmod {mode} {path}")


def shell(host: LabHost | VmHost, script: str) -> str:
    """What the script printed; it succeeded."""
    return host.exec("sh", "-ec", script).stdout.strip()


SSHD_ANEW = "systemctl reset-failed ssh && systemctl restart ssh"
"""sshd has read its configuration, and listens, when this has ended; for a moment after a reload it does not."""
