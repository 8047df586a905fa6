"""A FIDO device for tests, in software: it makes the signatures of sk-ssh-ed25519 keys, touched or not.

The formats are those of OpenSSH's PROTOCOL.u2f and PROTOCOL.sshsig. The real ssh-keygen accepts what this makes.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fleet.signing import PublicKey, Signature
from fleet.signing.keys import ED25519_SK
from fleet.signing.wire import string


@dataclass
class Device:
    """A device with one key."""

    application: bytes = b"ssh:"
    private: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    counter: int = 0

    @property
    def public(self) -> PublicKey:
        """Its public key, as people write it to principals.toml."""
        point = self.private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        return PublicKey.of(string(ED25519_SK.encode()) + string(point) + string(self.application))

    def sign(self, text: str, namespace: str, *, flags: int = 1) -> Signature:
        """Sign as `ssh-keygen -Y sign` lets it. Bit 0 of the flags says that somebody has touched it."""
        self.counter += 1
        head = b"".join(map(string, (namespace.encode(), b"", b"sha512")))
        message = b"SSHSIG" + head + string(hashlib.sha512(text.encode()).digest())
        state = bytes([flags]) + self.counter.to_bytes(4, "big")
        asked = hashlib.sha256(self.application).digest() + state + hashlib.sha256(message).digest()
        signature = string(ED25519_SK.encode()) + string(self.private.sign(asked)) + state
        key = string(self.public.blob)
        return Signature.of(b"SSHSIG" + (1).to_bytes(4, "big") + key + head + string(signature))
