"""Tell people and programs how a run has ended: by a webhook, by ntfy and by e-mail.

`message` says what is told, `post` and `mail` send it, `secret` reads tokens from files, and `line` gives the sending a
thread and an end. What hosts and people have said is data everywhere here: it stands in fields of JSON and in lines of
plain text, and never in a header or an address.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from fleet.notify.line import NotSentError
from fleet.text import plain_text, shortened

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleet.inventory import Notify
    from fleet.notify.message import Message

__all__ = ["NotSentError", "send", "send_to_all", "trouble"]
_LONGEST = 300
"""Characters of a reason, at most: a server may have said it."""


async def send_to_all(message: Message, notify: Sequence[Notify]) -> tuple[str, ...]:
    """Send the message to those that want to know of its occasion, side by side.

    Return a line for each that could not be told, with the reason. Nobody takes longer than its timeout. Never raises,
    except when it is cancelled.
    """
    wanted = [each for each in notify if message.occasion in each.on]
    ended = await asyncio.gather(*(trouble(message, each) for each in wanted))
    return tuple(f"{each.label} was not told: {reason}" for each, reason in zip(wanted, ended, strict=True) if reason)


async def trouble(message: Message, notify: Notify) -> str:
    """Send the message, whatever its occasion. Return the reason if that fails; nothing if it was sent."""
    try:
        await send(message, notify)
    except NotSentError as error:
        return shortened(plain_text(str(error)), _LONGEST)
    except Exception as error:  # a bug here is no reason for a run to end otherwise
        return f"{type(error).__name__}; this is a bug in fleet"
    return ""


async def send(message: Message, notify: Notify) -> None:
    """Send the message, within the timeout. Raise `NotSentError` with the reason if that fails."""
    if notify.email:
        from fleet.notify import mail

        await mail.send(message, notify)
    else:
        from fleet.notify import post

        await post.send(message, notify)
