"""Find lines that nobody but the owner of a file should read. No I/O.

Everything in a flake is copied to the Nix store, where every user of every machine that has it can read it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

PERMISSION = "fleet: no secret"
"""A line with these words permits itself and the next line."""
_NIX_KEY = r"[A-Za-z0-9._-]{1,64}:[A-Za-z0-9+/]{86}=="
_KINDS = (
    # The header and what follows it: a program that handles keys has just the header.
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
    """Yield the number of each line with a secret, counted from 1, and its kind.

    The secret itself is never repeated.
    """
    lines = text.splitlines()
    permitted = {at for number, line in enumerate(lines, 1) if PERMISSION in line for at in (number, number + 1)}
    found = {(text.count("\n", 0, match.start()) + 1, what) for what, kind in _KINDS for match in kind.finditer(text)}
    yield from sorted((number, what) for number, what in found if number not in permitted)
