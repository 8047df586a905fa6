"""A disposable fleet: hosts with a real systemd, sshd and Nix, in containers, and the flake that deploys to them.

`Lab` is for people and tests. `image` builds the root of the hosts, `engine` talks to Docker, `folder` owns the files
of a lab, and `hosts` controls the hosts. A host may be a virtual machine instead: `vm_image` builds its disk, `vm` runs
it, `agent` runs commands in it. `faults` harms hosts on purpose, and `relay` slows down a link. `template/` has the
files for a lab's folder, `image/` and `vm-image/` those for the images, and `scripts/` what is run on hosts.
"""

from __future__ import annotations

from fleet.lab.hosts import LabHost
from fleet.lab.lab import DEFAULT_HOSTS, Lab
from fleet.lab.vm import VmHost

__all__ = ["DEFAULT_HOSTS", "Lab", "LabHost", "VmHost"]
