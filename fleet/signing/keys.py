"""Read SSH public keys, so strictly that a key has exactly one spelling: no two names can share one unseen."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass

from fleet.signing.wire import Wire

ED25519, ED25519_SK = "ssh-ed25519", "sk-ssh-ed25519@openssh.com"
ECDSA_SK = "sk-ecdsa-sha2-nistp256@openssh.com"
RSA = "ssh-rsa"
CURVES = {"nistp256": 65, "nistp384": 97, "nistp521": 133}
"""Curves, and the bytes of an uncompressed point on each (SEC 1, 2.3.3)."""
KINDS = (ED25519_SK, ED25519, ECDSA_SK, *(f"ecdsa-sha2-{curve}" for curve in CURVES), RSA)
LONGEST = 4096
"""Characters of a key, at most: RSA with 16,384 bits has 2,800."""
_LINE = re.compile(r"([a-z0-9@.-]+) ([A-Za-z0-9+/]+={0,2})(?: [ -~]*)?")


@dataclass(frozen=True)
class PublicKey:
    """An SSH public key. Equal keys are equal values."""

    kind: str
    """Such as `ssh-ed25519`, one of `KINDS`."""
    blob: bytes
    """As the wire has it: RFC 4253, section 6.6, and PROTOCOL.u2f of OpenSSH."""

    @classmethod
    def parse(cls, line: str) -> PublicKey:
        """Return the key in a line such as `ssh-ed25519 AAAA… comment`. Raise `ValueError` for anything else."""
        match = _LINE.fullmatch(line.strip()) if len(line) <= LONGEST else None
        if match is None:
            raise ValueError("expected a public key such as ssh-ed25519 AAAA…, on one line and without options")
        if match[1] not in KINDS:
            known = ", ".join(KINDS)
            raise ValueError(f"{match[1]} is no kind of key that can sign here; expected one of {known}")
        try:
            blob = base64.b64decode(match[2], validate=True)
        except binascii.Error:
            raise ValueError("the key is not base64") from None
        key = cls.of(blob)
        if key.kind != match[1]:
            raise ValueError(f"the key says {match[1]}, and is {key.kind}")
        return key

    @classmethod
    def of(cls, blob: bytes) -> PublicKey:
        """Return the key of these bytes. Raise `ValueError` if it is of no known kind, or spelled unusually."""
        wire = Wire(blob)
        try:
            kind = wire.text()
            _read_numbers(kind, wire)
            wire.end()
        except (ValueError, UnicodeDecodeError) as error:
            raise ValueError(f"the key cannot be read: {error}") from None
        return cls(kind, blob)

    @property
    def is_security_key(self) -> bool:
        """Whether the private half is in a FIDO device, which can be made to wait for a touch."""
        return self.kind in (ED25519_SK, ECDSA_SK)

    @property
    def fingerprint(self) -> str:
        """`SHA256:…`, as ssh-keygen -l prints it."""
        digest = base64.b64encode(hashlib.sha256(self.blob).digest()).decode()
        return f"SHA256:{digest.rstrip('=')}"

    @property
    def identity(self) -> bytes:
        """The same for two keys that one device holds, whatever application they were made for."""
        if not self.is_security_key:
            return self.blob
        wire = Wire(self.blob)
        curve = [wire.string() for _ in range(2 if self.kind == ECDSA_SK else 1)]
        return b"".join((*curve, wire.string()))

    def __str__(self) -> str:
        return f"{self.kind} {base64.b64encode(self.blob).decode()}"


def _read_numbers(kind: str, wire: Wire) -> None:
    """Read what follows the kind. Raise `ValueError` if that is another, or spelled in another way."""
    match kind:
        case "ssh-ed25519":
            _point(wire, 32)
        case "sk-ssh-ed25519@openssh.com":
            _point(wire, 32)
            wire.text()
        case "sk-ecdsa-sha2-nistp256@openssh.com":
            _on_curve(wire, "nistp256")
            wire.text()
        case "ssh-rsa":
            _positive(wire.string())
            if len(_positive(wire.string())) < 256:
                raise ValueError("an RSA key has at least 2048 bits here")
        case _ if kind in KINDS:
            _on_curve(wire, kind.removeprefix("ecdsa-sha2-"))
        case _:
            raise ValueError(f"{kind[:40]!r} is no kind that can sign here")


def _on_curve(wire: Wire, curve: str) -> None:
    if wire.text() != curve:
        raise ValueError("its curve is not that of its kind")
    if not _point(wire, CURVES[curve]).startswith(b"\x04"):
        raise ValueError("its point is not written in full")


def _point(wire: Wire, length: int) -> bytes:
    point = wire.string()
    if len(point) != length:
        raise ValueError("its length is not that of its kind")
    return point


def _positive(number: bytes) -> bytes:
    """Return a positive number without its sign. Raise `ValueError` if it has more bytes than it needs."""
    if not number or number[0] > 127 or (number[0] == 0 and (len(number) == 1 or number[1] < 128)):
        raise ValueError("a number of it is not written as it should be")
    return number.lstrip(b"\0")
