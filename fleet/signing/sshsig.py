"""Take signatures of `ssh-keygen -Y sign` apart (OpenSSH: PROTOCOL.sshsig, PROTOCOL.u2f). Nothing is verified here."""

from __future__ import annotations

import base64
import binascii
import re
import textwrap
from dataclasses import dataclass

from fleet.signing.keys import ECDSA_SK, ED25519_SK, PublicKey
from fleet.signing.wire import Wire

MAGIC = b"SSHSIG"
VERSION = (1).to_bytes(4, "big")
LARGEST = 16 << 10
"""Bytes of a signature, at most. One by RSA with 16,384 bits has 6 KiB."""
TOUCHED = 0x01
"""The flag of a FIDO signature that says that somebody was there (CTAP 2, authenticator data)."""
BEGIN, END = "-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----"
_ARMOUR = re.compile(rf"{BEGIN}\s+([A-Za-z0-9+/=\s]+){END}\s*")


@dataclass(frozen=True)
class Signature:
    """What a signature says about itself. Whether it is good is known only once `keygen.verify` has looked."""

    blob: bytes
    """All of it, as it is between the lines of the armour."""
    key: PublicKey
    namespace: str
    flags: int | None
    """The flags of the FIDO device that has made it; None where no such device has."""

    @classmethod
    def of(cls, blob: bytes) -> Signature:
        """Return the signature of these bytes. Raise `ValueError` if they are none, or more than one."""
        if len(blob) > LARGEST:
            raise ValueError("it is larger than any signature")
        wire = Wire(blob)
        try:
            wire.expect(MAGIC + VERSION)
            key = PublicKey.of(wire.string())
            namespace = wire.text()
            wire.string()  # reserved
            wire.text()  # the hash that was signed
            flags = _flags(key, wire.string())
            wire.end()
        except (ValueError, UnicodeDecodeError) as error:
            raise ValueError(f"this is no SSH signature: {error}") from None
        return cls(blob, key, namespace, flags)

    @classmethod
    def parse(cls, line: str) -> Signature:
        """Return the signature that `line` has as base64 on one line. Raise `ValueError` for anything else."""
        try:
            return cls.of(base64.b64decode(line, validate=True))
        except binascii.Error:
            raise ValueError("this is no SSH signature: it is not base64") from None

    @classmethod
    def from_armour(cls, text: str) -> Signature:
        """Return the signature in the one armour that the text is. Raise `ValueError` for anything else."""
        match = _ARMOUR.fullmatch(text)
        if match is None:
            raise ValueError(f"this is no SSH signature: expected {BEGIN} and one signature")
        return cls.parse("".join(match[1].split()))

    @property
    def line(self) -> str:
        """All of it as base64 on one line."""
        return base64.b64encode(self.blob).decode()

    @property
    def armour(self) -> str:
        """The text that ssh-keygen reads."""
        return "\n".join([BEGIN, *textwrap.wrap(self.line, 70), END, ""])

    @property
    def is_touched(self) -> bool:
        """Whether it says that somebody has touched the device that made it. `ssh-keygen -Y verify` does not look."""
        return self.flags is not None and bool(self.flags & TOUCHED)


def _flags(key: PublicKey, signature: bytes) -> int | None:
    """Return the flags in the innermost part of a signature. Raise `ValueError` if it is not by such a key."""
    wire = Wire(signature)
    kind = wire.text()
    fits = kind.startswith("rsa-sha2-") if key.kind == "ssh-rsa" else kind == key.kind
    if not fits:
        raise ValueError(f"its key is {key.kind}, and it is by {kind[:40]!r}")
    wire.string()
    if key.kind not in (ED25519_SK, ECDSA_SK):
        wire.end()
        return None
    flags = wire.take(1)[0]
    wire.number()  # how often the device has signed
    wire.end()
    return flags
