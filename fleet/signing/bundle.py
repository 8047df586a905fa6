"""The file with the signatures of one plan: a title, its digest, and each signature as base64 on one line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleet.signing.sshsig import Signature

if TYPE_CHECKING:
    from collections.abc import Iterable

TITLE = "fleet-signatures v1"
MOST = 64
"""Signatures of one plan, at most."""
LARGEST = 1 << 20
"""Bytes of a file of signatures, at most."""


def written(digest: str, signatures: Iterable[Signature]) -> str:
    """Return the text of the file, with each signature once."""
    lines = dict.fromkeys(f"signature {signature.line}" for signature in signatures)
    return "\n".join([TITLE, f"plan {digest}", *lines, ""])


def parse(text: str, digest: str) -> tuple[Signature, ...]:
    """Return the signatures of the plan with this digest. Raise `ValueError`, which names the line, for other text."""
    lines = text.split("\n")
    if lines[0] != TITLE:
        raise ValueError(f"line 1: found {lines[0][:40]!r}, expected {TITLE!r}")
    if lines[-1] != "" or len(lines) < 3:
        raise ValueError("was cut: its last line has no end")
    if lines[1] != f"plan {digest}":
        raise ValueError(f"line 2: found {lines[1][:80]!r}, and the plan is {digest}")
    if len(lines) - 3 > MOST:
        raise ValueError(f"has more than {MOST} signatures")
    return tuple(_signature(number, line) for number, line in enumerate(lines[2:-1], 3))


def _signature(number: int, line: str) -> Signature:
    key, _, value = line.partition(" ")
    if key != "signature":
        raise ValueError(f"line {number}: found {key[:40]!r}, expected 'signature'")
    try:
        return Signature.parse(value)
    except ValueError as error:
        raise ValueError(f"line {number}: {error}") from None
