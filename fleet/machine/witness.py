"""See what happens in one login, so that its end can be told in words."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import asyncssh

from fleet.machine import CONNECT_TIMEOUT
from fleet.text import plain_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fleet.machine import OnAnswer
    from fleet.machine.keys import Offers

LINES, WIDTH = 8, 200
"""How much is kept of what a host says before it has let us in: lines, and characters of each."""
SLOW = 1.0
"""Seconds for which a login may wait after the host has said something, before people are told what it was."""
GREETING = 8 << 10
"""Bytes before the line that names the protocol, at most. asyncssh's own limits are tighter where lines are long."""


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long a host may be silent before it is given up, in seconds."""

    connect: float = CONNECT_TIMEOUT
    """Until a TCP connection stands. `connect_timeout` of fleet.toml replaces it, else `ConnectTimeout` of the SSH
    configuration."""
    greeting: float = 10.0
    """From then on, until its SSH server says its first word. Through a ProxyCommand, for both together: what stands
    behind it is not known before."""
    login: float = 30.0
    """From then on, until it has let us in."""
    person: float = 120.0
    """Instead of `login`, where a person may have to do something: the host has said so, or a key wants to be touched.
    sshd gives up after as long (LoginGraceTime)."""
    keepalive: float = 5.0
    """Between two keepalive questions. Four without an answer end the connection."""


@dataclass
class Heard:
    """Lines that a host says, without control characters, and as many as people read."""

    lines: list[str] = field(default_factory=list)

    def add(self, text: str) -> None:
        """Add the lines of the text that are not empty, as far as there is room."""
        for line in text[: LINES * WIDTH].splitlines():
            if (plain := plain_text(line).strip()) and len(self.lines) < LINES:
                self.lines.append(plain if len(plain) <= WIDTH else f"{plain[:WIDTH]}…")


class Witness(asyncssh.SSHClient):
    """The client's side of one login. asyncssh calls it."""

    def __init__(
        self,
        patience: Patience,
        limit: asyncio.Timeout,
        offers: Offers,
        *,
        tell: Callable[[str], None] = lambda _: None,
        on_answer: OnAnswer | None = None,
        by_proxy: bool = False,
    ) -> None:
        self.offers = offers
        self.has_answered = False
        """Whether a TCP connection stands. Behind a ProxyCommand: whether anything has come from there."""
        self.greeting = Heard()
        """What the host said in place of a handshake, or before it."""
        self.banner = Heard()
        """What it said before it let us in."""
        self.is_greeted = False
        """Whether it has begun the handshake."""
        self.stranger: asyncssh.SSHKey | None = None
        """The key that it showed, if that is not to be trusted."""
        self.has_proven_key = False
        self.is_at_the_door = False
        """Whether it has proven its key, and has neither let us in nor turned us away."""
        self.waits_for_person = False
        self.by_proxy = by_proxy
        """Whether a ProxyCommand leads to the host. asyncssh takes what that writes to stderr for the host's words."""
        self._patience = patience
        self._limit = limit
        self._tell = tell
        self._on_answer = on_answer
        self._was_questioned = False
        self._before = b""
        self._connection: Any = None
        self._telling: asyncio.TimerHandle | None = None

    @property
    def peer(self) -> str:
        """The address that has answered. Empty if none has, or if it is not known."""
        place = self._connection.get_extra_info("peername") if self._connection else None
        return str(place[0]) if place else ""

    @property
    def is_lost_in_handshake(self) -> bool:
        """Whether it was greeted, and then neither showed a key that is not to be trusted nor proved one."""
        return self.is_greeted and self.stranger is None and not self.has_proven_key

    def end(self) -> None:
        """Tell people nothing any more: the login has ended."""
        if self._telling is not None:
            self._telling.cancel()

    def connection_made(self, conn: Any) -> None:
        """See `asyncssh.SSHClient`. From now on this hears what comes, until the handshake begins."""
        self._connection, self._pass_on = conn, conn.data_received
        conn.data_received = self._hear
        if not self.by_proxy:
            self._wait(self._patience.greeting)
            self._answer()

    def _answer(self) -> None:
        """Tell that somebody has answered."""
        self.has_answered = True
        if self._on_answer is not None:
            self._on_answer()

    def _hear(self, data: bytes, datatype: Any = None) -> None:
        """Note the lines before the one that names the protocol, which asyncssh skips."""
        if not self.has_answered:
            self._answer()
        self._before += data[: GREETING - len(self._before)]
        *lines, rest = self._before.split(b"\n")
        for number, line in enumerate(lines):
            if line.startswith(b"SSH-"):
                lines, rest = lines[:number], b""
                self.is_greeted = True
                self._wait(self._patience.login)
                break
        if self.is_greeted or len(self._before) >= GREETING:
            del self._connection.data_received
        self.greeting = Heard()
        self.greeting.add(b"\n".join([*lines, rest]).decode(errors="replace"))
        self._pass_on(data, datatype)

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:  # noqa: ARG002
        """See `asyncssh.SSHClient`. This is asked about keys that are not known, and trusts none."""
        self.stranger = key
        return False

    def begin_auth(self, username: str) -> None:  # noqa: ARG002
        """See `asyncssh.SSHClient`."""
        self.is_at_the_door = self.has_proven_key = True

    def auth_completed(self) -> None:
        """See `asyncssh.SSHClient`."""
        self.is_at_the_door = False

    def auth_banner_received(self, msg: str, lang: str) -> None:  # noqa: ARG002
        """See `asyncssh.SSHClient`. It may be a link to follow: people get the time for that."""
        self.banner.add(msg)
        self._wait_for_person("the host says: " + "; ".join(self.banner.lines), after=SLOW)

    def kbdint_auth_requested(self) -> str | None:
        """See `asyncssh.SSHClient`. What the host shows there is for people to read, once."""
        is_first, self._was_questioned = not self._was_questioned, True
        return "" if is_first else None

    def kbdint_challenge_received(
        self, name: str, instructions: str, lang: str, prompts: Sequence[tuple[str, bool]]
    ) -> list[str] | None:
        """See `asyncssh.SSHClient`. What wants no answer gets none, and no question is answered."""
        if prompts:
            self.banner.add("\n".join([name, instructions, *(f"it asks: {text}" for text, _ in prompts)]))
            return None
        self.auth_banner_received(f"{name}\n{instructions}", lang)
        return []

    async def public_key_auth_requested(self) -> asyncssh.SSHKeyPair | None:
        """See `asyncssh.SSHClient`. Return the next key to try."""
        return await self.offers.next(self._touch)

    def _touch(self, label: str) -> None:
        self._wait_for_person(f"touch your security key: {label}")

    def _wait_for_person(self, text: str, *, after: float = 0.0) -> None:
        """Give people time for what the host asks of them, and tell them, if the login is not over by then."""
        self.waits_for_person = True
        self._wait(self._patience.person)
        self.end()
        self._telling = asyncio.get_running_loop().call_later(after, self._tell, text)

    def _wait(self, seconds: float) -> None:
        """Give the login so many seconds from now on."""
        with contextlib.suppress(RuntimeError):  # the login has ended
            self._limit.reschedule(asyncio.get_running_loop().time() + seconds)
