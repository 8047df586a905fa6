"""Sandboxes of hosts: bring one up, prove that it holds, and take it down.

What a sandbox is made of, `modules/sandbox.nix` declares, and the program in the folder `program` does on the host. It
and the probe in `scripts` come with the system of the host. `ask` calls them there, and `text` is for people.
"""

from __future__ import annotations

from fleet.sandbox.ask import NAME, PROGRAM, act, list_sandboxes
from fleet.sandbox.report import Held, Probe, Sandbox, SandboxReport
from fleet.sandbox.text import list_json, list_lines, report_json, report_lines

__all__ = [
    "NAME",
    "PROGRAM",
    "Held",
    "Probe",
    "Sandbox",
    "SandboxReport",
    "act",
    "list_json",
    "list_lines",
    "list_sandboxes",
    "report_json",
    "report_lines",
]
