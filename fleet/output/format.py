"""Write amounts and names as people read them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from fleet.text import listed, plain_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fleet.model import Closure, Failure, Finding, HostName

_STORE_PATH = re.compile(r"^/.*/(?P<hash>[0-9a-z]{32})-(?P<name>[^/]+)$")


def human_bytes(count: int) -> str:
    """Return the size as `0 B`, `812 B`, `1.3 KiB` or `45.6 MiB`, with a minus if it is negative."""
    size = float(abs(count))
    sign = "-" if count < 0 else ""
    if size < 1024:
        return f"{count} B"
    for unit in ("KiB", "MiB", "GiB"):
        size /= 1024
        if round(size, 1) < 1024:
            return f"{sign}{size:.1f} {unit}"
    return f"{sign}{size / 1024:.1f} TiB"


def human_seconds(seconds: float) -> str:
    """Return the time as `0.4 s`, `12 s`, `2m 05s` or `1h 02m`."""
    if seconds < 9.95:
        return f"{max(seconds, 0):.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02}s"
    return f"{whole // 3600}h {whole % 3600 // 60:02}m"


def human_age(seconds: float) -> str:
    """Return how long ago something was, in its largest unit: `12 s`, `5 min`, `3 h` or `41 d`."""
    whole = max(int(seconds), 0)
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if whole >= size:
            return f"{whole // size} {unit}"
    return f"{whole} s"


def one_line(text: str) -> str:
    """Return the text without control characters, with spaces for line breaks."""
    return plain_text(text).replace("\n", " ")


def counted(count: int, noun: str) -> str:
    """Return the count with its noun: `1 host`, `3 hosts`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def short_name(closure: str, host: str = "") -> str:
    """Return what a person calls the closure: `25.05.1234` for `/nix/store/…-nixos-system-HOST-25.05.1234`."""
    found = _STORE_PATH.match(closure)
    name = found["name"] if found else closure
    return name.removeprefix(f"nixos-system-{host}-").removeprefix("nixos-system-") or name


def change(old: Closure | None, new: Closure | None, host: HostName) -> str:
    """Return the change as `25.05.1 → 25.05.2`, with the beginning of the hashes if the names are equal."""
    if old is None or new is None or old == new:
        return short_name(new or old or "", host)
    names = short_name(old, host), short_name(new, host)
    if names[0] == names[1]:
        names = f"{names[0]} {_short_hash(old)}", f"{names[1]} {_short_hash(new)}"
    return " → ".join(names)


def _short_hash(closure: str) -> str:
    found = _STORE_PATH.match(closure)
    return found["hash"][:7] if found else ""


def unprefixed(message: str, host: str | None) -> str:
    """Return the message without the host's name before it, for a line that begins with the name."""
    return message.removeprefix(f"{host}: ") if host else message


def failure_lines(hosts: Sequence[str], failure: Failure, *, label: str = "error") -> list[str]:
    """Return the five parts that people see of every failure. Empty parts are left out."""
    subject = f"{listed(hosts)}: " if hosts else ""
    lines = [f"{label}: {subject}{unprefixed(failure.message, hosts[0] if hosts else None)}"]
    parts = (("ran", [failure.ran]), ("said", failure.said), ("now", [failure.now]), ("hint", [failure.hint]))
    for label, texts in parts:
        rows = [row for text in texts for row in text.splitlines() if row.strip()]
        heads = [f"{label}:", *[""] * (len(rows) - 1)]
        lines += [f"  {head:<6} {row}" for head, row in zip(heads, rows, strict=False)]
    return [plain_text(line) for line in lines]


def finding_lines(findings: Iterable[Finding]) -> list[str]:
    """Return the lines that tell what was found, each with its remedy below it."""
    lines: list[str] = []
    for finding in findings:
        lines.append(f"{finding.severity.value}: {finding.message}")
        lines += [f"  hint:  {finding.hint}"] if finding.hint else []
    return list(map(one_line, lines))
