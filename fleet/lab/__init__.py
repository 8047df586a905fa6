"""A disposable fleet: hosts with a real systemd, sshd and Nix, in containers, and the flake that deploys to them.

`Lab` is what people and tests use. `image` makes the hosts' root, `engine` speaks to Docker, `folder` owns the
files of a lab, `hosts` the hosts. A host may be a virtual machine instead: `vm_image` makes its disk, `vm` runs it,
`agent` gets in. In `template/` is what a lab's folder gets, in `image/` and `vm-image/` what the images get.
"""

from __future__ import annotations

from fleet.lab.hosts import LabHost
from fleet.lab.lab import DEFAULT_HOSTS, Lab
from fleet.lab.vm import VmHost

__all__ = ["DEFAULT_HOSTS", "Lab", "LabHost", "VmHost"]
