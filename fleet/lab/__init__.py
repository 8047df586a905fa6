"""A disposable fleet: hosts with a real systemd, sshd and Nix, in containers, and the flake that deploys to them.

`Lab` is what people and tests use. `image` makes the hosts' root, `engine` speaks to Docker, `folder` owns the
files of a lab, `hosts` the hosts. In `template/` is what a lab's folder gets, in `image/` what its image gets.
"""

from __future__ import annotations

from fleet.lab.hosts import LabHost
from fleet.lab.lab import DEFAULT_HOSTS, Lab

__all__ = ["DEFAULT_HOSTS", "Lab", "LabHost"]
