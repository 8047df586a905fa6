"""Tell in words why a login failed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncssh

from fleet.errors import AuthenticationError, HostError, HostKeyError, UnreachableError
from fleet.machine.translate import HINTS, in_our_words
from fleet.text import plain_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleet.machine.witness import Witness
    from fleet.model import HostName

SSHD_WORDS = ("Not allowed at this time", "Exceeded MaxStartups")
"""What sshd says in place of a handshake."""
REFUSED = "host key not accepted"
FOR_NOW = {asyncssh.DISC_TOO_MANY_CONNECTIONS, asyncssh.DISC_SERVICE_NOT_AVAILABLE, asyncssh.DISC_BY_APPLICATION}
"""Why a server ends a login that it may allow in a while."""


def explained(host: HostName, error: BaseException, witness: Witness, trusted: Sequence[asyncssh.SSHKey]) -> HostError:
    """Return the `HostError` that says why the login failed, with what was seen of it. `trusted` are the known keys."""
    usual = in_our_words(host, error)
    if isinstance(usual, UnreachableError):
        usual.is_refused = isinstance(error, ConnectionRefusedError)
    if isinstance(error, TimeoutError) and isinstance(usual, UnreachableError):
        usual.is_silent = not witness.has_answered and not witness.by_proxy
    if witness.stranger is not None and "revoked" not in str(error):
        return _stranger(host, witness.stranger, trusted)
    if not witness.is_greeted and witness.greeting.lines:
        return _no_way(host, witness) if witness.by_proxy else _turned_away(host, witness.greeting.lines)
    if isinstance(error, TimeoutError) and witness.is_greeted:
        return _too_slow(host, witness)
    if not witness.is_at_the_door:
        return usual
    if isinstance(error, asyncssh.DisconnectError) and not isinstance(error, asyncssh.ConnectionLost):
        if error.code in FOR_NOW:
            return _turned_away(host, [plain_text(error.reason)])
        return _refused(host, error, witness)
    return usual


def _shown(keys: Sequence[asyncssh.SSHKey]) -> str:
    return ", ".join(f"{key.get_algorithm()} {key.get_fingerprint()}" for key in keys[:4])


def _stranger(host: HostName, key: asyncssh.SSHKey, trusted: Sequence[asyncssh.SSHKey]) -> HostError:
    hint = HINTS[HostKeyError].format(host=host)
    if not trusted:
        return HostKeyError(host, f"{REFUSED}: {_shown([key])} is not known", hint=hint)
    message = f"{REFUSED}: it answers with ANOTHER key, {_shown([key])}; known is {_shown(trusted)}"
    return HostKeyError(host, message, hint=f"was it installed anew, or is it another host? {hint}")


def _turned_away(host: HostName, lines: Sequence[str]) -> HostError:
    words = "; ".join(lines)
    hint = "sshd turns away for a while whom it knows too well (PerSourcePenalties), and all when busy (MaxStartups)"
    error = UnreachableError(host, f'the SSH server takes no login now: "{words}"', hint=hint)
    error.turns_away = True
    return error


def _no_way(host: HostName, witness: Witness) -> HostError:
    """Return the error for what a ProxyCommand says. It may come from the host or from the command."""
    words = "; ".join(witness.greeting.lines)
    error = UnreachableError(host, f'no connection by ProxyCommand: "{words}"', hint=f"try: fleet ssh {host}")
    error.turns_away = any(one in words for one in SSHD_WORDS)
    return error


def _too_slow(host: HostName, witness: Witness) -> HostError:
    if not witness.waits_for_person:
        hint = HINTS[UnreachableError].format(host=host)
        return UnreachableError(host, "no answer in time: the login was begun and did not end", hint=hint)
    said = [*witness.banner.lines, *witness.offers.told()]
    hint = f"do what it asks for within that time; try: fleet ssh {host}"
    return AuthenticationError(host, "the login waited for a person, and nobody came", said=said, hint=hint)


def _refused(host: HostName, error: asyncssh.DisconnectError, witness: Witness) -> HostError:
    offers = witness.offers
    said = [*witness.banner.lines, *offers.told()]
    message = f"login refused: {plain_text(error.reason).strip()}"
    hint = HINTS[AuthenticationError].format(host=host)
    if offers.locked:
        message += f"; the key {offers.locked[0]} is encrypted, and no agent holds it"
        hint = f"ssh-add {offers.locked[0]}"
    elif offers.halves and not offers.offered:
        hint = f"name the file with the private key, beside {offers.halves[0]}, or add that to the agent (ssh-add)"
    elif "Too many authentication failures" in error.reason:
        hint = "set identity_file for this host, so that no other key is offered"
    return AuthenticationError(host, message, said=said, hint=hint)
