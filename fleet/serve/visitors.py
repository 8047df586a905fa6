"""Who looks: people who have come in by a link or a token, and programs that bring a token with each request."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from fleet.policy import PrincipalKind, tokens

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleet.policy import Principals

LINK = 600.0
"""Seconds within which a link lets somebody in."""
SESSION = 12 * 3600.0
"""Seconds after which everybody has to come in again."""
MOST = 100
"""Sessions at a time. The oldest ends when there is one more."""


@dataclass(frozen=True, kw_only=True)
class Visitor:
    """Somebody who may look."""

    name: str
    kind: PrincipalKind | None = None
    """None for whoever has started the server."""
    until: float
    """When that ends, in seconds since 1970."""
    digest: str = ""
    """The digest of the token that was brought. Empty for the link."""

    by_bearer: bool = False
    """Whether this request has brought the token itself, and no cookie."""

    @property
    def key(self) -> str:
        """What limits count by."""
        return self.digest or "link"


class Visitors:
    """Everybody who is in. All of it is in memory, as digests: a new server knows nobody."""

    def __init__(
        self, owner: str, principals: Callable[[], Principals | None], *, clock: Callable[[], float] = time.time
    ) -> None:
        """`owner` has started the server; `principals` says who there is now."""
        self._owner = owner
        self._principals = principals
        self._clock = clock
        self._links: dict[str, float] = {}
        self._sessions: OrderedDict[str, Visitor] = OrderedDict()

    def new_link(self) -> str:
        """Return a word that lets in one who brings it within `LINK` seconds. Words that were given before end."""
        word = secrets.token_urlsafe(32)
        self._links = {_digest(word): self._clock() + LINK}
        return word

    def by_link(self, word: str) -> str | None:
        """Spend the word of a link and return the cookie of a session; None if it is not good."""
        until = self._links.pop(_digest(word), 0.0)
        if until <= self._clock():
            return None
        return self._open(Visitor(name=self._owner, until=self._clock() + SESSION))

    def by_token(self, token: str) -> str | None:
        """Return the cookie of a session of the principal whose token it is; None if it is nobody's."""
        visitor = self.bearer(token)
        return self._open(replace(visitor, by_bearer=False)) if visitor is not None else None

    def bearer(self, token: str) -> Visitor | None:
        """Return the principal whose token it is; None if it is nobody's."""
        now = self._clock()
        holder = tokens.holder_of(token, self._principals(), now=now)
        if holder is None:
            return None
        until = min(holder.expires, now + SESSION)
        return Visitor(name=holder.name, kind=holder.kind, until=until, digest=holder.digest, by_bearer=True)

    def session(self, cookie: str) -> Visitor | None:
        """Return whose session it is; None if it is none, or has ended: its token may have been revoked meanwhile."""
        digest, now = _digest(cookie), self._clock()
        visitor = self._sessions.get(digest)
        if visitor is None:
            return None
        if visitor.until <= now or not self._is_known(visitor):
            del self._sessions[digest]
            return None
        return visitor

    def leave(self, cookie: str) -> None:
        """End the session."""
        self._sessions.pop(_digest(cookie), None)

    def _open(self, visitor: Visitor) -> str:
        cookie = secrets.token_urlsafe(32)
        self._sessions[_digest(cookie)] = visitor
        while len(self._sessions) > MOST:
            self._sessions.popitem(last=False)
        return cookie

    def _is_known(self, visitor: Visitor) -> bool:
        """Whether the token that was brought is still the same principal's."""
        return not visitor.digest or tokens.owner_of(visitor.digest, self._principals()) == (visitor.name, visitor.kind)


def _digest(word: str) -> str:
    return hashlib.sha256(word.encode("utf-8", "replace")).hexdigest()
