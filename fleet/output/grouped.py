"""Show what a command wrote on many hosts: once for all hosts that say the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleet.output.format import counted, human_bytes, one_line
from fleet.output.patch import coloured
from fleet.text import listed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fleet.model import HostName

OUT_OF_TIME = 124
"""The exit status of `timeout` for a command that it has ended."""
NAMED = 12
"""Hosts that are named above an output that is no failure. Of a failure all are named."""


@dataclass(frozen=True)
class Said:
    """What a command wrote on a host, and how it ended."""

    status: int
    stdout: str = ""
    stderr: str = ""
    left_out: int = 0
    """Bytes at the beginning of both that were too many to keep."""


def grouped_lines(answers: Mapping[HostName, Said], *, is_terminal: bool = False) -> list[str]:
    """Return what the hosts said, with those that say the same under one header. Commands that failed come last."""
    groups: dict[Said, list[HostName]] = {}
    for name, said in answers.items():
        groups.setdefault(said, []).append(name)
    ordered = sorted(groups.items(), key=lambda group: group[0].status != 0)
    lines: list[str] = []
    for said, names in ordered:
        lines += [*([""] if lines else []), *_group(said, names, is_terminal=is_terminal)]
    return lines


def _group(said: Said, names: Sequence[HostName], *, is_terminal: bool) -> list[str]:
    """Return the header, and under it what the hosts said. That is indented, so that no host can write a header."""
    who = listed(names, most=NAMED if said.status == 0 else len(names))
    header = f"{who} ({_ended(said.status)})"
    lines = [coloured(header, "bold" if said.status == 0 else "bold red") if is_terminal else header]
    if said.left_out:
        lines.append(f"  (the first {human_bytes(said.left_out)} are left out)")
    lines += _indented(said.stdout)
    if said.stderr:
        lines += ["  stderr:", *_indented(said.stderr)]
    return lines


def _ended(status: int) -> str:
    return f"exit {status}, out of time" if status == OUT_OF_TIME else f"exit {status}"


def _indented(text: str) -> list[str]:
    return [f"  {one_line(line)}".rstrip() for line in text.rstrip("\n").split("\n")] if text else []


def summary_line(answers: Mapping[HostName, Said], failed: Mapping[HostName, str]) -> str:
    """Return how many commands ended well, and which did not.

    `failed` has a word for each host on which it is not known how the command ended.
    """
    bad = [f"{name} ({_ended(said.status)})" for name, said in answers.items() if said.status != 0]
    bad += [f"{name} ({why})" for name, why in failed.items()]
    good = len(answers) + len(failed) - len(bad)
    ended = [f"{counted(good, 'host')}: exit 0"] if good else []
    return "; ".join([*ended, *([f"{counted(len(bad), 'host')}: {', '.join(bad)}"] if bad else [])])
