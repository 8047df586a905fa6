"""Name the contents of a closure. A host computes the same from its own store, with `nix-store` and `sha256sum`."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_BASE32 = "0123456789abcdfghijklmnpqrsvwxyz"


def manifest(hashes: Iterable[tuple[str, str]]) -> str:
    """Return the SHA-256, in base 16, of the `manifest_lines` of paths and the hashes of their NARs, in base 16."""
    return hashlib.sha256(manifest_lines(hashes).encode()).hexdigest()


def manifest_lines(hashes: Iterable[tuple[str, str]]) -> str:
    """Return the sorted lines `PATH sha256:HASH`. The hashes given are of NARs, in base 16.

    In the lines they are in Nix's base 32, as `nix-store --query --hash` prints them.
    """
    return "".join(sorted(f"{path} {printed(digest)}\n" for path, digest in hashes))


def printed(digest: str) -> str:
    """Return the hash of a NAR, given in base 16, as `nix-store --query --hash` prints it."""
    return f"sha256:{base32(bytes.fromhex(digest))}"


def base32(digest: bytes) -> str:
    """Return the bytes in Nix's base 32: its own alphabet, the last digit first (nix: src/libutil/hash.cc)."""
    length = (len(digest) * 8 + 4) // 5
    number = int.from_bytes(digest, "little")
    return "".join(_BASE32[number >> 5 * place & 31] for place in reversed(range(length)))
