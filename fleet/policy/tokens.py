"""Tokens by which principals are known over HTTP. A token says until when it is good, and its digest vouches for that.

principals.toml has the digests alone: who reads it can do nothing with them.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from fleet.policy.principals import PrincipalKind, Principals

LONGEST = 366 * 86_400
"""Seconds for which a token may be good, at most."""
_TOKEN = re.compile(r"fleet_([0-9]{10,11})_([0-9A-Za-z_-]{43})")


class Holder(NamedTuple):
    """The principal that a token belongs to."""

    name: str
    kind: PrincipalKind
    digest: str
    expires: int
    """Seconds since 1970."""


def new_token(expires: int) -> str:
    """Return a token that nobody else has, and that is good until then: seconds since 1970."""
    return f"fleet_{expires:010}_{secrets.token_urlsafe(32)}"


def digest_of(token: str) -> str:
    """Return the digest of a token, as principals.toml has it."""
    return f"sha256:{hashlib.sha256(token.encode('utf-8', 'replace')).hexdigest()}"


def expiry_of(token: str) -> int | None:
    """Return until when a token says that it is good; None for what is no token."""
    found = _TOKEN.fullmatch(token)
    return int(found[1]) if found else None


def holder_of(token: str, principals: Principals | None, *, now: float) -> Holder | None:
    """Return whose the token is; None if it is nobody's, or not good any more."""
    expires = expiry_of(token)
    if expires is None or expires <= now:
        return None
    digest = digest_of(token)
    owner = owner_of(digest, principals)
    return Holder(*owner, digest, expires) if owner is not None else None


def owner_of(digest: str, principals: Principals | None) -> tuple[str, PrincipalKind] | None:
    """Return the name and the kind of the principal who has a token with this digest; None if nobody has."""
    tables = principals.tables if principals is not None else {}
    return next(((name, one.kind) for name, one in tables.items() if digest in one.tokens), None)
