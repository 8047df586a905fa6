"""Pure: lines of a file that nobody but its owner should read.

Everything in a flake is copied to the Nix store, which every user of every machine that has it can read.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

PERMISSION = "fleet: no secret"
"""A line with these words lets itself and the next line pass."""
_NIX_KEY = r"[A-Za-z0-9._-]{1,64}:[A-Za-z0-9+/]{86}=="
_KINDS = (
    # With what follows the header: a program that knows keys has the header alone.
    ("a private key", re.compile(r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----(?:\\r|\\n|\s)+[\w+/:-]{16}")),
    ("an age key", re.compile(r"\bAGE-SECRET-KEY-1[0-9A-Z]{20,}")),
    ("a key that signs store paths", re.compile(rf"(?<![A-Za-z0-9+/]){_NIX_KEY}(?![A-Za-z0-9+/=])")),
    ("a WireGuard key", re.compile(r"(?i)\bprivate_?key\s*=\s*[\"']?[A-Za-z0-9+/]{43}=")),
    ("an AWS key", re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b")),
    ("a GitHub token", re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{60,})")),
    ("a GitLab token", re.compile(r"\bglpat-[A-Za-z0-9_-]{20,}")),
    ("a Slack token", re.compile(r"\bxox[abprs]-[0-9]{6,}-[A-Za-z0-9-]{10,}")),
    ("a Hugging Face token", re.compile(r"\bhf_[A-Za-z0-9]{34}\b")),
    ("an API key", re.compile(r"\bsk-(?:ant-|proj-)?[A-Za-z0-9_-]{32,}")),
    ("a Tailscale key", re.compile(r"\btskey-[a-z]+-[A-Za-z0-9]+-[A-Za-z0-9]+")),
    ("a password", re.compile(r"\b(?:initialP|p)assword\s*=\s*\"[^\"$]+\"\s*;")),
    ("the hash of a password", re.compile(r"\b(?:initialH|h)ashedPassword\s*=\s*\"[$_][^\"]{8,}\"")),
)


def secrets(text: str) -> Iterator[tuple[int, str]]:
    """The number of each such line, from 1, and what is in it. What is in it is never repeated."""
    lines = text.splitlines()
    permitted = {at for number, line in enumerate(lines, 1) if PERMISSION in line for at in (number, number + 1)}
    found = {(text.count("\n", 0, match.start()) + 1, what) for what, kind in _KINDS for match in kind.finditer(text)}
    yield from sorted(one for one in found if one[0] not in permitted)
